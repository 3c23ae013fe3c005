/*
 * Egress: all that an agent sends out. The access phase and refusals; the steps
 * are in ngx_agent_egress_*.c. Real values live in this worker for the length of
 * a request, and nowhere else in the world outside.
 */
#include "ngx_agent_module/ngx_agent_egress.h"

#include "lib/secret.h"
#include "lib/without.h"


ngx_agent_egress_ctx_t *
ngx_agent_egress_get_ctx(ngx_http_request_t *r)
{
    return ngx_http_get_module_ctx(r->main, ngx_agent_egress_module);
}


void
ngx_agent_egress_go_on(ngx_event_t *ev)
{
    ngx_connection_t    *c;
    ngx_http_request_t  *r;

    r = ev->data;
    c = r->connection;

    ngx_http_set_log_request(c->log, r);
    ngx_http_core_run_phases(r);
    ngx_http_run_posted_requests(c);
}


/* ---- refusals ---------------------------------------------------------- */

static ngx_int_t
ngx_agent_egress_challenge(ngx_http_request_t *r)
{
    ngx_table_elt_t  *h;

    h = ngx_list_push(&r->headers_out.headers);
    if (h == NULL) {
        return NGX_ERROR;
    }

    h->hash = 1;
    ngx_str_set(&h->key, "WWW-Authenticate");
    ngx_str_set(&h->value, "Basic realm=\"brainbox\", charset=\"UTF-8\"");
    r->headers_out.www_authenticate = h;

    return NGX_OK;
}


ngx_int_t
ngx_agent_egress_refuse(ngx_http_request_t *r, ngx_uint_t status,
    const char *reason, const char *message, ngx_uint_t challenge)
{
    ngx_str_t                  type;
    struct ag_buf              b = AG_BUF_INIT(4096);
    ngx_agent_egress_ctx_t    *ctx;
    ngx_http_complex_value_t   cv;

    ngx_log_error(NGX_LOG_INFO, r->connection->log, 0,
                  "egress refused: %s", reason);
    ngx_agent_egress_report_refusal(r, reason);

    ctx = ngx_agent_egress_get_ctx(r);

    if (ctx != NULL && ctx->is_grpc) {
        ngx_http_finalize_request(r,
            ngx_agent_egress_grpc_refuse(r, status, reason, message));
        return NGX_DONE;
    }

    if (challenge && ngx_agent_egress_challenge(r) != NGX_OK) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    ag_buf_add(&b, AG_STR("{\"error\":{\"type\":\"egress_denied\","
                          "\"reason\":"));
    ag_buf_add_json(&b, ag_str(reason));
    ag_buf_add(&b, AG_STR(",\"message\":"));
    ag_buf_add_json(&b, ag_str(message));
    ag_buf_add(&b, AG_STR("}}\n"));

    ngx_memzero(&cv, sizeof(ngx_http_complex_value_t));
    cv.value.len = b.n;
    cv.value.data = ngx_pnalloc(r->pool, b.n);

    if (cv.value.data == NULL) {
        ag_buf_release(&b);
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    ngx_memcpy(cv.value.data, b.p, b.n);
    ag_buf_release(&b);
    ngx_str_set(&type, "application/json");

    ngx_http_finalize_request(r, ngx_http_send_response(r, status, &type,
                                                        &cv));

    return NGX_DONE;
}


ngx_int_t
ngx_agent_egress_unavailable(ngx_http_request_t *r)
{
    return ngx_agent_egress_refuse(r, NGX_HTTP_SERVICE_UNAVAILABLE,
               "vault_unavailable",
               "the request could not be authorised and was not sent; try "
               "again", 0);
}


/* ---- access ------------------------------------------------------------ */

static ngx_int_t
ngx_agent_egress_check_peer(ngx_http_request_t *r,
    ngx_agent_egress_conf_t *ecf)
{
    socklen_t     n;
    struct ucred  cred;

    if (ecf->peer_uid == -1) {
        return NGX_OK;
    }

    n = sizeof(cred);

    if (getsockopt(r->connection->fd, SOL_SOCKET, SO_PEERCRED, &cred, &n)
        == -1 || cred.uid != (uid_t) ecf->peer_uid)
    {
        ngx_log_error(NGX_LOG_ALERT, r->connection->log, 0,
                      "a peer that is not the expected user");
        return NGX_ERROR;
    }

    return NGX_OK;
}


static ngx_agent_egress_ctx_t *
ngx_agent_egress_ctx_create(ngx_http_request_t *r, ngx_uint_t mode)
{
    u_char                   raw[12];
    ngx_agent_egress_ctx_t  *ctx;

    ctx = ngx_pcalloc(r->pool, sizeof(ngx_agent_egress_ctx_t));
    if (ctx == NULL) {
        return NULL;
    }

    ctx->request = r;
    ctx->mode = mode;
    ctx->http_version = r->http_version;
    ngx_str_set(&ctx->dial_name, "vetted address");
    ctx->request_id.len = 4 + 2 * sizeof(raw);
    ctx->request_id.data = ngx_pnalloc(r->pool, ctx->request_id.len);

    if (ctx->request_id.data == NULL) {
        return NULL;
    }

    ag_random(raw, sizeof(raw));
    ngx_memcpy(ctx->request_id.data, "req_", 4);
    ngx_hex_dump(ctx->request_id.data + 4, raw, sizeof(raw));
    ngx_http_set_ctx(r, ctx, ngx_agent_egress_module);

    return ctx;
}


static void
ngx_agent_egress_body_handler(ngx_http_request_t *r)
{
    ngx_agent_egress_ctx_t  *ctx;

    ctx = ngx_agent_egress_get_ctx(r);
    ctx->state = NGX_AGENT_EGRESS_ASKING;

    r->preserve_body = 1;
    r->write_event_handler = ngx_http_core_run_phases;
    ngx_http_core_run_phases(r);
}


static ngx_int_t
ngx_agent_egress_begin(ngx_http_request_t *r, ngx_agent_egress_conf_t *ecf,
    ngx_agent_egress_ctx_t *ctx)
{
    ngx_int_t    rc;
    const char  *reason, *message;

    if (ngx_agent_egress_check_peer(r, ecf) != NGX_OK) {
        return NGX_HTTP_CLOSE;
    }

    if (ctx->mode == NGX_AGENT_EGRESS_REPORT) {
        return ngx_agent_egress_take_report(r, ctx);
    }

    if (r->method == NGX_HTTP_TRACE || r->method == NGX_HTTP_CONNECT) {
        return ngx_agent_egress_refuse(r, NGX_HTTP_NOT_ALLOWED,
                                       "method_refused",
                                       "TRACE and CONNECT go nowhere", 0);
    }

    reason = ngx_agent_egress_destination(r, ctx, &message);
    if (reason != NULL) {
        return ngx_agent_egress_refuse(r, NGX_HTTP_FORBIDDEN, reason, message,
                                       0);
    }

    if (ecf->grpc.len != 0 && ngx_agent_egress_is_grpc(r)) {
        ctx->is_grpc = 1;
        ctx->state = NGX_AGENT_EGRESS_ASKING;
        return NGX_OK;
    }

    ctx->state = NGX_AGENT_EGRESS_READING;

    rc = ngx_http_read_client_request_body(r, ngx_agent_egress_body_handler);
    if (rc >= NGX_HTTP_SPECIAL_RESPONSE) {
        return rc;
    }

    ngx_http_finalize_request(r, NGX_DONE);

    return NGX_DONE;
}


static ngx_int_t
ngx_agent_egress_ask_or_refuse(ngx_http_request_t *r,
    ngx_agent_egress_ctx_t *ctx)
{
    ngx_int_t  rc;

    if (!ctx->asked) {
        rc = ngx_agent_egress_find_stubs(r, ctx);

        if (rc == NGX_DECLINED) {
            return ngx_agent_egress_refuse(r, NGX_HTTP_FORBIDDEN,
                       "too_many_stubs", "at most 32 stubs a request", 0);
        }

        if (rc != NGX_OK) {
            return NGX_HTTP_INTERNAL_SERVER_ERROR;
        }
    }

    rc = ngx_agent_egress_ask(r, ctx);

    return rc == NGX_ERROR ? NGX_HTTP_INTERNAL_SERVER_ERROR : rc;
}


static ngx_uint_t
ngx_agent_egress_swaps_long_body(ngx_agent_egress_ctx_t *ctx)
{
    ngx_uint_t         i;
    ngx_agent_stub_t  *stub;

    stub = ctx->stubs.elts;

    for (i = 0; i < ctx->stubs.nelts && ctx->body_is_long; i++) {
        if (stub[i].kind == AGENT__VAULT__V1__SLOT_KIND__SLOT_BODY) {
            return 1;
        }
    }

    return 0;
}


/* WebSocket to a host that no credential of the session is bound to. */
static ngx_uint_t
ngx_agent_egress_may_upgrade(ngx_http_request_t *r,
    ngx_agent_egress_ctx_t *ctx)
{
    ngx_str_t  *value;

    if (r->headers_in.upgrade == NULL || ctx->stubs.nelts > 0
        || ctx->verdict->n_scrub > 0 || r->method != NGX_HTTP_GET
        || r->http_version != NGX_HTTP_VERSION_11)
    {
        return 0;
    }

    value = &r->headers_in.upgrade->value;
    ctx->upgrades = value->len == sizeof("websocket") - 1
                    && ngx_strncasecmp(value->data, (u_char *) "websocket",
                                       value->len) == 0;

    return ctx->upgrades;
}


/* What the vault allowed is put into the request. */
static ngx_int_t
ngx_agent_egress_apply(ngx_http_request_t *r, ngx_agent_egress_ctx_t *ctx)
{
    ngx_int_t                             rc;
    ngx_uint_t                            status;
    const char                           *reason, *message;
    Agent__Vault__V1__AuthorizeResponse  *v;

    v = ctx->verdict;

    if (v == NULL) {
        return ngx_agent_egress_unavailable(r);
    }

    if (v->verdict == AGENT__VAULT__V1__AUTHORIZE_RESPONSE__VERDICT__DENY) {
        status = v->http_status == NGX_HTTP_UNAUTHORIZED
                 || v->http_status == NGX_HTTP_SERVICE_UNAVAILABLE
                 ? (ngx_uint_t) v->http_status : NGX_HTTP_FORBIDDEN;
        return ngx_agent_egress_refuse(r, status, v->reason, v->message,
                                       v->challenge_basic);
    }

    if (v->verdict != AGENT__VAULT__V1__AUTHORIZE_RESPONSE__VERDICT__ALLOW) {
        return ngx_agent_egress_unavailable(r);
    }

    /* A last check of what must never happen. */

    if (!ctx->https && ctx->stubs.nelts > 0
        && !ag_without("clear_text_again")
        && (!v->clear_text || ctx->mode != NGX_AGENT_EGRESS_BRAIN))
    {
        return ngx_agent_egress_unavailable(r);
    }

    if ((ctx->stubs.nelts > 0 || v->n_scrub > 0)
        && r->headers_in.upgrade != NULL && !ag_without("upgrade"))
    {
        return ngx_agent_egress_refuse(r, NGX_HTTP_FORBIDDEN,
                   "upgrade_refused",
                   "a request with a credential cannot change its protocol",
                   0);
    }

    reason = ngx_agent_egress_ambiguous(r, ctx, &message);
    if (reason != NULL) {
        return ngx_agent_egress_refuse(r, NGX_HTTP_FORBIDDEN, reason, message,
                                       0);
    }

    if (ngx_agent_egress_swaps_long_body(ctx) && !ag_without("long_body")) {
        return ngx_agent_egress_refuse(r, NGX_HTTP_REQUEST_ENTITY_TOO_LARGE,
                   "body_over_limit",
                   "a body that holds a stub is at most as long as "
                   "agent_egress_swap_body allows", 0);
    }

    if (ctx->is_grpc && v->n_scrub > 0
        && ngx_agent_egress_grpc_is_packed(&r->headers_in.headers))
    {
        return ngx_agent_egress_refuse(r, NGX_HTTP_FORBIDDEN,
                   "encoding_refused",
                   "messages to a host that a credential is bound to cannot be "
                   "compressed", 0);
    }

    rc = ngx_agent_egress_watch(r, ctx);

    if (rc == NGX_DECLINED) {
        return ngx_agent_egress_refuse(r, NGX_HTTP_FORBIDDEN, "session_ended",
                   "the session or its credential ended meanwhile", 0);
    }

    if (rc != NGX_OK) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    /* Else a 101 that nobody asked for would become a tunnel. */

    if (!ngx_agent_egress_may_upgrade(r, ctx)) {
        r->headers_in.upgrade = NULL;
    }

    if (ngx_agent_egress_swap(r, ctx) != NGX_OK
        || ngx_agent_egress_set_signed(r, ctx) != NGX_OK
        || ngx_agent_egress_scrub_init(r, ctx) != NGX_OK)
    {
        return ngx_agent_egress_unavailable(r);
    }

    return NGX_OK;
}


/* At once, or with a signature. */
static ngx_uint_t
ngx_agent_egress_is_allowed(ngx_agent_egress_ctx_t *ctx)
{
    return ctx->verdict != NULL
           && (ctx->verdict->verdict
               == AGENT__VAULT__V1__AUTHORIZE_RESPONSE__VERDICT__ALLOW
               || ctx->verdict->verdict
                  == AGENT__VAULT__V1__AUTHORIZE_RESPONSE__VERDICT__SIGN);
}


ngx_int_t
ngx_agent_egress_access(ngx_http_request_t *r)
{
    ngx_int_t                 rc;
    ngx_agent_egress_ctx_t   *ctx;
    ngx_agent_egress_conf_t  *ecf;

    ecf = ngx_http_get_module_loc_conf(r, ngx_agent_egress_module);

    if (ecf->mode == NGX_AGENT_EGRESS_OFF || r != r->main) {
        return NGX_DECLINED;
    }

    ctx = ngx_agent_egress_get_ctx(r);

    if (ctx == NULL) {
        ctx = ngx_agent_egress_ctx_create(r, ecf->mode);
        rc = ctx != NULL ? ngx_agent_egress_begin(r, ecf, ctx)
                         : NGX_HTTP_INTERNAL_SERVER_ERROR;

        if (rc != NGX_OK) {
            return rc;
        }
    }

    if (ctx->state == NGX_AGENT_EGRESS_READING) {
        return NGX_AGAIN;
    }

    if (ctx->state == NGX_AGENT_EGRESS_PARKED) {
        return ngx_agent_egress_park(r, ctx);
    }

    if (ctx->state == NGX_AGENT_EGRESS_ASKING) {
        rc = ngx_agent_egress_ask_or_refuse(r, ctx);

        if (rc != NGX_OK) {
            return rc;
        }

        if (ctx->verdict != NULL && ctx->verdict->verdict
            == AGENT__VAULT__V1__AUTHORIZE_RESPONSE__VERDICT__ASK)
        {
            return ngx_agent_egress_park(r, ctx);
        }

        if (ngx_agent_egress_is_allowed(ctx)) {
            rc = ngx_agent_egress_outbound(r, ctx);

            if (rc != NGX_OK) {
                return rc;
            }
        }

        if (ctx->verdict != NULL && ctx->verdict->verdict
            == AGENT__VAULT__V1__AUTHORIZE_RESPONSE__VERDICT__SIGN)
        {
            return ngx_agent_egress_sign(r, ctx);
        }

        rc = ngx_agent_egress_apply(r, ctx);

        if (rc != NGX_OK) {
            return rc;
        }

        ctx->state = NGX_AGENT_EGRESS_RESOLVING;
    }

    if (ctx->state == NGX_AGENT_EGRESS_RESOLVING) {
        rc = ngx_agent_egress_resolve(r, ctx);

        if (rc != NGX_OK) {
            return rc == NGX_AGAIN ? rc : NGX_HTTP_INTERNAL_SERVER_ERROR;
        }

        if (ctx->dial_error != NULL) {
            return ngx_agent_egress_refuse(r, NGX_HTTP_BAD_GATEWAY,
                       ctx->dial_error,
                       "the host has no address that may be reached", 0);
        }

        ctx->state = NGX_AGENT_EGRESS_READY;

        if (ctx->is_grpc
            && ngx_agent_egress_grpc_enter(r, ctx, &ecf->grpc) != NGX_OK)
        {
            return NGX_HTTP_INTERNAL_SERVER_ERROR;
        }
    }

    return NGX_OK;
}
