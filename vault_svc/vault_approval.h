/*
 * Approvals: rows about requests that a policy in mode "ask" does not name.
 * Whatever is asked again after a restart finds its row.
 */
#ifndef VAULT_APPROVAL_H
#define VAULT_APPROVAL_H

#include "vault_svc/vault.h"
#include "vault_svc/vault_policy.h"

enum { VAULT_APPROVAL_PATH_MAX = 2048 };

struct vault_approval_row {
    ag_str_t id, session_id, environment_id, scheme, host, method, path;
    ag_str_t reason, credentials, state, scope, decided_by, mac;
    int64_t port, created_us, expires_us, decided_us;
};

#define VAULT_APPROVAL_COLUMNS                                          \
    "a.id, a.session_id, a.environment_id, a.scheme, a.host, a.method," \
    " a.path, a.reason, a.credentials, a.state, a.scope, a.decided_by," \
    " a.mac, a.port, a.created_us, a.expires_us, a.decided_us"

void
vault_approval_read(const struct ag_db_result *res, int row,
                    struct ag_arena *arena, struct vault_approval_row *out);
void vault_approval_mac(const struct vault_tenant *tenant,
                        const struct vault_approval_row *row,
                        unsigned char out[VAULT_MAC_BYTES]);
int
vault_approval_check(const struct vault_tenant *tenant,
                     const struct vault_approval_row *row, struct ag_err *err);

/* A request that needs a person's word. */
struct vault_approval_ask {
    ag_str_t session_id, environment_id;
    struct vault_policy_ask what; /* its path without stubs */
    const char *reason;           /* why the policy does not name it */
    ag_str_t credentials;         /* JSON array of ids */
};

enum vault_approval {
    VAULT_APPROVAL_GIVEN,
    VAULT_APPROVAL_DENIED,
    VAULT_APPROVAL_PENDING,
    VAULT_APPROVAL_LIMIT, /* too many wait, or the path is too long to show */
};

typedef void vault_approval_done(void *arg, enum vault_approval state,
                                 ag_str_t id, const struct ag_err *err);

/*
 * What was said about the request; when nothing was, it becomes a pending row.
 * An approval for one request is used up. `err` is NULL or says what failed.
 */
void
vault_approval_find(struct vault_op *op, const struct vault_approval_ask *ask,
                    vault_approval_done *done, void *arg);

/* ApprovalService, for people; EgressService/AwaitApproval. */
void vault_approval_serve(struct ag_rpc_server *srv, struct vault_face *face);
void
vault_approval_serve_await(struct ag_rpc_server *srv, struct vault_face *face);

/* Requests of the workload that wait at this moment. */
int vault_approval_waiting(const struct vault *v, ag_str_t workload);
/* Whoever waits is answered; when the service stops. */
void vault_approval_stop(struct vault *v);

#endif
