/*
 * What a hostile program tries inside a sandbox. Compiled there by
 * tests/escape/escape.py, which calls one check a time:
 *
 *   probe CHECK        prints what got through, one line each; 0 for nothing
 *
 * Each attempt would do harm, or show what it reads, if it worked.
 */
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

static int bad;

static void
got(const char *what, long detail)
{
    printf("%s (%ld)\n", what, detail);
    bad++;
}

/* `rc` is that of a call that must have failed with `want`. */
static void
refused(const char *what, long rc, int want)
{
    if (rc != -1)
        got(what, rc);
    else if (errno != want) {
        printf("%s: %s instead of %s\n", what, strerror(errno),
               strerror(want));
        bad++;
    }
}

#define NO(nr, ...) refused(#nr, syscall(SYS_##nr, ##__VA_ARGS__), EPERM)

/* ---- system calls ----------------------------------------------------- */

static void
mounts(void)
{
    char attr[32] = {0};

    NO(mount, "none", "/mnt", "tmpfs", 0, 0);
    NO(umount2, "/proc", 2);
    NO(pivot_root, ".", ".");
    NO(open_tree, AT_FDCWD, "/", 1);
    NO(move_mount, 0, "", AT_FDCWD, "/mnt", 4);
    NO(fsopen, "tmpfs", 0);
    NO(fsconfig, 0, 6, 0, 0, 0);
    NO(fsmount, 0, 0, 0);
    NO(fspick, AT_FDCWD, "/", 0);
    NO(mount_setattr, AT_FDCWD, "/", 0, attr, sizeof(attr));
    NO(swapon, "/tmp/x", 0);
    NO(quotactl, 0, "/", 0, 0);
    NO(chroot, "/tmp");
}

static void
namespaces(void)
{
    static const int flags[] = {CLONE_NEWNS,  CLONE_NEWUTS,    CLONE_NEWIPC,
                                CLONE_NEWPID, CLONE_NEWNET,    CLONE_NEWUSER,
                                CLONE_NEWCGROUP, CLONE_NEWNS | CLONE_NEWUSER};
    uint64_t args[11] = {CLONE_NEWUSER, 0, 0, 0, SIGCHLD};
    int fd = open("/proc/self/ns/user", O_RDONLY);

    for (size_t i = 0; i < sizeof(flags) / sizeof(flags[0]); i++) {
        refused("unshare", syscall(SYS_unshare, flags[i]), EPERM);
        long pid = syscall(SYS_clone, flags[i] | SIGCHLD, 0, 0, 0, 0);
        if (pid == 0)
            _exit(0);
        refused("clone", pid, EPERM);
    }
    NO(setns, fd, 0);
    long pid = syscall(SYS_clone3, args, sizeof(args));
    if (pid == 0)
        _exit(0);
    refused("clone3", pid, ENOSYS);
}

static void
kernel(void)
{
    char buf[256] = {0};

    NO(bpf, 5, buf, 120);
    NO(perf_event_open, buf, 0, -1, -1, 0);
    NO(keyctl, 0, -3, 0);
    NO(add_key, "user", "k", "v", 1, -3);
    NO(request_key, "user", "k", 0, -3);
    NO(io_uring_setup, 4, buf);
    NO(io_uring_enter, 0, 0, 0, 0, 0);
    NO(io_uring_register, 0, 0, 0, 0);
    NO(userfaultfd, 0);
    NO(userfaultfd, 1);
    NO(fanotify_init, 0, 0);
    NO(open_by_handle_at, AT_FDCWD, buf, 0);
    NO(process_vm_writev, getpid(), 0, 0, 0, 0, 0);
    NO(kcmp, getpid(), getpid(), 0, 0, 0);
    NO(modify_ldt, 0, buf, 16);
    NO(syslog, 3, buf, sizeof(buf));
    NO(init_module, buf, 1, "");
    NO(finit_module, 0, "", 0);
    NO(delete_module, "x", 0);
    NO(kexec_load, 0, 0, 0, 0);
    NO(reboot, 0xfee1dead, 672274793, 0, 0);
    NO(acct, "/tmp/x");
    NO(settimeofday, buf, 0);
    NO(clock_settime, 0, buf);
    NO(adjtimex, buf);
    NO(iopl, 3);
    NO(ioperm, 0x80, 1, 1);
    NO(vhangup);
    NO(sethostname, "x", 1);
    NO(setdomainname, "x", 1);
}

/* The filter is for one architecture: another's numbers must not pass it. */
static void
other_abi(void)
{
#ifdef __x86_64__
    int status;
    pid_t pid = fork();

    if (pid == 0) {
        long rc;
        /* unshare(CLONE_NEWUSER) as i386 */
        __asm__ volatile("int $0x80"
                         : "=a"(rc)
                         : "a"(310), "b"(0x10000000)
                         : "memory");
        _exit(rc == 0 ? 42 : 0);
    }
    waitpid(pid, &status, 0);
    if (WIFEXITED(status) && WEXITSTATUS(status) == 42)
        got("unshare through int 0x80", 0);
    pid = fork();
    if (pid == 0)
        _exit(syscall(0x40000000 + SYS_unshare, 0x10000000) == 0 ? 42 : 0);
    waitpid(pid, &status, 0);
    if (WIFEXITED(status) && WEXITSTATUS(status) == 42)
        got("unshare through x32", 0);
#endif
}

static void
devices(void)
{
    int tty = open("/dev/ptmx", O_RDWR | O_NOCTTY);

    refused("mknod c", mknod("/tmp/probe.c1", S_IFCHR | 0666, makedev(1, 1)),
            EPERM);
    refused("mknod b", mknod("/tmp/probe.b1", S_IFBLK | 0666, makedev(254, 0)),
            EPERM);
    refused("mknod in /dev", mknod("/dev/x", S_IFIFO | 0666, 0), EROFS);
    refused("TIOCSTI", ioctl(tty, TIOCSTI, "x"), EPERM);
    refused("TIOCLINUX", ioctl(tty, TIOCLINUX, "\x02"), EPERM);
    char fifo[64];
    snprintf(fifo, sizeof(fifo), "/tmp/probe.fifo.%d", (int)getpid());
    if (mknod(fifo, S_IFIFO | 0666, 0) < 0)
        got("a fifo cannot be made", errno);
}

static void
sockets(void)
{
    static const int types[] = {SOCK_STREAM, SOCK_DGRAM, SOCK_RAW,
                                SOCK_SEQPACKET};

    for (int f = 0; f < 64; f++)
        for (int t = 0; t < 4; t++)
            for (int p = 0; p < 24; p++) {
                int fd = socket(f, types[t], p);
                if (fd < 0)
                    continue;
                close(fd);
                int ok = f == AF_UNIX
                         || ((f == AF_INET || f == AF_INET6)
                             && types[t] != SOCK_RAW)
                         || (f == AF_NETLINK && p == 0);
                if (!ok)
                    printf("socket(%d, %d, %d)\n", f, types[t], p), bad++;
            }
    /* The upper half of a register is no way around the comparison. */
    long fd = syscall(SYS_socket, 0x100000000L | 17, SOCK_RAW, 0);
    if (fd >= 0)
        got("AF_PACKET with rubbish above", fd);
}

/* ---- without the filter ------------------------------------------------- */

/* In namespaces of its own, where it has every capability: when nothing keeps
 * it from making them, changing what is mounted must fail. */
static void
topology(void)
{
    int status;
    pid_t pid = fork();

    if (pid == 0) {
        if (syscall(SYS_unshare, CLONE_NEWUSER | CLONE_NEWNS) < 0)
            _exit(0);
        _exit(syscall(SYS_mount, "none", "/mnt", "tmpfs", 0, 0) == 0
              || syscall(SYS_mount, "/etc", "/mnt", 0, 4096, 0) == 0
              || syscall(SYS_mount, 0, "/", 0, 16384 | (1 << 18), 0) == 0
              || syscall(SYS_umount2, "/proc", 2) == 0);
    }
    waitpid(pid, &status, 0);
    if (!WIFEXITED(status) || WEXITSTATUS(status) != 0)
        got("mounts of its own", status);
}

/* By any errno. */
static void
any_device(void)
{
    char path[64];

    snprintf(path, sizeof(path), "/tmp/probe.any.%d", (int)getpid());
    if (mknod(path, S_IFCHR | 0666, makedev(1, 3)) == 0)
        got("mknod c", 0);
    unlink(path);
    if (mknod(path, S_IFBLK | 0666, makedev(254, 0)) == 0)
        got("mknod b", 0);
    unlink(path);
}

/* The name of an abstract socket, and the pid of a process, both of the
 * machine, come in the environment. */
static void
outside(void)
{
    struct sockaddr_un at = {.sun_family = AF_UNIX};
    const char *name = getenv("OUTSIDE_SOCKET"), *pid = getenv("OUTSIDE_PID");
    size_t n = strlen(name);
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);

    memcpy(at.sun_path + 1, name, n);
    if (connect(fd, (struct sockaddr *)&at,
                (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + n))
        == 0)
        got("an abstract socket of the machine", fd);
    if (kill(atoi(pid), 0) == 0)
        got("a process of the machine", atoi(pid));
}

/* ---- others ----------------------------------------------------------- */

static void
tracing(void)
{
    char path[64], buf[16];
    static const char *const files[] = {"mem", "environ", "maps", "syscall",
                                        "stack", "auxv", "io"};

    refused("PTRACE_ATTACH 1", ptrace(PTRACE_ATTACH, 1, 0, 0), EPERM);
    refused("PTRACE_SEIZE 1", ptrace(PTRACE_SEIZE, 1, 0, 0), EPERM);
    for (size_t i = 0; i < sizeof(files) / sizeof(files[0]); i++) {
        snprintf(path, sizeof(path), "/proc/1/%s", files[i]);
        int fd = open(path, O_RDONLY);
        if (fd >= 0 && read(fd, buf, sizeof(buf)) > 0)
            got(path, fd);
    }
    if (readlink("/proc/1/exe", path, sizeof(path)) >= 0)
        got("/proc/1/exe", 0);
    if (open("/proc/1/root", O_PATH) >= 0
        && open("/proc/1/root/etc", O_RDONLY) >= 0)
        got("/proc/1/root", 0);
    struct iovec here = {buf, sizeof(buf)}, there = {(void *)0x400000, 16};
    if (syscall(SYS_process_vm_readv, 1, &here, 1, &there, 1, 0) >= 0)
        got("process_vm_readv 1", 0);
    int pidfd = (int)syscall(SYS_pidfd_open, 1, 0);
    if (pidfd >= 0 && syscall(SYS_pidfd_getfd, pidfd, 3, 0) >= 0)
        got("pidfd_getfd of init", 3);
    /* What it starts itself it may trace: a debugger works. */
    pid_t pid = fork();
    if (pid == 0) {
        ptrace(PTRACE_TRACEME, 0, 0, 0);
        raise(SIGSTOP);
        _exit(0);
    }
    int status;
    waitpid(pid, &status, 0);
    if (!WIFSTOPPED(status))
        got("a child cannot be traced", status);
    kill(pid, SIGKILL);
}

static void
rights(void)
{
    struct rlimit r;
    struct sched_param fifo = {10};
    static const int limits[] = {RLIMIT_NOFILE, RLIMIT_MEMLOCK, RLIMIT_FSIZE,
                                 RLIMIT_CORE};

    for (size_t i = 0; i < sizeof(limits) / sizeof(limits[0]); i++) {
        getrlimit((__rlimit_resource_t)limits[i], &r);
        if (r.rlim_max == RLIM_INFINITY)
            got("limit is not set", limits[i]);
        r.rlim_max++;
        refused("raise a limit",
                setrlimit((__rlimit_resource_t)limits[i], &r), EPERM);
    }
    if (setpriority(PRIO_PROCESS, 0, -5) == 0)
        got("setpriority", -5);
    refused("SCHED_FIFO", sched_setscheduler(0, SCHED_FIFO, &fifo), EPERM);
    if (prctl(PR_SET_NO_NEW_PRIVS, 0, 0, 0, 0) == 0)
        got("no_new_privs cleared", 0);
    if (prctl(PR_CAPBSET_READ, 21, 0, 0, 0) != 0)
        got("CAP_SYS_ADMIN in the bounding set", 21);
    if (prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, 21, 0, 0) == 0)
        got("ambient capability", 21);
    /* An id that is not the sandbox's. */
    if (setresuid(100000, 100000, 100000) == 0)
        got("setresuid", 100000);
    int fd = open("/proc/self/oom_score_adj", O_WRONLY);
    if (fd >= 0 && write(fd, "-500", 4) > 0)
        got("oom_score_adj", -500);
    fd = open("/proc/self/uid_map", O_WRONLY);
    if (fd >= 0 && write(fd, "0 0 1", 5) > 0)
        got("uid_map", 0);
}

static int
try_write(const char *path, const struct stat *st, int kind, struct FTW *at)
{
    (void)at;
    if (kind == FTW_F && S_ISREG(st->st_mode)) {
        int fd = open(path, O_WRONLY | O_NONBLOCK);
        /* Open to all, and asks for a capability when written. */
        int is_odd = strcmp(path, "/proc/sys/kernel/ns_last_pid") == 0;
        if (fd >= 0 && (!is_odd || write(fd, "1000", 4) > 0))
            got(path, fd);
        if (fd >= 0)
            close(fd);
    }
    return 0;
}

static void
may_not_open(const char *path, int flags)
{
    char buf[64];
    int fd = open(path, flags | O_NONBLOCK);

    if (fd >= 0 && ((flags & O_ACCMODE) == O_WRONLY
                    || read(fd, buf, sizeof(buf)) > 0))
        got(path, fd);
    if (fd >= 0)
        close(fd);
}

static void
files_of_the_kernel(void)
{
    static const char *const closed[] = {
        "/proc/kcore", "/proc/kmsg", "/proc/kpagecount", "/proc/kpageflags",
        "/dev/mem", "/dev/kmem", "/dev/kmsg", "/dev/port", "/dev/vda",
        "/dev/sda", "/dev/kvm", "/dev/fuse", "/dev/net/tun", "/dev/loop0",
        "/sys/kernel/security", "/sys/fs/cgroup/cgroup.procs",
        "/proc/1/cwd/etc/passwd"};
    char line[256];

    nftw("/proc/sys", try_write, 16, FTW_PHYS);
    may_not_open("/proc/sysrq-trigger", O_WRONLY);
    may_not_open("/proc/mtrr", O_WRONLY);
    for (size_t i = 0; i < sizeof(closed) / sizeof(closed[0]); i++)
        may_not_open(closed[i], O_RDONLY);
    FILE *f = fopen("/proc/kallsyms", "r");
    while (f != NULL && fgets(line, sizeof(line), f) != NULL)
        if (strtoull(line, NULL, 16) != 0) {
            got("/proc/kallsyms has addresses", 0);
            break;
        }
    f = fopen("/proc/keys", "r");
    if (f != NULL && fgets(line, sizeof(line), f) != NULL)
        printf("/proc/keys: %s", line), bad++;
}

/* ---- descriptors ------------------------------------------------------- */

static void
descriptors(void)
{
    for (int fd = 3; fd < 4096; fd++)
        if (fcntl(fd, F_GETFD) >= 0)
            got("descriptor from outside", fd);
}

int
main(int argc, char **argv)
{
    static const struct {
        const char *name;
        void (*check)(void);
    } checks[] = {{"mounts", mounts},         {"namespaces", namespaces},
                  {"kernel", kernel},         {"other_abi", other_abi},
                  {"devices", devices},       {"sockets", sockets},
                  {"tracing", tracing},       {"rights", rights},
                  {"kernel_files", files_of_the_kernel},
                  {"descriptors", descriptors},
                  {"topology", topology},     {"any_device", any_device},
                  {"outside", outside}};

    for (size_t i = 0; argc == 2 && i < sizeof(checks) / sizeof(checks[0]);
         i++)
        if (strcmp(argv[1], checks[i].name) == 0) {
            checks[i].check();
            return bad == 0 ? 0 : 1;
        }
    fprintf(stderr, "usage: probe CHECK\n");
    return 2;
}
