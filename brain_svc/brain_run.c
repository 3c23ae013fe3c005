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
#include "brain_svc/brain_store.h"
#include "lib/clock.h"

#define READ_ROWS 1000
#define RETRY_MS 500

/* ---- states ------------------------------------------------------------ */

#define S(x) (1u << BRAIN_RUN_##x)

static const struct {
    const char *name;
    unsigned to; /* states that may follow */
} states[] = {
    [BRAIN_RUN_LOADING] = {"loading", S(DECIDING) | S(GONE)},
    [BRAIN_RUN_DECIDING] = {"deciding", S(THINKING) | S(TOOL) | S(RECORDING)
                                            | S(ENDING) | S(LOADING)
                                            | S(GONE)},
    [BRAIN_RUN_THINKING] = {"thinking", S(RECORDING) | S(ENDING) | S(DECIDING)
                                            | S(GONE)},
    [BRAIN_RUN_TOOL] = {"tool", S(RECORDING) | S(GONE)},
    [BRAIN_RUN_RECORDING] = {"recording", S(DECIDING) | S(GONE)},
    [BRAIN_RUN_ENDING] = {"ending", S(LOADING) | S(DECIDING) | S(GONE)},
    [BRAIN_RUN_GONE] = {"gone", 0},
};

void
brain_run_enter(struct brain_run *run, enum brain_run_state next)
{
    ag_assert(states[run->state].to & 1u << next);
    ag_log(AG_DEBUG, "run.entered", AG_S("session", run->session),
           AG_S("from", states[run->state].name),
           AG_S("to", states[next].name));
    run->state = next;
}

static void
events_release(struct brain_run *run)
{
    for (size_t i = 0; i < run->n_events; i++)
        json_decref(run->events[i]);
    free(run->events);
    run->events = NULL;
    run->n_events = 0;
}

static void
run_free(struct brain_run *run)
{
    struct brain *brain = run->brain;

    ag_timer_stop(brain->loop, &run->retry);
    ag_timer_stop(brain->loop, &run->turn_timer);
    HASH_DEL(brain->runs->all, run);
    events_release(run);
    brain_log_release(&run->log);
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
        brain_run_enter(run, BRAIN_RUN_GONE);
        run_free(run);
    } else if (run->state == BRAIN_RUN_TOOL) {
        brain_tool_free(run);
        brain_run_enter(run, BRAIN_RUN_GONE);
        run_free(run);
    } else if (run->retry.slot != 0) {
        brain_run_enter(run, BRAIN_RUN_GONE);
        run_free(run);
    }
}

/* True when the run was dropped, and is freed now. */
static bool
dropped(struct brain_run *run)
{
    if (!run->is_dropped)
        return false;
    brain_run_enter(run, BRAIN_RUN_GONE);
    run_free(run);
    return true;
}

/* ---- the log ----------------------------------------------------------- */

static bool
is_type(const struct brain_event *e, const char *type)
{
    return strcmp(e->type, type) == 0;
}

/* Find where this turn begins: behind the last idle event. */
static void
find_turn(struct brain_run *run)
{
    bool has_message = false;

    run->turn = 0;
    run->has_begun = run->has_sandbox = run->is_interrupted = false;
    for (size_t i = 0; i < run->log.n; i++)
        if (is_type(&run->log.at[i], "session.status_idle"))
            run->turn = i + 1;
    for (size_t i = run->turn; i < run->log.n; i++) {
        const struct brain_event *e = &run->log.at[i];

        run->has_begun |= is_type(e, "session.status_running");
        run->has_sandbox |= is_type(e, "agent.tool_use");
        has_message |= is_type(e, "user.message");
        /* An interrupt holds until the user says more. */
        if (is_type(e, "user.message"))
            run->is_interrupted = false;
        else if (is_type(e, "user.interrupt") && has_message)
            run->is_interrupted = true;
    }
}

static bool
has_message(const struct brain_run *run)
{
    for (size_t i = run->turn; i < run->log.n; i++)
        if (is_type(&run->log.at[i], "user.message"))
            return true;
    return false;
}

static bool
has_result(const struct brain_run *run, const char *tool_use_id)
{
    for (size_t i = run->turn; i < run->log.n; i++) {
        const struct brain_event *e = &run->log.at[i];
        ag_str_t of = ag_json_str(json_object_get(e->body, "tool_use_id"));

        if (is_type(e, "agent.tool_result") && ag_str_is(of, tool_use_id))
            return true;
    }
    return false;
}

static const struct brain_event *
open_tool_call(const struct brain_run *run)
{
    for (size_t i = run->turn; i < run->log.n; i++)
        if (is_type(&run->log.at[i], "agent.tool_use")
            && !has_result(run, run->log.at[i].id))
            return &run->log.at[i];
    return NULL;
}

/* ---- time ------------------------------------------------------------- */

static void
turn_over_time(struct ag_timer *timer)
{
    struct brain_run *run
        = (struct brain_run *)((char *)timer
                               - offsetof(struct brain_run, turn_timer));

    run->is_over_time = true;
    if (run->state == BRAIN_RUN_TOOL) {
        brain_tool_cancel(run);
    } else if (run->state == BRAIN_RUN_THINKING) {
        run->harness->cancel(run);
        brain_run_next(run);
    }
}

static void
set_turn_timer(struct brain_run *run)
{
    int64_t now = ag_now_us(), spent;

    if (run->turn_started_us == 0)
        run->turn_started_us = now;
    spent = (now - run->turn_started_us) / 1000;
    run->turn_timer.fn = turn_over_time;
    ag_timer_start(run->brain->loop, &run->turn_timer,
                   spent >= run->turn_ms ? 0 : run->turn_ms - spent);
}

/* ---- writing ----------------------------------------------------------- */

static void write_again(struct ag_timer *timer);

/* The turn is closed: the run is over, unless something came right behind. */
static void
turn_ended(struct brain_run *run, int64_t first)
{
    struct brain_runs *runs = run->brain->runs;
    bool has_more = run->wants_reload
                    || brain_log_last(&run->log)
                           >= first + (int64_t)run->n_ended;
    char session[AG_ID_TEXT];

    ag_log(AG_INFO, "turn.ended", AG_S("session", run->session),
           AG_I("wall_ms", (ag_now_us() - run->turn_started_us) / 1000));
    memcpy(session, run->session, sizeof(session));
    brain_run_enter(run, BRAIN_RUN_GONE);
    run_free(run);
    if (has_more && !runs->is_stopping)
        brain_lease_claim(runs, ag_str(session));
}

static void
written(void *arg, const struct ag_db_result *res, const struct ag_err *err)
{
    struct brain_run *run = arg;
    int64_t first;

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
        (void)dropped(run);
        return;
    }
    first = ag_db_get_int(res, 0, 0);
    for (size_t i = 0; first > 0 && i < run->n_events; i++)
        brain_log_put(&run->log, first + (int64_t)i, run->events[i]);
    if (first > 0)
        brain_hub_publish(run->brain->hub, ag_str(run->session), first,
                          run->events, run->n_events);
    run->n_ended = run->n_events;
    events_release(run);
    if (dropped(run))
        return;
    if (run->write != BRAIN_WRITE_END) {
        if (run->write == BRAIN_WRITE_BEGIN)
            run->has_begun = true;
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
    set_turn_timer(run);
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
        .seen = brain_log_last(&run->log),
        .events = run->events,
        .n = run->n_events,
    };

    brain_store_append(run->brain, &append, written, run);
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

    run->n_events = 0;
    if (dropped(run)) {
        for (size_t i = 0; i < n; i++)
            json_decref(events[i]);
        free(events);
        return;
    }
    run->has_sandbox = false;
    write_events(run, BRAIN_WRITE_END, events, n);
    free(events);
}

void
brain_run_end_turn(struct brain_run *run, json_t **events, size_t n,
                   const char *stop_reason)
{
    json_t *idle = brain_event_new("session.status_idle");

    brain_run_enter(run, BRAIN_RUN_ENDING);
    json_object_set_new(idle, "stop_reason",
                        json_pack("{s:s}", "type", stop_reason));
    json_object_set_new(idle, "stop_details", json_null());
    run->events = ag_xcalloc(n + 1, sizeof(*run->events));
    for (size_t i = 0; i < n; i++)
        run->events[i] = events[i];
    run->events[n] = idle;
    run->n_events = n + 1;
    if (run->has_sandbox)
        brain_tool_end_turn(run, close_turn);
    else
        close_turn(run);
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
    json_object_set_new(
        e, "error",
        json_pack("{s:s, s:o, s:{s:s}}", "type", type, "message",
                  ag_json_from_str(ag_str(text)), "retry_status", "type",
                  retry_status));
    return e;
}

/* ---- deciding ---------------------------------------------------------- */

static void run_load(struct brain_run *run);

/* Answer every open tool call, so that the log is whole. */
static size_t
close_tool_calls(struct brain_run *run, json_t **out, size_t max)
{
    size_t n = 0;

    for (size_t i = run->turn; i < run->log.n && n < max; i++) {
        const struct brain_event *e = &run->log.at[i];
        json_t *result;

        if (!is_type(e, "agent.tool_use") || has_result(run, e->id))
            continue;
        result = brain_event_new("agent.tool_result");
        json_object_set_new(result, "tool_use_id", json_string(e->id));
        json_object_set_new(
            result, "content",
            brain_text_content(AG_STR("not run: the turn was ended")));
        json_object_set_new(result, "is_error", json_true());
        out[n++] = result;
    }
    return n;
}

#define CLOSING_MAX 64

/* Interrupted, or over time: first every call gets its result. */
static void
stop_turn(struct brain_run *run)
{
    json_t *events[CLOSING_MAX];
    size_t n = close_tool_calls(run, events, CLOSING_MAX);

    if (n > 0) {
        brain_run_append(run, events, n);
        return;
    }
    if (run->is_over_time)
        events[n++] = brain_error_event(
            "unknown_error", "terminal",
            "the turn reached its time limit of %lld s (max_turn_seconds)",
            (long long)(run->turn_ms / 1000));
    brain_run_end_turn(run, events, n, "end_turn");
}

/* Nothing is under way. */
static void
decide(struct brain_run *run)
{
    const struct brain_event *call;

    if (run->wants_reload) {
        run->wants_reload = false;
        run_load(run);
        return;
    }
    if (!run->has_begun && !has_message(run)) {
        /* Only an interrupt of nothing: no turn, no events. */
        brain_run_enter(run, BRAIN_RUN_ENDING);
        write_events(run, BRAIN_WRITE_END, NULL, 0);
        return;
    }
    if (!run->has_begun) {
        json_t *running = brain_event_new("session.status_running");

        ag_log(AG_INFO, "turn.began", AG_S("session", run->session),
               AG_S("harness", run->harness->name));
        brain_run_enter(run, BRAIN_RUN_RECORDING);
        write_events(run, BRAIN_WRITE_BEGIN, &running, 1);
        return;
    }
    if (run->is_interrupted || run->is_over_time) {
        stop_turn(run);
        return;
    }
    call = open_tool_call(run);
    if (call != NULL) {
        run->has_sandbox = true;
        brain_run_enter(run, BRAIN_RUN_TOOL);
        brain_tool_start(run, call);
        return;
    }
    run->harness->advance(run);
}

void
brain_run_next(struct brain_run *run)
{
    if (dropped(run))
        return;
    brain_run_enter(run, BRAIN_RUN_DECIDING);
    decide(run);
}

/* ---- loading ----------------------------------------------------------- */

static void
load_again(struct ag_timer *timer)
{
    struct brain_run *run = (struct brain_run *)((char *)timer
                                                 - offsetof(struct brain_run,
                                                            retry));

    run_load(run);
}

static void
load_failed(struct brain_run *run, const struct ag_err *err)
{
    if (run->is_dropped || err->kind != AG_ERR_UNAVAILABLE) {
        ag_log(AG_ERROR, "run.load_failed", AG_S("session", run->session),
               AG_E(err));
        run->is_dropped = true;
        (void)dropped(run);
        return;
    }
    run->retry.fn = load_again;
    ag_timer_start(run->brain->loop, &run->retry, RETRY_MS);
}

static void
log_loaded(void *arg, const struct ag_db_result *res, const struct ag_err *err)
{
    struct brain_run *run = arg;
    struct ag_err bad;

    if (err != NULL) {
        load_failed(run, err);
        return;
    }
    for (int i = 0; i < ag_db_rows(res); i++) {
        AG_AUTO(ag_json_decref) json_t *body = NULL;

        body = ag_json_parse(ag_db_get(res, i, 1), &bad);
        if (body == NULL) {
            ag_err_wrap(&bad, "event %lld",
                        (long long)ag_db_get_int(res, i, 0));
            bad.kind = AG_ERR_CORRUPT;
            load_failed(run, &bad);
            return;
        }
        brain_log_put(&run->log, ag_db_get_int(res, i, 0), body);
    }
    if (dropped(run))
        return;
    if (ag_db_rows(res) == READ_ROWS) {
        run_load(run);
        return;
    }
    find_turn(run);
    brain_run_next(run);
}

/* Read what the log in memory does not have. */
static void
run_load(struct brain_run *run)
{
    if (run->state != BRAIN_RUN_LOADING)
        brain_run_enter(run, BRAIN_RUN_LOADING);
    brain_store_read(run->brain, run->tenant, ag_str(run->session),
                     brain_log_last(&run->log), READ_ROWS, log_loaded, run);
}

static void agent_load(struct brain_run *run);

static void
agent_load_again(struct ag_timer *timer)
{
    agent_load((struct brain_run *)((char *)timer
                                    - offsetof(struct brain_run, retry)));
}

static void
agent_loaded(void *arg, const struct ag_db_result *res,
             const struct ag_err *err)
{
    AG_AUTO(ag_json_decref) json_t *model = NULL;
    struct brain_run *run = arg;
    struct ag_err bad;

    if (err != NULL && err->kind == AG_ERR_UNAVAILABLE && !run->is_dropped) {
        run->retry.fn = agent_load_again;
        ag_timer_start(run->brain->loop, &run->retry, RETRY_MS);
        return;
    }
    if (err != NULL || ag_db_rows(res) == 0) {
        ag_err_set(&bad, AG_ERR_NOT_FOUND, "the session is gone");
        load_failed(run, err != NULL ? err : &bad);
        return;
    }
    run->harness = brain_harness_find(ag_db_get(res, 0, 0));
    model = ag_json_parse(ag_db_get(res, 0, 1), &bad);
    run->model = ag_arena_copy(
        run->arena, ag_json_str(json_object_get(model, "id")));
    run->system = ag_arena_copy(run->arena, ag_db_get(res, 0, 2));
    run->max_steps = (int)ag_db_get_int(res, 0, 3);
    run->turn_ms = ag_db_get_int(res, 0, 4) * 1000;
    run->environment_id = ag_arena_copy(run->arena, ag_db_get(res, 0, 5));
    if (run->harness == NULL) {
        ag_err_set(&bad, AG_ERR_CORRUPT, "unknown harness in the database");
        load_failed(run, &bad);
        return;
    }
    set_turn_timer(run);
    run_load(run);
}

static void
agent_load(struct brain_run *run)
{
    ag_db_query(run->brain->db, run->tenant,
                "SELECT v.harness, v.model, v.system, v.max_steps, "
                "v.max_turn_seconds, s.environment_id FROM brain.session s "
                "JOIN brain.agent_version v ON v.agent_id = s.agent_id "
                "AND v.version = s.agent_version WHERE s.id = $1",
                (struct ag_db_param[]){ag_db_str(ag_str(run->session))}, 1,
                agent_loaded, run);
}

void
brain_run_start(struct brain *brain, ag_str_t tenant, ag_str_t session,
                int64_t fence, int64_t turn_started_us)
{
    struct brain_run *run = brain_run_find(brain, session);

    if (run != NULL) {
        /* Claimed anew while what was dropped is still under way: it comes
         * back by the next claim. */
        brain_run_lose(run, "claimed again");
        return;
    }
    run = ag_xcalloc(1, sizeof(*run));
    ag_assert(session.n < sizeof(run->session));
    run->brain = brain;
    memcpy(run->session, session.p, session.n);
    run->arena = ag_arena_new();
    run->tenant = ag_arena_copy(run->arena, tenant);
    run->fence = fence;
    run->turn_started_us = turn_started_us;
    HASH_ADD(hh, brain->runs->all, session, session.n, run);
    agent_load(run);
}

/* ---- for the services -------------------------------------------------- */

void
brain_run_told(struct brain *brain, ag_str_t session, int64_t first,
               json_t *const *events, size_t n)
{
    struct brain_run *run = brain_run_find(brain, session);
    bool is_interrupt = false;

    if (run == NULL) {
        if (!brain->runs->is_stopping)
            brain_lease_claim(brain->runs, session);
        return;
    }
    for (size_t i = 0; i < n; i++) {
        is_interrupt |= strcmp(brain_event_type(events[i]),
                               "user.interrupt") == 0;
        /* A gap (another event under way) is filled by a read. */
        if (first + (int64_t)i == brain_log_last(&run->log) + 1)
            brain_log_put(&run->log, first + (int64_t)i, events[i]);
        else
            run->wants_reload = true;
    }
    if (!is_interrupt || !has_message(run))
        return;
    run->is_interrupted = true;
    if (run->state == BRAIN_RUN_TOOL) {
        brain_tool_cancel(run);
    } else if (run->state == BRAIN_RUN_THINKING) {
        run->harness->cancel(run);
        brain_run_next(run);
    }
}

void
brain_run_drop(struct brain *brain, ag_str_t session)
{
    struct brain_run *run = brain_run_find(brain, session);

    if (run != NULL)
        brain_run_lose(run, "the session has ended");
}

struct brain_runs *
brain_runs_new(struct brain *brain)
{
    struct brain_runs *runs = ag_xcalloc(1, sizeof(*runs));

    runs->brain = brain;
    brain_lease_begin(runs);
    return runs;
}

void
brain_runs_stop(struct brain_runs *runs, void (*done)(void *arg), void *arg)
{
    struct brain_run *run, *next;

    runs->is_stopping = true;
    runs->stopped = done;
    runs->stopped_arg = arg;
    ag_timer_stop(runs->brain->loop, &runs->renew);
    ag_timer_stop(runs->brain->loop, &runs->reap);
    HASH_ITER(hh, runs->all, run, next)
    {
        brain_lease_release(run);
        brain_run_lose(run, "the service is stopping");
    }
    if (runs->n_releases == 0)
        done(arg);
}

void
brain_runs_free(struct brain_runs *runs)
{
    struct brain_run *run, *next;

    if (runs == NULL)
        return;
    HASH_ITER(hh, runs->all, run, next)
        run_free(run);
    free(runs);
}

/* ---- for drivers ------------------------------------------------------- */

struct brain *
brain_run_brain(const struct brain_run *run)
{
    return run->brain;
}

ag_str_t
brain_run_session(const struct brain_run *run)
{
    return ag_str(run->session);
}

ag_str_t
brain_run_system(const struct brain_run *run)
{
    return run->system;
}

ag_str_t
brain_run_model(const struct brain_run *run)
{
    return run->model;
}

int
brain_run_max_steps(const struct brain_run *run)
{
    return run->max_steps;
}

const struct brain_log *
brain_run_log(const struct brain_run *run)
{
    return &run->log;
}

size_t
brain_run_turn(const struct brain_run *run)
{
    return run->turn;
}

void
brain_run_thinking(struct brain_run *run)
{
    brain_run_enter(run, BRAIN_RUN_THINKING);
}

void
brain_run_set_driver(struct brain_run *run, void *driver)
{
    run->driver = driver;
}

void *
brain_run_driver(const struct brain_run *run)
{
    return run->driver;
}

static void
counted(void *arg, const struct ag_db_result *res, const struct ag_err *err)
{
    (void)arg;
    (void)res;
    if (err != NULL)
        ag_log(AG_WARN, "usage.write_failed", AG_E(err));
}

void
brain_run_count_tokens(struct brain_run *run, int64_t input, int64_t output)
{
    ag_db_query(run->brain->db, run->tenant,
                "UPDATE brain.session SET "
                "input_tokens = input_tokens + $2::bigint, "
                "output_tokens = output_tokens + $3::bigint WHERE id = $1",
                (struct ag_db_param[]){ag_db_str(ag_str(run->session)),
                                       ag_db_int(input), ag_db_int(output)},
                3, counted, NULL);
}

const struct brain_harness *
brain_harness_find(ag_str_t name)
{
    static const struct brain_harness *const all[]
        = {&brain_harness_native, &brain_harness_runbook};

    for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++)
        if (ag_str_is(name, all[i]->name))
            return all[i];
    return NULL;
}
