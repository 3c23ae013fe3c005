/*
 * What a host could read differently from the vault: a request that carries a
 * credential and says its method, path or slot a second time. And lines of the
 * error log while there are values in a request: nginx writes parts of what a
 * host answered into them. Called in the access phase.
 */
#include "ngx_agent_module/ngx_agent_egress.h"

#include "lib/without.h"
#include "ngx_agent_module/ngx_agent_swap.h"

/* A line that is cut at nginx's limit could hold most of a value at its end. */
#define NGX_AGENT_LINE_CUT  (NGX_MAX_ERROR_STR - 64)
#define NGX_AGENT_LINE_KEEP 512


/* Frameworks take the method or the path from these. */
static const ngx_str_t  ngx_agent_overrides[] = {
    ngx_string("x-http-method-override"),
    ngx_string("x-http-method"),
    ngx_string("x-method-override"),
    ngx_string("x-original-url"),
    ngx_string("x-rewrite-url")
};


/* Header names as CGI programs see them: "_" is "-". */
static ngx_uint_t
ngx_agent_same_name(const u_char *a, size_t n, const u_char *b, size_t m)
{
    size_t  i;

    if (n != m) {
        return 0;
    }

    for (i = 0; i < n; i++) {
        if ((a[i] == '_' ? '-' : ngx_tolower(a[i]))
            != (b[i] == '_' ? '-' : ngx_tolower(b[i])))
        {
            return 0;
        }
    }

    return 1;
}


static ngx_uint_t
ngx_agent_is_override(ngx_table_elt_t *h)
{
    ngx_uint_t  i;

    for (i = 0; i < sizeof(ngx_agent_overrides) / sizeof(ngx_str_t); i++) {
        if (ngx_agent_same_name(h->key.data, h->key.len,
                                ngx_agent_overrides[i].data,
                                ngx_agent_overrides[i].len))
        {
            return 1;
        }
    }

    return 0;
}


/* Does another header have the name of one that a stub stands in? */
static ngx_uint_t
ngx_agent_is_second(ngx_agent_egress_ctx_t *ctx, ngx_table_elt_t *h)
{
    ngx_uint_t         i;
    ngx_agent_stub_t  *stub;

    stub = ctx->stubs.elts;

    for (i = 0; i < ctx->stubs.nelts; i++) {
        if (stub[i].header != NULL && stub[i].header != h
            && ngx_agent_same_name(h->key.data, h->key.len,
                                   stub[i].header->key.data,
                                   stub[i].header->key.len))
        {
            return 1;
        }
    }

    return 0;
}


/* Does the query name a parameter twice that a stub stands in? */
static ngx_uint_t
ngx_agent_is_query_twice(ngx_http_request_t *r, ngx_agent_egress_ctx_t *ctx)
{
    ag_str_t           rest, name, value;
    ngx_uint_t         i, n;
    ngx_agent_stub_t  *stub;

    stub = ctx->stubs.elts;

    for (i = 0; i < ctx->stubs.nelts; i++) {
        if (stub[i].kind != AGENT__VAULT__V1__SLOT_KIND__SLOT_QUERY) {
            continue;
        }

        n = 0;
        rest = ngx_agent_view(r->unparsed_uri);
        rest = ag_str_n(rest.p + ctx->path.len, rest.n - ctx->path.len);

        while (ngx_agent_param_next(&rest, &name, &value)) {
            n += ngx_agent_param_same(name, ngx_agent_view(stub[i].name));
        }

        if (n > 1) {
            return 1;
        }
    }

    return 0;
}


const char *
ngx_agent_egress_ambiguous(ngx_http_request_t *r,
    ngx_agent_egress_ctx_t *ctx, const char **message)
{
    ngx_uint_t        i;
    ngx_list_part_t  *part;
    ngx_table_elt_t  *h;

    if (ctx->stubs.nelts == 0) {
        return NULL;
    }

    if (ngx_agent_is_query_twice(r, ctx) && !ag_without("query_twice")) {
        *message = "the query names the parameter that holds the stub twice";
        return "slot_repeated";
    }

    for (part = &r->headers_in.headers.part; part; part = part->next) {
        h = part->elts;

        for (i = 0; i < part->nelts; i++) {
            if (ngx_agent_is_override(&h[i]) && !ag_without("override")) {
                *message = "a request with a credential cannot name another "
                           "method or path in a header";
                return "override_refused";
            }

            if (ngx_agent_is_second(ctx, &h[i]) && !ag_without("second_slot"))
            {
                *message = "the header that holds the stub stands there "
                           "twice";
                return "slot_repeated";
            }
        }
    }

    return NULL;
}


/* ---- the error log ----------------------------------------------------- */

static void
ngx_agent_log_write(ngx_log_t *log, ngx_uint_t level, u_char *buf, size_t len)
{
    ngx_agent_egress_ctx_t  *ctx = log->wdata;

    (void) ngx_agent_scrub_text(&ctx->scrub, buf, len);

    if (len > NGX_AGENT_LINE_CUT) {
        len = NGX_AGENT_LINE_KEEP;
        buf[len++] = '\n';
    }

    if (log->file != NULL && log->file->fd != NGX_INVALID_FILE) {
        (void) ngx_write_fd(log->file->fd, buf, len);
    }
}


void
ngx_agent_egress_log_guard(ngx_http_request_t *r, ngx_agent_egress_ctx_t *ctx)
{
    ngx_log_t  *log;

    if (ag_without("log_guard")) {
        return;
    }

    log = r->connection->log;
    ctx->log = log;
    ctx->log_next = log->next;

    log->writer = ngx_agent_log_write;
    log->wdata = ctx;
    log->next = NULL;
}


void
ngx_agent_egress_log_free(ngx_agent_egress_ctx_t *ctx)
{
    if (ctx->log != NULL && ctx->log->wdata == ctx) {
        ctx->log->writer = NULL;
        ctx->log->wdata = NULL;
        ctx->log->next = ctx->log_next;
    }

    ctx->log = NULL;
}
