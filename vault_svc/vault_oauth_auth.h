/*
 * Credentials of the type `oauth2_refresh`: what their auth says, what is
 * sealed for them, and what is said to a token endpoint (RFC 6749, 6). Pure.
 *
 *   {"type":"oauth2_refresh","secret_name":"…","access_token":"…",
 *    "expires_at":"2027-01-31T12:00:00Z",
 *    "refresh":{"token_endpoint":"https://…","client_id":"…",
 *               "refresh_token":"…","scope":"…",
 *               "token_endpoint_auth":{"type":"none"} or
 *                 {"type":"client_secret_post","client_secret":"…"}},
 *    "networking":{…}}
 *
 * Sealed are access token, refresh token and client secret, a NUL between
 * them: none of them has a control character.
 */
#ifndef VAULT_OAUTH_AUTH_H
#define VAULT_OAUTH_AUTH_H

#include "lib/json.h"
#include "vault_svc/vault_deployment.h"

/* What is sealed; views. `client_secret` may be empty. */
struct vault_oauth_secrets {
    ag_str_t access_token, refresh_token, client_secret;
};

bool vault_auth_is_oauth(ag_str_t auth_json);
/* When its access token ends; 0 when the auth is of another type. */
int64_t vault_oauth_expires_us(ag_str_t auth_json);

/* Check a new credential's auth, but for name and reach. Views into `j`. */
int vault_oauth_read(const json_t *j, const struct vault_deployment *d,
                     struct vault_oauth_secrets *out, struct ag_err *err);
/* Take what is sealed out of what is stored and shown. */
void vault_oauth_strip(json_t *shown);

int vault_oauth_join(const struct vault_oauth_secrets *in, struct ag_buf *out,
                     struct ag_err *err);
int vault_oauth_split(ag_str_t all, struct vault_oauth_secrets *out,
                      struct ag_err *err);

/* The destination of `url`, which must be https and in deployment.conf. */
const struct vault_destination *
vault_oauth_destination(const struct vault_deployment *d, const char *url,
                        struct ag_err *err);

/* The body of the request that asks for a new access token. */
int vault_oauth_ask(const json_t *refresh,
                    const struct vault_oauth_secrets *secrets,
                    struct ag_buf *out, struct ag_err *err);
/*
 * Read an answer: views into `j`, the parsed answer. A token endpoint that
 * gives no new refresh token leaves out->refresh_token as it was; `seconds`
 * too, when it says none. Messages hold nothing of the answer.
 */
int vault_oauth_answer(const json_t *j, struct vault_oauth_secrets *out,
                       int64_t *seconds, struct ag_err *err);

#endif
