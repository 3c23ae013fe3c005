/*
 * One model call: OpenAI-compatible chat completions, streaming, through
 * egress, with one layer of retries before the first token.
 */
#ifndef BRAIN_MODEL_H
#define BRAIN_MODEL_H

#include "brain_svc/brain.h"
#include "brain_svc/brain_chat.h"

struct brain_model_call;

/* More text of the answer. */
typedef void brain_model_text(void *arg, ag_str_t text);
/*
 * The end: exactly one of `answer` and `err`. Kinds: LIMIT 429 or an answer
 * too long, UNAVAILABLE the endpoint or its stream broke, TIMEOUT, DENIED
 * egress or the endpoint refused, INVALID the endpoint refused the request,
 * CORRUPT it spoke another wire.
 */
typedef void brain_model_done(void *arg, const struct brain_chat *answer,
                              const struct ag_err *err);

/* `body` is the JSON of the request. Never calls back from inside. */
struct brain_model_call *
brain_model_start(struct brain *brain, ag_str_t session, ag_str_t body,
                  brain_model_text *text, brain_model_done *done, void *arg);

/* Drop it: no callback comes any more. */
void brain_model_cancel(struct brain_model_call *call);

#endif
