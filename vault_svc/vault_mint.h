/* EgressService/Mint: what hosts mint in their answers becomes stubs. */
#ifndef VAULT_MINT_H
#define VAULT_MINT_H

#include "vault_svc/vault.h"

void vault_mint_serve(struct ag_rpc_server *srv, struct vault_face *face);

#endif
