/*
 * What comes next. Everything follows from the log and from what was decided on
 * and is not stored yet, so a run that was cut short anywhere goes on from what
 * is stored. Called by the parts of the run on the loop.
 */
#include "brain_svc/brain_run_internal.h"

#include <stdarg.h>
#include <stdio.h>

#include "brain_svc/brain_io.h"
#include "brain_svc/brain_native.h"

json_t *
brain_error_event(const char *type, const char *retry_status, const char *fmt,
                  ...)
{
    json_t *e = brain_event_new("session.error");
    char text[512];
    va_list ap;

    va_start(ap, fmt);
    (void)vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    json_object_set_new(e, "error",
                        json_pack("{s:s, s:o, s:{s:s}}", "type", type,
                                  "message", ag_json_from_str(ag_str(text)),
                                  "retry_status", "type", retry_status));
    return e;
}

/* A result that no tool gave. */
static json_t *
result_event(const struct brain_event *call, ag_str_t text)
{
    json_t *e = brain_event_new("agent.tool_result");

    json_object_set_new(e, "tool_use_id", json_string(call->id));
    json_object_set_new(e, "content", brain_text_content(text));
    json_object_set_new(e, "is_error", json_true());
    return e;
}

#define CLOSING_MAX 64

/*
 * Interrupted, over time or frozen. First every call gets its result, so that
 * the log is whole; then what listeners saw of an answer is ended.
 */
static void
stop_turn(struct brain_run *run)
{
    const struct brain_event *calls[CLOSING_MAX];
    size_t n = brain_turn_open_calls(&run->log, &run->turn, calls, CLOSING_MAX);
    const struct brain_event *span =
        brain_turn_open_span(&run->log, &run->turn);
    json_t *events[CLOSING_MAX];

    if (n > 0 && !brain_run_settled(run))
        return;
    for (size_t i = 0; i < n; i++)
        events[i] = result_event(calls[i], AG_STR(BRAIN_NOT_RUN));
    if (n > 0) {
        brain_run_append(run, events, n);
        return;
    }
    if (span != NULL)
        events[n++] = brain_native_span_lost(span);
    if (run->is_over_active) {
        (void)brain_run_pause(run, BRAIN_LIMIT_ACTIVE, true, events, n);
        return;
    }
    if (run->is_over_time)
        events[n++] = brain_error_event(
            "unknown_error", "terminal",
            "the turn reached its time limit of %lld s (max_turn_seconds)",
            (long long)(run->turn_ms / 1000));
    if (run->is_frozen)
        events[n++] = brain_error_event(
            "unknown_error", "terminal",
            "the session was frozen (%s); a person resolves it at "
            "/platform/v1/%s",
            run->frozen_by,
            strcmp(run->frozen_by, BRAIN_STOPPED) == 0 ? "stops" : "incidents");
    brain_run_end_turn(run, events, n, "end_turn");
}

/* The turn waits for a client: for results, or for a yes or no. */
static void
wait_for_client(struct brain_run *run)
{
    const struct brain_event *calls[CLOSING_MAX];
    size_t n = brain_turn_open_calls(&run->log, &run->turn, calls, CLOSING_MAX);
    json_t *ids = json_array();

    for (size_t i = 0; i < n; i++)
        json_array_append_new(ids, json_string(calls[i]->id));
    brain_run_end_with(
        run, NULL, 0,
        json_pack("{s:s, s:o}", "type", "requires_action", "event_ids", ids));
}

static void
deny_call(struct brain_run *run, const struct brain_decision *d)
{
    AG_AUTO(ag_buf_release) struct ag_buf text = AG_BUF_INIT(SIZE_MAX / 4);
    ag_str_t why =
        ag_json_str(json_object_get(d->answer->body, "deny_message"));
    json_t *e;

    ag_buf_add(&text, AG_STR("not run: the user denied it"));
    if (why.n > 0) {
        ag_buf_add(&text, AG_STR(": "));
        ag_buf_add(&text, why);
    }
    e = result_event(d->call, ag_buf_str(&text));
    brain_run_append(run, &e, 1);
}

static void
begin_turn(struct brain_run *run)
{
    json_t *running = brain_event_new("session.status_running");

    brain_run_begin(run, running);
}

/* The log shows that the turn changed hands, and that it goes on. */
static void
heal(struct brain_run *run)
{
    json_t *events[2];

    run->wants_healing = false;
    ag_log(AG_INFO, "run.healed", AG_S("session", run->session));
    events[0] = brain_event_new("session.status_rescheduled");
    events[1] = brain_event_new("session.status_running");
    brain_run_append(run, events, 2);
}

/* A millisecond at least: how long it may take is bounded by what is left. */
static const struct brain_spent one_command = {
    .at = {[BRAIN_LIMIT_SANDBOX] = 1},
};

/* Nothing is under way. */
static void
decide(struct brain_run *run)
{
    struct brain_decision d;

    if (run->brain->io->hear != NULL)
        run->brain->io->hear(run);
    if (run->wants_reload) {
        run->wants_reload = false;
        brain_run_load(run);
        return;
    }
    run->heard = brain_log_last(&run->log);
    if (run->wants_healing) {
        heal(run);
        return;
    }
    brain_turn_find(&run->log, &run->turn);
    d = brain_turn_decide(&run->log, &run->turn,
                          run->is_over_time || run->is_frozen);
    switch (d.step) {
    case BRAIN_STEP_NOTHING:
        if (brain_run_settled(run))
            brain_run_end_nothing(run);
        return;
    case BRAIN_STEP_BEGIN:
        begin_turn(run);
        return;
    case BRAIN_STEP_STOP:
        stop_turn(run);
        return;
    case BRAIN_STEP_DENY:
        deny_call(run, &d);
        return;
    case BRAIN_STEP_CALL:
        if (!brain_run_affords(run, &one_command, NULL, 0)
            || !brain_run_settled(run))
            return;
        run->is_provisioning =
            ag_str_is(ag_json_str(json_object_get(d.call->body, "name")),
                      "sandbox_provision");
        brain_run_enter(run, BRAIN_RUN_TOOL);
        run->brain->io->tool_start(run, d.call);
        return;
    case BRAIN_STEP_WAIT:
        /* A client is told of calls that are stored. */
        if (brain_run_settled(run))
            wait_for_client(run);
        return;
    case BRAIN_STEP_ADVANCE:
        run->harness->advance(run);
        return;
    }
}

void
brain_run_next(struct brain_run *run)
{
    if (brain_run_dropped(run))
        return;
    if (brain_run_is_storing(run)) { /* a step was given up meanwhile */
        brain_run_enter(run, BRAIN_RUN_RECORDING);
        return;
    }
    if (run->state != BRAIN_RUN_DECIDING)
        brain_run_enter(run, BRAIN_RUN_DECIDING);
    decide(run);
}
