/* Removal of what outlives a sandbox. On the loop. */
#ifndef SANDBOX_SVC_SANDBOX_WORKSPACE_H
#define SANDBOX_SVC_SANDBOX_WORKSPACE_H

#include "sandbox_svc/sandbox_svc.h"

/* `err` is NULL when all of it is gone. */
typedef void sandbox_workspace_done(void *arg, const struct ag_err *err);

/*
 * Remove the session's workspace, its whole outputs and its recorded calls,
 * after destroying its sandbox if it has one. A session that is not known is
 * no error.
 */
void sandbox_workspace_delete(struct sandbox_svc *svc, const char *session_id,
                              sandbox_workspace_done *done, void *arg);

#endif
