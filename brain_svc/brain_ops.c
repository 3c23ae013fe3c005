/*
 * agent.brain.v1.OpsService: is everything there that a turn needs, and how
 * much was done. On the loop; that it answers shows that the loop
 * turns.
 */
#include "brain.pb-c.h"
#include "agent_rpc.h"
#include "brain_svc/brain_hub.h"
#include "brain_svc/brain_metrics.h"
#include "brain_svc/brain_run.h"
#include "grpc/health/v1/health.pb-c.h"
#include "lib/clock.h"
#include "sandbox.pb-c.h"

/* A part that takes longer is down. */
#define PART_TIMEOUT_MS 2000
#define TEXT_MAX (1 << 20)

/* ---- metrics ----------------------------------------------------------- */

static void
get_metrics(struct ag_rpc_call *call, const ProtobufCMessage *request,
            void *arg)
{
    AG_AUTO(ag_buf_release) struct ag_buf text = AG_BUF_INIT(TEXT_MAX);
    Agent__Brain__V1__Metrics reply = AGENT__BRAIN__V1__METRICS__INIT;
    struct brain *brain = arg;
    struct ag_err err;

    (void)request;
    if (brain_enter(brain, call, false) == NULL)
        return;
    ag_metrics_set(brain->metrics, BRAIN_METRIC_RUNS, NULL, NULL,
                   (double)brain_runs_count(brain->runs));
    ag_metrics_set(brain->metrics, BRAIN_METRIC_LISTENERS, NULL, NULL,
                   (double)brain_hub_count(brain->hub));
    if (ag_metrics_write(brain->metrics, &text, &err) < 0) {
        ag_rpc_fail(call, &err);
        return;
    }
    reply.text = (char *)(uintptr_t)ag_buf_cstr(&text);
    ag_rpc_reply(call, &reply.base);
}

static void
have_sandbox_metrics(void *arg, const ProtobufCMessage *message,
                     const struct ag_err *err)
{
    const Agent__Sandbox__V1__Metrics *m =
        (const Agent__Sandbox__V1__Metrics *)message;
    Agent__Brain__V1__Metrics reply = AGENT__BRAIN__V1__METRICS__INIT;
    struct brain_req *req = arg;

    if (err != NULL) {
        ag_rpc_fail(req->call, err);
        return;
    }
    reply.text = m->text;
    ag_rpc_reply(req->call, &reply.base);
}

static void
get_sandbox_metrics(struct ag_rpc_call *call, const ProtobufCMessage *request,
                    void *arg)
{
    Agent__Sandbox__V1__GetMetricsRequest ask =
        AGENT__SANDBOX__V1__GET_METRICS_REQUEST__INIT;
    struct ag_rpc_call_opts opts = {.timeout_ms = BRAIN_RPC_TIMEOUT_MS};
    struct brain_req *req = brain_enter(arg, call, false);

    (void)request;
    if (req != NULL)
        (void)ag_rpc_unary(
            req->brain->sandbox,
            &agent__sandbox__v1__sandbox_service__get_metrics__rpc, &ask.base,
            &opts, have_sandbox_metrics, req);
}

/* ---- health ------------------------------------------------------------ */

enum { DATABASE, VAULT, SANDBOX, PARTS };

struct health;

struct part {
    struct health *health;
    Agent__Brain__V1__HealthPart m;
};

struct health {
    struct brain_req *req;
    struct part parts[PARTS];
    int64_t begun_us;
    int n_left;
};

static void
health_answer(struct health *h)
{
    Agent__Brain__V1__Health reply = AGENT__BRAIN__V1__HEALTH__INIT;
    Agent__Brain__V1__HealthPart *list[PARTS];
    struct ag_err err = AG_ERR_INIT;
    const char *down = "";

    for (int i = 0; i < PARTS; i++) {
        list[i] = &h->parts[i].m;
        if (!list[i]->ok)
            down = ag_arena_printf(h->req->arena, "%s%s%s (%s)", down,
                                   *down ? ", " : "", list[i]->name,
                                   list[i]->reason);
    }
    if (*down != '\0') {
        ag_err_set(&err, AG_ERR_UNAVAILABLE, "down: %s", down);
        ag_rpc_fail(h->req->call, &err);
        return;
    }
    reply.status = (char *)(uintptr_t) "ok";
    reply.parts = list;
    reply.n_parts = PARTS;
    ag_rpc_reply(h->req->call, &reply.base);
}

static void
part_over(struct part *p, const char *reason)
{
    struct health *h = p->health;

    p->m.ok = *reason == '\0';
    p->m.reason = ag_arena_cstr(h->req->arena, ag_str(reason));
    p->m.took_us = ag_mono_us() - h->begun_us;
    if (--h->n_left == 0)
        health_answer(h);
}

static void
on_database(void *arg, const struct ag_db_result *res, const struct ag_err *err)
{
    (void)res;
    part_over(arg, err == NULL ? "" : err->msg);
}

static void
on_service(void *arg, const ProtobufCMessage *message, const struct ag_err *err)
{
    const Grpc__Health__V1__HealthCheckResponse *m =
        (const Grpc__Health__V1__HealthCheckResponse *)message;

    if (err != NULL)
        part_over(arg, err->msg);
    else if (
        m->status
        != GRPC__HEALTH__V1__HEALTH_CHECK_RESPONSE__SERVING_STATUS__SERVING)
        part_over(arg, "it is not serving");
    else
        part_over(arg, "");
}

static void
get_health(struct ag_rpc_call *call, const ProtobufCMessage *request, void *arg)
{
    static const char *const names[PARTS] = {"database", "vault", "sandbox"};
    Grpc__Health__V1__HealthCheckRequest ask =
        GRPC__HEALTH__V1__HEALTH_CHECK_REQUEST__INIT;
    struct ag_rpc_call_opts opts = {.timeout_ms = PART_TIMEOUT_MS};
    struct brain_req *req = brain_enter(arg, call, false);
    struct health *h;

    (void)request;
    if (req == NULL)
        return;
    h = ag_arena_alloc(req->arena, sizeof(*h));
    *h = (struct health){.req = req, .begun_us = ag_mono_us(), .n_left = PARTS};
    for (int i = 0; i < PARTS; i++) {
        agent__brain__v1__health_part__init(&h->parts[i].m);
        h->parts[i].m.name = (char *)(uintptr_t)names[i];
        h->parts[i].health = h;
    }
    brain_query(req, "SELECT 1", NULL, 0, on_database, &h->parts[DATABASE]);
    (void)ag_rpc_unary(req->brain->vault, &grpc__health__v1__health__check__rpc,
                       &ask.base, &opts, on_service, &h->parts[VAULT]);
    (void)ag_rpc_unary(req->brain->sandbox,
                       &grpc__health__v1__health__check__rpc, &ask.base, &opts,
                       on_service, &h->parts[SANDBOX]);
}

void
brain_ops_register(struct brain *brain)
{
#define ADD(name)                                                          \
    ag_rpc_server_add(brain->server,                                       \
                      &agent__brain__v1__ops_service__##name##__rpc, name, \
                      brain)
    ADD(get_health);
    ADD(get_metrics);
    ADD(get_sandbox_metrics);
#undef ADD
}
