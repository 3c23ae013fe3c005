/*
 * `vault_svc audit verify` and `audit export`: run beside a vault that serves,
 * with the keeper and as the role that serves.
 */
#ifndef VAULT_VERIFY_H
#define VAULT_VERIFY_H

#include "vault_svc/vault.h"

/*
 * Check every tenant's chain row by row, that it leads to the signed head, and
 * that the tables say what the chain says last. Prints a line for each finding
 * and one for each tenant. *n_findings is their number; -1 with `err` when it
 * could not be checked.
 */
int
vault_audit_verify(struct vault *v, int64_t *n_findings, struct ag_err *err);

/* Print the rows of conf->tenant as JSON lines, oldest first. */
int vault_audit_export(struct vault *v, struct ag_err *err);

#endif
