/* agent.vault.v1.OpsService: what the vault did, for all tenants. */
#include "vault_svc/vault_metrics.h"

#include "agent_rpc.h"
#include "vault.pb-c.h"
#include "vault_svc/vault.h"

#define TEXT_MAX (1 << 20)

static const struct ag_metric_def defs[VAULT_METRICS] = {
    [VAULT_METRIC_AUDIT_ROWS] = {"brainbox_vault_audit_rows_total",
                                 "Committed rows of the audit, by action: "
                                 "egress.allowed, egress.denied, ...",
                                 AG_COUNTER,
                                 {"action", NULL},
                                 NULL},
    [VAULT_METRIC_AUDIT_BATCHES] = {"brainbox_vault_audit_batches_total",
                                    "Batches of audit rows, by outcome.",
                                    AG_COUNTER,
                                    {"outcome", NULL},
                                    NULL},
    [VAULT_METRIC_INCIDENTS] = {"brainbox_vault_incidents_total",
                                "Incidents that were opened, by kind.",
                                AG_COUNTER,
                                {"kind", NULL},
                                NULL},
    [VAULT_METRIC_EXPIRING] = {"brainbox_vault_credentials_expiring",
                               "Credentials that the last look found near "
                               "their expiry (soon) or behind it (expired).",
                               AG_GAUGE,
                               {"state", NULL},
                               NULL},
    [VAULT_METRIC_TENANTS] = {"brainbox_vault_tenants",
                              "Tenants that are served.",
                              AG_GAUGE,
                              {NULL, NULL},
                              NULL},
};

struct ag_metrics *
vault_metrics_new(void)
{
    return ag_metrics_new(defs, VAULT_METRICS);
}

static void
get_metrics(struct ag_rpc_call *call, const ProtobufCMessage *request,
            void *arg)
{
    AG_AUTO(ag_buf_release) struct ag_buf text = AG_BUF_INIT(TEXT_MAX);
    struct vault_op *op = vault_op_begin(call, request, arg, NULL);
    Agent__Vault__V1__Metrics reply = AGENT__VAULT__V1__METRICS__INIT;
    struct ag_err err;

    if (op == NULL)
        return;
    ag_metrics_set(op->v->metrics, VAULT_METRIC_TENANTS, NULL, NULL,
                   (double)op->v->n_tenants);
    if (ag_metrics_write(op->v->metrics, &text, &err) < 0) {
        vault_op_fail(op, &err);
        return;
    }
    reply.text = (char *)(uintptr_t)ag_buf_cstr(&text);
    ag_rpc_reply(call, &reply.base);
}

void
vault_metrics_serve(struct ag_rpc_server *srv, struct vault_face *face)
{
    ag_rpc_server_add(srv, &agent__vault__v1__ops_service__get_metrics__rpc,
                      get_metrics, face);
}
