/*
 * Detection of cgroups, once, when the launcher starts. v2 counts where its
 * controllers can be handed on to our groups; on a hybrid machine they belong
 * to v1, and its v2 hierarchy can be asked for but limits little.
 */
#include "sandbox_svc/launcher_cgroup_find.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/err.h"
#include "lib/str.h"

static const char *const names[LAUNCHER_CONTROLLERS] = {"memory", "pids",
                                                        "cpu"};
static const char *const v2_roots[] = {"/sys/fs/cgroup",
                                       "/sys/fs/cgroup/unified"};

/* Room for what follows the group of this process. */
#define OWN_MAX (LAUNCHER_BASE_MAX - 64)

int
launcher_cgroup_write(int dir, const char *name, const char *text)
{
    AG_AUTO(ag_closep) int fd = openat(dir, name, O_WRONLY | O_CLOEXEC);
    size_t n = strlen(text);

    return fd >= 0 && write(fd, text, n) == (ssize_t)n ? 0 : -1;
}

/* Which controllers the group `path` has to hand on; false when it is no group
 * of v2. */
static bool
v2_controllers(const char *path, bool has[LAUNCHER_CONTROLLERS])
{
    char text[512];
    AG_AUTO(ag_closep) int dir = open(path, O_DIRECTORY | O_CLOEXEC);
    AG_AUTO(ag_closep)
    int fd = dir < 0 ? -1 : openat(dir, "cgroup.controllers", O_CLOEXEC);
    ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof(text));

    if (n < 0)
        return false;
    while (n > 0 && text[n - 1] == '\n')
        n--;
    ag_str_t rest = ag_str_n(text, (size_t)n), word;
    while (ag_str_cut(&rest, ' ', &word))
        for (int i = 0; i < LAUNCHER_CONTROLLERS; i++)
            has[i] = has[i] || ag_str_is(word, names[i]);
    return true;
}

/* The group of this process beneath the v2 mount `root`. */
static bool
v2_own_group(const char *root, char out[OWN_MAX])
{
    char line[LAUNCHER_BASE_MAX];
    FILE *f = fopen("/proc/self/cgroup", "re");
    bool found = false;

    if (f == NULL)
        return false;
    while (!found && fgets(line, sizeof(line), f) != NULL) {
        if (strncmp(line, "0::/", 4) != 0)
            continue;
        line[strcspn(line, "\n")] = 0;
        found =
            snprintf(out, OWN_MAX, "%s%s", root, line[4] == 0 ? "" : line + 3)
            < OWN_MAX;
    }
    fclose(f);
    return found;
}

/* Let children of `path` have the controllers. A group with processes of its
 * own cannot: then this process steps into a leaf first. */
static bool
v2_delegate(const char *path, const bool has[LAUNCHER_CONTROLLERS])
{
    char want[64] = "";
    AG_AUTO(ag_closep) int dir = open(path, O_DIRECTORY | O_CLOEXEC);

    if (dir < 0)
        return false;
    for (int i = 0; i < LAUNCHER_CONTROLLERS; i++)
        if (has[i])
            snprintf(want + strlen(want), sizeof(want) - strlen(want), "+%s ",
                     names[i]);
    if (*want == 0
        || launcher_cgroup_write(dir, "cgroup.subtree_control", want) == 0)
        return true;
    if (errno != EBUSY)
        return false;
    if (mkdirat(dir, "launcher", 0755) < 0 && errno != EEXIST)
        return false;
    return launcher_cgroup_write(dir, "launcher/cgroup.procs", "0") == 0
           && launcher_cgroup_write(dir, "cgroup.subtree_control", want) == 0;
}

static bool
make_base(struct launcher_cgroup_place *p, const char *root,
          const char *instance)
{
    char *base = p->base[p->n];

    if (snprintf(base, LAUNCHER_BASE_MAX, "%s/brainbox-%s", root, instance)
            >= LAUNCHER_BASE_MAX
        || (mkdir(base, 0755) < 0 && errno != EEXIST))
        return false;
    p->n++;
    return true;
}

static void
drop_bases(struct launcher_cgroup_place *p)
{
    while (p->n > 0)
        (void)rmdir(p->base[--p->n]);
    *p = (struct launcher_cgroup_place){.mode = LAUNCHER_CGROUP_NONE};
}

/* With all controllers, or with at least `least` of them. */
static bool
find_v2(struct launcher_cgroup_place *p, const char *instance, int least)
{
    char own[OWN_MAX];
    size_t i = 0;
    int n = 0;

    while (i < 2 && !v2_controllers(v2_roots[i], p->has))
        i++;
    if (i == 2 || !v2_own_group(v2_roots[i], own)) {
        drop_bases(p);
        return false;
    }
    for (int c = 0; c < LAUNCHER_CONTROLLERS; c++)
        n += p->has[c];
    p->mode = LAUNCHER_CGROUP_V2;
    if (n >= least && v2_delegate(own, p->has) && make_base(p, own, instance)
        && v2_delegate(p->base[0], p->has))
        return true;
    drop_bases(p);
    return false;
}

static bool
find_v1(struct launcher_cgroup_place *p, const char *instance)
{
    char root[64];

    p->mode = LAUNCHER_CGROUP_V1;
    for (int i = 0; i < LAUNCHER_CONTROLLERS; i++) {
        p->has[i] = true;
        snprintf(root, sizeof(root), "/sys/fs/cgroup/%s", names[i]);
        if (!make_base(p, root, instance)) {
            drop_bases(p);
            return false;
        }
    }
    return true;
}

int
launcher_cgroup_find(const char *want, const char *instance,
                     struct launcher_cgroup_place *out, struct ag_err *err)
{
    struct launcher_cgroup_place p = {.mode = LAUNCHER_CGROUP_NONE};
    bool is_found = true;

    if (strcmp(want, "auto") == 0)
        (void)(find_v2(&p, instance, LAUNCHER_CONTROLLERS)
               || find_v1(&p, instance) || find_v2(&p, instance, 1));
    else if (strcmp(want, "v2") == 0)
        is_found = find_v2(&p, instance, 0);
    else if (strcmp(want, "v1") == 0)
        is_found = find_v1(&p, instance);
    else if (strcmp(want, "none") != 0)
        return ag_err_set(err, AG_ERR_INVALID,
                          "cgroup: \"%s\" is not auto, v2, v1 or none", want);
    if (!is_found)
        return ag_err_set(err, AG_ERR_NOT_FOUND,
                          "cgroup: this machine has no %s groups that can be "
                          "used",
                          want);
    *out = p;
    return 0;
}
