/*
 * The filter allows by default: a sandbox builds and runs arbitrary programs,
 * and what it may do is decided by the namespaces and the capabilities it
 * lacks. What is refused here is kernel surface that a build never needs and
 * that has been the way out before (mounts, namespaces, BPF, io_uring), and
 * the socket families that work in any network namespace.
 *
 * clone3 passes its flags in memory, which a filter cannot read: it is
 * "not implemented", and libc falls back to clone.
 */
#include "sandbox_svc/launcher_seccomp.h"

#include <errno.h>
#include <linux/filter.h>
#include <linux/sched.h>
#include <seccomp.h>
#include <stddef.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "lib/err.h"
#include "lib/str.h"
#include "sandbox_svc/launcher_without.h"

struct launcher_seccomp {
    struct sock_fprog prog;
};

#ifndef SYS_open_tree_attr
#define SYS_open_tree_attr 467
#endif
#define TIOCSTI_NUMBER 0x5412
#define TIOCLINUX_NUMBER 0x541c

static const int denied[] = {
    /* mounts */
    SCMP_SYS(mount),
    SCMP_SYS(umount2),
    SCMP_SYS(pivot_root),
    SCMP_SYS(open_tree),
    SCMP_SYS(move_mount),
    SCMP_SYS(fsopen),
    SCMP_SYS(fsconfig),
    SCMP_SYS(fsmount),
    SCMP_SYS(fspick),
    SCMP_SYS(mount_setattr),
    SYS_open_tree_attr,
    SCMP_SYS(swapon),
    SCMP_SYS(swapoff),
    SCMP_SYS(quotactl),
    SCMP_SYS(quotactl_fd),
    /* namespaces */
    SCMP_SYS(unshare),
    SCMP_SYS(setns),
    /* kernel programs, keys, tracing */
    SCMP_SYS(bpf),
    SCMP_SYS(perf_event_open),
    SCMP_SYS(keyctl),
    SCMP_SYS(add_key),
    SCMP_SYS(request_key),
    SCMP_SYS(userfaultfd),
    SCMP_SYS(io_uring_setup),
    SCMP_SYS(io_uring_enter),
    SCMP_SYS(io_uring_register),
    SCMP_SYS(fanotify_init),
    SCMP_SYS(open_by_handle_at),
    SCMP_SYS(process_vm_writev),
    SCMP_SYS(lookup_dcookie),
    SCMP_SYS(kcmp),
    SCMP_SYS(modify_ldt),
    /* the machine */
    SCMP_SYS(init_module),
    SCMP_SYS(finit_module),
    SCMP_SYS(delete_module),
    SCMP_SYS(kexec_load),
    SCMP_SYS(kexec_file_load),
    SCMP_SYS(reboot),
    SCMP_SYS(syslog),
    SCMP_SYS(acct),
    SCMP_SYS(settimeofday),
    SCMP_SYS(clock_settime),
    SCMP_SYS(clock_adjtime),
    SCMP_SYS(adjtimex),
    SCMP_SYS(iopl),
    SCMP_SYS(ioperm),
    SCMP_SYS(vhangup),
    SCMP_SYS(sethostname),
    SCMP_SYS(setdomainname),
};

static const unsigned clone_flags[] = {
    CLONE_NEWNS,   CLONE_NEWCGROUP, CLONE_NEWUTS, CLONE_NEWIPC,
    CLONE_NEWUSER, CLONE_NEWPID,    CLONE_NEWNET,
};

static int
add_clone_rules(scmp_filter_ctx ctx)
{
    int rc = 0;

    for (size_t i = 0; i < sizeof(clone_flags) / sizeof(clone_flags[0]); i++)
        rc |= seccomp_rule_add(
            ctx, SCMP_ACT_ERRNO(EPERM), SCMP_SYS(clone), 1,
            SCMP_A0(SCMP_CMP_MASKED_EQ, clone_flags[i], clone_flags[i]));
    return rc
           | seccomp_rule_add(ctx, SCMP_ACT_ERRNO(ENOSYS), SCMP_SYS(clone3), 0);
}

/* Unix, IPv4, IPv6 and the routing netlink; the comparison is on 64 bits, so
 * a family with rubbish in its upper half is refused too. */
static int
add_socket_rules(scmp_filter_ctx ctx)
{
    const uint32_t no = SCMP_ACT_ERRNO(EAFNOSUPPORT);
    int rc = seccomp_rule_add(ctx, no, SCMP_SYS(socket), 1,
                              SCMP_A0(SCMP_CMP_GT, AF_NETLINK, 0));

    for (unsigned f = 0; f < AF_NETLINK; f++)
        if (f != AF_UNIX && f != AF_INET && f != AF_INET6)
            rc |= seccomp_rule_add(ctx, no, SCMP_SYS(socket), 1,
                                   SCMP_A0(SCMP_CMP_EQ, f, 0));
    return rc
           | seccomp_rule_add(
               ctx, SCMP_ACT_ERRNO(EPROTONOSUPPORT), SCMP_SYS(socket), 2,
               SCMP_A0(SCMP_CMP_EQ, AF_NETLINK, 0), SCMP_A2(SCMP_CMP_NE, 0, 0));
}

static int
add_device_rules(scmp_filter_ctx ctx)
{
    static const unsigned kinds[] = {S_IFCHR, S_IFBLK};
    static const unsigned ioctls[] = {TIOCSTI_NUMBER, TIOCLINUX_NUMBER};
    const uint32_t no = SCMP_ACT_ERRNO(EPERM);
    int rc = 0;

    for (size_t i = 0; i < 2; i++) {
        rc |= seccomp_rule_add(ctx, no, SCMP_SYS(mknod), 1,
                               SCMP_A1(SCMP_CMP_MASKED_EQ, S_IFMT, kinds[i]));
        rc |= seccomp_rule_add(ctx, no, SCMP_SYS(mknodat), 1,
                               SCMP_A2(SCMP_CMP_MASKED_EQ, S_IFMT, kinds[i]));
        rc |= seccomp_rule_add(
            ctx, no, SCMP_SYS(ioctl), 1,
            SCMP_A1(SCMP_CMP_MASKED_EQ, 0xffffffffu, ioctls[i]));
    }
    return rc;
}

static void
context_release(scmp_filter_ctx *ctx)
{
    if (*ctx != NULL)
        seccomp_release(*ctx);
}

/* Turn the rules into the array that the kernel takes. */
static int
export_program(scmp_filter_ctx ctx, struct sock_fprog *prog, struct ag_err *err)
{
    AG_AUTO(ag_closep) int fd = memfd_create("seccomp", MFD_CLOEXEC);
    struct stat st;

    if (fd < 0)
        return ag_err_sys(err, "memfd for the filter");
    if (seccomp_export_bpf(ctx, fd) < 0 || fstat(fd, &st) < 0)
        return ag_err_set(err, AG_ERR_INTERNAL, "export the seccomp filter");
    prog->len =
        (unsigned short)((size_t)st.st_size / sizeof(struct sock_filter));
    prog->filter = ag_xmalloc((size_t)st.st_size);
    if (pread(fd, prog->filter, (size_t)st.st_size, 0) != st.st_size)
        return ag_err_sys(err, "read the seccomp filter");
    return 0;
}

struct launcher_seccomp *
launcher_seccomp_new(struct ag_err *err)
{
    AG_AUTO(context_release) scmp_filter_ctx ctx = seccomp_init(SCMP_ACT_ALLOW);
    int rc = 0;

    if (ctx == NULL) {
        ag_err_set(err, AG_ERR_INTERNAL, "seccomp_init failed");
        return NULL;
    }
    for (size_t i = 0; i < sizeof(denied) / sizeof(denied[0]); i++)
        rc |= seccomp_rule_add(ctx, SCMP_ACT_ERRNO(EPERM), denied[i], 0);
    rc |= add_clone_rules(ctx);
    rc |= add_socket_rules(ctx);
    rc |= add_device_rules(ctx);
    seccomp_attr_set(ctx, SCMP_FLTATR_CTL_OPTIMIZE, 2);
    if (rc != 0) {
        ag_err_set(err, AG_ERR_INTERNAL, "a seccomp rule was refused");
        return NULL;
    }
    struct launcher_seccomp *filter = ag_xcalloc(1, sizeof(*filter));
    if (export_program(ctx, &filter->prog, err) < 0) {
        launcher_seccomp_free(filter);
        return NULL;
    }
    return filter;
}

void
launcher_seccomp_free(struct launcher_seccomp *filter)
{
    if (filter == NULL)
        return;
    ag_freep(&filter->prog.filter);
    ag_freep(&filter);
}

int
launcher_seccomp_apply(const struct launcher_seccomp *filter,
                       struct ag_err *err)
{
    if (!launcher_without("no_new_privs")
        && prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
        return ag_err_sys(err, "no_new_privs");
    if (!launcher_without("seccomp")
        && prctl(PR_SET_SECCOMP, 2 /* SECCOMP_MODE_FILTER */, &filter->prog)
               < 0)
        return ag_err_sys(err, "seccomp filter");
    return 0;
}
