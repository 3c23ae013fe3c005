/*
 * What goes out is searched, once the vault has allowed the request and before
 * anything is swapped in: for the tenant's values, by fingerprints that the
 * vault confirms, and for credentials of known shapes, about which the
 * environment decides. Path, query, headers and body; a long body is read in
 * slices, a turn of the event loop each.
 */
#include "ngx_agent_module/ngx_agent_egress.h"

#include "lib/secret.h"
#include "lib/without.h"
#include "ngx_agent_module/ngx_agent_prints.h"
#include "ngx_agent_module/ngx_agent_rules.h"

#define NGX_AGENT_OUTBOUND_SLICE   (1024 * 1024)
#define NGX_AGENT_OUTBOUND_CHUNK   (64 * 1024)


typedef struct {
    const char        *where;          /* of the text: "path", "query", … */
    ngx_table_elt_t   *header;         /* it is the value of, or NULL */
    unsigned           is_body:1;
    ag_str_t           piece;          /* of a stream, which passes now */
    uint64_t           piece_at;       /* its offset */
} ngx_agent_text_t;


struct ngx_agent_outbound_s {
    ngx_http_request_t            *request;
    ngx_agent_table_t             *table;  /* NULL: the tenant has no values */
    struct ngx_agent_rules_scan    rules;
    struct ngx_agent_prints_scan   prints;
    const char                    *where[NGX_AGENT_PRINT_HITS];

    unsigned                       begun:1;    /* the scans */
    unsigned                       scanned:1;  /* all there is */
    unsigned                       is_asking:1;
    unsigned                       answered:1;
    unsigned                       done:1;
    unsigned                       told:1;     /* of a shape that passes */

    off_t                          body_at;    /* what was scanned of it */
    u_char                        *chunk;      /* of a file */
    ngx_uint_t                     confirmed;  /* hits that were asked about */
    Agent__Vault__V1__ConfirmResponse  *answer;

    const char                    *where_shape;  /* ctx->shape was found */
    Agent__Vault__V1__Outbound     act;        /* the most that was done */
};


static ngx_str_t  ngx_agent_confirm_uri =
    ngx_string("/agent.vault.v1.EgressService/Confirm");


static void
ngx_agent_outbound_free(void *data)
{
    ngx_agent_outbound_t  *o = data;

    if (o->begun) {
        ngx_agent_rules_scan_release(&o->rules);
        ngx_agent_prints_scan_release(&o->prints);
    }

    if (o->answer != NULL) {
        agent__vault__v1__confirm_response__free_unpacked(o->answer, NULL);
    }

    ngx_agent_table_release(o->table);
}


static ngx_agent_outbound_t *
ngx_agent_outbound_create(ngx_http_request_t *r)
{
    ngx_pool_cleanup_t    *cln;
    ngx_agent_outbound_t  *o;

    cln = ngx_pool_cleanup_add(r->pool, sizeof(ngx_agent_outbound_t));
    if (cln == NULL) {
        return NULL;
    }

    o = cln->data;
    ngx_memzero(o, sizeof(ngx_agent_outbound_t));
    o->request = r;
    cln->handler = ngx_agent_outbound_free;

    return o;
}


/* ---- shapes ------------------------------------------------------------- */

/* Bytes [from, to) of the body. */
static ngx_int_t
ngx_agent_mask_body(ngx_http_request_t *r, ngx_agent_egress_ctx_t *ctx,
    off_t from, off_t to)
{
    off_t         at, size, begin, end;
    u_char        stars[NGX_AGENT_RULE_BYTES];
    ngx_buf_t    *b;
    ngx_chain_t  *cl;

    ngx_memset(stars, '*', sizeof(stars));
    at = 0;

    for (cl = r->request_body->bufs; cl != NULL && at < to; cl = cl->next) {
        b = cl->buf;
        size = ngx_buf_size(b);
        begin = ngx_max(from, at) - at;
        end = ngx_min(to, at + size) - at;
        at += size;

        if (begin >= end) {
            continue;
        }

        if (ngx_buf_in_memory(b)) {
            ngx_memset(b->pos + begin, '*', end - begin);

        } else if (ngx_write_file(b->file, stars, end - begin,
                                  b->file_pos + begin) == NGX_ERROR)
        {
            return NGX_ERROR;
        }
    }

    /* Its copy in one piece, where there is one. */

    if ((size_t) to <= ctx->body.len) {
        ngx_memset(ctx->body.data + from, '*', to - from);
    }

    return NGX_OK;
}


/* NGX_DECLINED: where it stands nothing can be masked. */
static ngx_int_t
ngx_agent_mask(ngx_http_request_t *r, ngx_agent_egress_ctx_t *ctx,
    const ngx_agent_text_t *text, const struct ngx_agent_rule_hit *hit)
{
    if (text->header != NULL) {
        ngx_memset(text->header->value.data + hit->from, '*',
                   hit->to - hit->from);
        return NGX_OK;
    }

    if (text->piece.p != NULL && hit->from >= text->piece_at) {
        ngx_memset((u_char *) text->piece.p + (hit->from - text->piece_at),
                   '*', hit->to - hit->from);
        return NGX_OK;
    }

    if (!text->is_body || text->piece.p != NULL) {
        return NGX_DECLINED;
    }

    return ngx_agent_mask_body(r, ctx, (off_t) hit->from, (off_t) hit->to);
}


static Agent__Vault__V1__Outbound
ngx_agent_outbound_act(ngx_agent_egress_ctx_t *ctx, unsigned rule)
{
    if (ngx_agent_rules_only_log(ctx->outbound->rules.rules, rule)
        || ag_without("outbound_shape"))
    {
        return AGENT__VAULT__V1__OUTBOUND__OUTBOUND_LOG;
    }

    switch (ctx->verdict->outbound) {

    case AGENT__VAULT__V1__OUTBOUND__OUTBOUND_LOG:
    case AGENT__VAULT__V1__OUTBOUND__OUTBOUND_MASK:
        return ctx->verdict->outbound;

    default:
        return AGENT__VAULT__V1__OUTBOUND__OUTBOUND_BLOCK;
    }
}


/* The more is done, the earlier it is told of. */
static ngx_uint_t
ngx_agent_outbound_rank(Agent__Vault__V1__Outbound act)
{
    return act == AGENT__VAULT__V1__OUTBOUND__OUTBOUND_BLOCK ? 3
           : act == AGENT__VAULT__V1__OUTBOUND__OUTBOUND_MASK ? 2
           : act == AGENT__VAULT__V1__OUTBOUND__OUTBOUND_LOG ? 1 : 0;
}


/* nginx writes request line and referrer beside what it logs. */
static void
ngx_agent_outbound_withhold(ngx_http_request_t *r,
    const ngx_agent_text_t *text)
{
    if (text->is_body) {
        return;
    }

    if (text->header == NULL) {
        ngx_str_set(&r->request_line, "(withheld)");

    } else if (text->header == r->headers_in.referer) {
        r->headers_in.referer = NULL;
    }
}


/* What was found in the text that has ended, or in a slice of the body. */
static ngx_int_t
ngx_agent_outbound_shapes(ngx_http_request_t *r, ngx_agent_egress_ctx_t *ctx,
    const ngx_agent_text_t *text)
{
    unsigned                     i;
    ngx_int_t                    rc;
    ngx_agent_outbound_t        *o;
    Agent__Vault__V1__Outbound   act;

    o = ctx->outbound;

    if (o->rules.n_hits > 0) {
        ngx_agent_outbound_withhold(r, text);
    }

    for (i = 0; i < o->rules.n_hits; i++) {
        act = ngx_agent_outbound_act(ctx, o->rules.hits[i].rule);

        if (act == AGENT__VAULT__V1__OUTBOUND__OUTBOUND_MASK) {
            rc = ngx_agent_mask(r, ctx, text, &o->rules.hits[i]);

            if (rc == NGX_ERROR) {
                return NGX_ERROR;
            }

            if (rc == NGX_DECLINED) {
                act = AGENT__VAULT__V1__OUTBOUND__OUTBOUND_BLOCK;
            }
        }

        if (ngx_agent_outbound_rank(act) > ngx_agent_outbound_rank(o->act)) {
            o->act = act;
            ctx->shape = ngx_agent_rules_name(o->rules.rules,
                                              o->rules.hits[i].rule);
            o->where_shape = text->where;
        }
    }

    /* More than are remembered could not be masked. */

    if (o->rules.is_full
        && ctx->verdict->outbound == AGENT__VAULT__V1__OUTBOUND__OUTBOUND_MASK)
    {
        o->act = AGENT__VAULT__V1__OUTBOUND__OUTBOUND_BLOCK;
    }

    o->rules.n_hits = 0;
    o->rules.is_full = false;

    return NGX_OK;
}


/* ---- scanning ----------------------------------------------------------- */

static ngx_int_t
ngx_agent_outbound_feed(ngx_http_request_t *r, ngx_agent_egress_ctx_t *ctx,
    ag_str_t piece)
{
    struct ag_err  err = AG_ERR_INIT;

    ngx_agent_prints_scan_feed(&ctx->outbound->prints, piece);

    if (ctx->outbound->rules.rules != NULL
        && ngx_agent_rules_scan_feed(&ctx->outbound->rules, piece, &err) < 0)
    {
        ngx_log_error(NGX_LOG_ERR, r->connection->log, 0, "%s", err.msg);
        return NGX_ERROR;
    }

    return NGX_OK;
}


/* The text has ended. */
static ngx_int_t
ngx_agent_outbound_end(ngx_http_request_t *r, ngx_agent_egress_ctx_t *ctx,
    const ngx_agent_text_t *text)
{
    ngx_int_t              rc;
    ngx_uint_t             i;
    ngx_agent_outbound_t  *o;

    o = ctx->outbound;
    rc = ngx_agent_outbound_shapes(r, ctx, text);
    ngx_agent_prints_scan_end(&o->prints);

    if (o->rules.rules != NULL) {
        ngx_agent_rules_scan_end(&o->rules);
    }

    for (i = 0; i < o->prints.n_hits; i++) {
        if (o->where[i] == NULL) {
            o->where[i] = text->where;
            ngx_agent_outbound_withhold(r, text);
        }
    }

    return rc;
}


static ngx_int_t
ngx_agent_outbound_text(ngx_http_request_t *r, ngx_agent_egress_ctx_t *ctx,
    const char *where, ngx_table_elt_t *header, ag_str_t s)
{
    ngx_agent_text_t  text = { .where = where, .header = header };

    if (ngx_agent_outbound_feed(r, ctx, s) != NGX_OK) {
        return NGX_ERROR;
    }

    return ngx_agent_outbound_end(r, ctx, &text);
}


static ngx_int_t
ngx_agent_outbound_head(ngx_http_request_t *r, ngx_agent_egress_ctx_t *ctx)
{
    ag_str_t          uri;
    ngx_uint_t        i;
    ngx_list_part_t  *part;
    ngx_table_elt_t  *h;

    uri = ngx_agent_view(r->unparsed_uri);

    if (ngx_agent_outbound_text(r, ctx, "path", NULL,
                                ag_str_n(uri.p, ctx->path.len))
        != NGX_OK
        || ngx_agent_outbound_text(r, ctx, "query", NULL,
                                   ag_str_n(uri.p + ctx->path.len,
                                            uri.n - ctx->path.len))
           != NGX_OK)
    {
        return NGX_ERROR;
    }

    for (part = &r->headers_in.headers.part; part; part = part->next) {
        h = part->elts;

        for (i = 0; i < part->nelts; i++) {
            if (ngx_agent_outbound_text(r, ctx, "header", &h[i],
                                        ngx_agent_view(h[i].value))
                != NGX_OK)
            {
                return NGX_ERROR;
            }
        }
    }

    return NGX_OK;
}


/* The next bytes of the body: a view of a buffer, or a chunk of its file. */
static ngx_int_t
ngx_agent_outbound_next(ngx_http_request_t *r, ngx_agent_outbound_t *o,
    ag_str_t *piece)
{
    off_t         at, size;
    size_t        n;
    ssize_t       got;
    ngx_buf_t    *b;
    ngx_chain_t  *cl;

    at = o->body_at;
    size = 0;
    cl = r->request_body != NULL ? r->request_body->bufs : NULL;

    for ( /* void */ ; cl != NULL; cl = cl->next) {
        size = ngx_buf_size(cl->buf);

        if (at < size) {
            break;
        }

        at -= size;
    }

    if (cl == NULL) {
        return NGX_DONE;
    }

    b = cl->buf;
    n = ngx_min(size - at, NGX_AGENT_OUTBOUND_CHUNK);

    if (ngx_buf_in_memory(b)) {
        *piece = ag_str_n(b->pos + at, n);

    } else {
        if (o->chunk == NULL) {
            o->chunk = ngx_palloc(r->pool, NGX_AGENT_OUTBOUND_CHUNK);
        }

        got = o->chunk != NULL
              ? ngx_read_file(b->file, o->chunk, n, b->file_pos + at) : 0;
        if (got <= 0) {
            return NGX_ERROR;
        }

        *piece = ag_str_n(o->chunk, got);
    }

    o->body_at += piece->n;

    return NGX_OK;
}


/* NGX_AGAIN: there is more, in the next turn. */
static ngx_int_t
ngx_agent_outbound_body(ngx_http_request_t *r, ngx_agent_egress_ctx_t *ctx)
{
    off_t             from;
    ag_str_t          piece;
    ngx_int_t         rc;
    ngx_agent_text_t  text = { .where = "body", .is_body = 1 };

    from = ctx->outbound->body_at;

    for ( ;; ) {
        rc = ngx_agent_outbound_next(r, ctx->outbound, &piece);

        if (rc == NGX_DONE) {
            return ngx_agent_outbound_end(r, ctx, &text);
        }

        if (rc != NGX_OK || ngx_agent_outbound_feed(r, ctx, piece) != NGX_OK
            || ngx_agent_outbound_shapes(r, ctx, &text) != NGX_OK)
        {
            return NGX_ERROR;
        }

        if (ctx->outbound->body_at - from >= NGX_AGENT_OUTBOUND_SLICE) {
            ngx_post_event(r->connection->write, &ngx_posted_next_events);
            return NGX_AGAIN;
        }
    }
}


static ngx_int_t
ngx_agent_outbound_scan(ngx_http_request_t *r, ngx_agent_egress_ctx_t *ctx,
    const struct ngx_agent_rules *rules)
{
    ngx_int_t              rc;
    struct ag_err          err = AG_ERR_INIT;
    ngx_agent_outbound_t  *o;

    o = ctx->outbound;

    if (!o->begun) {
        o->begun = 1;
        ngx_agent_prints_scan_init(&o->prints,
                                   o->table != NULL ? o->table->prints : NULL);

        if (rules != NULL
            && ngx_agent_rules_scan_init(&o->rules, rules, &err) < 0)
        {
            ngx_log_error(NGX_LOG_ERR, r->connection->log, 0, "%s", err.msg);
            return NGX_ERROR;
        }

        if (ngx_agent_outbound_head(r, ctx) != NGX_OK) {
            return NGX_ERROR;
        }
    }

    rc = ngx_agent_outbound_body(r, ctx);
    o->scanned = rc == NGX_OK;

    return rc;
}


/* ---- values that the vault knows ---------------------------------------- */

static ngx_int_t
ngx_agent_confirm_done(ngx_http_request_t *sr, void *data, ngx_int_t rc)
{
    ngx_agent_outbound_t  *o = data;

    o->is_asking = 0;
    o->answered = 1;
    o->answer = (Agent__Vault__V1__ConfirmResponse *)
        ngx_agent_egress_answer(sr, rc,
            &agent__vault__v1__confirm_response__descriptor);

    return NGX_OK;
}


/* With `flags` NGX_HTTP_SUBREQUEST_WAITED or _BACKGROUND: nobody waits. */
static ngx_int_t
ngx_agent_confirm_start(ngx_http_request_t *r, ngx_agent_egress_ctx_t *ctx,
    ngx_uint_t flags)
{
    u_char                             print[8];
    ngx_uint_t                         i;
    ngx_http_request_t                *sr;
    ngx_agent_outbound_t              *o;
    ngx_http_post_subrequest_t        *ps;
    struct ngx_agent_print_hit        *hit;
    Agent__Vault__V1__ConfirmRequest   m;

    o = ctx->outbound;
    hit = &o->prints.hits[o->confirmed];
    ps = ngx_palloc(r->pool, sizeof(ngx_http_post_subrequest_t));
    if (ps == NULL) {
        return NGX_ERROR;
    }

    ps->handler = ngx_agent_confirm_done;
    ps->data = o;

    for (i = 0; i < sizeof(print); i++) {
        print[i] = (u_char) (hit->print >> 8 * i);
    }

    agent__vault__v1__confirm_request__init(&m);
    m.workload_address = ngx_agent_egress_text(r, &ctx->workload);
    m.session_id = ngx_agent_egress_text(r, &ctx->session);
    m.fingerprint.data = print;
    m.fingerprint.len = sizeof(print);
    m.data.data = hit->data;
    m.data.len = hit->n;
    m.where = (char *) o->where[o->confirmed];
    m.scheme = (char *) (ctx->https ? "https" : "http");
    m.host = ngx_agent_egress_text(r, &ctx->host);
    m.port = ctx->port;
    m.method = ngx_agent_egress_text(r, &r->method_name);
    m.request_id = ngx_agent_egress_text(r, &ctx->request_id);

    if (ngx_http_subrequest(r, &ngx_agent_confirm_uri, NULL, &sr, ps,
                            NGX_HTTP_SUBREQUEST_IN_MEMORY|flags)
        != NGX_OK)
    {
        return NGX_ERROR;
    }

    o->confirmed++;
    o->is_asking = 1;

    return ngx_agent_egress_send(sr, ctx, &m.base);
}


/* NGX_OK: none of the hits is a value; NGX_AGAIN: the vault is asked. */
static ngx_int_t
ngx_agent_outbound_confirm(ngx_http_request_t *r, ngx_agent_egress_ctx_t *ctx)
{
    ngx_agent_outbound_t  *o;

    o = ctx->outbound;

    if (ag_without("outbound_known")) {
        return NGX_OK;
    }

    if (o->is_asking) {
        return NGX_AGAIN;
    }

    if (o->answered) {
        if (o->answer == NULL) {
            return ngx_agent_egress_unavailable(r);
        }

        if (o->answer->is_known) {
            return ngx_agent_egress_refuse(r, NGX_HTTP_FORBIDDEN,
                                           "known_value_out",
                                           o->answer->message, 0);
        }

        agent__vault__v1__confirm_response__free_unpacked(o->answer, NULL);
        o->answer = NULL;
        o->answered = 0;
    }

    if (o->confirmed < o->prints.n_hits) {
        return ngx_agent_confirm_start(r, ctx, NGX_HTTP_SUBREQUEST_WAITED)
               == NGX_OK ? NGX_AGAIN : NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    /* Windows that nobody confirms do not come by the dozen. */

    if (o->prints.is_full) {
        return ngx_agent_egress_refuse(r, NGX_HTTP_FORBIDDEN,
                   "known_value_out",
                   "the request holds parts of a value of the vault too often",
                   0);
    }

    return NGX_OK;
}


static ngx_int_t
ngx_agent_outbound_refuse(ngx_http_request_t *r, ngx_agent_egress_ctx_t *ctx)
{
    u_char  *p, *last;
    u_char   text[512];

    last = text + sizeof(text) - 1;
    p = ngx_slprintf(text, last, "the %s holds what looks like a credential "
                     "of shape \"%s\"; put it into the vault, bound to its "
                     "host, and send its stub, or set the environment's "
                     "network \"outbound\" to \"log\"",
                     ctx->outbound->where_shape, ctx->shape);
    *p = '\0';

    return ngx_agent_egress_refuse(r, NGX_HTTP_FORBIDDEN,
                                   "credential_in_request", (char *) text, 0);
}


/* Once, of what is let on. */
static void
ngx_agent_outbound_tell(ngx_http_request_t *r, ngx_agent_egress_ctx_t *ctx)
{
    ngx_agent_outbound_t  *o;

    o = ctx->outbound;

    if (ctx->shape == NULL || o->told) {
        return;
    }

    o->told = 1;
    ngx_agent_egress_report_shape(r,
        o->act == AGENT__VAULT__V1__OUTBOUND__OUTBOUND_MASK
        ? "credential_masked" : "credential_seen");
}


ngx_int_t
ngx_agent_egress_outbound(ngx_http_request_t *r, ngx_agent_egress_ctx_t *ctx)
{
    ngx_int_t                 rc;
    ngx_agent_outbound_t     *o;
    ngx_agent_egress_conf_t  *ecf;

    ecf = ngx_http_get_module_loc_conf(r, ngx_agent_egress_module);
    o = ctx->outbound;

    if (o == NULL) {
        o = ctx->outbound = ngx_agent_outbound_create(r);
        if (o == NULL) {
            return NGX_HTTP_INTERNAL_SERVER_ERROR;
        }
    }

    if (o->done) {
        return NGX_OK;
    }

    if (!o->begun) {
        rc = ngx_agent_egress_table(r, ctx, &o->table);

        if (rc == NGX_ERROR) {
            return ngx_agent_egress_unavailable(r);
        }

        if (rc == NGX_AGAIN) {
            return NGX_AGAIN;
        }
    }

    if (!o->scanned) {
        rc = ngx_agent_outbound_scan(r, ctx, ecf->rules);

        if (rc != NGX_OK) {
            return rc == NGX_AGAIN ? rc : ngx_agent_egress_unavailable(r);
        }
    }

    rc = ngx_agent_outbound_confirm(r, ctx);

    if (rc != NGX_OK) {
        return rc;
    }

    o->done = 1;

    if (o->act == AGENT__VAULT__V1__OUTBOUND__OUTBOUND_BLOCK) {
        return ngx_agent_outbound_refuse(r, ctx);
    }

    ngx_agent_outbound_tell(r, ctx);

    return NGX_OK;
}


/* ---- streams ------------------------------------------------------------ */

/* Nobody can wait for the vault's word here: a window with all that its span
 * asks for ends the stream, and the vault is told. */
static ngx_uint_t
ngx_agent_outbound_met(ngx_http_request_t *r, ngx_agent_egress_ctx_t *ctx)
{
    ngx_uint_t             i;
    ngx_agent_outbound_t  *o;

    o = ctx->outbound;

    for (i = o->confirmed; i < o->prints.n_hits; i++) {
        if (o->prints.hits[i].n < o->prints.hits[i].need
            || ag_without("outbound_known"))
        {
            continue;
        }

        o->where[i] = "body";
        o->confirmed = i;

        if (ngx_agent_confirm_start(r, ctx, NGX_HTTP_SUBREQUEST_BACKGROUND)
            != NGX_OK)
        {
            ngx_log_error(NGX_LOG_ERR, r->connection->log, 0,
                          "a value that went out could not be reported");
        }

        return 1;
    }

    return 0;
}


const char *
ngx_agent_egress_outbound_piece(ngx_http_request_t *r,
    ngx_agent_egress_ctx_t *ctx, ag_str_t piece)
{
    ngx_agent_outbound_t  *o;
    ngx_agent_text_t       text = { .where = "body", .is_body = 1 };

    o = ctx->outbound;

    if (o == NULL || !o->begun) {
        return "request_malformed";
    }

    text.piece = piece;
    text.piece_at = o->rules.at;

    if (ngx_agent_outbound_feed(r, ctx, piece) != NGX_OK
        || ngx_agent_outbound_shapes(r, ctx, &text) != NGX_OK)
    {
        return "request_malformed";
    }

    if (ngx_agent_outbound_met(r, ctx)) {
        return "known_value_out";
    }

    if (o->act == AGENT__VAULT__V1__OUTBOUND__OUTBOUND_BLOCK) {
        return "credential_in_request";
    }

    ngx_agent_outbound_tell(r, ctx);

    return NULL;
}
