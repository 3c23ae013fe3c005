/*
 * PostgreSQL on the loop: a few connections in pipeline mode, no blocking call.
 *
 * Every query is one transaction of its own: the tenant is set for row
 * security (`set_config('brainbox.tenant', …, true)`), then the statement
 * runs, then a sync. Write what must be atomic as one statement or one SQL
 * function. A connection that breaks fails its queries with
 * AG_ERR_UNAVAILABLE and is made again in the background, each second; whether
 * a query that was in flight took effect is then unknown.
 */
#ifndef LIB_DB_H
#define LIB_DB_H

#include "lib/arena.h"
#include "lib/loop.h"

struct ag_db;
struct ag_db_result;

/* A parameter, in text form; bytea parameters are binary. */
struct ag_db_param {
    ag_str_t v;
    bool is_null, is_bytes;
    char text[24];
};

static inline struct ag_db_param
ag_db_str(ag_str_t s)
{
    return (struct ag_db_param){.v = s};
}

static inline struct ag_db_param
ag_db_bytes(ag_str_t s)
{
    return (struct ag_db_param){.v = s, .is_bytes = true};
}

static inline struct ag_db_param
ag_db_null(void)
{
    return (struct ag_db_param){.is_null = true};
}

struct ag_db_param ag_db_int(int64_t v);
struct ag_db_param ag_db_bool(bool v);

/*
 * `conninfo` as libpq reads it; `n_conns` connections, 1..32; a query that
 * waits longer than `timeout_ms` for a connection or its result fails with
 * AG_ERR_UNAVAILABLE. Returns at once; the connections come up by themselves.
 */
struct ag_db *ag_db_new(struct ag_loop *loop, const char *conninfo, int n_conns,
                        int64_t timeout_ms, struct ag_err *err);
/* Fails what is in flight. */
void ag_db_free(struct ag_db *db);

/* Exactly one of `res` and `err` is not NULL; both live for the callback. */
typedef void
ag_db_done(void *arg, const struct ag_db_result *res, const struct ag_err *err);

/*
 * Run `sql` with $1… = params for `tenant` ("" sets none: row security then
 * shows nothing; for statements that call SECURITY DEFINER functions).
 * Parameters are copied. `done` is never called from inside this function.
 * SQLSTATE maps to kinds: unique_violation AG_ERR_EXISTS, foreign key and
 * no_data_found AG_ERR_NOT_FOUND; SQL functions raise with these ERRCODEs:
 * BB001 invalid, BB002 denied, BB003 not found, BB004 exists, BB005 conflict,
 * BB006 precondition, BB007 limit, BB008 corrupt, and their message is kept.
 */
void ag_db_query(struct ag_db *db, ag_str_t tenant, const char *sql,
                 const struct ag_db_param *params, int n_params,
                 ag_db_done *done, void *arg);

/*
 * Hear notifications: `sql` is "LISTEN channel", a literal; one channel a
 * database. `fn` gets each payload, and {NULL, 0} whenever it has begun to hear
 * (again): what was said before may have been missed.
 */
typedef void ag_db_notify(void *arg, ag_str_t payload);
void
ag_db_listen(struct ag_db *db, const char *sql, ag_db_notify *fn, void *arg);

/* True while at least one connection is up. */
bool ag_db_is_up(const struct ag_db *db);

/* ---- results --------------------------------------------------------- */

int ag_db_rows(const struct ag_db_result *res);
int ag_db_columns(const struct ag_db_result *res);
bool ag_db_is_null(const struct ag_db_result *res, int row, int col);
/* Text of a cell; {NULL, 0} for null. Lives for the callback. */
ag_str_t ag_db_get(const struct ag_db_result *res, int row, int col);
int64_t ag_db_get_int(const struct ag_db_result *res, int row, int col);
bool ag_db_get_bool(const struct ag_db_result *res, int row, int col);
/* A bytea cell, decoded into `arena`; {NULL, 0} for null. */
ag_str_t ag_db_get_bytes(const struct ag_db_result *res, int row, int col,
                         struct ag_arena *arena);

#endif
