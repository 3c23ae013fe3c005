/*
 * The way into every handler: who calls, for which tenant, with what scope.
 */
#include "brain_svc/brain.h"

#include "lib/scope.h"

struct brain_req *
brain_enter(struct brain *brain, struct ag_rpc_call *call, bool is_bound)
{
    struct ag_arena *arena = ag_rpc_call_arena(call);
    struct brain_req *req = ag_arena_alloc(arena, sizeof(*req));
    struct ag_err err;

    req->brain = brain;
    req->call = call;
    req->arena = arena;
    req->assertion = ag_rpc_call_metadata(call, AG_ASSERTION_METADATA);
    if (ag_assertion_check(brain->key, req->assertion, ag_rpc_call_bytes(call),
                           is_bound, arena, &req->who, &err)
        < 0) {
        ag_rpc_fail(call, &err);
        return NULL;
    }
    if (ag_scopes_check(req->who.scopes, ag_rpc_call_scopes(call), &err) < 0) {
        ag_rpc_fail(call, &err);
        return NULL;
    }
    return req;
}

void
brain_query(struct brain_req *req, const char *sql,
            const struct ag_db_param *params, int n_params, ag_db_done *done,
            void *arg)
{
    ag_db_query(req->brain->db, req->who.tenant, sql, params, n_params, done,
                arg);
}

const char *
brain_harness_default(const struct brain *brain)
{
    if (brain->conf.harness_default[0] != '\0')
        return brain->conf.harness_default;
    return brain->conf.model_base_url[0] != '\0' ? "native" : "runbook";
}
