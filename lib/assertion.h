/*
 * Principal assertions: check of what vault_svc's keeper signed.
 * Format: proto/vault.proto, message Assertion.
 */
#ifndef LIB_ASSERTION_H
#define LIB_ASSERTION_H

#include "lib/arena.h"
#include "lib/err.h"

#define AG_ASSERTION_METADATA "x-brainbox-assertion"
#define AG_ASSERTION_CONTEXT "brainbox-assertion-v1"

struct ag_assertion_key; /* the public key, and a cache of checked texts */

struct ag_principal {
    ag_str_t tenant, subject;
    unsigned scopes; /* lib/scope.h */
    bool is_bound;   /* request_sha256 is meaningful */
    unsigned char request_sha256[32];
    int64_t expires_us;
};

/* Ed25519 public key, 32 bytes. */
struct ag_assertion_key *ag_assertion_key_new(const unsigned char pub[32]);
/* From a file that holds 64 hex digits. */
struct ag_assertion_key *
ag_assertion_key_load(const char *path, struct ag_err *err);
void ag_assertion_key_free(struct ag_assertion_key *key);

/*
 * Check `text` at the time of ag_now_us; the strings of `out` live in `arena`.
 * With `request`, an assertion that is bound must be bound to its SHA-256.
 * With `must_be_bound` one that is not bound is refused.
 * Returns 0, or -1 with AG_ERR_UNAUTHENTICATED (missing, malformed, bad
 * signature, expired) or AG_ERR_DENIED (bound to another request).
 */
int
ag_assertion_check(struct ag_assertion_key *key, ag_str_t text,
                   ag_str_t request, bool must_be_bound, struct ag_arena *arena,
                   struct ag_principal *out, struct ag_err *err);

#endif
