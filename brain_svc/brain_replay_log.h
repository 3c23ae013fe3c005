/*
 * What a replay reads out of a recorded log: the events as they were stored,
 * which came from outside, what a model had answered. Pure but for the reading.
 */
#ifndef BRAIN_REPLAY_LOG_H
#define BRAIN_REPLAY_LOG_H

#include "brain_svc/brain_budget.h"
#include "brain_svc/brain_log.h"
#include "brain_svc/brain_model.h"

struct brain_replay_log {
    struct brain_event *at;
    /* Of each event the last seq that the run had heard of when it decided on
     * it; BRAIN_REPLAY_UNMARKED for events from outside, and for those from
     * before there were marks. */
    int64_t *heard;
    size_t n, cap;
};
#define BRAIN_REPLAY_UNMARKED (-1)

/* The next rows behind what is there; none is the end. */
void brain_replay_log_read(struct brain *brain, struct brain_replay_log *log,
                           const char *session, ag_db_done *done, void *arg);
/* Take the rows; AG_ERR_CONFLICT names an event that is not as it was stored,
 * or a gap. */
int brain_replay_log_take(struct brain_replay_log *log,
                          const struct ag_db_result *res, struct ag_err *err);
void brain_replay_log_release(struct brain_replay_log *log);

/* Not written by a run: a user's, or the platform's. */
bool brain_replay_is_input(const struct brain_event *e);
/* How many of these stand at `next`. */
size_t brain_replay_inputs(const struct brain_replay_log *log, size_t next);
/* Index of the event that a run wrote behind `skip` others, from `next` on; `n`
 * of the log when there is none. */
size_t
brain_replay_own(const struct brain_replay_log *log, size_t next, size_t skip);
/* The event at `i` says what the run had heard of. */
bool brain_replay_is_marked(const struct brain_replay_log *log, size_t i);
/*
 * Up to which seq the run had heard when it decided on the event at `i`, which
 * says so. 0, nothing new, when events from `next` on that the run has decided
 * on before were stored by then: they are not yet.
 */
int64_t
brain_replay_heard(const struct brain_replay_log *log, size_t next, size_t i);
/*
 * A guess, where nothing is marked. An interrupt stands at `next`, but what
 * stands behind it was decided on before the run heard of it: both were being
 * stored at the same time. It hears of it when it stores that.
 */
bool brain_replay_is_unheard(const struct brain_replay_log *log, size_t next);

/* NULL when both are the same but for ids and times; else what differs. */
const char *brain_replay_compare(const json_t *made, const json_t *recorded);

/* What ends the turn from outside, by what it left in the log. */
struct brain_replay_stop {
    bool is_over_time;
    bool is_over_active; /* by the budget: or a call was not afforded */
    bool has_closing;    /* what was open was closed */
    ag_str_t frozen_by;
};

/* The event is the pause of a session that met a limit of its budget. */
bool brain_replay_is_pause(const struct brain_event *e, enum brain_limit *limit,
                           bool *is_hard);

void brain_replay_foresee(const struct brain_replay_log *log, size_t next,
                          struct brain_replay_stop *stop);

/* A model's answer as the events from its span.model_request_end on have it. */
struct brain_replay_answer {
    struct brain_reply reply; /* wire NULL: the log names none */
    struct brain_answer answer;
    struct ag_err err; /* kind NONE: it answered */
};

struct brain_replay_answer *
brain_replay_answer_new(const struct brain_replay_log *log, size_t end);
void brain_replay_answer_free(struct brain_replay_answer *a);

#endif
