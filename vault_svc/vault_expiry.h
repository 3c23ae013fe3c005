/* Warnings of credentials whose value is about to stop being of use. */
#ifndef VAULT_EXPIRY_H
#define VAULT_EXPIRY_H

#include "vault_svc/vault.h"

/* Every `expiry_check_ms`, and soon after the start. */
struct vault_expiry;
struct vault_expiry *vault_expiry_start(struct vault *v);
/* NULL is a no-op. */
void vault_expiry_free(struct vault_expiry *e);

#endif
