/* WorkloadService: sandboxes, jails and brains that act for a session. */
#ifndef VAULT_WORKLOAD_H
#define VAULT_WORKLOAD_H

#include "vault_svc/vault.h"

void vault_workload_serve(struct ag_rpc_server *srv, struct vault_face *face);

/* An fd00::/8 address in canonical text, or -1 with AG_ERR_INVALID. */
int vault_address_canonical(ag_str_t in, char out[46], struct ag_err *err);

#endif
