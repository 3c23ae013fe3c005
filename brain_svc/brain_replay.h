/*
 * `brain_svc replay SESSION`: the run's own code goes through the session's log
 * once more, with the recorded answers of model and tools, and what it would
 * write is compared with what was written. Changes nothing.
 *
 * Found are: an event whose text is not what was stored, a gap in seq, another
 * decision, and another request to the model than was sent. Options that decide
 * something (step_limit, context_tokens, model_output_tokens…) must be as they
 * were.
 */
#ifndef BRAIN_REPLAY_H
#define BRAIN_REPLAY_H

#include "brain_svc/brain.h"

/*
 * Prints a line to stdout: what was replayed, or the first difference. Returns
 * 0 when there is none; -1 with AG_ERR_CONFLICT when there is one, NOT_FOUND
 * for a session that the tenant does not have, UNAVAILABLE without the
 * database.
 */
int brain_replay(struct brain *brain, const char *session, struct ag_err *err);

#endif
