/*
 * What a run does to the world, behind one table: the live one, and that of a
 * replay, which answers from the log. All on the loop; nothing calls
 * back from inside.
 */
#ifndef BRAIN_IO_H
#define BRAIN_IO_H

#include "brain_svc/brain_budget.h"
#include "brain_svc/brain_model.h"
#include "brain_svc/brain_store.h"

struct brain_run;
struct brain_runs;
struct brain_event;

/* `first` is the seq of the first event; 0 when BRAIN_WRITE_END wrote nothing.
 */
typedef void brain_stored(void *arg, int64_t first, const struct ag_err *err);

struct brain_io {
    /* The run is about to decide: a replay tells it what it had heard of by
     * then. NULL: it hears of things as they come. */
    void (*hear)(struct brain_run *run);
    /* Read what the log in memory does not have, then brain_run_loaded. */
    void (*load)(struct brain_run *run);
    void (*store)(struct brain *brain, const struct brain_append *append,
                  brain_stored *done, void *arg);
    /* The run will ask a model: open its workload. NULL is fine. */
    struct brain_workload *(*workload_new)(struct brain *brain,
                                           ag_str_t session);
    struct brain_model_call *(*model_start)(struct brain *brain,
                                            const struct brain_model_ask *ask);
    /* NULL: a model is only asked once all is stored. */
    void (*model_release)(struct brain_model_call *call);
    void (*model_cancel)(struct brain_model_call *call);
    /* As brain_tool_start, _cancel, _free and _end_turn. */
    void (*tool_start)(struct brain_run *run, const struct brain_event *event);
    void (*tool_cancel)(struct brain_run *run);
    void (*tool_free)(struct brain_run *run);
    void (*tool_end_turn)(struct brain_run *run,
                          void (*done)(struct brain_run *run));
    /* As brain_budget_allows of the session's budget. */
    bool (*affords)(const struct brain_run *run,
                    const struct brain_spent *reserve, enum brain_limit *limit,
                    bool *is_hard);
    /* The session has more to do, or may have: take its lease. */
    void (*claim)(struct brain_runs *runs, ag_str_t session);
};

extern const struct brain_io brain_io_live;

#endif
