/*
 * The run itself: shared by brain_run.c and brain_run_*.c, brain_runs.c (all of
 * them), brain_harness.c (what drivers see), brain_lease.c (who owns it),
 * brain_tool.c (the two tools) and brain_replay.c. Nobody else includes it.
 */
#ifndef BRAIN_RUN_INTERNAL_H
#define BRAIN_RUN_INTERNAL_H

#include <uthash.h>

#include "brain_svc/brain_run.h"
#include "brain_svc/brain_store.h"
#include "brain_svc/brain_turn.h"

struct brain_tool;
struct brain_workload;

/* Where a turn's time went, in this brain; the rest is our own. */
struct brain_times {
    int64_t begun_us,
        entered_us;   /* the run, its state; of the monotonic clock */
    int64_t model_us; /* with `vault_us` */
    int64_t vault_us; /* opening the workload that asks the model */
    int64_t provision_us, execute_us;
    int64_t destroy_us; /* of the sandbox, at the end */
};

struct brain_batch {
    json_t **events; /* owned references */
    bool *is_first;  /* of those that were decided on together */
    int64_t *heard;  /* the run's, when that was */
    size_t n, cap;
};

struct brain_run {
    UT_hash_handle hh;
    struct brain *brain;
    char session[AG_ID_TEXT];
    ag_str_t tenant;
    int64_t fence;
    int64_t next_fence; /* claimed again while this one ends; else 0 */
    enum brain_run_state state;
    struct ag_arena *arena; /* agent's texts */

    /* the pinned agent */
    const struct brain_harness *harness;
    ag_str_t model, wire, system, environment_id;
    struct brain_tools *tools;
    int max_steps;
    int64_t turn_ms;

    struct brain_log log;
    struct brain_turn turn; /* as the log has it at each decision */
    int64_t heard;          /* last seq of the log at the last decision */
    size_t n_loaded;        /* the first so many were there before this run */
    bool is_loaded;
    int64_t turn_started_us;
    bool is_over_time;
    bool is_provisioning;  /* the tool that is under way */
    bool is_frozen;        /* by an incident: the turn ends */
    const char *frozen_by; /* its kind */
    bool is_dropped;       /* free as soon as nothing is under way */
    bool was_renewed;      /* a renewal that covers it is under way */
    bool wants_healing;    /* its turn was begun by a brain that is gone */
    bool wants_reload;     /* the log in the database has more than ours */

    struct brain_batch staged; /* decided on, and at the end of the log */
    bool begins;               /* the turn begins with them */
    /* The write that is under way, kept until it is known to have happened;
     * the first `n_kept` of it were staged. */
    struct brain_batch writing;
    enum brain_write write;
    size_t n_kept;
    bool is_writing;
    int64_t seen;               /* END: last seq when the end was decided */
    struct brain_batch closing; /* the turn's last events */
    bool is_destroying;         /* the sandbox, before they are written */
    struct ag_timer retry;

    struct brain_budget budget;
    struct brain_spent spent;
    bool is_over_active; /* the budget's time ran out in this turn */

    struct ag_timer turn_timer;
    struct brain_times times;
    struct brain_workload *workload; /* NULL: the driver asks no model */
    void *driver;
    struct brain_tool *tool;
};

struct brain_runs {
    struct brain *brain;
    struct brain_run *all; /* hash by session */
    struct ag_timer renew, reap;
    bool has_claimed; /* the first claim also takes back what was ours */
    bool is_stopping;
    int n_releases;
    void (*stopped)(void *arg);
    void *stopped_arg;
};

struct brain_run *brain_run_find(struct brain *brain, ag_str_t session);
struct brain_claim {
    ag_str_t tenant, session;
    int64_t fence, turn_started_us;
    const struct ag_db_result *res; /* or NULL: it has to be read */
    int col; /* of `res`, where brain_store_read_run's rows begin */
};
/* A claimed run begins: reads what it needs and goes on. */
void brain_run_start(struct brain *brain, const struct brain_claim *claim);
/* Another brain has it, or the session has ended. */
void brain_run_lose(struct brain_run *run, const char *why);
/* Stop what is under way; what the turn then does is decided as always. */
void brain_run_interrupt(struct brain_run *run);
/* Something that was under way is over: choose the next step. */
void brain_run_next(struct brain_run *run);
/* The one function that changes state. */
void brain_run_enter(struct brain_run *run, enum brain_run_state next);

/* End the turn because of a limit, behind `events`, which are taken over. */
bool brain_run_pause(struct brain_run *run, enum brain_limit limit,
                     bool is_hard, json_t **events, size_t n);
/* Milliseconds of turns that the budget leaves; -1 without that limit. */
int64_t brain_run_active_left(const struct brain_run *run);
/* Seconds of commands that the budget leaves, at least 1; -1 without. */
int64_t brain_run_sandbox_left(const struct brain_run *run);
/* As brain_run_end_turn, with a whole stop_reason, taken over. */
void brain_run_end_with(struct brain_run *run, json_t **events, size_t n,
                        json_t *stop_reason);

void brain_batch_release(struct brain_batch *b);
/* The turn begins: as brain_run_append, and the session is running. */
void brain_run_begin(struct brain_run *run, json_t *running);
/* There was nothing to do, not even a turn. */
void brain_run_end_nothing(struct brain_run *run);
/* For a replay, while it stores: only the first `n` are, and none of an end's
 * own. The run decides anew behind them. */
void brain_run_cut(struct brain_run *run, size_t n);

/* The turn is over: to the log and the traces; its end `idle` to the metrics.
 */
void brain_run_tell(const struct brain_run *run);
void brain_run_count(const struct brain_run *run, const json_t *idle);
/* Out of the table, and freed. */
void brain_run_free(struct brain_run *run);
/* It is over and freed; when it was claimed again meanwhile, it begins anew. */
void brain_run_gone(struct brain_run *run);
/* True when the run was dropped; it is freed as soon as nothing is under way.
 */
bool brain_run_dropped(struct brain_run *run);
/* The turn's time limit, counted from turn_started_us (0: now). */
void brain_run_set_turn_timer(struct brain_run *run);

/* Read the pinned agent and the log; or take both from a result. */
void brain_run_read(struct brain_run *run);
void
brain_run_take(struct brain_run *run, const struct ag_db_result *res, int col);
/* Read what the log in memory does not have. */
void brain_run_load(struct brain_run *run);
void brain_run_load_live(struct brain_run *run);
/* The log is there: go on. */
void brain_run_loaded(struct brain_run *run);

/* Claim the runs that wait, or one session's ("" is any). */
void brain_lease_claim(struct brain_runs *runs, ag_str_t session);
void brain_lease_begin(struct brain_runs *runs);
void
brain_lease_release(struct brain_runs *runs, ag_str_t session, int64_t fence);

/* Run the tool call of this event; ends in brain_run_append with its result. */
void brain_tool_start(struct brain_run *run, const struct brain_event *event);
/* Stop it: the result says so. */
void brain_tool_cancel(struct brain_run *run);
void brain_tool_free(struct brain_run *run);
/* Destroy the session's sandbox, then call `done(run)`. */
void
brain_tool_end_turn(struct brain_run *run, void (*done)(struct brain_run *run));

#endif
