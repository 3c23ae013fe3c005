/*
 * Rows of the audit for what egress refuses by itself: a background subrequest
 * tells the vault, the answer does not wait for it. A workload that provokes
 * refusals gets so many reports a second from each worker; what is left out is
 * counted in the next one.
 */
#include "ngx_agent_module/ngx_agent_egress.h"

#define NGX_AGENT_REFUSAL_SLOTS  512
#define NGX_AGENT_REFUSAL_NAME   64


/* Allowance of one workload; a second workload of the same slot begins anew. */
typedef struct {
    u_char      name[NGX_AGENT_REFUSAL_NAME];
    size_t      len;
    time_t      second;
    ngx_uint_t  reported;
    ngx_uint_t  left_out;
} ngx_agent_refusal_slot_t;


static ngx_agent_refusal_slot_t  ngx_agent_refusals[NGX_AGENT_REFUSAL_SLOTS];
static ngx_str_t  ngx_agent_refusal_uri =
    ngx_string("/agent.vault.v1.EgressService/ReportRefusal");


static ngx_agent_refusal_slot_t *
ngx_agent_refusal_slot(ngx_str_t *who)
{
    ngx_agent_refusal_slot_t  *s;

    s = &ngx_agent_refusals[ngx_crc32_short(who->data, who->len)
                            % NGX_AGENT_REFUSAL_SLOTS];

    if (s->len != who->len || ngx_memcmp(s->name, who->data, who->len) != 0) {
        ngx_memzero(s, sizeof(ngx_agent_refusal_slot_t));
        ngx_memcpy(s->name, who->data, who->len);
        s->len = who->len;
    }

    if (s->second != ngx_time()) {
        s->second = ngx_time();
        s->reported = 0;
    }

    return s;
}


static void
ngx_agent_refusal_send(ngx_http_request_t *r, ngx_agent_egress_ctx_t *ctx,
    const char *reason, ngx_uint_t passed, ngx_uint_t count)
{
    ngx_http_request_t                      *sr;
    Agent__Vault__V1__ReportRefusalRequest   m;

    agent__vault__v1__report_refusal_request__init(&m);
    m.workload_address = ngx_agent_egress_text(r, &ctx->workload);
    m.session_id = ngx_agent_egress_text(r, &ctx->session);
    m.reason = (char *) reason;
    m.scheme = (char *) (ctx->mode == NGX_AGENT_EGRESS_REPORT ? "tcp"
                         : ctx->https ? "https" : "http");
    m.host = ngx_agent_egress_text(r, &ctx->host);
    m.port = ctx->port;
    m.method = ngx_agent_egress_text(r, &r->method_name);
    m.request_id = ngx_agent_egress_text(r, &ctx->request_id);
    m.count = (int32_t) count;
    m.passed = passed;
    m.shape = (char *) (ctx->shape != NULL ? ctx->shape : "");

    if (ctx->verdict != NULL) {
        m.audit_id = ctx->verdict->audit_id;
    }

    if (ngx_http_subrequest(r, &ngx_agent_refusal_uri, NULL, &sr, NULL,
                            NGX_HTTP_SUBREQUEST_IN_MEMORY
                            |NGX_HTTP_SUBREQUEST_BACKGROUND)
        != NGX_OK
        || ngx_agent_egress_send(sr, ctx, &m.base) != NGX_OK)
    {
        ngx_log_error(NGX_LOG_ERR, r->connection->log, 0,
                      "a refusal could not be reported");
    }
}


/* The vault's own refusals have their row, and a vault that is away can hear
 * nothing. */
static ngx_uint_t
ngx_agent_refusal_is_own(ngx_agent_egress_ctx_t *ctx, const char *reason)
{
    if (ngx_strcmp(reason, "vault_unavailable") == 0
        || ngx_strcmp(reason, "approval_denied") == 0
        || ngx_strcmp(reason, "known_value_out") == 0)
    {
        return 0;
    }

    return ctx->verdict == NULL || ctx->verdict->verdict
           != AGENT__VAULT__V1__AUTHORIZE_RESPONSE__VERDICT__DENY;
}


static void
ngx_agent_refusal_report(ngx_http_request_t *r, const char *reason,
    ngx_uint_t passed)
{
    ngx_str_t                 *who;
    ngx_uint_t                 count;
    ngx_agent_egress_ctx_t    *ctx;
    ngx_agent_egress_conf_t   *ecf;
    ngx_agent_refusal_slot_t  *s;

    ctx = ngx_agent_egress_get_ctx(r);
    ecf = ngx_http_get_module_loc_conf(r, ngx_agent_egress_module);

    if (ctx == NULL || !ngx_agent_refusal_is_own(ctx, reason)) {
        return;
    }

    /* Refused before it was asked who it is. */

    if (ctx->workload.len == 0 && ctx->mode != NGX_AGENT_EGRESS_BRAIN
        && r->connection->proxy_protocol != NULL)
    {
        ctx->workload = r->connection->proxy_protocol->src_addr;
    }

    who = ctx->workload.len != 0 ? &ctx->workload : &ctx->session;

    if (who->len == 0 || who->len > NGX_AGENT_REFUSAL_NAME) {
        return;
    }

    s = ngx_agent_refusal_slot(who);

    if (s->reported >= (ngx_uint_t) ecf->refusals) {
        s->left_out += 1 + ctx->more;
        return;
    }

    count = 1 + ctx->more + s->left_out;
    s->reported++;
    s->left_out = 0;
    ngx_agent_refusal_send(r, ctx, reason, passed, count);
}


void
ngx_agent_egress_report_refusal(ngx_http_request_t *r, const char *reason)
{
    ngx_agent_refusal_report(r, reason, 0);
}


/* Words of lower-case letters and "_" alone: they go into the audit. */
static ngx_uint_t
ngx_agent_refusal_is_word(ngx_str_t *s)
{
    size_t  i;

    for (i = 0; i < s->len; i++) {
        if (s->data[i] != '_' && (s->data[i] < 'a' || s->data[i] > 'z')) {
            return 0;
        }
    }

    return s->len > 0 && s->len <= NGX_AGENT_REFUSAL_NAME;
}


ngx_int_t
ngx_agent_egress_take_report(ngx_http_request_t *r,
    ngx_agent_egress_ctx_t *ctx)
{
    u_char     *slash;
    ngx_int_t   n;
    ngx_str_t   word;

    slash = r->uri.len < 2 ? NULL
            : ngx_strlchr(r->uri.data + 1, r->uri.data + r->uri.len, '/');

    if (slash == NULL || r->connection->proxy_protocol == NULL) {
        return NGX_HTTP_BAD_REQUEST;
    }

    word.data = r->uri.data + 1;
    word.len = slash - word.data;
    n = ngx_atoi(slash + 1, r->uri.data + r->uri.len - slash - 1);

    if (!ngx_agent_refusal_is_word(&word) || n < 1) {
        return NGX_HTTP_BAD_REQUEST;
    }

    ctx->more = n - 1;
    ctx->host = r->headers_in.server;
    ctx->port = r->connection->proxy_protocol->dst_port;
    ngx_str_set(&r->method_name, "CONNECT");
    ngx_agent_refusal_report(r, ngx_agent_egress_text(r, &word), 0);

    return NGX_HTTP_NO_CONTENT;
}


void
ngx_agent_egress_report_shape(ngx_http_request_t *r, const char *reason)
{
    ngx_log_error(NGX_LOG_WARN, r->connection->log, 0,
                  "%s: shape \"%s\" in a request", reason,
                  ngx_agent_egress_get_ctx(r)->shape);
    ngx_agent_refusal_report(r, reason, 1);
}
