/*
 * Watches how large a workspace is, in bytes and in files: the kernel has no
 * quota for a folder. The launcher measures, since the files are root's; this
 * side asks, at most a twentieth of the time, and decides. For
 * sandbox_session.c, on the loop.
 */
#include "sandbox_svc/sandbox_watch.h"

#include "lib/clock.h"
#include "lib/log.h"
#include "sandbox_svc/sandbox_exec.h"
#include "sandbox_svc/sandbox_link.h"

#define FIRST_MS 300
#define EVERY_MS 2000
#define PAUSE_FACTOR 20

/* The session may be gone when the answer comes: it is found by its name. */
struct measure {
    struct sandbox_svc *svc;
    char session_id[LAUNCHER_ID_MAX], sandbox_id[LAUNCHER_ID_MAX];
};

static void
watch_again(struct sandbox_session *s)
{
    int64_t took_ms = ag_mono_ms() - s->watch_begun_ms;
    int64_t pause_ms = took_ms * PAUSE_FACTOR;

    ag_timer_start(s->svc->loop, &s->watch,
                   pause_ms > EVERY_MS ? pause_ms : EVERY_MS);
}

/* What is being removed gets smaller. What grows without a command has nobody
 * to tell. */
static void
judge(struct sandbox_session *s, const struct launcher_reply *now)
{
    const struct sandbox_limits *l = &s->svc->limits;
    bool is_over =
        now->bytes > l->workspace_bytes || now->inodes > l->workspace_inodes;
    bool has_shrunk =
        now->bytes < s->workspace_bytes || now->inodes < s->workspace_files;
    bool has_grown =
        now->bytes > s->workspace_bytes || now->inodes > s->workspace_files;

    s->workspace_bytes = now->bytes;
    s->workspace_files = now->inodes;
    if (!is_over)
        return;
    if (s->job != NULL && !has_shrunk)
        sandbox_job_disk_full(s->job);
    else if (s->job == NULL && has_grown)
        sandbox_session_limit(s, "disk", "the workspace is full");
}

static void
on_measured(void *arg, const struct launcher_reply *reply, const int *fds,
            const struct ag_err *err)
{
    struct measure *m = arg;
    struct sandbox_session *s =
        sandbox_session_find(m->svc, ag_str(m->session_id));
    bool is_ours =
        sandbox_session_is_live(s) && strcmp(s->box->id, m->sandbox_id) == 0;

    (void)fds;
    ag_freep(&m);
    if (!is_ours)
        return;
    watch_again(s);
    if (err != NULL)
        return;
    judge(s, reply);
}

static void
on_watch(struct ag_timer *timer)
{
    struct sandbox_session *s =
        (struct sandbox_session *)((char *)timer
                                   - offsetof(struct sandbox_session, watch));
    struct launcher_request req = {.type = LAUNCHER_MEASURE};
    struct measure *m = ag_xcalloc(1, sizeof(*m));
    struct ag_err err = AG_ERR_INIT;

    m->svc = s->svc;
    memcpy(m->session_id, s->id, sizeof(m->session_id));
    memcpy(m->sandbox_id, s->box->id, sizeof(m->sandbox_id));
    memcpy(req.session_id, s->id, sizeof(req.session_id));
    s->watch_begun_ms = ag_mono_ms();
    /* Without a launcher the sandbox is about to go. */
    if (sandbox_link_send(s->svc->link, &req, on_measured, m, &err) < 0)
        ag_freep(&m);
}

void
sandbox_watch_start(struct sandbox_session *s)
{
    /* What is over the limit from the start may be cleaned up. */
    s->workspace_bytes = s->workspace_files = INT64_MAX;
    s->watch.fn = on_watch;
    ag_timer_start(s->svc->loop, &s->watch, FIRST_MS);
}

void
sandbox_watch_stop(struct sandbox_session *s)
{
    ag_timer_stop(s->svc->loop, &s->watch);
}
