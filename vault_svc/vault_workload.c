/*
 * WorkloadService. A service asks for a session; what comes back is what the
 * grant allows and nothing the service said. Stubs are made at the first
 * opening of a session and kind and are the same from then on.
 */
#include "vault_svc/vault_workload.h"

#include <arpa/inet.h>

#include "agent_rpc.h"
#include "lib/clock.h"
#include "lib/json.h"
#include "vault.pb-c.h"
#include "vault_svc/vault_audit.h"
#include "vault_svc/vault_egress.h"
#include "vault_svc/vault_owner.h"
#include "vault_svc/vault_snapshot.h"

enum { TRIES = 3 };

struct open {
    struct vault_op *op;
    enum vault_kind kind;
    char address[46];
    ag_str_t workload_id;
    struct vault_session session;
    struct vault_workload_row row;
    unsigned char mac[VAULT_MAC_BYTES];
    size_t n_new; /* stubs to make */
    int tries;
    /* The rows, and (once it is begun) the audit's: answered when both are
     * there. */
    int n_pending;
    bool is_noted;
    struct ag_err err; /* of the first that failed */
    const ProtobufCMessage *reply;
};

static void ask_session(struct open *o);

int
vault_address_canonical(ag_str_t in, char out[46], struct ag_err *err)
{
    char text[64];
    struct in6_addr a;

    if (in.n == 0 || in.n >= sizeof(text))
        return ag_err_set(err, AG_ERR_INVALID,
                          "address: not an fd00::/8 address");
    memcpy(text, in.p, in.n);
    text[in.n] = '\0';
    if (inet_pton(AF_INET6, text, &a) != 1 || a.s6_addr[0] != 0xfd)
        return ag_err_set(err, AG_ERR_INVALID,
                          "address: not an fd00::/8 address");
    inet_ntop(AF_INET6, &a, out, 46);
    return 0;
}

static void
part_done(struct open *o, const struct ag_err *err)
{
    if (err != NULL && o->err.kind == AG_ERR_NONE)
        o->err = *err;
    if (--o->n_pending > 0)
        return;
    if (o->err.kind != AG_ERR_NONE) {
        vault_op_fail(o->op, &o->err);
        return;
    }
    if (o->kind == VAULT_KIND_BRAIN)
        vault_egress_warm(o->op->v, o->op->tenant, o->row.session_id);
    ag_rpc_reply(o->op->call, o->reply);
}

static void
on_noted(void *arg, const char *audit_id, const struct ag_err *err)
{
    part_done(arg, audit_id == NULL ? err : NULL);
}

static void
note(struct open *o, const char *action, vault_audit_done *done, void *arg)
{
    struct vault_audit_entry e = {action, o->row.session_id, o->row.id,
                                  o->row.session_id, AG_STR("")};

    vault_audit_add(o->op->v, o->op->tenant, &e, done, arg);
}

static void
fail(struct open *o, const struct ag_err *err)
{
    /* The audit has it that it was opened. */
    if (o->is_noted)
        note(o, "workload.open_failed", NULL, NULL);
    part_done(o, err);
}

static void
refuse(struct open *o, enum ag_err_kind kind, const char *why)
{
    struct ag_err err;

    ag_err_set(&err, kind, "%s", why);
    fail(o, &err);
}

static bool
is_for_kind(const struct open *o, size_t i)
{
    const struct vault_session *s = &o->session;

    if (!vault_held_is_for(&s->held[i], o->kind))
        return false;
    /* A variable of the session's own vaults hides the platform's. */
    if (s->credentials[i].is_platform && s->credentials[i].row.env_name.n > 0)
        for (size_t k = 0; k < s->n; k++)
            if (!s->credentials[k].is_platform
                && ag_str_eq(s->credentials[k].row.env_name,
                             s->credentials[i].row.env_name))
                return false;
    return true;
}

static size_t
add_plain_env(const struct open *o, Agent__Vault__V1__EnvironmentVariable **env,
              size_t n)
{
    struct vault_op *op = o->op;
    struct ag_err ignored = AG_ERR_INIT;
    AG_AUTO(ag_json_decref)
    json_t *j = ag_json_parse(o->session.plain_env, &ignored);
    const char *name;
    json_t *value;

    json_object_foreach (j, name, value) {
        bool is_hidden = n >= o->session.n + json_object_size(j);
        for (size_t i = 0; i < n; i++)
            is_hidden |= strcmp(env[i]->name, name) == 0;
        if (is_hidden)
            continue;
        env[n] = ag_arena_alloc(op->arena, sizeof(**env));
        agent__vault__v1__environment_variable__init(env[n]);
        env[n]->name = vault_op_text(op, ag_str(name));
        env[n]->value = vault_op_text(op, ag_json_str(value));
        n++;
    }
    return n;
}

static size_t
plain_count(ag_str_t json)
{
    struct ag_err ignored = AG_ERR_INIT;
    AG_AUTO(ag_json_decref) json_t *j = ag_json_parse(json, &ignored);
    return json_object_size(j);
}

/* The URL of a static bearer's MCP server; empty for other credentials. */
static ag_str_t
mcp_url(const struct open *o, const struct vault_credential_row *c)
{
    struct ag_err ignored = AG_ERR_INIT;
    AG_AUTO(ag_json_decref) json_t *auth = ag_json_parse(c->auth, &ignored);
    return ag_arena_copy(o->op->arena,
                         ag_json_str(json_object_get(auth, "mcp_server_url")));
}

static void
fill_mcp(struct open *o, Agent__Vault__V1__OpenWorkloadResponse *out)
{
    const struct vault_session *s = &o->session;
    struct ag_arena *arena = o->op->arena;

    out->mcp_stubs =
        ag_arena_alloc(arena, (s->n + 1) * sizeof(*out->mcp_stubs));
    for (size_t i = 0; i < s->n; i++) {
        const struct vault_credential_row *c = &s->credentials[i].row;
        ag_str_t url = mcp_url(o, c);
        if (url.n == 0 || !is_for_kind(o, i) || s->held[i].stub.n == 0)
            continue;
        Agent__Vault__V1__McpStub *m = ag_arena_alloc(arena, sizeof(*m));
        agent__vault__v1__mcp_stub__init(m);
        m->credential_id = vault_op_text(o->op, c->id);
        m->url = vault_op_text(o->op, url);
        m->stub = vault_op_text(o->op, s->held[i].stub);
        out->mcp_stubs[out->n_mcp_stubs++] = m;
    }
}

static void
fill_env(struct open *o, Agent__Vault__V1__OpenWorkloadResponse *out)
{
    struct vault_op *op = o->op;
    const struct vault_session *s = &o->session;
    size_t n = 0;

    out->env = ag_arena_alloc(op->arena, (s->n + plain_count(s->plain_env) + 1)
                                             * sizeof(*out->env));
    for (size_t i = 0; i < s->n; i++) {
        const struct vault_credential_row *c = &s->credentials[i].row;
        if (!is_for_kind(o, i) || s->held[i].stub.n == 0)
            continue;
        if (c->is_model)
            out->model_stub = vault_op_text(op, s->held[i].stub);
        if (c->env_name.n == 0)
            continue;
        out->env[n] = ag_arena_alloc(op->arena, sizeof(**out->env));
        agent__vault__v1__environment_variable__init(out->env[n]);
        out->env[n]->name = vault_op_text(op, c->env_name);
        out->env[n]->value = vault_op_text(op, s->held[i].stub);
        out->env[n]->is_stub = true;
        n++;
    }
    out->n_env =
        o->kind == VAULT_KIND_BRAIN ? n : add_plain_env(o, out->env, n);
}

static void
reply(struct open *o)
{
    struct vault_op *op = o->op;
    Agent__Vault__V1__OpenWorkloadResponse *out =
        ag_arena_alloc(op->arena, sizeof(*out));
    const struct vault_policy *p = &o->session.policy;

    agent__vault__v1__open_workload_response__init(out);
    out->tenant = op->tenant->name;
    out->environment_id = vault_op_text(op, o->row.environment_id);
    out->ca_pem = (char *)ag_buf_cstr(&op->v->ca_pem);
    fill_env(o, out);
    if (o->kind == VAULT_KIND_BRAIN)
        fill_mcp(o, out);
    out->allowed_hosts =
        vault_policy_host_texts(p, op->arena, &out->n_allowed_hosts);
    vault_owner_note(op->v, o->row.session_id, op->tenant);
    vault_owner_note(op->v, o->row.id, op->tenant);
    o->reply = &out->base;
    part_done(o, NULL);
}

/* The stubs to make, as JSON rows for one INSERT; n_new counts them. */
static void
new_stubs(struct open *o, struct ag_buf *rows)
{
    struct vault_session *s = &o->session;

    o->n_new = 0;
    ag_buf_addc(rows, '[');
    for (size_t i = 0; i < s->n; i++) {
        AG_AUTO(ag_buf_wipe) struct ag_buf text = AG_BUF_INIT(256);
        unsigned char nonce[VAULT_NONCE_BYTES], hash[32];
        const struct vault_credential_row *c = &s->credentials[i].row;
        if (!is_for_kind(o, i) || s->held[i].stub.n > 0)
            continue;
        ag_random(nonce, sizeof(nonce));
        vault_stub_text(o->op->tenant, s->grant.session_id, c->id, (int)o->kind,
                        ag_str_n(nonce, sizeof(nonce)), c->stub_prefix, &text);
        ag_sha256(ag_buf_str(&text), hash);
        s->held[i].stub = ag_arena_copy(o->op->arena, ag_buf_str(&text));
        ag_buf_addf(rows, "%s{\"c\":\"%.*s\",\"n\":\"",
                    o->n_new++ > 0 ? "," : "", AG_FMT(c->id));
        ag_buf_add_hex(rows, ag_str_n(nonce, sizeof(nonce)));
        ag_buf_add(rows, AG_STR("\",\"h\":\""));
        ag_buf_add_hex(rows, ag_str_n(hash, sizeof(hash)));
        ag_buf_add(rows, AG_STR("\"}"));
    }
    ag_buf_addc(rows, ']');
}

static void
on_address_freed(void *arg, const struct ag_db_result *res,
                 const struct ag_err *err)
{
    struct open *o = arg;
    if (res == NULL)
        fail(o, err);
    else
        ask_session(o);
}

/* sandbox_svc gave the address to a new sandbox: the old one is gone. */
static void
free_address(struct open *o)
{
    static const char sql[] = "UPDATE vault.workload SET closed_us = $2"
                              " WHERE address = $1 AND closed_us IS NULL";
    struct ag_db_param params[] = {ag_db_str(o->row.address),
                                   ag_db_int(ag_now_us())};
    ag_db_query(o->op->v->db, ag_str(o->op->tenant->name), sql, params, 2,
                on_address_freed, o);
}

static void
on_opened(void *arg, const struct ag_db_result *res, const struct ag_err *err)
{
    struct open *o = arg;

    if (res == NULL && err->kind == AG_ERR_EXISTS && o->tries < TRIES) {
        free_address(o);
        return;
    }
    if (res == NULL) {
        fail(o, err);
        return;
    }
    vault_snapshot_forget(o->op->v, o->row.session_id);
    if (ag_db_get_int(res, 0, 1) != 1) {
        refuse(o, AG_ERR_EXISTS, "workload_id: belongs to another session");
        return;
    }
    if ((size_t)ag_db_get_int(res, 0, 0) == o->n_new)
        reply(o);
    else if (o->tries < TRIES)
        ask_session(o); /* another opening made the stubs meanwhile */
    else
        refuse(o, AG_ERR_UNAVAILABLE, "the stubs changed while they were made");
}

static void
write_workload(struct open *o)
{
    static const char sql[] =
        "WITH st AS (INSERT INTO vault.stub (tenant, session_id,"
        "  credential_id, kind, nonce, stub_hash, created_us)"
        "  SELECT $1, $2, r.c, $3::integer, decode(r.n, 'hex'),"
        "  decode(r.h, 'hex'), $4::bigint"
        "  FROM json_to_recordset($5::json) AS r(c text, n text, h text)"
        "  ON CONFLICT (session_id, credential_id, kind) DO NOTHING"
        "  RETURNING 1),"
        " wl AS (INSERT INTO vault.workload (id, tenant, session_id, kind,"
        "  environment_id, address, opened_us, mac)"
        "  VALUES ($6, $1, $2, $3::integer, $7, $8, $4::bigint, $9)"
        "  ON CONFLICT (id) DO UPDATE SET environment_id ="
        "  excluded.environment_id, address = excluded.address, opened_us ="
        "  excluded.opened_us, mac = excluded.mac, closed_us = NULL"
        "  WHERE workload.session_id = excluded.session_id"
        "  AND workload.kind = excluded.kind RETURNING 1)"
        " SELECT (SELECT count(*) FROM st), (SELECT count(*) FROM wl)";
    /* An id, a nonce and a hash each, in JSON. */
    AG_AUTO(ag_buf_wipe)
    struct ag_buf rows = AG_BUF_INIT(256 * (o->session.n + 1));
    ag_str_t tenant = ag_str(o->op->tenant->name);

    if (!o->is_noted) {
        o->is_noted = true;
        o->n_pending++;
        note(o, "workload.opened", on_noted, o);
    }
    new_stubs(o, &rows);
    vault_workload_mac(o->op->tenant, &o->row, o->mac);
    struct ag_db_param params[] = {
        ag_db_str(tenant),
        ag_db_str(o->row.session_id),
        ag_db_int(o->row.kind),
        ag_db_int(o->row.opened_us),
        ag_db_str(ag_buf_str(&rows)),
        ag_db_str(o->row.id),
        ag_db_str(o->row.environment_id),
        ag_db_str(o->row.address),
        ag_db_bytes(ag_str_n(o->mac, sizeof(o->mac)))};
    ag_db_query(o->op->v->db, tenant, sql, params, 9, on_opened, o);
}

/* What the grant says of this opening. */
static int
check_grant(struct open *o, struct ag_err *err)
{
    const Agent__Vault__V1__OpenWorkloadRequest *req = o->op->request;
    const struct vault_session *s = &o->session;
    ag_str_t env = ag_str(req->environment_id);

    if (s->grant.ended_us != 0)
        return ag_err_set(err, AG_ERR_DENIED, "the session has ended");
    if (s->grant.frozen_us != 0)
        return ag_err_set(err, AG_ERR_DENIED, "the session is frozen");
    if (env.n > 0 && !vault_list_has(s->grant.environment_ids, env))
        return ag_err_set(err, AG_ERR_DENIED,
                          "environment_id: the session's grant does not name "
                          "it");
    if (!s->has_policy)
        return ag_err_set(err, AG_ERR_CORRUPT,
                          "the environment of a grant has no policy");
    return 0;
}

static void
on_session(void *arg, const struct ag_db_result *res, const struct ag_err *err)
{
    struct open *o = arg;
    struct vault_op *op = o->op;
    struct ag_err why = AG_ERR_INIT;

    if (res == NULL) {
        fail(o, err);
        return;
    }
    if (vault_session_read(op->v, op->tenant, (int)o->kind, res, op->arena,
                           &o->session, &why)
            < 0
        || check_grant(o, &why) < 0) {
        fail(o, &why);
        return;
    }
    o->row = (struct vault_workload_row){
        .id = o->workload_id,
        .session_id = o->session.grant.session_id,
        .environment_id = o->session.policy_row.environment_id,
        .address = ag_str(o->address),
        .kind = o->kind,
        .opened_us = ag_now_us(),
    };
    write_workload(o);
}

static void
ask_session(struct open *o)
{
    const Agent__Vault__V1__OpenWorkloadRequest *req = o->op->request;
    struct vault_session_ask ask = {
        .session_id = ag_str(req->session_id),
        .environment_id = ag_str(req->environment_id),
        .kind = (int)o->kind,
    };
    o->tries++;
    vault_session_query(o->op->v, o->op->tenant, &ask, on_session, o);
}

static void
on_tenant(void *arg, const struct ag_db_result *res, const struct ag_err *err)
{
    struct open *o = arg;

    if (res == NULL) {
        fail(o, err);
        return;
    }
    o->op->tenant = vault_tenant_find(o->op->v, ag_db_get(res, 0, 0));
    if (o->op->tenant == NULL)
        refuse(o, AG_ERR_NOT_FOUND, "session_id: no grant for this session");
    else
        ask_session(o);
}

static int
check_request(struct open *o, const struct vault_face *face, struct ag_err *err)
{
    const Agent__Vault__V1__OpenWorkloadRequest *req = o->op->request;

    if (req->kind < AGENT__VAULT__V1__WORKLOAD_KIND__WORKLOAD_SANDBOX
        || req->kind > AGENT__VAULT__V1__WORKLOAD_KIND__WORKLOAD_BRAIN
        || (face->kinds & 1u << req->kind) == 0)
        return ag_err_set(err, AG_ERR_DENIED,
                          "kind: not possible on this socket");
    o->kind = (enum vault_kind)req->kind;
    if (o->kind == VAULT_KIND_BRAIN) {
        if (*req->workload_id != '\0' || *req->address != '\0')
            return ag_err_set(err, AG_ERR_INVALID,
                              "workload_id, address: empty for a brain");
        o->workload_id =
            ag_str(ag_arena_printf(o->op->arena, "brain:%s", req->session_id));
        return 0;
    }
    o->workload_id = ag_str(req->workload_id);
    if (o->workload_id.n == 0 || o->workload_id.n > 64
        || ag_str_chr(o->workload_id, ':') >= 0)
        return ag_err_set(err, AG_ERR_INVALID,
                          "workload_id: not 1 to 64 bytes without \":\"");
    return vault_address_canonical(ag_str(req->address), o->address, err);
}

static void
open_workload(struct ag_rpc_call *call, const ProtobufCMessage *request,
              void *arg)
{
    static const char sql[] = "SELECT vault.session_tenant($1)";
    const Agent__Vault__V1__OpenWorkloadRequest *req = (const void *)request;
    struct vault_op *op = vault_op_plain(call, req, arg);
    struct open *o = ag_arena_alloc(op->arena, sizeof(*o));
    struct ag_err err = AG_ERR_INIT;

    o->op = op;
    o->n_pending = 1;
    if (check_request(o, arg, &err) < 0) {
        fail(o, &err);
        return;
    }
    op->tenant = vault_owner_find(op->v, ag_str(req->session_id));
    if (op->tenant != NULL) {
        ask_session(o);
        return;
    }
    struct ag_db_param params[] = {ag_db_str(ag_str(req->session_id))};
    ag_db_query(op->v->db, AG_STR(""), sql, params, 1, on_tenant, o);
}

/* ---- warm -------------------------------------------------------------- */

static void
warm_workload(struct ag_rpc_call *call, const ProtobufCMessage *request,
              void *arg)
{
    static const Agent__Vault__V1__WarmWorkloadResponse warmed =
        AGENT__VAULT__V1__WARM_WORKLOAD_RESPONSE__INIT;
    const Agent__Vault__V1__WarmWorkloadRequest *req = (const void *)request;
    struct vault *v = ((const struct vault_face *)arg)->v;
    ag_str_t session_id = ag_str(req->session_id);
    struct vault_tenant *tenant = vault_owner_find(v, session_id);

    if (tenant != NULL)
        vault_egress_warm(v, tenant, session_id);
    ag_rpc_reply(call, &warmed.base);
}

/* ---- close ------------------------------------------------------------- */

static const Agent__Vault__V1__CloseWorkloadResponse closed =
    AGENT__VAULT__V1__CLOSE_WORKLOAD_RESPONSE__INIT;

static void
on_closed(void *arg, const struct ag_db_result *res, const struct ag_err *err)
{
    struct vault_op *op = arg;
    const Agent__Vault__V1__CloseWorkloadRequest *req = op->request;

    if (res == NULL) {
        vault_op_fail(op, err);
        return;
    }
    if (ag_db_rows(res) != 1) {
        ag_rpc_reply(op->call, &closed.base);
        return;
    }
    ag_str_t session = ag_arena_copy(op->arena, ag_db_get(res, 0, 0));
    op->who.subject = session;
    vault_generation_move(op->v);
    vault_audit_reply(op, "workload.closed", ag_str(req->workload_id), session,
                      AG_STR(""), &closed.base);
}

static void
close_rows(struct vault_op *op)
{
    static const char sql[] =
        "UPDATE vault.workload SET closed_us = $2"
        " WHERE id = $1 AND closed_us IS NULL RETURNING session_id";
    const Agent__Vault__V1__CloseWorkloadRequest *req = op->request;
    struct ag_db_param params[] = {ag_db_str(ag_str(req->workload_id)),
                                   ag_db_int(ag_now_us())};

    ag_db_query(op->v->db, ag_str(op->tenant->name), sql, params, 2, on_closed,
                op);
}

static void
on_closing_tenant(void *arg, const struct ag_db_result *res,
                  const struct ag_err *err)
{
    struct vault_op *op = arg;

    if (res == NULL) {
        vault_op_fail(op, err);
        return;
    }
    op->tenant = vault_tenant_find(op->v, ag_db_get(res, 0, 0));
    if (op->tenant == NULL) {
        ag_rpc_reply(op->call, &closed.base);
        return;
    }
    close_rows(op);
}

static void
close_workload(struct ag_rpc_call *call, const ProtobufCMessage *request,
               void *arg)
{
    static const char sql[] = "SELECT vault.workload_tenant($1)";
    const Agent__Vault__V1__CloseWorkloadRequest *req = (const void *)request;
    struct vault_op *op = vault_op_plain(call, req, arg);
    struct ag_db_param params[] = {ag_db_str(ag_str(req->workload_id))};

    op->tenant = vault_owner_find(op->v, ag_str(req->workload_id));
    if (op->tenant != NULL)
        close_rows(op);
    else
        ag_db_query(op->v->db, AG_STR(""), sql, params, 1, on_closing_tenant,
                    op);
}

void
vault_workload_serve(struct ag_rpc_server *srv, struct vault_face *face)
{
    ag_rpc_server_add(srv,
                      &agent__vault__v1__workload_service__open_workload__rpc,
                      open_workload, face);
    if ((face->kinds & 1u << VAULT_KIND_BRAIN) != 0)
        ag_rpc_server_add(
            srv, &agent__vault__v1__workload_service__warm_workload__rpc,
            warm_workload, face);
    ag_rpc_server_add(srv,
                      &agent__vault__v1__workload_service__close_workload__rpc,
                      close_workload, face);
}
