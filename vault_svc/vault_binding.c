/* Bindings of credentials: canonical form and matching. */
#include "vault_svc/vault_binding.h"

#include <ctype.h>
#include <stdio.h>

#include "lib/json.h"
#include "vault_svc/vault_deployment.h"
#include "vault_svc/vault_slot.h"

enum { WORDS_MAX = 32 };

typedef int word_check(ag_str_t in, struct ag_buf *out, struct ag_err *err);

static int
check_method(ag_str_t in, struct ag_buf *out, struct ag_err *err)
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

static bool
has_word(const json_t *array, ag_str_t word)
{
    for (size_t i = 0; i < json_array_size(array); i++)
        if (ag_str_eq(ag_json_str(json_array_get(array, i)), word))
            return true;
    return false;
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
        if (has_word(out, ag_buf_str(&word))) {
            ag_err_set(err, AG_ERR_INVALID, "%s[%zu]: stands there twice", key,
                       i);
            return NULL;
        }
        json_array_append_new(out, ag_json_from_str(ag_buf_str(&word)));
    }
    return ag_take(&out);
}

static json_t *
default_slots(unsigned location)
{
    json_t *out = json_array();

    if (location == 0 || (location & VAULT_IN_HEADER) != 0) {
        json_array_append_new(out, json_string("header:authorization"));
        json_array_append_new(out, json_string("basic"));
    }
    if ((location & VAULT_IN_BODY) != 0)
        json_array_append_new(out, json_string("body"));
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

/* Where a rule's parts leave nothing that could fit. */
static int
check_contradiction(const json_t *rule, unsigned location, struct ag_err *err)
{
    const json_t *slots = json_object_get(rule, "slots");
    const json_t *methods = json_object_get(rule, "methods");
    bool may_have_body = json_array_size(methods) == 0;

    for (size_t i = 0; i < json_array_size(methods); i++) {
        ag_str_t m = ag_json_str(json_array_get(methods, i));
        may_have_body |= !ag_str_is(m, "GET") && !ag_str_is(m, "HEAD")
                         && !ag_str_is(m, "OPTIONS");
    }
    if (!may_have_body && has_word(slots, AG_STR("body")))
        return ag_err_set(err, AG_ERR_INVALID,
                          "slots, methods: contradict each other: a \"body\" "
                          "slot needs a method with a body, like POST");
    for (size_t i = 0; location != 0 && i < json_array_size(slots); i++) {
        bool is_body = ag_str_is(ag_json_str(json_array_get(slots, i)), "body");
        if ((location & (is_body ? VAULT_IN_BODY : VAULT_IN_HEADER)) == 0)
            return ag_err_set(err, AG_ERR_INVALID,
                              "slots[%zu]: contradicts "
                              "auth.injection_location",
                              i);
    }
    return 0;
}

static json_t *
build_rule(const json_t *in, const struct vault_binding_in *from,
           struct ag_arena *arena, struct ag_err *err)
{
    static const char *const known[] = {
        "scheme", "host", "port", "methods", "path_prefixes", "slots", NULL};
    const struct vault_deployment *deployment = from->deployment;
    ag_str_t scheme = AG_STR("https"), host = {NULL, 0};
    struct vault_host_pattern p;
    int64_t port = 443;

    if (!json_is_object(in)) {
        ag_err_set(err, AG_ERR_INVALID, "not an object");
        return NULL;
    }
    if (vault_keys_check(in, known, err) < 0
        || ag_json_get_str(in, "scheme", &scheme, err) < 0
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
    if (!is_within(&p, from->hosts)) {
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
                 {"slots", vault_slot_check}};
    for (size_t i = 0; i < 3; i++) {
        json_t *words = build_words(in, lists[i].key, lists[i].check, err);
        if (words == NULL)
            return NULL;
        if (json_array_size(words) > 0)
            json_object_set_new(out, lists[i].key, words);
        else
            json_decref(words);
    }
    if (json_object_get(out, "slots") == NULL)
        json_object_set_new(out, "slots", default_slots(from->location));
    return check_contradiction(out, from->location, err) < 0 ? NULL
                                                             : ag_take(&out);
}

static json_t *
build_default(const struct vault_host_pattern *host,
              const struct vault_binding_in *from, struct ag_arena *arena)
{
    struct vault_host_pattern p = *host;
    if (p.port == 0)
        p.port = 443;
    const struct vault_destination *d =
        vault_deployment_find(from->deployment, ag_str(p.host), p.port);
    bool is_https = p.is_wildcard || d == NULL || !d->is_clear_text;
    json_t *out = rule_object(is_https, &p, arena);
    json_object_set_new(out, "slots", default_slots(from->location));
    return out;
}

static int
add_rule(json_t *rules, json_t *rule, struct ag_err *err)
{
    size_t n = json_array_size(rules);

    if (rule == NULL)
        return ag_err_wrap(err, "binding[%zu]", n);
    for (size_t i = 0; i < n; i++)
        if (json_equal(json_array_get(rules, i), rule)) {
            json_decref(rule);
            return ag_err_set(err, AG_ERR_INVALID,
                              "binding[%zu]: the same as binding[%zu]", n, i);
        }
    json_array_append_new(rules, rule);
    return 0;
}

int
vault_binding_build(const struct vault_binding_in *from, struct ag_buf *out,
                    struct ag_err *err)
{
    AG_AUTO(ag_arena_freep) struct ag_arena *arena = ag_arena_new();
    AG_AUTO(ag_json_decref) json_t *rules = json_array();
    AG_AUTO(ag_json_decref) json_t *in = NULL;

    if (from->json.n > 0 && !ag_str_is(from->json, "null")) {
        in = ag_json_parse(from->json, err);
        if (in == NULL)
            return ag_err_wrap(err, "binding");
        if (!json_is_array(in) || json_array_size(in) == 0)
            return ag_err_set(err, AG_ERR_INVALID,
                              "binding: not an array of at least one rule");
    }
    size_t n = in != NULL ? json_array_size(in) : from->hosts->n_hosts;
    if (n == 0 || n > VAULT_BINDING_RULES_MAX)
        return ag_err_set(err, AG_ERR_INVALID,
                          "binding: a credential is bound to 1 to %d hosts",
                          VAULT_BINDING_RULES_MAX);
    for (size_t i = 0; i < n; i++) {
        json_t *rule =
            in == NULL ? build_default(&from->hosts->hosts[i], from, arena)
                       : build_rule(json_array_get(in, i), from, arena, err);
        if (add_rule(rules, rule, err) < 0)
            return -1;
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
