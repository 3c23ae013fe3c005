/*
 * The end of a command: what is left in its pipes, what the kernel did to it,
 * the result, the answer to whoever waits, and the record.
 */
#include "sandbox_svc/sandbox_job.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>

#include "lib/clock.h"
#include "lib/log.h"
#include "sandbox_svc/sandbox_exec.h"
#include "sandbox_svc/sandbox_metrics.h"
#include "sandbox_svc/sandbox_reply.h"

/* What a command started and left behind may still hold its pipes. */
#define DRAIN_MS 200
/* Reads of 64 KiB at the end: a pipe holds one. */
#define DRAIN_READS 8
#define SAVE_RETRY_MS 1000
#define AFTER_MS 1
#define SAVE_TRIES 30

#define OF(member, p) \
    ((struct sandbox_job *)((char *)(p)-offsetof(struct sandbox_job, member)))

/* ---- the end --------------------------------------------------------- */

static void
answer(struct sandbox_job *job)
{
    struct ag_rpc_call *call;

    while ((call = sandbox_job_take_watcher(job)) != NULL)
        sandbox_reply_result(call, &job->result);
}

static void
on_saved(void *arg, const struct ag_db_result *res, const struct ag_err *err)
{
    struct sandbox_job *job = arg;

    (void)res;
    if (err != NULL) {
        ag_log(AG_ERROR, "command.save_failed", AG_S("call", job->call_id),
               AG_I("tries", job->save_tries), AG_E(err));
        if (job->save_tries >= SAVE_TRIES || job->svc->is_stopping)
            sandbox_job_fail(job, err);
        else
            ag_timer_start(job->svc->loop, &job->timer, SAVE_RETRY_MS);
        return;
    }
    /* Who asked again meanwhile. */
    job->result.is_recorded = true;
    answer(job);
    sandbox_job_free(job);
}

static void
on_save_retry(struct ag_timer *timer)
{
    sandbox_job_save(OF(timer, timer));
}

void
sandbox_job_save(struct sandbox_job *job)
{
    struct sandbox_call_key key = sandbox_job_key(job);

    job->save_tries++;
    job->timer.fn = on_save_retry;
    sandbox_store_finish(job->svc->db, &key, &job->result, on_saved, job);
}

static void
set_outcome(struct sandbox_job *job)
{
    static const struct {
        int outcome;
        const char *limit;
    } of[] = {
        [SANDBOX_REASON_NONE] = {SANDBOX_OUTCOME_EXITED, ""},
        [SANDBOX_REASON_TIMEOUT] = {SANDBOX_OUTCOME_TIMED_OUT, "wall_time"},
        [SANDBOX_REASON_CANCELLED] = {SANDBOX_OUTCOME_CANCELLED, ""},
        [SANDBOX_REASON_OUTPUT] = {SANDBOX_OUTCOME_LIMIT_REACHED, "output"},
        [SANDBOX_REASON_MEMORY] = {SANDBOX_OUTCOME_LIMIT_REACHED, "memory"},
        [SANDBOX_REASON_PIDS] = {SANDBOX_OUTCOME_LIMIT_REACHED, "pids"},
        [SANDBOX_REASON_DISK] = {SANDBOX_OUTCOME_LIMIT_REACHED, "disk"},
        [SANDBOX_REASON_OPEN_FILES] = {SANDBOX_OUTCOME_LIMIT_REACHED,
                                       "open_files"},
        [SANDBOX_REASON_CPU] = {SANDBOX_OUTCOME_EXITED, "cpu"},
        [SANDBOX_REASON_LOST] = {SANDBOX_OUTCOME_UNKNOWN, ""},
    };
    struct sandbox_result *r = &job->result;

    r->outcome = of[job->reason].outcome;
    r->limit = ag_str(of[job->reason].limit);
    r->exit_code = job->signal != 0 ? -1 : job->exit_code;
    r->signal = job->signal;
    r->wall_ms = (ag_mono_us() - job->begun_us) / 1000;
}

static void
set_output(struct sandbox_job *job)
{
    struct sandbox_result *r = &job->result;

    for (int i = 0; i < 2; i++) {
        struct sandbox_output *o = &job->streams[i].output;
        ag_buf_init(&job->text[i], (size_t)job->svc->limits.output_bytes
                                       + SANDBOX_OUTPUT_MARK);
        sandbox_output_text(o, &job->text[i]);
        if (!sandbox_output_is_truncated(o))
            continue;
        r->is_truncated = true;
        if (o->has_file && job->output_file[0] == 0)
            snprintf(job->output_file, sizeof(job->output_file),
                     "/workspace/.output/%s", job->streams[i].name);
    }
    r->out = ag_buf_str(&job->text[0]);
    r->err = ag_buf_str(&job->text[1]);
    r->output_file = ag_str(job->output_file);
}

/* Have a shell wait for the session's next command. */
static void
on_shell(struct ag_timer *timer)
{
    struct sandbox_session *s =
        (struct sandbox_session *)((char *)timer
                                   - offsetof(struct sandbox_session, shell));
    struct ag_err err = AG_ERR_INIT;

    if (s->job == NULL && sandbox_session_is_live(s)
        && sandbox_shell_start(s->box, ag_buf_str(&s->env), s->n_env, &err) < 0)
        ag_log(AG_WARN, "shell.start_failed", AG_S("session", s->id),
               AG_E(&err));
}

static const char *
outcome_name(int outcome)
{
    const ProtobufCEnumValue *v = protobuf_c_enum_descriptor_get_value(
        &agent__sandbox__v1__execute_result__outcome__descriptor, outcome);

    return v == NULL ? "unknown" : v->name;
}

/* The command is over, or its sandbox is. */
void
sandbox_job_finish(struct sandbox_job *job)
{
    struct sandbox_session *s = job->session;

    ag_timer_stop(job->svc->loop, &job->timer);
    ag_timer_stop(job->svc->loop, &job->watch);
    ag_timer_stop(job->svc->loop, &job->orphan);
    sandbox_job_close_pipes(job);
    set_output(job);
    sandbox_job_notice_limits(job);
    job->state = SANDBOX_JOB_SAVING;
    if (job->session != NULL)
        sandbox_session_job_done(job->session);
    job->session = NULL;
    set_outcome(job);
    for (int i = 0; i < 2; i++)
        sandbox_output_release(&job->streams[i].output);
    ag_metrics_add(job->svc->metrics, SANDBOX_METRIC_COMMANDS,
                   outcome_name((int)job->result.outcome), NULL, 1);
    ag_metrics_observe_us(job->svc->metrics, SANDBOX_METRIC_COMMAND_SECONDS,
                          NULL, NULL, job->result.wall_ms * 1000);
    ag_log(AG_INFO, "command.ended", AG_S("session", job->session_id),
           AG_S("call", job->call_id), AG_I("outcome", job->result.outcome),
           AG_I("exit_code", job->result.exit_code),
           AG_I("signal", job->result.signal), AG_V("limit", job->result.limit),
           AG_I("wall_ms", job->result.wall_ms));
    if (job->result.limit.n > 0)
        ag_log(AG_INFO, "limit.reached", AG_S("session", job->session_id),
               AG_S("call", job->call_id), AG_V("limit", job->result.limit));
    /* The caller need not wait for the record: a call whose end was not
     * recorded is UNKNOWN when it is repeated, and is not run again. */
    answer(job);
    /* The answer leaves first: what follows takes as long as it does. */
    job->timer.fn = on_save_retry;
    if (!job->is_recording)
        ag_timer_start(job->svc->loop, &job->timer, AFTER_MS);
    if (s != NULL) {
        s->shell.fn = on_shell;
        ag_timer_start(s->svc->loop, &s->shell, AFTER_MS);
    }
}

static void
on_drain_timeout(struct ag_timer *timer)
{
    struct sandbox_job *job = OF(timer, timer);

    /* What waits in the pipes now was written before the end, or by what it
     * left behind. */
    job->is_paused = false;
    sandbox_job_read_all(job, DRAIN_READS);
    sandbox_job_finish(job);
}

static void
job_drain(struct sandbox_job *job)
{
    job->state = SANDBOX_JOB_DRAINING;
    sandbox_job_read_all(job, DRAIN_READS);
    if (!sandbox_job_has_open_stream(job)) {
        sandbox_job_finish(job);
        return;
    }
    job->timer.fn = on_drain_timeout;
    ag_timer_start(job->svc->loop, &job->timer, DRAIN_MS);
}

/* A shell that ended before it had read its script was killed by what it read
 * before: another one is started without that, once. */
static bool
job_restart(struct sandbox_job *job)
{
    struct ag_err err = AG_ERR_INIT;

    if (job->is_restarted || job->reason != SANDBOX_REASON_NONE
        || !sandbox_job_is_unread(job))
        return false;
    job->is_restarted = true;
    job->session->box->is_state_bad = true;
    sandbox_job_close_pipes(job);
    job->input.at = 0;
    if (sandbox_job_launch(job, &err) < 0) {
        ag_log(AG_ERROR, "command.start_failed", AG_E(&err));
        job->reason = SANDBOX_REASON_LOST;
        sandbox_job_finish(job);
    }
    return true;
}

void
sandbox_job_event(struct sandbox_job *job, const struct init_head *event)
{
    if (job->state != SANDBOX_JOB_RUNNING || event->run_id != job->run_id)
        return;
    if (event->type == INIT_EXITED && job_restart(job))
        return;
    if (event->type == INIT_FULL) {
        job->is_disk_full = true;
    } else if (event->type == INIT_EXITED) {
        job->exit_code = event->a;
        job->signal = event->b;
        job_drain(job);
    } else if (event->type == INIT_FAILED) {
        /* Most likely no process was left to be had. */
        job->exit_code = -1;
        if (event->a == EAGAIN)
            job->refused_before -= SANDBOX_FORKS_REFUSED_MAX;
        else
            job->reason = SANDBOX_REASON_LOST;
        sandbox_job_finish(job);
    }
}

void
sandbox_job_disk_full(struct sandbox_job *job)
{
    sandbox_job_kill(job, SANDBOX_REASON_DISK);
}

void
sandbox_job_turn_ended(struct sandbox_job *job)
{
    if (job->reason == SANDBOX_REASON_NONE)
        job->reason = SANDBOX_REASON_CANCELLED;
}

void
sandbox_job_lost(struct sandbox_job *job)
{
    /* Not yet started: what answers the record finds no session. */
    if (job->state == SANDBOX_JOB_RECORDING) {
        if (job->session != NULL)
            sandbox_session_job_done(job->session);
        job->session = NULL;
        return;
    }
    if (job->state == SANDBOX_JOB_SAVING)
        return;
    if (job->state == SANDBOX_JOB_RUNNING) {
        if (job->reason == SANDBOX_REASON_NONE)
            job->reason = sandbox_job_oom_kills(job) > 0 ? SANDBOX_REASON_MEMORY
                                                         : SANDBOX_REASON_LOST;
        job->exit_code = -1;
        job->signal = job->reason == SANDBOX_REASON_LOST ? 0 : SIGKILL;
    }
    sandbox_job_read_all(job, DRAIN_READS);
    sandbox_job_finish(job);
}
