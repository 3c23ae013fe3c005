/*
 * The child between clone and exec. It is root with every capability until
 * launcher_ns_drop, and no byte from a peer is read in between.
 *
 * Order matters: network and mounts while it may, then Landlock, the user
 * namespace, descriptors, and the filter, which would refuse most of the
 * above.
 */
#include "sandbox_svc/launcher_child.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/keyctl.h>
#include <sched.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "lib/err.h"
#include "lib/str.h"
#include "sandbox_svc/fdpass.h"
#include "sandbox_svc/init_proto.h"
#include "sandbox_svc/launcher_landlock.h"
#include "sandbox_svc/launcher_net.h"
#include "sandbox_svc/launcher_ns.h"
#include "sandbox_svc/launcher_seccomp.h"
#include "sandbox_svc/launcher_without.h"

enum { FD_EXE = INIT_SOCKET_FD + 1, FD_SETUP, FD_FIRST_CLOSED };

static int
set_limit(int resource, int64_t value, struct ag_err *err)
{
    struct rlimit now, want = {(rlim_t)value, (rlim_t)value};

    if (getrlimit((__rlimit_resource_t)resource, &now) < 0)
        return ag_err_sys(err, "getrlimit %d", resource);
    /* Not everywhere may root raise its hard limit. */
    if (want.rlim_max > now.rlim_max)
        want.rlim_cur = want.rlim_max = now.rlim_max;
    if (setrlimit((__rlimit_resource_t)resource, &want) < 0)
        return ag_err_sys(err, "setrlimit %d", resource);
    return 0;
}

static int
set_limits(const struct launcher_limits *l, struct ag_err *err)
{
    if (launcher_without("process_limits"))
        return 0;
    if (set_limit(RLIMIT_NOFILE, l->open_files, err) < 0
        || set_limit(RLIMIT_CORE, 0, err) < 0
        || set_limit(RLIMIT_MEMLOCK, 64 << 10, err) < 0)
        return -1;
    return set_limit(RLIMIT_FSIZE, l->disk_bytes, err);
}

/* When the machine runs out of memory, sandboxes go before services. */
static void
be_first_to_go(void)
{
    AG_AUTO(ag_closep)
    int fd = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);

    if (fd >= 0 && !launcher_without("oom_score") && write(fd, "500", 3) < 0)
        return; /* no worse than without */
}

static int
set_network(int net[2], struct ag_err *err)
{
    if (!launcher_without("net_namespace"))
        return launcher_net_setup(&net[0], &net[1], err);
    /* The machine's own network is left as it is. */
    for (int i = 0; i < 2; i++)
        net[i] = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    return 0;
}

static int
build(const struct launcher_child *c, int net[2], struct ag_err *err)
{
    /* Until launcher_ns_drop sets it again: a change of credentials clears
     * it. */
    if (setsid() < 0 || prctl(PR_SET_PDEATHSIG, SIGKILL) < 0)
        return ag_err_sys(err, "session");
    if (launcher_cgroup_enter(c->procs, err) < 0)
        return -1;
    if (!launcher_without("cgroup_namespace") && unshare(CLONE_NEWCGROUP) < 0)
        return ag_err_sys(err, "cgroup namespace");
    if (!launcher_without("uts_namespace") && sethostname("sandbox", 7) < 0)
        return ag_err_sys(err, "hostname");
    if (!launcher_without("keyring"))
        syscall(SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, NULL);
    be_first_to_go();
    umask(022);
    if (set_network(net, err) < 0 || launcher_mount_root(&c->root, err) < 0
        || launcher_landlock_apply(c->landlock_abi, err) < 0)
        return -1;
    return 0;
}

/* Leave descriptors 0-2 on /dev/null, init's socket on 3, and what exec needs,
 * closed by it, behind. */
static int
arrange_descriptors(const struct launcher_child *c, struct ag_err *err)
{
    int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    int exe = fcntl(c->init_exe, F_DUPFD_CLOEXEC, 64);
    int sock = fcntl(c->init_socket, F_DUPFD_CLOEXEC, 64);
    int setup = fcntl(c->setup, F_DUPFD_CLOEXEC, 64);
    unsigned first_closed = FD_FIRST_CLOSED;

    /* As if one had been forgotten. */
    if (launcher_without("close_on_exec"))
        (void)fcntl(c->init_exe, F_DUPFD, 128);
    if (launcher_without("close_range"))
        first_closed = ~0U;

    if (null < 0 || exe < 0 || sock < 0 || setup < 0)
        return ag_err_sys(err, "descriptors");
    for (int i = 0; i < 3; i++)
        if (dup2(null, i) < 0)
            return ag_err_sys(err, "standard descriptors");
    if (dup2(sock, INIT_SOCKET_FD) < 0 || dup3(exe, FD_EXE, O_CLOEXEC) < 0
        || dup3(setup, FD_SETUP, O_CLOEXEC) < 0
        || close_range(first_closed, ~0U, 0) < 0)
        return ag_err_sys(err, "descriptors");
    return 0;
}

static void
become_init(const struct launcher_child *c, struct ag_err *err)
{
    /* A test build of init is told the same as one of the launcher. */
    const char *without = launcher_without_list();
    char *argv[] = {"sandbox_init", (char *)without, NULL},
         *none_set[] = {NULL};
    char **env = launcher_without("empty_environment") ? environ : none_set;
    sigset_t none;

    sigemptyset(&none);
    for (int s = 1; s < NSIG; s++)
        signal(s, SIG_DFL);
    sigprocmask(SIG_SETMASK, &none, NULL);
    if (set_limits(&c->limits, err) < 0
        || launcher_seccomp_apply(c->filter, err) < 0)
        return;
    syscall(SYS_execveat, FD_EXE, "", argv, env, AT_EMPTY_PATH);
    ag_err_sys(err, "execute init");
}

_Noreturn void
launcher_child_main(const struct launcher_child *c)
{
    struct ag_err err = AG_ERR_INIT;
    int net[2] = {-1, -1};
    char go;

    /* The end of the launcher before PDEATHSIG is set shows here. */
    if (read(c->setup, &go, 1) != 1)
        _exit(1);
    if (build(c, net, &err) < 0) {
        fdpass_send(c->setup, &err, sizeof(err), NULL, 0);
        _exit(1);
    }
    if (fdpass_send(c->setup, &err, sizeof(err), net, 2) < 0)
        _exit(1);
    if (launcher_ns_drop(c->root.user_ns, &err) < 0
        || arrange_descriptors(c, &err) < 0) {
        fdpass_send(c->setup, &err, sizeof(err), NULL, 0);
        _exit(1);
    }
    become_init(c, &err);
    fdpass_send(FD_SETUP, &err, sizeof(err), NULL, 0);
    _exit(1);
}
