/*
 * The unix sockets between sandbox_svc, the launcher and the bridge: packets
 * that keep their borders, with descriptors. Any thread.
 */
#include "sandbox_svc/fdpass.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "lib/err.h"
#include "lib/str.h"

union control {
    char buf[CMSG_SPACE(FDPASS_MAX * sizeof(int))];
    struct cmsghdr align;
};

int
fdpass_send(int sock, const void *data, size_t n, const int *fds, int n_fds)
{
    union control control = {.buf = {0}};
    struct iovec iov = {(void *)data, n};
    struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};

    if (n_fds > 0) {
        size_t bytes = (size_t)n_fds * sizeof(int);
        msg.msg_control = control.buf;
        msg.msg_controllen = CMSG_SPACE(bytes);
        struct cmsghdr *c = CMSG_FIRSTHDR(&msg);
        c->cmsg_level = SOL_SOCKET;
        c->cmsg_type = SCM_RIGHTS;
        c->cmsg_len = CMSG_LEN(bytes);
        memcpy(CMSG_DATA(c), fds, bytes);
    }
    ssize_t sent = sendmsg(sock, &msg, MSG_NOSIGNAL | MSG_DONTWAIT);
    return sent == (ssize_t)n ? 0 : -1;
}

void
fdpass_close(int *fds, int n_fds)
{
    for (int i = 0; i < n_fds; i++) {
        ag_closep(&fds[i]);
        fds[i] = -1;
    }
}

ssize_t
fdpass_recv(int sock, void *data, size_t max, int fds[FDPASS_MAX], int *n_fds,
            int flags)
{
    union control control;
    struct iovec iov = {data, max};
    struct msghdr msg = {.msg_iov = &iov,
                         .msg_iovlen = 1,
                         .msg_control = control.buf,
                         .msg_controllen = sizeof(control.buf)};
    ssize_t n = recvmsg(sock, &msg, MSG_CMSG_CLOEXEC | flags);

    *n_fds = 0;
    if (n < 0)
        return -1;
    for (struct cmsghdr *c = CMSG_FIRSTHDR(&msg); c != NULL;
         c = CMSG_NXTHDR(&msg, c)) {
        if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
            continue;
        *n_fds = (int)((c->cmsg_len - CMSG_LEN(0)) / sizeof(int));
        memcpy(fds, CMSG_DATA(c), (size_t)*n_fds * sizeof(int));
    }
    if (msg.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) {
        fdpass_close(fds, *n_fds);
        *n_fds = 0;
        errno = EMSGSIZE;
        return -1;
    }
    return n;
}

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
fdpass_listen(const char *path, struct ag_err *err)
{
    struct sockaddr_un a;

    if (unix_address(path, &a, err) < 0 || lock_path(path, err) < 0)
        return -1;
    AG_AUTO(ag_closep)
    int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
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
fdpass_connect(const char *path, int type, struct ag_err *err)
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
