/*
 * Workspaces are removed and measured with the tools that have survived
 * hostile trees for decades: they neither follow a link nor lose their way when
 * a folder is moved under them, at any depth. For launcher.c.
 */
#include "sandbox_svc/launcher_chore.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "lib/err.h"
#include "lib/str.h"

static _Noreturn void
become_tool(bool is_wipe, int work_dir, const char *session_id, int out)
{
    if (prctl(PR_SET_PDEATHSIG, SIGKILL) < 0 || fchdir(work_dir) < 0
        || dup2(out, 1) < 0)
        _exit(126);
    /* Sandboxes that work come first. */
    (void)setpriority(PRIO_PROCESS, 0, 10);
    if (is_wipe)
        execl("/bin/rm", "rm", "-rf", "--one-file-system", "--", session_id,
              (char *)NULL);
    else
        execl("/bin/sh", "sh", "-c",
              "du -sx -B1 -- \"$1\"; du -sx --inodes -- \"$1\"", "sh",
              session_id, (char *)NULL);
    _exit(127);
}

int
launcher_chore_begin(struct launcher_chore chores[LAUNCHER_CHORES_MAX],
                     bool is_wipe, int work_dir, const char *session_id,
                     uint64_t tag, struct ag_err *err)
{
    struct launcher_chore *c = chores;
    int p[2];

    while (c < chores + LAUNCHER_CHORES_MAX && c->pid != 0)
        c++;
    if (c == chores + LAUNCHER_CHORES_MAX)
        return ag_err_set(err, AG_ERR_LIMIT,
                          "%d workspaces are being removed or measured",
                          LAUNCHER_CHORES_MAX);
    if (pipe2(p, O_CLOEXEC | O_NONBLOCK) < 0)
        return ag_err_sys(err, "pipe");
    pid_t pid = fork();
    if (pid == 0)
        become_tool(is_wipe, work_dir, session_id, p[1]);
    close(p[1]);
    if (pid < 0) {
        close(p[0]);
        return ag_err_sys(err, "fork");
    }
    *c = (struct launcher_chore){pid, (int)syscall(SYS_pidfd_open, pid, 0),
                                 p[0], tag, is_wipe};
    return 0;
}

/* The first words of the two lines that du says: "N\tNAME". */
static int
read_sizes(int out, int64_t *bytes, int64_t *inodes)
{
    char text[256];
    ssize_t n = read(out, text, sizeof(text));
    ag_str_t rest = ag_str_n(text, n < 0 ? 0 : (size_t)n), word, name;

    if (!ag_str_cut(&rest, '\t', &word) || ag_str_i64(word, bytes) < 0
        || !ag_str_cut(&rest, '\n', &name) || !ag_str_cut(&rest, '\t', &word))
        return -1;
    return ag_str_i64(word, inodes);
}

bool
launcher_chore_is_done(struct launcher_chore *c, int64_t *bytes,
                       int64_t *inodes, struct ag_err *err)
{
    int status;

    *bytes = *inodes = 0;
    if (waitpid(c->pid, &status, WNOHANG) != c->pid)
        return false;
    /* What vanishes while it counts makes du complain, and it counts on. */
    bool is_good = WIFEXITED(status)
                   && WEXITSTATUS(status) <= (c->is_wipe ? 0 : 1)
                   && (c->is_wipe || read_sizes(c->out, bytes, inodes) == 0);
    if (!is_good)
        ag_err_set(err, AG_ERR_IO, "%s ended with status %d",
                   c->is_wipe ? "rm" : "du", status);
    ag_closep(&c->pidfd);
    ag_closep(&c->out);
    *c = (struct launcher_chore){0, -1, -1, 0, false};
    return true;
}
