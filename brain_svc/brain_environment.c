/*
 * EnvironmentService. The network policy of an environment is the vault's: each
 * write hands the caller's own request and assertion to GrantService/PutPolicy
 * first, and stores only the digest that comes back.
 */
#include "agent_rpc.h"
#include "brain.pb-c.h"
#include "brain_svc/brain_check.h"
#include "brain_svc/brain_page.h"
#include "lib/id.h"
#include "vault.pb-c.h"

#define DESCRIPTION_MAX 2048
#define CONFIG_DEFAULT                                          \
    "{\"type\":\"cloud\",\"networking\":{\"type\":\"limited\"," \
    "\"allowed_hosts\":[],\"allow_mcp_servers\":false,"         \
    "\"allow_package_managers\":false}}"

/* clang-format off */
#define ENV_COLS                                                               \
    " e.id, e.name, e.description, e.config, e.metadata, "                     \
    BRAIN_TIME("e.created_at") ", " BRAIN_TIME("e.updated_at") ", "            \
    BRAIN_TIME("e.archived_at") ", e.version, e.policy_digest "
/* clang-format on */

typedef Agent__Brain__V1__Environment environment_msg;

/* What a write remembers while the vault answers. */
struct put {
    const char *id, *name, *description; /* NULL: keep */
    ag_str_t config, metadata;           /* empty: keep */
    int32_t version;
};

static void
fill_environment(void *message, const struct ag_db_result *res, int row,
                 struct ag_arena *arena)
{
    environment_msg *m = message;

    agent__brain__v1__environment__init(m);
    m->id = brain_cell(res, row, 0, arena);
    m->type = ag_arena_cstr(arena, AG_STR("environment"));
    m->name = brain_cell(res, row, 1, arena);
    if (!ag_db_is_null(res, row, 2)) {
        m->_description_case =
            AGENT__BRAIN__V1__ENVIRONMENT___DESCRIPTION_DESCRIPTION;
        m->description = brain_cell(res, row, 2, arena);
    }
    m->config_json = brain_cell_json(res, row, 3, arena);
    m->metadata_json = brain_cell_json(res, row, 4, arena);
    m->created_at = brain_cell(res, row, 5, arena);
    m->updated_at = brain_cell(res, row, 6, arena);
    if (!ag_db_is_null(res, row, 7)) {
        m->_archived_at_case =
            AGENT__BRAIN__V1__ENVIRONMENT___ARCHIVED_AT_ARCHIVED_AT;
        m->archived_at = brain_cell(res, row, 7, arena);
    }
    m->version = (int32_t)ag_db_get_int(res, row, 8);
    m->policy_digest = brain_cell(res, row, 9, arena);
}

static void
fail_not_found(struct brain_req *req, const char *id)
{
    struct ag_err err;

    ag_err_set(&err, AG_ERR_NOT_FOUND,
               "environment_id: no environment \"%.64s\"", id);
    ag_rpc_fail(req->call, &err);
}

/* req->state is the id that was asked for. */
static void
reply_environment(void *arg, const struct ag_db_result *res,
                  const struct ag_err *err)
{
    struct brain_req *req = arg;
    environment_msg m;

    if (err != NULL) {
        ag_rpc_fail(req->call, err);
    } else if (ag_db_rows(res) == 0) {
        fail_not_found(req, req->state);
    } else {
        fill_environment(&m, res, 0, req->arena);
        ag_rpc_reply(req->call, &m.base);
    }
}

/* ---- writes ------------------------------------------------------------ */

static struct ag_db_param
keep_or(const char *s)
{
    return s == NULL ? ag_db_null() : ag_db_str(ag_str(s));
}

static struct ag_db_param
keep_or_json(ag_str_t s)
{
    return s.n == 0 ? ag_db_null() : ag_db_str(s);
}

static void
store(struct brain_req *req, const struct put *put, const char *digest)
{
    const struct ag_db_param params[] = {
        ag_db_str(req->who.tenant),  ag_db_str(ag_str(put->id)),
        ag_db_int(put->version),     keep_or(put->name),
        keep_or(put->description),   keep_or_json(put->config),
        keep_or_json(put->metadata), keep_or(digest),
    };

    req->state = (void *)(uintptr_t)put->id;
    if (put->version == 1)
        brain_query(req,
                    "INSERT INTO brain.environment AS e (tenant, id, version, "
                    "name, description, config, metadata, policy_digest) "
                    "VALUES ($1, $2, $3::int, $4, $5, $6::json, $7::json, $8) "
                    "RETURNING" ENV_COLS,
                    params, 8, reply_environment, req);
    else
        brain_query(req,
                    "UPDATE brain.environment e SET version = $3::int, "
                    "name = coalesce($4, name), "
                    "description = coalesce($5, description), "
                    "config = coalesce($6::json, config), "
                    "metadata = coalesce($7::json, metadata), "
                    "policy_digest = $8, updated_at = now() "
                    "WHERE tenant = $1 AND id = $2 AND version = $3::int - 1 "
                    "RETURNING" ENV_COLS,
                    params, 8, reply_environment, req);
}

static void
policy_stored(void *arg, const ProtobufCMessage *reply,
              const struct ag_err *err)
{
    struct brain_req *req = arg;

    if (err != NULL)
        ag_rpc_fail(req->call, err);
    else
        store(req, req->state,
              ((const Agent__Vault__V1__PutPolicyResponse *)reply)->digest);
}

static void
put_policy(struct brain_req *req, struct put *put)
{
    Agent__Vault__V1__PutPolicyRequest policy =
        AGENT__VAULT__V1__PUT_POLICY_REQUEST__INIT;
    struct ag_rpc_metadata md = {AG_ASSERTION_METADATA, req->assertion};
    struct ag_rpc_call_opts opts = {BRAIN_RPC_TIMEOUT_MS, &md, 1};

    policy.environment_id = (char *)(uintptr_t)put->id;
    policy.version = put->version;
    policy.original_request = brain_data(ag_rpc_call_bytes(req->call));
    req->state = put;
    ag_rpc_unary(req->brain->vault,
                 &agent__vault__v1__grant_service__put_policy__rpc,
                 &policy.base, &opts, policy_stored, req);
}

/* `networking` "unrestricted" and hosts that are none are the vault's to
 * refuse; here only the shape is checked. */
static int
check_config(ProtobufCBinaryData bytes, const char *def, struct ag_arena *arena,
             ag_str_t *out, struct ag_err *err)
{
    AG_AUTO(ag_json_decref) json_t *j = NULL;
    ag_str_t type = AG_STR("cloud");

    if (brain_check_object("config", bytes, def, arena, out, err) < 0)
        return -1;
    if (out->n == 0)
        return 0;
    j = ag_json_parse(*out, err);
    ag_assert(j != NULL);
    if (ag_json_get_str(j, "type", &type, err) < 0)
        return ag_err_wrap(err, "config");
    if (!ag_str_is(type, "cloud"))
        return ag_err_set(err, AG_ERR_INVALID,
                          "config.type: \"%.*s\" is not \"cloud\"",
                          AG_FMT(type));
    return 0;
}

static void
create_environment(struct ag_rpc_call *call, const ProtobufCMessage *request,
                   void *arg)
{
    const Agent__Brain__V1__CreateEnvironmentRequest *m =
        (const Agent__Brain__V1__CreateEnvironmentRequest *)request;
    struct brain_req *req = brain_enter(arg, call, true);
    AG_AUTO(ag_json_decref) json_t *metadata = NULL;
    char id[AG_ID_TEXT];
    struct ag_err err;
    struct put *put;

    if (req == NULL)
        return;
    put = ag_arena_alloc(req->arena, sizeof(*put));
    if (brain_check_name("name", m->name, &err) < 0
        || brain_check_text("description", m->description, DESCRIPTION_MAX,
                            &err)
               < 0
        || check_config(m->config_json, CONFIG_DEFAULT, req->arena,
                        &put->config, &err)
               < 0
        || brain_check_metadata(m->metadata_json, req->arena, &put->metadata,
                                &metadata, &err)
               < 0) {
        ag_rpc_fail(call, &err);
        return;
    }
    ag_id_new("env", id);
    put->id = ag_arena_cstr(req->arena, ag_str(id));
    put->name = m->name;
    put->description = m->_description_case != 0 ? m->description : NULL;
    put->version = 1;
    put_policy(req, put);
}

/* The version to write is known: on to the vault. */
static void
found_for_update(void *arg, const struct ag_db_result *res,
                 const struct ag_err *err)
{
    struct brain_req *req = arg;
    struct put *put = req->state;

    if (err != NULL) {
        ag_rpc_fail(req->call, err);
    } else if (ag_db_rows(res) == 0) {
        fail_not_found(req, put->id);
    } else {
        put->version = (int32_t)ag_db_get_int(res, 0, 0) + 1;
        if (put->config.n > 0)
            put_policy(req, put);
        else
            store(req, put, brain_cell(res, 0, 1, req->arena));
    }
}

static void
update_environment(struct ag_rpc_call *call, const ProtobufCMessage *request,
                   void *arg)
{
    const Agent__Brain__V1__UpdateEnvironmentRequest *m =
        (const Agent__Brain__V1__UpdateEnvironmentRequest *)request;
    struct brain_req *req = brain_enter(arg, call, true);
    AG_AUTO(ag_json_decref) json_t *metadata = NULL;
    struct ag_err err;
    struct put *put;

    if (req == NULL)
        return;
    put = ag_arena_alloc(req->arena, sizeof(*put));
    if ((m->_name_case != 0 && brain_check_name("name", m->name, &err) < 0)
        || brain_check_text("description", m->description, DESCRIPTION_MAX,
                            &err)
               < 0
        || check_config(m->config_json, "", req->arena, &put->config, &err) < 0
        || brain_check_metadata(m->metadata_json, req->arena, &put->metadata,
                                &metadata, &err)
               < 0) {
        ag_rpc_fail(call, &err);
        return;
    }
    if (m->metadata_json.len == 0)
        put->metadata = (ag_str_t){NULL, 0};
    put->id = m->environment_id;
    put->name = m->_name_case != 0 ? m->name : NULL;
    put->description = m->_description_case != 0 ? m->description : NULL;
    req->state = put;
    brain_query(req,
                "SELECT version, policy_digest FROM brain.environment "
                "WHERE id = $1 AND archived_at IS NULL",
                (struct ag_db_param[]){ag_db_str(ag_str(put->id))}, 1,
                found_for_update, req);
}

static void
archive_environment(struct ag_rpc_call *call, const ProtobufCMessage *request,
                    void *arg)
{
    const Agent__Brain__V1__ArchiveEnvironmentRequest *m =
        (const Agent__Brain__V1__ArchiveEnvironmentRequest *)request;
    struct brain_req *req = brain_enter(arg, call, false);

    if (req == NULL)
        return;
    req->state = m->environment_id;
    brain_query(req,
                "UPDATE brain.environment e SET archived_at = "
                "coalesce(archived_at, now()) WHERE id = $1 "
                "RETURNING" ENV_COLS,
                (struct ag_db_param[]){ag_db_str(ag_str(m->environment_id))}, 1,
                reply_environment, req);
}

static void
deleted_environment(void *arg, const struct ag_db_result *res,
                    const struct ag_err *err)
{
    struct brain_req *req = arg;
    Agent__Brain__V1__Deleted reply = AGENT__BRAIN__V1__DELETED__INIT;
    struct ag_err in_use;

    if (err != NULL && err->kind == AG_ERR_NOT_FOUND) {
        /* The only foreign key that points here is a session's. */
        ag_err_set(&in_use, AG_ERR_PRECONDITION,
                   "environment_id: a session uses \"%s\": archive it instead",
                   (const char *)req->state);
        ag_rpc_fail(req->call, &in_use);
    } else if (err != NULL) {
        ag_rpc_fail(req->call, err);
    } else if (ag_db_rows(res) == 0) {
        fail_not_found(req, req->state);
    } else {
        reply.id = req->state;
        reply.type = ag_arena_cstr(req->arena, AG_STR("environment_deleted"));
        ag_rpc_reply(req->call, &reply.base);
    }
}

static void
delete_environment(struct ag_rpc_call *call, const ProtobufCMessage *request,
                   void *arg)
{
    const Agent__Brain__V1__DeleteEnvironmentRequest *m =
        (const Agent__Brain__V1__DeleteEnvironmentRequest *)request;
    struct brain_req *req = brain_enter(arg, call, false);

    if (req == NULL)
        return;
    req->state = m->environment_id;
    brain_query(req, "DELETE FROM brain.environment WHERE id = $1 RETURNING id",
                (struct ag_db_param[]){ag_db_str(ag_str(m->environment_id))}, 1,
                deleted_environment, req);
}

/* ---- reads ------------------------------------------------------------- */

static void
get_environment(struct ag_rpc_call *call, const ProtobufCMessage *request,
                void *arg)
{
    const Agent__Brain__V1__GetEnvironmentRequest *m =
        (const Agent__Brain__V1__GetEnvironmentRequest *)request;
    struct brain_req *req = brain_enter(arg, call, false);

    if (req == NULL)
        return;
    req->state = m->environment_id;
    brain_query(req, "SELECT" ENV_COLS "FROM brain.environment e WHERE id = $1",
                (struct ag_db_param[]){ag_db_str(ag_str(m->environment_id))}, 1,
                reply_environment, req);
}

static const struct brain_list environments = {
    &agent__brain__v1__list_environments_response__descriptor,
    &agent__brain__v1__environment__descriptor, fill_environment};

static void
list_environments(struct ag_rpc_call *call, const ProtobufCMessage *request,
                  void *arg)
{
    const Agent__Brain__V1__ListEnvironmentsRequest *m =
        (const Agent__Brain__V1__ListEnvironmentsRequest *)request;
    struct brain_req *req = brain_enter(arg, call, false);
    int64_t rows =
        req == NULL ? -1 : brain_page_begin(req, &environments, m->limit);

    if (rows < 0)
        return;
    brain_query(req,
                "SELECT" ENV_COLS "FROM brain.environment e "
                "WHERE ($1 = '' OR id < $1) "
                "AND ($2::bool OR archived_at IS NULL) "
                "ORDER BY id DESC LIMIT $3::int",
                (struct ag_db_param[]){ag_db_str(ag_str(m->page)),
                                       ag_db_bool(m->include_archived),
                                       ag_db_int(rows)},
                3, brain_page_reply, req);
}

void
brain_environment_register(struct brain *brain)
{
#define ADD(name)                                                            \
    ag_rpc_server_add(brain->server,                                         \
                      &agent__brain__v1__environment_service__##name##__rpc, \
                      name, brain)
    ADD(create_environment);
    ADD(get_environment);
    ADD(update_environment);
    ADD(list_environments);
    ADD(archive_environment);
    ADD(delete_environment);
#undef ADD
}
