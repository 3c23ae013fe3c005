/*
 * The tenants that this process knows, with the keys made from their data
 * keys: loaded at start, and looked for again while it runs.
 */
#ifndef VAULT_TENANTS_H
#define VAULT_TENANTS_H

#include "vault_svc/vault.h"

/*
 * Load every tenant and unwrap its data key, before the loop runs.
 * AG_ERR_CORRUPT when the keeper's master key is not the one that wrapped it:
 * the service must not start.
 */
int vault_tenants_load(struct vault *v, struct ag_err *err);
/* Make the tenant unless it exists. */
int vault_tenant_create(struct vault *v, ag_str_t name, struct ag_err *err);
void vault_tenants_free(struct vault *v);

/* Look for tenants that were made since, every `tenant_poll_ms`. */
struct vault_tenants_watch;
struct vault_tenants_watch *vault_tenants_watch_start(struct vault *v);
void vault_tenants_watch_free(struct vault_tenants_watch *w);

#endif
