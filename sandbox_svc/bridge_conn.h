/* One captured connection, from accept to its end. */
#ifndef SANDBOX_SVC_BRIDGE_CONN_H
#define SANDBOX_SVC_BRIDGE_CONN_H

#include "sandbox_svc/bridge_sandbox.h"

/* Take over `fd`, which was accepted for `sb`. It frees itself. */
void bridge_conn_start(struct bridge_sandbox *sb, int fd);
/* Reset both sides and free it. */
void bridge_conn_abort(struct bridge_conn *c);

#define BRIDGE_PROXY_HEADER 52
/*
 * The PROXY protocol v2 header that tells egress who connects: source is the
 * workload's address, destination port the one that was asked for.
 */
void bridge_proxy_header(const unsigned char address[16], uint16_t source_port,
                         uint16_t port, unsigned char out[BRIDGE_PROXY_HEADER]);

#endif
