/*
 * Rules of scheme, host, port, methods and path prefixes, as bindings and
 * network policies have them. Pure.
 */
#ifndef VAULT_RULE_H
#define VAULT_RULE_H

#include "lib/arena.h"
#include "lib/json.h"
#include "vault_svc/vault_host.h"

struct vault_rule {
    bool is_https;
    struct vault_host_pattern host; /* host.port is set */
    ag_str_t *methods;              /* none: every method */
    size_t n_methods;
    ag_str_t *path_prefixes; /* none: every path */
    size_t n_path_prefixes;
    ag_str_t *slots; /* of bindings: "header:authorization", "basic", … */
    size_t n_slots;
    ag_str_t *mints; /* of bindings: pointers into the answer's JSON */
    size_t n_mints;
};

/* Check a word as a person writes it and append its canonical form. */
typedef int
vault_word_check(ag_str_t in, struct ag_buf *out, struct ag_err *err);
int
vault_rule_check_method(ag_str_t in, struct ag_buf *out, struct ag_err *err);
int
vault_rule_check_prefix(ag_str_t in, struct ag_buf *out, struct ag_err *err);

/*
 * Copy `rule[key]`, an array of strings, into a new checked array. NULL with
 * AG_ERR_INVALID also when it is empty or a word stands there twice; absent
 * gives an empty array.
 */
json_t *vault_rule_words(const json_t *rule, const char *key,
                         vault_word_check *check, struct ag_err *err);
bool vault_rule_has_word(const json_t *array, ag_str_t word);

/* Every member of the object must be one of `known` (NULL at its end). */
int vault_keys_check(const json_t *obj, const char *const *known,
                     struct ag_err *err);

/* A new canonical rule with scheme, host and port. */
json_t *vault_rule_object(bool is_https, const struct vault_host_pattern *host,
                          struct ag_arena *arena);
/* Read a canonical rule; strings live in `arena`. */
int
vault_rule_parse(const json_t *in, const struct vault_deployment *deployment,
                 struct ag_arena *arena, struct vault_rule *r,
                 struct ag_err *err);

/* Does a rule name scheme, host and port? */
bool vault_rule_fits(const struct vault_rule *rule, bool is_https,
                     ag_str_t host, int port);
bool vault_rule_allows_method(const struct vault_rule *rule, ag_str_t method);
bool vault_rule_allows_path(const struct vault_rule *rule, ag_str_t path);
bool vault_rule_has_slot(const struct vault_rule *rule, ag_str_t slot);

/*
 * True for a path that two readers could understand differently: %2f, %5c,
 * %2e, %25, %00, "//", "\\", ";", "." and ".." segments, or not beginning with
 * '/'. Refused where a path rule applies.
 */
bool vault_path_is_ambiguous(ag_str_t path);

#endif
