/*
 * Times provision, a first `true`, a second one and the end of a turn, one
 * after the other, over one channel.
 *
 *   sandbox_bench TARGET ROUNDS [PAUSE_MS]
 *
 * Every round is a session of its own. Prints a line "figure NAME VALUE UNIT"
 * for p50 and p99 of each.
 */
#include <stdio.h>
#include <stdlib.h>

#include "agent_rpc.h"
#include "lib/clock.h"
#include "lib/id.h"
#include "lib/log.h"
#include "lib/rpc_client.h"
#include "sandbox.pb-c.h"

#define TIMEOUT_MS 60000
#define ROUNDS_MAX 10000
/* For the pool to be full again. */
#define PAUSE_MS "120"

enum { PROVISION, FIRST, SECOND, END, RPC, WARM, STEPS };

static const char *const step_names[STEPS] = {
    "provision", "execute_first", "execute", "end_turn", "rpc", "warm"};

static struct {
    struct ag_loop *loop;
    struct ag_rpc_channel *ch;
    struct ag_timer next;
    int rounds, round, step;
    int64_t pause_ms;
    char session[AG_ID_TEXT];
    int64_t begun_us;
    int64_t took_us[STEPS][ROUNDS_MAX];
} b;

static void begin(void);

static void
done(const struct ag_err *err)
{
    if (err != NULL) {
        fprintf(stderr, "sandbox_bench: %s: %s\n", step_names[b.step],
                err->msg);
        exit(1);
    }
    b.took_us[b.step][b.round] = ag_mono_us() - b.begun_us;
    if (++b.step <= RPC) {
        begin();
        return;
    }
    b.took_us[WARM][b.round] =
        b.took_us[PROVISION][b.round] + b.took_us[FIRST][b.round];
    b.step = 0;
    if (++b.round == b.rounds)
        ag_loop_stop(b.loop);
    else
        ag_timer_start(b.loop, &b.next, b.pause_ms);
}

static void
on_reply(void *arg, const ProtobufCMessage *reply, const struct ag_err *err)
{
    (void)arg;
    (void)reply;
    done(err);
}

static void
on_item(void *arg, const ProtobufCMessage *item)
{
    (void)arg;
    (void)item;
}

static void
on_end(void *arg, const struct ag_err *err)
{
    (void)arg;
    done(err);
}

static void
execute(const struct ag_rpc_call_opts *opts)
{
    Agent__Sandbox__V1__ExecuteRequest r
        = AGENT__SANDBOX__V1__EXECUTE_REQUEST__INIT;

    r.session_id = b.session;
    r.call_id = b.step == FIRST ? "c1" : "c2";
    r.command = "true";
    r.is_new = true;
    (void)ag_rpc_stream(b.ch,
                        &agent__sandbox__v1__sandbox_service__execute__rpc,
                        &r.base, opts, on_item, on_end, NULL);
}

static void
begin(void)
{
    const struct ag_rpc_call_opts opts = {.timeout_ms = TIMEOUT_MS};
    Agent__Sandbox__V1__ProvisionRequest p
        = AGENT__SANDBOX__V1__PROVISION_REQUEST__INIT;
    Agent__Sandbox__V1__EndTurnRequest e
        = AGENT__SANDBOX__V1__END_TURN_REQUEST__INIT;

    b.begun_us = ag_mono_us();
    if (b.step == PROVISION) {
        ag_id_new("sesn", b.session);
        p.session_id = b.session;
        p.call_id = "p";
        (void)ag_rpc_unary(
            b.ch, &agent__sandbox__v1__sandbox_service__provision__rpc,
            &p.base, &opts, on_reply, NULL);
    } else if (b.step == RPC) {
        Agent__Sandbox__V1__ListSandboxesRequest l
            = AGENT__SANDBOX__V1__LIST_SANDBOXES_REQUEST__INIT;
        (void)ag_rpc_unary(
            b.ch, &agent__sandbox__v1__sandbox_service__list_sandboxes__rpc,
            &l.base, &opts, on_reply, NULL);
    } else if (b.step == END) {
        e.session_id = b.session;
        (void)ag_rpc_unary(
            b.ch, &agent__sandbox__v1__sandbox_service__end_turn__rpc, &e.base,
            &opts, on_reply, NULL);
    } else {
        execute(&opts);
    }
}

static void
on_next(struct ag_timer *timer)
{
    (void)timer;
    begin();
}

static int
compare(const void *x, const void *y)
{
    int64_t a = *(const int64_t *)x, c = *(const int64_t *)y;

    return (a > c) - (a < c);
}

static void
print_figures(void)
{
    for (int i = 0; i < STEPS; i++) {
        qsort(b.took_us[i], (size_t)b.rounds, sizeof(int64_t), compare);
        printf("figure sandbox.%s_p50_ms %.2f ms\n", step_names[i],
               (double)b.took_us[i][b.rounds / 2] / 1000);
        printf("figure sandbox.%s_p99_ms %.2f ms\n", step_names[i],
               (double)b.took_us[i][b.rounds * 99 / 100] / 1000);
    }
}

int
main(int argc, char **argv)
{
    struct ag_err err = AG_ERR_INIT;
    int64_t rounds = 0;

    const char *pause = argc == 4 ? argv[3] : PAUSE_MS;
    if (argc < 3 || argc > 4 || ag_str_i64(ag_str(argv[2]), &rounds) < 0
        || rounds < 1 || rounds > ROUNDS_MAX
        || ag_str_i64(ag_str(pause), &b.pause_ms) < 0 || b.pause_ms < 0) {
        fprintf(stderr, "usage: sandbox_bench TARGET ROUNDS [PAUSE_MS]\n");
        return 2;
    }
    ag_log_init("sandbox_bench", AG_ERROR);
    b.rounds = (int)rounds;
    b.next.fn = on_next;
    b.loop = ag_loop_new(&err);
    struct ag_rpc *rpc = b.loop == NULL ? NULL : ag_rpc_new(b.loop, &err);
    if (rpc == NULL) {
        fprintf(stderr, "sandbox_bench: %s\n", err.msg);
        return 1;
    }
    b.ch = ag_rpc_channel_new(rpc, argv[1]);
    ag_timer_start(b.loop, &b.next, 500);
    ag_loop_run(b.loop);
    print_figures();
    ag_rpc_channel_free(b.ch);
    ag_rpc_free(rpc);
    ag_loop_free(b.loop);
    return 0;
}
