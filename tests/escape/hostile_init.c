/*
 * An init that was taken over: it speaks the protocol of sandbox_svc/init.c and
 * behaves, until a command holds "HOSTILE <how>". Compiled by cases_init.py.
 *
 * It is pid 1 of a real sandbox, so it has all the rights that init has there.
 */
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "sandbox_svc/init_proto.h"

static char packet[INIT_PACKET_MAX + 1], script[65536];
static int fds[INIT_ARM_FDS] = {-1, -1, -1, -1};
static uint32_t run_id;

static void
say(uint32_t type, uint32_t id, int32_t a, int32_t b)
{
    struct init_head h = {INIT_MAGIC, type, id, a, b};

    send(INIT_SOCKET_FD, &h, sizeof(h), MSG_NOSIGNAL);
}

static void
say_bytes(const void *data, size_t n)
{
    send(INIT_SOCKET_FD, data, n, MSG_NOSIGNAL);
}

/* `n` copies of `fd` along with a message that is good in itself. */
static int
say_with(int fd, int n)
{
    static char control[CMSG_SPACE(253 * sizeof(int))];
    struct init_head h = {INIT_MAGIC, INIT_STARTED, run_id, 0, 0};
    struct iovec iov = {&h, sizeof(h)};
    struct msghdr m = {.msg_iov = &iov,
                       .msg_iovlen = 1,
                       .msg_control = control,
                       .msg_controllen = CMSG_SPACE((size_t)n * sizeof(int))};
    struct cmsghdr *c = CMSG_FIRSTHDR(&m);

    c->cmsg_level = SOL_SOCKET;
    c->cmsg_type = SCM_RIGHTS;
    c->cmsg_len = CMSG_LEN((size_t)n * sizeof(int));
    for (int i = 0; i < n; i++)
        memcpy(CMSG_DATA(c) + (size_t)i * sizeof(int), &fd, sizeof(fd));
    return sendmsg(INIT_SOCKET_FD, &m, MSG_NOSIGNAL) < 0 ? errno : 0;
}

/* A socket whose last close waits for minutes, wherever that happens. */
static int
lingering(void)
{
    struct sockaddr_in at = {.sin_family = AF_INET,
                             .sin_addr = {htonl(INADDR_LOOPBACK)}};
    socklen_t n = sizeof(at);
    struct linger wait = {1, 600};
    int listener = socket(AF_INET, SOCK_STREAM, 0);
    int fd = socket(AF_INET, SOCK_STREAM, 0);

    bind(listener, (struct sockaddr *)&at, n);
    listen(listener, 1);
    getsockname(listener, (struct sockaddr *)&at, &n);
    connect(fd, (struct sockaddr *)&at, n);
    setsockopt(fd, SOL_SOCKET, SO_LINGER, &wait, sizeof(wait));
    while (send(fd, packet, sizeof(packet), MSG_DONTWAIT) > 0)
        ;
    return fd;
}

static void
misbehave(const char *how)
{
    struct init_head bad = {0x12345678, INIT_STARTED, run_id, 0, 0};

    if (strcmp(how, "short") == 0)
        say_bytes(&bad, 10);
    else if (strcmp(how, "long") == 0)
        say_bytes(packet, 4096);
    else if (strcmp(how, "magic") == 0)
        say_bytes(&bad, sizeof(bad));
    else if (strcmp(how, "type") == 0)
        say(INIT_ARM, run_id, 0, 0);
    else if (strcmp(how, "values") == 0)
        say(INIT_EXITED, run_id, 9999, -7);
    else if (strcmp(how, "exits") == 0)
        _exit(3);
    else if (strcmp(how, "no_run") == 0)
        say(INIT_EXITED, 0, 0, 0);
    else if (strcmp(how, "other_runs") == 0)
        for (uint32_t id = 1; id < 100000; id++)
            say(INIT_EXITED, id == run_id ? 1 << 20 : id, 0, 0);
    else if (strcmp(how, "flood") == 0)
        for (;;)
            say(INIT_PUT_DONE, 1 << 20, 0, 0);
    else if (strcmp(how, "descriptors") == 0)
        for (int i = 0; i < 100; i++)
            (void)(say_with(0, 8), say_with(0, 253));
    else if (strcmp(how, "lingers") == 0) {
        int fd = lingering();
        (void)say_with(fd, 1);
        close(fd);
    }
    /* What did not end it ends with a silence: nothing is read any more. */
    for (;;)
        pause();
}

static void
run(void)
{
    ssize_t n = read(fds[3], script, sizeof(script) - 1);

    if (n <= 0)
        return;
    script[n] = 0;
    char *how = strstr(script, "HOSTILE ");
    if (how != NULL) {
        how += strlen("HOSTILE ");
        how[strspn(how, "abcdefghijklmnopqrstuvwxyz_")] = 0;
        misbehave(how);
    }
    pid_t pid = fork();
    if (pid == 0) {
        for (int i = 0; i < 3; i++)
            dup2(fds[i], i);
        close_range(3, ~0U, 0);
        execl("/bin/sh", "sh", "-c", script, (char *)NULL);
        _exit(127);
    }
    for (int i = 0; i < INIT_ARM_FDS; i++)
        close(fds[i]);
    fds[3] = -1;
    int status;
    while (waitpid(pid, &status, 0) != pid)
        ;
    say(INIT_EXITED, run_id, WEXITSTATUS(status), 0);
}

static void
hear(void)
{
    static char control[CMSG_SPACE(INIT_ARM_FDS * sizeof(int))];
    struct iovec iov = {packet, INIT_PACKET_MAX};
    struct msghdr m = {.msg_iov = &iov,
                       .msg_iovlen = 1,
                       .msg_control = control,
                       .msg_controllen = sizeof(control)};
    struct init_head h;

    if (recvmsg(INIT_SOCKET_FD, &m, 0) <= 0)
        _exit(0);
    memcpy(&h, packet, sizeof(h));
    if (h.type == INIT_PUT)
        say(INIT_PUT_DONE, h.run_id, 0, 0);
    if (h.type != INIT_ARM)
        return;
    memcpy(fds, CMSG_DATA(CMSG_FIRSTHDR(&m)), sizeof(fds));
    run_id = h.run_id;
    say(INIT_STARTED, run_id, 0, 0);
}

int
main(void)
{
    setenv("PATH", "/usr/bin:/bin", 1);
    for (;;) {
        struct pollfd p[2] = {{INIT_SOCKET_FD, POLLIN, 0}, {fds[3], POLLIN, 0}};

        poll(p, 2, -1);
        if (p[1].revents != 0)
            run();
        else if (p[0].revents != 0)
            hear();
    }
}
