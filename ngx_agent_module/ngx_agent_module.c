/*
 * The module that people and programs come in through: directives, their
 * merge, and the definition of ngx_agent_module. Nothing here has an effect
 * outside locations that carry its directives.
 */
#include "ngx_agent_module.h"


static ngx_http_module_t  ngx_agent_module_ctx = {
    NULL,                                  /* preconfiguration */
    NULL,                                  /* postconfiguration */

    NULL,                                  /* create main configuration */
    NULL,                                  /* init main configuration */

    NULL,                                  /* create server configuration */
    NULL,                                  /* merge server configuration */

    NULL,                                  /* create location configuration */
    NULL                                   /* merge location configuration */
};


static ngx_command_t  ngx_agent_commands[] = {
    ngx_null_command
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
