/* What the platform's environment gives the default tenant's sandboxes. */
#ifndef VAULT_IMPORT_H
#define VAULT_IMPORT_H

#include "vault_svc/vault.h"

/*
 * Make the tenant's platform vault what the environment says: CONTAINER_ENV_X
 * becomes a credential bound to the host its shape is known for, or a plain
 * value; MODEL_API_KEY becomes the model credential. What is gone is archived.
 * AG_ERR_INVALID names a variable that looks like a secret of unknown kind,
 * never its value. At start-up, before anything is served.
 */
int vault_import(struct vault *v, struct vault_tenant *tenant, char **environ_,
                 struct ag_err *err);

#endif
