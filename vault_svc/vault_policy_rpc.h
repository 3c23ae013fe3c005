/* Writing network policies. */
#ifndef VAULT_POLICY_RPC_H
#define VAULT_POLICY_RPC_H

#include "vault_svc/vault.h"

/* GrantService/PutPolicy, for the brain. */
void vault_policy_serve_put(struct ag_rpc_server *srv, struct vault_face *face);

#endif
