/* The environment of commands: what every program of a sandbox needs to know,
 * and what the vault adds. */
#ifndef SANDBOX_SVC_SANDBOX_ENV_H
#define SANDBOX_SVC_SANDBOX_ENV_H

#include "lib/buf.h"

/* Bytes of an environment; a variable beyond is refused. */
#define SANDBOX_ENV_MAX (128 * 1024)
#define SANDBOX_ENV_COUNT_MAX 500
/* Where the root that signs egress's leaves is written, and appended. */
#define SANDBOX_CA_FILE "/etc/ssl/certs/brainbox.pem"
#define SANDBOX_CA_BUNDLE "/etc/ssl/certs/ca-certificates.crt"
/* Where Debian's Java looks; it reads no PEM. */
#define SANDBOX_CA_JAVA "/etc/ssl/certs/java/cacerts"

/* Append those that each sandbox has and that are not set already. Returns how
 * many. */
int sandbox_env_base(struct ag_buf *env);
/* Append one. AG_ERR_INVALID for a malformed name, or one of those that say
 * where the certificates are; AG_ERR_LIMIT. */
int sandbox_env_add(struct ag_buf *env, const char *name, const char *value,
                    struct ag_err *err);

#endif
