/*
 * What a run writes. Events that were decided on are staged: they stand in the
 * log in memory, and the run decides on. Before it does anything that others
 * see (asks the model, calls a tool, ends the turn) all of them are committed,
 * in one transaction. On the loop.
 */
#include "brain_svc/brain_run_internal.h"

#include <stdlib.h>

#include "brain_svc/brain_hub.h"
#include "brain_svc/brain_io.h"
#include "brain_svc/brain_metrics.h"
#include "lib/clock.h"

#define RETRY_MS 500

static void write_again(struct ag_timer *timer);

/* ---- batches ------------------------------------------------------------ */

static void
batch_add(struct brain_batch *b, json_t *event, bool is_first, int64_t heard)
{
    if (b->n == b->cap) {
        b->cap = b->cap == 0 ? 8 : b->cap * 2;
        b->events = ag_xrealloc(b->events, b->cap * sizeof(*b->events));
        b->is_first = ag_xrealloc(b->is_first, b->cap * sizeof(*b->is_first));
        b->heard = ag_xrealloc(b->heard, b->cap * sizeof(*b->heard));
    }
    b->events[b->n] = event;
    b->heard[b->n] = heard;
    b->is_first[b->n++] = is_first;
}

/* The events in `from` come behind those in `to`. */
static void
batch_move(struct brain_batch *to, struct brain_batch *from)
{
    for (size_t i = 0; i < from->n; i++)
        batch_add(to, from->events[i], from->is_first[i], from->heard[i]);
    from->n = 0;
    brain_batch_release(from);
}

void
brain_batch_release(struct brain_batch *b)
{
    for (size_t i = 0; i < b->n; i++)
        json_decref(b->events[i]);
    free(b->events);
    free(b->is_first);
    free(b->heard);
    *b = (struct brain_batch){0};
}

/* ---- what was written --------------------------------------------------- */

/* The turn is closed: the run is over, unless something came right behind. A
 * run that found nothing to do had no turn. */
static void
turn_ended(struct brain_run *run, int64_t behind, bool is_turn)
{
    struct brain_runs *runs = run->brain->runs;
    bool has_more =
        run->next_fence == 0
        && (run->wants_reload || brain_log_last(&run->log) >= behind);
    char session[AG_ID_TEXT];

    if (is_turn)
        brain_run_tell(run);
    memcpy(session, run->session, sizeof(session));
    brain_run_gone(run);
    if (has_more && !runs->is_stopping)
        runs->brain->io->claim(runs, ag_str(session));
}

static void
write_failed(struct brain_run *run, const struct ag_err *err)
{
    if (err->kind == AG_ERR_UNAVAILABLE && !run->is_dropped) {
        ag_log(AG_WARN, "run.write_retried", AG_S("session", run->session),
               AG_E(err));
        run->retry.fn = write_again;
        ag_timer_start(run->brain->loop, &run->retry, RETRY_MS);
        return;
    }
    ag_log(AG_ERROR, "run.write_failed", AG_S("session", run->session),
           AG_E(err));
    run->is_dropped = true;
    if (run->state == BRAIN_RUN_THINKING)
        run->harness->cancel(run);
    brain_batch_release(&run->writing);
    (void)brain_run_dropped(run);
}

/* The events have their places in the log, and are shown. */
static void
take_written(struct brain_run *run, int64_t first)
{
    struct brain_batch *b = &run->writing;

    /* An event of somebody else may stand before them, not heard of yet. */
    if (first > brain_log_last(&run->log) + 1)
        run->wants_reload = true;
    brain_log_unstage(&run->log, run->n_kept);
    for (size_t i = 0; i < b->n; i++) {
        brain_log_put(&run->log, first + (int64_t)i, b->events[i]);
        if (i >= run->n_kept)
            brain_budget_count(&run->spent, b->events[i]);
    }
    ag_metrics_add(run->brain->metrics, BRAIN_METRIC_EVENTS, NULL, NULL,
                   (double)b->n);
    if (run->write == BRAIN_WRITE_END && b->n > 0)
        brain_run_count(run, b->events[b->n - 1]);
    brain_hub_publish(run->brain->hub, ag_str(run->session), first, b->events,
                      b->n);
    if (run->begins)
        ag_log(AG_INFO, "turn.began", AG_S("session", run->session),
               AG_S("harness", run->harness->name));
    run->begins = false;
}

/* A user's event came: the turn goes on with it, its time anew. What was staged
 * is still to be written. */
static void
end_refused(struct brain_run *run)
{
    struct brain_batch *b = &run->writing;

    while (b->n > run->n_kept)
        json_decref(b->events[--b->n]);
    batch_move(&run->staged, b);
    run->wants_reload = true;
    run->is_over_time = false;
    run->turn_started_us = ag_now_us();
    brain_run_set_turn_timer(run);
    brain_run_next(run);
}

/* The model was asked meanwhile: it goes on, if the log is as it was then. */
static void
asked_stored(struct brain_run *run)
{
    if (run->wants_reload || !run->harness->stored(run)) {
        run->harness->cancel(run);
        brain_run_next(run);
        return;
    }
    run->heard = brain_log_last(&run->log);
}

static void close_turn(struct brain_run *run);

static void
written(void *arg, int64_t first, const struct ag_err *err)
{
    struct brain_run *run = arg;
    enum brain_write how = run->write;
    int64_t behind;
    bool has_events = run->writing.n > 0;

    run->is_writing = false;
    if (err != NULL) {
        write_failed(run, err);
        return;
    }
    if (first == 0 && !run->is_dropped) {
        end_refused(run);
        return;
    }
    behind = first + (int64_t)run->writing.n;
    if (first > 0)
        take_written(run, first);
    brain_batch_release(&run->writing);
    if (brain_run_dropped(run))
        return;
    if (how == BRAIN_WRITE_END)
        turn_ended(run, behind, has_events);
    else if (run->state == BRAIN_RUN_THINKING)
        asked_stored(run);
    else if (run->state != BRAIN_RUN_ENDING)
        brain_run_next(run);
    else if (!run->is_destroying)
        close_turn(run);
}

/* ---- writing ------------------------------------------------------------ */

static void
write_now(struct brain_run *run)
{
    struct brain_append append = {
        .how = run->write,
        .tenant = run->tenant,
        .session = ag_str(run->session),
        .fence = run->fence,
        .seen = run->seen,
        .events = run->writing.events,
        .heard = run->writing.heard,
        .n = run->writing.n,
    };

    run->is_writing = true;
    run->brain->io->store(run->brain, &append, written, run);
}

static void
write_again(struct ag_timer *timer)
{
    write_now((struct brain_run *)((char *)timer
                                   - offsetof(struct brain_run, retry)));
}

/* What is staged, and for an end `tail` behind it. */
static void
write_staged(struct brain_run *run, enum brain_write how,
             struct brain_batch *tail)
{
    ag_assert(run->writing.n == 0 && !run->is_writing);
    run->write = how;
    run->n_kept = run->staged.n;
    batch_move(&run->writing, &run->staged);
    if (tail != NULL)
        batch_move(&run->writing, tail);
    write_now(run);
}

static enum brain_write
how_staged(const struct brain_run *run)
{
    return run->begins ? BRAIN_WRITE_BEGIN : BRAIN_WRITE_APPEND;
}

static void
stage(struct brain_run *run, json_t **events, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        batch_add(&run->staged, events[i], i == 0, run->heard);
        brain_log_stage(&run->log, events[i]);
        brain_budget_count(&run->spent, events[i]);
    }
}

void
brain_run_append(struct brain_run *run, json_t **events, size_t n)
{
    stage(run, events, n);
    brain_run_next(run);
}

void
brain_run_begin(struct brain_run *run, json_t *running)
{
    run->begins = true;
    brain_run_append(run, &running, 1);
}

bool
brain_run_settled(struct brain_run *run)
{
    if (run->staged.n == 0)
        return true;
    brain_run_enter(run, BRAIN_RUN_RECORDING);
    write_staged(run, how_staged(run), NULL);
    return false;
}

bool
brain_run_may_ask(struct brain_run *run)
{
    if (run->brain->io->model_release == NULL || brain_run_has_budget(run))
        return brain_run_settled(run);
    if (run->staged.n > 0)
        write_staged(run, how_staged(run), NULL);
    return true;
}

bool
brain_run_is_storing(const struct brain_run *run)
{
    return run->writing.n > 0;
}

void
brain_run_cut(struct brain_run *run, size_t n)
{
    struct brain_batch *b = &run->writing;

    ag_assert(n <= run->n_kept);
    brain_log_unstage(&run->log, run->n_kept);
    while (b->n > n)
        json_decref(b->events[--b->n]);
    run->n_kept = 0;
    run->write = how_staged(run);
    if (run->state == BRAIN_RUN_ENDING && !run->is_destroying)
        brain_run_enter(run, BRAIN_RUN_DECIDING);
}

/* ---- ending ------------------------------------------------------------- */

static void
close_turn(struct brain_run *run)
{
    write_staged(run, BRAIN_WRITE_END, &run->closing);
}

static void
destroyed(struct brain_run *run)
{
    run->is_destroying = false;
    run->times.destroy_us = ag_mono_us() - run->times.entered_us;
    if (brain_run_dropped(run))
        return;
    if (run->writing.n == 0)
        close_turn(run);
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
    for (size_t i = 0; i < n; i++)
        batch_add(&run->closing, events[i], i == 0, run->seen);
    batch_add(&run->closing, idle, n == 0, run->seen);
    if (!run->turn.has_sandbox) {
        close_turn(run);
        return;
    }
    /* What is staged is stored while the sandbox goes away. */
    run->is_destroying = true;
    if (run->staged.n > 0)
        write_staged(run, how_staged(run), NULL);
    run->brain->io->tool_end_turn(run, destroyed);
}

void
brain_run_end_turn(struct brain_run *run, json_t **events, size_t n,
                   const char *stop_reason)
{
    brain_run_end_with(run, events, n, json_pack("{s:s}", "type", stop_reason));
}

void
brain_run_end_nothing(struct brain_run *run)
{
    brain_run_enter(run, BRAIN_RUN_ENDING);
    run->seen = brain_log_last(&run->log);
    close_turn(run);
}
