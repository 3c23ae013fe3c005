/*
 * What all sandboxes share, made when the launcher starts: the folders, the
 * program that is pid 1, the filter, the cgroups.
 */
#include "sandbox_svc/launcher_host.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/err.h"
#include "lib/log.h"
#include "lib/str.h"
#include "sandbox_svc/launcher_cgroup.h"
#include "sandbox_svc/launcher_landlock.h"
#include "sandbox_svc/launcher_seccomp.h"
#include "sandbox_svc/launcher_without.h"

/* A sealed copy in memory: what runs in sandboxes cannot be reached through
 * /proc/1/exe and does not change with the file. */
static int
load_init(const char *path, struct ag_err *err)
{
    AG_AUTO(ag_closep) int from = open(path, O_RDONLY | O_CLOEXEC);
    AG_AUTO(ag_closep)
    int mem = memfd_create("sandbox_init", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    char buf[65536], self[64];
    ssize_t n = 0;

    if (launcher_without("sealed_init"))
        return open(path, O_RDONLY | O_CLOEXEC);

    if (from < 0 || mem < 0)
        return ag_err_sys(err, "open %s", path);
    while ((n = read(from, buf, sizeof(buf))) > 0)
        if (write(mem, buf, (size_t)n) != n)
            return ag_err_sys(err, "copy %s", path);
    if (n < 0 || fchmod(mem, 0555) < 0
        || fcntl(mem, F_ADD_SEALS,
                 F_SEAL_WRITE | F_SEAL_GROW | F_SEAL_SHRINK | F_SEAL_SEAL)
               < 0)
        return ag_err_sys(err, "copy %s", path);
    /* A descriptor that may write would make exec fail with ETXTBSY. */
    snprintf(self, sizeof(self), "/proc/self/fd/%d", mem);
    int fd = open(self, O_RDONLY | O_CLOEXEC);
    return fd < 0 ? ag_err_sys(err, "reopen init") : fd;
}

static void
init_path(const char *given, char out[PATH_MAX])
{
    ssize_t n;

    if (*given != 0) {
        snprintf(out, PATH_MAX, "%s", given);
        return;
    }
    n = readlink("/proc/self/exe", out, PATH_MAX - 32);
    out[n < 0 ? 0 : n] = 0;
    char *slash = strrchr(out, '/');
    snprintf(slash == NULL ? out : slash + 1, 32, "sandbox_init");
}

static int
open_folder(const char *path, mode_t mode, struct ag_err *err)
{
    if (mkdir(path, mode) < 0 && errno != EEXIST)
        return ag_err_sys(err, "make %s", path);
    int fd = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
    return fd < 0 ? ag_err_sys(err, "open %s", path) : fd;
}

/* Workspaces hold files of uid 0 whose content and mode a sandbox chose: no
 * other user of the machine may get at one. */
static int
open_work_dir(const char *path, struct ag_err *err)
{
    int fd = open_folder(path, 0700, err);

    if (fd >= 0
        && chmod(path, launcher_without("work_mode") ? 0755 : 0700) < 0) {
        close(fd);
        return ag_err_sys(err, "close %s to others", path);
    }
    return fd;
}

/* The client's folder. Made here only where no supervisor made it. */
static int
open_output_dir(const char *path, uid_t owner, struct ag_err *err)
{
    if (mkdir(path, 0700) == 0 && owner != 0
        && chown(path, owner, (gid_t)-1) < 0)
        return ag_err_sys(err, "give %s to user %u", path, owner);
    return open_folder(path, 0700, err);
}

int
launcher_host_open(struct launcher_host *h,
                   const struct launcher_host_options *o, struct ag_err *err)
{
    char init[PATH_MAX];

    h->image_dir = o->image_dir;
    h->max_sandboxes = o->max_sandboxes;
    h->user_ns = ag_xcalloc((size_t)h->max_sandboxes, sizeof(int));
    h->slot_used = ag_xcalloc((size_t)h->max_sandboxes, sizeof(bool));
    for (int i = 0; i < h->max_sandboxes; i++)
        h->user_ns[i] = -1;
    h->output_dir = -1;
    h->own_mounts = open("/proc/self/ns/mnt", O_RDONLY | O_CLOEXEC);
    if (h->own_mounts < 0)
        return ag_err_sys(err, "open own mount namespace");
    init_path(o->init, init);
    h->init_exe = load_init(init, err);
    h->work_dir = h->init_exe < 0 ? -1 : open_work_dir(o->work_dir, err);
    if (h->work_dir < 0)
        return -1;
    if (*o->output_dir != 0) {
        h->output_dir = open_output_dir(o->output_dir, o->output_owner, err);
        if (h->output_dir < 0)
            return -1;
    }
    h->landlock_abi = launcher_landlock_abi();
    ag_log(h->landlock_abi == 0 ? AG_WARN : AG_INFO, "landlock.detected",
           AG_I("abi", h->landlock_abi));
    h->filter = launcher_seccomp_new(err);
    h->cgroup = h->filter == NULL
                    ? NULL
                    : launcher_cgroup_new(o->cgroup, o->instance, err);
    return h->cgroup == NULL ? -1 : 0;
}

void
launcher_host_close(struct launcher_host *h)
{
    launcher_cgroup_free(h->cgroup);
    launcher_seccomp_free(h->filter);
    ag_freep(&h->user_ns);
    ag_freep(&h->slot_used);
    ag_closep(&h->own_mounts);
}
