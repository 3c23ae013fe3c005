/* Network policies: reading, canonical form, matching. */
#include "vault_svc/vault_policy.h"

#include <stdio.h>
#include <stdlib.h>

#include "lib/json.h"

char *
vault_policy_host_text(const struct vault_host_pattern *p,
                       struct ag_arena *arena)
{
    const char *star = p->is_wildcard ? "*." : "";
    if (p->port == 0)
        return ag_arena_printf(arena, "%s%s", star, p->host);
    return ag_arena_printf(arena, "%s%s:%d", star, p->host, p->port);
}

int
vault_policy_hosts_parse(const json_t *array, const char *field,
                         const struct vault_deployment *deployment,
                         struct ag_arena *arena, struct vault_policy *out,
                         struct ag_err *err)
{
    size_t n = json_array_size(array);

    *out = (struct vault_policy){0};
    if (array == NULL || json_is_null(array))
        return 0;
    if (!json_is_array(array))
        return ag_err_set(err, AG_ERR_INVALID, "%s: not an array", field);
    if (n > VAULT_POLICY_HOSTS_MAX)
        return ag_err_set(err, AG_ERR_INVALID, "%s: more than %d hosts", field,
                          VAULT_POLICY_HOSTS_MAX);
    out->hosts = ag_arena_alloc(arena, (n + 1) * sizeof(*out->hosts));
    for (size_t i = 0; i < n; i++) {
        const json_t *item = json_array_get(array, i);
        if (!json_is_string(item))
            return ag_err_set(err, AG_ERR_INVALID, "%s[%zu]: not a string",
                              field, i);
        if (vault_host_pattern_parse(ag_json_str(item), deployment,
                                     &out->hosts[i], err)
            < 0)
            return ag_err_wrap(err, "%s[%zu]", field, i);
    }
    out->n_hosts = n;
    return 0;
}

static int
by_text(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static json_t *
canonical_hosts(const struct vault_policy *p, struct ag_arena *arena)
{
    char **texts = ag_arena_alloc(arena, (p->n_hosts + 1) * sizeof(*texts));
    json_t *out = json_array();

    for (size_t i = 0; i < p->n_hosts; i++)
        texts[i] = vault_policy_host_text(&p->hosts[i], arena);
    qsort(texts, p->n_hosts, sizeof(*texts), by_text);
    for (size_t i = 0; i < p->n_hosts; i++)
        if (i == 0 || strcmp(texts[i], texts[i - 1]) != 0)
            json_array_append_new(out, json_string(texts[i]));
    return out;
}

/* A rule that names what a plain host allows already, whole, narrows nothing:
 * whoever wrote both meant one of them. */
static int
check_not_plain(const struct vault_host_pattern *p,
                const struct vault_policy *plain, struct ag_err *err)
{
    for (size_t i = 0; i < plain->n_hosts; i++) {
        const struct vault_host_pattern *h = &plain->hosts[i];
        bool is_port =
            h->port == 0 ? p->port == 443 || p->port == 80 : h->port == p->port;
        if (is_port && h->is_wildcard == p->is_wildcard
            && strcmp(h->host, p->host) == 0)
            return ag_err_set(err, AG_ERR_INVALID,
                              "host: \"%s\" port %d is allowed as a whole by "
                              "allowed_hosts; name it in one of the two",
                              p->host, p->port);
    }
    return 0;
}

struct reading {
    const struct vault_deployment *deployment;
    const struct vault_policy *plain;
    struct ag_arena *arena;
    json_t *rules; /* canonical */
};

/* One rule of the input for one port. */
static int
add_rule(struct reading *r, const json_t *in, bool is_https, int64_t port,
         struct ag_err *err)
{
    AG_AUTO(ag_json_decref) json_t *out = NULL;
    static const struct {
        const char *key;
        vault_word_check *check;
    } lists[] = {{"methods", vault_rule_check_method},
                 {"path_prefixes", vault_rule_check_prefix}};
    struct vault_host_pattern p;
    ag_str_t host = {NULL, 0};

    if (port < 1 || port > 65535)
        return ag_err_set(err, AG_ERR_INVALID,
                          "ports: a port is a number from 1 to 65535");
    if (ag_json_get_str(in, "host", &host, err) < 0)
        return -1;
    const char *full =
        ag_arena_printf(r->arena, "%.*s:%d", AG_FMT(host), (int)port);
    if (vault_host_pattern_parse(ag_str(full), r->deployment, &p, err) < 0)
        return ag_err_wrap(err, "host");
    if (check_not_plain(&p, r->plain, err) < 0)
        return -1;
    out = vault_rule_object(is_https, &p, r->arena);
    for (size_t i = 0; i < 2; i++) {
        json_t *words = vault_rule_words(in, lists[i].key, lists[i].check, err);
        if (words == NULL)
            return -1;
        if (json_array_size(words) > 0)
            json_object_set_new(out, lists[i].key, words);
        else
            json_decref(words);
    }
    if (json_array_size(r->rules) == VAULT_POLICY_RULES_MAX)
        return ag_err_set(err, AG_ERR_INVALID, "more than %d rules and ports",
                          VAULT_POLICY_RULES_MAX);
    json_array_append_new(r->rules, ag_take(&out));
    return 0;
}

static int
read_rule(struct reading *r, const json_t *in, struct ag_err *err)
{
    static const char *const known[] = {"scheme",  "host",          "ports",
                                        "methods", "path_prefixes", NULL};
    const json_t *ports = json_object_get(in, "ports");
    ag_str_t scheme = AG_STR("https");

    if (!json_is_object(in))
        return ag_err_set(err, AG_ERR_INVALID, "not an object");
    if (vault_keys_check(in, known, err) < 0
        || ag_json_get_str(in, "scheme", &scheme, err) < 0)
        return -1;
    bool is_https = ag_str_is(scheme, "https");
    if (!is_https && !ag_str_is(scheme, "http"))
        return ag_err_set(err, AG_ERR_INVALID,
                          "scheme: neither \"https\" nor \"http\"");
    if (ports == NULL || json_is_null(ports))
        return add_rule(r, in, is_https, is_https ? 443 : 80, err);
    if (!json_is_array(ports) || json_array_size(ports) == 0)
        return ag_err_set(err, AG_ERR_INVALID,
                          "ports: not an array of at least one number");
    for (size_t i = 0; i < json_array_size(ports); i++) {
        const json_t *port = json_array_get(ports, i);
        if (add_rule(r, in, is_https,
                     json_is_integer(port) ? json_integer_value(port) : 0, err)
            < 0)
            return -1;
    }
    return 0;
}

static int
read_rules(struct reading *r, const json_t *rules, struct ag_err *err)
{
    if (rules == NULL || json_is_null(rules))
        return 0;
    if (!json_is_array(rules))
        return ag_err_set(err, AG_ERR_INVALID, "rules: not an array");
    for (size_t i = 0; i < json_array_size(rules); i++)
        if (read_rule(r, json_array_get(rules, i), err) < 0)
            return ag_err_wrap(err, "rules[%zu]", i);
    return 0;
}

static const char *const modes[] = {[VAULT_MODE_ENFORCE] = "enforce",
                                    [VAULT_MODE_OBSERVE] = "observe",
                                    [VAULT_MODE_ASK] = "ask"};

static const char *const outbounds[] = {
    "block", "mask", "log"}; /* from VAULT_OUTBOUND_BLOCK on */

/* The index of `key`'s word among three; 0 when it is not there. */
static int
read_word(const json_t *from, const char *key, const char *const words[3],
          int *out, struct ag_err *err)
{
    ag_str_t text = {NULL, 0};

    *out = 0;
    if (ag_json_get_str(from, key, &text, err) < 0)
        return -1;
    if (text.p == NULL)
        return 0;
    for (int i = 0; i < 3; i++)
        if (ag_str_is(text, words[i])) {
            *out = i;
            return 0;
        }
    return ag_err_set(err, AG_ERR_INVALID, "%s: none of \"%s\", \"%s\", \"%s\"",
                      key, words[0], words[1], words[2]);
}

/* What is no list: `mode` and `outbound`. */
static int
read_words(const json_t *from, struct vault_policy *out, struct ag_err *err)
{
    int mode, outbound;

    if (read_word(from, "mode", modes, &mode, err) < 0
        || read_word(from, "outbound", outbounds, &outbound, err) < 0)
        return -1;
    out->mode = (enum vault_policy_mode)mode;
    out->outbound = (enum vault_outbound)(VAULT_OUTBOUND_BLOCK + outbound);
    return 0;
}

/* config.networking, or NULL with an untouched `err` when there is none. */
static int
find_networking(const json_t *config, const json_t **net, struct ag_err *err)
{
    ag_str_t type = {NULL, 0};

    if (!json_is_object(config))
        return ag_err_set(err, AG_ERR_INVALID, "config: not an object");
    *net = json_object_get(config, "networking");
    if (*net == NULL || json_is_null(*net)) {
        *net = NULL;
        return 0;
    }
    if (!json_is_object(*net))
        return ag_err_set(err, AG_ERR_INVALID,
                          "config.networking: not an object");
    if (ag_json_get_str(*net, "type", &type, err) < 0)
        return ag_err_wrap(err, "config.networking");
    if (type.n != 0 && !ag_str_is(type, "limited"))
        return ag_err_set(err, AG_ERR_INVALID,
                          "config.networking.type: \"%.*s\" is not possible; "
                          "use \"limited\" and name the hosts",
                          (int)(type.n > 40 ? 40 : type.n), type.p);
    return 0;
}

/* {"mode","rules","outbound"} that a typed client wrote into its metadata. */
static int
read_metadata(ag_str_t metadata_json, json_t **out, struct ag_err *err)
{
    static const char *const known[] = {"mode", "rules", "outbound", NULL};
    AG_AUTO(ag_json_decref) json_t *metadata = NULL;
    ag_str_t text = {NULL, 0};

    if (metadata_json.n == 0 || ag_str_is(metadata_json, "null"))
        return 0;
    metadata = ag_json_parse(metadata_json, err);
    if (metadata == NULL
        || ag_json_get_str(metadata, VAULT_POLICY_METADATA, &text, err) < 0)
        return ag_err_wrap(err, "metadata");
    if (text.p == NULL)
        return 0;
    *out = ag_json_parse(text, err);
    if (*out != NULL && !json_is_object(*out))
        ag_err_set(err, AG_ERR_INVALID, "not an object");
    if (!json_is_object(*out) || vault_keys_check(*out, known, err) < 0)
        return ag_err_wrap(err, "metadata." VAULT_POLICY_METADATA);
    return 0;
}

/* `extra` holds all but the hosts: the networking itself, or the metadata. */
static int
build(const json_t *hosts, const json_t *extra, const char *where,
      const struct vault_deployment *deployment, struct ag_buf *out,
      struct ag_err *err)
{
    AG_AUTO(ag_arena_freep) struct ag_arena *arena = ag_arena_new();
    AG_AUTO(ag_json_decref) json_t *policy = json_object();
    AG_AUTO(ag_json_decref) json_t *rules = json_array();
    struct vault_policy plain = {0};
    struct reading r = {deployment, &plain, arena, rules};

    if (vault_policy_hosts_parse(hosts, "config.networking.allowed_hosts",
                                 deployment, arena, &plain, err)
        < 0)
        return -1;
    if (extra != NULL
        && (read_words(extra, &plain, err) < 0
            || read_rules(&r, json_object_get(extra, "rules"), err) < 0))
        return ag_err_wrap(err, "%s", where);
    json_object_set_new(policy, "allowed_hosts",
                        canonical_hosts(&plain, arena));
    if (plain.mode != VAULT_MODE_ENFORCE)
        json_object_set_new(policy, "mode", json_string(modes[plain.mode]));
    if (plain.outbound > VAULT_OUTBOUND_BLOCK)
        json_object_set_new(
            policy, "outbound",
            json_string(outbounds[plain.outbound - VAULT_OUTBOUND_BLOCK]));
    if (json_array_size(rules) > 0)
        json_object_set(policy, "rules", rules);
    return ag_json_dump_sorted(policy, out, err);
}

int
vault_policy_from_config(ag_str_t config_json, ag_str_t metadata_json,
                         const struct vault_deployment *deployment,
                         struct ag_buf *out, struct ag_err *err)
{
    static const char *const known[] = {"type",
                                        "allowed_hosts",
                                        "mode",
                                        "outbound",
                                        "rules",
                                        "allow_mcp_servers",
                                        "allow_package_managers",
                                        NULL};
    AG_AUTO(ag_json_decref) json_t *config = NULL;
    AG_AUTO(ag_json_decref) json_t *metadata = NULL;
    const json_t *net = NULL;

    if (config_json.n > 0 && !ag_str_is(config_json, "null")) {
        config = ag_json_parse(config_json, err);
        if (config == NULL)
            return ag_err_wrap(err, "config");
        if (find_networking(config, &net, err) < 0)
            return -1;
        if (vault_keys_check(net, known, err) < 0)
            return ag_err_wrap(err, "config.networking");
    }
    if (read_metadata(metadata_json, &metadata, err) < 0)
        return -1;
    if (metadata == NULL)
        return build(json_object_get(net, "allowed_hosts"), net,
                     "config.networking", deployment, out, err);
    if (json_object_get(net, "mode") != NULL
        || json_object_get(net, "rules") != NULL
        || json_object_get(net, "outbound") != NULL)
        return ag_err_set(err, AG_ERR_INVALID,
                          "config.networking, metadata." VAULT_POLICY_METADATA
                          ": both hold a mode, rules or outbound; use one of "
                          "them");
    return build(json_object_get(net, "allowed_hosts"), metadata,
                 "metadata." VAULT_POLICY_METADATA, deployment, out, err);
}

bool
vault_policy_in_metadata(ag_str_t metadata_json)
{
    AG_AUTO(ag_json_decref) json_t *j = NULL;
    struct ag_err ignored = AG_ERR_INIT;
    return read_metadata(metadata_json, &j, &ignored) < 0 || j != NULL;
}

int
vault_policy_parse(ag_str_t text, const struct vault_deployment *deployment,
                   struct ag_arena *arena, struct vault_policy *out,
                   struct ag_err *err)
{
    AG_AUTO(ag_json_decref) json_t *j = ag_json_parse(text, err);

    if (j == NULL)
        return -1;
    const json_t *rules = json_object_get(j, "rules");
    size_t n = json_array_size(rules);
    if (vault_policy_hosts_parse(json_object_get(j, "allowed_hosts"),
                                 "allowed_hosts", deployment, arena, out, err)
            < 0
        || read_words(j, out, err) < 0)
        return -1;
    out->rules = ag_arena_alloc(arena, (n + 1) * sizeof(*out->rules));
    for (size_t i = 0; i < n; i++)
        if (vault_rule_parse(json_array_get(rules, i), deployment, arena,
                             &out->rules[i], err)
            < 0)
            return ag_err_wrap(err, "rules[%zu]", i);
    out->n_rules = n;
    return 0;
}

char **
vault_policy_host_texts(const struct vault_policy *policy,
                        struct ag_arena *arena, size_t *n)
{
    size_t total = policy->n_hosts + policy->n_rules;
    char **out = ag_arena_alloc(arena, (total + 1) * sizeof(*out));

    *n = 0;
    for (size_t i = 0; i < total; i++) {
        const struct vault_host_pattern *p =
            i < policy->n_hosts ? &policy->hosts[i]
                                : &policy->rules[i - policy->n_hosts].host;
        char *text = vault_policy_host_text(p, arena);
        bool is_there = false;
        for (size_t k = 0; k < *n; k++)
            is_there |= strcmp(out[k], text) == 0;
        if (!is_there)
            out[(*n)++] = text;
    }
    return out;
}

static bool
names_plainly(const struct vault_policy *policy,
              const struct vault_policy_ask *ask)
{
    for (size_t i = 0; i < policy->n_hosts; i++) {
        const struct vault_host_pattern *p = &policy->hosts[i];
        bool is_port = p->port == 0 ? ask->port == 443 || ask->port == 80
                                    : ask->port == p->port;
        if (is_port && vault_host_pattern_fits(p, ask->host))
            return true;
    }
    return false;
}

enum vault_policy_fit
vault_policy_fit(const struct vault_policy *policy,
                 const struct vault_policy_ask *ask)
{
    enum vault_policy_fit best = VAULT_POLICY_NO_HOST;

    if (names_plainly(policy, ask))
        return VAULT_POLICY_FITS;
    for (size_t i = 0; i < policy->n_rules; i++) {
        const struct vault_rule *r = &policy->rules[i];
        enum vault_policy_fit fit = VAULT_POLICY_FITS;
        if (!vault_rule_fits(r, ask->is_https, ask->host, ask->port))
            fit = VAULT_POLICY_NO_HOST;
        else if (!vault_rule_allows_method(r, ask->method))
            fit = VAULT_POLICY_NO_METHOD;
        else if (!vault_rule_allows_path(r, ask->path))
            fit = VAULT_POLICY_NO_PATH;
        best = fit > best ? fit : best;
    }
    return best;
}
