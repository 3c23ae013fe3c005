/*
 * ApprovalService, where people decide, and EgressService/AwaitApproval, where
 * parked requests wait. Waiters are in memory: after a restart egress hears
 * that the vault is away, and the request sent again finds its row.
 */
#include <stdlib.h>

#include "agent_rpc.h"
#include "lib/clock.h"
#include "lib/json.h"
#include "vault.pb-c.h"
#include "vault_svc/vault_approval.h"
#include "vault_svc/vault_audit.h"
#include "vault_svc/vault_page.h"

struct waiter {
    struct waiter *next;
    struct vault_op *op;
    ag_str_t id, workload;
    struct ag_timer timer;
};

/* All of them; the loop alone touches the list. */
struct vault_waiters {
    struct waiter *head;
};

static struct vault_waiters *
waiters_of(struct vault *v)
{
    if (v->waiters == NULL)
        v->waiters = ag_xcalloc(1, sizeof(*v->waiters));
    return v->waiters;
}

int
vault_approval_waiting(const struct vault *v, ag_str_t workload)
{
    int n = 0;
    if (v->waiters != NULL)
        for (struct waiter *w = v->waiters->head; w != NULL; w = w->next)
            n += ag_str_eq(w->workload, workload);
    return n;
}

static void
take_out(struct waiter *w)
{
    struct waiter **at = &w->op->v->waiters->head;
    while (*at != w)
        at = &(*at)->next;
    *at = w->next;
    ag_timer_stop(w->op->v->loop, &w->timer);
    ag_rpc_call_on_cancel(w->op->call, NULL, NULL);
}

static void
answer(struct vault_op *op, ag_str_t state)
{
    Agent__Vault__V1__AwaitApprovalResponse out =
        AGENT__VAULT__V1__AWAIT_APPROVAL_RESPONSE__INIT;
    const Agent__Vault__V1__AwaitApprovalRequest *req = op->request;

    if (ag_str_is(state, "approved") || ag_str_is(state, "used")) {
        out.state = AGENT__VAULT__V1__AWAIT_APPROVAL_RESPONSE__STATE__APPROVED;
        out.message = "";
    } else if (ag_str_is(state, "denied")) {
        out.state = AGENT__VAULT__V1__AWAIT_APPROVAL_RESPONSE__STATE__DENIED;
        out.message = ag_arena_printf(
            op->arena, "a person denied this request (%s)", req->approval_id);
    } else {
        out.state = AGENT__VAULT__V1__AWAIT_APPROVAL_RESPONSE__STATE__WAITING;
        out.message = ag_arena_printf(
            op->arena,
            "nobody has decided yet: ask for approval %s at "
            "/platform/v1/approvals, then send the request again",
            req->approval_id);
    }
    ag_rpc_reply(op->call, &out.base);
}

static void
let_go(struct waiter *w, ag_str_t state)
{
    take_out(w);
    answer(w->op, state);
}

static void
on_timer(struct ag_timer *timer)
{
    let_go((struct waiter *)(void *)((char *)timer
                                     - offsetof(struct waiter, timer)),
           AG_STR("pending"));
}

static void
on_gone(struct ag_rpc_call *call, void *arg)
{
    struct waiter *w = arg;
    struct ag_err err = {AG_ERR_CANCELLED, 0, "the caller is gone"};

    (void)call;
    take_out(w);
    ag_rpc_fail(w->op->call, &err);
}

/* Everybody who waits for this row. */
static void
tell(struct vault *v, ag_str_t id, ag_str_t state)
{
    struct waiter *w = v->waiters == NULL ? NULL : v->waiters->head, *next;
    for (; w != NULL; w = next) {
        next = w->next;
        if (ag_str_eq(w->id, id))
            let_go(w, state);
    }
}

void
vault_approval_stop(struct vault *v)
{
    while (v->waiters != NULL && v->waiters->head != NULL)
        let_go(v->waiters->head, AG_STR("pending"));
    free(v->waiters);
    v->waiters = NULL;
}

/* ---- AwaitApproval ----------------------------------------------------- */

/* The waiter may be gone by now: told, timed out or cancelled. */
static struct waiter *
waiter_of(struct vault_op *op)
{
    struct waiter *w = op->v->waiters == NULL ? NULL : op->v->waiters->head;
    while (w != NULL && w->op != op)
        w = w->next;
    return w;
}

static void
on_state(void *arg, const struct ag_db_result *res, const struct ag_err *err)
{
    struct vault_op *op = arg;
    struct waiter *w = waiter_of(op);
    struct vault_approval_row row;
    struct ag_err why = AG_ERR_INIT;

    if (w == NULL)
        return;
    if (res == NULL) {
        take_out(w);
        vault_op_fail(op, err);
        return;
    }
    if (ag_db_rows(res) != 1) {
        take_out(w);
        vault_op_refuse(op, AG_ERR_NOT_FOUND,
                        "approval_id: there is no such approval");
        return;
    }
    vault_approval_read(res, 0, op->arena, &row);
    if (vault_approval_check(op->tenant, &row, &why) < 0) {
        take_out(w);
        vault_op_fail(op, &why);
        return;
    }
    if (!ag_str_is(row.state, "pending"))
        let_go(w, row.state);
}

static void
on_await_tenant(void *arg, const struct ag_db_result *res,
                const struct ag_err *err)
{
    static const char sql[] = "SELECT " VAULT_APPROVAL_COLUMNS
                              " FROM vault.approval a WHERE a.id = $1";
    struct vault_op *op = arg;
    struct waiter *w = waiter_of(op);

    if (w == NULL)
        return;
    op->tenant =
        res == NULL ? NULL : vault_tenant_find(op->v, ag_db_get(res, 0, 0));
    if (op->tenant == NULL) {
        take_out(w);
        if (res == NULL)
            vault_op_fail(op, err);
        else
            vault_op_refuse(op, AG_ERR_NOT_FOUND,
                            "approval_id: there is no such approval");
        return;
    }
    struct ag_db_param params[] = {ag_db_str(w->id)};
    ag_db_query(op->v->db, ag_str(op->tenant->name), sql, params, 1, on_state,
                op);
}

static void
await_approval(struct ag_rpc_call *call, const ProtobufCMessage *request,
               void *arg)
{
    static const char sql[] = "SELECT vault.approval_tenant($1)";
    const Agent__Vault__V1__AwaitApprovalRequest *req = (const void *)request;
    struct vault_op *op = vault_op_plain(call, req, arg);
    struct vault *v = op->v;

    if (v->is_stopping
        || vault_approval_waiting(v, ag_str(req->workload))
               >= v->conf->approval_parked) {
        answer(op, AG_STR("pending"));
        return;
    }
    struct waiter *w = ag_arena_alloc(op->arena, sizeof(*w));
    *w = (struct waiter){.next = waiters_of(v)->head,
                         .op = op,
                         .id = ag_str(req->approval_id),
                         .workload = ag_str(req->workload),
                         .timer.fn = on_timer};
    v->waiters->head = w;
    ag_timer_start(v->loop, &w->timer, v->conf->approval_wait_seconds * 1000);
    ag_rpc_call_on_cancel(call, on_gone, w);
    /* Waiting first, then reading: no decision falls between the two. */
    struct ag_db_param params[] = {ag_db_str(w->id)};
    ag_db_query(v->db, AG_STR(""), sql, params, 1, on_await_tenant, op);
}

/* ---- ApprovalService --------------------------------------------------- */

static char **
id_list(struct vault_op *op, ag_str_t json, size_t *n)
{
    struct ag_err ignored = AG_ERR_INIT;
    AG_AUTO(ag_json_decref) json_t *j = ag_json_parse(json, &ignored);
    char **out =
        ag_arena_alloc(op->arena, (json_array_size(j) + 1) * sizeof(*out));

    *n = json_array_size(j);
    for (size_t i = 0; i < *n; i++)
        out[i] = vault_op_text(op, ag_json_str(json_array_get(j, i)));
    return out;
}

static Agent__Vault__V1__Approval *
message(struct vault_op *op, const struct vault_approval_row *r)
{
    Agent__Vault__V1__Approval *m = ag_arena_alloc(op->arena, sizeof(*m));
    bool is_over = r->expires_us <= ag_now_us();

    agent__vault__v1__approval__init(m);
    m->id = vault_op_text(op, r->id);
    m->type = "approval";
    m->session_id = vault_op_text(op, r->session_id);
    m->environment_id = vault_op_text(op, r->environment_id);
    m->scheme = vault_op_text(op, r->scheme);
    m->host = vault_op_text(op, r->host);
    m->port = (int32_t)r->port;
    m->method = vault_op_text(op, r->method);
    m->path = vault_op_text(op, r->path);
    m->reason = vault_op_text(op, r->reason);
    m->credential_ids = id_list(op, r->credentials, &m->n_credential_ids);
    m->state = is_over && ag_str_is(r->state, "pending")
                   ? "expired"
                   : vault_op_text(op, r->state);
    m->scope = vault_op_text(op, r->scope);
    m->created_at = vault_op_time(op, r->created_us);
    m->expires_at = vault_op_time(op, r->expires_us);
    m->decided_by = vault_op_text(op, r->decided_by);
    if (r->decided_us != 0) {
        m->_decided_at_case =
            AGENT__VAULT__V1__APPROVAL___DECIDED_AT_DECIDED_AT;
        m->decided_at = vault_op_time(op, r->decided_us);
    }
    return m;
}

static ProtobufCMessage *
listed(struct vault_op *op, const struct ag_db_result *res, int i)
{
    struct vault_approval_row row;

    vault_approval_read(res, i, op->arena, &row);
    return &message(op, &row)->base;
}

static const struct vault_list approvals = {
    &agent__vault__v1__list_approvals_response__descriptor, listed};

static void
list_approvals(struct ag_rpc_call *call, const ProtobufCMessage *request,
               void *arg)
{
    static const char sql[] =
        "SELECT " VAULT_APPROVAL_COLUMNS " FROM vault.approval a"
        " WHERE ($1 = '' OR a.id < $1) AND ($2 = '' OR a.session_id = $2)"
        " AND ($3::boolean OR (a.state = 'pending' AND a.expires_us >"
        " $4::bigint)) ORDER BY a.id DESC LIMIT $5::bigint";
    const Agent__Vault__V1__ListApprovalsRequest *req = (const void *)request;
    struct vault_op *op = vault_op_begin(call, req, arg, NULL);
    int64_t rows =
        op == NULL ? -1 : vault_page_begin(op, &approvals, req->limit);

    if (rows < 0)
        return;
    struct ag_db_param params[] = {ag_db_str(ag_str(req->page)),
                                   ag_db_str(ag_str(req->session_id)),
                                   ag_db_bool(req->include_decided),
                                   ag_db_int(ag_now_us()), ag_db_int(rows)};
    ag_db_query(op->v->db, op->who.tenant, sql, params, 5, vault_page_reply,
                op);
}

static void
on_decided(void *arg, const struct ag_db_result *res, const struct ag_err *err)
{
    struct vault_op *op = arg;
    const struct vault_approval_row *row = op->state;

    if (res == NULL) {
        vault_op_fail(op, err);
        return;
    }
    if (ag_db_rows(res) != 1) {
        vault_op_refuse(op, AG_ERR_PRECONDITION,
                        "approval_id: was answered meanwhile");
        return;
    }
    tell(op->v, row->id, row->state);
    char *detail =
        ag_arena_printf(op->arena, "{\"decision\":\"%.*s\",\"scope\":\"%.*s\"}",
                        AG_FMT(row->state), AG_FMT(row->scope));
    vault_audit_reply(op, "approval.decided", row->id, row->session_id,
                      ag_str(detail), &message(op, row)->base);
}

static int
check_open(const struct vault_op *op, const struct vault_approval_row *row,
           struct ag_err *err)
{
    if (vault_approval_check(op->tenant, row, err) < 0)
        return -1;
    if (!ag_str_is(row->state, "pending"))
        return ag_err_set(err, AG_ERR_PRECONDITION,
                          "approval_id: was answered already (%.*s)",
                          AG_FMT(row->state));
    if (row->expires_us <= ag_now_us())
        return ag_err_set(err, AG_ERR_PRECONDITION,
                          "approval_id: has expired; the request must be sent "
                          "again");
    return 0;
}

static void
on_to_decide(void *arg, const struct ag_db_result *res,
             const struct ag_err *err)
{
    static const char sql[] =
        "UPDATE vault.approval SET state = $2, scope = $3, decided_us = $4,"
        " decided_by = $5, mac = $6 WHERE id = $1 AND mac = $7 RETURNING id";
    struct vault_op *op = arg;
    const Agent__Vault__V1__DecideApprovalRequest *req = op->request;
    struct ag_err why = AG_ERR_INIT;
    unsigned char mac[VAULT_MAC_BYTES];

    if (res == NULL) {
        vault_op_fail(op, err);
        return;
    }
    if (ag_db_rows(res) != 1) {
        vault_op_refuse(op, AG_ERR_NOT_FOUND,
                        "approval_id: there is no such approval");
        return;
    }
    struct vault_approval_row *row = ag_arena_alloc(op->arena, sizeof(*row));
    vault_approval_read(res, 0, op->arena, row);
    if (check_open(op, row, &why) < 0) {
        vault_op_fail(op, &why);
        return;
    }
    ag_str_t before = row->mac;
    bool is_yes = strcmp(req->decision, "approve") == 0;
    row->state = is_yes ? AG_STR("approved") : AG_STR("denied");
    row->scope = *req->scope != '\0' ? ag_str(req->scope) : AG_STR("request");
    row->decided_us = ag_now_us();
    row->decided_by = op->who.subject;
    vault_approval_mac(op->tenant, row, mac);
    row->mac = ag_arena_copy(op->arena, ag_str_n(mac, sizeof(mac)));
    op->state = row;
    struct ag_db_param params[] = {
        ag_db_str(row->id),         ag_db_str(row->state),
        ag_db_str(row->scope),      ag_db_int(row->decided_us),
        ag_db_str(row->decided_by), ag_db_bytes(row->mac),
        ag_db_bytes(before)};
    ag_db_query(op->v->db, op->who.tenant, sql, params, 7, on_decided, op);
}

static void
decide_approval(struct ag_rpc_call *call, const ProtobufCMessage *request,
                void *arg)
{
    static const char sql[] = "SELECT " VAULT_APPROVAL_COLUMNS
                              " FROM vault.approval a WHERE a.id = $1";
    const Agent__Vault__V1__DecideApprovalRequest *req = (const void *)request;
    struct vault_op *op = vault_op_begin(call, req, arg, NULL);

    if (op == NULL)
        return;
    bool is_yes = strcmp(req->decision, "approve") == 0;
    if (!is_yes && strcmp(req->decision, "deny") != 0) {
        vault_op_refuse(op, AG_ERR_INVALID,
                        "decision: neither \"approve\" nor \"deny\"");
        return;
    }
    if (*req->scope != '\0' && strcmp(req->scope, "request") != 0
        && (!is_yes || strcmp(req->scope, "session") != 0)) {
        vault_op_refuse(op, AG_ERR_INVALID,
                        "scope: \"request\", or \"session\" of an approval");
        return;
    }
    struct ag_db_param params[] = {ag_db_str(ag_str(req->approval_id))};
    ag_db_query(op->v->db, op->who.tenant, sql, params, 1, on_to_decide, op);
}

void
vault_approval_serve(struct ag_rpc_server *srv, struct vault_face *face)
{
    ag_rpc_server_add(srv,
                      &agent__vault__v1__approval_service__list_approvals__rpc,
                      list_approvals, face);
    ag_rpc_server_add(srv,
                      &agent__vault__v1__approval_service__decide_approval__rpc,
                      decide_approval, face);
}

void
vault_approval_serve_await(struct ag_rpc_server *srv, struct vault_face *face)
{
    ag_rpc_server_add(srv,
                      &agent__vault__v1__egress_service__await_approval__rpc,
                      await_approval, face);
}
