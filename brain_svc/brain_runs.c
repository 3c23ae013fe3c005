/*
 * All runs of this brain: starting, telling, dropping and stopping them.
 * Called by the services and by brain_lease.c on the loop.
 */
#include "brain_svc/brain_run_internal.h"

#include <stdlib.h>

#include "brain_svc/brain_io.h"
#include "brain_svc/brain_warm.h"
#include "lib/clock.h"

void
brain_run_start(struct brain *brain, const struct brain_claim *claim)
{
    struct brain_run *run = brain_run_find(brain, claim->session);

    if (brain->runs->is_stopping) {
        brain_lease_release(brain->runs, claim->session, claim->fence);
        return;
    }
    if (run != NULL) {
        /* What ends, or was lost, is still under way: it begins behind that. */
        run->next_fence = claim->fence;
        if (run->state != BRAIN_RUN_ENDING)
            brain_run_lose(run, "claimed again");
        return;
    }
    run = ag_xcalloc(1, sizeof(*run));
    ag_assert(claim->session.n < sizeof(run->session));
    run->brain = brain;
    memcpy(run->session, claim->session.p, claim->session.n);
    run->arena = ag_arena_new();
    run->tenant = ag_arena_copy(run->arena, claim->tenant);
    run->fence = claim->fence;
    run->turn_started_us = claim->turn_started_us;
    run->times.begun_us = run->times.entered_us = ag_mono_us();
    HASH_ADD(hh, brain->runs->all, session, claim->session.n, run);
    if (claim->res != NULL)
        brain_run_take(run, claim->res, claim->col);
    else
        brain_run_read(run);
}

void
brain_run_gone(struct brain_run *run)
{
    struct brain *brain = run->brain;
    AG_AUTO(ag_buf_release) struct ag_buf tenant = AG_BUF_INIT(4096);
    char session[AG_ID_TEXT];
    struct brain_claim claim = {.fence = run->next_fence};

    ag_buf_add(&tenant, run->tenant);
    memcpy(session, run->session, sizeof(session));
    claim.tenant = ag_buf_str(&tenant);
    claim.session = ag_str(session);
    brain_run_enter(run, BRAIN_RUN_GONE);
    brain_run_free(run);
    if (claim.fence > 0)
        brain_run_start(brain, &claim);
}

void
brain_run_interrupt(struct brain_run *run)
{
    if (run->state == BRAIN_RUN_TOOL) {
        run->brain->io->tool_cancel(run);
    } else if (run->state == BRAIN_RUN_THINKING) {
        run->harness->cancel(run);
        brain_run_next(run);
    }
}

void
brain_run_posted(struct brain *brain, const struct brain_append *append,
                 const struct ag_db_result *res)
{
    struct brain_claim claim = {
        .tenant = append->tenant,
        .session = append->session,
        .fence = ag_db_get_int(res, 0, 1),
        .turn_started_us = ag_db_get_int(res, 0, 2),
        .res = res,
        .col = BRAIN_POST_COLUMNS,
    };

    if (claim.fence > 0)
        brain_run_start(brain, &claim);
    else
        brain_run_told(brain, append->session, ag_db_get_int(res, 0, 0),
                       append->events, append->n);
}

void
brain_run_told(struct brain *brain, ag_str_t session, int64_t first,
               json_t *const *events, size_t n)
{
    struct brain_run *run = brain_run_find(brain, session);
    struct brain_turn turn;
    bool is_interrupt = false;

    if (run == NULL)
        return;
    for (size_t i = 0; i < n; i++) {
        is_interrupt |=
            strcmp(brain_event_type(events[i]), "user.interrupt") == 0;
        /* A gap (another event under way) is filled by a read. */
        if (first + (int64_t)i == brain_log_last(&run->log) + 1)
            brain_log_put(&run->log, first + (int64_t)i, events[i]);
        else
            run->wants_reload = true;
    }
    brain_turn_find(&run->log, &turn);
    if (is_interrupt && (turn.is_interrupted || run->wants_reload))
        brain_run_interrupt(run);
}

bool
brain_run_freeze(struct brain *brain, ag_str_t session, const char *kind)
{
    struct brain_run *run = brain_run_find(brain, session);
    struct brain_turn turn;

    if (run == NULL || run->is_frozen)
        return false;
    brain_turn_find(&run->log, &turn);
    if (!turn.has_message)
        return false;
    run->is_frozen = true;
    run->frozen_by = ag_arena_cstr(run->arena, ag_str(kind));
    brain_run_interrupt(run);
    return true;
}

void
brain_run_halt(struct brain *brain, ag_str_t tenant, ag_str_t session)
{
    struct brain_run *run, *next;

    HASH_ITER (hh, brain->runs->all, run, next)
        if ((ag_str_is(tenant, "*") || ag_str_eq(tenant, run->tenant))
            && (ag_str_is(session, "*") || ag_str_is(session, run->session))
            && brain_run_freeze(brain, ag_str(run->session), BRAIN_STOPPED))
            ag_log(AG_WARN, "session.stopped", AG_S("session", run->session));
}

void
brain_run_drop(struct brain *brain, ag_str_t session)
{
    struct brain_run *run = brain_run_find(brain, session);

    brain_warm_forget(brain->warm, session);
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
    HASH_ITER (hh, runs->all, run, next) {
        brain_lease_release(runs, ag_str(run->session), run->fence);
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
    HASH_ITER (hh, runs->all, run, next)
        brain_run_free(run);
    free(runs);
}

bool
brain_runs_may_claim(const struct brain *brain)
{
    return !brain->runs->is_stopping;
}

size_t
brain_runs_count(const struct brain_runs *runs)
{
    return HASH_COUNT(runs->all);
}
