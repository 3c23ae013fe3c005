/*
 * The vault freezes a session by itself: nothing of it leaves any more. What is
 * left to do here is to end the turn that goes on, which destroys the sandbox,
 * and to say why. Runs on the loop.
 */
#include "brain_svc/brain_incident.h"

#include <stdlib.h>

#include "agent_rpc.h"
#include "brain_svc/brain_run.h"
#include "vault.pb-c.h"

enum { RETRY_MS = 1000, STREAM_MS = 24 * 3600 * 1000 };

struct brain_incidents {
    struct brain *brain;
    struct ag_rpc_client_call *call; /* NULL: none is open */
    struct ag_timer retry;
    bool is_stopped, is_freed;
};

static void open_stream(struct brain_incidents *in);

static void
on_event(void *arg, const ProtobufCMessage *item)
{
    struct brain_incidents *in = arg;
    const Agent__Vault__V1__IncidentEvent *e = (const void *)item;

    if (!e->is_open || in->is_stopped)
        return;
    if (brain_run_freeze(in->brain, ag_str(e->session_id), e->kind))
        ag_log(AG_WARN, "session.frozen", AG_S("session", e->session_id),
               AG_S("incident", e->incident_id), AG_S("kind", e->kind));
}

static void
on_end(void *arg, const struct ag_err *err)
{
    struct brain_incidents *in = arg;

    (void)err; /* whoever needs the vault says that it is away */
    in->call = NULL;
    if (in->is_freed)
        free(in);
    else if (!in->is_stopped)
        ag_timer_start(in->brain->loop, &in->retry, RETRY_MS);
}

static void
on_retry(struct ag_timer *timer)
{
    open_stream(
        (struct brain_incidents *)(void *)((char *)timer
                                           - offsetof(struct brain_incidents,
                                                      retry)));
}

static void
open_stream(struct brain_incidents *in)
{
    static const Agent__Vault__V1__WatchIncidentsRequest req =
        AGENT__VAULT__V1__WATCH_INCIDENTS_REQUEST__INIT;
    const struct ag_rpc_call_opts opts = {.timeout_ms = STREAM_MS};

    in->call = ag_rpc_stream(
        in->brain->vault,
        &agent__vault__v1__incident_watch_service__watch_incidents__rpc,
        &req.base, &opts, on_event, on_end, in);
}

struct brain_incidents *
brain_incidents_start(struct brain *brain)
{
    struct brain_incidents *in = ag_xcalloc(1, sizeof(*in));

    in->brain = brain;
    in->retry.fn = on_retry;
    open_stream(in);
    return in;
}

void
brain_incidents_stop(struct brain_incidents *in)
{
    if (in == NULL)
        return;
    in->is_stopped = true;
    ag_timer_stop(in->brain->loop, &in->retry);
    if (in->call != NULL)
        ag_rpc_cancel(in->call);
}

void
brain_incidents_free(struct brain_incidents *in)
{
    if (in == NULL)
        return;
    if (in->call != NULL)
        in->is_freed = true; /* the end of the stream frees it */
    else
        free(in);
}
