/* `Explain`: would this request pass, what would be put where, and why? */
#ifndef VAULT_EXPLAIN_H
#define VAULT_EXPLAIN_H

#include "vault_svc/vault.h"

void vault_explain_serve(struct ag_rpc_server *srv, struct vault_face *face);

#endif
