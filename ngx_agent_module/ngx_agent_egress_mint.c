/*
 * Answers in which a host mints credentials: kept back whole, at most
 * agent_egress_mint_body, until the vault gave stubs for the strings that the
 * binding names; those take their places, and what else of the answer holds a
 * minted value is scrubbed. An answer that cannot be read is not passed on. Runs
 * before the scrubber, which sees the answer as it goes on.
 */
#include "ngx_agent_module/ngx_agent_egress.h"

#include "lib/json.h"
#include "lib/secret.h"
#include "lib/without.h"
#include "ngx_agent_module/ngx_agent_mint.h"


struct ngx_agent_egress_mint_s {
    u_char                           *data;    /* of the answer's body */
    size_t                            len;
    size_t                            cap;
    size_t                            max;
    size_t                            n;       /* places that hold a string */
    struct ngx_agent_mint_span       *spans;
    Agent__Vault__V1__MintPlace     **places;
    json_t                          **values;
    Agent__Vault__V1__MintResponse   *reply;
    unsigned                          complete:1;
    unsigned                          answered:1;
    unsigned                          done:1;
};


static ngx_http_output_header_filter_pt  ngx_http_next_header_filter;
static ngx_http_output_body_filter_pt    ngx_http_next_body_filter;

static ngx_str_t  ngx_agent_mint_uri =
    ngx_string("/agent.vault.v1.EgressService/Mint");


static void
ngx_agent_mint_cleanup(void *data)
{
    size_t                    i;
    ngx_agent_egress_mint_t  *m = data;

    ngx_explicit_memzero(m->data, m->len);
    free(m->data);

    for (i = 0; i < m->n; i++) {
        ngx_explicit_memzero((char *) json_string_value(m->values[i]),
                             json_string_length(m->values[i]));
        json_decref(m->values[i]);
    }

    if (m->reply != NULL) {
        agent__vault__v1__mint_response__free_unpacked(m->reply, NULL);
    }

    ngx_memzero(m, sizeof(ngx_agent_egress_mint_t));
}


static ngx_agent_egress_mint_t *
ngx_agent_mint_create(ngx_http_request_t *r, ngx_agent_egress_ctx_t *ctx)
{
    size_t                    n;
    ngx_pool_cleanup_t       *cln;
    ngx_agent_egress_conf_t  *ecf;
    ngx_agent_egress_mint_t  *m;

    ecf = ngx_http_get_module_loc_conf(r, ngx_agent_egress_module);
    n = ctx->verdict->n_mint;

    m = ngx_pcalloc(r->pool, sizeof(ngx_agent_egress_mint_t));
    cln = ngx_pool_cleanup_add(r->pool, 0);
    if (m == NULL || cln == NULL) {
        return NULL;
    }

    m->max = ecf->mint_body;
    m->spans = ngx_palloc(r->pool, n * sizeof(*m->spans));
    m->places = ngx_palloc(r->pool, n * sizeof(*m->places));
    m->values = ngx_palloc(r->pool, n * sizeof(*m->values));
    if (m->spans == NULL || m->places == NULL || m->values == NULL) {
        return NULL;
    }

    cln->handler = ngx_agent_mint_cleanup;
    cln->data = m;

    return m;
}


/* ---- the answer is kept back ------------------------------------------- */

static ngx_uint_t
ngx_agent_mint_is_due(ngx_http_request_t *r, ngx_agent_egress_ctx_t *ctx)
{
    return r == r->main && ctx != NULL && ctx->verdict != NULL
           && ctx->state == NGX_AGENT_EGRESS_READY
           && ctx->verdict->n_mint > 0 && ctx->mint == NULL
           && r->upstream != NULL && r->method != NGX_HTTP_HEAD
           && r->headers_out.status != NGX_HTTP_NO_CONTENT
           && r->headers_out.status != NGX_HTTP_NOT_MODIFIED
           && !ag_without("mint");
}


static ngx_int_t
ngx_agent_mint_header_filter(ngx_http_request_t *r)
{
    ngx_agent_egress_ctx_t  *ctx;

    ctx = ngx_http_get_module_ctx(r, ngx_agent_egress_module);

    if (!ngx_agent_mint_is_due(r, ctx)) {
        return ngx_http_next_header_filter(r);
    }

    ctx->mint = ngx_agent_mint_create(r, ctx);
    if (ctx->mint == NULL) {
        return NGX_ERROR;
    }

    r->filter_need_in_memory = 1;
    r->allow_ranges = 0;

    return NGX_OK;
}


/* NGX_DECLINED: it is too long. Memory that is left behind is wiped. */
static ngx_int_t
ngx_agent_mint_keep(ngx_agent_egress_mint_t *m, ngx_buf_t *b)
{
    size_t   n, cap;
    u_char  *data;

    n = ngx_buf_in_memory(b) ? (size_t) (b->last - b->pos) : 0;

    if (n > m->max - m->len) {
        return NGX_DECLINED;
    }

    if (m->len + n > m->cap) {
        cap = ngx_min(ngx_max(2 * m->cap, m->len + n + 4096), m->max);
        data = malloc(cap);
        if (data == NULL) {
            return NGX_ERROR;
        }

        if (m->len > 0) {
            ngx_memcpy(data, m->data, m->len);
            ngx_explicit_memzero(m->data, m->len);
        }

        free(m->data);
        m->data = data;
        m->cap = cap;
    }

    if (n > 0) {
        ngx_memcpy(m->data + m->len, b->pos, n);
        ngx_explicit_memzero(b->pos, n);
        m->len += n;
        b->pos = b->last;
    }

    m->complete |= b->last_buf;

    return NGX_OK;
}


/* ---- it goes on -------------------------------------------------------- */

/* A body of its own in place of what came, or what came with its stubs. */
static ngx_int_t
ngx_agent_mint_send(ngx_http_request_t *r, ngx_agent_egress_mint_t *m,
    u_char *p, size_t n)
{
    ngx_int_t    rc;
    ngx_buf_t   *b;
    ngx_chain_t  out;

    m->done = 1;
    ngx_http_clear_content_length(r);
    ngx_http_clear_accept_ranges(r);
    ngx_http_clear_etag(r);
    r->headers_out.content_length_n = n;

    rc = ngx_http_next_header_filter(r);
    if (rc == NGX_ERROR || rc > NGX_OK || r->header_only) {
        return rc;
    }

    b = ngx_calloc_buf(r->pool);
    if (b == NULL) {
        return NGX_ERROR;
    }

    b->pos = p;
    b->last = p + n;
    b->memory = n > 0;
    b->last_buf = 1;
    b->last_in_chain = 1;
    out.buf = b;
    out.next = NULL;

    return ngx_http_next_body_filter(r, &out);
}


static ngx_int_t
ngx_agent_mint_refuse(ngx_http_request_t *r, ngx_agent_egress_mint_t *m)
{
    static u_char  text[] =
        "{\"error\":{\"type\":\"egress_failed\",\"reason\":\"mint_failed\","
        "\"message\":\"the answer may hold a new credential, and cannot be "
        "passed on: it is no JSON, too long, or the vault refused a value\"}}"
        "\n";

    ngx_log_error(NGX_LOG_ERR, r->connection->log, 0,
                  "an answer that may hold a new credential is not passed on");
    ngx_agent_egress_report_refusal(r, "mint_failed");

    ngx_http_clean_header(r);
    r->headers_out.status = NGX_HTTP_BAD_GATEWAY;
    ngx_str_set(&r->headers_out.content_type, "application/json");
    r->headers_out.content_type_len = r->headers_out.content_type.len;
    r->headers_out.content_type_lowcase = NULL;

    return ngx_agent_mint_send(r, m, text, sizeof(text) - 1);
}


/* What else of it holds a minted value; lengths stay. */
static ngx_int_t
ngx_agent_mint_scrub(ngx_http_request_t *r, ngx_agent_egress_mint_t *m)
{
    size_t                   i;
    ngx_int_t                rc;
    struct ngx_agent_scrub  *s;

    s = malloc(sizeof(*s));
    if (s == NULL) {
        return NGX_ERROR;
    }

    ngx_agent_scrub_init(s, 1);

    for (i = 0; i < m->n; i++) {
        ngx_agent_scrub_add(s, ag_json_str(m->values[i]), 0);
    }

    (void) ngx_agent_scrub_text(s, m->data, m->len);
    rc = ngx_agent_egress_scrub_headers(r, s);
    ngx_agent_scrub_release(s);
    free(s);

    return rc;
}


static int
ngx_agent_mint_by_place(const void *a, const void *b)
{
    const struct ngx_agent_mint_span  *x = a, *y = b;

    return x->begin < y->begin ? -1 : x->begin > y->begin;
}


/* Two pointers cannot lead to one string, so spans do not meet. */
static ngx_int_t
ngx_agent_mint_replace(ngx_http_request_t *r, ngx_agent_egress_mint_t *m)
{
    size_t   i, n, at;
    u_char  *out, *p;

    struct {
        struct ngx_agent_mint_span  span;
        const char                 *stub;
    } *list;

    list = ngx_palloc(r->pool, m->n * sizeof(*list));
    if (list == NULL) {
        return NGX_ERROR;
    }

    n = m->len;

    for (i = 0; i < m->n; i++) {
        list[i].span = m->spans[i];
        list[i].stub = m->reply->stubs[i];
        n += 2 + ngx_strlen(list[i].stub);
    }

    ngx_qsort(list, m->n, sizeof(*list), ngx_agent_mint_by_place);

    out = ngx_pnalloc(r->pool, n);
    if (out == NULL) {
        return NGX_ERROR;
    }

    p = out;
    at = 0;

    /* Stubs are letters, digits, "_" and "-": nothing to escape. */

    for (i = 0; i < m->n; i++) {
        p = ngx_cpymem(p, m->data + at, list[i].span.begin - at);
        p = ngx_sprintf(p, "\"%s\"", list[i].stub);
        at = list[i].span.end;
    }

    p = ngx_cpymem(p, m->data + at, m->len - at);

    return ngx_agent_mint_send(r, m, out, p - out);
}


/* ---- the vault --------------------------------------------------------- */

static ngx_int_t
ngx_agent_mint_done(ngx_http_request_t *sr, void *data, ngx_int_t rc)
{
    ngx_chain_t              *cl;
    ngx_agent_egress_ctx_t   *ctx = data;

    ctx->mint->answered = 1;
    ctx->mint->reply = (Agent__Vault__V1__MintResponse *)
        ngx_agent_egress_answer(sr, rc,
            &agent__vault__v1__mint_response__descriptor);

    for (cl = sr->request_body->bufs; cl != NULL; cl = cl->next) {
        ngx_explicit_memzero(cl->buf->start, cl->buf->end - cl->buf->start);
    }

    return NGX_OK;
}


static ngx_int_t
ngx_agent_mint_ask(ngx_http_request_t *r, ngx_agent_egress_ctx_t *ctx)
{
    size_t                           i;
    ngx_http_request_t              *sr;
    ngx_agent_egress_mint_t         *m;
    ngx_http_post_subrequest_t      *ps;
    Agent__Vault__V1__MintRequest    msg;
    Agent__Vault__V1__MintedValue   *one, **list;

    m = ctx->mint;
    ps = ngx_palloc(r->pool, sizeof(ngx_http_post_subrequest_t));
    list = ngx_palloc(r->pool, m->n * sizeof(*list));
    one = ngx_palloc(r->pool, m->n * sizeof(*one));
    if (ps == NULL || list == NULL || one == NULL) {
        return NGX_ERROR;
    }

    agent__vault__v1__mint_request__init(&msg);
    msg.workload_address = ngx_agent_egress_text(r, &ctx->workload);
    msg.session_id = ngx_agent_egress_text(r, &ctx->session);
    msg.audit_id = ctx->verdict->audit_id;
    msg.n_values = m->n;
    msg.values = list;

    for (i = 0; i < m->n; i++) {
        agent__vault__v1__minted_value__init(&one[i]);
        one[i].place = m->places[i];
        one[i].value.data = (u_char *) json_string_value(m->values[i]);
        one[i].value.len = json_string_length(m->values[i]);
        list[i] = &one[i];
    }

    ps->handler = ngx_agent_mint_done;
    ps->data = ctx;

    if (ngx_http_subrequest(r, &ngx_agent_mint_uri, NULL, &sr, ps,
                            NGX_HTTP_SUBREQUEST_IN_MEMORY
                            |NGX_HTTP_SUBREQUEST_WAITED)
        != NGX_OK)
    {
        return NGX_ERROR;
    }

    return ngx_agent_egress_send(sr, ctx, &msg.base);
}


/* The strings that stand at the binding's places. */
static ngx_int_t
ngx_agent_mint_find_all(ngx_agent_egress_ctx_t *ctx)
{
    size_t                        i;
    ag_str_t                      text;
    struct ag_err                 err = AG_ERR_INIT;
    ngx_agent_egress_mint_t      *m;
    struct ngx_agent_mint_span   *span;
    Agent__Vault__V1__MintPlace  *place;

    m = ctx->mint;
    text = ag_str_n(m->data, m->len);

    for (i = 0; i < ctx->verdict->n_mint; i++) {
        place = ctx->verdict->mint[i];
        span = &m->spans[m->n];

        if (!ngx_agent_mint_find(text, ag_str(place->pointer), span)) {
            continue;
        }

        m->values[m->n] = ag_json_parse(ag_str_n(m->data + span->begin,
                                                 span->end - span->begin),
                                        &err);
        if (m->values[m->n] == NULL) {
            return NGX_ERROR;
        }

        m->places[m->n++] = place;
    }

    return NGX_OK;
}


/* It is there as a whole. What is an error may have any form, and an answer
 * without a string at a place mints nothing. */
static ngx_int_t
ngx_agent_mint_begin(ngx_http_request_t *r, ngx_agent_egress_ctx_t *ctx)
{
    ngx_uint_t                status;
    ngx_agent_egress_mint_t  *m;

    m = ctx->mint;
    status = r->headers_out.status;

    if (m->len == 0) {
        return ngx_agent_mint_send(r, m, NULL, 0);
    }

    if (!ngx_agent_mint_is_json(ag_str_n(m->data, m->len))) {
        return status >= 200 && status < 300
               ? ngx_agent_mint_refuse(r, m)
               : ngx_agent_mint_send(r, m, m->data, m->len);
    }

    if (ngx_agent_mint_find_all(ctx) != NGX_OK) {
        return ngx_agent_mint_refuse(r, m);
    }

    if (m->n == 0) {
        return ngx_agent_mint_send(r, m, m->data, m->len);
    }

    return ngx_agent_mint_ask(r, ctx);
}


static ngx_int_t
ngx_agent_mint_end(ngx_http_request_t *r, ngx_agent_egress_mint_t *m)
{
    if (m->reply == NULL || m->reply->n_stubs != m->n
        || ngx_agent_mint_scrub(r, m) != NGX_OK)
    {
        return ngx_agent_mint_refuse(r, m);
    }

    return ngx_agent_mint_replace(r, m);
}


/* Taken, so that the rest is read and the request ends. */
static void
ngx_agent_mint_drop(ngx_chain_t *in)
{
    for ( /* void */ ; in != NULL; in = in->next) {
        if (ngx_buf_in_memory(in->buf)) {
            ngx_explicit_memzero(in->buf->pos,
                                 in->buf->last - in->buf->pos);
        }

        in->buf->pos = in->buf->last;
    }
}


static ngx_int_t
ngx_agent_mint_body_filter(ngx_http_request_t *r, ngx_chain_t *in)
{
    ngx_int_t                 rc;
    ngx_agent_egress_ctx_t   *ctx;
    ngx_agent_egress_mint_t  *m;

    ctx = ngx_http_get_module_ctx(r, ngx_agent_egress_module);
    m = ctx != NULL && r == r->main ? ctx->mint : NULL;

    if (m == NULL) {
        return ngx_http_next_body_filter(r, in);
    }

    /* An answer was given already: the rest of a long one is dropped. */

    if (m->done) {
        ngx_agent_mint_drop(in);

        return ngx_http_next_body_filter(r, NULL);
    }

    if (m->complete) {
        return m->answered ? ngx_agent_mint_end(r, m) : NGX_OK;
    }

    for ( /* void */ ; in != NULL; in = in->next) {
        rc = ngx_agent_mint_keep(m, in->buf);

        if (rc == NGX_ERROR) {
            return NGX_ERROR;
        }

        if (rc == NGX_DECLINED) {
            ngx_agent_mint_drop(in);

            return ngx_agent_mint_refuse(r, m);
        }
    }

    return m->complete ? ngx_agent_mint_begin(r, ctx) : NGX_OK;
}


ngx_int_t
ngx_agent_egress_mint_init(ngx_conf_t *cf)
{
    ngx_http_next_header_filter = ngx_http_top_header_filter;
    ngx_http_top_header_filter = ngx_agent_mint_header_filter;

    ngx_http_next_body_filter = ngx_http_top_body_filter;
    ngx_http_top_body_filter = ngx_agent_mint_body_filter;

    return NGX_OK;
}
