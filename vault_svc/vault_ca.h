/* The intermediate CA that egress signs leaves with. */
#ifndef VAULT_CA_H
#define VAULT_CA_H

#include "vault_svc/vault.h"

struct vault_ca;

/*
 * Have the keeper issue an intermediate and write it (certificate, root, key)
 * to conf->intermediate, mode 0640; renew it in time from then on. An empty
 * path does nothing and returns NULL with err->kind AG_ERR_NONE.
 */
struct vault_ca *vault_ca_start(struct vault *v, struct ag_err *err);
void vault_ca_free(struct vault_ca *ca);

#endif
