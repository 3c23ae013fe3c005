/*
 * deployment.conf: what root says of destinations. Lines
 *
 *   destination HOST:PORT [address=IP:PORT] [ca=FILE] [clear-text]
 *
 * `#` begins a comment. It alone can list private or clear-text destinations,
 * clear text only to loopback. Immutable once loaded.
 */
#ifndef VAULT_DEPLOYMENT_H
#define VAULT_DEPLOYMENT_H

#include "lib/err.h"
#include "lib/str.h"
#include "vault_svc/vault_host.h"

struct vault_destination {
    char host[VAULT_HOST_TEXT];
    int port;
    char *address; /* "ip:port" to dial; NULL: look the host up */
    char *ca_file; /* NULL: the system's roots */
    bool is_clear_text;
};

struct vault_deployment {
    struct vault_destination *v;
    size_t n;
};

/* AG_ERR_INVALID names line and word. `out` needs a release in any case. */
int vault_deployment_parse(ag_str_t text, struct vault_deployment *out,
                           struct ag_err *err);
/* The same from a file; an empty path is an empty deployment. */
int vault_deployment_load(const char *path, struct vault_deployment *out,
                          struct ag_err *err);
void vault_deployment_release(struct vault_deployment *d);

/* NULL when the destination is not listed. */
const struct vault_destination *
vault_deployment_find(const struct vault_deployment *d, ag_str_t host,
                      int port);

#endif
