/*
 * The end of an Authorize: the audit row is committed, then values, patterns
 * and signatures go out. Values leave memory with the answer.
 */
#include <stdio.h>

#include "agent_rpc.h"
#include "vault.pb-c.h"
#include "vault_svc/vault_audit.h"
#include "vault_svc/vault_rpc.h"
#include "vault_svc/vault_search.h"
#include "vault_svc/vault_use.h"
#include "vault_svc/vault_verdict.h"

void
vault_answer_finish(struct vault_authorizing *a)
{
    for (size_t i = 0; a->values != NULL && i < a->session.n; i++)
        ag_secret_release(&a->values[i]);
    vault_snapshot_unref(a->snapshot);
    a->snapshot = NULL;
}

static void
send(struct vault_authorizing *a, const ProtobufCMessage *answer)
{
    if (a->batch == NULL)
        ag_rpc_reply(a->op->call, answer);
    else
        vault_batch_put(a->batch, a->place, answer);
    vault_answer_finish(a);
}

void
vault_answer_fail(struct vault_authorizing *a, const struct ag_err *err)
{
    static const Agent__Vault__V1__AuthorizeResponse none =
        AGENT__VAULT__V1__AUTHORIZE_RESPONSE__INIT;

    if (a->batch != NULL) {
        vault_op_log(a->op, err);
        send(a, &none.base);
        return;
    }
    vault_answer_finish(a);
    vault_op_fail(a->op, err);
}

void
vault_answer_alone(struct vault_authorizing *a)
{
    Agent__Vault__V1__AuthorizeResponse out =
        AGENT__VAULT__V1__AUTHORIZE_RESPONSE__INIT;

    out.verdict = AGENT__VAULT__V1__AUTHORIZE_RESPONSE__VERDICT__ALONE;
    send(a, &out.base);
}

static ProtobufCBinaryData
value_of(const struct vault_authorizing *a, size_t i)
{
    return (ProtobufCBinaryData){a->values[i].n, a->values[i].p};
}

static void
fill_values(struct vault_authorizing *a,
            Agent__Vault__V1__AuthorizeResponse *out)
{
    struct ag_arena *arena = a->op->arena;

    out->swaps =
        ag_arena_alloc(arena, (a->ask.n_stubs + 1) * sizeof(*out->swaps));
    for (size_t i = 0; i < a->ask.n_stubs; i++) {
        Agent__Vault__V1__Swap *s = ag_arena_alloc(arena, sizeof(*s));
        agent__vault__v1__swap__init(s);
        s->index = (int32_t)i;
        s->keep = (int32_t)a->ask.stubs[i].keep;
        s->value = value_of(a, a->decision.swaps[i]);
        if (a->session.held[a->decision.swaps[i]].signs)
            s->value = vault_op_data(a->op, AG_STR("signed"));
        out->swaps[out->n_swaps++] = s;
    }
    out->scrub =
        ag_arena_alloc(arena, (a->session.n + 2) * sizeof(*out->scrub));
    for (size_t i = 0; i < a->session.n; i++) {
        if (a->values[i].p == NULL || a->session.held[i].signs)
            continue;
        Agent__Vault__V1__ScrubPattern *p = ag_arena_alloc(arena, sizeof(*p));
        agent__vault__v1__scrub_pattern__init(p);
        p->value = value_of(a, i);
        p->credential_id = vault_op_text(a->op, a->session.held[i].id);
        p->vault_id =
            vault_op_text(a->op, a->session.credentials[i].row.vault_id);
        out->scrub[out->n_scrub++] = p;
    }
}

/* The signatures, and a token among them that must not come back. */
static void
fill_signed(struct vault_authorizing *a,
            Agent__Vault__V1__AuthorizeResponse *out)
{
    struct ag_arena *arena = a->op->arena;

    out->set_headers =
        ag_arena_alloc(arena, (a->signature.n + 1) * sizeof(*out->set_headers));
    for (size_t i = 0; i < a->signature.n; i++) {
        Agent__Vault__V1__Header *h = ag_arena_alloc(arena, sizeof(*h));
        agent__vault__v1__header__init(h);
        h->name = vault_op_text(a->op, a->signature.headers[i].name);
        h->value = vault_op_text(a->op, a->signature.headers[i].value);
        out->set_headers[out->n_set_headers++] = h;
    }
    if (a->signature.token.n == 0)
        return;
    Agent__Vault__V1__ScrubPattern *p = ag_arena_alloc(arena, sizeof(*p));
    agent__vault__v1__scrub_pattern__init(p);
    p->value = vault_op_data(a->op, a->signature.token);
    p->credential_id =
        vault_op_text(a->op, a->session.held[a->decision.swaps[0]].id);
    out->scrub[out->n_scrub++] = p;
}

void
vault_answer_sign(struct vault_authorizing *a)
{
    Agent__Vault__V1__AuthorizeResponse out =
        AGENT__VAULT__V1__AUTHORIZE_RESPONSE__INIT;

    out.verdict = AGENT__VAULT__V1__AUTHORIZE_RESPONSE__VERDICT__SIGN;
    out.reason = "signature_required";
    out.session_id = vault_op_text(a->op, a->session.grant.session_id);
    send(a, &out.base);
}

static void
fill_mint(struct vault_authorizing *a, Agent__Vault__V1__AuthorizeResponse *out)
{
    const struct vault_decision *d = &a->decision;
    struct ag_arena *arena = a->op->arena;

    if (d->mint_rule == NULL)
        return;
    const struct vault_held *h = &a->session.held[d->mint_held];
    out->mint =
        ag_arena_alloc(arena, d->mint_rule->n_mints * sizeof(*out->mint));
    for (size_t i = 0; i < d->mint_rule->n_mints; i++) {
        Agent__Vault__V1__MintPlace *m = ag_arena_alloc(arena, sizeof(*m));
        agent__vault__v1__mint_place__init(m);
        m->credential_id = vault_op_text(a->op, h->id);
        m->rule = (int32_t)(d->mint_rule - h->binding.rules);
        m->index = (int32_t)i;
        m->pointer = vault_op_text(a->op, d->mint_rule->mints[i]);
        out->mint[out->n_mint++] = m;
    }
}

/* What egress looks for in the request itself. */
static void
fill_guard(struct vault_authorizing *a,
           Agent__Vault__V1__AuthorizeResponse *out)
{
    out->tenant = a->op->tenant->name;
    out->fingerprints = vault_search_number(a->op->tenant);
    out->outbound = AGENT__VAULT__V1__OUTBOUND__OUTBOUND_LOG;
    if (a->ask.kind != VAULT_KIND_BRAIN && a->session.has_policy)
        out->outbound = (Agent__Vault__V1__Outbound)a->session.policy.outbound;
}

static void
note_uses(const struct vault_authorizing *a)
{
    for (size_t i = 0; i < a->ask.n_stubs; i++)
        vault_use_note(a->op->v, a->op->tenant,
                       a->session.held[a->decision.swaps[i]].id);
}

static void
answer(struct vault_authorizing *a, const char *audit_id)
{
    Agent__Vault__V1__AuthorizeResponse out =
        AGENT__VAULT__V1__AUTHORIZE_RESPONSE__INIT;
    const struct vault_decision *d = &a->decision;

    out.verdict = AGENT__VAULT__V1__AUTHORIZE_RESPONSE__VERDICT__DENY;
    if (d->is_allowed)
        out.verdict = AGENT__VAULT__V1__AUTHORIZE_RESPONSE__VERDICT__ALLOW;
    else if (d->must_ask)
        out.verdict = AGENT__VAULT__V1__AUTHORIZE_RESPONSE__VERDICT__ASK;
    out.approval_id = vault_op_text(a->op, a->approval);
    out.reason = (char *)d->reason;
    out.message = (char *)d->message;
    out.http_status = d->http_status;
    out.challenge_basic = d->challenge_basic;
    out.session_id = vault_op_text(a->op, a->session.grant.session_id);
    out.audit_id = (char *)audit_id;
    if (d->is_allowed) {
        fill_guard(a, &out);
        fill_mint(a, &out);
        fill_values(a, &out);
        fill_signed(a, &out);
        note_uses(a);
    }
    if (d->is_allowed && d->destination != NULL) {
        const struct vault_destination *dest = d->destination;
        out.dial_address = dest->address == NULL ? "" : dest->address;
        out.ca_file = dest->ca_file == NULL ? "" : dest->ca_file;
        out.clear_text = dest->is_clear_text;
        out.is_deployment_destination = true;
    }
    send(a, &out.base);
}

static void
on_audited(void *arg, const char *audit_id, const struct ag_err *err)
{
    struct vault_authorizing *a = arg;

    if (audit_id != NULL) {
        answer(a, audit_id);
        return;
    }
    vault_answer_fail(a, err);
}

/* The path without its stubs: a slot "path" puts them there. */
static ag_str_t
path_without_stubs(const struct vault_authorizing *a)
{
    ag_str_t path = ag_arena_copy(a->op->arena, a->ask.path);

    for (size_t i = 0; i < a->ask.n_stubs; i++) {
        ag_str_t stub = a->ask.stubs[i].stub;
        char *at = stub.n > 0 ? memmem(path.p, path.n, stub.p, stub.n) : NULL;
        if (at != NULL)
            memset(at, '*', stub.n);
    }
    return path;
}

struct vault_policy_ask
vault_answer_policy_ask(const struct vault_authorizing *a)
{
    const struct vault_ask *ask = &a->ask;
    return (struct vault_policy_ask){ask->is_https, ask->host, ask->port,
                                     ask->method, path_without_stubs(a)};
}

void
vault_answer_add_credentials(const struct vault_authorizing *a,
                             struct ag_buf *out)
{
    const struct vault_decision *d = &a->decision;
    size_t n = d->is_allowed || d->must_ask ? a->ask.n_stubs : 0;

    ag_buf_addc(out, '[');
    for (size_t i = 0; i < n; i++)
        ag_buf_addf(out, "%s\"%.*s\"", i > 0 ? "," : "",
                    AG_FMT(a->session.held[d->swaps[i]].id));
    ag_buf_addc(out, ']');
}

void
vault_answer_commit(struct vault_authorizing *a)
{
    AG_AUTO(ag_buf_release) struct ag_buf detail = AG_BUF_INIT(8192);
    struct vault_op *op = a->op;
    const struct vault_ask *ask = &a->ask;
    char *object = ag_arena_printf(
        op->arena, "%s://%.*s:%d", ask->is_https ? "https" : "http",
        (int)(ask->host.n > 253 ? 253 : ask->host.n), ask->host.p, ask->port);
    const Agent__Vault__V1__AuthorizeRequest *req = op->request;

    ag_buf_addf(&detail, "{\"reason\":\"%s\"", a->decision.reason);
    if (a->approval.n > 0)
        vault_add_text(&detail, "approval", a->approval);
    else if (a->decision.is_allowed && a->decision.unnamed != NULL)
        ag_buf_addf(&detail, ",\"observed\":\"%s\"", a->decision.unnamed);
    vault_add_text(&detail, "method", ask->method);
    vault_add_text(&detail, "path", path_without_stubs(a));
    vault_add_text(&detail, "request_id", ag_str(req->request_id));
    ag_buf_add(&detail, AG_STR(",\"credentials\":"));
    vault_answer_add_credentials(a, &detail);
    ag_buf_addc(&detail, '}');
    ag_str_t session = a->session.grant.session_id;
    const char *action = a->decision.is_allowed ? "egress.allowed"
                         : a->decision.must_ask ? "egress.asked"
                                                : "egress.denied";
    struct vault_audit_entry e = {action, session.n > 0 ? session : a->address,
                                  ag_str(object), session, ag_buf_str(&detail)};
    vault_audit_add(op->v, op->tenant, &e, on_audited, a);
}
