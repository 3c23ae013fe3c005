/*
 * A connection of vault_svc through its bridge: CONNECT to a destination that
 * deployment.conf lists, a vetted dial, then bytes both ways. TLS is the
 * caller's and is not looked into.
 */
#ifndef VAULT_BRIDGE_TUNNEL_H
#define VAULT_BRIDGE_TUNNEL_H

#include "lib/workq.h"
#include "vault_svc/vault_deployment.h"

struct bridge_tunnel;

/* What tunnels share; owned by bridge.c. */
struct bridge_tunnels {
    struct ag_loop *loop;
    struct ag_workq *lookups;
    const struct vault_deployment *deployment;
    int64_t begin_ms; /* until a tunnel is open */
    int64_t idle_ms;
    int64_t n_max;
    int64_t n;
    struct bridge_tunnel *first;
};

/* Serve the connection `fd`, which becomes the tunnel's. */
void bridge_tunnel_start(struct bridge_tunnels *all, int fd);

void bridge_tunnels_end(struct bridge_tunnels *all);

#endif
