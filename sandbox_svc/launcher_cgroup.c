/*
 * cgroups for the launcher. Writing a pid to a v1 cgroup.procs waits for an
 * RCU grace period (some 20 ms), so the child does it by itself, first of all,
 * and the launcher goes on; on v2 the child is born in its group.
 */
#include "sandbox_svc/launcher_cgroup.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/err.h"
#include "lib/log.h"
#include "lib/str.h"
#include "sandbox_svc/launcher_without.h"

enum mode { MODE_NONE, MODE_V1, MODE_V2 };

enum { MEMORY, PIDS, CPU, HIERARCHIES };
_Static_assert(HIERARCHIES == LAUNCHER_PROCS, "one descriptor for each");

static const char *const v1_roots[HIERARCHIES] = {
    "/sys/fs/cgroup/memory", "/sys/fs/cgroup/pids", "/sys/fs/cgroup/cpu"};

/* Longest path of a base; a group's adds at most a file name. */
#define BASE_MAX 512
#define GROUP_MAX (BASE_MAX + 256)

struct launcher_cgroup {
    enum mode mode;
    int n;
    /* Directories brainbox-<instance>: three on v1, one on v2. */
    char base[HIERARCHIES][BASE_MAX];
};

static int
write_text(int dir, const char *name, const char *text)
{
    AG_AUTO(ag_closep) int fd = openat(dir, name, O_WRONLY | O_CLOEXEC);
    size_t n = strlen(text);

    return fd >= 0 && write(fd, text, n) == (ssize_t)n ? 0 : -1;
}

/* `limit` is what a test build calls it to leave it out. */
static int
write_int(int dir, const char *limit, const char *name, int64_t v,
          struct ag_err *err)
{
    char text[32];

    snprintf(text, sizeof(text), "%lld", (long long)v);
    if (launcher_without(limit))
        return 0;
    if (write_text(dir, name, text) < 0)
        return ag_err_sys(err, "cgroup %s = %s", name, text);
    return 0;
}

/* True when `path` exists and its file `name` contains all of the words. */
static bool
v2_has_controllers(const char *path)
{
    char text[512] = " ";
    AG_AUTO(ag_closep) int dir = open(path, O_DIRECTORY | O_CLOEXEC);
    AG_AUTO(ag_closep)
    int fd = dir < 0 ? -1 : openat(dir, "cgroup.controllers", O_CLOEXEC);
    ssize_t n = fd < 0 ? -1 : read(fd, text + 1, sizeof(text) - 3);

    if (n <= 0)
        return false;
    if (text[n] == '\n')
        text[n] = ' ';
    return strstr(text, " memory ") && strstr(text, " pids ")
           && strstr(text, " cpu ");
}

/* The v2 group this process is in, as a path; false without one. */
static bool
v2_own_group(char out[BASE_MAX - 64])
{
    char line[BASE_MAX];
    FILE *f = fopen("/proc/self/cgroup", "re");
    bool found = false;

    if (f == NULL)
        return false;
    while (!found && fgets(line, sizeof(line), f) != NULL) {
        if (strncmp(line, "0::/", 4) != 0)
            continue;
        line[strcspn(line, "\n")] = 0;
        found = snprintf(out, BASE_MAX - 64, "/sys/fs/cgroup%s", line + 3)
                < BASE_MAX - 64;
    }
    fclose(f);
    return found;
}

/* Let children of `path` have the controllers. A group with processes of its
 * own cannot: then this process steps into a leaf first. */
static bool
v2_delegate(const char *path)
{
    static const char want[] = "+memory +pids +cpu";
    AG_AUTO(ag_closep) int dir = open(path, O_DIRECTORY | O_CLOEXEC);

    if (dir < 0)
        return false;
    if (write_text(dir, "cgroup.subtree_control", want) == 0)
        return true;
    if (errno != EBUSY)
        return false;
    if (mkdirat(dir, "launcher", 0755) < 0 && errno != EEXIST)
        return false;
    return write_text(dir, "launcher/cgroup.procs", "0") == 0
           && write_text(dir, "cgroup.subtree_control", want) == 0;
}

static int
make_base(struct launcher_cgroup *cg, const char *root, const char *instance)
{
    char *base = cg->base[cg->n];

    if (snprintf(base, BASE_MAX, "%s/brainbox-%s", root, instance) >= BASE_MAX)
        return -1;
    if (mkdir(base, 0755) < 0 && errno != EEXIST)
        return -1;
    cg->n++;
    return 0;
}

static enum mode
detect(struct launcher_cgroup *cg, const char *instance)
{
    char own[BASE_MAX - 64];

    if (v2_has_controllers("/sys/fs/cgroup") && v2_own_group(own)
        && v2_delegate(own) && make_base(cg, own, instance) == 0
        && v2_delegate(cg->base[0]))
        return MODE_V2;
    cg->n = 0;
    for (int i = 0; i < HIERARCHIES; i++)
        if (make_base(cg, v1_roots[i], instance) < 0)
            return MODE_NONE;
    return MODE_V1;
}

/* SIGKILL to what runs in the group. Returns how many there were. */
static int
kill_group(const char path[GROUP_MAX])
{
    char file[GROUP_MAX + 32], line[32];
    int n = 0;

    snprintf(file, sizeof(file), "%s/cgroup.procs", path);
    FILE *f = fopen(file, "re");
    if (f == NULL)
        return 0;
    while (fgets(line, sizeof(line), f) != NULL) {
        long pid = strtol(line, NULL, 10);
        if (pid > 1 && kill((pid_t)pid, SIGKILL) == 0)
            n++;
    }
    fclose(f);
    return n;
}

static void
remove_leftover(const char *base, const char *name)
{
    char path[GROUP_MAX];

    snprintf(path, sizeof(path), "%s/%s", base, name);
    /* The processes die at once, but leave their group a little later. */
    for (int i = 0; i < 200; i++) {
        int killed = kill_group(path);
        if (rmdir(path) == 0 || errno == ENOENT) {
            ag_log(AG_WARN, "cgroup.leftover_removed", AG_S("path", path),
                   AG_I("killed", killed));
            return;
        }
        usleep(10000);
    }
    ag_log(AG_ERROR, "cgroup.leftover_kept", AG_S("path", path));
}

static void
remove_leftovers(const char *base)
{
    DIR *d = opendir(base);
    struct dirent *e;

    while (d != NULL && (e = readdir(d)) != NULL)
        if (e->d_type == DT_DIR && strncmp(e->d_name, "sbx_", 4) == 0)
            remove_leftover(base, e->d_name);
    if (d != NULL)
        closedir(d);
}

struct launcher_cgroup *
launcher_cgroup_new(const char *instance, struct ag_err *err)
{
    static const char *const names[] = {"none", "v1", "v2"};
    struct launcher_cgroup *cg = ag_xcalloc(1, sizeof(*cg));

    (void)err;
    cg->mode = detect(cg, instance);
    for (int i = 0; i < cg->n; i++)
        remove_leftovers(cg->base[i]);
    ag_log(cg->mode == MODE_NONE ? AG_WARN : AG_INFO, "cgroup.detected",
           AG_S("mode", names[cg->mode]),
           AG_B("limits_hold", cg->mode != MODE_NONE));
    return cg;
}

void
launcher_cgroup_free(struct launcher_cgroup *cg)
{
    if (cg == NULL)
        return;
    for (int i = 0; i < cg->n; i++)
        rmdir(cg->base[i]);
    ag_freep(&cg);
}

static int
open_group(struct launcher_cgroup *cg, int i, const char *id,
           struct ag_err *err)
{
    char path[GROUP_MAX];

    snprintf(path, sizeof(path), "%s/%s", cg->base[i], id);
    if (mkdir(path, 0755) < 0 && errno != EEXIST)
        return ag_err_sys(err, "make cgroup %s", path);
    int dir = open(path, O_DIRECTORY | O_CLOEXEC);
    if (dir < 0)
        return ag_err_sys(err, "open cgroup %s", path);
    return dir;
}

static int
set_v2(int dir, const struct launcher_limits *l, struct ag_err *err)
{
    char cpu[64];

    if (write_int(dir, "memory_limit", "memory.max", l->memory_bytes, err) < 0
        || write_int(dir, "pids_limit", "pids.max", l->pids, err) < 0)
        return -1;
    write_text(dir, "memory.swap.max", "0");
    snprintf(cpu, sizeof(cpu), "%lld 100000", (long long)l->cpu_milli * 100);
    if (!launcher_without("cpu_limit") && write_text(dir, "cpu.max", cpu) < 0)
        return ag_err_sys(err, "cgroup cpu.max = %s", cpu);
    return 0;
}

static int
create_v1(struct launcher_cgroup *cg, const char *id,
          const struct launcher_limits *l, int events[2],
          int procs[HIERARCHIES], struct ag_err *err)
{
    AG_AUTO(ag_closep) int memory = open_group(cg, MEMORY, id, err);
    AG_AUTO(ag_closep)
    int pids = memory < 0 ? -1 : open_group(cg, PIDS, id, err);
    AG_AUTO(ag_closep) int cpu = pids < 0 ? -1 : open_group(cg, CPU, id, err);

    if (cpu < 0
        || write_int(memory, "memory_limit", "memory.limit_in_bytes",
                     l->memory_bytes, err)
               < 0
        || write_int(pids, "pids_limit", "pids.max", l->pids, err) < 0
        || write_int(cpu, "cpu_limit", "cpu.cfs_period_us", 100000, err) < 0
        || write_int(cpu, "cpu_limit", "cpu.cfs_quota_us", l->cpu_milli * 100,
                     err)
               < 0)
        return -1;
    /* With swap accounting, no way around the limit through swap either. */
    if (faccessat(memory, "memory.memsw.limit_in_bytes", W_OK, 0) == 0
        && write_int(memory, "memory_limit", "memory.memsw.limit_in_bytes",
                     l->memory_bytes, err)
               < 0)
        return -1;
    events[0] = openat(memory, "memory.oom_control", O_CLOEXEC);
    events[1] = openat(pids, "pids.events", O_CLOEXEC);
    const int dirs[HIERARCHIES] = {
        [MEMORY] = memory, [PIDS] = pids, [CPU] = cpu};
    for (int i = 0; i < HIERARCHIES; i++) {
        procs[i] = openat(dirs[i], "cgroup.procs", O_WRONLY | O_CLOEXEC);
        if (procs[i] < 0)
            return ag_err_sys(err, "cgroup.procs of %s", id);
    }
    return 0;
}

static int
create_v2(struct launcher_cgroup *cg, const char *id,
          const struct launcher_limits *l, int events[2], int *into,
          struct ag_err *err)
{
    AG_AUTO(ag_closep) int dir = open_group(cg, 0, id, err);

    if (dir < 0 || set_v2(dir, l, err) < 0)
        return -1;
    events[0] = openat(dir, "memory.events", O_CLOEXEC);
    events[1] = openat(dir, "pids.events", O_CLOEXEC);
    *into = dir;
    dir = -1;
    return 0;
}

int
launcher_cgroup_create(struct launcher_cgroup *cg, const char *id,
                       const struct launcher_limits *limits, int events[2],
                       int procs[LAUNCHER_PROCS], int *into, struct ag_err *err)
{
    int rc = 0;

    events[0] = events[1] = *into = -1;
    for (int i = 0; i < LAUNCHER_PROCS; i++)
        procs[i] = -1;
    if (cg->mode == MODE_V1)
        rc = create_v1(cg, id, limits, events, procs, err);
    else if (cg->mode == MODE_V2)
        rc = create_v2(cg, id, limits, events, into, err);
    for (int i = 0; i < 2 && rc == 0; i++)
        if (events[i] < 0)
            events[i] = open("/dev/null", O_RDONLY | O_CLOEXEC);
    return rc;
}

int
launcher_cgroup_open_cpu(struct launcher_cgroup *cg, const char *id,
                         struct ag_err *err)
{
    const char *base = cg->base[cg->mode == MODE_V2 ? 0 : CPU];
    char path[GROUP_MAX + 32] = "/dev/null";

    if (cg->mode != MODE_NONE)
        snprintf(path, sizeof(path), "%s/%s/cpu.stat", base, id);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    return fd < 0 ? ag_err_sys(err, "open %s", path) : fd;
}

int
launcher_cgroup_enter(const int procs[LAUNCHER_PROCS], struct ag_err *err)
{
    /* "0" is whoever writes. */
    for (int i = 0; i < LAUNCHER_PROCS; i++)
        if (procs[i] >= 0 && write(procs[i], "0", 1) != 1)
            return ag_err_sys(err, "enter %s", v1_roots[i]);
    return 0;
}

int
launcher_cgroup_remove(struct launcher_cgroup *cg, const char *id)
{
    char path[GROUP_MAX];
    int rc = 0;

    for (int i = 0; i < cg->n; i++) {
        snprintf(path, sizeof(path), "%s/%s", cg->base[i], id);
        if (rmdir(path) < 0 && errno != ENOENT)
            rc = -1;
    }
    return rc;
}
