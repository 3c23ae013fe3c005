/*
 * The life of one Authorize, shared by three files: vault_egress.c reads who
 * asks and what the session may use, vault_verdict.c decides and does what the
 * decision needs, vault_answer.c writes the audit row and answers.
 */
#ifndef VAULT_VERDICT_H
#define VAULT_VERDICT_H

#include "vault_svc/vault_sign.h"
#include "vault_svc/vault_snapshot.h"

struct vault_batch;

struct vault_authorizing {
    struct vault_op *op;
    struct vault_batch *batch; /* NULL: the call is this request's own */
    size_t place;              /* in the batch */
    struct vault_ask ask;
    struct vault_session session;
    struct vault_decision decision;
    ag_str_t address;
    ag_str_t approval; /* waited for, or that let it pass */
    struct vault_signed signature;
    size_t checking;                 /* stub whose owner is looked up */
    ag_secret_t *values;             /* of held credentials that were opened */
    struct vault_snapshot *snapshot; /* that `session` lives in */
    ag_str_t key;                    /* of it; empty: not kept */
    bool leads;                      /* reads it for others, too */
    struct vault_snapshot_wait wait; /* while another does */
    size_t renewing;                 /* stub whose token is refreshed */
    bool is_renewed;                 /* tokens were, and it began anew */
};

/* ---- vault_verdict.c --------------------------------------------------- */

/* Everything is read: decide, and answer in the end. */
void vault_verdict_decide(struct vault_authorizing *a);

/* ---- vault_egress.c ---------------------------------------------------- */

/* Tokens were refreshed: read and decide from the beginning. */
void vault_authorize_anew(struct vault_authorizing *a);

/* Decide on the call's request, or on one of a batch. */
void vault_authorize_begin(struct vault_op *op, struct vault_batch *batch,
                           size_t place);

/* ---- vault_batch.c ----------------------------------------------------- */

/* The method AuthorizeBatch. */
void vault_batch_serve(struct ag_rpc_server *srv, struct vault_face *face);
/* The answer of the request at `place`, kept until all are there. */
void vault_batch_put(struct vault_batch *batch, size_t place,
                     const ProtobufCMessage *answer);

/* ---- vault_answer.c ---------------------------------------------------- */

/* Commit the audit row of the decision, then answer. */
void vault_answer_commit(struct vault_authorizing *a);
/* The stub of a key that signs, alone in a header: say what to sign. */
void vault_answer_sign(struct vault_authorizing *a);
/* Only in a batch: have it asked by itself. */
void vault_answer_alone(struct vault_authorizing *a);
/* Fail the request, and let go what its arena does not own. */
void vault_answer_fail(struct vault_authorizing *a, const struct ag_err *err);
void vault_answer_finish(struct vault_authorizing *a);

/* What is asked of the policy; its path without stubs. */
struct vault_policy_ask
vault_answer_policy_ask(const struct vault_authorizing *a);
/* The credentials behind the stubs, as a JSON array of ids. */
void vault_answer_add_credentials(const struct vault_authorizing *a,
                                  struct ag_buf *out);
#endif
