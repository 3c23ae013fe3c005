/*
 * Values take the places of stubs, each written as its place wants it. What
 * holds a value is wiped with the request. Runs in the access phase; nothing
 * here waits.
 */
#include "ngx_agent_module/ngx_agent_egress.h"

#include "lib/secret.h"
#include "ngx_agent_module/ngx_agent_swap.h"

#define NGX_AGENT_ESCAPED_MAX  (6 * 64 * 1024)   /* of the longest value */


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


/* A text that holds a value, in memory that is wiped with the request. */
static ngx_int_t
ngx_agent_set_text(ngx_http_request_t *r, ngx_str_t *text, ag_str_t value)
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
    text->data = p;
    text->len = value.n;

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
ngx_agent_swap_base64(ag_str_t prefix, ag_str_t encoded,
    ngx_agent_stub_t *stub, ag_str_t value, struct ag_buf *out,
    struct ag_err *err)
{
    int            rc;
    struct ag_buf  plain = AG_BUF_INIT(NGX_AGENT_BASIC_MAX);
    struct ag_buf  swapped = AG_BUF_INIT(NGX_AGENT_BASIC_MAX);

    rc = ngx_agent_base64_decode(encoded, &plain, err);

    if (rc == 0) {
        rc = ngx_agent_replace(ag_buf_str(&plain), &stub->token, value,
                               &swapped, err);
    }

    if (rc == 0) {
        rc = ag_buf_append(out, prefix, err);
    }

    if (rc == 0) {
        rc = ngx_agent_base64_encode(ag_buf_str(&swapped), out, err);
    }

    ag_buf_wipe(&plain);
    ag_buf_wipe(&swapped);

    return rc;
}


static ngx_int_t
ngx_agent_swap_header(ngx_http_request_t *r, ngx_agent_stub_t *stub,
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
        rc = ngx_agent_swap_base64(AG_STR("Basic "), credentials, stub, value,
                                   &out, &err);

    } else if (stub->is_binary) {
        rc = ngx_agent_swap_base64(AG_STR(""), ag_str_trim(text), stub, value,
                                   &out, &err);

    } else {
        rc = ngx_agent_replace(text, &stub->token, value, &out, &err);
    }

    result = rc == 0 ? ngx_agent_set_text(r, &stub->header->value,
                                           ag_buf_str(&out))
                     : NGX_ERROR;
    ag_buf_wipe(&out);

    return result;
}


/* `text` anew, with the value in the stub's place as that place writes it. */
static ngx_int_t
ngx_agent_swap_escaped(ngx_http_request_t *r, ngx_str_t *text,
    ngx_agent_stub_t *stub, ag_str_t value, enum ngx_agent_escape how)
{
    ngx_int_t      rc;
    struct ag_err  err = AG_ERR_INIT;
    struct ag_buf  escaped = AG_BUF_INIT(NGX_AGENT_ESCAPED_MAX);
    struct ag_buf  out = AG_BUF_INIT(text->len + NGX_AGENT_ESCAPED_MAX);

    rc = NGX_ERROR;

    if (ngx_agent_swap_escape(how, value, &escaped, &err) == 0
        && ngx_agent_replace(ngx_agent_view(*text), &stub->token,
                             ag_buf_str(&escaped), &out, &err) == 0)
    {
        rc = ngx_agent_set_text(r, text, ag_buf_str(&out));
    }

    ag_buf_wipe(&escaped);
    ag_buf_wipe(&out);

    return rc;
}


static ngx_int_t
ngx_agent_swap_body(ngx_http_request_t *r, ngx_agent_egress_ctx_t *ctx,
    ngx_agent_stub_t *stub, ag_str_t value)
{
    enum ngx_agent_escape  how;

    if (ngx_strcmp(stub->name.data, "json") == 0) {
        how = NGX_AGENT_ESCAPE_JSON;

    } else if (ngx_strcmp(stub->name.data, "form") == 0) {
        how = NGX_AGENT_ESCAPE_FORM;

    } else if (ngx_strcmp(stub->name.data, "text") == 0) {
        how = NGX_AGENT_ESCAPE_NONE;

    } else {
        return NGX_ERROR;
    }

    ctx->body_is_swapped = 1;

    return ngx_agent_swap_escaped(r, &ctx->body, stub, value, how);
}


/* Path and query apart: a token of one may stand in the other. */
static ngx_int_t
ngx_agent_swap_one(ngx_http_request_t *r, ngx_agent_egress_ctx_t *ctx,
    ngx_agent_stub_t *stub, ag_str_t value)
{
    switch (stub->kind) {

    case AGENT__VAULT__V1__SLOT_KIND__SLOT_HEADER:
    case AGENT__VAULT__V1__SLOT_KIND__SLOT_BASIC:
        return stub->header != NULL ? ngx_agent_swap_header(r, stub, value)
                                    : NGX_ERROR;

    case AGENT__VAULT__V1__SLOT_KIND__SLOT_PATH:
        return ngx_agent_swap_escaped(r, &ctx->sent_path, stub, value,
                                      NGX_AGENT_ESCAPE_URI);

    case AGENT__VAULT__V1__SLOT_KIND__SLOT_QUERY:
        return ngx_agent_swap_escaped(r, &ctx->sent_query, stub, value,
                                      NGX_AGENT_ESCAPE_URI);

    case AGENT__VAULT__V1__SLOT_KIND__SLOT_BODY:
        return ngx_agent_swap_body(r, ctx, stub, value);

    default:
        return NGX_ERROR;
    }
}


/* What proxy_pass sends is made of these. */
static ngx_int_t
ngx_agent_put_uri(ngx_http_request_t *r, ngx_agent_egress_ctx_t *ctx)
{
    ngx_int_t      rc;
    struct ag_err  err = AG_ERR_INIT;
    struct ag_buf  out = AG_BUF_INIT(ctx->sent_path.len
                                     + ctx->sent_query.len + 1);

    rc = NGX_ERROR;

    if (ag_buf_append(&out, ngx_agent_view(ctx->sent_path), &err) == 0
        && ag_buf_append(&out, ngx_agent_view(ctx->sent_query), &err) == 0)
    {
        rc = ngx_agent_set_text(r, &r->unparsed_uri, ag_buf_str(&out));
        r->valid_unparsed_uri = 1;
    }

    ag_buf_wipe(&out);

    return rc;
}


static ngx_int_t
ngx_agent_put_body(ngx_http_request_t *r, ngx_agent_egress_ctx_t *ctx)
{
    ngx_buf_t    *b;
    ngx_chain_t  *cl;

    b = ngx_calloc_buf(r->pool);
    cl = ngx_alloc_chain_link(r->pool);
    if (b == NULL || cl == NULL) {
        return NGX_ERROR;
    }

    b->start = ctx->body.data;
    b->pos = b->start;
    b->last = b->start + ctx->body.len;
    b->end = b->last;
    b->memory = 1;
    b->last_buf = 1;
    cl->buf = b;
    cl->next = NULL;

    r->request_body->bufs = cl;
    r->headers_in.content_length_n = ctx->body.len;
    r->headers_in.chunked = 0;

    return NGX_OK;
}


static void
ngx_agent_split_uri(ngx_http_request_t *r, ngx_agent_egress_ctx_t *ctx)
{
    ctx->sent_path = ctx->path;
    ctx->sent_query.data = r->unparsed_uri.data + ctx->path.len;
    ctx->sent_query.len = r->unparsed_uri.len - ctx->path.len;
}


ngx_int_t
ngx_agent_egress_swap(ngx_http_request_t *r, ngx_agent_egress_ctx_t *ctx)
{
    size_t                    i;
    ngx_agent_stub_t         *stubs;
    Agent__Vault__V1__Swap   *swap;

    stubs = ctx->stubs.elts;
    ngx_agent_split_uri(r, ctx);

    /* Every stub has its value, or nothing is sent. */

    if (ctx->verdict->n_swaps != ctx->stubs.nelts) {
        return NGX_ERROR;
    }

    for (i = 0; i < ctx->verdict->n_swaps; i++) {
        swap = ctx->verdict->swaps[i];

        if (swap->keep < 0 || (size_t) swap->keep >= stubs[i].token.len) {
            return NGX_ERROR;
        }

        stubs[i].token.data += swap->keep;
        stubs[i].token.len -= swap->keep;

        if (swap->index != (int32_t) i || swap->value.len == 0
            || ngx_agent_swap_one(r, ctx, &stubs[i],
                                  ag_str_n(swap->value.data, swap->value.len))
               != NGX_OK)
        {
            return NGX_ERROR;
        }
    }

    ctx->credentialed = ctx->stubs.nelts > 0;

    if (ctx->credentialed && ngx_agent_put_uri(r, ctx) != NGX_OK) {
        return NGX_ERROR;
    }

    return ctx->body_is_swapped ? ngx_agent_put_body(r, ctx) : NGX_OK;
}
