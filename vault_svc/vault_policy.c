/* Network policies: reading, canonical form, matching. */
#include "vault_svc/vault_policy.h"

#include <stdio.h>
#include <stdlib.h>

#include "lib/json.h"

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

static void
write_canonical(const struct vault_policy *p, struct ag_arena *arena,
                struct ag_buf *out)
{
    char **texts = ag_arena_alloc(arena, (p->n_hosts + 1) * sizeof(*texts));

    for (size_t i = 0; i < p->n_hosts; i++)
        texts[i] = vault_policy_host_text(&p->hosts[i], arena);
    qsort(texts, p->n_hosts, sizeof(*texts), by_text);
    ag_buf_add(out, AG_STR("{\"allowed_hosts\":["));
    for (size_t i = 0, n = 0; i < p->n_hosts; i++) {
        if (i > 0 && strcmp(texts[i], texts[i - 1]) == 0)
            continue;
        if (n++ > 0)
            ag_buf_addc(out, ',');
        ag_buf_add_json(out, ag_str(texts[i]));
    }
    ag_buf_add(out, AG_STR("]}"));
}

static int
networking_hosts(const json_t *config, const json_t **hosts, struct ag_err *err)
{
    ag_str_t type = {NULL, 0};

    if (!json_is_object(config))
        return ag_err_set(err, AG_ERR_INVALID, "config: not an object");
    const json_t *net = json_object_get(config, "networking");
    if (net == NULL || json_is_null(net))
        return 0;
    if (!json_is_object(net))
        return ag_err_set(err, AG_ERR_INVALID,
                          "config.networking: not an object");
    if (ag_json_get_str(net, "type", &type, err) < 0)
        return ag_err_wrap(err, "config.networking");
    if (type.n != 0 && !ag_str_is(type, "limited"))
        return ag_err_set(err, AG_ERR_INVALID,
                          "config.networking.type: \"%.*s\" is not possible; "
                          "use \"limited\" and name the hosts",
                          (int)(type.n > 40 ? 40 : type.n), type.p);
    *hosts = json_object_get(net, "allowed_hosts");
    return 0;
}

int
vault_policy_from_config(ag_str_t config_json,
                         const struct vault_deployment *deployment,
                         struct ag_buf *out, struct ag_err *err)
{
    AG_AUTO(ag_arena_freep) struct ag_arena *arena = ag_arena_new();
    AG_AUTO(ag_json_decref) json_t *config = NULL;
    const json_t *hosts = NULL;
    struct vault_policy p = {0};

    if (config_json.n > 0 && !ag_str_is(config_json, "null")) {
        config = ag_json_parse(config_json, err);
        if (config == NULL)
            return ag_err_wrap(err, "config");
        if (networking_hosts(config, &hosts, err) < 0)
            return -1;
    }
    if (vault_policy_hosts_parse(hosts, "config.networking.allowed_hosts",
                                 deployment, arena, &p, err)
        < 0)
        return -1;
    write_canonical(&p, arena, out);
    return 0;
}

int
vault_policy_parse(ag_str_t text, const struct vault_deployment *deployment,
                   struct ag_arena *arena, struct vault_policy *out,
                   struct ag_err *err)
{
    AG_AUTO(ag_json_decref) json_t *j = ag_json_parse(text, err);

    if (j == NULL)
        return -1;
    return vault_policy_hosts_parse(json_object_get(j, "allowed_hosts"),
                                    "allowed_hosts", deployment, arena, out,
                                    err);
}

bool
vault_policy_allows(const struct vault_policy *policy, ag_str_t host, int port)
{
    for (size_t i = 0; i < policy->n_hosts; i++) {
        const struct vault_host_pattern *p = &policy->hosts[i];
        bool is_port =
            p->port == 0 ? port == 443 || port == 80 : port == p->port;
        if (is_port && vault_host_pattern_fits(p, host))
            return true;
    }
    return false;
}
