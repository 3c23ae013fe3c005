/*
 * The way back, as filters around stock grpc_pass. A unary answer is held
 * until its status is known and then is JSON or an envelope; a stream goes to
 * ngx_agent_stream.c. Runs after the upstream code, before gzip and the like.
 */
#include "ngx_agent_module/ngx_agent_answer.h"

#include "ngx_agent_module/ngx_agent_codec.h"


static ngx_http_output_header_filter_pt  ngx_http_next_header_filter;
static ngx_http_output_body_filter_pt    ngx_http_next_body_filter;


ngx_int_t
ngx_agent_pass_body(ngx_http_request_t *r, ngx_chain_t *in)
{
    return ngx_http_next_body_filter(r, in);
}


/* What goes out is in ctx->out. */
ngx_int_t
ngx_agent_send_out(ngx_http_request_t *r, ngx_agent_ctx_t *ctx,
    ngx_uint_t last)
{
    ngx_buf_t  *b;

    b = &ctx->out_buf;

    if (ctx->out.n == 0 && !last) {
        return NGX_OK;
    }

    ngx_memzero(b, sizeof(ngx_buf_t));
    b->start = (u_char *) ctx->out.p;
    b->pos = b->start;
    b->last = b->start + ctx->out.n;
    b->end = b->last;
    b->memory = ctx->out.n ? 1 : 0;
    b->flush = 1;
    b->last_buf = last;
    b->tag = (ngx_buf_tag_t) &ngx_agent_module;

    ctx->out_chain.buf = b;
    ctx->out_chain.next = NULL;

    return ngx_http_next_body_filter(r, &ctx->out_chain);
}


static ngx_table_elt_t *
ngx_agent_find(ngx_list_t *list, const char *name)
{
    size_t            len;
    ngx_uint_t        i;
    ngx_list_part_t  *part;
    ngx_table_elt_t  *h;

    len = ngx_strlen(name);

    for (part = &list->part; part; part = part->next) {
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


/* ---- input ------------------------------------------------------------- */

/* Keep links of our own: the caller takes its back after each call. */
static ngx_int_t
ngx_agent_take_input(ngx_http_request_t *r, ngx_agent_ctx_t *ctx,
    ngx_chain_t *in)
{
    ngx_chain_t  *cl;

    if (ngx_chain_add_copy(r->pool, &ctx->in, in) != NGX_OK) {
        return NGX_ERROR;
    }

    for (cl = in; cl; cl = cl->next) {
        if (cl->buf->last_buf) {
            ctx->input_last = 1;
        }

        /* After finalization, FLUSH alone says that the upstream failed. */

        if (cl->buf->flush && ngx_buf_size(cl->buf) == 0
            && r->upstream != NULL && r->upstream->cleanup == NULL
            && !cl->buf->last_buf)
        {
            ctx->input_failed = 1;
        }
    }

    return NGX_OK;
}


/*
 * The next whole message from the input: 1, 0 for none yet, -1 for nonsense.
 */
int
ngx_agent_next_message(ngx_http_request_t *r, ngx_agent_ctx_t *ctx,
    struct ag_err *err)
{
    int           rc;
    ag_str_t      in;
    ngx_buf_t    *b;
    ngx_chain_t  *cl;

    while (ctx->in != NULL) {
        cl = ctx->in;
        b = cl->buf;

        if (b->last > b->pos) {
            in = ag_str_n(b->pos, b->last - b->pos);
            rc = ngx_agent_frames_next(&ctx->frames, &in, err);
            b->pos = (u_char *) in.p;

            if (rc != 0) {
                return rc;
            }
        }

        ctx->in = cl->next;
        ngx_free_chain(r->pool, cl);
    }

    return 0;
}


static void
ngx_agent_drop_input(ngx_http_request_t *r, ngx_agent_ctx_t *ctx)
{
    ngx_chain_t  *cl;

    while (ctx->in != NULL) {
        cl = ctx->in;
        ctx->in = cl->next;
        cl->buf->pos = cl->buf->last;
        cl->buf->file_pos = cl->buf->file_last;
        ngx_free_chain(r->pool, cl);
    }
}


/*
 * How the call ended: NULL for OK, or the row of its status with the message
 * in the arena.
 */
const struct ngx_agent_status *
ngx_agent_final_status(ngx_http_request_t *r, ngx_agent_ctx_t *ctx,
    ag_str_t *message)
{
    ngx_int_t              grpc;
    struct ag_buf          text;
    ngx_table_elt_t       *status, *h;
    ngx_http_upstream_t   *u;

    u = r->upstream;

    status = ngx_agent_find(&u->headers_in.trailers, "grpc-status");
    h = ngx_agent_find(&u->headers_in.trailers, "grpc-message");

    if (status == NULL) {
        status = ngx_agent_find(&u->headers_in.headers, "grpc-status");
        h = ngx_agent_find(&u->headers_in.headers, "grpc-message");
    }

    if (ctx->input_failed || status == NULL) {
        *message = AG_STR("the service broke off its answer; try again");
        return ngx_agent_status_of_kind(AG_ERR_UNAVAILABLE);
    }

    grpc = ngx_atoi(status->value.data, status->value.len);

    if (grpc == 0) {
        return NULL;
    }

    *message = AG_STR("the service gave no reason");

    if (h != NULL && h->value.len) {
        ag_buf_init(&text, SIZE_MAX / 4);
        ngx_agent_grpc_message_decode(&text, ag_str_n(h->value.data,
                                                      h->value.len));
        *message = ag_arena_copy(ctx->arena, ag_buf_str(&text));
        ag_buf_release(&text);
    }

    return ngx_agent_status_of_grpc(grpc);
}


/* ---- unary answers ----------------------------------------------------- */

static int
ngx_agent_put_answer(ngx_agent_ctx_t *ctx, const char **type,
    struct ag_err *err)
{
    ag_str_t                       message;
    const struct ngx_agent_route  *route;

    route = ctx->match.route;
    message = ag_buf_str(&ctx->frames.message);

    if (*route->response_body == '\0') {
        return ngx_agent_codec_decode(route->output, message, &ctx->out, err);
    }

    /* the version is that of Prometheus' text format */

    *type = "text/plain; version=0.0.4; charset=utf-8";

    return ngx_agent_codec_text(route->output, route->response_body, message,
                                &ctx->out, err);
}


/*
 * The answer, or an envelope; returns the HTTP status and sets the content's
 * type when it is not JSON.
 */
static ngx_uint_t
ngx_agent_unary_text(ngx_http_request_t *r, ngx_agent_ctx_t *ctx,
    const char **type, struct ag_err *err)
{
    ag_str_t                        message;
    const struct ngx_agent_status  *st;

    st = ngx_agent_final_status(r, ctx, &message);

    if (st != NULL) {
        ngx_agent_put_envelope(ctx, st->type, message);
        return st->http;
    }

    if (ctx->have_message && ngx_agent_put_answer(ctx, type, err) == 0) {
        return NGX_HTTP_OK;
    }

    *type = "application/json";

    ngx_log_error(NGX_LOG_ERR, r->connection->log, 0,
                  "answer to %s cannot be passed on: %s",
                  ctx->match.route->grpc_path,
                  ctx->have_message ? err->msg : "no message");

    ngx_agent_put_envelope(ctx, "api_error",
                           AG_STR("the service's answer does not parse"));

    return NGX_HTTP_BAD_GATEWAY;
}


static ngx_int_t
ngx_agent_finish_unary(ngx_http_request_t *r, ngx_agent_ctx_t *ctx,
    struct ag_err *err)
{
    ngx_int_t    sent;
    ngx_uint_t   status;
    const char  *type;

    ctx->ended = 1;
    type = "application/json";
    status = ngx_agent_unary_text(r, ctx, &type, err);

    if (ngx_agent_clear_headers(r) != NGX_OK
        || ngx_agent_set_headers(r, ctx, status, type) != NGX_OK)
    {
        return NGX_ERROR;
    }

    r->headers_out.content_length_n = ctx->out.n;

    sent = ngx_http_next_header_filter(r);

    if (sent == NGX_ERROR || sent > NGX_OK || r->header_only) {
        return sent;
    }

    return ngx_agent_send_out(r, ctx, 1);
}


static ngx_int_t
ngx_agent_filter_unary(ngx_http_request_t *r, ngx_agent_ctx_t *ctx)
{
    int            rc;
    struct ag_err  err = AG_ERR_INIT;

    /* a whole message stays in frames.message until the status is here */

    while ((rc = ngx_agent_next_message(r, ctx, &err)) == 1) {
        if (ctx->have_message) {
            rc = ag_err_set(&err, AG_ERR_CORRUPT, "more than one message");
            break;
        }

        ctx->have_message = 1;
    }

    if (rc < 0) {
        ngx_log_error(NGX_LOG_ERR, r->connection->log, 0,
                      "answer to %s is not understood: %s",
                      ctx->match.route->grpc_path, err.msg);
        ngx_agent_drop_input(r, ctx);
        ctx->input_failed = 1;
    }

    if (!ctx->input_last && !ctx->input_failed) {
        return NGX_OK;
    }

    return ngx_agent_finish_unary(r, ctx, &err);
}


/* ---- filters ------------------------------------------------------------ */

/*
 * A stream may be silent for long, and its caller waits for the headers: they
 * go with a FLUSH, since a chain of nothing stops at the postpone filter.
 */
static ngx_int_t
ngx_agent_send_headers_now(ngx_http_request_t *r)
{
    ngx_int_t     rc;
    ngx_buf_t    *b;
    ngx_chain_t   out;

    rc = ngx_http_next_header_filter(r);

    if (rc == NGX_ERROR || rc > NGX_OK) {
        return rc;
    }

    b = ngx_calloc_buf(r->pool);
    if (b == NULL) {
        return NGX_ERROR;
    }

    b->flush = 1;
    out.buf = b;
    out.next = NULL;

    return ngx_agent_pass_body(r, &out);
}


static ngx_int_t
ngx_agent_header_filter(ngx_http_request_t *r)
{
    ngx_agent_ctx_t       *ctx;
    ngx_agent_loc_conf_t  *lcf;

    lcf = ngx_http_get_module_loc_conf(r, ngx_agent_module);
    ctx = ngx_agent_get_ctx(r);

    if (lcf->mode == NGX_AGENT_OFF || r != r->main) {
        return ngx_http_next_header_filter(r);
    }

    if (ctx == NULL) {

        /* nginx refused before our access phase, 413 for example */

        ctx = ngx_agent_ctx_create(r);
        if (ctx == NULL) {
            return NGX_ERROR;
        }
    }

    if (ctx->answer != NGX_AGENT_ANSWER_NONE) {
        return ngx_http_next_header_filter(r);
    }

    if (r->headers_out.status >= NGX_HTTP_BAD_REQUEST) {
        if (ngx_agent_replace(r, ctx, lcf) != NGX_OK) {
            return NGX_ERROR;
        }

        return ngx_http_next_header_filter(r);
    }

    if (lcf->mode == NGX_AGENT_GRPC || r->upstream == NULL
        || ctx->match.route == NULL)
    {
        ctx->answer = NGX_AGENT_ANSWER_OWN;

        if (ngx_agent_push_out(r, "request-id", &ctx->request_id) != NGX_OK) {
            return NGX_ERROR;
        }

        return ngx_http_next_header_filter(r);
    }

    ngx_agent_frames_init(&ctx->frames, NGX_AGENT_MESSAGE_MAX);

    if (ctx->match.route->streams
        && ngx_agent_find(&r->upstream->headers_in.headers, "grpc-status")
           == NULL)
    {
        if (ngx_agent_begin_events(r, ctx, lcf) != NGX_OK) {
            return NGX_ERROR;
        }

        return ngx_agent_send_headers_now(r);
    }

    /* the status line waits for grpc-status */

    ctx->answer = NGX_AGENT_ANSWER_UNARY;

    return NGX_OK;
}


static ngx_int_t
ngx_agent_body_filter(ngx_http_request_t *r, ngx_chain_t *in)
{
    ngx_chain_t      *cl;
    ngx_agent_ctx_t  *ctx;

    ctx = r == r->main ? ngx_agent_get_ctx(r) : NULL;

    if (ctx == NULL || ctx->answer == NGX_AGENT_ANSWER_NONE
        || ctx->answer == NGX_AGENT_ANSWER_OWN)
    {
        return ngx_http_next_body_filter(r, in);
    }

    if (ctx->answer == NGX_AGENT_ANSWER_REPLACE) {
        for (cl = in; cl; cl = cl->next) {
            cl->buf->pos = cl->buf->last;
            cl->buf->file_pos = cl->buf->file_last;
        }

        if (ctx->ended || in == NULL) {
            return ngx_http_next_body_filter(r, NULL);
        }

        ctx->ended = 1;

        return ngx_agent_send_out(r, ctx, 1);
    }

    if (ngx_agent_take_input(r, ctx, in) != NGX_OK) {
        return NGX_ERROR;
    }

    if (ctx->ended) {
        ngx_agent_drop_input(r, ctx);
        return ngx_http_next_body_filter(r, NULL);
    }

    if (ctx->answer == NGX_AGENT_ANSWER_UNARY) {
        return ngx_agent_filter_unary(r, ctx);
    }

    return ngx_agent_filter_events(r, ctx);
}


ngx_int_t
ngx_agent_filter_init(ngx_conf_t *cf)
{
    ngx_http_next_header_filter = ngx_http_top_header_filter;
    ngx_http_top_header_filter = ngx_agent_header_filter;

    ngx_http_next_body_filter = ngx_http_top_body_filter;
    ngx_http_top_body_filter = ngx_agent_body_filter;

    return NGX_OK;
}
