/*
 * Drivers: what decides the next step of a run. The run (brain_run.c) owns the
 * log, the lease, the tools and the limits; a driver looks at the log and says
 * what comes next. So a driver keeps nothing that the log does not hold, and
 * carries on after a crash as if nothing had been.
 */
#ifndef BRAIN_HARNESS_H
#define BRAIN_HARNESS_H

#include "lib/str.h"

struct brain_run;

struct brain_harness {
    const char *name;
    /* It looks at turns before this one: their events are read, too. */
    bool needs_history;
    /* It asks a model: the workload for that is opened as the run begins. */
    bool asks_model;
    /*
     * Nothing is under way and every tool call in the log has its result: take
     * the next step, by brain_run_append or brain_run_end_turn, now, or, once
     * brain_run_settled, later.
     */
    void (*advance)(struct brain_run *run);
    /* What was being stored while `advance` began a step (brain_run_may_ask) is
     * stored. False: the step was begun from another log than it is now, so it
     * is dropped, and taken anew. NULL: the driver begins none. */
    bool (*stored)(struct brain_run *run);
    /* Drop what `advance` began and has not reported (a model call). */
    void (*cancel)(struct brain_run *run);
};

extern const struct brain_harness brain_harness_native;
extern const struct brain_harness brain_harness_runbook;

/* Each of them; NULL behind the last. */
const struct brain_harness *brain_harness_at(size_t i);
/* By name, or NULL. */
const struct brain_harness *brain_harness_find(ag_str_t name);

#endif
