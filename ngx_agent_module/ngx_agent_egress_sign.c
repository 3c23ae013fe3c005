/*
 * Requests that the vault signs. A verdict SIGN asks for what is signed: host,
 * query, headers and the digest of the body; the vault is asked again with it
 * and answers the headers to set. The key stays there.
 */
#include "ngx_agent_module/ngx_agent_egress.h"

#include <openssl/evp.h>

#define NGX_AGENT_SIGN_HEADERS  64


static ngx_uint_t
ngx_agent_sign_wants(ngx_table_elt_t *h)
{
    return (h->key.len > sizeof("x-amz-") - 1
            && ngx_strncasecmp(h->key.data, (u_char *) "x-amz-",
                               sizeof("x-amz-") - 1) == 0)
           || (h->key.len == sizeof("content-type") - 1
               && ngx_strncasecmp(h->key.data, (u_char *) "content-type",
                                  sizeof("content-type") - 1) == 0);
}


static ngx_int_t
ngx_agent_sign_headers(ngx_http_request_t *r, Agent__Vault__V1__ToSign *m)
{
    u_char                     *name;
    ngx_uint_t                  i;
    ngx_list_part_t            *part;
    ngx_table_elt_t            *h;
    Agent__Vault__V1__Header  **list, *one;

    list = ngx_palloc(r->pool, NGX_AGENT_SIGN_HEADERS * sizeof(*list));
    if (list == NULL) {
        return NGX_ERROR;
    }

    m->headers = list;

    for (part = &r->headers_in.headers.part; part; part = part->next) {
        h = part->elts;

        for (i = 0; i < part->nelts; i++) {
            if (!ngx_agent_sign_wants(&h[i])) {
                continue;
            }

            one = ngx_palloc(r->pool, sizeof(*one));
            name = ngx_pnalloc(r->pool, h[i].key.len + 1);
            if (one == NULL || name == NULL
                || m->n_headers == NGX_AGENT_SIGN_HEADERS)
            {
                return NGX_ERROR;
            }

            ngx_strlow(name, h[i].key.data, h[i].key.len);
            name[h[i].key.len] = '\0';
            agent__vault__v1__header__init(one);
            one->name = (char *) name;
            one->value = ngx_agent_egress_text(r, &h[i].value);
            list[m->n_headers++] = one;
        }
    }

    return NGX_OK;
}


/* NGX_DECLINED when the body is in a file: reading it would wait. */
static ngx_int_t
ngx_agent_sign_digest(ngx_http_request_t *r, u_char *out)
{
    ngx_int_t     rc;
    ngx_buf_t    *b;
    EVP_MD_CTX   *md;
    ngx_chain_t  *cl;

    md = EVP_MD_CTX_new();
    if (md == NULL || EVP_DigestInit_ex(md, EVP_sha256(), NULL) != 1) {
        EVP_MD_CTX_free(md);
        return NGX_ERROR;
    }

    rc = NGX_OK;
    cl = r->request_body != NULL ? r->request_body->bufs : NULL;

    for ( /* void */ ; cl != NULL && rc == NGX_OK; cl = cl->next) {
        b = cl->buf;

        if (b->in_file) {
            rc = NGX_DECLINED;

        } else if (EVP_DigestUpdate(md, b->pos, b->last - b->pos) != 1) {
            rc = NGX_ERROR;
        }
    }

    if (rc == NGX_OK && EVP_DigestFinal_ex(md, out, NULL) != 1) {
        rc = NGX_ERROR;
    }

    EVP_MD_CTX_free(md);

    return rc;
}


static ngx_int_t
ngx_agent_sign_fill(ngx_http_request_t *r, ngx_agent_egress_ctx_t *ctx)
{
    u_char                    *digest;
    ngx_int_t                  rc;
    ngx_str_t                  host, none = ngx_null_string;
    Agent__Vault__V1__ToSign  *m;

    m = ngx_palloc(r->pool, sizeof(*m));
    digest = ngx_pnalloc(r->pool, EVP_MAX_MD_SIZE);
    if (m == NULL || digest == NULL) {
        return NGX_ERROR;
    }

    agent__vault__v1__to_sign__init(m);
    host = r->headers_in.host != NULL ? r->headers_in.host->value : none;
    m->host = ngx_agent_egress_text(r, &host);
    m->query = ngx_agent_egress_text(r, &r->args);

    rc = ngx_agent_sign_digest(r, digest);

    if (rc != NGX_OK) {
        return rc;
    }

    m->body_sha256.data = digest;
    m->body_sha256.len = 32;

    if (ngx_agent_sign_headers(r, m) != NGX_OK) {
        return NGX_ERROR;
    }

    ctx->to_sign = m;

    return NGX_OK;
}


ngx_int_t
ngx_agent_egress_sign(ngx_http_request_t *r, ngx_agent_egress_ctx_t *ctx)
{
    ngx_int_t  rc;

    if (ctx->is_grpc) {
        return ngx_agent_egress_refuse(r, NGX_HTTP_FORBIDDEN,
                   "signing_refused", "a gRPC stream cannot be signed", 0);
    }

    rc = ctx->to_sign == NULL ? ngx_agent_sign_fill(r, ctx) : NGX_ERROR;

    if (rc == NGX_DECLINED) {
        return ngx_agent_egress_refuse(r, NGX_HTTP_REQUEST_ENTITY_TOO_LARGE,
                   "body_over_limit",
                   "a body that is signed is at most as long as "
                   "client_body_buffer_size allows", 0);
    }

    if (rc != NGX_OK || ngx_agent_egress_ask_again(r, ctx) != NGX_OK) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    return NGX_AGAIN;
}


/* One header of that name, with that value. */
static ngx_int_t
ngx_agent_sign_set(ngx_http_request_t *r, char *name, char *value)
{
    size_t            n;
    ngx_uint_t        i, found;
    ngx_list_part_t  *part;
    ngx_table_elt_t  *h, *set;

    n = ngx_strlen(name);
    set = NULL;
    found = 0;

    for (part = &r->headers_in.headers.part; part; part = part->next) {
        h = part->elts;

        for (i = 0; i < part->nelts; i++) {
            if (h[i].key.len == n
                && ngx_strncasecmp(h[i].key.data, (u_char *) name, n) == 0)
            {
                set = &h[i];
                found++;
            }
        }
    }

    if (found > 1) {
        return NGX_DECLINED;
    }

    if (set == NULL) {
        set = ngx_list_push(&r->headers_in.headers);
        if (set == NULL) {
            return NGX_ERROR;
        }

        ngx_memzero(set, sizeof(ngx_table_elt_t));
        set->key.data = (u_char *) name;
        set->key.len = n;
        set->lowcase_key = (u_char *) name;
        set->hash = ngx_hash_key((u_char *) name, n);
    }

    /* Both live in the verdict, as long as the request. */

    set->value.data = (u_char *) value;
    set->value.len = ngx_strlen(value);

    return NGX_OK;
}


ngx_int_t
ngx_agent_egress_set_signed(ngx_http_request_t *r,
    ngx_agent_egress_ctx_t *ctx)
{
    size_t                     i;
    Agent__Vault__V1__Header  *h;

    for (i = 0; i < ctx->verdict->n_set_headers; i++) {
        h = ctx->verdict->set_headers[i];

        if (ngx_agent_sign_set(r, h->name, h->value) != NGX_OK) {
            return NGX_ERROR;
        }
    }

    return NGX_OK;
}
