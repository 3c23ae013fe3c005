/*
 * Commands: recorded, run, watched, killed, recorded again. On the loop.
 */
#ifndef SANDBOX_SVC_SANDBOX_EXEC_H
#define SANDBOX_SVC_SANDBOX_EXEC_H

#include "lib/rpc_server.h"
#include "sandbox.pb-c.h"
#include "sandbox_svc/init_proto.h"
#include "sandbox_svc/sandbox_svc.h"

/*
 * Run the command of a checked request, or find what became of it, and answer
 * `call` (a stream of ExecuteResponse) in the end.
 */
void sandbox_exec(struct sandbox_svc *svc, struct ag_rpc_call *call,
                  const Agent__Sandbox__V1__ExecuteRequest *req);

/* Kill the command of a call; false when it does not run. */
bool sandbox_exec_cancel(struct sandbox_svc *svc, const char *session_id,
                         const char *call_id);

/* ---- for sandbox_session.c ------------------------------------------- */

const char *sandbox_exec_call_id(const struct sandbox_job *job);
void sandbox_job_event(struct sandbox_job *job, const struct init_head *event);
/* The turn ends while it runs; its sandbox is about to be destroyed. */
void sandbox_job_turn_ended(struct sandbox_job *job);
/* Its session's workspace is too large, and does not get smaller. */
void sandbox_job_disk_full(struct sandbox_job *job);
/* Its sandbox is gone. */
void sandbox_job_lost(struct sandbox_job *job);

#endif
