/*
 * A run begins: the pinned agent and the session's log are read, and read again
 * while the database is away. On the loop's thread.
 */
#include "brain_svc/brain_run_internal.h"

#include "brain_svc/brain_io.h"

#define READ_ROWS 1000
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

static void
log_loaded(void *arg, const struct ag_db_result *res, const struct ag_err *err)
{
    struct brain_run *run = arg;
    struct ag_err bad;

    if (err != NULL) {
        load_failed(run, err);
        return;
    }
    for (int i = 0; i < ag_db_rows(res); i++) {
        AG_AUTO(ag_json_decref) json_t *body = NULL;

        body = ag_json_parse(ag_db_get(res, i, 1), &bad);
        if (body == NULL) {
            ag_err_wrap(&bad, "event %lld",
                        (long long)ag_db_get_int(res, i, 0));
            bad.kind = AG_ERR_CORRUPT;
            load_failed(run, &bad);
            return;
        }
        brain_log_put(&run->log, ag_db_get_int(res, i, 0), body);
    }
    if (brain_run_dropped(run))
        return;
    if (ag_db_rows(res) == READ_ROWS) {
        brain_run_load(run);
        return;
    }
    brain_run_loaded(run);
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
                     brain_log_whole(&run->log), READ_ROWS, log_loaded, run);
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
agent_load_again(struct ag_timer *timer)
{
    brain_run_load_agent((
        struct brain_run *)((char *)timer - offsetof(struct brain_run, retry)));
}

/* What the session may use, and what it has used: columns 9 to 16. */
static int
load_budget(struct brain_run *run, const struct ag_db_result *res,
            struct ag_err *err)
{
    /* A replay takes from the log where a limit was met. */
    ag_str_t budget =
        run->brain->replay == NULL ? ag_db_get(res, 0, 9) : AG_STR("");

    if (brain_budget_parse(budget, &run->budget, err) < 0) {
        err->kind = AG_ERR_CORRUPT;
        return -1;
    }
    for (int i = 0; i < BRAIN_LIMITS; i++)
        run->spent.at[i] = ag_db_get_int(res, 0, 10 + i);
    run->spent.n_unpriced = ag_db_get_int(res, 0, 15);
    run->spent.asked = ag_db_get_int(res, 0, 16);
    return 0;
}

static void
agent_loaded(void *arg, const struct ag_db_result *res,
             const struct ag_err *err)
{
    AG_AUTO(ag_json_decref) json_t *model = NULL;
    struct brain_run *run = arg;
    struct ag_err bad;

    if (err != NULL && err->kind == AG_ERR_UNAVAILABLE && !run->is_dropped) {
        run->retry.fn = agent_load_again;
        ag_timer_start(run->brain->loop, &run->retry, RETRY_MS);
        return;
    }
    if (err != NULL || ag_db_rows(res) == 0) {
        ag_err_set(&bad, AG_ERR_NOT_FOUND, "the session is gone");
        load_failed(run, err != NULL ? err : &bad);
        return;
    }
    run->harness = brain_harness_find(ag_db_get(res, 0, 0));
    model = ag_json_parse(ag_db_get(res, 0, 1), &bad);
    run->model =
        ag_arena_copy(run->arena, ag_json_str(json_object_get(model, "id")));
    run->wire =
        ag_arena_copy(run->arena, ag_json_str(json_object_get(model, "wire")));
    run->system = ag_arena_copy(run->arena, ag_db_get(res, 0, 2));
    run->max_steps = (int)ag_db_get_int(res, 0, 3);
    run->turn_ms = ag_db_get_int(res, 0, 4) * 1000;
    run->environment_id = ag_arena_copy(run->arena, ag_db_get(res, 0, 5));
    brain_tools_free(run->tools);
    run->tools = brain_tools_new(ag_db_get(res, 0, 7), &bad);
    if (run->tools == NULL) {
        bad.kind = AG_ERR_CORRUPT;
        load_failed(run, &bad);
        return;
    }
    if (run->harness == NULL) {
        ag_err_set(&bad, AG_ERR_CORRUPT, "unknown harness in the database");
        load_failed(run, &bad);
        return;
    }
    /* What was summed up is not read, nor are turns that no one looks at; but
     * this turn is, as a whole. */
    run->log.base = ag_db_get_int(res, 0, 6);
    if (run->harness->needs_history && run->log.base > ag_db_get_int(res, 0, 8))
        run->log.base = ag_db_get_int(res, 0, 8);
    if (ag_db_get_bool(res, 0, 17) && run->brain->replay == NULL) {
        run->is_frozen = true;
        run->frozen_by = BRAIN_STOPPED;
    }
    if (load_budget(run, res, &bad) < 0) {
        load_failed(run, &bad);
        return;
    }
    if (run->workload == NULL && run->harness->asks_model
        && run->brain->conf.model_base_url[0] != '\0')
        run->workload =
            run->brain->io->workload_new(run->brain, ag_str(run->session));
    brain_run_set_turn_timer(run);
    brain_run_load(run);
}

void
brain_run_load_agent(struct brain_run *run)
{
    ag_db_query(
        run->brain->db, run->tenant,
        "SELECT v.harness, v.model, v.system, v.max_steps, "
        "v.max_turn_seconds, s.environment_id, "
        /* where this turn begins, as brain_turn.h has it */
        "coalesce((SELECT e.seq FROM brain.event e "
        "WHERE e.session_id = s.id AND e.type = 'session.status_idle' "
        "AND e.body #>> '{stop_reason,type}' NOT IN ('requires_action', "
        "'budget_reached') "
        "ORDER BY e.seq DESC LIMIT 1), 0), v.tools, "
        /* what the last compaction kept begins behind this */
        "coalesce((SELECT (brain.plain(e.body) ->> 'brainbox.kept_seq')::bigint - 1 "
        "FROM brain.event e WHERE e.session_id = s.id "
        "AND e.type = 'agent.thread_context_compacted' "
        "ORDER BY e.seq DESC LIMIT 1), 0), "
        "s.budget, s.cost_nano_usd, s.input_tokens + s.output_tokens "
        "+ s.cache_read_tokens + s.cache_write_tokens, s.steps, "
        "s.active_us / 1000, s.sandbox_ms, s.unpriced_calls, s.budget_asked, "
        "brain.stop_reason(s.tenant, s.id) IS NOT NULL "
        "FROM brain.session s "
        "JOIN brain.agent_version v ON v.agent_id = s.agent_id "
        "AND v.version = s.agent_version WHERE s.id = $1",
        (struct ag_db_param[]){ag_db_str(ag_str(run->session))}, 1,
        agent_loaded, run);
}
