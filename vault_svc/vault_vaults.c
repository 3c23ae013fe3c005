/*
 * VaultService, the half about vaults: folders of credentials that a session is
 * granted as a whole.
 */
#include "vault_svc/vault_rpc.h"
#include "vault_svc/vault_search.h"

#include "agent_rpc.h"
#include "lib/clock.h"
#include "lib/id.h"
#include "lib/json.h"
#include "vault.pb-c.h"
#include "vault_svc/vault_audit.h"
#include "vault_svc/vault_page.h"

enum { METADATA_MAX = 16 * 1024, METADATA_PAIRS = 16 };

ag_str_t
vault_op_bytes(ProtobufCBinaryData b)
{
    return ag_str_n(b.data, b.len);
}

ProtobufCBinaryData
vault_op_data(struct vault_op *op, ag_str_t s)
{
    return (ProtobufCBinaryData){s.n, (uint8_t *)vault_op_text(op, s)};
}

/* Absent becomes {}; an object of at most 16 strings otherwise. */
int
vault_metadata_check(struct vault_op *op, ag_str_t in, ag_str_t *out,
                     struct ag_err *err)
{
    AG_AUTO(ag_buf_release) struct ag_buf text = AG_BUF_INIT(METADATA_MAX);
    const char *key;
    json_t *value;

    *out = AG_STR("{}");
    if (in.n == 0 || ag_str_is(in, "null"))
        return 0;
    AG_AUTO(ag_json_decref) json_t *j = ag_json_parse(in, err);
    if (j == NULL)
        return ag_err_wrap(err, "metadata");
    if (!json_is_object(j) || json_object_size(j) > METADATA_PAIRS)
        return ag_err_set(err, AG_ERR_INVALID,
                          "metadata: not an object of at most %d strings",
                          METADATA_PAIRS);
    json_object_foreach (j, key, value)
        if (!json_is_string(value))
            return ag_err_set(err, AG_ERR_INVALID,
                              "metadata.%.60s: not a string", key);
    if (ag_json_dump(j, &text, err) < 0)
        return ag_err_wrap(err, "metadata");
    *out = ag_arena_copy(op->arena, ag_buf_str(&text));
    return 0;
}

#define VAULT_COLUMNS \
    "id, display_name, metadata, created_us, updated_us, archived_us"

static Agent__Vault__V1__Vault *
vault_message(struct vault_op *op, const struct ag_db_result *res, int row)
{
    Agent__Vault__V1__Vault *out = ag_arena_alloc(op->arena, sizeof(*out));

    agent__vault__v1__vault__init(out);
    out->id = vault_op_text(op, ag_db_get(res, row, 0));
    out->type = "vault";
    out->display_name = vault_op_text(op, ag_db_get(res, row, 1));
    out->metadata_json = vault_op_data(op, ag_db_get(res, row, 2));
    out->created_at = vault_op_time(op, ag_db_get_int(res, row, 3));
    out->updated_at = vault_op_time(op, ag_db_get_int(res, row, 4));
    if (!ag_db_is_null(res, row, 5)) {
        out->_archived_at_case =
            AGENT__VAULT__V1__VAULT___ARCHIVED_AT_ARCHIVED_AT;
        out->archived_at = vault_op_time(op, ag_db_get_int(res, row, 5));
    }
    return out;
}

/* The one vault of a query, or the call is failed and NULL. */
static Agent__Vault__V1__Vault *
vault_of_result(struct vault_op *op, const struct ag_db_result *res,
                const struct ag_err *err)
{
    if (res == NULL) {
        vault_op_fail(op, err);
        return NULL;
    }
    if (ag_db_rows(res) != 1) {
        vault_op_refuse(op, AG_ERR_NOT_FOUND,
                        "vault_id: there is no such vault");
        return NULL;
    }
    return vault_message(op, res, 0);
}

static void
on_vault_created(void *arg, const struct ag_db_result *res,
                 const struct ag_err *err)
{
    struct vault_op *op = arg;
    Agent__Vault__V1__Vault *vault = vault_of_result(op, res, err);
    if (vault != NULL)
        vault_audit_reply(op, "vault.created", ag_str(vault->id), AG_STR(""),
                          AG_STR(""), &vault->base);
}

static void
create_vault(struct ag_rpc_call *call, const ProtobufCMessage *request,
             void *arg)
{
    static const char sql[] =
        "INSERT INTO vault.vault (id, tenant, display_name, metadata,"
        " created_us, updated_us) VALUES ($1, $2, $3, $4, $5, $5)"
        " RETURNING " VAULT_COLUMNS;
    const Agent__Vault__V1__CreateVaultRequest *req = (const void *)request;
    struct vault_op *op = vault_op_begin(call, req, arg, NULL);
    struct ag_err err = AG_ERR_INIT;
    char id[AG_ID_TEXT];
    ag_str_t metadata;

    if (op == NULL)
        return;
    ag_str_t name = ag_str(req->display_name);
    if (name.n == 0 || name.n > 256) {
        vault_op_refuse(op, AG_ERR_INVALID, "display_name: not 1 to 256 bytes");
        return;
    }
    if (vault_metadata_check(op, vault_op_bytes(req->metadata_json), &metadata,
                             &err)
        < 0) {
        vault_op_fail(op, &err);
        return;
    }
    ag_id_new("vlt", id);
    struct ag_db_param params[] = {ag_db_str(ag_str(id)),
                                   ag_db_str(op->who.tenant), ag_db_str(name),
                                   ag_db_str(metadata), ag_db_int(ag_now_us())};
    ag_db_query(op->v->db, op->who.tenant, sql, params, 5, on_vault_created,
                op);
}

static void
on_vault(void *arg, const struct ag_db_result *res, const struct ag_err *err)
{
    struct vault_op *op = arg;
    Agent__Vault__V1__Vault *vault = vault_of_result(op, res, err);
    if (vault != NULL)
        ag_rpc_reply(op->call, &vault->base);
}

static void
get_vault(struct ag_rpc_call *call, const ProtobufCMessage *request, void *arg)
{
    static const char sql[] =
        "SELECT " VAULT_COLUMNS " FROM vault.vault WHERE id = $1";
    const Agent__Vault__V1__GetVaultRequest *req = (const void *)request;
    struct vault_op *op = vault_op_begin(call, req, arg, NULL);

    if (op == NULL)
        return;
    struct ag_db_param params[] = {ag_db_str(ag_str(req->vault_id))};
    ag_db_query(op->v->db, op->who.tenant, sql, params, 1, on_vault, op);
}

static ProtobufCMessage *
listed(struct vault_op *op, const struct ag_db_result *res, int i)
{
    return &vault_message(op, res, i)->base;
}

static const struct vault_list vaults = {
    &agent__vault__v1__list_vaults_response__descriptor, listed};

static void
list_vaults(struct ag_rpc_call *call, const ProtobufCMessage *request,
            void *arg)
{
    static const char sql[] = "SELECT " VAULT_COLUMNS " FROM vault.vault"
                              " WHERE ($1 = '' OR id < $1) AND NOT is_platform"
                              " AND ($2::boolean OR archived_us IS NULL)"
                              " ORDER BY id DESC LIMIT $3::bigint";
    const Agent__Vault__V1__ListVaultsRequest *req = (const void *)request;
    struct vault_op *op = vault_op_begin(call, req, arg, NULL);
    int64_t rows = op == NULL ? -1 : vault_page_begin(op, &vaults, req->limit);

    if (rows < 0)
        return;
    struct ag_db_param params[] = {ag_db_str(ag_str(req->page)),
                                   ag_db_bool(req->include_archived),
                                   ag_db_int(rows)};
    ag_db_query(op->v->db, op->who.tenant, sql, params, 3, vault_page_reply,
                op);
}

static void
on_vault_changed(void *arg, const struct ag_db_result *res,
                 const struct ag_err *err)
{
    struct vault_op *op = arg;
    Agent__Vault__V1__Vault *vault = vault_of_result(op, res, err);

    if (vault == NULL)
        return;
    vault_search_change(op->tenant);
    vault_generation_revoke(op->v, ag_str(vault->id));
    if (op->state == NULL) {
        vault_audit_reply(op, "vault.archived", ag_str(vault->id), AG_STR(""),
                          AG_STR(""), &vault->base);
        return;
    }
    Agent__Vault__V1__Deleted *out = op->state;
    out->id = vault->id;
    out->type = "vault_deleted";
    vault_audit_reply(op, "vault.deleted", ag_str(vault->id), AG_STR(""),
                      AG_STR(""), &out->base);
}

static void
delete_vault(struct ag_rpc_call *call, const ProtobufCMessage *request,
             void *arg)
{
    static const char sql[] = "DELETE FROM vault.vault"
                              " WHERE id = $1 AND NOT is_platform"
                              " RETURNING " VAULT_COLUMNS;
    const Agent__Vault__V1__DeleteVaultRequest *req = (const void *)request;
    struct vault_op *op = vault_op_begin(call, req, arg, NULL);

    if (op == NULL)
        return;
    Agent__Vault__V1__Deleted *out = ag_arena_alloc(op->arena, sizeof(*out));
    agent__vault__v1__deleted__init(out);
    op->state = out;
    struct ag_db_param params[] = {ag_db_str(ag_str(req->vault_id))};
    ag_db_query(op->v->db, op->who.tenant, sql, params, 1, on_vault_changed,
                op);
}

static void
archive_vault(struct ag_rpc_call *call, const ProtobufCMessage *request,
              void *arg)
{
    static const char sql[] =
        "UPDATE vault.vault SET archived_us = coalesce(archived_us, $2),"
        " updated_us = $2 WHERE id = $1 AND NOT is_platform"
        " RETURNING " VAULT_COLUMNS;
    const Agent__Vault__V1__ArchiveVaultRequest *req = (const void *)request;
    struct vault_op *op = vault_op_begin(call, req, arg, NULL);

    if (op == NULL)
        return;
    struct ag_db_param params[] = {ag_db_str(ag_str(req->vault_id)),
                                   ag_db_int(ag_now_us())};
    ag_db_query(op->v->db, op->who.tenant, sql, params, 2, on_vault_changed,
                op);
}

void
vault_vaults_serve(struct ag_rpc_server *srv, struct vault_face *face)
{
#define M(name) &agent__vault__v1__vault_service__##name##__rpc
    ag_rpc_server_add(srv, M(create_vault), create_vault, face);
    ag_rpc_server_add(srv, M(get_vault), get_vault, face);
    ag_rpc_server_add(srv, M(list_vaults), list_vaults, face);
    ag_rpc_server_add(srv, M(delete_vault), delete_vault, face);
    ag_rpc_server_add(srv, M(archive_vault), archive_vault, face);
#undef M
}
