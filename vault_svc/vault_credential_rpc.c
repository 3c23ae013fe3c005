/*
 * VaultService, the half about credentials. A value comes in once, is sealed in
 * the same call, and is in no answer, log or error from then on.
 */
#include "vault_svc/vault_rpc.h"

#include "agent_rpc.h"
#include "lib/clock.h"
#include "lib/id.h"
#include "lib/json.h"
#include "vault.pb-c.h"
#include "vault_svc/vault_audit.h"
#include "vault_svc/vault_auth.h"
#include "vault_svc/vault_binding.h"
#include "vault_svc/vault_credential.h"
#include "vault_svc/vault_page.h"
#include "vault_svc/vault_search.h"

static Agent__Vault__V1__Credential *
credential_message(struct vault_op *op, const struct vault_credential_row *row)
{
    Agent__Vault__V1__Credential *out = ag_arena_alloc(op->arena, sizeof(*out));

    agent__vault__v1__credential__init(out);
    out->id = vault_op_text(op, row->id);
    out->type = "vault_credential";
    out->vault_id = vault_op_text(op, row->vault_id);
    if (row->display_name.p != NULL) {
        out->_display_name_case =
            AGENT__VAULT__V1__CREDENTIAL___DISPLAY_NAME_DISPLAY_NAME;
        out->display_name = vault_op_text(op, row->display_name);
    }
    out->auth_json = vault_op_data(op, row->auth);
    out->metadata_json = vault_op_data(op, row->metadata);
    out->binding_json = vault_op_data(op, row->binding);
    out->created_at = vault_op_time(op, row->created_us);
    out->updated_at = vault_op_time(op, row->updated_us);
    if (row->expires_us != 0) {
        out->_expires_at_case =
            AGENT__VAULT__V1__CREDENTIAL___EXPIRES_AT_EXPIRES_AT;
        out->expires_at = vault_op_time(op, row->expires_us);
    }
    if (row->archived_us != 0) {
        out->_archived_at_case =
            AGENT__VAULT__V1__CREDENTIAL___ARCHIVED_AT_ARCHIVED_AT;
        out->archived_at = vault_op_time(op, row->archived_us);
    }
    return out;
}

/* Columns behind VAULT_CREDENTIAL_COLUMNS. */
#define USE_COLUMNS "u.last_used_us, u.uses"
#define USE_JOIN " LEFT JOIN vault.credential_use u ON u.credential_id = c.id"

static Agent__Vault__V1__Credential *
with_use(struct vault_op *op, Agent__Vault__V1__Credential *m,
         const struct ag_db_result *res, int row)
{
    if (ag_db_is_null(res, row, VAULT_CREDENTIAL_N))
        return m;
    m->_last_used_at_case =
        AGENT__VAULT__V1__CREDENTIAL___LAST_USED_AT_LAST_USED_AT;
    m->last_used_at =
        vault_op_time(op, ag_db_get_int(res, row, VAULT_CREDENTIAL_N));
    m->uses = ag_db_get_int(res, row, VAULT_CREDENTIAL_N + 1);
    return m;
}

static int
new_credential_row(struct vault_op *op,
                   const Agent__Vault__V1__CreateCredentialRequest *req,
                   struct vault_credential_row *out, struct ag_err *err)
{
    AG_AUTO(ag_buf_release)
    struct ag_buf binding = AG_BUF_INIT(VAULT_BINDING_TEXT_MAX);
    AG_AUTO(ag_json_decref)
    json_t *j = ag_json_parse(vault_op_bytes(req->auth_json), err);
    struct vault_new_credential in = {.vault_id = ag_str(req->vault_id)};
    struct vault_reach reach = {0};

    if (j == NULL)
        return ag_err_set(err, AG_ERR_INVALID, "auth: not valid JSON");
    struct vault_binding_in from = {vault_op_bytes(req->binding_json),
                                    &reach.hosts, &op->v->deployment, 0};
    if (vault_auth_read(op, j, &in, &reach, err) < 0)
        return -1;
    from.location = reach.location;
    if (vault_auth_strip(op, j, &in.auth, err) < 0
        || vault_metadata_check(op, vault_op_bytes(req->metadata_json),
                                &in.metadata, err)
               < 0
        || vault_binding_build(&from, &binding, err) < 0)
        return -1;
    in.binding = ag_arena_copy(op->arena, ag_buf_str(&binding));
    in.env_name = ag_arena_copy(op->arena, in.env_name);
    if (req->_display_name_case
        == AGENT__VAULT__V1__CREATE_CREDENTIAL_REQUEST___DISPLAY_NAME_DISPLAY_NAME)
        in.display_name = ag_str(req->display_name);
    if (in.display_name.n > 256)
        return ag_err_set(err, AG_ERR_INVALID,
                          "display_name: more than 256 bytes");
    if (req->_expires_at_case
            == AGENT__VAULT__V1__CREATE_CREDENTIAL_REQUEST___EXPIRES_AT_EXPIRES_AT
        && vault_expiry_parse(req->expires_at, &in.expires_us, err) < 0)
        return -1;
    return vault_credential_make(op->v, op->tenant, &in, op->arena, out, err);
}

static void
on_credential_created(void *arg, const struct ag_db_result *res,
                      const struct ag_err *err)
{
    struct vault_op *op = arg;
    const struct vault_credential_row *row = op->state;

    if (res == NULL) {
        vault_op_fail(op, err);
        return;
    }
    if (ag_db_rows(res) != 1) {
        vault_op_refuse(op, AG_ERR_NOT_FOUND,
                        "vault_id: there is no such vault, or it is "
                        "archived");
        return;
    }
    vault_search_change(op->tenant);
    vault_generation_move(op->v);
    vault_audit_reply(op, "credential.created", row->id, AG_STR(""), AG_STR(""),
                      &credential_message(op, row)->base);
}

static void
create_credential(struct ag_rpc_call *call, const ProtobufCMessage *request,
                  void *arg)
{
    const Agent__Vault__V1__CreateCredentialRequest *req =
        (const void *)request;
    struct vault_op *op = vault_op_begin(call, req, arg, NULL);
    struct ag_err err = AG_ERR_INIT;

    if (op == NULL)
        return;
    struct vault_credential_row *row = ag_arena_alloc(op->arena, sizeof(*row));
    int rc = new_credential_row(op, req, row, &err);
    /* The request outlives this call's work; the value need not. */
    if (req->auth_json.len > 0)
        ag_wipe(req->auth_json.data, req->auth_json.len);
    if (rc < 0) {
        vault_op_fail(op, &err);
        return;
    }
    op->state = row;
    vault_credential_insert(op->v, op->tenant, row, on_credential_created, op);
}

/* The one credential of a query, checked, or the call is failed and NULL. */
static struct vault_credential_row *
credential_of_result(struct vault_op *op, const struct ag_db_result *res,
                     const struct ag_err *err)
{
    struct ag_err why = AG_ERR_INIT;

    if (res == NULL) {
        vault_op_fail(op, err);
        return NULL;
    }
    if (ag_db_rows(res) != 1) {
        vault_op_refuse(op, AG_ERR_NOT_FOUND,
                        "credential_id: there is no such credential in this "
                        "vault");
        return NULL;
    }
    struct vault_credential_row *row = ag_arena_alloc(op->arena, sizeof(*row));
    vault_credential_read(res, 0, 0, op->arena, row);
    if (vault_credential_check(op->tenant, row, &why) < 0) {
        vault_op_fail(op, &why);
        return NULL;
    }
    return row;
}

static void
find_credential(struct vault_op *op, const char *vault_id, const char *id,
                ag_db_done *done)
{
    static const char sql[] =
        "SELECT " VAULT_CREDENTIAL_COLUMNS ", " USE_COLUMNS
        " FROM vault.credential c" USE_JOIN
        " WHERE c.vault_id = $1 AND c.id = $2";
    struct ag_db_param params[] = {ag_db_str(ag_str(vault_id)),
                                   ag_db_str(ag_str(id))};
    ag_db_query(op->v->db, op->who.tenant, sql, params, 2, done, op);
}

static void
on_credential(void *arg, const struct ag_db_result *res,
              const struct ag_err *err)
{
    struct vault_op *op = arg;
    struct vault_credential_row *row = credential_of_result(op, res, err);
    if (row != NULL)
        ag_rpc_reply(op->call,
                     &with_use(op, credential_message(op, row), res, 0)->base);
}

static void
get_credential(struct ag_rpc_call *call, const ProtobufCMessage *request,
               void *arg)
{
    const Agent__Vault__V1__GetCredentialRequest *req = (const void *)request;
    struct vault_op *op = vault_op_begin(call, req, arg, NULL);
    if (op != NULL)
        find_credential(op, req->vault_id, req->credential_id, on_credential);
}

static ProtobufCMessage *
listed(struct vault_op *op, const struct ag_db_result *res, int i)
{
    struct vault_credential_row row;

    vault_credential_read(res, i, 0, op->arena, &row);
    return &with_use(op, credential_message(op, &row), res, i)->base;
}

static const struct vault_list credentials = {
    &agent__vault__v1__list_credentials_response__descriptor, listed};

static void
list_credentials(struct ag_rpc_call *call, const ProtobufCMessage *request,
                 void *arg)
{
    static const char sql[] =
        "SELECT " VAULT_CREDENTIAL_COLUMNS ", " USE_COLUMNS
        " FROM vault.credential c" USE_JOIN
        " WHERE c.vault_id = $1 AND c.session_id IS NULL"
        " AND ($2 = '' OR c.id < $2)"
        " AND ($3::boolean OR c.archived_us IS NULL)"
        " ORDER BY c.id DESC LIMIT $4::bigint";
    const Agent__Vault__V1__ListCredentialsRequest *req = (const void *)request;
    struct vault_op *op = vault_op_begin(call, req, arg, NULL);
    int64_t rows =
        op == NULL ? -1 : vault_page_begin(op, &credentials, req->limit);

    if (rows < 0)
        return;
    struct ag_db_param params[] = {
        ag_db_str(ag_str(req->vault_id)), ag_db_str(ag_str(req->page)),
        ag_db_bool(req->include_archived), ag_db_int(rows)};
    ag_db_query(op->v->db, op->who.tenant, sql, params, 4, vault_page_reply,
                op);
}

static void
on_credential_deleted(void *arg, const struct ag_db_result *res,
                      const struct ag_err *err)
{
    struct vault_op *op = arg;

    if (res == NULL) {
        vault_op_fail(op, err);
        return;
    }
    if (ag_db_rows(res) != 1) {
        vault_op_refuse(op, AG_ERR_NOT_FOUND,
                        "credential_id: there is no such credential in this "
                        "vault");
        return;
    }
    Agent__Vault__V1__Deleted *out = ag_arena_alloc(op->arena, sizeof(*out));
    agent__vault__v1__deleted__init(out);
    out->id = vault_op_text(op, ag_db_get(res, 0, 0));
    out->type = "vault_credential_deleted";
    vault_search_change(op->tenant);
    vault_generation_revoke(op->v, ag_str(out->id));
    vault_audit_reply(op, "credential.deleted", ag_str(out->id), AG_STR(""),
                      AG_STR(""), &out->base);
}

static void
delete_credential(struct ag_rpc_call *call, const ProtobufCMessage *request,
                  void *arg)
{
    static const char sql[] = "DELETE FROM vault.credential"
                              " WHERE vault_id = $1 AND id = $2"
                              " RETURNING id";
    const Agent__Vault__V1__DeleteCredentialRequest *req =
        (const void *)request;
    struct vault_op *op = vault_op_begin(call, req, arg, NULL);

    if (op == NULL)
        return;
    struct ag_db_param params[] = {ag_db_str(ag_str(req->vault_id)),
                                   ag_db_str(ag_str(req->credential_id))};
    ag_db_query(op->v->db, op->who.tenant, sql, params, 2,
                on_credential_deleted, op);
}

static void
on_credential_archived(void *arg, const struct ag_db_result *res,
                       const struct ag_err *err)
{
    struct vault_op *op = arg;
    const struct vault_credential_row *row = op->state;

    if (res == NULL) {
        vault_op_fail(op, err);
        return;
    }
    vault_search_change(op->tenant);
    vault_generation_revoke(op->v, row->id);
    vault_audit_reply(op, "credential.archived", row->id, AG_STR(""),
                      AG_STR(""), &credential_message(op, row)->base);
}

static void
on_credential_to_archive(void *arg, const struct ag_db_result *res,
                         const struct ag_err *err)
{
    static const char sql[] =
        "UPDATE vault.credential SET archived_us = $2, updated_us = $2,"
        " mac = $3 WHERE id = $1";
    struct vault_op *op = arg;
    struct vault_credential_row *row = credential_of_result(op, res, err);
    unsigned char mac[VAULT_MAC_BYTES];

    if (row == NULL)
        return;
    if (row->archived_us != 0) {
        ag_rpc_reply(op->call, &credential_message(op, row)->base);
        return;
    }
    row->archived_us = row->updated_us = ag_now_us();
    vault_credential_mac(op->tenant, row, mac);
    op->state = row;
    struct ag_db_param params[] = {ag_db_str(row->id),
                                   ag_db_int(row->archived_us),
                                   ag_db_bytes(ag_str_n(mac, sizeof(mac)))};
    ag_db_query(op->v->db, op->who.tenant, sql, params, 3,
                on_credential_archived, op);
}

static void
archive_credential(struct ag_rpc_call *call, const ProtobufCMessage *request,
                   void *arg)
{
    const Agent__Vault__V1__ArchiveCredentialRequest *req =
        (const void *)request;
    struct vault_op *op = vault_op_begin(call, req, arg, NULL);
    if (op != NULL)
        find_credential(op, req->vault_id, req->credential_id,
                        on_credential_to_archive);
}

/* ---- a new value ------------------------------------------------------- */

static void
on_credential_updated(void *arg, const struct ag_db_result *res,
                      const struct ag_err *err)
{
    struct vault_op *op = arg;
    const struct vault_credential_row *row = op->state;

    if (res == NULL) {
        vault_op_fail(op, err);
        return;
    }
    if (ag_db_rows(res) != 1) {
        vault_op_refuse(op, AG_ERR_PRECONDITION,
                        "credential_id: was changed meanwhile; read it again");
        return;
    }
    vault_search_change(op->tenant);
    vault_generation_move(op->v);
    char *detail = ag_arena_printf(op->arena, "{\"version\":%lld}",
                                   (long long)row->version);
    vault_audit_reply(op, "credential.updated", row->id, AG_STR(""),
                      ag_str(detail), &credential_message(op, row)->base);
}

/*
 * The row with what the request changes. A new value gets a new version; the
 * prefix of stubs stays, so that stubs of running sessions stay what they are.
 */
static int
change_row(struct vault_op *op, struct vault_credential_row *row,
           struct ag_err *err)
{
    const Agent__Vault__V1__UpdateCredentialRequest *req = op->request;
    AG_AUTO(ag_json_decref) json_t *j = NULL;
    ag_str_t value = {NULL, 0};

    if (row->archived_us != 0)
        return ag_err_set(err, AG_ERR_PRECONDITION,
                          "credential_id: is archived");
    if (req->_display_name_case
        == AGENT__VAULT__V1__UPDATE_CREDENTIAL_REQUEST___DISPLAY_NAME_DISPLAY_NAME)
        row->display_name = ag_str(req->display_name);
    if (row->display_name.n > 256)
        return ag_err_set(err, AG_ERR_INVALID,
                          "display_name: more than 256 bytes");
    if (req->metadata_json.len > 0
        && vault_metadata_check(op, vault_op_bytes(req->metadata_json),
                                &row->metadata, err)
               < 0)
        return -1;
    if (req->_expires_at_case
            == AGENT__VAULT__V1__UPDATE_CREDENTIAL_REQUEST___EXPIRES_AT_EXPIRES_AT
        && vault_expiry_parse(req->expires_at, &row->expires_us, err) < 0)
        return -1;
    if (req->auth_json.len == 0)
        return 0;
    j = ag_json_parse(vault_op_bytes(req->auth_json), err);
    if (j == NULL)
        return ag_err_set(err, AG_ERR_INVALID, "auth: not valid JSON");
    if (vault_auth_new_value(j, row->auth, &value, err) < 0)
        return -1;
    row->version++;
    return vault_credential_seal(op->tenant, row, value, op->arena, err);
}

static void
on_credential_to_update(void *arg, const struct ag_db_result *res,
                        const struct ag_err *err)
{
    static const char sql[] =
        "UPDATE vault.credential SET display_name = $2, metadata = $3,"
        " sealed = $4, version = $5::integer, updated_us = $6::bigint,"
        " mac = $7, key_version = $9::integer,"
        " expires_us = nullif($10::bigint, 0)"
        " WHERE id = $1 AND mac = $8 RETURNING id";
    struct vault_op *op = arg;
    const Agent__Vault__V1__UpdateCredentialRequest *req = op->request;
    struct vault_credential_row *row = credential_of_result(op, res, err);
    struct ag_err why = AG_ERR_INIT;
    unsigned char mac[VAULT_MAC_BYTES];

    int rc = row == NULL ? -1 : change_row(op, row, &why);
    if (req->auth_json.len > 0)
        ag_wipe(req->auth_json.data, req->auth_json.len);
    if (row == NULL)
        return;
    if (rc < 0) {
        vault_op_fail(op, &why);
        return;
    }
    ag_str_t before = row->mac;
    row->updated_us = ag_now_us();
    vault_credential_mac(op->tenant, row, mac);
    op->state = row;
    struct ag_db_param params[] = {ag_db_str(row->id),
                                   row->display_name.p == NULL
                                       ? ag_db_null()
                                       : ag_db_str(row->display_name),
                                   ag_db_str(row->metadata),
                                   ag_db_bytes(row->sealed),
                                   ag_db_int(row->version),
                                   ag_db_int(row->updated_us),
                                   ag_db_bytes(ag_str_n(mac, sizeof(mac))),
                                   ag_db_bytes(before),
                                   ag_db_int(row->key_version),
                                   ag_db_int(row->expires_us)};
    ag_db_query(op->v->db, op->who.tenant, sql, params, 10,
                on_credential_updated, op);
}

static void
update_credential(struct ag_rpc_call *call, const ProtobufCMessage *request,
                  void *arg)
{
    const Agent__Vault__V1__UpdateCredentialRequest *req =
        (const void *)request;
    struct vault_op *op = vault_op_begin(call, req, arg, NULL);
    if (op != NULL)
        find_credential(op, req->vault_id, req->credential_id,
                        on_credential_to_update);
}

void
vault_credential_serve(struct ag_rpc_server *srv, struct vault_face *face)
{
#define M(name) &agent__vault__v1__vault_service__##name##__rpc
    ag_rpc_server_add(srv, M(create_credential), create_credential, face);
    ag_rpc_server_add(srv, M(update_credential), update_credential, face);
    ag_rpc_server_add(srv, M(get_credential), get_credential, face);
    ag_rpc_server_add(srv, M(list_credentials), list_credentials, face);
    ag_rpc_server_add(srv, M(delete_credential), delete_credential, face);
    ag_rpc_server_add(srv, M(archive_credential), archive_credential, face);
#undef M
}
