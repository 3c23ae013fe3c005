/* Addresses of destinations, for the vault's bridge. On the loop, but for the
 * look-up itself. */
#include "vault_svc/bridge_dial.h"

#include <arpa/inet.h>
#include <errno.h>
#include <ifaddrs.h>
#include <netdb.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "lib/net.h"

bool
bridge_dial_fixed(const struct vault_destination *d,
                  struct bridge_addresses *out)
{
    struct sockaddr_in to = {.sin_family = AF_INET};
    char ip[INET_ADDRSTRLEN];
    ag_str_t port = ag_str(d->address), host;
    int64_t n;

    if (d->address == NULL || !ag_str_cut(&port, ':', &host)
        || host.n >= sizeof(ip) || ag_str_i64(port, &n) < 0)
        return false;
    memcpy(ip, host.p, host.n);
    ip[host.n] = '\0';
    to.sin_port = htons((uint16_t)n);
    if (inet_pton(AF_INET, ip, &to.sin_addr) != 1)
        return false;
    memset(out, 0, sizeof(*out));
    memcpy(&out->v[out->n++], &to, sizeof(to));
    return true;
}

/* ---- look-up --------------------------------------------------------- */

static void
on_thread(struct ag_job *job)
{
    struct bridge_lookup *l = (struct bridge_lookup *)job;
    const struct addrinfo hints = {.ai_socktype = SOCK_STREAM,
                                   .ai_flags = AI_NUMERICSERV};
    struct addrinfo *all;
    char port[8];

    snprintf(port, sizeof(port), "%d", l->port);
    int rc = getaddrinfo(l->host, port, &hints, &all);
    if (rc != 0) {
        ag_err_set(&l->err, AG_ERR_NOT_FOUND, "%s is not resolved: %s", l->host,
                   gai_strerror(rc));
        return;
    }
    for (struct addrinfo *a = all;
         a != NULL && l->found.n < BRIDGE_ADDRESSES_MAX; a = a->ai_next)
        memcpy(&l->found.v[l->found.n++], a->ai_addr, a->ai_addrlen);
    freeaddrinfo(all);
}

static int
vet(const struct bridge_lookup *l, struct ag_err *err)
{
    struct ifaddrs *own;
    int rc = 0;

    if (getifaddrs(&own) < 0)
        return ag_err_sys(err, "getifaddrs");
    for (int i = 0; i < l->found.n && rc == 0; i++) {
        const struct sockaddr *sa = (const struct sockaddr *)&l->found.v[i];
        if (!ag_address_is_public(sa) || ag_address_is_own(sa, own))
            rc = ag_err_set(err, AG_ERR_DENIED,
                            "%s leads to an address that is not on the open "
                            "internet; deployment.conf fixes such a one with "
                            "address=IP:PORT",
                            l->host);
    }
    freeifaddrs(own);
    return rc;
}

static void
on_found(struct ag_job *job)
{
    struct bridge_lookup *l = (struct bridge_lookup *)job;

    if (l->fn != NULL) {
        if (l->err.kind == AG_ERR_NONE)
            (void)vet(l, &l->err);
        bool ok = l->err.kind == AG_ERR_NONE;
        l->fn(l->arg, ok ? &l->found : NULL, ok ? NULL : &l->err);
    }
    free(l);
}

struct bridge_lookup *
bridge_dial_lookup(struct ag_workq *q, const struct vault_destination *d,
                   void (*fn)(void *, const struct bridge_addresses *,
                              const struct ag_err *),
                   void *arg, struct ag_err *err)
{
    struct bridge_lookup *l = ag_xcalloc(1, sizeof(*l));

    l->job.work = on_thread;
    l->job.done = on_found;
    l->fn = fn;
    l->arg = arg;
    l->port = d->port;
    snprintf(l->host, sizeof(l->host), "%s", d->host);
    if (ag_workq_submit(q, &l->job, err) == 0)
        return l;
    free(l);
    return NULL;
}

void
bridge_dial_forget(struct bridge_lookup *l)
{
    if (l != NULL)
        l->fn = NULL;
}

/* ---- connecting ------------------------------------------------------ */

int
bridge_dial_connect(const struct sockaddr_storage *to, struct ag_err *err)
{
    const int one = 1;
    int fd =
        socket(to->ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

    if (fd < 0)
        return ag_err_sys(err, "socket");
    (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
    socklen_t n = to->ss_family == AF_INET ? sizeof(struct sockaddr_in)
                                           : sizeof(struct sockaddr_in6);
    if (connect(fd, (const struct sockaddr *)to, n) < 0
        && errno != EINPROGRESS) {
        ag_err_sys(err, "connect");
        close(fd);
        return -1;
    }
    return fd;
}
