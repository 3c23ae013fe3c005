/*
 * The unix sockets between sandbox_svc, the launcher and the bridge: packets
 * that keep their borders, with descriptors. Any thread.
 */
#include "sandbox_svc/fdpass.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>

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
