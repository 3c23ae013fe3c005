/*
 * The numbers that brain_svc keeps of itself: the rows of its table.
 */
#ifndef BRAIN_METRICS_H
#define BRAIN_METRICS_H

#include "brain_svc/brain_answer.h"
#include "brain_svc/brain_route.h"
#include "lib/metrics.h"

enum brain_metric {
    BRAIN_METRIC_TURNS,
    BRAIN_METRIC_TURN_SECONDS,
    BRAIN_METRIC_EVENTS,
    BRAIN_METRIC_MODEL_CALLS,
    BRAIN_METRIC_TOKENS,
    BRAIN_METRIC_COST,
    BRAIN_METRIC_GEN_AI_DURATION,
    BRAIN_METRIC_GEN_AI_TOKENS,
    BRAIN_METRIC_RUNS,
    BRAIN_METRIC_LISTENERS,
    BRAIN_METRICS,
};

struct ag_metrics *brain_metrics_new(void);

/* A try of a model call that failed with this kind of error, or that gave an
 * answer; an unknown cost is 0. The try took so long. */
void brain_metrics_failed(struct ag_metrics *m, const struct brain_route *route,
                          const char *kind, int64_t took_us);
void
brain_metrics_answered(struct ag_metrics *m, const struct brain_route *route,
                       const struct brain_usage *usage, int64_t cost_nano_usd,
                       int64_t took_us);

#endif
