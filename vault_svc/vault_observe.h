/*
 * Mode "observe" of a network policy: what passed though no rule names it, and
 * the policy that would name it.
 */
#ifndef VAULT_OBSERVE_H
#define VAULT_OBSERVE_H

#include "vault_svc/vault.h"
#include "vault_svc/vault_policy.h"

/*
 * Count a request that was let pass. Does not wait; a failure is logged. At
 * most `observations_max` rows for an environment.
 */
void
vault_observe(struct vault *v, const struct vault_tenant *tenant,
              ag_str_t environment_id, const struct vault_policy_ask *what);

/* "/a/" of "/a/b", "/" of "/a": what a rule for the path would begin with. */
ag_str_t vault_observe_prefix(ag_str_t path);

struct vault_observation {
    ag_str_t scheme, host, method, path_prefix;
    int64_t port;
};

/*
 * `config.networking` that names what `policy` (canonical) names and what was
 * seen (sorted by scheme, host and port), in mode "enforce".
 */
int vault_observe_propose(ag_str_t policy, const struct vault_observation *seen,
                          size_t n, struct ag_buf *out, struct ag_err *err);

/* PolicyService. */
void vault_observe_serve(struct ag_rpc_server *srv, struct vault_face *face);

#endif
