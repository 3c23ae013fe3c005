/*
 * The numbers that brain_svc keeps of itself: the rows of its table.
 */
#ifndef BRAIN_METRICS_H
#define BRAIN_METRICS_H

#include "lib/metrics.h"

enum brain_metric {
    BRAIN_METRIC_TURNS,
    BRAIN_METRIC_TURN_SECONDS,
    BRAIN_METRIC_EVENTS,
    BRAIN_METRIC_MODEL_CALLS,
    BRAIN_METRIC_TOKENS,
    BRAIN_METRIC_COST,
    BRAIN_METRIC_RUNS,
    BRAIN_METRIC_LISTENERS,
    BRAIN_METRICS,
};

struct ag_metrics *brain_metrics_new(void);

#endif
