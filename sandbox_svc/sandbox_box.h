/*
 * One live sandbox as sandbox_svc sees it: the descriptors that the launcher
 * gave, and the conversation with its init. On the loop.
 */
#ifndef SANDBOX_SVC_SANDBOX_BOX_H
#define SANDBOX_SVC_SANDBOX_BOX_H

#include "lib/loop.h"
#include "sandbox_svc/init_proto.h"
#include "sandbox_svc/launcher_msg.h"
#include "sandbox_svc/sandbox_shell.h"

struct sandbox_pool;

struct sandbox_box {
    struct sandbox_box *next; /* for the owner's list */
    char id[LAUNCHER_ID_MAX];
    char address[LAUNCHER_ADDRESS_MAX];
    int pidfd, memory_events, pids_events;
    int cpu_stat; /* -1 until a workspace is attached */
    /* Its init ended, or broke the protocol. */
    bool is_dead;
    const char *death; /* why, a constant */
    /* The owner's. on_dead is called once, never from inside a function
     * below; afterwards the owner still has to destroy the box. */
    void (*on_event)(void *arg, const struct init_head *event);
    void (*on_dead)(void *arg);
    void *arg;
    /* The root certificate it has got, 0 for none: see sandbox_ca.h. */
    int64_t ca_version, ca_putting;
    uint32_t ca_put_id;
    struct sandbox_pool *pool; /* while it is kept there */
    /* Of sandbox_shell.c: the shell that waits, and whether the next one is
     * started without what the last command left. */
    struct sandbox_shell shell;
    bool is_state_bad;

    struct ag_loop *loop; /* the rest is private */
    struct ag_io init;
    uint32_t last_run_id, n_events;
};

/* From a CREATE reply; takes over the descriptors. */
struct sandbox_box *
sandbox_box_new(struct ag_loop *loop, const struct launcher_reply *reply,
                const int *fds, struct ag_err *err);
/* Lets go of it. Its init sees that and ends. */
void sandbox_box_free(struct sandbox_box *box);

/* Each returns the number that comes back in the events, or 0. */

/* Start a shell on the inner ends of its pipes, which the caller closes. For
 * sandbox_shell.c. */
uint32_t sandbox_box_arm(struct sandbox_box *box, ag_str_t env, int n_env,
                         const int fds[SANDBOX_SHELL_FDS], struct ag_err *err);
uint32_t sandbox_box_kill(struct sandbox_box *box, struct ag_err *err);
/* Only the shell that waits or works. */
uint32_t sandbox_box_kill_shell(struct sandbox_box *box, struct ag_err *err);
/* Write a file, or append to it. */
uint32_t sandbox_box_put(struct sandbox_box *box, const char *path, int mode,
                         bool append, ag_str_t content, struct ag_err *err);

#endif
