/*
 * Scopes of keys and roles: as bits (lib/scope.h), as rows have them (names in
 * the order of the bits, with commas between), and as messages do.
 */
#ifndef VAULT_SCOPE_H
#define VAULT_SCOPE_H

#include "lib/scope.h"
#include "vault_svc/vault.h"

/* Of a row; a name that this version does not know gives nothing. */
unsigned vault_scopes_parse(ag_str_t text);
/* For a row. */
ag_str_t vault_scopes_text(unsigned scopes, struct ag_arena *arena);

/* Of a message. -1 with AG_ERR_INVALID for a name that there is not. */
int
vault_scopes_read(char **names, size_t n, unsigned *out, struct ag_err *err);
/* For a message: sets `names`, in `arena`, and returns how many. */
size_t
vault_scopes_list(unsigned scopes, struct ag_arena *arena, char ***names);

/* 0 when `who` may give them to others, having all of them himself; else -1
 * with AG_ERR_DENIED. */
int vault_scopes_check_given(const struct ag_principal *who, unsigned scopes,
                             struct ag_err *err);

#endif
