/*
 * What the log says about the turn, and what comes next: pure functions of the
 * log, so that any brain, and a replay, decides the same.
 *
 * A turn begins behind the last session.status_idle that ended one. Idle with
 * `requires_action` or `budget_reached` ended none: the turn waits for a
 * client, or for leave to use more, and goes on.
 */
#ifndef BRAIN_TURN_H
#define BRAIN_TURN_H

#include "brain_svc/brain_log.h"

/* The result of a call that was still open when its turn was ended. */
#define BRAIN_NOT_RUN "not run: the turn was ended"

struct brain_turn {
    size_t start;     /* index in the log of its first event */
    bool has_message; /* of a user */
    bool has_begun;   /* session.status_running stands behind the last idle */
    bool has_sandbox; /* a tool was called: a sandbox may be there */
    bool is_interrupted; /* and the user has not said more since */
};

enum brain_step {
    BRAIN_STEP_NOTHING, /* only an interrupt of nothing: no turn */
    BRAIN_STEP_BEGIN,   /* write session.status_running */
    BRAIN_STEP_STOP,    /* answer what is open, and end */
    BRAIN_STEP_DENY,    /* a call that a client refused: its result */
    BRAIN_STEP_CALL,    /* run a tool */
    BRAIN_STEP_WAIT,    /* every open call needs a client: end with that */
    BRAIN_STEP_ADVANCE, /* the driver's turn */
};

struct brain_decision {
    enum brain_step step;
    const struct brain_event *call;   /* CALL, DENY */
    const struct brain_event *answer; /* DENY: the user.tool_confirmation */
};

void brain_turn_find(const struct brain_log *log, struct brain_turn *turn);

/* `must_stop`: a limit of time, or a frozen session. */
struct brain_decision
brain_turn_decide(const struct brain_log *log, const struct brain_turn *turn,
                  bool must_stop);

/* Calls without a result, in order; at most `max`. Returns how many. */
size_t brain_turn_open_calls(const struct brain_log *log,
                             const struct brain_turn *turn,
                             const struct brain_event **out, size_t max);

/* The span.model_request_start that has no end, or NULL. */
const struct brain_event *brain_turn_open_span(const struct brain_log *log,
                                               const struct brain_turn *turn);

#endif
