/*
 * Errors in the contract's form: those that the module finds, and those that
 * nginx answers by itself (413, 502, …). REST gets the envelope, gRPC clients
 * a trailers-only answer. Called by phase handlers and the header filter.
 */
#include "ngx_agent_module/ngx_agent_answer.h"


/* ---- headers ----------------------------------------------------------- */

ngx_int_t
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
ngx_int_t
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


ngx_int_t
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

void
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


/* ---- errors of nginx ----------------------------------------------------- */

/* nginx's own page, or a proxy's, becomes the envelope. */
ngx_int_t
ngx_agent_replace(ngx_http_request_t *r, ngx_agent_ctx_t *ctx,
    ngx_agent_loc_conf_t *lcf)
{
    ag_str_t                        message;
    ngx_str_t                       second;
    ngx_uint_t                      status;
    const struct ngx_agent_status  *st;

    status = r->headers_out.status;
    st = ngx_agent_status_of_http(status);

    message = status == NGX_HTTP_REQUEST_ENTITY_TOO_LARGE
              ? AG_STR("the body is too long")
              : status == NGX_HTTP_TOO_MANY_REQUESTS
              ? AG_STR("too many requests with this key; try again later")
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

    /* Limits of nginx are by the second. */

    ngx_str_set(&second, "1");

    if (status == NGX_HTTP_TOO_MANY_REQUESTS
        && ngx_agent_push_out(r, "Retry-After", &second) != NGX_OK)
    {
        return NGX_ERROR;
    }

    if (lcf->mode == NGX_AGENT_GRPC) {
        return ngx_agent_grpc_headers(r, ctx, st->grpc, message);
    }

    /* A service that is down is 503 to clients, which try again then. */

    if (status == NGX_HTTP_BAD_GATEWAY) {
        status = NGX_HTTP_SERVICE_UNAVAILABLE;
        st = ngx_agent_status_of_http(status);
    }

    ngx_agent_put_envelope(ctx, st->type, message);
    r->headers_out.content_length_n = ctx->out.n;

    return ngx_agent_set_headers(r, ctx, status, "application/json");
}


/* ---- no answer --------------------------------------------------------- */

void
ngx_agent_abort(ngx_http_request_t *r)
{
    ngx_connection_t  *c;

    c = r->connection;

    /* What is under way upstream, for it or a subrequest, lets go of a
     * reference when it is cleaned up. Were that the last one, the request
     * would be freed before nginx is through with it. */

    r->main->count++;

    ngx_http_finalize_request(r, NGX_ERROR);
    ngx_http_run_posted_requests(c);
}
