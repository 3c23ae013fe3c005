/*
 * Egress: all that an agent sends out. Directives, the access phase, and
 * refusals; the steps are in ngx_agent_egress_*.c. A second module in the same
 * library, for an nginx instance of its own: real values live in its workers
 * for the length of a request, and nowhere else in the world outside.
 */
#include "ngx_agent_module/ngx_agent_egress.h"

#include <pwd.h>
#include <sys/prctl.h>

#include "lib/secret.h"
#include "lib/without.h"
#include "ngx_agent_module/ngx_agent_module.h"
#include "ngx_agent_module/ngx_agent_rules.h"


static char *ngx_agent_egress_set_mode(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);
static char *ngx_agent_egress_set_peer(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);
static char *ngx_agent_egress_set_leaf(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);
static char *ngx_agent_egress_set_rules(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);
static ngx_int_t ngx_agent_egress_variables(ngx_conf_t *cf);
static ngx_int_t ngx_agent_egress_init(ngx_conf_t *cf);
static void *ngx_agent_egress_create_conf(ngx_conf_t *cf);
static char *ngx_agent_egress_merge_conf(ngx_conf_t *cf, void *parent,
    void *child);
static ngx_int_t ngx_agent_egress_init_process(ngx_cycle_t *cycle);


static ngx_command_t  ngx_agent_egress_commands[] = {

    { ngx_string("agent_egress"),
      NGX_HTTP_LOC_CONF|NGX_CONF_TAKE1,
      ngx_agent_egress_set_mode,
      NGX_HTTP_LOC_CONF_OFFSET,
      0,
      NULL },

    { ngx_string("agent_egress_peer"),
      NGX_HTTP_SRV_CONF|NGX_CONF_TAKE1,
      ngx_agent_egress_set_peer,
      NGX_HTTP_LOC_CONF_OFFSET,
      0,
      NULL },

    { ngx_string("agent_egress_refusals"),
      NGX_HTTP_MAIN_CONF|NGX_HTTP_SRV_CONF|NGX_HTTP_LOC_CONF|NGX_CONF_TAKE1,
      ngx_conf_set_num_slot,
      NGX_HTTP_LOC_CONF_OFFSET,
      offsetof(ngx_agent_egress_conf_t, refusals),
      NULL },

    { ngx_string("agent_egress_leaf"),
      NGX_HTTP_SRV_CONF|NGX_CONF_TAKE1,
      ngx_agent_egress_set_leaf,
      NGX_HTTP_LOC_CONF_OFFSET,
      0,
      NULL },

    { ngx_string("agent_egress_swap_body"),
      NGX_HTTP_MAIN_CONF|NGX_HTTP_SRV_CONF|NGX_HTTP_LOC_CONF|NGX_CONF_TAKE1,
      ngx_conf_set_size_slot,
      NGX_HTTP_LOC_CONF_OFFSET,
      offsetof(ngx_agent_egress_conf_t, swap_body),
      NULL },

    { ngx_string("agent_egress_grpc"),
      NGX_HTTP_LOC_CONF|NGX_CONF_TAKE1,
      ngx_conf_set_str_slot,
      NGX_HTTP_LOC_CONF_OFFSET,
      offsetof(ngx_agent_egress_conf_t, grpc),
      NULL },

    { ngx_string("agent_egress_rules"),
      NGX_HTTP_MAIN_CONF|NGX_HTTP_SRV_CONF|NGX_HTTP_LOC_CONF|NGX_CONF_TAKE1,
      ngx_agent_egress_set_rules,
      NGX_HTTP_LOC_CONF_OFFSET,
      0,
      NULL },

    { ngx_string("agent_egress_mint_body"),
      NGX_HTTP_MAIN_CONF|NGX_HTTP_SRV_CONF|NGX_HTTP_LOC_CONF|NGX_CONF_TAKE1,
      ngx_conf_set_size_slot,
      NGX_HTTP_LOC_CONF_OFFSET,
      offsetof(ngx_agent_egress_conf_t, mint_body),
      NULL },

    { ngx_string("agent_egress_dial"),
      NGX_HTTP_UPS_CONF|NGX_CONF_ANY,
      ngx_agent_egress_dial,
      0,
      0,
      NULL },

      ngx_null_command
};


static ngx_http_module_t  ngx_agent_egress_module_ctx = {
    ngx_agent_egress_variables,            /* preconfiguration */
    ngx_agent_egress_init,                 /* postconfiguration */

    NULL,                                  /* create main configuration */
    NULL,                                  /* init main configuration */

    NULL,                                  /* create server configuration */
    NULL,                                  /* merge server configuration */

    ngx_agent_egress_create_conf,          /* create location configuration */
    ngx_agent_egress_merge_conf            /* merge location configuration */
};


ngx_module_t  ngx_agent_egress_module = {
    NGX_MODULE_V1,
    &ngx_agent_egress_module_ctx,          /* module context */
    ngx_agent_egress_commands,             /* module directives */
    NGX_HTTP_MODULE,                       /* module type */
    NULL,                                  /* init master */
    NULL,                                  /* init module */
    ngx_agent_egress_init_process,         /* init process */
    NULL,                                  /* init thread */
    NULL,                                  /* exit thread */
    NULL,                                  /* exit process */
    NULL,                                  /* exit master */
    NGX_MODULE_V1_PADDING
};


ngx_agent_egress_ctx_t *
ngx_agent_egress_get_ctx(ngx_http_request_t *r)
{
    return ngx_http_get_module_ctx(r->main, ngx_agent_egress_module);
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
                 ? NGX_HTTP_UNAUTHORIZED : NGX_HTTP_FORBIDDEN;
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


static ngx_int_t
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


/* ---- variables --------------------------------------------------------- */

/* `data` is the offset of an ngx_str_t in the context. */
static ngx_int_t
ngx_agent_egress_variable(ngx_http_request_t *r,
    ngx_http_variable_value_t *v, uintptr_t data)
{
    ngx_str_t               *s;
    ngx_agent_egress_ctx_t  *ctx;

    ctx = ngx_agent_egress_get_ctx(r);

    if (ctx == NULL) {
        v->not_found = 1;
        return NGX_OK;
    }

    s = (ngx_str_t *) ((char *) ctx + data);
    v->data = s->data;
    v->len = s->len;
    v->valid = 1;
    v->no_cacheable = 1;
    v->not_found = 0;

    return NGX_OK;
}


/* Range as it was asked, empty beside a credential: slices would hide what is
 * looked for. */
static ngx_int_t
ngx_agent_egress_range(ngx_http_request_t *r, ngx_http_variable_value_t *v,
    uintptr_t data)
{
    ngx_agent_egress_ctx_t  *ctx;

    ctx = ngx_agent_egress_get_ctx(r);
    v->valid = 1;
    v->no_cacheable = 1;
    v->not_found = 0;
    v->len = 0;

    if (ctx != NULL && r->headers_in.range != NULL
        && (!ctx->scrubbing || ag_without("range")))
    {
        v->data = r->headers_in.range->value.data;
        v->len = r->headers_in.range->value.len;
    }

    return NGX_OK;
}


/* "websocket" and "upgrade" where the protocol may change; `data` says which
 * of the two. */
static ngx_int_t
ngx_agent_egress_upgrade(ngx_http_request_t *r, ngx_http_variable_value_t *v,
    uintptr_t data)
{
    ngx_agent_egress_ctx_t  *ctx;

    ctx = ngx_agent_egress_get_ctx(r);
    v->valid = 1;
    v->no_cacheable = 1;
    v->not_found = 0;
    v->len = 0;

    if (ctx != NULL && ctx->upgrades) {
        v->data = (u_char *) (data ? "upgrade" : "websocket");
        v->len = ngx_strlen(v->data);
    }

    return NGX_OK;
}


static ngx_http_variable_t  ngx_agent_egress_vars[] = {

    { ngx_string("agent_egress_host"), NULL, ngx_agent_egress_variable,
      offsetof(ngx_agent_egress_ctx_t, host), NGX_HTTP_VAR_NOCACHEABLE, 0 },

    { ngx_string("agent_egress_path"), NULL, ngx_agent_egress_variable,
      offsetof(ngx_agent_egress_ctx_t, path), NGX_HTTP_VAR_NOCACHEABLE, 0 },

    { ngx_string("agent_egress_workload"), NULL, ngx_agent_egress_variable,
      offsetof(ngx_agent_egress_ctx_t, workload), NGX_HTTP_VAR_NOCACHEABLE,
      0 },

    { ngx_string("agent_egress_session"), NULL, ngx_agent_egress_variable,
      offsetof(ngx_agent_egress_ctx_t, session), NGX_HTTP_VAR_NOCACHEABLE,
      0 },

    { ngx_string("agent_egress_request_id"), NULL, ngx_agent_egress_variable,
      offsetof(ngx_agent_egress_ctx_t, request_id), NGX_HTTP_VAR_NOCACHEABLE,
      0 },

    { ngx_string("agent_egress_range"), NULL, ngx_agent_egress_range, 0,
      NGX_HTTP_VAR_NOCACHEABLE, 0 },

    { ngx_string("agent_egress_upgrade"), NULL, ngx_agent_egress_upgrade, 0,
      NGX_HTTP_VAR_NOCACHEABLE, 0 },

    { ngx_string("agent_egress_connection"), NULL, ngx_agent_egress_upgrade,
      1, NGX_HTTP_VAR_NOCACHEABLE, 0 },

      ngx_http_null_variable
};


static ngx_int_t
ngx_agent_egress_variables(ngx_conf_t *cf)
{
    ngx_http_variable_t  *var, *v;

    for (v = ngx_agent_egress_vars; v->name.len; v++) {
        var = ngx_http_add_variable(cf, &v->name, v->flags);
        if (var == NULL) {
            return NGX_ERROR;
        }

        var->get_handler = v->get_handler;
        var->data = v->data;
    }

    return NGX_OK;
}


/* ---- configuration ----------------------------------------------------- */

static int
ngx_agent_egress_cert_cb(ngx_ssl_conn_t *ssl, void *arg)
{
    return ngx_agent_leaf_give(ssl, arg);
}


static ngx_int_t
ngx_agent_egress_set_callbacks(ngx_conf_t *cf)
{
    ngx_uint_t                   i;
    ngx_http_ssl_srv_conf_t     *sscf;
    ngx_agent_egress_conf_t     *ecf;
    ngx_http_core_srv_conf_t   **cscfp;
    ngx_http_core_main_conf_t   *cmcf;

    cmcf = ngx_http_conf_get_module_main_conf(cf, ngx_http_core_module);
    cscfp = cmcf->servers.elts;

    for (i = 0; i < cmcf->servers.nelts; i++) {
        sscf = cscfp[i]->ctx->srv_conf[ngx_http_ssl_module.ctx_index];
        ecf = cscfp[i]->ctx->loc_conf[ngx_agent_egress_module.ctx_index];

        if (ecf->leaf != NULL && sscf->ssl.ctx != NULL) {
            SSL_CTX_set_cert_cb(sscf->ssl.ctx, ngx_agent_egress_cert_cb,
                                ecf->leaf);
        }
    }

    return NGX_OK;
}


static ngx_int_t
ngx_agent_egress_init(ngx_conf_t *cf)
{
    ngx_http_handler_pt        *h;
    ngx_http_core_main_conf_t  *cmcf;

    cmcf = ngx_http_conf_get_module_main_conf(cf, ngx_http_core_module);

    h = ngx_array_push(&cmcf->phases[NGX_HTTP_ACCESS_PHASE].handlers);
    if (h == NULL) {
        return NGX_ERROR;
    }

    *h = ngx_agent_egress_access;

    if (ngx_agent_egress_set_callbacks(cf) != NGX_OK) {
        return NGX_ERROR;
    }

    if (ngx_agent_egress_grpc_init(cf) != NGX_OK) {
        return NGX_ERROR;
    }

    if (ngx_agent_egress_filter_init(cf) != NGX_OK) {
        return NGX_ERROR;
    }

    return ngx_agent_egress_mint_init(cf);
}


static char *
ngx_agent_egress_set_mode(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_str_t                *value;
    ngx_agent_egress_conf_t  *ecf = conf;

    value = cf->args->elts;

    if (ngx_strcmp(value[1].data, "sandbox") == 0) {
        ecf->mode = NGX_AGENT_EGRESS_SANDBOX;

    } else if (ngx_strcmp(value[1].data, "brain") == 0) {
        ecf->mode = NGX_AGENT_EGRESS_BRAIN;

    } else if (ngx_strcmp(value[1].data, "report") == 0) {
        ecf->mode = NGX_AGENT_EGRESS_REPORT;

    } else {
        return "is none of \"sandbox\", \"brain\" and \"report\"";
    }

    return NGX_CONF_OK;
}


static char *
ngx_agent_egress_set_peer(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_str_t                *value;
    struct passwd            *pw;
    ngx_agent_egress_conf_t  *ecf = conf;

    value = cf->args->elts;
    pw = getpwnam((char *) value[1].data);

    if (pw == NULL) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "user \"%V\" does not exist", &value[1]);
        return NGX_CONF_ERROR;
    }

    ecf->peer_uid = pw->pw_uid;

    return NGX_CONF_OK;
}


static char *
ngx_agent_egress_set_leaf(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_str_t                *value;
    ngx_agent_egress_conf_t  *ecf = conf;

    value = cf->args->elts;

    if (ngx_conf_full_name(cf->cycle, &value[1], 1) != NGX_OK) {
        return NGX_CONF_ERROR;
    }

    ecf->leaf = ngx_agent_leaf_create(cf, &value[1]);

    return ecf->leaf != NULL ? NGX_CONF_OK : NGX_CONF_ERROR;
}


/* The file's text, in the pool of the configuration. */
static ngx_int_t
ngx_agent_egress_read_file(ngx_conf_t *cf, ngx_str_t *name, ngx_str_t *text)
{
    ssize_t          n;
    ngx_file_t       file;
    ngx_file_info_t  fi;

    ngx_memzero(&file, sizeof(ngx_file_t));
    file.name = *name;
    file.log = cf->log;
    file.fd = ngx_open_file(name->data, NGX_FILE_RDONLY, NGX_FILE_OPEN, 0);

    if (file.fd == NGX_INVALID_FILE
        || ngx_fd_info(file.fd, &fi) == NGX_FILE_ERROR)
    {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, ngx_errno,
                           "\"%V\" cannot be opened", name);
        n = -1;

    } else {
        text->len = ngx_file_size(&fi);
        text->data = ngx_pnalloc(cf->pool, text->len + 1);
        n = text->data == NULL
            ? -1 : ngx_read_file(&file, text->data, text->len, 0);
    }

    if (file.fd != NGX_INVALID_FILE) {
        (void) ngx_close_file(file.fd);
    }

    return n >= 0 && (size_t) n == text->len ? NGX_OK : NGX_ERROR;
}


static void
ngx_agent_egress_rules_free(void *data)
{
    ngx_agent_rules_free(data);
}


static char *
ngx_agent_egress_set_rules(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_str_t                *value, text;
    struct ag_err             err = AG_ERR_INIT;
    ngx_pool_cleanup_t       *cln;
    ngx_agent_egress_conf_t  *ecf = conf;

    value = cf->args->elts;
    cln = ngx_pool_cleanup_add(cf->pool, 0);

    if (cln == NULL || ngx_conf_full_name(cf->cycle, &value[1], 1) != NGX_OK
        || ngx_agent_egress_read_file(cf, &value[1], &text) != NGX_OK)
    {
        return NGX_CONF_ERROR;
    }

    ecf->rules = ngx_agent_rules_new(ngx_agent_view(text), &err);

    if (ecf->rules == NULL) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0, "%V: %s", &value[1],
                           err.msg);
        return NGX_CONF_ERROR;
    }

    cln->handler = ngx_agent_egress_rules_free;
    cln->data = ecf->rules;

    return NGX_CONF_OK;
}


static void *
ngx_agent_egress_create_conf(ngx_conf_t *cf)
{
    ngx_agent_egress_conf_t  *ecf;

    ecf = ngx_pcalloc(cf->pool, sizeof(ngx_agent_egress_conf_t));
    if (ecf == NULL) {
        return NULL;
    }

    ecf->mode = NGX_CONF_UNSET_UINT;
    ecf->peer_uid = NGX_CONF_UNSET;
    ecf->refusals = NGX_CONF_UNSET;
    ecf->swap_body = NGX_CONF_UNSET_SIZE;
    ecf->rules = NGX_CONF_UNSET_PTR;
    ecf->mint_body = NGX_CONF_UNSET_SIZE;

    return ecf;
}


static char *
ngx_agent_egress_merge_conf(ngx_conf_t *cf, void *parent, void *child)
{
    ngx_agent_egress_conf_t  *prev = parent;
    ngx_agent_egress_conf_t  *conf = child;

    /* The mode is a location's own: error pages ask nobody. */

    if (conf->mode == NGX_CONF_UNSET_UINT) {
        conf->mode = NGX_AGENT_EGRESS_OFF;
    }

    ngx_conf_merge_value(conf->peer_uid, prev->peer_uid, -1);
    ngx_conf_merge_value(conf->refusals, prev->refusals, 5);
    ngx_conf_merge_ptr_value(conf->rules, prev->rules, NULL);
    ngx_conf_merge_size_value(conf->swap_body, prev->swap_body, 1024 * 1024);
    ngx_conf_merge_size_value(conf->mint_body, prev->mint_body, 1024 * 1024);

    return NGX_CONF_OK;
}


/* nginx makes workers dumpable when it changes their user. */
static ngx_int_t
ngx_agent_egress_init_process(ngx_cycle_t *cycle)
{
    ngx_uint_t                   i;
    ngx_agent_main_conf_t       *amcf;
    ngx_agent_egress_conf_t     *ecf;
    ngx_http_conf_ctx_t         *hctx;
    ngx_http_core_srv_conf_t   **cscfp;
    ngx_http_core_main_conf_t   *cmcf;

    hctx = (ngx_http_conf_ctx_t *) cycle->conf_ctx[ngx_http_module.index];

    if (hctx == NULL) {
        return NGX_OK;
    }

    cmcf = hctx->main_conf[ngx_http_core_module.ctx_index];
    cscfp = cmcf->servers.elts;

    for (i = 0; i < cmcf->servers.nelts; i++) {
        ecf = cscfp[i]->ctx->loc_conf[ngx_agent_egress_module.ctx_index];

        if (ecf->leaf == NULL) {
            continue;
        }

        if (!ag_without("dumpable")) {
            (void) prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
        }

        amcf = hctx->main_conf[ngx_agent_module.ctx_index];
        ngx_agent_egress_watch_init(cycle, &amcf->generation);

        return NGX_OK;
    }

    return NGX_OK;
}
