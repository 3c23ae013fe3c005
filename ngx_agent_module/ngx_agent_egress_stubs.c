/*
 * The stubs of a request, in every slot and wherever else one could hide. Runs
 * in the access phase; nothing here waits.
 */
#include "ngx_agent_module/ngx_agent_egress.h"

#include "lib/secret.h"
#include "lib/without.h"
#include "ngx_agent_module/ngx_agent_swap.h"

#define NGX_AGENT_STUBS_MAX  32


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
    stub->is_binary = 0;
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

    if (!ag_without("stub_hidden") && ngx_agent_stub_hidden(text, core)) {
        return ngx_agent_stub_push(r, ctx,
                   AGENT__VAULT__V1__SLOT_KIND__SLOT_UNSPECIFIED, name,
                   ag_str_n(core, sizeof(core)), NULL);
    }

    return NGX_OK;
}


/*
 * gRPC's binary metadata is base64, several values with a comma between. A stub
 * in the only value is one of that header; among several it has no place.
 */
static ngx_int_t
ngx_agent_stubs_in_binary(ngx_http_request_t *r, ngx_agent_egress_ctx_t *ctx,
    ngx_table_elt_t *h)
{
    ag_str_t                    rest, one;
    ngx_int_t                   rc;
    ngx_uint_t                  i, is_only;
    struct ag_err               err = AG_ERR_INIT;
    struct ag_buf               plain = AG_BUF_INIT(NGX_AGENT_BASIC_MAX);
    Agent__Vault__V1__SlotKind  kind;

    rc = NGX_OK;
    rest = ngx_agent_view(h->value);
    is_only = ag_str_chr(rest, ',') < 0;
    kind = is_only ? AGENT__VAULT__V1__SLOT_KIND__SLOT_HEADER
                   : AGENT__VAULT__V1__SLOT_KIND__SLOT_UNSPECIFIED;
    i = ctx->stubs.nelts;

    while (rc == NGX_OK && ag_str_cut(&rest, ',', &one)) {
        ag_buf_clear(&plain);

        if (ngx_agent_base64_decode(ag_str_trim(one), &plain, &err) == 0) {
            rc = ngx_agent_stubs_in(r, ctx, kind,
                                    ag_str_n(h->lowcase_key, h->key.len),
                                    ag_buf_str(&plain), is_only ? h : NULL);
        }
    }

    for ( /* void */ ; i < ctx->stubs.nelts; i++) {
        ((ngx_agent_stub_t *) ctx->stubs.elts)[i].is_binary = 1;
    }

    ag_buf_wipe(&plain);

    return rc;
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

    if (rc == NGX_OK && h->key.len > 4
        && ngx_strncasecmp(h->key.data + h->key.len - 4, (u_char *) "-bin", 4)
           == 0)
    {
        rc = ngx_agent_stubs_in_binary(r, ctx, h);
    }

    return rc;
}


/* ---- query and body ------------------------------------------------------ */

/* Each parameter by its name; a stub in a name, or where no parameter is, has
 * none. */
static ngx_int_t
ngx_agent_stubs_in_query(ngx_http_request_t *r, ngx_agent_egress_ctx_t *ctx)
{
    ag_str_t   rest, name, value;
    ngx_int_t  rc;

    rest = ngx_agent_view(r->unparsed_uri);
    rest = ag_str_n(rest.p + ctx->path.len, rest.n - ctx->path.len);

    while (ngx_agent_param_next(&rest, &name, &value)) {
        rc = ngx_agent_stubs_in(r, ctx,
                                AGENT__VAULT__V1__SLOT_KIND__SLOT_QUERY,
                                AG_STR(""), name, NULL);
        if (rc == NGX_OK) {
            rc = ngx_agent_stubs_in(r, ctx,
                                    AGENT__VAULT__V1__SLOT_KIND__SLOT_QUERY,
                                    name, value, NULL);
        }

        if (rc != NGX_OK) {
            return rc;
        }
    }

    return NGX_OK;
}


static ngx_uint_t
ngx_agent_type_is(ag_str_t type, const char *name)
{
    size_t  n;

    n = ngx_strlen(name);

    return type.n == n
           && ngx_strncasecmp((u_char *) type.p, (u_char *) name, n) == 0;
}


/* How a value is written into a body of this type; "" where nobody knows. */
static ag_str_t
ngx_agent_body_kind(ngx_http_request_t *r)
{
    ag_str_t  rest, type;

    if (r->headers_in.content_type == NULL) {
        return AG_STR("");
    }

    rest = ngx_agent_view(r->headers_in.content_type->value);
    (void) ag_str_cut(&rest, ';', &type);
    type = ag_str_trim(type);

    if (ngx_agent_type_is(type, "application/json")
        || (type.n > 5 && ngx_strncasecmp((u_char *) type.p + type.n - 5,
                                          (u_char *) "+json", 5) == 0))
    {
        return AG_STR("json");
    }

    if (ngx_agent_type_is(type, "application/x-www-form-urlencoded")) {
        return AG_STR("form");
    }

    return ngx_agent_type_is(type, "text/plain") ? AG_STR("text")
                                                 : AG_STR("");
}


/* The whole body in one piece, where it is small enough and in memory. */
static ngx_int_t
ngx_agent_body_flat(ngx_http_request_t *r, ngx_agent_egress_ctx_t *ctx,
    size_t most)
{
    size_t        n;
    u_char       *p;
    ngx_chain_t  *cl;

    n = 0;

    for (cl = r->request_body->bufs; cl != NULL; cl = cl->next) {
        if (!ngx_buf_in_memory(cl->buf) && ngx_buf_size(cl->buf) > 0) {
            return NGX_DECLINED;
        }

        n += ngx_buf_in_memory(cl->buf) ? ngx_buf_size(cl->buf) : 0;
    }

    if (n > most) {
        return NGX_DECLINED;
    }

    cl = r->request_body->bufs;

    if (cl == NULL || (cl->next == NULL && ngx_buf_in_memory(cl->buf))) {
        ctx->body.data = cl != NULL ? cl->buf->pos : NULL;
        ctx->body.len = n;
        return NGX_OK;
    }

    p = ngx_pnalloc(r->pool, n);
    if (p == NULL) {
        return NGX_ERROR;
    }

    ctx->body.data = p;
    ctx->body.len = n;

    for (/* void */; cl != NULL; cl = cl->next) {
        if (ngx_buf_in_memory(cl->buf)) {
            p = ngx_cpymem(p, cl->buf->pos, ngx_buf_size(cl->buf));
        }
    }

    return NGX_OK;
}


/* One that is too long to swap in: whether there is any. */
static ngx_int_t
ngx_agent_scan_body(ngx_http_request_t *r, ngx_agent_egress_ctx_t *ctx)
{
    off_t                        at;
    u_char                       chunk[4096];
    ssize_t                      n;
    ngx_buf_t                   *b;
    ngx_chain_t                 *cl;
    struct ngx_agent_stub_scan   scan;

    ngx_memzero(&scan, sizeof(scan));

    if (ag_without("scan_body")) {
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
                               ngx_agent_body_kind(r),
                               ag_str_n(scan.core, 36), NULL);
}


static ngx_int_t
ngx_agent_stubs_in_body(ngx_http_request_t *r, ngx_agent_egress_ctx_t *ctx)
{
    ngx_int_t                 rc;
    ngx_agent_egress_conf_t  *ecf;

    if (r->request_body == NULL) {
        return NGX_OK;
    }

    ecf = ngx_http_get_module_loc_conf(r, ngx_agent_egress_module);
    rc = ngx_agent_body_flat(r, ctx, ecf->swap_body);

    if (rc == NGX_DECLINED) {
        ctx->body_is_long = 1;
        return ngx_agent_scan_body(r, ctx);
    }

    if (rc != NGX_OK || ctx->body.len == 0) {
        return rc;
    }

    return ngx_agent_stubs_in(r, ctx, AGENT__VAULT__V1__SLOT_KIND__SLOT_BODY,
                              ngx_agent_body_kind(r),
                              ngx_agent_view(ctx->body), NULL);
}


ngx_int_t
ngx_agent_egress_find_stubs(ngx_http_request_t *r,
    ngx_agent_egress_ctx_t *ctx)
{
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

    rc = ngx_agent_stubs_in_query(r, ctx);
    if (rc != NGX_OK) {
        return rc;
    }

    return ngx_agent_stubs_in_body(r, ctx);
}
