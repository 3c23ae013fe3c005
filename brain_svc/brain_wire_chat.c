/*
 * The wire of /chat/completions. A stream holds `choices[0].delta` with
 * `content`, `reasoning_content`, `thinking_blocks` and `tool_calls` keyed by
 * `index` (id and name first, arguments in pieces), `finish_reason`, a last
 * chunk with `choices: []` and `usage`, `[DONE]`; or an `error`. Pure.
 */
#include "brain_svc/brain_content.h"
#include "brain_svc/brain_wire.h"

/* ---- the request ------------------------------------------------------- */

static json_t *
tools(const json_t *list)
{
    json_t *out = json_array(), *tool;
    size_t i;

    json_array_foreach (list, i, tool)
        json_array_append_new(
            out,
            json_pack("{s:s, s:{s:O, s:O, s:O}}", "type", "function",
                      "function", "name", json_object_get(tool, "name"),
                      "description", json_object_get(tool, "description"),
                      "parameters", json_object_get(tool, "input_schema")));
    return out;
}

/* The assistant's message that an item belongs to: the last one, or a new. */
static json_t *
assistant(json_t *messages, bool may_have_text)
{
    json_t *last = json_array_get(messages, json_array_size(messages) - 1);
    bool fits =
        ag_str_is(ag_json_str(json_object_get(last, "role")), "assistant")
        && (may_have_text || json_is_null(json_object_get(last, "content")))
        && (may_have_text || json_object_get(last, "tool_calls") == NULL);

    if (fits)
        return last;
    last = json_pack("{s:s, s:n}", "role", "assistant", "content");
    json_array_append_new(messages, last);
    return last;
}

static json_t *
list_of(json_t *message, const char *key)
{
    json_t *list = json_object_get(message, key);

    if (list != NULL)
        return list;
    list = json_array();
    json_object_set_new(message, key, list);
    return list;
}

static void
add_thinking(json_t *messages, const struct brain_item *item)
{
    const json_t *raw = brain_item_raw(item, "chat");

    if (raw != NULL)
        json_array_append(
            list_of(assistant(messages, false), "thinking_blocks"),
            (json_t *)(uintptr_t)raw);
}

static void
add_call(json_t *messages, const struct brain_item *item)
{
    json_array_append_new(list_of(assistant(messages, true), "tool_calls"),
                          json_pack("{s:s, s:s, s:{s:O, s:o}}", "id",
                                    item->call_id, "type", "function",
                                    "function", "name",
                                    json_object_get(item->event->body, "name"),
                                    "arguments", brain_item_arguments(item)));
}

static json_t *
part(const json_t *block)
{
    json_t *text = brain_content_text(block);

    if (text != NULL)
        return json_pack("{s:s, s:o}", "type", "text", "text", text);
    if (brain_content_kind(block) == BRAIN_CONTENT_IMAGE)
        return json_pack("{s:s, s:{s:o}}", "type", "image_url", "image_url",
                         "url", brain_content_url(block));
    return json_pack("{s:s, s:{s:s, s:o}}", "type", "file", "file", "filename",
                     brain_content_name(block), "file_data",
                     brain_content_url(block));
}

/* This wire has text alone in a result: the rest is said behind all of them, as
 * a message of the user. */
static void
put_aside(json_t *media, const struct brain_item *item)
{
    json_t *block;
    size_t i;

    if (!brain_item_has_media(item))
        return;
    json_array_append_new(media,
                          json_pack("{s:s, s:s+}", "type", "text", "text",
                                    "Of the result of ", item->call_id));
    json_array_foreach (json_object_get(item->event->body, "content"), i, block)
        if (brain_content_kind(block) != BRAIN_CONTENT_TEXT)
            json_array_append_new(media, part(block));
}

static void
add_media(json_t *messages, json_t **media)
{
    if (json_array_size(*media) > 0)
        json_array_append_new(messages, json_pack("{s:s, s:O}", "role", "user",
                                                  "content", *media));
    json_decref(*media);
    *media = json_array();
}

static void
add_item(json_t *messages, const struct brain_item *item)
{
    switch (item->kind) {
    case BRAIN_ITEM_USER:
        json_array_append_new(messages,
                              json_pack("{s:s, s:o}", "role", "user", "content",
                                        brain_item_has_media(item)
                                            ? brain_item_parts(item, part)
                                            : brain_item_text(item)));
        break;
    case BRAIN_ITEM_AGENT:
        json_object_set_new(assistant(messages, false), "content",
                            brain_item_text(item));
        break;
    case BRAIN_ITEM_THINKING:
        add_thinking(messages, item);
        break;
    case BRAIN_ITEM_CALL:
        add_call(messages, item);
        break;
    case BRAIN_ITEM_RESULT:
        json_array_append_new(messages,
                              json_pack("{s:s, s:s, s:o}", "role", "tool",
                                        "tool_call_id", item->call_id,
                                        "content", brain_item_text(item)));
        break;
    }
}

static json_t *
build(const struct brain_prompt *p)
{
    json_t *messages = json_array(), *media = json_array();
    json_t *body =
        json_pack("{s:o, s:b, s:{s:b}}", "model", ag_json_from_str(p->model),
                  "stream", 1, "stream_options", "include_usage", 1);

    if (p->max_tokens > 0)
        json_object_set_new(body, "max_completion_tokens",
                            json_integer(p->max_tokens));
    if (json_array_size(p->tools) > 0)
        json_object_set_new(body, "tools", tools(p->tools));
    if (p->system.n > 0)
        json_array_append_new(messages, json_pack("{s:s, s:o}", "role",
                                                  "system", "content",
                                                  ag_json_from_str(p->system)));
    for (size_t i = 0; i < p->n; i++) {
        if (p->items[i].kind == BRAIN_ITEM_RESULT)
            put_aside(media, &p->items[i]);
        else
            add_media(messages, &media);
        add_item(messages, &p->items[i]);
    }
    add_media(messages, &media);
    json_decref(media);
    json_object_set_new(body, "messages", messages);
    return body;
}

/* ---- the answer -------------------------------------------------------- */

static int
take_call(struct brain_answer *a, const json_t *piece, struct ag_err *err)
{
    const json_t *fn = json_object_get(piece, "function");
    int64_t index = (int64_t)a->n_calls;
    struct brain_block *b;

    if (ag_json_get_i64(piece, "index", &index, err) < 0)
        return -1;
    if (index < 0 || (size_t)index > a->n_calls)
        return ag_err_set(err, AG_ERR_CORRUPT,
                          "tool_calls: index %lld is out of order",
                          (long long)index);
    b = brain_answer_find(a, BRAIN_BLOCK_CALL, index);
    if (b == NULL)
        b = brain_answer_add(a, BRAIN_BLOCK_CALL, index, err);
    if (b == NULL)
        return -1;
    if (brain_answer_put(a, b, &b->name, fn, "name", err) < 0
        || brain_answer_put(a, b, &b->text, fn, "arguments", err) < 0)
        return -1;
    return 0;
}

/* A signature ends a block that is to be sent back as it came. */
static int
take_thinking(struct brain_answer *a, const json_t *piece, struct ag_err *err)
{
    AG_AUTO(ag_json_decref) json_t *raw = NULL;
    struct brain_block *b = brain_answer_last(a, BRAIN_BLOCK_THINKING, err);

    if (b == NULL
        || brain_answer_put(a, b, &b->signature, piece, "signature", err) < 0)
        return -1;
    if (b->signature.n == 0)
        return 0;
    raw = json_pack("{s:s, s:o, s:o}", "type", "thinking", "thinking",
                    ag_json_from_str(ag_buf_str(&b->text)), "signature",
                    ag_json_from_str(ag_buf_str(&b->signature)));
    return brain_answer_keep(a, b, raw, err);
}

/* Text goes to the block that is being written, if the piece has any. */
static int
take_text(struct brain_answer *a, enum brain_block_kind kind,
          const json_t *delta, const char *key, struct ag_err *err)
{
    const json_t *v = json_object_get(delta, key);
    struct brain_block *b;

    if (v == NULL || json_is_null(v)
        || (json_is_string(v) && json_string_length(v) == 0))
        return 0;
    b = brain_answer_last(a, kind, err);
    return b == NULL ? -1 : brain_answer_put(a, b, &b->text, delta, key, err);
}

static int
take_finish(struct brain_answer *a, const json_t *choice, struct ag_err *err)
{
    ag_str_t finish = {NULL, 0};

    if (ag_json_get_str(choice, "finish_reason", &finish, err) < 0) {
        err->kind = AG_ERR_CORRUPT;
        return -1;
    }
    if (ag_str_is(finish, "length"))
        a->finish = BRAIN_FINISH_LENGTH;
    else if (ag_str_is(finish, "content_filter"))
        a->finish = BRAIN_FINISH_FILTER;
    else if (ag_str_is(finish, "tool_calls"))
        a->finish = BRAIN_FINISH_CALLS;
    else if (finish.n > 0)
        a->finish = BRAIN_FINISH_STOP;
    return 0;
}

static int
take_choice(struct brain_answer *a, const json_t *choice, struct ag_err *err)
{
    const json_t *delta = json_object_get(choice, "delta");
    json_t *piece;
    size_t i;

    if (take_text(a, BRAIN_BLOCK_THINKING, delta, "reasoning_content", err) < 0
        || take_text(a, BRAIN_BLOCK_TEXT, delta, "content", err) < 0)
        return -1;
    json_array_foreach (json_object_get(delta, "thinking_blocks"), i, piece)
        if (take_thinking(a, piece, err) < 0)
            return -1;
    json_array_foreach (json_object_get(delta, "tool_calls"), i, piece)
        if (take_call(a, piece, err) < 0)
            return -1;
    return take_finish(a, choice, err);
}

/* OpenAI's count of prompt tokens includes the cached ones. */
static void
take_usage(struct brain_answer *a, const json_t *usage)
{
    const json_t *in = json_object_get(usage, "prompt_tokens_details");
    const json_t *out = json_object_get(usage, "completion_tokens_details");
    struct brain_usage u = {0};

    brain_answer_count(usage, "prompt_tokens", &u.input);
    brain_answer_count(usage, "completion_tokens", &u.output);
    brain_answer_count(in, "cached_tokens", &u.cache_read);
    brain_answer_count(in, "cache_creation_tokens", &u.cache_write);
    brain_answer_count(out, "reasoning_tokens", &u.reasoning);
    u.input -= u.cache_read + u.cache_write;
    if (u.input < 0)
        u.input = 0;
    a->usage = u;
}

static int
take(struct brain_answer *a, const json_t *event, struct ag_err *err)
{
    const json_t *error = json_object_get(event, "error"), *choices;

    if (error != NULL && !json_is_null(error))
        return brain_wire_failed(error, err);
    if (json_is_object(json_object_get(event, "usage")))
        take_usage(a, json_object_get(event, "usage"));
    choices = json_object_get(event, "choices");
    if (json_array_size(choices) == 0)
        return 0;
    return take_choice(a, json_array_get(choices, 0), err);
}

const struct brain_wire brain_wire_chat = {
    .name = "chat",
    .path = "/chat/completions",
    .key_header = "authorization: Bearer ",
    .build = build,
    .take = take,
};
