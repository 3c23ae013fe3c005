/* Commands of root that go to the running vault: `vault_svc key create`. */
#ifndef VAULT_COMMAND_H
#define VAULT_COMMAND_H

#include "vault_svc/vault_conf.h"

/* Make a key over the admin socket and print it, alone, on stdout. */
int vault_command_key_create(const struct vault_conf *conf, struct ag_err *err);

#endif
