/*
 * What the parts of brain_svc share: the process's handles. One instance,
 * made in main.c, used on the loop only.
 */
#ifndef BRAIN_H
#define BRAIN_H

#include "brain_svc/brain_conf.h"
#include "lib/assertion.h"
#include "lib/db.h"
#include "lib/json.h"
#include "lib/log.h"
#include "lib/rpc_client.h"
#include "lib/rpc_server.h"

struct ag_metrics;
struct brain_group;
struct brain_hub;
struct brain_runs;
struct brain_warm;
struct ag_http;
struct brain_incidents;
struct brain_prices;
struct brain_io;
struct brain_trace;
struct brain_replay;

struct brain {
    struct brain_conf conf;
    struct ag_loop *loop;
    struct ag_rpc *rpc;
    struct ag_rpc_server *server;
    struct ag_rpc_channel *vault, *sandbox;
    struct ag_db *db;
    struct ag_assertion_key *key;
    struct brain_group *group; /* appends that go together */
    struct brain_hub *hub;     /* event streams */
    struct brain_runs *runs;   /* runs that are doing something */
    struct brain_warm *warm;   /* workloads between turns; NULL in a replay */
    struct ag_http *http;      /* model calls */
    struct brain_incidents *incidents;
    struct brain_prices *prices;
    struct brain_trace *trace;   /* or NULL */
    struct ag_metrics *metrics;  /* brain_metrics.h; NULL in a replay */
    const struct brain_io *io;   /* of runs: live, or a replay */
    struct brain_replay *replay; /* or NULL */
};

/* Deadline of calls to the other services. */
#define BRAIN_RPC_TIMEOUT_MS 10000

/*
 * A call with who makes it. Made by brain_enter; lives in the call's arena.
 */
struct brain_req {
    struct brain *brain;
    struct ag_rpc_call *call;
    struct ag_arena *arena;
    struct ag_principal who;
    ag_str_t assertion; /* as it came, to hand on */
    void *state;        /* of the handler */
};

/*
 * Check the assertion, and that it has a scope of the method; with `is_bound`
 * the assertion must be made for this request. On failure the call is answered
 * and NULL is returned.
 */
struct brain_req *
brain_enter(struct brain *brain, struct ag_rpc_call *call, bool is_bound);

/* Query as the caller's tenant. */
void brain_query(struct brain_req *req, const char *sql,
                 const struct ag_db_param *params, int n_params,
                 ag_db_done *done, void *arg);

/* Register the methods of one service. */
void brain_agent_register(struct brain *brain);
void brain_environment_register(struct brain *brain);
void brain_session_register(struct brain *brain);
void brain_event_register(struct brain *brain);
void brain_stop_register(struct brain *brain);
void brain_ops_register(struct brain *brain);

/* Name of the driver for agents that name none. */
const char *brain_harness_default(const struct brain *brain);

#endif
