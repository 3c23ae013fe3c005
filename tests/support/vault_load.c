/*
 * Asks for decisions at a fixed rate, whether or not earlier ones are answered:
 *
 *   vault_load SOCKET RATE SECONDS HOST <FILE
 *
 * Each line of FILE is "ADDRESS STUB" of a workload; they take turns. Prints
 * requests a second that were answered, and the 50th and 99th percentile of the
 * time of one in microseconds. An answer that is not ALLOW ends it with status
 * 1. The first second is not counted. For tests/bench/vault_bench.py.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "agent_rpc.h"
#include "lib/clock.h"
#include "lib/rpc_client.h"
#include "vault.pb-c.h"

enum { WORKLOADS_MAX = 100000, TIMEOUT_MS = 10000, WARM_US = 1000000 };

struct ask {
    int64_t at_us;
};

static struct {
    struct ag_loop *loop;
    struct ag_rpc_channel *ch;
    struct ag_timer timer;
    char *lines[WORKLOADS_MAX], *stubs[WORKLOADS_MAX], *host;
    size_t n_lines, sent, n, n_open;
    int64_t rate, begin_us, end_us;
    double *took;
    bool has_failed;
} l;

static void
stop_when_done(void)
{
    if (l.n_open == 0 && ag_mono_us() >= l.end_us)
        ag_loop_stop(l.loop);
}

static void
on_answer(void *arg, const ProtobufCMessage *reply, const struct ag_err *err)
{
    const Agent__Vault__V1__AuthorizeResponse *r = (const void *)reply;
    struct ask *a = arg;

    l.n_open--;
    if (r == NULL
        || r->verdict
               != AGENT__VAULT__V1__AUTHORIZE_RESPONSE__VERDICT__ALLOW) {
        if (!l.has_failed)
            fprintf(stderr, "vault_load: %s\n",
                    r == NULL ? err->msg : r->reason);
        l.has_failed = true;
        l.end_us = 0;
    } else if (a->at_us >= l.begin_us + WARM_US) {
        l.took[l.n++] = (double)(ag_mono_us() - a->at_us);
    }
    free(a);
    stop_when_done();
}

static void
ask_one(void)
{
    static const struct ag_rpc_call_opts opts = {TIMEOUT_MS, NULL, 0};
    Agent__Vault__V1__AuthorizeRequest m =
        AGENT__VAULT__V1__AUTHORIZE_REQUEST__INIT;
    Agent__Vault__V1__FoundStub stub = AGENT__VAULT__V1__FOUND_STUB__INIT,
                                *list[1] = {&stub};
    struct ask *a = malloc(sizeof(*a));
    size_t i = l.sent++ % l.n_lines;

    stub.kind = AGENT__VAULT__V1__SLOT_KIND__SLOT_HEADER;
    stub.name = "authorization";
    stub.stub = l.stubs[i];
    m.workload_address = l.lines[i];
    m.scheme = "https";
    m.host = l.host;
    m.port = 443;
    m.method = "GET";
    m.path = "/v1/items/1";
    m.request_id = "req_0123456789abcdef01234567";
    m.stubs = list;
    m.n_stubs = 1;
    a->at_us = ag_mono_us();
    l.n_open++;
    ag_rpc_unary(l.ch, &agent__vault__v1__egress_service__authorize__rpc,
                 &m.base, &opts, on_answer, a);
}

static void
on_tick(struct ag_timer *timer)
{
    int64_t now = ag_mono_us();

    if (now >= l.end_us) {
        stop_when_done();
        return;
    }
    while ((int64_t)l.sent < (now - l.begin_us) * l.rate / 1000000)
        ask_one();
    ag_timer_start(l.loop, timer, 1);
}

static int
compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static void
read_lines(void)
{
    char *line = NULL;
    size_t cap = 0;

    while (l.n_lines < WORKLOADS_MAX && getline(&line, &cap, stdin) > 0) {
        char *space = strchr(line, ' ');
        if (space == NULL)
            continue;
        *space = '\0';
        l.lines[l.n_lines] = strdup(line);
        l.stubs[l.n_lines] = strndup(space + 1, strcspn(space + 1, "\n"));
        l.n_lines++;
    }
    free(line);
}

int
main(int argc, char **argv)
{
    struct ag_err err = AG_ERR_INIT;
    char target[200];

    if (argc != 5) {
        fprintf(stderr, "vault_load: SOCKET RATE SECONDS HOST\n");
        return 2;
    }
    read_lines();
    l.rate = atol(argv[2]);
    int64_t seconds = atol(argv[3]);
    l.host = argv[4];
    l.loop = ag_loop_new(&err);
    struct ag_rpc *rpc = l.loop == NULL ? NULL : ag_rpc_new(l.loop, &err);
    if (rpc == NULL || l.n_lines == 0) {
        fprintf(stderr, "vault_load: %s\n", err.msg);
        return 2;
    }
    snprintf(target, sizeof(target), "unix:%s", argv[1]);
    l.ch = ag_rpc_channel_new(rpc, target);
    l.took = calloc((size_t)((seconds + 2) * l.rate), sizeof(*l.took));
    l.begin_us = ag_mono_us();
    l.end_us = l.begin_us + seconds * 1000000;
    l.timer.fn = on_tick;
    ag_timer_start(l.loop, &l.timer, 1);
    while (!l.has_failed && (l.n_open > 0 || ag_mono_us() < l.end_us))
        ag_loop_run(l.loop);
    if (l.has_failed || l.n == 0)
        return 1;
    qsort(l.took, l.n, sizeof(*l.took), compare);
    printf("%.0f %.0f %.0f\n",
           (double)l.n / ((double)seconds - WARM_US / 1e6),
           l.took[l.n / 2], l.took[l.n * 99 / 100]);
    return 0;
}
