/*
 * Client side of the launcher's socket. The launcher answers in any order; a
 * reply finds its request by the tag.
 */
#include "sandbox_svc/sandbox_link.h"

#include <errno.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "lib/err.h"
#include "lib/log.h"
#include "lib/unix.h"
#include "sandbox_svc/fdpass.h"

#define RETRY_MS 1000

struct pending {
    struct pending *next;
    uint64_t tag;
    uint32_t type;
    sandbox_link_done *done;
    void *arg;
};

struct sandbox_link {
    struct ag_loop *loop;
    char *path;
    struct sandbox_link_events events;
    struct ag_io io;
    struct ag_timer retry;
    bool is_up, is_closing, is_complaint_logged;
    uint64_t last_tag;
    struct pending *pending;
};

#define OF(member, p) \
    ((struct sandbox_link *)((char *)(p)-offsetof(struct sandbox_link, member)))

static void
fail_pending(struct sandbox_link *link)
{
    struct ag_err err = AG_ERR_INIT;
    struct pending *p;

    ag_err_set(&err, AG_ERR_UNAVAILABLE, "the sandbox launcher went away");
    while ((p = link->pending) != NULL) {
        link->pending = p->next;
        p->done(p->arg, NULL, NULL, &err);
        ag_freep(&p);
    }
}

static void
lost(struct sandbox_link *link)
{
    if (!link->is_up)
        return;
    link->is_up = false;
    ag_io_stop(link->loop, &link->io);
    ag_closep(&link->io.fd);
    link->io.fd = -1;
    ag_log(AG_WARN, "launcher.lost", AG_S("path", link->path));
    fail_pending(link);
    link->events.down(link->events.arg);
    if (!link->is_closing)
        ag_timer_start(link->loop, &link->retry, RETRY_MS);
}

static struct pending *
take_pending(struct sandbox_link *link, uint64_t tag)
{
    for (struct pending **at = &link->pending; *at != NULL; at = &(*at)->next) {
        struct pending *p = *at;
        if (p->tag != tag)
            continue;
        *at = p->next;
        return p;
    }
    return NULL;
}

static void
deliver(struct sandbox_link *link, const struct launcher_reply *r, int *fds,
        int n_fds)
{
    struct pending *p = take_pending(link, r->tag);
    struct ag_err err = {(enum ag_err_kind)r->error, r->sys, ""};

    if (p == NULL) {
        fdpass_close(fds, n_fds);
        return;
    }
    int want = r->error != 0                ? 0
               : p->type == LAUNCHER_CREATE ? LAUNCHER_CREATE_FDS
               : p->type == LAUNCHER_ATTACH ? 1
                                            : 0;
    if (n_fds != want) {
        fdpass_close(fds, n_fds);
        ag_err_set(&err, AG_ERR_CORRUPT, "launcher: %d descriptors", n_fds);
    } else if (err.kind != AG_ERR_NONE) {
        ag_err_set(&err, err.kind, "launcher: %s", r->text);
    }
    if (err.kind != AG_ERR_NONE)
        p->done(p->arg, NULL, NULL, &err);
    else
        p->done(p->arg, r, want > 0 ? fds : NULL, NULL);
    ag_freep(&p);
}

static void
on_readable(struct ag_io *io, uint32_t events)
{
    struct sandbox_link *link = OF(io, io);
    char packet[sizeof(struct launcher_reply) + 1];
    struct launcher_reply reply;
    struct ag_err err = AG_ERR_INIT;
    int fds[FDPASS_MAX], n_fds = 0;
    ssize_t n =
        fdpass_recv(io->fd, packet, sizeof(packet), fds, &n_fds, MSG_DONTWAIT);

    (void)events;
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (n <= 0 || launcher_reply_parse(packet, (size_t)n, &reply, &err) < 0) {
        fdpass_close(fds, n_fds);
        lost(link);
        return;
    }
    if (reply.type == LAUNCHER_REPLY)
        deliver(link, &reply, fds, n_fds);
    else
        fdpass_close(fds, n_fds);
}

static void
connect_now(struct sandbox_link *link)
{
    struct ag_err err = AG_ERR_INIT;

    link->io.fd = ag_unix_connect(link->path, SOCK_SEQPACKET, &err);
    if (link->io.fd < 0
        || ag_io_start(link->loop, &link->io, EPOLLIN, &err) < 0) {
        ag_closep(&link->io.fd);
        link->io.fd = -1;
        if (!link->is_complaint_logged)
            ag_log(AG_WARN, "launcher.unreachable", AG_E(&err));
        link->is_complaint_logged = true;
        ag_timer_start(link->loop, &link->retry, RETRY_MS);
        return;
    }
    link->is_up = true;
    link->is_complaint_logged = false;
    ag_log(AG_INFO, "launcher.connected", AG_S("path", link->path));
    link->events.up(link->events.arg);
}

static void
on_retry(struct ag_timer *timer)
{
    connect_now(OF(retry, timer));
}

struct sandbox_link *
sandbox_link_new(struct ag_loop *loop, const char *path,
                 const struct sandbox_link_events *events)
{
    struct sandbox_link *link = ag_xcalloc(1, sizeof(*link));

    link->loop = loop;
    link->path = ag_str_dup(ag_str(path));
    link->events = *events;
    link->io = (struct ag_io){.fn = on_readable, .fd = -1};
    link->retry.fn = on_retry;
    /* The first try is a timer too: its callbacks then find the service
     * complete. */
    ag_timer_start(loop, &link->retry, 0);
    return link;
}

void
sandbox_link_free(struct sandbox_link *link)
{
    if (link == NULL)
        return;
    link->is_closing = true;
    lost(link);
    ag_timer_stop(link->loop, &link->retry);
    ag_freep(&link->path);
    ag_freep(&link);
}

bool
sandbox_link_is_up(const struct sandbox_link *link)
{
    return link->is_up;
}

int
sandbox_link_send(struct sandbox_link *link, struct launcher_request *req,
                  sandbox_link_done *done, void *arg, struct ag_err *err)
{
    req->magic = LAUNCHER_MAGIC;
    req->tag = ++link->last_tag;
    if (!link->is_up
        || fdpass_send(link->io.fd, req, sizeof(*req), NULL, 0) < 0)
        return ag_err_set(err, AG_ERR_UNAVAILABLE,
                          "the sandbox launcher cannot be reached");
    struct pending *p = ag_xcalloc(1, sizeof(*p));
    *p = (struct pending){link->pending, req->tag, req->type, done, arg};
    link->pending = p;
    return 0;
}
