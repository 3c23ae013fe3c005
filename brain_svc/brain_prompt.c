/*
 * From the log to a conversation. Called by the native driver; pure.
 */
#include "brain_svc/brain_prompt.h"

#include <stdlib.h>

#include "brain_svc/brain_content.h"
#include "brain_svc/brain_context.h"

#define TEXT_MAX (32 * 1024 * 1024)

static const struct {
    const char *type;
    enum brain_item_kind kind;
    const char *call; /* member that names the call of a result */
} kinds[] = {
    {"user.message", BRAIN_ITEM_USER, NULL},
    {"agent.message", BRAIN_ITEM_AGENT, NULL},
    {"agent.thinking", BRAIN_ITEM_THINKING, NULL},
    {"agent.tool_use", BRAIN_ITEM_CALL, NULL},
    {"agent.tool_result", BRAIN_ITEM_RESULT, "tool_use_id"},
    {"agent.custom_tool_use", BRAIN_ITEM_CALL, NULL},
    {"user.custom_tool_result", BRAIN_ITEM_RESULT, "custom_tool_use_id"},
};

void
brain_prompt_release(struct brain_prompt *p)
{
    free(p->items);
    p->items = NULL;
    p->n = p->cap = 0;
}

static void
push(struct brain_prompt *p, const struct brain_item *item)
{
    if (p->n == p->cap) {
        p->cap = p->cap == 0 ? 64 : p->cap * 2;
        p->items = ag_xrealloc(p->items, p->cap * sizeof(*p->items));
    }
    p->items[p->n++] = *item;
}

/* Where the call of a result stands; behind all others when it is not there. */
static size_t
call_of(const struct brain_prompt *p, const struct brain_item *result)
{
    for (size_t i = p->n; i > 0; i--)
        if (p->items[i - 1].kind == BRAIN_ITEM_CALL
            && strcmp(p->items[i - 1].call_id, result->call_id) == 0)
            return i - 1;
    return p->n;
}

/* Results stand in the order of their calls, whichever came first. */
static void
push_result(struct brain_prompt *p, const struct brain_item *result)
{
    size_t call = call_of(p, result), i = p->n;

    push(p, result);
    while (i > 0 && p->items[i - 1].kind == BRAIN_ITEM_RESULT
           && call_of(p, &p->items[i - 1]) > call) {
        p->items[i] = p->items[i - 1];
        i--;
    }
    p->items[i] = *result;
}

static bool
item_of(const struct brain_event *e, struct brain_item *item)
{
    for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
        if (strcmp(e->type, kinds[i].type) != 0)
            continue;
        *item = (struct brain_item){kinds[i].kind, e, e->id};
        if (kinds[i].call != NULL)
            item->call_id =
                json_string_value(json_object_get(e->body, kinds[i].call));
        return item->call_id != NULL;
    }
    return false;
}

/* What a user said in log->at[from..to). */
static void
push_messages(struct brain_prompt *p, const struct brain_log *log, size_t from,
              size_t to)
{
    struct brain_item item;

    for (size_t i = from; i < to; i++)
        if (item_of(&log->at[i], &item) && item.kind == BRAIN_ITEM_USER)
            push(p, &item);
}

/*
 * A user's message may stand in the log while a tool runs or the model answers,
 * but results stand right behind their calls: it is read where the next model
 * call begins, and so it stands there from then on.
 */
void
brain_prompt_fill(struct brain_prompt *p, const struct brain_log *log)
{
    struct brain_context context;
    struct brain_item item;
    size_t unread;

    brain_context_find(log, &context);
    unread = context.from;
    if (context.summary != NULL) {
        item = (struct brain_item){BRAIN_ITEM_USER, context.summary,
                                   context.summary->id};
        push(p, &item);
    }
    for (size_t i = context.from; i < log->n; i++) {
        if (strcmp(log->at[i].type, "span.model_request_start") == 0) {
            push_messages(p, log, unread, i);
            unread = i;
        } else if (!item_of(&log->at[i], &item)) {
            continue;
        } else if (item.kind == BRAIN_ITEM_RESULT) {
            push_result(p, &item);
        } else if (item.kind != BRAIN_ITEM_USER) {
            push(p, &item);
        }
    }
    push_messages(p, log, unread, log->n);
}

void
brain_prompt_say(struct brain_prompt *p, const struct brain_event *event)
{
    struct brain_item item = {BRAIN_ITEM_USER, event, event->id};

    push(p, &item);
}

json_t *
brain_item_text(const struct brain_item *item)
{
    AG_AUTO(ag_buf_release) struct ag_buf text = AG_BUF_INIT(TEXT_MAX);
    struct ag_err ignored;

    (void)brain_event_text(item->event->body, &text, &ignored);
    return ag_json_from_str(ag_buf_str(&text));
}

bool
brain_item_has_media(const struct brain_item *item)
{
    return !brain_content_is_text(
        json_object_get(item->event->body, "content"));
}

json_t *
brain_item_parts(const struct brain_item *item,
                 json_t *(*part)(const json_t *block))
{
    json_t *out = json_array(), *block;
    size_t i;

    json_array_foreach (json_object_get(item->event->body, "content"), i, block)
        json_array_append_new(out, part(block));
    return out;
}

json_t *
brain_item_arguments(const struct brain_item *item)
{
    AG_AUTO(ag_buf_release) struct ag_buf text = AG_BUF_INIT(TEXT_MAX);
    struct ag_err ignored;

    (void)ag_json_dump(json_object_get(item->event->body, "input"), &text,
                       &ignored);
    return ag_json_from_str(ag_buf_str(&text));
}

const json_t *
brain_item_raw(const struct brain_item *item, const char *wire)
{
    const json_t *body = item->event->body;
    ag_str_t of = ag_json_str(json_object_get(body, "brainbox.wire"));

    return ag_str_is(of, wire) ? json_object_get(body, "brainbox.block") : NULL;
}
