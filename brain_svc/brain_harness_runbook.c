/*
 * The runbook driver: no model. A user's message is Markdown; its fenced `sh`
 * blocks are run in order as calls of sandbox_execute, and the first that fails
 * ends the turn with what failed.
 *
 * Where it stands follows from the log alone: step k is the k-th tool call of
 * sandbox_execute behind the message.
 */
#include "brain_svc/brain_run.h"
#include "brain_svc/brain_runbook.h"

#define TEXT_MAX (16 * 1024 * 1024)

/* The message that is being worked on, and what was done since. */
struct position {
    const struct brain_event *message;
    size_t message_at;
    const struct brain_event *last_result;
    size_t n_executed;
    bool is_provisioned;
    bool is_answered; /* the closing agent.message is there */
};

/*
 * Messages are worked off one by one: the first without its closing
 * agent.message is the current one.
 */
static void
find_position(const struct brain_run *run, struct position *pos)
{
    const struct brain_log *log = brain_run_log(run);
    size_t n_answers = 0, n_messages = 0;

    *pos = (struct position){0};
    for (size_t i = brain_run_turn(run); i < log->n; i++)
        n_answers += brain_event_is(&log->at[i], "agent.message");
    for (size_t i = brain_run_turn(run); i < log->n; i++) {
        if (!brain_event_is(&log->at[i], "user.message"))
            continue;
        if (n_messages++ < n_answers)
            continue;
        pos->message = &log->at[i];
        pos->message_at = i;
        break;
    }
    pos->is_answered = pos->message == NULL;
    /* Steps count from the last closing message on. */
    for (size_t i = brain_run_turn(run); i < log->n; i++) {
        const struct brain_event *e = &log->at[i];
        ag_str_t name = ag_json_str(json_object_get(e->body, "name"));

        if (brain_event_is(e, "agent.message")) {
            pos->n_executed = 0;
            pos->last_result = NULL;
        } else if (brain_event_is(e, "agent.tool_use")) {
            pos->is_provisioned |= ag_str_is(name, "sandbox_provision");
            pos->n_executed += ag_str_is(name, "sandbox_execute");
        } else if (brain_event_is(e, "agent.tool_result")) {
            pos->last_result = e;
        }
    }
}

static void
say(struct brain_run *run, ag_str_t text)
{
    json_t *e = brain_event_new("agent.message");

    json_object_set_new(e, "content", brain_text_content(text));
    brain_run_append(run, &e, 1);
}

static void
call(struct brain_run *run, const char *name, json_t *input)
{
    json_t *e = brain_tools_call(brain_run_tools(run), ag_str(name), input);

    json_decref(input);
    brain_run_append(run, &e, 1);
}

/* What a failed step's result says, in a few words. */
static void
describe(const json_t *result, struct ag_buf *out)
{
    AG_AUTO(ag_buf_release) struct ag_buf text = AG_BUF_INIT(TEXT_MAX);
    AG_AUTO(ag_json_decref) json_t *j = NULL;
    ag_str_t outcome = {NULL, 0}, limit = {NULL, 0};
    struct ag_err err;

    (void)brain_event_text(result, &text, &err);
    j = ag_json_parse(ag_buf_str(&text), &err);
    if (!json_is_object(j)) {
        ag_buf_add(out, ag_buf_str(&text));
        return;
    }
    outcome = ag_json_str(json_object_get(j, "outcome"));
    limit = ag_json_str(json_object_get(j, "limit"));
    if (outcome.n == 0)
        ag_buf_addf(
            out, "exit code %lld",
            (long long)json_integer_value(json_object_get(j, "exit_code")));
    else if (ag_str_is(outcome, "unknown"))
        ag_buf_add(out, AG_STR("its outcome is unknown: it was started before "
                               "a crash and is not run again"));
    else
        ag_buf_addf(out, "%.*s%s%.*s", AG_FMT(outcome), limit.n > 0 ? " " : "",
                    AG_FMT(limit));
}

static void
say_failed(struct brain_run *run, const struct position *pos, size_t n_steps)
{
    AG_AUTO(ag_buf_release) struct ag_buf text = AG_BUF_INIT(TEXT_MAX + 256);
    json_t *events[2];

    if (pos->n_executed == 0)
        ag_buf_add(&text, AG_STR("No sandbox could be had: "));
    else
        ag_buf_addf(&text, "Step %zu of %zu failed: ", pos->n_executed,
                    n_steps);
    describe(pos->last_result->body, &text);
    events[0] = brain_error_event("unknown_error", "terminal", "%.*s",
                                  AG_FMT(ag_buf_str(&text)));
    events[1] = brain_event_new("agent.message");
    json_object_set_new(events[1], "content",
                        brain_text_content(ag_buf_str(&text)));
    brain_run_append(run, events, 2);
}

/* All steps succeeded, or there were none. */
static void
say_done(struct brain_run *run, size_t n_steps)
{
    AG_AUTO(ag_buf_release) struct ag_buf text = AG_BUF_INIT(256);

    if (n_steps == 0)
        ag_buf_add(&text, AG_STR("There is nothing to run: a runbook is "
                                 "Markdown with fenced blocks marked sh."));
    else
        ag_buf_addf(&text,
                    n_steps == 1 ? "The step succeeded."
                                 : "All %zu steps succeeded.",
                    n_steps);
    say(run, ag_buf_str(&text));
}

static void
step(struct brain_run *run, const struct position *pos, ag_str_t text)
{
    struct brain_runbook book;
    size_t max = (size_t)brain_run_max_steps(run);

    brain_runbook_parse(text, &book);
    if (pos->last_result != NULL
        && json_is_true(json_object_get(pos->last_result->body, "is_error"))) {
        say_failed(run, pos, book.n);
    } else if (book.n > max) {
        AG_AUTO(ag_buf_release) struct ag_buf b = AG_BUF_INIT(256);

        ag_buf_addf(&b,
                    "The runbook has %zu steps; at most %zu are allowed "
                    "(max_steps).",
                    book.n, max);
        say(run, ag_buf_str(&b));
    } else if (pos->n_executed == book.n) {
        say_done(run, book.n);
    } else if (!pos->is_provisioned) {
        call(run, "sandbox_provision",
             json_pack("{s:s}", "task_description", "run a runbook"));
    } else {
        call(run, "sandbox_execute",
             json_pack("{s:o}", "command",
                       ag_json_from_str(book.steps[pos->n_executed])));
    }
    brain_runbook_release(&book);
}

static void
advance(struct brain_run *run)
{
    AG_AUTO(ag_buf_release) struct ag_buf text = AG_BUF_INIT(TEXT_MAX);
    struct position pos;
    struct ag_err err;

    find_position(run, &pos);
    if (pos.is_answered) {
        brain_run_end_turn(run, NULL, 0, "end_turn");
        return;
    }
    if (brain_event_text(pos.message->body, &text, &err) < 0) {
        say(run, AG_STR("The message is too long."));
        return;
    }
    step(run, &pos, ag_buf_str(&text));
}

static void
cancel(struct brain_run *run)
{
    (void)run; /* its steps are tool calls, which the run cancels */
}

const struct brain_harness brain_harness_runbook = {
    .name = "runbook",
    .advance = advance,
    .cancel = cancel,
};
