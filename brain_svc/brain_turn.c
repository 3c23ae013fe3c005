/*
 * Reading a turn from the log. Called by brain_run.c on the loop;
 * pure.
 */
#include "brain_svc/brain_turn.h"

static bool
names(const struct brain_event *e, const char *key, const char *id)
{
    return ag_str_is(ag_json_str(json_object_get(e->body, key)), id);
}

static bool
ended_a_turn(const struct brain_event *e)
{
    const json_t *reason = json_object_get(e->body, "stop_reason");
    ag_str_t type = ag_json_str(json_object_get(reason, "type"));

    return brain_event_is(e, "session.status_idle")
           && !ag_str_is(type, "requires_action")
           && !ag_str_is(type, "budget_reached");
}

static void
take_event(struct brain_turn *turn, const struct brain_event *e)
{
    if (brain_event_is(e, "session.status_running")) {
        turn->has_begun = true;
    } else if (brain_event_is(e, "session.status_idle")) {
        turn->has_begun = false;
    } else if (brain_event_is(e, "agent.tool_use")) {
        turn->has_sandbox = true;
    } else if (brain_event_is(e, "user.message")) {
        turn->has_message = true;
        turn->is_interrupted = false;
    } else if (brain_event_is(e, "user.interrupt") && turn->has_message) {
        turn->is_interrupted = true;
    }
}

void
brain_turn_find(const struct brain_log *log, struct brain_turn *turn)
{
    size_t start = log->n;

    while (start > 0 && !ended_a_turn(&log->at[start - 1]))
        start--;
    *turn = (struct brain_turn){.start = start};
    for (size_t i = start; i < log->n; i++)
        take_event(turn, &log->at[i]);
}

/* Behind the call itself: a result never comes before it. */
static const struct brain_event *
find_answer(const struct brain_log *log, size_t call, bool is_confirmation)
{
    const char *id = log->at[call].id;

    for (size_t i = call + 1; i < log->n; i++) {
        const struct brain_event *e = &log->at[i];

        if (is_confirmation
                ? brain_event_is(e, "user.tool_confirmation")
                      && names(e, "tool_use_id", id)
                : (brain_event_is(e, "agent.tool_result")
                   && names(e, "tool_use_id", id))
                      || (brain_event_is(e, "user.custom_tool_result")
                          && names(e, "custom_tool_use_id", id)))
            return e;
    }
    return NULL;
}

static bool
is_open_call(const struct brain_log *log, size_t i)
{
    const struct brain_event *e = &log->at[i];

    return (brain_event_is(e, "agent.tool_use")
            || brain_event_is(e, "agent.custom_tool_use"))
           && find_answer(log, i, false) == NULL;
}

size_t
brain_turn_open_calls(const struct brain_log *log,
                      const struct brain_turn *turn,
                      const struct brain_event **out, size_t max)
{
    size_t n = 0;

    for (size_t i = turn->start; i < log->n && n < max; i++)
        if (is_open_call(log, i))
            out[n++] = &log->at[i];
    return n;
}

/* What one open call needs. */
static struct brain_decision
decide_call(const struct brain_log *log, size_t i)
{
    struct brain_decision d = {BRAIN_STEP_CALL, &log->at[i], NULL};

    if (brain_event_is(d.call, "agent.custom_tool_use")) {
        d.step = BRAIN_STEP_WAIT;
    } else if (names(d.call, "evaluated_permission", "ask")) {
        d.answer = find_answer(log, i, true);
        if (d.answer == NULL)
            d.step = BRAIN_STEP_WAIT;
        else if (!names(d.answer, "result", "allow"))
            d.step = BRAIN_STEP_DENY;
    }
    return d;
}

struct brain_decision
brain_turn_decide(const struct brain_log *log, const struct brain_turn *turn,
                  bool must_stop)
{
    struct brain_decision d = {BRAIN_STEP_ADVANCE, NULL, NULL};

    if (!turn->has_begun) {
        d.step = turn->has_message ? BRAIN_STEP_BEGIN : BRAIN_STEP_NOTHING;
        return d;
    }
    if (must_stop || turn->is_interrupted) {
        d.step = BRAIN_STEP_STOP;
        return d;
    }
    for (size_t i = turn->start; i < log->n; i++) {
        struct brain_decision one;

        if (!is_open_call(log, i))
            continue;
        one = decide_call(log, i);
        if (one.step != BRAIN_STEP_WAIT)
            return one;
        d.step = BRAIN_STEP_WAIT;
    }
    return d;
}

const struct brain_event *
brain_turn_open_span(const struct brain_log *log, const struct brain_turn *turn)
{
    const struct brain_event *span = NULL;

    for (size_t i = turn->start; i < log->n; i++) {
        if (brain_event_is(&log->at[i], "span.model_request_start"))
            span = &log->at[i];
        else if (brain_event_is(&log->at[i], "span.model_request_end"))
            span = NULL;
    }
    return span;
}
