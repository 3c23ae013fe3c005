/*
 * Network policies of environments: PutPolicy, carried by the brain under an
 * assertion made for exactly the person's request, and what `observe` saw.
 */
#include "vault_svc/vault_policy_rpc.h"

#include "agent_rpc.h"
#include "brain.pb-c.h"
#include "lib/clock.h"
#include "lib/id.h"
#include "vault.pb-c.h"
#include "vault_svc/vault_audit.h"
#include "vault_svc/vault_policy.h"

#include "vault_svc/vault_rpc.h"

static void
digest_of(struct vault_op *op, struct vault_policy_row *row)
{
    AG_AUTO(ag_buf_release) struct ag_buf hex = AG_BUF_INIT(64);
    unsigned char raw[32];

    ag_sha256(row->policy, raw);
    ag_buf_add_hex(&hex, ag_str_n(raw, sizeof(raw)));
    row->digest = ag_arena_copy(op->arena, ag_buf_str(&hex));
}

static void
reply_put_policy(struct vault_op *op)
{
    const struct vault_policy_row *row = op->state;
    Agent__Vault__V1__PutPolicyResponse *out =
        ag_arena_alloc(op->arena, sizeof(*out));

    agent__vault__v1__put_policy_response__init(out);
    out->digest = vault_op_text(op, row->digest);
    vault_generation_move(op->v);
    char *detail =
        ag_arena_printf(op->arena,
                        "{\"version\":%lld,"
                        "\"digest\":\"%.*s\"}",
                        (long long)row->version, AG_FMT(row->digest));
    vault_audit_reply(op, "policy.put", row->environment_id, AG_STR(""),
                      ag_str(detail), &out->base);
}

static void
on_policy_existing(void *arg, const struct ag_db_result *res,
                   const struct ag_err *err)
{
    struct vault_op *op = arg;

    if (res == NULL)
        vault_op_fail(op, err);
    else if (ag_db_rows(res) == 1 && ag_db_get_bool(res, 0, 0))
        reply_put_policy(op);
    else
        vault_op_refuse(op, AG_ERR_EXISTS,
                        "version: this version has another policy, or is not "
                        "the next one");
}

static void
on_policy_inserted(void *arg, const struct ag_db_result *res,
                   const struct ag_err *err)
{
    static const char sql[] = "SELECT digest = $3 FROM vault.policy"
                              " WHERE environment_id = $1 AND version = $2";
    struct vault_op *op = arg;
    const struct vault_policy_row *row = op->state;

    if (res == NULL) {
        vault_op_fail(op, err);
        return;
    }
    if (ag_db_rows(res) == 1) {
        reply_put_policy(op);
        return;
    }
    struct ag_db_param params[] = {ag_db_str(row->environment_id),
                                   ag_db_int(row->version),
                                   ag_db_str(row->digest)};
    ag_db_query(op->v->db, op->who.tenant, sql, params, 3, on_policy_existing,
                op);
}

static void
insert_policy(struct vault_op *op, struct vault_policy_row *row)
{
    /* Versions are made one after the other. */
    static const char sql[] =
        "INSERT INTO vault.policy (tenant, environment_id, version, policy,"
        " digest, subject, created_us, mac)"
        " SELECT $1, $2, $3::integer, $4, $5, $6, $7::bigint, $8"
        " WHERE $3::integer = 1 + coalesce((SELECT max(version)"
        " FROM vault.policy WHERE environment_id = $2), 0)"
        " ON CONFLICT DO NOTHING RETURNING version";
    unsigned char mac[VAULT_MAC_BYTES];

    digest_of(op, row);
    vault_policy_row_mac(op->tenant, row, mac);
    struct ag_db_param params[] = {
        ag_db_str(op->who.tenant),  ag_db_str(row->environment_id),
        ag_db_int(row->version),    ag_db_str(row->policy),
        ag_db_str(row->digest),     ag_db_str(row->subject),
        ag_db_int(row->created_us), ag_db_bytes(ag_str_n(mac, sizeof(mac)))};
    ag_db_query(op->v->db, op->who.tenant, sql, params, 8, on_policy_inserted,
                op);
}

/* An update without `config` keeps the policy it had. */
static void
on_policy_before(void *arg, const struct ag_db_result *res,
                 const struct ag_err *err)
{
    struct vault_op *op = arg;
    struct vault_policy_row *row = op->state, before;
    struct ag_err why = AG_ERR_INIT;

    if (res == NULL) {
        vault_op_fail(op, err);
        return;
    }
    if (ag_db_rows(res) != 1) {
        vault_op_refuse(op, AG_ERR_NOT_FOUND,
                        "environment_id: has no policy of the version "
                        "before");
        return;
    }
    vault_policy_row_read(res, 0, 0, op->arena, &before);
    if (vault_policy_row_check(op->tenant, &before, &why) < 0) {
        vault_op_fail(op, &why);
        return;
    }
    row->policy = before.policy;
    insert_policy(op, row);
}

static void
keep_policy(struct vault_op *op)
{
    static const char sql[] =
        "SELECT " VAULT_POLICY_COLUMNS " FROM vault.policy p"
        " WHERE p.environment_id = $1 AND p.version = $2 - 1";
    const struct vault_policy_row *row = op->state;
    struct ag_db_param params[] = {ag_db_str(row->environment_id),
                                   ag_db_int(row->version)};
    ag_db_query(op->v->db, op->who.tenant, sql, params, 2, on_policy_before,
                op);
}

/* config_json and metadata_json of the original request, in the arena. */
static int
read_config(struct vault_op *op, const Agent__Vault__V1__PutPolicyRequest *req,
            ag_str_t *config, ag_str_t *metadata, struct ag_err *err)
{
    ag_str_t raw = vault_op_bytes(req->original_request);

    if (req->version == 1) {
        Agent__Brain__V1__CreateEnvironmentRequest *m =
            agent__brain__v1__create_environment_request__unpack(
                NULL, raw.n, (const uint8_t *)raw.p);
        if (m == NULL)
            return ag_err_set(err, AG_ERR_INVALID,
                              "original_request: no CreateEnvironmentRequest");
        *config = ag_arena_copy(op->arena, vault_op_bytes(m->config_json));
        *metadata = ag_arena_copy(op->arena, vault_op_bytes(m->metadata_json));
        agent__brain__v1__create_environment_request__free_unpacked(m, NULL);
        return 0;
    }
    Agent__Brain__V1__UpdateEnvironmentRequest *m =
        agent__brain__v1__update_environment_request__unpack(
            NULL, raw.n, (const uint8_t *)raw.p);
    bool ok = m != NULL && strcmp(m->environment_id, req->environment_id) == 0;
    if (ok) {
        *config = ag_arena_copy(op->arena, vault_op_bytes(m->config_json));
        *metadata = ag_arena_copy(op->arena, vault_op_bytes(m->metadata_json));
    }
    if (m != NULL)
        agent__brain__v1__update_environment_request__free_unpacked(m, NULL);
    if (!ok)
        return ag_err_set(err, AG_ERR_INVALID,
                          "original_request: no UpdateEnvironmentRequest of "
                          "this environment");
    return 0;
}

/* An update's metadata alone does not say which hosts it goes with. */
static int
check_update(const Agent__Vault__V1__PutPolicyRequest *req, ag_str_t config,
             ag_str_t metadata, struct ag_err *err)
{
    if (req->version > 1 && config.n == 0 && vault_policy_in_metadata(metadata))
        return ag_err_set(err, AG_ERR_INVALID,
                          "metadata." VAULT_POLICY_METADATA
                          ": needs `config` in the same update");
    return 0;
}

static void
put_policy(struct ag_rpc_call *call, const ProtobufCMessage *request, void *arg)
{
    const Agent__Vault__V1__PutPolicyRequest *req = (const void *)request;
    ag_str_t original = vault_op_bytes(req->original_request),
             config = {NULL, 0}, metadata = {NULL, 0};
    struct vault_op *op = vault_op_begin(call, req, arg, &original);
    AG_AUTO(ag_buf_release)
    struct ag_buf policy = AG_BUF_INIT(VAULT_POLICY_TEXT_MAX);
    struct ag_err err = AG_ERR_INIT;

    if (op == NULL)
        return;
    if (!ag_id_is(ag_str(req->environment_id), "env") || req->version < 1) {
        vault_op_refuse(op, AG_ERR_INVALID,
                        "environment_id, version: not an id \"env_…\" and a "
                        "number from 1");
        return;
    }
    if (read_config(op, req, &config, &metadata, &err) < 0
        || check_update(req, config, metadata, &err) < 0
        || vault_policy_from_config(config, metadata, &op->v->deployment,
                                    &policy, &err)
               < 0) {
        vault_op_fail(op, &err);
        return;
    }
    struct vault_policy_row *row = ag_arena_alloc(op->arena, sizeof(*row));
    row->environment_id = ag_str(req->environment_id);
    row->version = req->version;
    row->policy = ag_arena_copy(op->arena, ag_buf_str(&policy));
    row->subject = op->who.subject;
    row->created_us = ag_now_us();
    op->state = row;
    if (req->version > 1 && config.n == 0)
        keep_policy(op);
    else
        insert_policy(op, row);
}

void
vault_policy_serve_put(struct ag_rpc_server *srv, struct vault_face *face)
{
    ag_rpc_server_add(srv, &agent__vault__v1__grant_service__put_policy__rpc,
                      put_policy, face);
}
