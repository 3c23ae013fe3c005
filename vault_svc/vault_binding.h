/*
 * Where a credential's value may go: rules of scheme, host, port, methods,
 * path prefixes and slots. Pure.
 */
#ifndef VAULT_BINDING_H
#define VAULT_BINDING_H

#include "lib/arena.h"
#include "vault_svc/vault_policy.h"

enum { VAULT_BINDING_MINTS_MAX = 8 }; /* of a rule */
enum { VAULT_BINDING_RULES_MAX = 32, VAULT_BINDING_TEXT_MAX = 64 * 1024 };

struct vault_binding {
    struct vault_rule *rules;
    size_t n_rules;
};

/* `injection_location` of the contract; 0: not given. Model endpoints take
 * their key in one of two headers. */
enum { VAULT_IN_HEADER = 1, VAULT_IN_BODY = 2, VAULT_IN_MODEL_HEADERS = 4 };

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

/*
 * The binding of what is minted at place `mint` of rule `rule` of the canonical
 * binding `text`. AG_ERR_NOT_FOUND when there is no such place.
 */
int vault_binding_of_minted(ag_str_t text, int rule, int mint,
                            struct ag_buf *out, struct ag_err *err);

/* Read the canonical form back; strings live in `arena`. */
int
vault_binding_parse(ag_str_t text, const struct vault_deployment *deployment,
                    struct ag_arena *arena, struct vault_binding *out,
                    struct ag_err *err);

/* Does any rule name the host, whatever scheme and port? */
bool vault_binding_names_host(const struct vault_binding *b, ag_str_t host);

#endif
