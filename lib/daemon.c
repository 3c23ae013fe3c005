/*
 * Bring-up: give up privileges, tell the supervisor. Called from main before
 * any thread is made.
 */
#include "lib/daemon.h"

#include <errno.h>
#include <grp.h>
#include <linux/capability.h>
#include <pwd.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

#include "lib/str.h"

/*
 * Under ASan a process says that it may be traced, since its leak check
 * traces it and a change of user alone forbids that.
 */
#ifdef __SANITIZE_ADDRESS__
enum { DUMPABLE = 1 };
#else
enum { DUMPABLE = 0 };
#endif

static int
become(const char *user, struct ag_err *err)
{
    const struct passwd *pw;

    errno = 0;
    pw = getpwnam(user);
    if (pw == NULL)
        return ag_err_set(err, AG_ERR_NOT_FOUND,
                          "user \"%s\" does not exist (make deps makes it)",
                          user);
    if (initgroups(user, pw->pw_gid) < 0)
        return ag_err_sys(err, "initgroups %s", user);
    if (setresgid(pw->pw_gid, pw->pw_gid, pw->pw_gid) < 0)
        return ag_err_sys(err, "setresgid %s", user);
    if (setresuid(pw->pw_uid, pw->pw_uid, pw->pw_uid) < 0)
        return ag_err_sys(err, "setresuid %s", user);
    return 0;
}

static int
drop_capabilities(struct ag_err *err)
{
    struct __user_cap_header_struct head = {_LINUX_CAPABILITY_VERSION_3, 0};
    struct __user_cap_data_struct none[2] = {{0}};

    if (syscall(SYS_capset, &head, none) < 0)
        return ag_err_sys(err, "capset");
    return 0;
}

int
ag_daemon_confine(const char *user, struct ag_err *err)
{
    const struct rlimit no_core = {0, 0};

    (void)umask(027);
    if (setrlimit(RLIMIT_CORE, &no_core) < 0)
        return ag_err_sys(err, "setrlimit RLIMIT_CORE");
    if (geteuid() == 0 && user[0] != '\0'
        && (become(user, err) < 0 || drop_capabilities(err) < 0))
        return -1;
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
        return ag_err_sys(err, "no_new_privs");
    if (prctl(PR_SET_DUMPABLE, DUMPABLE, 0, 0, 0) < 0)
        return ag_err_sys(err, "PR_SET_DUMPABLE");
    return 0;
}

/* sd_notify(3): one datagram to the socket that systemd names. */
static void
notify_systemd(const char *path)
{
    struct sockaddr_un to = {.sun_family = AF_UNIX};
    AG_AUTO(ag_closep) int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    size_t n = strlen(path);

    if (fd < 0 || n >= sizeof(to.sun_path))
        return;
    memcpy(to.sun_path, path, n);
    if (path[0] == '@')
        to.sun_path[0] = '\0';
    (void)sendto(fd, "READY=1", 7, MSG_NOSIGNAL, (struct sockaddr *)&to,
                 (socklen_t)(offsetof(struct sockaddr_un, sun_path) + n));
}

void
ag_daemon_ready(int fd)
{
    const char *path = getenv("NOTIFY_SOCKET");

    if (path != NULL)
        notify_systemd(path);
    if (fd < 0)
        return;
    (void)!write(fd, "\n", 1);
    (void)close(fd);
}
