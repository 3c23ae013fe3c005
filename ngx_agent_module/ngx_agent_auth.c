/*
 * Access: which route, whose key, which scope. What a key stands for is in
 * the shared table, or ngx_agent_resolve.c asks the vault.
 */
#include "ngx_agent_module/ngx_agent_module.h"

#include "lib/id.h"
#include "lib/scope.h"
#include "lib/secret.h"


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


void
ngx_agent_key_sent(ngx_http_request_t *r, ngx_str_t *key)
{
    ngx_str_t        *v;
    ngx_table_elt_t  *h;

    ngx_str_null(key);
    h = ngx_agent_header(r, "x-api-key");

    if (h != NULL) {
        *key = h->value;

    } else if (r->headers_in.authorization != NULL) {
        v = &r->headers_in.authorization->value;

        if (v->len > 7
            && ngx_strncasecmp(v->data, (u_char *) "Bearer ", 7) == 0)
        {
            key->data = v->data + 7;
            key->len = v->len - 7;
        }
    }
}


static ngx_int_t
ngx_agent_find_key(ngx_http_request_t *r, ngx_agent_ctx_t *ctx,
    struct ag_err *err)
{
    ngx_agent_key_sent(r, &ctx->key);

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
ngx_agent_authorize(ngx_http_request_t *r, ngx_agent_ctx_t *ctx,
    ngx_agent_loc_conf_t *lcf)
{
    ngx_uint_t      need;
    struct ag_buf   names;
    struct ag_err   err = AG_ERR_INIT;

    need = lcf->mode == NGX_AGENT_ADMIT ? lcf->scopes
                                        : ctx->match.route->scopes;

    if ((ctx->principal->scopes & need) == 0) {
        ag_buf_init(&names, 256);
        ag_scopes_add_text(&names, need);
        ag_err_set(&err, AG_ERR_DENIED,
                   "this needs an API key with scope %s", ag_buf_cstr(&names));
        ag_buf_release(&names);
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

        rc = lcf->mode == NGX_AGENT_ADMIT ? NGX_OK
                                          : ngx_agent_route(r, ctx, lcf);
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

    rc = ngx_agent_authorize(r, ctx, lcf);
    if (rc != NGX_OK) {
        return rc;
    }

    ctx->state = NGX_AGENT_ADMITTED;

    return NGX_DECLINED;
}
