/*
 * Leases: which runs are this brain's. Claiming, renewing, giving back. A
 * brain that dies stops renewing; another claims after `lease_ms`. What this
 * brain held before it was restarted it takes back at once.
 *
 * Brains hear of each other by notification: of a run that is free, and of a
 * user's event for a run that another holds. A slow poll finds the runs of the
 * dead, and what a notification did not tell.
 */
#include "brain_svc/brain_run_internal.h"

#define CLAIM_AT_ONCE 64

static void
claimed(void *arg, const struct ag_db_result *res, const struct ag_err *err)
{
    struct brain_runs *runs = arg;

    if (err != NULL) {
        ag_log(AG_WARN, "lease.claim_failed", AG_E(err));
        return;
    }
    runs->has_claimed = true;
    for (int i = 0; i < ag_db_rows(res); i++)
        brain_run_start(runs->brain,
                        &(struct brain_claim){
                            .tenant = ag_db_get(res, i, 0),
                            .session = ag_db_get(res, i, 1),
                            .fence = ag_db_get_int(res, i, 2),
                            .turn_started_us = ag_db_get_int(res, i, 3),
                        });
}

void
brain_lease_claim(struct brain_runs *runs, ag_str_t session)
{
    const struct brain_conf *conf = &runs->brain->conf;

    ag_db_query(runs->brain->db, AG_STR(""),
                "SELECT * FROM brain.run_claim($1, $2::bigint, $3, $4::int, "
                "$5::bool)",
                (struct ag_db_param[]){
                    ag_db_str(ag_str(conf->instance)),
                    ag_db_int(conf->lease_ms), ag_db_str(session),
                    ag_db_int(CLAIM_AT_ONCE),
                    ag_db_bool(!runs->has_claimed && session.n == 0)},
                5, claimed, runs);
}

static void
reap(struct ag_timer *timer)
{
    struct brain_runs *runs =
        (struct brain_runs *)((char *)timer
                              - offsetof(struct brain_runs, reap));

    if (ag_db_is_up(runs->brain->db))
        brain_lease_claim(runs, AG_STR(""));
    ag_timer_start(runs->brain->loop, timer, runs->brain->conf.claim_poll_ms);
}

/* "free SESSION", "told SESSION SEQ", "stop SESSION SEQ", or "halt TENANT
 * SESSION". */
static void
notified(void *arg, ag_str_t payload)
{
    struct brain_runs *runs = arg;
    struct brain_run *run, *next;
    ag_str_t kind, session;
    int64_t seq = 0;

    if (runs->is_stopping)
        return;
    if (payload.p == NULL) {
        /* Something may have been missed. */
        HASH_ITER (hh, runs->all, run, next)
            run->wants_reload = true;
        brain_lease_claim(runs, AG_STR(""));
        return;
    }
    if (!ag_str_cut(&payload, ' ', &kind)
        || !ag_str_cut(&payload, ' ', &session))
        return;
    if (ag_str_is(kind, "halt")) {
        brain_run_halt(runs->brain, session, payload);
        return;
    }
    if (ag_str_is(kind, "free")) {
        brain_lease_claim(runs, session);
        return;
    }
    run = brain_run_find(runs->brain, session);
    if (run == NULL || ag_str_i64(payload, &seq) < 0
        || brain_log_last(&run->log) >= seq)
        return;
    run->wants_reload = true;
    if (ag_str_is(kind, "stop"))
        brain_run_interrupt(run);
}

/* The rows are the sessions that are still ours; all others are lost. */
static void
renewed(void *arg, const struct ag_db_result *res, const struct ag_err *err)
{
    struct brain_runs *runs = arg;
    struct brain_run *run, *next;

    if (err != NULL) {
        ag_log(AG_WARN, "lease.renew_failed", AG_E(err));
        return;
    }
    HASH_ITER (hh, runs->all, run, next) {
        bool is_ours = !run->was_renewed;

        for (int i = 0; i < ag_db_rows(res) && !is_ours; i++)
            is_ours = ag_str_is(ag_db_get(res, i, 0), run->session);
        run->was_renewed = false;
        if (!is_ours)
            brain_run_lose(run, "the lease was taken over");
    }
}

static void
renew(struct ag_timer *timer)
{
    struct brain_runs *runs =
        (struct brain_runs *)((char *)timer
                              - offsetof(struct brain_runs, renew));
    AG_AUTO(ag_buf_release) struct ag_buf ids = AG_BUF_INIT(1 << 24);
    AG_AUTO(ag_buf_release) struct ag_buf fences = AG_BUF_INIT(1 << 24);
    const struct brain_conf *conf = &runs->brain->conf;
    struct brain_run *run, *next;

    ag_timer_start(runs->brain->loop, timer, conf->lease_ms / 3);
    if (runs->all == NULL || !ag_db_is_up(runs->brain->db))
        return;
    HASH_ITER (hh, runs->all, run, next) {
        ag_buf_addf(&ids, "%c%s", ids.n == 0 ? '{' : ',', run->session);
        ag_buf_addf(&fences, "%c%lld", fences.n == 0 ? '{' : ',',
                    (long long)run->fence);
        run->was_renewed = true;
    }
    ag_buf_addc(&ids, '}');
    ag_buf_addc(&fences, '}');
    ag_db_query(runs->brain->db, AG_STR(""),
                "SELECT brain.run_renew($1, $2::bigint, $3::text[], "
                "$4::bigint[])",
                (struct ag_db_param[]){ag_db_str(ag_str(conf->instance)),
                                       ag_db_int(conf->lease_ms),
                                       ag_db_str(ag_buf_str(&ids)),
                                       ag_db_str(ag_buf_str(&fences))},
                4, renewed, runs);
}

void
brain_lease_begin(struct brain_runs *runs)
{
    runs->renew.fn = renew;
    runs->reap.fn = reap;
    ag_timer_start(runs->brain->loop, &runs->renew,
                   runs->brain->conf.lease_ms / 3);
    ag_timer_start(runs->brain->loop, &runs->reap, 0);
    ag_db_listen(runs->brain->db, "LISTEN brain_runs", notified, runs);
}

static void
released(void *arg, const struct ag_db_result *res, const struct ag_err *err)
{
    struct brain_runs *runs = arg;

    (void)res;
    (void)err; /* the lease then runs out by itself */
    runs->n_releases--;
    if (runs->n_releases == 0 && runs->is_stopping && runs->stopped != NULL)
        runs->stopped(runs->stopped_arg);
}

void
brain_lease_release(struct brain_runs *runs, ag_str_t session, int64_t fence)
{
    runs->n_releases++;
    ag_db_query(
        runs->brain->db, AG_STR(""),
        "SELECT brain.run_release($1, $2, $3::bigint)",
        (struct ag_db_param[]){ag_db_str(ag_str(runs->brain->conf.instance)),
                               ag_db_str(session), ag_db_int(fence)},
        3, released, runs);
}
