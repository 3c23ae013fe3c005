/*
 * Whom egress speaks of: the tenant and session behind a workload's address, or
 * behind the brain's word.
 */
#ifndef VAULT_CALLER_H
#define VAULT_CALLER_H

#include "vault_svc/vault.h"

/* op->tenant is set, or NULL when nobody has the address or session; then
 * `session_id` is empty. It lives for the callback. */
typedef void vault_caller_done(struct vault_op *op, ag_str_t session_id);

/* Exactly one of the two is not "". Fails the call when it cannot be read. */
void vault_caller_find(struct vault_op *op, const char *workload_address,
                       const char *session_id, vault_caller_done *done);

#endif
