/*
 * sandbox_init: pid 1 of a sandbox.
 *
 * Starts a shell whenever sandbox_svc says so over the socket the launcher left
 * on descriptor 3, in a session of its own with the descriptors that came
 * along, says how it ended, and reaps whatever is left behind. What the shell
 * does it reads from one of them (sandbox_script.h), so that it is started
 * before there is a command. It runs as the sandbox's root, with the sandbox's
 * filter: it protects nothing and is trusted with nothing. When the socket
 * closes it ends, and with pid 1 everything in the sandbox.
 *
 * Static, no library beyond libc, no allocation: one process of it idles in
 * each sandbox. Built with musl: glibc asks the processor for its features when
 * it starts, which in a virtual machine takes longer than all else that exec
 * does.
 */
#include "sandbox_svc/init_proto.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <sys/wait.h>
#include <unistd.h>

/* CLOSE_RANGE_CLOEXEC of close_range(2); musl has neither. */
#define CLOSE_ON_EXEC 4

static char packet[INIT_PACKET_MAX + 1];
static sigset_t saved_mask;
/* The shell that waits or works; 0 when there is none. */
static pid_t run_pid;
static uint32_t run_id;

static void
tell(uint32_t type, uint32_t id, int32_t a, int32_t b)
{
    struct init_head h = {INIT_MAGIC, type, id, a, b};

    if (send(INIT_SOCKET_FD, &h, sizeof(h), MSG_NOSIGNAL) < 0)
        _exit(1);
}

static void
close_all(int *fds, int n)
{
    for (int i = 0; i < n; i++) {
        if (fds[i] >= 0)
            close(fds[i]);
        fds[i] = -1;
    }
}

#define TEXT_(x) #x
#define TEXT(x) TEXT_(x)
#define READ_SCRIPT ". /dev/fd/" TEXT(INIT_SCRIPT_FD)
#define READ_STATE "[ -f " INIT_STATE_PATH " ] && . " INIT_STATE_PATH "\n"

/* In the child, on the parent's memory: become the shell. */
static void
become(int is_fresh, char **env, const int *fds)
{
    char *argv[] = {"sh", "-c", is_fresh ? READ_SCRIPT : READ_STATE READ_SCRIPT,
                    NULL};

    setsid();
    sigprocmask(SIG_SETMASK, &saved_mask, NULL);
    for (int i = 0; i < 3; i++)
        if (dup2(fds[i], i) < 0)
            _exit(127);
    if (dup2(fds[3], INIT_SCRIPT_FD) < 0
        || syscall(SYS_close_range, 3, ~0U, CLOSE_ON_EXEC) < 0
        || fcntl(INIT_SCRIPT_FD, F_SETFD, 0) < 0
        || (chdir("/workspace") < 0 && chdir("/") < 0))
        _exit(127);
    execve("/bin/sh", argv, env);
    _exit(127);
}

/* The next NUL-terminated string of [*at, end), or NULL. */
static char *
next_string(char **at, char *end)
{
    char *s = *at;
    char *nul = memchr(s, 0, (size_t)(end - s));

    if (nul == NULL)
        return NULL;
    *at = nul + 1;
    return s;
}

static int
read_env(char *at, char *end, int n, char **env)
{
    for (int i = 0; i < n; i++) {
        env[i] = next_string(&at, end);
        if (env[i] == NULL)
            return -1;
    }
    env[n] = NULL;
    return 0;
}

static void
arm(const struct init_head *h, char *at, char *end, int *fds, int n_fds)
{
    static char *env[INIT_ENV_MAX + 1];

    if (run_pid != 0 || h->a < 0 || h->a > INIT_ENV_MAX || n_fds != INIT_ARM_FDS
        || read_env(at, end, h->a, env) < 0) {
        tell(INIT_FAILED, h->run_id, run_pid != 0 ? EBUSY : EINVAL, 0);
        return;
    }
    /* No copy of init for what is replaced at once. */
    pid_t pid = vfork();
    if (pid == 0)
        become(h->b, env, fds);
    if (pid < 0) {
        tell(INIT_FAILED, h->run_id, errno, 0);
        return;
    }
    run_pid = pid;
    run_id = h->run_id;
    tell(INIT_STARTED, run_id, 0, 0);
}

static int
put(char *at, char *end, mode_t mode, int append)
{
    char *path = next_string(&at, end);
    int flags = O_WRONLY | O_CREAT | O_NOFOLLOW | O_CLOEXEC
                | (append ? O_APPEND : O_TRUNC);

    if (path == NULL || strchr(path, '/') == NULL)
        return EINVAL;
    int fd = open(path, flags, mode);
    if (fd < 0 && errno == ENOENT) {
        char *slash = strrchr(path, '/');
        *slash = 0;
        mkdir(path, 0755);
        *slash = '/';
        fd = open(path, flags, mode);
    }
    if (fd < 0)
        return errno;
    while (at < end) {
        ssize_t n = write(fd, at, (size_t)(end - at));
        if (n < 0) {
            int e = errno;
            close(fd);
            return e;
        }
        at += n;
    }
    return close(fd) < 0 ? errno : 0;
}

/* One packet with its descriptors. Ends the process when the socket closes. */
static size_t
receive(int fds[INIT_ARM_FDS], int *n_fds)
{
    union {
        char buf[CMSG_SPACE(INIT_ARM_FDS * sizeof(int))];
        struct cmsghdr align;
    } control;
    struct iovec iov = {packet, INIT_PACKET_MAX};
    struct msghdr msg = {.msg_iov = &iov,
                         .msg_iovlen = 1,
                         .msg_control = control.buf,
                         .msg_controllen = sizeof(control.buf)};
    ssize_t n = recvmsg(INIT_SOCKET_FD, &msg, MSG_CMSG_CLOEXEC);

    *n_fds = 0;
    if (n < 0 && errno == EINTR)
        return 0;
    if (n <= 0)
        _exit(0);
    struct cmsghdr *c = CMSG_FIRSTHDR(&msg);
    if (c != NULL && c->cmsg_level == SOL_SOCKET
        && c->cmsg_type == SCM_RIGHTS) {
        *n_fds = (int)((c->cmsg_len - CMSG_LEN(0)) / sizeof(int));
        memcpy(fds, CMSG_DATA(c), (size_t)*n_fds * sizeof(int));
    }
    return (size_t)n;
}

static void
on_message(void)
{
    int fds[INIT_ARM_FDS] = {-1, -1, -1, -1}, n_fds = 0;
    size_t n = receive(fds, &n_fds);
    struct init_head h;

    if (n >= sizeof(h)) {
        memcpy(&h, packet, sizeof(h));
        char *at = packet + sizeof(h), *end = packet + n;
        if (h.type == INIT_ARM) {
            arm(&h, at, end, fds, n_fds);
        } else if (h.type == INIT_PUT) {
            tell(INIT_PUT_DONE, h.run_id, put(at, end, (mode_t)h.a, h.b), 0);
        } else if (h.type == INIT_KILL) {
            /* The kernel holds the task list while it signals, so a process
             * that forks without end is caught with all its children. */
            if (h.a != 1)
                kill(-1, SIGKILL);
            else if (run_pid != 0)
                kill(-run_pid, SIGKILL);
            tell(INIT_KILLED, h.run_id, 0, 0);
        }
    }
    close_all(fds, n_fds);
}

/* Less than a sixty-fourth left: what failed most likely wanted more. */
static int
is_full(const char *path)
{
    struct statfs st;

    return statfs(path, &st) == 0
           && (st.f_bavail < st.f_blocks / 64 || st.f_ffree < st.f_files / 64);
}

static void
reap(void)
{
    int status;
    pid_t pid;

    while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
        if (pid != run_pid)
            continue;
        run_pid = 0;
        if (status != 0 && (is_full("/") || is_full("/dev/shm")))
            tell(INIT_FULL, run_id, 0, 0);
        if (WIFSIGNALED(status))
            tell(INIT_EXITED, run_id, 0, WTERMSIG(status));
        else
            tell(INIT_EXITED, run_id, WEXITSTATUS(status), 0);
    }
}

/* As launcher_without.h. */
static int
without(const char *list, const char *defence)
{
#ifdef SANDBOX_TEST_WITHOUT
    return list != NULL && strstr(list, defence) != NULL;
#else
    (void)list, (void)defence;
    return 0;
#endif
}

int
main(int argc, char **argv)
{
    const char *list = argc > 1 ? argv[1] : NULL;
    sigset_t mask;
    struct signalfd_siginfo info;

    umask(022);
    mkdir(INIT_STATE_DIR, 0700);
    /* What it starts has its uid and capabilities: without this it could be
     * traced, and its socket taken. */
    if (!without(list, "dumpable"))
        prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
    sigprocmask(SIG_SETMASK, NULL, &saved_mask);
    sigemptyset(&mask);
    sigaddset(&mask, SIGCHLD);
    sigprocmask(SIG_BLOCK, &mask, NULL);
    fcntl(INIT_SOCKET_FD, F_SETFD, FD_CLOEXEC);
    int sfd = signalfd(-1, &mask, SFD_CLOEXEC | SFD_NONBLOCK);
    if (sfd < 0)
        return 1;
    for (;;) {
        struct pollfd p[2] = {{.fd = INIT_SOCKET_FD, .events = POLLIN},
                              {.fd = sfd, .events = POLLIN}};
        if (poll(p, 2, -1) < 0 && errno != EINTR)
            return 1;
        if (p[1].revents != 0) {
            while (read(sfd, &info, sizeof(info)) > 0)
                ;
            reap();
        }
        if (p[0].revents != 0)
            on_message();
    }
}
