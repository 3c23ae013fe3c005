/*
 * Replay: the table of brain_io.h answered from a log. One thing at a time is
 * under way, and comes back in the loop's next turn, as it would live.
 */
#include "brain_svc/brain_replay.h"

#include <stdio.h>
#include <stdlib.h>

#include "brain_svc/brain_context.h"
#include "brain_svc/brain_hub.h"
#include "brain_svc/brain_replay_internal.h"
#include "lib/secret.h"

static void
wait_for(struct brain_replay *r, enum waiting what)
{
    ag_assert(r->waiting == NOTHING);
    r->waiting = what;
    ag_timer_start(r->brain->loop, &r->timer, 0);
}

static void
finish(struct brain_replay *r)
{
    r->is_over = true;
    ag_timer_stop(r->brain->loop, &r->timer);
    ag_loop_stop(r->brain->loop);
}

/* ---- differences --------------------------------------------------------- */

static void
print_event(const char *who, const json_t *event)
{
    char *text = event == NULL
                     ? NULL
                     : json_dumps(event, JSON_SORT_KEYS | JSON_ENSURE_ASCII);

    printf("  %s: %.2000s\n", who, text == NULL ? "nothing" : text);
    free(text);
}

/* `ours` is what the run would write here, or NULL. */
static void
differ(struct brain_replay *r, const char *what, const json_t *ours)
{
    const struct brain_event *e = brain_replay_next(r, 0);

    if (r->is_over)
        return;
    printf("difference at seq %lld: %s\n",
           e == NULL ? (long long)r->log.n + 1 : (long long)e->seq, what);
    print_event("the log ", e == NULL ? NULL : e->body);
    print_event("replayed", ours);
    r->rc = ag_err_set(r->err, AG_ERR_CONFLICT,
                       "session %s does not replay to its log", r->session);
    finish(r);
}

/* ---- the run's log ------------------------------------------------------- */

static void
load(struct brain_run *run)
{
    struct brain_replay *r = run->brain->replay;
    size_t own = brain_replay_own(&r->log, r->next, run->staged.n);

    if (run->log.n == 0)
        run->log.base = 0;
    if (r->told < r->next)
        r->told = r->next;
    if (brain_replay_is_marked(&r->log, own))
        while (brain_replay_next_is_heard(r, own))
            r->told++;
    else
        while (brain_replay_is_told_next(r)
               && !brain_replay_is_unheard(&r->log, r->next))
            r->told = ++r->next;
    for (size_t i = 0; i < r->told; i++)
        if (i < r->next || brain_replay_is_input(&r->log.at[i]))
            brain_log_put(&run->log, r->log.at[i].seq, r->log.at[i].body);
    wait_for(r, LOADING);
}

static void
begin(struct brain_replay *r)
{
    if (brain_replay_next(r, 0) == NULL) {
        finish(r);
    } else if (!brain_replay_is_told_next(r) && !brain_replay_is_lost_next(r)) {
        differ(r, "nothing is to be done here", NULL);
    } else {
        r->n_turns += !brain_replay_is_lost_next(r);
        brain_run_start(r->brain, &(struct brain_claim){
                                      .tenant = ag_str(r->brain->conf.tenant),
                                      .session = ag_str(r->session),
                                      .fence = 1});
    }
}

/*
 * Compares a batch; what was recorded takes the place of what was made, so that
 * what follows refers to it. What the run decided on together with other things
 * may have been stored alone, or users may have said something in between: then
 * the batch ends there, and the run decides anew with what it heard.
 */
static void
take_batch(struct brain_replay *r, const struct brain_append *append,
           bool was_told)
{
    struct brain_run *run = brain_replay_run(r);
    const struct brain_event *e = brain_replay_next(r, 0);
    const char *why = NULL;
    size_t i;

    r->first = e != NULL ? e->seq : (int64_t)r->log.n + 1;
    for (i = 0; i < append->n; i++) {
        e = brain_replay_next(r, 0);
        if (e == NULL) { /* it was cut off here, or is at work */
            finish(r);
            return;
        }
        why = brain_replay_compare(append->events[i], e->body);
        if (why != NULL)
            break;
        json_decref(run->writing.events[i]);
        run->writing.events[i] = json_incref(e->body);
        r->next++;
    }
    if (why != NULL && (i > 0 ? !run->writing.is_first[i] : !was_told)) {
        differ(r, why, append->events[i]);
        return;
    }
    if (why != NULL) {
        r->refuses_end = run->is_destroying;
        brain_run_cut(run, i);
    }
    wait_for(r, STORING);
}

static void
store(struct brain *brain, const struct brain_append *append,
      brain_stored *done, void *arg)
{
    struct brain_replay *r = brain->replay;
    size_t own = brain_replay_own(&r->log, r->next, 0);
    bool is_marked = brain_replay_is_marked(&r->log, own);
    bool was_told = !is_marked && brain_replay_is_told_next(r);
    bool is_refused =
        append->how == BRAIN_WRITE_END
        && (was_told || r->refuses_end || brain_replay_hear_refusal(r));

    r->stored = done;
    r->stored_arg = arg;
    if (is_marked && !is_refused)
        r->next = own;
    while (!is_marked && brain_replay_is_told_next(r))
        brain_replay_tell_one(r);
    if (is_refused) {
        r->first = 0;
        r->refuses_end = false;
        wait_for(r, STORING);
        return;
    }
    take_batch(r, append, was_told);
}

static void
come_stored(struct brain_replay *r)
{
    struct brain_run *run = brain_replay_run(r);

    brain_replay_take_stop(r, run, r->next);
    run->is_dropped |= brain_replay_is_lost_next(r);
    r->stored(r->stored_arg, r->first, NULL);
    if (r->is_over)
        return;
    if (brain_replay_run(r) == NULL)
        wait_for(r, BEGINNING);
    else if (r->ended != NULL && r->waiting == NOTHING)
        wait_for(r, ENDING);
}

/* ---- the model ----------------------------------------------------------- */

static struct brain_workload *
workload_new(struct brain *brain, ag_str_t session)
{
    (void)brain; /* no model is asked */
    (void)session;
    return NULL;
}

static struct brain_model_call *
model_start(struct brain *brain, const struct brain_model_ask *ask)
{
    struct brain_replay *r = brain->replay;

    r->ask = *ask;
    wait_for(r, ASKING);
    return (struct brain_model_call *)r; /* a token, for the driver */
}

static void
model_cancel(struct brain_model_call *call)
{
    struct brain_replay *r = (struct brain_replay *)call;

    ag_timer_stop(r->brain->loop, &r->timer);
    r->waiting = NOTHING;
}

static void
model_answers(struct brain_replay *r, size_t end)
{
    struct brain_replay_answer *a = brain_replay_answer_new(&r->log, end);
    AG_AUTO(ag_buf_release) struct ag_buf request = AG_BUF_INIT(SIZE_MAX / 4);
    struct ag_err err = AG_ERR_INIT;

    r->n_models++;
    if (a->err.kind != AG_ERR_NONE) {
        r->ask.done(r->ask.arg, NULL, &a->err);
    } else if (a->reply.route.wire == NULL) {
        differ(r, "the log names no wire that there is", NULL);
    } else if (r->ask.write(r->ask.arg, &a->reply.route, &request, &err) < 0) {
        differ(r, err.msg, NULL);
    } else {
        ag_sha256_hex(ag_buf_str(&request), a->reply.request_sha256);
        r->ask.done(r->ask.arg, &a->reply, NULL);
    }
    brain_replay_answer_free(a);
}

/* While the model or a tool was busy: the next brain begins. */
static void
lose(struct brain_replay *r, struct brain_run *run)
{
    brain_run_lose(run, "another brain went on");
    wait_for(r, BEGINNING);
}

/* While the model was asked: users spoke, time ran out, it answered. */
static void
come_asked(struct brain_replay *r)
{
    struct brain_run *run = brain_replay_run(r);
    size_t own = brain_replay_own(&r->log, r->next, 0);

    if (brain_replay_is_lost_next(r)) {
        lose(r, run);
        return;
    }
    r->waiting = ASKING; /* until an interrupt cancels it */
    brain_replay_hear_busy(r, own);
    if (run->state != BRAIN_RUN_THINKING || r->is_over)
        return;
    r->waiting = NOTHING;
    brain_replay_take_stop(r, run, own);
    if (run->is_over_time || run->is_frozen) {
        run->harness->cancel(run);
        brain_run_next(run);
    } else if (own == r->log.n) {
        finish(r);
    } else if (!brain_event_is(&r->log.at[own], "span.model_request_end")) {
        differ(r, "the model is asked here", NULL);
    } else {
        model_answers(r, own);
    }
}

/* ---- tools --------------------------------------------------------------- */

static void
tool_start(struct brain_run *run, const struct brain_event *event)
{
    (void)event;
    wait_for(run->brain->replay, CALLING);
}

static void
tool_ignore(struct brain_run *run)
{
    (void)run; /* the recorded result says what came of it */
}

static void
come_called(struct brain_replay *r)
{
    struct brain_run *run = brain_replay_run(r);
    size_t own = brain_replay_own(&r->log, r->next, 0);
    struct brain_decision d;
    const struct brain_event *e;
    json_t *result;

    if (brain_replay_is_lost_next(r)) {
        lose(r, run);
        return;
    }
    brain_turn_find(&run->log, &run->turn);
    d = brain_turn_decide(&run->log, &run->turn, false);
    brain_replay_hear_busy(r, own);
    e = own < r->log.n ? &r->log.at[own] : NULL;
    r->n_tools++;
    if (e == NULL) {
        finish(r);
    } else if (!brain_event_is(e, "agent.tool_result")
               || (d.call != NULL
                   && !ag_str_is(ag_json_member(e->body, "tool_use_id"),
                                 d.call->id))) {
        differ(r, "a tool is called here",
               d.call == NULL ? NULL : d.call->body);
    } else {
        /* It is made here, and stored with what is decided on next. */
        result = json_incref(e->body);
        brain_replay_take_stop(r, run, own + 1);
        brain_run_append(run, &result, 1);
    }
}

static void
tool_end_turn(struct brain_run *run, void (*done)(struct brain_run *run))
{
    struct brain_replay *r = run->brain->replay;

    r->ended = done;
    if (r->waiting == NOTHING) /* else behind what is being stored */
        wait_for(r, ENDING);
}

static void
claim(struct brain_runs *runs, ag_str_t session)
{
    (void)runs; /* begin() does */
    (void)session;
}

static bool
affords(const struct brain_run *run, const struct brain_spent *reserve,
        enum brain_limit *limit, bool *is_hard)
{
    const struct brain_replay *r = run->brain->replay;
    size_t i = brain_replay_own(&r->log, r->next, run->staged.n);

    (void)reserve;
    if (i < r->log.n && brain_event_is(&r->log.at[i], "span.model_request_end"))
        i = brain_replay_own(&r->log, i, 1);
    return !brain_replay_is_pause(i < r->log.n ? &r->log.at[i] : NULL, limit,
                                  is_hard);
}

static const struct brain_io io = {
    .hear = brain_replay_hear,
    .affords = affords,
    .load = load,
    .store = store,
    .workload_new = workload_new,
    .model_start = model_start,
    .model_cancel = model_cancel,
    .tool_start = tool_start,
    .tool_cancel = tool_ignore,
    .tool_free = tool_ignore,
    .tool_end_turn = tool_end_turn,
    .claim = claim,
};

/* ---- all of it ----------------------------------------------------------- */

static void
come(struct ag_timer *timer)
{
    struct brain_replay *r =
        (struct brain_replay *)((char *)timer
                                - offsetof(struct brain_replay, timer));
    enum waiting what = r->waiting;
    struct brain_run *run = brain_replay_run(r);
    void (*ended)(struct brain_run * run);

    r->waiting = NOTHING;
    switch (what) {
    case NOTHING:
        return;
    case BEGINNING:
        begin(r);
        return;
    case LOADING:
        brain_replay_take_stop(r, run, r->next);
        brain_run_loaded(run);
        return;
    case STORING:
        come_stored(r);
        return;
    case ASKING:
        come_asked(r);
        return;
    case CALLING:
        come_called(r);
        return;
    case ENDING:
        run->is_dropped |= brain_replay_is_lost_next(r);
        ended = ag_take(&r->ended);
        ended(run);
        if (brain_replay_run(r) == NULL)
            wait_for(r, BEGINNING);
        return;
    }
}

static void
log_read(void *arg, const struct ag_db_result *res, const struct ag_err *err)
{
    struct brain_replay *r = arg;

    if (err == NULL && ag_db_rows(res) > 0) {
        if (brain_replay_log_take(&r->log, res, r->err) < 0) {
            r->rc = -1;
            finish(r);
            return;
        }
        brain_replay_log_read(r->brain, &r->log, r->session, log_read, r);
        return;
    }
    if (err != NULL || r->log.n == 0) {
        r->rc = err != NULL ? (*r->err = *err, -1)
                            : ag_err_set(r->err, AG_ERR_NOT_FOUND,
                                         "tenant %s has no events of session "
                                         "%.64s",
                                         r->brain->conf.tenant, r->session);
        finish(r);
        return;
    }
    begin(r);
}

int
brain_replay(struct brain *brain, const char *session, struct ag_err *err)
{
    struct brain_runs runs = {.brain = brain};
    struct brain_replay r = {
        .brain = brain, .session = session, .timer.fn = come, .err = err};
    struct brain_run *run;

    brain->io = &io;
    brain->replay = &r;
    brain->runs = &runs;
    brain->hub = brain_hub_new(brain);
    brain_replay_log_read(brain, &r.log, session, log_read, &r);
    ag_loop_run(brain->loop);
    if (r.rc == 0)
        printf("%zu events, %zu turns, %zu model calls, %zu tool calls: no "
               "difference\n",
               r.next, r.n_turns, r.n_models, r.n_tools);
    if ((run = brain_replay_run(&r)) != NULL) {
        run->harness->cancel(run);
        brain_run_free(run);
    }
    brain_hub_free(brain->hub);
    brain_replay_log_release(&r.log);
    return r.rc;
}
