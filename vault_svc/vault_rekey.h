/*
 * New data keys, and what older ones sealed sealed anew, while requests go on:
 * some rows at a time, each changed only if nobody else changed it meanwhile.
 */
#ifndef VAULT_REKEY_H
#define VAULT_REKEY_H

#include "vault_svc/vault.h"

/* DataKeyService. */
void vault_rekey_serve(struct ag_rpc_server *srv, struct vault_face *face);

/* Look after terms: a key older than `data_key_days` gets a successor, and
 * what was begun before a restart goes on. */
struct vault_rekeyer;
struct vault_rekeyer *vault_rekeyer_start(struct vault *v);
/* Begin nothing more; before keeper and database go. */
void vault_rekeyer_stop(struct vault_rekeyer *r);
void vault_rekeyer_free(struct vault_rekeyer *r);

#endif
