/*
 * The canonical destination of a request, and who asks. Runs in the access
 * phase; nothing here waits.
 */
#include "ngx_agent_module/ngx_agent_egress.h"

#include "lib/without.h"

#include "ngx_agent_module/ngx_agent_module.h"
#include "ngx_agent_module/ngx_agent_name.h"


/* ---- destination ------------------------------------------------------- */

/* An empty host, when it is none. */
static ngx_int_t
ngx_agent_split_authority(ngx_http_request_t *r, ngx_str_t *in,
    ngx_str_t *host, in_port_t *port)
{
    char       name[NGX_AGENT_NAME_MAX + 1];
    unsigned   n;

    ngx_str_null(host);

    if (!ngx_agent_authority_read(ngx_agent_view(*in), name, &n)) {
        return NGX_ERROR;
    }

    host->len = ngx_strlen(name);
    host->data = ngx_pnalloc(r->pool, host->len + 1);

    if (host->data == NULL) {
        host->len = 0;
        return NGX_ERROR;
    }

    ngx_memcpy(host->data, name, host->len + 1);
    *port = (in_port_t) n;

    return NGX_OK;
}


/* All Host fields must agree. */
static ngx_int_t
ngx_agent_one_host(ngx_http_request_t *r, ngx_str_t *value)
{
    ngx_uint_t        i;
    ngx_list_part_t  *part;
    ngx_table_elt_t  *h;

    value->len = 0;

    for (part = &r->headers_in.headers.part; part; part = part->next) {
        h = part->elts;

        for (i = 0; i < part->nelts; i++) {
            if (h[i].key.len != 4
                || ngx_strncasecmp(h[i].key.data, (u_char *) "host", 4) != 0)
            {
                continue;
            }

            if (value->len != 0
                && (value->len != h[i].value.len
                    || ngx_strncasecmp(value->data, h[i].value.data,
                                       value->len) != 0))
            {
                return NGX_ERROR;
            }

            *value = h[i].value;
        }
    }

    return value->len != 0 ? NGX_OK : NGX_ERROR;
}


/* The authority of an absolute-form request line is the same, to the letter:
 * a host that begins like another is not that host. */
static ngx_int_t
ngx_agent_line_agrees(ngx_http_request_t *r, ngx_str_t *host, in_port_t asked)
{
    ngx_str_t   line, name;
    in_port_t   port;

    if (r->host_start == NULL || r->host_end <= r->host_start
        || ag_without("line_agrees"))
    {
        return NGX_OK;
    }

    line.data = r->host_start;
    line.len = (r->port_end > r->host_end ? r->port_end : r->host_end)
               - r->host_start;

    return ngx_agent_split_authority(r, &line, &name, &port) == NGX_OK
           && name.len == host->len
           && ngx_memcmp(name.data, host->data, name.len) == 0
           && (port == 0 || port == asked) ? NGX_OK : NGX_ERROR;
}


static ngx_int_t
ngx_agent_sni_agrees(ngx_http_request_t *r, ngx_str_t *host)
{
    const char  *sni;

    if (r->connection->ssl == NULL || ag_without("sni_agrees")) {
        return NGX_OK;
    }

    sni = SSL_get_servername(r->connection->ssl->connection,
                             TLSEXT_NAMETYPE_host_name);

    return sni != NULL && ngx_strlen(sni) == host->len
           && ngx_strncasecmp((u_char *) sni, host->data, host->len) == 0
           ? NGX_OK : NGX_ERROR;
}


static const char *
ngx_agent_egress_who(ngx_http_request_t *r, ngx_agent_egress_ctx_t *ctx,
    const char **message)
{
    ngx_table_elt_t  *h;

    if (ctx->mode == NGX_AGENT_EGRESS_BRAIN) {
        h = ngx_agent_header(r, "x-brainbox-session");

        if (h == NULL || h->value.len == 0 || h->value.len > 64) {
            *message = "x-brainbox-session is missing";
            return "workload_unknown";
        }

        ctx->session = h->value;
        return NULL;
    }

    if (r->connection->proxy_protocol == NULL
        || r->connection->proxy_protocol->src_addr.len == 0)
    {
        *message = "the connection names no workload";
        return "workload_unknown";
    }

    ctx->workload = r->connection->proxy_protocol->src_addr;

    return NULL;
}


const char *
ngx_agent_egress_destination(ngx_http_request_t *r,
    ngx_agent_egress_ctx_t *ctx, const char **message)
{
    u_char     *end;
    ngx_str_t   authority;
    in_port_t   port, asked;

    *message = "host names must agree and be DNS names in canonical form, "
               "with a port of 1 to 65535 or none";
    ctx->https = r->connection->ssl != NULL;
    asked = ctx->https ? 443 : 80;

    if (ngx_agent_one_host(r, &authority) != NGX_OK
        || ngx_agent_split_authority(r, &authority, &ctx->host, &port)
           != NGX_OK
        || ngx_agent_sni_agrees(r, &ctx->host) != NGX_OK)
    {
        return "destination_mismatch";
    }

    /* The port that was dialled is the truth; one that is written agrees. */

    if (ctx->mode == NGX_AGENT_EGRESS_SANDBOX
        && r->connection->proxy_protocol != NULL)
    {
        asked = r->connection->proxy_protocol->dst_port;

    } else if (port != 0) {
        asked = port;
    }

    if (asked == 0
        || (port != 0 && port != asked && !ag_without("port_agrees"))
        || ngx_agent_line_agrees(r, &ctx->host, asked) != NGX_OK)
    {
        return "destination_mismatch";
    }

    ctx->port = asked;

    if (ngx_strlchr(r->unparsed_uri.data,
                    r->unparsed_uri.data + r->unparsed_uri.len, '#') != NULL
        || r->unparsed_uri.len == 0 || r->unparsed_uri.data[0] != '/')
    {
        *message = "the request's path does not begin with \"/\", or holds a "
                   "fragment";
        return "request_malformed";
    }

    ctx->path = r->unparsed_uri;
    end = ngx_strlchr(ctx->path.data, ctx->path.data + ctx->path.len, '?');

    if (end != NULL) {
        ctx->path.len = end - ctx->path.data;
    }

    return ngx_agent_egress_who(r, ctx, message);
}
