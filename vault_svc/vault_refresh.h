/*
 * Asks the database whether what is kept of sessions (vault_snapshot.h) is
 * still what its rows are. Loop's thread only.
 */
#ifndef VAULT_REFRESH_H
#define VAULT_REFRESH_H

#include "vault_svc/vault_snapshot.h"

struct vault_refresher;

/* Ask for what is in use, before it is `snapshot_ms` old. NULL when nothing is
 * kept so long. */
struct vault_refresher *vault_refresher_start(struct vault *v);
void vault_refresher_stop(struct vault_refresher *r);
/* Behind the database. */
void vault_refresher_free(struct vault_refresher *r);

/*
 * Ask for the one that is kept under `key`; behind it `done` is called, which
 * finds it good again or not at all. False when there is none, and `done` is
 * not called.
 */
bool vault_refresh_one(struct vault *v, ag_str_t key, void (*done)(void *arg),
                       void *arg);

#endif
