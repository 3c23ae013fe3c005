/* Which cgroups the machine has, and where ours are. For launcher_cgroup.c. */
#ifndef SANDBOX_SVC_LAUNCHER_CGROUP_FIND_H
#define SANDBOX_SVC_LAUNCHER_CGROUP_FIND_H

#include <stdbool.h>

struct ag_err;

enum launcher_cgroup_mode {
    LAUNCHER_CGROUP_NONE,
    LAUNCHER_CGROUP_V1,
    LAUNCHER_CGROUP_V2
};

/* What limits, in the order of the bases of v1. */
enum launcher_controller {
    LAUNCHER_MEMORY,
    LAUNCHER_PIDS,
    LAUNCHER_CPU,
    LAUNCHER_CONTROLLERS
};

/* Longest path of a base; a group's adds at most a file name. */
#define LAUNCHER_BASE_MAX 512

struct launcher_cgroup_place {
    enum launcher_cgroup_mode mode;
    /* What the kernel lets us limit there. */
    bool has[LAUNCHER_CONTROLLERS];
    /* Directories brainbox-<instance>, made: one for each controller on v1, one
     * on v2. */
    int n;
    char base[LAUNCHER_CONTROLLERS][LAUNCHER_BASE_MAX];
};

/*
 * Find them and make our directories. `want` is "auto" (v2 with all
 * controllers, v1, v2 with some, none), "v2", "v1" or "none"; AG_ERR_INVALID
 * when it is another word, AG_ERR_NOT_FOUND when the machine has not what is
 * wanted.
 */
int launcher_cgroup_find(const char *want, const char *instance,
                         struct launcher_cgroup_place *out, struct ag_err *err);

/* Write `text` to the file `name` of a group; -1 with errno. */
int launcher_cgroup_write(int dir, const char *name, const char *text);

#endif
