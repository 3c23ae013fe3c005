/* The methods of agent.sandbox.v1.SandboxService. */
#ifndef SANDBOX_SVC_SANDBOX_RPC_H
#define SANDBOX_SVC_SANDBOX_RPC_H

#include "lib/rpc_server.h"
#include "sandbox_svc/sandbox_svc.h"

void sandbox_rpc_add(struct ag_rpc_server *server, struct sandbox_svc *svc);

#endif
