/* EgressService, the half of reports. */
#ifndef VAULT_REPORT_H
#define VAULT_REPORT_H

#include "vault_svc/vault.h"

void vault_report_serve(struct ag_rpc_server *srv, struct vault_face *face);

#endif
