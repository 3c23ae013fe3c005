/* What a session's sandbox is given by the vault and by this service. */
#ifndef SANDBOX_SVC_SANDBOX_WORKLOAD_H
#define SANDBOX_SVC_SANDBOX_WORKLOAD_H

#include "sandbox_svc/sandbox_session.h"
#include "vault.pb-c.h"

/* Check the answer to OpenWorkload and copy it into the session. */
int sandbox_workload_take(struct sandbox_session *s,
                          const Agent__Vault__V1__OpenWorkloadResponse *r,
                          struct ag_err *err);

/* Open the folder for the session's whole outputs, made if need be. */
int sandbox_workload_output_dir(struct sandbox_svc *svc, const char *session_id,
                                struct ag_err *err);

#endif
