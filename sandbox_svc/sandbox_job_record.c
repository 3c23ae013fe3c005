/*
 * The record of a start. What may have run before is recorded first: the
 * database says whether it is known. What cannot have run is noted in the
 * journal, and recorded while it runs.
 */
#include "sandbox_svc/sandbox_job.h"

#include <stdio.h>

#include "lib/clock.h"
#include "lib/log.h"
#include "sandbox_svc/sandbox_reply.h"

#define RECORD_RETRY_MS 1000

#define OF(member, p) \
    ((struct sandbox_job *)((char *)(p)-offsetof(struct sandbox_job, member)))

/* The call is known already: tell what became of it. */
static void
job_look_up(struct sandbox_job *job)
{
    struct ag_rpc_call *call;

    while ((call = sandbox_job_take_watcher(job)) != NULL)
        sandbox_reply_recorded(job->svc, call, job->tenant, job->session_id,
                               job->call_id, NULL);
    if (job->session != NULL)
        sandbox_session_job_done(job->session);
    sandbox_job_free(job);
}

static void
job_begin(struct sandbox_job *job)
{
    struct ag_err err = AG_ERR_INIT;

    job->begun_us = ag_mono_us();
    /* Cancelled, or the sandbox died, before it could start: it is recorded
     * as cancelled, and nothing has run. */
    if (job->session == NULL && job->reason == SANDBOX_REASON_NONE)
        job->reason = SANDBOX_REASON_CANCELLED;
    if (job->reason == SANDBOX_REASON_NONE
        && sandbox_job_launch(job, &err) == 0)
        return;
    if (err.kind != AG_ERR_NONE) {
        ag_log(AG_ERROR, "command.start_failed", AG_E(&err));
        job->reason = SANDBOX_REASON_LOST;
    }
    job->exit_code = -1;
    sandbox_job_finish(job);
}

/* ---- recorded first --------------------------------------------------- */

static void
on_started(struct sandbox_job *job, const struct ag_db_result *res,
           const struct ag_err *err)
{
    if (err != NULL) {
        if (job->session != NULL)
            sandbox_session_job_done(job->session);
        sandbox_job_fail(job, err);
        return;
    }
    if (ag_db_rows(res) == 0) {
        job_look_up(job);
        return;
    }
    /* It may have run before the machine went down. */
    if (!job->is_new && sandbox_journal_is_unsure(job->svc->journal))
        job->reason = SANDBOX_REASON_LOST;
    job_begin(job);
}

/* ---- noted first, recorded meanwhile --------------------------------- */

static void job_record(struct sandbox_job *job);

static void
on_record_retry(struct ag_timer *timer)
{
    job_record(OF(record, timer));
}

/* Until it is recorded the note stays, also beyond the end of the service. */
static void
on_noted_recorded(struct sandbox_job *job, const struct ag_db_result *res,
                  const struct ag_err *err)
{
    bool has_ended = job->state == SANDBOX_JOB_SAVING;

    if (err != NULL) {
        ag_log(AG_ERROR, "command.record_failed", AG_S("call", job->call_id),
               AG_E(err));
        if (has_ended && job->svc->is_stopping) {
            sandbox_job_fail(job, err);
        } else {
            job->is_recording = true;
            job->record.fn = on_record_retry;
            ag_timer_start(job->svc->loop, &job->record, RECORD_RETRY_MS);
        }
        return;
    }
    if (ag_db_rows(res) == 0)
        ag_log(AG_ERROR, "command.was_not_new", AG_S("call", job->call_id),
               AG_S("session", job->session_id));
    sandbox_journal_remove(job->svc->journal, job->note);
    job->note = -1;
    if (has_ended)
        sandbox_job_save(job);
}

static void
on_recorded(void *arg, const struct ag_db_result *res, const struct ag_err *err)
{
    struct sandbox_job *job = arg;

    job->is_recording = false;
    if (err == NULL && job->session != NULL)
        job->session->is_recorded = true;
    if (job->note >= 0)
        on_noted_recorded(job, res, err);
    else
        on_started(job, res, err);
}

static void
job_record(struct sandbox_job *job)
{
    struct ag_db *db = job->svc->db;

    job->is_recording = true;
    if (job->session != NULL && job->session->is_recorded)
        sandbox_store_start(db, &job->start, on_recorded, job);
    else
        sandbox_store_start_first(db, &job->start, ag_str(job->task),
                                  on_recorded, job);
}

static void
fill_note(struct sandbox_job *job)
{
    struct sandbox_note *n = &job->start;
    const struct sandbox_session *s = job->session;

    n->command_bytes = (int64_t)strlen(job->command);
    snprintf(n->tenant, sizeof(n->tenant), "%s", job->tenant);
    snprintf(n->call_id, sizeof(n->call_id), "%s", job->call_id);
    snprintf(n->session_id, sizeof(n->session_id), "%s", job->session_id);
    snprintf(n->sandbox_id, sizeof(n->sandbox_id), "%s", s->box->id);
    snprintf(n->environment_id, sizeof(n->environment_id), "%s",
             s->environment_id);
}

void
sandbox_job_record(struct sandbox_job *job, bool is_first)
{
    fill_note(job);
    if (is_first)
        job->note = sandbox_journal_add(job->svc->journal, &job->start);
    job_record(job);
    if (job->note >= 0)
        job_begin(job);
}
