/*
 * Whom egress speaks of: the tenant and session behind a workload's address, or
 * behind the brain's word.
 */
#ifndef VAULT_CALLER_H
#define VAULT_CALLER_H

#include "vault_svc/vault.h"

struct vault_caller {
    ag_str_t session_id;  /* empty: nobody has the address or session */
    ag_str_t workload_id; /* empty: the brain's word */
};

/* op->tenant is set, or NULL when nobody has it. `who` lives as long as the
 * call. */
typedef void
vault_caller_done(struct vault_op *op, const struct vault_caller *who);

/* Exactly one of the two is not "". Fails the call when it cannot be read. */
void vault_caller_find(struct vault_op *op, const char *workload_address,
                       const char *session_id, vault_caller_done *done);

#endif
