/*
 * What egress reports of requests after they were decided, or without asking:
 * rows of the audit.
 */
#include "vault_svc/vault_report.h"

#include "agent_rpc.h"
#include "lib/log.h"
#include "vault.pb-c.h"
#include "vault_svc/vault_audit.h"
#include "vault_svc/vault_caller.h"
#include "vault_svc/vault_incident.h"

/* ---- scrubbing --------------------------------------------------------- */

static void
on_scrub_done(void *arg, const struct ag_err *err)
{
    static const Agent__Vault__V1__ReportScrubResponse out =
        AGENT__VAULT__V1__REPORT_SCRUB_RESPONSE__INIT;
    struct vault_op *op = arg;

    if (err != NULL)
        vault_op_fail(op, err);
    else
        ag_rpc_reply(op->call, &out.base);
}

/* Answers that held a value, since a person last said that it may go on. */
static void
on_scrub_count(void *arg, const struct ag_db_result *res,
               const struct ag_err *err)
{
    struct vault_op *op = arg;
    const Agent__Vault__V1__ReportScrubRequest *req = op->request;
    const ag_str_t *session = op->state;

    if (res == NULL) {
        vault_op_fail(op, err);
        return;
    }
    if (ag_db_get_int(res, 0, 0) < op->v->conf->scrub_hits_max) {
        on_scrub_done(op, NULL);
        return;
    }
    char *detail = ag_arena_printf(
        op->arena, "{\"credential\":\"%s\",\"where\":\"%s\",\"hits\":%lld}",
        req->credential_id, req->where, (long long)ag_db_get_int(res, 0, 0));
    const struct vault_incident in = {"scrub_hits", *session, ag_str(detail)};
    vault_incident_open(op->v, op->tenant, &in, on_scrub_done, op);
}

static void
on_scrub_reported(void *arg, const char *audit_id, const struct ag_err *err)
{
    static const char sql[] =
        "SELECT count(DISTINCT detail::json->>'audit_id') FROM vault.audit"
        " WHERE session_id = $1 AND action = 'egress.scrubbed'"
        " AND created_us > coalesce((SELECT max(resolved_us)"
        "  FROM vault.incident WHERE session_id = $1), 0)";
    struct vault_op *op = arg;
    const ag_str_t *session = op->state;

    if (audit_id == NULL) {
        vault_op_fail(op, err);
        return;
    }
    if (op->v->conf->scrub_hits_max == 0) {
        on_scrub_done(op, NULL);
        return;
    }
    struct ag_db_param params[] = {ag_db_str(*session)};
    ag_db_query(op->v->db, ag_str(op->tenant->name), sql, params, 1,
                on_scrub_count, op);
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
    ag_str_t *session = ag_arena_alloc(op->arena, sizeof(*session));
    *session = ag_arena_copy(op->arena, e.session_id);
    op->state = session;
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
    return n <= 64 && strspn(s, "abcdefghijklmnopqrstuvwxyz0123456789_-") == n;
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

/* ---- refusals ---------------------------------------------------------- */

static void
on_refusal_reported(void *arg, const char *audit_id, const struct ag_err *err)
{
    static const Agent__Vault__V1__ReportRefusalResponse out =
        AGENT__VAULT__V1__REPORT_REFUSAL_RESPONSE__INIT;
    struct vault_op *op = arg;

    if (audit_id == NULL)
        vault_op_fail(op, err);
    else
        ag_rpc_reply(op->call, &out.base);
}

static void
add_refusal(struct vault_op *op, ag_str_t session_id)
{
    AG_AUTO(ag_buf_release) struct ag_buf detail = AG_BUF_INIT(8192);
    const Agent__Vault__V1__ReportRefusalRequest *req = op->request;
    char *object = ag_arena_printf(op->arena, "%s://%.253s:%d", req->scheme,
                                   req->host, req->port);

    ag_buf_addf(&detail, "{\"reason\":\"%s\",\"method\":", req->reason);
    ag_buf_add_json(&detail,
                    ag_str(ag_arena_printf(op->arena, "%.64s", req->method)));
    ag_buf_add(&detail, AG_STR(",\"request_id\":"));
    ag_buf_add_json(
        &detail, ag_str(ag_arena_printf(op->arena, "%.64s", req->request_id)));
    ag_buf_addf(&detail, ",\"count\":%d", (int)req->count);
    if (*req->audit_id != '\0')
        ag_buf_addf(&detail, ",\"decision\":\"%s\"", req->audit_id);
    if (*req->shape != '\0')
        ag_buf_addf(&detail, ",\"shape\":\"%s\"", req->shape);
    ag_buf_addc(&detail, '}');
    struct vault_audit_entry e = {
        req->passed ? "egress.flagged" : "egress.refused",
        session_id.n > 0 ? session_id : ag_str(req->workload_address),
        ag_str(object), session_id, ag_buf_str(&detail)};
    vault_audit_add(op->v, op->tenant, &e, on_refusal_reported, op);
}

/* A stranger's stands under the default tenant. */
static void
on_refused(struct vault_op *op, const struct vault_caller *who)
{
    if (op->tenant == NULL)
        op->tenant = vault_tenant_find(op->v, AG_STR("default"));
    if (op->tenant == NULL)
        vault_op_refuse(op, AG_ERR_UNAVAILABLE, "there is no tenant");
    else
        add_refusal(op, who->session_id);
}

static void
report_refusal(struct ag_rpc_call *call, const ProtobufCMessage *request,
               void *arg)
{
    const Agent__Vault__V1__ReportRefusalRequest *req = (const void *)request;
    struct vault_op *op = vault_op_plain(call, req, arg);

    if (*req->reason == '\0' || !is_word(req->reason) || !is_word(req->audit_id)
        || !is_word(req->scheme) || !is_word(req->shape) || req->count < 1
        || (*req->session_id == '\0') == (*req->workload_address == '\0')) {
        vault_op_refuse(op, AG_ERR_INVALID,
                        "reason, shape, audit_id, scheme, count, session_id, "
                        "workload_address: not as they must be");
        return;
    }
    vault_caller_find(op, req->workload_address, req->session_id, on_refused);
}

void
vault_report_serve(struct ag_rpc_server *srv, struct vault_face *face)
{
    ag_rpc_server_add(srv, &agent__vault__v1__egress_service__report_scrub__rpc,
                      report_scrub, face);
    ag_rpc_server_add(srv,
                      &agent__vault__v1__egress_service__report_refusal__rpc,
                      report_refusal, face);
}
