/*
 * Requests that the vault signs. A verdict SIGN asks for what is signed: host,
 * query, headers and the digest of the body; the vault is asked again with it
 * and answers the headers to set. The key stays there.
 */
#include "ngx_agent_module/ngx_agent_egress.h"

#include <openssl/evp.h>

#define NGX_AGENT_SIGN_HEADERS  64
#define NGX_AGENT_SIGN_STEP     (1024 * 1024)


/* A digest that is under way. */
struct ngx_agent_sign_s {
    EVP_MD_CTX                *md;
    ngx_chain_t               *at;
    off_t                      offset;     /* in the file of `at` */
    ngx_event_t                next;
};


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


/* ---- the body's digest --------------------------------------------------- */

static void
ngx_agent_sign_cleanup(void *data)
{
    ngx_agent_sign_t  *s = data;

    EVP_MD_CTX_free(s->md);

    if (s->next.posted) {
        ngx_delete_posted_event(&s->next);
    }
}


static ngx_agent_sign_t *
ngx_agent_sign_begin(ngx_http_request_t *r)
{
    ngx_agent_sign_t    *s;
    ngx_pool_cleanup_t  *cln;

    cln = ngx_pool_cleanup_add(r->pool, sizeof(ngx_agent_sign_t));
    if (cln == NULL) {
        return NULL;
    }

    s = cln->data;
    ngx_memzero(s, sizeof(ngx_agent_sign_t));
    cln->handler = ngx_agent_sign_cleanup;

    s->md = EVP_MD_CTX_new();
    s->at = r->request_body != NULL ? r->request_body->bufs : NULL;
    s->next.handler = ngx_agent_egress_go_on;
    s->next.data = r;
    s->next.log = r->connection->log;

    if (s->md == NULL || EVP_DigestInit_ex(s->md, EVP_sha256(), NULL) != 1) {
        return NULL;
    }

    return s;
}


/* What of a buffer is in a file, up to `most`. The length, 0 at its end. */
static ssize_t
ngx_agent_sign_file(ngx_agent_sign_t *s, ngx_buf_t *b, size_t most)
{
    ssize_t  n;

    static u_char  piece[65536];

    most = ngx_min(most, sizeof(piece));
    n = ngx_min((off_t) most, b->file_last - b->file_pos - s->offset);

    if (n == 0) {
        return 0;
    }

    n = ngx_read_file(b->file, piece, n, b->file_pos + s->offset);

    if (n <= 0 || EVP_DigestUpdate(s->md, piece, n) != 1) {
        return NGX_ERROR;
    }

    s->offset += n;

    return n;
}


/*
 * So much at a time, and others have their turn between: a long body is read
 * back from the file that it went to. NGX_AGAIN: it goes on by itself.
 */
static ngx_int_t
ngx_agent_sign_digest(ngx_agent_sign_t *s, u_char *out)
{
    size_t      left;
    ssize_t     n;
    ngx_buf_t  *b;

    left = NGX_AGENT_SIGN_STEP;

    while (s->at != NULL) {
        b = s->at->buf;

        if (left == 0) {
            ngx_post_event(&s->next, &ngx_posted_next_events);
            return NGX_AGAIN;
        }

        if (ngx_buf_in_memory(b)) {
            if (EVP_DigestUpdate(s->md, b->pos, b->last - b->pos) != 1) {
                return NGX_ERROR;
            }

            n = 0;

        } else {
            n = b->in_file ? ngx_agent_sign_file(s, b, left) : 0;
        }

        if (n == NGX_ERROR) {
            return NGX_ERROR;
        }

        left -= n;

        if (n == 0) {
            s->at = s->at->next;
            s->offset = 0;
        }
    }

    return EVP_DigestFinal_ex(s->md, out, NULL) == 1 ? NGX_OK : NGX_ERROR;
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

    if (ctx->sign == NULL) {
        ctx->sign = ngx_agent_sign_begin(r);
    }

    rc = ctx->sign != NULL ? ngx_agent_sign_digest(ctx->sign, digest)
                           : NGX_ERROR;

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

    if (rc == NGX_AGAIN) {
        return NGX_AGAIN;
    }

    if (rc != NGX_OK) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    ngx_agent_egress_ask_again(r, ctx);

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
