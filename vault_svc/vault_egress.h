/* EgressService: the decision about each request, with its audit row. */
#ifndef VAULT_EGRESS_H
#define VAULT_EGRESS_H

#include "vault_svc/vault.h"

void vault_egress_serve(struct ag_rpc_server *srv, struct vault_face *face);

#endif
