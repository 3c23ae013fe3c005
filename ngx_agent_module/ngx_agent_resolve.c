/*
 * Who a key stands for, asked of the vault by an in-memory subrequest through
 * stock grpc_pass. The caller's key goes into that subrequest and nowhere
 * else. Called in the access phase, and again before a bound request goes on.
 */
#include "ngx_agent_module/ngx_agent_module.h"

#include "lib/scope.h"

#include "vault.pb-c.h"


static ngx_int_t
ngx_agent_resolve_body(ngx_http_request_t *sr, ngx_agent_ctx_t *ctx,
    const u_char *digest)
{
    char                           *key, *addr;
    size_t                          n;
    u_char                         *p;
    Agent__Vault__V1__ResolveRequest  m;

    agent__vault__v1__resolve_request__init(&m);

    key = ag_arena_cstr(ctx->arena, ag_str_n(ctx->key.data, ctx->key.len));
    addr = ag_arena_cstr(ctx->arena,
                         ag_str_n(sr->connection->addr_text.data,
                                  sr->connection->addr_text.len));
    m.api_key = key;
    m.remote_addr = addr;

    if (digest != NULL) {
        m.request_sha256.data = (u_char *) digest;
        m.request_sha256.len = 32;
    }

    n = agent__vault__v1__resolve_request__get_packed_size(&m);

    p = ngx_pnalloc(sr->pool, NGX_AGENT_FRAME_HEAD + n);
    if (p == NULL) {
        return NGX_ERROR;
    }

    ngx_agent_frame_head(p, n);
    (void) agent__vault__v1__resolve_request__pack(&m,
                                                   p + NGX_AGENT_FRAME_HEAD);

    return ngx_agent_set_body(sr, p, NGX_AGENT_FRAME_HEAD + n);
}


static ngx_int_t
ngx_agent_grpc_status_in(ngx_list_t *list)
{
    ngx_uint_t        i;
    ngx_list_part_t  *part;
    ngx_table_elt_t  *h;

    for (part = &list->part; part != NULL; part = part->next) {
        h = part->elts;

        for (i = 0; i < part->nelts; i++) {
            if (h[i].key.len == sizeof("grpc-status") - 1
                && ngx_strncasecmp(h[i].key.data, (u_char *) "grpc-status",
                                   sizeof("grpc-status") - 1)
                   == 0)
            {
                return ngx_atoi(h[i].value.data, h[i].value.len);
            }
        }
    }

    return NGX_ERROR;
}


static ngx_int_t
ngx_agent_take_answer(ngx_agent_principal_t *p, ag_str_t message)
{
    size_t                              i;
    Agent__Vault__V1__ResolveResponse  *m;

    m = agent__vault__v1__resolve_response__unpack(NULL, message.n,
                                               (const uint8_t *) message.p);
    if (m == NULL) {
        return NGX_ERROR;
    }

    p->denied = 0;
    p->scopes = 0;

    for (i = 0; i < m->n_scopes; i++) {
        p->scopes |= ag_scope_find(ag_str(m->scopes[i]));
    }

    p->assertion_len = ngx_strlen(m->assertion);

    if (p->assertion_len == 0 || p->assertion_len > NGX_AGENT_ASSERTION_MAX) {
        agent__vault__v1__resolve_response__free_unpacked(m, NULL);
        return NGX_ERROR;
    }

    ngx_memcpy(p->assertion, m->assertion, p->assertion_len);
    agent__vault__v1__resolve_response__free_unpacked(m, NULL);

    return NGX_OK;
}


/* The one message of the vault's answer, from what the subrequest collected. */
static ngx_int_t
ngx_agent_parse_answer(ngx_agent_principal_t *p, ngx_chain_t *cl)
{
    int                       rc;
    ag_str_t                  in;
    ngx_int_t                 result;
    struct ag_err             err = AG_ERR_INIT;
    struct ngx_agent_frames   frames;

    ngx_agent_frames_init(&frames, 2 * NGX_AGENT_ASSERTION_MAX);
    rc = 0;

    for (/* void */; cl != NULL && rc == 0; cl = cl->next) {
        in = ag_str_n(cl->buf->pos, cl->buf->last - cl->buf->pos);
        rc = ngx_agent_frames_next(&frames, &in, &err);
    }

    result = rc == 1 ? ngx_agent_take_answer(p, ag_buf_str(&frames.message))
                     : NGX_ERROR;

    ngx_agent_frames_release(&frames);

    return result;
}


/* The subrequest is over: note what came, whatever it was. */
static ngx_int_t
ngx_agent_resolve_done(ngx_http_request_t *sr, void *data, ngx_int_t rc)
{
    ngx_agent_ctx_t  *ctx = data;

    ngx_http_upstream_t  *u;

    u = sr->upstream;
    ctx->resolve.done = 1;
    ctx->resolve.grpc_status = -1;

    if (rc != NGX_OK || u == NULL || u->headers_in.status_n != NGX_HTTP_OK) {
        return NGX_OK;
    }

    rc = ngx_agent_grpc_status_in(&u->headers_in.trailers);

    if (rc == NGX_ERROR) {
        rc = ngx_agent_grpc_status_in(&u->headers_in.headers);
    }

    ctx->resolve.grpc_status = rc;

    if (rc == 0 && ngx_agent_parse_answer(ctx->principal, sr->out)
                   != NGX_OK)
    {
        ngx_log_error(NGX_LOG_ERR, sr->connection->log, 0,
                      "the vault's answer to Resolve does not parse");
        ctx->resolve.grpc_status = -1;
    }

    return NGX_OK;
}


static ngx_int_t
ngx_agent_resolve_start(ngx_http_request_t *r, ngx_agent_ctx_t *ctx,
    const u_char *digest)
{
    ngx_http_request_t          *sr;
    ngx_agent_loc_conf_t        *lcf;
    ngx_http_post_subrequest_t  *ps;

    lcf = ngx_http_get_module_loc_conf(r, ngx_agent_module);

    ps = ngx_palloc(r->pool, sizeof(ngx_http_post_subrequest_t));
    if (ps == NULL) {
        return NGX_ERROR;
    }

    ps->handler = ngx_agent_resolve_done;
    ps->data = ctx;

    if (ngx_http_subrequest(r, &lcf->identity, NULL, &sr, ps,
                            NGX_HTTP_SUBREQUEST_IN_MEMORY
                            |NGX_HTTP_SUBREQUEST_WAITED)
        != NGX_OK)
    {
        return NGX_ERROR;
    }

    ngx_memzero(&ctx->resolve, sizeof(ngx_agent_resolve_t));
    ctx->resolve.subrequest = sr;
    ctx->resolve.bound = digest != NULL;

    if (ngx_agent_rebuild_headers(sr, NULL, &ctx->request_id, NULL) != NGX_OK
        || ngx_agent_resolve_body(sr, ctx, digest) != NGX_OK)
    {
        return NGX_ERROR;
    }

    return NGX_AGAIN;
}


/* What the vault said, as an error of this request. */
static ngx_int_t
ngx_agent_resolve_failed(ngx_http_request_t *r, ngx_agent_ctx_t *ctx)
{
    struct ag_err  err = AG_ERR_INIT;

    if (ctx->resolve.grpc_status == 16) {
        ag_err_set(&err, AG_ERR_UNAUTHENTICATED, "invalid API key");

    } else {
        ngx_log_error(NGX_LOG_ERR, r->connection->log, 0,
                      "the vault did not resolve a key, gRPC status %i",
                      ctx->resolve.grpc_status);
        ag_err_set(&err, AG_ERR_UNAVAILABLE,
                   "keys cannot be checked at present; try again");
    }

    return ngx_agent_fail_kind(r, ctx, &err);
}


ngx_int_t
ngx_agent_resolve(ngx_http_request_t *r, ngx_agent_ctx_t *ctx,
    const u_char *digest)
{
    ngx_int_t               rc;
    uint64_t                generation;
    ngx_agent_main_conf_t  *amcf;

    if (ctx->resolve.subrequest == NULL) {
        amcf = ngx_http_get_module_main_conf(r, ngx_agent_module);
        generation = 0;
        rc = ngx_agent_generation(&amcf->generation, &generation);

        if (ngx_agent_resolve_start(r, ctx, digest) != NGX_AGAIN) {
            return NGX_HTTP_INTERNAL_SERVER_ERROR;
        }

        /* What was true before the question: a revocation meanwhile shows. */
        ctx->resolve.generation = rc == NGX_OK ? generation : UINT64_MAX;

        return NGX_AGAIN;
    }

    if (!ctx->resolve.done) {
        return NGX_AGAIN;
    }

    ctx->resolve.subrequest = NULL;
    ctx->resolve.done = 0;

    return ctx->resolve.grpc_status == 0 ? NGX_OK
                                         : ngx_agent_resolve_failed(r, ctx);
}
