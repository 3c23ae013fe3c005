/*
 * Runs: sessions that are doing something now.
 *
 * A run is held under a lease, knows the session's log, and is in one state.
 * Its driver (brain_harness.h) takes the next step; the functions here are what
 * a driver may do. A run is freed by brain_run.c alone.
 */
#ifndef BRAIN_RUN_H
#define BRAIN_RUN_H

#include "brain_svc/brain.h"
#include "brain_svc/brain_budget.h"
#include "brain_svc/brain_harness.h"
#include "brain_svc/brain_log.h"
#include "brain_svc/brain_tools.h"

enum brain_run_state {
    BRAIN_RUN_LOADING,   /* reading agent and log */
    BRAIN_RUN_DECIDING,  /* nothing is under way: choose the next step */
    BRAIN_RUN_THINKING,  /* the driver works (a model call) */
    BRAIN_RUN_TOOL,      /* a tool call is under way */
    BRAIN_RUN_RECORDING, /* events are being committed */
    BRAIN_RUN_ENDING,    /* the sandbox is being destroyed, the turn closed */
    BRAIN_RUN_GONE,      /* lease lost or session ended: freed once idle */
};

/* ---- for the services ---------------------------------------------------- */

struct brain_runs *brain_runs_new(struct brain *brain);
/* Gives every lease back; `done(arg)` when the database has answered. */
void
brain_runs_stop(struct brain_runs *runs, void (*done)(void *arg), void *arg);
void brain_runs_free(struct brain_runs *runs);
/* Runs under way. */
size_t brain_runs_count(const struct brain_runs *runs);

struct brain_append;
/* User events were stored, with brain_store_post's result: the session's run
 * goes on, or begins. */
void brain_run_posted(struct brain *brain, const struct brain_append *append,
                      const struct ag_db_result *res);
/* A run that is here hears of what was stored by another. */
void brain_run_told(struct brain *brain, ag_str_t session, int64_t first,
                    json_t *const *events, size_t n);
/* False while the service stops: then nothing is claimed. */
bool brain_runs_may_claim(const struct brain *brain);
/* The vault froze the session: its turn ends and says why. False when the
 * session has no turn here. */
bool brain_run_freeze(struct brain *brain, ag_str_t session, const char *kind);
/* What stands for an incident's kind when a person stopped the session. */
#define BRAIN_STOPPED "stopped"
/* A person stopped a session, or all of a tenant; "*" is any. */
void brain_run_halt(struct brain *brain, ag_str_t tenant, ag_str_t session);
/* The session has ended: stop what it does and forget it. */
void brain_run_drop(struct brain *brain, ag_str_t session);

/* ---- for drivers --------------------------------------------------------- */

struct brain *brain_run_brain(const struct brain_run *run);
ag_str_t brain_run_session(const struct brain_run *run);
/* The pinned agent. Views live as long as the run. */
ag_str_t brain_run_system(const struct brain_run *run);
ag_str_t brain_run_model(const struct brain_run *run);
/* The wire that the agent's model names; empty is the configured one. */
ag_str_t brain_run_wire(const struct brain_run *run);
const struct brain_tools *brain_run_tools(const struct brain_run *run);
int brain_run_max_steps(const struct brain_run *run);
const struct brain_log *brain_run_log(const struct brain_run *run);
/* Index in the log of the first event of this turn. */
size_t brain_run_turn(const struct brain_run *run);

/* The log's event `index` was there before this brain had the run. */
bool brain_run_is_inherited(const struct brain_run *run, size_t index);

struct brain_workload;
/* With which the run asks the model; lives as long as the run. */
struct brain_workload *brain_run_workload(const struct brain_run *run);
/* So much of the time it thought was the vault's. */
void brain_run_spent_vault(struct brain_run *run, int64_t us);
/* The driver has begun something and will come back. */
void brain_run_thinking(struct brain_run *run);
/* What the driver keeps for a step; NULL when none. */
void brain_run_set_driver(struct brain_run *run, void *driver);
void *brain_run_driver(const struct brain_run *run);

/*
 * Add events to the log (references are taken over), and go on. They are
 * committed, together with what is decided on next, before the run does
 * anything else.
 */
void brain_run_append(struct brain_run *run, json_t **events, size_t n);
/*
 * Before a driver does anything but these: true when all that was decided on is
 * committed. Else false: it is being written, and the driver is asked again.
 */
bool brain_run_settled(struct brain_run *run);
/*
 * Before a driver asks a model: as brain_run_settled, but also true while what
 * was decided on is being committed, unless a budget wants it reserved first.
 * The model's answer then waits for that (brain_run_is_storing,
 * brain_harness.stored).
 */
bool brain_run_may_ask(struct brain_run *run);
bool brain_run_is_storing(const struct brain_run *run);
/*
 * End the turn: destroy the sandbox, then commit `events` and
 * session.status_idle with {"type": stop_reason}. A user event that came
 * meanwhile makes the turn go on instead.
 */
void brain_run_end_turn(struct brain_run *run, json_t **events, size_t n,
                        const char *stop_reason);

bool brain_run_has_budget(const struct brain_run *run);
/*
 * May the session use `reserve`, too? When not, its turn is ended with
 * `events` (taken over then) and budget_reached, and false is returned.
 */
bool brain_run_affords(struct brain_run *run, const struct brain_spent *reserve,
                       json_t **events, size_t n);

/* A session.error event of the contract. */
json_t *
brain_error_event(const char *type, const char *retry_status, const char *fmt,
                  ...) __attribute__((format(printf, 3, 4)));

#endif
