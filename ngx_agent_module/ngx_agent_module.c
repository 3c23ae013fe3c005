/*
 * The module that people and programs come in through: directives, their
 * merge, and the definition of ngx_agent_module. Nothing here has
 * an effect outside locations that carry `agent_api` or `agent_grpc`.
 */
#include "ngx_agent_module/ngx_agent_module.h"

#include "lib/scope.h"


static ngx_int_t ngx_agent_init(ngx_conf_t *cf);
static void *ngx_agent_create_main_conf(ngx_conf_t *cf);
static void *ngx_agent_create_loc_conf(ngx_conf_t *cf);
static char *ngx_agent_merge_loc_conf(ngx_conf_t *cf, void *parent,
    void *child);
static char *ngx_agent_services(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);
static char *ngx_agent_admit(ngx_conf_t *cf, ngx_command_t *cmd, void *conf);
static char *ngx_agent_key_zone(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);


static ngx_conf_num_bounds_t  ngx_agent_depth_bounds = {
    ngx_conf_check_num_bounds, 1, 64
};


static ngx_conf_enum_t  ngx_agent_pasted[] = {
    { ngx_string("off"), NGX_AGENT_PASTED_OFF },
    { ngx_string("log"), NGX_AGENT_PASTED_LOG },
    { ngx_string("refuse"), NGX_AGENT_PASTED_REFUSE },
    { ngx_null_string, 0 }
};


static ngx_command_t  ngx_agent_commands[] = {

    { ngx_string("agent_api"),
      NGX_HTTP_LOC_CONF|NGX_CONF_1MORE,
      ngx_agent_services,
      NGX_HTTP_LOC_CONF_OFFSET,
      NGX_AGENT_REST,
      NULL },

    { ngx_string("agent_grpc"),
      NGX_HTTP_LOC_CONF|NGX_CONF_1MORE,
      ngx_agent_services,
      NGX_HTTP_LOC_CONF_OFFSET,
      NGX_AGENT_GRPC,
      NULL },

    { ngx_string("agent_admit"),
      NGX_HTTP_LOC_CONF|NGX_CONF_1MORE,
      ngx_agent_admit,
      NGX_HTTP_LOC_CONF_OFFSET,
      0,
      NULL },

    { ngx_string("agent_metrics"),
      NGX_HTTP_LOC_CONF|NGX_CONF_TAKE1,
      ngx_agent_metrics,
      NGX_HTTP_LOC_CONF_OFFSET,
      0,
      NULL },

    { ngx_string("agent_key_zone"),
      NGX_HTTP_MAIN_CONF|NGX_CONF_TAKE1,
      ngx_agent_key_zone,
      NGX_HTTP_MAIN_CONF_OFFSET,
      0,
      NULL },

    { ngx_string("agent_generation"),
      NGX_HTTP_MAIN_CONF|NGX_CONF_TAKE1,
      ngx_conf_set_str_slot,
      NGX_HTTP_MAIN_CONF_OFFSET,
      offsetof(ngx_agent_main_conf_t, generation),
      NULL },

    { ngx_string("agent_identity"),
      NGX_HTTP_MAIN_CONF|NGX_HTTP_SRV_CONF|NGX_HTTP_LOC_CONF|NGX_CONF_TAKE1,
      ngx_conf_set_str_slot,
      NGX_HTTP_LOC_CONF_OFFSET,
      offsetof(ngx_agent_loc_conf_t, identity),
      NULL },

    { ngx_string("agent_max_body"),
      NGX_HTTP_MAIN_CONF|NGX_HTTP_SRV_CONF|NGX_HTTP_LOC_CONF|NGX_CONF_TAKE1,
      ngx_conf_set_size_slot,
      NGX_HTTP_LOC_CONF_OFFSET,
      offsetof(ngx_agent_loc_conf_t, max_body),
      NULL },

    { ngx_string("agent_max_depth"),
      NGX_HTTP_MAIN_CONF|NGX_HTTP_SRV_CONF|NGX_HTTP_LOC_CONF|NGX_CONF_TAKE1,
      ngx_conf_set_num_slot,
      NGX_HTTP_LOC_CONF_OFFSET,
      offsetof(ngx_agent_loc_conf_t, max_depth),
      &ngx_agent_depth_bounds },

    { ngx_string("agent_inbound_rules"),
      NGX_HTTP_MAIN_CONF|NGX_HTTP_SRV_CONF|NGX_HTTP_LOC_CONF|NGX_CONF_TAKE1,
      ngx_agent_rules_slot,
      NGX_HTTP_LOC_CONF_OFFSET,
      offsetof(ngx_agent_loc_conf_t, rules),
      NULL },

    { ngx_string("agent_inbound_secrets"),
      NGX_HTTP_MAIN_CONF|NGX_HTTP_SRV_CONF|NGX_HTTP_LOC_CONF|NGX_CONF_TAKE1,
      ngx_conf_set_enum_slot,
      NGX_HTTP_LOC_CONF_OFFSET,
      offsetof(ngx_agent_loc_conf_t, pasted),
      &ngx_agent_pasted },

    { ngx_string("agent_heartbeat"),
      NGX_HTTP_MAIN_CONF|NGX_HTTP_SRV_CONF|NGX_HTTP_LOC_CONF|NGX_CONF_TAKE1,
      ngx_conf_set_msec_slot,
      NGX_HTTP_LOC_CONF_OFFSET,
      offsetof(ngx_agent_loc_conf_t, heartbeat),
      NULL },

      ngx_null_command
};


static ngx_http_module_t  ngx_agent_module_ctx = {
    ngx_agent_add_variables,               /* preconfiguration */
    ngx_agent_init,                        /* postconfiguration */

    ngx_agent_create_main_conf,            /* create main configuration */
    NULL,                                  /* init main configuration */

    NULL,                                  /* create server configuration */
    NULL,                                  /* merge server configuration */

    ngx_agent_create_loc_conf,             /* create location configuration */
    ngx_agent_merge_loc_conf               /* merge location configuration */
};


ngx_module_t  ngx_agent_module = {
    NGX_MODULE_V1,
    &ngx_agent_module_ctx,                 /* module context */
    ngx_agent_commands,                    /* module directives */
    NGX_HTTP_MODULE,                       /* module type */
    NULL,                                  /* init master */
    NULL,                                  /* init module */
    NULL,                                  /* init process */
    NULL,                                  /* init thread */
    NULL,                                  /* exit thread */
    NULL,                                  /* exit process */
    NULL,                                  /* exit master */
    NGX_MODULE_V1_PADDING
};


ngx_agent_ctx_t *
ngx_agent_get_ctx(ngx_http_request_t *r)
{
    return ngx_http_get_module_ctx(r, ngx_agent_module);
}


static ngx_int_t
ngx_agent_add_phase(ngx_conf_t *cf, ngx_uint_t phase,
    ngx_http_handler_pt handler)
{
    ngx_http_handler_pt        *h;
    ngx_http_core_main_conf_t  *cmcf;

    cmcf = ngx_http_conf_get_module_main_conf(cf, ngx_http_core_module);

    h = ngx_array_push(&cmcf->phases[phase].handlers);
    if (h == NULL) {
        return NGX_ERROR;
    }

    *h = handler;

    return NGX_OK;
}


static ngx_int_t
ngx_agent_init(ngx_conf_t *cf)
{
    ngx_str_t               name;
    ngx_agent_main_conf_t  *amcf;

    amcf = ngx_http_conf_get_module_main_conf(cf, ngx_agent_module);

    /* grpc_pass sends it, and a subrequest shares its cached value. */

    ngx_str_set(&name, "content_length");

    amcf->content_length_index = ngx_http_get_variable_index(cf, &name);
    if (amcf->content_length_index == NGX_ERROR) {
        return NGX_ERROR;
    }

    if (ngx_agent_add_phase(cf, NGX_HTTP_ACCESS_PHASE,
                            ngx_agent_access_handler)
        != NGX_OK)
    {
        return NGX_ERROR;
    }

    if (ngx_agent_add_phase(cf, NGX_HTTP_PRECONTENT_PHASE,
                            ngx_agent_precontent_handler)
        != NGX_OK)
    {
        return NGX_ERROR;
    }

    if (ngx_agent_add_phase(cf, NGX_HTTP_LOG_PHASE,
                            ngx_agent_metrics_log_handler)
        != NGX_OK)
    {
        return NGX_ERROR;
    }

    return ngx_agent_filter_init(cf);
}


static void *
ngx_agent_create_main_conf(ngx_conf_t *cf)
{
    return ngx_pcalloc(cf->pool, sizeof(ngx_agent_main_conf_t));
}


static void *
ngx_agent_create_loc_conf(ngx_conf_t *cf)
{
    ngx_agent_loc_conf_t  *conf;

    /*
     * set by ngx_pcalloc():
     *
     *     conf->mode = NGX_AGENT_OFF;
     *     conf->upstreams = { 0, NULL };
     *     conf->identity = { 0, NULL };
     */

    conf = ngx_pcalloc(cf->pool, sizeof(ngx_agent_loc_conf_t));
    if (conf == NULL) {
        return NULL;
    }

    conf->max_body = NGX_CONF_UNSET_SIZE;
    conf->max_depth = NGX_CONF_UNSET_UINT;
    conf->heartbeat = NGX_CONF_UNSET_MSEC;
    conf->rules = NGX_CONF_UNSET_PTR;
    conf->pasted = NGX_CONF_UNSET_UINT;

    return conf;
}


static char *
ngx_agent_merge_loc_conf(ngx_conf_t *cf, void *parent, void *child)
{
    ngx_agent_loc_conf_t  *prev = parent;
    ngx_agent_loc_conf_t  *conf = child;

    ngx_agent_main_conf_t  *amcf;

    /* the mode is not inherited: a nested location says what it is */

    ngx_conf_merge_str_value(conf->identity, prev->identity, "");
    ngx_conf_merge_size_value(conf->max_body, prev->max_body, 1024 * 1024);
    ngx_conf_merge_uint_value(conf->max_depth, prev->max_depth, 64);
    ngx_conf_merge_msec_value(conf->heartbeat, prev->heartbeat, 15000);
    ngx_conf_merge_ptr_value(conf->rules, prev->rules, NULL);
    ngx_conf_merge_uint_value(conf->pasted, prev->pasted,
                              NGX_AGENT_PASTED_REFUSE);

    if (conf->mode == NGX_AGENT_OFF) {
        return NGX_CONF_OK;
    }

    amcf = ngx_http_conf_get_module_main_conf(cf, ngx_agent_module);

    if (amcf->keys == NULL || amcf->generation.len == 0
        || conf->identity.len == 0)
    {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "\"agent_api\", \"agent_grpc\" and "
                           "\"agent_admit\" need "
                           "\"agent_key_zone\", \"agent_generation\" and "
                           "\"agent_identity\"");
        return NGX_CONF_ERROR;
    }

    if (conf->heartbeat < 1000) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "\"agent_heartbeat\" must be 1s or more");
        return NGX_CONF_ERROR;
    }

    return NGX_CONF_OK;
}


/* agent_api brain=<upstream> [vault=<upstream>] [sandbox=<upstream>] */
static char *
ngx_agent_services(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_agent_loc_conf_t  *lcf = conf;

    ngx_str_t   *value, *name;
    ngx_uint_t   i, k;

    static const ngx_str_t  names[NGX_AGENT_SERVICES] = {
        ngx_string("brain="),
        ngx_string("vault="),
        ngx_string("sandbox="),
    };

    if (lcf->mode != NGX_AGENT_OFF) {
        return "is duplicate, or stands beside its sibling";
    }

    lcf->mode = cmd->offset;
    value = cf->args->elts;

    for (i = 1; i < cf->args->nelts; i++) {
        for (k = 0; k < NGX_AGENT_SERVICES; k++) {
            if (value[i].len > names[k].len
                && ngx_strncmp(value[i].data, names[k].data, names[k].len)
                   == 0)
            {
                break;
            }
        }

        if (k == NGX_AGENT_SERVICES || lcf->upstreams[k].len) {
            ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                               "invalid parameter \"%V\"; right would be "
                               "brain=, vault= or sandbox= and the name of "
                               "an upstream, each once", &value[i]);
            return NGX_CONF_ERROR;
        }

        name = &lcf->upstreams[k];
        name->len = value[i].len - names[k].len;
        name->data = value[i].data + names[k].len;
    }

    return NGX_CONF_OK;
}


/* agent_admit scope ... */
static char *
ngx_agent_admit(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_agent_loc_conf_t  *lcf = conf;

    unsigned     bit;
    ngx_str_t   *value;
    ngx_uint_t   i;

    if (lcf->mode != NGX_AGENT_OFF) {
        return "is duplicate, or stands beside agent_api or agent_grpc";
    }

    value = cf->args->elts;

    for (i = 1; i < cf->args->nelts; i++) {
        bit = ag_scope_find(ag_str_n(value[i].data, value[i].len));
        if (bit == 0) {
            return "names no scope: there are read, write, admin, sessions, "
                   "vaults, approvals, incidents, audit and metrics";
        }

        lcf->scopes |= bit;
    }

    lcf->mode = NGX_AGENT_ADMIT;

    return NGX_CONF_OK;
}


/* agent_key_zone name:size */
static char *
ngx_agent_key_zone(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_agent_main_conf_t  *amcf = conf;

    u_char     *p;
    ssize_t     size;
    ngx_str_t  *value, name, s;

    if (amcf->keys) {
        return "is duplicate";
    }

    value = cf->args->elts;
    name = value[1];

    p = (u_char *) ngx_strchr(name.data, ':');

    if (p == NULL || p == name.data) {
        return "must be name:size";
    }

    name.len = p - name.data;
    s.data = p + 1;
    s.len = value[1].data + value[1].len - s.data;

    size = ngx_parse_size(&s);

    if (size == NGX_ERROR || size < (ssize_t) (8 * ngx_pagesize)) {
        return "needs a size of at least 8 pages";
    }

    amcf->keys = ngx_shared_memory_add(cf, &name, size, &ngx_agent_module);
    if (amcf->keys == NULL) {
        return NGX_CONF_ERROR;
    }

    if (amcf->keys->init) {
        return "names a zone that is in use";
    }

    amcf->keys->init = ngx_agent_key_init_zone;

    return NGX_CONF_OK;
}
