/*
 * AgentService and ModelService: agents and their immutable versions.
 * One function a method, then one for what the database answered.
 */
#include "agent_rpc.h"
#include "brain.pb-c.h"
#include "brain_svc/brain_check.h"
#include "brain_svc/brain_page.h"
#include "brain_svc/brain_harness.h"
#include "brain_svc/brain_tools.h"
#include "brain_svc/brain_wire.h"
#include "lib/id.h"

#define SYSTEM_MAX (100 * 1024)
#define DESCRIPTION_MAX 2048

/* clang-format off */
#define AGENT_COLS                                                             \
    " a.id, v.name, v.description, v.model, v.system, v.tools, "               \
    "v.mcp_servers, v.skills, v.metadata, v.harness, v.version, "              \
    BRAIN_TIME("a.created_at") ", " BRAIN_TIME("v.created_at") ", "            \
    BRAIN_TIME("a.archived_at") ", v.max_steps, v.max_turn_seconds "
/* clang-format on */

typedef Agent__Brain__V1__Agent agent_msg;

static void
fill_agent(void *message, const struct ag_db_result *res, int row,
           struct ag_arena *arena)
{
    agent_msg *m = message;

    agent__brain__v1__agent__init(m);
    m->id = brain_cell(res, row, 0, arena);
    m->type = ag_arena_cstr(arena, AG_STR("agent"));
    m->name = brain_cell(res, row, 1, arena);
    if (!ag_db_is_null(res, row, 2)) {
        m->_description_case =
            AGENT__BRAIN__V1__AGENT___DESCRIPTION_DESCRIPTION;
        m->description = brain_cell(res, row, 2, arena);
    }
    m->model_json = brain_cell_json(res, row, 3, arena);
    if (!ag_db_is_null(res, row, 4)) {
        m->_system_case = AGENT__BRAIN__V1__AGENT___SYSTEM_SYSTEM;
        m->system = brain_cell(res, row, 4, arena);
    }
    m->tools_json = brain_cell_json(res, row, 5, arena);
    m->mcp_servers_json = brain_cell_json(res, row, 6, arena);
    m->skills_json = brain_cell_json(res, row, 7, arena);
    m->metadata_json = brain_cell_json(res, row, 8, arena);
    m->harness = brain_cell(res, row, 9, arena);
    m->version = (int32_t)ag_db_get_int(res, row, 10);
    m->created_at = brain_cell(res, row, 11, arena);
    m->updated_at = brain_cell(res, row, 12, arena);
    if (!ag_db_is_null(res, row, 13)) {
        m->_archived_at_case =
            AGENT__BRAIN__V1__AGENT___ARCHIVED_AT_ARCHIVED_AT;
        m->archived_at = brain_cell(res, row, 13, arena);
    }
    m->max_steps = (int32_t)ag_db_get_int(res, row, 14);
    m->max_turn_seconds = (int32_t)ag_db_get_int(res, row, 15);
}

/* One agent, or NOT_FOUND for no row. */
static void
reply_agent(void *arg, const struct ag_db_result *res, const struct ag_err *err)
{
    struct brain_req *req = arg;
    struct ag_err none;
    agent_msg m;

    if (err != NULL) {
        ag_rpc_fail(req->call, err);
    } else if (ag_db_rows(res) == 0) {
        ag_err_set(&none, AG_ERR_NOT_FOUND, "agent_id: no agent \"%s\"",
                   (const char *)req->state);
        ag_rpc_fail(req->call, &none);
    } else {
        fill_agent(&m, res, 0, req->arena);
        ag_rpc_reply(req->call, &m.base);
    }
}

/* ---- input ------------------------------------------------------------- */

struct agent_input {
    ag_str_t model, tools, mcp_servers, skills, metadata;
    const char *harness;
};

/* A name, or an object with `id`; the object form is what is stored. */
static int
check_model(struct brain *brain, ProtobufCBinaryData bytes,
            struct ag_arena *arena, ag_str_t *out, struct ag_err *err)
{
    AG_AUTO(ag_json_decref) json_t *j = NULL;
    AG_AUTO(ag_buf_release) struct ag_buf b = AG_BUF_INIT(8192);
    ag_str_t name = ag_str(brain->conf.model_default), wire = {NULL, 0};

    if (bytes.len > 0) {
        j = ag_json_parse(brain_bytes(bytes), err);
        if (j == NULL)
            return ag_err_wrap(err, "model");
        if (json_is_object(j)) {
            name = (ag_str_t){NULL, 0};
            if (ag_json_get_str(j, "id", &name, err) < 0)
                return ag_err_wrap(err, "model");
            if (ag_json_get_str(j, "wire", &wire, err) < 0)
                return ag_err_wrap(err, "model");
            if (wire.n > 0 && brain_wire_find(wire) == NULL)
                return ag_err_set(err, AG_ERR_INVALID,
                                  "model.wire: \"%.*s\" is none of chat, "
                                  "responses, messages",
                                  AG_FMT(wire));
        } else if (json_is_string(j)) {
            name = ag_json_str(j);
        } else {
            return ag_err_set(err, AG_ERR_INVALID,
                              "model: must be a name or an object with id");
        }
        if (name.n == 0 || name.n > 256)
            return ag_err_set(err, AG_ERR_INVALID,
                              "model.id: must have 1 to 256 bytes");
        if (json_is_object(j)) {
            *out = ag_arena_copy(arena, brain_bytes(bytes));
            return 0;
        }
    }
    ag_buf_add(&b, AG_STR("{\"id\":"));
    ag_buf_add_json(&b, name);
    ag_buf_addc(&b, '}');
    *out = ag_arena_copy(arena, ag_buf_str(&b));
    return 0;
}

static int
check_tools(ProtobufCBinaryData bytes, const char *def, struct ag_arena *arena,
            ag_str_t *out, struct ag_err *err)
{
    AG_AUTO(brain_tools_freep) struct brain_tools *tools = NULL;

    if (brain_check_array("tools", bytes, def, arena, out, err) < 0)
        return -1;
    if (out->n == 0)
        return 0;
    tools = brain_tools_new(*out, err);
    return tools == NULL ? -1 : 0;
}

/* The field, else `brainbox.harness` of the metadata, else `def`. */
static int
check_harness(const char *field, const json_t *metadata, const char *def,
              struct ag_arena *arena, const char **out, struct ag_err *err)
{
    ag_str_t name = ag_str(field);

    if (name.n == 0
        && ag_json_get_str(metadata, "brainbox.harness", &name, err) < 0)
        return -1;
    if (name.n == 0)
        name = ag_str(def);
    if (name.n > 0 && brain_harness_find(name) == NULL)
        return ag_err_set(err, AG_ERR_INVALID,
                          "harness: \"%.*s\" is none of native, runbook",
                          AG_FMT(name));
    *out = ag_arena_cstr(arena, name);
    return 0;
}

static int
check_range(const char *field, int32_t value, int32_t max, struct ag_err *err)
{
    if (value < 0 || value > max)
        return ag_err_set(err, AG_ERR_INVALID, "%s: must be 1 to %d", field,
                          max);
    return 0;
}

static int
check_create(struct brain_req *req,
             const Agent__Brain__V1__CreateAgentRequest *m,
             struct agent_input *in, struct ag_err *err)
{
    AG_AUTO(ag_json_decref) json_t *metadata = NULL;

    if (brain_check_name("name", m->name, err) < 0
        || brain_check_text("description", m->description, DESCRIPTION_MAX, err)
               < 0
        || brain_check_text("system", m->system, SYSTEM_MAX, err) < 0
        || check_model(req->brain, m->model_json, req->arena, &in->model, err)
               < 0
        || check_tools(m->tools_json, "[]", req->arena, &in->tools, err) < 0
        || brain_check_array("mcp_servers", m->mcp_servers_json, "[]",
                             req->arena, &in->mcp_servers, err)
               < 0
        || brain_check_array("skills", m->skills_json, "[]", req->arena,
                             &in->skills, err)
               < 0
        || brain_check_metadata(m->metadata_json, req->arena, &in->metadata,
                                &metadata, err)
               < 0
        || check_harness(m->harness, metadata,
                         brain_harness_default(req->brain), req->arena,
                         &in->harness, err)
               < 0
        || check_range("max_steps", m->max_steps, 1000, err) < 0
        || check_range("max_turn_seconds", m->max_turn_seconds, 86400, err) < 0)
        return -1;
    return 0;
}

/* ---- methods ----------------------------------------------------------- */

static struct ag_db_param
optional(int is_set, const char *value)
{
    return is_set ? ag_db_str(ag_str(value)) : ag_db_null();
}

static void
create_agent(struct ag_rpc_call *call, const ProtobufCMessage *request,
             void *arg)
{
    const Agent__Brain__V1__CreateAgentRequest *m =
        (const Agent__Brain__V1__CreateAgentRequest *)request;
    struct brain *brain = arg;
    struct brain_req *req = brain_enter(brain, call, false);
    struct agent_input in = {0};
    char id[AG_ID_TEXT];
    struct ag_err err;

    if (req == NULL)
        return;
    if (check_create(req, m, &in, &err) < 0) {
        ag_rpc_fail(call, &err);
        return;
    }
    ag_id_new("agent", id);
    req->state = ag_arena_cstr(req->arena, ag_str(id));
    brain_query(
        req,
        "WITH a AS (INSERT INTO brain.agent (tenant, id, version) "
        "VALUES ($1, $2, 1) RETURNING *), "
        "v AS (INSERT INTO brain.agent_version (tenant, agent_id, version, "
        "name, description, model, system, tools, mcp_servers, skills, "
        "metadata, harness, max_steps, max_turn_seconds) VALUES ($1, $2, 1, "
        "$3, $4, $5::json, $6, $7::json, $8::json, $9::json, $10::json, $11, "
        "$12::int, $13::int) RETURNING *) SELECT" AGENT_COLS "FROM a, v",
        (struct ag_db_param[]){
            ag_db_str(req->who.tenant), ag_db_str(ag_str(id)),
            ag_db_str(ag_str(m->name)),
            optional(m->_description_case != 0, m->description),
            ag_db_str(in.model), optional(m->_system_case != 0, m->system),
            ag_db_str(in.tools), ag_db_str(in.mcp_servers),
            ag_db_str(in.skills), ag_db_str(in.metadata),
            ag_db_str(ag_str(in.harness)),
            ag_db_int(m->max_steps == 0 ? brain->conf.step_limit
                                        : m->max_steps),
            ag_db_int(m->max_turn_seconds == 0 ? brain->conf.turn_seconds
                                               : m->max_turn_seconds)},
        13, reply_agent, req);
}

static void
get_agent(struct ag_rpc_call *call, const ProtobufCMessage *request, void *arg)
{
    const Agent__Brain__V1__GetAgentRequest *m =
        (const Agent__Brain__V1__GetAgentRequest *)request;
    struct brain_req *req = brain_enter(arg, call, false);

    if (req == NULL)
        return;
    req->state = m->agent_id;
    brain_query(req,
                "SELECT" AGENT_COLS "FROM brain.agent a "
                "JOIN brain.agent_version v ON v.agent_id = a.id "
                "WHERE a.id = $1 AND v.version = "
                "CASE WHEN $2::int = 0 THEN a.version ELSE $2::int END",
                (struct ag_db_param[]){ag_db_str(ag_str(m->agent_id)),
                                       ag_db_int(m->version)},
                2, reply_agent, req);
}

/* Columns 16 and 17: the version that was, and whether it was updated. */
static void
updated_agent(void *arg, const struct ag_db_result *res,
              const struct ag_err *err)
{
    struct brain_req *req = arg;
    struct ag_err conflict;

    if (err == NULL && ag_db_rows(res) == 1 && ag_db_is_null(res, 0, 0)) {
        ag_err_set(&conflict, AG_ERR_CONFLICT,
                   "version: the agent is at version %lld: read it again",
                   (long long)ag_db_get_int(res, 0, 16));
        ag_rpc_fail(req->call, &conflict);
        return;
    }
    reply_agent(arg, res, err);
}

/* Absent fields are null here, and so keep what they were. */
static int
check_update(struct brain_req *req,
             const Agent__Brain__V1__UpdateAgentRequest *m,
             struct agent_input *in, struct ag_err *err)
{
    AG_AUTO(ag_json_decref) json_t *metadata = NULL;

    if ((m->_name_case != 0 && brain_check_name("name", m->name, err) < 0)
        || brain_check_text("description", m->description, DESCRIPTION_MAX, err)
               < 0
        || brain_check_text("system", m->system, SYSTEM_MAX, err) < 0
        || (m->model_json.len > 0
            && check_model(req->brain, m->model_json, req->arena, &in->model,
                           err)
                   < 0)
        || check_tools(m->tools_json, "", req->arena, &in->tools, err) < 0
        || brain_check_array("mcp_servers", m->mcp_servers_json, "", req->arena,
                             &in->mcp_servers, err)
               < 0
        || brain_check_array("skills", m->skills_json, "", req->arena,
                             &in->skills, err)
               < 0
        || brain_check_metadata(m->metadata_json, req->arena, &in->metadata,
                                &metadata, err)
               < 0
        || check_harness(m->harness, metadata, "", req->arena, &in->harness,
                         err)
               < 0)
        return -1;
    if (m->metadata_json.len == 0)
        in->metadata = (ag_str_t){NULL, 0};
    return 0;
}

static struct ag_db_param
or_null(ag_str_t s)
{
    return s.n > 0 ? ag_db_str(s) : ag_db_null();
}

static void
update_agent(struct ag_rpc_call *call, const ProtobufCMessage *request,
             void *arg)
{
    const Agent__Brain__V1__UpdateAgentRequest *m =
        (const Agent__Brain__V1__UpdateAgentRequest *)request;
    struct brain_req *req = brain_enter(arg, call, false);
    struct agent_input in = {0};
    struct ag_err err;

    if (req == NULL)
        return;
    if (check_update(req, m, &in, &err) < 0) {
        ag_rpc_fail(call, &err);
        return;
    }
    req->state = m->agent_id;
    brain_query(
        req,
        "WITH cur AS (SELECT v.*, a.archived_at, a.created_at AS made_at "
        "FROM brain.agent a JOIN brain.agent_version v "
        "ON v.agent_id = a.id AND v.version = a.version "
        "WHERE a.id = $1 AND a.archived_at IS NULL FOR UPDATE OF a), "
        "a AS (UPDATE brain.agent g SET version = cur.version + 1, "
        "updated_at = now() FROM cur WHERE g.id = cur.agent_id "
        "AND ($2::int = 0 OR $2::int = cur.version) RETURNING g.*), "
        "v AS (INSERT INTO brain.agent_version SELECT cur.tenant, "
        "cur.agent_id, a.version, coalesce($3, cur.name), "
        "coalesce($4, cur.description), coalesce($5::json, cur.model), "
        "coalesce($6, cur.system), coalesce($7::json, cur.tools), "
        "coalesce($8::json, cur.mcp_servers), "
        "coalesce($9::json, cur.skills), coalesce($10::json, cur.metadata), "
        "coalesce($11, cur.harness), cur.max_steps, cur.max_turn_seconds, "
        "now() FROM cur, a RETURNING *) "
        "SELECT" AGENT_COLS ", cur.version FROM cur LEFT JOIN a ON true "
        "LEFT JOIN v ON true",
        (struct ag_db_param[]){
            ag_db_str(ag_str(m->agent_id)), ag_db_int(m->version),
            optional(m->_name_case != 0, m->name),
            optional(m->_description_case != 0, m->description),
            or_null(in.model), optional(m->_system_case != 0, m->system),
            or_null(in.tools), or_null(in.mcp_servers), or_null(in.skills),
            or_null(in.metadata), or_null(ag_str(in.harness))},
        11, updated_agent, req);
}

static const struct brain_list agents = {
    &agent__brain__v1__list_agents_response__descriptor,
    &agent__brain__v1__agent__descriptor, fill_agent};

static void
list_agents(struct ag_rpc_call *call, const ProtobufCMessage *request,
            void *arg)
{
    const Agent__Brain__V1__ListAgentsRequest *m =
        (const Agent__Brain__V1__ListAgentsRequest *)request;
    struct brain_req *req = brain_enter(arg, call, false);
    int64_t rows = req == NULL ? -1 : brain_page_begin(req, &agents, m->limit);

    if (rows < 0)
        return;
    brain_query(req,
                "SELECT" AGENT_COLS "FROM brain.agent a "
                "JOIN brain.agent_version v ON v.agent_id = a.id "
                "AND v.version = a.version WHERE ($1 = '' OR a.id < $1) "
                "AND ($2::bool OR a.archived_at IS NULL) "
                "ORDER BY a.id DESC LIMIT $3::int",
                (struct ag_db_param[]){ag_db_str(ag_str(m->page)),
                                       ag_db_bool(m->include_archived),
                                       ag_db_int(rows)},
                3, brain_page_reply, req);
}

static void
archive_agent(struct ag_rpc_call *call, const ProtobufCMessage *request,
              void *arg)
{
    const Agent__Brain__V1__ArchiveAgentRequest *m =
        (const Agent__Brain__V1__ArchiveAgentRequest *)request;
    struct brain_req *req = brain_enter(arg, call, false);

    if (req == NULL)
        return;
    req->state = m->agent_id;
    brain_query(req,
                "WITH a AS (UPDATE brain.agent SET archived_at = "
                "coalesce(archived_at, now()) WHERE id = $1 RETURNING *) "
                "SELECT" AGENT_COLS "FROM a JOIN brain.agent_version v "
                "ON v.agent_id = a.id AND v.version = a.version",
                (struct ag_db_param[]){ag_db_str(ag_str(m->agent_id))}, 1,
                reply_agent, req);
}

static void
list_models(struct ag_rpc_call *call, const ProtobufCMessage *request,
            void *arg)
{
    struct brain_req *req = brain_enter(arg, call, false);
    Agent__Brain__V1__ListModelsResponse reply =
        AGENT__BRAIN__V1__LIST_MODELS_RESPONSE__INIT;
    Agent__Brain__V1__Model model = AGENT__BRAIN__V1__MODEL__INIT;
    Agent__Brain__V1__Model *list = &model;

    (void)request;
    if (req == NULL)
        return;
    if (req->brain->conf.model_base_url[0] != '\0') {
        model.id = req->brain->conf.model_default;
        model.display_name = model.id;
        model.type = ag_arena_cstr(req->arena, AG_STR("model"));
        model.created_at =
            ag_arena_cstr(req->arena, AG_STR("1970-01-01T00:00:00.000000Z"));
        reply.data = &list;
        reply.n_data = 1;
    }
    ag_rpc_reply(call, &reply.base);
}

void
brain_agent_register(struct brain *brain)
{
#define ADD(name)                                                            \
    ag_rpc_server_add(brain->server,                                         \
                      &agent__brain__v1__agent_service__##name##__rpc, name, \
                      brain)
    ADD(create_agent);
    ADD(get_agent);
    ADD(update_agent);
    ADD(list_agents);
    ADD(archive_agent);
#undef ADD
    ag_rpc_server_add(brain->server,
                      &agent__brain__v1__model_service__list_models__rpc,
                      list_models, brain);
}
