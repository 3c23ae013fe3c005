/* Variables of egress, for the configuration's proxy_* and log_format. */
#include "ngx_agent_module/ngx_agent_egress.h"

#include "lib/without.h"
#include "ngx_agent_module/ngx_agent_module.h"


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

    return ngx_agent_variable_set(v, s);
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


ngx_int_t
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
