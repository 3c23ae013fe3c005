/*
 * The state of vault_svc, shared by its files. Everything here belongs to the
 * loop.
 */
#ifndef VAULT_H
#define VAULT_H

#include "lib/generation.h"
#include "lib/assertion.h"
#include "lib/db.h"
#include "lib/rpc_server.h"
#include "vault_svc/vault_conf.h"
#include "vault_svc/vault_deployment.h"
#include "vault_svc/vault_keeper.h"
#include "vault_svc/vault_seal.h"
#include "vault_svc/vault_shape.h"

struct ag_metrics;  /* vault_metrics.h */
struct vault_chain; /* vault_audit.c */
struct vault_audit_writer;
struct vault_snapshots; /* vault_snapshot.c */
struct vault_owners;    /* vault_owner.h */
struct vault_waiters;   /* vault_approval_rpc.c */
struct vault_watchers;  /* vault_incident_rpc.c */
struct vault_guesses;   /* vault_incident.c */
struct vault_uses;      /* vault_use.c */
struct vault_search;    /* vault_search.c */
struct vault_oauth;     /* vault_oauth.c */
struct vault_term;      /* vault_term.h */
struct vault_rekey;     /* vault_rekey.c */

/* Does the audit chain lead to the head that was signed last? */
enum vault_head_state { VAULT_HEAD_UNKNOWN, VAULT_HEAD_GOOD, VAULT_HEAD_BAD };

struct vault_tenant {
    char name[64];
    enum vault_head_state head_state;
    struct vault_keyring ring; /* of its first data key */
    struct vault_term *terms;  /* later ones, by version */
    size_t n_terms;
    int64_t created_us;
    struct vault_rekey *rekey; /* goes on, or NULL */
    struct vault_chain *chain;
    struct vault_search *search; /* fingerprints; NULL: not asked for yet */
};

struct vault {
    struct ag_loop *loop;
    struct ag_db *db;
    struct vault_keeper *keeper;
    const struct vault_conf *conf;
    struct vault_deployment deployment;
    struct ag_shapes shapes;
    struct ag_assertion_key *assertion_key;
    unsigned char index_key[VAULT_KEY_BYTES]; /* hashes API keys */
    struct ag_buf ca_pem;                     /* the root's certificate */
    ag_str_t ca_der;
    struct vault_tenant **tenants;
    size_t n_tenants;
    struct ag_generation *generation; /* mapped; NULL: not configured */
    uint64_t changes;                 /* of what sessions may use */
    struct vault_audit_writer *audit_writer;
    struct vault_snapshots *snapshots;
    struct vault_owners *owners;
    struct vault_waiters *waiters;   /* requests that wait for a person */
    struct vault_watchers *watchers; /* of incidents */
    struct vault_guesses *guesses;
    struct ag_metrics *metrics;
    struct vault_uses *uses; /* of credentials, not written yet */
    struct vault_oauth *oauth;
    bool is_stopping;
};

/* Who a socket's calls come from. */
struct vault_face {
    struct vault *v;
    bool is_admin;  /* root: no assertion, tenant from the metadata */
    unsigned kinds; /* 1 << enum vault_kind that workloads may have */
};

/* One call, from the handler to the reply; lives in the call's arena. */
struct vault_op {
    struct vault *v;
    struct ag_rpc_call *call;
    struct ag_arena *arena;
    const void *request; /* the protobuf-c message */
    struct ag_principal who;
    struct vault_tenant *tenant;
    const ProtobufCMessage *reply; /* sent once the audit row is committed */
    void *state;                   /* of the method */
};

/*
 * Begin a call of a principal: checks the assertion, and that it has a scope of
 * the method. NULL when the call was failed already. With `bound_to` the
 * assertion must be made for those bytes.
 */
struct vault_op *
vault_op_begin(struct ag_rpc_call *call, const void *request,
               const struct vault_face *face, const ag_str_t *bound_to);
/* Begin a call of a service, without a principal. */
struct vault_op *vault_op_plain(struct ag_rpc_call *call, const void *request,
                                const struct vault_face *face);

/* Errors that are no fault of the caller are logged. */
void vault_op_log(struct vault_op *op, const struct ag_err *err);
/* Log it so, and fail the call. */
void vault_op_fail(struct vault_op *op, const struct ag_err *err);
__attribute__((format(printf, 3, 4))) void
vault_op_refuse(struct vault_op *op, enum ag_err_kind kind, const char *fmt,
                ...);

/* The tenant by name; NULL when there is none. */
struct vault_tenant *vault_tenant_find(struct vault *v, ag_str_t name);

/* NUL-terminated copy in the call's arena. */
char *vault_op_text(struct vault_op *op, ag_str_t s);
/* RFC 3339, in the call's arena. */
char *vault_op_time(struct vault_op *op, int64_t us);

/* Append `,"key":"v"`, v cut at 160 bytes. */
void vault_add_text(struct ag_buf *b, const char *key, ag_str_t v);

/* Something was revoked or changed, and is committed: nginx and this process
 * forget what they keep. */
void vault_generation_move(struct vault *v);
/* The same, and say what is gone: streams that use it are cut. `id` of a
 * session, credential or vault. */
void vault_generation_revoke(struct vault *v, ag_str_t id);

#endif
