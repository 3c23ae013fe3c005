/*
 * The run: a state machine over a session's log. Everything it decides follows
 * from the log, so a run that was cut short anywhere goes on from what is
 * stored. All on the loop's thread.
 */
#include "brain_svc/brain_run_internal.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "brain_svc/brain_hub.h"
#include "brain_svc/brain_io.h"
#include "brain_svc/brain_metrics.h"
#include "brain_svc/brain_native.h"
#include "brain_svc/brain_store.h"
#include "brain_svc/brain_trace.h"
#include "lib/clock.h"

#define RETRY_MS 500

/* ---- states ------------------------------------------------------------ */

#define S(x) (1u << BRAIN_RUN_##x)

static const struct {
    const char *name;
    unsigned to; /* states that may follow */
} states[] = {
    [BRAIN_RUN_LOADING] = {"loading", S(DECIDING) | S(GONE)},
    [BRAIN_RUN_DECIDING] = {"deciding", S(THINKING) | S(TOOL) | S(RECORDING)
                                            | S(ENDING) | S(LOADING) | S(GONE)},
    [BRAIN_RUN_THINKING] = {"thinking",
                            S(RECORDING) | S(ENDING) | S(DECIDING) | S(GONE)},
    [BRAIN_RUN_TOOL] = {"tool", S(RECORDING) | S(GONE)},
    [BRAIN_RUN_RECORDING] = {"recording", S(DECIDING) | S(GONE)},
    [BRAIN_RUN_ENDING] = {"ending", S(LOADING) | S(DECIDING) | S(GONE)},
    [BRAIN_RUN_GONE] = {"gone", 0},
};

/* The state is left: what it was busy with gets its time. */
static void
count_time(struct brain_run *run)
{
    int64_t now = ag_mono_us(), took = now - run->times.entered_us;

    run->times.entered_us = now;
    if (run->state == BRAIN_RUN_THINKING)
        run->times.model_us += took;
    else if (run->state == BRAIN_RUN_TOOL && run->is_provisioning)
        run->times.provision_us += took;
    else if (run->state == BRAIN_RUN_TOOL)
        run->times.execute_us += took;
}

/* What a turn cost, and whom. */
static void
log_turn(const struct brain_run *run)
{
    const struct brain_times *s = &run->times;
    int64_t busy =
        s->model_us + s->provision_us + s->execute_us + s->destroy_us;

    ag_log(AG_INFO, "turn.ended", AG_S("session", run->session),
           AG_I("wall_ms", (ag_now_us() - run->turn_started_us) / 1000),
           AG_I("own_us", ag_mono_us() - s->begun_us - busy),
           AG_I("model_us", s->model_us - s->vault_us),
           AG_I("vault_us", s->vault_us), AG_I("provision_us", s->provision_us),
           AG_I("execute_us", s->execute_us),
           AG_I("destroy_us", s->destroy_us));
}

/* The end of the turn is stored: its reason, and where its time went. */
static void
count_turn(const struct brain_run *run)
{
    struct ag_metrics *m = run->brain->metrics;
    const struct brain_times *s = &run->times;
    const char *reason = json_string_value(json_object_get(
        json_object_get(run->events[run->n_events - 1], "stop_reason"),
        "type"));
    int64_t busy =
        s->model_us + s->provision_us + s->execute_us + s->destroy_us;
    const struct {
        const char *part;
        int64_t us;
    } parts[] = {{"wall", ag_now_us() - run->turn_started_us},
                 {"own", ag_mono_us() - s->begun_us - busy},
                 {"model", s->model_us - s->vault_us},
                 {"vault", s->vault_us},
                 {"provision", s->provision_us},
                 {"execute", s->execute_us},
                 {"destroy", s->destroy_us}};

    if (run->is_frozen)
        reason = "frozen";
    else if (run->is_over_time)
        reason = "time_limit";
    ag_metrics_add(m, BRAIN_METRIC_TURNS, reason == NULL ? "unknown" : reason,
                   NULL, 1);
    for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i++)
        ag_metrics_observe_us(m, BRAIN_METRIC_TURN_SECONDS, parts[i].part, NULL,
                              parts[i].us);
}

void
brain_run_enter(struct brain_run *run, enum brain_run_state next)
{
    ag_assert(states[run->state].to & 1u << next);
    ag_log(AG_DEBUG, "run.entered", AG_S("session", run->session),
           AG_S("from", states[run->state].name),
           AG_S("to", states[next].name));
    count_time(run);
    run->state = next;
}

void
brain_run_events_release(struct brain_run *run)
{
    for (size_t i = 0; i < run->n_events; i++)
        json_decref(run->events[i]);
    free(run->events);
    run->events = NULL;
    run->n_events = 0;
}

void
brain_run_free(struct brain_run *run)
{
    struct brain *brain = run->brain;

    ag_timer_stop(brain->loop, &run->retry);
    ag_timer_stop(brain->loop, &run->turn_timer);
    HASH_DEL(brain->runs->all, run);
    brain_run_events_release(run);
    brain_log_release(&run->log);
    brain_tools_free(run->tools);
    brain_workload_free(run->workload);
    ag_arena_free(run->arena);
    free(run);
}

struct brain_run *
brain_run_find(struct brain *brain, ag_str_t session)
{
    struct brain_run *run;

    HASH_FIND(hh, brain->runs->all, session.p, session.n, run);
    return run;
}

/*
 * Nobody may go on with it. What is under way (a query, a call) still comes
 * back and frees it then.
 */
void
brain_run_lose(struct brain_run *run, const char *why)
{
    if (run->is_dropped)
        return;
    ag_log(AG_INFO, "run.dropped", AG_S("session", run->session),
           AG_S("reason", why), AG_S("state", states[run->state].name));
    run->is_dropped = true;
    if (run->state == BRAIN_RUN_THINKING) {
        run->harness->cancel(run);
        brain_run_gone(run);
    } else if (run->state == BRAIN_RUN_TOOL) {
        run->brain->io->tool_free(run);
        brain_run_gone(run);
    } else if (run->retry.slot != 0) {
        brain_run_gone(run);
    }
}

/* True when the run was dropped, and is freed now. */
bool
brain_run_dropped(struct brain_run *run)
{
    if (!run->is_dropped)
        return false;
    brain_run_gone(run);
    return true;
}

/* ---- time ------------------------------------------------------------- */

static void
turn_over_time(struct ag_timer *timer)
{
    struct brain_run *run =
        (struct brain_run *)((char *)timer
                             - offsetof(struct brain_run, turn_timer));

    run->is_over_time = true;
    run->is_over_active = brain_run_active_left(run) == 0;
    if (run->state == BRAIN_RUN_TOOL) {
        run->brain->io->tool_cancel(run);
    } else if (run->state == BRAIN_RUN_THINKING) {
        run->harness->cancel(run);
        brain_run_next(run);
    }
}

void
brain_run_set_turn_timer(struct brain_run *run)
{
    int64_t now = ag_now_us(), spent, left, active;

    if (run->turn_started_us == 0)
        run->turn_started_us = now;
    spent = (now - run->turn_started_us) / 1000;
    run->turn_timer.fn = turn_over_time;
    left = spent >= run->turn_ms ? 0 : run->turn_ms - spent;
    active = brain_run_active_left(run);
    if (active >= 0 && active < left)
        left = active;
    ag_timer_start(run->brain->loop, &run->turn_timer, left);
}

/* ---- writing ----------------------------------------------------------- */

static void write_again(struct ag_timer *timer);

static void
tell_turn(const struct brain_run *run)
{
    log_turn(run);
    brain_trace_put(run->brain->trace,
                    &(struct brain_trace_turn){
                        .tenant = run->tenant,
                        .session = ag_str(run->session),
                        .instance = ag_str(run->brain->conf.instance),
                        .model = run->model,
                        .log = &run->log,
                        .start = run->turn.start,
                    });
}

/* The turn is closed: the run is over, unless something came right behind. A
 * run that found nothing to do had no turn. */
static void
turn_ended(struct brain_run *run, int64_t first)
{
    struct brain_runs *runs = run->brain->runs;
    bool has_more =
        run->next_fence == 0
        && (run->wants_reload
            || brain_log_last(&run->log) >= first + (int64_t)run->n_ended);
    char session[AG_ID_TEXT];

    if (run->n_ended > 0)
        tell_turn(run);
    memcpy(session, run->session, sizeof(session));
    brain_run_gone(run);
    if (has_more && !runs->is_stopping)
        runs->brain->io->claim(runs, ag_str(session));
}

static void
written(void *arg, int64_t first, const struct ag_err *err)
{
    struct brain_run *run = arg;

    if (err != NULL && err->kind == AG_ERR_UNAVAILABLE && !run->is_dropped) {
        ag_log(AG_WARN, "run.write_retried", AG_S("session", run->session),
               AG_E(err));
        run->retry.fn = write_again;
        ag_timer_start(run->brain->loop, &run->retry, RETRY_MS);
        return;
    }
    if (err != NULL) {
        ag_log(AG_ERROR, "run.write_failed", AG_S("session", run->session),
               AG_E(err));
        run->is_dropped = true;
        (void)brain_run_dropped(run);
        return;
    }
    /* An event of somebody else may stand before them, not heard of yet. */
    if (first > brain_log_last(&run->log) + 1)
        run->wants_reload = true;
    for (size_t i = 0; first > 0 && i < run->n_events; i++) {
        brain_log_put(&run->log, first + (int64_t)i, run->events[i]);
        brain_budget_count(&run->spent, run->events[i]);
    }
    if (first > 0)
        ag_metrics_add(run->brain->metrics, BRAIN_METRIC_EVENTS, NULL, NULL,
                       (double)run->n_events);
    if (first > 0 && run->write == BRAIN_WRITE_END && run->n_events > 0)
        count_turn(run);
    if (first > 0)
        brain_hub_publish(run->brain->hub, ag_str(run->session), first,
                          run->events, run->n_events);
    run->n_ended = run->n_events;
    brain_run_events_release(run);
    if (brain_run_dropped(run))
        return;
    if (run->write != BRAIN_WRITE_END) {
        brain_run_next(run);
        return;
    }
    if (first > 0) {
        turn_ended(run, first);
        return;
    }
    /* A user's event came: the turn goes on with it, its time anew. */
    run->wants_reload = true;
    run->is_over_time = false;
    run->turn_started_us = ag_now_us();
    brain_run_set_turn_timer(run);
    brain_run_next(run);
}

static void
write_now(struct brain_run *run)
{
    struct brain_append append = {
        .how = run->write,
        .tenant = run->tenant,
        .session = ag_str(run->session),
        .fence = run->fence,
        .seen = run->seen,
        .events = run->events,
        .n = run->n_events,
    };

    run->brain->io->store(run->brain, &append, written, run);
}

static void
write_again(struct ag_timer *timer)
{
    write_now((struct brain_run *)((char *)timer
                                   - offsetof(struct brain_run, retry)));
}

static void
write_events(struct brain_run *run, enum brain_write how, json_t **events,
             size_t n)
{
    ag_assert(run->events == NULL);
    run->write = how;
    run->n_events = n;
    run->events = ag_xcalloc(n + 1, sizeof(*run->events));
    for (size_t i = 0; i < n; i++)
        run->events[i] = events[i];
    write_now(run);
}

void
brain_run_append(struct brain_run *run, json_t **events, size_t n)
{
    if (run->state != BRAIN_RUN_RECORDING)
        brain_run_enter(run, BRAIN_RUN_RECORDING);
    write_events(run, BRAIN_WRITE_APPEND, events, n);
}

/* ---- ending ------------------------------------------------------------ */

static void
close_turn(struct brain_run *run)
{
    json_t **events = ag_take(&run->events);
    size_t n = run->n_events;

    run->times.destroy_us = ag_mono_us() - run->times.entered_us;
    run->n_events = 0;
    if (brain_run_dropped(run)) {
        for (size_t i = 0; i < n; i++)
            json_decref(events[i]);
        free(events);
        return;
    }
    write_events(run, BRAIN_WRITE_END, events, n);
    free(events);
}

void
brain_run_end_with(struct brain_run *run, json_t **events, size_t n,
                   json_t *stop_reason)
{
    json_t *idle = brain_event_new("session.status_idle");

    brain_run_enter(run, BRAIN_RUN_ENDING);
    /* What comes while the sandbox goes away is another turn's. */
    run->seen = brain_log_last(&run->log);
    json_object_set_new(idle, "stop_reason", stop_reason);
    json_object_set_new(idle, "stop_details", json_null());
    run->events = ag_xcalloc(n + 1, sizeof(*run->events));
    for (size_t i = 0; i < n; i++)
        run->events[i] = events[i];
    run->events[n] = idle;
    run->n_events = n + 1;
    if (run->turn.has_sandbox)
        run->brain->io->tool_end_turn(run, close_turn);
    else
        close_turn(run);
}

void
brain_run_end_turn(struct brain_run *run, json_t **events, size_t n,
                   const char *stop_reason)
{
    brain_run_end_with(run, events, n, json_pack("{s:s}", "type", stop_reason));
}

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

/* ---- deciding ---------------------------------------------------------- */

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

    ag_log(AG_INFO, "turn.began", AG_S("session", run->session),
           AG_S("harness", run->harness->name));
    brain_run_enter(run, BRAIN_RUN_RECORDING);
    write_events(run, BRAIN_WRITE_BEGIN, &running, 1);
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

    if (run->wants_reload) {
        run->wants_reload = false;
        brain_run_load(run);
        return;
    }
    if (run->wants_healing) {
        heal(run);
        return;
    }
    brain_turn_find(&run->log, &run->turn);
    d = brain_turn_decide(&run->log, &run->turn,
                          run->is_over_time || run->is_frozen);
    switch (d.step) {
    case BRAIN_STEP_NOTHING:
        brain_run_enter(run, BRAIN_RUN_ENDING);
        run->seen = brain_log_last(&run->log);
        write_events(run, BRAIN_WRITE_END, NULL, 0);
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
        if (!brain_run_affords(run, &one_command, NULL, 0))
            return;
        run->is_provisioning =
            ag_str_is(ag_json_str(json_object_get(d.call->body, "name")),
                      "sandbox_provision");
        brain_run_enter(run, BRAIN_RUN_TOOL);
        run->brain->io->tool_start(run, d.call);
        return;
    case BRAIN_STEP_WAIT:
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
    brain_run_enter(run, BRAIN_RUN_DECIDING);
    decide(run);
}
