/*
 * Talks to vault_keeper over its SEQPACKET socket. A request that is not
 * answered in two seconds breaks the connection and fails all that wait.
 */
#include "vault_svc/vault_keeper.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

enum { PENDING_MAX = 1024, TIMEOUT_MS = 2000 };

struct pending {
    struct ag_task task; /* for what fails at once */
    struct pending *next;
    vault_keeper_done *done;
    void *arg;
    struct ag_err err;
};

struct vault_keeper {
    struct ag_loop *loop;
    char *path;
    struct ag_io io;
    struct ag_timer timer;
    struct pending *head, **tail;
    size_t n;
};

static int
connect_to(const char *path, int flags, struct ag_err *err)
{
    struct sockaddr_un to = {.sun_family = AF_UNIX};
    size_t n = strlen(path);

    if (n >= sizeof(to.sun_path))
        return ag_err_set(err, AG_ERR_INVALID, "keeper: %s is too long", path);
    memcpy(to.sun_path, path, n);
    int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | flags, 0);
    if (fd < 0)
        return ag_err_sys(err, "socket");
    if (connect(fd, (struct sockaddr *)&to, sizeof(to)) < 0) {
        int why = errno;
        close(fd);
        return ag_err_set(err, AG_ERR_UNAVAILABLE, "keeper at %s: %s", path,
                          strerror(why));
    }
    return fd;
}

static int
check_reply(enum keeper_op op, const struct keeper_msg *msg, struct ag_err *err)
{
    if (msg->op != op)
        return ag_err_set(err, AG_ERR_INTERNAL,
                          "the keeper answered another request");
    if (msg->status == KEEPER_CORRUPT)
        return ag_err_set(err, AG_ERR_CORRUPT,
                          "the keeper's master key does not open this data");
    if (msg->status != KEEPER_OK)
        return ag_err_set(err, AG_ERR_INTERNAL,
                          "the keeper refused operation %d with status %d",
                          (int)op, msg->status);
    return 0;
}

int
vault_keeper_ask_now(const char *path, enum keeper_op op, ag_str_t a,
                     ag_str_t b, struct ag_buf *a_out, struct ag_buf *b_out,
                     struct ag_err *err)
{
    AG_AUTO(ag_buf_wipe) struct ag_buf out = AG_BUF_INIT(KEEPER_MSG_MAX);
    struct timeval wait = {TIMEOUT_MS / 1000, 0};
    struct keeper_msg req = {.op = (uint16_t)op, .a = a, .b = b}, reply;
    char raw[KEEPER_MSG_MAX];

    AG_AUTO(ag_closep) int fd = connect_to(path, 0, err);
    if (fd < 0 || keeper_msg_encode(&req, &out, err) < 0)
        return -1;
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &wait, sizeof(wait));
    if (send(fd, out.p, out.n, MSG_NOSIGNAL) != (ssize_t)out.n)
        return ag_err_set(err, AG_ERR_UNAVAILABLE, "keeper at %s: %s", path,
                          strerror(errno));
    ssize_t n = recv(fd, raw, sizeof(raw), 0);
    if (n <= 0)
        return ag_err_set(err, AG_ERR_UNAVAILABLE,
                          "keeper at %s does not answer (is this the user "
                          "that it expects?)",
                          path);
    int rc = keeper_msg_decode(ag_str_n(raw, (size_t)n), &reply, err);
    if (rc == 0)
        rc = check_reply(op, &reply, err);
    if (rc == 0)
        rc = ag_buf_append(a_out, reply.a, err);
    if (rc == 0 && b_out != NULL)
        rc = ag_buf_append(b_out, reply.b, err);
    explicit_bzero(raw, sizeof(raw));
    return rc;
}

static struct pending *
shift(struct vault_keeper *k)
{
    struct pending *p = k->head;
    if (p == NULL)
        return NULL;
    k->head = p->next;
    if (k->head == NULL)
        k->tail = &k->head;
    k->n--;
    return p;
}

static void
disconnect(struct vault_keeper *k)
{
    if (k->io.fd < 0)
        return;
    ag_io_stop(k->loop, &k->io);
    close(k->io.fd);
    k->io.fd = -1;
}

/* Whoever waits gets the error; their callbacks may ask again. */
static void
break_off(struct vault_keeper *k, const struct ag_err *err)
{
    struct pending *list = k->head, *p;

    disconnect(k);
    ag_timer_stop(k->loop, &k->timer);
    k->head = NULL;
    k->tail = &k->head;
    k->n = 0;
    while ((p = list) != NULL) {
        list = p->next;
        p->done(p->arg, NULL, err);
        free(p);
    }
}

static void
on_timeout(struct ag_timer *timer)
{
    struct vault_keeper *k =
        (struct vault_keeper *)(void *)((char *)timer
                                        - offsetof(struct vault_keeper, timer));
    struct ag_err err = {AG_ERR_UNAVAILABLE, 0, "the keeper does not answer"};
    break_off(k, &err);
}

static void
on_event(struct ag_io *io, uint32_t events)
{
    struct vault_keeper *k =
        (struct vault_keeper *)(void *)((char *)io
                                        - offsetof(struct vault_keeper, io));
    struct ag_err err = AG_ERR_INIT;
    struct keeper_msg reply;
    char raw[KEEPER_MSG_MAX];
    (void)events;

    ssize_t n = recv(io->fd, raw, sizeof(raw), MSG_DONTWAIT);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (n <= 0 || k->head == NULL
        || keeper_msg_decode(ag_str_n(raw, (size_t)n), &reply, &err) < 0) {
        ag_err_set(&err, AG_ERR_UNAVAILABLE, "the keeper went away");
        break_off(k, &err);
        return;
    }
    struct pending *p = shift(k);
    if (k->head == NULL)
        ag_timer_stop(k->loop, &k->timer);
    else
        ag_timer_start(k->loop, &k->timer, TIMEOUT_MS);
    if (check_reply((enum keeper_op)reply.op, &reply, &err) < 0)
        p->done(p->arg, NULL, &err);
    else
        p->done(p->arg, &reply, NULL);
    explicit_bzero(raw, sizeof(raw));
    free(p);
}

static void
fail_later(struct ag_task *task)
{
    struct pending *p = (struct pending *)(void *)task;
    p->done(p->arg, NULL, &p->err);
    free(p);
}

static int
send_request(struct vault_keeper *k, const struct keeper_msg *req,
             struct ag_err *err)
{
    AG_AUTO(ag_buf_wipe) struct ag_buf out = AG_BUF_INIT(KEEPER_MSG_MAX);

    if (k->n >= PENDING_MAX)
        return ag_err_set(err, AG_ERR_UNAVAILABLE,
                          "more than %d requests wait for the keeper",
                          PENDING_MAX);
    if (keeper_msg_encode(req, &out, err) < 0)
        return -1;
    if (k->io.fd < 0) {
        k->io.fd = connect_to(k->path, SOCK_NONBLOCK, err);
        if (k->io.fd < 0)
            return -1;
        if (ag_io_start(k->loop, &k->io, EPOLLIN, err) < 0) {
            close(k->io.fd);
            k->io.fd = -1;
            return -1;
        }
    }
    if (send(k->io.fd, out.p, out.n, MSG_NOSIGNAL) == (ssize_t)out.n)
        return 0;
    return ag_err_set(err, AG_ERR_UNAVAILABLE, "keeper: %s", strerror(errno));
}

void
vault_keeper_ask(struct vault_keeper *k, enum keeper_op op, ag_str_t a,
                 ag_str_t b, vault_keeper_done *done, void *arg)
{
    struct keeper_msg req = {.op = (uint16_t)op, .a = a, .b = b};
    struct pending *p = ag_xcalloc(1, sizeof(*p));

    p->done = done;
    p->arg = arg;
    if (send_request(k, &req, &p->err) < 0) {
        /* A broken connection shows itself to those before this one. */
        p->task.fn = fail_later;
        ag_loop_post(k->loop, &p->task);
        return;
    }
    *k->tail = p;
    k->tail = &p->next;
    if (k->n++ == 0)
        ag_timer_start(k->loop, &k->timer, TIMEOUT_MS);
}

struct vault_keeper *
vault_keeper_new(struct ag_loop *loop, const char *path)
{
    struct vault_keeper *k = ag_xcalloc(1, sizeof(*k));
    k->loop = loop;
    k->path = ag_str_dup(ag_str(path));
    k->io.fn = on_event;
    k->io.fd = -1;
    k->timer.fn = on_timeout;
    k->tail = &k->head;
    return k;
}

void
vault_keeper_free(struct vault_keeper *k)
{
    struct ag_err err = {AG_ERR_CANCELLED, 0, "shutting down"};

    if (k == NULL)
        return;
    break_off(k, &err);
    free(k->path);
    free(k);
}
