/*
 * VaultService: vaults and their credentials. A value comes in once, is sealed
 * in the same call, and is in no answer, log or error from then on.
 */
#include "vault_svc/vault_credential.h"

#include <ctype.h>

#include "agent_rpc.h"
#include "lib/clock.h"
#include "lib/id.h"
#include "lib/json.h"
#include "vault.pb-c.h"
#include "vault_svc/vault_audit.h"
#include "vault_svc/vault_binding.h"
#include "vault_svc/vault_page.h"

enum { METADATA_MAX = 16 * 1024, METADATA_PAIRS = 16 };

static ag_str_t
bytes_of(ProtobufCBinaryData b)
{
    return ag_str_n(b.data, b.len);
}

static ProtobufCBinaryData
bytes_to(struct vault_op *op, ag_str_t s)
{
    return (ProtobufCBinaryData){s.n, (uint8_t *)vault_op_text(op, s)};
}

/* ---- values ------------------------------------------------------------ */

int
vault_value_check(ag_str_t value, const char *field, struct ag_err *err)
{
    if (value.n < VAULT_VALUE_MIN || value.n > VAULT_PLAIN_MAX)
        return ag_err_set(err, AG_ERR_INVALID,
                          "%s: has %zu bytes; a value has %d to %d (shorter "
                          "ones cannot be scrubbed safely)",
                          field, value.n, VAULT_VALUE_MIN, VAULT_PLAIN_MAX);
    for (size_t i = 0; i < value.n; i++)
        if ((unsigned char)value.p[i] < 0x20 || value.p[i] == 0x7f)
            return ag_err_set(err, AG_ERR_INVALID,
                              "%s: byte %zu is a control character", field, i);
    return 0;
}

bool
vault_env_name_is_valid(ag_str_t name)
{
    if (name.n == 0 || name.n > 128 || isdigit((unsigned char)name.p[0]))
        return false;
    for (size_t i = 0; i < name.n; i++)
        if (!isalnum((unsigned char)name.p[i]) && name.p[i] != '_')
            return false;
    return true;
}

int
vault_credential_make(struct vault *v, const struct vault_tenant *tenant,
                      const struct vault_new_credential *in,
                      struct ag_arena *arena, struct vault_credential_row *out,
                      struct ag_err *err)
{
    AG_AUTO(ag_buf_release)
    struct ag_buf sealed = AG_BUF_INIT(VAULT_PLAIN_MAX + VAULT_SEAL_OVERHEAD);
    char id[AG_ID_TEXT];
    unsigned char mac[VAULT_MAC_BYTES];

    ag_id_new("vcrd", id);
    *out = (struct vault_credential_row){
        .id = ag_arena_copy(arena, ag_str(id)),
        .vault_id = in->vault_id,
        .auth = in->auth,
        .metadata = in->metadata,
        .binding = in->binding,
        .env_name = in->env_name,
        .stub_prefix = ag_arena_copy(
            arena, vault_shape_stub_prefix(&v->shapes, in->value)),
        .display_name = in->display_name,
        .is_for_brain = in->is_for_brain,
        .is_model = in->is_model,
        .version = 1,
        .created_us = ag_now_us(),
    };
    out->updated_us = out->created_us;
    struct vault_record_id rid = {ag_str(tenant->name), out->id, out->version,
                                  out->binding};
    if (vault_seal(&tenant->ring, &rid, in->value, &sealed, err) < 0)
        return -1;
    out->sealed = ag_arena_copy(arena, ag_buf_str(&sealed));
    vault_credential_mac(tenant, out, mac);
    out->mac = ag_arena_copy(arena, ag_str_n(mac, sizeof(mac)));
    return 0;
}

void
vault_credential_insert(struct vault *v, const struct vault_tenant *tenant,
                        const struct vault_credential_row *row,
                        ag_db_done *done, void *arg)
{
    static const char sql[] =
        "INSERT INTO vault.credential (id, tenant, vault_id, auth, metadata,"
        " binding, env_name, stub_prefix, display_name, sealed, mac,"
        " is_for_brain, is_model, version, created_us, updated_us)"
        " SELECT $1, $2, v.id, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13,"
        " $14, $15, $15 FROM vault.vault v"
        " WHERE v.id = $3 AND v.archived_us IS NULL RETURNING id";
    ag_str_t name = ag_str(tenant->name);
    struct ag_db_param params[] = {ag_db_str(row->id),
                                   ag_db_str(name),
                                   ag_db_str(row->vault_id),
                                   ag_db_str(row->auth),
                                   ag_db_str(row->metadata),
                                   ag_db_str(row->binding),
                                   ag_db_str(row->env_name),
                                   ag_db_str(row->stub_prefix),
                                   row->display_name.p == NULL
                                       ? ag_db_null()
                                       : ag_db_str(row->display_name),
                                   ag_db_bytes(row->sealed),
                                   ag_db_bytes(row->mac),
                                   ag_db_bool(row->is_for_brain),
                                   ag_db_bool(row->is_model),
                                   ag_db_int(row->version),
                                   ag_db_int(row->created_us)};
    ag_db_query(v->db, name, sql, params, 15, done, arg);
}

/* Absent becomes {}; an object of at most 16 strings otherwise. */
static int
check_metadata(struct vault_op *op, ag_str_t in, ag_str_t *out,
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

/* ---- vaults ------------------------------------------------------------ */

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
    out->metadata_json = bytes_to(op, ag_db_get(res, row, 2));
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
    struct vault_op *op = vault_op_begin(call, req, arg, VAULT_WRITE, NULL);
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
    if (check_metadata(op, bytes_of(req->metadata_json), &metadata, &err) < 0) {
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
    struct vault_op *op = vault_op_begin(call, req, arg, VAULT_READ, NULL);

    if (op == NULL)
        return;
    struct ag_db_param params[] = {ag_db_str(ag_str(req->vault_id))};
    ag_db_query(op->v->db, op->who.tenant, sql, params, 1, on_vault, op);
}

static void
on_vaults(void *arg, const struct ag_db_result *res, const struct ag_err *err)
{
    struct vault_op *op = arg;
    const struct vault_page *page = op->state;
    Agent__Vault__V1__ListVaultsResponse out =
        AGENT__VAULT__V1__LIST_VAULTS_RESPONSE__INIT;

    if (res == NULL) {
        vault_op_fail(op, err);
        return;
    }
    out.n_data = vault_page_rows(page, ag_db_rows(res));
    out.data = ag_arena_alloc(op->arena, (out.n_data + 1) * sizeof(*out.data));
    for (size_t i = 0; i < out.n_data; i++)
        out.data[i] = vault_message(op, res, (int)i);
    if (out.n_data < (size_t)ag_db_rows(res)) {
        out._next_page_case =
            AGENT__VAULT__V1__LIST_VAULTS_RESPONSE___NEXT_PAGE_NEXT_PAGE;
        out.next_page = out.data[out.n_data - 1]->id;
    }
    ag_rpc_reply(op->call, &out.base);
}

static void
list_vaults(struct ag_rpc_call *call, const ProtobufCMessage *request,
            void *arg)
{
    static const char sql[] = "SELECT " VAULT_COLUMNS " FROM vault.vault"
                              " WHERE ($1 = '' OR id < $1) AND NOT is_platform"
                              " AND ($2::boolean OR archived_us IS NULL)"
                              " ORDER BY id DESC LIMIT $3::bigint";
    const Agent__Vault__V1__ListVaultsRequest *req = (const void *)request;
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
    struct ag_db_param params[] = {ag_db_str(ag_str(req->page)),
                                   ag_db_bool(req->include_archived),
                                   ag_db_int(page->limit + 1)};
    ag_db_query(op->v->db, op->who.tenant, sql, params, 3, on_vaults, op);
}

static void
on_vault_changed(void *arg, const struct ag_db_result *res,
                 const struct ag_err *err)
{
    struct vault_op *op = arg;
    Agent__Vault__V1__Vault *vault = vault_of_result(op, res, err);

    if (vault == NULL)
        return;
    vault_generation_move(op->v);
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
    struct vault_op *op = vault_op_begin(call, req, arg, VAULT_WRITE, NULL);

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
    struct vault_op *op = vault_op_begin(call, req, arg, VAULT_WRITE, NULL);

    if (op == NULL)
        return;
    struct ag_db_param params[] = {ag_db_str(ag_str(req->vault_id)),
                                   ag_db_int(ag_now_us())};
    ag_db_query(op->v->db, op->who.tenant, sql, params, 2, on_vault_changed,
                op);
}

/* ---- credentials ------------------------------------------------------- */

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
    out->auth_json = bytes_to(op, row->auth);
    out->metadata_json = bytes_to(op, row->metadata);
    out->binding_json = bytes_to(op, row->binding);
    out->created_at = vault_op_time(op, row->created_us);
    out->updated_at = vault_op_time(op, row->updated_us);
    if (row->archived_us != 0) {
        out->_archived_at_case =
            AGENT__VAULT__V1__CREDENTIAL___ARCHIVED_AT_ARCHIVED_AT;
        out->archived_at = vault_op_time(op, row->archived_us);
    }
    return out;
}

static int
check_keys(const json_t *obj, const char *const *known, const char *field,
           struct ag_err *err)
{
    const char *key;
    json_t *value;

    json_object_foreach ((json_t *)obj, key, value) {
        int i = 0;
        while (known[i] != NULL && strcmp(known[i], key) != 0)
            i++;
        if (known[i] == NULL)
            return ag_err_set(err, AG_ERR_INVALID, "%s.%.60s: unknown field",
                              field, key);
    }
    return 0;
}

static int
check_location(const json_t *auth, struct ag_err *err)
{
    const json_t *loc = json_object_get(auth, "injection_location");
    const char *key;
    json_t *value;

    if (loc == NULL || json_is_null(loc))
        return 0;
    if (!json_is_object(loc))
        return ag_err_set(err, AG_ERR_INVALID,
                          "auth.injection_location: not an object");
    json_object_foreach ((json_t *)loc, key, value)
        if (!json_is_boolean(value)
            || (json_is_true(value) && strcmp(key, "header") != 0))
            return ag_err_set(err, AG_ERR_INVALID,
                              "auth.injection_location: only {\"header\": "
                              "true} is possible");
    return 0;
}

static int
read_environment_variable(struct vault_op *op, const json_t *j,
                          struct vault_new_credential *in,
                          struct vault_policy *hosts, struct ag_err *err)
{
    static const char *const known[] = {
        "type",       "secret_name",        "secret_value",
        "networking", "injection_location", NULL};
    const json_t *net = json_object_get(j, "networking");
    ag_str_t type = {NULL, 0};

    if (check_keys(j, known, "auth", err) < 0 || check_location(j, err) < 0
        || ag_json_get_str(j, "secret_name", &in->env_name, err) < 0
        || ag_json_get_str(j, "secret_value", &in->value, err) < 0)
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
    return vault_policy_hosts_parse(json_object_get(net, "allowed_hosts"),
                                    "auth.networking.allowed_hosts",
                                    &op->v->deployment, op->arena, hosts, err);
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
                   struct vault_new_credential *in, struct vault_policy *hosts,
                   struct ag_err *err)
{
    static const char *const known[] = {"type", "token", "mcp_server_url",
                                        NULL};
    ag_str_t url = {NULL, 0}, host;
    bool is_https;

    in->is_for_brain = true;
    if (check_keys(j, known, "auth", err) < 0
        || ag_json_get_str(j, "token", &in->value, err) < 0
        || ag_json_get_str(j, "mcp_server_url", &url, err) < 0)
        return -1;
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

static int
read_auth(struct vault_op *op, const json_t *j, struct vault_new_credential *in,
          struct vault_policy *hosts, struct ag_err *err)
{
    ag_str_t type = {NULL, 0};

    if (!json_is_object(j))
        return ag_err_set(err, AG_ERR_INVALID, "auth: not an object");
    if (ag_json_get_str(j, "type", &type, err) < 0)
        return ag_err_wrap(err, "auth");
    if (ag_str_is(type, "environment_variable")) {
        if (read_environment_variable(op, j, in, hosts, err) < 0)
            return -1;
        return vault_value_check(in->value, "auth.secret_value", err);
    }
    if (ag_str_is(type, "static_bearer")) {
        if (read_static_bearer(op, j, in, hosts, err) < 0)
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
    json_t *j = ag_json_parse(bytes_of(req->auth_json), err);
    struct vault_new_credential in = {.vault_id = ag_str(req->vault_id)};
    struct vault_policy hosts = {0};

    if (j == NULL)
        return ag_err_set(err, AG_ERR_INVALID, "auth: not valid JSON");
    if (read_auth(op, j, &in, &hosts, err) < 0
        || strip_auth(op, j, &in.auth, err) < 0
        || check_metadata(op, bytes_of(req->metadata_json), &in.metadata, err)
               < 0
        || vault_binding_build(bytes_of(req->binding_json), &hosts,
                               &op->v->deployment, &binding, err)
               < 0)
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
    ag_rpc_server_add(srv, M(create_vault), create_vault, face);
    ag_rpc_server_add(srv, M(get_vault), get_vault, face);
    ag_rpc_server_add(srv, M(list_vaults), list_vaults, face);
    ag_rpc_server_add(srv, M(delete_vault), delete_vault, face);
    ag_rpc_server_add(srv, M(archive_vault), archive_vault, face);
    ag_rpc_server_add(srv, M(create_credential), create_credential, face);
    ag_rpc_server_add(srv, M(get_credential), get_credential, face);
    ag_rpc_server_add(srv, M(list_credentials), list_credentials, face);
    ag_rpc_server_add(srv, M(delete_credential), delete_credential, face);
    ag_rpc_server_add(srv, M(archive_credential), archive_credential, face);
#undef M
}
