/*
 * Scrubs answers of hosts that a credential of the session is bound to:
 * headers, then the body as it streams. Input is copied into buffers of ours,
 * one after the other: while the client has not taken those, input stays
 * unconsumed, nginx stops reading, and the host waits.
 */
#include "ngx_agent_module/ngx_agent_egress.h"

#include "lib/without.h"

#define NGX_AGENT_CHUNK  16384


static ngx_http_output_header_filter_pt  ngx_http_next_header_filter;
static ngx_http_output_body_filter_pt    ngx_http_next_body_filter;


static void
ngx_agent_scrub_cleanup(void *data)
{
    ngx_agent_egress_ctx_t  *ctx = data;

    ngx_agent_egress_log_free(ctx);
    ngx_agent_scrub_release(&ctx->scrub);
}


ngx_int_t
ngx_agent_egress_scrub_init(ngx_http_request_t *r,
    ngx_agent_egress_ctx_t *ctx)
{
    size_t               i;
    ngx_pool_cleanup_t  *cln;

    if (ctx->verdict->n_scrub == 0) {
        return NGX_OK;
    }

    cln = ngx_pool_cleanup_add(r->pool, 0);
    if (cln == NULL) {
        return NGX_ERROR;
    }

    ngx_agent_scrub_init(&ctx->scrub, (unsigned) ctx->verdict->n_scrub);
    cln->handler = ngx_agent_scrub_cleanup;
    cln->data = ctx;
    ctx->scrubbing = 1;

    for (i = 0; i < ctx->verdict->n_scrub; i++) {
        ngx_agent_scrub_add(&ctx->scrub,
                            ag_str_n(ctx->verdict->scrub[i]->value.data,
                                     ctx->verdict->scrub[i]->value.len),
                            (unsigned) i);
    }

    ctx->out_size = NGX_AGENT_CHUNK + ctx->scrub.longest;
    ngx_agent_egress_log_guard(r, ctx);

    return NGX_OK;
}


static ngx_uint_t
ngx_agent_is_identity(ngx_str_t *coding)
{
    return coding->len == 0
           || (coding->len == sizeof("identity") - 1
               && ngx_strncasecmp(coding->data, (u_char *) "identity",
                                  coding->len) == 0);
}


static ngx_uint_t
ngx_agent_is_named(ngx_table_elt_t *h, const char *name)
{
    return h->key.len == ngx_strlen(name)
           && ngx_strncasecmp(h->key.data, (u_char *) name, h->key.len) == 0;
}


/*
 * Is the answer as it was written? What cannot be read cannot be scrubbed. All
 * lines count: nginx keeps the last Content-Encoding alone, and takes any
 * Transfer-Encoding that holds the word "chunked" for it.
 */
static ngx_uint_t
ngx_agent_is_readable(ngx_http_request_t *r, ngx_agent_egress_ctx_t *ctx)
{
    ngx_uint_t        i;
    ngx_list_part_t  *part;
    ngx_table_elt_t  *h;

    if (r->upstream == NULL) {
        return 1;
    }

    if (ctx->is_grpc
        && ngx_agent_egress_grpc_is_packed(&r->upstream->headers_in.headers))
    {
        return 0;
    }

    for (part = &r->upstream->headers_in.headers.part; part;
         part = part->next)
    {
        h = part->elts;

        for (i = 0; i < part->nelts; i++) {
            if (ngx_agent_is_named(&h[i], "content-encoding")
                && !ngx_agent_is_identity(&h[i].value))
            {
                return 0;
            }

            if (ngx_agent_is_named(&h[i], "transfer-encoding")
                && (h[i].value.len != sizeof("chunked") - 1
                    || ngx_strncasecmp(h[i].value.data, (u_char *) "chunked",
                                       sizeof("chunked") - 1) != 0))
            {
                return 0;
            }
        }
    }

    return 1;
}


/* A copy with filler, when the text holds a value: the original is shared. */
static ngx_int_t
ngx_agent_scrub_str(ngx_http_request_t *r, struct ngx_agent_scrub *scrub,
    ngx_str_t *s)
{
    u_char  *p;

    if (s->len == 0) {
        return NGX_OK;
    }

    p = ngx_pnalloc(r->pool, s->len + 1);
    if (p == NULL) {
        return NGX_ERROR;
    }

    *ngx_cpymem(p, s->data, s->len) = '\0';

    if (ngx_agent_scrub_text(scrub, p, s->len) > 0) {
        s->data = p;
    }

    return NGX_OK;
}


/* gRPC's binary metadata is base64, and a reader gives up on what is not. */
static void
ngx_agent_scrub_binary(ngx_table_elt_t *h)
{
    size_t  i;

    if (h->key.len <= 4
        || ngx_strncasecmp(h->key.data + h->key.len - 4, (u_char *) "-bin", 4)
           != 0)
    {
        return;
    }

    for (i = 0; i < h->value.len; i++) {
        if (h->value.data[i] == NGX_AGENT_SCRUB_FILLER) {
            h->value.data[i] = 'A';
        }
    }
}


static ngx_int_t
ngx_agent_scrub_list(ngx_http_request_t *r, struct ngx_agent_scrub *s,
    ngx_list_t *list)
{
    u_char           *value;
    ngx_uint_t        i;
    ngx_list_part_t  *part;
    ngx_table_elt_t  *h;

    for (part = &list->part; part; part = part->next) {
        h = part->elts;

        for (i = 0; i < part->nelts; i++) {
            value = h[i].value.data;

            if (ngx_agent_scrub_str(r, s, &h[i].value) != NGX_OK
                || ngx_agent_scrub_str(r, s, &h[i].key) != NGX_OK)
            {
                return NGX_ERROR;
            }

            if (h[i].value.data != value) {
                ngx_agent_scrub_binary(&h[i]);
            }
        }
    }

    return NGX_OK;
}


ngx_int_t
ngx_agent_egress_scrub_headers(ngx_http_request_t *r,
    struct ngx_agent_scrub *s)
{
    if (ngx_agent_scrub_list(r, s, &r->headers_out.headers) != NGX_OK
        || ngx_agent_scrub_str(r, s, &r->headers_out.content_type) != NGX_OK
        || ngx_agent_scrub_str(r, s, &r->headers_out.charset) != NGX_OK
        || ngx_agent_scrub_str(r, s, &r->headers_out.status_line) != NGX_OK)
    {
        return NGX_ERROR;
    }

    return NGX_OK;
}


/* nginx passes on what has no status line as HTTP/0.9, whatever was asked; and
 * a change of protocol that nobody asked for. */
static ngx_uint_t
ngx_agent_is_answer(ngx_http_request_t *r, ngx_agent_egress_ctx_t *ctx)
{
    if (r->http_version != ctx->http_version) {
        r->http_version = ctx->http_version;
        return 0;
    }

    return r->headers_out.status != NGX_HTTP_SWITCHING_PROTOCOLS
           || ctx->upgrades;
}


static ngx_int_t
ngx_agent_egress_header_filter(ngx_http_request_t *r)
{
    ngx_agent_egress_ctx_t  *ctx;

    ctx = ngx_http_get_module_ctx(r, ngx_agent_egress_module);

    if (r == r->main && ctx != NULL && ctx->state == NGX_AGENT_EGRESS_READY
        && !ngx_agent_is_answer(r, ctx))
    {
        ngx_log_error(NGX_LOG_ERR, r->connection->log, 0,
                      "what a host sent is no answer");
        ctx->scrubbing = 0;
        return ngx_http_filter_finalize_request(r, &ngx_agent_egress_module,
                                                NGX_HTTP_BAD_GATEWAY);
    }

    if (r != r->main || ctx == NULL || !ctx->scrubbing
        || ctx->state != NGX_AGENT_EGRESS_READY)
    {
        return ngx_http_next_header_filter(r);
    }

    if (!ngx_agent_is_readable(r, ctx) && !ag_without("readable")) {
        ngx_log_error(NGX_LOG_ERR, r->connection->log, 0,
                      "an answer with credentials has a content coding");
        ctx->scrubbing = 0;
        return ngx_http_filter_finalize_request(r, &ngx_agent_egress_module,
                                                NGX_HTTP_BAD_GATEWAY);
    }

    if (!ag_without("scrub_headers")
        && ngx_agent_egress_scrub_headers(r, &ctx->scrub) != NGX_OK)
    {
        return NGX_ERROR;
    }

    ctx->is_framed = ctx->is_grpc
                     && ngx_agent_egress_is_grpc_type(
                            &r->headers_out.content_type);
    r->filter_need_in_memory = 1;
    r->allow_ranges = 0;
    ngx_agent_egress_report(r, ctx, "header");

    return ngx_http_next_header_filter(r);
}


/* A buffer of ours that nginx has sent, or a new one. */
static ngx_chain_t *
ngx_agent_out_buf(ngx_http_request_t *r, ngx_agent_egress_ctx_t *ctx)
{
    ngx_buf_t    *b;
    ngx_chain_t  *cl;

    cl = ngx_chain_get_free_buf(r->pool, &ctx->free);
    if (cl == NULL) {
        return NULL;
    }

    b = cl->buf;

    if (b->start == NULL) {
        b->start = ngx_palloc(r->pool, ctx->out_size);
        if (b->start == NULL) {
            return NULL;
        }

        b->end = b->start + ctx->out_size;
        b->temporary = 1;
        b->tag = (ngx_buf_tag_t) &ngx_agent_egress_module;
    }

    b->pos = b->start;
    b->last = b->start;
    b->flush = 0;
    b->sync = 0;
    b->last_buf = 0;
    b->last_in_chain = 0;

    return cl;
}


/*
 * A piece of input into a buffer that has room for it. Who gets a gRPC message
 * may wait for its end, and the byte behind it is none of a value: nothing of it
 * stays behind.
 */
static ngx_int_t
ngx_agent_scrub_piece(ngx_agent_egress_ctx_t *ctx, ngx_buf_t *b,
    const u_char *p, size_t n, ngx_uint_t last)
{
    bool     is_end;
    ssize_t  took;

    if (!ctx->is_framed) {
        b->last += ngx_agent_scrub_feed(&ctx->scrub, ag_str_n(p, n), last,
                                        b->last);
        return NGX_OK;
    }

    do {
        took = ngx_agent_walk_next(&ctx->grpc_walk, p, n, &is_end);

        if (took == -1) {
            ngx_log_error(NGX_LOG_ERR, ctx->request->connection->log, 0,
                          "a gRPC message of a host with credentials is "
                          "packed");
            return NGX_ERROR;
        }

        p += took;
        n -= took;
        b->last += ngx_agent_scrub_feed(&ctx->scrub,
                                        ag_str_n(p - took, took),
                                        is_end || (last && n == 0), b->last);
    } while (n > 0);

    return NGX_OK;
}


/* One input buffer into as many of ours as it needs. */
static ngx_int_t
ngx_agent_scrub_buf(ngx_http_request_t *r, ngx_agent_egress_ctx_t *ctx,
    ngx_buf_t *in, ngx_chain_t ***ll)
{
    size_t        n;
    ngx_buf_t    *b;
    ngx_uint_t    last;
    ngx_chain_t  *cl;

    do {
        cl = ngx_agent_out_buf(r, ctx);
        if (cl == NULL) {
            return NGX_ERROR;
        }

        b = cl->buf;
        n = ngx_buf_in_memory(in) ? ngx_min(in->last - in->pos,
                                            NGX_AGENT_CHUNK) : 0;
        last = in->last_buf
               && (!ngx_buf_in_memory(in) || in->pos + n == in->last);

        if (ngx_agent_scrub_piece(ctx, b, in->pos, n, last) != NGX_OK) {
            return NGX_ERROR;
        }

        in->pos += n;

        /* An empty buffer counts as special only when it has no memory. */
        b->temporary = b->last != b->pos;

        if (!ngx_buf_in_memory(in) || in->pos == in->last) {
            b->flush = in->flush;
            b->sync = in->sync;
            b->last_buf = in->last_buf;
            b->last_in_chain = in->last_in_chain;
        }

        if (b->last == b->pos && !b->flush && !b->last_buf
            && !b->last_in_chain)
        {
            /* All of it stays behind for now. */
            b->flush = 1;
        }

        **ll = cl;
        *ll = &cl->next;
        cl->next = NULL;

    } while (ngx_buf_in_memory(in) && in->pos < in->last);

    return NGX_OK;
}


/* Input that may go on now: one piece of data, and what has none. */
static ngx_int_t
ngx_agent_scrub_some(ngx_http_request_t *r, ngx_agent_egress_ctx_t *ctx,
    ngx_chain_t **out)
{
    ngx_buf_t    *b;
    ngx_uint_t    is_data;
    ngx_chain_t  *cl, **ll;

    ll = out;

    while (ctx->in != NULL) {
        cl = ctx->in;
        b = cl->buf;
        is_data = ngx_buf_in_memory(b) && b->pos < b->last;

        if (is_data && (ctx->busy != NULL || *out != NULL)) {
            return NGX_OK;
        }

        if (b->last_buf) {
            ctx->finished = 1;

            /* They are written behind the last buffer. */

            if (ngx_agent_scrub_list(r, &ctx->scrub, &r->headers_out.trailers)
                != NGX_OK)
            {
                return NGX_ERROR;
            }
        }

        if (ngx_agent_scrub_buf(r, ctx, b, &ll) != NGX_OK) {
            return NGX_ERROR;
        }

        ctx->in = cl->next;
        ngx_free_chain(r->pool, cl);
    }

    return NGX_OK;
}


static ngx_int_t
ngx_agent_egress_body_filter(ngx_http_request_t *r, ngx_chain_t *in)
{
    ngx_int_t                 rc;
    ngx_chain_t              *out;
    ngx_agent_egress_ctx_t   *ctx;

    ctx = ngx_http_get_module_ctx(r, ngx_agent_egress_module);

    /* Until it ends, nothing of it goes on. */

    if (r == r->main && ctx != NULL && ctx->is_cut) {
        for ( /* void */ ; in != NULL; in = in->next) {
            in->buf->pos = in->buf->last;
            in->buf->file_pos = in->buf->file_last;
        }

        return NGX_OK;
    }

    if (r != r->main || ctx == NULL || !ctx->scrubbing
        || ctx->state != NGX_AGENT_EGRESS_READY || ag_without("scrub_body"))
    {
        return ngx_http_next_body_filter(r, in);
    }

    if (ngx_chain_add_copy(r->pool, &ctx->in, in) != NGX_OK) {
        return NGX_ERROR;
    }

    do {
        out = NULL;

        if (ngx_agent_scrub_some(r, ctx, &out) != NGX_OK) {
            return NGX_ERROR;
        }

        rc = ngx_http_next_body_filter(r, out);
        ngx_chain_update_chains(r->pool, &ctx->free, &ctx->busy, &out,
                                (ngx_buf_tag_t) &ngx_agent_egress_module);

    } while (rc != NGX_ERROR && ctx->in != NULL && ctx->busy == NULL);

    /* Who writes calls again while this is set. */

    if (ctx->in != NULL) {
        r->buffered |= NGX_HTTP_SUB_BUFFERED;

    } else {
        r->buffered &= ~NGX_HTTP_SUB_BUFFERED;
    }

    if (ctx->finished && !ctx->reported) {
        ctx->reported = 1;
        ngx_agent_egress_report(r, ctx, "body");
    }

    return rc;
}


ngx_int_t
ngx_agent_egress_filter_init(ngx_conf_t *cf)
{
    ngx_http_next_header_filter = ngx_http_top_header_filter;
    ngx_http_top_header_filter = ngx_agent_egress_header_filter;

    ngx_http_next_body_filter = ngx_http_top_body_filter;
    ngx_http_top_body_filter = ngx_agent_egress_body_filter;

    return NGX_OK;
}
