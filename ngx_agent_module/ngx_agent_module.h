/*
 * What the files of ngx_agent_module share.
 */
#ifndef NGX_AGENT_MODULE_H
#define NGX_AGENT_MODULE_H

#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_http.h>

extern ngx_module_t  ngx_agent_module;

#endif
