/* The vault's OpenWorkload for a run. */
#include "brain_svc/brain_workload.h"

#include <stdlib.h>

#include "agent_rpc.h"
#include "lib/id.h"
#include "vault.pb-c.h"

/* As a tool call is repeated. */
#define AGAIN_MS 500
#define AGAIN_MAX 40

struct brain_workload {
    struct brain *brain;
    char session[AG_ID_TEXT];
    char *stub;  /* NULL: not open */
    int n_given; /* so often it was told */
    bool is_opening, is_freed;
    brain_workload_opened *fn; /* who waits, or NULL */
    void *arg;
    struct ag_timer soon, again;
    int n_again; /* so often it was asked again for the one who waits */
};

static void
workload_free(struct brain_workload *w)
{
    ag_timer_stop(w->brain->loop, &w->soon);
    ag_timer_stop(w->brain->loop, &w->again);
    free(w->stub);
    free(w);
}

static void
tell(struct brain_workload *w, const struct ag_err *err)
{
    brain_workload_opened *fn = w->fn;

    w->fn = NULL;
    if (fn == NULL)
        return;
    w->n_given += err == NULL;
    fn(w->arg, err == NULL ? w->stub : NULL, err);
}

static void
tell_now(struct ag_timer *timer)
{
    tell((struct brain_workload *)((char *)timer
                                   - offsetof(struct brain_workload, soon)),
         NULL);
}

/* The vault is restarting, or slow. */
static bool
is_passing(const struct ag_err *err)
{
    return err->kind == AG_ERR_UNAVAILABLE || err->kind == AG_ERR_TIMEOUT;
}

static void
opened(void *arg, const ProtobufCMessage *reply, const struct ag_err *err)
{
    struct brain_workload *w = arg;

    w->is_opening = false;
    if (w->is_freed) {
        workload_free(w);
        return;
    }
    if (err != NULL && is_passing(err) && w->fn != NULL
        && w->n_again++ < AGAIN_MAX) {
        ag_log(AG_WARN, "workload.retried", AG_S("session", w->session),
               AG_E(err));
        ag_timer_start(w->brain->loop, &w->again, AGAIN_MS);
        return;
    }
    w->n_again = 0;
    if (err == NULL)
        w->stub = ag_str_dup(
            ag_str(((const Agent__Vault__V1__OpenWorkloadResponse *)reply)
                       ->model_stub));
    tell(w, err);
}

static void
workload_open(struct brain_workload *w)
{
    Agent__Vault__V1__OpenWorkloadRequest m =
        AGENT__VAULT__V1__OPEN_WORKLOAD_REQUEST__INIT;
    struct ag_rpc_call_opts opts = {BRAIN_RPC_TIMEOUT_MS, NULL, 0};

    w->is_opening = true;
    w->n_given = 0;
    m.session_id = w->session;
    m.kind = AGENT__VAULT__V1__WORKLOAD_KIND__WORKLOAD_BRAIN;
    ag_rpc_unary(w->brain->vault,
                 &agent__vault__v1__workload_service__open_workload__rpc,
                 &m.base, &opts, opened, w);
}

static void
open_again(struct ag_timer *timer)
{
    workload_open(
        (struct brain_workload *)((char *)timer
                                  - offsetof(struct brain_workload, again)));
}

struct brain_workload *
brain_workload_new(struct brain *brain, ag_str_t session)
{
    struct brain_workload *w = ag_xcalloc(1, sizeof(*w));

    ag_assert(session.n < sizeof(w->session));
    w->brain = brain;
    memcpy(w->session, session.p, session.n);
    w->soon.fn = tell_now;
    w->again.fn = open_again;
    workload_open(w);
    return w;
}

void
brain_workload_free(struct brain_workload *w)
{
    if (w == NULL)
        return;
    w->is_freed = true;
    if (!w->is_opening)
        workload_free(w);
}

void
brain_workload_await(struct brain_workload *w, brain_workload_opened *fn,
                     void *arg)
{
    ag_assert(w->fn == NULL);
    w->fn = fn;
    w->arg = arg;
    if (w->stub != NULL)
        ag_timer_start(w->brain->loop, &w->soon, 0);
    else if (!w->is_opening && w->again.slot == 0)
        workload_open(w);
}

void
brain_workload_leave(struct brain_workload *w)
{
    w->fn = NULL;
    ag_timer_stop(w->brain->loop, &w->soon);
    ag_timer_stop(w->brain->loop, &w->again);
    w->n_again = 0;
}

static void
warmed(void *arg, const ProtobufCMessage *reply, const struct ag_err *err)
{
    (void)arg; /* a hint: whoever uses it is told what is wrong */
    (void)reply;
    (void)err;
}

void
brain_workload_warm(struct brain_workload *w)
{
    Agent__Vault__V1__WarmWorkloadRequest m =
        AGENT__VAULT__V1__WARM_WORKLOAD_REQUEST__INIT;
    struct ag_rpc_call_opts opts = {BRAIN_RPC_TIMEOUT_MS, NULL, 0};

    m.session_id = w->session;
    ag_rpc_unary(w->brain->vault,
                 &agent__vault__v1__workload_service__warm_workload__rpc,
                 &m.base, &opts, warmed, NULL);
}

bool
brain_workload_renew(struct brain_workload *w)
{
    free(ag_take(&w->stub));
    return w->n_given > 1;
}
