/*
 * A replay under way: shared by brain_replay.c and brain_replay_hear.c. Nobody
 * else includes it.
 */
#ifndef BRAIN_REPLAY_INTERNAL_H
#define BRAIN_REPLAY_INTERNAL_H

#include "brain_svc/brain_io.h"
#include "brain_svc/brain_replay_log.h"
#include "brain_svc/brain_run_internal.h"

/* For what comes back in the loop's next turn. */
enum waiting { NOTHING, LOADING, STORING, ASKING, CALLING, ENDING, BEGINNING };

struct brain_replay {
    struct brain *brain;
    const char *session;
    struct brain_replay_log log;
    size_t next; /* index of the first event that was not replayed */
    size_t told; /* the run has heard of what came from outside before this */
    enum waiting waiting;
    struct ag_timer timer;

    brain_stored *stored; /* STORING */
    void *stored_arg;
    int64_t first;
    bool refuses_end; /* what was decided before the end was not stored */
    struct brain_model_ask ask;           /* ASKING */
    void (*ended)(struct brain_run *run); /* ENDING */

    size_t n_turns, n_models, n_tools;
    bool is_over;
    int rc;
    struct ag_err *err;
};

static inline struct brain_run *
brain_replay_run(const struct brain_replay *r)
{
    return brain_run_find(r->brain, ag_str(r->session));
}

static inline const struct brain_event *
brain_replay_next(const struct brain_replay *r, size_t skip)
{
    return r->next + skip < r->log.n ? &r->log.at[r->next + skip] : NULL;
}

static inline bool
brain_replay_next_is(const struct brain_replay *r, size_t skip,
                     const char *type)
{
    const struct brain_event *e = brain_replay_next(r, skip);

    return e != NULL && strcmp(e->type, type) == 0;
}

/* ---- what the run hears of (brain_replay_hear.c) ---------------------------
 */

/* Of brain_io: the run is about to decide. */
void brain_replay_hear(struct brain_run *run);
/* The run hears of what it had heard of when it decided on the event at `i`. It
 * may decide at once, and hear of more in there. */
void brain_replay_hear_until(struct brain_replay *r, size_t i);
/* While the model or a tool was busy: until it came back with the event at
 * `own`, or an interrupt stopped it. */
void brain_replay_hear_busy(struct brain_replay *r, size_t own);
/* True when a user's event came before the end was stored, which the run hears
 * of now: the log goes on with what was decided on when it was heard of. */
bool brain_replay_hear_refusal(struct brain_replay *r);
/* It had heard of the next one when it decided on the event at `i`. */
bool brain_replay_next_is_heard(const struct brain_replay *r, size_t i);
/* The next event came from outside; the run hears of it. */
bool brain_replay_is_told_next(const struct brain_replay *r);
void brain_replay_tell_one(struct brain_replay *r);
/* The brain died here, or gave the run away, and another one went on. */
bool brain_replay_is_lost_next(const struct brain_replay *r);
/* Limits of time and incidents come from outside, too; what they left in the
 * log behind `from` tells of them before the run decides. */
void brain_replay_take_stop(struct brain_replay *r, struct brain_run *run,
                            size_t from);

#endif
