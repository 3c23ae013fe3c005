/*
 * The numbers that sandbox_svc keeps of itself.
 */
#ifndef SANDBOX_SVC_SANDBOX_METRICS_H
#define SANDBOX_SVC_SANDBOX_METRICS_H

#include "lib/metrics.h"
#include "sandbox_svc/sandbox_svc.h"

enum sandbox_metric {
    SANDBOX_METRIC_CLAIMS,
    SANDBOX_METRIC_PROVISIONED,
    SANDBOX_METRIC_COMMANDS,
    SANDBOX_METRIC_COMMAND_SECONDS,
    SANDBOX_METRIC_ENDED,
    SANDBOX_METRIC_READY,
    SANDBOX_METRIC_LIVE,
    SANDBOX_METRICS,
};

struct ag_metrics *sandbox_metrics_new(void);
/* Append all, as they are now. */
int sandbox_metrics_write(const struct sandbox_svc *svc, struct ag_buf *out,
                          struct ag_err *err);

#endif
