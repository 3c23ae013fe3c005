/*
 * StopService: the kill switch for a session or a tenant. The rows are the
 * switch; a notification makes each brain end the turns that it holds.
 */
#include "brain_svc/brain_stop.h"

#include "agent_rpc.h"
#include "brain.pb-c.h"
#include "brain_svc/brain_check.h"
#include "brain_svc/brain_page.h"
#include "lib/scope.h"

#define REASON_MAX 256

static void
fill_stop(void *message, const struct ag_db_result *res, int row,
          struct ag_arena *arena)
{
    Agent__Brain__V1__Stop *m = message;

    agent__brain__v1__stop__init(m);
    m->scope = brain_cell(res, row, 0, arena);
    m->session_id = brain_cell(res, row, 1, arena);
    m->reason = brain_cell(res, row, 2, arena);
    m->created_at = brain_cell(res, row, 3, arena);
}

#define STOPS_MAX 100 /* listed; there is no second page */

#define STOP_COLS                                                         \
    " CASE WHEN tenant = '*' THEN 'all' WHEN session_id = '*' THEN "      \
    "'tenant' ELSE 'session' END, CASE session_id WHEN '*' THEN '' ELSE " \
    "session_id END, reason, " BRAIN_TIME("created_at") " "

/* A session's switch needs "write", the tenant's "admin". */
static struct brain_req *
enter(void *brain, struct ag_rpc_call *call, const char *session_id)
{
    struct brain_req *req = brain_enter(brain, call, false);
    struct ag_err err = AG_ERR_INIT;

    if (req == NULL)
        return NULL;
    if (session_id[0] == '\0' && (req->who.scopes & AG_SCOPE_ADMIN) == 0)
        ag_err_set(&err, AG_ERR_DENIED,
                   "the key lacks the scope \"admin\", which stopping or "
                   "resuming all sessions needs; or name a session_id");
    else if (session_id[0] != '\0')
        (void)brain_check_id("session_id", session_id, "sesn", &err);
    if (err.kind == AG_ERR_NONE)
        return req;
    ag_rpc_fail(call, &err);
    return NULL;
}

static void
stopped(void *arg, const struct ag_db_result *res, const struct ag_err *err)
{
    struct brain_req *req = arg;
    Agent__Brain__V1__Stop m;
    struct ag_err missing;

    if (err != NULL) {
        ag_rpc_fail(req->call, err);
    } else if (ag_db_rows(res) == 0) {
        ag_err_set(&missing, AG_ERR_NOT_FOUND,
                   "session_id: no such session, or it is not stopped");
        ag_rpc_fail(req->call, &missing);
    } else {
        fill_stop(&m, res, 0, req->arena);
        ag_rpc_reply(req->call, &m.base);
    }
}

static void
stop_sessions(struct ag_rpc_call *call, const ProtobufCMessage *request,
              void *arg)
{
    const Agent__Brain__V1__StopSessionsRequest *m =
        (const Agent__Brain__V1__StopSessionsRequest *)request;
    struct brain_req *req = enter(arg, call, m->session_id);
    struct ag_err err;

    if (req == NULL)
        return;
    if (brain_check_name("reason", m->reason, &err) < 0
        || brain_check_text("reason", m->reason, REASON_MAX, &err) < 0) {
        ag_rpc_fail(call, &err);
        return;
    }
    brain_query(req,
                "INSERT INTO brain.stop (tenant, session_id, reason) "
                "SELECT $1, CASE $2 WHEN '' THEN '*' ELSE $2 END, $3 "
                "WHERE $2 = '' OR EXISTS (SELECT 1 FROM brain.session "
                "WHERE id = $2) ON CONFLICT (tenant, session_id) "
                "DO UPDATE SET reason = EXCLUDED.reason RETURNING" STOP_COLS,
                (struct ag_db_param[]){ag_db_str(req->who.tenant),
                                       ag_db_str(ag_str(m->session_id)),
                                       ag_db_str(ag_str(m->reason))},
                3, stopped, req);
}

static void
resume_sessions(struct ag_rpc_call *call, const ProtobufCMessage *request,
                void *arg)
{
    const Agent__Brain__V1__ResumeSessionsRequest *m =
        (const Agent__Brain__V1__ResumeSessionsRequest *)request;
    struct brain_req *req = enter(arg, call, m->session_id);

    if (req == NULL)
        return;
    brain_query(req,
                "DELETE FROM brain.stop WHERE tenant = $1 AND session_id = "
                "CASE $2 WHEN '' THEN '*' ELSE $2 END RETURNING" STOP_COLS,
                (struct ag_db_param[]){ag_db_str(req->who.tenant),
                                       ag_db_str(ag_str(m->session_id))},
                2, stopped, req);
}

static const struct brain_list stops = {
    &agent__brain__v1__list_stops_response__descriptor,
    &agent__brain__v1__stop__descriptor, fill_stop};

static void
list_stops(struct ag_rpc_call *call, const ProtobufCMessage *request, void *arg)
{
    struct brain_req *req = brain_enter(arg, call, false);

    (void)request;
    if (req == NULL || brain_page_begin(req, &stops, STOPS_MAX) < 0)
        return;
    brain_query(req,
                "SELECT" STOP_COLS "FROM brain.stop "
                "ORDER BY created_at DESC LIMIT $1::int",
                (struct ag_db_param[]){ag_db_int(STOPS_MAX)}, 1,
                brain_page_reply, req);
}

void
brain_stop_register(struct brain *brain)
{
#define ADD(name)                                                           \
    ag_rpc_server_add(brain->server,                                        \
                      &agent__brain__v1__stop_service__##name##__rpc, name, \
                      brain)
    ADD(stop_sessions);
    ADD(resume_sessions);
    ADD(list_stops);
#undef ADD
}

/* ---- everything -------------------------------------------------------- */

struct all {
    struct ag_loop *loop;
    struct ag_err *err;
    int rc;
};

static void
all_done(void *arg, const struct ag_db_result *res, const struct ag_err *err)
{
    struct all *all = arg;

    (void)res;
    if (err != NULL)
        *all->err = *err;
    all->rc = err == NULL ? 0 : -1;
    ag_loop_stop(all->loop);
}

int
brain_stop_all(struct brain *brain, ag_str_t reason, struct ag_err *err)
{
    struct all all = {brain->loop, err, -1};

    ag_db_query(brain->db, AG_STR(""), "SELECT brain.stop_all($1)",
                (struct ag_db_param[]){ag_db_str(reason)}, 1, all_done, &all);
    ag_loop_run(brain->loop);
    return all.rc;
}
