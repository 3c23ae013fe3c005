/*
 * A captured connection. Its original destination is looked up among the names
 * that were issued; its first bytes say whether it is TLS, and then the server
 * name must be the issued one; egress is told who it is by a PROXY header; from
 * there on bytes are copied both ways, each way with one buffer, and each end
 * that is closed is closed on the other side.
 *
 * Whatever does not fit is reset, so that the program in the sandbox sees a
 * refusal and not an empty answer.
 */
#include "sandbox_svc/bridge_conn.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/netfilter_ipv4.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "lib/err.h"
#include "lib/log.h"
#include "lib/without.h"
#include "sandbox_svc/bridge_hello.h"
#include "sandbox_svc/bridge_http.h"
#include "sandbox_svc/fdpass.h"

#define FLOW_BYTES 32768
/* Until the first bytes have told what it is, and egress has taken it. */
#define HELLO_TIMEOUT_MS 10000
#define CONNECT_RETRY_MS 20
/* Rounds of copying before others get their turn. */
#define ROUNDS 16

struct side {
    struct ag_io io;
    uint32_t interest;
    bool is_watched;
    bool has_ended; /* no more will be read */
    bool is_shut;   /* no more will be written */
};

struct flow {
    char *buf;
    size_t off, n;
};

enum state { STATE_HELLO, STATE_CONNECTING, STATE_FLOW };

struct bridge_conn {
    struct bridge_conn *next, **prev;
    struct bridge_sandbox *sb;
    enum state state;
    struct side inside, egress;
    struct flow up, down; /* up: from inside to egress */
    struct ag_timer deadline, retry;
    const char *name; /* that was looked up, or told to the proxy */
    char told[BRIDGE_NAME_MAX];
    bool is_tls;
    bool is_proxy; /* and nothing told to it yet */
    uint16_t port, source_port;
};

#define OF(member, p) \
    ((struct bridge_conn *)((char *)(p)-offsetof(struct bridge_conn, member)))

static struct ag_loop *
loop_of(const struct bridge_conn *c)
{
    return c->sb->bridge->loop;
}

static void
side_close(struct bridge_conn *c, struct side *s)
{
    if (s->is_watched)
        ag_io_stop(loop_of(c), &s->io);
    s->is_watched = false;
    ag_closep(&s->io.fd);
    s->io.fd = -1;
}

static void
conn_free(struct bridge_conn *c)
{
    struct bridge_sandbox *sb = c->sb;

    ag_timer_stop(loop_of(c), &c->deadline);
    ag_timer_stop(loop_of(c), &c->retry);
    side_close(c, &c->inside);
    side_close(c, &c->egress);
    ag_freep(&c->up.buf);
    ag_freep(&c->down.buf);
    *c->prev = c->next;
    if (c->next != NULL)
        c->next->prev = c->prev;
    sb->n_conns--;
    sb->bridge->n_connections--;
    ag_freep(&c);
    bridge_sandbox_resume(sb);
}

void
bridge_conn_abort(struct bridge_conn *c)
{
    const struct linger reset = {1, 0};

    (void)setsockopt(c->inside.io.fd, SOL_SOCKET, SO_LINGER, &reset,
                     sizeof(reset));
    conn_free(c);
}

static void
refuse(struct bridge_conn *c, const char *why)
{
    bridge_sandbox_refused(c->sb, why, c->name == NULL ? "" : c->name);
    bridge_conn_abort(c);
}

static void
set_interest(struct bridge_conn *c, struct side *s, uint32_t events)
{
    struct ag_err err = AG_ERR_INIT;
    int rc = 0;

    if (s->is_watched && s->interest == events)
        return;
    s->interest = events;
    /* epoll reports a hang-up whether asked or not: a side that nothing is
     * wanted of is not watched, or it would be reported without end. */
    if (events == 0 && s->is_watched) {
        ag_io_stop(loop_of(c), &s->io);
        s->is_watched = false;
    } else if (events != 0 && !s->is_watched) {
        rc = ag_io_start(loop_of(c), &s->io, events, &err);
        s->is_watched = rc == 0;
    } else if (events != 0) {
        rc = ag_io_change(loop_of(c), &s->io, events, &err);
    }
    if (rc < 0)
        ag_log(AG_ERROR, "connection.failed", AG_E(&err));
}

/* ---- copying --------------------------------------------------------- */

/* Read if there is room, write what is there. Returns 1 when something moved,
 * 0 when nothing can now, -1 when the connection is broken. */
static int
flow_step(struct flow *f, struct side *from, struct side *to)
{
    int moved = 0;

    if (f->n == 0 && !from->has_ended) {
        ssize_t n = recv(from->io.fd, f->buf, FLOW_BYTES, MSG_DONTWAIT);
        if (n < 0 && errno != EAGAIN && errno != EINTR)
            return -1;
        from->has_ended = n == 0;
        f->off = 0;
        f->n = n > 0 ? (size_t)n : 0;
        moved = n >= 0;
    }
    if (f->n > 0) {
        ssize_t n =
            send(to->io.fd, f->buf + f->off, f->n, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (n < 0 && errno != EAGAIN && errno != EINTR)
            return -1;
        if (n > 0) {
            f->off += (size_t)n;
            f->n -= (size_t)n;
            moved = 1;
        }
    }
    if (from->has_ended && f->n == 0 && !to->is_shut) {
        (void)shutdown(to->io.fd, SHUT_WR);
        to->is_shut = true;
    }
    return moved;
}

static uint32_t
interest_of(const struct side *s, const struct flow *from_it,
            const struct flow *to_it)
{
    return (!s->has_ended && from_it->n == 0 ? (uint32_t)EPOLLIN : 0)
           | (to_it->n > 0 ? (uint32_t)EPOLLOUT : 0);
}

static void
copy(struct bridge_conn *c)
{
    for (int i = 0; i < ROUNDS; i++) {
        int a = flow_step(&c->up, &c->inside, &c->egress);
        int b = a < 0 ? -1 : flow_step(&c->down, &c->egress, &c->inside);
        if (b < 0) {
            bridge_conn_abort(c);
            return;
        }
        if (a == 0 && b == 0)
            break;
    }
    if (c->inside.is_shut && c->egress.is_shut) {
        conn_free(c);
        return;
    }
    ag_timer_start(loop_of(c), &c->deadline, c->sb->bridge->idle_ms);
    set_interest(c, &c->inside, interest_of(&c->inside, &c->up, &c->down));
    set_interest(c, &c->egress, interest_of(&c->egress, &c->down, &c->up));
}

/* ---- towards egress -------------------------------------------------- */

void
bridge_proxy_header(const unsigned char address[16], uint16_t source_port,
                    uint16_t port, unsigned char out[BRIDGE_PROXY_HEADER])
{
    static const unsigned char head[16] = {0x0d,
                                           0x0a,
                                           0x0d,
                                           0x0a,
                                           0x00,
                                           0x0d,
                                           0x0a,
                                           0x51,
                                           0x55,
                                           0x49,
                                           0x54,
                                           0x0a,
                                           0x21 /* v2, PROXY */,
                                           0x21 /* TCP over IPv6 */,
                                           0,
                                           36};

    memcpy(out, head, sizeof(head));
    memcpy(out + 16, address, 16);
    memset(out + 32, 0, 16);
    out[32] = 0xfd;
    out[47] = 1;
    out[48] = (unsigned char)(source_port >> 8);
    out[49] = (unsigned char)source_port;
    out[50] = (unsigned char)(port >> 8);
    out[51] = (unsigned char)port;
}

static void
on_egress(struct ag_io *io, uint32_t events)
{
    (void)events;
    copy(OF(egress.io, io));
}

/* A socket that was just connected takes the header in one piece. */
static void
begin_flow(struct bridge_conn *c)
{
    unsigned char header[BRIDGE_PROXY_HEADER];

    bridge_proxy_header(c->sb->address, c->source_port, c->port, header);
    if (send(c->egress.io.fd, header, sizeof(header),
             MSG_NOSIGNAL | MSG_DONTWAIT)
        != (ssize_t)sizeof(header)) {
        refuse(c, "egress does not take the connection");
        return;
    }
    c->state = STATE_FLOW;
    c->down.buf = ag_xmalloc(FLOW_BYTES);
    ag_log(AG_DEBUG, "connection.opened", AG_S("sandbox", c->sb->id),
           AG_S("name", c->name), AG_I("port", c->port),
           AG_B("is_tls", c->is_tls));
    copy(c);
}

static void
connect_egress(struct bridge_conn *c)
{
    struct ag_err err = AG_ERR_INIT;
    const struct bridge *b = c->sb->bridge;

    c->state = STATE_CONNECTING;
    set_interest(c, &c->inside, 0);
    int fd = fdpass_connect(c->is_tls ? b->egress_tls : b->egress_plain,
                            SOCK_STREAM, &err);
    if (fd < 0 && err.sys == EAGAIN) {
        /* Its queue is full; the deadline ends the trying. */
        ag_timer_start(loop_of(c), &c->retry, CONNECT_RETRY_MS);
        return;
    }
    if (fd < 0) {
        refuse(c, err.msg);
        return;
    }
    c->egress.io = (struct ag_io){.fn = on_egress, .fd = fd};
    begin_flow(c);
}

static void
on_retry(struct ag_timer *t)
{
    connect_egress(OF(retry, t));
}

/* ---- the first bytes ------------------------------------------------- */

static bool
send_all(struct bridge_conn *c, const char *text)
{
    return send(c->inside.io.fd, text, strlen(text),
                MSG_NOSIGNAL | MSG_DONTWAIT)
           == (ssize_t)strlen(text);
}

/* The request line names where the connection goes. What CONNECT was said with
 * is taken off; an absolute form goes on as it is. False when there is nothing
 * to decide yet, or the connection is gone. */
static bool
listen_to_proxy(struct bridge_conn *c)
{
    struct bridge_http_head head;
    enum bridge_http rc = bridge_http_proxy(c->up.buf, c->up.n, &head);

    if (rc == BRIDGE_HTTP_MORE && !c->inside.has_ended)
        return false;
    if (rc != BRIDGE_HTTP_OK) {
        (void)send_all(c, "HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n"
                          "Connection: close\r\n\r\n");
        bridge_sandbox_refused(c->sb, "not a request to a proxy", "");
        conn_free(c);
        return false;
    }
    snprintf(c->told, sizeof(c->told), "%s", head.name);
    c->name = c->told;
    c->port = head.port;
    c->is_proxy = false;
    if (!head.is_connect)
        return true;
    if (!send_all(c, "HTTP/1.1 200 Connection established\r\n\r\n")) {
        refuse(c, "the program does not read");
        return false;
    }
    c->up.n -= head.n;
    memmove(c->up.buf, c->up.buf + head.n, c->up.n);
    return c->up.n > 0;
}

/* Is the first request for the name that was looked up? */
static bool
host_agrees(struct bridge_conn *c)
{
    struct bridge_http_head head;

    switch (bridge_http_host(c->up.buf, c->up.n, &head)) {
    case BRIDGE_HTTP_MORE:
        if (c->inside.has_ended)
            refuse(c, "ended before it said what it is");
        return false;
    case BRIDGE_HTTP_BAD:
        refuse(c, "neither TLS nor an HTTP request with a host");
        return false;
    case BRIDGE_HTTP_OK:
        break;
    }
    if (strcmp(head.name, c->name) != 0) {
        refuse(c, "Host differs from the name looked up");
        return false;
    }
    return true;
}

/* `c` may be freed when it returns. */
static void
decide(struct bridge_conn *c)
{
    char sni[BRIDGE_NAME_MAX];

    if (c->is_proxy && !listen_to_proxy(c))
        return;
    switch (bridge_hello_parse(c->up.buf, c->up.n, sni)) {
    case BRIDGE_HELLO_MORE:
        if (c->inside.has_ended)
            refuse(c, "ended before it said what it is");
        return;
    case BRIDGE_HELLO_BAD:
        refuse(c, "TLS without a server name");
        return;
    case BRIDGE_HELLO_NAME:
        if (strcmp(sni, c->name) != 0 && !ag_without("bridge_sni")) {
            refuse(c, "server name differs from the name looked up");
            return;
        }
        c->is_tls = true;
        break;
    case BRIDGE_HELLO_PLAIN:
        if (!ag_without("bridge_host") && !host_agrees(c))
            return;
        break;
    }
    connect_egress(c);
}

static void
read_hello(struct bridge_conn *c)
{
    ssize_t n = recv(c->inside.io.fd, c->up.buf + c->up.n, FLOW_BYTES - c->up.n,
                     MSG_DONTWAIT);

    if (n < 0) {
        if (errno != EAGAIN && errno != EINTR)
            bridge_conn_abort(c);
        return;
    }
    c->inside.has_ended = n == 0;
    c->up.n += (size_t)n;
    decide(c);
}

static void
on_inside(struct ag_io *io, uint32_t events)
{
    struct bridge_conn *c = OF(inside.io, io);

    (void)events;
    if (c->state == STATE_HELLO)
        read_hello(c);
    else if (c->state == STATE_FLOW)
        copy(c);
}

static void
on_deadline(struct ag_timer *t)
{
    struct bridge_conn *c = OF(deadline, t);

    refuse(c,
           c->state == STATE_FLOW ? "idle for too long" : "not begun in time");
}

/* Where it was meant to go, from the connection tracking of its namespace. */
static int
find_destination(struct bridge_conn *c)
{
    struct sockaddr_in to, from;
    socklen_t n = sizeof(to), m = sizeof(from);

    if (getsockopt(c->inside.io.fd, SOL_IP, SO_ORIGINAL_DST, &to, &n) < 0
        || getpeername(c->inside.io.fd, (struct sockaddr *)&from, &m) < 0)
        return -1;
    c->name = bridge_sandbox_name(c->sb, ntohl(to.sin_addr.s_addr));
    c->is_proxy = ntohl(to.sin_addr.s_addr) == BRIDGE_PROXY_ADDRESS;
    c->port = ntohs(to.sin_port);
    c->source_port = ntohs(from.sin_port);
    return c->name == NULL && !c->is_proxy ? -1 : 0;
}

void
bridge_conn_start(struct bridge_sandbox *sb, int fd)
{
    struct bridge_conn *c = ag_xcalloc(1, sizeof(*c));
    const int one = 1;

    c->sb = sb;
    c->inside.io = (struct ag_io){.fn = on_inside, .fd = fd};
    c->egress.io.fd = -1;
    c->deadline.fn = on_deadline;
    c->retry.fn = on_retry;
    c->next = sb->conns;
    c->prev = &sb->conns;
    if (c->next != NULL)
        c->next->prev = &c->next;
    sb->conns = c;
    sb->n_conns++;
    sb->bridge->n_connections++;
    if (find_destination(c) < 0) {
        refuse(c, "address was never issued");
        return;
    }
    (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
    c->up.buf = ag_xmalloc(FLOW_BYTES);
    ag_timer_start(loop_of(c), &c->deadline, HELLO_TIMEOUT_MS);
    set_interest(c, &c->inside, EPOLLIN);
}
