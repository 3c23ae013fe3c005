/*
 * Access: which route, whose key, which scope. A key that the shared table
 * does not know is resolved by an in-memory subrequest to the vault; so is
 * every request of a route that needs an assertion of its own. The caller's
 * key goes into that subrequest and nowhere else.
 */
#include "ngx_agent_module/ngx_agent_module.h"

#include "lib/id.h"
#include "lib/secret.h"
#include "vault.pb-c.h"


static void
ngx_agent_ctx_cleanup(void *data)
{
    ngx_agent_ctx_t  *ctx = data;

    if (ctx->heartbeat.timer_set) {
        ngx_del_timer(&ctx->heartbeat);
    }

    ag_arena_free(ctx->arena);
    ag_buf_wipe(&ctx->message);
    ngx_agent_frames_release(&ctx->frames);
    ag_buf_release(&ctx->out);
}


ngx_agent_ctx_t *
ngx_agent_ctx_create(ngx_http_request_t *r)
{
    ngx_agent_ctx_t     *ctx;
    ngx_pool_cleanup_t  *cln;

    cln = ngx_pool_cleanup_add(r->pool, sizeof(ngx_agent_ctx_t));
    if (cln == NULL) {
        return NULL;
    }

    ctx = cln->data;
    ngx_memzero(ctx, sizeof(ngx_agent_ctx_t));
    ctx->request = r;
    ctx->arena = ag_arena_new();
    ag_buf_init(&ctx->message, SIZE_MAX / 4);
    ag_buf_init(&ctx->out, SIZE_MAX / 4);
    cln->handler = ngx_agent_ctx_cleanup;

    ctx->request_id.data = ag_arena_alloc(ctx->arena, AG_ID_TEXT);
    ag_id_new("req", (char *) ctx->request_id.data);
    ctx->request_id.len = ngx_strlen(ctx->request_id.data);

    ngx_http_set_ctx(r, ctx, ngx_agent_module);

    return ctx;
}


/* `x-api-key`, or else `Authorization: Bearer`. */
static ngx_int_t
ngx_agent_find_key(ngx_http_request_t *r, ngx_agent_ctx_t *ctx,
    struct ag_err *err)
{
    ngx_str_t        *v;
    ngx_table_elt_t  *h;

    h = ngx_agent_header(r, "x-api-key");

    if (h != NULL) {
        ctx->key = h->value;

    } else if (r->headers_in.authorization != NULL) {
        v = &r->headers_in.authorization->value;

        if (v->len > 7
            && ngx_strncasecmp(v->data, (u_char *) "Bearer ", 7) == 0)
        {
            ctx->key.data = v->data + 7;
            ctx->key.len = v->len - 7;
        }
    }

    if (ctx->key.len == 0) {
        return ag_err_set(err, AG_ERR_UNAUTHENTICATED,
                          "an API key is needed: send it as x-api-key or as "
                          "Authorization: Bearer");
    }

    if (ctx->key.len > NGX_AGENT_KEY_MAX) {
        return ag_err_set(err, AG_ERR_UNAUTHENTICATED, "invalid API key");
    }

    ag_sha256(ag_str_n(ctx->key.data, ctx->key.len), ctx->key_digest);

    return NGX_OK;
}


/* Raw path without query: what nginx normalised is not what was signed for. */
static ag_str_t
ngx_agent_raw_path(ngx_http_request_t *r)
{
    ag_str_t  uri, path;

    uri = ag_str_n(r->unparsed_uri.data, r->unparsed_uri.len);
    path = uri;
    (void) ag_str_cut(&uri, '?', &path);

    return path;
}


static ngx_int_t
ngx_agent_add_allow(ngx_http_request_t *r, const char *allow)
{
    ngx_table_elt_t  *h;

    h = ngx_list_push(&r->headers_out.headers);
    if (h == NULL) {
        return NGX_ERROR;
    }

    h->hash = 1;
    ngx_str_set(&h->key, "Allow");
    h->value.data = (u_char *) allow;
    h->value.len = ngx_strlen(allow);

    return NGX_OK;
}


/* NGX_OK: ctx->match is set. NGX_DONE: answered. */
static ngx_int_t
ngx_agent_route(ngx_http_request_t *r, ngx_agent_ctx_t *ctx,
    ngx_agent_loc_conf_t *lcf)
{
    ag_str_t       path, verb;
    struct ag_err  err = AG_ERR_INIT;

    path = ngx_agent_raw_path(r);
    verb = ag_str_n(r->method_name.data, r->method_name.len);

    if (lcf->mode == NGX_AGENT_GRPC) {
        ctx->match.route = ngx_agent_route_by_grpc(path);

        if (ctx->match.route == NULL || r->method != NGX_HTTP_POST) {
            ctx->match.route = NULL;
            ag_err_set(&err, AG_ERR_UNIMPLEMENTED, "unknown method");
            return ngx_agent_fail_kind(r, ctx, &err);
        }

    } else if (ngx_agent_route_find(verb, path, &ctx->match, ctx->arena, &err)
               < 0)
    {
        if (err.kind != AG_ERR_UNIMPLEMENTED) {
            return ngx_agent_fail_kind(r, ctx, &err);
        }

        if (ngx_agent_add_allow(r, ngx_agent_route_allow(path, ctx->arena))
            != NGX_OK)
        {
            return NGX_HTTP_INTERNAL_SERVER_ERROR;
        }

        return ngx_agent_fail(r, ctx, NGX_HTTP_NOT_ALLOWED, &err);
    }

    if (lcf->upstreams[ctx->match.route->service].len == 0) {
        ag_err_set(&err, AG_ERR_UNIMPLEMENTED,
                   "this server does not offer the service");
        return ngx_agent_fail_kind(r, ctx, &err);
    }

    return NGX_OK;
}


/* ---- Resolve ----------------------------------------------------------- */

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


static ngx_uint_t
ngx_agent_scopes(char **scopes, size_t n)
{
    size_t      i;
    ngx_uint_t  bits;

    bits = 0;

    for (i = 0; i < n; i++) {
        if (ngx_strcmp(scopes[i], "read") == 0) {
            bits |= NGX_AGENT_SCOPE_READ;

        } else if (ngx_strcmp(scopes[i], "write") == 0) {
            bits |= NGX_AGENT_SCOPE_WRITE;

        } else if (ngx_strcmp(scopes[i], "admin") == 0) {
            bits |= NGX_AGENT_SCOPE_ADMIN;
        }
    }

    return bits;
}


static ngx_int_t
ngx_agent_take_answer(ngx_agent_principal_t *p, ag_str_t message)
{
    Agent__Vault__V1__ResolveResponse  *m;

    m = agent__vault__v1__resolve_response__unpack(NULL, message.n,
                                               (const uint8_t *) message.p);
    if (m == NULL) {
        return NGX_ERROR;
    }

    p->denied = 0;
    p->scopes = ngx_agent_scopes(m->scopes, m->n_scopes);
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


/* ---- access ------------------------------------------------------------ */

static void
ngx_agent_remember(ngx_http_request_t *r, ngx_agent_ctx_t *ctx)
{
    ngx_agent_main_conf_t  *amcf;

    amcf = ngx_http_get_module_main_conf(r, ngx_agent_module);

    if (ctx->resolve.generation == UINT64_MAX) {
        return;
    }

    if (ctx->resolve.grpc_status == 16) {
        ctx->principal->denied = 1;
        ctx->principal->assertion_len = 0;

    } else if (ctx->resolve.grpc_status != 0) {
        return;
    }

    ngx_agent_key_store(amcf->keys, ctx->key_digest, ctx->resolve.generation,
                        ctx->principal);
}


/* NGX_OK: ctx->principal is the caller. */
static ngx_int_t
ngx_agent_authenticate(ngx_http_request_t *r, ngx_agent_ctx_t *ctx)
{
    uint64_t                generation;
    struct ag_err           err = AG_ERR_INIT;
    ngx_agent_main_conf_t  *amcf;

    amcf = ngx_http_get_module_main_conf(r, ngx_agent_module);

    if (ctx->resolve.subrequest != NULL) {
        if (ctx->resolve.done) {
            ngx_agent_remember(r, ctx);
        }

        return ngx_agent_resolve(r, ctx, NULL);
    }

    if (ngx_agent_find_key(r, ctx, &err) != NGX_OK) {
        return ngx_agent_fail_kind(r, ctx, &err);
    }

    ctx->principal = ngx_pcalloc(r->pool, sizeof(ngx_agent_principal_t));
    if (ctx->principal == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    if (ngx_agent_generation(&amcf->generation, &generation) != NGX_OK
        || ngx_agent_key_find(amcf->keys, ctx->key_digest, generation,
                              ctx->principal)
           != NGX_OK)
    {
        return ngx_agent_resolve(r, ctx, NULL);
    }

    if (ctx->principal->denied) {
        ag_err_set(&err, AG_ERR_UNAUTHENTICATED, "invalid API key");
        return ngx_agent_fail_kind(r, ctx, &err);
    }

    return NGX_OK;
}


static ngx_int_t
ngx_agent_authorize(ngx_http_request_t *r, ngx_agent_ctx_t *ctx)
{
    ngx_uint_t      need;
    const char     *scope;
    struct ag_err   err = AG_ERR_INIT;

    scope = ctx->match.route->scope;
    need = *scope ? ngx_agent_scopes((char **) &scope, 1) : 0;

    if (*scope && need == 0) {
        ag_err_set(&err, AG_ERR_INTERNAL, "the route names an unknown scope");
        return ngx_agent_fail_kind(r, ctx, &err);
    }

    if ((ctx->principal->scopes & need) != need) {
        ag_err_set(&err, AG_ERR_DENIED,
                   "this needs an API key with scope \"%s\"", scope);
        return ngx_agent_fail_kind(r, ctx, &err);
    }

    return NGX_OK;
}


ngx_int_t
ngx_agent_access_handler(ngx_http_request_t *r)
{
    ngx_int_t              rc;
    ngx_agent_ctx_t       *ctx;
    ngx_agent_loc_conf_t  *lcf;

    lcf = ngx_http_get_module_loc_conf(r, ngx_agent_module);

    if (lcf->mode == NGX_AGENT_OFF || r != r->main) {
        return NGX_DECLINED;
    }

    ctx = ngx_agent_get_ctx(r);

    if (ctx == NULL) {
        ctx = ngx_agent_ctx_create(r);
        if (ctx == NULL) {
            return NGX_HTTP_INTERNAL_SERVER_ERROR;
        }

        rc = ngx_agent_route(r, ctx, lcf);
        if (rc != NGX_OK) {
            return rc;
        }
    }

    if (ctx->state != NGX_AGENT_ACCESS) {
        return NGX_DECLINED;
    }

    rc = ngx_agent_authenticate(r, ctx);
    if (rc != NGX_OK) {
        return rc;
    }

    rc = ngx_agent_authorize(r, ctx);
    if (rc != NGX_OK) {
        return rc;
    }

    ctx->state = NGX_AGENT_ADMITTED;

    return NGX_DECLINED;
}
