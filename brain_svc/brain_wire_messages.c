/*
 * The wire of /messages. A stream holds events by `type`: blocks by `index`
 * that begin, grow and end, then why it stopped. Thinking goes back as it came,
 * with its signature. Pure.
 */
#include "brain_svc/brain_content.h"
#include "brain_svc/brain_wire.h"

/* This wire wants a limit in each request. */
#define MAX_TOKENS 8192

/* ---- the request ------------------------------------------------------- */

static json_t *
cache_mark(void)
{
    return json_pack("{s:s}", "type", "ephemeral");
}

/* What is before a mark is cached: tools and system, which never change. */
static json_t *
tools(const json_t *list)
{
    json_t *out = json_array(), *tool, *one;
    size_t i;

    json_array_foreach (list, i, tool) {
        one =
            json_pack("{s:O, s:O, s:O}", "name", json_object_get(tool, "name"),
                      "description", json_object_get(tool, "description"),
                      "input_schema", json_object_get(tool, "input_schema"));
        if (i + 1 == json_array_size(list))
            json_object_set_new(one, "cache_control", cache_mark());
        json_array_append_new(out, one);
    }
    return out;
}

static json_t *
text_block(const struct brain_item *item)
{
    return json_pack("{s:s, s:o}", "type", "text", "text",
                     brain_item_text(item));
}

static json_t *
pick(const json_t *from, const char *const *keys, size_t n)
{
    json_t *out = json_object();

    for (size_t i = 0; i < n; i++) {
        json_t *v = json_object_get(from, keys[i]);

        if (v != NULL && !json_is_null(v))
            json_object_set(out, keys[i], v);
    }
    return out;
}

#define PICK(from, keys) pick(from, keys, sizeof(keys) / sizeof(keys[0]))

/* This wire has the contract's own blocks. Copied: the last one gets a mark. */
static json_t *
part(const json_t *block)
{
    static const char *const text[] = {"type", "text"};
    static const char *const media[] = {"type", "title", "context"};
    static const char *const source[] = {"type", "media_type", "data", "url"};
    json_t *out;

    if (brain_content_kind(block) == BRAIN_CONTENT_TEXT)
        return PICK(block, text);
    out = PICK(block, media);
    json_object_set_new(out, "source",
                        PICK(json_object_get(block, "source"), source));
    return out;
}

static json_t *
block_of(const struct brain_item *item)
{
    const json_t *body = item->event->body;

    switch (item->kind) {
    case BRAIN_ITEM_USER:
    case BRAIN_ITEM_AGENT:
        return text_block(item);
    case BRAIN_ITEM_THINKING:
        return json_incref(
            (json_t *)(uintptr_t)brain_item_raw(item, "messages"));
    case BRAIN_ITEM_CALL:
        return json_pack("{s:s, s:s, s:O, s:O}", "type", "tool_use", "id",
                         item->call_id, "name", json_object_get(body, "name"),
                         "input", json_object_get(body, "input"));
    case BRAIN_ITEM_RESULT:
        return json_pack(
            "{s:s, s:s, s:b, s:o}", "type", "tool_result", "tool_use_id",
            item->call_id, "is_error",
            json_is_true(json_object_get(body, "is_error")), "content",
            brain_item_has_media(item) ? brain_item_parts(item, part)
                                       : json_pack("[o]", text_block(item)));
    }
    return NULL;
}

/* What an item is in its message's content; an array, or NULL. */
static json_t *
blocks_of(const struct brain_item *item)
{
    json_t *block;

    if (item->kind == BRAIN_ITEM_USER && brain_item_has_media(item))
        return brain_item_parts(item, part);
    block = block_of(item);
    return block == NULL ? NULL : json_pack("[o]", block);
}

/* Roles alternate: neighbours of one role are blocks of one message. */
static void
add_item(json_t *messages, const struct brain_item *item)
{
    bool is_user =
        item->kind == BRAIN_ITEM_USER || item->kind == BRAIN_ITEM_RESULT;
    const char *role = is_user ? "user" : "assistant";
    json_t *last = json_array_get(messages, json_array_size(messages) - 1);
    AG_AUTO(ag_json_decref) json_t *blocks = blocks_of(item);

    if (blocks == NULL)
        return;
    if (!ag_str_is(ag_json_str(json_object_get(last, "role")), role)) {
        last = json_pack("{s:s, s:[]}", "role", role, "content");
        json_array_append_new(messages, last);
    }
    json_array_extend(json_object_get(last, "content"), blocks);
}

/* The last block carries the mark that lets the next request read it all. */
static void
mark_end(json_t *messages)
{
    json_t *last = json_array_get(messages, json_array_size(messages) - 1);
    json_t *content = json_object_get(last, "content");
    json_t *block = json_array_get(content, json_array_size(content) - 1);

    if (block != NULL)
        json_object_set_new(block, "cache_control", cache_mark());
}

static json_t *
build(const struct brain_prompt *p)
{
    json_t *messages = json_array();
    json_t *body =
        json_pack("{s:o, s:b, s:I}", "model", ag_json_from_str(p->model),
                  "stream", 1, "max_tokens",
                  (json_int_t)(p->max_tokens > 0 ? p->max_tokens : MAX_TOKENS));

    if (json_array_size(p->tools) > 0)
        json_object_set_new(body, "tools", tools(p->tools));
    if (p->system.n > 0)
        json_object_set_new(body, "system",
                            json_pack("[{s:s, s:o, s:o}]", "type", "text",
                                      "text", ag_json_from_str(p->system),
                                      "cache_control", cache_mark()));
    for (size_t i = 0; i < p->n; i++)
        add_item(messages, &p->items[i]);
    mark_end(messages);
    json_object_set_new(body, "messages", messages);
    return body;
}

/* ---- the answer -------------------------------------------------------- */

static int
block_started(struct brain_answer *a, const json_t *event, int64_t index,
              struct ag_err *err)
{
    const json_t *in = json_object_get(event, "content_block");
    ag_str_t type = ag_json_str(json_object_get(in, "type"));
    struct brain_block *b;

    if (ag_str_is(type, "tool_use")) {
        b = brain_answer_add(a, BRAIN_BLOCK_CALL, index, err);
        return b == NULL ? -1
                         : brain_answer_put(a, b, &b->name, in, "name", err);
    }
    if (ag_str_is(type, "redacted_thinking")) {
        b = brain_answer_add(a, BRAIN_BLOCK_THINKING, index, err);
        return b == NULL ? -1 : brain_answer_keep(a, b, in, err);
    }
    b = brain_answer_add(a,
                         ag_str_is(type, "thinking") ? BRAIN_BLOCK_THINKING
                                                     : BRAIN_BLOCK_TEXT,
                         index, err);
    if (b == NULL)
        return -1;
    return brain_answer_put(
        a, b, &b->text, in,
        b->kind == BRAIN_BLOCK_THINKING ? "thinking" : "text", err);
}

static struct brain_block *
block_at(struct brain_answer *a, int64_t index)
{
    struct brain_block *b = NULL;

    for (int kind = BRAIN_BLOCK_TEXT; b == NULL && kind <= BRAIN_BLOCK_CALL;
         kind++)
        b = brain_answer_find(a, (enum brain_block_kind)kind, index);
    return b;
}

static int
block_grew(struct brain_answer *a, const json_t *event, int64_t index,
           struct ag_err *err)
{
    static const struct {
        const char *type, *key;
        enum brain_block_kind kind;
    } deltas[] = {
        {"text_delta", "text", BRAIN_BLOCK_TEXT},
        {"input_json_delta", "partial_json", BRAIN_BLOCK_CALL},
        {"thinking_delta", "thinking", BRAIN_BLOCK_THINKING},
        {"signature_delta", "signature", BRAIN_BLOCK_THINKING},
    };
    const json_t *delta = json_object_get(event, "delta");
    ag_str_t type = ag_json_str(json_object_get(delta, "type"));
    struct brain_block *b = block_at(a, index);

    for (size_t i = 0; i < sizeof(deltas) / sizeof(deltas[0]); i++) {
        if (!ag_str_is(type, deltas[i].type))
            continue;
        if (b == NULL || b->kind != deltas[i].kind)
            return ag_err_set(err, AG_ERR_CORRUPT,
                              "%s for block %lld, which is none of that kind",
                              deltas[i].type, (long long)index);
        return brain_answer_put(
            a, b,
            strcmp(deltas[i].key, "signature") == 0 ? &b->signature : &b->text,
            delta, deltas[i].key, err);
    }
    return 0;
}

static int
block_ended(struct brain_answer *a, int64_t index, struct ag_err *err)
{
    AG_AUTO(ag_json_decref) json_t *raw = NULL;
    struct brain_block *b = block_at(a, index);

    if (b == NULL || b->kind != BRAIN_BLOCK_THINKING || b->raw != NULL
        || b->signature.n == 0)
        return 0;
    raw = json_pack("{s:s, s:o, s:o}", "type", "thinking", "thinking",
                    ag_json_from_str(ag_buf_str(&b->text)), "signature",
                    ag_json_from_str(ag_buf_str(&b->signature)));
    return brain_answer_keep(a, b, raw, err);
}

/* Counts are totals: a later event replaces an earlier one. */
static void
take_usage(struct brain_answer *a, const json_t *usage)
{
    brain_answer_count(usage, "input_tokens", &a->usage.input);
    brain_answer_count(usage, "output_tokens", &a->usage.output);
    brain_answer_count(usage, "cache_read_input_tokens", &a->usage.cache_read);
    brain_answer_count(usage, "cache_creation_input_tokens",
                       &a->usage.cache_write);
}

static void
stopped(struct brain_answer *a, const json_t *event)
{
    const json_t *delta = json_object_get(event, "delta");
    ag_str_t reason = ag_json_str(json_object_get(delta, "stop_reason"));

    if (ag_str_is(reason, "max_tokens")
        || ag_str_is(reason, "model_context_window_exceeded"))
        a->finish = BRAIN_FINISH_LENGTH;
    else if (ag_str_is(reason, "refusal"))
        a->finish = BRAIN_FINISH_FILTER;
    else if (ag_str_is(reason, "tool_use"))
        a->finish = BRAIN_FINISH_CALLS;
    else if (reason.n > 0)
        a->finish = BRAIN_FINISH_STOP;
    take_usage(a, json_object_get(event, "usage"));
}

static int
take(struct brain_answer *a, const json_t *event, struct ag_err *err)
{
    ag_str_t type = ag_json_str(json_object_get(event, "type"));
    int64_t index = -1;

    if (ag_json_get_i64(event, "index", &index, err) < 0) {
        err->kind = AG_ERR_CORRUPT;
        return -1;
    }
    if (ag_str_is(type, "content_block_start"))
        return block_started(a, event, index, err);
    if (ag_str_is(type, "content_block_delta"))
        return block_grew(a, event, index, err);
    if (ag_str_is(type, "content_block_stop"))
        return block_ended(a, index, err);
    if (ag_str_is(type, "error"))
        return brain_wire_failed(json_object_get(event, "error"), err);
    if (ag_str_is(type, "message_start"))
        take_usage(a,
                   json_object_get(json_object_get(event, "message"), "usage"));
    else if (ag_str_is(type, "message_delta"))
        stopped(a, event);
    else if (ag_str_is(type, "message_stop"))
        a->is_done = true;
    return 0;
}

const struct brain_wire brain_wire_messages = {
    .name = "messages",
    .path = "/messages",
    .key_header = "x-api-key: ",
    .header = "anthropic-version: 2023-06-01",
    .build = build,
    .take = take,
};
