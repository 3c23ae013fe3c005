/*
 * The canonical destination, the stubs of a request in every slot, and the
 * swap. Runs in the access phase; nothing here waits.
 */
#include "ngx_agent_module/ngx_agent_egress.h"

#include "lib/secret.h"
#include "ngx_agent_module/ngx_agent_module.h"
#include "ngx_agent_module/ngx_agent_swap.h"

#define NGX_AGENT_STUBS_MAX  32
#define NGX_AGENT_BASIC_MAX  (128 * 1024)


/* ---- destination ------------------------------------------------------- */

/* "host", "host:port" -> lower case host, port or 0. */
static ngx_int_t
ngx_agent_split_authority(ngx_http_request_t *r, ngx_str_t *in,
    ngx_str_t *host, in_port_t *port)
{
    u_char     *colon;
    ngx_int_t   n;

    colon = ngx_strlchr(in->data, in->data + in->len, ':');
    host->len = colon == NULL ? in->len : (size_t) (colon - in->data);
    *port = 0;

    if (colon != NULL) {
        n = ngx_atoi(colon + 1, in->len - host->len - 1);

        if (n < 1 || n > 65535 || colon[1] == '0') {
            return NGX_ERROR;
        }

        *port = (in_port_t) n;
    }

    host->data = ngx_pnalloc(r->pool, host->len + 1);
    if (host->data == NULL) {
        return NGX_ERROR;
    }

    ngx_strlow(host->data, in->data, host->len);
    host->data[host->len] = '\0';

    return ngx_agent_name_is_canonical(host->data, host->len) ? NGX_OK
                                                              : NGX_ERROR;
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

    if (r->host_start == NULL || r->host_end <= r->host_start) {
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

    if (r->connection->ssl == NULL) {
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

    if (asked == 0 || (port != 0 && port != asked)
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


/* ---- stubs ------------------------------------------------------------- */

static ngx_int_t
ngx_agent_stub_push(ngx_http_request_t *r, ngx_agent_egress_ctx_t *ctx,
    Agent__Vault__V1__SlotKind kind, ag_str_t name, ag_str_t token,
    ngx_table_elt_t *header)
{
    ngx_agent_stub_t  *stub;

    if (ctx->stubs.nelts == NGX_AGENT_STUBS_MAX) {
        return NGX_DECLINED;
    }

    stub = ngx_array_push(&ctx->stubs);
    if (stub == NULL) {
        return NGX_ERROR;
    }

    stub->kind = kind;
    stub->header = header;
    stub->name.len = name.n > 64 ? 64 : name.n;
    stub->token.len = token.n > 256 ? 256 : token.n;
    stub->name.data = ngx_pnalloc(r->pool, stub->name.len + 1);
    stub->token.data = ngx_pnalloc(r->pool, stub->token.len + 1);

    if (stub->name.data == NULL || stub->token.data == NULL) {
        return NGX_ERROR;
    }

    *ngx_cpymem(stub->name.data, name.p, stub->name.len) = '\0';
    *ngx_cpymem(stub->token.data, token.p, stub->token.len) = '\0';

    return NGX_OK;
}


/*
 * All stubs of a text. One that shows only once escapes are undone has the
 * kind UNSPECIFIED: no credential declares it, so it is refused.
 */
static ngx_int_t
ngx_agent_stubs_in(ngx_http_request_t *r, ngx_agent_egress_ctx_t *ctx,
    Agent__Vault__V1__SlotKind kind, ag_str_t name, ag_str_t text,
    ngx_table_elt_t *header)
{
    char       core[36];
    u_char    *copy;
    size_t     from;
    ag_str_t   token;
    ngx_int_t  rc;

    from = 0;
    copy = NULL;

    while (ngx_agent_stub_next(text, from, &token)) {
        rc = ngx_agent_stub_push(r, ctx, kind, name, token, header);
        if (rc != NGX_OK) {
            return rc;
        }

        /* What is hidden may stand beside one that is not. */

        if (copy == NULL) {
            copy = ngx_pnalloc(r->pool, text.n);
            if (copy == NULL) {
                return NGX_ERROR;
            }

            ngx_memcpy(copy, text.p, text.n);
        }

        ngx_memset(copy + (token.p - text.p), ' ', token.n);
        from = token.p - text.p + token.n;
    }

    if (copy != NULL) {
        text.p = (char *) copy;
    }

    if (ngx_agent_stub_hidden(text, core)) {
        return ngx_agent_stub_push(r, ctx,
                   AGENT__VAULT__V1__SLOT_KIND__SLOT_UNSPECIFIED, name,
                   ag_str_n(core, sizeof(core)), NULL);
    }

    return NGX_OK;
}


static ngx_int_t
ngx_agent_stubs_in_header(ngx_http_request_t *r, ngx_agent_egress_ctx_t *ctx,
    ngx_table_elt_t *h)
{
    ag_str_t       credentials, user, rest;
    ngx_int_t      rc;
    struct ag_err  err = AG_ERR_INIT;
    struct ag_buf  plain = AG_BUF_INIT(NGX_AGENT_BASIC_MAX);

    if (ngx_agent_is_basic(ngx_agent_view(h->value), &credentials)
        && ngx_agent_base64_decode(credentials, &plain, &err) == 0
        && plain.n > 0)
    {
        rest = ag_buf_str(&plain);
        ag_str_cut(&rest, ':', &user);
        rc = ngx_agent_stubs_in(r, ctx,
                                AGENT__VAULT__V1__SLOT_KIND__SLOT_BASIC,
                                AG_STR("user"), user, h);
        if (rc == NGX_OK) {
            rc = ngx_agent_stubs_in(r, ctx,
                                    AGENT__VAULT__V1__SLOT_KIND__SLOT_BASIC,
                                    AG_STR("password"), rest, h);
        }

    } else {
        rc = ngx_agent_stubs_in(r, ctx,
                                AGENT__VAULT__V1__SLOT_KIND__SLOT_HEADER,
                                ag_str_n(h->lowcase_key, h->key.len),
                                ngx_agent_view(h->value), h);
    }

    ag_buf_wipe(&plain);

    return rc;
}


static ngx_int_t
ngx_agent_stubs_in_body(ngx_http_request_t *r, ngx_agent_egress_ctx_t *ctx)
{
    off_t                        at;
    u_char                       chunk[4096];
    ssize_t                      n;
    ngx_buf_t                   *b;
    ngx_chain_t                 *cl;
    struct ngx_agent_stub_scan   scan;

    ngx_memzero(&scan, sizeof(scan));

    if (r->request_body == NULL) {
        return NGX_OK;
    }

    for (cl = r->request_body->bufs; cl && !scan.is_found; cl = cl->next) {
        b = cl->buf;

        if (ngx_buf_in_memory(b)) {
            ngx_agent_stub_scan_feed(&scan,
                                     ag_str_n(b->pos, b->last - b->pos));
            continue;
        }

        for (at = b->file_pos; b->in_file && at < b->file_last; at += n) {
            n = ngx_read_file(b->file, chunk,
                              ngx_min((off_t) sizeof(chunk),
                                      b->file_last - at), at);
            if (n <= 0) {
                return NGX_ERROR;
            }

            ngx_agent_stub_scan_feed(&scan, ag_str_n(chunk, n));
        }
    }

    if (!scan.is_found) {
        return NGX_OK;
    }

    return ngx_agent_stub_push(r, ctx,
                               AGENT__VAULT__V1__SLOT_KIND__SLOT_BODY,
                               AG_STR(""), ag_str_n(scan.core, 36), NULL);
}


ngx_int_t
ngx_agent_egress_find_stubs(ngx_http_request_t *r,
    ngx_agent_egress_ctx_t *ctx)
{
    ag_str_t          uri;
    ngx_int_t         rc;
    ngx_uint_t        i;
    ngx_list_part_t  *part;
    ngx_table_elt_t  *h;

    if (ngx_array_init(&ctx->stubs, r->pool, 4, sizeof(ngx_agent_stub_t))
        != NGX_OK)
    {
        return NGX_ERROR;
    }

    for (part = &r->headers_in.headers.part; part; part = part->next) {
        h = part->elts;

        for (i = 0; i < part->nelts; i++) {
            rc = ngx_agent_stubs_in_header(r, ctx, &h[i]);
            if (rc != NGX_OK) {
                return rc;
            }
        }
    }

    rc = ngx_agent_stubs_in(r, ctx, AGENT__VAULT__V1__SLOT_KIND__SLOT_PATH,
                            AG_STR(""), ngx_agent_view(ctx->path), NULL);
    if (rc != NGX_OK) {
        return rc;
    }

    uri = ngx_agent_view(r->unparsed_uri);
    uri = ag_str_n(uri.p + ctx->path.len, uri.n - ctx->path.len);

    rc = ngx_agent_stubs_in(r, ctx, AGENT__VAULT__V1__SLOT_KIND__SLOT_QUERY,
                            AG_STR(""), uri, NULL);
    if (rc != NGX_OK) {
        return rc;
    }

    return ngx_agent_stubs_in_body(r, ctx);
}


/* ---- swap -------------------------------------------------------------- */

typedef struct {
    u_char  *p;
    size_t   n;
} ngx_agent_wipe_t;


static void
ngx_agent_wipe(void *data)
{
    ngx_agent_wipe_t  *w = data;

    ngx_explicit_memzero(w->p, w->n);
}


/* The header's new value, in memory that is wiped with the request. */
static ngx_int_t
ngx_agent_set_value(ngx_http_request_t *r, ngx_table_elt_t *h, ag_str_t value)
{
    u_char              *p;
    ngx_agent_wipe_t    *w;
    ngx_pool_cleanup_t  *cln;

    cln = ngx_pool_cleanup_add(r->pool, sizeof(ngx_agent_wipe_t));
    p = ngx_pnalloc(r->pool, value.n + 1);
    if (cln == NULL || p == NULL) {
        return NGX_ERROR;
    }

    *ngx_cpymem(p, value.p, value.n) = '\0';
    w = cln->data;
    w->p = p;
    w->n = value.n;
    cln->handler = ngx_agent_wipe;
    h->value.data = p;
    h->value.len = value.n;

    return NGX_OK;
}


/* `text` with the token replaced; it was there when it was found. */
static int
ngx_agent_replace(ag_str_t text, ngx_str_t *token, ag_str_t value,
    struct ag_buf *out, struct ag_err *err)
{
    const char  *at;

    at = memmem(text.p, text.n, token->data, token->len);

    if (at == NULL) {
        return ag_err_set(err, AG_ERR_INTERNAL, "the stub is gone");
    }

    return ngx_agent_swap_token(text, ag_str_n(at, token->len), value, out,
                                err);
}


static int
ngx_agent_swap_basic(ag_str_t credentials, ngx_agent_stub_t *stub,
    ag_str_t value, struct ag_buf *out, struct ag_err *err)
{
    int            rc;
    struct ag_buf  plain = AG_BUF_INIT(NGX_AGENT_BASIC_MAX);
    struct ag_buf  swapped = AG_BUF_INIT(NGX_AGENT_BASIC_MAX);

    rc = ngx_agent_base64_decode(credentials, &plain, err);

    if (rc == 0) {
        rc = ngx_agent_replace(ag_buf_str(&plain), &stub->token, value,
                               &swapped, err);
    }

    if (rc == 0) {
        rc = ag_buf_append(out, AG_STR("Basic "), err);
    }

    if (rc == 0) {
        rc = ngx_agent_base64_encode(ag_buf_str(&swapped), out, err);
    }

    ag_buf_wipe(&plain);
    ag_buf_wipe(&swapped);

    return rc;
}


static ngx_int_t
ngx_agent_swap_one(ngx_http_request_t *r, ngx_agent_stub_t *stub,
    ag_str_t value)
{
    int            rc;
    ag_str_t       text, credentials;
    ngx_int_t      result;
    struct ag_err  err = AG_ERR_INIT;
    struct ag_buf  out = AG_BUF_INIT(2 * NGX_AGENT_BASIC_MAX);

    text = ngx_agent_view(stub->header->value);

    if (stub->kind == AGENT__VAULT__V1__SLOT_KIND__SLOT_BASIC
        && ngx_agent_is_basic(text, &credentials))
    {
        rc = ngx_agent_swap_basic(credentials, stub, value, &out, &err);

    } else {
        rc = ngx_agent_replace(text, &stub->token, value, &out, &err);
    }

    result = rc == 0 ? ngx_agent_set_value(r, stub->header, ag_buf_str(&out))
                     : NGX_ERROR;
    ag_buf_wipe(&out);

    return result;
}


ngx_int_t
ngx_agent_egress_swap(ngx_http_request_t *r, ngx_agent_egress_ctx_t *ctx)
{
    size_t                    i;
    ngx_agent_stub_t         *stubs;
    Agent__Vault__V1__Swap   *swap;

    stubs = ctx->stubs.elts;

    /* Every stub has its value, or nothing is sent. */

    if (ctx->verdict->n_swaps != ctx->stubs.nelts) {
        return NGX_ERROR;
    }

    for (i = 0; i < ctx->verdict->n_swaps; i++) {
        swap = ctx->verdict->swaps[i];

        if (swap->index != (int32_t) i || stubs[i].header == NULL
            || swap->value.len == 0
            || ngx_agent_swap_one(r, &stubs[i],
                                  ag_str_n(swap->value.data, swap->value.len))
               != NGX_OK)
        {
            return NGX_ERROR;
        }
    }

    ctx->credentialed = ctx->stubs.nelts > 0;

    return NGX_OK;
}
