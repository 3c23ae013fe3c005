/*
 * Events in memory: making one, and the log of a session in order of seq.
 *
 * An event is a JSON object with `id`, `type` and `processed_at`; it is stored
 * and sent as it is.
 */
#ifndef BRAIN_LOG_H
#define BRAIN_LOG_H

#include "lib/id.h"
#include "lib/json.h"

#define BRAIN_SEQ_STAGED INT64_MAX

struct brain_event {
    int64_t seq;           /* or BRAIN_SEQ_STAGED */
    const char *id, *type; /* point into `body` */
    json_t *body;          /* owned reference */
};

struct brain_log {
    struct brain_event *at;
    size_t n, cap;
    size_t n_staged; /* the last so many are decided on, and not stored yet */
    int64_t base; /* seq behind which it begins: what is before was not read */
};

static inline bool
brain_event_is(const struct brain_event *e, const char *type)
{
    return strcmp(e->type, type) == 0;
}

/* A new event with a new id and the time of now. Never NULL. */
json_t *brain_event_new(const char *type);
/* The same event, now that it has come about, or a new one for NULL. A new
 * reference in both cases. */
json_t *brain_event_begun(json_t *begun, const char *type);
/* `content` of one text block. */
json_t *brain_text_content(ag_str_t text);

const char *brain_event_id(const json_t *event);
const char *brain_event_type(const json_t *event);

void brain_log_release(struct brain_log *log);
/* Put `body` (a reference is taken) in its place; a seq that is there already
 * stays as it is. */
void brain_log_put(struct brain_log *log, int64_t seq, json_t *body);
/* Put an event that has no seq yet behind all others: so it stays until it is
 * unstaged, and put in its place. */
void brain_log_stage(struct brain_log *log, json_t *body);
/* Take out the first `n` that are staged. */
void brain_log_unstage(struct brain_log *log, size_t n);
/* Highest seq; `base` when empty. */
int64_t brain_log_last(const struct brain_log *log);
/* Highest seq up to which none is missing; `base` when empty. */
int64_t brain_log_whole(const struct brain_log *log);

/* All text of an event's `content` blocks, joined by newlines. */
int
brain_event_text(const json_t *event, struct ag_buf *out, struct ag_err *err);

#endif
