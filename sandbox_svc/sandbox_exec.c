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

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/clock.h"
#include "lib/log.h"
#include "sandbox_svc/sandbox_output.h"
#include "sandbox_svc/sandbox_reply.h"
#include "sandbox_svc/sandbox_session.h"

#define READ_BYTES 65536
#define READS_AT_ONCE 8
/* A caller that reads slower than this stops the command by its pipes. */
#define UNSENT_MAX (4 << 20)
/* What a command started and left behind may still hold its pipes. */
#define DRAIN_MS 200
/* From SIGKILL to the end; a sandbox that takes longer is given up. */
#define KILL_MS 5000
#define WATCH_MS 200
/* So many refused forks are no build that asks for too much. */
#define FORKS_REFUSED_MAX 64
#define SAVE_RETRY_MS 1000
#define SAVE_TRIES 30

enum reason {
    REASON_NONE,
    REASON_TIMEOUT,
    REASON_CANCELLED,
    REASON_OUTPUT,
    REASON_MEMORY,
    REASON_PIDS,
    REASON_LOST,
};

enum job_state { JOB_RECORDING, JOB_RUNNING, JOB_DRAINING, JOB_SAVING };

struct stream {
    struct ag_io io;
    struct sandbox_job *job;
    struct sandbox_output output;
    char name[160];
    bool is_watched;
};

struct watcher {
    struct watcher *next;
    struct sandbox_job *job;
    struct ag_rpc_call *call;
};

struct sandbox_job {
    struct sandbox_job *next;
    struct sandbox_svc *svc;
    /* NULL from the end of the command on. */
    struct sandbox_session *session;
    enum job_state state;
    enum reason reason;
    char *tenant, *session_id, *call_id, *command;
    struct watcher *watchers; /* the first gets the stream */
    uint32_t run_id;
    struct stream streams[2];
    struct ag_io in;
    char *input;
    size_t input_n, input_at;
    bool is_in_watched, is_paused;
    int exit_code, signal;
    int64_t begun_us, timeout_s;
    int64_t oom_before, refused_before;
    struct ag_timer timer; /* time limit, then kill, drain or save */
    struct ag_timer watch;
    int save_tries;
    /* The result, once it is made. */
    struct ag_buf text[2];
    struct sandbox_result result;
    char output_file[200];
};

#define OF(member, p)                                                          \
    ((struct sandbox_job *)((char *)(p) - offsetof(struct sandbox_job, member)))

static void job_end(struct sandbox_job *job);
static void job_save(struct sandbox_job *job);

static struct sandbox_call_key
key_of(const struct sandbox_job *job)
{
    return (struct sandbox_call_key){ag_str(job->tenant),
                                     ag_str(job->session_id),
                                     ag_str(job->call_id)};
}

/* ---- life ------------------------------------------------------------ */

static void
job_free(struct sandbox_job *job)
{
    struct sandbox_job **at = &job->svc->jobs;

    while (*at != job)
        at = &(*at)->next;
    *at = job->next;
    ag_timer_stop(job->svc->loop, &job->timer);
    ag_timer_stop(job->svc->loop, &job->watch);
    for (int i = 0; i < 2; i++) {
        sandbox_output_release(&job->streams[i].output);
        ag_buf_release(&job->text[i]);
    }
    ag_freep(&job->tenant);
    ag_freep(&job->session_id);
    ag_freep(&job->call_id);
    ag_freep(&job->command);
    ag_freep(&job->input);
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

static void
close_input(struct sandbox_job *job)
{
    if (job->is_in_watched)
        ag_io_stop(job->svc->loop, &job->in);
    job->is_in_watched = false;
    ag_closep(&job->in.fd);
    job->in.fd = -1;
}

static void
close_stream(struct stream *st)
{
    if (st->is_watched)
        ag_io_stop(st->job->svc->loop, &st->io);
    st->is_watched = false;
    ag_closep(&st->io.fd);
    st->io.fd = -1;
}

/* ---- killing --------------------------------------------------------- */

static void
on_kill_timeout(struct ag_timer *timer)
{
    struct sandbox_job *job = OF(timer, timer);

    ag_log(AG_ERROR, "command.unkillable", AG_S("session", job->session_id));
    sandbox_session_end(job->session, "unkillable", NULL, NULL);
}

/* Everything in the sandbox goes: what a command has started need not be its
 * child any more. The first reason is the one that is told. */
static void
job_kill(struct sandbox_job *job, enum reason reason)
{
    struct ag_err err = AG_ERR_INIT;

    if (job->reason != REASON_NONE || job->state > JOB_RUNNING)
        return;
    job->reason = reason;
    if (job->state != JOB_RUNNING)
        return;
    job->timer.fn = on_kill_timeout;
    ag_timer_start(job->svc->loop, &job->timer, KILL_MS);
    if (sandbox_box_kill(job->session->box, &err) == 0)
        ag_log(AG_WARN, "command.kill_failed", AG_E(&err));
}

static void
on_timeout(struct ag_timer *timer)
{
    job_kill(OF(timer, timer), REASON_TIMEOUT);
}

static int64_t
forks_refused(const struct sandbox_job *job)
{
    return sandbox_limits_count(job->session->box->pids_events, "max")
           - job->refused_before;
}

static int64_t
oom_kills(const struct sandbox_job *job)
{
    return sandbox_limits_count(job->session->box->memory_events, "oom_kill")
           - job->oom_before;
}

static void
on_watch(struct ag_timer *timer)
{
    struct sandbox_job *job = OF(watch, timer);

    if (forks_refused(job) >= FORKS_REFUSED_MAX)
        job_kill(job, REASON_PIDS);
    ag_timer_start(job->svc->loop, &job->watch, WATCH_MS);
}

/* ---- output ---------------------------------------------------------- */

static void
set_reading(struct sandbox_job *job, bool is_reading)
{
    struct ag_err err = AG_ERR_INIT;

    for (int i = 0; i < 2; i++) {
        struct stream *st = &job->streams[i];
        if (st->io.fd < 0 || st->is_watched == is_reading)
            continue;
        if (!is_reading)
            ag_io_stop(job->svc->loop, &st->io);
        else if (ag_io_start(job->svc->loop, &st->io, EPOLLIN, &err) < 0)
            ag_log(AG_ERROR, "command.read_failed", AG_E(&err));
        st->is_watched = is_reading;
    }
}

static void
on_drained(struct ag_rpc_call *call, void *arg)
{
    struct sandbox_job *job = ((struct watcher *)arg)->job;

    (void)call;
    job->is_paused = false;
    if (job->state == JOB_RUNNING)
        set_reading(job, true);
}

static void
stream_out(struct sandbox_job *job, bool is_err, ag_str_t data)
{
    struct watcher *w = job->watchers;

    if (w == NULL)
        return;
    if (sandbox_reply_chunk(w->call, is_err, data) < UNSENT_MAX
        || job->is_paused)
        return;
    job->is_paused = true;
    set_reading(job, false);
    ag_rpc_call_on_drain(w->call, on_drained, w);
}

/* Take what is there. Returns false at the end of the stream. */
static bool
read_stream(struct stream *st, int rounds)
{
    struct sandbox_job *job = st->job;
    char buf[READ_BYTES];

    for (int i = 0; i < rounds && st->io.fd >= 0; i++) {
        ssize_t n = read(st->io.fd, buf, sizeof(buf));
        if (n < 0)
            return errno == EAGAIN || errno == EINTR;
        if (n == 0)
            return false;
        ag_str_t data = ag_str_n(buf, (size_t)n);
        int64_t room =
            job->svc->limits.output_file_bytes - st->output.total;
        if (room < (int64_t)data.n) {
            job_kill(job, REASON_OUTPUT);
            data.n = room > 0 ? (size_t)room : 0;
        }
        if (data.n == 0)
            continue;
        sandbox_output_add(&st->output, data);
        stream_out(job, st == &job->streams[1], data);
        if (job->is_paused)
            break;
    }
    return st->io.fd >= 0;
}

static bool
has_open_stream(const struct sandbox_job *job)
{
    return job->streams[0].io.fd >= 0 || job->streams[1].io.fd >= 0;
}

static void
on_output(struct ag_io *io, uint32_t events)
{
    struct stream *st = (struct stream *)((char *)io
                                          - offsetof(struct stream, io));
    struct sandbox_job *job = st->job;

    (void)events;
    if (!read_stream(st, READS_AT_ONCE))
        close_stream(st);
    if (job->state == JOB_DRAINING && !has_open_stream(job))
        job_end(job);
}

static void
on_input(struct ag_io *io, uint32_t events)
{
    struct sandbox_job *job = OF(in, io);

    (void)events;
    ssize_t n = write(io->fd, job->input + job->input_at,
                      job->input_n - job->input_at);
    if (n > 0)
        job->input_at += (size_t)n;
    else if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (n <= 0 || job->input_at == job->input_n)
        close_input(job);
}

/* ---- those who wait -------------------------------------------------- */

static void
on_caller_gone(struct ag_rpc_call *call, void *arg)
{
    struct watcher *w = arg;
    struct sandbox_job *job = w->job;
    struct watcher **at = &job->watchers;
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
        set_reading(job, true);
    }
    if (job->watchers == NULL)
        job_kill(job, REASON_CANCELLED);
}

static void
job_add_watcher(struct sandbox_job *job, struct ag_rpc_call *call)
{
    struct watcher **at = &job->watchers;
    struct watcher *w = ag_xcalloc(1, sizeof(*w));

    while (*at != NULL)
        at = &(*at)->next;
    *w = (struct watcher){NULL, job, call};
    *at = w;
    ag_rpc_call_on_cancel(call, on_caller_gone, w);
}

static struct ag_rpc_call *
take_watcher(struct sandbox_job *job)
{
    struct watcher *w = job->watchers;

    if (w == NULL)
        return NULL;
    struct ag_rpc_call *call = w->call;
    job->watchers = w->next;
    ag_rpc_call_on_cancel(call, NULL, NULL);
    ag_rpc_call_on_drain(call, NULL, NULL);
    ag_freep(&w);
    return call;
}

static void
job_fail(struct sandbox_job *job, const struct ag_err *err)
{
    struct ag_rpc_call *call;

    while ((call = take_watcher(job)) != NULL)
        ag_rpc_fail(call, err);
    job_free(job);
}

/* ---- the end --------------------------------------------------------- */

static void
on_saved(void *arg, const struct ag_db_result *res, const struct ag_err *err)
{
    struct sandbox_job *job = arg;
    struct ag_rpc_call *call;

    (void)res;
    if (err != NULL) {
        ag_log(AG_ERROR, "command.save_failed", AG_S("call", job->call_id),
               AG_I("tries", job->save_tries), AG_E(err));
        if (job->save_tries >= SAVE_TRIES || job->svc->is_stopping)
            job_fail(job, err);
        else
            ag_timer_start(job->svc->loop, &job->timer, SAVE_RETRY_MS);
        return;
    }
    while ((call = take_watcher(job)) != NULL)
        sandbox_reply_result(call, &job->result);
    job_free(job);
}

static void
on_save_retry(struct ag_timer *timer)
{
    job_save(OF(timer, timer));
}

static void
job_save(struct sandbox_job *job)
{
    struct sandbox_call_key key = key_of(job);

    job->save_tries++;
    job->timer.fn = on_save_retry;
    sandbox_store_finish(job->svc->db, &key, &job->result, on_saved, job);
}

/* What the kernel did while the command ran, when the command failed. */
static void
notice_limits(struct sandbox_job *job)
{
    struct ag_err err = AG_ERR_INIT;

    if (job->session == NULL || job->session->box == NULL
        || job->reason != REASON_NONE)
        return;
    int64_t refused = forks_refused(job);
    bool has_failed = job->exit_code != 0 || job->signal != 0;
    if (has_failed && oom_kills(job) > 0)
        job->reason = REASON_MEMORY;
    else if (refused >= FORKS_REFUSED_MAX || (has_failed && refused > 0))
        job->reason = REASON_PIDS;
    /* It may have left what still multiplies. */
    if (job->reason == REASON_PIDS)
        (void)sandbox_box_kill(job->session->box, &err);
}

static void
set_outcome(struct sandbox_job *job)
{
    static const struct {
        int outcome;
        const char *limit;
    } of[] = {
        [REASON_NONE] = {SANDBOX_OUTCOME_EXITED, ""},
        [REASON_TIMEOUT] = {SANDBOX_OUTCOME_TIMED_OUT, ""},
        [REASON_CANCELLED] = {SANDBOX_OUTCOME_CANCELLED, ""},
        [REASON_OUTPUT] = {SANDBOX_OUTCOME_LIMIT_REACHED, "output"},
        [REASON_MEMORY] = {SANDBOX_OUTCOME_LIMIT_REACHED, "memory"},
        [REASON_PIDS] = {SANDBOX_OUTCOME_LIMIT_REACHED, "pids"},
        [REASON_LOST] = {SANDBOX_OUTCOME_UNKNOWN, ""},
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
        ag_buf_init(&job->text[i],
                    (size_t)job->svc->limits.output_bytes
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

/* The command is over, or its sandbox is. */
static void
job_end(struct sandbox_job *job)
{
    ag_timer_stop(job->svc->loop, &job->timer);
    ag_timer_stop(job->svc->loop, &job->watch);
    close_input(job);
    for (int i = 0; i < 2; i++)
        close_stream(&job->streams[i]);
    notice_limits(job);
    job->state = JOB_SAVING;
    if (job->session != NULL)
        sandbox_session_job_done(job->session);
    job->session = NULL;
    set_outcome(job);
    set_output(job);
    for (int i = 0; i < 2; i++)
        sandbox_output_release(&job->streams[i].output);
    ag_log(AG_INFO, "command.ended", AG_S("session", job->session_id),
           AG_S("call", job->call_id), AG_I("outcome", job->result.outcome),
           AG_I("exit_code", job->result.exit_code),
           AG_I("signal", job->result.signal),
           AG_V("limit", job->result.limit),
           AG_I("wall_ms", job->result.wall_ms));
    job_save(job);
}

static void
on_drain_timeout(struct ag_timer *timer)
{
    struct sandbox_job *job = OF(timer, timer);

    /* What waits in the pipes now was written before the end or by what it
     * left behind; a pipe holds 64 KiB, so two reads empty it. */
    job->is_paused = false;
    for (int i = 0; i < 2; i++)
        (void)read_stream(&job->streams[i], 2);
    job_end(job);
}

static void
job_drain(struct sandbox_job *job)
{
    job->state = JOB_DRAINING;
    for (int i = 0; i < 2; i++)
        if (job->streams[i].io.fd >= 0
            && !read_stream(&job->streams[i], READS_AT_ONCE))
            close_stream(&job->streams[i]);
    if (!has_open_stream(job)) {
        job_end(job);
        return;
    }
    job->timer.fn = on_drain_timeout;
    ag_timer_start(job->svc->loop, &job->timer, DRAIN_MS);
}

void
sandbox_job_event(struct sandbox_job *job, const struct init_head *event)
{
    if (job->state != JOB_RUNNING || event->run_id != job->run_id)
        return;
    if (event->type == INIT_EXITED) {
        job->exit_code = event->a;
        job->signal = event->b;
        job_drain(job);
    } else if (event->type == INIT_FAILED) {
        /* Most likely no process was left to be had. */
        job->exit_code = -1;
        if (event->a == EAGAIN)
            job->refused_before -= FORKS_REFUSED_MAX;
        else
            job->reason = REASON_LOST;
        job_end(job);
    }
}

void
sandbox_job_turn_ended(struct sandbox_job *job)
{
    if (job->reason == REASON_NONE)
        job->reason = REASON_CANCELLED;
}

void
sandbox_job_lost(struct sandbox_job *job)
{
    /* Not yet started: what answers the record finds no session. */
    if (job->state == JOB_RECORDING) {
        if (job->session != NULL)
            sandbox_session_job_done(job->session);
        job->session = NULL;
        return;
    }
    if (job->state == JOB_SAVING)
        return;
    if (job->state == JOB_RUNNING) {
        if (job->reason == REASON_NONE)
            job->reason = oom_kills(job) > 0 ? REASON_MEMORY : REASON_LOST;
        job->exit_code = -1;
        job->signal = job->reason == REASON_LOST ? 0 : SIGKILL;
    }
    for (int i = 0; i < 2; i++)
        (void)read_stream(&job->streams[i], 2);
    job_end(job);
}

/* ---- the start ------------------------------------------------------- */

static int
make_pipe(int *inside, int *outside, bool is_input, struct ag_err *err)
{
    int p[2];

    if (pipe2(p, O_CLOEXEC) < 0)
        return ag_err_sys(err, "pipe");
    *inside = p[is_input ? 0 : 1];
    *outside = p[is_input ? 1 : 0];
    /* Any user of the sandbox may open /dev/stdout again. */
    if (fchmod(*inside, 0666) < 0 || fcntl(*outside, F_SETFL, O_NONBLOCK) < 0)
        return ag_err_sys(err, "pipe");
    return 0;
}

static int
watch_pipes(struct sandbox_job *job, struct ag_err *err)
{
    struct ag_loop *loop = job->svc->loop;

    set_reading(job, true);
    if (job->input_n == 0) {
        close_input(job);
        return 0;
    }
    job->is_in_watched = ag_io_start(loop, &job->in, EPOLLOUT, err) == 0;
    return job->is_in_watched ? 0 : -1;
}

static int
job_launch(struct sandbox_job *job, struct ag_err *err)
{
    AG_AUTO(ag_closep) int in = -1;
    AG_AUTO(ag_closep) int out = -1;
    AG_AUTO(ag_closep) int errors = -1;
    struct sandbox_session *s = job->session;

    if (make_pipe(&in, &job->in.fd, true, err) < 0
        || make_pipe(&out, &job->streams[0].io.fd, false, err) < 0
        || make_pipe(&errors, &job->streams[1].io.fd, false, err) < 0
        || watch_pipes(job, err) < 0)
        return -1;
    struct sandbox_command command = {
        .text = job->command, .cwd = "/workspace",
        .env = ag_buf_str(&s->env), .n_env = s->n_env,
        .in = in, .out = out, .err = errors};
    job->oom_before = sandbox_limits_count(s->box->memory_events, "oom_kill");
    job->refused_before = sandbox_limits_count(s->box->pids_events, "max");
    job->run_id = sandbox_box_run(s->box, &command, err);
    if (job->run_id == 0)
        return -1;
    job->state = JOB_RUNNING;
    job->timer.fn = on_timeout;
    ag_timer_start(job->svc->loop, &job->timer, job->timeout_s * 1000);
    job->watch.fn = on_watch;
    ag_timer_start(job->svc->loop, &job->watch, WATCH_MS);
    return 0;
}

/* The call is known already: tell what became of it. */
static void
job_look_up(struct sandbox_job *job)
{
    struct ag_rpc_call *call;

    while ((call = take_watcher(job)) != NULL)
        sandbox_reply_recorded(job->svc, call, job->tenant, job->session_id,
                               job->call_id, NULL);
    if (job->session != NULL)
        sandbox_session_job_done(job->session);
    job_free(job);
}

static void
on_started(void *arg, const struct ag_db_result *res, const struct ag_err *err)
{
    struct sandbox_job *job = arg;
    struct ag_err failure = AG_ERR_INIT;

    if (err != NULL) {
        if (job->session != NULL)
            sandbox_session_job_done(job->session);
        job_fail(job, err);
        return;
    }
    if (ag_db_rows(res) == 0) {
        job_look_up(job);
        return;
    }
    job->begun_us = ag_mono_us();
    /* Cancelled, or the sandbox died, before it could start: it is recorded
     * as cancelled, and nothing has run. */
    if (job->session == NULL && job->reason == REASON_NONE)
        job->reason = REASON_CANCELLED;
    if (job->reason == REASON_NONE && job_launch(job, &failure) == 0)
        return;
    if (failure.kind != AG_ERR_NONE) {
        ag_log(AG_ERROR, "command.start_failed", AG_E(&failure));
        job->reason = REASON_LOST;
    }
    job->exit_code = -1;
    job_end(job);
}

static void
set_stream(struct sandbox_job *job, int i, const char *suffix)
{
    struct stream *st = &job->streams[i];

    st->job = job;
    st->io = (struct ag_io){.fn = on_output, .fd = -1};
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
    s->job = job;
    job->tenant = ag_str_dup(ag_str(s->tenant));
    job->session_id = ag_str_dup(ag_str(s->id));
    job->call_id = ag_str_dup(ag_str(req->call_id));
    job->command = ag_str_dup(ag_str(req->command));
    job->timeout_s = req->timeout_seconds > 0 ? req->timeout_seconds
                                              : s->svc->limits.timeout_s;
    job->in = (struct ag_io){.fn = on_input, .fd = -1};
    job->input_n = req->stdin.len;
    if (job->input_n > 0) {
        job->input = ag_xmalloc(job->input_n);
        memcpy(job->input, req->stdin.data, job->input_n);
    }
    set_stream(job, 0, "out");
    set_stream(job, 1, "err");
    job->next = s->svc->jobs;
    s->svc->jobs = job;
    return job;
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
    if (!sandbox_session_is_live(s)
        || (*req->sandbox_id != 0 && strcmp(req->sandbox_id, s->box->id) != 0))
        ag_err_set(&err, AG_ERR_PRECONDITION,
                   "no sandbox %swas provisioned in this turn: provision one "
                   "first", *req->sandbox_id != 0 ? "of that id " : "");
    else if (s->job != NULL)
        ag_err_set(&err, AG_ERR_LIMIT,
                   "another command of the session runs");
    if (err.kind != AG_ERR_NONE) {
        sandbox_reply_recorded(svc, call, s == NULL ? NULL : s->tenant,
                               req->session_id, req->call_id, &err);
        return;
    }
    job = job_new(s, req);
    job_add_watcher(job, call);
    struct sandbox_call_key key = key_of(job);
    sandbox_store_start(svc->db, &key, s->box->id, strlen(req->command),
                        on_started, job);
}
