/* Making a credential: checks of its value, sealing, the row. */
#ifndef VAULT_CREDENTIAL_H
#define VAULT_CREDENTIAL_H

#include "vault_svc/vault_store.h"

enum { VAULT_VALUE_MIN = 16 };

struct vault_new_credential {
    ag_str_t vault_id, display_name; /* display_name.p == NULL: none */
    ag_str_t auth, metadata;         /* JSON, without the value */
    ag_str_t binding;                /* canonical */
    ag_str_t env_name;
    bool is_for_brain, is_model;
    int64_t expires_us;             /* 0: not said */
    ag_str_t session_id, parent_id; /* of one that was minted */
    ag_str_t value;
};

/* Seal and MAC a new row (version 1, id made here); bytes live in `arena`. */
int vault_credential_make(struct vault *v, const struct vault_tenant *tenant,
                          const struct vault_new_credential *in,
                          struct ag_arena *arena,
                          struct vault_credential_row *out, struct ag_err *err);

/* Insert it; NOT_FOUND when the vault is not there or archived. */
void vault_credential_insert(struct vault *v, const struct vault_tenant *tenant,
                             const struct vault_credential_row *row,
                             ag_db_done *done, void *arg);

/* 16 bytes to 64 KiB without control characters. */
int vault_value_check(ag_str_t value, const char *field, struct ag_err *err);
/* RFC 3339 in UTC, to the second; "" is 0. */
int vault_expiry_parse(const char *text, int64_t *out, struct ag_err *err);
/* A name that a shell takes: letters, digits, '_', at most 128. */
bool vault_env_name_is_valid(ag_str_t name);

#endif
