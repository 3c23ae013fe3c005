/*
 * How much of a model's window the conversation takes, and where it can be cut.
 *
 * A compaction is an event of the log (agent.thread_context_compacted): a
 * summary of all that stands before the event with the seq
 * `brainbox.kept_seq`. From then on a prompt is the summary and what is kept.
 * Pure functions of the log.
 */
#ifndef BRAIN_CONTEXT_H
#define BRAIN_CONTEXT_H

#include "brain_svc/brain_log.h"

#define BRAIN_COMPACTED "agent.thread_context_compacted"
/* What stands before the model's summary in its text. */
#define BRAIN_SUMMARY_LEAD "Summary of the conversation before this:\n"

struct brain_context {
    const struct brain_event *summary; /* the last compaction, or NULL */
    size_t from; /* index of the first event that a prompt takes whole */
};

void
brain_context_find(const struct brain_log *log, struct brain_context *context);

/*
 * Tokens of the next request, about: what the endpoint counted last, and a
 * token for four bytes of what came since.
 */
int64_t brain_context_tokens(const struct brain_log *log);

/*
 * The seq of the first event to keep, so that about `keep_tokens` stay as they
 * are and no call is parted from its result; 0 when nothing can be gained.
 */
int64_t brain_context_cut(const struct brain_log *log, int64_t keep_tokens);

#endif
