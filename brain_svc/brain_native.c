/*
 * What a reply becomes in the log. Called by the native driver.
 */
#include "brain_svc/brain_native.h"

#include "brain_svc/brain_run.h"

static json_t *
model_usage(const struct brain_usage *u)
{
    return json_pack("{s:I, s:I, s:I, s:I}", "input_tokens",
                     (json_int_t)u->input, "output_tokens",
                     (json_int_t)u->output, "cache_read_input_tokens",
                     (json_int_t)u->cache_read, "cache_creation_input_tokens",
                     (json_int_t)u->cache_write);
}

json_t *
brain_native_span_end(const char *start_id, const struct brain_reply *reply)
{
    static const char *const sources[] = {
        [BRAIN_COST_UNKNOWN] = "unknown",
        [BRAIN_COST_GATEWAY] = "gateway",
        [BRAIN_COST_PRICES] = "prices",
    };
    static const struct brain_usage none;
    const struct brain_usage *u = reply == NULL ? &none : &reply->answer->usage;
    json_t *e = brain_event_new("span.model_request_end");

    json_object_set_new(e, "is_error", json_boolean(reply == NULL));
    json_object_set_new(e, "model_request_start_id", json_string(start_id));
    json_object_set_new(e, "model_usage", model_usage(u));
    if (reply == NULL)
        return e;
    json_object_set_new(
        e, "brainbox.model",
        json_pack(
            "{s:s, s:o, s:s, s:I, s:I, s:s}", "wire", reply->route.wire->name,
            "model", ag_json_from_str(reply->route.model), "request_sha256",
            reply->request_sha256, "reasoning_tokens", (json_int_t)u->reasoning,
            "cost_nano_usd", (json_int_t)reply->cost_nano_usd, "cost_source",
            sources[reply->cost_source]));
    return e;
}

json_t *
brain_native_span_lost(const struct brain_event *start)
{
    const json_t *reserved = json_object_get(start->body, "brainbox.reserved");
    json_t *e = brain_native_span_end(start->id, NULL);

    if (reserved != NULL)
        json_object_set_new(e, "brainbox.model",
                            json_pack("{s:I, s:s}", "cost_nano_usd",
                                      json_integer_value(json_object_get(
                                          reserved, "cost_nano_usd")),
                                      "cost_source", "reserved"));
    return e;
}

/* A call whose arguments do not parse never leaves: its result tells why. */
static json_t *
call_event(const struct brain_block *b, const struct brain_tools *tools)
{
    AG_AUTO(ag_buf_release) struct ag_buf why = AG_BUF_INIT(512);
    ag_str_t text = ag_buf_str(&b->text), name = ag_buf_str(&b->name);
    struct ag_err err = AG_ERR_INIT;
    json_t *input = text.n == 0 ? json_object() : ag_json_parse(text, &err), *e;

    if (json_is_object(input)) {
        e = brain_tools_call(tools, name, input);
        json_decref(input);
        return e;
    }
    ag_buf_addf(&why, "the arguments are not a JSON object%s%s",
                input == NULL ? ": " : "", input == NULL ? err.msg : "");
    json_decref(input);
    e = brain_event_new("agent.tool_use");
    json_object_set_new(e, "name", ag_json_from_str(name));
    json_object_set_new(e, "input", json_object());
    json_object_set_new(e, "brainbox.input_error",
                        ag_json_from_str(ag_buf_str(&why)));
    return e;
}

static json_t *
thinking_event(const struct brain_block *b, const char *wire, json_t *preview)
{
    json_t *e = brain_event_begun(preview, "agent.thinking");

    if (b->text.n > 0)
        json_object_set_new(e, "content",
                            brain_text_content(ag_buf_str(&b->text)));
    if (b->raw != NULL) {
        json_object_set_new(e, "brainbox.wire", json_string(wire));
        json_object_set(e, "brainbox.block", b->raw);
    }
    return e;
}

static json_t *
block_event(const struct brain_block *b, const struct brain_reply *reply,
            const struct brain_tools *tools, json_t *preview)
{
    json_t *e;

    switch (b->kind) {
    case BRAIN_BLOCK_CALL:
        return call_event(b, tools);
    case BRAIN_BLOCK_THINKING:
        return b->text.n == 0 && b->raw == NULL
                   ? NULL
                   : thinking_event(b, reply->route.wire->name, preview);
    case BRAIN_BLOCK_TEXT:
        if (b->text.n == 0)
            return NULL;
        e = brain_event_begun(preview, "agent.message");
        json_object_set_new(e, "content",
                            brain_text_content(ag_buf_str(&b->text)));
        return e;
    }
    return NULL;
}

static json_t *
ending_event(const struct brain_answer *answer, bool is_empty)
{
    const char *why = answer->finish == BRAIN_FINISH_LENGTH
                          ? "the model's answer was cut off at its length limit"
                      : answer->finish == BRAIN_FINISH_FILTER
                          ? "the model's answer was stopped by a content filter"
                      : is_empty ? "the model's answer was empty"
                                 : NULL;

    return why == NULL ? NULL
                       : brain_error_event("model_request_failed_error",
                                           "terminal", "%s", why);
}

size_t
brain_native_events(const char *start_id, const struct brain_reply *reply,
                    const struct brain_tools *tools, json_t *const *previews,
                    json_t **out)
{
    const struct brain_answer *a = reply->answer;
    bool is_empty = true;
    size_t n = 0;
    json_t *e;

    out[n++] = brain_native_span_end(start_id, reply);
    for (size_t i = 0; i < a->n_blocks; i++) {
        e = block_event(&a->blocks[i], reply, tools, previews[i]);
        if (e == NULL)
            continue;
        is_empty &= a->blocks[i].kind == BRAIN_BLOCK_THINKING;
        out[n++] = e;
    }
    e = ending_event(a, is_empty);
    if (e != NULL)
        out[n++] = e;
    return n;
}
