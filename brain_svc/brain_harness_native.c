/*
 * The native driver: a loop of model calls. The conversation is the session's
 * log; each answer is stored as agent.message and agent.tool_use events, whose
 * results the run adds, until an answer has no tool call.
 */
#include <stdlib.h>

#include "brain_svc/brain_hub.h"
#include "brain_svc/brain_model.h"
#include "brain_svc/brain_run.h"
#include "lib/clock.h"

#define BODY_MAX (32 * 1024 * 1024)

/* What one model call keeps; the driver's part of the run. */
struct native {
    struct brain_run *run;
    struct brain_model_call *call;
    json_t *message; /* the agent.message that is being written, or NULL */
    char start_id[AG_ID_TEXT];
};

static bool
is_type(const struct brain_event *e, const char *type)
{
    return strcmp(e->type, type) == 0;
}

/* ---- the request ------------------------------------------------------- */

/* Fixed text: a prompt's prefix must be the same byte for byte. */
static const char tools_json[] =
    "[{\"type\":\"function\",\"function\":{\"name\":\"sandbox_provision\","
    "\"description\":\"Get a Linux sandbox for this turn. Files in "
    "/workspace stay for later turns; all else is gone at the end of the "
    "turn. Call it before sandbox_execute.\",\"parameters\":{\"type\":"
    "\"object\",\"properties\":{\"task_description\":{\"type\":\"string\","
    "\"description\":\"What the sandbox is for.\"},\"environment\":{"
    "\"type\":\"string\",\"description\":\"Another environment of the "
    "session; usually left out.\"}},\"required\":[\"task_description\"],"
    "\"additionalProperties\":false}}},{\"type\":\"function\",\"function\":{"
    "\"name\":\"sandbox_execute\",\"description\":\"Run a shell command in "
    "the sandbox, in /workspace. Returns exit_code, stdout and stderr. "
    "Environment variables with credentials work only towards the hosts "
    "they are bound to.\",\"parameters\":{\"type\":\"object\","
    "\"properties\":{\"command\":{\"type\":\"string\",\"description\":"
    "\"Run by /bin/sh.\"},\"timeout_seconds\":{\"type\":\"integer\","
    "\"minimum\":1,\"maximum\":3600},\"stdin\":{\"type\":\"string\"},"
    "\"sandbox_id\":{\"type\":\"string\"}},\"required\":[\"command\"],"
    "\"additionalProperties\":false}}}]";

static json_t *
message(const char *role, ag_str_t content)
{
    return json_pack("{s:s, s:o}", "role", role, "content",
                     ag_json_from_str(content));
}

static json_t *
text_message(const char *role, const struct brain_event *e)
{
    AG_AUTO(ag_buf_release) struct ag_buf text = AG_BUF_INIT(BODY_MAX);
    struct ag_err ignored;

    (void)brain_event_text(e->body, &text, &ignored);
    return message(role, ag_buf_str(&text));
}

/* Into the assistant message before it, which it makes if there is none. */
static void
add_tool_use(json_t *messages, const struct brain_event *e)
{
    AG_AUTO(ag_buf_release) struct ag_buf args = AG_BUF_INIT(BODY_MAX);
    json_t *last = json_array_get(messages, json_array_size(messages) - 1);
    const json_t *input = json_object_get(e->body, "input");
    struct ag_err ignored;

    if (!ag_str_is(ag_json_str(json_object_get(last, "role")), "assistant")) {
        last = json_pack("{s:s, s:n}", "role", "assistant", "content");
        json_array_append_new(messages, last);
    }
    if (json_object_get(last, "tool_calls") == NULL)
        json_object_set_new(last, "tool_calls", json_array());
    (void)ag_json_dump(input, &args, &ignored);
    json_array_append_new(
        json_object_get(last, "tool_calls"),
        json_pack("{s:s, s:s, s:{s:O, s:o}}", "id", e->id, "type", "function",
                  "function", "name", json_object_get(e->body, "name"),
                  "arguments", ag_json_from_str(ag_buf_str(&args))));
}

static void
add_event(json_t *messages, const struct brain_event *e)
{
    json_t *m = NULL;

    if (is_type(e, "user.message")) {
        m = text_message("user", e);
    } else if (is_type(e, "agent.message")) {
        m = text_message("assistant", e);
    } else if (is_type(e, "agent.tool_use")) {
        add_tool_use(messages, e);
    } else if (is_type(e, "agent.tool_result")) {
        m = text_message("tool", e);
        json_object_set(m, "tool_call_id",
                        json_object_get(e->body, "tool_use_id"));
    }
    if (m != NULL)
        json_array_append_new(messages, m);
}

/*
 * A user's message that came while a tool ran stands between a call and its
 * result in the log; the wire wants results right behind the calls.
 */
static void
add_log(json_t *messages, const struct brain_log *log)
{
    size_t n_open = 0, held_from = 0, n_held = 0;

    for (size_t i = 0; i < log->n; i++) {
        const struct brain_event *e = &log->at[i];

        if (is_type(e, "agent.tool_use"))
            n_open++;
        else if (is_type(e, "agent.tool_result") && n_open > 0)
            n_open--;
        if (n_open > 0 && is_type(e, "user.message")) {
            if (n_held++ == 0)
                held_from = i;
            continue;
        }
        add_event(messages, e);
        if (n_open > 0 || n_held == 0)
            continue;
        for (size_t k = held_from; k <= i; k++)
            if (is_type(&log->at[k], "user.message"))
                add_event(messages, &log->at[k]);
        n_held = 0;
    }
}

static void
build_body(const struct brain_run *run, struct ag_buf *out)
{
    AG_AUTO(ag_json_decref) json_t *body = NULL;
    json_t *messages = json_array();
    struct ag_err err;

    if (brain_run_system(run).n > 0)
        json_array_append_new(messages,
                              message("system", brain_run_system(run)));
    add_log(messages, brain_run_log(run));
    body = json_pack("{s:o, s:o, s:o, s:b, s:{s:b}}", "model",
                     ag_json_from_str(brain_run_model(run)), "messages",
                     messages, "tools", ag_json_parse(ag_str(tools_json), &err),
                     "stream", 1, "stream_options", "include_usage", 1);
    ag_assert(body != NULL);
    if (ag_json_dump(body, out, &err) < 0)
        ag_buf_clear(out);
}

/* ---- the answer -------------------------------------------------------- */

static void
native_free(struct native *n)
{
    brain_run_set_driver(n->run, NULL);
    json_decref(n->message);
    free(n);
}

/* Deltas go to whoever listens; only the whole message is stored. */
static void
got_text(void *arg, ag_str_t text)
{
    struct native *n = arg;
    struct brain_hub *hub = brain_run_brain(n->run)->hub;
    ag_str_t session = brain_run_session(n->run);
    AG_AUTO(ag_json_decref) json_t *delta = NULL;
    bool is_first = n->message == NULL;

    if (is_first)
        n->message = brain_event_new("agent.message");
    if (!brain_hub_wants_deltas(hub, session))
        return;
    if (is_first) {
        delta = json_pack("{s:s, s:{s:s, s:s}}", "type", "event_start", "event",
                          "type", "agent.message", "id",
                          brain_event_id(n->message));
        brain_hub_delta(hub, session, delta);
        json_decref(delta);
    }
    delta = json_pack("{s:s, s:s, s:{s:s, s:i, s:{s:s, s:o}}}", "type",
                      "event_delta", "event_id", brain_event_id(n->message),
                      "delta", "type", "content_delta", "index", 0, "content",
                      "type", "text", "text", ag_json_from_str(text));
    brain_hub_delta(hub, session, delta);
}

static json_t *
span_end(const struct native *n, const struct brain_chat *answer)
{
    json_t *e = brain_event_new("span.model_request_end");
    int64_t cached = answer == NULL ? 0 : answer->cached_tokens;
    int64_t input = answer == NULL ? 0 : answer->input_tokens;
    int64_t output = answer == NULL ? 0 : answer->output_tokens;

    json_object_set_new(e, "is_error", json_boolean(answer == NULL));
    json_object_set_new(e, "model_request_start_id", json_string(n->start_id));
    /* OpenAI's count of prompt tokens includes the cached ones. */
    json_object_set_new(e, "model_usage",
                        json_pack("{s:I, s:I, s:I, s:I}", "input_tokens",
                                  (json_int_t)(input - cached), "output_tokens",
                                  (json_int_t)output, "cache_read_input_tokens",
                                  (json_int_t)cached,
                                  "cache_creation_input_tokens",
                                  (json_int_t)0));
    return e;
}

static json_t *
tool_use(const struct brain_chat_call *c)
{
    json_t *e = brain_event_new("agent.tool_use");
    AG_AUTO(ag_buf_release) struct ag_buf why = AG_BUF_INIT(512);
    struct ag_err err = AG_ERR_INIT;
    json_t *input = ag_json_parse(ag_buf_str(&c->arguments), &err);

    json_object_set_new(e, "name", ag_json_from_str(ag_buf_str(&c->name)));
    if (json_is_object(input)) {
        json_object_set_new(e, "input", input);
        return e;
    }
    /* The result tells the model; see brain_tool.c. */
    ag_buf_addf(&why, "the arguments are not a JSON object%s%s",
                input == NULL ? ": " : "", input == NULL ? err.msg : "");
    json_decref(input);
    json_object_set_new(e, "input", json_object());
    json_object_set_new(e, "brainbox.input_error",
                        ag_json_from_str(ag_buf_str(&why)));
    return e;
}

static const char *
error_type(enum ag_err_kind kind)
{
    return kind == AG_ERR_LIMIT         ? "model_rate_limited_error"
           : kind == AG_ERR_UNAVAILABLE ? "model_overloaded_error"
                                        : "model_request_failed_error";
}

static void
failed(struct native *n, const struct ag_err *err)
{
    struct brain_run *run = n->run;
    json_t *events[2];

    events[0] = span_end(n, NULL);
    events[1] =
        brain_error_event(error_type(err->kind), "exhausted", "%s", err->msg);
    native_free(n);
    brain_run_end_turn(run, events, 2, "retries_exhausted");
}

static void
answered(void *arg, const struct brain_chat *answer, const struct ag_err *err)
{
    json_t *events[BRAIN_CHAT_CALLS_MAX + 4];
    struct native *n = arg;
    struct brain_run *run = n->run;
    size_t k = 0;

    n->call = NULL;
    if (err != NULL) {
        failed(n, err);
        return;
    }
    events[k++] = span_end(n, answer);
    brain_run_count_tokens(run, answer->input_tokens, answer->output_tokens);
    if (answer->text.n > 0) {
        json_t *m = n->message != NULL ? json_incref(n->message)
                                       : brain_event_new("agent.message");

        json_object_set_new(m, "content",
                            brain_text_content(ag_buf_str(&answer->text)));
        events[k++] = m;
    }
    for (size_t i = 0; i < answer->n_calls; i++)
        events[k++] = tool_use(&answer->calls[i]);
    if (ag_str_is(ag_buf_str(&answer->finish), "length"))
        events[k++] = brain_error_event(
            "model_request_failed_error", "terminal",
            "the model's answer was cut off at its length limit");
    else if (ag_str_is(ag_buf_str(&answer->finish), "content_filter"))
        events[k++] = brain_error_event(
            "model_request_failed_error", "terminal",
            "the model's answer was stopped by a content filter");
    else if (k == 1)
        events[k++] =
            brain_error_event("model_request_failed_error", "terminal",
                              "the model's answer was empty");
    native_free(n);
    brain_run_append(run, events, k);
}

/* ---- steps ------------------------------------------------------------- */

/*
 * The answer is there, it has no call, and everything that a user said stood in
 * the request: a message that came while the model thought is still open.
 */
static bool
is_answered(const struct brain_run *run)
{
    const struct brain_log *log = brain_run_log(run);
    bool has_answer = false;

    for (size_t i = log->n; i > brain_run_turn(run); i--) {
        const struct brain_event *e = &log->at[i - 1];

        has_answer |=
            is_type(e, "agent.message") || is_type(e, "session.error");
        if (is_type(e, "span.model_request_start"))
            return has_answer;
        if (is_type(e, "user.message") || is_type(e, "agent.tool_result")
            || is_type(e, "agent.tool_use"))
            return false;
    }
    return false;
}

/* Calls that were begun; the last one may have no answer yet. */
static int
count_steps(const struct brain_run *run, const char **open_start)
{
    const struct brain_log *log = brain_run_log(run);
    int n = 0;

    *open_start = NULL;
    for (size_t i = brain_run_turn(run); i < log->n; i++) {
        const struct brain_event *e = &log->at[i];

        if (is_type(e, "span.model_request_start")) {
            *open_start = e->id;
            n++;
        } else if (is_type(e, "span.model_request_end")) {
            *open_start = NULL;
        }
    }
    return n;
}

static void
call_model(struct brain_run *run, const char *start_id)
{
    AG_AUTO(ag_buf_release) struct ag_buf body = AG_BUF_INIT(BODY_MAX);
    struct native *n = ag_xcalloc(1, sizeof(*n));

    n->run = run;
    memcpy(n->start_id, start_id, strlen(start_id));
    brain_run_set_driver(run, n);
    build_body(run, &body);
    brain_run_thinking(run);
    n->call = brain_model_start(brain_run_brain(run), brain_run_session(run),
                                ag_buf_str(&body), got_text, answered, n);
}

static void
advance(struct brain_run *run)
{
    int max = brain_run_max_steps(run);
    const char *open_start;
    int n_steps = count_steps(run, &open_start);
    json_t *e;

    if (is_answered(run)) {
        brain_run_end_turn(run, NULL, 0, "end_turn");
    } else if (brain_run_brain(run)->conf.model_base_url[0] == '\0') {
        e = brain_error_event("model_request_failed_error", "terminal",
                              "no model is configured: set MODEL_BASE_URL, or "
                              "use the harness \"runbook\"");
        brain_run_end_turn(run, &e, 1, "retries_exhausted");
    } else if (open_start != NULL) {
        /* Begun before a crash, or just now: ask (again). */
        call_model(run, open_start);
    } else if (n_steps >= max) {
        e = brain_error_event("unknown_error", "terminal",
                              "the turn reached its limit of %d model calls "
                              "(max_steps)",
                              max);
        brain_run_end_turn(run, &e, 1, "end_turn");
    } else {
        e = brain_event_new("span.model_request_start");
        brain_run_append(run, &e, 1);
    }
}

static void
cancel(struct brain_run *run)
{
    struct native *n = brain_run_driver(run);

    if (n == NULL)
        return;
    brain_model_cancel(n->call);
    native_free(n);
}

const struct brain_harness brain_harness_native = {
    .name = "native",
    .needs_history = true,
    .advance = advance,
    .cancel = cancel,
};
