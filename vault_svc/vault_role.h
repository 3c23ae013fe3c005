/*
 * Roles: names for what keys may do. The built-in ones are the same for every
 * tenant and stand in the program, where no database reaches them.
 */
#ifndef VAULT_ROLE_H
#define VAULT_ROLE_H

#include "vault_svc/vault_store.h"

/* The i-th built-in role, or NULL behind the last; no MAC, no times. */
const struct vault_role_row *vault_role_built_in(size_t i);
bool vault_role_is_built_in(ag_str_t id);

/* `role` is NULL when the tenant has none of this id; one that was deleted
 * (deleted_us) gives nothing. Lives as long as the call. */
typedef void
vault_role_done(struct vault_op *op, const struct vault_role_row *role);

/* Read and check a role of op->tenant. Fails the call when the row does not
 * check, or is older than the audit says. */
void vault_role_find(struct vault_op *op, ag_str_t id, vault_role_done *done);

/* RoleService (vault_role_rpc.c). */
void vault_role_serve(struct ag_rpc_server *srv, struct vault_face *face);

#endif
