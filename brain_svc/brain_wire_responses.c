/*
 * The wire of /responses, without anything stored at the endpoint: the
 * conversation goes there and back as items, reasoning among them, encrypted.
 * A stream holds events by `type`; what belongs together has the same
 * `output_index`. Pure.
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
            out, json_pack("{s:s, s:O, s:O, s:O, s:b}", "type", "function",
                           "name", json_object_get(tool, "name"), "description",
                           json_object_get(tool, "description"), "parameters",
                           json_object_get(tool, "input_schema"), "strict", 0));
    return out;
}

static json_t *
message(const char *role, const char *block, const struct brain_item *item)
{
    return json_pack("{s:s, s:s, s:[{s:s, s:o}]}", "type", "message", "role",
                     role, "content", "type", block, "text",
                     brain_item_text(item));
}

static json_t *
part(const json_t *block)
{
    json_t *text = brain_content_text(block);

    if (text != NULL)
        return json_pack("{s:s, s:o}", "type", "input_text", "text", text);
    if (brain_content_kind(block) == BRAIN_CONTENT_IMAGE)
        return json_pack("{s:s, s:o}", "type", "input_image", "image_url",
                         brain_content_url(block));
    return json_pack("{s:s, s:s, s:o}", "type", "input_file", "filename",
                     brain_content_name(block), "file_data",
                     brain_content_url(block));
}

static json_t *
item_json(const struct brain_item *item)
{
    switch (item->kind) {
    case BRAIN_ITEM_USER:
        return brain_item_has_media(item)
                   ? json_pack("{s:s, s:s, s:o}", "type", "message", "role",
                               "user", "content", brain_item_parts(item, part))
                   : message("user", "input_text", item);
    case BRAIN_ITEM_AGENT:
        return message("assistant", "output_text", item);
    case BRAIN_ITEM_THINKING:
        return json_incref(
            (json_t *)(uintptr_t)brain_item_raw(item, "responses"));
    case BRAIN_ITEM_CALL:
        return json_pack("{s:s, s:s, s:O, s:o}", "type", "function_call",
                         "call_id", item->call_id, "name",
                         json_object_get(item->event->body, "name"),
                         "arguments", brain_item_arguments(item));
    case BRAIN_ITEM_RESULT:
        return json_pack("{s:s, s:s, s:o}", "type", "function_call_output",
                         "call_id", item->call_id, "output",
                         brain_item_has_media(item)
                             ? brain_item_parts(item, part)
                             : brain_item_text(item));
    }
    return NULL;
}

static json_t *
build(const struct brain_prompt *p)
{
    json_t *input = json_array(), *one;
    json_t *body = json_pack("{s:o, s:b, s:b, s:[s]}", "model",
                             ag_json_from_str(p->model), "stream", 1, "store",
                             0, "include", "reasoning.encrypted_content");

    if (p->max_tokens > 0)
        json_object_set_new(body, "max_output_tokens",
                            json_integer(p->max_tokens));
    if (p->system.n > 0)
        json_object_set_new(body, "instructions", ag_json_from_str(p->system));
    if (json_array_size(p->tools) > 0)
        json_object_set_new(body, "tools", tools(p->tools));
    for (size_t i = 0; i < p->n; i++) {
        one = item_json(&p->items[i]);
        if (one != NULL)
            json_array_append_new(input, one);
    }
    json_object_set_new(body, "input", input);
    return body;
}

/* ---- the answer -------------------------------------------------------- */

static enum brain_block_kind
kind_of(ag_str_t type)
{
    return ag_str_is(type, "function_call") ? BRAIN_BLOCK_CALL
           : ag_str_is(type, "reasoning")   ? BRAIN_BLOCK_THINKING
                                            : BRAIN_BLOCK_TEXT;
}

static int
item_added(struct brain_answer *a, const json_t *event, int64_t index,
           struct ag_err *err)
{
    const json_t *item = json_object_get(event, "item");
    ag_str_t type = ag_json_str(json_object_get(item, "type"));
    struct brain_block *b;

    /* A message's block is made by its text: it may have none. */
    if (kind_of(type) == BRAIN_BLOCK_TEXT)
        return 0;
    b = brain_answer_add(a, kind_of(type), index, err);
    return b == NULL ? -1 : brain_answer_put(a, b, &b->name, item, "name", err);
}

/* Reasoning is sent back as it came, with its encrypted content. */
static int
item_done(struct brain_answer *a, const json_t *event, int64_t index,
          struct ag_err *err)
{
    const json_t *item = json_object_get(event, "item");
    struct brain_block *b = brain_answer_find(a, BRAIN_BLOCK_THINKING, index);

    if (b == NULL || !json_is_object(item))
        return 0;
    return brain_answer_keep(a, b, item, err);
}

static int
delta(struct brain_answer *a, enum brain_block_kind kind, const json_t *event,
      int64_t index, struct ag_err *err)
{
    struct brain_block *b = brain_answer_find(a, kind, index);

    if (b == NULL && kind == BRAIN_BLOCK_CALL)
        return ag_err_set(err, AG_ERR_CORRUPT,
                          "arguments for output %lld, which is no call",
                          (long long)index);
    if (b == NULL)
        b = brain_answer_add(a, kind, index, err);
    return b == NULL ? -1
                     : brain_answer_put(a, b, &b->text, event, "delta", err);
}

static void
take_usage(struct brain_answer *a, const json_t *usage)
{
    struct brain_usage u = {0};

    brain_answer_count(usage, "input_tokens", &u.input);
    brain_answer_count(usage, "output_tokens", &u.output);
    brain_answer_count(json_object_get(usage, "input_tokens_details"),
                       "cached_tokens", &u.cache_read);
    brain_answer_count(json_object_get(usage, "output_tokens_details"),
                       "reasoning_tokens", &u.reasoning);
    u.input = u.input < u.cache_read ? 0 : u.input - u.cache_read;
    a->usage = u;
}

static int
ended(struct brain_answer *a, const json_t *event, bool is_whole)
{
    const json_t *response = json_object_get(event, "response");
    const json_t *why = json_object_get(response, "incomplete_details");
    ag_str_t reason = ag_json_str(json_object_get(why, "reason"));

    take_usage(a, json_object_get(response, "usage"));
    a->is_done = true;
    if (!is_whole)
        a->finish = ag_str_is(reason, "content_filter") ? BRAIN_FINISH_FILTER
                                                        : BRAIN_FINISH_LENGTH;
    else if (a->finish == BRAIN_FINISH_NONE)
        a->finish = a->n_calls > 0 ? BRAIN_FINISH_CALLS : BRAIN_FINISH_STOP;
    return 0;
}

static int
take(struct brain_answer *a, const json_t *event, struct ag_err *err)
{
    ag_str_t type = ag_json_str(json_object_get(event, "type"));
    int64_t index = -1;

    if (ag_json_get_i64(event, "output_index", &index, err) < 0) {
        err->kind = AG_ERR_CORRUPT;
        return -1;
    }
    if (ag_str_is(type, "response.output_item.added"))
        return item_added(a, event, index, err);
    if (ag_str_is(type, "response.output_item.done"))
        return item_done(a, event, index, err);
    if (ag_str_is(type, "response.output_text.delta"))
        return delta(a, BRAIN_BLOCK_TEXT, event, index, err);
    if (ag_str_is(type, "response.function_call_arguments.delta"))
        return delta(a, BRAIN_BLOCK_CALL, event, index, err);
    if (ag_str_is(type, "response.reasoning_summary_text.delta"))
        return delta(a, BRAIN_BLOCK_THINKING, event, index, err);
    if (ag_str_is(type, "response.refusal.delta")) {
        a->finish = BRAIN_FINISH_FILTER;
        return delta(a, BRAIN_BLOCK_TEXT, event, index, err);
    }
    if (ag_str_is(type, "response.completed"))
        return ended(a, event, true);
    if (ag_str_is(type, "response.incomplete"))
        return ended(a, event, false);
    if (ag_str_is(type, "response.failed"))
        return brain_wire_failed(
            json_object_get(json_object_get(event, "response"), "error"), err);
    if (ag_str_is(type, "error"))
        return brain_wire_failed(event, err);
    return 0;
}

const struct brain_wire brain_wire_responses = {
    .name = "responses",
    .path = "/responses",
    .key_header = "authorization: Bearer ",
    .build = build,
    .take = take,
};
