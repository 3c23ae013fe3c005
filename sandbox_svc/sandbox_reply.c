/*
 * What Execute sends back. A call that is repeated is answered here, from the
 * database alone: the sandbox it ran in may be long gone.
 */
#include "sandbox_svc/sandbox_reply.h"

#include "lib/log.h"

size_t
sandbox_reply_chunk(struct ag_rpc_call *call, bool is_err, ag_str_t data)
{
    Agent__Sandbox__V1__ExecuteResponse m;
    ProtobufCBinaryData bytes = {data.n, (uint8_t *)data.p};

    agent__sandbox__v1__execute_response__init(&m);
    if (is_err) {
        m.item_case = AGENT__SANDBOX__V1__EXECUTE_RESPONSE__ITEM_STDERR;
        m.stderr = bytes;
    } else {
        m.item_case = AGENT__SANDBOX__V1__EXECUTE_RESPONSE__ITEM_STDOUT;
        m.stdout = bytes;
    }
    return ag_rpc_send(call, &m.base);
}

void
sandbox_reply_result(struct ag_rpc_call *call, const struct sandbox_result *r)
{
    Agent__Sandbox__V1__ExecuteResponse m;
    Agent__Sandbox__V1__ExecuteResult result =
        AGENT__SANDBOX__V1__EXECUTE_RESULT__INIT;
    struct ag_arena *arena = ag_rpc_call_arena(call);

    agent__sandbox__v1__execute_response__init(&m);
    result.outcome = (Agent__Sandbox__V1__ExecuteResult__Outcome)r->outcome;
    result.exit_code = r->exit_code;
    result.signal = r->signal;
    result.stdout = (ProtobufCBinaryData){r->out.n, (uint8_t *)r->out.p};
    result.stderr = (ProtobufCBinaryData){r->err.n, (uint8_t *)r->err.p};
    result.truncated = r->is_truncated;
    result.output_file = ag_arena_cstr(arena, r->output_file);
    result.wall_ms = r->wall_ms;
    result.limit = ag_arena_cstr(arena, r->limit);
    result.is_recorded = r->is_recorded;
    m.item_case = AGENT__SANDBOX__V1__EXECUTE_RESPONSE__ITEM_RESULT;
    m.result = &result;
    ag_rpc_reply(call, &m.base);
}

/* ---- from the record ------------------------------------------------- */

struct look_up {
    struct sandbox_svc *svc;
    struct ag_rpc_call *call;
    struct sandbox_call_key key; /* strings of the call's arena */
    struct ag_err otherwise;
    struct sandbox_result unknown;
};

static void
look_up_fail(struct look_up *l, const struct ag_err *err)
{
    ag_rpc_fail(l->call, err);
    ag_freep(&l);
}

static void
on_marked(void *arg, const struct ag_db_result *res, const struct ag_err *err)
{
    struct look_up *l = arg;

    (void)res;
    if (err != NULL) {
        look_up_fail(l, err);
        return;
    }
    sandbox_reply_result(l->call, &l->unknown);
    ag_freep(&l);
}

/* It was started, and nothing here runs it: its end was not seen. */
static void
mark_unknown(struct look_up *l)
{
    l->unknown = (struct sandbox_result){.outcome = SANDBOX_OUTCOME_UNKNOWN,
                                         .exit_code = -1,
                                         .is_recorded = true};
    ag_log(AG_WARN, "command.end_unknown", AG_V("session", l->key.session_id),
           AG_V("call", l->key.call_id));
    sandbox_store_finish(l->svc->db, &l->key, &l->unknown, on_marked, l);
}

static void
on_found(void *arg, const struct ag_db_result *res, const struct ag_err *err)
{
    struct look_up *l = arg;
    struct sandbox_result result;

    if (err != NULL) {
        look_up_fail(l, err);
    } else if (ag_db_rows(res) == 0) {
        struct ag_err gone = AG_ERR_INIT;
        ag_err_set(&gone, AG_ERR_CONFLICT, "the record of the call is gone");
        look_up_fail(l,
                     l->otherwise.kind != AG_ERR_NONE ? &l->otherwise : &gone);
    } else if (sandbox_store_read(res, ag_rpc_call_arena(l->call), &result)) {
        sandbox_reply_result(l->call, &result);
        ag_freep(&l);
    } else {
        mark_unknown(l);
    }
}

static void
on_tenant(void *arg, const struct ag_db_result *res, const struct ag_err *err)
{
    struct look_up *l = arg;

    if (err != NULL) {
        look_up_fail(l, err);
        return;
    }
    if (ag_db_rows(res) == 0 || ag_db_is_null(res, 0, 0)) {
        look_up_fail(l, &l->otherwise);
        return;
    }
    l->key.tenant =
        ag_arena_copy(ag_rpc_call_arena(l->call), ag_db_get(res, 0, 0));
    sandbox_store_find(l->svc->db, &l->key, on_found, l);
}

void
sandbox_reply_recorded(struct sandbox_svc *svc, struct ag_rpc_call *call,
                       const char *tenant, const char *session_id,
                       const char *call_id, const struct ag_err *otherwise)
{
    struct ag_arena *arena = ag_rpc_call_arena(call);
    struct look_up *l = ag_xcalloc(1, sizeof(*l));

    l->svc = svc;
    l->call = call;
    l->key.session_id = ag_arena_copy(arena, ag_str(session_id));
    l->key.call_id = ag_arena_copy(arena, ag_str(call_id));
    if (otherwise != NULL)
        l->otherwise = *otherwise;
    if (tenant == NULL) {
        sandbox_store_tenant(svc->db, l->key.session_id, on_tenant, l);
        return;
    }
    l->key.tenant = ag_arena_copy(arena, ag_str(tenant));
    sandbox_store_find(svc->db, &l->key, on_found, l);
}
