/* GrantService: what a session may use, and environments' network policies. */
#ifndef VAULT_GRANT_H
#define VAULT_GRANT_H

#include "vault_svc/vault.h"

void vault_grant_serve(struct ag_rpc_server *srv, struct vault_face *face);

#endif
