/*
 * What egress reports of requests after they were decided, or without asking:
 * rows of the audit.
 */
#include "vault_svc/vault_report.h"

#include "agent_rpc.h"
#include "lib/log.h"
#include "vault.pb-c.h"
#include "vault_svc/vault_audit.h"

/* ---- scrubbing --------------------------------------------------------- */

static void
on_scrub_reported(void *arg, const char *audit_id, const struct ag_err *err)
{
    static const Agent__Vault__V1__ReportScrubResponse out =
        AGENT__VAULT__V1__REPORT_SCRUB_RESPONSE__INIT;
    struct vault_op *op = arg;

    if (audit_id == NULL)
        vault_op_fail(op, err);
    else
        ag_rpc_reply(op->call, &out.base);
}

static void
on_decision(void *arg, const struct ag_db_result *res, const struct ag_err *err)
{
    struct vault_op *op = arg;
    const Agent__Vault__V1__ReportScrubRequest *req = op->request;

    if (res == NULL) {
        vault_op_fail(op, err);
        return;
    }
    if (ag_db_rows(res) != 1) {
        vault_op_refuse(op, AG_ERR_NOT_FOUND,
                        "audit_id: there is no such decision");
        return;
    }
    char *detail = ag_arena_printf(
        op->arena, "{\"audit_id\":\"%s\",\"where\":\"%s\",\"count\":%d}",
        req->audit_id, req->where, (int)req->count);
    struct vault_audit_entry e = {"egress.scrubbed", ag_db_get(res, 0, 0),
                                  ag_str(req->credential_id),
                                  ag_db_get(res, 0, 0), ag_str(detail)};
    ag_log(AG_WARN, "credential.scrubbed", AG_V("session", e.session_id),
           AG_V("credential", e.object), AG_S("where", req->where),
           AG_I("count", req->count));
    vault_audit_add(op->v, op->tenant, &e, on_scrub_reported, op);
}

static void
on_decision_tenant(void *arg, const struct ag_db_result *res,
                   const struct ag_err *err)
{
    static const char sql[] = "SELECT session_id FROM vault.audit WHERE id = $1"
                              " AND action = 'egress.allowed'";
    struct vault_op *op = arg;
    const Agent__Vault__V1__ReportScrubRequest *req = op->request;

    if (res == NULL) {
        vault_op_fail(op, err);
        return;
    }
    op->tenant = vault_tenant_find(op->v, ag_db_get(res, 0, 0));
    if (op->tenant == NULL) {
        vault_op_refuse(op, AG_ERR_NOT_FOUND,
                        "audit_id: there is no such decision");
        return;
    }
    struct ag_db_param params[] = {ag_db_str(ag_str(req->audit_id))};
    ag_db_query(op->v->db, ag_str(op->tenant->name), sql, params, 1,
                on_decision, op);
}

static bool
is_word(const char *s)
{
    size_t n = strlen(s);
    return n <= 64 && strspn(s, "abcdefghijklmnopqrstuvwxyz0123456789_") == n;
}

static void
report_scrub(struct ag_rpc_call *call, const ProtobufCMessage *request,
             void *arg)
{
    static const char sql[] = "SELECT vault.audit_tenant($1)";
    const Agent__Vault__V1__ReportScrubRequest *req = (const void *)request;
    struct vault_op *op = vault_op_plain(call, req, arg);

    if (!is_word(req->audit_id) || !is_word(req->where)
        || !is_word(req->credential_id)) {
        vault_op_refuse(op, AG_ERR_INVALID,
                        "audit_id, credential_id, where: not as they were "
                        "given");
        return;
    }
    struct ag_db_param params[] = {ag_db_str(ag_str(req->audit_id))};
    ag_db_query(op->v->db, AG_STR(""), sql, params, 1, on_decision_tenant, op);
}

void
vault_report_serve(struct ag_rpc_server *srv, struct vault_face *face)
{
    ag_rpc_server_add(srv, &agent__vault__v1__egress_service__report_scrub__rpc,
                      report_scrub, face);
}
