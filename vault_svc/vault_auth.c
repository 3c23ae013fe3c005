/* The `auth` of a credential: what the contract and its extensions say. */
#include "vault_svc/vault_auth.h"

#include "lib/json.h"
#include "vault_svc/vault_binding.h"
#include "vault_svc/vault_credential.h"
#include "vault_svc/vault_oauth_auth.h"
#include "vault_svc/vault_sign.h"

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

/* {"type":"limited","allowed_hosts":[…]}. */
static int
read_networking(struct vault_op *op, const json_t *net,
                struct vault_reach *reach, struct ag_err *err)
{
    ag_str_t type = {NULL, 0};

    if (!json_is_object(net) || ag_json_get_str(net, "type", &type, err) < 0
        || !ag_str_is(type, "limited"))
        return ag_err_set(err, AG_ERR_INVALID,
                          "auth.networking.type: must be \"limited\": a "
                          "credential is bound to its hosts");
    return vault_policy_hosts_parse(
        json_object_get(net, "allowed_hosts"), "auth.networking.allowed_hosts",
        &op->v->deployment, op->arena, &reach->hosts, err);
}

static int
read_name(const json_t *j, ag_str_t *name, struct ag_err *err)
{
    if (ag_json_get_str(j, "secret_name", name, err) < 0)
        return ag_err_wrap(err, "auth");
    if (!vault_env_name_is_valid(*name))
        return ag_err_set(err, AG_ERR_INVALID,
                          "auth.secret_name: not 1 to 128 letters, digits "
                          "and \"_\"");
    return 0;
}

static int
read_environment_variable(struct vault_op *op, const json_t *j,
                          struct vault_new_credential *in,
                          struct vault_reach *reach, struct ag_err *err)
{
    static const char *const known[] = {
        "type",       "secret_name",        "secret_value",
        "networking", "injection_location", "signing",
        NULL};

    if (vault_keys_check(j, known, err) < 0
        || ag_json_get_str(j, "secret_value", &in->value, err) < 0)
        return ag_err_wrap(err, "auth");
    if (read_location(j, &reach->location, err) < 0
        || read_name(j, &in->env_name, err) < 0)
        return -1;
    return read_networking(op, json_object_get(j, "networking"), reach, err);
}

/* An access token for sandboxes, with what renews it behind it. */
static int
read_oauth(struct vault_op *op, const json_t *j,
           struct vault_new_credential *in, struct vault_reach *reach,
           struct ag_err *err)
{
    AG_AUTO(ag_buf_wipe) struct ag_buf all = AG_BUF_INIT(VAULT_PLAIN_MAX);
    static const char *const known[] = {
        "type",    "secret_name", "access_token",       "expires_at",
        "refresh", "networking",  "injection_location", NULL};
    struct vault_oauth_secrets secrets = {0};

    if (vault_keys_check(j, known, err) < 0)
        return ag_err_wrap(err, "auth");
    if (vault_oauth_read(j, &op->v->deployment, &secrets, err) < 0
        || vault_oauth_join(&secrets, &all, err) < 0
        || read_location(j, &reach->location, err) < 0
        || read_name(j, &in->env_name, err) < 0)
        return -1;
    in->value = ag_arena_copy(op->arena, ag_buf_str(&all));
    return read_networking(op, json_object_get(j, "networking"), reach, err);
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
                   struct vault_new_credential *in, struct vault_reach *reach,
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

int
vault_auth_read(struct vault_op *op, const json_t *j,
                struct vault_new_credential *in, struct vault_reach *reach,
                struct ag_err *err)
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
    if (ag_str_is(type, "oauth2_refresh"))
        return read_oauth(op, j, in, reach, err);
    if (ag_str_is(type, "static_bearer")) {
        if (read_static_bearer(op, j, in, reach, err) < 0)
            return -1;
        return vault_value_check(in->value, "auth.token", err);
    }
    return ag_err_set(err, AG_ERR_INVALID,
                      "auth.type: none of \"environment_variable\", "
                      "\"static_bearer\" and \"oauth2_refresh\"");
}

int
vault_auth_strip(struct vault_op *op, const json_t *j, ag_str_t *out,
                 struct ag_err *err)
{
    AG_AUTO(ag_json_decref) json_t *shown = json_copy((json_t *)j);
    AG_AUTO(ag_buf_release) struct ag_buf text = AG_BUF_INIT(256 * 1024);

    json_object_del(shown, "secret_value");
    json_object_del(shown, "token");
    vault_oauth_strip(shown);
    if (ag_json_dump(shown, &text, err) < 0)
        return -1;
    *out = ag_arena_copy(op->arena, ag_buf_str(&text));
    return 0;
}

int
vault_auth_new_value(const json_t *j, ag_str_t stored_json, ag_str_t *value,
                     struct ag_err *err)
{
    static const char *const known[] = {"type", "secret_value", "token", NULL};
    AG_AUTO(ag_json_decref) json_t *stored = ag_json_parse(stored_json, err);
    ag_str_t type = {NULL, 0};
    const json_t *signing = json_object_get(stored, "signing");

    if (stored == NULL)
        return -1;
    if (!json_is_object(j))
        return ag_err_set(err, AG_ERR_INVALID, "auth: not an object");
    ag_str_t is = ag_json_str(json_object_get(stored, "type"));
    if (ag_str_is(is, "oauth2_refresh"))
        return ag_err_set(err, AG_ERR_INVALID,
                          "auth: the values of this type come from the token "
                          "endpoint; make a new credential for others");
    bool is_variable = ag_str_is(is, "environment_variable");
    const char *key = is_variable ? "secret_value" : "token";
    const char *other = is_variable ? "token" : "secret_value";
    if (vault_keys_check(j, known, err) < 0
        || ag_json_get_str(j, "type", &type, err) < 0
        || ag_json_get_str(j, key, value, err) < 0)
        return ag_err_wrap(err, "auth");
    if (!ag_str_eq(type, is) || json_object_get(j, other) != NULL)
        return ag_err_set(err, AG_ERR_INVALID,
                          "auth: an update has the type \"%.*s\" and the new "
                          "%s, nothing else: where a value goes does not "
                          "change",
                          AG_FMT(is), key);
    if (signing != NULL)
        return check_signing_key(signing, *value, err);
    return vault_value_check(
        *value, is_variable ? "auth.secret_value" : "auth.token", err);
}
