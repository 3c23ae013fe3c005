/*
 * The numbers that vault_svc keeps of itself, and the method that tells them.
 */
#ifndef VAULT_METRICS_H
#define VAULT_METRICS_H

#include "lib/metrics.h"
#include "lib/rpc_server.h"

struct vault_face;

enum vault_metric {
    VAULT_METRIC_AUDIT_ROWS, /* by action: decisions by verdict are rows */
    VAULT_METRIC_AUDIT_BATCHES,
    VAULT_METRIC_INCIDENTS,
    VAULT_METRIC_EXPIRING,
    VAULT_METRIC_TENANTS,
    VAULT_METRICS,
};

struct ag_metrics *vault_metrics_new(void);

void vault_metrics_serve(struct ag_rpc_server *srv, struct vault_face *face);

#endif
