/*
 * Reads CONTAINER_ENV_* and MODEL_*. Everything is checked before anything is
 * written; the database is then brought in line, leaving credentials that have
 * not changed alone, so that stubs of running sessions stay alive.
 */
#include "vault_svc/vault_import.h"

#include <stdio.h>
#include <stdlib.h>

#include "lib/clock.h"
#include "lib/id.h"
#include "lib/json.h"
#include "lib/log.h"
#include "vault_svc/vault_audit.h"
#include "vault_svc/vault_binding.h"
#include "vault_svc/vault_credential.h"
#include "vault_svc/vault_session.h"
#include "vault_svc/vault_start.h"

#define PREFIX "CONTAINER_ENV_"
#define PLAIN "plain:"

enum { ITEMS_MAX = 512 };

struct item {
    ag_str_t name; /* of the variable; empty for the model */
    ag_str_t value;
    ag_str_t binding; /* empty: a plain value */
    bool is_model, is_there;
};

struct import {
    struct vault *v;
    struct vault_tenant *tenant;
    struct ag_arena *arena;
    struct item items[ITEMS_MAX];
    size_t n;
    ag_str_t vault_id;
    struct vault_credential_row *gone; /* to archive */
    size_t n_gone;
};

/* Canonical binding to the hosts "a,b". */
static int
bind_to(struct import *im, ag_str_t hosts, unsigned location, ag_str_t *out,
        struct ag_err *err)
{
    AG_AUTO(ag_buf_release)
    struct ag_buf text = AG_BUF_INIT(VAULT_BINDING_TEXT_MAX);
    struct vault_policy p = {
        .hosts =
            ag_arena_alloc(im->arena, 33 * sizeof(struct vault_host_pattern))};
    ag_str_t host;

    while (p.n_hosts < 32 && ag_str_cut(&hosts, ',', &host))
        if (vault_host_pattern_parse(host, &im->v->deployment,
                                     &p.hosts[p.n_hosts++], err)
            < 0)
            return -1;
    struct vault_binding_in from = {
        {NULL, 0}, &p, &im->v->deployment, location};
    if (vault_binding_build(&from, &text, err) < 0)
        return -1;
    *out = ag_arena_copy(im->arena, ag_buf_str(&text));
    return 0;
}

static int
add_variable(struct import *im, ag_str_t name, ag_str_t value,
             struct ag_err *err)
{
    const struct ag_shapes *shapes = &im->v->shapes;

    if (!vault_env_name_is_valid(name))
        return ag_err_set(err, AG_ERR_INVALID,
                          PREFIX "%.*s: not a variable's name", AG_FMT(name));
    if (im->n == ITEMS_MAX)
        return ag_err_set(err, AG_ERR_LIMIT, "more than %d " PREFIX "*",
                          ITEMS_MAX);
    struct item *it = &im->items[im->n++];
    *it = (struct item){.name = name, .value = value};
    if (ag_str_starts(value, AG_STR(PLAIN))) {
        it->value = ag_str_n(value.p + strlen(PLAIN), value.n - strlen(PLAIN));
        return 0;
    }
    enum vault_looks looks = vault_shape_looks(shapes, name, value);
    if (looks == VAULT_LOOKS_PLAIN)
        return 0;
    const struct ag_shape *s = vault_shape_of(shapes, value);
    if (looks == VAULT_LOOKS_SECRET || *s->hosts == '\0')
        return ag_err_set(
            err, AG_ERR_INVALID,
            PREFIX "%.*s looks like a secret of a kind without a known host: "
                   "put it into a vault with its host, or set " PREFIX
                   "%.*s=" PLAIN "… if it is none",
            AG_FMT(name), AG_FMT(name));
    if (vault_value_check(value, "value", err) < 0
        || bind_to(im, ag_str(s->hosts), 0, &it->binding, err) < 0)
        return ag_err_wrap(err, PREFIX "%.*s", AG_FMT(name));
    return 0;
}

/* MODEL_BASE_URL's "host[:port]", with the port. */
static int
model_host(const char *url, char *out, size_t n, struct ag_err *err)
{
    bool is_https = strncmp(url, "https://", 8) == 0;
    const char *host = url + (is_https ? 8 : 7);
    int len = (int)strcspn(host, "/?#");

    if (!is_https && strncmp(url, "http://", 7) != 0)
        return ag_err_set(err, AG_ERR_INVALID,
                          "model_base_url: not an http(s) URL");
    bool has_port = memchr(host, ':', (size_t)len) != NULL;
    snprintf(out, n, "%.*s%s", len, host,
             has_port   ? ""
             : is_https ? ":443"
                        : ":80");
    return 0;
}

static int
add_model(struct import *im, struct ag_err *err)
{
    const struct vault_conf *conf = im->v->conf;
    char host[300];

    if (*conf->model_api_key == '\0')
        return 0;
    if (im->n == ITEMS_MAX || *conf->model_base_url == '\0')
        return ag_err_set(err, AG_ERR_INVALID,
                          "model_api_key needs model_base_url, the gateway "
                          "that it is bound to");
    struct item *it = &im->items[im->n++];
    *it = (struct item){.value = ag_str(conf->model_api_key), .is_model = true};
    if (vault_value_check(it->value, "model_api_key", err) < 0
        || model_host(conf->model_base_url, host, sizeof(host), err) < 0
        || bind_to(im, ag_str(host), VAULT_IN_MODEL_HEADERS, &it->binding, err)
               < 0)
        return ag_err_wrap(err, "MODEL_API_KEY for MODEL_BASE_URL");
    return 0;
}

static int
read_environment(struct import *im, char **environ_, struct ag_err *err)
{
    for (char **e = environ_; *e != NULL; e++) {
        ag_str_t value = ag_str(*e), name;
        if (strncmp(*e, PREFIX, strlen(PREFIX)) != 0
            || !ag_str_cut(&value, '=', &name))
            continue;
        name = ag_str_n(name.p + strlen(PREFIX), name.n - strlen(PREFIX));
        if (value.p == NULL)
            value = AG_STR("");
        if (add_variable(im, name, value, err) < 0)
            return -1;
    }
    return add_model(im, err);
}

/* ---- the database ------------------------------------------------------ */

static int
read_id(void *arg, const struct ag_db_result *res, struct ag_err *err)
{
    struct import *im = arg;

    if (ag_db_rows(res) != 1)
        return ag_err_set(err, AG_ERR_INTERNAL, "no platform vault");
    im->vault_id = ag_arena_copy(im->arena, ag_db_get(res, 0, 0));
    return 0;
}

static int
make_vault(struct import *im, struct ag_err *err)
{
    static const char insert[] =
        "INSERT INTO vault.vault (id, tenant, display_name, metadata,"
        " is_platform, created_us, updated_us)"
        " VALUES ($1, $2, 'platform environment', '{}', true, $3, $3)"
        " ON CONFLICT DO NOTHING";
    static const char find[] = "SELECT id FROM vault.vault WHERE is_platform";
    ag_str_t tenant = ag_str(im->tenant->name);
    char id[AG_ID_TEXT];

    ag_id_new("vlt", id);
    struct ag_db_param params[] = {ag_db_str(ag_str(id)), ag_db_str(tenant),
                                   ag_db_int(ag_now_us())};
    if (vault_query_now(im->v, tenant, insert, params, 3, NULL, NULL, err) < 0)
        return -1;
    return vault_query_now(im->v, tenant, find, NULL, 0, read_id, im, err);
}

/* Is the stored credential just what the environment says? */
static bool
is_wanted(struct import *im, const struct vault_credential_row *row,
          ag_str_t value)
{
    for (size_t i = 0; i < im->n; i++) {
        struct item *it = &im->items[i];
        if (it->binding.n == 0 || it->is_there || it->is_model != row->is_model
            || !ag_str_eq(it->name, row->env_name)
            || !ag_str_eq(it->binding, row->binding)
            || !ag_str_eq_ct(it->value, value))
            continue;
        it->is_there = true;
        return true;
    }
    return false;
}

static int
read_existing(void *arg, const struct ag_db_result *res, struct ag_err *err)
{
    struct import *im = arg;
    size_t n = (size_t)ag_db_rows(res);

    im->gone = ag_arena_alloc(im->arena, (n + 1) * sizeof(*im->gone));
    for (size_t i = 0; i < n; i++) {
        struct vault_credential_row *row = &im->gone[im->n_gone];
        AG_AUTO(ag_secret_release) ag_secret_t value = AG_SECRET_INIT;
        vault_credential_read(res, (int)i, 0, im->arena, row);
        if (vault_credential_open(im->tenant, row, &value, err) < 0)
            return -1;
        if (!is_wanted(im, row, ag_secret_view(&value)))
            im->n_gone++;
    }
    return 0;
}

static int
find_existing(struct import *im, struct ag_err *err)
{
    static const char sql[] =
        "SELECT " VAULT_CREDENTIAL_COLUMNS " FROM vault.credential c"
        " WHERE c.vault_id = $1 AND c.archived_us IS NULL";
    struct ag_db_param params[] = {ag_db_str(im->vault_id)};
    return vault_query_now(im->v, ag_str(im->tenant->name), sql, params, 1,
                           read_existing, im, err);
}

static int
archive_gone(struct import *im, struct ag_err *err)
{
    static const char sql[] =
        "UPDATE vault.credential SET archived_us = $2, updated_us = $2,"
        " mac = $3 WHERE id = $1";

    for (size_t i = 0; i < im->n_gone; i++) {
        struct vault_credential_row *row = &im->gone[i];
        unsigned char mac[VAULT_MAC_BYTES];
        row->archived_us = row->updated_us = ag_now_us();
        vault_credential_mac(im->tenant, row, mac);
        struct ag_db_param params[] = {ag_db_str(row->id),
                                       ag_db_int(row->archived_us),
                                       ag_db_bytes(ag_str_n(mac, sizeof(mac)))};
        if (vault_query_now(im->v, ag_str(im->tenant->name), sql, params, 3,
                            NULL, NULL, err)
            < 0)
            return -1;
    }
    return 0;
}

struct insert {
    struct vault *v;
    bool is_done;
    int rc;
    struct ag_err err;
};

static void
on_inserted(void *arg, const struct ag_db_result *res, const struct ag_err *err)
{
    struct insert *in = arg;
    in->is_done = true;
    in->rc = res != NULL ? 0 : -1;
    if (res == NULL)
        in->err = *err;
    ag_loop_stop(in->v->loop);
}

static int
insert_new(struct import *im, const struct item *it, struct ag_err *err)
{
    struct vault_new_credential in = {
        .vault_id = im->vault_id,
        .auth = AG_STR(VAULT_PLATFORM_AUTH),
        .metadata = AG_STR("{}"),
        .binding = it->binding,
        .env_name = it->name,
        .is_for_brain = it->is_model,
        .is_model = it->is_model,
        .value = it->value,
    };
    struct vault_credential_row row;
    struct insert wait = {.v = im->v};

    if (vault_credential_make(im->v, im->tenant, &in, im->arena, &row, err) < 0)
        return -1;
    vault_credential_insert(im->v, im->tenant, &row, on_inserted, &wait);
    while (!wait.is_done)
        ag_loop_run(im->v->loop);
    if (wait.rc < 0)
        *err = wait.err;
    return wait.rc;
}

static int
write_plain(struct import *im, struct ag_err *err)
{
    static const char drop[] =
        "DELETE FROM vault.plain_env WHERE NOT ($1::jsonb ? name)";
    static const char put[] =
        "INSERT INTO vault.plain_env (tenant, name, value)"
        " SELECT $1, e.key, e.value FROM json_each_text($2::json) e"
        " ON CONFLICT (tenant, name) DO UPDATE SET value = excluded.value";
    AG_AUTO(ag_json_decref) json_t *plain = json_object();
    AG_AUTO(ag_buf_release) struct ag_buf text = AG_BUF_INIT(32 << 20);
    ag_str_t tenant = ag_str(im->tenant->name);

    for (size_t i = 0; i < im->n; i++)
        if (im->items[i].binding.n == 0)
            json_object_set_new(plain,
                                ag_arena_cstr(im->arena, im->items[i].name),
                                ag_json_from_str(im->items[i].value));
    if (ag_json_dump(plain, &text, err) < 0)
        return -1;
    struct ag_db_param params[] = {ag_db_str(tenant),
                                   ag_db_str(ag_buf_str(&text))};
    if (vault_query_now(im->v, tenant, drop, params + 1, 1, NULL, NULL, err)
        < 0)
        return -1;
    return vault_query_now(im->v, tenant, put, params, 2, NULL, NULL, err);
}

int
vault_import(struct vault *v, struct vault_tenant *tenant, char **environ_,
             struct ag_err *err)
{
    AG_AUTO(ag_arena_freep) struct ag_arena *arena = ag_arena_new();
    struct import *im = ag_arena_alloc(arena, sizeof(*im));
    size_t n_new = 0;

    *im = (struct import){.v = v, .tenant = tenant, .arena = arena};
    if (read_environment(im, environ_, err) < 0)
        return -1;
    if (make_vault(im, err) < 0 || find_existing(im, err) < 0
        || archive_gone(im, err) < 0)
        return ag_err_wrap(err, "import the environment");
    for (size_t i = 0; i < im->n; i++) {
        if (im->items[i].binding.n == 0 || im->items[i].is_there)
            continue;
        if (insert_new(im, &im->items[i], err) < 0)
            return ag_err_wrap(err, "import the environment");
        n_new++;
    }
    if (write_plain(im, err) < 0)
        return ag_err_wrap(err, "import the environment");
    if (n_new + im->n_gone > 0)
        vault_generation_move(v);
    ag_log(AG_INFO, "environment.imported", AG_I("variables", (long long)im->n),
           AG_I("new_credentials", (long long)n_new),
           AG_I("archived_credentials", (long long)im->n_gone));
    return 0;
}
