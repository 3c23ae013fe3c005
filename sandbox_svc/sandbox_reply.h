/* Answers of Execute: chunks, results, and results of the past. */
#ifndef SANDBOX_SVC_SANDBOX_REPLY_H
#define SANDBOX_SVC_SANDBOX_REPLY_H

#include "lib/rpc_server.h"
#include "sandbox.pb-c.h"
#include "sandbox_svc/sandbox_store.h"
#include "sandbox_svc/sandbox_svc.h"

#define SANDBOX_OUTCOME_(x) AGENT__SANDBOX__V1__EXECUTE_RESULT__OUTCOME__##x
#define SANDBOX_OUTCOME_EXITED SANDBOX_OUTCOME_(EXITED)
#define SANDBOX_OUTCOME_TIMED_OUT SANDBOX_OUTCOME_(TIMED_OUT)
#define SANDBOX_OUTCOME_LIMIT_REACHED SANDBOX_OUTCOME_(LIMIT_REACHED)
#define SANDBOX_OUTCOME_UNKNOWN SANDBOX_OUTCOME_(UNKNOWN)
#define SANDBOX_OUTCOME_CANCELLED SANDBOX_OUTCOME_(CANCELLED)

/* Send some output. Returns the bytes that wait to be sent. */
size_t
sandbox_reply_chunk(struct ag_rpc_call *call, bool is_err, ag_str_t data);
/* Send the result and end the stream. */
void sandbox_reply_result(struct ag_rpc_call *call,
                          const struct sandbox_result *result);

/*
 * Answer from the record: the result of a call that ended, UNKNOWN (which is
 * then recorded) for one that was started and does not run. Without a record
 * the answer is *otherwise, which is not NULL unless there is a record.
 * `tenant` NULL is looked up by the session.
 */
void
sandbox_reply_recorded(struct sandbox_svc *svc, struct ag_rpc_call *call,
                       const char *tenant, const char *session_id,
                       const char *call_id, const struct ag_err *otherwise);

#endif
