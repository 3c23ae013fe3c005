/*
 * The order of checks: who asks, where to, in what way, then each stub. The
 * first that fails decides.
 */
#include "vault_svc/vault_authorize.h"

#include "lib/without.h"

#include <stdio.h>

#include "vault_svc/vault_deployment.h"

/* How far a rule got with a stub; the furthest names the reason. */
enum stage {
    STAGE_HOST,
    STAGE_CLEAR_TEXT,
    STAGE_SLOT,
    STAGE_METHOD,
    STAGE_PATH,
    STAGE_FITS,
};

static const struct {
    const char *reason, *message;
} stages[] = {
    [STAGE_HOST] = {"stub_wrong_host",
                    "the credential of this stub is not bound to this "
                    "destination"},
    [STAGE_CLEAR_TEXT] = {"clear_text_refused",
                          "a credential does not go over clear text: use "
                          "https"},
    [STAGE_SLOT] = {"stub_wrong_slot",
                    "the stub stands where its credential does not belong: "
                    "use a slot that its binding names"},
    [STAGE_METHOD] = {"method_not_allowed",
                      "the credential is not bound to this method"},
    [STAGE_PATH] = {"path_not_allowed",
                    "the credential is not bound to this path"},
    [STAGE_FITS] = {"allowed", ""},
};

bool
vault_held_is_for(const struct vault_held *held, enum vault_kind kind)
{
    return held->is_for_brain == (kind == VAULT_KIND_BRAIN);
}

void
vault_decision_deny(struct vault_decision *out, const char *reason,
                    const char *message)
{
    out->is_allowed = out->must_ask = false;
    out->reason = reason;
    out->http_status = 403;
    snprintf(out->message, sizeof(out->message), "%s", message);
}

/* Does a credential that the brain may use name the destination? */
static bool
brain_may_reach(const struct vault_ask *ask, const struct vault_state *state)
{
    for (size_t i = 0; i < state->n_held; i++) {
        const struct vault_held *h = &state->held[i];
        if (!vault_held_is_for(h, VAULT_KIND_BRAIN))
            continue;
        for (size_t k = 0; k < h->binding.n_rules; k++)
            if (vault_rule_fits(&h->binding.rules[k], ask->is_https, ask->host,
                                ask->port))
                return true;
    }
    return false;
}

static const struct {
    const char *reason, *message;
} policy_fits[] = {
    [VAULT_POLICY_NO_HOST] = {"host_not_allowed",
                              "the environment's network policy does not name "
                              "this host and port"},
    [VAULT_POLICY_NO_METHOD] = {"method_not_allowed",
                                "the environment's network policy does not "
                                "name this method for this host"},
    [VAULT_POLICY_NO_PATH] = {"path_not_allowed",
                              "the environment's network policy does not name "
                              "this path for this host"},
    [VAULT_POLICY_FITS] = {"allowed", ""},
};

/* No mode of a policy lets pass what is no name or has no policy at all. */
static bool
destination_is_possible(const struct vault_ask *ask,
                        const struct vault_state *state,
                        const struct vault_decision *out)
{
    if (out->destination == NULL && !vault_host_is_canonical(ask->host))
        return false;
    if (out->destination == NULL && vault_host_is_address(ask->host))
        return false;
    if (ask->kind == VAULT_KIND_BRAIN)
        return out->destination != NULL || brain_may_reach(ask, state);
    return state->policy != NULL;
}

/* What deployment.conf lists may be private: no mode lets it pass unnamed
 * unless a person says so. */
static bool
check_policy(const struct vault_ask *ask, const struct vault_state *state,
             struct vault_decision *out)
{
    enum vault_policy_fit fit = VAULT_POLICY_NO_HOST;
    enum vault_policy_mode mode = VAULT_MODE_ENFORCE;

    if (destination_is_possible(ask, state, out)) {
        if (ask->kind == VAULT_KIND_BRAIN)
            return true;
        const struct vault_policy_ask what = {
            ask->is_https, ask->host, ask->port, ask->method, ask->path};
        fit = vault_policy_fit(state->policy, &what);
        mode = state->policy->mode;
        if (out->destination != NULL && mode == VAULT_MODE_OBSERVE)
            mode = VAULT_MODE_ENFORCE;
    }
    if (fit == VAULT_POLICY_FITS || ag_without("network_policy"))
        return true;
    out->unnamed = policy_fits[fit].reason;
    if (mode == VAULT_MODE_ENFORCE) {
        vault_decision_deny(out, policy_fits[fit].reason,
                            policy_fits[fit].message);
        return false;
    }
    out->must_ask = mode == VAULT_MODE_ASK;
    return true;
}

static bool
slot_fits(const struct vault_rule *rule, const struct vault_found *f)
{
    char text[VAULT_SLOT_TEXT];
    return vault_slot_text(f->slot, f->name, text)
           && vault_rule_has_slot(rule, ag_str(text));
}

static enum stage
rule_stage(const struct vault_rule *rule, const struct vault_ask *ask,
           const struct vault_found *f, const struct vault_destination *dest)
{
    bool is_https = ask->is_https || ag_without("clear_text");

    if (!vault_rule_fits(rule, is_https, ask->host, ask->port)
        && !ag_without("bound_host")) {
        bool same_host = vault_host_pattern_fits(&rule->host, ask->host);
        return same_host && !ask->is_https ? STAGE_CLEAR_TEXT : STAGE_HOST;
    }
    if (!is_https
        && (ask->kind != VAULT_KIND_BRAIN || dest == NULL
            || !dest->is_clear_text))
        return STAGE_CLEAR_TEXT;
    if (!slot_fits(rule, f) && !ag_without("declared_slot"))
        return STAGE_SLOT;
    if (!vault_rule_allows_method(rule, ask->method))
        return STAGE_METHOD;
    if (!vault_rule_allows_path(rule, ask->path))
        return STAGE_PATH;
    return STAGE_FITS;
}

void
vault_found_unglue(struct vault_found *f, enum vault_kind kind,
                   const struct vault_held *held, size_t n)
{
    if (f->slot != VAULT_SLOT_PATH)
        return;
    for (size_t i = 0; i < n; i++) {
        const struct vault_held *h = &held[i];
        size_t keep = f->stub.n - h->stub.n;

        /* What stays must not be a stub itself, or part of one. */
        if (h->stub.n == 0 || f->stub.n <= h->stub.n
            || !vault_held_is_for(h, kind)
            || memmem(f->stub.p, keep, "bbxs", 4) != NULL
            || !ag_str_eq_ct(h->stub, ag_str_n(f->stub.p + keep, h->stub.n)))
            continue;
        f->stub = ag_str_n(f->stub.p + keep, h->stub.n);
        f->keep = keep;
        return;
    }
}

/* The credential behind a stub, or -1. */
static ptrdiff_t
held_of(const struct vault_found *f, const struct vault_ask *ask,
        const struct vault_state *state)
{
    ptrdiff_t found = -1;
    for (size_t i = 0; i < state->n_held; i++) {
        const struct vault_held *h = &state->held[i];
        if (h->stub.n > 0 && vault_held_is_for(h, ask->kind)
            && ag_str_eq_ct(h->stub, f->stub))
            found = (ptrdiff_t)i;
    }
    return found;
}

static const struct {
    const char *reason, *message;
} owners[] = {
    [VAULT_STUB_NOBODYS] = {"stub_unknown", "the stub is unknown"},
    [VAULT_STUB_FOREIGN] = {"stub_foreign",
                            "the stub belongs to another session or workload"},
    [VAULT_STUB_REVOKED] = {"stub_revoked",
                            "the credential of this stub was archived or "
                            "deleted; a new one gets a new stub"},
};

/* Would a stub of the session's own have its place here? A body may hold what
 * somebody planted in a page, so it says nothing of who acts. */
static bool
slot_is_declared(const struct vault_ask *ask, const struct vault_state *state,
                 const struct vault_found *f)
{
    for (size_t i = 0; f->slot != VAULT_SLOT_BODY && i < state->n_held; i++) {
        const struct vault_held *h = &state->held[i];
        if (!vault_held_is_for(h, ask->kind))
            continue;
        for (size_t k = 0; k < h->binding.n_rules; k++) {
            const struct vault_rule *r = &h->binding.rules[k];
            if (vault_rule_fits(r, ask->is_https, ask->host, ask->port)
                && slot_fits(r, f))
                return true;
        }
    }
    return false;
}

static bool
check_stub(const struct vault_ask *ask, const struct vault_state *state,
           size_t i, struct vault_decision *out)
{
    const struct vault_found *f = &ask->stubs[i];
    ptrdiff_t at = held_of(f, ask, state);
    enum stage best = STAGE_HOST;

    if (at < 0) {
        vault_decision_deny(out, owners[f->owner].reason,
                            owners[f->owner].message);
        out->is_declared = slot_is_declared(ask, state, f);
        return false;
    }
    const struct vault_binding *b = &state->held[at].binding;
    for (size_t k = 0; k < b->n_rules; k++) {
        enum stage s = rule_stage(&b->rules[k], ask, f, out->destination);
        best = s > best ? s : best;
        if (s == STAGE_FITS && b->rules[k].n_mints > 0
            && out->mint_rule == NULL) {
            out->mint_rule = &b->rules[k];
            out->mint_held = (size_t)at;
        }
    }
    if (best != STAGE_FITS) {
        vault_decision_deny(out, stages[best].reason, stages[best].message);
        return false;
    }
    out->swaps[i] = (size_t)at;
    return true;
}

/* A bound destination is never asked without a stub: nobody's own key goes to
 * it, and git begins without credentials and needs a challenge. */
static bool
check_credential_present(const struct vault_ask *ask,
                         const struct vault_state *state,
                         struct vault_decision *out)
{
    bool is_bound = false, has_basic = false;

    for (size_t i = 0; i < state->n_held && ask->n_stubs == 0; i++) {
        const struct vault_held *h = &state->held[i];
        if (!vault_held_is_for(h, ask->kind) || h->stub.n == 0)
            continue;
        for (size_t k = 0; k < h->binding.n_rules; k++) {
            const struct vault_rule *r = &h->binding.rules[k];
            if (!vault_rule_fits(r, ask->is_https, ask->host, ask->port))
                continue;
            is_bound = true;
            has_basic |= vault_rule_has_slot(r, AG_STR("basic"));
        }
    }
    if (!is_bound || ag_without("credential_required"))
        return true;
    vault_decision_deny(
        out, "credential_required",
        "a credential is bound to this destination: send its stub from the "
        "environment");
    out->challenge_basic = has_basic;
    out->http_status = has_basic ? 401 : 403;
    return false;
}

static bool
check_who(const struct vault_ask *ask, const struct vault_state *state,
          struct vault_decision *out)
{
    if (!state->is_workload_known || ask->kind == VAULT_KIND_NONE)
        vault_decision_deny(out, "workload_unknown",
                            "no open workload has this address");
    else if (state->has_ended)
        vault_decision_deny(out, "session_ended", "the session has ended");
    else if (state->is_frozen)
        vault_decision_deny(out, "session_frozen", "the session is frozen");
    else
        return true;
    return false;
}

void
vault_authorize(const struct vault_ask *ask, const struct vault_state *state,
                struct ag_arena *arena, struct vault_decision *out)
{
    *out = (struct vault_decision){0};
    out->swaps =
        ag_arena_alloc(arena, (ask->n_stubs + 1) * sizeof(*out->swaps));
    if (!check_who(ask, state, out))
        return;
    out->destination =
        vault_deployment_find(state->deployment, ask->host, ask->port);
    if (!check_policy(ask, state, out))
        return;
    if (!ask->is_https && ask->kind == VAULT_KIND_BRAIN
        && (out->destination == NULL || !out->destination->is_clear_text)) {
        vault_decision_deny(
            out, "clear_text_refused",
            "deployment.conf does not list this destination for clear text");
        return;
    }
    for (size_t i = 0; i < ask->n_stubs; i++)
        if (!check_stub(ask, state, i, out))
            return;
    if (!check_credential_present(ask, state, out))
        return;
    if (out->must_ask) {
        out->reason = "approval_required";
        return;
    }
    out->is_allowed = true;
    out->reason = "allowed";
}
