/*
 * Reads a session's rights. One statement, so that it is one snapshot: a
 * policy edited between two reads cannot give a mixture.
 */
#include "vault_svc/vault_session.h"

#include "lib/json.h"
#include "vault_svc/vault_sign.h"

/* The head is one row, read once, whatever the number of credentials. */
static const char sql[] =
    "WITH head AS MATERIALIZED (SELECT g, w, p, n.environment_id,"
    "  (SELECT json_object_agg(e.name, e.value)::text FROM vault.plain_env e)"
    "   AS plain_env,"
    "  CASE WHEN $5::boolean THEN"
    "   vault.session_mark(g.session_id, w.id, n.environment_id) END AS mark"
    " FROM vault.session_grant g"
    " LEFT JOIN vault.workload w ON w.id = $4 AND w.closed_us IS NULL"
    "  AND w.session_id = g.session_id"
    " CROSS JOIN LATERAL (SELECT coalesce(nullif($2, ''), w.environment_id,"
    "   g.environment_ids::json->>0) AS environment_id) n"
    " LEFT JOIN LATERAL (SELECT * FROM vault.policy q"
    "  WHERE q.environment_id = n.environment_id"
    "  ORDER BY q.version DESC LIMIT 1) p ON true"
    " WHERE g.session_id = CASE WHEN $1 <> '' THEN $1 ELSE"
    "  (SELECT w2.session_id FROM vault.workload w2 WHERE w2.id = $4) END)"
    "SELECT " VAULT_GRANT_COLUMNS ", " VAULT_POLICY_COLUMNS
    ", " VAULT_WORKLOAD_COLUMNS ", " VAULT_CREDENTIAL_COLUMNS
    ", v.is_platform, s.nonce, h.plain_env, h.environment_id,"
    " h.mark"
    " FROM head h CROSS JOIN LATERAL (SELECT (h.g).*) g"
    " CROSS JOIN LATERAL (SELECT (h.w).*) w"
    " CROSS JOIN LATERAL (SELECT (h.p).*) p"
    " LEFT JOIN (vault.credential c JOIN vault.vault v ON v.id = c.vault_id"
    "  AND v.archived_us IS NULL) ON c.archived_us IS NULL"
    "  AND (c.session_id IS NULL OR c.session_id = g.session_id"
    "   AND EXISTS (SELECT FROM vault.credential o"
    "    WHERE o.id = c.parent_id AND o.archived_us IS NULL))"
    "  AND (v.is_platform OR v.id IN"
    "       (SELECT json_array_elements_text(g.vault_ids::json)))"
    " LEFT JOIN vault.stub s ON s.session_id = g.session_id"
    "  AND s.credential_id = c.id"
    "  AND s.kind = CASE WHEN $3::integer > 0 THEN $3::integer"
    "                    ELSE w.kind END"
    " ORDER BY v.is_platform, c.id";

enum {
    COL_GRANT = 0,
    COL_POLICY = COL_GRANT + VAULT_GRANT_N,
    COL_WORKLOAD = COL_POLICY + VAULT_POLICY_N,
    COL_CREDENTIAL = COL_WORKLOAD + VAULT_WORKLOAD_N,
    COL_PLATFORM = COL_CREDENTIAL + VAULT_CREDENTIAL_N,
    COL_NONCE,
    COL_PLAIN_ENV,
    COL_ENVIRONMENT,
    COL_MARK,
};

bool
vault_list_has(ag_str_t list, ag_str_t id)
{
    struct ag_err ignored = AG_ERR_INIT;
    AG_AUTO(ag_json_decref) json_t *j = ag_json_parse(list, &ignored);

    for (size_t i = 0; i < json_array_size(j); i++)
        if (ag_str_eq(ag_json_str(json_array_get(j, i)), id))
            return true;
    return false;
}

void
vault_session_query(struct vault *v, const struct vault_tenant *tenant,
                    const struct vault_session_ask *ask, ag_db_done *done,
                    void *arg)
{
    struct ag_db_param params[] = {
        ag_db_str(ask->session_id), ag_db_str(ask->environment_id),
        ag_db_int(ask->kind), ag_db_str(ask->workload_id),
        ag_db_bool(ask->wants_mark)};
    ag_db_query(v->db, ag_str(tenant->name), sql, params, 5, done, arg);
}

static int
read_heads(struct vault *v, const struct vault_tenant *tenant,
           const struct ag_db_result *res, struct ag_arena *arena,
           struct vault_session *out, struct ag_err *err)
{
    vault_grant_read(res, 0, COL_GRANT, arena, &out->grant);
    if (vault_grant_check(tenant, &out->grant, err) < 0)
        return -1;
    out->has_policy = !ag_db_is_null(res, 0, COL_POLICY);
    if (out->has_policy) {
        vault_policy_row_read(res, 0, COL_POLICY, arena, &out->policy_row);
        if (vault_policy_row_check(tenant, &out->policy_row, err) < 0
            || vault_policy_parse(out->policy_row.policy, &v->deployment, arena,
                                  &out->policy, err)
                   < 0)
            return -1;
    }
    out->has_workload = !ag_db_is_null(res, 0, COL_WORKLOAD);
    if (out->has_workload) {
        vault_workload_read(res, 0, COL_WORKLOAD, arena, &out->workload);
        if (vault_workload_check(tenant, &out->workload, err) < 0)
            return -1;
    }
    out->plain_env = ag_arena_copy(arena, ag_db_get(res, 0, COL_PLAIN_ENV));
    out->environment_id =
        ag_arena_copy(arena, ag_db_get(res, 0, COL_ENVIRONMENT));
    out->mark = ag_arena_copy(arena, ag_db_get(res, 0, COL_MARK));
    return 0;
}

static void
make_stub(const struct vault_tenant *tenant, const struct vault_session *s,
          const struct vault_session_credential *c, int kind,
          struct ag_arena *arena, ag_str_t *out)
{
    AG_AUTO(ag_buf_wipe) struct ag_buf text = AG_BUF_INIT(256);

    if (c->nonce.n == 0)
        return;
    vault_stub_text(tenant, s->grant.session_id, c->row.id, kind, c->nonce,
                    c->row.stub_prefix, &text);
    *out = ag_arena_copy(arena, ag_buf_str(&text));
}

static int
read_credential(struct vault *v, const struct vault_tenant *tenant, int kind,
                const struct ag_db_result *res, int row, struct ag_arena *arena,
                struct vault_session *s, struct ag_err *err)
{
    struct vault_session_credential *c = &s->credentials[s->n];
    struct vault_held *h = &s->held[s->n];

    vault_credential_read(res, row, COL_CREDENTIAL, arena, &c->row);
    c->is_platform = ag_db_get_bool(res, row, COL_PLATFORM);
    c->nonce = ag_db_get_bytes(res, row, COL_NONCE, arena);
    if (vault_credential_check(tenant, &c->row, err) < 0)
        return -1;
    /* The vault's flag is not authenticated, the credential's auth is. */
    if (c->is_platform != ag_str_is(c->row.auth, VAULT_PLATFORM_AUTH))
        return ag_err_set(err, AG_ERR_CORRUPT,
                          "credential %.*s stands in a wrong vault",
                          AG_FMT(c->row.id));
    h->id = c->row.id;
    h->is_for_brain = c->row.is_for_brain;
    h->signs = vault_auth_signs(c->row.auth);
    if (vault_binding_parse(c->row.binding, &v->deployment, arena, &h->binding,
                            err)
        < 0)
        return ag_err_wrap(err, "credential %.*s", AG_FMT(c->row.id));
    make_stub(tenant, s, c, kind, arena, &h->stub);
    s->n++;
    return 0;
}

int
vault_session_read(struct vault *v, const struct vault_tenant *tenant, int kind,
                   const struct ag_db_result *res, struct ag_arena *arena,
                   struct vault_session *out, struct ag_err *err)
{
    int rows = ag_db_rows(res);

    *out = (struct vault_session){0};
    if (rows == 0)
        return ag_err_set(err, AG_ERR_NOT_FOUND,
                          "session_id: no grant for this session");
    if (read_heads(v, tenant, res, arena, out, err) < 0)
        return -1;
    if (kind == 0 && out->has_workload)
        kind = (int)out->workload.kind;
    out->credentials =
        ag_arena_alloc(arena, (size_t)rows * sizeof(*out->credentials));
    out->held = ag_arena_alloc(arena, (size_t)rows * sizeof(*out->held));
    for (int i = 0; i < rows; i++)
        if (!ag_db_is_null(res, i, COL_CREDENTIAL)
            && read_credential(v, tenant, kind, res, i, arena, out, err) < 0)
            return -1;
    return 0;
}
