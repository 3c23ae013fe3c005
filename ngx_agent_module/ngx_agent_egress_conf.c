/*
 * Directives of egress, and the module: a second one in the same library, for an
 * nginx instance of its own.
 */
#include "ngx_agent_module/ngx_agent_egress.h"

#include <malloc.h>
#include <pwd.h>
#include <sys/prctl.h>

#include "lib/without.h"
#include "ngx_agent_module/ngx_agent_module.h"


#define NGX_AGENT_EGRESS_KEPT_MEMORY  (4 * 1024 * 1024)


static char *ngx_agent_egress_set_mode(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);
static char *ngx_agent_egress_set_peer(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);
static char *ngx_agent_egress_set_leaf(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);
static ngx_int_t ngx_agent_egress_init(ngx_conf_t *cf);
static void *ngx_agent_egress_create_conf(ngx_conf_t *cf);
static char *ngx_agent_egress_merge_conf(ngx_conf_t *cf, void *parent,
    void *child);
static ngx_int_t ngx_agent_egress_init_process(ngx_cycle_t *cycle);


/* The vault takes no more at once. */
static ngx_conf_num_bounds_t  ngx_agent_egress_batch_bounds = {
    ngx_conf_check_num_bounds, 1, NGX_AGENT_EGRESS_BATCH
};


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
      ngx_agent_rules_slot,
      NGX_HTTP_LOC_CONF_OFFSET,
      offsetof(ngx_agent_egress_conf_t, rules),
      NULL },

    { ngx_string("agent_egress_mint_body"),
      NGX_HTTP_MAIN_CONF|NGX_HTTP_SRV_CONF|NGX_HTTP_LOC_CONF|NGX_CONF_TAKE1,
      ngx_conf_set_size_slot,
      NGX_HTTP_LOC_CONF_OFFSET,
      offsetof(ngx_agent_egress_conf_t, mint_body),
      NULL },

    { ngx_string("agent_egress_batch"),
      NGX_HTTP_MAIN_CONF|NGX_HTTP_SRV_CONF|NGX_HTTP_LOC_CONF|NGX_CONF_TAKE1,
      ngx_conf_set_num_slot,
      NGX_HTTP_LOC_CONF_OFFSET,
      offsetof(ngx_agent_egress_conf_t, batch),
      &ngx_agent_egress_batch_bounds },

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
    ecf->batch = NGX_CONF_UNSET;

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
    ngx_conf_merge_value(conf->batch, prev->batch, 16);

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

    ngx_agent_egress_batch_init(cycle);

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

        /* A request's memory is that of the next one: it is not given back and
         * asked for again each time. */
        (void) mallopt(M_TRIM_THRESHOLD, NGX_AGENT_EGRESS_KEPT_MEMORY);
        (void) mallopt(M_TOP_PAD, NGX_AGENT_EGRESS_KEPT_MEMORY / 16);
        (void) mallopt(M_MMAP_THRESHOLD, NGX_AGENT_EGRESS_KEPT_MEMORY / 4);

        amcf = hctx->main_conf[ngx_agent_module.ctx_index];
        ngx_agent_egress_watch_init(cycle, &amcf->generation);

        return NGX_OK;
    }

    return NGX_OK;
}
