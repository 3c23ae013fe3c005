/*
 * When credentials were last used: counted in memory, written every
 * `use_flush_ms`, so that no request waits for it.
 */
#ifndef VAULT_USE_H
#define VAULT_USE_H

#include "vault_svc/vault.h"

/* The credential was put into a request, or signed one. */
void vault_use_note(struct vault *v, const struct vault_tenant *tenant,
                    ag_str_t credential_id);
/* What was not written yet is lost; when the service stops. */
void vault_use_free(struct vault *v);

#endif
