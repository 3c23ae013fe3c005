/* What the process does that becomes pid 1 of a sandbox, until it is. */
#ifndef SANDBOX_SVC_LAUNCHER_CHILD_H
#define SANDBOX_SVC_LAUNCHER_CHILD_H

#include "sandbox_svc/launcher_cgroup.h"
#include "sandbox_svc/launcher_mount.h"
#include "sandbox_svc/launcher_msg.h"

struct launcher_seccomp;

struct launcher_child {
    struct launcher_root root;
    struct launcher_limits limits;
    const struct launcher_seccomp *filter;
    int landlock_abi;
    int init_exe;              /* the program, to be executed by descriptor */
    int init_socket;           /* becomes its descriptor 3 */
    int setup;                 /* to the launcher */
    int procs[LAUNCHER_PROCS]; /* its cgroups, to be entered */
};

/*
 * Waits on `setup` for the launcher's word, enters its cgroups, builds the
 * sandbox, sends a struct ag_err of kind AG_ERR_NONE with the two network
 * sockets, and executes init, which closes `setup`. A failure is sent
 * as a struct ag_err at either point, and the process ends.
 */
_Noreturn void launcher_child_main(const struct launcher_child *c);

#endif
