/*
 * Where a model call goes: the agent's model first, then what `model_fallbacks`
 * names, in order. Pure.
 */
#ifndef BRAIN_ROUTE_H
#define BRAIN_ROUTE_H

#include "brain_svc/brain_conf.h"
#include "brain_svc/brain_wire.h"

struct brain_route {
    const struct brain_wire *wire;
    ag_str_t model, base_url; /* views into the configuration or the agent */
};

/*
 * The `index`-th way: 0 is `model` (over `wire`, or the configured one when it
 * is empty). False when there is no such.
 */
bool brain_route_get(const struct brain_conf *conf, ag_str_t model,
                     ag_str_t wire, size_t index, struct brain_route *route);

/* AG_ERR_INVALID says what is wrong with the options. */
int brain_route_check(const struct brain_conf *conf, struct ag_err *err);

#endif
