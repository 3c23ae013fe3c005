/*
 * Rows of the audit older than `audit_retention_days` are taken out, each
 * `audit_retention_check_ms`, some thousand at a time. Before that the chain
 * gets a row `audit.pruned` with the number and the MAC of the last one that
 * goes: so `audit verify` still knows where the chain has to begin, and a row
 * that goes without one is missed as before. What old rows said of keys,
 * credentials and grants can then no longer be compared with the tables.
 */
#ifndef VAULT_RETENTION_H
#define VAULT_RETENTION_H

#include "vault_svc/vault.h"

struct vault_retention;

/* NULL when rows are kept for ever. */
struct vault_retention *vault_retention_start(struct vault *v);
void vault_retention_free(struct vault_retention *r);

#endif
