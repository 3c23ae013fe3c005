/*
 * Where a credential's value may go: rules of scheme, host, port, methods,
 * path prefixes and slots. Pure.
 */
#ifndef VAULT_BINDING_H
#define VAULT_BINDING_H

#include "lib/arena.h"
#include "vault_svc/vault_policy.h"

enum { VAULT_BINDING_RULES_MAX = 32, VAULT_BINDING_TEXT_MAX = 64 * 1024 };

struct vault_rule {
    bool is_https;
    struct vault_host_pattern host; /* host.port is set */
    ag_str_t *methods;              /* none: every method */
    size_t n_methods;
    ag_str_t *path_prefixes; /* none: every path */
    size_t n_path_prefixes;
    ag_str_t *slots; /* "header:authorization", "basic", … */
    size_t n_slots;
};

struct vault_binding {
    struct vault_rule *rules;
    size_t n_rules;
};

/* `injection_location` of the contract; 0: not given. */
enum { VAULT_IN_HEADER = 1, VAULT_IN_BODY = 2 };

struct vault_binding_in {
    ag_str_t json;                    /* array of rules; may be empty */
    const struct vault_policy *hosts; /* of the credential */
    const struct vault_deployment *deployment;
    unsigned location;
};

/*
 * Build the canonical binding of a new credential: from `json` narrowed to
 * `hosts`, or, without it, https, the hosts, port 443 or the one written, the
 * slots of `location` (none: header:authorization and basic). Clear text
 * ("http") needs a clear-text destination of `deployment`. What is empty,
 * unknown or contradicts itself is AG_ERR_INVALID.
 */
int vault_binding_build(const struct vault_binding_in *from, struct ag_buf *out,
                        struct ag_err *err);

/* Read the canonical form back; strings live in `arena`. */
int
vault_binding_parse(ag_str_t text, const struct vault_deployment *deployment,
                    struct ag_arena *arena, struct vault_binding *out,
                    struct ag_err *err);

/* Does a rule name scheme, host and port? */
bool vault_rule_fits(const struct vault_rule *rule, bool is_https,
                     ag_str_t host, int port);
bool vault_rule_allows_method(const struct vault_rule *rule, ag_str_t method);
bool vault_rule_allows_path(const struct vault_rule *rule, ag_str_t path);
bool vault_rule_has_slot(const struct vault_rule *rule, ag_str_t slot);

/* Does any rule name the host, whatever scheme and port? */
bool vault_binding_names_host(const struct vault_binding *b, ag_str_t host);

/*
 * True for a path that two readers could understand differently: %2f, %5c,
 * %2e, %25, %00, "//", "\\", ";", "." and ".." segments, or not beginning with
 * '/'. Refused where a path rule applies.
 */
bool vault_path_is_ambiguous(ag_str_t path);

#endif
