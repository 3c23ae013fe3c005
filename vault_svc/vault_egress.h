/* EgressService: the decision about each request, with its audit row. */
#ifndef VAULT_EGRESS_H
#define VAULT_EGRESS_H

#include "vault_svc/vault.h"

void vault_egress_serve(struct ag_rpc_server *srv, struct vault_face *face);

/*
 * Read what the brain's workload of the session may use, before egress asks.
 * Best effort.
 */
void vault_egress_warm(struct vault *v, struct vault_tenant *tenant,
                       ag_str_t session_id);

#endif
