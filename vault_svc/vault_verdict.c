/*
 * The decision (vault_authorize.c) and what follows from it before it is
 * answered: a signature, a person's word, an observation, an incident.
 */
#include "vault_svc/vault_verdict.h"

#include <stdio.h>
#include <strings.h>

#include "agent_rpc.h"
#include "lib/clock.h"
#include "vault.pb-c.h"
#include "vault_svc/vault_approval.h"
#include "vault_svc/vault_incident.h"
#include "vault_svc/vault_oauth.h"
#include "vault_svc/vault_oauth_auth.h"
#include "vault_svc/vault_observe.h"

/* Open every credential of the session that is bound to the host: those to
 * swap, and those that must not come back. */
static int
open_values(struct vault_authorizing *a, struct ag_err *err)
{
    struct vault_session *s = &a->session;

    a->values = ag_arena_alloc(a->op->arena, (s->n + 1) * sizeof(*a->values));
    for (size_t i = 0; i < s->n; i++)
        if (vault_binding_names_host(&s->held[i].binding, a->ask.host)
            && vault_credential_open_checked(
                   a->op->tenant, &s->credentials[i].row, &a->values[i], err)
                   < 0)
            return -1;
    return 0;
}

/* The policy would not have named it, and let it pass. */
static void
observe(struct vault_authorizing *a)
{
    const struct vault_policy_ask what = vault_answer_policy_ask(a);
    vault_observe(a->op->v, a->op->tenant, a->session.policy_row.environment_id,
                  &what);
}

static void
on_incident(void *arg, const struct ag_err *err)
{
    struct vault_authorizing *a = arg;
    if (err != NULL)
        vault_answer_fail(a, err);
    else
        vault_answer_commit(a);
}

/* The kind of incident that a refusal is, or NULL. */
static const char *
incident_of(struct vault_authorizing *a)
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
open_incident(struct vault_authorizing *a, const char *kind)
{
    AG_AUTO(ag_buf_release) struct ag_buf detail = AG_BUF_INIT(2048);
    const struct vault_ask *ask = &a->ask;

    ag_buf_addf(&detail, "{\"port\":%d", ask->port);
    vault_add_text(&detail, "host", ask->host);
    vault_add_text(&detail, "method", ask->method);
    vault_add_text(&detail, "workload", a->session.workload.id);
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
signs(const struct vault_authorizing *a)
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
sign(struct vault_authorizing *a, struct ag_err *err)
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
can_sign(struct vault_authorizing *a)
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
        vault_answer_sign(a);
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
carry_out(struct vault_authorizing *a)
{
    struct ag_err err = AG_ERR_INIT;

    if (a->decision.is_allowed
        && (open_values(a, &err) < 0 || sign(a, &err) < 0)) {
        vault_answer_fail(a, &err);
        return;
    }
    const char *kind = incident_of(a);
    if (kind != NULL)
        open_incident(a, kind);
    else
        vault_answer_commit(a);
}

static void
on_approval(void *arg, enum vault_approval state, ag_str_t id,
            const struct ag_err *err)
{
    struct vault_authorizing *a = arg;
    struct vault_decision *d = &a->decision;

    if (err != NULL) {
        vault_answer_fail(a, err);
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
ask_person(struct vault_authorizing *a)
{
    AG_AUTO(ag_buf_release) struct ag_buf ids = AG_BUF_INIT(4096);
    struct vault *v = a->op->v;

    if (vault_approval_waiting(v, a->address) >= v->conf->approval_parked) {
        on_approval(a, VAULT_APPROVAL_LIMIT, AG_STR(""), NULL);
        return;
    }
    vault_answer_add_credentials(a, &ids);
    const struct vault_approval_ask ask = {
        a->session.grant.session_id, a->session.policy_row.environment_id,
        vault_answer_policy_ask(a), a->decision.unnamed,
        ag_arena_copy(a->op->arena, ag_buf_str(&ids))};
    vault_approval_find(a->op, &ask, on_approval, a);
}

/* ---- tokens that end ---------------------------------------------------- */

static void decided(struct vault_authorizing *a);

/* Of the credential behind the stub; 0: it has no such end. */
static int64_t
token_end(const struct vault_authorizing *a, size_t stub)
{
    return vault_oauth_expires_us(
        a->session.credentials[a->decision.swaps[stub]].row.auth);
}

static void renew(struct vault_authorizing *a);

static void
on_renewed(void *arg, const struct ag_err *err)
{
    struct vault_authorizing *a = arg;

    if (err == NULL) {
        vault_authorize_anew(a);
        return;
    }
    if (token_end(a, a->renewing) > ag_now_us()) {
        a->renewing++; /* it is good still */
        renew(a);
        return;
    }
    vault_decision_deny(&a->decision, "token_refresh_failed",
                        "the access token has ended, and its token endpoint "
                        "gave no new one; the vault's log says why");
    a->decision.http_status = 503;
    decided(a);
}

/* Refresh what ends soon among what would be sent, one after the other: the
 * request is read anew behind each, until nothing is left to refresh. */
static void
renew(struct vault_authorizing *a)
{
    const struct vault_conf *conf = a->op->v->conf;
    const struct vault_decision *d = &a->decision;
    /* An endpoint may give tokens that do not last so long. */
    int64_t ahead_us = a->is_renewed ? 0 : conf->oauth_ahead_seconds * 1000000;

    for (; (d->is_allowed || d->must_ask) && a->renewing < a->ask.n_stubs;
         a->renewing++) {
        int64_t end = token_end(a, a->renewing);
        if (end == 0 || end > ag_now_us() + ahead_us)
            continue;
        if (a->batch != NULL) { /* a token endpoint takes its time */
            vault_answer_alone(a);
            return;
        }
        vault_oauth_refresh(a->op->v->oauth, a->op->tenant,
                            a->session.held[d->swaps[a->renewing]].id,
                            on_renewed, a);
        return;
    }
    decided(a);
}

void
vault_verdict_decide(struct vault_authorizing *a)
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
    a->renewing = 0;
    renew(a);
}

static void
decided(struct vault_authorizing *a)
{
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
