/* What sandbox_svc counts, and what it looks up when it is asked. */
#include "sandbox_svc/sandbox_metrics.h"

#include "sandbox_svc/sandbox_pool.h"
#include "sandbox_svc/sandbox_session.h"

static const struct ag_metric_def defs[SANDBOX_METRICS] = {
    [SANDBOX_METRIC_CLAIMS] = {"brainbox_sandbox_claims_total",
                               "Sandboxes that sessions asked for, by whether "
                               "one was ready (warm) or not (cold).",
                               AG_COUNTER,
                               {"start", NULL},
                               NULL},
    [SANDBOX_METRIC_PROVISIONED] = {"brainbox_sandbox_provisioned_total",
                                    "Sandboxes that were given to a session.",
                                    AG_COUNTER,
                                    {NULL, NULL},
                                    NULL},
    [SANDBOX_METRIC_COMMANDS] = {"brainbox_sandbox_commands_total",
                                 "Commands that ended, by outcome.",
                                 AG_COUNTER,
                                 {"outcome", NULL},
                                 NULL},
    [SANDBOX_METRIC_COMMAND_SECONDS] = {"brainbox_sandbox_command_seconds",
                                        "Wall time of commands.",
                                        AG_HISTOGRAM,
                                        {NULL, NULL},
                                        NULL},
    [SANDBOX_METRIC_ENDED] = {"brainbox_sandbox_ended_total",
                              "Sandboxes that ended, by reason.",
                              AG_COUNTER,
                              {"reason", NULL},
                              NULL},
    [SANDBOX_METRIC_READY] = {"brainbox_sandbox_ready",
                              "Sandboxes that wait for a session.",
                              AG_GAUGE,
                              {NULL, NULL},
                              NULL},
    [SANDBOX_METRIC_LIVE] = {"brainbox_sandbox_live",
                             "Sandboxes that have a session.",
                             AG_GAUGE,
                             {NULL, NULL},
                             NULL},
};

struct ag_metrics *
sandbox_metrics_new(void)
{
    return ag_metrics_new(defs, SANDBOX_METRICS);
}

int
sandbox_metrics_write(const struct sandbox_svc *svc, struct ag_buf *out,
                      struct ag_err *err)
{
    size_t n_live = 0;

    for (struct sandbox_session *s = svc->sessions; s != NULL; s = s->next)
        n_live += sandbox_session_is_live(s);
    ag_metrics_set(svc->metrics, SANDBOX_METRIC_LIVE, NULL, NULL,
                   (double)n_live);
    ag_metrics_set(svc->metrics, SANDBOX_METRIC_READY, NULL, NULL,
                   sandbox_pool_ready(svc->pool));
    return ag_metrics_write(svc->metrics, out, err);
}
