/*
 * Pipes and start of a shell that waits. For sandbox_session.c, which has one
 * started when a sandbox is claimed, and sandbox_exec.c, which uses it and has
 * the next one started.
 */
#include "sandbox_svc/sandbox_shell.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/err.h"
#include "sandbox_svc/sandbox_box.h"

static void
close_all(int (*fds)[SANDBOX_SHELL_FDS])
{
    for (int i = 0; i < SANDBOX_SHELL_FDS; i++)
        ag_closep(&(*fds)[i]);
}

static int
make_pipe(int *inside, int *outside, bool is_input, struct ag_err *err)
{
    int p[2];

    if (pipe2(p, O_CLOEXEC) < 0)
        return ag_err_sys(err, "pipe");
    *inside = p[is_input ? 0 : 1];
    *outside = p[is_input ? 1 : 0];
    /* Any user of the sandbox may open /dev/stdout again. */
    if (fchmod(*inside, 0666) < 0 || fcntl(*outside, F_SETFL, O_NONBLOCK) < 0)
        return ag_err_sys(err, "pipe");
    return 0;
}

int
sandbox_shell_start(struct sandbox_box *box, ag_str_t env, int n_env,
                    struct ag_err *err)
{
    AG_AUTO(close_all) int inside[SANDBOX_SHELL_FDS] = {-1, -1, -1, -1};
    struct sandbox_shell shell = {0, n_env == 0, {-1, -1, -1, -1}};

    if (box->shell.run_id != 0)
        return 0;
    for (int i = 0; i < SANDBOX_SHELL_FDS; i++) {
        bool is_input = i == SANDBOX_SHELL_IN || i == SANDBOX_SHELL_SCRIPT;
        if (make_pipe(&inside[i], &shell.fds[i], is_input, err) < 0) {
            sandbox_shell_release(&shell);
            return -1;
        }
    }
    shell.run_id = sandbox_box_arm(box, env, n_env, inside, err);
    if (shell.run_id == 0) {
        sandbox_shell_release(&shell);
        return -1;
    }
    box->shell = shell;
    return 0;
}

struct sandbox_shell
sandbox_shell_take(struct sandbox_box *box)
{
    struct sandbox_shell shell = box->shell;

    box->shell = (struct sandbox_shell){0, false, {-1, -1, -1, -1}};
    return shell;
}

bool
sandbox_shell_died(struct sandbox_box *box, const struct init_head *event)
{
    if (box->shell.run_id == 0 || event->run_id != box->shell.run_id
        || (event->type != INIT_EXITED && event->type != INIT_FAILED))
        return false;
    box->is_state_bad = event->type == INIT_EXITED;
    struct sandbox_shell shell = sandbox_shell_take(box);
    sandbox_shell_release(&shell);
    return true;
}

void
sandbox_shell_release(struct sandbox_shell *shell)
{
    close_all(&shell->fds);
    shell->run_id = 0;
}
