/*
 * One command of a session, from its record to its record.
 *
 * "Started" is committed before the command starts and the result after its
 * end, so that a call that is repeated is answered from the record and never
 * runs twice. Between the two the job owns the pipes: it streams what comes
 * out, keeps head and tail, and kills everything in the sandbox at the time
 * limit, at the output limit, when processes multiply without end, or when
 * nobody waits any more.
 */
#include "sandbox_svc/sandbox_exec.h"

#include <stdio.h>

#include "lib/clock.h"
#include "lib/log.h"
#include "sandbox_svc/sandbox_ended.h"
#include "sandbox_svc/sandbox_job.h"
#include "sandbox_svc/sandbox_reply.h"
#include "sandbox_svc/sandbox_script.h"

/* From SIGKILL to the end; a sandbox that takes longer is given up. */
#define KILL_MS 5000
#define WATCH_MS 200
/* A shell that waits has begun to read its script by then. */
#define UNREAD_US 5000000
/* Calls that are remembered of a sandbox; later ones are looked up. */
#define CALLS_MAX 1024

#define OF(member, p) \
    ((struct sandbox_job *)((char *)(p)-offsetof(struct sandbox_job, member)))

struct sandbox_call_key
sandbox_job_key(const struct sandbox_job *job)
{
    return (struct sandbox_call_key){
        ag_str(job->tenant), ag_str(job->session_id), ag_str(job->call_id)};
}

const char *
sandbox_exec_call_id(const struct sandbox_job *job)
{
    return job->call_id;
}

/* ---- life ------------------------------------------------------------ */

void
sandbox_job_free(struct sandbox_job *job)
{
    struct sandbox_job **at = &job->svc->jobs;

    while (*at != job)
        at = &(*at)->next;
    *at = job->next;
    ag_timer_stop(job->svc->loop, &job->timer);
    ag_timer_stop(job->svc->loop, &job->watch);
    ag_timer_stop(job->svc->loop, &job->orphan);
    ag_timer_stop(job->svc->loop, &job->record);
    for (int i = 0; i < 2; i++) {
        sandbox_output_release(&job->streams[i].output);
        ag_buf_release(&job->text[i]);
    }
    ag_freep(&job->tenant);
    ag_freep(&job->session_id);
    ag_freep(&job->call_id);
    ag_freep(&job->command);
    ag_freep(&job->task);
    ag_buf_release(&job->input.data);
    ag_buf_release(&job->script.data);
    ag_freep(&job);
}

static struct sandbox_job *
job_find(struct sandbox_svc *svc, const char *session_id, const char *call_id)
{
    struct sandbox_job *job = svc->jobs;

    while (job != NULL
           && (strcmp(job->session_id, session_id) != 0
               || strcmp(job->call_id, call_id) != 0))
        job = job->next;
    return job;
}

/* ---- killing --------------------------------------------------------- */

static void
on_kill_timeout(struct ag_timer *timer)
{
    struct sandbox_job *job = OF(timer, timer);

    ag_log(AG_ERROR, "command.unkillable", AG_S("session", job->session_id));
    sandbox_ended_note(job->svc->ended, job->session_id,
                       "a command could not be killed");
    sandbox_session_end(job->session, "unkillable", NULL, NULL);
}

/* Everything in the sandbox goes: what a command has started need not be its
 * child any more. The first reason is the one that is told. */
void
sandbox_job_kill(struct sandbox_job *job, enum sandbox_reason reason)
{
    struct ag_err err = AG_ERR_INIT;

    if (job->reason != SANDBOX_REASON_NONE || job->state > SANDBOX_JOB_RUNNING)
        return;
    job->reason = reason;
    if (job->state != SANDBOX_JOB_RUNNING)
        return;
    job->timer.fn = on_kill_timeout;
    ag_timer_start(job->svc->loop, &job->timer, KILL_MS);
    if (sandbox_box_kill(job->session->box, &err) == 0)
        ag_log(AG_WARN, "command.kill_failed", AG_E(&err));
}

static void
on_timeout(struct ag_timer *timer)
{
    sandbox_job_kill(OF(timer, timer), SANDBOX_REASON_TIMEOUT);
}

/* What the last command left behind keeps the shell from reading this one: the
 * next does without it (sandbox_job_event). */
static void
watch_shell(struct sandbox_job *job)
{
    struct ag_err err = AG_ERR_INIT;

    if (job->is_restarted || ag_mono_us() - job->begun_us < UNREAD_US
        || !sandbox_job_is_unread(job))
        return;
    if (sandbox_box_kill_shell(job->session->box, &err) == 0)
        ag_log(AG_WARN, "command.kill_failed", AG_E(&err));
}

static void
on_watch(struct ag_timer *timer)
{
    struct sandbox_job *job = OF(watch, timer);

    if (sandbox_job_forks_refused(job) >= SANDBOX_FORKS_REFUSED_MAX)
        sandbox_job_kill(job, SANDBOX_REASON_PIDS);
    else if (job->state == SANDBOX_JOB_RUNNING)
        watch_shell(job);
    ag_timer_start(job->svc->loop, &job->watch, WATCH_MS);
}

/* ---- those who wait -------------------------------------------------- */

static void
on_orphan_limit(struct ag_timer *timer)
{
    sandbox_job_kill(OF(orphan, timer), SANDBOX_REASON_CANCELLED);
}

/* Not a cancellation: a brain that is restarted comes back for the result. */
static void
on_caller_gone(struct ag_rpc_call *call, void *arg)
{
    struct sandbox_watcher *w = arg;
    struct sandbox_job *job = w->job;
    struct sandbox_watcher **at = &job->watchers;
    struct ag_err err = AG_ERR_INIT;

    while (*at != w)
        at = &(*at)->next;
    *at = w->next;
    ag_freep(&w);
    ag_err_set(&err, AG_ERR_CANCELLED, "the caller is gone");
    ag_rpc_call_on_drain(call, NULL, NULL);
    ag_rpc_fail(call, &err);
    if (job->is_paused) {
        job->is_paused = false;
        sandbox_job_set_reading(job, true);
    }
    if (job->watchers != NULL)
        return;
    job->orphan.fn = on_orphan_limit;
    ag_timer_start(job->svc->loop, &job->orphan,
                   job->svc->conf.orphan_seconds * 1000);
}

static void
job_add_watcher(struct sandbox_job *job, struct ag_rpc_call *call)
{
    struct sandbox_watcher **at = &job->watchers;
    struct sandbox_watcher *w = ag_xcalloc(1, sizeof(*w));

    while (*at != NULL)
        at = &(*at)->next;
    ag_timer_stop(job->svc->loop, &job->orphan);
    *w = (struct sandbox_watcher){NULL, job, call};
    *at = w;
    ag_rpc_call_on_cancel(call, on_caller_gone, w);
}

struct ag_rpc_call *
sandbox_job_take_watcher(struct sandbox_job *job)
{
    struct sandbox_watcher *w = job->watchers;

    if (w == NULL)
        return NULL;
    struct ag_rpc_call *call = w->call;
    job->watchers = w->next;
    ag_rpc_call_on_cancel(call, NULL, NULL);
    ag_rpc_call_on_drain(call, NULL, NULL);
    ag_freep(&w);
    return call;
}

void
sandbox_job_fail(struct sandbox_job *job, const struct ag_err *err)
{
    struct ag_rpc_call *call;

    while ((call = sandbox_job_take_watcher(job)) != NULL)
        ag_rpc_fail(call, err);
    sandbox_job_free(job);
}

/* ---- the start ------------------------------------------------------- */

/* The script, for a shell that may not know the session's environment. */
static void
job_write_script(struct sandbox_job *job, bool needs_env)
{
    struct ag_buf *script = &job->script.data;
    ag_str_t command = ag_str(job->command);
    ag_str_t env = needs_env ? ag_buf_str(&job->session->env) : ag_str(NULL);

    ag_buf_release(script);
    ag_buf_init(script, SANDBOX_SCRIPT_MAX(command.n + env.n));
    sandbox_script_add(script, command, env);
    job->script.at = 0;
}

int
sandbox_job_launch(struct sandbox_job *job, struct ag_err *err)
{
    struct sandbox_session *s = job->session;

    if (sandbox_shell_start(s->box, ag_buf_str(&s->env), s->n_env, err) < 0)
        return -1;
    struct sandbox_shell shell = sandbox_shell_take(s->box);
    job->run_id = shell.run_id;
    sandbox_job_count_begin(job);
    job_write_script(job, shell.needs_env);
    if (sandbox_job_open_pipes(job, &shell, err) < 0)
        return -1;
    job->state = SANDBOX_JOB_RUNNING;
    job->timer.fn = on_timeout;
    ag_timer_start(job->svc->loop, &job->timer, job->timeout_s * 1000);
    job->watch.fn = on_watch;
    ag_timer_start(job->svc->loop, &job->watch, WATCH_MS);
    return 0;
}

static void
set_stream(struct sandbox_job *job, int i, const char *suffix)
{
    struct sandbox_stream *st = &job->streams[i];

    st->job = job;
    st->io.fd = -1;
    snprintf(st->name, sizeof(st->name), "%s.%s", job->call_id, suffix);
    sandbox_output_init(&st->output, (size_t)job->svc->limits.output_bytes,
                        job->session->output_dir, st->name);
}

static struct sandbox_job *
job_new(struct sandbox_session *s,
        const Agent__Sandbox__V1__ExecuteRequest *req)
{
    struct sandbox_job *job = ag_xcalloc(1, sizeof(*job));

    job->svc = s->svc;
    job->session = s;
    sandbox_session_job_begin(s, job);
    job->tenant = ag_str_dup(ag_str(s->tenant));
    job->session_id = ag_str_dup(ag_str(s->id));
    job->call_id = ag_str_dup(ag_str(req->call_id));
    job->command = ag_str_dup(ag_str(req->command));
    job->task = ag_str_dup(ag_str(s->task_description));
    job->is_new = req->is_new;
    job->note = -1;
    job->timeout_s = req->timeout_seconds > 0 ? req->timeout_seconds
                                              : s->svc->limits.timeout_s;
    job->input.io.fd = job->script.io.fd = -1;
    ag_buf_init(&job->input.data, req->stdin.len);
    ag_buf_add(&job->input.data, ag_str_n(req->stdin.data, req->stdin.len));
    set_stream(job, 0, "out");
    set_stream(job, 1, "err");
    job->next = s->svc->jobs;
    s->svc->jobs = job;
    return job;
}

/* Why there is none, as far as it is known. */
static void
refuse(struct sandbox_svc *svc, const Agent__Sandbox__V1__ExecuteRequest *req,
       struct ag_err *err)
{
    const char *why = sandbox_ended_why(svc->ended, req->session_id);

    if (why != NULL)
        ag_err_set(err, AG_ERR_PRECONDITION,
                   "the session's sandbox has ended (%s): provision one first",
                   why);
    else
        ag_err_set(err, AG_ERR_PRECONDITION,
                   "no sandbox %swas provisioned in this turn: provision one "
                   "first",
                   *req->sandbox_id != 0 ? "of that id " : "");
}

/* Remember that this sandbox has run the call. False when it has before, or
 * when it has run too many to tell. */
static bool
remember(struct sandbox_session *s, const char *call_id)
{
    if (s->n_calls == CALLS_MAX)
        return false;
    for (size_t i = 0; i < s->n_calls; i++)
        if (strcmp(s->calls[i], call_id) == 0)
            return false;
    if (s->calls == NULL)
        s->calls = ag_xcalloc(CALLS_MAX, sizeof(*s->calls));
    s->calls[s->n_calls++] = ag_str_dup(ag_str(call_id));
    return true;
}

/*
 * Nobody can have sent this call before, so it need not be looked up. The
 * caller says so; one that has lost its lease without knowing it may be wrong,
 * and then the call was made in this sandbox, or in one that somebody with a
 * higher fence has asked for.
 */
static bool
is_first(struct sandbox_session *s,
         const Agent__Sandbox__V1__ExecuteRequest *req)
{
    return remember(s, req->call_id) && req->is_new && req->fence >= s->fence
           && ag_db_is_up(s->svc->db);
}

void
sandbox_exec(struct sandbox_svc *svc, struct ag_rpc_call *call,
             const Agent__Sandbox__V1__ExecuteRequest *req)
{
    struct sandbox_session *s =
        sandbox_session_find(svc, ag_str(req->session_id));
    struct sandbox_job *job = job_find(svc, req->session_id, req->call_id);
    struct ag_err err = AG_ERR_INIT;

    if (job != NULL) {
        job_add_watcher(job, call);
        return;
    }
    if (svc->n_unrecovered > 0)
        ag_err_set(&err, AG_ERR_UNAVAILABLE,
                   "what an earlier process ran is being recorded");
    else if (!sandbox_session_is_live(s)
             || (*req->sandbox_id != 0
                 && strcmp(req->sandbox_id, s->box->id) != 0))
        refuse(svc, req, &err);
    else if (s->job != NULL)
        ag_err_set(&err, AG_ERR_LIMIT, "another command of the session runs");
    if (err.kind == AG_ERR_UNAVAILABLE) {
        ag_rpc_fail(call, &err);
        return;
    }
    if (err.kind != AG_ERR_NONE) {
        sandbox_reply_recorded(svc, call, s == NULL ? NULL : s->tenant,
                               req->session_id, req->call_id, &err);
        return;
    }
    job = job_new(s, req);
    job_add_watcher(job, call);
    sandbox_job_record(job, is_first(s, req));
}

bool
sandbox_exec_cancel(struct sandbox_svc *svc, const char *session_id,
                    const char *call_id)
{
    struct sandbox_job *job = job_find(svc, session_id, call_id);

    if (job == NULL || job->session == NULL)
        return false;
    sandbox_job_kill(job, SANDBOX_REASON_CANCELLED);
    return true;
}
