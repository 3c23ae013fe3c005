/* Two reads: whose it is needs no tenant, the session's row does. */
#include "vault_svc/vault_caller.h"

#include "vault_svc/vault_workload.h"

struct finding {
    struct vault_op *op;
    vault_caller_done *done;
    bool is_session;
    struct vault_caller who;
};

static void
on_session(void *arg, const struct ag_db_result *res, const struct ag_err *err)
{
    struct finding *f = arg;

    if (res == NULL) {
        vault_op_fail(f->op, err);
        return;
    }
    if (ag_db_rows(res) == 1)
        f->who.session_id = ag_arena_copy(f->op->arena, ag_db_get(res, 0, 0));
    f->done(f->op, &f->who);
}

static void
on_tenant(void *arg, const struct ag_db_result *res, const struct ag_err *err)
{
    static const char sql[] =
        "SELECT session_id FROM vault.workload WHERE id = $1"
        " UNION SELECT session_id FROM vault.session_grant"
        " WHERE session_id = $1";
    struct finding *f = arg;
    struct vault_op *op = f->op;

    if (res == NULL) {
        vault_op_fail(op, err);
        return;
    }
    if (ag_db_rows(res) == 1)
        op->tenant = vault_tenant_find(op->v, ag_db_get(res, 0, 0));
    if (op->tenant == NULL) {
        f->done(op, &f->who);
        return;
    }
    ag_str_t id = ag_arena_copy(op->arena, ag_db_get(res, 0, 1));
    if (!f->is_session)
        f->who.workload_id = id;
    struct ag_db_param params[] = {ag_db_str(id)};
    ag_db_query(op->v->db, ag_str(op->tenant->name), sql, params, 1, on_session,
                f);
}

void
vault_caller_find(struct vault_op *op, const char *workload_address,
                  const char *session_id, vault_caller_done *done)
{
    static const char by_address[] =
        "SELECT tenant, id FROM vault.workload_by_address($1)";
    static const char by_session[] = "SELECT vault.session_tenant($1), $1";
    struct finding *f = ag_arena_alloc(op->arena, sizeof(*f));
    bool is_session = *session_id != '\0';
    struct ag_err ignored = AG_ERR_INIT;
    char address[46];

    *f = (struct finding){.op = op, .done = done, .is_session = is_session};
    if (!is_session
        && vault_address_canonical(ag_str(workload_address), address, &ignored)
               < 0)
        address[0] = '\0'; /* nobody's */
    struct ag_db_param params[] = {
        ag_db_str(ag_str(is_session ? session_id : address))};
    ag_db_query(op->v->db, AG_STR(""), is_session ? by_session : by_address,
                params, 1, on_tenant, f);
}
