/* Bindings of credentials: canonical form and matching. */
#include "vault_svc/vault_binding.h"

#include "lib/json.h"
#include "vault_svc/vault_deployment.h"
#include "vault_svc/vault_slot.h"

static json_t *
default_slots(unsigned location)
{
    json_t *out = json_array();

    if (location == 0 || (location & VAULT_IN_HEADER) != 0) {
        json_array_append_new(out, json_string("header:authorization"));
        json_array_append_new(out, json_string("basic"));
    }
    if ((location & VAULT_IN_MODEL_HEADERS) != 0) {
        json_array_append_new(out, json_string("header:authorization"));
        json_array_append_new(out, json_string("header:x-api-key"));
    }
    if ((location & VAULT_IN_BODY) != 0)
        json_array_append_new(out, json_string("body"));
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
    if (!may_have_body && vault_rule_has_word(slots, AG_STR("body")))
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

/* Methods, paths and slots of a rule that is written as `in`. */
static int
build_lists(const json_t *in, unsigned location, json_t *out,
            struct ag_err *err)
{
    static const struct {
        const char *key;
        vault_word_check *check;
    } lists[] = {{"methods", vault_rule_check_method},
                 {"path_prefixes", vault_rule_check_prefix},
                 {"slots", vault_slot_check}};

    for (size_t i = 0; i < 3; i++) {
        json_t *words = vault_rule_words(in, lists[i].key, lists[i].check, err);
        if (words == NULL)
            return -1;
        if (json_array_size(words) > 0)
            json_object_set_new(out, lists[i].key, words);
        else
            json_decref(words);
    }
    if (json_object_get(out, "slots") == NULL)
        json_object_set_new(out, "slots", default_slots(location));
    return check_contradiction(out, location, err);
}

/* One rule, within `hosts` unless that is NULL. */
static json_t *
build_place(const json_t *in, const struct vault_binding_in *from,
            const struct vault_policy *hosts, struct ag_arena *arena,
            struct ag_err *err)
{
    AG_AUTO(ag_json_decref) json_t *out = NULL;
    ag_str_t scheme = AG_STR("https"), host = {NULL, 0};
    struct vault_host_pattern p;
    int64_t port = 443;

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
    if (vault_host_pattern_parse(ag_str(full), from->deployment, &p, err) < 0
        || check_clear_text(is_https, &p, from->deployment, err) < 0)
        return NULL;
    if (hosts != NULL && !is_within(&p, hosts)) {
        ag_err_set(err, AG_ERR_INVALID,
                   "host: \"%s\" is not among the credential's hosts", full);
        return NULL;
    }
    out = vault_rule_object(is_https, &p, arena);
    unsigned location = hosts == NULL ? 0 : from->location;
    return build_lists(in, location, out, err) < 0 ? NULL : ag_take(&out);
}

/* RFC 6901: "" is the whole, which no string of an answer is. */
static bool
is_pointer(ag_str_t p)
{
    if (p.n < 2 || p.n > 256 || p.p[0] != '/' || !ag_str_is_utf8(p))
        return false;
    for (size_t i = 0; i < p.n; i++)
        if ((unsigned char)p.p[i] < 0x20
            || (p.p[i] == '~'
                && (i + 1 == p.n || (p.p[i + 1] != '0' && p.p[i + 1] != '1'))))
            return false;
    return true;
}

static json_t *
build_mint(const json_t *in, const struct vault_binding_in *from,
           struct ag_arena *arena, struct ag_err *err)
{
    static const char *const known[] = {"pointer", "scheme",  "host",
                                        "port",    "methods", "path_prefixes",
                                        "slots",   NULL};
    ag_str_t pointer = {NULL, 0};

    if (!json_is_object(in)) {
        ag_err_set(err, AG_ERR_INVALID, "not an object");
        return NULL;
    }
    if (vault_keys_check(in, known, err) < 0
        || ag_json_get_str(in, "pointer", &pointer, err) < 0)
        return NULL;
    if (!is_pointer(pointer)) {
        ag_err_set(err, AG_ERR_INVALID,
                   "pointer: not a JSON pointer like \"/access_token\"");
        return NULL;
    }
    json_t *out = build_place(in, from, NULL, arena, err);
    if (out != NULL)
        json_object_set_new(out, "pointer", ag_json_from_str(pointer));
    return out;
}

static int
build_mints(const json_t *in, const struct vault_binding_in *from,
            struct ag_arena *arena, json_t *rule, struct ag_err *err)
{
    json_t *out;

    if (in == NULL || json_is_null(in))
        return 0;
    if (!json_is_array(in) || json_array_size(in) == 0
        || json_array_size(in) > VAULT_BINDING_MINTS_MAX)
        return ag_err_set(err, AG_ERR_INVALID,
                          "mint: not an array of 1 to %d places",
                          VAULT_BINDING_MINTS_MAX);
    out = json_array();
    json_object_set_new(rule, "mint", out);
    for (size_t i = 0; i < json_array_size(in); i++) {
        json_t *m = build_mint(json_array_get(in, i), from, arena, err);
        if (m == NULL)
            return ag_err_wrap(err, "mint[%zu]", i);
        for (size_t k = 0; k < i; k++)
            if (json_equal(
                    json_object_get(m, "pointer"),
                    json_object_get(json_array_get(out, k), "pointer"))) {
                json_decref(m);
                return ag_err_set(err, AG_ERR_INVALID,
                                  "mint[%zu].pointer: the same as mint[%zu]'s",
                                  i, k);
            }
        json_array_append_new(out, m);
    }
    return 0;
}

static json_t *
build_rule(const json_t *in, const struct vault_binding_in *from,
           struct ag_arena *arena, struct ag_err *err)
{
    static const char *const known[] = {
        "scheme",        "host",  "port", "methods",
        "path_prefixes", "slots", "mint", NULL};

    if (!json_is_object(in)) {
        ag_err_set(err, AG_ERR_INVALID, "not an object");
        return NULL;
    }
    if (vault_keys_check(in, known, err) < 0)
        return NULL;
    AG_AUTO(ag_json_decref)
    json_t *out = build_place(in, from, from->hosts, arena, err);
    if (out == NULL
        || build_mints(json_object_get(in, "mint"), from, arena, out, err) < 0)
        return NULL;
    return ag_take(&out);
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
    json_t *out = vault_rule_object(is_https, &p, arena);
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

int
vault_binding_of_minted(ag_str_t text, int rule, int mint, struct ag_buf *out,
                        struct ag_err *err)
{
    AG_AUTO(ag_json_decref) json_t *j = ag_json_parse(text, err);
    AG_AUTO(ag_json_decref) json_t *rules = NULL;

    if (j == NULL)
        return -1;
    if (rule < 0 || mint < 0)
        return ag_err_set(err, AG_ERR_NOT_FOUND, "place: there is no such");
    const json_t *of = json_array_get(j, (size_t)rule);
    const json_t *m = json_array_get(json_object_get(of, "mint"), (size_t)mint);
    if (!json_is_object(m))
        return ag_err_set(err, AG_ERR_NOT_FOUND,
                          "place: the binding has no such rule and place");
    json_t *only = json_copy((json_t *)m);
    json_object_del(only, "pointer");
    rules = json_array();
    json_array_append_new(rules, only);
    return ag_json_dump_sorted(rules, out, err);
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
        if (vault_rule_parse(json_array_get(j, i), deployment, arena,
                             &out->rules[i], err)
            < 0)
            return ag_err_wrap(err, "binding[%zu]", i);
    return 0;
}

bool
vault_binding_names_host(const struct vault_binding *b, ag_str_t host)
{
    for (size_t i = 0; i < b->n_rules; i++)
        if (vault_host_pattern_fits(&b->rules[i].host, host))
            return true;
    return false;
}
