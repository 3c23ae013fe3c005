/* Commands of root that go to the running vault, over the admin socket. */
#ifndef VAULT_COMMAND_H
#define VAULT_COMMAND_H

#include "vault_svc/vault_conf.h"

/* Make a key over the admin socket and print it, alone, on stdout. */
int vault_command_key_create(const struct vault_conf *conf, struct ag_err *err);

/* `rekey`: a new data key for the tenant. */
int vault_command_rekey(const struct vault_conf *conf, struct ag_err *err);

/* `explain SESSION URL [METHOD [CREDENTIAL [SLOT]]]`: prints a few lines. */
int vault_command_explain(const struct vault_conf *conf, char **words,
                          int n_words, struct ag_err *err);

#endif
