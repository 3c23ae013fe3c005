/*
 * The pipes of a command: what it prints is streamed to the caller and kept,
 * what it is given is written as it reads. A caller that is slow stops the
 * reading, and so the command.
 */
#include "sandbox_svc/sandbox_job.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "lib/log.h"
#include "sandbox_svc/launcher_without.h"
#include "sandbox_svc/sandbox_reply.h"

#define READ_BYTES (256 << 10)
#define READS_AT_ONCE 4
/* An output that is long by now is read at intervals, from a larger pipe, as
 * long as there is so much each time. */
#define PACED_FROM (1 << 20)
#define PACED_WHILE (32 << 10)
#define PACE_MS 1
#define PIPE_BYTES (1 << 20)
/* A caller that reads slower than this stops the command by its pipes. */
#define UNSENT_MAX (4 << 20)

#define OF(member, p) \
    ((struct sandbox_job *)((char *)(p)-offsetof(struct sandbox_job, member)))

static void
close_feed(struct sandbox_feed *f)
{
    if (f->is_watched)
        ag_io_stop(f->job->svc->loop, &f->io);
    f->is_watched = false;
    ag_closep(&f->io.fd);
    f->io.fd = -1;
}

static int
watch_stream(struct sandbox_stream *st, struct ag_err *err)
{
    if (st->is_paced)
        ag_timer_start(st->job->svc->loop, &st->pace, PACE_MS);
    else if (ag_io_start(st->job->svc->loop, &st->io, EPOLLIN, err) < 0)
        return -1;
    st->is_watched = true;
    return 0;
}

static void
unwatch_stream(struct sandbox_stream *st)
{
    if (st->is_watched && st->is_paced)
        ag_timer_stop(st->job->svc->loop, &st->pace);
    else if (st->is_watched)
        ag_io_stop(st->job->svc->loop, &st->io);
    st->is_watched = false;
}

static void
close_stream(struct sandbox_stream *st)
{
    unwatch_stream(st);
    ag_closep(&st->io.fd);
    st->io.fd = -1;
}

/* ---- output ---------------------------------------------------------- */

void
sandbox_job_set_reading(struct sandbox_job *job, bool is_reading)
{
    struct ag_err err = AG_ERR_INIT;

    for (int i = 0; i < 2; i++) {
        struct sandbox_stream *st = &job->streams[i];
        if (st->io.fd < 0 || st->is_watched == is_reading)
            continue;
        if (!is_reading)
            unwatch_stream(st);
        else if (watch_stream(st, &err) < 0)
            ag_log(AG_ERROR, "command.read_failed", AG_E(&err));
    }
}

static void
on_drained(struct ag_rpc_call *call, void *arg)
{
    struct sandbox_job *job = ((struct sandbox_watcher *)arg)->job;

    (void)call;
    job->is_paused = false;
    if (job->state == SANDBOX_JOB_RUNNING)
        sandbox_job_set_reading(job, true);
}

static void
stream_out(struct sandbox_job *job, bool is_err, ag_str_t data)
{
    struct sandbox_watcher *w = job->watchers;

    if (w == NULL)
        return;
    if (sandbox_reply_chunk(w->call, is_err, data) < UNSENT_MAX
        || job->is_paused)
        return;
    job->is_paused = true;
    sandbox_job_set_reading(job, false);
    ag_rpc_call_on_drain(w->call, on_drained, w);
}

/* Take what is there. Returns false at the end of the stream. */
static bool
read_stream(struct sandbox_stream *st, int rounds)
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
        int64_t room = job->svc->limits.output_file_bytes - st->output.total;
        if (room < (int64_t)data.n && !launcher_without("output_limit")) {
            sandbox_job_kill(job, SANDBOX_REASON_OUTPUT);
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

bool
sandbox_job_has_open_stream(const struct sandbox_job *job)
{
    return job->streams[0].io.fd >= 0 || job->streams[1].io.fd >= 0;
}

/* Take what is there, and note the end. */
static void
take(struct sandbox_stream *st)
{
    struct sandbox_job *job = st->job;

    if (!read_stream(st, READS_AT_ONCE))
        close_stream(st);
    if (job->state == SANDBOX_JOB_DRAINING && !sandbox_job_has_open_stream(job))
        sandbox_job_finish(job);
}

static void
set_pace(struct sandbox_stream *st, bool is_paced)
{
    struct ag_err err = AG_ERR_INIT;

    unwatch_stream(st);
    st->is_paced = is_paced;
    /* Without the right to so much it stays as it is. */
    if (is_paced)
        (void)fcntl(st->io.fd, F_SETPIPE_SZ, PIPE_BYTES);
    if (watch_stream(st, &err) < 0)
        ag_log(AG_ERROR, "command.read_failed", AG_E(&err));
}

static void
on_output(struct ag_io *io, uint32_t events)
{
    struct sandbox_stream *st =
        (struct sandbox_stream *)((char *)io
                                  - offsetof(struct sandbox_stream, io));

    (void)events;
    /* A command that writes without end would wake us for each write. */
    if (st->output.total >= PACED_FROM)
        set_pace(st, true);
    else
        take(st);
}

static void
on_pace(struct ag_timer *timer)
{
    struct sandbox_stream *st =
        (struct sandbox_stream *)((char *)timer
                                  - offsetof(struct sandbox_stream, pace));
    int there = 0;

    st->is_watched = false;
    (void)ioctl(st->io.fd, FIONREAD, &there);
    set_pace(st, there >= PACED_WHILE);
    take(st);
}

/* Write what fits. Returns false when there is no more to write. */
static bool
feed(struct sandbox_feed *f)
{
    while (f->at < f->data.n) {
        ssize_t n = write(f->io.fd, f->data.p + f->at, f->data.n - f->at);
        if (n < 0)
            return errno == EAGAIN || errno == EINTR;
        f->at += (size_t)n;
    }
    return false;
}

static void
on_feed(struct ag_io *io, uint32_t events)
{
    struct sandbox_feed *f =
        (struct sandbox_feed *)((char *)io - offsetof(struct sandbox_feed, io));

    (void)events;
    if (feed(f))
        return;
    /* Of the script, the shell reads only what it needs: see
     * sandbox_job_is_unread. */
    if (f == &f->job->script) {
        ag_io_stop(f->job->svc->loop, &f->io);
        f->is_watched = false;
    } else {
        close_feed(f);
    }
}

static int
start_feed(struct sandbox_job *job, struct sandbox_feed *f, int fd,
           struct ag_err *err)
{
    f->job = job;
    f->io = (struct ag_io){.fn = on_feed, .fd = fd};
    if (!feed(f)) {
        if (f != &job->script)
            close_feed(f);
        return 0;
    }
    f->is_watched = ag_io_start(job->svc->loop, &f->io, EPOLLOUT, err) == 0;
    return f->is_watched ? 0 : -1;
}

int
sandbox_job_open_pipes(struct sandbox_job *job, struct sandbox_shell *shell,
                       struct ag_err *err)
{
    for (int i = 0; i < 2; i++) {
        struct sandbox_stream *st = &job->streams[i];
        st->io = (struct ag_io){.fn = on_output,
                                .fd = shell->fds[SANDBOX_SHELL_OUT + i]};
        st->pace.fn = on_pace;
        st->is_paced = false;
    }
    /* Its input is there before it runs. */
    if (start_feed(job, &job->input, shell->fds[SANDBOX_SHELL_IN], err) < 0
        || start_feed(job, &job->script, shell->fds[SANDBOX_SHELL_SCRIPT], err)
               < 0)
        return -1;
    sandbox_job_set_reading(job, true);
    return 0;
}

bool
sandbox_job_is_unread(const struct sandbox_job *job)
{
    int left = 0;

    return job->script.io.fd >= 0
           && ioctl(job->script.io.fd, FIONREAD, &left) == 0
           && (size_t)left == job->script.at;
}

void
sandbox_job_close_pipes(struct sandbox_job *job)
{
    close_feed(&job->input);
    close_feed(&job->script);
    for (int i = 0; i < 2; i++)
        close_stream(&job->streams[i]);
}

void
sandbox_job_read_all(struct sandbox_job *job, int rounds)
{
    for (int i = 0; i < 2; i++)
        if (job->streams[i].io.fd >= 0
            && !read_stream(&job->streams[i], rounds))
            close_stream(&job->streams[i]);
}
