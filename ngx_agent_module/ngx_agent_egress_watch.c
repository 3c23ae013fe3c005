/*
 * Answers and streams that are under way end when their session ends or is
 * frozen, or a credential of their host is gone. The vault writes who is into
 * the generation file; each worker looks there once a second, and cuts what it
 * finds among its own open requests. Nobody is asked, so what has nothing to do
 * with it costs nothing and goes on.
 */
#include "ngx_agent_module/ngx_agent_egress.h"

#include "lib/generation.h"
#include "lib/without.h"
#include "ngx_agent_module/ngx_agent_module.h"

#define NGX_AGENT_WATCH_MS       1000
#define NGX_AGENT_WATCH_LAST_MS  100   /* between the row and the end */


/* Of a worker. */
static struct {
    ngx_event_t            tick;
    ngx_connection_t       dummy;          /* the tick's, for its log */
    ngx_queue_t            open;           /* ngx_agent_egress_ctx_t.watch */
    ngx_str_t              path;
    uint64_t               seen;           /* n_revoked, up to where looked */
    struct ag_generation   file;           /* as it was read last */
} ngx_agent_watch;


/* Was `id` revoked among those from `from` up to the last that was seen? */
static ngx_uint_t
ngx_agent_watch_has(const char *id, uint64_t from)
{
    uint64_t  i, digest;

    if (id == NULL || id[0] == '\0') {
        return 0;
    }

    digest = ag_generation_digest(ag_str(id));

    for (i = from; i < ngx_agent_watch.seen; i++) {
        if (ngx_agent_watch.file.revoked[i % AG_GENERATION_REVOKED] == digest)
        {
            return 1;
        }
    }

    return 0;
}


static ngx_uint_t
ngx_agent_watch_is_revoked(ngx_agent_egress_ctx_t *ctx, uint64_t from)
{
    size_t                               i;
    Agent__Vault__V1__AuthorizeResponse  *v;

    v = ctx->verdict;

    if (v == NULL || from >= ngx_agent_watch.seen || ag_without("watch")) {
        return 0;
    }

    /* More than the file holds: whose they were is not known any more. */

    if (ngx_agent_watch.seen - from > AG_GENERATION_REVOKED) {
        return 1;
    }

    if (ngx_agent_watch_has(v->session_id, from)) {
        return 1;
    }

    for (i = 0; i < v->n_scrub; i++) {
        if (ngx_agent_watch_has(v->scrub[i]->credential_id, from)
            || ngx_agent_watch_has(v->scrub[i]->vault_id, from))
        {
            return 1;
        }
    }

    return 0;
}


/* NGX_OK: the file was read, and there is something new in it. */
static ngx_int_t
ngx_agent_watch_read(uint64_t *from)
{
    struct ag_generation  *file = &ngx_agent_watch.file;

    if (ngx_agent_generation_read(&ngx_agent_watch.path, file, 16) != NGX_OK) {
        return NGX_DECLINED;
    }

    /* Made anew: all of it is. */

    if (file->n_revoked < ngx_agent_watch.seen) {
        ngx_agent_watch.seen = 0;
    }

    if (file->n_revoked == ngx_agent_watch.seen
        || ngx_agent_generation_read(&ngx_agent_watch.path, file,
                                     sizeof(*file)) != NGX_OK)
    {
        return NGX_DECLINED;
    }

    *from = ngx_agent_watch.seen;
    ngx_agent_watch.seen = file->n_revoked;

    return NGX_OK;
}


/* Nothing passes from here on; the request ends when its row was sent. */
static void
ngx_agent_watch_stop(ngx_agent_egress_ctx_t *ctx)
{
    ngx_connection_t  *c;

    c = ctx->request->connection;
    ctx->is_cut = 1;
    ngx_http_set_log_request(c->log, ctx->request);
    ngx_log_error(NGX_LOG_INFO, c->log, 0,
                  "egress cut: the session or its credential ended");
    ngx_agent_egress_report_refusal(ctx->request, "stream_cut");
    ngx_http_run_posted_requests(c);
}


/* The first that is to be cut; one that is may take others with it. */
static ngx_agent_egress_ctx_t *
ngx_agent_watch_stopped(void)
{
    ngx_queue_t             *q;
    ngx_agent_egress_ctx_t  *ctx;

    for (q = ngx_queue_head(&ngx_agent_watch.open);
         q != ngx_queue_sentinel(&ngx_agent_watch.open);
         q = ngx_queue_next(q))
    {
        ctx = ngx_queue_data(q, ngx_agent_egress_ctx_t, watch);

        if (ctx->is_cut) {
            return ctx;
        }
    }

    return NULL;
}


static ngx_uint_t
ngx_agent_watch_look(uint64_t from)
{
    ngx_uint_t               n;
    ngx_queue_t             *q;
    ngx_agent_egress_ctx_t  *ctx;

    n = 0;
    q = ngx_queue_head(&ngx_agent_watch.open);

    while (q != ngx_queue_sentinel(&ngx_agent_watch.open)) {
        ctx = ngx_queue_data(q, ngx_agent_egress_ctx_t, watch);
        q = ngx_queue_next(q);

        if (!ctx->is_cut && ngx_agent_watch_is_revoked(ctx, from)) {
            ngx_agent_watch_stop(ctx);
            n++;
        }
    }

    return n;
}


static void
ngx_agent_watch_tick(ngx_event_t *ev)
{
    uint64_t                 from;
    ngx_uint_t               n;
    ngx_agent_egress_ctx_t  *ctx;

    for (ctx = ngx_agent_watch_stopped(); ctx != NULL;
         ctx = ngx_agent_watch_stopped())
    {
        ngx_queue_remove(&ctx->watch);
        ngx_queue_init(&ctx->watch);
        ngx_http_set_log_request(ctx->request->connection->log, ctx->request);
        ngx_agent_abort(ctx->request);
    }

    n = ngx_agent_watch_read(&from) == NGX_OK ? ngx_agent_watch_look(from) : 0;
    ngx_add_timer(ev, n > 0 ? NGX_AGENT_WATCH_LAST_MS : NGX_AGENT_WATCH_MS);
}


static void
ngx_agent_watch_remove(void *data)
{
    ngx_agent_egress_ctx_t  *ctx = data;

    ngx_queue_remove(&ctx->watch);
}


void
ngx_agent_egress_watch_mark(ngx_agent_egress_ctx_t *ctx)
{
    ctx->watch_from = ngx_agent_watch.seen;
}


ngx_int_t
ngx_agent_egress_watch(ngx_http_request_t *r, ngx_agent_egress_ctx_t *ctx)
{
    ngx_pool_cleanup_t  *cln;

    if (ngx_agent_watch.path.len == 0 || ctx->is_watched) {
        return NGX_OK;
    }

    /* While the vault decided, or a name was looked up. */

    if (ctx->watch_from <= ngx_agent_watch.seen
        && ngx_agent_watch_is_revoked(ctx, ctx->watch_from))
    {
        return NGX_DECLINED;
    }

    cln = ngx_pool_cleanup_add(r->pool, 0);
    if (cln == NULL) {
        return NGX_ERROR;
    }

    cln->handler = ngx_agent_watch_remove;
    cln->data = ctx;
    ctx->is_watched = 1;
    ngx_queue_insert_tail(&ngx_agent_watch.open, &ctx->watch);

    return NGX_OK;
}


void
ngx_agent_egress_watch_init(ngx_cycle_t *cycle, ngx_str_t *path)
{
    ngx_event_t  *ev = &ngx_agent_watch.tick;

    ngx_queue_init(&ngx_agent_watch.open);
    ngx_agent_watch.path = *path;

    if (path->len == 0) {
        return;
    }

    if (ngx_agent_generation_read(path, &ngx_agent_watch.file, 16) == NGX_OK) {
        ngx_agent_watch.seen = ngx_agent_watch.file.n_revoked;
    }

    ngx_agent_watch.dummy.fd = (ngx_socket_t) -1;
    ev->handler = ngx_agent_watch_tick;
    ev->data = &ngx_agent_watch.dummy;
    ev->log = cycle->log;
    ev->cancelable = 1;
    ngx_add_timer(ev, NGX_AGENT_WATCH_MS);
}
