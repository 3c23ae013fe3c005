/*
 * Names and captured connections of one sandbox, for bridge.c. A name gets an
 * address of 198.18.0.0/15 that means it in this sandbox only; an address that
 * was never given out leads nowhere.
 */
#include "sandbox_svc/bridge_sandbox.h"

#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "lib/err.h"
#include "lib/log.h"
#include "sandbox_svc/bridge_conn.h"

/* 198.18.1.0: the first address that is given out. */
#define FIRST_ADDRESS 0xc6120100u
#define QUERIES_AT_ONCE 32
#define ACCEPTS_AT_ONCE 16
#define REFUSALS_LOGGED 20

#define OF_TCP(io)                                                          \
    ((struct bridge_sandbox *)((char *)(io)-offsetof(struct bridge_sandbox, \
                                                     tcp)))
#define OF_UDP(io)                                                          \
    ((struct bridge_sandbox *)((char *)(io)-offsetof(struct bridge_sandbox, \
                                                     udp)))

struct bridge_sandbox *
bridge_sandbox_find(struct bridge *bridge, const char *id)
{
    struct bridge_sandbox *sb = bridge->sandboxes;

    while (sb != NULL && strcmp(sb->id, id) != 0)
        sb = sb->next;
    return sb;
}

void
bridge_sandbox_refused(struct bridge_sandbox *sb, const char *why,
                       const char *name)
{
    if (sb->n_refusals_logged++ < REFUSALS_LOGGED)
        ag_log(AG_INFO, "connection.refused", AG_S("sandbox", sb->id),
               AG_S("reason", why), AG_S("name", name));
}

/* ---- names ----------------------------------------------------------- */

const char *
bridge_sandbox_name(const struct bridge_sandbox *sb, uint32_t address)
{
    uint32_t i = address - FIRST_ADDRESS;

    return i < (uint32_t)sb->n_names ? sb->names[i] : NULL;
}

/* The address of `name`, given out now if need be; 0 when all are. */
static uint32_t
address_of(struct bridge_sandbox *sb, const char *name)
{
    if (strcmp(name, BRIDGE_PROXY_NAME) == 0)
        return BRIDGE_PROXY_ADDRESS;
    for (int i = 0; i < sb->n_names; i++)
        if (strcmp(sb->names[i], name) == 0)
            return FIRST_ADDRESS + (uint32_t)i;
    if (sb->n_names == BRIDGE_NAMES_MAX)
        return 0;
    sb->names[sb->n_names] = ag_str_dup(ag_str(name));
    return FIRST_ADDRESS + (uint32_t)sb->n_names++;
}

static size_t
answer_query(struct bridge_sandbox *sb, const void *packet, size_t n,
             unsigned char *out)
{
    struct bridge_dns_query q;
    uint32_t address = 0;
    int code = bridge_dns_parse(packet, n, &q);

    if (code < 0)
        return 0;
    if (code == BRIDGE_DNS_OK && q.type == BRIDGE_DNS_A) {
        address = address_of(sb, q.name);
        if (address == 0)
            code = BRIDGE_DNS_SERVFAIL;
    }
    return bridge_dns_answer(packet, &q, (enum bridge_dns_code)code, address,
                             out);
}

static void
on_query(struct ag_io *io, uint32_t events)
{
    struct bridge_sandbox *sb = OF_UDP(io);
    unsigned char packet[BRIDGE_DNS_MAX + 1], out[BRIDGE_DNS_MAX];
    struct sockaddr_storage from;

    (void)events;
    for (int i = 0; i < QUERIES_AT_ONCE; i++) {
        socklen_t from_n = sizeof(from);
        ssize_t n = recvfrom(io->fd, packet, sizeof(packet), MSG_DONTWAIT,
                             (struct sockaddr *)&from, &from_n);
        if (n < 0)
            return;
        size_t out_n = answer_query(sb, packet, (size_t)n, out);
        if (out_n > 0)
            (void)sendto(io->fd, out, out_n, MSG_DONTWAIT,
                         (struct sockaddr *)&from, from_n);
    }
}

/* ---- connections ----------------------------------------------------- */

static void
set_accepting(struct bridge_sandbox *sb, bool is_accepting)
{
    struct ag_err err = AG_ERR_INIT;

    if (sb->is_accepting == is_accepting)
        return;
    if (ag_io_change(sb->bridge->loop, &sb->tcp, is_accepting ? EPOLLIN : 0,
                     &err)
        < 0)
        ag_log(AG_ERROR, "accept.failed", AG_S("sandbox", sb->id), AG_E(&err));
    sb->is_accepting = is_accepting;
}

static bool
has_room(const struct bridge_sandbox *sb)
{
    return sb->n_conns < BRIDGE_CONNS_PER_SANDBOX
           && sb->bridge->n_connections < sb->bridge->max_connections;
}

void
bridge_sandbox_resume(struct bridge_sandbox *sb)
{
    if (has_room(sb))
        set_accepting(sb, true);
    if (!sb->bridge->is_full)
        return;
    sb->bridge->is_full = false;
    for (sb = sb->bridge->sandboxes; sb != NULL; sb = sb->next)
        if (has_room(sb))
            set_accepting(sb, true);
}

static void
pause_accepting(struct bridge_sandbox *sb, const char *why)
{
    bridge_sandbox_refused(sb, why, "");
    set_accepting(sb, false);
    sb->bridge->is_full =
        sb->bridge->is_full || sb->n_conns < BRIDGE_CONNS_PER_SANDBOX;
}

static void
on_accept(struct ag_io *io, uint32_t events)
{
    struct bridge_sandbox *sb = OF_TCP(io);

    (void)events;
    for (int i = 0; i < ACCEPTS_AT_ONCE; i++) {
        if (!has_room(sb)) {
            pause_accepting(sb, "too many connections");
            return;
        }
        int fd = accept4(io->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
        if (fd < 0 && (errno == EMFILE || errno == ENFILE))
            pause_accepting(sb, "no descriptors left");
        if (fd < 0)
            return;
        bridge_conn_start(sb, fd);
    }
}

/* ---- life ------------------------------------------------------------ */

struct bridge_sandbox *
bridge_sandbox_new(struct bridge *bridge, const char *id,
                   const unsigned char address[16], int tcp, int udp,
                   struct ag_err *err)
{
    struct bridge_sandbox *sb = ag_xcalloc(1, sizeof(*sb));

    snprintf(sb->id, sizeof(sb->id), "%s", id);
    memcpy(sb->address, address, 16);
    sb->bridge = bridge;
    sb->tcp = (struct ag_io){.fn = on_accept, .fd = tcp};
    sb->udp = (struct ag_io){.fn = on_query, .fd = udp};
    sb->is_accepting = true;
    sb->next = bridge->sandboxes;
    bridge->sandboxes = sb;
    if (ag_io_start(bridge->loop, &sb->tcp, EPOLLIN, err) < 0
        || ag_io_start(bridge->loop, &sb->udp, EPOLLIN, err) < 0) {
        bridge_sandbox_free(sb);
        return NULL;
    }
    return sb;
}

void
bridge_sandbox_free(struct bridge_sandbox *sb)
{
    struct bridge_sandbox **at = &sb->bridge->sandboxes;

    while (*at != sb)
        at = &(*at)->next;
    *at = sb->next;
    while (sb->conns != NULL)
        bridge_conn_abort(sb->conns);
    ag_io_stop(sb->bridge->loop, &sb->tcp);
    ag_io_stop(sb->bridge->loop, &sb->udp);
    ag_closep(&sb->tcp.fd);
    ag_closep(&sb->udp.fd);
    for (int i = 0; i < sb->n_names; i++)
        ag_freep(&sb->names[i]);
    ag_freep(&sb);
}
