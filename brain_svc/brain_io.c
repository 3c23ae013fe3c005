/* The live table. */
#include "brain_svc/brain_io.h"

#include <stdio.h>
#include <stdlib.h>

#include "brain_svc/brain_group.h"
#include "brain_svc/brain_run_internal.h"
#include "brain_svc/brain_warm.h"

struct storing {
    struct brain *brain;
    ag_str_t tenant; /* the run's, which waits for `done` */
    char session[AG_ID_TEXT], id[AG_ID_TEXT];
    brain_stored *done;
    void *arg;
};

static void
finish(struct storing *s, int64_t first, const struct ag_err *err)
{
    brain_stored *done = s->done;
    void *arg = s->arg;

    free(s);
    done(arg, first, err);
}

static void
found(void *arg, const struct ag_db_result *res, const struct ag_err *err)
{
    struct ag_err taken = {AG_ERR_EXISTS, 0, "an event's id is taken"};

    if (err != NULL)
        finish(arg, 0, err);
    else if (ag_db_rows(res) == 0)
        finish(arg, 0, &taken);
    else
        finish(arg, ag_db_get_int(res, 0, 0), NULL);
}

/* Written before, by a try whose answer was lost: it has its seq. */
static void
grouped(void *arg, int64_t first, const struct ag_err *err)
{
    struct storing *s = arg;

    if (err == NULL)
        finish(s, first, NULL);
    else if (err->kind != AG_ERR_EXISTS)
        finish(s, 0, err);
    else
        brain_store_find(s->brain, s->tenant, ag_str(s->session), ag_str(s->id),
                         found, s);
}

static void
stored(void *arg, const struct ag_db_result *res, const struct ag_err *err)
{
    grouped(arg, err == NULL ? ag_db_get_int(res, 0, 0) : 0, err);
}

static void
store(struct brain *brain, const struct brain_append *append,
      brain_stored *done, void *arg)
{
    struct storing *s = ag_xcalloc(1, sizeof(*s));

    s->brain = brain;
    s->tenant = append->tenant;
    s->done = done;
    s->arg = arg;
    memcpy(s->session, append->session.p, append->session.n);
    if (append->n > 0)
        (void)snprintf(s->id, sizeof(s->id), "%s",
                       brain_event_id(append->events[0]));
    if (append->how == BRAIN_WRITE_APPEND)
        brain_group_append(brain->group, append, grouped, s);
    else
        brain_store_append(brain, append, stored, s);
}

static bool
affords(const struct brain_run *run, const struct brain_spent *reserve,
        enum brain_limit *limit, bool *is_hard)
{
    return brain_budget_allows(&run->budget, &run->spent, reserve, limit,
                               is_hard);
}

const struct brain_io brain_io_live = {
    .affords = affords,
    .load = brain_run_load_live,
    .store = store,
    .workload_new = brain_warm_take,
    .model_start = brain_model_start,
    .model_release = brain_model_release,
    .model_cancel = brain_model_cancel,
    .tool_start = brain_tool_start,
    .tool_cancel = brain_tool_cancel,
    .tool_free = brain_tool_free,
    .tool_end_turn = brain_tool_end_turn,
    .claim = brain_lease_claim,
};
