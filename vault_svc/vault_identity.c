/*
 * IdentityService: which key it is, what it may do now, and the assertion that
 * says so. The database holds a key's HMAC under a key that the keeper gave, so
 * that a dump cannot even be searched for a known key.
 */
#include "vault_svc/vault_identity.h"

#include <ctype.h>

#include "agent_rpc.h"
#include "lib/clock.h"
#include "lib/log.h"
#include "vault.pb-c.h"
#include "vault_svc/vault_key.h"
#include "vault_svc/vault_role.h"
#include "vault_svc/vault_scope.h"

enum { ASSERTION_US = 5 * 60 * 1000000 };

struct resolve {
    struct vault_op *op;
    unsigned char hash[VAULT_MAC_BYTES];
    struct vault_key_row key;
    char **scopes;
    size_t n_scopes;
    int64_t expires_us;
    struct ag_buf body; /* the serialized assertion */
};

static bool
key_has_form(ag_str_t key)
{
    if (key.n != VAULT_KEY_TEXT || !ag_str_starts(key, AG_STR("bbx_")))
        return false;
    for (size_t i = 4; i < key.n; i++)
        if (!isalnum((unsigned char)key.p[i]))
            return false;
    return true;
}

static void
refuse_key(struct vault_op *op)
{
    vault_op_refuse(op, AG_ERR_UNAUTHENTICATED,
                    "the API key is unknown or revoked");
}

static void
resolve_free(struct resolve *r)
{
    ag_buf_release(&r->body);
}

static void
on_signed(void *arg, const struct keeper_msg *reply, const struct ag_err *err)
{
    struct resolve *r = arg;
    struct vault_op *op = r->op;
    Agent__Vault__V1__ResolveResponse out =
        AGENT__VAULT__V1__RESOLVE_RESPONSE__INIT;
    AG_AUTO(ag_buf_release) struct ag_buf text = AG_BUF_INIT(4096);

    if (reply == NULL) {
        vault_op_fail(op, err);
        resolve_free(r);
        return;
    }
    ag_buf_add_b64url(&text, ag_buf_str(&r->body));
    ag_buf_addc(&text, '.');
    ag_buf_add_b64url(&text, reply->a);
    out.tenant = op->tenant->name;
    out.subject = vault_op_text(op, r->key.id);
    out.scopes = r->scopes;
    out.n_scopes = r->n_scopes;
    out.assertion = vault_op_text(op, ag_buf_str(&text));
    out.expires_us = r->expires_us;
    ag_rpc_reply(op->call, &out.base);
    resolve_free(r);
}

static void
sign(struct resolve *r)
{
    const Agent__Vault__V1__ResolveRequest *req = r->op->request;
    Agent__Vault__V1__Assertion a = AGENT__VAULT__V1__ASSERTION__INIT;
    struct ag_err err = AG_ERR_INIT;

    a.tenant = r->op->tenant->name;
    a.subject = vault_op_text(r->op, r->key.id);
    a.scopes = r->scopes;
    a.n_scopes = r->n_scopes;
    a.issued_us = ag_now_us();
    a.expires_us = r->expires_us = a.issued_us + ASSERTION_US;
    a.request_sha256 = req->request_sha256;
    size_t n = agent__vault__v1__assertion__get_packed_size(&a);
    ag_buf_init(&r->body, 2048);
    char *p = ag_buf_reserve(&r->body, n, &err);
    if (p == NULL) {
        vault_op_fail(r->op, &err);
        return;
    }
    r->body.n = agent__vault__v1__assertion__pack(&a, (uint8_t *)p);
    vault_keeper_ask(r->op->v->keeper, KEEPER_SIGN_ASSERTION,
                     ag_buf_str(&r->body), (ag_str_t){NULL, 0}, on_signed, r);
}

static void
on_touched(void *arg, const struct ag_db_result *res, const struct ag_err *err)
{
    (void)arg;
    (void)res;
    if (err != NULL)
        ag_log(AG_WARN, "key.touch_failed", AG_E(err));
}

/* last_used_at, to the minute; nothing depends on it. */
static void
touch(struct vault_op *op, const struct vault_key_row *key)
{
    static const char sql[] =
        "UPDATE vault.api_key SET last_used_us = $2 WHERE id = $1";
    int64_t now = ag_now_us();

    if (now - key->last_used_us < 60 * 1000000)
        return;
    struct ag_db_param params[] = {ag_db_str(key->id), ag_db_int(now)};
    ag_db_query(op->v->db, ag_str(op->tenant->name), sql, params, 2, on_touched,
                NULL);
}

/* The key is good: say what it may do. */
static void
give(struct resolve *r, ag_str_t scopes)
{
    r->n_scopes =
        vault_scopes_list(vault_scopes_parse(scopes), r->op->arena, &r->scopes);
    touch(r->op, &r->key);
    sign(r);
}

static void
on_role(struct vault_op *op, const struct vault_role_row *role)
{
    struct resolve *r = op->state;

    if (role == NULL)
        vault_op_refuse(op, AG_ERR_CORRUPT,
                        "key %.*s has role %.*s, whose row is gone: it was "
                        "deleted outside the vault",
                        AG_FMT(r->key.id), AG_FMT(r->key.role_id));
    else if (role->deleted_us != 0)
        vault_op_refuse(op, AG_ERR_UNAUTHENTICATED,
                        "the API key's role was deleted");
    else
        give(r, role->scopes);
}

static void
on_key_row(void *arg, const struct ag_db_result *res, const struct ag_err *err)
{
    struct resolve *r = arg;
    struct vault_op *op = r->op;
    struct vault_key_row *key = &r->key;
    struct ag_err why = AG_ERR_INIT;

    if (res == NULL) {
        vault_op_fail(op, err);
        return;
    }
    if (ag_db_rows(res) != 1) {
        refuse_key(op);
        return;
    }
    vault_key_read(res, 0, op->arena, key);
    if (vault_key_check(op->tenant, key, &why) < 0) {
        vault_op_fail(op, &why);
        return;
    }
    if (key->revoked_us != 0
        || !ag_str_eq_ct(key->key_hash, ag_str_n(r->hash, sizeof(r->hash)))) {
        refuse_key(op);
        return;
    }
    op->state = r;
    if (key->role_id.p != NULL)
        vault_role_find(op, key->role_id, on_role);
    else
        give(r, key->scopes);
}

static void
on_key_tenant(void *arg, const struct ag_db_result *res,
              const struct ag_err *err)
{
    static const char sql[] =
        "SELECT " VAULT_KEY_COLUMNS " FROM vault.api_key WHERE id = $1";
    struct resolve *r = arg;
    struct vault_op *op = r->op;

    if (res == NULL) {
        vault_op_fail(op, err);
        return;
    }
    op->tenant = ag_db_rows(res) == 1
                     ? vault_tenant_find(op->v, ag_db_get(res, 0, 0))
                     : NULL;
    if (op->tenant == NULL) {
        refuse_key(op);
        return;
    }
    struct ag_db_param params[] = {ag_db_str(ag_db_get(res, 0, 1))};
    ag_db_query(op->v->db, ag_str(op->tenant->name), sql, params, 1, on_key_row,
                r);
}

static void
resolve(struct ag_rpc_call *call, const ProtobufCMessage *request, void *arg)
{
    static const char sql[] = "SELECT tenant, id FROM vault.key_by_hash($1)";
    const Agent__Vault__V1__ResolveRequest *req = (const void *)request;
    struct vault_op *op = vault_op_plain(call, req, arg);
    struct resolve *r = ag_arena_alloc(op->arena, sizeof(*r));
    ag_str_t key = ag_str(req->api_key);

    r->op = op;
    if (req->request_sha256.len != 0 && req->request_sha256.len != 32) {
        vault_op_refuse(op, AG_ERR_INVALID,
                        "request_sha256: not empty and not 32 bytes");
        return;
    }
    if (!key_has_form(key)) {
        refuse_key(op);
        return;
    }
    vault_hmac(op->v->index_key, key, r->hash);
    struct ag_db_param params[] = {
        ag_db_bytes(ag_str_n(r->hash, sizeof(r->hash)))};
    ag_db_query(op->v->db, AG_STR(""), sql, params, 1, on_key_tenant, r);
}

void
vault_identity_serve(struct ag_rpc_server *srv, struct vault_face *face)
{
    ag_rpc_server_add(srv, &agent__vault__v1__identity_service__resolve__rpc,
                      resolve, face);
}
