/* The live table. */
#include "brain_svc/brain_io.h"

#include <stdlib.h>

#include "brain_svc/brain_run_internal.h"

struct storing {
    brain_stored *done;
    void *arg;
};

static void
stored(void *arg, const struct ag_db_result *res, const struct ag_err *err)
{
    struct storing s = *(struct storing *)arg;

    free(arg);
    s.done(s.arg, err == NULL ? ag_db_get_int(res, 0, 0) : 0, err);
}

static void
store(struct brain *brain, const struct brain_append *append,
      brain_stored *done, void *arg)
{
    struct storing *s = ag_xmalloc(sizeof(*s));

    *s = (struct storing){done, arg};
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
    .model_start = brain_model_start,
    .model_cancel = brain_model_cancel,
    .tool_start = brain_tool_start,
    .tool_cancel = brain_tool_cancel,
    .tool_free = brain_tool_free,
    .tool_end_turn = brain_tool_end_turn,
    .claim = brain_lease_claim,
};
