/*
 * Sessions and their sandboxes. A provision claims a box from the pool,
 * attaches the workspace and, meanwhile, asks the vault what the session may
 * have; nothing runs in the box before both are done. Whoever asks meanwhile
 * waits for the same answer. The end of a turn destroys the box and tells the
 * vault.
 *
 * The state decides what may come next; session_enter is the only place that
 * changes it.
 */
#include "sandbox_svc/sandbox_session.h"

#include "sandbox_svc/sandbox_metrics.h"

#include <stdio.h>
#include <stdlib.h>

#include "agent_rpc.h"
#include "lib/clock.h"
#include "lib/log.h"
#include "lib/secret.h"
#include "sandbox_svc/sandbox_ca.h"
#include "sandbox_svc/sandbox_ended.h"
#include "sandbox_svc/sandbox_env.h"
#include "sandbox_svc/sandbox_exec.h"
#include "sandbox_svc/sandbox_link.h"
#include "sandbox_svc/sandbox_pool.h"
#include "sandbox_svc/sandbox_watch.h"
#include "sandbox_svc/sandbox_workload.h"

#define VAULT_TIMEOUT_MS 5000
#define ENV_BYTES (SANDBOX_ENV_MAX + 4096)
/* The workspace, and what the vault gives: see on_claimed. */
#define PREPARE_STEPS 2

struct sandbox_provision {
    struct sandbox_provision *next;
    sandbox_provision_done *done;
    void *arg;
};

struct sandbox_ending {
    struct sandbox_ending *next;
    sandbox_ending_done *done;
    void *arg;
};

static void session_open(struct sandbox_session *s);

/* ---- states ---------------------------------------------------------- */

static const char *const state_names[] = {"idle", "opening", "ready", "ending"};

static const bool allowed[4][4] = {
    [SANDBOX_SESSION_IDLE] = {[SANDBOX_SESSION_OPENING] = true},
    [SANDBOX_SESSION_OPENING] = {[SANDBOX_SESSION_READY] = true,
                                 [SANDBOX_SESSION_ENDING] = true,
                                 [SANDBOX_SESSION_IDLE] = true},
    [SANDBOX_SESSION_READY] =
        {[SANDBOX_SESSION_ENDING] = true, [SANDBOX_SESSION_IDLE] = true},
    [SANDBOX_SESSION_ENDING] = {[SANDBOX_SESSION_IDLE] = true},
};

static void
session_enter(struct sandbox_session *s, enum sandbox_session_state next)
{
    ag_assert(allowed[s->state][next]);
    ag_log(AG_DEBUG, "session.moved", AG_S("session", s->id),
           AG_S("from", state_names[s->state]), AG_S("to", state_names[next]));
    s->state = next;
}

/* ---- life ------------------------------------------------------------ */

struct sandbox_session *
sandbox_session_find(struct sandbox_svc *svc, ag_str_t id)
{
    struct sandbox_session *s = svc->sessions;

    while (s != NULL && !ag_str_is(id, s->id))
        s = s->next;
    return s;
}

bool
sandbox_session_is_live(const struct sandbox_session *s)
{
    return s != NULL && s->state == SANDBOX_SESSION_READY && !s->box->is_dead;
}

static void
free_strings(char ***list, size_t *n)
{
    for (size_t i = 0; i < *n; i++)
        free((*list)[i]);
    free(ag_take(list));
    *n = 0;
}

/* Forget what belongs to one sandbox. */
static void
session_clear(struct sandbox_session *s)
{
    ag_timer_stop(s->svc->loop, &s->expiry);
    ag_timer_stop(s->svc->loop, &s->shell);
    ag_timer_stop(s->svc->loop, &s->idle);
    sandbox_watch_stop(s);
    if (s->job != NULL)
        sandbox_job_lost(s->job);
    free(ag_take(&s->tenant));
    free(ag_take(&s->environment_id));
    free(ag_take(&s->ca_pem));
    ag_buf_wipe(&s->env);
    ag_buf_init(&s->env, ENV_BYTES);
    free_strings(&s->env_names, &s->n_env_names);
    free_strings(&s->hosts, &s->n_hosts);
    free_strings(&s->calls, &s->n_calls);
    s->fence = 0;
    ag_closep(&s->output_dir);
    s->output_dir = -1;
    s->is_recorded = false;
    sandbox_box_free(ag_take(&s->box));
}

static void
session_free(struct sandbox_session *s)
{
    struct sandbox_session **at = &s->svc->sessions;

    while (*at != s)
        at = &(*at)->next;
    *at = s->next;
    session_clear(s);
    ag_buf_release(&s->env);
    ag_freep(&s->wanted_environment);
    ag_freep(&s->task_description);
    ag_freep(&s);
}

void
sandbox_session_limit(struct sandbox_session *s, const char *limit,
                      const char *why)
{
    ag_log(AG_INFO, "limit.reached", AG_S("session", s->id),
           AG_S("call", s->job == NULL ? "" : sandbox_exec_call_id(s->job)),
           AG_S("limit", limit));
    sandbox_ended_note(s->svc->ended, s->id, why);
    sandbox_session_end(s, why, NULL, NULL);
}

static void
on_expiry(struct ag_timer *timer)
{
    struct sandbox_session *s =
        (struct sandbox_session *)((char *)timer
                                   - offsetof(struct sandbox_session, expiry));

    sandbox_session_limit(s, "session_seconds", "its time is over");
}

static void
on_idle(struct ag_timer *timer)
{
    struct sandbox_session *s =
        (struct sandbox_session *)((char *)timer
                                   - offsetof(struct sandbox_session, idle));

    sandbox_session_limit(s, "idle_seconds", "nothing ran in it for long");
}

static struct sandbox_session *
session_new(struct sandbox_svc *svc, const char *id)
{
    struct sandbox_session *s = ag_xcalloc(1, sizeof(*s));

    snprintf(s->id, sizeof(s->id), "%s", id);
    s->svc = svc;
    s->output_dir = -1;
    s->expiry.fn = on_expiry;
    s->idle.fn = on_idle;
    ag_buf_init(&s->env, ENV_BYTES);
    s->next = svc->sessions;
    svc->sessions = s;
    return s;
}

static void
answer_provisions(struct sandbox_session *s, const struct ag_err *err)
{
    struct sandbox_provision *list = ag_take(&s->provisions), *p;

    while ((p = list) != NULL) {
        list = p->next;
        p->done(p->arg, err == NULL ? s : NULL, err == NULL, err);
        ag_freep(&p);
    }
}

/* ---- the end --------------------------------------------------------- */

static void
on_workload_closed(void *arg, const ProtobufCMessage *reply,
                   const struct ag_err *err)
{
    (void)reply;
    ((struct sandbox_svc *)arg)->n_vault_calls--;
    if (err != NULL)
        ag_log(AG_WARN, "workload.close_failed", AG_E(err));
}

static void
close_workload(struct sandbox_svc *svc, const char *sandbox_id)
{
    Agent__Vault__V1__CloseWorkloadRequest req =
        AGENT__VAULT__V1__CLOSE_WORKLOAD_REQUEST__INIT;
    const struct ag_rpc_call_opts opts = {.timeout_ms = VAULT_TIMEOUT_MS};

    req.workload_id = (char *)sandbox_id;
    svc->n_vault_calls++;
    (void)ag_rpc_unary(svc->vault,
                       &agent__vault__v1__workload_service__close_workload__rpc,
                       &req.base, &opts, on_workload_closed, svc);
}

static void
answer_endings(struct sandbox_session *s)
{
    struct sandbox_ending *list = ag_take(&s->endings), *e;

    while ((e = list) != NULL) {
        list = e->next;
        e->done(e->arg);
        ag_freep(&e);
    }
}

/* Nothing of the sandbox is left. Whoever waits for a new one gets it now. */
static void
session_ended(struct sandbox_session *s)
{
    if (s->box != NULL)
        close_workload(s->svc, s->box->id);
    session_clear(s);
    session_enter(s, SANDBOX_SESSION_IDLE);
    answer_endings(s);
    if (s->provisions != NULL)
        session_open(s);
    else
        session_free(s);
}

static void
on_destroyed(void *arg, const struct launcher_reply *reply, const int *fds,
             const struct ag_err *err)
{
    struct sandbox_session *s = arg;

    (void)reply;
    (void)fds;
    if (err != NULL && err->kind != AG_ERR_NOT_FOUND)
        ag_log(AG_WARN, "sandbox.destroy_failed", AG_S("sandbox", s->box->id),
               AG_E(err));
    ag_log(AG_INFO, "sandbox.destroyed", AG_S("sandbox", s->box->id),
           AG_S("session", s->id));
    session_ended(s);
}

static void
session_destroy(struct sandbox_session *s, const char *why)
{
    struct launcher_request req = {.type = LAUNCHER_DESTROY};
    struct ag_err err = AG_ERR_INIT;

    ag_log(AG_INFO, "sandbox.ending", AG_S("session", s->id),
           AG_S("reason", why));
    ag_metrics_add(s->svc->metrics, SANDBOX_METRIC_ENDED, why, NULL, 1);
    if (s->job != NULL)
        sandbox_job_turn_ended(s->job);
    session_enter(s, SANDBOX_SESSION_ENDING);
    memcpy(req.sandbox_id, s->box->id, sizeof(req.sandbox_id));
    if (sandbox_link_send(s->svc->link, &req, on_destroyed, s, &err) < 0)
        session_ended(s);
}

void
sandbox_session_end(struct sandbox_session *s, const char *why,
                    sandbox_ending_done *done, void *arg)
{
    if (done != NULL) {
        struct sandbox_ending *e = ag_xcalloc(1, sizeof(*e));
        *e = (struct sandbox_ending){s->endings, done, arg};
        s->endings = e;
    }
    /* What is opening has callbacks under way: the last of them looks whether
     * somebody waits for the end. */
    s->is_end_wanted = s->state == SANDBOX_SESSION_OPENING;
    if (s->state == SANDBOX_SESSION_READY)
        session_destroy(s, why);
}

void
sandbox_session_all_lost(struct sandbox_svc *svc)
{
    struct sandbox_session *s, *next;

    /* What is opening or ending had a request in flight, which has failed and
     * moved it on. */
    for (s = svc->sessions; s != NULL; s = next) {
        next = s->next;
        if (s->state != SANDBOX_SESSION_READY)
            continue;
        ag_log(AG_WARN, "sandbox.lost", AG_S("sandbox", s->box->id),
               AG_S("session", s->id));
        sandbox_ended_note(svc->ended, s->id, "the launcher went away");
        session_enter(s, SANDBOX_SESSION_ENDING);
        session_ended(s);
    }
}

void
sandbox_session_job_begin(struct sandbox_session *s, struct sandbox_job *job)
{
    s->job = job;
    ag_timer_stop(s->svc->loop, &s->idle);
}

void
sandbox_session_job_done(struct sandbox_session *s)
{
    s->job = NULL;
    if (s->state == SANDBOX_SESSION_READY)
        ag_timer_start(s->svc->loop, &s->idle,
                       s->svc->conf.idle_seconds * 1000);
}

/* ---- preparing ------------------------------------------------------- */

static void
session_fail(struct sandbox_session *s, const struct ag_err *err)
{
    struct ag_err copy = *err;

    ag_log(AG_WARN, "sandbox.provision_failed", AG_S("session", s->id),
           AG_E(&copy));
    answer_provisions(s, &copy);
    if (s->box != NULL)
        session_destroy(s, "provision failed");
    else
        session_ended(s);
}

/* One of the steps is done; after the last the session is ready. */
static void
step_done(struct sandbox_session *s, const struct ag_err *err)
{
    if (err != NULL && s->step_err.kind == AG_ERR_NONE)
        s->step_err = *err;
    if (--s->steps_left > 0)
        return;
    if (s->step_err.kind != AG_ERR_NONE) {
        session_fail(s, &s->step_err);
        return;
    }
    session_enter(s, SANDBOX_SESSION_READY);
    s->created_us = ag_now_us();
    s->expires_us = s->created_us + s->svc->conf.session_seconds * 1000000;
    ag_timer_start(s->svc->loop, &s->expiry,
                   s->svc->conf.session_seconds * 1000);
    ag_timer_start(s->svc->loop, &s->idle, s->svc->conf.idle_seconds * 1000);
    sandbox_ended_note(s->svc->ended, s->id, NULL);
    sandbox_watch_start(s);
    ag_log(AG_INFO, "sandbox.provisioned", AG_S("sandbox", s->box->id),
           AG_S("session", s->id), AG_S("tenant", s->tenant));
    ag_metrics_add(s->svc->metrics, SANDBOX_METRIC_PROVISIONED, NULL, NULL, 1);
    answer_provisions(s, NULL);
    if (s->is_end_wanted || s->box->is_dead)
        session_destroy(s, "ended while it was made");
}

static void
on_attached(void *arg, const struct launcher_reply *reply, const int *fds,
            const struct ag_err *err)
{
    (void)reply;
    if (fds != NULL)
        ((struct sandbox_session *)arg)->box->cpu_stat = fds[0];
    step_done(arg, err);
}

static void
on_box_event(void *arg, const struct init_head *event)
{
    struct sandbox_session *s = arg;
    struct ag_err err = AG_ERR_INIT;

    if (sandbox_shell_died(s->box, event))
        return;
    if (event->type != INIT_PUT_DONE) {
        if (s->job != NULL)
            sandbox_job_event(s->job, event);
        return;
    }
    if (s->put_id == 0 || event->run_id != s->put_id)
        return;
    s->put_id = 0;
    if (event->a != 0)
        ag_err_set(&err, AG_ERR_INTERNAL,
                   "the certificates could not be written (errno %d)",
                   event->a);
    step_done(s, event->a != 0 ? &err : NULL);
}

static void
on_box_dead(void *arg)
{
    struct sandbox_session *s = arg;
    struct ag_err err = AG_ERR_INIT;

    if (s->state != SANDBOX_SESSION_ENDING)
        ag_log(AG_WARN, "sandbox.died", AG_S("sandbox", s->box->id),
               AG_S("session", s->id));
    if (s->job != NULL)
        sandbox_job_lost(s->job);
    if (s->state == SANDBOX_SESSION_READY) {
        sandbox_ended_note(s->svc->ended, s->id, s->box->death);
        sandbox_session_end(s, "died", NULL, NULL);
    } else if (s->state == SANDBOX_SESSION_OPENING && s->put_id != 0) {
        s->put_id = 0;
        ag_err_set(&err, AG_ERR_UNAVAILABLE, "the sandbox died");
        step_done(s, &err);
    }
}

static void
send_attach(struct sandbox_session *s)
{
    struct launcher_request req = {.type = LAUNCHER_ATTACH};
    struct ag_err err = AG_ERR_INIT;

    memcpy(req.sandbox_id, s->box->id, sizeof(req.sandbox_id));
    memcpy(req.session_id, s->id, sizeof(req.session_id));
    if (sandbox_link_send(s->svc->link, &req, on_attached, s, &err) < 0)
        step_done(s, &err);
}

/* Mostly the pool has done it. */
static void
put_certificates(struct sandbox_session *s)
{
    struct ag_err err = AG_ERR_INIT;

    if (s->box->ca_version == sandbox_ca_note(s->svc, s->ca_pem)
        || sandbox_ca_put(s->svc, s->box, &err) < 0) {
        step_done(s, err.kind == AG_ERR_NONE ? NULL : &err);
        return;
    }
    s->put_id = s->box->ca_put_id;
}

/* ---- what the vault says --------------------------------------------- */

static void
on_workload(void *arg, const ProtobufCMessage *reply,
            const struct ag_err *failure)
{
    struct sandbox_session *s = arg;
    struct ag_err err = AG_ERR_INIT;

    s->svc->n_vault_calls--;
    if (failure == NULL
        && sandbox_workload_take(
               s, (const Agent__Vault__V1__OpenWorkloadResponse *)reply, &err)
               == 0)
        put_certificates(s);
    else
        step_done(s, failure != NULL ? failure : &err);
}

static void
open_workload(struct sandbox_session *s)
{
    Agent__Vault__V1__OpenWorkloadRequest req =
        AGENT__VAULT__V1__OPEN_WORKLOAD_REQUEST__INIT;
    const struct ag_rpc_call_opts opts = {.timeout_ms = VAULT_TIMEOUT_MS};

    req.session_id = s->id;
    req.workload_id = s->box->id;
    req.kind = AGENT__VAULT__V1__WORKLOAD_KIND__WORKLOAD_SANDBOX;
    req.environment_id = s->wanted_environment;
    req.address = s->box->address;
    s->svc->n_vault_calls++;
    (void)ag_rpc_unary(s->svc->vault,
                       &agent__vault__v1__workload_service__open_workload__rpc,
                       &req.base, &opts, on_workload, s);
}

static void
on_claimed(void *arg, struct sandbox_box *box, const struct ag_err *failure)
{
    struct sandbox_session *s = arg;
    struct ag_err err = AG_ERR_INIT;

    if (box == NULL) {
        session_fail(s, failure);
        return;
    }
    s->box = box;
    box->on_event = on_box_event;
    box->on_dead = on_box_dead;
    box->arg = s;
    s->output_dir = sandbox_workload_output_dir(s->svc, s->id, &err);
    if (s->output_dir < 0) {
        session_fail(s, &err);
        return;
    }
    s->steps_left = PREPARE_STEPS;
    s->step_err = err;
    open_workload(s);
    send_attach(s);
}

static void
session_open(struct sandbox_session *s)
{
    session_enter(s, SANDBOX_SESSION_OPENING);
    s->is_end_wanted = false;
    s->put_id = 0;
    sandbox_pool_claim(s->svc->pool, on_claimed, s);
}

/* ---- provision ------------------------------------------------------- */

static void
replace(char **s, const char *with)
{
    char *copy = ag_str_dup(ag_str(with));

    ag_freep(s);
    *s = copy;
}

static bool
has_environment(const struct sandbox_session *s, const char *wanted)
{
    return *wanted == 0 || strcmp(wanted, s->wanted_environment) == 0
           || (s->environment_id != NULL
               && strcmp(wanted, s->environment_id) == 0);
}

static int
check_room(struct sandbox_svc *svc, struct ag_err *err)
{
    int64_t n = 0;

    for (struct sandbox_session *s = svc->sessions; s != NULL; s = s->next)
        n++;
    if (svc->is_stopping)
        return ag_err_set(err, AG_ERR_UNAVAILABLE, "the service is stopping");
    if (n >= svc->conf.max_sandboxes)
        return ag_err_set(err, AG_ERR_LIMIT,
                          "the machine is full: %lld sandboxes run",
                          (long long)n);
    return 0;
}

static void
session_wait(struct sandbox_session *s, sandbox_provision_done *done, void *arg)
{
    struct sandbox_provision *p = ag_xcalloc(1, sizeof(*p));

    *p = (struct sandbox_provision){s->provisions, done, arg};
    s->provisions = p;
}

void
sandbox_session_provision(struct sandbox_svc *svc,
                          const struct sandbox_provision_args *args,
                          sandbox_provision_done *done, void *arg)
{
    struct sandbox_session *s =
        sandbox_session_find(svc, ag_str(args->session_id));
    struct ag_err err = AG_ERR_INIT;
    bool is_other = s != NULL && !has_environment(s, args->environment_id);

    if (s != NULL && args->fence > s->fence)
        s->fence = args->fence;
    if (sandbox_session_is_live(s) && !is_other) {
        done(arg, s, false, NULL);
        return;
    }
    if (s != NULL && s->state == SANDBOX_SESSION_OPENING && is_other) {
        ag_err_set(&err, AG_ERR_CONFLICT,
                   "a sandbox of another environment is being provisioned");
        done(arg, NULL, false, &err);
        return;
    }
    if (s == NULL && check_room(svc, &err) < 0) {
        done(arg, NULL, false, &err);
        return;
    }
    if (s == NULL) {
        s = session_new(svc, args->session_id);
        s->fence = args->fence;
    }
    session_wait(s, done, arg);
    if (s->state != SANDBOX_SESSION_OPENING) {
        replace(&s->wanted_environment, args->environment_id);
        replace(&s->task_description, args->task_description);
    }
    if (s->state == SANDBOX_SESSION_IDLE)
        session_open(s);
    else if (s->state == SANDBOX_SESSION_READY)
        sandbox_session_end(s, "replaced", NULL, NULL);
}
