/*
 * What a session may use, as the vault stored it: grant, policy, workload,
 * credentials and their stubs, read in one query and every row checked.
 */
#ifndef VAULT_SESSION_H
#define VAULT_SESSION_H

#include "vault_svc/vault_authorize.h"
#include "vault_svc/vault_store.h"

struct vault_session_credential {
    struct vault_credential_row row;
    ag_str_t nonce; /* of the stub for the kind asked; empty: none yet */
    bool is_platform;
};

struct vault_session {
    struct vault_grant_row grant;
    bool has_policy, has_workload;
    struct vault_policy_row policy_row;
    struct vault_policy policy;
    struct vault_workload_row workload;
    struct vault_session_credential *credentials;
    struct vault_held *held; /* the same, for the decision */
    size_t n;
    ag_str_t plain_env;      /* JSON object, or empty */
    ag_str_t environment_id; /* whose policy it is */
    ag_str_t mark;           /* of every row; empty: not asked for */
};

struct vault_session_ask {
    ag_str_t session_id;     /* empty: that of the workload */
    ag_str_t environment_id; /* empty: the workload's, else the grant's first */
    int kind;                /* 0: the workload's */
    ag_str_t workload_id;    /* empty: none */
    bool wants_mark;
};

/* Runs the query; `done` gets its result for vault_session_read. */
void vault_session_query(struct vault *v, const struct vault_tenant *tenant,
                         const struct vault_session_ask *ask, ag_db_done *done,
                         void *arg);

/*
 * Read and check. NOT_FOUND when there is no grant; CORRUPT when a row does
 * not check. Everything lives in `arena`.
 */
int
vault_session_read(struct vault *v, const struct vault_tenant *tenant, int kind,
                   const struct ag_db_result *res, struct ag_arena *arena,
                   struct vault_session *out, struct ag_err *err);

/* Is `id` in the JSON array of strings `list`? */
bool vault_list_has(ag_str_t list, ag_str_t id);

/* Auth of credentials that come from the platform's environment. */
#define VAULT_PLATFORM_AUTH "{\"type\":\"platform\"}"

#endif
