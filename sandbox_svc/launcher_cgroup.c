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
#include "sandbox_svc/launcher_cgroup_find.h"
#include "sandbox_svc/launcher_without.h"

_Static_assert(LAUNCHER_CONTROLLERS == LAUNCHER_PROCS, "one descriptor each");

#define GROUP_MAX (LAUNCHER_BASE_MAX + 256)

struct launcher_cgroup {
    struct launcher_cgroup_place at;
};

static const char *const cgroup_names[LAUNCHER_CONTROLLERS] = {
    [LAUNCHER_MEMORY] = "memory",
    [LAUNCHER_PIDS] = "pids",
    [LAUNCHER_CPU] = "cpu"};

/* `limit` is what a test build calls it to leave it out. */
static int
write_int(int dir, const char *limit, const char *name, int64_t v,
          struct ag_err *err)
{
    char text[32];

    snprintf(text, sizeof(text), "%lld", (long long)v);
    if (launcher_without(limit))
        return 0;
    if (launcher_cgroup_write(dir, name, text) < 0)
        return ag_err_sys(err, "cgroup %s = %s", name, text);
    return 0;
}

/* SIGKILL to what runs in the group. Returns how many there were. */
static int
kill_group(const char path[GROUP_MAX])
{
    char file[GROUP_MAX + 32], line[32];
    AG_AUTO(ag_closep) int dir = open(path, O_DIRECTORY | O_CLOEXEC);
    int n = 0;

    /* v2 kills at once what forks meanwhile. */
    if (dir >= 0)
        (void)launcher_cgroup_write(dir, "cgroup.kill", "1");
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

/* Which limits will not hold, for the log. */
static void
name_missing(const struct launcher_cgroup_place *at, char out[64])
{
    *out = 0;
    for (int i = 0; i < LAUNCHER_CONTROLLERS; i++)
        if (!at->has[i])
            snprintf(out + strlen(out), 64 - strlen(out), "%s%s",
                     *out == 0 ? "" : ",", cgroup_names[i]);
}

struct launcher_cgroup *
launcher_cgroup_new(const char *want, const char *instance, struct ag_err *err)
{
    static const char *const modes[] = {"none", "v1", "v2"};
    struct launcher_cgroup *cg = ag_xcalloc(1, sizeof(*cg));
    char missing[64];

    if (launcher_cgroup_find(want, instance, &cg->at, err) < 0) {
        ag_freep(&cg);
        return NULL;
    }
    for (int i = 0; i < cg->at.n; i++)
        remove_leftovers(cg->at.base[i]);
    name_missing(&cg->at, missing);
    ag_log(*missing != 0 ? AG_WARN : AG_INFO, "cgroup.detected",
           AG_S("mode", modes[cg->at.mode]), AG_B("limits_hold", *missing == 0),
           AG_S("missing", missing));
    return cg;
}

void
launcher_cgroup_free(struct launcher_cgroup *cg)
{
    if (cg == NULL)
        return;
    for (int i = 0; i < cg->at.n; i++)
        rmdir(cg->at.base[i]);
    ag_freep(&cg);
}

static int
open_group(struct launcher_cgroup *cg, int i, const char *id,
           struct ag_err *err)
{
    char path[GROUP_MAX];

    snprintf(path, sizeof(path), "%s/%s", cg->at.base[i], id);
    if (mkdir(path, 0755) < 0 && errno != EEXIST)
        return ag_err_sys(err, "make cgroup %s", path);
    int dir = open(path, O_DIRECTORY | O_CLOEXEC);
    if (dir < 0)
        return ag_err_sys(err, "open cgroup %s", path);
    return dir;
}

/* Short, so that one that spins on all cores stops before its neighbours feel
 * it; the kernel wants a quota of a millisecond at least. */
static int64_t
cpu_period_us(const struct launcher_limits *l)
{
    return l->cpu_milli >= 50 ? 20000 : 100000;
}

static int64_t
cpu_quota_us(const struct launcher_limits *l)
{
    return l->cpu_milli * cpu_period_us(l) / 1000;
}

static int
set_v2(int dir, const bool has[LAUNCHER_CONTROLLERS],
       const struct launcher_limits *l, struct ag_err *err)
{
    char cpu[64];

    if ((has[LAUNCHER_MEMORY]
         && write_int(dir, "memory_limit", "memory.max", l->memory_bytes, err)
                < 0)
        || (has[LAUNCHER_PIDS]
            && write_int(dir, "pids_limit", "pids.max", l->pids, err) < 0))
        return -1;
    if (has[LAUNCHER_MEMORY])
        launcher_cgroup_write(dir, "memory.swap.max", "0");
    snprintf(cpu, sizeof(cpu), "%lld %lld", (long long)cpu_quota_us(l),
             (long long)cpu_period_us(l));
    if (has[LAUNCHER_CPU] && !launcher_without("cpu_limit")
        && launcher_cgroup_write(dir, "cpu.max", cpu) < 0)
        return ag_err_sys(err, "cgroup cpu.max = %s", cpu);
    return 0;
}

static int
create_v1(struct launcher_cgroup *cg, const char *id,
          const struct launcher_limits *l, int events[2],
          int procs[LAUNCHER_CONTROLLERS], struct ag_err *err)
{
    AG_AUTO(ag_closep) int memory = open_group(cg, LAUNCHER_MEMORY, id, err);
    AG_AUTO(ag_closep)
    int pids = memory < 0 ? -1 : open_group(cg, LAUNCHER_PIDS, id, err);
    AG_AUTO(ag_closep)
    int cpu = pids < 0 ? -1 : open_group(cg, LAUNCHER_CPU, id, err);

    if (cpu < 0
        || write_int(memory, "memory_limit", "memory.limit_in_bytes",
                     l->memory_bytes, err)
               < 0
        || write_int(pids, "pids_limit", "pids.max", l->pids, err) < 0
        || write_int(cpu, "cpu_limit", "cpu.cfs_period_us", cpu_period_us(l),
                     err)
               < 0
        || write_int(cpu, "cpu_limit", "cpu.cfs_quota_us", cpu_quota_us(l), err)
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
    const int dirs[LAUNCHER_CONTROLLERS] = {[LAUNCHER_MEMORY] = memory,
                                            [LAUNCHER_PIDS] = pids,
                                            [LAUNCHER_CPU] = cpu};
    for (int i = 0; i < LAUNCHER_CONTROLLERS; i++) {
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

    if (dir < 0 || set_v2(dir, cg->at.has, l, err) < 0)
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
    if (cg->at.mode == LAUNCHER_CGROUP_V1)
        rc = create_v1(cg, id, limits, events, procs, err);
    else if (cg->at.mode == LAUNCHER_CGROUP_V2)
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
    const char *base =
        cg->at.base[cg->at.mode == LAUNCHER_CGROUP_V2 ? 0 : LAUNCHER_CPU];
    char path[GROUP_MAX + 32] = "/dev/null";

    if (cg->at.mode != LAUNCHER_CGROUP_NONE)
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
            return ag_err_sys(err, "enter %s", cgroup_names[i]);
    return 0;
}

int
launcher_cgroup_remove(struct launcher_cgroup *cg, const char *id)
{
    char path[GROUP_MAX];
    int rc = 0;

    for (int i = 0; i < cg->at.n; i++) {
        snprintf(path, sizeof(path), "%s/%s", cg->at.base[i], id);
        if (rmdir(path) < 0 && errno != ENOENT)
            rc = -1;
    }
    return rc;
}
