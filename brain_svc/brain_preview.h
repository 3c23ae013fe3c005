/*
 * Previews: what listeners see of an event while it comes about. One begins
 * with `event_start`, goes on with `event_delta`, and is over when the event
 * itself comes, under the same id. None is stored; a reader that is slow, or
 * comes in the middle, misses parts. On the loop.
 */
#ifndef BRAIN_PREVIEW_H
#define BRAIN_PREVIEW_H

#include "brain_svc/brain.h"

enum brain_preview {
    BRAIN_PREVIEW_MESSAGE,  /* agent.message: its text */
    BRAIN_PREVIEW_THINKING, /* agent.thinking: that it has begun, no more */
    BRAIN_PREVIEW_RESULT,   /* agent.tool_result: what a command prints */
    BRAIN_PREVIEWS
};

/* By the type of the events. Returns 0, or -1 with AG_ERR_INVALID, which names
 * those that there are. */
int
brain_preview_find(ag_str_t type, enum brain_preview *out, struct ag_err *err);

/* This event comes about: its type, id, and `tool_use_id` if it has one. */
void brain_preview_begin(struct brain_hub *hub, ag_str_t session,
                         enum brain_preview kind, const json_t *event);
/* More of a message's text. */
void brain_preview_text(struct brain_hub *hub, ag_str_t session,
                        const json_t *message, ag_str_t text);

/* Of one command; all zero before the first byte. */
struct brain_preview_output {
    json_t *result; /* its event, once it was announced; owned */
    size_t n_bytes;
    bool is_full; /* more came than is shown */
    /* The bytes of a character that is cut: of stdout, of stderr. */
    struct {
        char bytes[4];
        size_t n;
    } cut[2];
};

/* The command of the call printed `data`: at most `preview_output_bytes` of it
 * all are shown; then comes `truncated`. */
void brain_preview_output(struct brain *brain, ag_str_t session,
                          const char *call_id, struct brain_preview_output *o,
                          bool is_stderr, ag_str_t data);

#endif
