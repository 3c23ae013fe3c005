/* Rows of approvals: reading, authenticating, finding and using them. */
#include "vault_svc/vault_approval.h"

#include "lib/clock.h"
#include "lib/id.h"

void
vault_approval_read(const struct ag_db_result *res, int row,
                    struct ag_arena *arena, struct vault_approval_row *out)
{
    ag_str_t *texts[] = {&out->id,     &out->session_id, &out->environment_id,
                         &out->scheme, &out->host,       &out->method,
                         &out->path,   &out->reason,     &out->credentials,
                         &out->state,  &out->scope,      &out->decided_by};

    for (int i = 0; i < 12; i++)
        *texts[i] = ag_arena_copy(arena, ag_db_get(res, row, i));
    out->mac = ag_db_get_bytes(res, row, 12, arena);
    out->port = ag_db_get_int(res, row, 13);
    out->created_us = ag_db_get_int(res, row, 14);
    out->expires_us = ag_db_get_int(res, row, 15);
    out->decided_us =
        ag_db_is_null(res, row, 16) ? 0 : ag_db_get_int(res, row, 16);
}

void
vault_approval_mac(const struct vault_tenant *tenant,
                   const struct vault_approval_row *row,
                   unsigned char out[VAULT_MAC_BYTES])
{
    AG_AUTO(ag_buf_release) struct ag_buf b = AG_BUF_INIT(1 << 20);
    const ag_str_t texts[] = {AG_STR("brainbox-row-approval-v1"),
                              ag_str(tenant->name),
                              row->id,
                              row->session_id,
                              row->environment_id,
                              row->scheme,
                              row->host,
                              row->method,
                              row->path,
                              row->reason,
                              row->credentials,
                              row->state,
                              row->scope,
                              row->decided_by};

    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++)
        vault_field(&b, texts[i]);
    vault_field_int(&b, row->port);
    vault_field_int(&b, row->created_us);
    vault_field_int(&b, row->expires_us);
    vault_field_int(&b, row->decided_us);
    vault_hmac(tenant->ring.mac, ag_buf_str(&b), out);
}

int
vault_approval_check(const struct vault_tenant *tenant,
                     const struct vault_approval_row *row, struct ag_err *err)
{
    unsigned char want[VAULT_MAC_BYTES];

    vault_approval_mac(tenant, row, want);
    if (ag_str_eq_ct(ag_str_n(want, sizeof(want)), row->mac))
        return 0;
    return ag_err_set(err, AG_ERR_CORRUPT,
                      "approval %.*s does not check: the row was changed "
                      "outside the vault",
                      AG_FMT(row->id));
}

/* ---- finding ----------------------------------------------------------- */

struct find {
    struct vault_op *op;
    struct vault_approval_ask ask;
    struct vault_approval_row row;
    vault_approval_done *done;
    void *arg;
};

static void
finish(struct find *f, enum vault_approval state)
{
    f->done(f->arg, state, f->row.id, NULL);
}

static void
on_used(void *arg, const struct ag_db_result *res, const struct ag_err *err)
{
    struct find *f = arg;

    if (res == NULL)
        f->done(f->arg, VAULT_APPROVAL_DENIED, f->row.id, err);
    else if (ag_db_rows(res) != 1)
        finish(f, VAULT_APPROVAL_DENIED); /* another request was faster */
    else
        finish(f, VAULT_APPROVAL_GIVEN);
}

/* The word was about one request: nobody has it a second time. */
static void
use(struct find *f)
{
    static const char sql[] =
        "UPDATE vault.approval SET state = 'used', mac = $2"
        " WHERE id = $1 AND mac = $3 RETURNING id";
    unsigned char mac[VAULT_MAC_BYTES];
    struct vault_approval_row used = f->row;

    used.state = AG_STR("used");
    vault_approval_mac(f->op->tenant, &used, mac);
    struct ag_db_param params[] = {ag_db_str(used.id),
                                   ag_db_bytes(ag_str_n(mac, sizeof(mac))),
                                   ag_db_bytes(used.mac)};
    ag_db_query(f->op->v->db, ag_str(f->op->tenant->name), sql, params, 3,
                on_used, f);
}

static void
on_pending(void *arg, const struct ag_db_result *res, const struct ag_err *err)
{
    struct find *f = arg;

    if (res == NULL)
        f->done(f->arg, VAULT_APPROVAL_DENIED, f->row.id, err);
    else
        finish(f, ag_db_rows(res) == 1 ? VAULT_APPROVAL_PENDING
                                       : VAULT_APPROVAL_LIMIT);
}

static void
insert(struct find *f)
{
    static const char sql[] =
        "INSERT INTO vault.approval (id, tenant, session_id, environment_id,"
        " scheme, host, port, method, path, reason, credentials, state, scope,"
        " created_us, expires_us, decided_by, mac)"
        " SELECT $1, $2, $3, $4, $5, $6, $7::integer, $8, $9, $10, $11,"
        " 'pending', '', $12::bigint, $13::bigint, '', $14"
        " WHERE (SELECT count(*) FROM vault.approval WHERE session_id = $3"
        " AND state = 'pending' AND expires_us > $12::bigint) < $15::bigint"
        " RETURNING id";
    const struct vault_conf *conf = f->op->v->conf;
    struct vault_approval_row *r = &f->row;
    const struct vault_policy_ask *w = &f->ask.what;
    unsigned char mac[VAULT_MAC_BYTES];
    char id[AG_ID_TEXT];

    ag_id_new("apr", id);
    *r = (struct vault_approval_row){
        .id = ag_arena_copy(f->op->arena, ag_str(id)),
        .session_id = f->ask.session_id,
        .environment_id = f->ask.environment_id,
        .scheme = ag_str(w->is_https ? "https" : "http"),
        .host = w->host,
        .method = w->method,
        .path = w->path,
        .reason = ag_str(f->ask.reason),
        .credentials = f->ask.credentials,
        .state = AG_STR("pending"),
        .port = w->port,
        .created_us = ag_now_us(),
    };
    r->expires_us = r->created_us + conf->approval_seconds * 1000000;
    vault_approval_mac(f->op->tenant, r, mac);
    ag_str_t name = ag_str(f->op->tenant->name);
    struct ag_db_param params[] = {ag_db_str(r->id),
                                   ag_db_str(name),
                                   ag_db_str(r->session_id),
                                   ag_db_str(r->environment_id),
                                   ag_db_str(r->scheme),
                                   ag_db_str(r->host),
                                   ag_db_int(r->port),
                                   ag_db_str(r->method),
                                   ag_db_str(r->path),
                                   ag_db_str(r->reason),
                                   ag_db_str(r->credentials),
                                   ag_db_int(r->created_us),
                                   ag_db_int(r->expires_us),
                                   ag_db_bytes(ag_str_n(mac, sizeof(mac))),
                                   ag_db_int(conf->approvals_max)};
    ag_db_query(f->op->v->db, name, sql, params, 15, on_pending, f);
}

static void
on_found(void *arg, const struct ag_db_result *res, const struct ag_err *err)
{
    struct find *f = arg;
    struct ag_err why = AG_ERR_INIT;

    if (res == NULL) {
        f->done(f->arg, VAULT_APPROVAL_DENIED, f->row.id, err);
        return;
    }
    if (ag_db_rows(res) == 0) {
        insert(f);
        return;
    }
    vault_approval_read(res, 0, f->op->arena, &f->row);
    if (vault_approval_check(f->op->tenant, &f->row, &why) < 0)
        f->done(f->arg, VAULT_APPROVAL_DENIED, f->row.id, &why);
    else if (ag_str_is(f->row.state, "pending"))
        finish(f, VAULT_APPROVAL_PENDING);
    else if (ag_str_is(f->row.state, "denied"))
        finish(f, VAULT_APPROVAL_DENIED);
    else if (ag_str_is(f->row.scope, "session"))
        finish(f, VAULT_APPROVAL_GIVEN);
    else
        use(f);
}

void
vault_approval_find(struct vault_op *op, const struct vault_approval_ask *ask,
                    vault_approval_done *done, void *arg)
{
    /* What holds for the session comes first, then the newest. */
    static const char sql[] =
        "SELECT " VAULT_APPROVAL_COLUMNS " FROM vault.approval a"
        " WHERE a.session_id = $1 AND a.environment_id = $2 AND a.scheme = $3"
        " AND a.host = $4 AND a.port = $5::integer AND a.credentials = $6"
        " AND ((a.state = 'approved' AND a.scope = 'session') OR"
        "  (a.method = $7 AND a.path = $8 AND a.expires_us > $9::bigint"
        "   AND a.state IN ('pending', 'approved', 'denied')))"
        " ORDER BY a.scope = 'session' DESC, a.id DESC LIMIT 1";
    struct find *f = ag_arena_alloc(op->arena, sizeof(*f));
    const struct vault_policy_ask *w = &ask->what;

    *f = (struct find){.op = op, .ask = *ask, .done = done, .arg = arg};
    struct ag_db_param params[] = {
        ag_db_str(ask->session_id),
        ag_db_str(ask->environment_id),
        ag_db_str(ag_str(w->is_https ? "https" : "http")),
        ag_db_str(w->host),
        ag_db_int(w->port),
        ag_db_str(ask->credentials),
        ag_db_str(w->method),
        ag_db_str(w->path),
        ag_db_int(ag_now_us())};
    if (w->path.n > VAULT_APPROVAL_PATH_MAX)
        finish(f, VAULT_APPROVAL_LIMIT);
    else
        ag_db_query(op->v->db, ag_str(op->tenant->name), sql, params, 9,
                    on_found, f);
}
