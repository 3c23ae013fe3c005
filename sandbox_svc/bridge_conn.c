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
#include "lib/flow.h"
#include "lib/http_head.h"
#include "lib/log.h"
#include "lib/without.h"
#include "lib/unix.h"
#include "sandbox_svc/bridge_hello.h"
#include "sandbox_svc/bridge_report.h"
#include "sandbox_svc/fdpass.h"

/* Until the first bytes have told what it is, and egress has taken it. */
#define HELLO_TIMEOUT_MS 10000
#define CONNECT_RETRY_MS 20

enum state { STATE_HELLO, STATE_CONNECTING, STATE_FLOW };

struct bridge_conn {
    struct bridge_conn *next, **prev;
    struct bridge_sandbox *sb;
    enum state state;
    struct ag_side inside, egress;
    struct ag_flow up, down; /* up: from inside to egress */
    struct ag_timer deadline, retry;
    const char *name; /* that was looked up, or told to the proxy */
    char told[AG_HOST_MAX];
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
conn_free(struct bridge_conn *c)
{
    struct bridge_sandbox *sb = c->sb;

    ag_timer_stop(loop_of(c), &c->deadline);
    ag_timer_stop(loop_of(c), &c->retry);
    ag_side_close(loop_of(c), &c->inside);
    ag_side_close(loop_of(c), &c->egress);
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

/* The same for what a program chose to do: the audit has a row of it. */
static void
deny(struct bridge_conn *c, const char *reason, const char *why)
{
    bridge_report(c->sb, reason, c->name == NULL ? "" : c->name, c->source_port,
                  c->port);
    refuse(c, why);
}

static void
watch_inside(struct bridge_conn *c, uint32_t events)
{
    struct ag_err err = AG_ERR_INIT;

    if (ag_side_watch(loop_of(c), &c->inside, events, &err) < 0)
        ag_log(AG_ERROR, "connection.failed", AG_E(&err));
}

static void
copy(struct bridge_conn *c)
{
    struct ag_err err = AG_ERR_INIT;

    switch (ag_flow_copy(loop_of(c), &c->inside, &c->egress, &c->up, &c->down,
                         &err)) {
    case AG_FLOW_BROKEN:
        bridge_conn_abort(c);
        return;
    case AG_FLOW_ENDED:
        conn_free(c);
        return;
    case AG_FLOW_OPEN:
        break;
    }
    ag_timer_start(loop_of(c), &c->deadline, c->sb->bridge->idle_ms);
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
    c->down.buf = ag_xmalloc(AG_FLOW_BYTES);
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
    watch_inside(c, 0);
    int fd = ag_unix_connect(c->is_tls ? b->egress_tls : b->egress_plain,
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
    struct ag_http_head head;
    enum ag_http_head_rc rc = ag_http_head_proxy(c->up.buf, c->up.n, &head);

    if (rc == AG_HTTP_HEAD_MORE && !c->inside.has_ended)
        return false;
    if (rc != AG_HTTP_HEAD_OK) {
        (void)send_all(c, "HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n"
                          "Connection: close\r\n\r\n");
        bridge_report(c->sb, "proxy_malformed", "", c->source_port, c->port);
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
    struct ag_http_head head;

    switch (ag_http_head_host(c->up.buf, c->up.n, &head)) {
    case AG_HTTP_HEAD_MORE:
        if (c->inside.has_ended)
            refuse(c, "ended before it said what it is");
        return false;
    case AG_HTTP_HEAD_BAD:
        deny(c, "protocol_unknown",
             "neither TLS nor an HTTP request with a host");
        return false;
    case AG_HTTP_HEAD_OK:
        break;
    }
    if (strcmp(head.name, c->name) != 0) {
        deny(c, "destination_mismatch", "Host differs from the name looked up");
        return false;
    }
    return true;
}

/* `c` may be freed when it returns. */
static void
decide(struct bridge_conn *c)
{
    char sni[AG_HOST_MAX];

    if (c->is_proxy && !listen_to_proxy(c))
        return;
    switch (bridge_hello_parse(c->up.buf, c->up.n, sni)) {
    case BRIDGE_HELLO_MORE:
        if (c->inside.has_ended)
            refuse(c, "ended before it said what it is");
        return;
    case BRIDGE_HELLO_BAD:
        deny(c, "name_missing", "TLS without a server name");
        return;
    case BRIDGE_HELLO_NAME:
        if (strcmp(sni, c->name) != 0 && !ag_without("bridge_sni")) {
            deny(c, "destination_mismatch",
                 "server name differs from the name looked up");
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
    ssize_t n = recv(c->inside.io.fd, c->up.buf + c->up.n,
                     AG_FLOW_BYTES - c->up.n, MSG_DONTWAIT);

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
        deny(c, "address_unknown", "address was never issued");
        return;
    }
    (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
    c->up.buf = ag_xmalloc(AG_FLOW_BYTES);
    ag_timer_start(loop_of(c), &c->deadline, HELLO_TIMEOUT_MS);
    watch_inside(c, EPOLLIN);
}
