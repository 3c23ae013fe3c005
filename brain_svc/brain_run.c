/*
 * The run: its states, its time limit, and its end. What it decides is in
 * brain_run_decide.c, what it writes in brain_run_write.c. All on the loop's
 * thread.
 */
#include "brain_svc/brain_run_internal.h"

#include <stdlib.h>

#include "brain_svc/brain_io.h"
#include "brain_svc/brain_warm.h"
#include "lib/clock.h"

/* ---- states ------------------------------------------------------------ */

#define S(x) (1u << BRAIN_RUN_##x)

static const struct {
    const char *name;
    unsigned to; /* states that may follow */
} states[] = {
    [BRAIN_RUN_LOADING] = {"loading", S(DECIDING) | S(GONE)},
    [BRAIN_RUN_DECIDING] = {"deciding", S(THINKING) | S(TOOL) | S(RECORDING)
                                            | S(ENDING) | S(LOADING) | S(GONE)},
    [BRAIN_RUN_THINKING] = {"thinking",
                            S(ENDING) | S(DECIDING) | S(RECORDING) | S(GONE)},
    [BRAIN_RUN_TOOL] = {"tool", S(DECIDING) | S(GONE)},
    [BRAIN_RUN_RECORDING] = {"recording", S(DECIDING) | S(GONE)},
    [BRAIN_RUN_ENDING] = {"ending", S(LOADING) | S(DECIDING) | S(GONE)},
    [BRAIN_RUN_GONE] = {"gone", 0},
};

/* The state is left: what it was busy with gets its time. */
static void
count_time(struct brain_run *run)
{
    int64_t now = ag_mono_us(), took = now - run->times.entered_us;

    run->times.entered_us = now;
    if (run->state == BRAIN_RUN_THINKING)
        run->times.model_us += took;
    else if (run->state == BRAIN_RUN_TOOL && run->is_provisioning)
        run->times.provision_us += took;
    else if (run->state == BRAIN_RUN_TOOL)
        run->times.execute_us += took;
}

void
brain_run_enter(struct brain_run *run, enum brain_run_state next)
{
    ag_assert(states[run->state].to & 1u << next);
    ag_log(AG_DEBUG, "run.entered", AG_S("session", run->session),
           AG_S("from", states[run->state].name),
           AG_S("to", states[next].name));
    count_time(run);
    run->state = next;
}

void
brain_run_free(struct brain_run *run)
{
    struct brain *brain = run->brain;

    ag_timer_stop(brain->loop, &run->retry);
    ag_timer_stop(brain->loop, &run->turn_timer);
    HASH_DEL(brain->runs->all, run);
    brain_batch_release(&run->staged);
    brain_batch_release(&run->writing);
    brain_batch_release(&run->closing);
    brain_log_release(&run->log);
    brain_tools_free(run->tools);
    if (run->is_dropped)
        brain_workload_free(run->workload);
    else
        brain_warm_give(brain->warm, run->tenant, ag_str(run->session),
                        run->workload);
    ag_arena_free(run->arena);
    free(run);
}

struct brain_run *
brain_run_find(struct brain *brain, ag_str_t session)
{
    struct brain_run *run;

    HASH_FIND(hh, brain->runs->all, session.p, session.n, run);
    return run;
}

/*
 * Nobody may go on with it. What is under way (a query, a call) still comes
 * back and frees it then.
 */
void
brain_run_lose(struct brain_run *run, const char *why)
{
    if (run->is_dropped)
        return;
    ag_log(AG_INFO, "run.dropped", AG_S("session", run->session),
           AG_S("reason", why), AG_S("state", states[run->state].name));
    run->is_dropped = true;
    if (run->state == BRAIN_RUN_THINKING)
        run->harness->cancel(run);
    else if (run->state == BRAIN_RUN_TOOL)
        run->brain->io->tool_free(run);
    else if (run->retry.slot == 0)
        return;
    ag_timer_stop(run->brain->loop, &run->retry);
    (void)brain_run_dropped(run);
}

bool
brain_run_dropped(struct brain_run *run)
{
    if (!run->is_dropped)
        return false;
    if (!run->is_writing && !run->is_destroying)
        brain_run_gone(run);
    return true;
}

/* ---- time ------------------------------------------------------------- */

static void
turn_over_time(struct ag_timer *timer)
{
    struct brain_run *run =
        (struct brain_run *)((char *)timer
                             - offsetof(struct brain_run, turn_timer));

    run->is_over_time = true;
    run->is_over_active = brain_run_active_left(run) == 0;
    brain_run_interrupt(run);
}

void
brain_run_set_turn_timer(struct brain_run *run)
{
    int64_t now = ag_now_us(), spent, left, active;

    if (run->turn_started_us == 0)
        run->turn_started_us = now;
    spent = (now - run->turn_started_us) / 1000;
    run->turn_timer.fn = turn_over_time;
    left = spent >= run->turn_ms ? 0 : run->turn_ms - spent;
    active = brain_run_active_left(run);
    if (active >= 0 && active < left)
        left = active;
    ag_timer_start(run->brain->loop, &run->turn_timer, left);
}
