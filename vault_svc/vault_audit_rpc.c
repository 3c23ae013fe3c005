/*
 * What methods do with the audit: the row of a success before its reply, and
 * the list of rows.
 */
#include "vault_svc/vault_audit.h"

#include "agent_rpc.h"
#include "vault.pb-c.h"
#include "vault_svc/vault_page.h"

static void
on_reply_row(void *arg, const char *audit_id, const struct ag_err *err)
{
    struct vault_op *op = arg;

    if (audit_id == NULL)
        vault_op_fail(op, err);
    else
        ag_rpc_reply(op->call, op->reply);
}

void
vault_audit_reply(struct vault_op *op, const char *action, ag_str_t object,
                  ag_str_t session_id, ag_str_t detail_json,
                  const ProtobufCMessage *reply)
{
    struct vault_audit_entry e = {action, op->who.subject, object, session_id,
                                  detail_json};
    op->reply = reply;
    vault_audit_add(op->v, op->tenant, &e, on_reply_row, op);
}

/* ---- listing ----------------------------------------------------------- */

static void
on_list(void *arg, const struct ag_db_result *res, const struct ag_err *err)
{
    struct vault_op *op = arg;
    Agent__Vault__V1__ListAuditResponse out =
        AGENT__VAULT__V1__LIST_AUDIT_RESPONSE__INIT;
    const struct vault_page *page = op->state;

    if (res == NULL) {
        vault_op_fail(op, err);
        return;
    }
    size_t n = vault_page_rows(page, ag_db_rows(res));
    out.data = ag_arena_alloc(op->arena, (n + 1) * sizeof(*out.data));
    for (size_t i = 0; i < n; i++) {
        Agent__Vault__V1__AuditEntry *e = ag_arena_alloc(op->arena, sizeof(*e));
        agent__vault__v1__audit_entry__init(e);
        int row = (int)i;
        ag_str_t detail = ag_db_get(res, row, 6);
        e->seq = ag_db_get_int(res, row, 0);
        e->id = vault_op_text(op, ag_db_get(res, row, 1));
        e->created_at = vault_op_time(op, ag_db_get_int(res, row, 2));
        e->action = vault_op_text(op, ag_db_get(res, row, 3));
        e->subject = vault_op_text(op, ag_db_get(res, row, 4));
        e->object = vault_op_text(op, ag_db_get(res, row, 5));
        e->detail_json.data = (uint8_t *)vault_op_text(op, detail);
        e->detail_json.len = detail.n;
        out.data[i] = e;
    }
    out.n_data = n;
    if (n < (size_t)ag_db_rows(res)) {
        out._next_page_case =
            AGENT__VAULT__V1__LIST_AUDIT_RESPONSE___NEXT_PAGE_NEXT_PAGE;
        out.next_page =
            ag_arena_printf(op->arena, "%lld", (long long)out.data[n - 1]->seq);
    }
    ag_rpc_reply(op->call, &out.base);
}

static void
list_audit(struct ag_rpc_call *call, const ProtobufCMessage *request, void *arg)
{
    static const char sql[] =
        "SELECT seq, id, created_us, action, subject, object, detail"
        " FROM vault.audit WHERE seq < $1 AND ($2 = '' OR session_id = $2)"
        " AND ($3 = '' OR action = $3) ORDER BY seq DESC LIMIT $4::bigint";
    const Agent__Vault__V1__ListAuditRequest *req = (const void *)request;
    struct vault_op *op = vault_op_begin(call, req, arg, NULL);
    struct ag_err err = AG_ERR_INIT;
    int64_t before = INT64_MAX;

    if (op == NULL)
        return;
    struct vault_page *page = vault_page_new(op, req->limit, &err);
    if (page == NULL
        || (*req->page != '\0' && ag_str_i64(ag_str(req->page), &before) < 0)) {
        vault_op_refuse(op, AG_ERR_INVALID,
                        page == NULL ? "limit: not between 1 and 100"
                                     : "page: no cursor of this list");
        return;
    }
    op->state = page;
    struct ag_db_param params[] = {
        ag_db_int(before), ag_db_str(ag_str(req->session_id)),
        ag_db_str(ag_str(req->action)), ag_db_int(page->limit + 1)};
    ag_db_query(op->v->db, op->who.tenant, sql, params, 4, on_list, op);
}

void
vault_audit_serve(struct ag_rpc_server *srv, struct vault_face *face)
{
    ag_rpc_server_add(srv, &agent__vault__v1__audit_service__list_audit__rpc,
                      list_audit, face);
}
