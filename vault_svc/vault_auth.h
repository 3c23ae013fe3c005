/*
 * The `auth` of a credential: read when it is made, stripped of its secret when
 * it is stored, and again when its value is changed.
 */
#ifndef VAULT_AUTH_H
#define VAULT_AUTH_H

#include <jansson.h>

#include "vault_svc/vault.h"
#include "vault_svc/vault_policy.h"

struct vault_new_credential;

/* Where a new credential may go, as its auth says. */
struct vault_reach {
    struct vault_policy hosts;
    unsigned location; /* VAULT_IN_…; 0: not said */
};

/* Views into `j`. AG_ERR_INVALID names the field, and holds no value. */
int vault_auth_read(struct vault_op *op, const json_t *j,
                    struct vault_new_credential *in, struct vault_reach *reach,
                    struct ag_err *err);
/* The auth without its secret, as it is stored and shown. */
int vault_auth_strip(struct vault_op *op, const json_t *j, ag_str_t *out,
                     struct ag_err *err);
/* The new value of a stored credential; a view into `j`. */
int vault_auth_new_value(const json_t *j, ag_str_t stored_json, ag_str_t *value,
                         struct ag_err *err);

#endif
