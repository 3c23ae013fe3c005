/*
 * Statements on the schema `sandbox`. The tenant is a column that row security
 * checks; it is set from the same setting that row security reads.
 */
#include "sandbox_svc/sandbox_store.h"

#define TENANT "current_setting('brainbox.tenant')"
#define COUNT(a) (int)(sizeof(a) / sizeof((a)[0]))

#define INSERT_CALL                                                      \
    "INSERT INTO sandbox.call (tenant, session_id, call_id, sandbox_id," \
    " command_bytes) VALUES (" TENANT ", $1, $2, $3, $4::integer)"       \
    " ON CONFLICT DO NOTHING RETURNING 1"

#define CALL_PARAMS(n)                                                   \
    ag_db_str(ag_str((n)->session_id)), ag_db_str(ag_str((n)->call_id)), \
        ag_db_str(ag_str((n)->sandbox_id)), ag_db_int((n)->command_bytes)

void
sandbox_store_start(struct ag_db *db, const struct sandbox_note *note,
                    ag_db_done *done, void *arg)
{
    const struct ag_db_param params[] = {CALL_PARAMS(note)};

    ag_db_query(db, ag_str(note->tenant), INSERT_CALL, params, COUNT(params),
                done, arg);
}

void
sandbox_store_start_first(struct ag_db *db, const struct sandbox_note *note,
                          ag_str_t task_description, ag_db_done *done,
                          void *arg)
{
    const struct ag_db_param params[] = {
        CALL_PARAMS(note), ag_db_str(ag_str(note->environment_id)),
        ag_db_str(task_description)};

    ag_db_query(db, ag_str(note->tenant),
                "WITH session AS (INSERT INTO sandbox.session AS s (tenant,"
                " session_id, environment_id, task_description)"
                " VALUES (" TENANT ", $1, $5, $6)"
                " ON CONFLICT (session_id) DO UPDATE SET"
                " environment_id = excluded.environment_id,"
                " task_description = coalesce("
                "nullif(excluded.task_description, ''), s.task_description),"
                " provisioned_at = now()) " INSERT_CALL,
                params, COUNT(params), done, arg);
}

void
sandbox_store_finish(struct ag_db *db, const struct sandbox_call_key *key,
                     const struct sandbox_result *r, ag_db_done *done,
                     void *arg)
{
    const struct ag_db_param params[] = {
        ag_db_str(key->session_id), ag_db_str(key->call_id),
        ag_db_int(r->outcome),      ag_db_int(r->exit_code),
        ag_db_int(r->signal),       ag_db_bytes(r->out),
        ag_db_bytes(r->err),        ag_db_bool(r->is_truncated),
        ag_db_str(r->output_file),  ag_db_int(r->wall_ms),
        ag_db_str(r->limit)};

    ag_db_query(db, key->tenant,
                /* The caller has its answer: nobody waits for the disk. */
                "WITH soon AS (SELECT set_config('synchronous_commit', 'off',"
                " true) AS is_off)"
                " UPDATE sandbox.call SET ended_at = now(),"
                " outcome = $3::integer, exit_code = $4::integer,"
                " signal = $5::integer, stdout = $6::bytea,"
                " stderr = $7::bytea, is_truncated = $8::boolean,"
                " output_file = $9, wall_ms = $10::bigint, limit_name = $11"
                " FROM soon WHERE soon.is_off = 'off' AND tenant = " TENANT
                " AND session_id = $1 AND call_id = $2 AND ended_at IS NULL",
                params, COUNT(params), done, arg);
}

void
sandbox_store_find(struct ag_db *db, const struct sandbox_call_key *key,
                   ag_db_done *done, void *arg)
{
    const struct ag_db_param params[] = {ag_db_str(key->session_id),
                                         ag_db_str(key->call_id)};

    ag_db_query(db, key->tenant,
                "SELECT outcome, exit_code, signal, stdout, stderr,"
                " is_truncated, output_file, wall_ms, limit_name"
                " FROM sandbox.call WHERE tenant = " TENANT
                " AND session_id = $1 AND call_id = $2",
                params, COUNT(params), done, arg);
}

bool
sandbox_store_read(const struct ag_db_result *res, struct ag_arena *arena,
                   struct sandbox_result *out)
{
    if (ag_db_is_null(res, 0, 0))
        return false;
    *out = (struct sandbox_result){
        .outcome = (int)ag_db_get_int(res, 0, 0),
        .exit_code = (int)ag_db_get_int(res, 0, 1),
        .signal = (int)ag_db_get_int(res, 0, 2),
        .out = ag_db_get_bytes(res, 0, 3, arena),
        .err = ag_db_get_bytes(res, 0, 4, arena),
        .is_truncated = ag_db_get_bool(res, 0, 5),
        .output_file = ag_arena_copy(arena, ag_db_get(res, 0, 6)),
        .wall_ms = ag_db_get_int(res, 0, 7),
        .limit = ag_arena_copy(arena, ag_db_get(res, 0, 8)),
        .is_recorded = true,
    };
    return true;
}

void
sandbox_store_tenant(struct ag_db *db, ag_str_t session_id, ag_db_done *done,
                     void *arg)
{
    const struct ag_db_param params[] = {ag_db_str(session_id)};

    ag_db_query(db, ag_str(""), "SELECT sandbox.tenant_of($1)", params,
                COUNT(params), done, arg);
}

void
sandbox_store_delete(struct ag_db *db, ag_str_t tenant, ag_str_t session_id,
                     ag_db_done *done, void *arg)
{
    const struct ag_db_param params[] = {ag_db_str(session_id)};

    ag_db_query(db, tenant,
                "WITH calls AS (DELETE FROM sandbox.call"
                " WHERE tenant = " TENANT " AND session_id = $1)"
                " DELETE FROM sandbox.session"
                " WHERE tenant = " TENANT " AND session_id = $1",
                params, COUNT(params), done, arg);
}
