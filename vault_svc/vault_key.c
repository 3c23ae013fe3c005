/*
 * KeyService: the keys of a tenant. A key has scopes or a role, never more than
 * whoever makes it holds, and is shown once.
 */
#include "vault_svc/vault_key.h"

#include "agent_rpc.h"
#include "lib/clock.h"
#include "lib/id.h"
#include "vault.pb-c.h"
#include "vault_svc/vault_audit.h"
#include "vault_svc/vault_page.h"
#include "vault_svc/vault_role.h"
#include "vault_svc/vault_scope.h"

struct created {
    Agent__Vault__V1__Key *key;
    ag_str_t detail; /* of the audit row */
};

static void
key_make(char out[VAULT_KEY_TEXT + 1])
{
    static const char chars[] = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ"
                                "abcdefghijklmnopqrstuvwxyz";
    memcpy(out, "bbx_", 4);
    for (int i = 4; i < VAULT_KEY_TEXT;) {
        unsigned char r;
        ag_random(&r, 1);
        if (r < 62 * 4) /* no character is likelier than another */
            out[i++] = chars[r % 62];
    }
    out[VAULT_KEY_TEXT] = '\0';
}

static Agent__Vault__V1__Key *
key_message(struct vault_op *op, const struct vault_key_row *row)
{
    Agent__Vault__V1__Key *out = ag_arena_alloc(op->arena, sizeof(*out));

    agent__vault__v1__key__init(out);
    out->id = vault_op_text(op, row->id);
    out->type = "api_key";
    out->name = vault_op_text(op, row->name);
    out->n_scopes = vault_scopes_list(vault_scopes_parse(row->scopes),
                                      op->arena, &out->scopes);
    out->created_at = vault_op_time(op, row->created_us);
    if (row->role_id.p != NULL) {
        out->_role_id_case = AGENT__VAULT__V1__KEY___ROLE_ID_ROLE_ID;
        out->role_id = vault_op_text(op, row->role_id);
    }
    if (row->revoked_us != 0) {
        out->_revoked_at_case = AGENT__VAULT__V1__KEY___REVOKED_AT_REVOKED_AT;
        out->revoked_at = vault_op_time(op, row->revoked_us);
    }
    if (row->last_used_us != 0) {
        out->_last_used_at_case =
            AGENT__VAULT__V1__KEY___LAST_USED_AT_LAST_USED_AT;
        out->last_used_at = vault_op_time(op, row->last_used_us);
    }
    return out;
}

static void
on_key_created(void *arg, const struct ag_db_result *res,
               const struct ag_err *err)
{
    struct vault_op *op = arg;
    const struct created *made = op->state;

    if (res == NULL)
        vault_op_fail(op, err);
    else
        vault_audit_reply(op, "key.created", ag_str(made->key->id), AG_STR(""),
                          made->detail, &made->key->base);
}

/* With the scopes, or with the role that the request names. */
static void
insert_key(struct vault_op *op, unsigned scopes)
{
    static const char sql[] =
        "INSERT INTO vault.api_key (id, tenant, name, scopes, key_hash,"
        " created_us, mac, role_id) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)";
    const Agent__Vault__V1__CreateKeyRequest *req = op->request;
    unsigned char hash[VAULT_MAC_BYTES], mac[VAULT_MAC_BYTES];
    char id[AG_ID_TEXT], secret[VAULT_KEY_TEXT + 1];
    bool has_role = *req->role_id != '\0';

    ag_id_new("key", id);
    key_make(secret);
    vault_hmac(op->v->index_key, ag_str(secret), hash);
    struct vault_key_row row = {
        .id = ag_str(id),
        .name = ag_str(req->name),
        .scopes = has_role ? AG_STR("") : vault_scopes_text(scopes, op->arena),
        .key_hash = ag_str_n(hash, sizeof(hash)),
        .created_us = ag_now_us()};
    if (has_role)
        row.role_id = ag_str(req->role_id);
    vault_key_mac(op->tenant, &row, mac);
    Agent__Vault__V1__Key *key = key_message(op, &row);
    key->_secret_case = AGENT__VAULT__V1__KEY___SECRET_SECRET;
    key->secret = vault_op_text(op, ag_str(secret));
    ag_wipe(secret, sizeof(secret));
    struct created *made = ag_arena_alloc(op->arena, sizeof(*made));
    made->key = key;
    made->detail = ag_str(
        has_role ? ag_arena_printf(op->arena, "{\"role\":\"%s\"}", key->role_id)
                 : ag_arena_printf(op->arena, "{\"scopes\":\"%.*s\"}",
                                   AG_FMT(row.scopes)));
    op->state = made;
    struct ag_db_param params[] = {ag_db_str(row.id),
                                   ag_db_str(op->who.tenant),
                                   ag_db_str(row.name),
                                   ag_db_str(row.scopes),
                                   ag_db_bytes(row.key_hash),
                                   ag_db_int(row.created_us),
                                   ag_db_bytes(ag_str_n(mac, sizeof(mac))),
                                   has_role ? ag_db_str(row.role_id)
                                            : ag_db_null()};
    ag_db_query(op->v->db, op->who.tenant, sql, params, 8, on_key_created, op);
}

/* Nobody makes a key that gives more than he holds, now. */
static void
make_key(struct vault_op *op, unsigned scopes)
{
    struct ag_err err = AG_ERR_INIT;

    if (vault_scopes_check_given(&op->who, scopes, &err) < 0)
        vault_op_fail(op, &err);
    else
        insert_key(op, scopes);
}

static void
on_role_of_key(struct vault_op *op, const struct vault_role_row *role)
{
    if (role == NULL || role->deleted_us != 0)
        vault_op_refuse(op, AG_ERR_NOT_FOUND, "role_id: there is no such role");
    else
        make_key(op, vault_scopes_parse(role->scopes));
}

static void
create_key(struct ag_rpc_call *call, const ProtobufCMessage *request, void *arg)
{
    const Agent__Vault__V1__CreateKeyRequest *req = (const void *)request;
    struct vault_op *op = vault_op_begin(call, req, arg, NULL);
    struct ag_err err = AG_ERR_INIT;
    unsigned scopes;

    if (op == NULL)
        return;
    ag_str_t name = ag_str(req->name);
    bool has_role = *req->role_id != '\0';
    if (name.n == 0 || name.n > 256 || !ag_str_is_utf8(name)) {
        vault_op_refuse(op, AG_ERR_INVALID, "name: not 1 to 256 bytes");
        return;
    }
    if (has_role && req->n_scopes > 0) {
        vault_op_refuse(op, AG_ERR_INVALID,
                        "scopes: the role says them; give one of the two");
        return;
    }
    if (vault_scopes_read(req->scopes, req->n_scopes, &scopes, &err) < 0)
        vault_op_fail(op, &err);
    else if (has_role)
        vault_role_find(op, ag_str(req->role_id), on_role_of_key);
    else
        make_key(op,
                 req->n_scopes == 0 ? AG_SCOPE_READ | AG_SCOPE_WRITE : scopes);
}

static ProtobufCMessage *
listed_key(struct vault_op *op, const struct ag_db_result *res, int i)
{
    struct vault_key_row row;

    vault_key_read(res, i, op->arena, &row);
    return &key_message(op, &row)->base;
}

static const struct vault_list keys = {
    &agent__vault__v1__list_keys_response__descriptor, listed_key};

static void
list_keys(struct ag_rpc_call *call, const ProtobufCMessage *request, void *arg)
{
    static const char sql[] =
        "SELECT " VAULT_KEY_COLUMNS " FROM vault.api_key"
        " WHERE ($1 = '' OR id < $1) AND ($3 = '' OR role_id = $3)"
        " ORDER BY id DESC LIMIT $2::bigint";
    const Agent__Vault__V1__ListKeysRequest *req = (const void *)request;
    struct vault_op *op = vault_op_begin(call, req, arg, NULL);
    int64_t rows = op == NULL ? -1 : vault_page_begin(op, &keys, req->limit);

    if (rows < 0)
        return;
    struct ag_db_param params[] = {ag_db_str(ag_str(req->page)),
                                   ag_db_int(rows),
                                   ag_db_str(ag_str(req->role_id))};
    ag_db_query(op->v->db, op->who.tenant, sql, params, 3, vault_page_reply,
                op);
}

static void
on_key_revoked(void *arg, const struct ag_db_result *res,
               const struct ag_err *err)
{
    struct vault_op *op = arg;
    Agent__Vault__V1__Key *key = op->state;

    if (res == NULL) {
        vault_op_fail(op, err);
        return;
    }
    vault_generation_move(op->v);
    vault_audit_reply(op, "key.revoked", ag_str(key->id), AG_STR(""),
                      AG_STR(""), &key->base);
}

static void
on_key_to_revoke(void *arg, const struct ag_db_result *res,
                 const struct ag_err *err)
{
    static const char sql[] =
        "UPDATE vault.api_key SET revoked_us = $2, mac = $3 WHERE id = $1";
    struct vault_op *op = arg;
    struct ag_err why = AG_ERR_INIT;
    struct vault_key_row row;
    unsigned char mac[VAULT_MAC_BYTES];

    if (res == NULL) {
        vault_op_fail(op, err);
        return;
    }
    if (ag_db_rows(res) != 1) {
        vault_op_refuse(op, AG_ERR_NOT_FOUND, "key_id: there is no such key");
        return;
    }
    vault_key_read(res, 0, op->arena, &row);
    if (vault_key_check(op->tenant, &row, &why) < 0) {
        vault_op_fail(op, &why);
        return;
    }
    if (row.revoked_us != 0) {
        ag_rpc_reply(op->call, &key_message(op, &row)->base);
        return;
    }
    row.revoked_us = ag_now_us();
    vault_key_mac(op->tenant, &row, mac);
    op->state = key_message(op, &row);
    struct ag_db_param params[] = {ag_db_str(row.id), ag_db_int(row.revoked_us),
                                   ag_db_bytes(ag_str_n(mac, sizeof(mac)))};
    ag_db_query(op->v->db, op->who.tenant, sql, params, 3, on_key_revoked, op);
}

static void
revoke_key(struct ag_rpc_call *call, const ProtobufCMessage *request, void *arg)
{
    static const char sql[] =
        "SELECT " VAULT_KEY_COLUMNS " FROM vault.api_key WHERE id = $1";
    const Agent__Vault__V1__RevokeKeyRequest *req = (const void *)request;
    struct vault_op *op = vault_op_begin(call, req, arg, NULL);

    if (op == NULL)
        return;
    struct ag_db_param params[] = {ag_db_str(ag_str(req->key_id))};
    ag_db_query(op->v->db, op->who.tenant, sql, params, 1, on_key_to_revoke,
                op);
}

void
vault_key_serve(struct ag_rpc_server *srv, struct vault_face *face)
{
    ag_rpc_server_add(srv, &agent__vault__v1__key_service__create_key__rpc,
                      create_key, face);
    ag_rpc_server_add(srv, &agent__vault__v1__key_service__list_keys__rpc,
                      list_keys, face);
    ag_rpc_server_add(srv, &agent__vault__v1__key_service__revoke_key__rpc,
                      revoke_key, face);
}
