/* Tenants: loading, making, and learning of new ones on the loop. */
#include "vault_svc/vault_tenants.h"

#include <stdlib.h>

#include "lib/clock.h"
#include "lib/log.h"
#include "vault_svc/vault_audit.h"
#include "vault_svc/vault_search.h"
#include "vault_svc/vault_start.h"
#include "vault_svc/vault_term.h"

static const char list_sql[] =
    "SELECT tenant, wrapped_key, key_version FROM vault.tenant_list()";

static int
add_tenant(struct vault *v, ag_str_t name, ag_str_t key, struct ag_err *err)
{
    struct vault_tenant *t = ag_xcalloc(1, sizeof(*t));

    if (key.n != VAULT_KEY_BYTES || name.n >= sizeof(t->name)) {
        free(t);
        return ag_err_set(err, AG_ERR_CORRUPT, "tenant \"%.*s\"", AG_FMT(name));
    }
    memcpy(t->name, name.p, name.n);
    vault_keyring_init(&t->ring, (const unsigned char *)key.p);
    t->created_us = ag_now_us();
    t->chain = vault_chain_new();
    v->tenants =
        ag_xrealloc(v->tenants, (v->n_tenants + 1) * sizeof(*v->tenants));
    v->tenants[v->n_tenants++] = t;
    return 0;
}

static int
unwrap_tenant(struct vault *v, ag_str_t name, ag_str_t wrapped, int64_t version,
              struct ag_err *err)
{
    AG_AUTO(ag_buf_release) struct ag_buf aad = AG_BUF_INIT(512);
    AG_AUTO(ag_buf_wipe) struct ag_buf key = AG_BUF_INIT(64);

    vault_term_aad(&aad, name, version);
    if (vault_keeper_ask_now(v->conf->keeper, KEEPER_UNWRAP, ag_buf_str(&aad),
                             wrapped, &key, NULL, err)
        < 0)
        return ag_err_wrap(err, "data key of tenant \"%.*s\"", AG_FMT(name));
    return add_tenant(v, name, ag_buf_str(&key), err);
}

static int
read_tenants(void *arg, const struct ag_db_result *res, struct ag_err *err)
{
    AG_AUTO(ag_arena_freep) struct ag_arena *arena = ag_arena_new();
    struct vault *v = arg;

    for (int i = 0; i < ag_db_rows(res); i++)
        if (unwrap_tenant(v, ag_db_get(res, i, 0),
                          ag_db_get_bytes(res, i, 1, arena),
                          ag_db_get_int(res, i, 2), err)
            < 0)
            return -1;
    return 0;
}

int
vault_tenants_load(struct vault *v, struct ag_err *err)
{
    if (vault_query_now(v, AG_STR(""), list_sql, NULL, 0, read_tenants, v, err)
        < 0)
        return -1;
    return vault_terms_load(v, err);
}

int
vault_tenant_create(struct vault *v, ag_str_t name, struct ag_err *err)
{
    static const char sql[] =
        "INSERT INTO vault.tenant (tenant, wrapped_key, key_version,"
        " created_us) VALUES ($1, $2, 1, $3) ON CONFLICT DO NOTHING";
    AG_AUTO(ag_buf_release) struct ag_buf aad = AG_BUF_INIT(512);
    AG_AUTO(ag_buf_release) struct ag_buf wrapped = AG_BUF_INIT(64);
    AG_AUTO(ag_secret_release) ag_secret_t key = ag_secret_new(32);

    if (vault_tenant_find(v, name) != NULL)
        return 0;
    ag_random(key.p, key.n);
    vault_term_aad(&aad, name, 1);
    if (vault_keeper_ask_now(v->conf->keeper, KEEPER_WRAP, ag_buf_str(&aad),
                             ag_secret_view(&key), &wrapped, NULL, err)
        < 0)
        return -1;
    struct ag_db_param params[] = {ag_db_str(name),
                                   ag_db_bytes(ag_buf_str(&wrapped)),
                                   ag_db_int(ag_now_us())};
    if (vault_query_now(v, name, sql, params, 3, NULL, NULL, err) < 0)
        return ag_err_wrap(err, "make tenant \"%.*s\"", AG_FMT(name));
    ag_log(AG_INFO, "tenant.created", AG_V("tenant", name));
    return 0;
}

void
vault_tenants_free(struct vault *v)
{
    for (size_t i = 0; i < v->n_tenants; i++) {
        vault_chain_free(v->tenants[i]->chain);
        vault_search_free(v->tenants[i]->search);
        if (v->tenants[i]->n_terms > 0)
            ag_wipe(v->tenants[i]->terms,
                    v->tenants[i]->n_terms * sizeof(struct vault_term));
        free(v->tenants[i]->terms);
        ag_wipe(v->tenants[i], sizeof(*v->tenants[i]));
        free(v->tenants[i]);
    }
    free(v->tenants);
    v->tenants = NULL;
    v->n_tenants = 0;
}

/* ---- while it runs ----------------------------------------------------- */

struct vault_tenants_watch {
    struct vault *v;
    struct ag_timer timer;
    struct ag_arena *arena; /* of the look that is under way */
    ag_str_t asked;         /* tenant whose key the keeper unwraps */
    bool is_stopped;
};

static void
look_again(struct vault_tenants_watch *w)
{
    ag_arena_free(w->arena);
    w->arena = NULL;
    if (!w->is_stopped)
        ag_timer_start(w->v->loop, &w->timer, w->v->conf->tenant_poll_ms);
}

static void
on_key(void *arg, const struct keeper_msg *reply, const struct ag_err *err)
{
    struct vault_tenants_watch *w = arg;
    struct ag_err why = AG_ERR_INIT;

    if (w->is_stopped)
        return;
    if (reply == NULL)
        why = *err;
    if (reply == NULL || add_tenant(w->v, w->asked, reply->a, &why) < 0)
        ag_log(AG_ERROR, "tenant.load_failed", AG_V("tenant", w->asked),
               AG_E(&why));
    else
        ag_log(AG_INFO, "tenant.loaded", AG_V("tenant", w->asked));
    look_again(w);
}

/* One new tenant each time: they are rare. */
static void
on_tenants(void *arg, const struct ag_db_result *res, const struct ag_err *err)
{
    struct vault_tenants_watch *w = arg;
    AG_AUTO(ag_buf_release) struct ag_buf aad = AG_BUF_INIT(512);

    (void)err; /* the database says so itself */
    if (w->is_stopped)
        return;
    for (int i = 0; res != NULL && i < ag_db_rows(res); i++) {
        ag_str_t name = ag_db_get(res, i, 0);
        if (vault_tenant_find(w->v, name) != NULL)
            continue;
        w->asked = ag_arena_copy(w->arena, name);
        vault_term_aad(&aad, name, ag_db_get_int(res, i, 2));
        vault_keeper_ask(w->v->keeper, KEEPER_UNWRAP, ag_buf_str(&aad),
                         ag_db_get_bytes(res, i, 1, w->arena), on_key, w);
        return;
    }
    look_again(w);
}

static void
on_poll(struct ag_timer *timer)
{
    struct vault_tenants_watch *w =
        (struct vault_tenants_watch *)(void *)((char *)timer
                                               - offsetof(
                                                   struct vault_tenants_watch,
                                                   timer));
    w->arena = ag_arena_new();
    ag_db_query(w->v->db, AG_STR(""), list_sql, NULL, 0, on_tenants, w);
}

struct vault_tenants_watch *
vault_tenants_watch_start(struct vault *v)
{
    struct vault_tenants_watch *w = ag_xcalloc(1, sizeof(*w));
    w->v = v;
    w->timer.fn = on_poll;
    ag_timer_start(v->loop, &w->timer, v->conf->tenant_poll_ms);
    return w;
}

void
vault_tenants_watch_free(struct vault_tenants_watch *w)
{
    if (w == NULL)
        return;
    ag_timer_stop(w->v->loop, &w->timer);
    ag_arena_free(w->arena);
    free(w);
}
