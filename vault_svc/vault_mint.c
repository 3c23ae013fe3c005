/*
 * Credentials that a host minted: stored as others are, but of one session and
 * of the credential that asked, whose binding says where they may go. Nothing
 * of that comes from the answer but the value.
 */
#include "vault_svc/vault_mint.h"

#include "agent_rpc.h"
#include "lib/clock.h"
#include "vault.pb-c.h"
#include "vault_svc/vault_audit.h"
#include "vault_svc/vault_caller.h"
#include "vault_svc/vault_credential.h"
#include "vault_svc/vault_rpc.h"
#include "vault_svc/vault_search.h"
#include "vault_svc/vault_session.h"
#include "vault_svc/vault_snapshot.h"

struct minting {
    const struct vault_caller *caller;
    int kind;
    struct vault_session session;
    const struct vault_session_credential *parent;
    const struct vault_held *held; /* the same */
    char *ids;                     /* JSON array, for the audit's row */
    Agent__Vault__V1__MintResponse reply;
};

static void
on_written(void *arg, const struct ag_db_result *res, const struct ag_err *err)
{
    struct vault_op *op = arg;
    struct minting *m = op->state;
    const Agent__Vault__V1__MintRequest *req = op->request;

    if (res == NULL) {
        vault_op_fail(op, err);
        return;
    }
    if (ag_db_get_int(res, 0, 0) != (int64_t)req->n_values) {
        vault_op_refuse(op, AG_ERR_NOT_FOUND,
                        "credential_id: was archived meanwhile");
        return;
    }
    vault_search_change(op->tenant);
    vault_generation_move(op->v);
    vault_snapshot_forget(op->v, m->caller->session_id);
    op->who.subject = m->caller->session_id;
    vault_audit_reply(op, "credential.minted", m->parent->row.id,
                      m->caller->session_id,
                      ag_str(ag_arena_printf(
                          op->arena, "{\"decision\":\"%s\",\"credentials\":%s}",
                          req->audit_id, m->ids)),
                      &m->reply.base);
}

/* Its stub, too, is for this session and kind alone. */
static char *
make_stub(struct vault_op *op, const struct vault_credential_row *row,
          unsigned char nonce[VAULT_NONCE_BYTES], unsigned char hash[32])
{
    AG_AUTO(ag_buf_wipe) struct ag_buf text = AG_BUF_INIT(256);
    const struct minting *m = op->state;

    ag_random(nonce, VAULT_NONCE_BYTES);
    vault_stub_text(op->tenant, m->caller->session_id, row->id, m->kind,
                    ag_str_n(nonce, VAULT_NONCE_BYTES), row->stub_prefix,
                    &text);
    ag_sha256(ag_buf_str(&text), hash);
    return vault_op_text(op, ag_buf_str(&text));
}

static void
add_row(struct ag_buf *rows, const struct vault_credential_row *row,
        const unsigned char nonce[VAULT_NONCE_BYTES],
        const unsigned char hash[32])
{
    const struct {
        const char *key;
        ag_str_t bytes;
    } hex[] = {{"sealed", row->sealed},
               {"mac", row->mac},
               {"nonce", ag_str_n(nonce, VAULT_NONCE_BYTES)},
               {"hash", ag_str_n(hash, 32)}};

    ag_buf_addf(rows,
                "%s{\"id\":\"%.*s\",\"prefix\":\"%.*s\",\"at\":%lld,"
                "\"key\":%lld",
                rows->n == 0 ? "[" : ",", AG_FMT(row->id),
                AG_FMT(row->stub_prefix), (long long)row->created_us,
                (long long)row->key_version);
    for (size_t i = 0; i < 4; i++) {
        ag_buf_addf(rows, ",\"%s\":\"", hex[i].key);
        ag_buf_add_hex(rows, hex[i].bytes);
        ag_buf_addc(rows, '"');
    }
    ag_buf_add(rows, AG_STR(",\"auth\":"));
    ag_buf_add_json(rows, row->auth);
    ag_buf_add(rows, AG_STR(",\"binding\":"));
    ag_buf_add_json(rows, row->binding);
    ag_buf_addc(rows, '}');
}

static int
make_one(struct vault_op *op, const Agent__Vault__V1__MintedValue *in,
         struct ag_buf *ids, struct ag_buf *rows, struct ag_err *err)
{
    AG_AUTO(ag_buf_release)
    struct ag_buf binding = AG_BUF_INIT(VAULT_BINDING_TEXT_MAX);
    AG_AUTO(ag_buf_release) struct ag_buf auth = AG_BUF_INIT(4096);
    struct minting *m = op->state;
    const struct vault_credential_row *parent = &m->parent->row;
    unsigned char nonce[VAULT_NONCE_BYTES], hash[32];
    struct vault_credential_row row;

    if (vault_value_check(vault_op_bytes(in->value), "value", err) < 0
        || vault_binding_of_minted(parent->binding, in->place->rule,
                                   in->place->index, &binding, err)
               < 0)
        return -1;
    ag_buf_add(&auth, AG_STR("{\"type\":\"minted\",\"pointer\":"));
    ag_buf_add_json(
        &auth, m->held->binding.rules[in->place->rule].mints[in->place->index]);
    ag_buf_addc(&auth, '}');
    const struct vault_new_credential new = {
        .vault_id = parent->vault_id,
        .auth = ag_arena_copy(op->arena, ag_buf_str(&auth)),
        .metadata = AG_STR("{}"),
        .binding = ag_arena_copy(op->arena, ag_buf_str(&binding)),
        .is_for_brain = m->kind == VAULT_KIND_BRAIN,
        .session_id = m->caller->session_id,
        .parent_id = parent->id,
        .value = vault_op_bytes(in->value)};
    if (vault_credential_make(op->v, op->tenant, &new, op->arena, &row, err)
        < 0)
        return -1;
    m->reply.stubs[m->reply.n_stubs++] = make_stub(op, &row, nonce, hash);
    ag_buf_addf(ids, "%s\"%.*s\"", ids->n == 0 ? "[" : ",", AG_FMT(row.id));
    add_row(rows, &row, nonce, hash);
    return 0;
}

static int
make_all(struct vault_op *op, struct ag_buf *rows, struct ag_err *err)
{
    AG_AUTO(ag_buf_release) struct ag_buf ids = AG_BUF_INIT(4096);
    const Agent__Vault__V1__MintRequest *req = op->request;
    struct minting *m = op->state;
    int rc = 0;

    agent__vault__v1__mint_response__init(&m->reply);
    m->reply.stubs =
        ag_arena_alloc(op->arena, req->n_values * sizeof(*m->reply.stubs));
    for (size_t i = 0; i < req->n_values && rc == 0; i++)
        rc = make_one(op, req->values[i], &ids, rows, err);
    ag_buf_addc(rows, ']');
    ag_buf_addc(&ids, ']');
    m->ids = vault_op_text(op, ag_buf_str(&ids));
    return rc;
}

static void
write_rows(struct vault_op *op, ag_str_t rows)
{
    static const char sql[] =
        "WITH r AS (SELECT * FROM json_to_recordset($4::json) AS r(id text,"
        "  prefix text, at bigint, sealed text, mac text, nonce text,"
        "  hash text, auth text, binding text, key integer)),"
        " c AS (INSERT INTO vault.credential (id, tenant, vault_id, auth,"
        "  metadata, binding, env_name, stub_prefix, sealed, mac,"
        "  is_for_brain, is_model, version, created_us, updated_us,"
        "  session_id, parent_id, key_version)"
        "  SELECT r.id, $1, p.vault_id, r.auth, '{}', r.binding, '', r.prefix,"
        "  decode(r.sealed, 'hex'), decode(r.mac, 'hex'), $5::integer = 3,"
        "  false, 1, r.at, r.at, $2, p.id, r.key FROM r JOIN vault.credential p"
        "  ON p.id = $3 AND p.archived_us IS NULL RETURNING id),"
        " s AS (INSERT INTO vault.stub (tenant, session_id, credential_id,"
        "  kind, nonce, stub_hash, created_us)"
        "  SELECT $1, $2, r.id, $5::integer, decode(r.nonce, 'hex'),"
        "  decode(r.hash, 'hex'), r.at FROM r JOIN c USING (id)),"
        " old AS (DELETE FROM vault.credential WHERE id IN (SELECT id"
        "  FROM vault.credential WHERE session_id = $2"
        "  ORDER BY id DESC OFFSET $6::bigint))"
        " SELECT count(*) FROM c";
    const Agent__Vault__V1__MintRequest *req = op->request;
    const struct minting *m = op->state;
    ag_str_t name = ag_str(op->tenant->name);
    struct ag_db_param params[] = {
        ag_db_str(name),
        ag_db_str(m->caller->session_id),
        ag_db_str(m->parent->row.id),
        ag_db_str(rows),
        ag_db_int(m->kind),
        ag_db_int(op->v->conf->minted_max - (int64_t)req->n_values)};

    ag_db_query(op->v->db, name, sql, params, 6, on_written, op);
}

/* What was minted once mints nothing more: its binding has no place for it. */
static int
find_parent(struct minting *m, ag_str_t id, struct ag_err *err)
{
    if (m->session.grant.ended_us != 0 || m->session.grant.frozen_us != 0)
        return ag_err_set(err, AG_ERR_DENIED,
                          "the session has ended or is frozen");
    for (size_t i = 0; i < m->session.n; i++)
        if (ag_str_eq(m->session.credentials[i].row.id, id)
            && vault_held_is_for(&m->session.held[i],
                                 (enum vault_kind)m->kind)) {
            m->parent = &m->session.credentials[i];
            m->held = &m->session.held[i];
            return 0;
        }
    return ag_err_set(err, AG_ERR_NOT_FOUND,
                      "credential_id: the session has no such credential");
}

static void
on_session(void *arg, const struct ag_db_result *res, const struct ag_err *err)
{
    AG_AUTO(ag_buf_wipe) struct ag_buf rows = AG_BUF_INIT(2 << 20);
    struct vault_op *op = arg;
    struct minting *m = op->state;
    const Agent__Vault__V1__MintRequest *req = op->request;
    struct ag_err why = AG_ERR_INIT;

    if (res == NULL) {
        vault_op_fail(op, err);
        return;
    }
    int rc = vault_session_read(op->v, op->tenant, m->kind, res, op->arena,
                                &m->session, &why);
    if (rc == 0 && m->kind == 0)
        m->kind = (int)m->session.workload.kind;
    if (rc == 0)
        rc = find_parent(m, ag_str(req->values[0]->place->credential_id), &why);
    if (rc == 0)
        rc = make_all(op, &rows, &why);
    for (size_t i = 0; i < req->n_values; i++)
        ag_wipe(req->values[i]->value.data, req->values[i]->value.len);
    if (rc < 0)
        vault_op_fail(op, &why);
    else
        write_rows(op, ag_buf_str(&rows));
}

static void
on_caller(struct vault_op *op, const struct vault_caller *who)
{
    struct minting *m = op->state;

    if (who->session_id.n == 0) {
        vault_op_refuse(op, AG_ERR_NOT_FOUND,
                        "workload_address, session_id: nobody has it");
        return;
    }
    m->caller = who;
    m->kind = who->workload_id.n > 0 ? 0 : VAULT_KIND_BRAIN;
    const struct vault_session_ask ask = {.session_id = who->session_id,
                                          .kind = m->kind,
                                          .workload_id = who->workload_id};
    vault_session_query(op->v, op->tenant, &ask, on_session, op);
}

static bool
is_complete(const Agent__Vault__V1__MintRequest *req)
{
    if (req->n_values == 0 || req->n_values > VAULT_BINDING_MINTS_MAX
        || (*req->workload_address == '\0') == (*req->session_id == '\0')
        || (*req->audit_id != '\0' && !ag_id_is(ag_str(req->audit_id), "aud")))
        return false;
    for (size_t i = 0; i < req->n_values; i++)
        if (req->values[i]->place == NULL
            || strcmp(req->values[i]->place->credential_id,
                      req->values[0]->place->credential_id)
                   != 0)
            return false;
    return true;
}

static void
mint(struct ag_rpc_call *call, const ProtobufCMessage *request, void *arg)
{
    const Agent__Vault__V1__MintRequest *req = (const void *)request;
    struct vault_op *op = vault_op_plain(call, req, arg);

    if (!is_complete(req)) {
        vault_op_refuse(op, AG_ERR_INVALID,
                        "workload_address, session_id: exactly one; values: 1 "
                        "to %d, of places of one credential; audit_id: of a "
                        "decision",
                        VAULT_BINDING_MINTS_MAX);
        return;
    }
    op->state = ag_arena_alloc(op->arena, sizeof(struct minting));
    vault_caller_find(op, req->workload_address, req->session_id, on_caller);
}

void
vault_mint_serve(struct ag_rpc_server *srv, struct vault_face *face)
{
    ag_rpc_server_add(srv, &agent__vault__v1__egress_service__mint__rpc, mint,
                      face);
}
