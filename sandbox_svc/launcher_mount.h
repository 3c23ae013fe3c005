/* What a sandbox sees as its file system. */
#ifndef SANDBOX_SVC_LAUNCHER_MOUNT_H
#define SANDBOX_SVC_LAUNCHER_MOUNT_H

#include <stdint.h>

struct ag_err;

struct launcher_root {
    /* Directory of the image, and where the tree is put together: the mounts
     * on it are seen in the child's mount namespace only. */
    const char *image;
    int user_ns;
    uint32_t uid_base;
    int64_t disk_bytes, disk_inodes;
};

/* In the child: build the root of the sandbox and change to it. Nothing of
 * the machine's tree is reachable afterwards. */
int launcher_mount_root(const struct launcher_root *root, struct ag_err *err);

struct launcher_workspace {
    int pidfd;      /* the sandbox's init */
    int own_mounts; /* the launcher's mount namespace */
    int user_ns;
    int work_dir;   /* holds a directory for each session */
    int output_dir; /* the same for whole outputs */
    const char *session_id;
};

/*
 * Mount the session's workspace, made if need be, on /workspace of a running
 * sandbox, and its outputs read-only on /workspace/.output.
 */
int launcher_mount_workspace(const struct launcher_workspace *ws,
                             struct ag_err *err);

#endif
