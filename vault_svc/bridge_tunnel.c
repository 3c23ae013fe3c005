/*
 * One tunnel: the head of CONNECT is read, its destination must stand in
 * deployment.conf, addresses are found and dialled one after the other, and
 * from there on bytes are copied. A refusal is an HTTP answer with its reason;
 * what fails later ends the connection.
 */
#include "vault_svc/bridge_tunnel.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include "lib/flow.h"
#include "lib/http_head.h"
#include "lib/log.h"
#include "vault_svc/bridge_dial.h"

enum state { STATE_HEAD, STATE_LOOKUP, STATE_DIAL, STATE_FLOW };

struct bridge_tunnel {
    struct bridge_tunnel *next, **prev;
    struct bridge_tunnels *all;
    enum state state;
    struct ag_side caller, host;
    struct ag_flow up, down; /* up: from the caller to the host */
    struct ag_timer deadline;
    struct bridge_lookup *lookup;
    struct bridge_addresses addresses;
    int n_tried;
    bool is_surplus; /* one too many: refused once it has asked */
    struct ag_http_head asked;
};

#define OF(member, p)                                                    \
    ((struct bridge_tunnel *)((char *)(p)-offsetof(struct bridge_tunnel, \
                                                   member)))

static void
tunnel_free(struct bridge_tunnel *t)
{
    struct bridge_tunnels *all = t->all;

    bridge_dial_forget(t->lookup);
    ag_timer_stop(all->loop, &t->deadline);
    ag_side_close(all->loop, &t->caller);
    ag_side_close(all->loop, &t->host);
    free(t->up.buf);
    free(t->down.buf);
    *t->prev = t->next;
    if (t->next != NULL)
        t->next->prev = t->prev;
    all->n--;
    free(t);
}

static void
refuse(struct bridge_tunnel *t, const char *status, const char *why)
{
    char out[640];
    int n = snprintf(out, sizeof(out),
                     "HTTP/1.1 %s\r\nContent-Type: text/plain\r\n"
                     "Content-Length: %zu\r\nConnection: close\r\n\r\n%s\n",
                     status, strlen(why) + 1, why);

    ag_log(AG_WARN, "tunnel.refused", AG_S("host", t->asked.name),
           AG_I("port", t->asked.port), AG_S("reason", why));
    (void)send(t->caller.io.fd, out, (size_t)n, MSG_NOSIGNAL | MSG_DONTWAIT);
    tunnel_free(t);
}

/* ---- bytes ----------------------------------------------------------- */

static void
copy(struct bridge_tunnel *t)
{
    struct ag_err err = AG_ERR_INIT;

    if (ag_flow_copy(t->all->loop, &t->caller, &t->host, &t->up, &t->down, &err)
        != AG_FLOW_OPEN) {
        tunnel_free(t);
        return;
    }
    ag_timer_start(t->all->loop, &t->deadline, t->all->idle_ms);
}

static void
begin_flow(struct bridge_tunnel *t)
{
    static const char ok[] = "HTTP/1.1 200 Connection established\r\n\r\n";

    if (send(t->caller.io.fd, ok, sizeof(ok) - 1, MSG_NOSIGNAL | MSG_DONTWAIT)
        != (ssize_t)sizeof(ok) - 1) {
        tunnel_free(t);
        return;
    }
    t->state = STATE_FLOW;
    t->down.buf = ag_xmalloc(AG_FLOW_BYTES);
    ag_log(AG_INFO, "tunnel.opened", AG_S("host", t->asked.name),
           AG_I("port", t->asked.port));
    copy(t);
}

/* ---- dialling -------------------------------------------------------- */

/* The next address, or a refusal when there is none left. */
static void
dial_next(struct bridge_tunnel *t)
{
    struct ag_err err = AG_ERR_INIT;

    ag_side_close(t->all->loop, &t->host);
    t->state = STATE_DIAL;
    while (t->n_tried < t->addresses.n) {
        t->host.io.fd =
            bridge_dial_connect(&t->addresses.v[t->n_tried++], &err);
        if (t->host.io.fd >= 0
            && ag_side_watch(t->all->loop, &t->host, EPOLLOUT, &err) == 0)
            return;
        ag_side_close(t->all->loop, &t->host);
    }
    refuse(t, "502 Bad Gateway", "no address of the host takes a connection");
}

static void
on_host(struct ag_io *io, uint32_t events)
{
    struct bridge_tunnel *t = OF(host.io, io);
    int failed = 0;
    socklen_t n = sizeof(failed);

    (void)events;
    if (t->state == STATE_FLOW) {
        copy(t);
        return;
    }
    if (getsockopt(io->fd, SOL_SOCKET, SO_ERROR, &failed, &n) < 0
        || failed != 0)
        dial_next(t);
    else
        begin_flow(t);
}

static void
on_lookup(void *arg, const struct bridge_addresses *found,
          const struct ag_err *err)
{
    struct bridge_tunnel *t = arg;

    t->lookup = NULL;
    if (found == NULL) {
        refuse(t,
               err->kind == AG_ERR_DENIED ? "403 Forbidden" : "502 Bad Gateway",
               err->msg);
        return;
    }
    t->addresses = *found;
    dial_next(t);
}

/* `t` may be freed when it returns. */
static void
open_tunnel(struct bridge_tunnel *t)
{
    struct ag_err err = AG_ERR_INIT;
    const struct vault_destination *d = vault_deployment_find(
        t->all->deployment, ag_str(t->asked.name), t->asked.port);

    if (t->is_surplus) {
        refuse(t, "503 Service Unavailable", "too many tunnels (max_tunnels)");
        return;
    }
    if (d == NULL) {
        refuse(t, "403 Forbidden",
               "the destination is not listed in deployment.conf");
        return;
    }
    if (ag_side_watch(t->all->loop, &t->caller, 0, &err) < 0) {
        refuse(t, "503 Service Unavailable", err.msg);
        return;
    }
    if (bridge_dial_fixed(d, &t->addresses)) {
        dial_next(t);
        return;
    }
    t->state = STATE_LOOKUP;
    t->lookup = bridge_dial_lookup(t->all->lookups, d, on_lookup, t, &err);
    if (t->lookup == NULL)
        refuse(t, "503 Service Unavailable", "too many look-ups wait");
}

/* ---- the head -------------------------------------------------------- */

static void
read_head(struct bridge_tunnel *t)
{
    ssize_t n = recv(t->caller.io.fd, t->up.buf + t->up.n,
                     AG_FLOW_BYTES - t->up.n, MSG_DONTWAIT);

    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (n <= 0) {
        tunnel_free(t);
        return;
    }
    t->up.n += (size_t)n;
    enum ag_http_head_rc rc = ag_http_head_proxy(t->up.buf, t->up.n, &t->asked);
    if (rc == AG_HTTP_HEAD_MORE)
        return;
    if (rc == AG_HTTP_HEAD_BAD || !t->asked.is_connect) {
        refuse(t, "400 Bad Request", "only CONNECT to a host's name and port");
        return;
    }
    t->up.off = t->asked.n;
    t->up.n -= t->asked.n;
    open_tunnel(t);
}

static void
on_caller(struct ag_io *io, uint32_t events)
{
    struct bridge_tunnel *t = OF(caller.io, io);

    (void)events;
    if (t->state == STATE_HEAD)
        read_head(t);
    else if (t->state == STATE_FLOW)
        copy(t);
}

static void
on_deadline(struct ag_timer *timer)
{
    struct bridge_tunnel *t = OF(deadline, timer);

    if (t->state == STATE_FLOW || t->state == STATE_HEAD)
        tunnel_free(t);
    else
        refuse(t, "504 Gateway Timeout", "the host did not answer in time");
}

/* ---- life ------------------------------------------------------------ */

void
bridge_tunnel_start(struct bridge_tunnels *all, int fd)
{
    struct bridge_tunnel *t = ag_xcalloc(1, sizeof(*t));
    struct ag_err err = AG_ERR_INIT;

    t->all = all;
    t->caller.io = (struct ag_io){.fn = on_caller, .fd = fd};
    t->host.io = (struct ag_io){.fn = on_host, .fd = -1};
    t->deadline.fn = on_deadline;
    t->up.buf = ag_xmalloc(AG_FLOW_BYTES);
    t->next = all->first;
    t->prev = &all->first;
    if (t->next != NULL)
        t->next->prev = &t->next;
    all->first = t;
    all->n++;
    ag_timer_start(all->loop, &t->deadline, all->begin_ms);
    t->is_surplus = all->n > all->n_max;
    if (all->n > 2 * all->n_max)
        tunnel_free(t);
    else if (ag_side_watch(all->loop, &t->caller, EPOLLIN, &err) < 0)
        refuse(t, "503 Service Unavailable", err.msg);
}

void
bridge_tunnels_end(struct bridge_tunnels *all)
{
    while (all->first != NULL)
        tunnel_free(all->first);
}
