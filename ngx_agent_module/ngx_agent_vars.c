/*
 * Variables of ingress, for its configuration: docs/directives.md has them.
 */
#include "ngx_agent_module/ngx_agent_module.h"

#include "lib/secret.h"


ngx_int_t
ngx_agent_variable_set(ngx_http_variable_value_t *v, ngx_str_t *s)
{
    v->data = s->data;
    v->len = s->len;
    v->valid = 1;
    v->no_cacheable = 1;
    v->not_found = 0;

    return NGX_OK;
}


/* $agent_upstream: the upstream of the route, for grpc_pass. */
static ngx_int_t
ngx_agent_upstream_variable(ngx_http_request_t *r,
    ngx_http_variable_value_t *v, uintptr_t data)
{
    ngx_str_t             *name;
    ngx_agent_ctx_t       *ctx;
    ngx_agent_loc_conf_t  *lcf;

    ctx = ngx_agent_get_ctx(r);
    lcf = ngx_http_get_module_loc_conf(r, ngx_agent_module);

    if (ctx == NULL || ctx->match.route == NULL) {
        v->not_found = 1;
        return NGX_OK;
    }

    name = &lcf->upstreams[ctx->match.route->service];

    return ngx_agent_variable_set(v, name);
}


/* $agent_request_id: joins the access log with those of the services. */
static ngx_int_t
ngx_agent_request_id_variable(ngx_http_request_t *r,
    ngx_http_variable_value_t *v, uintptr_t data)
{
    ngx_agent_ctx_t  *ctx;

    ctx = ngx_agent_get_ctx(r->main);

    if (ctx == NULL) {
        v->not_found = 1;
        return NGX_OK;
    }

    return ngx_agent_variable_set(v, &ctx->request_id);
}


/* $agent_key_hash: tells callers apart before anybody knows them, for
 * limit_req and limit_conn. */
static ngx_int_t
ngx_agent_key_hash_variable(ngx_http_request_t *r,
    ngx_http_variable_value_t *v, uintptr_t data)
{
    u_char     digest[32];
    ngx_str_t  key;

    ngx_agent_key_sent(r, &key);

    if (key.len == 0 || key.len > NGX_AGENT_KEY_MAX) {
        v->not_found = 1;
        return NGX_OK;
    }

    v->data = ngx_pnalloc(r->pool, NGX_AGENT_KEY_HASH);
    if (v->data == NULL) {
        return NGX_ERROR;
    }

    ag_sha256(ag_str_n(key.data, key.len), digest);
    ngx_hex_dump(v->data, digest, NGX_AGENT_KEY_HASH / 2);

    v->len = NGX_AGENT_KEY_HASH;
    v->valid = 1;
    v->no_cacheable = 0;
    v->not_found = 0;

    return NGX_OK;
}


ngx_int_t
ngx_agent_add_variables(ngx_conf_t *cf)
{
    ngx_uint_t            i;
    ngx_http_variable_t  *var;

    static struct {
        ngx_str_t                    name;
        ngx_http_get_variable_pt     get;
        ngx_uint_t                   flags;
    } variables[] = {
        { ngx_string("agent_upstream"), ngx_agent_upstream_variable,
          NGX_HTTP_VAR_NOCACHEABLE },
        { ngx_string("agent_request_id"), ngx_agent_request_id_variable,
          NGX_HTTP_VAR_NOCACHEABLE },
        { ngx_string("agent_key_hash"), ngx_agent_key_hash_variable, 0 },
    };

    for (i = 0; i < sizeof(variables) / sizeof(variables[0]); i++) {
        var = ngx_http_add_variable(cf, &variables[i].name,
                                    variables[i].flags);
        if (var == NULL) {
            return NGX_ERROR;
        }

        var->get_handler = variables[i].get;
    }

    return NGX_OK;
}
