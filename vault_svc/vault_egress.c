/*
 * EgressService. Authorize reads what the session may use, decides
 * (vault_authorize.c), writes the audit row and answers once it is committed.
 * What cannot be read or does not check is an error, which egress turns into a
 * refusal: it fails closed.
 */
#include "vault_svc/vault_egress.h"

#include <stdio.h>
#include <strings.h>

#include "agent_rpc.h"
#include "lib/clock.h"
#include "vault.pb-c.h"
#include "vault_svc/vault_approval.h"
#include "vault_svc/vault_audit.h"
#include "vault_svc/vault_incident.h"
#include "vault_svc/vault_observe.h"
#include "vault_svc/vault_rpc.h"
#include "vault_svc/vault_sign.h"
#include "vault_svc/vault_snapshot.h"
#include "vault_svc/vault_workload.h"

enum { STUBS_MAX = 32 };

struct authorize {
    struct vault_op *op;
    struct vault_ask ask;
    struct vault_session session;
    struct vault_decision decision;
    ag_str_t address;
    ag_str_t approval; /* waited for, or that let it pass */
    struct vault_signed signature;
    size_t checking;                 /* stub whose owner is looked up */
    ag_secret_t *values;             /* of held credentials that were opened */
    struct vault_snapshot *snapshot; /* that `session` lives in */
    ag_str_t key;                    /* of it; empty: not kept */
};

/* What the call's arena does not own. */
static void
finish(struct authorize *a)
{
    for (size_t i = 0; a->values != NULL && i < a->session.n; i++)
        ag_secret_release(&a->values[i]);
    vault_snapshot_unref(a->snapshot);
    a->snapshot = NULL;
}

static void
fail(struct authorize *a, const struct ag_err *err)
{
    finish(a);
    vault_op_fail(a->op, err);
}

static ProtobufCBinaryData
value_of(const struct authorize *a, size_t i)
{
    return (ProtobufCBinaryData){a->values[i].n, a->values[i].p};
}

static void
fill_values(struct authorize *a, Agent__Vault__V1__AuthorizeResponse *out)
{
    struct ag_arena *arena = a->op->arena;

    out->swaps =
        ag_arena_alloc(arena, (a->ask.n_stubs + 1) * sizeof(*out->swaps));
    for (size_t i = 0; i < a->ask.n_stubs; i++) {
        Agent__Vault__V1__Swap *s = ag_arena_alloc(arena, sizeof(*s));
        agent__vault__v1__swap__init(s);
        s->index = (int32_t)i;
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
        out->scrub[out->n_scrub++] = p;
    }
}

/* The signatures, and a token among them that must not come back. */
static void
fill_signed(struct authorize *a, Agent__Vault__V1__AuthorizeResponse *out)
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

/* The stub of a key that signs, alone in a header: say what to sign. */
static void
answer_sign(struct authorize *a)
{
    Agent__Vault__V1__AuthorizeResponse out =
        AGENT__VAULT__V1__AUTHORIZE_RESPONSE__INIT;

    out.verdict = AGENT__VAULT__V1__AUTHORIZE_RESPONSE__VERDICT__SIGN;
    out.reason = "signature_required";
    out.session_id = vault_op_text(a->op, a->session.grant.session_id);
    ag_rpc_reply(a->op->call, &out.base);
    finish(a);
}

static void
answer(struct authorize *a, const char *audit_id)
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
        fill_values(a, &out);
        fill_signed(a, &out);
    }
    if (d->is_allowed && d->destination != NULL) {
        const struct vault_destination *dest = d->destination;
        out.dial_address = dest->address == NULL ? "" : dest->address;
        out.ca_file = dest->ca_file == NULL ? "" : dest->ca_file;
        out.clear_text = dest->is_clear_text;
        out.is_deployment_destination = true;
    }
    ag_rpc_reply(a->op->call, &out.base);
    finish(a);
}

static void
on_audited(void *arg, const char *audit_id, const struct ag_err *err)
{
    struct authorize *a = arg;

    if (audit_id != NULL) {
        answer(a, audit_id);
        return;
    }
    fail(a, err);
}

static void
add_text(struct ag_buf *b, const char *key, ag_str_t v)
{
    ag_buf_addf(b, ",\"%s\":", key);
    v.n = v.n > 160 ? 160 : v.n;
    ag_buf_add_json(b, v);
}

/* The path without its stubs: a slot "path" puts them there. */
static ag_str_t
path_without_stubs(const struct authorize *a)
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

static struct vault_policy_ask
policy_ask(const struct authorize *a)
{
    const struct vault_ask *ask = &a->ask;
    return (struct vault_policy_ask){ask->is_https, ask->host, ask->port,
                                     ask->method, path_without_stubs(a)};
}

/* The credentials behind the stubs, as a JSON array of ids. */
static void
add_credentials(const struct authorize *a, struct ag_buf *out)
{
    const struct vault_decision *d = &a->decision;
    size_t n = d->is_allowed || d->must_ask ? a->ask.n_stubs : 0;

    ag_buf_addc(out, '[');
    for (size_t i = 0; i < n; i++)
        ag_buf_addf(out, "%s\"%.*s\"", i > 0 ? "," : "",
                    AG_FMT(a->session.held[d->swaps[i]].id));
    ag_buf_addc(out, ']');
}

static void
audit(struct authorize *a)
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
        add_text(&detail, "approval", a->approval);
    else if (a->decision.is_allowed && a->decision.unnamed != NULL)
        ag_buf_addf(&detail, ",\"observed\":\"%s\"", a->decision.unnamed);
    add_text(&detail, "method", ask->method);
    add_text(&detail, "path", path_without_stubs(a));
    add_text(&detail, "request_id", ag_str(req->request_id));
    ag_buf_add(&detail, AG_STR(",\"credentials\":"));
    add_credentials(a, &detail);
    ag_buf_addc(&detail, '}');
    ag_str_t session = a->session.grant.session_id;
    const char *action = a->decision.is_allowed ? "egress.allowed"
                         : a->decision.must_ask ? "egress.asked"
                                                : "egress.denied";
    struct vault_audit_entry e = {action, session.n > 0 ? session : a->address,
                                  ag_str(object), session, ag_buf_str(&detail)};
    vault_audit_add(op->v, op->tenant, &e, on_audited, a);
}

/* Open every credential of the session that is bound to the host: those to
 * swap, and those that must not come back. */
static int
open_values(struct authorize *a, struct ag_err *err)
{
    struct vault_session *s = &a->session;

    a->values = ag_arena_alloc(a->op->arena, (s->n + 1) * sizeof(*a->values));
    for (size_t i = 0; i < s->n; i++)
        if (vault_binding_names_host(&s->held[i].binding, a->ask.host)
            && vault_credential_open(a->op->tenant, &s->credentials[i].row,
                                     &a->values[i], err)
                   < 0)
            return -1;
    return 0;
}

/* The policy would not have named it, and let it pass. */
static void
observe(struct authorize *a)
{
    const struct vault_policy_ask what = policy_ask(a);
    vault_observe(a->op->v, a->op->tenant, a->session.policy_row.environment_id,
                  &what);
}

static void
on_incident(void *arg, const struct ag_err *err)
{
    struct authorize *a = arg;
    if (err != NULL)
        fail(a, err);
    else
        audit(a);
}

/* The kind of incident that a refusal is, or NULL. */
static const char *
incident_of(struct authorize *a)
{
    const struct vault_decision *d = &a->decision;

    if (!d->is_declared)
        return NULL;
    if (strcmp(d->reason, "stub_foreign") == 0)
        return "stub_foreign";
    if (strcmp(d->reason, "stub_unknown") == 0
        && vault_incident_count_unknown(a->op->v, a->session.grant.session_id))
        return "stub_guessing";
    return NULL;
}

/* The session is frozen before the refusal is answered. */
static void
open_incident(struct authorize *a, const char *kind)
{
    AG_AUTO(ag_buf_release) struct ag_buf detail = AG_BUF_INIT(2048);
    const struct vault_ask *ask = &a->ask;

    ag_buf_addf(&detail, "{\"port\":%d", ask->port);
    add_text(&detail, "host", ask->host);
    add_text(&detail, "method", ask->method);
    add_text(&detail, "workload", a->session.workload.id);
    ag_buf_addc(&detail, '}');
    const struct vault_incident in = {kind, a->session.grant.session_id,
                                      ag_buf_str(&detail)};
    vault_incident_open(a->op->v, a->op->tenant, &in, on_incident, a);
}

/* Is the host of the signature the destination, and nothing else? */
static bool
is_destination(const struct vault_ask *ask, ag_str_t host)
{
    char full[VAULT_HOST_TEXT + 8];

    snprintf(full, sizeof(full), "%.*s:%d",
             (int)(ask->host.n > 253 ? 253 : ask->host.n), ask->host.p,
             ask->port);
    return (host.n == ask->host.n
            && strncasecmp(host.p, ask->host.p, host.n) == 0)
           || (host.n == strlen(full)
               && strncasecmp(host.p, full, host.n) == 0);
}

static bool
signs(const struct authorize *a)
{
    const struct vault_decision *d = &a->decision;

    for (size_t i = 0; i < a->ask.n_stubs; i++)
        if ((d->is_allowed || d->must_ask)
            && a->session.held[d->swaps[i]].signs)
            return true;
    return false;
}

/* Sign the request, whose one stub stands where the signature will. */
static int
sign(struct authorize *a, struct ag_err *err)
{
    const Agent__Vault__V1__AuthorizeRequest *req = a->op->request;
    const Agent__Vault__V1__ToSign *in = req->to_sign;
    struct ag_arena *arena = a->op->arena;

    if (!signs(a))
        return 0;
    struct vault_header *headers =
        ag_arena_alloc(arena, (in->n_headers + 1) * sizeof(*headers));
    for (size_t i = 0; i < in->n_headers; i++)
        headers[i] = (struct vault_header){ag_str(in->headers[i]->name),
                                           ag_str(in->headers[i]->value)};
    struct vault_signable what = {.method = a->ask.method,
                                  .host = ag_str(in->host),
                                  .path = a->ask.path,
                                  .query = ag_str(in->query),
                                  .headers = headers,
                                  .n_headers = in->n_headers,
                                  .now_us = ag_now_us()};
    memcpy(what.body_sha256, in->body_sha256.data, 32);
    size_t at = a->decision.swaps[0];
    if (vault_sign(a->session.credentials[at].row.auth,
                   ag_secret_view(&a->values[at]), &what, arena, &a->signature,
                   err)
        < 0)
        return -1;
    for (size_t i = 0; i < a->signature.n; i++)
        if (ag_str_eq(a->signature.headers[i].name, a->ask.stubs[0].name))
            return 0;
    vault_decision_deny(&a->decision, "stub_wrong_slot",
                        "the stub of a key that signs stands in the header "
                        "that the signature takes");
    return 0;
}

/* What can be signed is one stub in a header, with what it covers. False when
 * the decision is made already, or the caller is asked for more. */
static bool
can_sign(struct authorize *a)
{
    const Agent__Vault__V1__AuthorizeRequest *req = a->op->request;

    if (!signs(a))
        return true;
    if (a->ask.n_stubs != 1 || a->ask.stubs[0].slot != VAULT_SLOT_HEADER) {
        vault_decision_deny(&a->decision, "stub_wrong_slot",
                            "the stub of a key that signs stands alone, in "
                            "the header that the signature takes");
        return true;
    }
    if (req->to_sign == NULL) {
        answer_sign(a);
        return false;
    }
    if (req->to_sign->body_sha256.len != 32
        || !is_destination(&a->ask, ag_str(req->to_sign->host)))
        vault_decision_deny(&a->decision, "destination_mismatch",
                            "the host that would be signed is not the "
                            "destination");
    return true;
}

/* The decision stands. */
static void
carry_out(struct authorize *a)
{
    struct ag_err err = AG_ERR_INIT;

    if (a->decision.is_allowed
        && (open_values(a, &err) < 0 || sign(a, &err) < 0)) {
        fail(a, &err);
        return;
    }
    const char *kind = incident_of(a);
    if (kind != NULL)
        open_incident(a, kind);
    else
        audit(a);
}

static void
on_approval(void *arg, enum vault_approval state, ag_str_t id,
            const struct ag_err *err)
{
    struct authorize *a = arg;
    struct vault_decision *d = &a->decision;

    if (err != NULL) {
        fail(a, err);
        return;
    }
    a->approval = id;
    switch (state) {
    case VAULT_APPROVAL_GIVEN:
        d->must_ask = false;
        d->is_allowed = true;
        d->reason = "allowed";
        break;
    case VAULT_APPROVAL_DENIED:
        vault_decision_deny(d, "approval_denied",
                            "a person denied this request");
        break;
    case VAULT_APPROVAL_LIMIT:
        vault_decision_deny(d, "approval_limit",
                            "the network policy asks a person about this "
                            "request, but too many requests wait already, or "
                            "its path is too long to be shown");
        break;
    case VAULT_APPROVAL_PENDING:
        snprintf(d->message, sizeof(d->message),
                 "the network policy asks a person about this request (%.*s)",
                 AG_FMT(id));
        break;
    }
    carry_out(a);
}

static void
ask_person(struct authorize *a)
{
    AG_AUTO(ag_buf_release) struct ag_buf ids = AG_BUF_INIT(4096);
    struct vault *v = a->op->v;

    if (vault_approval_waiting(v, a->address) >= v->conf->approval_parked) {
        on_approval(a, VAULT_APPROVAL_LIMIT, AG_STR(""), NULL);
        return;
    }
    add_credentials(a, &ids);
    const struct vault_approval_ask ask = {
        a->session.grant.session_id, a->session.policy_row.environment_id,
        policy_ask(a), a->decision.unnamed,
        ag_arena_copy(a->op->arena, ag_buf_str(&ids))};
    vault_approval_find(a->op, &ask, on_approval, a);
}

static void
decide(struct authorize *a)
{
    struct vault_session *s = &a->session;
    const struct vault_state state = {
        .is_workload_known = s->grant.session_id.n > 0,
        .has_ended = s->grant.ended_us != 0,
        .is_frozen = s->grant.frozen_us != 0,
        .policy = s->has_policy ? &s->policy : NULL,
        .deployment = &a->op->v->deployment,
        .held = s->held,
        .n_held = s->n,
    };

    vault_authorize(&a->ask, &state, a->op->arena, &a->decision);
    if (!can_sign(a))
        return;
    if (a->decision.must_ask) {
        ask_person(a);
        return;
    }
    if (a->decision.is_allowed && a->decision.unnamed != NULL)
        observe(a);
    carry_out(a);
}

static bool
is_own_stub(const struct authorize *a, const struct vault_found *f)
{
    for (size_t i = 0; i < a->session.n; i++)
        if (vault_held_is_for(&a->session.held[i], a->ask.kind)
            && ag_str_eq_ct(a->session.held[i].stub, f->stub))
            return true;
    return false;
}

static void check_foreign(struct authorize *a);

static void
on_foreign(void *arg, const struct ag_db_result *res, const struct ag_err *err)
{
    struct authorize *a = arg;

    if (res == NULL) {
        fail(a, err);
        return;
    }
    enum vault_stub_owner owner = VAULT_STUB_NOBODYS;
    if (ag_db_rows(res) == 1)
        owner = ag_str_eq(ag_db_get(res, 0, 1), a->session.grant.session_id)
                        && ag_db_get_int(res, 0, 2) == (int64_t)a->ask.kind
                    ? VAULT_STUB_REVOKED
                    : VAULT_STUB_FOREIGN;
    a->ask.stubs[a->checking++].owner = owner;
    check_foreign(a);
}

/* Whose the stubs are that stand for nothing the session may use. */
static void
check_foreign(struct authorize *a)
{
    static const char sql[] =
        "SELECT tenant, session_id, kind FROM vault.stub_owner($1)";
    unsigned char hash[32];

    while (a->checking < a->ask.n_stubs
           && is_own_stub(a, &a->ask.stubs[a->checking]))
        a->checking++;
    if (a->checking == a->ask.n_stubs) {
        decide(a);
        return;
    }
    ag_sha256(a->ask.stubs[a->checking].stub, hash);
    struct ag_db_param params[] = {ag_db_bytes(ag_str_n(hash, sizeof(hash)))};
    ag_db_query(a->op->v->db, AG_STR(""), sql, params, 1, on_foreign, a);
}

static void
on_session(void *arg, const struct ag_db_result *res, const struct ag_err *err)
{
    struct authorize *a = arg;
    struct vault_op *op = a->op;
    struct ag_err why = AG_ERR_INIT;

    if (res == NULL) {
        fail(a, err);
        return;
    }
    struct vault_snapshot *s = a->snapshot;
    int rc = vault_session_read(op->v, op->tenant, (int)a->ask.kind, res,
                                s->arena, &s->session, &why);
    a->session = s->session;
    if (rc < 0 && why.kind != AG_ERR_NOT_FOUND) {
        fail(a, &why);
        return;
    }
    if (a->ask.kind == VAULT_KIND_NONE && a->session.has_workload)
        a->ask.kind = (enum vault_kind)a->session.workload.kind;
    /* The look-up by address is not authenticated, the row is. */
    if (a->address.n > 0
        && (!a->session.has_workload
            || !ag_str_eq(a->session.workload.address, a->address)))
        a->ask.kind = VAULT_KIND_NONE;
    if (rc == 0 && a->ask.kind != VAULT_KIND_NONE) {
        s->kind = a->ask.kind;
        s->tenant = op->tenant;
        vault_snapshot_keep(op->v, s, a->key);
    }
    check_foreign(a);
}

/* Is what the workload may use at hand? Else it is about to be read. */
static bool
take_snapshot(struct authorize *a, const char *kind, ag_str_t name)
{
    struct vault_op *op = a->op;

    a->key = ag_str(ag_arena_printf(op->arena, "%s %.*s", kind, AG_FMT(name)));
    a->snapshot = vault_snapshot_find(op->v, a->key);
    if (a->snapshot == NULL) {
        a->snapshot = vault_snapshot_begin(op->v);
        return false;
    }
    a->session = a->snapshot->session;
    a->ask.kind = a->snapshot->kind;
    op->tenant = a->snapshot->tenant;
    check_foreign(a);
    return true;
}

/* Nobody's address: decided and written down under the default tenant. */
static void
deny_unknown(struct authorize *a)
{
    struct vault *v = a->op->v;

    a->op->tenant = vault_tenant_find(v, AG_STR("default"));
    if (a->op->tenant == NULL && v->n_tenants > 0)
        a->op->tenant = v->tenants[0];
    if (a->op->tenant == NULL) {
        finish(a);
        vault_op_refuse(a->op, AG_ERR_UNAVAILABLE, "there is no tenant");
        return;
    }
    a->ask.kind = VAULT_KIND_NONE;
    decide(a);
}

static void
on_workload(void *arg, const struct ag_db_result *res, const struct ag_err *err)
{
    struct authorize *a = arg;
    struct vault_op *op = a->op;
    struct vault_session_ask ask = {0};

    if (res == NULL) {
        fail(a, err);
        return;
    }
    op->tenant = ag_db_rows(res) == 1
                     ? vault_tenant_find(op->v, ag_db_get(res, 0, 0))
                     : NULL;
    if (op->tenant == NULL) {
        deny_unknown(a);
        return;
    }
    ag_str_t id = ag_arena_copy(op->arena, ag_db_get(res, 0, 1));
    ask.workload_id = id;
    if (a->ask.kind == VAULT_KIND_BRAIN) {
        ask.session_id = id;
        ask.workload_id = (ag_str_t){NULL, 0};
        ask.kind = VAULT_KIND_BRAIN;
    }
    vault_session_query(op->v, op->tenant, &ask, on_session, a);
}

static int
read_ask(struct authorize *a, const Agent__Vault__V1__AuthorizeRequest *req,
         struct ag_err *err)
{
    struct vault_ask *ask = &a->ask;

    ask->is_https = strcmp(req->scheme, "https") == 0;
    if ((!ask->is_https && strcmp(req->scheme, "http") != 0) || req->port < 1
        || req->port > 65535 || *req->host == '\0' || req->n_stubs > STUBS_MAX)
        return ag_err_set(err, AG_ERR_INVALID,
                          "scheme, host, port, stubs: not a destination with "
                          "at most %d stubs",
                          STUBS_MAX);
    ask->host = ag_str(req->host);
    ask->port = req->port;
    ask->method = ag_str(req->method);
    ask->path = ag_str(req->path);
    ask->n_stubs = req->n_stubs;
    ask->stubs =
        ag_arena_alloc(a->op->arena, (req->n_stubs + 1) * sizeof(*ask->stubs));
    for (size_t i = 0; i < req->n_stubs; i++) {
        const Agent__Vault__V1__FoundStub *f = req->stubs[i];
        ask->stubs[i] =
            (struct vault_found){(enum vault_slot)f->kind, ag_str(f->name),
                                 ag_str(f->stub), VAULT_STUB_NOBODYS};
    }
    if ((*req->workload_address == '\0') == (*req->session_id == '\0'))
        return ag_err_set(err, AG_ERR_INVALID,
                          "workload_address, session_id: exactly one");
    return 0;
}

static void
authorize(struct ag_rpc_call *call, const ProtobufCMessage *request, void *arg)
{
    static const char by_address[] =
        "SELECT tenant, id FROM vault.workload_by_address($1)";
    static const char by_session[] = "SELECT vault.session_tenant($1), $1";
    const Agent__Vault__V1__AuthorizeRequest *req = (const void *)request;
    struct vault_op *op = vault_op_plain(call, req, arg);
    struct authorize *a = ag_arena_alloc(op->arena, sizeof(*a));
    struct ag_err err = AG_ERR_INIT;
    char address[46];

    a->op = op;
    if (read_ask(a, req, &err) < 0) {
        fail(a, &err);
        return;
    }
    if (*req->session_id != '\0') {
        a->ask.kind = VAULT_KIND_BRAIN;
        if (take_snapshot(a, "brain", ag_str(req->session_id)))
            return;
        struct ag_db_param params[] = {ag_db_str(ag_str(req->session_id))};
        ag_db_query(op->v->db, AG_STR(""), by_session, params, 1, on_workload,
                    a);
        return;
    }
    if (vault_address_canonical(ag_str(req->workload_address), address, &err)
        < 0) {
        a->address = ag_str(req->workload_address);
        deny_unknown(a);
        return;
    }
    a->address = ag_arena_copy(op->arena, ag_str(address));
    if (take_snapshot(a, "at", a->address))
        return;
    struct ag_db_param params[] = {ag_db_str(a->address)};
    ag_db_query(op->v->db, AG_STR(""), by_address, params, 1, on_workload, a);
}

void
vault_egress_serve(struct ag_rpc_server *srv, struct vault_face *face)
{
    ag_rpc_server_add(srv, &agent__vault__v1__egress_service__authorize__rpc,
                      authorize, face);
}
