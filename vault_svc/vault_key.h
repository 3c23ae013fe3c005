/* API keys: "bbx_" and 40 random characters. */
#ifndef VAULT_KEY_H
#define VAULT_KEY_H

#include "vault_svc/vault.h"

enum { VAULT_KEY_TEXT = 4 + 40 };

/* KeyService. */
void vault_key_serve(struct ag_rpc_server *srv, struct vault_face *face);

#endif
