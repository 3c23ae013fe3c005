/*
 * From a destination of deployment.conf to the addresses that may be dialled:
 * the one that it fixes, or those of its name, looked up on a thread. One that
 * is not on the open internet, or is this machine's, refuses the whole answer;
 * what is private has its address fixed in the file.
 */
#ifndef VAULT_BRIDGE_DIAL_H
#define VAULT_BRIDGE_DIAL_H

#include <netinet/in.h>

#include "lib/workq.h"
#include "vault_svc/vault_deployment.h"

#define BRIDGE_ADDRESSES_MAX 8

struct bridge_addresses {
    struct sockaddr_storage v[BRIDGE_ADDRESSES_MAX];
    int n;
};

/* A look-up that is under way. */
struct bridge_lookup {
    struct ag_job job;
    /* On the loop; NULL once nobody waits. Owns nothing. */
    void (*fn)(void *arg, const struct bridge_addresses *found,
               const struct ag_err *err);
    void *arg;
    char host[VAULT_HOST_TEXT];
    int port;
    struct bridge_addresses found;
    struct ag_err err;
};

/* The address that `d` fixes; false when it fixes none. */
bool bridge_dial_fixed(const struct vault_destination *d,
                       struct bridge_addresses *out);

/*
 * Look `d` up; fn(arg, …) is called on the loop, later, with vetted addresses,
 * or with NULL and the error. NULL with AG_ERR_LIMIT when too many wait.
 */
struct bridge_lookup *
bridge_dial_lookup(struct ag_workq *q, const struct vault_destination *d,
                   void (*fn)(void *, const struct bridge_addresses *,
                              const struct ag_err *),
                   void *arg, struct ag_err *err);
/* Nobody waits any more. */
void bridge_dial_forget(struct bridge_lookup *l);

/* Begin a connection; the descriptor, or -1. */
int bridge_dial_connect(const struct sockaddr_storage *to, struct ag_err *err);

#endif
