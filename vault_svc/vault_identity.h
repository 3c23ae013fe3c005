/* Who a caller is, and the assertion that says so. */
#ifndef VAULT_IDENTITY_H
#define VAULT_IDENTITY_H

#include "vault_svc/vault.h"

/* IdentityService. */
void vault_identity_serve(struct ag_rpc_server *srv, struct vault_face *face);

#endif
