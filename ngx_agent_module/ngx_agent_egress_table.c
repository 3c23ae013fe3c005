/*
 * Tables of fingerprints, a tenant each, as the vault numbers them: a verdict
 * names the table that holds, and one that a worker does not have is fetched,
 * in pages, before the request goes on. Tables that nobody looked at for the
 * longest time make room.
 */
#include "ngx_agent_module/ngx_agent_egress.h"

#include "ngx_agent_module/ngx_agent_prints.h"

#define NGX_AGENT_TABLES_MAX  256
#define NGX_AGENT_TABLE_PAGE  16384    /* entries: 192 KiB */


/* A fetch that is under way. */
struct ngx_agent_fetch_s {
    unsigned                                 is_asking:1;
    unsigned                                 answered:1;
    uint64_t                                 number;
    struct ngx_agent_prints                 *prints;
    Agent__Vault__V1__FingerprintsResponse  *answer;
};


static ngx_queue_t  ngx_agent_tables;      /* the last used is the first */
static ngx_uint_t   ngx_agent_n_tables;
static ngx_str_t    ngx_agent_fetch_uri =
    ngx_string("/agent.vault.v1.EgressService/Fingerprints");


void
ngx_agent_table_release(ngx_agent_table_t *t)
{
    if (t != NULL && --t->refs == 0) {
        ngx_agent_prints_free(t->prints);
        ngx_free(t);
    }
}


static void
ngx_agent_table_drop(ngx_agent_table_t *t)
{
    ngx_queue_remove(&t->queue);
    ngx_agent_n_tables--;
    ngx_agent_table_release(t);
}


/* The tenant's, of whatever number. */
static ngx_agent_table_t *
ngx_agent_table_find(const char *tenant)
{
    ngx_queue_t        *q;
    ngx_agent_table_t  *t;

    if (ngx_agent_tables.next == NULL) {
        ngx_queue_init(&ngx_agent_tables);
    }

    for (q = ngx_queue_head(&ngx_agent_tables);
         q != ngx_queue_sentinel(&ngx_agent_tables);
         q = ngx_queue_next(q))
    {
        t = ngx_queue_data(q, ngx_agent_table_t, queue);

        if (ngx_strcmp(t->tenant, tenant) == 0) {
            return t;
        }
    }

    return NULL;
}


static ngx_int_t
ngx_agent_table_add(const char *tenant, uint64_t number,
    struct ngx_agent_prints *prints)
{
    ngx_queue_t        *q;
    ngx_agent_table_t  *t;

    if (ngx_strlen(tenant) >= sizeof(t->tenant)) {
        return NGX_ERROR;
    }

    t = ngx_agent_table_find(tenant);

    if (t != NULL) {
        ngx_agent_table_drop(t);

    } else if (ngx_agent_n_tables == NGX_AGENT_TABLES_MAX) {
        q = ngx_queue_last(&ngx_agent_tables);
        ngx_agent_table_drop(ngx_queue_data(q, ngx_agent_table_t, queue));
    }

    t = ngx_calloc(sizeof(ngx_agent_table_t), ngx_cycle->log);
    if (t == NULL) {
        return NGX_ERROR;
    }

    ngx_cpystrn((u_char *) t->tenant, (u_char *) tenant, sizeof(t->tenant));
    t->refs = 1;
    t->number = number;
    t->prints = prints;
    ngx_queue_insert_head(&ngx_agent_tables, &t->queue);
    ngx_agent_n_tables++;

    return NGX_OK;
}


/* ---- fetching ----------------------------------------------------------- */

static void
ngx_agent_fetch_forget(ngx_agent_fetch_t *f)
{
    if (f->answer != NULL) {
        ngx_explicit_memzero(f->answer->key.data, f->answer->key.len);
        agent__vault__v1__fingerprints_response__free_unpacked(f->answer,
                                                               NULL);
        f->answer = NULL;
    }
}


static void
ngx_agent_fetch_free(void *data)
{
    ngx_agent_fetch_t  *f = data;

    ngx_agent_fetch_forget(f);
    ngx_agent_prints_free(f->prints);
    f->prints = NULL;
}


static ngx_int_t
ngx_agent_fetch_done(ngx_http_request_t *sr, void *data, ngx_int_t rc)
{
    ngx_agent_fetch_t  *f = data;

    f->is_asking = 0;
    f->answered = 1;
    f->answer = (Agent__Vault__V1__FingerprintsResponse *)
        ngx_agent_egress_answer(sr, rc,
            &agent__vault__v1__fingerprints_response__descriptor);

    return NGX_OK;
}


/* Ask for what comes behind the entries that are there. */
static ngx_int_t
ngx_agent_fetch_page(ngx_http_request_t *r, ngx_agent_egress_ctx_t *ctx,
    ngx_agent_fetch_t *f)
{
    ngx_http_request_t                     *sr;
    ngx_http_post_subrequest_t             *ps;
    Agent__Vault__V1__FingerprintsRequest   m;

    ps = ngx_palloc(r->pool, sizeof(ngx_http_post_subrequest_t));
    if (ps == NULL) {
        return NGX_ERROR;
    }

    ps->handler = ngx_agent_fetch_done;
    ps->data = f;

    agent__vault__v1__fingerprints_request__init(&m);
    m.workload_address = ngx_agent_egress_text(r, &ctx->workload);
    m.session_id = ngx_agent_egress_text(r, &ctx->session);
    m.number = f->number;
    m.begin = f->prints != NULL ? ngx_agent_prints_count(f->prints) : 0;
    m.limit = NGX_AGENT_TABLE_PAGE;

    if (ngx_http_subrequest(r, &ngx_agent_fetch_uri, NULL, &sr, ps,
                            NGX_HTTP_SUBREQUEST_IN_MEMORY
                            |NGX_HTTP_SUBREQUEST_WAITED)
        != NGX_OK)
    {
        return NGX_ERROR;
    }

    f->is_asking = 1;
    f->answered = 0;

    return ngx_agent_egress_send(sr, ctx, &m.base);
}


/* A page has come. NGX_OK: it was the last; NGX_AGAIN: there are more;
 * NGX_DONE: the table that is there still holds. */
static ngx_int_t
ngx_agent_fetch_take(ngx_http_request_t *r, ngx_agent_fetch_t *f)
{
    size_t                                   n;
    struct ag_err                            err = AG_ERR_INIT;
    Agent__Vault__V1__FingerprintsResponse  *a;

    a = f->answer;

    if (a == NULL) {
        return NGX_ERROR;
    }

    if (a->is_unchanged) {
        return NGX_DONE;
    }

    /* The first page, or the table has changed while it was read. */

    if (f->prints == NULL || a->number != f->number) {
        ngx_agent_prints_free(f->prints);
        f->number = a->number;
        f->prints = ngx_agent_prints_new(ag_str_n(a->key.data, a->key.len),
                                         a->total, &err);
    }

    n = f->prints != NULL ? ngx_agent_prints_count(f->prints) : 0;

    if (f->prints == NULL
        || (a->begin != n && a->fingerprints.len > 0)
        || ngx_agent_prints_add(f->prints,
                                ag_str_n(a->fingerprints.data,
                                         a->fingerprints.len),
                                ag_str_n(a->spans.data, a->spans.len), &err)
           < 0)
    {
        ngx_log_error(NGX_LOG_ERR, r->connection->log, 0,
                      "the vault's fingerprints cannot be used: %s", err.msg);
        return NGX_ERROR;
    }

    if (ngx_agent_prints_count(f->prints) == a->total) {
        return NGX_OK;
    }

    return a->fingerprints.len > 0 ? NGX_AGAIN : NGX_ERROR;
}


static ngx_agent_fetch_t *
ngx_agent_fetch_create(ngx_http_request_t *r)
{
    ngx_agent_fetch_t   *f;
    ngx_pool_cleanup_t  *cln;

    cln = ngx_pool_cleanup_add(r->pool, sizeof(ngx_agent_fetch_t));
    if (cln == NULL) {
        return NULL;
    }

    f = cln->data;
    ngx_memzero(f, sizeof(ngx_agent_fetch_t));
    cln->handler = ngx_agent_fetch_free;

    return f;
}


/* `t` is the table that is there, or NULL. NGX_OK: it is what the vault has to
 * give, which may lag behind its number for a moment. */
static ngx_int_t
ngx_agent_fetch(ngx_http_request_t *r, ngx_agent_egress_ctx_t *ctx,
    ngx_agent_table_t *t)
{
    ngx_int_t           rc;
    ngx_agent_fetch_t  *f;

    if (ctx->fetch == NULL) {
        ctx->fetch = ngx_agent_fetch_create(r);
        if (ctx->fetch == NULL) {
            return NGX_ERROR;
        }

        ctx->fetch->number = t != NULL ? t->number : 0;
    }

    f = ctx->fetch;

    if (f->is_asking) {
        return NGX_AGAIN;
    }

    if (f->answered) {
        rc = ngx_agent_fetch_take(r, f);

        if (rc == NGX_OK) {
            rc = ngx_agent_table_add(f->answer->tenant, f->number, f->prints);
            f->prints = rc == NGX_OK ? NULL : f->prints;
        }

        ngx_agent_fetch_forget(f);
        f->answered = 0;

        if (rc != NGX_AGAIN) {
            return rc == NGX_DONE ? NGX_OK : rc;
        }
    }

    return ngx_agent_fetch_page(r, ctx, f) == NGX_OK ? NGX_AGAIN : NGX_ERROR;
}


ngx_int_t
ngx_agent_egress_table(ngx_http_request_t *r, ngx_agent_egress_ctx_t *ctx,
    ngx_agent_table_t **table)
{
    ngx_int_t           rc;
    ngx_agent_table_t  *t;

    *table = NULL;

    if (ctx->verdict->fingerprints == 0) {
        return NGX_OK;
    }

    t = ngx_agent_table_find(ctx->verdict->tenant);

    if (t == NULL || t->number != ctx->verdict->fingerprints) {
        rc = ngx_agent_fetch(r, ctx, t);

        if (rc != NGX_OK) {
            return rc;
        }

        t = ngx_agent_table_find(ctx->verdict->tenant);

        if (t == NULL) {
            return NGX_ERROR;
        }
    }

    ngx_queue_remove(&t->queue);
    ngx_queue_insert_head(&ngx_agent_tables, &t->queue);
    t->refs++;
    *table = t;

    return NGX_OK;
}
