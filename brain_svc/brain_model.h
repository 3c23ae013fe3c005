/*
 * One model call: streaming, through egress, by the way that brain_route.h
 * names. One layer of tries, and then of fallbacks, before the first token
 * only.
 */
#ifndef BRAIN_MODEL_H
#define BRAIN_MODEL_H

#include "brain_svc/brain.h"
#include "brain_svc/brain_route.h"
#include "brain_svc/brain_workload.h"

struct brain_model_call;

enum brain_cost_source {
    BRAIN_COST_UNKNOWN,
    BRAIN_COST_GATEWAY, /* its header said so */
    BRAIN_COST_PRICES,  /* the price table */
};

struct brain_reply {
    const struct brain_answer *answer;
    struct brain_route route; /* that gave it */
    int64_t cost_nano_usd;
    enum brain_cost_source cost_source;
    int64_t vault_us;        /* it waited for the workload */
    char request_sha256[65]; /* of the request's body, in hex */
};

/*
 * The end: exactly one of `reply` and `err`. Kinds: LIMIT 429 or an answer too
 * long, UNAVAILABLE the endpoint or its stream broke, TIMEOUT, DENIED egress or
 * the endpoint refused, INVALID the endpoint refused the request, CORRUPT it
 * spoke another wire.
 */
typedef void brain_model_done(void *arg, const struct brain_reply *reply,
                              const struct ag_err *err);
/* Write the request for this way. Returns 0 or -1. */
typedef int brain_model_write(void *arg, const struct brain_route *route,
                              struct ag_buf *out, struct ag_err *err);

struct brain_model_ask {
    ag_str_t session;
    struct brain_workload *workload; /* outlives the call, too */
    ag_str_t model, wire;            /* of the agent; they outlive the call */
    brain_model_write *write;
    brain_answer_text *text;
    brain_model_done *done;
    void *arg;
    bool is_held; /* `text` and `done` only come behind brain_model_release */
};

/* Never calls back from inside, but for `write`. */
struct brain_model_call *
brain_model_start(struct brain *brain, const struct brain_model_ask *ask);

/* What the endpoint has said meanwhile comes later, and never from inside. Its
 * time limits count from here. */
void brain_model_release(struct brain_model_call *call);

/* Drop it: no callback comes any more. */
void brain_model_cancel(struct brain_model_call *call);

#endif
