/*
 * SessionService. A session's rights are the vault's: CreateSession hands the
 * caller's own request and assertion to GrantService/PutGrant before the row is
 * written; archiving and deleting end the grant.
 */
#include "agent_rpc.h"
#include "brain.pb-c.h"
#include "brain_svc/brain_budget.h"
#include "brain_svc/brain_check.h"
#include "brain_svc/brain_page.h"
#include "brain_svc/brain_hub.h"
#include "brain_svc/brain_run.h"
#include "brain_svc/brain_warm.h"
#include "lib/id.h"
#include "sandbox.pb-c.h"
#include "vault.pb-c.h"

#define REFERENCES_MAX 16

/* clang-format off */
#define SESSION_COLS                                                           \
    " s.id, json_build_object('id', s.agent_id, 'type', 'agent', 'version', "  \
    "s.agent_version, 'name', v.name, 'description', v.description, "          \
    "'model', v.model, 'system', v.system, 'tools', v.tools, 'mcp_servers', "  \
    "v.mcp_servers, 'skills', v.skills, 'multiagent', null, 'harness', "       \
    "v.harness), s.environment_id, s.title, s.metadata, s.status, "            \
    "array_to_json(s.vault_ids), json_build_object('input_tokens', "           \
    "s.input_tokens, 'output_tokens', s.output_tokens, "                       \
    "'cache_read_input_tokens', s.cache_read_tokens, 'cache_creation', "       \
    "json_build_object('ephemeral_5m_input_tokens', s.cache_write_tokens, "    \
    "'ephemeral_1h_input_tokens', 0), 'list_cost', json_build_object("         \
    "'amount', (s.cost_nano_usd / 10000000)::text, 'currency', 'USD'), "       \
    "'brainbox.reasoning_tokens', s.reasoning_tokens, "                        \
    "'brainbox.cost_nano_usd', s.cost_nano_usd, 'brainbox.steps', s.steps, "   \
    "'brainbox.sandbox_seconds', (s.sandbox_ms / 1000.0)::float8), "                             \
    "json_build_object('active_seconds', (s.active_us / 1000000.0)::float8, "  \
    "'duration_seconds', extract(epoch FROM now() - s.created_at)::float8), "  \
    BRAIN_TIME("s.created_at") ", " BRAIN_TIME("s.updated_at") ", "            \
    BRAIN_TIME("s.archived_at") ", array_to_json(s.environment_ids), s.budget "
/* clang-format on */
#define SESSION_JOIN                                          \
    " JOIN brain.agent_version v ON v.agent_id = s.agent_id " \
    "AND v.version = s.agent_version "

typedef Agent__Brain__V1__Session session_msg;

struct session_state {
    const Agent__Brain__V1__CreateSessionRequest *create;
    const char *id, *agent_id;
    int64_t agent_version;
    const struct brain_harness *harness; /* NULL: not known here */
    ag_str_t metadata;
};

static void
fill_session(void *message, const struct ag_db_result *res, int row,
             struct ag_arena *arena)
{
    session_msg *m = message;

    agent__brain__v1__session__init(m);
    m->id = brain_cell(res, row, 0, arena);
    m->type = ag_arena_cstr(arena, AG_STR("session"));
    m->agent_json = brain_cell_json(res, row, 1, arena);
    m->environment_id = brain_cell(res, row, 2, arena);
    if (!ag_db_is_null(res, row, 3)) {
        m->_title_case = AGENT__BRAIN__V1__SESSION___TITLE_TITLE;
        m->title = brain_cell(res, row, 3, arena);
    }
    m->metadata_json = brain_cell_json(res, row, 4, arena);
    m->status = brain_cell(res, row, 5, arena);
    m->vault_ids = brain_cell_list(res, row, 6, arena, &m->n_vault_ids);
    m->usage_json = brain_cell_json(res, row, 7, arena);
    m->stats_json = brain_cell_json(res, row, 8, arena);
    m->resources_json = brain_data(AG_STR("[]"));
    m->outcome_evaluations_json = brain_data(AG_STR("[]"));
    m->created_at = brain_cell(res, row, 9, arena);
    m->updated_at = brain_cell(res, row, 10, arena);
    if (!ag_db_is_null(res, row, 11)) {
        m->_archived_at_case =
            AGENT__BRAIN__V1__SESSION___ARCHIVED_AT_ARCHIVED_AT;
        m->archived_at = brain_cell(res, row, 11, arena);
    }
    m->environment_ids =
        brain_cell_list(res, row, 12, arena, &m->n_environment_ids);
    m->budget_json = brain_cell_json(res, row, 13, arena);
}

static void
fail_not_found(struct brain_req *req, const char *id)
{
    struct ag_err err;

    ag_err_set(&err, AG_ERR_NOT_FOUND, "session_id: no session \"%.64s\"", id);
    ag_rpc_fail(req->call, &err);
}

static void
reply_session(void *arg, const struct ag_db_result *res,
              const struct ag_err *err)
{
    struct brain_req *req = arg;
    struct session_state *state = req->state;
    session_msg m;

    if (err != NULL) {
        ag_rpc_fail(req->call, err);
    } else if (ag_db_rows(res) == 0) {
        fail_not_found(req, state->id);
    } else {
        fill_session(&m, res, 0, req->arena);
        ag_rpc_reply(req->call, &m.base);
    }
}

static struct session_state *
state_new(struct brain_req *req, const char *id)
{
    struct session_state *state = ag_arena_alloc(req->arena, sizeof(*state));

    state->id = id;
    req->state = state;
    return state;
}

/* ---- ending ------------------------------------------------------------ */

static void
ended(void *arg, const ProtobufCMessage *reply, const struct ag_err *err)
{
    (void)reply;
    if (err != NULL)
        ag_log(AG_WARN, "session.cleanup_failed", AG_S("step", arg), AG_E(err));
}

/* Stop the run, and tell the vault and the sandboxes; they are idempotent. */
static void
end_everything(struct brain_req *req, const char *id, bool is_deleted)
{
    Agent__Vault__V1__EndGrantRequest grant =
        AGENT__VAULT__V1__END_GRANT_REQUEST__INIT;
    Agent__Sandbox__V1__EndTurnRequest turn =
        AGENT__SANDBOX__V1__END_TURN_REQUEST__INIT;
    Agent__Sandbox__V1__DeleteWorkspaceRequest work =
        AGENT__SANDBOX__V1__DELETE_WORKSPACE_REQUEST__INIT;
    struct ag_rpc_metadata md = {AG_ASSERTION_METADATA, req->assertion};
    struct ag_rpc_call_opts opts = {BRAIN_RPC_TIMEOUT_MS, &md, 1};

    brain_run_drop(req->brain, ag_str(id));
    grant.session_id = turn.session_id = work.session_id =
        (char *)(uintptr_t)id;
    ag_rpc_unary(req->brain->vault,
                 &agent__vault__v1__grant_service__end_grant__rpc, &grant.base,
                 &opts, ended, (void *)(uintptr_t) "end_grant");
    ag_rpc_unary(req->brain->sandbox,
                 &agent__sandbox__v1__sandbox_service__end_turn__rpc,
                 &turn.base, &opts, ended, (void *)(uintptr_t) "end_turn");
    if (is_deleted)
        ag_rpc_unary(
            req->brain->sandbox,
            &agent__sandbox__v1__sandbox_service__delete_workspace__rpc,
            &work.base, &opts, ended, (void *)(uintptr_t) "delete_workspace");
}

/* ---- create ------------------------------------------------------------ */

static void
created(void *arg, const struct ag_db_result *res, const struct ag_err *err)
{
    struct brain_req *req = arg;
    struct session_state *state = req->state;

    if (err != NULL)
        end_everything(req, state->id, false);
    else if (state->harness != NULL && state->harness->asks_model)
        brain_warm_expect(req->brain->warm, req->who.tenant, ag_str(state->id));
    reply_session(arg, res, err);
}

static int
check_budget(ProtobufCBinaryData bytes, struct ag_err *err)
{
    struct brain_budget ignored;

    return brain_budget_parse(brain_bytes(bytes), &ignored, err);
}

static struct ag_db_param
budget_param(ProtobufCBinaryData bytes)
{
    return bytes.len > 0 ? ag_db_str(brain_bytes(bytes)) : ag_db_null();
}

static void
insert_session(struct brain_req *req)
{
    struct session_state *state = req->state;
    const Agent__Brain__V1__CreateSessionRequest *m = state->create;

    brain_query(
        req,
        "WITH s AS (INSERT INTO brain.session (tenant, id, agent_id, "
        "agent_version, environment_id, environment_ids, vault_ids, title, "
        "metadata, budget) VALUES ($1, $2, $3, $4::int, $5, "
        "ARRAY(SELECT json_array_elements_text($6::json)), "
        "ARRAY(SELECT json_array_elements_text($7::json)), $8, $9::json, "
        "$10::json) "
        "RETURNING *), "
        "r AS (INSERT INTO brain.run (tenant, session_id) VALUES ($1, $2)) "
        "SELECT" SESSION_COLS "FROM s" SESSION_JOIN,
        (struct ag_db_param[]){
            ag_db_str(req->who.tenant), ag_db_str(ag_str(state->id)),
            ag_db_str(ag_str(state->agent_id)), ag_db_int(state->agent_version),
            ag_db_str(ag_str(m->environment_id)),
            ag_db_str(brain_json_list(m->environment_ids, m->n_environment_ids,
                                      req->arena)),
            ag_db_str(
                brain_json_list(m->vault_ids, m->n_vault_ids, req->arena)),
            m->_title_case != 0 ? ag_db_str(ag_str(m->title)) : ag_db_null(),
            ag_db_str(state->metadata), budget_param(m->budget_json)},
        10, created, req);
}

static void
granted(void *arg, const ProtobufCMessage *reply, const struct ag_err *err)
{
    struct brain_req *req = arg;

    (void)reply;
    if (err != NULL)
        ag_rpc_fail(req->call, err);
    else
        insert_session(req);
}

/* Agent and environments exist: ask the vault for the grant. */
static void
references_checked(void *arg, const struct ag_db_result *res,
                   const struct ag_err *err)
{
    struct brain_req *req = arg;
    struct session_state *state = req->state;
    Agent__Vault__V1__PutGrantRequest grant =
        AGENT__VAULT__V1__PUT_GRANT_REQUEST__INIT;
    struct ag_rpc_metadata md = {AG_ASSERTION_METADATA, req->assertion};
    struct ag_rpc_call_opts opts = {BRAIN_RPC_TIMEOUT_MS, &md, 1};
    struct ag_err missing = AG_ERR_INIT;

    if (err != NULL) {
        ag_rpc_fail(req->call, err);
        return;
    }
    if (ag_db_is_null(res, 0, 0))
        ag_err_set(&missing, AG_ERR_NOT_FOUND,
                   "agent: no agent \"%.64s\" with that version, or it is "
                   "archived",
                   state->agent_id);
    else if (!ag_db_get_bool(res, 0, 2))
        ag_err_set(&missing, AG_ERR_NOT_FOUND,
                   "environment_id: no environment \"%.64s\", or it is "
                   "archived",
                   state->create->environment_id);
    if (missing.kind != AG_ERR_NONE) {
        ag_rpc_fail(req->call, &missing);
        return;
    }
    state->agent_version = ag_db_get_int(res, 0, 0);
    state->harness = brain_harness_find(ag_db_get(res, 0, 1));
    grant.session_id = (char *)(uintptr_t)state->id;
    grant.original_request = brain_data(ag_rpc_call_bytes(req->call));
    ag_rpc_unary(req->brain->vault,
                 &agent__vault__v1__grant_service__put_grant__rpc, &grant.base,
                 &opts, granted, req);
}

/* An id, or {"type":"agent","id":…,"version":…}. */
static int
check_agent(struct brain_req *req, ProtobufCBinaryData bytes,
            struct session_state *state, struct ag_err *err)
{
    AG_AUTO(ag_json_decref) json_t *j = NULL;
    ag_str_t id = {NULL, 0};

    if (bytes.len == 0)
        return ag_err_set(err, AG_ERR_INVALID, "agent: is required");
    j = ag_json_parse(brain_bytes(bytes), err);
    if (j == NULL)
        return ag_err_wrap(err, "agent");
    if (json_is_string(j)) {
        id = ag_json_str(j);
    } else if (!json_is_object(j)) {
        return ag_err_set(err, AG_ERR_INVALID,
                          "agent: must be an id or an object with id");
    } else if (ag_json_get_str(j, "id", &id, err) < 0
               || ag_json_get_i64(j, "version", &state->agent_version, err)
                      < 0) {
        return ag_err_wrap(err, "agent");
    }
    state->agent_id = ag_arena_cstr(req->arena, id);
    return brain_check_id("agent", state->agent_id, "agent", err);
}

static int
check_ids(const char *field, char **ids, size_t n, const char *prefix,
          struct ag_err *err)
{
    if (n > REFERENCES_MAX)
        return ag_err_set(err, AG_ERR_INVALID, "%s: more than %d", field,
                          REFERENCES_MAX);
    for (size_t i = 0; i < n; i++)
        if (brain_check_id(field, ids[i], prefix, err) < 0)
            return -1;
    return 0;
}

static int
check_create(struct brain_req *req,
             const Agent__Brain__V1__CreateSessionRequest *m,
             struct session_state *state, struct ag_err *err)
{
    AG_AUTO(ag_json_decref) json_t *metadata = NULL;

    if (m->environment_id[0] == '\0')
        return ag_err_set(err, AG_ERR_INVALID,
                          "environment_id: is required, \"env_…\"");
    if (check_agent(req, m->agent_json, state, err) < 0
        || brain_check_id("environment_id", m->environment_id, "env", err) < 0
        || check_ids("vault_ids", m->vault_ids, m->n_vault_ids, "vlt", err) < 0
        || check_ids("environment_ids", m->environment_ids,
                     m->n_environment_ids, "env", err)
               < 0
        || brain_check_text("title", m->title, 512, err) < 0
        || brain_check_metadata(m->metadata_json, req->arena, &state->metadata,
                                &metadata, err)
               < 0
        || check_budget(m->budget_json, err) < 0)
        return -1;
    return 0;
}

static void
create_session(struct ag_rpc_call *call, const ProtobufCMessage *request,
               void *arg)
{
    struct brain_req *req = brain_enter(arg, call, true);
    struct session_state *state;
    char id[AG_ID_TEXT];
    struct ag_err err;

    if (req == NULL)
        return;
    ag_id_new("sesn", id);
    state = state_new(req, ag_arena_cstr(req->arena, ag_str(id)));
    state->create = (const Agent__Brain__V1__CreateSessionRequest *)request;
    if (check_create(req, state->create, state, &err) < 0) {
        ag_rpc_fail(call, &err);
        return;
    }
    brain_query(req,
                "SELECT pinned.*, e.is_there FROM (SELECT count(*) = 1 AS "
                "is_there FROM brain.environment WHERE id = $3 "
                "AND archived_at IS NULL) e LEFT JOIN "
                "(SELECT v.version, v.harness FROM brain.agent a "
                "JOIN brain.agent_version v ON v.agent_id = a.id "
                "WHERE a.id = $1 AND a.archived_at IS NULL AND v.version = "
                "CASE WHEN $2::int = 0 THEN a.version ELSE $2::int END) pinned "
                "ON true",
                (struct ag_db_param[]){
                    ag_db_str(ag_str(state->agent_id)),
                    ag_db_int(state->agent_version),
                    ag_db_str(ag_str(state->create->environment_id))},
                3, references_checked, req);
}

/* ---- read, update ------------------------------------------------------ */

static void
get_session(struct ag_rpc_call *call, const ProtobufCMessage *request,
            void *arg)
{
    const Agent__Brain__V1__GetSessionRequest *m =
        (const Agent__Brain__V1__GetSessionRequest *)request;
    struct brain_req *req = brain_enter(arg, call, false);

    if (req == NULL)
        return;
    state_new(req, m->session_id);
    brain_query(req,
                "SELECT" SESSION_COLS "FROM brain.session s" SESSION_JOIN
                "WHERE s.id = $1",
                (struct ag_db_param[]){ag_db_str(ag_str(m->session_id))}, 1,
                reply_session, req);
}

static void
update_session(struct ag_rpc_call *call, const ProtobufCMessage *request,
               void *arg)
{
    const Agent__Brain__V1__UpdateSessionRequest *m =
        (const Agent__Brain__V1__UpdateSessionRequest *)request;
    struct brain_req *req = brain_enter(arg, call, false);
    AG_AUTO(ag_json_decref) json_t *metadata = NULL;
    struct session_state *state;
    struct ag_err err;

    if (req == NULL)
        return;
    state = state_new(req, m->session_id);
    if (brain_check_text("title", m->title, 512, &err) < 0
        || brain_check_metadata(m->metadata_json, req->arena, &state->metadata,
                                &metadata, &err)
               < 0
        || check_budget(m->budget_json, &err) < 0) {
        ag_rpc_fail(call, &err);
        return;
    }
    brain_query(
        req,
        "WITH s AS (UPDATE brain.session SET "
        "title = coalesce($2, title), budget = coalesce($4::json, budget), "
        "budget_asked = CASE WHEN $4::json IS NULL THEN budget_asked ELSE 0 "
        "END, "
        "metadata = coalesce($3::json, metadata), updated_at = now() "
        "WHERE id = $1 RETURNING *) "
        "SELECT" SESSION_COLS "FROM s" SESSION_JOIN,
        (struct ag_db_param[]){
            ag_db_str(ag_str(m->session_id)),
            m->_title_case != 0 ? ag_db_str(ag_str(m->title)) : ag_db_null(),
            m->metadata_json.len > 0 ? ag_db_str(state->metadata)
                                     : ag_db_null(),
            budget_param(m->budget_json)},
        4, reply_session, req);
}

static const struct brain_list sessions = {
    &agent__brain__v1__list_sessions_response__descriptor,
    &agent__brain__v1__session__descriptor, fill_session};

#define LIST_SQL(compare, order)                              \
    "SELECT" SESSION_COLS "FROM brain.session s" SESSION_JOIN \
    "WHERE ($1 = '' OR s.id " compare " $1) "                 \
    "AND ($2::bool OR s.archived_at IS NULL) "                \
    "AND ($3 = '' OR s.agent_id = $3) ORDER BY s.id " order " LIMIT $4::int"

static void
list_sessions(struct ag_rpc_call *call, const ProtobufCMessage *request,
              void *arg)
{
    const Agent__Brain__V1__ListSessionsRequest *m =
        (const Agent__Brain__V1__ListSessionsRequest *)request;
    struct brain_req *req = brain_enter(arg, call, false);
    bool is_asc = strcmp(m->order, "asc") == 0;
    struct ag_err err;
    int64_t rows;

    if (req == NULL)
        return;
    if (m->order[0] != '\0' && !is_asc && strcmp(m->order, "desc") != 0) {
        ag_err_set(&err, AG_ERR_INVALID, "order: must be asc or desc");
        ag_rpc_fail(call, &err);
        return;
    }
    rows = brain_page_begin(req, &sessions, m->limit);
    if (rows < 0)
        return;
    brain_query(req, is_asc ? LIST_SQL(">", "ASC") : LIST_SQL("<", "DESC"),
                (struct ag_db_param[]){
                    ag_db_str(ag_str(m->page)), ag_db_bool(m->include_archived),
                    ag_db_str(ag_str(m->agent_id)), ag_db_int(rows)},
                4, brain_page_reply, req);
}

/* ---- archive, delete --------------------------------------------------- */

static void
archived(void *arg, const struct ag_db_result *res, const struct ag_err *err)
{
    struct brain_req *req = arg;
    struct session_state *state = req->state;

    if (err == NULL && ag_db_rows(res) > 0) {
        end_everything(req, state->id, false);
        brain_hub_close(req->brain->hub, ag_str(state->id));
    }
    reply_session(arg, res, err);
}

static void
archive_session(struct ag_rpc_call *call, const ProtobufCMessage *request,
                void *arg)
{
    const Agent__Brain__V1__ArchiveSessionRequest *m =
        (const Agent__Brain__V1__ArchiveSessionRequest *)request;
    struct brain_req *req = brain_enter(arg, call, false);

    if (req == NULL)
        return;
    state_new(req, m->session_id);
    brain_query(req,
                "WITH s AS (UPDATE brain.session SET status = 'terminated', "
                "archived_at = coalesce(archived_at, now()), "
                "updated_at = now() WHERE id = $1 RETURNING *), "
                "r AS (UPDATE brain.run SET is_wanted = false, owner = NULL, "
                "lease_until = NULL, fence = fence + 1 "
                "WHERE session_id = $1) "
                "SELECT" SESSION_COLS "FROM s" SESSION_JOIN,
                (struct ag_db_param[]){ag_db_str(ag_str(m->session_id))}, 1,
                archived, req);
}

static void
deleted_session(void *arg, const struct ag_db_result *res,
                const struct ag_err *err)
{
    struct brain_req *req = arg;
    struct session_state *state = req->state;
    Agent__Brain__V1__Deleted reply = AGENT__BRAIN__V1__DELETED__INIT;

    if (err != NULL) {
        ag_rpc_fail(req->call, err);
    } else if (ag_db_rows(res) == 0) {
        fail_not_found(req, state->id);
    } else {
        end_everything(req, state->id, true);
        brain_hub_close(req->brain->hub, ag_str(state->id));
        reply.id = (char *)(uintptr_t)state->id;
        reply.type = ag_arena_cstr(req->arena, AG_STR("session_deleted"));
        ag_rpc_reply(req->call, &reply.base);
    }
}

static void
delete_session(struct ag_rpc_call *call, const ProtobufCMessage *request,
               void *arg)
{
    const Agent__Brain__V1__DeleteSessionRequest *m =
        (const Agent__Brain__V1__DeleteSessionRequest *)request;
    struct brain_req *req = brain_enter(arg, call, false);

    if (req == NULL)
        return;
    state_new(req, m->session_id);
    brain_query(req, "DELETE FROM brain.session WHERE id = $1 RETURNING id",
                (struct ag_db_param[]){ag_db_str(ag_str(m->session_id))}, 1,
                deleted_session, req);
}

void
brain_session_register(struct brain *brain)
{
#define ADD(name)                                                              \
    ag_rpc_server_add(brain->server,                                           \
                      &agent__brain__v1__session_service__##name##__rpc, name, \
                      brain)
    ADD(create_session);
    ADD(get_session);
    ADD(update_session);
    ADD(list_sessions);
    ADD(archive_session);
    ADD(delete_session);
#undef ADD
}
