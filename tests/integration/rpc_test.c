/*
 * gRPC over C core, server and client in one process on a unix socket and on
 * TCP with mutual TLS: every promise of lib/rpc_server.h and lib/rpc_client.h.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#include "agent_rpc.h"
#include "brain.pb-c.h"
#include "grpc/health/v1/health.pb-c.h"
#include "grpc/reflection/v1/reflection.pb-c.h"
#include "lib/clock.h"
#include "lib/rpc_client.h"
#include "lib/rpc_server.h"

#define GET_MODEL agent__brain__v1__model_service__list_models__rpc
#define GET_AGENT agent__brain__v1__agent_service__get_agent__rpc
#define STREAM agent__brain__v1__event_service__stream_events__rpc

struct fixture {
    char dir[32], path[64], target[80];
    struct ag_loop *loop;
    struct ag_rpc *rpc;
    struct ag_rpc_server *srv;
    struct ag_rpc_channel *ch;
    /* What the callbacks saw. */
    struct ag_err err;
    int replies, items, ends, cancels, stops;
    char text[128];
    struct ag_rpc_call *held;
    struct ag_timer timer;
};

static void
on_get_agent(struct ag_rpc_call *call, const ProtobufCMessage *request,
             void *arg)
{
    const Agent__Brain__V1__GetAgentRequest *req =
        (const Agent__Brain__V1__GetAgentRequest *)request;
    Agent__Brain__V1__Agent reply = AGENT__BRAIN__V1__AGENT__INIT;
    struct ag_err err;

    (void)arg;
    if (strcmp(req->agent_id, "missing") == 0) {
        ag_err_set(&err, AG_ERR_NOT_FOUND, "no agent \"missing\"");
        ag_rpc_fail(call, &err);
        return;
    }
    reply.id = req->agent_id;
    reply.name = ag_arena_cstr(ag_rpc_call_arena(call),
                               ag_rpc_call_metadata(call, "x-test"));
    ag_rpc_reply(call, &reply.base);
}

static void
finish_cancelled(struct ag_rpc_call *call, void *arg)
{
    struct fixture *f = arg;
    struct ag_err err;

    f->cancels++;
    ag_err_set(&err, AG_ERR_CANCELLED, "the caller is gone");
    ag_rpc_fail(call, &err);
    f->held = NULL;
}

/* Streams `limit` items; with 0 it holds the call open. */
static void
on_stream(struct ag_rpc_call *call, const ProtobufCMessage *request, void *arg)
{
    const Agent__Brain__V1__StreamEventsRequest *req =
        (const Agent__Brain__V1__StreamEventsRequest *)request;
    Agent__Brain__V1__StreamEventsResponse item =
        AGENT__BRAIN__V1__STREAM_EVENTS_RESPONSE__INIT;
    struct fixture *f = arg;
    int n = atoi(req->last_event_id);

    if (n == 0) {
        f->held = call;
        assert_non_null(ag_rpc_call_metadata(call, "user-agent").p);
        ag_rpc_call_on_cancel(call, finish_cancelled, f);
        ag_rpc_accept(call);
        assert_null(ag_rpc_call_metadata(call, "user-agent").p);
        return;
    }
    for (int i = 0; i < n; i++) {
        char id[16];

        (void)snprintf(id, sizeof(id), "%d", i);
        item.event_id = id;
        (void)ag_rpc_send(call, &item.base);
    }
    ag_rpc_end(call);
}

static int
setup(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));
    struct ag_err err;

    strcpy(f->dir, "/tmp/bbrpcXXXXXX");
    assert_non_null(mkdtemp(f->dir));
    (void)snprintf(f->path, sizeof(f->path), "%s/t.sock", f->dir);
    (void)snprintf(f->target, sizeof(f->target), "unix:%s", f->path);
    f->loop = ag_loop_new(&err);
    f->rpc = ag_rpc_new(f->loop, &err);
    f->srv = ag_rpc_server_new(f->rpc, "test");
    ag_rpc_server_add(f->srv, &GET_AGENT, on_get_agent, f);
    ag_rpc_server_add(f->srv, &STREAM, on_stream, f);
    assert_int_equal(ag_rpc_server_listen_unix(f->srv, f->path, &err), 0);
    assert_int_equal(ag_rpc_server_start(f->srv, &err), 0);
    f->ch = ag_rpc_channel_new(f->rpc, f->target);
    *state = f;
    return 0;
}

static void
stop_loop(void *arg)
{
    ag_loop_stop(((struct fixture *)arg)->loop);
}

static void
server_stopped(void *arg)
{
    ((struct fixture *)arg)->stops++;
    stop_loop(arg);
}

static int
teardown(void **state)
{
    struct fixture *f = *state;
    char lock[80];

    if (f->srv != NULL) {
        ag_rpc_server_stop(f->srv, 50, stop_loop, f);
        ag_loop_run(f->loop);
        ag_rpc_server_free(f->srv);
    }
    ag_rpc_channel_free(f->ch);
    ag_rpc_free(f->rpc);
    ag_loop_free(f->loop);
    (void)snprintf(lock, sizeof(lock), "%s.lock", f->path);
    (void)unlink(lock);
    (void)unlink(f->path);
    assert_int_equal(rmdir(f->dir), 0);
    free(f);
    return 0;
}

static void
on_reply(void *arg, const ProtobufCMessage *reply, const struct ag_err *err)
{
    struct fixture *f = arg;

    if (err != NULL)
        f->err = *err;
    else if (reply->descriptor == &agent__brain__v1__agent__descriptor)
        (void)snprintf(f->text, sizeof(f->text), "%s/%s",
                       ((const Agent__Brain__V1__Agent *)reply)->id,
                       ((const Agent__Brain__V1__Agent *)reply)->name);
    f->replies++;
    ag_loop_stop(f->loop);
}

static void
get_agent(struct fixture *f, const char *id)
{
    Agent__Brain__V1__GetAgentRequest req =
        AGENT__BRAIN__V1__GET_AGENT_REQUEST__INIT;
    struct ag_rpc_metadata md = {"x-test", AG_STR("told")};
    struct ag_rpc_call_opts opts = {2000, &md, 1};

    req.agent_id = (char *)(uintptr_t)id;
    ag_rpc_unary(f->ch, &GET_AGENT, &req.base, &opts, on_reply, f);
    ag_loop_run(f->loop);
}

static void
unary_call_carries_message_and_metadata(void **state)
{
    struct fixture *f = *state;

    get_agent(f, "a1");
    assert_int_equal(f->err.kind, AG_ERR_NONE);
    assert_string_equal(f->text, "a1/told");
}

static void
error_keeps_its_kind_and_message(void **state)
{
    struct fixture *f = *state;

    get_agent(f, "missing");
    assert_int_equal(f->err.kind, AG_ERR_NOT_FOUND);
    assert_string_equal(f->err.msg, "no agent \"missing\"");
}

static void
unknown_method_is_unimplemented(void **state)
{
    struct fixture *f = *state;
    Agent__Brain__V1__ListModelsRequest req =
        AGENT__BRAIN__V1__LIST_MODELS_REQUEST__INIT;
    struct ag_rpc_call_opts opts = {2000, NULL, 0};

    ag_rpc_unary(f->ch, &GET_MODEL, &req.base, &opts, on_reply, f);
    ag_loop_run(f->loop);
    assert_int_equal(f->err.kind, AG_ERR_UNIMPLEMENTED);
}

static void
on_item(void *arg, const ProtobufCMessage *item)
{
    struct fixture *f = arg;
    char id[16];

    (void)snprintf(id, sizeof(id), "%d", f->items);
    assert_string_equal(
        ((const Agent__Brain__V1__StreamEventsResponse *)item)->event_id, id);
    f->items++;
}

static void
on_end(void *arg, const struct ag_err *err)
{
    struct fixture *f = arg;

    f->ends++;
    if (err != NULL)
        f->err = *err;
    ag_loop_stop(f->loop);
}

static struct ag_rpc_client_call *
stream(struct fixture *f, const char *n, int64_t timeout_ms)
{
    Agent__Brain__V1__StreamEventsRequest req =
        AGENT__BRAIN__V1__STREAM_EVENTS_REQUEST__INIT;
    struct ag_rpc_call_opts opts = {timeout_ms, NULL, 0};

    req.last_event_id = (char *)(uintptr_t)n;
    return ag_rpc_stream(f->ch, &STREAM, &req.base, &opts, on_item, on_end, f);
}

static void
stream_delivers_all_in_order(void **state)
{
    struct fixture *f = *state;

    stream(f, "5000", 5000);
    ag_loop_run(f->loop);
    assert_int_equal(f->items, 5000);
    assert_int_equal(f->ends, 1);
    assert_int_equal(f->err.kind, AG_ERR_NONE);
}

static void
deadline_ends_the_call_on_both_sides(void **state)
{
    struct fixture *f = *state;

    stream(f, "0", 100);
    ag_loop_run(f->loop);
    assert_int_equal(f->err.kind, AG_ERR_TIMEOUT);
    for (int i = 0; f->cancels == 0 && i < 100; i++) {
        get_agent(f, "x");
        (void)usleep(1000);
    }
    assert_int_equal(f->cancels, 1);
}

static void
cancel_soon(struct ag_timer *t)
{
    struct fixture *f =
        (struct fixture *)((char *)t - offsetof(struct fixture, timer));

    ag_loop_stop(f->loop);
}

static void
cancellation_reaches_the_handler(void **state)
{
    struct fixture *f = *state;
    struct ag_rpc_client_call *call = stream(f, "0", 5000);

    f->timer.fn = cancel_soon;
    while (f->held == NULL) {
        ag_timer_start(f->loop, &f->timer, 5);
        ag_loop_run(f->loop);
    }
    ag_rpc_cancel(call);
    ag_loop_run(f->loop);
    assert_int_equal(f->err.kind, AG_ERR_CANCELLED);
    for (int i = 0; f->cancels == 0 && i < 100; i++) {
        ag_timer_start(f->loop, &f->timer, 5);
        ag_loop_run(f->loop);
    }
    assert_int_equal(f->cancels, 1);
}

static void
server_stop_cancels_what_outlives_the_grace(void **state)
{
    struct fixture *f = *state;
    int64_t before;

    stream(f, "0", 60000);
    f->timer.fn = cancel_soon;
    while (f->held == NULL) {
        ag_timer_start(f->loop, &f->timer, 5);
        ag_loop_run(f->loop);
    }
    before = ag_mono_ms();
    ag_rpc_server_stop(f->srv, 100, server_stopped, f);
    while (f->cancels == 0)
        ag_loop_run(f->loop);
    assert_true(ag_mono_ms() - before >= 100);
    while (f->ends == 0 || f->stops == 0) {
        ag_timer_start(f->loop, &f->timer, 5);
        ag_loop_run(f->loop);
    }
    ag_rpc_server_free(f->srv);
    f->srv = NULL;
}

static void
second_server_is_kept_off_the_socket(void **state)
{
    struct fixture *f = *state;
    struct ag_rpc_server *other = ag_rpc_server_new(f->rpc, "other");
    struct ag_err err;

    assert_int_equal(ag_rpc_server_listen_unix(other, f->path, &err), -1);
    assert_int_equal(err.kind, AG_ERR_EXISTS);
    ag_rpc_server_start(other, &err);
    ag_rpc_server_stop(other, 10, stop_loop, f);
    ag_loop_run(f->loop);
    ag_rpc_server_free(other);
    get_agent(f, "still");
    assert_string_equal(f->text, "still/told");
}

static void
on_health(void *arg, const ProtobufCMessage *reply, const struct ag_err *err)
{
    struct fixture *f = arg;

    if (err != NULL)
        f->err = *err;
    else
        f->items =
            (int)((const Grpc__Health__V1__HealthCheckResponse *)reply)->status;
    ag_loop_stop(f->loop);
}

static void
health_check_of(struct fixture *f, const char *service)
{
    Grpc__Health__V1__HealthCheckRequest req =
        GRPC__HEALTH__V1__HEALTH_CHECK_REQUEST__INIT;
    struct ag_rpc_call_opts opts = {2000, NULL, 0};

    req.service = (char *)(uintptr_t)service;
    ag_rpc_unary(f->ch, &grpc__health__v1__health__check__rpc, &req.base, &opts,
                 on_health, f);
    ag_loop_run(f->loop);
}

static void
health_tells_serving_and_unknown(void **state)
{
    struct fixture *f = *state;

    health_check_of(f, "agent.brain.v1.AgentService");
    assert_int_equal(f->items, 1);
    ag_rpc_server_set_serving(f->srv, false);
    health_check_of(f, "");
    assert_int_equal(f->items, 2);
    health_check_of(f, "no.such.Service");
    assert_int_equal(f->err.kind, AG_ERR_NOT_FOUND);
}

static void
note_stopped(void *arg)
{
    ((struct fixture *)arg)->replies++;
    stop_loop(arg);
}

static void
on_status(void *arg, const ProtobufCMessage *item)
{
    struct fixture *f = arg;

    f->text[f->items++] =
        (char)('0'
               + (int)((const Grpc__Health__V1__HealthCheckResponse *)item)
                     ->status);
    f->text[f->items] = '\0';
    if (f->items == 1)
        ag_rpc_server_set_serving(f->srv, false);
    else if (f->items == 2)
        ag_rpc_server_set_serving(f->srv, true);
    else if (f->items == 3)
        ag_rpc_server_stop(f->srv, 2000, note_stopped, f);
}

static void
on_watch_end(void *arg, const struct ag_err *err)
{
    struct fixture *f = arg;

    f->ends++;
    assert_null(err);
    stop_loop(f);
}

static void
watcher_of_health_sees_each_change_and_the_end(void **state)
{
    struct fixture *f = *state;
    Grpc__Health__V1__HealthCheckRequest req =
        GRPC__HEALTH__V1__HEALTH_CHECK_REQUEST__INIT;
    struct ag_rpc_call_opts opts = {5000, NULL, 0};

    ag_rpc_stream(f->ch, &grpc__health__v1__health__watch__rpc, &req.base,
                  &opts, on_status, on_watch_end, f);
    while (f->ends == 0 || f->replies == 0)
        ag_loop_run(f->loop);
    assert_string_equal(f->text, "1212");
    ag_rpc_server_free(f->srv);
    f->srv = NULL;
}

static void
on_reflection(void *arg, const ProtobufCMessage *item)
{
    struct fixture *f = arg;
    const Grpc__Reflection__V1__ServerReflectionResponse *m =
        (const Grpc__Reflection__V1__ServerReflectionResponse *)item;

    f->items = (int)m->message_response_case;
    if (m->list_services_response != NULL
        && m->message_response_case
               == GRPC__REFLECTION__V1__SERVER_REFLECTION_RESPONSE__MESSAGE_RESPONSE_LIST_SERVICES_RESPONSE)
        for (size_t i = 0; i < m->list_services_response->n_service; i++)
            f->replies += strcmp(m->list_services_response->service[i]->name,
                                 "agent.brain.v1.AgentService")
                          == 0;
}

static int
reflect(struct fixture *f, Grpc__Reflection__V1__ServerReflectionRequest *req)
{
    struct ag_rpc_call_opts opts = {5000, NULL, 0};

    ag_rpc_stream(
        f->ch,
        &grpc__reflection__v1__server_reflection__server_reflection_info__rpc,
        &req->base, &opts, on_reflection, on_end, f);
    ag_loop_run(f->loop);
    assert_int_equal(f->err.kind, AG_ERR_NONE);
    return f->items;
}

static void
reflection_lists_services_and_hands_out_files(void **state)
{
    struct fixture *f = *state;
    Grpc__Reflection__V1__ServerReflectionRequest req =
        GRPC__REFLECTION__V1__SERVER_REFLECTION_REQUEST__INIT;

    req.message_request_case =
        GRPC__REFLECTION__V1__SERVER_REFLECTION_REQUEST__MESSAGE_REQUEST_LIST_SERVICES;
    req.list_services = (char *)(uintptr_t) "";
    assert_int_equal(reflect(f, &req), 6);
    assert_int_equal(f->replies, 1);
    req.message_request_case =
        GRPC__REFLECTION__V1__SERVER_REFLECTION_REQUEST__MESSAGE_REQUEST_FILE_CONTAINING_SYMBOL;
    req.file_containing_symbol =
        (char *)(uintptr_t) "agent.brain.v1.AgentService.GetAgent";
    assert_int_equal(reflect(f, &req), 4);
    req.file_containing_symbol = (char *)(uintptr_t) "no.such.Symbol";
    assert_int_equal(reflect(f, &req), 7);
}

/* A throw-away CA with a server's and a client's certificate. */
static void
make_certificates(const char *dir)
{
    char cmd[2048];

    (void)snprintf(
        cmd, sizeof(cmd),
        "cd %s && openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256"
        " -nodes -keyout ca.key -out ca.pem -subj /CN=ca -days 1 2>/dev/null"
        " && for n in server client; do openssl req -newkey ec -pkeyopt"
        " ec_paramgen_curve:P-256 -nodes -keyout $n.key -out $n.csr -subj"
        " /CN=$n -addext subjectAltName=DNS:$n 2>/dev/null && openssl x509"
        " -req -in $n.csr -CA ca.pem -CAkey ca.key -CAcreateserial"
        " -copy_extensions copy -days 1 -out $n.pem 2>/dev/null; done",
        dir);
    assert_int_equal(system(cmd), 0);
}

static void
tls_wants_a_client_certificate(void **state)
{
    struct fixture *f = *state;
    struct ag_rpc_server *tls = ag_rpc_server_new(f->rpc, "tls");
    char cert[64], key[64], ca[64], ccert[64], ckey[64], target[64], cmd[128];
    struct ag_rpc_channel *plain = f->ch, *mutual;
    struct ag_rpc_client_tls as_client = {ccert, ckey, ca};
    struct ag_rpc_tls files = {cert, key, ca};
    struct ag_err err;
    int port = 0;

    make_certificates(f->dir);
    (void)snprintf(cert, sizeof(cert), "%s/server.pem", f->dir);
    (void)snprintf(key, sizeof(key), "%s/server.key", f->dir);
    (void)snprintf(ca, sizeof(ca), "%s/ca.pem", f->dir);
    (void)snprintf(ccert, sizeof(ccert), "%s/client.pem", f->dir);
    (void)snprintf(ckey, sizeof(ckey), "%s/client.key", f->dir);
    ag_rpc_server_add(tls, &GET_AGENT, on_get_agent, f);
    assert_int_equal(
        ag_rpc_server_listen_tls(tls, "127.0.0.1:0", &files, &port, &err), 0);
    ag_rpc_server_start(tls, &err);
    (void)snprintf(target, sizeof(target), "127.0.0.1:%d", port);

    mutual = ag_rpc_channel_new_tls(f->rpc, target, "server", &as_client, &err);
    assert_non_null(mutual);
    f->ch = mutual;
    get_agent(f, "over-tls");
    assert_string_equal(f->text, "over-tls/told");

    f->ch = ag_rpc_channel_new(f->rpc, target);
    get_agent(f, "x");
    assert_int_equal(f->err.kind, AG_ERR_UNAVAILABLE);

    ag_rpc_channel_free(f->ch);
    ag_rpc_channel_free(mutual);
    f->ch = plain;
    ag_rpc_server_stop(tls, 10, stop_loop, f);
    ag_loop_run(f->loop);
    ag_rpc_server_free(tls);
    (void)snprintf(cmd, sizeof(cmd), "rm -f %s/*.pem %s/*.key", f->dir, f->dir);
    assert_int_equal(system(cmd), 0);
    (void)snprintf(cmd, sizeof(cmd), "rm -f %s/*.csr %s/*.srl", f->dir, f->dir);
    assert_int_equal(system(cmd), 0);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
        T(unary_call_carries_message_and_metadata),
        T(error_keeps_its_kind_and_message),
        T(unknown_method_is_unimplemented),
        T(stream_delivers_all_in_order),
        T(deadline_ends_the_call_on_both_sides),
        T(cancellation_reaches_the_handler),
        T(server_stop_cancels_what_outlives_the_grace),
        T(second_server_is_kept_off_the_socket),
        T(health_tells_serving_and_unknown),
        T(watcher_of_health_sees_each_change_and_the_end),
        T(reflection_lists_services_and_hands_out_files),
        T(tls_wants_a_client_certificate),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
