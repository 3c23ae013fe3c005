/*
 * GrantService. The brain carries requests here, but what it may write is said
 * by the assertion that ingress had made for exactly these bytes: the vault
 * reads the person's request itself and takes nothing from the brain but the
 * ids it just gave.
 */
#include "vault_svc/vault_grant.h"

#include "agent_rpc.h"
#include "brain.pb-c.h"
#include "lib/clock.h"
#include "lib/id.h"
#include "lib/json.h"
#include "vault.pb-c.h"
#include "vault_svc/vault_owner.h"
#include "vault_svc/vault_audit.h"
#include "vault_svc/vault_policy_rpc.h"
#include "vault_svc/vault_rpc.h"
#include "vault_svc/vault_session.h"

enum { IDS_MAX = 16 };

struct put_grant {
    struct vault_grant_row row;
    size_t n_vaults, n_environments;
};

static void
add_id(json_t *list, const char *id)
{
    for (size_t i = 0; i < json_array_size(list); i++)
        if (strcmp(json_string_value(json_array_get(list, i)), id) == 0)
            return;
    json_array_append_new(list, json_string(id));
}

/* The ids, each once, as a JSON array; every one must have the prefix. */
static int
id_list(struct vault_op *op, const char *first, char **ids, size_t n,
        const char *prefix, const char *field, ag_str_t *out, size_t *count,
        struct ag_err *err)
{
    AG_AUTO(ag_json_decref) json_t *list = json_array();
    AG_AUTO(ag_buf_release) struct ag_buf text = AG_BUF_INIT(4096);

    if (n > IDS_MAX)
        return ag_err_set(err, AG_ERR_INVALID, "%s: more than %d", field,
                          IDS_MAX);
    if (first != NULL)
        add_id(list, first);
    for (size_t i = 0; i < n; i++)
        add_id(list, ids[i]);
    for (size_t i = 0; i < json_array_size(list); i++) {
        const char *id = json_string_value(json_array_get(list, i));
        if (!ag_id_is(ag_str(id), prefix))
            return ag_err_set(err, AG_ERR_INVALID,
                              "%s: \"%.40s\" is not an id \"%s_…\"", field, id,
                              prefix);
    }
    if (ag_json_dump(list, &text, err) < 0)
        return -1;
    *count = json_array_size(list);
    *out = ag_arena_copy(op->arena, ag_buf_str(&text));
    return 0;
}

static void
free_session(Agent__Brain__V1__CreateSessionRequest **msg)
{
    if (*msg != NULL)
        agent__brain__v1__create_session_request__free_unpacked(*msg, NULL);
}

static int
read_session_request(struct vault_op *op, ag_str_t raw, struct put_grant *out,
                     struct ag_err *err)
{
    AG_AUTO(free_session)
    Agent__Brain__V1__CreateSessionRequest *msg =
        agent__brain__v1__create_session_request__unpack(
            NULL, raw.n, (const uint8_t *)raw.p);

    if (msg == NULL)
        return ag_err_set(err, AG_ERR_INVALID,
                          "original_request: no CreateSessionRequest");
    if (id_list(op, NULL, msg->vault_ids, msg->n_vault_ids, "vlt", "vault_ids",
                &out->row.vault_ids, &out->n_vaults, err)
        < 0)
        return -1;
    return id_list(op, msg->environment_id, msg->environment_ids,
                   msg->n_environment_ids, "env", "environment_ids",
                   &out->row.environment_ids, &out->n_environments, err);
}

static void
reply_put_grant(struct vault_op *op)
{
    static const Agent__Vault__V1__PutGrantResponse out =
        AGENT__VAULT__V1__PUT_GRANT_RESPONSE__INIT;
    const struct put_grant *g = op->state;
    vault_audit_reply(op, "grant.put", g->row.session_id, g->row.session_id,
                      AG_STR(""), &out.base);
}

static void
on_existing_grant(void *arg, const struct ag_db_result *res,
                  const struct ag_err *err)
{
    struct vault_op *op = arg;

    if (res == NULL)
        vault_op_fail(op, err);
    else if (ag_db_rows(res) == 1 && ag_db_get_bool(res, 0, 0))
        reply_put_grant(op); /* the same request again */
    else
        vault_op_refuse(op, AG_ERR_EXISTS,
                        "session_id: has a grant of another request");
}

static void
on_grant_inserted(void *arg, const struct ag_db_result *res,
                  const struct ag_err *err)
{
    static const char sql[] = "SELECT request_sha256 = $2 AND ended_us IS NULL"
                              " FROM vault.session_grant"
                              " WHERE session_id = $1";
    struct vault_op *op = arg;
    const struct put_grant *g = op->state;

    if (res == NULL) {
        vault_op_fail(op, err);
        return;
    }
    if (ag_db_rows(res) == 1) {
        vault_owner_note(op->v, g->row.session_id, op->tenant);
        reply_put_grant(op);
        return;
    }
    struct ag_db_param params[] = {ag_db_str(g->row.session_id),
                                   ag_db_bytes(g->row.request_sha256)};
    ag_db_query(op->v->db, op->who.tenant, sql, params, 2, on_existing_grant,
                op);
}

static void
on_grant_checked(void *arg, const struct ag_db_result *res,
                 const struct ag_err *err)
{
    static const char sql[] =
        "INSERT INTO vault.session_grant (session_id, tenant, subject,"
        " vault_ids, environment_ids, request_sha256, created_us, mac)"
        " VALUES ($1, $2, $3, $4, $5, $6, $7, $8)"
        " ON CONFLICT (session_id) DO NOTHING RETURNING session_id";
    struct vault_op *op = arg;
    struct put_grant *g = op->state;
    unsigned char mac[VAULT_MAC_BYTES];

    if (res == NULL) {
        vault_op_fail(op, err);
        return;
    }
    if ((size_t)ag_db_get_int(res, 0, 0) != g->n_vaults) {
        vault_op_refuse(op, AG_ERR_NOT_FOUND,
                        "vault_ids: one of the vaults does not exist or is "
                        "archived");
        return;
    }
    if ((size_t)ag_db_get_int(res, 0, 1) != g->n_environments) {
        vault_op_refuse(op, AG_ERR_NOT_FOUND,
                        "environment_id: one of the environments does not "
                        "exist");
        return;
    }
    vault_grant_mac(op->tenant, &g->row, mac);
    struct ag_db_param params[] = {ag_db_str(g->row.session_id),
                                   ag_db_str(op->who.tenant),
                                   ag_db_str(g->row.subject),
                                   ag_db_str(g->row.vault_ids),
                                   ag_db_str(g->row.environment_ids),
                                   ag_db_bytes(g->row.request_sha256),
                                   ag_db_int(g->row.created_us),
                                   ag_db_bytes(ag_str_n(mac, sizeof(mac)))};
    ag_db_query(op->v->db, op->who.tenant, sql, params, 8, on_grant_inserted,
                op);
}

static void
put_grant(struct ag_rpc_call *call, const ProtobufCMessage *request, void *arg)
{
    static const char sql[] =
        "SELECT (SELECT count(*) FROM vault.vault WHERE archived_us IS NULL"
        " AND NOT is_platform"
        " AND id IN (SELECT json_array_elements_text($1::json))),"
        " (SELECT count(DISTINCT environment_id) FROM vault.policy"
        " WHERE environment_id IN"
        " (SELECT json_array_elements_text($2::json)))";
    const Agent__Vault__V1__PutGrantRequest *req = (const void *)request;
    ag_str_t original = vault_op_bytes(req->original_request);
    struct vault_op *op = vault_op_begin(call, req, arg, &original);
    struct ag_err err = AG_ERR_INIT;

    if (op == NULL)
        return;
    if (!ag_id_is(ag_str(req->session_id), "sesn")) {
        vault_op_refuse(op, AG_ERR_INVALID, "session_id: not an id \"sesn_…\"");
        return;
    }
    struct put_grant *g = ag_arena_alloc(op->arena, sizeof(*g));
    if (read_session_request(op, original, g, &err) < 0) {
        vault_op_fail(op, &err);
        return;
    }
    g->row.session_id = ag_str(req->session_id);
    g->row.subject = op->who.subject;
    g->row.request_sha256 =
        ag_arena_copy(op->arena, ag_str_n(op->who.request_sha256, 32));
    g->row.created_us = ag_now_us();
    op->state = g;
    struct ag_db_param params[] = {ag_db_str(g->row.vault_ids),
                                   ag_db_str(g->row.environment_ids)};
    ag_db_query(op->v->db, op->who.tenant, sql, params, 2, on_grant_checked,
                op);
}

/* ---- end --------------------------------------------------------------- */

static void
on_grant_ended(void *arg, const struct ag_db_result *res,
               const struct ag_err *err)
{
    static const Agent__Vault__V1__EndGrantResponse out =
        AGENT__VAULT__V1__END_GRANT_RESPONSE__INIT;
    struct vault_op *op = arg;
    const struct vault_grant_row *row = op->state;

    if (res == NULL) {
        vault_op_fail(op, err);
        return;
    }
    vault_generation_revoke(op->v, row->session_id);
    vault_audit_reply(op, "grant.ended", row->session_id, row->session_id,
                      AG_STR(""), &out.base);
}

static void
on_grant_to_end(void *arg, const struct ag_db_result *res,
                const struct ag_err *err)
{
    static const char sql[] =
        "WITH closed AS (UPDATE vault.workload SET closed_us = $2"
        " WHERE session_id = $1 AND closed_us IS NULL),"
        " minted AS (DELETE FROM vault.credential WHERE session_id = $1)"
        " UPDATE vault.session_grant SET ended_us = $2, mac = $3"
        " WHERE session_id = $1";
    static const Agent__Vault__V1__EndGrantResponse done =
        AGENT__VAULT__V1__END_GRANT_RESPONSE__INIT;
    struct vault_op *op = arg;
    struct ag_err why = AG_ERR_INIT;
    unsigned char mac[VAULT_MAC_BYTES];

    if (res == NULL) {
        vault_op_fail(op, err);
        return;
    }
    struct vault_grant_row *row = ag_arena_alloc(op->arena, sizeof(*row));
    if (ag_db_rows(res) == 1)
        vault_grant_read(res, 0, 0, op->arena, row);
    if (ag_db_rows(res) != 1 || row->ended_us != 0) {
        ag_rpc_reply(op->call, &done.base);
        return;
    }
    if (vault_grant_check(op->tenant, row, &why) < 0) {
        vault_op_fail(op, &why);
        return;
    }
    row->ended_us = ag_now_us();
    vault_grant_mac(op->tenant, row, mac);
    op->state = row;
    struct ag_db_param params[] = {ag_db_str(row->session_id),
                                   ag_db_int(row->ended_us),
                                   ag_db_bytes(ag_str_n(mac, sizeof(mac)))};
    ag_db_query(op->v->db, op->who.tenant, sql, params, 3, on_grant_ended, op);
}

static void
end_grant(struct ag_rpc_call *call, const ProtobufCMessage *request, void *arg)
{
    static const char sql[] =
        "SELECT " VAULT_GRANT_COLUMNS " FROM vault.session_grant g"
        " WHERE g.session_id = $1";
    const Agent__Vault__V1__EndGrantRequest *req = (const void *)request;
    struct vault_op *op = vault_op_begin(call, req, arg, NULL);

    if (op == NULL)
        return;
    struct ag_db_param params[] = {ag_db_str(ag_str(req->session_id))};
    ag_db_query(op->v->db, op->who.tenant, sql, params, 1, on_grant_to_end, op);
}

void
vault_grant_serve(struct ag_rpc_server *srv, struct vault_face *face)
{
    ag_rpc_server_add(srv, &agent__vault__v1__grant_service__put_grant__rpc,
                      put_grant, face);
    ag_rpc_server_add(srv, &agent__vault__v1__grant_service__end_grant__rpc,
                      end_grant, face);
    vault_policy_serve_put(srv, face);
}
