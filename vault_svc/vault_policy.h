/*
 * Network policies of environments: which hosts a sandbox may ask for.
 * Pure: text in, text out. The canonical form is
 * {"allowed_hosts":["host",…]} with the patterns in canonical form, sorted,
 * each once.
 */
#ifndef VAULT_POLICY_H
#define VAULT_POLICY_H

#include <jansson.h>

#include "lib/arena.h"
#include "lib/buf.h"
#include "vault_svc/vault_host.h"

enum { VAULT_POLICY_HOSTS_MAX = 512, VAULT_POLICY_TEXT_MAX = 256 * 1024 };

struct vault_policy {
    struct vault_host_pattern *hosts; /* in the arena */
    size_t n_hosts;
};

/*
 * Read `config.networking` of a Create- or UpdateEnvironmentRequest's
 * config_json (empty: no host) and append the canonical policy to `out`.
 * AG_ERR_INVALID names the field.
 */
int vault_policy_from_config(ag_str_t config_json,
                             const struct vault_deployment *deployment,
                             struct ag_buf *out, struct ag_err *err);

/*
 * Read a JSON array of host patterns; each must parse. `field` is for the
 * message. The result is in `arena`.
 */
int vault_policy_hosts_parse(const json_t *array, const char *field,
                             const struct vault_deployment *deployment,
                             struct ag_arena *arena, struct vault_policy *out,
                             struct ag_err *err);

/* Read the canonical form back. */
int vault_policy_parse(ag_str_t text, const struct vault_deployment *deployment,
                       struct ag_arena *arena, struct vault_policy *out,
                       struct ag_err *err);

/* Every member of the object must be one of `known` (NULL at its end). */
int vault_keys_check(const json_t *obj, const char *const *known,
                     struct ag_err *err);

/* "host", "host:port", "*.host", as written in the canonical form. */
char *vault_policy_host_text(const struct vault_host_pattern *p,
                             struct ag_arena *arena);

/* A pattern without a port means 443 and 80. */
bool
vault_policy_allows(const struct vault_policy *policy, ag_str_t host, int port);

#endif
