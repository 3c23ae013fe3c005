/*
 * What a model is asked, before any wire: the conversation as items in the
 * order that every wire wants (results right behind their calls). Made from the
 * session's log alone, and the same log gives the same items, so that what was
 * asked before is a prefix of what is asked next. Pure.
 */
#ifndef BRAIN_PROMPT_H
#define BRAIN_PROMPT_H

#include "brain_svc/brain_log.h"

enum brain_item_kind {
    BRAIN_ITEM_USER,
    BRAIN_ITEM_AGENT,
    BRAIN_ITEM_THINKING,
    BRAIN_ITEM_CALL,
    BRAIN_ITEM_RESULT,
};

struct brain_item {
    enum brain_item_kind kind;
    const struct brain_event *event; /* of the log */
    const char *call_id;             /* of a call or result */
};

struct brain_prompt {
    ag_str_t model, system;
    const json_t *tools; /* [{name, description, input_schema}] by name */
    int64_t max_tokens;  /* of the answer; 0: the endpoint's own limit */
    struct brain_item *items;
    size_t n, cap;
};

void brain_prompt_release(struct brain_prompt *p);
/* The conversation that `log` holds. */
void brain_prompt_fill(struct brain_prompt *p, const struct brain_log *log);

/* One more message of the user, not of the log; `event` outlives the prompt. */
void brain_prompt_say(struct brain_prompt *p, const struct brain_event *event);

/* All text of an item, a JSON string; never NULL. */
json_t *brain_item_text(const struct brain_item *item);
/* True when it holds an image or a document. */
bool brain_item_has_media(const struct brain_item *item);
/* Each of its blocks as `part` writes it for a wire: a new array. */
json_t *brain_item_parts(const struct brain_item *item,
                         json_t *(*part)(const json_t *block));
/* A call's arguments as JSON text in a JSON string; never NULL. */
json_t *brain_item_arguments(const struct brain_item *item);
/* What thinking left for this wire to send back; borrowed, or NULL. */
const json_t *brain_item_raw(const struct brain_item *item, const char *wire);

#endif
