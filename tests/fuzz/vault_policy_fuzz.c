/*
 * Fuzz target of what people write about networks: a configuration, and the
 * same text as a binding. What is accepted reads back, and to the same text.
 */
#include <stdint.h>

#include "vault_svc/vault_binding.h"
#include "vault_svc/vault_deployment.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void
try_policy(ag_str_t text, struct ag_arena *arena)
{
    struct vault_deployment d = {0};
    struct ag_buf out = AG_BUF_INIT(VAULT_POLICY_TEXT_MAX);
    struct ag_err err = AG_ERR_INIT;
    struct vault_policy p;

    if (vault_policy_from_config(text, text, &d, &out, &err) == 0) {
        ag_assert(vault_policy_parse(ag_buf_str(&out), &d, arena, &p, &err)
                  == 0);
        const struct vault_policy_ask ask = {true, AG_STR("a.example"), 443,
                                             AG_STR("GET"), text};
        vault_policy_fit(&p, &ask);
    }
    ag_buf_release(&out);
}

static void
try_binding(ag_str_t text, struct ag_arena *arena)
{
    struct vault_deployment d = {0};
    struct ag_buf out = AG_BUF_INIT(VAULT_BINDING_TEXT_MAX);
    struct ag_err err = AG_ERR_INIT;
    struct vault_policy hosts;
    struct vault_binding b;

    ag_assert(vault_policy_parse(
                  AG_STR("{\"allowed_hosts\":[\"*.a.example\",\"a.example\"]}"),
                  &d, arena, &hosts, &err)
              == 0);
    const struct vault_binding_in in = {text, &hosts, &d, 0};
    if (vault_binding_build(&in, &out, &err) == 0) {
        ag_assert(vault_binding_parse(ag_buf_str(&out), &d, arena, &b, &err)
                  == 0);
        ag_assert(b.n_rules > 0);
        /* No binding reaches beyond the credential's hosts. */
        ag_assert(!vault_binding_names_host(&b, AG_STR("evil.example")));
    }
    ag_buf_release(&out);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct ag_arena *arena = ag_arena_new();

    try_policy(ag_str_n(data, size), arena);
    try_binding(ag_str_n(data, size), arena);
    ag_arena_free(arena);
    return 0;
}
