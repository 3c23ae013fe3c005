/*
 * Landlock, for the child between its last mount and init. The rules hold for
 * whatever a sandbox is later found to be able to do: they ask for no
 * capability, so a process that gained all of them, in this or in a user
 * namespace of its own, still
 *
 *   - changes no mount (a domain that handles files refuses that by itself),
 *   - makes no device, and speaks to one by ioctl only beneath /dev,
 *   - traces, signals and calls by an abstract socket none outside.
 *
 * Everything else beneath the root is granted: what files a sandbox may change
 * is its own affair. /proc cannot be left out, since a rule for the root holds
 * for all that is mounted beneath it.
 */
#include "sandbox_svc/launcher_landlock.h"

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "lib/err.h"
#include "lib/str.h"
#include "sandbox_svc/launcher_without.h"

/* The kernel's interface, newer than the header of some systems. */
#define RULESET_VERSION 1U
#define RULE_PATH_BENEATH 1
#define FS_MAKE_CHAR (1ULL << 6)
#define FS_MAKE_BLOCK (1ULL << 11)
#define FS_REFER (1ULL << 13)
#define FS_IOCTL_DEV (1ULL << 15)
#define SCOPE_ABSTRACT_SOCKET (1ULL << 0)
#define SCOPE_SIGNAL (1ULL << 1)

struct ruleset {
    uint64_t fs, net, scoped;
};

struct path_rule {
    uint64_t access;
    int32_t parent;
} __attribute__((packed));

int
launcher_landlock_abi(void)
{
    long abi = syscall(SYS_landlock_create_ruleset, NULL, 0, RULESET_VERSION);

    return abi < 0 ? 0 : (int)abi;
}

/* All rights over files that version `abi` knows. */
static uint64_t
known_rights(int abi)
{
    /* 1: thirteen; 2: refer; 3: truncate; 5: ioctl. */
    static const int bits[] = {0, 13, 14, 15, 15, 16};
    const int n = (int)(sizeof(bits) / sizeof(bits[0]));

    return (1ULL << bits[abi < n ? abi : n - 1]) - 1;
}

static int
allow(int ruleset, const char *path, uint64_t access, struct ag_err *err)
{
    AG_AUTO(ag_closep) int fd = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
    struct path_rule rule = {access, fd};

    if (fd < 0
        || syscall(SYS_landlock_add_rule, ruleset, RULE_PATH_BENEATH, &rule, 0)
               < 0)
        return ag_err_sys(err, "landlock rule for %s", path);
    return 0;
}

int
launcher_landlock_apply(int abi, struct ag_err *err)
{
    struct ruleset set = {known_rights(abi), 0,
                          abi < 6 ? 0 : SCOPE_ABSTRACT_SOCKET | SCOPE_SIGNAL};
    const uint64_t devices = set.fs & FS_IOCTL_DEV;

    /* The first version refuses to move a file between folders. */
    if (abi < 2 || launcher_without("landlock"))
        return 0;
    AG_AUTO(ag_closep)
    int fd = (int)syscall(SYS_landlock_create_ruleset, &set, sizeof(set), 0);
    if (fd < 0)
        return ag_err_sys(err, "landlock ruleset");
    if (allow(fd, "/", set.fs & ~(FS_MAKE_CHAR | FS_MAKE_BLOCK | FS_IOCTL_DEV),
              err)
        < 0)
        return -1;
    if (devices != 0 && allow(fd, "/dev", devices, err) < 0)
        return -1;
    if (syscall(SYS_landlock_restrict_self, fd, 0) < 0)
        return ag_err_sys(err, "landlock");
    return 0;
}
