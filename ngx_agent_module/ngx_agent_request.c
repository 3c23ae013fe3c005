/*
 * The way in, between access and stock grpc_pass: the body is read, JSON
 * becomes a framed message, the request is made over so that the service sees
 * a gRPC call with the headers chosen here and nothing of the caller's.
 */
#include "ngx_agent_module/ngx_agent_module.h"

#include "lib/secret.h"
#include "ngx_agent_module/ngx_agent_codec.h"


ngx_table_elt_t *
ngx_agent_header(ngx_http_request_t *r, const char *name)
{
    size_t            len;
    ngx_uint_t        i;
    ngx_list_part_t  *part;
    ngx_table_elt_t  *h;

    len = ngx_strlen(name);

    for (part = &r->headers_in.headers.part; part; part = part->next) {
        h = part->elts;

        for (i = 0; i < part->nelts; i++) {
            if (h[i].key.len == len
                && ngx_strncasecmp(h[i].key.data, (u_char *) name, len) == 0)
            {
                return &h[i];
            }
        }
    }

    return NULL;
}


static ngx_table_elt_t *
ngx_agent_push_header(ngx_http_request_t *r, const char *name, ngx_str_t *value)
{
    ngx_table_elt_t  *h;

    h = ngx_list_push(&r->headers_in.headers);
    if (h == NULL) {
        return NULL;
    }

    h->key.data = (u_char *) name;
    h->key.len = ngx_strlen(name);
    h->lowcase_key = h->key.data;
    h->hash = ngx_hash_key(h->key.data, h->key.len);
    h->value = *value;

    return h;
}


ngx_int_t
ngx_agent_rebuild_headers(ngx_http_request_t *r, ngx_str_t *assertion,
    ngx_str_t *request_id, ngx_str_t *grpc_timeout)
{
    ngx_str_t                   type, te;
    ngx_agent_main_conf_t      *amcf;
    ngx_http_variable_value_t  *v;

    ngx_str_set(&type, "application/grpc");
    ngx_str_set(&te, "trailers");

    /* What the access log may show stays; keys and cookies do not. */

    r->headers_in.authorization = NULL;
    r->headers_in.content_length = NULL;
    ngx_memzero(&r->headers_in.cookies, sizeof(ngx_array_t));
    ngx_str_null(&r->headers_in.user);
    ngx_str_null(&r->headers_in.passwd);

    if (ngx_list_init(&r->headers_in.headers, r->pool, 8,
                      sizeof(ngx_table_elt_t))
        != NGX_OK)
    {
        return NGX_ERROR;
    }

    r->headers_in.content_type = ngx_agent_push_header(r, "content-type",
                                                       &type);
    r->headers_in.te = ngx_agent_push_header(r, "te", &te);

    if (r->headers_in.content_type == NULL || r->headers_in.te == NULL
        || ngx_agent_push_header(r, "x-request-id", request_id) == NULL)
    {
        return NGX_ERROR;
    }

    if (assertion != NULL
        && ngx_agent_push_header(r, "x-brainbox-assertion", assertion)
           == NULL)
    {
        return NGX_ERROR;
    }

    if (grpc_timeout != NULL && grpc_timeout->len
        && ngx_agent_push_header(r, "grpc-timeout", grpc_timeout) == NULL)
    {
        return NGX_ERROR;
    }

    /* A subrequest and its parent share cached variables. */

    amcf = ngx_http_get_module_main_conf(r, ngx_agent_module);
    v = &r->variables[amcf->content_length_index];
    v->valid = 0;
    v->not_found = 0;

    return NGX_OK;
}


ngx_int_t
ngx_agent_set_body(ngx_http_request_t *r, u_char *framed, size_t n)
{
    ngx_buf_t                *b;
    ngx_chain_t              *cl;
    ngx_http_request_body_t  *rb;

    rb = ngx_pcalloc(r->pool, sizeof(ngx_http_request_body_t));
    b = ngx_calloc_buf(r->pool);
    cl = ngx_alloc_chain_link(r->pool);

    if (rb == NULL || b == NULL || cl == NULL) {
        return NGX_ERROR;
    }

    b->start = framed;
    b->pos = framed;
    b->last = framed + n;
    b->end = b->last;
    b->memory = 1;
    b->last_buf = 1;

    cl->buf = b;
    cl->next = NULL;
    rb->bufs = cl;

    r->request_body = rb;
    r->headers_in.content_length_n = n;
    r->headers_in.chunked = 0;

    r->method = NGX_HTTP_POST;
    ngx_str_set(&r->method_name, "POST");

    return NGX_OK;
}


/* ---- reading ----------------------------------------------------------- */

static void
ngx_agent_body_handler(ngx_http_request_t *r)
{
    ngx_agent_ctx_t  *ctx;

    ctx = ngx_agent_get_ctx(r);
    ctx->state = NGX_AGENT_READ;

    r->preserve_body = 1;
    r->write_event_handler = ngx_http_core_run_phases;
    ngx_http_core_run_phases(r);
}


static ngx_int_t
ngx_agent_too_large(ngx_http_request_t *r, ngx_agent_ctx_t *ctx, size_t limit)
{
    struct ag_err  err = AG_ERR_INIT;

    ag_err_set(&err, AG_ERR_LIMIT, "the body is longer than %zu bytes", limit);

    return ngx_agent_fail(r, ctx, NGX_HTTP_REQUEST_ENTITY_TOO_LARGE, &err);
}


static ngx_int_t
ngx_agent_read_body(ngx_http_request_t *r, ngx_agent_ctx_t *ctx,
    ngx_agent_loc_conf_t *lcf)
{
    ngx_int_t  rc;

    if (r->headers_in.content_length_n > (off_t) lcf->max_body) {
        return ngx_agent_too_large(r, ctx, lcf->max_body);
    }

    ctx->state = NGX_AGENT_READING;

    rc = ngx_http_read_client_request_body(r, ngx_agent_body_handler);

    if (rc >= NGX_HTTP_SPECIAL_RESPONSE) {
        return rc;
    }

    ngx_http_finalize_request(r, NGX_DONE);

    return NGX_DONE;
}


/* Append one buffer of the body, from memory or from nginx's own file. */
static ngx_int_t
ngx_agent_collect_buf(ngx_http_request_t *r, ngx_buf_t *b, struct ag_buf *out)
{
    size_t          n;
    ssize_t         got;
    u_char         *p;
    struct ag_err   err = AG_ERR_INIT;

    if (ngx_buf_size(b) == 0) {
        return NGX_OK;
    }

    if (ngx_buf_in_memory(b)) {
        ag_buf_add(out, ag_str_n(b->pos, b->last - b->pos));
        return NGX_OK;
    }

    n = b->file_last - b->file_pos;
    p = (u_char *) ag_buf_reserve(out, n, &err);
    if (p == NULL) {
        return NGX_ERROR;
    }

    got = ngx_read_file(b->file, p, n, b->file_pos);

    if (got != (ssize_t) n) {
        return NGX_ERROR;
    }

    p[n] = '\0';
    out->n += n;

    return NGX_OK;
}


/* The whole body in `out`; NGX_DECLINED when it is too long. */
static ngx_int_t
ngx_agent_collect_body(ngx_http_request_t *r, size_t limit, struct ag_buf *out)
{
    off_t         total;
    ngx_chain_t  *cl;

    if (r->request_body == NULL) {
        return NGX_OK;
    }

    total = 0;

    for (cl = r->request_body->bufs; cl; cl = cl->next) {
        total += ngx_buf_size(cl->buf);
    }

    if (total > (off_t) limit) {
        return NGX_DECLINED;
    }

    for (cl = r->request_body->bufs; cl; cl = cl->next) {
        if (ngx_agent_collect_buf(r, cl->buf, out) != NGX_OK) {
            return NGX_ERROR;
        }
    }

    return NGX_OK;
}


/* ---- JSON -> message --------------------------------------------------- */

static void
ngx_agent_add_last_event_id(ngx_http_request_t *r, ngx_agent_ctx_t *ctx)
{
    ngx_table_elt_t         *h;
    struct ngx_agent_param  *p;

    h = ngx_agent_header(r, "last-event-id");

    if (h == NULL || h->value.len == 0 || !ctx->match.route->streams
        || ctx->match.n_params == NGX_AGENT_PARAMS_MAX)
    {
        return;
    }

    p = &ctx->match.params[ctx->match.n_params++];
    p->name = AG_STR("last_event_id");
    p->value = ag_str_n(h->value.data, h->value.len);
    p->is_header = true;
}


/* Fills ctx->message with head and message. */
static ngx_int_t
ngx_agent_transcode(ngx_http_request_t *r, ngx_agent_ctx_t *ctx,
    ngx_agent_loc_conf_t *lcf, ag_str_t body)
{
    struct ag_err             err = AG_ERR_INIT;
    struct ngx_agent_request  rq;

    ngx_agent_add_last_event_id(r, ctx);

    ngx_memzero(&rq, sizeof(rq));
    rq.desc = ctx->match.route->input;
    rq.params = ctx->match.params;
    rq.n_params = ctx->match.n_params;
    rq.query = ag_str_n(r->args.data, r->args.len);
    rq.body = body;
    rq.has_body = ctx->match.route->body[0] != '\0';
    rq.depth_max = lcf->max_depth;

    ag_buf_clear(&ctx->message);
    ag_buf_add(&ctx->message, AG_STR("\0\0\0\0\0"));

    if (ngx_agent_codec_encode(&rq, ctx->arena, &ctx->message, &err) < 0) {
        return ngx_agent_fail_kind(r, ctx, &err);
    }

    ngx_agent_frame_head((u_char *) ctx->message.p,
                         ctx->message.n - NGX_AGENT_FRAME_HEAD);

    return NGX_OK;
}


/* A bound gRPC call: exactly one message, as it came, uncompressed. */
static ngx_int_t
ngx_agent_check_frame(ngx_http_request_t *r, ngx_agent_ctx_t *ctx)
{
    u_char         *p;
    size_t          n;
    struct ag_err   err = AG_ERR_INIT;

    p = (u_char *) ctx->message.p;
    n = ctx->message.n;

    if (n >= NGX_AGENT_FRAME_HEAD && p[0] == 0
        && ((size_t) p[1] << 24 | p[2] << 16 | p[3] << 8 | p[4])
           == n - NGX_AGENT_FRAME_HEAD)
    {
        return NGX_OK;
    }

    ag_err_set(&err, AG_ERR_INVALID,
               "this method takes one message without compression");

    return ngx_agent_fail_kind(r, ctx, &err);
}


static ngx_int_t
ngx_agent_make_message(ngx_http_request_t *r, ngx_agent_ctx_t *ctx,
    ngx_agent_loc_conf_t *lcf)
{
    ngx_int_t      rc;
    struct ag_buf  body;

    ag_buf_init(&body, SIZE_MAX / 4);

    rc = ngx_agent_collect_body(r, lcf->max_body, &body);

    if (rc == NGX_DECLINED) {
        rc = ngx_agent_too_large(r, ctx, lcf->max_body);

    } else if (rc != NGX_OK) {
        rc = NGX_HTTP_INTERNAL_SERVER_ERROR;

    } else {
        rc = ngx_agent_inbound_check(r, ctx, lcf, ag_buf_str(&body));
    }

    if (rc == NGX_OK && lcf->mode == NGX_AGENT_GRPC) {
        ag_buf_add(&ctx->message, ag_buf_str(&body));
        rc = ngx_agent_check_frame(r, ctx);

    } else if (rc == NGX_OK) {
        rc = ngx_agent_transcode(r, ctx, lcf, ag_buf_str(&body));
    }

    ag_buf_wipe(&body);

    return rc;
}


/* ---- the call ---------------------------------------------------------- */

/* Make the request over into the gRPC call that grpc_pass sends. */
static ngx_int_t
ngx_agent_make_call(ngx_http_request_t *r, ngx_agent_ctx_t *ctx,
    ngx_agent_loc_conf_t *lcf)
{
    ngx_str_t         assertion, timeout;
    ngx_table_elt_t  *h;

    assertion.data = ctx->principal->assertion;
    assertion.len = ctx->principal->assertion_len;
    ngx_str_null(&timeout);

    if (lcf->mode == NGX_AGENT_GRPC) {
        h = ngx_agent_header(r, "grpc-timeout");
        if (h != NULL) {
            timeout = h->value;
        }
    }

    if (ngx_agent_rebuild_headers(r, &assertion, &ctx->request_id, &timeout)
        != NGX_OK)
    {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    if (ctx->message.n > 0
        && ngx_agent_set_body(r, (u_char *) ctx->message.p, ctx->message.n)
           != NGX_OK)
    {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    r->uri.data = (u_char *) ctx->match.route->grpc_path;
    r->uri.len = ngx_strlen(ctx->match.route->grpc_path);
    ngx_str_null(&r->args);
    r->valid_unparsed_uri = 0;

    ctx->state = NGX_AGENT_PASSED;

    return NGX_DECLINED;
}


ngx_int_t
ngx_agent_precontent_handler(ngx_http_request_t *r)
{
    ngx_int_t              rc;
    u_char                 digest[32];
    ngx_agent_ctx_t       *ctx;
    ngx_agent_loc_conf_t  *lcf;

    lcf = ngx_http_get_module_loc_conf(r, ngx_agent_module);
    ctx = ngx_agent_get_ctx(r);

    if (lcf->mode == NGX_AGENT_OFF || lcf->mode == NGX_AGENT_ADMIT
        || r != r->main || ctx == NULL
        || ctx->state == NGX_AGENT_PASSED)
    {
        return NGX_DECLINED;
    }

    if (ctx->state == NGX_AGENT_ADMITTED) {
        if (lcf->mode == NGX_AGENT_GRPC && !ctx->match.route->is_bound
            && !ngx_agent_inbound_wants(ctx, lcf))
        {
            return ngx_agent_make_call(r, ctx, lcf);
        }

        return ngx_agent_read_body(r, ctx, lcf);
    }

    if (ctx->state == NGX_AGENT_READING) {
        return NGX_DONE;
    }

    if (ctx->message.n == 0) {
        rc = ngx_agent_make_message(r, ctx, lcf);
        if (rc != NGX_OK) {
            return rc;
        }
    }

    if (ctx->match.route->is_bound) {
        ag_sha256(ag_str_n(ctx->message.p + NGX_AGENT_FRAME_HEAD,
                           ctx->message.n - NGX_AGENT_FRAME_HEAD), digest);

        rc = ngx_agent_resolve(r, ctx, digest);
        if (rc != NGX_OK) {
            return rc;
        }
    }

    return ngx_agent_make_call(r, ctx, lcf);
}
