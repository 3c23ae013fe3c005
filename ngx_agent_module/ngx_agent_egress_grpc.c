/*
 * gRPC to hosts. Such a request is decided by its headers before its body is
 * there, since a stream has no end that could be waited for; it goes on in the
 * location that agent_egress_grpc names, where grpc_pass speaks HTTP/2 with the
 * host. Messages that go out are searched for stubs, values and credentials as
 * they pass.
 */
#include "ngx_agent_module/ngx_agent_egress.h"

#include "lib/without.h"
#include "ngx_agent_module/ngx_agent_frame.h"
#include "ngx_agent_module/ngx_agent_swap.h"


static ngx_http_request_body_filter_pt  ngx_http_next_request_body_filter;


/* ---- which requests ------------------------------------------------------ */

ngx_uint_t
ngx_agent_egress_is_grpc_type(ngx_str_t *type)
{
    size_t  n;

    n = sizeof("application/grpc") - 1;

    return type->len >= n
           && ngx_strncasecmp(type->data, (u_char *) "application/grpc", n)
              == 0
           && (type->len == n || type->data[n] == '+' || type->data[n] == ';');
}


ngx_uint_t
ngx_agent_egress_is_grpc(ngx_http_request_t *r)
{
    return r->http_version == NGX_HTTP_VERSION_20
           && r->method == NGX_HTTP_POST
           && r->headers_in.content_type != NULL
           && ngx_agent_egress_is_grpc_type(
                  &r->headers_in.content_type->value);
}


static ngx_table_elt_t *
ngx_agent_grpc_header(ngx_list_t *list, const char *name)
{
    ngx_uint_t        i;
    ngx_list_part_t  *part;
    ngx_table_elt_t  *h;

    for (part = &list->part; part; part = part->next) {
        h = part->elts;

        for (i = 0; i < part->nelts; i++) {
            if (h[i].key.len == ngx_strlen(name)
                && ngx_strncasecmp(h[i].key.data, (u_char *) name,
                                   h[i].key.len) == 0)
            {
                return &h[i];
            }
        }
    }

    return NULL;
}


/* Does a grpc-encoding say that messages are packed? */
ngx_uint_t
ngx_agent_egress_grpc_is_packed(ngx_list_t *headers)
{
    ngx_table_elt_t  *h;

    h = ngx_agent_grpc_header(headers, "grpc-encoding");

    return h != NULL
           && (h->value.len != sizeof("identity") - 1
               || ngx_strncasecmp(h->value.data, (u_char *) "identity",
                                  h->value.len) != 0);
}


ngx_int_t
ngx_agent_egress_grpc_enter(ngx_http_request_t *r,
    ngx_agent_egress_ctx_t *ctx, ngx_str_t *name)
{
    ngx_http_core_srv_conf_t   *cscf;
    ngx_http_core_loc_conf_t  **clcfp;

    ctx->grpc_scan = ngx_pcalloc(r->pool, sizeof(struct ngx_agent_stub_scan));
    if (ctx->grpc_scan == NULL) {
        return NGX_ERROR;
    }

    cscf = ngx_http_get_module_srv_conf(r, ngx_http_core_module);

    for (clcfp = cscf->named_locations; clcfp && *clcfp; clcfp++) {
        if ((*clcfp)->name.len == name->len
            && ngx_memcmp((*clcfp)->name.data, name->data, name->len) == 0)
        {
            r->loc_conf = (*clcfp)->loc_conf;
            ngx_http_update_location_config(r);
            return NGX_OK;
        }
    }

    ngx_log_error(NGX_LOG_ERR, r->connection->log, 0,
                  "agent_egress_grpc names no location: \"%V\"", name);

    return NGX_ERROR;
}


/* ---- refusals ------------------------------------------------------------ */

static ngx_int_t
ngx_agent_grpc_add(ngx_http_request_t *r, const char *name, u_char *value,
    size_t n)
{
    ngx_table_elt_t  *h;

    h = ngx_list_push(&r->headers_out.headers);
    if (h == NULL) {
        return NGX_ERROR;
    }

    h->hash = 1;
    h->key.data = (u_char *) name;
    h->key.len = ngx_strlen(name);
    h->value.data = value;
    h->value.len = n;

    return NGX_OK;
}


/* What gRPC clients read: headers alone, with a status of gRPC's. */
ngx_int_t
ngx_agent_egress_grpc_refuse(ngx_http_request_t *r, ngx_uint_t status,
    const char *reason, const char *message)
{
    u_char         *code, *p;
    ngx_int_t       rc;
    struct ag_buf   text = AG_BUF_INIT(4096), b = AG_BUF_INIT(4096);

    ag_buf_addf(&text, "%s: %s", reason, message);
    ngx_agent_grpc_message_encode(&b, ag_buf_str(&text));
    code = ngx_pnalloc(r->pool, NGX_INT_T_LEN);
    p = ngx_pnalloc(r->pool, b.n + 1);
    rc = NGX_ERROR;

    if (code != NULL && p != NULL) {
        ngx_memcpy(p, b.p, b.n);
        rc = ngx_agent_grpc_add(r, "grpc-status", code,
                 ngx_sprintf(code, "%d",
                             ngx_agent_status_of_http((int) status)->grpc)
                 - code);
    }

    if (rc == NGX_OK) {
        rc = ngx_agent_grpc_add(r, "grpc-message", p, b.n);
    }

    ag_buf_release(&text);
    ag_buf_release(&b);

    if (rc != NGX_OK) {
        return rc;
    }

    r->headers_out.status = NGX_HTTP_OK;
    ngx_str_set(&r->headers_out.content_type, "application/grpc");
    r->headers_out.content_type_len = r->headers_out.content_type.len;
    r->header_only = 1;

    return ngx_http_send_header(r);
}


/* ---- messages that go out ------------------------------------------------ */

/*
 * Beside nginx's own reading of the body, for gRPC alone. A message with a stub
 * goes no further than the piece before the stub's end: what is out by then is
 * no stub.
 */
static ngx_int_t
ngx_agent_grpc_request_filter(ngx_http_request_t *r, ngx_chain_t *in)
{
    ag_str_t                 piece;
    const char              *reason;
    ngx_chain_t             *cl;
    ngx_agent_egress_ctx_t  *ctx;

    ctx = ngx_http_get_module_ctx(r, ngx_agent_egress_module);

    if (r != r->main || ctx == NULL || !ctx->is_grpc
        || ctx->grpc_scan == NULL || ag_without("scan_messages"))
    {
        return ngx_http_next_request_body_filter(r, in);
    }

    reason = NULL;

    for (cl = in; cl != NULL && reason == NULL; cl = cl->next) {
        if (!ngx_buf_in_memory(cl->buf)) {
            continue;
        }

        piece = ag_str_n(cl->buf->pos, cl->buf->last - cl->buf->pos);
        ngx_agent_stub_scan_feed(ctx->grpc_scan, piece);
        reason = ctx->grpc_scan->is_found
                 ? "stub_wrong_slot"
                 : ngx_agent_egress_outbound_piece(r, ctx, piece);
    }

    if (reason == NULL && !ctx->grpc_refused) {
        return ngx_http_next_request_body_filter(r, in);
    }

    if (!ctx->grpc_refused) {
        ctx->grpc_refused = 1;
        ngx_log_error(NGX_LOG_INFO, r->connection->log, 0,
                      "egress refused: %s, in a gRPC message", reason);
        ngx_agent_egress_report_refusal(r, reason);
    }

    return NGX_HTTP_FORBIDDEN;
}


ngx_int_t
ngx_agent_egress_grpc_init(ngx_conf_t *cf)
{
    ngx_http_next_request_body_filter = ngx_http_top_request_body_filter;
    ngx_http_top_request_body_filter = ngx_agent_grpc_request_filter;

    return NGX_OK;
}
