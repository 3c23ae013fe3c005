/*
 * The shell of a sandbox that waits for its next command (sandbox_script.h).
 * On the loop.
 */
#ifndef SANDBOX_SVC_SANDBOX_SHELL_H
#define SANDBOX_SVC_SANDBOX_SHELL_H

#include "lib/str.h"

struct ag_err;
struct init_head;
struct sandbox_box;

/* Our ends of its pipes. */
enum sandbox_shell_fd {
    SANDBOX_SHELL_IN,
    SANDBOX_SHELL_OUT,
    SANDBOX_SHELL_ERR,
    SANDBOX_SHELL_SCRIPT,
    SANDBOX_SHELL_FDS,
};

struct sandbox_shell {
    uint32_t run_id; /* 0: none waits */
    /* It was started before the session's environment was known. */
    bool needs_env;
    int fds[SANDBOX_SHELL_FDS];
};

/*
 * Have one started in `box`, unless one waits. `env` is "NAME=value" with a NUL
 * each, `n_env` of them; none when they are not known yet. The shell may die
 * before it is used: sandbox_shell_died.
 */
int sandbox_shell_start(struct sandbox_box *box, ag_str_t env, int n_env,
                        struct ag_err *err);

/* The one that waits, now the caller's. */
struct sandbox_shell sandbox_shell_take(struct sandbox_box *box);

/* True when `event` tells of the end of the one that waits: the next is
 * started without what the last command left behind, which may be what has
 * killed it. */
bool sandbox_shell_died(struct sandbox_box *box, const struct init_head *event);

/* Close its pipes; it sees the end of its script and ends. */
void sandbox_shell_release(struct sandbox_shell *shell);

#endif
