/*
 * Whose a session or a workload is. An id belongs to one tenant for ever, so
 * what was seen once need not be asked of the database again: its rows are then
 * read under that tenant, and say by their MACs whether it is so. A bounded
 * table; what falls out of it is looked up. On the loop.
 */
#ifndef VAULT_OWNER_H
#define VAULT_OWNER_H

#include "vault_svc/vault.h"

struct vault_owners *vault_owners_new(void);
void vault_owners_free(struct vault_owners *owners);

void
vault_owner_note(struct vault *v, ag_str_t id, struct vault_tenant *tenant);
/* NULL: not known here. */
struct vault_tenant *vault_owner_find(const struct vault *v, ag_str_t id);

#endif
