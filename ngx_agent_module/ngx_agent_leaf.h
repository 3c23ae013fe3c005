/*
 * Leaf certificates for the names that sandboxes ask for: made on demand in
 * the certificate callback, signed by the intermediate that vault_svc leaves in
 * a file, kept for each worker.
 */
#ifndef NGX_AGENT_LEAF_H
#define NGX_AGENT_LEAF_H

#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_event.h>

typedef struct ngx_agent_leaf_s  ngx_agent_leaf_t;

/* At configuration time; `path` is the intermediate: certificate, root, key. */
ngx_agent_leaf_t *ngx_agent_leaf_create(ngx_conf_t *cf, ngx_str_t *path);

/*
 * Give the connection a leaf for its SNI: for SSL_CTX_set_cert_cb. Returns 1,
 * or 0 when the name has no proper form or nothing can be signed.
 */
int ngx_agent_leaf_give(ngx_ssl_conn_t *ssl, ngx_agent_leaf_t *leaf);

#endif
