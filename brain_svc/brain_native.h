/*
 * From a model's reply to events of the log: the native driver's second half.
 * Pure but for new ids and times.
 */
#ifndef BRAIN_NATIVE_H
#define BRAIN_NATIVE_H

#include "brain_svc/brain_model.h"
#include "brain_svc/brain_tools.h"

/* Most events of one reply: its blocks, the span's end, an error. */
#define BRAIN_NATIVE_EVENTS_MAX (BRAIN_BLOCKS_MAX + 2)

/* span.model_request_end; `reply` NULL is a call that failed. */
json_t *
brain_native_span_end(const char *start_id, const struct brain_reply *reply);

/* The same for a call whose end nobody saw: it costs what was reserved. */
json_t *brain_native_span_lost(const struct brain_event *start);

/*
 * The events of a reply, in its order, the span's end first. `previews[i]` is
 * the event that was begun for block i, or NULL. Returns how many.
 */
size_t
brain_native_events(const char *start_id, const struct brain_reply *reply,
                    const struct brain_tools *tools, json_t *const *previews,
                    json_t **out);

#endif
