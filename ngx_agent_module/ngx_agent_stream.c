/*
 * The way back, as filters around stock grpc_pass. A unary answer is held
 * until its status is known; a stream becomes server-sent events at once.
 * What nginx itself answers (413, 502, …) becomes the contract's envelope.
 *
 * Backpressure: ctx->out holds what is being sent; while the client has not
 * taken it, input stays unconsumed, and the upstream code stops reading.
 * Nothing is taken from r->pool for an event: streams live for hours.
 */
#include "ngx_agent_module/ngx_agent_module.h"

#include "ngx_agent_module/ngx_agent_codec.h"
#include "brain.pb-c.h"

#define NGX_AGENT_OUT_FULL  32768  /* events are gathered up to here */


static ngx_http_output_header_filter_pt  ngx_http_next_header_filter;
static ngx_http_output_body_filter_pt    ngx_http_next_body_filter;


/* ---- headers ----------------------------------------------------------- */

static ngx_int_t
ngx_agent_push_out(ngx_http_request_t *r, const char *name, ngx_str_t *value)
{
    ngx_table_elt_t  *h;

    h = ngx_list_push(&r->headers_out.headers);
    if (h == NULL) {
        return NGX_ERROR;
    }

    h->hash = 1;
    h->key.data = (u_char *) name;
    h->key.len = ngx_strlen(name);
    h->lowcase_key = h->key.data;
    h->value = *value;

    return NGX_OK;
}


/* Leave nothing of the upstream's headers. */
static ngx_int_t
ngx_agent_clear_headers(ngx_http_request_t *r)
{
    if (ngx_list_init(&r->headers_out.headers, r->pool, 4,
                      sizeof(ngx_table_elt_t))
        != NGX_OK
        || ngx_list_init(&r->headers_out.trailers, r->pool, 1,
                         sizeof(ngx_table_elt_t))
           != NGX_OK)
    {
        return NGX_ERROR;
    }

    r->headers_out.server = NULL;
    r->headers_out.date = NULL;
    r->headers_out.content_length = NULL;
    r->headers_out.content_encoding = NULL;
    r->headers_out.location = NULL;
    r->headers_out.last_modified = NULL;
    r->headers_out.last_modified_time = -1;
    r->headers_out.etag = NULL;
    r->headers_out.content_length_n = -1;
    r->headers_out.status_line.len = 0;
    r->expect_trailers = 0;

    return NGX_OK;
}


static ngx_int_t
ngx_agent_set_headers(ngx_http_request_t *r, ngx_agent_ctx_t *ctx,
    ngx_uint_t status, const char *type)
{
    ngx_str_t  no_store;

    ngx_str_set(&no_store, "no-store");

    r->headers_out.status = status;
    r->headers_out.status_line.len = 0;
    r->headers_out.content_type.data = (u_char *) type;
    r->headers_out.content_type.len = ngx_strlen(type);
    r->headers_out.content_type_len = r->headers_out.content_type.len;
    r->headers_out.content_type_lowcase = NULL;
    r->headers_out.charset.len = 0;

    if (ngx_agent_push_out(r, "request-id", &ctx->request_id) != NGX_OK) {
        return NGX_ERROR;
    }

    return ngx_agent_push_out(r, "Cache-Control", &no_store);
}


/* ---- errors of our own ------------------------------------------------- */

static void
ngx_agent_put_envelope(ngx_agent_ctx_t *ctx, const char *type,
    ag_str_t message)
{
    ag_buf_clear(&ctx->out);
    ngx_agent_envelope_add(&ctx->out, type, message,
                           ag_str_n(ctx->request_id.data,
                                    ctx->request_id.len));
}


static ngx_int_t
ngx_agent_grpc_headers(ngx_http_request_t *r, ngx_agent_ctx_t *ctx, int grpc,
    ag_str_t message)
{
    ngx_str_t      value;
    struct ag_buf  text;

    ag_buf_init(&text, SIZE_MAX / 4);
    ngx_agent_grpc_message_encode(&text, message);

    value.data = (u_char *) ag_arena_cstr(ctx->arena, ag_buf_str(&text));
    value.len = text.n;
    ag_buf_release(&text);

    if (ngx_agent_push_out(r, "grpc-message", &value) != NGX_OK) {
        return NGX_ERROR;
    }

    value.data = (u_char *) ag_arena_printf(ctx->arena, "%d", grpc);
    value.len = ngx_strlen(value.data);

    if (ngx_agent_push_out(r, "grpc-status", &value) != NGX_OK) {
        return NGX_ERROR;
    }

    /* length 0 ends the HTTP/2 stream with the headers: "trailers-only" */

    r->headers_out.content_length_n = 0;

    return ngx_agent_set_headers(r, ctx, NGX_HTTP_OK, "application/grpc");
}


/* What goes out is in ctx->out. */
static ngx_int_t
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


static ngx_int_t
ngx_agent_send_error(ngx_http_request_t *r, ngx_agent_ctx_t *ctx,
    ngx_int_t status, const char *type, int grpc, ag_str_t message)
{
    ngx_int_t              rc;
    ngx_agent_loc_conf_t  *lcf;

    lcf = ngx_http_get_module_loc_conf(r, ngx_agent_module);
    ctx->answer = NGX_AGENT_ANSWER_OWN;

    if (ngx_http_discard_request_body(r) != NGX_OK) {
        r->keepalive = 0;
    }

    if (lcf->mode == NGX_AGENT_GRPC) {
        if (ngx_agent_grpc_headers(r, ctx, grpc, message) != NGX_OK) {
            return NGX_ERROR;
        }

    } else {
        ngx_agent_put_envelope(ctx, type, message);
        r->headers_out.content_length_n = ctx->out.n;

        if (ngx_agent_set_headers(r, ctx, status, "application/json")
            != NGX_OK)
        {
            return NGX_ERROR;
        }
    }

    rc = ngx_http_send_header(r);

    if (rc == NGX_ERROR || rc > NGX_OK || r->header_only) {
        return rc;
    }

    ctx->ended = 1;

    return ngx_agent_send_out(r, ctx, 1);
}


ngx_int_t
ngx_agent_fail(ngx_http_request_t *r, ngx_agent_ctx_t *ctx,
    ngx_int_t http_status, struct ag_err *err)
{
    const struct ngx_agent_status  *st, *by_kind;

    st = ngx_agent_status_of_http(http_status);
    by_kind = ngx_agent_status_of_kind(err->kind);

    ngx_log_error(NGX_LOG_INFO, r->connection->log, 0,
                  "agent refused %V: %i %s", &ctx->request_id, http_status,
                  ag_err_kind_name(err->kind));

    ngx_http_finalize_request(r, ngx_agent_send_error(r, ctx, http_status,
                                                      st->type, by_kind->grpc,
                                                      ag_str(err->msg)));
    return NGX_DONE;
}


ngx_int_t
ngx_agent_fail_kind(ngx_http_request_t *r, ngx_agent_ctx_t *ctx,
    struct ag_err *err)
{
    return ngx_agent_fail(r, ctx, ngx_agent_status_of_kind(err->kind)->http,
                          err);
}


/* ---- header filter ----------------------------------------------------- */

static void ngx_agent_heartbeat(ngx_event_t *ev);


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


/* nginx's own page, or a proxy's, becomes the envelope. */
static ngx_int_t
ngx_agent_replace(ngx_http_request_t *r, ngx_agent_ctx_t *ctx,
    ngx_agent_loc_conf_t *lcf)
{
    ag_str_t                        message;
    ngx_uint_t                      status;
    const struct ngx_agent_status  *st;

    status = r->headers_out.status;
    st = ngx_agent_status_of_http(status);

    message = status == NGX_HTTP_REQUEST_ENTITY_TOO_LARGE
              ? AG_STR("the body is too long")
              : status < NGX_HTTP_INTERNAL_SERVER_ERROR
                ? AG_STR("the request cannot be understood")
                : status == NGX_HTTP_GATEWAY_TIME_OUT
                  ? AG_STR("the service did not answer in time")
                  : status == NGX_HTTP_INTERNAL_SERVER_ERROR
                    ? AG_STR("something went wrong here")
                    : AG_STR("the service cannot be reached; try again");

    if (ngx_agent_clear_headers(r) != NGX_OK) {
        return NGX_ERROR;
    }

    ctx->answer = NGX_AGENT_ANSWER_REPLACE;

    if (lcf->mode == NGX_AGENT_GRPC) {
        if (ngx_agent_grpc_headers(r, ctx, st->grpc, message) != NGX_OK) {
            return NGX_ERROR;
        }

        return ngx_http_next_header_filter(r);
    }

    /* A service that is down is 503 to clients, which try again then. */

    if (status == NGX_HTTP_BAD_GATEWAY) {
        status = NGX_HTTP_SERVICE_UNAVAILABLE;
        st = ngx_agent_status_of_http(status);
    }

    ngx_agent_put_envelope(ctx, st->type, message);
    r->headers_out.content_length_n = ctx->out.n;

    if (ngx_agent_set_headers(r, ctx, status, "application/json") != NGX_OK) {
        return NGX_ERROR;
    }

    return ngx_http_next_header_filter(r);
}


static ngx_int_t
ngx_agent_begin_events(ngx_http_request_t *r, ngx_agent_ctx_t *ctx,
    ngx_agent_loc_conf_t *lcf)
{
    ngx_str_t  no;

    ctx->answer = NGX_AGENT_ANSWER_EVENTS;

    ctx->heartbeat.handler = ngx_agent_heartbeat;
    ctx->heartbeat.data = ctx;
    ctx->heartbeat.log = r->connection->log;
    ngx_add_timer(&ctx->heartbeat, lcf->heartbeat);

    ngx_str_set(&no, "no");

    if (ngx_agent_clear_headers(r) != NGX_OK
        || ngx_agent_set_headers(r, ctx, NGX_HTTP_OK, "text/event-stream")
           != NGX_OK
        || ngx_agent_push_out(r, "X-Accel-Buffering", &no) != NGX_OK)
    {
        return NGX_ERROR;
    }

    return ngx_http_next_header_filter(r);
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
        return ngx_agent_replace(r, ctx, lcf);
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
        return ngx_agent_begin_events(r, ctx, lcf);
    }

    /* the status line waits for grpc-status */

    ctx->answer = NGX_AGENT_ANSWER_UNARY;

    return NGX_OK;
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
static int
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
static const struct ngx_agent_status *
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

/* The JSON of the answer, or an envelope; returns the HTTP status. */
static ngx_uint_t
ngx_agent_unary_text(ngx_http_request_t *r, ngx_agent_ctx_t *ctx,
    struct ag_err *err)
{
    ag_str_t                        message;
    const struct ngx_agent_status  *st;

    st = ngx_agent_final_status(r, ctx, &message);

    if (st != NULL) {
        ngx_agent_put_envelope(ctx, st->type, message);
        return st->http;
    }

    if (ctx->have_message
        && ngx_agent_codec_decode(ctx->match.route->output,
                                  ag_buf_str(&ctx->frames.message),
                                  &ctx->out, err)
           == 0)
    {
        return NGX_HTTP_OK;
    }

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
    ngx_int_t   sent;
    ngx_uint_t  status;

    ctx->ended = 1;
    status = ngx_agent_unary_text(r, ctx, err);

    if (ngx_agent_clear_headers(r) != NGX_OK
        || ngx_agent_set_headers(r, ctx, status, "application/json") != NGX_OK)
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


/* ---- event streams ----------------------------------------------------- */

static ngx_int_t
ngx_agent_add_event(ngx_http_request_t *r, ngx_agent_ctx_t *ctx)
{
    ag_str_t                                 data;
    ngx_int_t                                rc;
    struct ag_err                            err = AG_ERR_INIT;
    Agent__Brain__V1__StreamEventsResponse  *m;

    m = agent__brain__v1__stream_events_response__unpack(NULL,
                                   ctx->frames.message.n,
                                   (uint8_t *) ctx->frames.message.p);
    if (m == NULL) {
        ngx_log_error(NGX_LOG_ERR, r->connection->log, 0,
                      "an event does not parse");
        return NGX_ERROR;
    }

    data = m->data_json.len ? ag_str_n(m->data_json.data, m->data_json.len)
                            : AG_STR("{}");

    rc = ngx_agent_sse_add(&ctx->out, ag_str(m->event_type),
                           ag_str(m->event_id), data, &err);

    agent__brain__v1__stream_events_response__free_unpacked(m, NULL);

    return rc == 0 ? NGX_OK : NGX_ERROR;
}


static void
ngx_agent_add_error_event(ngx_agent_ctx_t *ctx,
    const struct ngx_agent_status *st, ag_str_t message)
{
    struct ag_err  err = AG_ERR_INIT;
    struct ag_buf  data;

    ag_buf_init(&data, SIZE_MAX / 4);
    ngx_agent_envelope_add(&data, st->type, message,
                           ag_str_n(ctx->request_id.data,
                                    ctx->request_id.len));
    (void) ngx_agent_sse_add(&ctx->out, AG_STR("error"), AG_STR(""),
                             ag_buf_str(&data), &err);
    ag_buf_release(&data);
}


static ngx_int_t
ngx_agent_finish_events(ngx_http_request_t *r, ngx_agent_ctx_t *ctx)
{
    ag_str_t                        message;
    const struct ngx_agent_status  *st;

    ctx->ended = 1;

    if (ctx->heartbeat.timer_set) {
        ngx_del_timer(&ctx->heartbeat);
    }

    st = ngx_agent_final_status(r, ctx, &message);

    if (st != NULL) {
        ngx_agent_add_error_event(ctx, st, message);
    }

    return ngx_agent_send_out(r, ctx, 1);
}


/* True while the client has not taken what was sent before. */
static ngx_uint_t
ngx_agent_is_busy(ngx_agent_ctx_t *ctx)
{
    return ctx->out_buf.last > ctx->out_buf.pos;
}


static void
ngx_agent_forget_sent(ngx_agent_ctx_t *ctx)
{
    if (ctx->out_buf.last && !ngx_agent_is_busy(ctx)) {
        ag_buf_clear(&ctx->out);
        ngx_memzero(&ctx->out_buf, sizeof(ngx_buf_t));
    }
}


static ngx_int_t
ngx_agent_filter_events(ngx_http_request_t *r, ngx_agent_ctx_t *ctx)
{
    int                    got;
    ngx_int_t              rc;
    struct ag_err          err = AG_ERR_INIT;
    ngx_agent_loc_conf_t  *lcf;

    lcf = ngx_http_get_module_loc_conf(r, ngx_agent_module);
    rc = NGX_OK;
    got = 1;

    for ( ;; ) {
        if (ngx_agent_is_busy(ctx)) {
            rc = ngx_http_next_body_filter(r, NULL);

            if (rc == NGX_ERROR || ngx_agent_is_busy(ctx)) {
                return rc;
            }
        }

        ngx_agent_forget_sent(ctx);

        while (got == 1 && ctx->out.n < NGX_AGENT_OUT_FULL) {
            got = ngx_agent_next_message(r, ctx, &err);

            if (got < 0 || (got == 1
                            && ngx_agent_add_event(r, ctx) != NGX_OK))
            {
                return NGX_ERROR;
            }
        }

        if (got == 0 && (ctx->input_last || ctx->input_failed)) {
            return ngx_agent_finish_events(r, ctx);
        }

        if (ctx->out.n == 0) {
            /* FLUSH of the upstream, or nothing: let headers go out */
            return ngx_http_next_body_filter(r, NULL);
        }

        ngx_add_timer(&ctx->heartbeat, lcf->heartbeat);

        rc = ngx_agent_send_out(r, ctx, 0);

        if (rc == NGX_ERROR) {
            return rc;
        }

        if (got == 0 && !ngx_agent_is_busy(ctx)) {
            ngx_agent_forget_sent(ctx);
            return rc;
        }
    }
}


/*
 * Nothing came for a while: say that the stream lives. A client that has not
 * taken the last event yet needs no ping.
 */
static void
ngx_agent_heartbeat(ngx_event_t *ev)
{
    ngx_int_t                  rc;
    struct ag_err              err = AG_ERR_INIT;
    ngx_agent_ctx_t           *ctx = ev->data;
    ngx_connection_t          *c;
    ngx_http_request_t        *r;
    ngx_agent_loc_conf_t      *lcf;
    ngx_http_core_loc_conf_t  *clcf;

    r = ctx->request;
    c = r->connection;

    if (ctx->ended) {
        return;
    }

    lcf = ngx_http_get_module_loc_conf(r, ngx_agent_module);
    clcf = ngx_http_get_module_loc_conf(r, ngx_http_core_module);

    ngx_add_timer(&ctx->heartbeat, lcf->heartbeat);

    if (ngx_agent_is_busy(ctx) || c->buffered) {
        return;
    }

    ngx_agent_forget_sent(ctx);
    (void) ngx_agent_sse_add(&ctx->out, AG_STR("ping"), AG_STR(""),
                             AG_STR("{\"type\": \"ping\"}"), &err);

    rc = ngx_agent_send_out(r, ctx, 0);

    if (rc == NGX_ERROR) {
        ngx_http_finalize_request(r, NGX_ERROR);
        ngx_http_run_posted_requests(c);
        return;
    }

    ngx_agent_forget_sent(ctx);

    if (ngx_handle_write_event(c->write, clcf->send_lowat) != NGX_OK) {
        ngx_http_finalize_request(r, NGX_ERROR);
        ngx_http_run_posted_requests(c);
        return;
    }

    if (c->write->active && !c->write->ready) {
        ngx_add_timer(c->write, clcf->send_timeout);
    }
}


/* ---- body filter ------------------------------------------------------- */

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
