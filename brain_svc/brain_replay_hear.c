/*
 * Replay: what the run hears of and when, by the marks of the events that it
 * wrote; where there are none, by what stands where in the log.
 */
#include "brain_svc/brain_replay_internal.h"

static void
tell(struct brain_replay *r, const struct brain_event *e)
{
    json_t *body = e->body;

    brain_run_told(r->brain, ag_str(r->session), e->seq, &body, 1);
}

void
brain_replay_tell_one(struct brain_replay *r)
{
    const struct brain_event *e = brain_replay_next(r, 0);

    r->told = ++r->next;
    tell(r, e);
}

bool
brain_replay_next_is_heard(const struct brain_replay *r, size_t i)
{
    return r->told < i
           && r->log.at[r->told].seq <= brain_replay_heard(&r->log, r->next, i);
}

void
brain_replay_hear_until(struct brain_replay *r, size_t i)
{
    while (brain_replay_next_is_heard(r, i)) {
        const struct brain_event *e = &r->log.at[r->told++];

        if (brain_replay_is_input(e))
            tell(r, e);
    }
}

void
brain_replay_hear(struct brain_run *run)
{
    struct brain_replay *r = run->brain->replay;
    size_t i = brain_replay_own(&r->log, r->next, run->staged.n);

    if (brain_replay_is_marked(&r->log, i))
        brain_replay_hear_until(r, i);
}

bool
brain_replay_is_told_next(const struct brain_replay *r)
{
    const struct brain_event *e = brain_replay_next(r, 0);

    return e != NULL && brain_replay_is_input(e);
}

bool
brain_replay_is_lost_next(const struct brain_replay *r)
{
    return brain_replay_next_is(r, brain_replay_inputs(&r->log, r->next),
                                "session.status_rescheduled");
}

void
brain_replay_take_stop(struct brain_replay *r, struct brain_run *run,
                       size_t from)
{
    struct brain_log seen = {.at = r->log.at, .n = from};
    const struct brain_event *open;
    struct brain_replay_stop stop;
    struct brain_turn turn;

    brain_replay_foresee(&r->log, from, &stop);
    run->is_over_time |= stop.is_over_time;
    /* A call that stays open was not afforded: affords() says so. */
    brain_turn_find(&seen, &turn);
    if (stop.is_over_active
        && (stop.has_closing
            || brain_turn_open_calls(&seen, &turn, &open, 1) == 0))
        run->is_over_time = run->is_over_active = true;
    if (stop.frozen_by.n > 0 && !run->is_frozen) {
        run->is_frozen = true;
        run->frozen_by = ag_arena_cstr(run->arena, stop.frozen_by);
    }
}

bool
brain_replay_hear_refusal(struct brain_replay *r)
{
    size_t i = brain_replay_own(&r->log, r->next, brain_replay_run(r)->n_kept);
    bool is_refused = false;

    if (!brain_replay_is_marked(&r->log, i))
        return false;
    while (r->told < i && r->log.at[r->told].seq <= r->log.heard[i]) {
        const struct brain_event *e = &r->log.at[r->told++];

        if (!brain_replay_is_input(e))
            continue;
        is_refused = true;
        tell(r, e);
    }
    return is_refused;
}

void
brain_replay_hear_busy(struct brain_replay *r, size_t own)
{
    struct brain_run *run = brain_replay_run(r);
    enum brain_run_state state = run->state;

    if (brain_replay_is_marked(&r->log, own)) {
        brain_replay_hear_until(r, own);
        return;
    }
    while (run->state == state && brain_replay_is_told_next(r)
           && !brain_replay_is_unheard(&r->log, r->next))
        brain_replay_tell_one(r);
}
