/* What all sandboxes of a launcher share. */
#ifndef SANDBOX_SVC_LAUNCHER_HOST_H
#define SANDBOX_SVC_LAUNCHER_HOST_H

#include "sandbox_svc/launcher_sandbox.h"

struct launcher_host_options {
    const char *image_dir, *work_dir;
    const char *output_dir; /* "" for none */
    uid_t output_owner;     /* who gets it when it is made here */
    const char *cgroup;     /* auto, v2, v1, none */
    const char *instance;
    const char *init; /* "" for the one beside this program */
    int max_sandboxes;
};

/* Also removes what a killed predecessor left. The strings stay the caller's
 * and must live as long as the host. */
int launcher_host_open(struct launcher_host *host,
                       const struct launcher_host_options *options,
                       struct ag_err *err);
void launcher_host_close(struct launcher_host *host);

#endif
