/*
 * The data keys of a tenant, each for a term: the newest seals, all that rows
 * still name open. The first is the tenant's own (struct vault_keyring).
 */
#ifndef VAULT_TERM_H
#define VAULT_TERM_H

#include "vault_svc/vault.h"

struct vault_term {
    int64_t version, created_us;
    unsigned char seal[VAULT_KEY_BYTES];
};

/* The newest; its version is 1 when there was none after the first. */
struct vault_term vault_term_newest(const struct vault_tenant *tenant);
/* The key that seals under this version, or NULL. */
const unsigned char *
vault_term_key(const struct vault_tenant *tenant, int64_t version);

/* What binds a wrapped data key to tenant and version; version 1 is the row of
 * the tenant itself. */
void vault_term_aad(struct ag_buf *aad, ag_str_t tenant, int64_t version);

/* A data key that was made or read. AG_ERR_CORRUPT for a wrong length. */
int vault_term_add(struct vault_tenant *tenant, int64_t version,
                   int64_t created_us, ag_str_t data_key, struct ag_err *err);
/* Load those of every tenant, and when its first was made, before the loop
 * runs. */
int vault_terms_load(struct vault *v, struct ag_err *err);

#endif
