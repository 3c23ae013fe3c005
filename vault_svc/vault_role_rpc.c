/*
 * RoleService. A role is written under the MAC that was read before, so that of
 * two who change it one is told; its audit row names the version, which is what
 * an older row that is put back is found by.
 */
#include "vault_svc/vault_role.h"

#include "agent_rpc.h"
#include "lib/clock.h"
#include "lib/id.h"
#include "lib/rpc_page.h"
#include "vault.pb-c.h"
#include "vault_svc/vault_audit.h"
#include "vault_svc/vault_page.h"
#include "vault_svc/vault_scope.h"

enum { NAME_MAX_BYTES = 64, DESCRIPTION_MAX = 1024 };

static Agent__Vault__V1__Role *
role_message(struct vault_op *op, const struct vault_role_row *row)
{
    Agent__Vault__V1__Role *out = ag_arena_alloc(op->arena, sizeof(*out));

    agent__vault__v1__role__init(out);
    out->id = vault_op_text(op, row->id);
    out->type = "role";
    out->name = vault_op_text(op, row->name);
    out->description = vault_op_text(op, row->description);
    out->n_scopes = vault_scopes_list(vault_scopes_parse(row->scopes),
                                      op->arena, &out->scopes);
    out->version = (int32_t)row->version;
    out->built_in = vault_role_is_built_in(row->id);
    if (out->built_in)
        return out;
    out->_created_at_case = AGENT__VAULT__V1__ROLE___CREATED_AT_CREATED_AT;
    out->created_at = vault_op_time(op, row->created_us);
    out->_updated_at_case = AGENT__VAULT__V1__ROLE___UPDATED_AT_UPDATED_AT;
    out->updated_at = vault_op_time(op, row->updated_us);
    out->keys = row->n_keys;
    return out;
}

/* What the audit says of a change. */
static ag_str_t
role_detail(struct vault_op *op, const struct vault_role_row *row)
{
    AG_AUTO(ag_buf_release) struct ag_buf b = AG_BUF_INIT(4096);

    ag_buf_addf(&b, "{\"version\":%lld", (long long)row->version);
    vault_add_text(&b, "scopes", row->scopes);
    vault_add_text(&b, "name", row->name);
    ag_buf_addf(&b, ",\"keys\":%lld}", (long long)row->n_keys);
    return ag_arena_copy(op->arena, ag_buf_str(&b));
}

/* ---- what may be written ----------------------------------------------- */

static int
check_texts(const struct vault_role_row *row, struct ag_err *err)
{
    const struct vault_role_row *role;

    if (row->name.n == 0 || row->name.n > NAME_MAX_BYTES
        || !ag_str_is_utf8(row->name))
        return ag_err_set(err, AG_ERR_INVALID, "name: not 1 to %d bytes",
                          NAME_MAX_BYTES);
    for (size_t i = 0; (role = vault_role_built_in(i)) != NULL; i++)
        if (ag_str_eq(role->name, row->name))
            return ag_err_set(err, AG_ERR_EXISTS,
                              "name: a built-in role has it");
    if (row->description.n > DESCRIPTION_MAX
        || !ag_str_is_utf8(row->description))
        return ag_err_set(err, AG_ERR_INVALID,
                          "description: more than %d bytes", DESCRIPTION_MAX);
    return 0;
}

/* Sets row->scopes. What the role gave before may stay in it. */
static int
take_scopes(struct vault_op *op, char **names, size_t n,
            struct vault_role_row *row, struct ag_err *err)
{
    unsigned before = vault_scopes_parse(row->scopes), scopes;

    if (vault_scopes_read(names, n, &scopes, err) < 0
        || vault_scopes_check_given(&op->who, scopes & ~before, err) < 0)
        return -1;
    row->scopes = vault_scopes_text(scopes, op->arena);
    return 0;
}

/* A role that is there and can be written, or NULL: the call was failed. */
static struct vault_role_row *
writable(struct vault_op *op, const struct vault_role_row *role)
{
    struct vault_role_row *row;

    if (role == NULL || role->deleted_us != 0) {
        vault_op_refuse(op, AG_ERR_NOT_FOUND, "role_id: there is no such role");
        return NULL;
    }
    if (vault_role_is_built_in(role->id)) {
        vault_op_refuse(op, AG_ERR_PRECONDITION,
                        "role_id: \"%.*s\" is built in and stays what it is; "
                        "make a role",
                        AG_FMT(role->id));
        return NULL;
    }
    row = ag_arena_alloc(op->arena, sizeof(*row));
    *row = *role;
    return row;
}

/* Write the row's next version; `done` gets a row when nobody was faster. */
static void
write_next(struct vault_op *op, struct vault_role_row *row, ag_db_done *done)
{
    static const char sql[] =
        "UPDATE vault.role SET name = $2, description = $3, scopes = $4,"
        " version = $5::integer, updated_us = $6::bigint,"
        " deleted_us = nullif($7::bigint, 0), mac = $8"
        " WHERE id = $1 AND mac = $9 RETURNING id";
    unsigned char mac[VAULT_MAC_BYTES];
    ag_str_t before = row->mac;

    row->version++;
    row->updated_us = ag_now_us();
    vault_role_mac(op->tenant, row, mac);
    op->state = row;
    struct ag_db_param params[] = {
        ag_db_str(row->id),          ag_db_str(row->name),
        ag_db_str(row->description), ag_db_str(row->scopes),
        ag_db_int(row->version),     ag_db_int(row->updated_us),
        ag_db_int(row->deleted_us),  ag_db_bytes(ag_str_n(mac, sizeof(mac))),
        ag_db_bytes(before)};
    ag_db_query(op->v->db, op->who.tenant, sql, params, 9, done, op);
}

/* The row that was written, or NULL: the call was failed. */
static const struct vault_role_row *
written(struct vault_op *op, const struct ag_db_result *res,
        const struct ag_err *err)
{
    if (res == NULL && err->kind == AG_ERR_EXISTS)
        vault_op_refuse(op, AG_ERR_EXISTS, "name: another role has it");
    else if (res == NULL)
        vault_op_fail(op, err);
    else if (ag_db_rows(res) != 1)
        vault_op_refuse(op, AG_ERR_CONFLICT,
                        "the role was changed meanwhile: read it again");
    else
        return op->state;
    return NULL;
}

/* ---- methods ----------------------------------------------------------- */

static void
on_created(void *arg, const struct ag_db_result *res, const struct ag_err *err)
{
    struct vault_op *op = arg;
    const struct vault_role_row *row = written(op, res, err);

    if (row != NULL)
        vault_audit_reply(op, "role.created", row->id, AG_STR(""),
                          role_detail(op, row), &role_message(op, row)->base);
}

static void
create_role(struct ag_rpc_call *call, const ProtobufCMessage *request,
            void *arg)
{
    static const char sql[] =
        "INSERT INTO vault.role (id, tenant, name, description, scopes,"
        " version, created_us, updated_us, mac) VALUES ($1, $2, $3, $4, $5, 1,"
        " $6::bigint, $6::bigint, $7) RETURNING id";
    const Agent__Vault__V1__CreateRoleRequest *req = (const void *)request;
    struct vault_op *op = vault_op_begin(call, req, arg, NULL);
    unsigned char mac[VAULT_MAC_BYTES];
    struct ag_err err = AG_ERR_INIT;
    char id[AG_ID_TEXT];

    if (op == NULL)
        return;
    struct vault_role_row *row = ag_arena_alloc(op->arena, sizeof(*row));
    ag_id_new("role", id);
    *row = (struct vault_role_row){.id = ag_arena_copy(op->arena, ag_str(id)),
                                   .name = ag_str(req->name),
                                   .description = ag_str(req->description),
                                   .version = 1,
                                   .created_us = ag_now_us()};
    row->updated_us = row->created_us;
    if (req->n_scopes == 0)
        ag_err_set(&err, AG_ERR_INVALID, "scopes: a role gives at least one");
    else if (check_texts(row, &err) == 0)
        (void)take_scopes(op, req->scopes, req->n_scopes, row, &err);
    if (err.kind != AG_ERR_NONE) {
        vault_op_fail(op, &err);
        return;
    }
    vault_role_mac(op->tenant, row, mac);
    op->state = row;
    struct ag_db_param params[] = {ag_db_str(row->id),
                                   ag_db_str(op->who.tenant),
                                   ag_db_str(row->name),
                                   ag_db_str(row->description),
                                   ag_db_str(row->scopes),
                                   ag_db_int(row->created_us),
                                   ag_db_bytes(ag_str_n(mac, sizeof(mac)))};
    ag_db_query(op->v->db, op->who.tenant, sql, params, 7, on_created, op);
}

static void
on_role_to_get(struct vault_op *op, const struct vault_role_row *role)
{
    if (role == NULL || role->deleted_us != 0)
        vault_op_refuse(op, AG_ERR_NOT_FOUND, "role_id: there is no such role");
    else
        ag_rpc_reply(op->call, &role_message(op, role)->base);
}

static void
get_role(struct ag_rpc_call *call, const ProtobufCMessage *request, void *arg)
{
    const Agent__Vault__V1__GetRoleRequest *req = (const void *)request;
    struct vault_op *op = vault_op_begin(call, req, arg, NULL);

    if (op != NULL)
        vault_role_find(op, ag_str(req->role_id), on_role_to_get);
}

static void
on_updated(void *arg, const struct ag_db_result *res, const struct ag_err *err)
{
    struct vault_op *op = arg;
    const struct vault_role_row *row = written(op, res, err);

    if (row == NULL)
        return;
    vault_generation_move(op->v);
    vault_audit_reply(op, "role.updated", row->id, AG_STR(""),
                      role_detail(op, row), &role_message(op, row)->base);
}

static int
change_row(struct vault_op *op, struct vault_role_row *row, struct ag_err *err)
{
    const Agent__Vault__V1__UpdateRoleRequest *req = op->request;

    if (req->version != 0 && req->version != row->version)
        return ag_err_set(err, AG_ERR_CONFLICT,
                          "version: the role has version %lld by now",
                          (long long)row->version);
    if (req->_name_case == AGENT__VAULT__V1__UPDATE_ROLE_REQUEST___NAME_NAME)
        row->name = ag_str(req->name);
    if (req->_description_case
        == AGENT__VAULT__V1__UPDATE_ROLE_REQUEST___DESCRIPTION_DESCRIPTION)
        row->description = ag_str(req->description);
    if (check_texts(row, err) < 0)
        return -1;
    return req->n_scopes == 0
               ? 0
               : take_scopes(op, req->scopes, req->n_scopes, row, err);
}

static void
on_role_to_update(struct vault_op *op, const struct vault_role_row *role)
{
    struct vault_role_row *row = writable(op, role);
    struct ag_err err = AG_ERR_INIT;

    if (row == NULL)
        return;
    if (change_row(op, row, &err) < 0)
        vault_op_fail(op, &err);
    else
        write_next(op, row, on_updated);
}

static void
update_role(struct ag_rpc_call *call, const ProtobufCMessage *request,
            void *arg)
{
    const Agent__Vault__V1__UpdateRoleRequest *req = (const void *)request;
    struct vault_op *op = vault_op_begin(call, req, arg, NULL);

    if (op != NULL)
        vault_role_find(op, ag_str(req->role_id), on_role_to_update);
}

static void
on_deleted(void *arg, const struct ag_db_result *res, const struct ag_err *err)
{
    struct vault_op *op = arg;
    const struct vault_role_row *row = written(op, res, err);

    if (row == NULL)
        return;
    Agent__Vault__V1__Deleted *out = ag_arena_alloc(op->arena, sizeof(*out));
    agent__vault__v1__deleted__init(out);
    out->id = vault_op_text(op, row->id);
    out->type = "role_deleted";
    vault_generation_move(op->v);
    vault_audit_reply(op, "role.deleted", row->id, AG_STR(""),
                      role_detail(op, row), &out->base);
}

static void
on_role_to_delete(struct vault_op *op, const struct vault_role_row *role)
{
    const Agent__Vault__V1__DeleteRoleRequest *req = op->request;
    struct vault_role_row *row = writable(op, role);

    if (row == NULL)
        return;
    if (row->n_keys > 0 && !req->force) {
        vault_op_refuse(op, AG_ERR_PRECONDITION,
                        "role_id: %lld key%s this role and would be worth "
                        "nothing: revoke %s, or delete with force=true",
                        (long long)row->n_keys,
                        row->n_keys == 1 ? " has" : "s have",
                        row->n_keys == 1 ? "it" : "them");
        return;
    }
    row->deleted_us = ag_now_us();
    write_next(op, row, on_deleted);
}

static void
delete_role(struct ag_rpc_call *call, const ProtobufCMessage *request,
            void *arg)
{
    const Agent__Vault__V1__DeleteRoleRequest *req = (const void *)request;
    struct vault_op *op = vault_op_begin(call, req, arg, NULL);

    if (op != NULL)
        vault_role_find(op, ag_str(req->role_id), on_role_to_delete);
}

/* ---- the list: built-in ones, then the tenant's, newest first ----------- */

struct listing {
    const struct vault_role_row *built_in[8];
    size_t n_built_in;
    int limit;
};

/* Those that stand behind `page` (their own order is the table's), up to one
 * more than the page holds. */
static void
list_built_in(struct listing *l, ag_str_t page)
{
    const struct vault_role_row *role;
    bool is_behind = page.n == 0;

    if (!is_behind && !vault_role_is_built_in(page))
        return;
    for (size_t i = 0; (role = vault_role_built_in(i)) != NULL; i++) {
        if (is_behind && l->n_built_in <= (size_t)l->limit)
            l->built_in[l->n_built_in++] = role;
        is_behind |= ag_str_eq(role->id, page);
    }
}

static void
on_roles(void *arg, const struct ag_db_result *res, const struct ag_err *err)
{
    struct vault_op *op = arg;
    const struct listing *l = op->state;
    struct ag_err why = AG_ERR_INIT;

    if (res == NULL) {
        vault_op_fail(op, err);
        return;
    }
    size_t rows = (size_t)ag_db_rows(res), n = 0;
    ProtobufCMessage **data =
        ag_arena_alloc(op->arena, (l->n_built_in + rows + 1) * sizeof(*data));
    for (size_t i = 0; i < l->n_built_in; i++)
        data[n++] = &role_message(op, l->built_in[i])->base;
    for (size_t i = 0; i < rows; i++) {
        struct vault_role_row row;
        vault_role_read(res, (int)i, op->arena, &row);
        if (vault_role_check(op->tenant, &row, &why) < 0) {
            vault_op_fail(op, &why);
            return;
        }
        data[n++] = &role_message(op, &row)->base;
    }
    bool has_more = n > (size_t)l->limit;
    ag_rpc_reply(op->call,
                 ag_rpc_page(op->arena,
                             &agent__vault__v1__list_roles_response__descriptor,
                             data, has_more ? (size_t)l->limit : n, has_more));
}

static void
list_roles(struct ag_rpc_call *call, const ProtobufCMessage *request, void *arg)
{
    static const char sql[] =
        "SELECT " VAULT_ROLE_COLUMNS " FROM vault.role r"
        " WHERE ($1 = '' OR r.id < $1) AND r.deleted_us IS NULL"
        " ORDER BY r.id DESC LIMIT $2::bigint";
    const Agent__Vault__V1__ListRolesRequest *req = (const void *)request;
    struct vault_op *op = vault_op_begin(call, req, arg, NULL);
    struct ag_err err = AG_ERR_INIT;
    const struct vault_page *page;
    ag_str_t from;

    if (op == NULL)
        return;
    page = vault_page_new(op, req->limit, &err);
    if (page == NULL) {
        vault_op_fail(op, &err);
        return;
    }
    struct listing *l = ag_arena_alloc(op->arena, sizeof(*l));
    *l = (struct listing){.limit = page->limit};
    from = ag_str(req->page);
    list_built_in(l, from);
    if (vault_role_is_built_in(from))
        from = AG_STR("");
    op->state = l;
    struct ag_db_param params[] = {
        ag_db_str(from), ag_db_int(l->limit + 1 - (int)l->n_built_in)};
    ag_db_query(op->v->db, op->who.tenant, sql, params, 2, on_roles, op);
}

void
vault_role_serve(struct ag_rpc_server *srv, struct vault_face *face)
{
    ag_rpc_server_add(srv, &agent__vault__v1__role_service__create_role__rpc,
                      create_role, face);
    ag_rpc_server_add(srv, &agent__vault__v1__role_service__get_role__rpc,
                      get_role, face);
    ag_rpc_server_add(srv, &agent__vault__v1__role_service__list_roles__rpc,
                      list_roles, face);
    ag_rpc_server_add(srv, &agent__vault__v1__role_service__update_role__rpc,
                      update_role, face);
    ag_rpc_server_add(srv, &agent__vault__v1__role_service__delete_role__rpc,
                      delete_role, face);
}
