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
#include "vault_svc/vault_binding.h"
#include "vault_svc/vault_credential.h"
#include "vault_svc/vault_page.h"
#include "vault_svc/vault_sign.h"

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
    if (row->archived_us != 0) {
        out->_archived_at_case =
            AGENT__VAULT__V1__CREDENTIAL___ARCHIVED_AT_ARCHIVED_AT;
        out->archived_at = vault_op_time(op, row->archived_us);
    }
    return out;
}

/* {"header":true,"body":true}: where the stub may stand. */
static int
read_location(const json_t *auth, unsigned *out, struct ag_err *err)
{
    static const char *const known[] = {"header", "body", NULL};
    const json_t *loc = json_object_get(auth, "injection_location");
    bool header = false, body = false;

    if (loc == NULL || json_is_null(loc))
        return 0;
    if (!json_is_object(loc))
        return ag_err_set(err, AG_ERR_INVALID,
                          "auth.injection_location: not an object");
    if (vault_keys_check(loc, known, err) < 0
        || ag_json_get_bool(loc, "header", &header, err) < 0
        || ag_json_get_bool(loc, "body", &body, err) < 0)
        return ag_err_wrap(err, "auth.injection_location");
    *out = (header ? VAULT_IN_HEADER : 0u) | (body ? VAULT_IN_BODY : 0u);
    if (*out == 0)
        return ag_err_set(err, AG_ERR_INVALID,
                          "auth.injection_location: neither header nor body, "
                          "so the credential could be used nowhere");
    return 0;
}

/* Where a new credential may go, as its auth says. */
struct reach {
    struct vault_policy hosts;
    unsigned location;
};

static int
read_environment_variable(struct vault_op *op, const json_t *j,
                          struct vault_new_credential *in, struct reach *reach,
                          struct ag_err *err)
{
    static const char *const known[] = {
        "type",       "secret_name",        "secret_value",
        "networking", "injection_location", "signing",
        NULL};
    const json_t *net = json_object_get(j, "networking");
    ag_str_t type = {NULL, 0};

    if (vault_keys_check(j, known, err) < 0
        || ag_json_get_str(j, "secret_name", &in->env_name, err) < 0
        || ag_json_get_str(j, "secret_value", &in->value, err) < 0)
        return ag_err_wrap(err, "auth");
    if (read_location(j, &reach->location, err) < 0)
        return -1;
    if (!vault_env_name_is_valid(in->env_name))
        return ag_err_set(err, AG_ERR_INVALID,
                          "auth.secret_name: not 1 to 128 letters, digits "
                          "and \"_\"");
    if (!json_is_object(net) || ag_json_get_str(net, "type", &type, err) < 0
        || !ag_str_is(type, "limited"))
        return ag_err_set(err, AG_ERR_INVALID,
                          "auth.networking.type: must be \"limited\": a "
                          "credential is bound to its hosts");
    return vault_policy_hosts_parse(
        json_object_get(net, "allowed_hosts"), "auth.networking.allowed_hosts",
        &op->v->deployment, op->arena, &reach->hosts, err);
}

/* "https://host[:port]/…" -> "host[:port]". */
static int
host_of_url(ag_str_t url, ag_str_t *out, bool *is_https, struct ag_err *err)
{
    *is_https = ag_str_starts(url, AG_STR("https://"));
    size_t skip = *is_https ? 8 : 7;
    if (!*is_https && !ag_str_starts(url, AG_STR("http://")))
        return ag_err_set(err, AG_ERR_INVALID, "not an http(s) URL");
    size_t n = skip;
    while (n < url.n && memchr("/?#", url.p[n], 3) == NULL)
        n++;
    *out = ag_str_n(url.p + skip, n - skip);
    if (memchr(out->p, '@', out->n) != NULL)
        return ag_err_set(err, AG_ERR_INVALID, "a URL with a user");
    return 0;
}

static int
read_static_bearer(struct vault_op *op, const json_t *j,
                   struct vault_new_credential *in, struct reach *reach,
                   struct ag_err *err)
{
    struct vault_policy *hosts = &reach->hosts;
    static const char *const known[] = {"type", "token", "mcp_server_url",
                                        NULL};
    ag_str_t url = {NULL, 0}, host;
    bool is_https;

    in->is_for_brain = true;
    if (vault_keys_check(j, known, err) < 0
        || ag_json_get_str(j, "token", &in->value, err) < 0
        || ag_json_get_str(j, "mcp_server_url", &url, err) < 0)
        return ag_err_wrap(err, "auth");
    if (host_of_url(url, &host, &is_https, err) < 0 || !is_https)
        return ag_err_set(err, AG_ERR_INVALID,
                          "auth.mcp_server_url: not an https URL");
    hosts->hosts = ag_arena_alloc(op->arena, sizeof(*hosts->hosts));
    hosts->n_hosts = 1;
    if (vault_host_pattern_parse(host, &op->v->deployment, hosts->hosts, err)
        < 0)
        return ag_err_wrap(err, "auth.mcp_server_url");
    return 0;
}

/* A key in PEM has lines; what signs is never put into a request. */
static int
check_signing_key(const json_t *signing, ag_str_t key, struct ag_err *err)
{
    if (key.n < VAULT_VALUE_MIN || key.n > VAULT_PLAIN_MAX)
        return ag_err_set(err, AG_ERR_INVALID,
                          "auth.secret_value: a key has %d to %d bytes",
                          VAULT_VALUE_MIN, VAULT_PLAIN_MAX);
    return vault_signing_check(signing, key, err);
}

static int
read_auth(struct vault_op *op, const json_t *j, struct vault_new_credential *in,
          struct reach *reach, struct ag_err *err)
{
    ag_str_t type = {NULL, 0};

    if (!json_is_object(j))
        return ag_err_set(err, AG_ERR_INVALID, "auth: not an object");
    if (ag_json_get_str(j, "type", &type, err) < 0)
        return ag_err_wrap(err, "auth");
    if (ag_str_is(type, "environment_variable")) {
        const json_t *signing = json_object_get(j, "signing");
        if (read_environment_variable(op, j, in, reach, err) < 0)
            return -1;
        if (signing != NULL && !json_is_null(signing))
            return check_signing_key(signing, in->value, err);
        return vault_value_check(in->value, "auth.secret_value", err);
    }
    if (ag_str_is(type, "static_bearer")) {
        if (read_static_bearer(op, j, in, reach, err) < 0)
            return -1;
        return vault_value_check(in->value, "auth.token", err);
    }
    return ag_err_set(err, AG_ERR_INVALID,
                      "auth.type: neither \"environment_variable\" nor "
                      "\"static_bearer\"");
}

/* The auth without its secret, as it is stored and shown. */
static int
strip_auth(struct vault_op *op, const json_t *j, ag_str_t *out,
           struct ag_err *err)
{
    AG_AUTO(ag_json_decref) json_t *shown = json_copy((json_t *)j);
    AG_AUTO(ag_buf_release) struct ag_buf text = AG_BUF_INIT(256 * 1024);

    json_object_del(shown, "secret_value");
    json_object_del(shown, "token");
    if (ag_json_dump(shown, &text, err) < 0)
        return -1;
    *out = ag_arena_copy(op->arena, ag_buf_str(&text));
    return 0;
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
    struct reach reach = {0};

    if (j == NULL)
        return ag_err_set(err, AG_ERR_INVALID, "auth: not valid JSON");
    struct vault_binding_in from = {vault_op_bytes(req->binding_json),
                                    &reach.hosts, &op->v->deployment, 0};
    if (read_auth(op, j, &in, &reach, err) < 0)
        return -1;
    from.location = reach.location;
    if (strip_auth(op, j, &in.auth, err) < 0
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
    struct vault_op *op = vault_op_begin(call, req, arg, VAULT_WRITE, NULL);
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
        "SELECT " VAULT_CREDENTIAL_COLUMNS " FROM vault.credential c"
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
        ag_rpc_reply(op->call, &credential_message(op, row)->base);
}

static void
get_credential(struct ag_rpc_call *call, const ProtobufCMessage *request,
               void *arg)
{
    const Agent__Vault__V1__GetCredentialRequest *req = (const void *)request;
    struct vault_op *op = vault_op_begin(call, req, arg, VAULT_READ, NULL);
    if (op != NULL)
        find_credential(op, req->vault_id, req->credential_id, on_credential);
}

static void
on_credentials(void *arg, const struct ag_db_result *res,
               const struct ag_err *err)
{
    struct vault_op *op = arg;
    const struct vault_page *page = op->state;
    Agent__Vault__V1__ListCredentialsResponse out =
        AGENT__VAULT__V1__LIST_CREDENTIALS_RESPONSE__INIT;

    if (res == NULL) {
        vault_op_fail(op, err);
        return;
    }
    out.n_data = vault_page_rows(page, ag_db_rows(res));
    out.data = ag_arena_alloc(op->arena, (out.n_data + 1) * sizeof(*out.data));
    for (size_t i = 0; i < out.n_data; i++) {
        struct vault_credential_row row;
        vault_credential_read(res, (int)i, 0, op->arena, &row);
        out.data[i] = credential_message(op, &row);
    }
    if (out.n_data < (size_t)ag_db_rows(res)) {
        out._next_page_case =
            AGENT__VAULT__V1__LIST_CREDENTIALS_RESPONSE___NEXT_PAGE_NEXT_PAGE;
        out.next_page = out.data[out.n_data - 1]->id;
    }
    ag_rpc_reply(op->call, &out.base);
}

static void
list_credentials(struct ag_rpc_call *call, const ProtobufCMessage *request,
                 void *arg)
{
    static const char sql[] =
        "SELECT " VAULT_CREDENTIAL_COLUMNS " FROM vault.credential c"
        " WHERE c.vault_id = $1 AND ($2 = '' OR c.id < $2)"
        " AND ($3::boolean OR c.archived_us IS NULL)"
        " ORDER BY c.id DESC LIMIT $4::bigint";
    const Agent__Vault__V1__ListCredentialsRequest *req = (const void *)request;
    struct vault_op *op = vault_op_begin(call, req, arg, VAULT_READ, NULL);
    struct ag_err err = AG_ERR_INIT;

    if (op == NULL)
        return;
    struct vault_page *page = vault_page_new(op, req->limit, &err);
    if (page == NULL) {
        vault_op_fail(op, &err);
        return;
    }
    op->state = page;
    struct ag_db_param params[] = {
        ag_db_str(ag_str(req->vault_id)), ag_db_str(ag_str(req->page)),
        ag_db_bool(req->include_archived), ag_db_int(page->limit + 1)};
    ag_db_query(op->v->db, op->who.tenant, sql, params, 4, on_credentials, op);
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
    vault_generation_move(op->v);
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
    struct vault_op *op = vault_op_begin(call, req, arg, VAULT_WRITE, NULL);

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
    vault_generation_move(op->v);
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
    struct vault_op *op = vault_op_begin(call, req, arg, VAULT_WRITE, NULL);
    if (op != NULL)
        find_credential(op, req->vault_id, req->credential_id,
                        on_credential_to_archive);
}

void
vault_credential_serve(struct ag_rpc_server *srv, struct vault_face *face)
{
#define M(name) &agent__vault__v1__vault_service__##name##__rpc
    ag_rpc_server_add(srv, M(create_credential), create_credential, face);
    ag_rpc_server_add(srv, M(get_credential), get_credential, face);
    ag_rpc_server_add(srv, M(list_credentials), list_credentials, face);
    ag_rpc_server_add(srv, M(delete_credential), delete_credential, face);
    ag_rpc_server_add(srv, M(archive_credential), archive_credential, face);
#undef M
}
