/*
 * gRPC stream -> server-sent events.
 *
 * Backpressure: ctx->out holds what is being sent; while the client has not
 * taken it, input stays unconsumed, and the upstream code stops reading.
 * Nothing is taken from r->pool for an event: streams live for hours.
 */
#include "ngx_agent_module/ngx_agent_answer.h"

#include "brain.pb-c.h"

#define NGX_AGENT_OUT_FULL  32768  /* events are gathered up to here */


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


ngx_int_t
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
            rc = ngx_agent_pass_body(r, NULL);

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
            /* FLUSH of the upstream, or nothing */
            return ngx_agent_pass_body(r, NULL);
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
        ngx_agent_abort(r);
        return;
    }

    ngx_agent_forget_sent(ctx);

    if (ngx_handle_write_event(c->write, clcf->send_lowat) != NGX_OK) {
        ngx_agent_abort(r);
        return;
    }

    if (c->write->active && !c->write->ready) {
        ngx_add_timer(c->write, clcf->send_timeout);
    }
}


ngx_int_t
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

    return NGX_OK;
}
