/*
 * Mounts of a sandbox: an overlay of the image, whose owners are mapped into
 * the sandbox's id range, under a tmpfs of limited size; a /dev of six nodes;
 * proc; and, when it is claimed, the session's workspace.
 *
 * All of it is done with mount descriptors, so that no path of the sandbox is
 * ever followed by root.
 */
#include "sandbox_svc/launcher_mount.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/mount.h>
#include <linux/openat2.h>
#include <sched.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "lib/err.h"
#include "lib/str.h"
#include "sandbox_svc/launcher_without.h"

#ifndef MS_REC
#define MS_REC 16384
#define MS_PRIVATE (1 << 18)
#endif
#define MNT_DETACH_FLAG 2

#define NODEV_NOSUID (MOUNT_ATTR_NODEV | MOUNT_ATTR_NOSUID)
/* Of the folder of devices. */
#define DEV_BYTES (256 << 10)
#define DEV_INODES 64

/* ---- thin wrappers --------------------------------------------------- */

static int
fs_set(int fs, const char *key, const char *value, struct ag_err *err)
{
    unsigned cmd = value == NULL ? FSCONFIG_SET_FLAG : FSCONFIG_SET_STRING;

    if (syscall(SYS_fsconfig, fs, cmd, key, value, 0) < 0)
        return ag_err_sys(err, "mount option %s", key);
    return 0;
}

/* Make the file system that `fs` was configured for; a detached mount. */
static int
fs_mount(int fs, unsigned attrs, struct ag_err *err)
{
    if (syscall(SYS_fsconfig, fs, FSCONFIG_CMD_CREATE, NULL, NULL, 0) < 0)
        return ag_err_sys(err, "create file system");
    if (launcher_without("mount_flags"))
        attrs &= ~(unsigned)NODEV_NOSUID;
    int fd = (int)syscall(SYS_fsmount, fs, FSMOUNT_CLOEXEC, attrs);
    return fd < 0 ? ag_err_sys(err, "mount file system") : fd;
}

static int
fs_open(const char *type, struct ag_err *err)
{
    int fd = (int)syscall(SYS_fsopen, type, FSOPEN_CLOEXEC);

    return fd < 0 ? ag_err_sys(err, "file system %s", type) : fd;
}

static int
attach(int tree, int dir, const char *path, struct ag_err *err)
{
    unsigned flags =
        MOVE_MOUNT_F_EMPTY_PATH | (*path == 0 ? MOVE_MOUNT_T_EMPTY_PATH : 0);

    if (syscall(SYS_move_mount, tree, "", dir, path, flags) < 0)
        return ag_err_sys(err, "attach mount at \"%s\"", path);
    return 0;
}

/* A private copy of the mount at `dir`/`path` with `attrs` set, its owners
 * mapped by `user_ns` unless -1. */
static int
clone_tree(int dir, const char *path, uint64_t attrs, int user_ns,
           struct ag_err *err)
{
    AG_AUTO(ag_closep)
    int tree = (int)syscall(SYS_open_tree, dir, path,
                            OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_EMPTY_PATH
                                | AT_SYMLINK_NOFOLLOW);
    struct mount_attr attr = {.attr_set = attrs, .propagation = MS_PRIVATE};

    if (tree < 0)
        return ag_err_sys(err, "clone mount \"%s\"", path);
    if (user_ns >= 0) {
        attr.attr_set |= MOUNT_ATTR_IDMAP;
        attr.userns_fd = (unsigned)user_ns;
    }
    if (syscall(SYS_mount_setattr, tree, "", AT_EMPTY_PATH, &attr, sizeof(attr))
        < 0)
        return ag_err_sys(err, "attributes of mount \"%s\"", path);
    int out = tree;
    tree = -1;
    return out;
}

/* ---- the root -------------------------------------------------------- */

static int
mount_tmpfs(int64_t size, int64_t inodes, const char *mode, unsigned attrs,
            struct ag_err *err)
{
    AG_AUTO(ag_closep) int fs = fs_open("tmpfs", err);
    char text[32];

    if (fs < 0)
        return -1;
    snprintf(text, sizeof(text), "%lld", (long long)size);
    if (!launcher_without("disk_limit") && fs_set(fs, "size", text, err) < 0)
        return -1;
    snprintf(text, sizeof(text), "%lld",
             launcher_without("inode_limit") ? 0 : (long long)inodes);
    if (fs_set(fs, "nr_inodes", text, err) < 0
        || fs_set(fs, "mode", mode, err) < 0)
        return -1;
    return fs_mount(fs, attrs, err);
}

/* On the tmpfs `base`: the layers, and a place for the overlay. */
static int
make_layers(const struct launcher_root *r, int base, int lower,
            struct ag_err *err)
{
    static const char *const dirs[] = {"lower", "upper", "work", "root"};

    for (size_t i = 0; i < 4; i++)
        if (mkdirat(base, dirs[i], 0755) < 0)
            return ag_err_sys(err, "make layer %s", dirs[i]);
    if (fchownat(base, "upper", r->uid_base, r->uid_base, 0) < 0)
        return ag_err_sys(err, "own the upper layer");
    return attach(lower, base, "lower", err);
}

static int
mount_overlay(int base, struct ag_err *err)
{
    AG_AUTO(ag_closep) int fs = fs_open("overlay", err);
    static const char *const keys[] = {"lowerdir", "upperdir", "workdir"};
    static const char *const dirs[] = {"lower", "upper", "work"};
    char path[64];

    if (fs < 0)
        return -1;
    for (int i = 0; i < 3; i++) {
        snprintf(path, sizeof(path), "/proc/self/fd/%d/%s", base, dirs[i]);
        if (fs_set(fs, keys[i], path, err) < 0)
            return -1;
    }
    return fs_mount(fs, NODEV_NOSUID, err);
}

static int
make_nodes(int dev, struct ag_err *err)
{
    static const struct {
        const char *name;
        unsigned minor, major;
    } nodes[] = {{"null", 3, 1},   {"zero", 5, 1},    {"full", 7, 1},
                 {"random", 8, 1}, {"urandom", 9, 1}, {"tty", 0, 5}};
    static const char *const links[][2] = {{"/proc/self/fd", "fd"},
                                           {"/proc/self/fd/0", "stdin"},
                                           {"/proc/self/fd/1", "stdout"},
                                           {"/proc/self/fd/2", "stderr"},
                                           {"pts/ptmx", "ptmx"}};

    for (size_t i = 0; i < sizeof(nodes) / sizeof(nodes[0]); i++)
        if (mknodat(dev, nodes[i].name, S_IFCHR | 0666,
                    makedev(nodes[i].major, nodes[i].minor))
                < 0
            || fchmodat(dev, nodes[i].name, 0666, 0) < 0)
            return ag_err_sys(err, "device %s", nodes[i].name);
    for (size_t i = 0; i < sizeof(links) / sizeof(links[0]); i++)
        if (symlinkat(links[i][0], dev, links[i][1]) < 0)
            return ag_err_sys(err, "link %s", links[i][1]);
    if (mkdirat(dev, "pts", 0755) < 0 || mkdirat(dev, "shm", 01777) < 0)
        return ag_err_sys(err, "folders of /dev");
    return 0;
}

static int
mount_pts(int dev, struct ag_err *err)
{
    AG_AUTO(ag_closep) int fs = fs_open("devpts", err);

    if (fs < 0 || fs_set(fs, "ptmxmode", "0666", err) < 0
        || fs_set(fs, "mode", "0620", err) < 0)
        return -1;
    AG_AUTO(ag_closep)
    int tree = fs_mount(fs, MOUNT_ATTR_NOSUID | MOUNT_ATTR_NOEXEC, err);
    return tree < 0 ? -1 : attach(tree, dev, "pts", err);
}

/* Nodes of the machine's root: the sandbox may use but not change them. The
 * shared memory folder is the sandbox's, in its root's tmpfs like /tmp. */
static int
mount_dev(const struct launcher_root *r, int root, struct ag_err *err)
{
    AG_AUTO(ag_closep)
    int dev = mount_tmpfs(DEV_BYTES, DEV_INODES, "0755",
                          MOUNT_ATTR_NOSUID | MOUNT_ATTR_NOEXEC, err);
    AG_AUTO(ag_closep)
    int shm = dev < 0 ? -1
                      : mount_tmpfs(r->disk_bytes, r->disk_inodes, "1777",
                                    NODEV_NOSUID, err);
    struct mount_attr ro = {.attr_set = MOUNT_ATTR_RDONLY};

    if (shm < 0 || make_nodes(dev, err) < 0 || attach(dev, root, "dev", err) < 0
        || mount_pts(dev, err) < 0 || attach(shm, dev, "shm", err) < 0)
        return -1;
    if (!launcher_without("dev_read_only")
        && syscall(SYS_mount_setattr, dev, "", AT_EMPTY_PATH, &ro, sizeof(ro))
               < 0)
        return ag_err_sys(err, "seal /dev");
    return 0;
}

static int
mount_proc(int root, struct ag_err *err)
{
    AG_AUTO(ag_closep) int fs = fs_open("proc", err);

    if (fs < 0)
        return -1;
    AG_AUTO(ag_closep)
    int tree = fs_mount(fs, NODEV_NOSUID | MOUNT_ATTR_NOEXEC, err);
    return tree < 0 ? -1 : attach(tree, root, "proc", err);
}

/* Make `root` the root and let go of everything else. */
static int
change_root(int root, struct ag_err *err)
{
    if (fchdir(root) < 0 || syscall(SYS_pivot_root, ".", ".") < 0)
        return ag_err_sys(err, "pivot_root");
    /* The old root lies on top of the new one now. */
    if ((!launcher_without("pivot_root")
         && syscall(SYS_umount2, ".", MNT_DETACH_FLAG) < 0)
        || chdir("/") < 0)
        return ag_err_sys(err, "leave the machine's root");
    return 0;
}

int
launcher_mount_root(const struct launcher_root *r, struct ag_err *err)
{
    struct mount_attr private = {.propagation = MS_PRIVATE};

    if (syscall(SYS_mount_setattr, AT_FDCWD, "/", AT_RECURSIVE, &private,
                sizeof(private))
        < 0)
        return ag_err_sys(err, "private mounts");
    AG_AUTO(ag_closep)
    int lower = clone_tree(AT_FDCWD, r->image, MOUNT_ATTR_RDONLY | NODEV_NOSUID,
                           r->user_ns, err);
    if (lower < 0)
        return -1;
    AG_AUTO(ag_closep)
    int base =
        mount_tmpfs(r->disk_bytes, r->disk_inodes, "0755", NODEV_NOSUID, err);
    if (base < 0 || attach(base, AT_FDCWD, r->image, err) < 0
        || make_layers(r, base, lower, err) < 0)
        return -1;
    AG_AUTO(ag_closep) int root = mount_overlay(base, err);
    if (root < 0 || attach(root, base, "root", err) < 0
        || mount_dev(r, root, err) < 0 || mount_proc(root, err) < 0)
        return -1;
    return change_root(root, err);
}

/* ---- the workspace --------------------------------------------------- */

static int
open_beneath(int dir, const char *path, struct ag_err *err)
{
    struct open_how how = {.flags =
                               O_PATH | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW,
                           .resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS};
    int fd;

    if (launcher_without("openat2"))
        fd = openat(dir, path, O_PATH | O_DIRECTORY | O_CLOEXEC);
    else
        fd = (int)syscall(SYS_openat2, dir, path, &how, sizeof(how));
    return fd < 0 ? ag_err_sys(err, "open folder \"%s\"", path) : fd;
}

/* The session's folder with a place for the outputs. What an earlier command
 * put in that place goes. */
static int
open_workspace(const struct launcher_workspace *ws, struct ag_err *err)
{
    if (mkdirat(ws->work_dir, ws->session_id, 0755) < 0 && errno != EEXIST)
        return ag_err_sys(err, "make workspace of %s", ws->session_id);
    AG_AUTO(ag_closep)
    int dir = open_beneath(ws->work_dir, ws->session_id, err);
    struct stat st;

    if (dir < 0)
        return -1;
    if (!launcher_without("output_place")
        && fstatat(dir, ".output", &st, AT_SYMLINK_NOFOLLOW) == 0
        && !S_ISDIR(st.st_mode))
        unlinkat(dir, ".output", 0);
    if (mkdirat(dir, ".output", 0755) < 0 && errno != EEXIST)
        return ag_err_sys(err, "make .output of %s", ws->session_id);
    int out = dir;
    dir = -1;
    return out;
}

/* In the sandbox's mount namespace. Nothing of it is followed: two folders are
 * opened without a link on the way, and nothing is read. */
static int
attach_here(int tree, int output, struct ag_err *err)
{
    AG_AUTO(ag_closep) int root = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
    AG_AUTO(ag_closep) int at = open_beneath(root, "workspace", err);

    if (at < 0 || attach(tree, at, "", err) < 0)
        return -1;
    if (output < 0)
        return 0;
    AG_AUTO(ag_closep)
    int out_at = open_beneath(root, "workspace/.output", err);
    return out_at < 0 ? -1 : attach(output, out_at, "", err);
}

/* Step into the sandbox's mount namespace and back: its root has no
 * capabilities there, the launcher has. A child that does it would cost a
 * millisecond on the way of each claim. */
static int
attach_inside(const struct launcher_workspace *ws, int tree, int output,
              struct ag_err *err)
{
    AG_AUTO(ag_closep) int here = open(".", O_PATH | O_DIRECTORY | O_CLOEXEC);

    if (here < 0)
        return ag_err_sys(err, "open the working directory");
    if (setns(ws->pidfd, CLONE_NEWNS) < 0)
        return ag_err_sys(err, "enter the sandbox's mounts");
    int rc = attach_here(tree, output, err);
    /* Root that cannot leave a sandbox must not go on. */
    ag_assert(setns(ws->own_mounts, CLONE_NEWNS) == 0 && fchdir(here) == 0);
    return rc;
}

int
launcher_mount_workspace(const struct launcher_workspace *ws,
                         struct ag_err *err)
{
    AG_AUTO(ag_closep) int dir = open_workspace(ws, err);
    if (dir < 0)
        return -1;
    AG_AUTO(ag_closep)
    int tree = clone_tree(dir, "", NODEV_NOSUID, ws->user_ns, err);
    if (tree < 0)
        return -1;
    AG_AUTO(ag_closep) int out_dir = -1;
    AG_AUTO(ag_closep) int output = -1;
    if (ws->output_dir >= 0) {
        out_dir = open_beneath(ws->output_dir, ws->session_id, err);
        if (out_dir < 0)
            return -1;
        output = clone_tree(
            out_dir, "", MOUNT_ATTR_RDONLY | NODEV_NOSUID | MOUNT_ATTR_NOEXEC,
            -1, err);
        if (output < 0)
            return -1;
    }
    return attach_inside(ws, tree, output, err);
}
