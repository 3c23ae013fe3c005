/*
 * The namespaces of a sandbox belong to the initial user namespace; only when
 * they are furnished does the child step into a user namespace of its own. So
 * its root, however many capabilities it had there, has none over its mounts,
 * its network or its pid namespace.
 */
#include "sandbox_svc/launcher_ns.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
#include <linux/sched.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "lib/err.h"
#include "lib/str.h"
#include "sandbox_svc/launcher_without.h"

/* Enough for apt, chown and su; each of them only over the ids of the
 * sandbox. */
static const int kept_caps[] = {
    CAP_CHOWN,  CAP_DAC_OVERRIDE, CAP_FOWNER,      CAP_FSETID,  CAP_KILL,
    CAP_SETGID, CAP_SETUID,       CAP_AUDIT_WRITE, CAP_SETFCAP,
};

static int
write_file(const char *path, const char *text, struct ag_err *err)
{
    AG_AUTO(ag_closep) int fd = open(path, O_WRONLY | O_CLOEXEC);

    if (fd < 0 || write(fd, text, strlen(text)) != (ssize_t)strlen(text))
        return ag_err_sys(err, "write %s", path);
    return 0;
}

static int
map_ids(pid_t pid, int slot, struct ag_err *err)
{
    char path[64], map[64];
    unsigned base = LAUNCHER_UID_BASE + LAUNCHER_UID_COUNT * (unsigned)slot;

    snprintf(map, sizeof(map), "0 %u %d", base, LAUNCHER_UID_COUNT);
    snprintf(path, sizeof(path), "/proc/%d/uid_map", pid);
    if (write_file(path, map, err) < 0)
        return -1;
    snprintf(path, sizeof(path), "/proc/%d/gid_map", pid);
    return write_file(path, map, err);
}

static int
open_user_ns(pid_t pid, int slot, struct ag_err *err)
{
    char path[64];

    if (map_ids(pid, slot, err) < 0)
        return -1;
    snprintf(path, sizeof(path), "/proc/%d/ns/user", pid);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    return fd < 0 ? ag_err_sys(err, "open %s", path) : fd;
}

int
launcher_ns_user(int slot, struct ag_err *err)
{
    struct clone_args args = {.flags = CLONE_NEWUSER, .exit_signal = SIGCHLD};
    pid_t pid = (pid_t)syscall(SYS_clone3, &args, sizeof(args));

    if (pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        for (;;)
            pause();
    }
    if (pid < 0)
        return ag_err_sys(err, "user namespace");
    int fd = open_user_ns(pid, slot, err);
    kill(pid, SIGKILL);
    while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
        ;
    return fd;
}

/* The mount namespace is in every build: without it the child would change
 * the machine's root. */
static uint64_t
namespaces(void)
{
    static const struct {
        const char *defence;
        uint64_t flag;
    } of[] = {{"uts_namespace", CLONE_NEWUTS},
              {"ipc_namespace", CLONE_NEWIPC},
              {"net_namespace", CLONE_NEWNET}};
    uint64_t flags = CLONE_NEWNS;

    for (size_t i = 0; i < sizeof(of) / sizeof(of[0]); i++)
        if (!launcher_without(of[i].defence))
            flags |= of[i].flag;
    /* Its init kills whatever it may: never as the machine's root. */
    if (!launcher_without("pid_namespace")
        || launcher_without("user_namespace"))
        flags |= CLONE_NEWPID;
    return flags;
}

pid_t
launcher_ns_fork(int cgroup, int *pidfd, struct ag_err *err)
{
    int fd = -1;
    struct clone_args args = {
        .flags = namespaces() | CLONE_PIDFD,
        .pidfd = (uintptr_t)&fd,
        .exit_signal = SIGCHLD,
    };

    if (cgroup >= 0) {
        args.flags |= CLONE_INTO_CGROUP;
        args.cgroup = (unsigned)cgroup;
    }
    pid_t pid = (pid_t)syscall(SYS_clone3, &args, sizeof(args));
    if (pid < 0)
        return ag_err_sys(err, "clone3");
    if (pid > 0)
        *pidfd = fd;
    return pid;
}

static bool
is_kept(int cap)
{
    for (size_t i = 0; i < sizeof(kept_caps) / sizeof(kept_caps[0]); i++)
        if (kept_caps[i] == cap)
            return true;
    return false;
}

static int
limit_caps(struct ag_err *err)
{
    struct __user_cap_header_struct head = {_LINUX_CAPABILITY_VERSION_3, 0};
    struct __user_cap_data_struct data[2] = {{0, 0, 0}, {0, 0, 0}};

    for (int cap = 0; cap <= CAP_LAST_CAP; cap++) {
        if (is_kept(cap)) {
            data[cap / 32].permitted |= 1U << (cap % 32);
            data[cap / 32].effective |= 1U << (cap % 32);
        } else if (prctl(PR_CAPBSET_DROP, cap, 0, 0, 0) < 0
                   && errno != EINVAL) {
            return ag_err_sys(err, "drop capability %d", cap);
        }
    }
    /* The kernel may know more than this header: what it has is dropped. */
    for (int cap = CAP_LAST_CAP + 1; cap < 64; cap++)
        if (prctl(PR_CAPBSET_DROP, cap, 0, 0, 0) < 0)
            break;
    prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
    if (syscall(SYS_capset, &head, data) < 0)
        return ag_err_sys(err, "capset");
    return 0;
}

int
launcher_ns_drop(int user_ns, struct ag_err *err)
{
    if (!launcher_without("user_namespace")
        && setns(user_ns, CLONE_NEWUSER) < 0)
        return ag_err_sys(err, "enter the user namespace");
    if (setresgid(0, 0, 0) < 0 || setgroups(0, NULL) < 0
        || setresuid(0, 0, 0) < 0)
        return ag_err_sys(err, "become root of the user namespace");
    if (!launcher_without("capabilities") && limit_caps(err) < 0)
        return -1;
    /* A change of credentials clears it, so it comes after the last one. */
    if (prctl(PR_SET_PDEATHSIG,
              launcher_without("parent_death_signal") ? 0 : SIGKILL)
        < 0)
        return ag_err_sys(err, "parent death signal");
    return 0;
}
