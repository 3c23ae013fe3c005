/* Which roles there are, and what one gives now. */
#include "vault_svc/vault_role.h"

#include "lib/scope.h"

static const struct vault_role_row built_in[] = {
    {.id = AG_STR("role_viewer"),
     .name = AG_STR("viewer"),
     .description = AG_STR("sees everything but keys, audit and metrics"),
     .scopes = AG_STR("read"),
     .version = 1},
    {.id = AG_STR("role_operator"),
     .name = AG_STR("operator"),
     .description = AG_STR("makes and changes everything, administers nothing"),
     .scopes = AG_STR("read,write"),
     .version = 1},
    {.id = AG_STR("role_admin"),
     .name = AG_STR("admin"),
     .description = AG_STR("may do everything"),
     .scopes = AG_STR("read,write,admin"),
     .version = 1},
    {.id = AG_STR("role_approver"),
     .name = AG_STR("approver"),
     .description = AG_STR("answers what waits for a person"),
     .scopes = AG_STR("approvals"),
     .version = 1},
    {.id = AG_STR("role_auditor"),
     .name = AG_STR("auditor"),
     .description = AG_STR("sees what a viewer does, and the audit"),
     .scopes = AG_STR("read,audit"),
     .version = 1},
    {.id = AG_STR("role_monitor"),
     .name = AG_STR("monitor"),
     .description = AG_STR("scrapes metrics"),
     .scopes = AG_STR("metrics"),
     .version = 1},
};

struct finding {
    struct vault_op *op;
    vault_role_done *done;
};

const struct vault_role_row *
vault_role_built_in(size_t i)
{
    return i < sizeof(built_in) / sizeof(built_in[0]) ? &built_in[i] : NULL;
}

static const struct vault_role_row *
find_built_in(ag_str_t id)
{
    const struct vault_role_row *role;

    for (size_t i = 0; (role = vault_role_built_in(i)) != NULL; i++)
        if (ag_str_eq(role->id, id))
            return role;
    return NULL;
}

bool
vault_role_is_built_in(ag_str_t id)
{
    return find_built_in(id) != NULL;
}

static void
on_role(void *arg, const struct ag_db_result *res, const struct ag_err *err)
{
    struct finding *f = arg;
    struct ag_err why = AG_ERR_INIT;

    if (res == NULL) {
        vault_op_fail(f->op, err);
        return;
    }
    if (ag_db_rows(res) != 1) {
        f->done(f->op, NULL);
        return;
    }
    struct vault_role_row *role = ag_arena_alloc(f->op->arena, sizeof(*role));
    vault_role_read(res, 0, f->op->arena, role);
    if (vault_role_check(f->op->tenant, role, &why) < 0)
        vault_op_fail(f->op, &why);
    else
        f->done(f->op, role);
}

void
vault_role_find(struct vault_op *op, ag_str_t id, vault_role_done *done)
{
    static const char sql[] =
        "SELECT " VAULT_ROLE_COLUMNS " FROM vault.role r WHERE r.id = $1";
    const struct vault_role_row *role = find_built_in(id);

    if (role != NULL) {
        done(op, role);
        return;
    }
    struct finding *f = ag_arena_alloc(op->arena, sizeof(*f));
    *f = (struct finding){op, done};
    struct ag_db_param params[] = {ag_db_str(id)};
    ag_db_query(op->v->db, ag_str(op->tenant->name), sql, params, 1, on_role,
                f);
}
