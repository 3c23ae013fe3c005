/*
 * What drivers see of a run, and the table of drivers.
 */
#include "brain_svc/brain_run_internal.h"

struct brain *
brain_run_brain(const struct brain_run *run)
{
    return run->brain;
}

ag_str_t
brain_run_session(const struct brain_run *run)
{
    return ag_str(run->session);
}

ag_str_t
brain_run_system(const struct brain_run *run)
{
    return run->system;
}

ag_str_t
brain_run_model(const struct brain_run *run)
{
    return run->model;
}

ag_str_t
brain_run_wire(const struct brain_run *run)
{
    return run->wire;
}

const struct brain_tools *
brain_run_tools(const struct brain_run *run)
{
    return run->tools;
}

bool
brain_run_is_inherited(const struct brain_run *run, size_t index)
{
    return index < run->n_loaded;
}

int
brain_run_max_steps(const struct brain_run *run)
{
    return run->max_steps;
}

const struct brain_log *
brain_run_log(const struct brain_run *run)
{
    return &run->log;
}

size_t
brain_run_turn(const struct brain_run *run)
{
    return run->turn.start;
}

struct brain_workload *
brain_run_workload(const struct brain_run *run)
{
    return run->workload;
}

void
brain_run_spent_vault(struct brain_run *run, int64_t us)
{
    run->times.vault_us += us;
}

void
brain_run_thinking(struct brain_run *run)
{
    brain_run_enter(run, BRAIN_RUN_THINKING);
}

void
brain_run_set_driver(struct brain_run *run, void *driver)
{
    run->driver = driver;
}

void *
brain_run_driver(const struct brain_run *run)
{
    return run->driver;
}

const struct brain_harness *
brain_harness_at(size_t i)
{
    static const struct brain_harness *const all[] = {&brain_harness_native,
                                                      &brain_harness_runbook};

    return i < sizeof(all) / sizeof(all[0]) ? all[i] : NULL;
}

const struct brain_harness *
brain_harness_find(ag_str_t name)
{
    const struct brain_harness *h;

    for (size_t i = 0; (h = brain_harness_at(i)) != NULL; i++)
        if (ag_str_is(name, h->name))
            return h;
    return NULL;
}
