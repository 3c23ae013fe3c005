/*
 * The system call filter of sandboxes. Made once, by the launcher; installed
 * in each sandbox just before its init is executed.
 */
#ifndef SANDBOX_SVC_LAUNCHER_SECCOMP_H
#define SANDBOX_SVC_LAUNCHER_SECCOMP_H

struct ag_err;
struct launcher_seccomp;

struct launcher_seccomp *launcher_seccomp_new(struct ag_err *err);
void launcher_seccomp_free(struct launcher_seccomp *filter);

/* In the child: no new privileges, then the filter. */
int launcher_seccomp_apply(const struct launcher_seccomp *filter,
                           struct ag_err *err);

#endif
