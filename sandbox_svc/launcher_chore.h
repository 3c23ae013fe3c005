/*
 * What the launcher does with whole workspaces, each in a child: their shape is
 * a sandbox's choice, and going through one can take long.
 */
#ifndef SANDBOX_SVC_LAUNCHER_CHORE_H
#define SANDBOX_SVC_LAUNCHER_CHORE_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct ag_err;

#define LAUNCHER_CHORES_MAX 64

struct launcher_chore {
    pid_t pid; /* 0 when there is none */
    int pidfd, out;
    uint64_t tag;
    bool is_wipe;
};

/* Begin to remove the workspace, or to measure it, in a free one of
 * `chores`. AG_ERR_LIMIT when there is none. */
int launcher_chore_begin(struct launcher_chore chores[LAUNCHER_CHORES_MAX],
                         bool is_wipe, int work_dir, const char *session_id,
                         uint64_t tag, struct ag_err *err);

/* False while it goes on. Then *bytes and *inodes are what was measured and
 * *err how it ended, and it is free again. */
bool launcher_chore_is_done(struct launcher_chore *c, int64_t *bytes,
                            int64_t *inodes, struct ag_err *err);

#endif
