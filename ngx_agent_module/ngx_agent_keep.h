/*
 * Connections to hosts that are kept for the next request. One is handed out
 * only for what it was made for: the same workload and session, scheme, name,
 * port and roots, to an address that was vetted for the request that takes it.
 * It carries no right: each request is decided before it dials.
 *
 * A worker has its own; nothing here is shared, and nothing waits.
 */
#ifndef NGX_AGENT_KEEP_H
#define NGX_AGENT_KEEP_H

#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_http.h>

#include "lib/str.h"

typedef struct ngx_agent_keep_s  ngx_agent_keep_t;


/* Whom and what a connection is for. */
typedef struct {
    u_char                     owner[8];
    u_char                     digest[32];
} ngx_agent_keep_key_t;


ngx_agent_keep_t *ngx_agent_keep_create(ngx_conf_t *cf);
/* "connections=16", "idle=4s" and so on. NULL, or what is wrong. */
char *ngx_agent_keep_option(ngx_agent_keep_t *keep, ngx_str_t *option);
/* After the last option. */
ngx_int_t ngx_agent_keep_init(ngx_conf_t *cf, ngx_agent_keep_t *keep);

/* The first `n_owner` fields say for whom, all of them for what. NGX_DECLINED
 * when they are too long: such a connection is not kept. */
ngx_int_t ngx_agent_keep_key(const ag_str_t *fields, size_t n, size_t n_owner,
    ngx_agent_keep_key_t *key);

/*
 * Make pc->connection one that is kept for `key` and leads to one of `addrs`,
 * which goes to *which. NGX_DONE, or NGX_DECLINED when there is none.
 */
ngx_int_t ngx_agent_keep_take(ngx_agent_keep_t *keep,
    const ngx_agent_keep_key_t *key, const ngx_addr_t *addrs,
    ngx_uint_t naddrs, ngx_uint_t *which, ngx_peer_connection_t *pc);

/* Keep pc->connection if it can serve another request. */
void ngx_agent_keep_put(ngx_agent_keep_t *keep,
    const ngx_agent_keep_key_t *key, ngx_http_upstream_t *u,
    ngx_peer_connection_t *pc);

#endif
