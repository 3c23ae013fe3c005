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
#include "vault_svc/vault_rule.h"

enum {
    VAULT_POLICY_HOSTS_MAX = 512,
    VAULT_POLICY_RULES_MAX = 512,
    VAULT_POLICY_TEXT_MAX = 256 * 1024,
};

/* What happens to a request that the policy does not name. */
enum vault_policy_mode {
    VAULT_MODE_ENFORCE, /* it is refused */
    VAULT_MODE_OBSERVE, /* it passes and is recorded */
    VAULT_MODE_ASK,     /* it waits for a person */
};

/* What happens to what looks like a credential in a request, but is none that
 * the vault knows. Numbers as in the contract. */
enum vault_outbound {
    VAULT_OUTBOUND_BLOCK = 1, /* the request is refused; the default */
    VAULT_OUTBOUND_MASK,      /* it is taken out */
    VAULT_OUTBOUND_LOG,       /* it passes and is recorded */
};

struct vault_policy {
    struct vault_host_pattern *hosts; /* in the arena */
    size_t n_hosts;
    struct vault_rule *rules; /* beside the hosts; without slots */
    size_t n_rules;
    enum vault_policy_mode mode;
    enum vault_outbound outbound;
};

/* How far the policy names a request; the furthest rule decides. */
enum vault_policy_fit {
    VAULT_POLICY_NO_HOST, /* or not with this scheme and port */
    VAULT_POLICY_NO_METHOD,
    VAULT_POLICY_NO_PATH,
    VAULT_POLICY_FITS,
};

struct vault_policy_ask {
    bool is_https;
    ag_str_t host;
    int port;
    ag_str_t method, path;
};

/*
 * Read `config.networking` of a Create- or UpdateEnvironmentRequest's
 * config_json (empty: no host), and `brainbox.network` of its metadata_json
 * (for typed clients: {"mode","rules","outbound"} as text), and append the
 * canonical policy to `out`. AG_ERR_INVALID names the field.
 */
int vault_policy_from_config(ag_str_t config_json, ag_str_t metadata_json,
                             const struct vault_deployment *deployment,
                             struct ag_buf *out, struct ag_err *err);

#define VAULT_POLICY_METADATA "brainbox.network"

/* Does the metadata hold, or fail to hold, a network policy? */
bool vault_policy_in_metadata(ag_str_t metadata_json);

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

/* "host", "host:port", "*.host", as written in the canonical form. */
char *vault_policy_host_text(const struct vault_host_pattern *p,
                             struct ag_arena *arena);

/* Every host that the policy names, each text once, in the arena. */
char **vault_policy_host_texts(const struct vault_policy *policy,
                               struct ag_arena *arena, size_t *n);

/* A pattern without a port means 443 and 80, whatever the scheme. */
enum vault_policy_fit vault_policy_fit(const struct vault_policy *policy,
                                       const struct vault_policy_ask *ask);

#endif
