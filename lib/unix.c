/* Unix sockets that a service listens on or connects to. Any thread. */
#include "lib/unix.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "lib/str.h"

static int
unix_address(const char *path, struct sockaddr_un *a, struct ag_err *err)
{
    *a = (struct sockaddr_un){.sun_family = AF_UNIX};
    if (strlen(path) >= sizeof(a->sun_path))
        return ag_err_set(err, AG_ERR_INVALID,
                          "socket path %s is longer than %zu bytes", path,
                          sizeof(a->sun_path) - 1);
    memcpy(a->sun_path, path, strlen(path));
    return 0;
}

/* The descriptor stays open, and with it the lock, until the process ends. */
static int
lock_path(const char *path, struct ag_err *err)
{
    char lock[256];

    snprintf(lock, sizeof(lock), "%s.lock", path);
    int fd = open(lock, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0)
        return ag_err_sys(err, "open %s", lock);
    if (flock(fd, LOCK_EX | LOCK_NB) < 0) {
        close(fd);
        return ag_err_set(err, AG_ERR_EXISTS, "another process listens on %s",
                          path);
    }
    return 0;
}

/* The folder has the caller's group; so must the socket, or mode 0660 keeps
 * the caller out. Only root may do it, and only root needs to: elsewhere the
 * caller is root or of the same user. */
static void
adopt_group(const char *path)
{
    char dir[256];
    struct stat st;

    snprintf(dir, sizeof(dir), "%s", path);
    char *slash = strrchr(dir, '/');
    if (slash == NULL)
        return;
    *slash = 0;
    if (stat(dir, &st) == 0 && lchown(path, (uid_t)-1, st.st_gid) < 0)
        return;
}

int
ag_unix_listen(const char *path, int type, struct ag_err *err)
{
    struct sockaddr_un a;

    if (unix_address(path, &a, err) < 0 || lock_path(path, err) < 0)
        return -1;
    AG_AUTO(ag_closep)
    int fd = socket(AF_UNIX, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return ag_err_sys(err, "socket");
    if (unlink(path) < 0 && errno != ENOENT)
        return ag_err_sys(err, "remove stale %s", path);
    if (bind(fd, (struct sockaddr *)&a, sizeof(a)) < 0 || chmod(path, 0660) < 0
        || listen(fd, 16) < 0)
        return ag_err_sys(err, "listen on %s", path);
    adopt_group(path);
    int out = fd;
    fd = -1;
    return out;
}

int
ag_unix_connect(const char *path, int type, struct ag_err *err)
{
    struct sockaddr_un a;

    if (unix_address(path, &a, err) < 0)
        return -1;
    AG_AUTO(ag_closep)
    int fd = socket(AF_UNIX, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return ag_err_sys(err, "socket");
    if (connect(fd, (struct sockaddr *)&a, sizeof(a)) < 0) {
        ag_err_sys(err, "connect to %s", path);
        err->kind = AG_ERR_UNAVAILABLE;
        return -1;
    }
    int out = fd;
    fd = -1;
    return out;
}
