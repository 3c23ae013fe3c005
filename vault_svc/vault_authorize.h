/*
 * The decision about one request that leaves: pure, from what the caller read
 * before. Every refusal has a stable reason and a message that says what would
 * be right; neither holds a value.
 */
#ifndef VAULT_AUTHORIZE_H
#define VAULT_AUTHORIZE_H

#include "vault_svc/vault_binding.h"
#include "vault_svc/vault_slot.h"

struct vault_destination;

enum vault_kind {
    VAULT_KIND_NONE,
    VAULT_KIND_SANDBOX,
    VAULT_KIND_JAIL,
    VAULT_KIND_BRAIN,
};

/* Whose a stub is that stands for nothing the session may use. */
enum vault_stub_owner {
    VAULT_STUB_NOBODYS,
    VAULT_STUB_FOREIGN, /* of another session or kind of workload */
    VAULT_STUB_REVOKED, /* the session's own, its credential is gone */
};

struct vault_found {
    enum vault_slot slot;
    ag_str_t name;
    ag_str_t stub;               /* with its prefix */
    enum vault_stub_owner owner; /* when the session does not hold it */
    size_t keep;                 /* bytes that stood before it and stay */
};

struct vault_ask {
    enum vault_kind kind;
    bool is_https;
    ag_str_t host; /* canonical, or an address of deployment.conf */
    int port;
    ag_str_t method, path;
    struct vault_found *stubs;
    size_t n_stubs;
};

/* A credential that the session's grant covers. */
struct vault_held {
    ag_str_t id;
    bool is_for_brain; /* else for sandboxes and jails */
    bool signs;        /* its value signs requests and is put into none */
    struct vault_binding binding;
    ag_str_t stub; /* of this session and kind; empty: none was made */
};

struct vault_state {
    bool is_workload_known, has_ended, is_frozen;
    const struct vault_policy *policy; /* of a sandbox or jail */
    const struct vault_deployment *deployment;
    const struct vault_held *held;
    size_t n_held;
};

struct vault_decision {
    bool is_allowed;
    bool must_ask;       /* not allowed, but a person may allow it */
    const char *unnamed; /* why the policy does not name it, or NULL: then it
                            is refused, must be asked for, or was let pass */
    const char *reason;
    char message[200];
    int http_status; /* of a refusal */
    bool challenge_basic;
    size_t *swaps; /* for each stub the index into held; in the arena */
    const struct vault_destination *destination; /* or NULL */
    /* What the answer holds at places of this rule becomes stubs; or NULL. */
    const struct vault_rule *mint_rule;
    size_t mint_held; /* whose binding the rule is of */
    bool is_declared; /* a refused stub stood in a slot that a credential of
                         the session declares for this host, not in a body */
};

void
vault_authorize(const struct vault_ask *ask, const struct vault_state *state,
                struct ag_arena *arena, struct vault_decision *out);

/* Turn the decision into a refusal with 403. */
void vault_decision_deny(struct vault_decision *out, const char *reason,
                         const char *message);

/* Is the credential meant for workloads of this kind? */
bool vault_held_is_for(const struct vault_held *held, enum vault_kind kind);

/*
 * In a path a stub may be glued to what stands before it ("/bot<stub>/send"):
 * where the token ends with a stub that the workload holds, `f` becomes that
 * stub, and f->keep the bytes before it.
 */
void vault_found_unglue(struct vault_found *f, enum vault_kind kind,
                        const struct vault_held *held, size_t n);

#endif
