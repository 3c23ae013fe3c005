/*
 * Start-up steps, before anything is served: one after the other, running the
 * loop only for the answer that is waited for.
 */
#ifndef VAULT_START_H
#define VAULT_START_H

#include "vault_svc/vault.h"

/* Reads the result while it lives; -1 with err fails the query. */
typedef int
vault_now_read(void *arg, const struct ag_db_result *res, struct ag_err *err);

/* Run one query and wait. `read` may be NULL. */
int vault_query_now(struct vault *v, ag_str_t tenant, const char *sql,
                    const struct ag_db_param *params, int n_params,
                    vault_now_read *read, void *arg, struct ag_err *err);

/* Assertion key, root certificate and the key that hashes API keys. */
int vault_identity_load(struct vault *v, struct ag_err *err);

/* Map the generation file, making it when it is not there. */
int
vault_generation_open(struct vault *v, const char *path, struct ag_err *err);

#endif
