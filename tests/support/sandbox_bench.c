/*
 * Times sandbox_svc over one gRPC channel, as a brain would use it.
 *
 *   sandbox_bench TARGET MODE COUNT [SESSION [COMMAND]]
 *
 *   sequential   turn after turn: provision, two commands, the end, and a call
 *                that does nothing; of one session if it is given
 *   turns        provision, two commands and the end, without a pause
 *   staggered    provision and a command, begun each 50 ms whatever became of
 *                the one before
 *   burst        so many provisions at once
 *   loop         command after command of SESSION, which has a sandbox
 *
 * Every turn is of a new session otherwise. The command is `true`. Prints
 * "figure NAME VALUE UNIT" for median, p95 and p99 of each step, and the bytes
 * that a command printed each second when there were any.
 */
#include <stdio.h>
#include <stdlib.h>

#include "agent_rpc.h"
#include "lib/clock.h"
#include "lib/id.h"
#include "lib/log.h"
#include "lib/rpc_client.h"
#include "sandbox.pb-c.h"

#define TIMEOUT_MS 120000
#define COUNT_MAX 10000

enum step { PROVISION, FIRST, COMMAND, END, RPC, WARM, STEPS };

static const char *const step_names[STEPS] = {
    "provision", "execute_first", "execute", "end_turn", "rpc", "warm"};

struct mode {
    const char *name;
    int64_t pause_ms; /* for the pool to be full again, or between two */
    bool is_serial;   /* the next begins after the last */
    unsigned steps;   /* one bit each */
};

static const struct mode modes[] = {
    {"sequential", 120, true,
     1 << PROVISION | 1 << FIRST | 1 << COMMAND | 1 << END | 1 << RPC},
    {"turns", 0, true, 1 << PROVISION | 1 << FIRST | 1 << COMMAND | 1 << END},
    {"staggered", 50, false, 1 << PROVISION | 1 << FIRST},
    {"burst", 0, false, 1 << PROVISION},
    {"loop", 20, true, 1 << COMMAND},
};

/* One session on its way through the steps. */
struct course {
    char session[AG_ID_TEXT];
    enum step step;
    int64_t begun_us, took_us[STEPS];
};

static struct {
    struct ag_loop *loop;
    struct ag_rpc_channel *ch;
    struct ag_timer next;
    const struct mode *mode;
    const char *session, *command;
    int count, begun, ended, refused;
    int64_t bytes, first_us;
    int64_t took_us[STEPS][COUNT_MAX];
    struct course courses[COUNT_MAX];
} b;

/* ---- steps ----------------------------------------------------------- */

static void step_begin(struct course *c);

static void
course_end(struct course *c)
{
    c->took_us[WARM] = c->took_us[PROVISION] + c->took_us[FIRST];
    for (int i = 0; i < STEPS; i++)
        b.took_us[i][b.ended] = c->took_us[i];
    if (++b.ended == b.count)
        ag_loop_stop(b.loop);
    else if (b.mode->is_serial)
        ag_timer_start(b.loop, &b.next, b.mode->pause_ms);
}

static void
done(struct course *c, const struct ag_err *err)
{
    /* A full machine is one of the things to be seen. */
    if (err != NULL && err->kind == AG_ERR_LIMIT && !b.mode->is_serial) {
        b.refused++;
        c->step = WARM;
        course_end(c);
        return;
    }
    if (err != NULL) {
        fprintf(stderr, "sandbox_bench: %s: %s\n", step_names[c->step],
                err->msg);
        exit(1);
    }
    c->took_us[c->step] = ag_mono_us() - c->begun_us;
    c->step++;
    step_begin(c);
}

static void
on_reply(void *arg, const ProtobufCMessage *reply, const struct ag_err *err)
{
    (void)reply;
    done(arg, err);
}

static void
on_item(void *arg, const ProtobufCMessage *item)
{
    const Agent__Sandbox__V1__ExecuteResponse *m =
        (const Agent__Sandbox__V1__ExecuteResponse *)item;

    (void)arg;
    if (m->item_case == AGENT__SANDBOX__V1__EXECUTE_RESPONSE__ITEM_STDOUT)
        b.bytes += (int64_t)m->stdout.len;
}

static void
on_end(void *arg, const struct ag_err *err)
{
    done(arg, err);
}

static void
provision(struct course *c, const struct ag_rpc_call_opts *opts)
{
    Agent__Sandbox__V1__ProvisionRequest r =
        AGENT__SANDBOX__V1__PROVISION_REQUEST__INIT;

    r.session_id = c->session;
    r.call_id = (char *)(uintptr_t) "p";
    (void)ag_rpc_unary(b.ch,
                       &agent__sandbox__v1__sandbox_service__provision__rpc,
                       &r.base, opts, on_reply, c);
}

static void
execute(struct course *c, const struct ag_rpc_call_opts *opts)
{
    Agent__Sandbox__V1__ExecuteRequest r =
        AGENT__SANDBOX__V1__EXECUTE_REQUEST__INIT;
    char call_id[AG_ID_TEXT];

    ag_id_new("sevt", call_id);
    r.session_id = c->session;
    r.call_id = call_id;
    r.command = (char *)(uintptr_t)b.command;
    r.is_new = true;
    (void)ag_rpc_stream(b.ch,
                        &agent__sandbox__v1__sandbox_service__execute__rpc,
                        &r.base, opts, on_item, on_end, c);
}

static void
end_turn(struct course *c, const struct ag_rpc_call_opts *opts)
{
    Agent__Sandbox__V1__EndTurnRequest r =
        AGENT__SANDBOX__V1__END_TURN_REQUEST__INIT;

    r.session_id = c->session;
    (void)ag_rpc_unary(b.ch,
                       &agent__sandbox__v1__sandbox_service__end_turn__rpc,
                       &r.base, opts, on_reply, c);
}

static void
list(struct course *c, const struct ag_rpc_call_opts *opts)
{
    Agent__Sandbox__V1__ListSandboxesRequest r =
        AGENT__SANDBOX__V1__LIST_SANDBOXES_REQUEST__INIT;

    (void)ag_rpc_unary(
        b.ch, &agent__sandbox__v1__sandbox_service__list_sandboxes__rpc,
        &r.base, opts, on_reply, c);
}

static void
step_begin(struct course *c)
{
    static void (*const begin[])(struct course *,
                                 const struct ag_rpc_call_opts *) = {
        [PROVISION] = provision, [FIRST] = execute, [COMMAND] = execute,
        [END] = end_turn,        [RPC] = list,
    };
    const struct ag_rpc_call_opts opts = {.timeout_ms = TIMEOUT_MS};

    while (c->step < WARM && (b.mode->steps & 1u << c->step) == 0)
        c->step++;
    c->begun_us = ag_mono_us();
    if (c->step == WARM)
        course_end(c);
    else
        begin[c->step](c, &opts);
}

static void
on_next(struct ag_timer *timer)
{
    if (b.begun == 0)
        b.first_us = ag_mono_us();
    do {
        struct course *c = &b.courses[b.begun++];
        if (b.session == NULL)
            ag_id_new("sesn", c->session);
        else
            snprintf(c->session, sizeof(c->session), "%s", b.session);
        step_begin(c);
    } while (!b.mode->is_serial && b.mode->pause_ms == 0 && b.begun < b.count);
    if (!b.mode->is_serial && b.begun < b.count)
        ag_timer_start(b.loop, timer, b.mode->pause_ms);
}

/* ---- figures --------------------------------------------------------- */

static int
compare(const void *x, const void *y)
{
    int64_t a = *(const int64_t *)x, c = *(const int64_t *)y;

    return (a > c) - (a < c);
}

static void
print_figures(int64_t took_us)
{
    static const struct {
        const char *name;
        int percent;
    } of[] = {{"p50", 50}, {"p95", 95}, {"p99", 99}};
    unsigned steps = b.mode->steps;

    if (b.refused > 0)
        printf("figure %s.refused %d calls\n", b.mode->name, b.refused);
    if (b.bytes > 0)
        printf("figure %s.output_gb_s %.2f GB/s\n", b.mode->name,
               (double)b.bytes / (double)took_us / 1000);
    if ((steps & 1 << PROVISION) != 0 && (steps & 1 << FIRST) != 0)
        steps |= 1 << WARM;
    for (int i = 0; i < STEPS; i++) {
        if ((steps & 1u << i) == 0)
            continue;
        qsort(b.took_us[i], (size_t)b.count, sizeof(int64_t), compare);
        for (size_t k = 0; k < sizeof(of) / sizeof(of[0]); k++)
            printf("figure %s.%s_%s_ms %.2f ms\n", b.mode->name, step_names[i],
                   of[k].name,
                   (double)b.took_us[i][b.count * of[k].percent / 100] / 1000);
    }
}

static int
parse(int argc, char **argv)
{
    int64_t count = 0;

    if (argc < 4 || argc > 6 || ag_str_i64(ag_str(argv[3]), &count) < 0
        || count < 1 || count > COUNT_MAX)
        return -1;
    for (size_t i = 0; i < sizeof(modes) / sizeof(modes[0]); i++)
        if (strcmp(modes[i].name, argv[2]) == 0)
            b.mode = &modes[i];
    b.count = (int)count;
    b.session = argc > 4 ? argv[4] : NULL;
    b.command = argc > 5 ? argv[5] : "true";
    return b.mode == NULL ? -1 : 0;
}

int
main(int argc, char **argv)
{
    struct ag_err err = AG_ERR_INIT;

    if (parse(argc, argv) < 0) {
        fprintf(stderr,
                "usage: sandbox_bench TARGET sequential|turns|staggered|"
                "burst|loop COUNT [SESSION [COMMAND]]\n");
        return 2;
    }
    ag_log_init("sandbox_bench", AG_ERROR);
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
    print_figures(ag_mono_us() - b.first_us);
    ag_rpc_channel_free(b.ch);
    ag_rpc_free(rpc);
    ag_loop_free(b.loop);
    return 0;
}
