/* Bindings of credentials: canonical form and matching. */
#include "vault_svc/vault_binding.h"

#include <ctype.h>
#include <stdio.h>

#include "lib/json.h"
#include "vault_svc/vault_deployment.h"

enum { WORDS_MAX = 32 };

typedef int word_check(ag_str_t in, struct ag_buf *out, struct ag_err *err);

static bool
is_token(ag_str_t s)
{
    for (size_t i = 0; i < s.n; i++)
        if (!isalnum((unsigned char)s.p[i])
            && memchr("!#$%&'*+-.^_`|~", s.p[i], 15) == NULL)
            return false;
    return s.n > 0 && s.n <= 64;
}

static int
check_method(ag_str_t in, struct ag_buf *out, struct ag_err *err)
{
    if (!is_token(in) || ag_str_is(in, "CONNECT") || ag_str_is(in, "TRACE"))
        return ag_err_set(err, AG_ERR_INVALID,
                          "not an HTTP method that can be allowed");
    for (size_t i = 0; i < in.n; i++)
        if (!isupper((unsigned char)in.p[i]) && in.p[i] != '-')
            return ag_err_set(err, AG_ERR_INVALID,
                              "methods are written in capitals");
    ag_buf_add(out, in);
    return 0;
}

static int
check_prefix(ag_str_t in, struct ag_buf *out, struct ag_err *err)
{
    if (in.n > 1024 || vault_path_is_ambiguous(in))
        return ag_err_set(err, AG_ERR_INVALID,
                          "a path prefix begins with \"/\" and has no dot "
                          "segment, \"//\", \"\\\", \";\" or escaped slash");
    ag_buf_add(out, in);
    return 0;
}

static int
check_slot(ag_str_t in, struct ag_buf *out, struct ag_err *err)
{
    ag_str_t name = in, kind;

    if (ag_str_is(in, "basic")) {
        ag_buf_add(out, in);
        return 0;
    }
    ag_str_cut(&name, ':', &kind);
    if (ag_str_is(kind, "header") && is_token(name)) {
        ag_buf_add(out, AG_STR("header:"));
        for (size_t i = 0; i < name.n; i++)
            ag_buf_addc(out, (char)tolower((unsigned char)name.p[i]));
        return 0;
    }
    return ag_err_set(err, AG_ERR_INVALID,
                      "a slot is \"header:<Name>\" or \"basic\"");
}

/* Copy `rule[key]` (an array of strings) into a new checked array. */
static json_t *
build_words(const json_t *rule, const char *key, word_check *check,
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
        json_array_append_new(out, ag_json_from_str(ag_buf_str(&word)));
    }
    return ag_take(&out);
}

static json_t *
default_slots(void)
{
    json_t *out = json_array();
    json_array_append_new(out, json_string("header:authorization"));
    json_array_append_new(out, json_string("basic"));
    return out;
}

static json_t *
rule_object(bool is_https, const struct vault_host_pattern *host,
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

/* A rule is narrower than one of the credential's hosts. */
static bool
is_within(const struct vault_host_pattern *p, const struct vault_policy *hosts)
{
    for (size_t i = 0; i < hosts->n_hosts; i++) {
        const struct vault_host_pattern *h = &hosts->hosts[i];
        if (h->port != 0 && h->port != p->port)
            continue;
        if (p->is_wildcard ? h->is_wildcard && strcmp(p->host, h->host) == 0
                           : vault_host_pattern_fits(h, ag_str(p->host)))
            return true;
    }
    return false;
}

static int
check_clear_text(bool is_https, const struct vault_host_pattern *p,
                 const struct vault_deployment *deployment, struct ag_err *err)
{
    if (is_https)
        return 0;
    const struct vault_destination *d =
        vault_deployment_find(deployment, ag_str(p->host), p->port);
    if (d == NULL || !d->is_clear_text || p->is_wildcard)
        return ag_err_set(err, AG_ERR_INVALID,
                          "scheme: \"http\" needs a clear-text destination "
                          "of deployment.conf; use \"https\"");
    return 0;
}

static json_t *
build_rule(const json_t *in, const struct vault_policy *hosts,
           const struct vault_deployment *deployment, struct ag_arena *arena,
           struct ag_err *err)
{
    ag_str_t scheme = AG_STR("https"), host = {NULL, 0};
    struct vault_host_pattern p;
    int64_t port = 443;

    if (!json_is_object(in)) {
        ag_err_set(err, AG_ERR_INVALID, "not an object");
        return NULL;
    }
    if (ag_json_get_str(in, "scheme", &scheme, err) < 0
        || ag_json_get_str(in, "host", &host, err) < 0
        || ag_json_get_i64(in, "port", &port, err) < 0)
        return NULL;
    bool is_https = ag_str_is(scheme, "https");
    if ((!is_https && !ag_str_is(scheme, "http")) || port < 1 || port > 65535) {
        ag_err_set(err, AG_ERR_INVALID,
                   "scheme is \"https\" or \"http\", port 1 to 65535");
        return NULL;
    }
    const char *full =
        ag_arena_printf(arena, "%.*s:%d", AG_FMT(host), (int)port);
    if (vault_host_pattern_parse(ag_str(full), deployment, &p, err) < 0
        || check_clear_text(is_https, &p, deployment, err) < 0)
        return NULL;
    if (!is_within(&p, hosts)) {
        ag_err_set(err, AG_ERR_INVALID,
                   "host: \"%s\" is not among the credential's hosts", full);
        return NULL;
    }
    AG_AUTO(ag_json_decref) json_t *out = rule_object(is_https, &p, arena);
    static const struct {
        const char *key;
        word_check *check;
    } lists[] = {{"methods", check_method},
                 {"path_prefixes", check_prefix},
                 {"slots", check_slot}};
    for (size_t i = 0; i < 3; i++) {
        json_t *words = build_words(in, lists[i].key, lists[i].check, err);
        if (words == NULL)
            return NULL;
        json_object_set_new(out, lists[i].key, words);
    }
    if (json_array_size(json_object_get(out, "slots")) == 0)
        json_object_set_new(out, "slots", default_slots());
    return ag_take(&out);
}

static json_t *
build_default(const struct vault_host_pattern *host,
              const struct vault_deployment *deployment, struct ag_arena *arena)
{
    struct vault_host_pattern p = *host;
    if (p.port == 0)
        p.port = 443;
    const struct vault_destination *d =
        vault_deployment_find(deployment, ag_str(p.host), p.port);
    bool is_https = p.is_wildcard || d == NULL || !d->is_clear_text;
    json_t *out = rule_object(is_https, &p, arena);
    json_object_set_new(out, "methods", json_array());
    json_object_set_new(out, "path_prefixes", json_array());
    json_object_set_new(out, "slots", default_slots());
    return out;
}

int
vault_binding_build(ag_str_t binding_json, const struct vault_policy *hosts,
                    const struct vault_deployment *deployment,
                    struct ag_buf *out, struct ag_err *err)
{
    AG_AUTO(ag_arena_freep) struct ag_arena *arena = ag_arena_new();
    AG_AUTO(ag_json_decref) json_t *rules = json_array();
    AG_AUTO(ag_json_decref) json_t *in = NULL;

    if (binding_json.n > 0 && !ag_str_is(binding_json, "null")) {
        in = ag_json_parse(binding_json, err);
        if (in == NULL)
            return ag_err_wrap(err, "binding");
        if (!json_is_array(in) || json_array_size(in) == 0)
            return ag_err_set(err, AG_ERR_INVALID,
                              "binding: not an array of at least one rule");
    }
    size_t n = in != NULL ? json_array_size(in) : hosts->n_hosts;
    if (n == 0 || n > VAULT_BINDING_RULES_MAX)
        return ag_err_set(err, AG_ERR_INVALID,
                          "binding: a credential is bound to 1 to %d hosts",
                          VAULT_BINDING_RULES_MAX);
    for (size_t i = 0; i < n; i++) {
        json_t *rule = in == NULL
                           ? build_default(&hosts->hosts[i], deployment, arena)
                           : build_rule(json_array_get(in, i), hosts,
                                        deployment, arena, err);
        if (rule == NULL)
            return ag_err_wrap(err, "binding[%zu]", i);
        json_array_append_new(rules, rule);
    }
    return ag_json_dump_sorted(rules, out, err);
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

static int
parse_rule(const json_t *in, const struct vault_deployment *deployment,
           struct ag_arena *arena, struct vault_rule *r, struct ag_err *err)
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
    return 0;
}

int
vault_binding_parse(ag_str_t text, const struct vault_deployment *deployment,
                    struct ag_arena *arena, struct vault_binding *out,
                    struct ag_err *err)
{
    AG_AUTO(ag_json_decref) json_t *j = ag_json_parse(text, err);
    size_t n = json_array_size(j);

    if (j == NULL)
        return -1;
    if (n > VAULT_BINDING_RULES_MAX)
        return ag_err_set(err, AG_ERR_CORRUPT, "a binding has too many rules");
    *out = (struct vault_binding){
        ag_arena_alloc(arena, (n + 1) * sizeof(struct vault_rule)), n};
    for (size_t i = 0; i < n; i++)
        if (parse_rule(json_array_get(j, i), deployment, arena, &out->rules[i],
                       err)
            < 0)
            return ag_err_wrap(err, "binding[%zu]", i);
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
    return rule->n_methods == 0;
}

bool
vault_rule_allows_path(const struct vault_rule *rule, ag_str_t path)
{
    if (rule->n_path_prefixes == 0)
        return true;
    if (vault_path_is_ambiguous(path))
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
vault_binding_names_host(const struct vault_binding *b, ag_str_t host)
{
    for (size_t i = 0; i < b->n_rules; i++)
        if (vault_host_pattern_fits(&b->rules[i].host, host))
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
