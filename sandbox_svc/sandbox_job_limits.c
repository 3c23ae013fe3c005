/*
 * Which limit a command met, found when it has ended: from what the kernel
 * counted, from what init saw of its file systems, and, for the one limit that
 * leaves no other trace, from what the command said. Only the first two kill.
 */
#include "sandbox_svc/sandbox_job.h"

#include <signal.h>

#include "lib/log.h"
#include "sandbox_svc/sandbox_session.h"

/* The processor's limit is told when it stopped a command in so many of its
 * periods, a second's worth (launcher_cgroup.c), and in half of them. */
#define THROTTLED_MIN 50
/* What a shell makes of a signal of its child. */
#define SHELL_SIGNAL 128

static const char too_many_files[] = "Too many open files";

void
sandbox_job_count_begin(struct sandbox_job *job)
{
    const struct sandbox_box *box = job->session->box;

    job->oom_before = sandbox_limits_count(box->memory_events, "oom_kill");
    job->refused_before = sandbox_limits_count(box->pids_events, "max");
    job->periods_before = sandbox_limits_count(box->cpu_stat, "nr_periods");
    job->throttled_before = sandbox_limits_count(box->cpu_stat, "nr_throttled");
}

int64_t
sandbox_job_forks_refused(const struct sandbox_job *job)
{
    return sandbox_limits_count(job->session->box->pids_events, "max")
           - job->refused_before;
}

int64_t
sandbox_job_oom_kills(const struct sandbox_job *job)
{
    return sandbox_limits_count(job->session->box->memory_events, "oom_kill")
           - job->oom_before;
}

static bool
was_throttled(const struct sandbox_job *job)
{
    int fd = job->session->box->cpu_stat;
    int64_t n =
        sandbox_limits_count(fd, "nr_throttled") - job->throttled_before;
    int64_t of = sandbox_limits_count(fd, "nr_periods") - job->periods_before;

    return n >= THROTTLED_MIN && n * 2 >= of;
}

/* Files of more bytes than the root may hold, or no room left in it. */
static bool
was_disk_full(const struct sandbox_job *job)
{
    return job->is_disk_full || job->signal == SIGXFSZ
           || job->exit_code == SHELL_SIGNAL + SIGXFSZ;
}

static bool
says(const struct sandbox_job *job, const char *words)
{
    const struct ag_buf *b = &job->text[1];

    return b->n > 0 && memmem(b->p, b->n, words, strlen(words)) != NULL;
}

void
sandbox_job_notice_limits(struct sandbox_job *job)
{
    struct ag_err err = AG_ERR_INIT;

    if (job->session == NULL || job->session->box == NULL
        || job->reason != SANDBOX_REASON_NONE)
        return;
    int64_t refused = sandbox_job_forks_refused(job);
    bool has_failed = job->exit_code != 0 || job->signal != 0;
    if (has_failed && sandbox_job_oom_kills(job) > 0)
        job->reason = SANDBOX_REASON_MEMORY;
    else if (refused >= SANDBOX_FORKS_REFUSED_MAX
             || (has_failed && refused > 0))
        job->reason = SANDBOX_REASON_PIDS;
    else if (has_failed && was_disk_full(job))
        job->reason = SANDBOX_REASON_DISK;
    else if (has_failed && says(job, too_many_files))
        job->reason = SANDBOX_REASON_OPEN_FILES;
    else if (was_throttled(job))
        job->reason = SANDBOX_REASON_CPU;
    /* It may have left what still multiplies. */
    if (job->reason == SANDBOX_REASON_PIDS)
        (void)sandbox_box_kill(job->session->box, &err);
}
