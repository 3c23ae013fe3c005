/*
 * Resource limits of sandboxes by cgroups, on whatever the machine has: v2
 * with its controllers, v1 or hybrid (memory, pids and cpu each in a hierarchy
 * of its own), or none, which is said in the log.
 *
 * Every group is <hierarchy>/brainbox-<instance>/<sandbox id>.
 */
#ifndef SANDBOX_SVC_LAUNCHER_CGROUP_H
#define SANDBOX_SVC_LAUNCHER_CGROUP_H

#include <sys/types.h>

#include "sandbox_svc/launcher_msg.h"

struct launcher_cgroup;

/* Hierarchies of v1 that a sandbox is in. */
#define LAUNCHER_PROCS 3

/* Detect (`want`: see launcher_cgroup_find.h), and remove what a killed
 * predecessor of `instance` left, killing what still runs in it. */
struct launcher_cgroup *
launcher_cgroup_new(const char *want, const char *instance, struct ag_err *err);
/* Removes the groups of the instance. */
void launcher_cgroup_free(struct launcher_cgroup *cg);

/*
 * Make the groups of `id`. `events[0]` and `events[1]` get descriptors of the
 * memory and pids counters (see launcher_msg.h); `*into` the directory for
 * CLONE_INTO_CGROUP, or -1 on v1, where `procs` gets what
 * launcher_cgroup_enter takes (-1 otherwise). The caller closes all of them.
 */
int launcher_cgroup_create(struct launcher_cgroup *cg, const char *id,
                           const struct launcher_limits *limits, int events[2],
                           int procs[LAUNCHER_PROCS], int *into,
                           struct ag_err *err);
/* Counters of the processor's limit (see launcher_msg.h) for reading; the
 * caller closes it. */
int launcher_cgroup_open_cpu(struct launcher_cgroup *cg, const char *id,
                             struct ag_err *err);
/* In the child: step into the groups of `procs`. Waits for the kernel. */
int launcher_cgroup_enter(const int procs[LAUNCHER_PROCS], struct ag_err *err);
/* Returns 0 when nothing is left, -1 to be tried again later. */
int launcher_cgroup_remove(struct launcher_cgroup *cg, const char *id);

#endif
