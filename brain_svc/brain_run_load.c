/*
 * A run begins: the pinned agent and the session's log are read, and read again
 * while the database is away. On the loop.
 */
#include "brain_svc/brain_run_internal.h"

#include "brain_svc/brain_io.h"

#define RETRY_MS 500

static void
load_again(struct ag_timer *timer)
{
    struct brain_run *run =
        (struct brain_run *)((char *)timer - offsetof(struct brain_run, retry));

    brain_run_load(run);
}

static void
load_failed(struct brain_run *run, const struct ag_err *err)
{
    if (run->is_dropped || err->kind != AG_ERR_UNAVAILABLE) {
        ag_log(AG_ERROR, "run.load_failed", AG_S("session", run->session),
               AG_E(err));
        run->is_dropped = true;
        (void)brain_run_dropped(run);
        return;
    }
    run->retry.fn = load_again;
    ag_timer_start(run->brain->loop, &run->retry, RETRY_MS);
}

/* Rows with `seq` and `body` at this column, from row `i` on. */
static int
take_log(struct brain_run *run, const struct ag_db_result *res, int i, int col,
         struct ag_err *err)
{
    for (; i < ag_db_rows(res); i++) {
        AG_AUTO(ag_json_decref) json_t *body = NULL;
        int64_t seq = ag_db_get_int(res, i, col);

        body = ag_json_parse(ag_db_get(res, i, col + 1), err);
        if (body == NULL) {
            ag_err_wrap(err, "event %lld", (long long)seq);
            err->kind = AG_ERR_CORRUPT;
            return -1;
        }
        brain_log_put(&run->log, seq, body);
    }
    return 0;
}

/* So many events were read: there may be more. */
static void
log_taken(struct brain_run *run, int n)
{
    if (brain_run_dropped(run))
        return;
    if (n == BRAIN_READ_ROWS)
        brain_run_load(run);
    else
        brain_run_loaded(run);
}

static void
log_loaded(void *arg, const struct ag_db_result *res, const struct ag_err *err)
{
    struct brain_run *run = arg;
    struct ag_err bad;

    if (err == NULL && take_log(run, res, 0, 0, &bad) < 0)
        err = &bad;
    if (err != NULL)
        load_failed(run, err);
    else
        log_taken(run, ag_db_rows(res));
}

void
brain_run_loaded(struct brain_run *run)
{
    if (!run->is_loaded) {
        run->n_loaded = run->log.n;
        brain_turn_find(&run->log, &run->turn);
        run->wants_healing = run->turn.has_begun;
    }
    ag_log(AG_DEBUG, "run.loaded", AG_S("session", run->session),
           AG_I("events", (int64_t)run->log.n));
    run->is_loaded = true;
    brain_run_next(run);
}

void
brain_run_load_live(struct brain_run *run)
{
    brain_store_read(run->brain, run->tenant, ag_str(run->session),
                     brain_log_whole(&run->log), BRAIN_READ_ROWS, log_loaded,
                     run);
}

/* Read what the log in memory does not have. */
void
brain_run_load(struct brain_run *run)
{
    if (run->state != BRAIN_RUN_LOADING)
        brain_run_enter(run, BRAIN_RUN_LOADING);
    run->brain->io->load(run);
}

static void
read_again(struct ag_timer *timer)
{
    brain_run_read((struct brain_run *)((char *)timer
                                        - offsetof(struct brain_run, retry)));
}

/* What the session may use, and what it has used. */
static int
take_budget(struct brain_run *run, const struct ag_db_result *res, int col,
            struct ag_err *err)
{
    static const int columns[] = {
        [BRAIN_LIMIT_COST] = BRAIN_COL_COST,
        [BRAIN_LIMIT_TOKENS] = BRAIN_COL_TOKENS,
        [BRAIN_LIMIT_STEPS] = BRAIN_COL_STEPS,
        [BRAIN_LIMIT_ACTIVE] = BRAIN_COL_ACTIVE_MS,
        [BRAIN_LIMIT_SANDBOX] = BRAIN_COL_SANDBOX_MS,
    };
    /* A replay takes from the log where a limit was met. */
    ag_str_t budget = run->brain->replay == NULL
                          ? ag_db_get(res, 0, col + BRAIN_COL_BUDGET)
                          : AG_STR("");

    if (brain_budget_parse(budget, &run->budget, err) < 0) {
        err->kind = AG_ERR_CORRUPT;
        return -1;
    }
    for (int i = 0; i < BRAIN_LIMITS; i++)
        run->spent.at[i] = ag_db_get_int(res, 0, col + columns[i]);
    run->spent.n_unpriced = ag_db_get_int(res, 0, col + BRAIN_COL_UNPRICED);
    run->spent.asked = ag_db_get_int(res, 0, col + BRAIN_COL_ASKED);
    return 0;
}

static int
take_agent(struct brain_run *run, const struct ag_db_result *res, int col,
           struct ag_err *err)
{
    AG_AUTO(ag_json_decref) json_t *model = NULL;

    run->harness =
        brain_harness_find(ag_db_get(res, 0, col + BRAIN_COL_HARNESS));
    if (run->harness == NULL)
        return ag_err_set(err, AG_ERR_CORRUPT,
                          "unknown harness in the database");
    model = ag_json_parse(ag_db_get(res, 0, col + BRAIN_COL_MODEL), err);
    run->model =
        ag_arena_copy(run->arena, ag_json_str(json_object_get(model, "id")));
    run->wire =
        ag_arena_copy(run->arena, ag_json_str(json_object_get(model, "wire")));
    run->system =
        ag_arena_copy(run->arena, ag_db_get(res, 0, col + BRAIN_COL_SYSTEM));
    run->max_steps = (int)ag_db_get_int(res, 0, col + BRAIN_COL_MAX_STEPS);
    run->turn_ms =
        ag_db_get_int(res, 0, col + BRAIN_COL_MAX_TURN_SECONDS) * 1000;
    run->environment_id = ag_arena_copy(
        run->arena, ag_db_get(res, 0, col + BRAIN_COL_ENVIRONMENT));
    brain_tools_free(run->tools);
    run->tools = brain_tools_new(ag_db_get(res, 0, col + BRAIN_COL_TOOLS), err);
    if (run->tools == NULL) {
        err->kind = AG_ERR_CORRUPT;
        return -1;
    }
    /* What was summed up is not read, nor are turns that no one looks at; but
     * this turn is, as a whole. */
    run->log.base = ag_db_get_int(res, 0, col + BRAIN_COL_BASE);
    if (ag_db_get_bool(res, 0, col + BRAIN_COL_IS_STOPPED)
        && run->brain->replay == NULL) {
        run->is_frozen = true;
        run->frozen_by = BRAIN_STOPPED;
    }
    return take_budget(run, res, col, err);
}

void
brain_run_take(struct brain_run *run, const struct ag_db_result *res, int col)
{
    struct brain *brain = run->brain;
    struct ag_err err;

    if (ag_db_rows(res) == 0 || ag_db_is_null(res, 0, col)) {
        ag_err_set(&err, AG_ERR_NOT_FOUND, "the session is gone");
        load_failed(run, &err);
        return;
    }
    if (take_agent(run, res, col, &err) < 0
        || take_log(run, res, 1, col + BRAIN_COL_SEQ, &err) < 0) {
        load_failed(run, &err);
        return;
    }
    if (run->workload == NULL && run->harness->asks_model
        && brain->conf.model_base_url[0] != '\0')
        run->workload = brain->io->workload_new(brain, ag_str(run->session));
    brain_run_set_turn_timer(run);
    if (brain->replay == NULL)
        log_taken(run, ag_db_rows(res) - 1);
    else
        brain_run_load(run);
}

static void
run_read(void *arg, const struct ag_db_result *res, const struct ag_err *err)
{
    struct brain_run *run = arg;

    if (err == NULL) {
        brain_run_take(run, res, 0);
    } else if (err->kind == AG_ERR_UNAVAILABLE && !run->is_dropped) {
        run->retry.fn = read_again;
        ag_timer_start(run->brain->loop, &run->retry, RETRY_MS);
    } else {
        load_failed(run, err);
    }
}

void
brain_run_read(struct brain_run *run)
{
    brain_store_read_run(run->brain, run->tenant, ag_str(run->session),
                         run->brain->replay == NULL ? BRAIN_READ_ROWS : 0,
                         run_read, run);
}
