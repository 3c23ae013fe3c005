/*
 * ExplainService. The same reading and the same decision as for a real request
 * (vault_authorize.c), with the session's own stub in the slot that is asked
 * about; nothing is opened, sent or counted, and no stub or value is answered.
 */
#include "vault_svc/vault_explain.h"

#include <stdio.h>

#include "agent_rpc.h"
#include "vault.pb-c.h"
#include "vault_svc/vault_rpc.h"
#include "vault_svc/vault_session.h"

struct explain {
    struct vault_op *op;
    struct vault_ask ask;
    struct vault_found found; /* of the credential that is asked about */
    struct vault_session session;
};

/* "https://host:port/path?query" taken apart; the query is left out. */
static int
read_url(struct explain *e, ag_str_t url, struct ag_err *err)
{
    struct vault_ask *a = &e->ask;
    char host[VAULT_HOST_TEXT];
    int64_t port;

    a->is_https = ag_str_starts(url, AG_STR("https://"));
    if (!a->is_https && !ag_str_starts(url, AG_STR("http://")))
        return ag_err_set(err, AG_ERR_INVALID, "url: not an http(s) URL");
    ag_str_t rest =
        ag_str_n(url.p + (a->is_https ? 8 : 7), url.n - (a->is_https ? 8 : 7));
    size_t n = 0;
    while (n < rest.n && memchr("/?#", rest.p[n], 3) == NULL)
        n++;
    ag_str_t digits = ag_str_n(rest.p, n), name;
    bool has_port = ag_str_chr(digits, ':') >= 0;
    ag_str_cut(&digits, ':', &name);
    port = a->is_https ? 443 : 80;
    if (has_port && (ag_str_i64(digits, &port) < 0 || port < 1 || port > 65535))
        return ag_err_set(err, AG_ERR_INVALID, "url: not a port");
    a->port = (int)port;
    a->host = name;
    if (!vault_host_is_address(name)) {
        if (vault_host_canonical(name, host, err) < 0)
            return ag_err_wrap(err, "url");
        a->host = ag_arena_copy(e->op->arena, ag_str(host));
    }
    rest = ag_str_n(rest.p + n, rest.n - n);
    for (n = 0; n < rest.n && memchr("?#", rest.p[n], 2) == NULL; n++)
        continue;
    a->path = n > 0 ? ag_str_n(rest.p, n) : AG_STR("/");
    return 0;
}

/* "header:Authorization", "basic", "query:x", "path", "body". */
static int
read_slot(struct explain *e, ag_str_t slot, struct ag_err *err)
{
    AG_AUTO(ag_buf_release) struct ag_buf text = AG_BUF_INIT(256);
    ag_str_t kind, name;

    if (slot.n == 0)
        slot = AG_STR("header:authorization");
    if (vault_slot_check(slot, &text, err) < 0)
        return ag_err_wrap(err, "slot");
    name = ag_arena_copy(e->op->arena, ag_buf_str(&text));
    ag_str_cut(&name, ':', &kind);
    e->found.name = name;
    if (ag_str_is(kind, "header"))
        e->found.slot = VAULT_SLOT_HEADER;
    else if (ag_str_is(kind, "query"))
        e->found.slot = VAULT_SLOT_QUERY;
    else if (ag_str_is(kind, "path"))
        e->found.slot = VAULT_SLOT_PATH;
    else if (ag_str_is(kind, "body"))
        e->found = (struct vault_found){.slot = VAULT_SLOT_BODY,
                                        .name = AG_STR("json")};
    else
        e->found = (struct vault_found){.slot = VAULT_SLOT_BASIC,
                                        .name = AG_STR("password")};
    return 0;
}

/* A sandbox gets a stub of each; where none was made yet the id stands for it.
 */
static void
stand_in(struct explain *e)
{
    for (size_t i = 0; i < e->session.n; i++)
        if (e->session.held[i].stub.n == 0)
            e->session.held[i].stub = e->session.held[i].id;
}

/* The session's credential of that id or variable: its stub is the one that is
 * asked about. */
static int
find_credential(struct explain *e, ag_str_t wanted, struct ag_err *err)
{
    struct vault_session *s = &e->session;

    for (size_t i = 0; i < s->n; i++) {
        const struct vault_credential_row *c = &s->credentials[i].row;
        if (!ag_str_eq(c->id, wanted) && !ag_str_eq(c->env_name, wanted))
            continue;
        e->found.stub = s->held[i].stub;
        e->ask.stubs = &e->found;
        e->ask.n_stubs = 1;
        return 0;
    }
    return ag_err_set(err, AG_ERR_NOT_FOUND,
                      "credential: the session's grant has none of this id or "
                      "variable");
}

/* Every credential that is bound to the host, and how far its rules name the
 * request. */
static void
add_candidates(struct explain *e, Agent__Vault__V1__ExplainResponse *out)
{
    struct ag_arena *arena = e->op->arena;
    const struct vault_session *s = &e->session;

    out->credentials =
        ag_arena_alloc(arena, (s->n + 1) * sizeof(*out->credentials));
    for (size_t i = 0; i < s->n; i++) {
        const struct vault_credential_row *c = &s->credentials[i].row;
        if (!vault_held_is_for(&s->held[i], e->ask.kind)
            || !vault_binding_names_host(&s->held[i].binding, e->ask.host))
            continue;
        Agent__Vault__V1__ExplainedCredential *m =
            ag_arena_alloc(arena, sizeof(*m));
        agent__vault__v1__explained_credential__init(m);
        m->credential_id = vault_op_text(e->op, c->id);
        m->variable = vault_op_text(e->op, c->env_name);
        m->binding_json = vault_op_data(e->op, c->binding);
        out->credentials[out->n_credentials++] = m;
    }
}

static void
explain(struct explain *e)
{
    struct vault_op *op = e->op;
    struct vault_session *s = &e->session;
    Agent__Vault__V1__ExplainResponse out =
        AGENT__VAULT__V1__EXPLAIN_RESPONSE__INIT;
    struct vault_decision d;
    const struct vault_state state = {
        .is_workload_known = true,
        .has_ended = s->grant.ended_us != 0,
        .is_frozen = s->grant.frozen_us != 0,
        .policy = s->has_policy ? &s->policy : NULL,
        .deployment = &op->v->deployment,
        .held = s->held,
        .n_held = s->n,
    };

    vault_authorize(&e->ask, &state, op->arena, &d);
    out.verdict = d.is_allowed ? "allow" : d.must_ask ? "ask" : "deny";
    out.reason = (char *)d.reason;
    out.message = d.message;
    out.policy_reason = (char *)(d.unnamed == NULL ? "" : d.unnamed);
    if ((d.is_allowed || d.must_ask) && e->ask.n_stubs == 1) {
        const struct vault_held *h = &s->held[d.swaps[0]];
        char slot[VAULT_SLOT_TEXT];
        out.swapped_credential_id = vault_op_text(op, h->id);
        if (vault_slot_text(e->found.slot, e->found.name, slot))
            out.swapped_slot = vault_op_text(op, ag_str(slot));
        out.is_signed = h->signs;
    }
    add_candidates(e, &out);
    out.environment_id = vault_op_text(op, s->policy_row.environment_id);
    out.policy_version = (int32_t)s->policy_row.version;
    ag_rpc_reply(op->call, &out.base);
}

static void
on_session(void *arg, const struct ag_db_result *res, const struct ag_err *err)
{
    struct explain *e = arg;
    const Agent__Vault__V1__ExplainRequest *req = e->op->request;
    struct ag_err why = AG_ERR_INIT;

    if (res == NULL) {
        vault_op_fail(e->op, err);
        return;
    }
    int rc = vault_session_read(e->op->v, e->op->tenant, (int)e->ask.kind, res,
                                e->op->arena, &e->session, &why);
    stand_in(e);
    if (rc < 0
        || (*req->credential != '\0'
            && find_credential(e, ag_str(req->credential), &why) < 0)) {
        vault_op_fail(e->op, &why);
        return;
    }
    explain(e);
}

static void
explain_request(struct ag_rpc_call *call, const ProtobufCMessage *request,
                void *arg)
{
    const Agent__Vault__V1__ExplainRequest *req = (const void *)request;
    struct vault_op *op = vault_op_begin(call, req, arg, NULL);
    struct ag_err err = AG_ERR_INIT;

    if (op == NULL)
        return;
    struct explain *e = ag_arena_alloc(op->arena, sizeof(*e));
    e->op = op;
    e->ask.kind = VAULT_KIND_SANDBOX;
    e->ask.method = *req->method != '\0' ? ag_str(req->method) : AG_STR("GET");
    if (read_url(e, ag_str(req->url), &err) < 0
        || read_slot(e, ag_str(req->slot), &err) < 0) {
        vault_op_fail(op, &err);
        return;
    }
    const struct vault_session_ask ask = {
        .session_id = ag_str(req->session_id),
        .environment_id = ag_str(req->environment_id),
        .kind = (int)e->ask.kind,
    };
    vault_session_query(op->v, op->tenant, &ask, on_session, e);
}

void
vault_explain_serve(struct ag_rpc_server *srv, struct vault_face *face)
{
    ag_rpc_server_add(srv, &agent__vault__v1__explain_service__explain__rpc,
                      explain_request, face);
}
