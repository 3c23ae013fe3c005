/*
 * Rules of scheme, host, port, methods and path prefixes: how they are written,
 * and matching. Used by bindings and network policies. Pure functions.
 */
#include "vault_svc/vault_rule.h"

#include "lib/without.h"

#include <ctype.h>

#include "vault_svc/vault_deployment.h"
#include "vault_svc/vault_slot.h"

enum { WORDS_MAX = 32 };

int
vault_rule_check_method(ag_str_t in, struct ag_buf *out, struct ag_err *err)
{
    if (!vault_is_token(in) || ag_str_is(in, "CONNECT")
        || ag_str_is(in, "TRACE"))
        return ag_err_set(err, AG_ERR_INVALID,
                          "not an HTTP method that can be allowed");
    for (size_t i = 0; i < in.n; i++)
        if (!isupper((unsigned char)in.p[i]) && in.p[i] != '-')
            return ag_err_set(err, AG_ERR_INVALID,
                              "methods are written in capitals");
    ag_buf_add(out, in);
    return 0;
}

int
vault_rule_check_prefix(ag_str_t in, struct ag_buf *out, struct ag_err *err)
{
    if (in.n > 1024 || vault_path_is_ambiguous(in))
        return ag_err_set(err, AG_ERR_INVALID,
                          "a path prefix begins with \"/\" and has no dot "
                          "segment, \"//\", \"\\\", \";\" or escaped slash");
    ag_buf_add(out, in);
    return 0;
}

bool
vault_rule_has_word(const json_t *array, ag_str_t word)
{
    for (size_t i = 0; i < json_array_size(array); i++)
        if (ag_str_eq(ag_json_str(json_array_get(array, i)), word))
            return true;
    return false;
}

json_t *
vault_rule_words(const json_t *rule, const char *key, vault_word_check *check,
                 struct ag_err *err)
{
    AG_AUTO(ag_json_decref) json_t *out = json_array();
    const json_t *in = json_object_get(rule, key);

    if (in != NULL && !json_is_null(in) && !json_is_array(in)) {
        ag_err_set(err, AG_ERR_INVALID, "%s: not an array", key);
        return NULL;
    }
    if (json_array_size(in) > WORDS_MAX) {
        ag_err_set(err, AG_ERR_INVALID, "%s: more than %d", key, WORDS_MAX);
        return NULL;
    }
    if (json_is_array(in) && json_array_size(in) == 0) {
        ag_err_set(err, AG_ERR_INVALID,
                   "%s: empty, so nothing would fit; leave it out to allow "
                   "every one",
                   key);
        return NULL;
    }
    for (size_t i = 0; i < json_array_size(in); i++) {
        AG_AUTO(ag_buf_release) struct ag_buf word = AG_BUF_INIT(2048);
        const json_t *item = json_array_get(in, i);
        if (!json_is_string(item)) {
            ag_err_set(err, AG_ERR_INVALID, "%s[%zu]: not a string", key, i);
            return NULL;
        }
        if (check(ag_json_str(item), &word, err) < 0) {
            ag_err_wrap(err, "%s[%zu]", key, i);
            return NULL;
        }
        if (vault_rule_has_word(out, ag_buf_str(&word))) {
            ag_err_set(err, AG_ERR_INVALID, "%s[%zu]: stands there twice", key,
                       i);
            return NULL;
        }
        json_array_append_new(out, ag_json_from_str(ag_buf_str(&word)));
    }
    return ag_take(&out);
}

int
vault_keys_check(const json_t *obj, const char *const *known,
                 struct ag_err *err)
{
    const char *key;
    json_t *value;

    json_object_foreach ((json_t *)obj, key, value) {
        int i = 0;
        while (known[i] != NULL && strcmp(known[i], key) != 0)
            i++;
        if (known[i] == NULL)
            return ag_err_set(err, AG_ERR_INVALID, "%.60s: unknown field", key);
    }
    return 0;
}

json_t *
vault_rule_object(bool is_https, const struct vault_host_pattern *host,
                  struct ag_arena *arena)
{
    json_t *out = json_object();
    json_object_set_new(out, "scheme",
                        json_string(is_https ? "https" : "http"));
    json_object_set_new(
        out, "host",
        json_string(ag_arena_printf(
            arena, "%s%s", host->is_wildcard ? "*." : "", host->host)));
    json_object_set_new(out, "port", json_integer(host->port));
    return out;
}

static ag_str_t *
copy_words(const json_t *rule, const char *key, struct ag_arena *arena,
           size_t *n)
{
    const json_t *in = json_object_get(rule, key);
    ag_str_t *out =
        ag_arena_alloc(arena, (json_array_size(in) + 1) * sizeof(*out));
    *n = json_array_size(in);
    for (size_t i = 0; i < *n; i++)
        out[i] = ag_arena_copy(arena, ag_json_str(json_array_get(in, i)));
    return out;
}

static void
copy_mints(const json_t *in, struct ag_arena *arena, struct vault_rule *r)
{
    r->n_mints = json_array_size(in);
    r->mints = ag_arena_alloc(arena, (r->n_mints + 1) * sizeof(*r->mints));
    for (size_t i = 0; i < r->n_mints; i++)
        r->mints[i] = ag_arena_copy(
            arena,
            ag_json_str(json_object_get(json_array_get(in, i), "pointer")));
}

int
vault_rule_parse(const json_t *in, const struct vault_deployment *deployment,
                 struct ag_arena *arena, struct vault_rule *r,
                 struct ag_err *err)
{
    ag_str_t scheme = {NULL, 0}, host = {NULL, 0};
    int64_t port = 0;

    if (ag_json_get_str(in, "scheme", &scheme, err) < 0
        || ag_json_get_str(in, "host", &host, err) < 0
        || ag_json_get_i64(in, "port", &port, err) < 0)
        return -1;
    const char *full =
        ag_arena_printf(arena, "%.*s:%d", AG_FMT(host), (int)port);
    if (vault_host_pattern_parse(ag_str(full), deployment, &r->host, err) < 0)
        return -1;
    r->is_https = ag_str_is(scheme, "https");
    r->methods = copy_words(in, "methods", arena, &r->n_methods);
    r->path_prefixes =
        copy_words(in, "path_prefixes", arena, &r->n_path_prefixes);
    r->slots = copy_words(in, "slots", arena, &r->n_slots);
    copy_mints(json_object_get(in, "mint"), arena, r);
    return 0;
}

bool
vault_rule_fits(const struct vault_rule *rule, bool is_https, ag_str_t host,
                int port)
{
    return rule->is_https == is_https && rule->host.port == port
           && vault_host_pattern_fits(&rule->host, host);
}

bool
vault_rule_allows_method(const struct vault_rule *rule, ag_str_t method)
{
    for (size_t i = 0; i < rule->n_methods; i++)
        if (ag_str_eq(rule->methods[i], method))
            return true;
    return rule->n_methods == 0 || ag_without("method_scope");
}

bool
vault_rule_allows_path(const struct vault_rule *rule, ag_str_t path)
{
    if (rule->n_path_prefixes == 0 || ag_without("path_scope"))
        return true;
    if (vault_path_is_ambiguous(path) && !ag_without("path_form"))
        return false;
    for (size_t i = 0; i < rule->n_path_prefixes; i++) {
        ag_str_t pre = rule->path_prefixes[i];
        /* "/v1" covers "/v1" and "/v1/x", not "/v10". */
        if (ag_str_starts(path, pre)
            && (path.n == pre.n || pre.p[pre.n - 1] == '/'
                || path.p[pre.n] == '/'))
            return true;
    }
    return false;
}

bool
vault_rule_has_slot(const struct vault_rule *rule, ag_str_t slot)
{
    for (size_t i = 0; i < rule->n_slots; i++)
        if (ag_str_eq(rule->slots[i], slot))
            return true;
    return false;
}

bool
vault_path_is_ambiguous(ag_str_t path)
{
    ag_str_t rest = path, segment;

    if (path.n == 0 || path.p[0] != '/')
        return true;
    for (size_t i = 0; i < path.n; i++) {
        unsigned char c = (unsigned char)path.p[i];
        if (c == '\\' || c == ';' || c <= ' ' || c == 0x7f
            || (c == '/' && i + 1 < path.n && path.p[i + 1] == '/'))
            return true;
        if (c != '%' || i + 2 >= path.n)
            continue;
        int hi = path.p[i + 1], lo = tolower(path.p[i + 2]);
        if ((hi == '2' && (lo == 'f' || lo == 'e' || lo == '5'))
            || (hi == '5' && lo == 'c') || (hi == '0' && lo == '0'))
            return true;
    }
    while (ag_str_cut(&rest, '/', &segment))
        if (ag_str_is(segment, ".") || ag_str_is(segment, ".."))
            return true;
    return false;
}
