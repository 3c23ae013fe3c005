/* Namespaces of a sandbox: the user namespace it enters late, the process that
 * is born in the others, and the way in from outside. */
#ifndef SANDBOX_SVC_LAUNCHER_NS_H
#define SANDBOX_SVC_LAUNCHER_NS_H

#include <sys/types.h>

struct ag_err;

/* Inside 0..65535 is outside LAUNCHER_UID_BASE + 65536 * slot and up. */
#define LAUNCHER_UID_BASE 100000
#define LAUNCHER_UID_COUNT 65536
#define LAUNCHER_SLOTS 4096

/* A user namespace with the mapping of `slot`; the descriptor, or -1. */
int launcher_ns_user(int slot, struct ag_err *err);

/*
 * Fork into new mount, pid, uts, ipc and network namespaces, and into the
 * cgroup directory `cgroup` unless -1. Returns as fork does; in the parent
 * *pidfd names the child.
 */
pid_t launcher_ns_fork(int cgroup, int *pidfd, struct ag_err *err);

/*
 * In the child: enter the user namespace as its root, keep the few
 * capabilities of a sandbox, and arrange to die with the launcher.
 */
int launcher_ns_drop(int user_ns, struct ag_err *err);

#endif
