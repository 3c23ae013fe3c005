/*
 * Inside of lib/db.h, shared by db.c and db_result.c; nobody else includes it.
 */
#ifndef LIB_DB_RESULT_H
#define LIB_DB_RESULT_H

#include <libpq-fe.h>

#include "lib/db.h"

struct ag_db_result {
    const PGresult *pg;
};

/* The error of a failed result, its kind by SQLSTATE. */
void ag_db_set_error(struct ag_err *err, const PGresult *res);

#endif
