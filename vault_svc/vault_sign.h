/*
 * Signing requests with a key that never leaves the vault: AWS Signature
 * Version 4, HMAC-SHA256 over a template, and JWTs as bearer tokens. Pure but
 * for the time, which the caller gives.
 *
 * How a credential signs stands in its auth as `signing`:
 *   {"type":"aws_sigv4","access_key_id":"…","region":"…","service":"…"}
 *   {"type":"hmac_sha256","header":"X-Signature","encoding":"hex"|"base64",
 *    "template":"{timestamp}.{method}.{path}.{query}.{body_sha256}",
 *    "timestamp_header":"X-Timestamp"}
 *   {"type":"jwt_bearer","algorithm":"RS256"|"ES256","key_id":"…",
 *    "claims":{"iss":"…","aud":"…"},"lifetime_seconds":300}
 */
#ifndef VAULT_SIGN_H
#define VAULT_SIGN_H

#include "lib/arena.h"
#include "lib/json.h"

struct vault_header {
    ag_str_t name, value; /* name in lower case */
};

/* What is signed, as it will be forwarded. */
struct vault_signable {
    ag_str_t method, host, path, query; /* raw; query without "?" */
    const struct vault_header *headers; /* beside host */
    size_t n_headers;
    unsigned char body_sha256[32];
    int64_t now_us;
};

enum { VAULT_SIGN_HEADERS_MAX = 4 };

/* Headers to set in the request, in place of those of the same name. */
struct vault_signed {
    struct vault_header headers[VAULT_SIGN_HEADERS_MAX];
    size_t n;
    ag_str_t token; /* a bearer token that must not come back, or empty */
};

/*
 * Check `signing` of a new credential and its key. AG_ERR_INVALID names the
 * field; nothing of the key is in the message.
 */
int
vault_signing_check(const json_t *signing, ag_str_t key, struct ag_err *err);

/* Does the auth of a credential say that it signs? */
bool vault_auth_signs(ag_str_t auth_json);

/* Sign. Everything of `out` lives in `arena`. */
int vault_sign(ag_str_t auth_json, ag_str_t key,
               const struct vault_signable *what, struct ag_arena *arena,
               struct vault_signed *out, struct ag_err *err);

#endif
