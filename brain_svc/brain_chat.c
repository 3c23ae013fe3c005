/*
 * Parser of the chat stream. Called from the model client on the loop.
 */
#include "brain_svc/brain_chat.h"

#define LINE_MAX (1024 * 1024)
#define NAME_MAX_BYTES 256

void
brain_chat_init(struct brain_chat *chat, size_t max)
{
    *chat = (struct brain_chat){.max = max};
    ag_buf_init(&chat->line, LINE_MAX);
    ag_buf_init(&chat->text, max);
    ag_buf_init(&chat->finish, NAME_MAX_BYTES);
}

void
brain_chat_release(struct brain_chat *chat)
{
    ag_buf_release(&chat->line);
    ag_buf_release(&chat->text);
    ag_buf_release(&chat->finish);
    for (size_t i = 0; i < chat->n_calls; i++) {
        ag_buf_release(&chat->calls[i].id);
        ag_buf_release(&chat->calls[i].name);
        ag_buf_release(&chat->calls[i].arguments);
    }
    chat->n_calls = 0;
}

static int
append_member(const json_t *obj, const char *key, struct ag_buf *to,
              struct ag_err *err)
{
    ag_str_t piece = {NULL, 0};

    if (ag_json_get_str(obj, key, &piece, err) < 0) {
        err->kind = AG_ERR_CORRUPT;
        return -1;
    }
    return piece.n == 0 ? 0 : ag_buf_append(to, piece, err);
}

/* A piece of one tool call. */
static int
take_call(struct brain_chat *chat, const json_t *piece, struct ag_err *err)
{
    const json_t *fn = json_object_get(piece, "function");
    int64_t index = (int64_t)chat->n_calls;
    struct brain_chat_call *c;

    if (ag_json_get_i64(piece, "index", &index, err) < 0)
        return -1;
    if (index < 0 || index >= BRAIN_CHAT_CALLS_MAX
        || (size_t)index > chat->n_calls)
        return ag_err_set(err, AG_ERR_CORRUPT,
                          "tool_calls: index %lld is out of order, or there "
                          "are more than %d calls",
                          (long long)index, BRAIN_CHAT_CALLS_MAX);
    c = &chat->calls[index];
    if ((size_t)index == chat->n_calls) {
        ag_buf_init(&c->id, NAME_MAX_BYTES);
        ag_buf_init(&c->name, NAME_MAX_BYTES);
        ag_buf_init(&c->arguments, chat->max);
        chat->n_calls++;
    }
    if (append_member(piece, "id", &c->id, err) < 0
        || append_member(fn, "name", &c->name, err) < 0
        || append_member(fn, "arguments", &c->arguments, err) < 0)
        return -1;
    return 0;
}

static int
take_choice(struct brain_chat *chat, const json_t *choice, struct ag_err *err)
{
    const json_t *delta = json_object_get(choice, "delta");
    json_t *piece;
    size_t i;

    if (append_member(delta, "content", &chat->text, err) < 0)
        return -1;
    json_array_foreach (json_object_get(delta, "tool_calls"), i, piece)
        if (take_call(chat, piece, err) < 0)
            return -1;
    ag_buf_clear(&chat->finish);
    return append_member(choice, "finish_reason", &chat->finish, err);
}

static void
take_usage(struct brain_chat *chat, const json_t *usage)
{
    const json_t *details = json_object_get(usage, "prompt_tokens_details");
    struct ag_err ignored;

    (void)ag_json_get_i64(usage, "prompt_tokens", &chat->input_tokens,
                          &ignored);
    (void)ag_json_get_i64(usage, "completion_tokens", &chat->output_tokens,
                          &ignored);
    (void)ag_json_get_i64(details, "cached_tokens", &chat->cached_tokens,
                          &ignored);
}

static int
take_chunk(struct brain_chat *chat, ag_str_t text, struct ag_err *err)
{
    AG_AUTO(ag_json_decref) json_t *j = ag_json_parse(text, err);
    const json_t *choices, *error;

    if (j == NULL) {
        err->kind = AG_ERR_CORRUPT;
        return ag_err_wrap(err, "model stream");
    }
    error = json_object_get(j, "error");
    if (error != NULL && !json_is_null(error)) {
        ag_str_t m = json_is_string(error)
                         ? ag_json_str(error)
                         : ag_json_str(json_object_get(error, "message"));

        return ag_err_set(err, AG_ERR_UNAVAILABLE,
                          "the model's stream ended with an error: %.*s",
                          AG_FMT(m));
    }
    if (json_is_object(json_object_get(j, "usage")))
        take_usage(chat, json_object_get(j, "usage"));
    choices = json_object_get(j, "choices");
    if (json_array_size(choices) == 0)
        return 0;
    return take_choice(chat, json_array_get(choices, 0), err);
}

static int
take_line(struct brain_chat *chat, ag_str_t line, struct ag_err *err)
{
    if (line.n > 0 && line.p[line.n - 1] == '\r')
        line.n--;
    if (!ag_str_starts(line, AG_STR("data:")) || chat->is_done)
        return 0; /* comments, event names, blank lines */
    line = ag_str_trim(ag_str_n(line.p + 5, line.n - 5));
    if (ag_str_is(line, "[DONE]")) {
        chat->is_done = true;
        return 0;
    }
    return line.n == 0 ? 0 : take_chunk(chat, line, err);
}

int
brain_chat_feed(struct brain_chat *chat, ag_str_t bytes, struct ag_err *err)
{
    ptrdiff_t at;

    while ((at = ag_str_chr(bytes, '\n')) >= 0) {
        if (ag_buf_append(&chat->line, ag_str_n(bytes.p, (size_t)at), err) < 0)
            return ag_err_wrap(err, "model stream: a line");
        if (take_line(chat, ag_buf_str(&chat->line), err) < 0)
            return -1;
        ag_buf_clear(&chat->line);
        bytes = ag_str_n(bytes.p + at + 1, bytes.n - (size_t)at - 1);
    }
    if (ag_buf_append(&chat->line, bytes, err) < 0)
        return ag_err_wrap(err, "model stream: a line");
    return 0;
}
