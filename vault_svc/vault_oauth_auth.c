/* The auth of credentials that are refreshed, and the endpoint's answers. */
#include "vault_svc/vault_oauth_auth.h"

#include <curl/curl.h>
#include <stdlib.h>
#include <strings.h>

#include "lib/secret.h"
#include "vault_svc/vault_credential.h"
#include "vault_svc/vault_policy.h"
#include "vault_svc/vault_sigv4.h"

enum { SECONDS_MAX = 10 * 366 * 86400 };

bool
vault_auth_is_oauth(ag_str_t auth_json)
{
    static const char type[] = "oauth2_refresh";
    struct ag_err ignored = AG_ERR_INIT;

    /* Nearly every credential is of another type, and is not parsed. */
    if (auth_json.n == 0
        || memmem(auth_json.p, auth_json.n, type, sizeof(type) - 1) == NULL)
        return false;
    AG_AUTO(ag_json_decref) json_t *j = ag_json_parse(auth_json, &ignored);
    return ag_str_is(ag_json_str(json_object_get(j, "type")), type);
}

int64_t
vault_oauth_expires_us(ag_str_t auth_json)
{
    struct ag_err ignored = AG_ERR_INIT;
    int64_t at = 0;

    if (!vault_auth_is_oauth(auth_json))
        return 0;
    AG_AUTO(ag_json_decref) json_t *j = ag_json_parse(auth_json, &ignored);
    const char *text = json_string_value(json_object_get(j, "expires_at"));
    /* What cannot be read has ended. */
    if (text == NULL || vault_expiry_parse(text, &at, &ignored) < 0 || at == 0)
        return 1;
    return at;
}

/* ---- a new credential -------------------------------------------------- */

static int
url_part(CURLU *u, CURLUPart part, unsigned flags, char **out)
{
    return curl_url_get(u, part, out, flags) == CURLUE_OK ? 0 : -1;
}

static void
url_freep(CURLU **u)
{
    curl_url_cleanup(*u);
}

static void
text_freep(char **s)
{
    curl_free(*s);
}

const struct vault_destination *
vault_oauth_destination(const struct vault_deployment *d, const char *url,
                        struct ag_err *err)
{
    AG_AUTO(url_freep) CURLU *u = curl_url();
    AG_AUTO(text_freep) char *scheme = NULL;
    AG_AUTO(text_freep) char *host = NULL;
    AG_AUTO(text_freep) char *port = NULL;
    AG_AUTO(text_freep) char *user = NULL;

    if (curl_url_set(u, CURLUPART_URL, url, 0) != CURLUE_OK
        || url_part(u, CURLUPART_SCHEME, 0, &scheme) < 0
        || url_part(u, CURLUPART_HOST, 0, &host) < 0
        || url_part(u, CURLUPART_PORT, CURLU_DEFAULT_PORT, &port) < 0
        || strcmp(scheme, "https") != 0
        || url_part(u, CURLUPART_USER, 0, &user) == 0) {
        ag_err_set(err, AG_ERR_INVALID, "not an https URL without a user");
        return NULL;
    }
    const struct vault_destination *dest =
        vault_deployment_find(d, ag_str(host), (int)strtol(port, NULL, 10));
    if (dest == NULL || dest->is_clear_text) {
        ag_err_set(err, AG_ERR_INVALID,
                   "its host and port are no destination of deployment.conf, "
                   "where root lists what the vault may reach");
        return NULL;
    }
    return dest;
}

static int
read_endpoint_auth(const json_t *auth, ag_str_t *secret, struct ag_err *err)
{
    static const char *const known[] = {"type", "client_secret", NULL};
    ag_str_t type = {NULL, 0};

    if (!json_is_object(auth))
        return ag_err_set(err, AG_ERR_INVALID, "not an object");
    if (vault_keys_check(auth, known, err) < 0
        || ag_json_get_str(auth, "type", &type, err) < 0
        || ag_json_get_str(auth, "client_secret", secret, err) < 0)
        return -1;
    if (ag_str_is(type, "none") && secret->p == NULL)
        return 0;
    if (ag_str_is(type, "client_secret_post"))
        return vault_value_check(*secret, "client_secret", err);
    return ag_err_set(err, AG_ERR_INVALID,
                      "neither {\"type\":\"none\"} nor {\"type\":"
                      "\"client_secret_post\",\"client_secret\":…}");
}

static int
read_refresh(const json_t *r, const struct vault_deployment *d,
             struct vault_oauth_secrets *out, struct ag_err *err)
{
    static const char *const known[] = {"token_endpoint",      "client_id",
                                        "refresh_token",       "scope",
                                        "token_endpoint_auth", NULL};
    ag_str_t client = {NULL, 0}, scope = {NULL, 0}, url = {NULL, 0};

    if (!json_is_object(r))
        return ag_err_set(err, AG_ERR_INVALID, "not an object");
    if (vault_keys_check(r, known, err) < 0
        || ag_json_get_str(r, "client_id", &client, err) < 0
        || ag_json_get_str(r, "scope", &scope, err) < 0
        || ag_json_get_str(r, "token_endpoint", &url, err) < 0
        || ag_json_get_str(r, "refresh_token", &out->refresh_token, err) < 0)
        return -1;
    if (client.n == 0 || client.n > 1024 || scope.n > 4096)
        return ag_err_set(err, AG_ERR_INVALID,
                          "client_id has 1 to 1024 bytes, scope at most 4096");
    if (url.n == 0 || url.n > 2048 || memchr(url.p, 0, url.n) != NULL
        || vault_oauth_destination(d, url.p, err) == NULL)
        return err->kind == AG_ERR_NONE ? ag_err_set(
                   err, AG_ERR_INVALID, "token_endpoint: not 1 to 2048 bytes")
                                        : ag_err_wrap(err, "token_endpoint");
    if (vault_value_check(out->refresh_token, "refresh_token", err) < 0)
        return -1;
    return read_endpoint_auth(json_object_get(r, "token_endpoint_auth"),
                              &out->client_secret, err)
                   < 0
               ? ag_err_wrap(err, "token_endpoint_auth")
               : 0;
}

int
vault_oauth_read(const json_t *j, const struct vault_deployment *d,
                 struct vault_oauth_secrets *out, struct ag_err *err)
{
    const char *at = json_string_value(json_object_get(j, "expires_at"));
    int64_t expires_us = 0;

    if (ag_json_get_str(j, "access_token", &out->access_token, err) < 0)
        return ag_err_wrap(err, "auth");
    if (vault_value_check(out->access_token, "auth.access_token", err) < 0)
        return -1;
    if (at == NULL || *at == '\0')
        return ag_err_set(err, AG_ERR_INVALID,
                          "auth.expires_at: is missing; the end of the access "
                          "token, like \"2027-01-31T12:00:00Z\"");
    if (vault_expiry_parse(at, &expires_us, err) < 0)
        return ag_err_wrap(err, "auth");
    return read_refresh(json_object_get(j, "refresh"), d, out, err) < 0
               ? ag_err_wrap(err, "auth.refresh")
               : 0;
}

void
vault_oauth_strip(json_t *shown)
{
    json_t *refresh = json_copy(json_object_get(shown, "refresh"));
    json_t *auth = json_copy(json_object_get(refresh, "token_endpoint_auth"));

    json_object_del(shown, "access_token");
    json_object_del(refresh, "refresh_token");
    json_object_del(auth, "client_secret");
    if (auth != NULL)
        json_object_set_new(refresh, "token_endpoint_auth", auth);
    if (refresh != NULL)
        json_object_set_new(shown, "refresh", refresh);
}

/* ---- what is sealed ---------------------------------------------------- */

int
vault_oauth_join(const struct vault_oauth_secrets *in, struct ag_buf *out,
                 struct ag_err *err)
{
    if (ag_buf_append(out, in->access_token, err) < 0
        || ag_buf_append(out, ag_str_n("", 1), err) < 0
        || ag_buf_append(out, in->refresh_token, err) < 0
        || ag_buf_append(out, ag_str_n("", 1), err) < 0
        || ag_buf_append(out, in->client_secret, err) < 0)
        return ag_err_wrap(err, "access token, refresh token and client "
                                "secret together");
    return 0;
}

int
vault_oauth_split(ag_str_t all, struct vault_oauth_secrets *out,
                  struct ag_err *err)
{
    ag_str_t rest = all;

    if (!ag_str_cut(&rest, '\0', &out->access_token)
        || !ag_str_cut(&rest, '\0', &out->refresh_token))
        return ag_err_set(err, AG_ERR_CORRUPT,
                          "what is sealed has no refresh token");
    out->client_secret = rest;
    return 0;
}

/* ---- the endpoint ------------------------------------------------------ */

static int
add_pair(struct ag_buf *out, const char *name, ag_str_t value,
         struct ag_err *err)
{
    if (out->max - out->n < 3 * value.n + 64)
        return ag_err_set(err, AG_ERR_LIMIT, "%s is too long", name);
    ag_buf_addf(out, "%s%s=", out->n == 0 ? "" : "&", name);
    vault_uri_encode(out, value, false);
    return 0;
}

int
vault_oauth_ask(const json_t *refresh,
                const struct vault_oauth_secrets *secrets, struct ag_buf *out,
                struct ag_err *err)
{
    ag_str_t client = ag_json_str(json_object_get(refresh, "client_id"));
    ag_str_t scope = ag_json_str(json_object_get(refresh, "scope"));

    if (add_pair(out, "grant_type", AG_STR("refresh_token"), err) < 0
        || add_pair(out, "refresh_token", secrets->refresh_token, err) < 0
        || add_pair(out, "client_id", client, err) < 0
        || (scope.n > 0 && add_pair(out, "scope", scope, err) < 0)
        || (secrets->client_secret.n > 0
            && add_pair(out, "client_secret", secrets->client_secret, err) < 0))
        return -1;
    return 0;
}

int
vault_oauth_answer(const json_t *j, struct vault_oauth_secrets *out,
                   int64_t *seconds, struct ag_err *err)
{
    ag_str_t type = {NULL, 0}, refresh = {NULL, 0}, access = {NULL, 0};
    int64_t life = *seconds;

    if (!json_is_object(j))
        return ag_err_set(err, AG_ERR_INVALID, "is no JSON object");
    if (ag_json_get_str(j, "access_token", &access, err) < 0
        || ag_json_get_str(j, "token_type", &type, err) < 0
        || ag_json_get_str(j, "refresh_token", &refresh, err) < 0
        || ag_json_get_i64(j, "expires_in", &life, err) < 0
        || vault_value_check(access, "access_token", err) < 0
        || (refresh.p != NULL
            && vault_value_check(refresh, "refresh_token", err) < 0))
        return -1;
    if (type.p != NULL
        && (type.n != 6 || strncasecmp(type.p, "bearer", 6) != 0))
        return ag_err_set(err, AG_ERR_INVALID, "token_type: is not Bearer");
    if (life < 1 || life > SECONDS_MAX)
        return ag_err_set(err, AG_ERR_INVALID, "expires_in: not 1 to %d",
                          (int)SECONDS_MAX);
    out->access_token = access;
    if (refresh.p != NULL)
        out->refresh_token = refresh;
    *seconds = life;
    return 0;
}
