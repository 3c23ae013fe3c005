/*
 * From the log to a conversation. Called by the native driver; pure.
 */
#include "brain_svc/brain_prompt.h"

#include <stdlib.h>

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

/*
 * A user's message that came while a tool ran stands between a call and its
 * result in the log; the wires want results right behind the calls.
 */
void
brain_prompt_fill(struct brain_prompt *p, const struct brain_log *log)
{
    size_t n_open = 0, n_held = 0, held_from = 0;
    struct brain_item item;

    for (size_t i = 0; i < log->n; i++) {
        if (!item_of(&log->at[i], &item))
            continue;
        if (item.kind == BRAIN_ITEM_CALL)
            n_open++;
        else if (item.kind == BRAIN_ITEM_RESULT && n_open > 0)
            n_open--;
        if (n_open > 0 && item.kind == BRAIN_ITEM_USER) {
            if (n_held++ == 0)
                held_from = i;
            continue;
        }
        push(p, &item);
        for (size_t k = held_from; n_open == 0 && n_held > 0 && k <= i; k++) {
            if (item_of(&log->at[k], &item) && item.kind == BRAIN_ITEM_USER) {
                push(p, &item);
                n_held--;
            }
        }
    }
}

json_t *
brain_item_text(const struct brain_item *item)
{
    AG_AUTO(ag_buf_release) struct ag_buf text = AG_BUF_INIT(TEXT_MAX);
    struct ag_err ignored;

    (void)brain_event_text(item->event->body, &text, &ignored);
    return ag_json_from_str(ag_buf_str(&text));
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
