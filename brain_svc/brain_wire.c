/*
 * What the wires share: the table, and server-sent events cut into lines.
 * Called by the model client on the loop; pure.
 */
#include "brain_svc/brain_wire.h"

const struct brain_wire *
brain_wire_find(ag_str_t name)
{
    static const struct brain_wire *const all[] = {
        &brain_wire_chat, &brain_wire_responses, &brain_wire_messages};

    for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++)
        if (ag_str_is(name, all[i]->name))
            return all[i];
    return NULL;
}

int
brain_wire_write(const struct brain_wire *wire,
                 const struct brain_prompt *prompt, struct ag_buf *out,
                 struct ag_err *err)
{
    AG_AUTO(ag_json_decref) json_t *body = wire->build(prompt);

    ag_assert(body != NULL);
    if (ag_json_dump(body, out, err) < 0)
        return ag_err_wrap(err, "the request to the model");
    return 0;
}

int
brain_wire_failed(const json_t *error, struct ag_err *err)
{
    ag_str_t m = json_is_string(error)
                     ? ag_json_str(error)
                     : ag_json_str(json_object_get(error, "message"));

    return ag_err_set(err, AG_ERR_UNAVAILABLE,
                      "the model's stream ended with an error: %.*s",
                      AG_FMT(m));
}

static int
take_data(const struct brain_wire *wire, struct brain_answer *answer,
          ag_str_t text, struct ag_err *err)
{
    AG_AUTO(ag_json_decref) json_t *event = ag_json_parse(text, err);

    if (event == NULL || !json_is_object(event)) {
        if (event != NULL)
            ag_err_set(err, AG_ERR_CORRUPT, "not an object");
        err->kind = AG_ERR_CORRUPT;
        return ag_err_wrap(err, "the model's stream");
    }
    return wire->take(answer, event, err);
}

static int
take_line(const struct brain_wire *wire, struct brain_answer *answer,
          ag_str_t line, struct ag_err *err)
{
    if (line.n > 0 && line.p[line.n - 1] == '\r')
        line.n--;
    if (!ag_str_starts(line, AG_STR("data:")) || answer->is_done)
        return 0; /* comments, event names, blank lines */
    line = ag_str_trim(ag_str_n(line.p + 5, line.n - 5));
    if (ag_str_is(line, "[DONE]")) {
        answer->is_done = true;
        return 0;
    }
    return line.n == 0 ? 0 : take_data(wire, answer, line, err);
}

int
brain_wire_feed(const struct brain_wire *wire, struct brain_answer *answer,
                ag_str_t bytes, struct ag_err *err)
{
    ptrdiff_t at;

    while ((at = ag_str_chr(bytes, '\n')) >= 0) {
        if (ag_buf_append(&answer->line, ag_str_n(bytes.p, (size_t)at), err)
            < 0)
            return ag_err_wrap(err, "the model's stream: a line");
        if (take_line(wire, answer, ag_buf_str(&answer->line), err) < 0)
            return -1;
        ag_buf_clear(&answer->line);
        bytes = ag_str_n(bytes.p + at + 1, bytes.n - (size_t)at - 1);
    }
    if (ag_buf_append(&answer->line, bytes, err) < 0)
        return ag_err_wrap(err, "the model's stream: a line");
    return 0;
}
