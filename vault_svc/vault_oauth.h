/*
 * Refreshing OAuth access tokens: one at a time for a credential, whoever
 * waits. What the endpoint gave is sealed and committed before anybody goes
 * on. Loop's thread only.
 */
#ifndef VAULT_OAUTH_H
#define VAULT_OAUTH_H

#include "vault_svc/vault.h"

struct vault_oauth;

struct vault_oauth *vault_oauth_new(struct vault *v, struct ag_err *err);
/* Whoever waits for an endpoint is failed, and nobody is asked any more. */
void vault_oauth_stop(struct vault_oauth *o);
/* Behind the database, whose callbacks end what was being written. */
void vault_oauth_free(struct vault_oauth *o);

/* `err` is NULL when the credential may be read anew. */
typedef void vault_oauth_done(void *arg, const struct ag_err *err);

/*
 * See to it that the credential's access token lasts for oauth_ahead_seconds:
 * its row is read, and nothing done when it does. An
 * endpoint that failed a moment ago (oauth_retry_ms) is not asked again: `done`
 * is called from inside then.
 */
void
vault_oauth_refresh(struct vault_oauth *o, struct vault_tenant *tenant,
                    ag_str_t credential_id, vault_oauth_done *done, void *arg);

#endif
