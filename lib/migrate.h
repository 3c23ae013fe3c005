/*
 * Forward-only migrations: the files <dir>/NNNN_*.sql in order, each in one
 * transaction, recorded with their SHA-256 in <schema>.migration.
 */
#ifndef LIB_MIGRATE_H
#define LIB_MIGRATE_H

#include "lib/err.h"

/*
 * Connect as the owner role (blocking; for `<svc> --migrate` only) and apply
 * what is missing under an advisory lock. Logs `migration.applied` for each.
 * A file that was applied and has changed since is AG_ERR_CORRUPT.
 * `*applied` gets the count.
 */
int ag_migrate(const char *conninfo, const char *schema, const char *dir,
               int *applied, struct ag_err *err);

#endif
