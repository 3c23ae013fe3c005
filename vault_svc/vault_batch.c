/*
 * EgressService/AuthorizeBatch: each request is decided as if it came alone,
 * and the call is answered when the last one is. Rows that are read or written
 * for several of them go together by themselves.
 */
#include <stdlib.h>

#include "agent_rpc.h"
#include "lib/secret.h"
#include "vault.pb-c.h"
#include "vault_svc/vault.h"
#include "vault_svc/vault_verdict.h"

enum { REQUESTS_MAX = 64, ANSWER_MAX = 256 * 1024 };

/* The answers hold values, and are wiped. */
struct vault_batch {
    struct ag_rpc_call *call;
    ProtobufCBinaryData answers[REQUESTS_MAX];
    size_t n, left, n_bytes;
};

static void
finish(struct vault_batch *b)
{
    Agent__Vault__V1__AuthorizeBatchResponse out =
        AGENT__VAULT__V1__AUTHORIZE_BATCH_RESPONSE__INIT;

    out.responses = b->answers;
    out.n_responses = b->n;
    ag_rpc_reply(b->call, &out.base);
    for (size_t i = 0; i < b->n; i++) {
        ag_wipe(b->answers[i].data, b->answers[i].len);
        free(b->answers[i].data);
    }
    free(b);
}

static void
keep(struct vault_batch *b, size_t place, const ProtobufCMessage *answer)
{
    ProtobufCBinaryData *to = &b->answers[place];

    to->len = protobuf_c_message_get_packed_size(answer);
    to->data = ag_xmalloc(to->len + 1);
    (void)protobuf_c_message_pack(answer, to->data);
    b->n_bytes += to->len;
}

void
vault_batch_put(struct vault_batch *b, size_t place,
                const ProtobufCMessage *answer)
{
    Agent__Vault__V1__AuthorizeResponse alone =
        AGENT__VAULT__V1__AUTHORIZE_RESPONSE__INIT;
    size_t n = protobuf_c_message_get_packed_size(answer);

    alone.verdict = AGENT__VAULT__V1__AUTHORIZE_RESPONSE__VERDICT__ALONE;
    /* Egress takes no longer answer; that one is written down twice. */
    keep(b, place, b->n_bytes + n > ANSWER_MAX ? &alone.base : answer);
    if (--b->left == 0)
        finish(b);
}

static void
authorize_batch(struct ag_rpc_call *call, const ProtobufCMessage *request,
                void *arg)
{
    const Agent__Vault__V1__AuthorizeBatchRequest *req = (const void *)request;
    struct vault_op *op = vault_op_plain(call, request, arg);
    struct vault_batch *b;
    size_t n = req->n_requests;

    if (n == 0 || n > REQUESTS_MAX) {
        vault_op_refuse(op, AG_ERR_INVALID, "requests: %zu, must be 1 to %d", n,
                        REQUESTS_MAX);
        return;
    }
    b = ag_xcalloc(1, sizeof(*b));
    b->call = call;
    b->n = b->left = n;
    /* The last answer ends the call, and what the request lies in. */
    for (size_t i = 0; i < n; i++)
        vault_authorize_begin(vault_op_plain(call, req->requests[i], arg), b,
                              i);
}

void
vault_batch_serve(struct ag_rpc_server *srv, struct vault_face *face)
{
    ag_rpc_server_add(srv,
                      &agent__vault__v1__egress_service__authorize_batch__rpc,
                      authorize_batch, face);
}
