/*
 * gRPC client: unary calls and server streams. Called on the loop;
 * callbacks come there too.
 */
#include "lib/rpc_client.h"

#include "lib/rpc_internal.h"

#include <grpc/grpc_security.h>
#include <grpc/support/alloc.h>
#include <stdlib.h>

#include "lib/rpc_status.h"

#define METADATA_MAX 8

struct ag_rpc_channel {
    struct ag_rpc *rpc;
    grpc_channel *channel;
};

struct ag_rpc_client_call {
    struct ag_rpc *rpc;
    const struct ag_rpc_method *method;
    grpc_call *call;
    struct ag_arena *arena; /* of the message that is being received */

    grpc_metadata send_metadata[METADATA_MAX];
    size_t n_send_metadata;
    grpc_metadata_array initial, trailing;
    grpc_status_code status;
    grpc_slice details;
    grpc_byte_buffer *message;
    ProtobufCMessage *unpacked;
    bool is_malformed;

    struct ag_rpc_tag start_tag, recv_tag, status_tag;
    int n_pending; /* events under way; the call is freed at 0 */

    ag_rpc_unary_done *unary_done;
    ag_rpc_stream_item *stream_item;
    ag_rpc_stream_done *stream_done;
    void *arg;
};

/* Quick to come back when a service restarts on its unix socket. The minimum is
 * also how long a connection may take to be made (gRPC core, connection
 * backoff): a busy machine needs more than the first pause. */
static grpc_arg channel_args[] = {
    {GRPC_ARG_INTEGER,
     (char *)GRPC_ARG_INITIAL_RECONNECT_BACKOFF_MS,
     {.integer = 50}},
    {GRPC_ARG_INTEGER,
     (char *)GRPC_ARG_MIN_RECONNECT_BACKOFF_MS,
     {.integer = 1000}},
    {GRPC_ARG_INTEGER,
     (char *)GRPC_ARG_MAX_RECONNECT_BACKOFF_MS,
     {.integer = 500}},
    {GRPC_ARG_INTEGER, (char *)GRPC_ARG_ENABLE_RETRIES, {.integer = 0}},
    {GRPC_ARG_STRING,
     (char *)GRPC_SSL_TARGET_NAME_OVERRIDE_ARG,
     {.string = NULL}},
};

static struct ag_rpc_channel *
channel_new(struct ag_rpc *rpc, const char *target,
            grpc_channel_credentials *creds, const char *host)
{
    struct ag_rpc_channel *ch = ag_xcalloc(1, sizeof(*ch));
    size_t n = sizeof(channel_args) / sizeof(channel_args[0]);
    grpc_arg list[sizeof(channel_args) / sizeof(channel_args[0])];
    grpc_channel_args args = {host == NULL ? n - 1 : n, list};

    memcpy(list, channel_args, sizeof(list));
    list[n - 1].value.string = (char *)(uintptr_t)host;
    ch->rpc = rpc;
    ch->channel = grpc_channel_create(target, creds, &args);
    grpc_channel_credentials_release(creds);
    return ch;
}

struct ag_rpc_channel *
ag_rpc_channel_new(struct ag_rpc *rpc, const char *target)
{
    return channel_new(rpc, target, grpc_insecure_credentials_create(), NULL);
}

struct ag_rpc_channel *
ag_rpc_channel_new_tls(struct ag_rpc *rpc, const char *target, const char *host,
                       const struct ag_rpc_client_tls *tls, struct ag_err *err)
{
    AG_AUTO(ag_freep) char *ca = ag_rpc_read_pem(tls->ca_file, err);
    AG_AUTO(ag_freep) char *cert = NULL;
    AG_AUTO(ag_freep) char *key = NULL;
    grpc_ssl_pem_key_cert_pair pair;

    if (ca == NULL || (cert = ag_rpc_read_pem(tls->cert_file, err)) == NULL
        || (key = ag_rpc_read_pem(tls->key_file, err)) == NULL)
        return NULL;
    pair = (grpc_ssl_pem_key_cert_pair){key, cert};
    return channel_new(
        rpc, target, grpc_ssl_credentials_create(ca, &pair, NULL, NULL), host);
}

void
ag_rpc_channel_free(struct ag_rpc_channel *ch)
{
    if (ch == NULL)
        return;
    grpc_channel_destroy(ch->channel);
    free(ch);
}

/* ---- life of a call ---------------------------------------------------- */

static void
message_release(struct ag_rpc_client_call *c)
{
    grpc_byte_buffer_destroy(c->message);
    c->message = NULL;
    c->unpacked = NULL;
    ag_arena_free(c->arena);
    c->arena = NULL;
}

static void
call_free(struct ag_rpc_client_call *c)
{
    message_release(c);
    for (size_t i = 0; i < c->n_send_metadata; i++) {
        grpc_slice_unref(c->send_metadata[i].key);
        grpc_slice_unref(c->send_metadata[i].value);
    }
    grpc_metadata_array_destroy(&c->initial);
    grpc_metadata_array_destroy(&c->trailing);
    grpc_slice_unref(c->details);
    grpc_call_unref(c->call);
    free(c);
}

/* The call's outcome as an error; false for OK. */
static bool
outcome(const struct ag_rpc_client_call *c, struct ag_err *err)
{
    if (c->is_malformed) {
        ag_err_set(err, AG_ERR_CORRUPT, "%s: malformed answer",
                   c->method->path);
        return true;
    }
    if (c->status == GRPC_STATUS_OK)
        return false;
    ag_err_set(err, ag_rpc_status_kind((int)c->status), "%.*s",
               AG_FMT(ag_rpc_slice_str(&c->details)));
    return true;
}

/* On the queue's thread. */
static void
prepare_message(struct ag_rpc_tag *tag)
{
    struct ag_rpc_client_call *c =
        AG_CONTAINER(tag, struct ag_rpc_client_call, recv_tag);
    ag_str_t bytes;

    if (c->message == NULL)
        return;
    c->arena = ag_arena_new();
    if (ag_rpc_bytes(c->message, c->arena, &bytes))
        c->unpacked = ag_rpc_unpack(c->method->output, bytes, c->arena);
    c->is_malformed = c->unpacked == NULL;
}

static struct ag_rpc_client_call *
call_new(struct ag_rpc_channel *ch, const struct ag_rpc_method *method,
         const struct ag_rpc_call_opts *opts)
{
    struct ag_rpc_client_call *c = ag_xcalloc(1, sizeof(*c));
    gpr_timespec deadline =
        gpr_time_add(gpr_now(GPR_CLOCK_MONOTONIC),
                     gpr_time_from_millis(opts->timeout_ms, GPR_TIMESPAN));

    ag_assert(opts->timeout_ms > 0 && opts->n_metadata <= METADATA_MAX);
    c->rpc = ch->rpc;
    c->method = method;
    c->status = GRPC_STATUS_UNKNOWN;
    c->details = grpc_empty_slice();
    grpc_metadata_array_init(&c->initial);
    grpc_metadata_array_init(&c->trailing);
    for (size_t i = 0; i < opts->n_metadata; i++) {
        const struct ag_rpc_metadata *m = &opts->metadata[i];
        grpc_metadata *to = &c->send_metadata[c->n_send_metadata++];

        to->key = grpc_slice_from_copied_string(m->key);
        to->value = grpc_slice_from_copied_buffer(m->value.p, m->value.n);
    }
    c->call = grpc_channel_create_call(
        ch->channel, NULL, GRPC_PROPAGATE_DEFAULTS, ch->rpc->cq,
        grpc_slice_from_static_string(method->path), NULL, deadline, NULL);
    return c;
}

/* The three sending ops and the initial metadata, common to both kinds. */
static size_t
start_ops(struct ag_rpc_client_call *c, grpc_byte_buffer *request,
          grpc_op ops[4])
{
    memset(ops, 0, 4 * sizeof(*ops));
    ops[0].op = GRPC_OP_SEND_INITIAL_METADATA;
    ops[0].data.send_initial_metadata.count = c->n_send_metadata;
    ops[0].data.send_initial_metadata.metadata = c->send_metadata;
    ops[1].op = GRPC_OP_SEND_MESSAGE;
    ops[1].data.send_message.send_message = request;
    ops[2].op = GRPC_OP_SEND_CLOSE_FROM_CLIENT;
    ops[3].op = GRPC_OP_RECV_INITIAL_METADATA;
    ops[3].data.recv_initial_metadata.recv_initial_metadata = &c->initial;
    return 4;
}

static grpc_op
status_op(struct ag_rpc_client_call *c)
{
    grpc_op op = {.op = GRPC_OP_RECV_STATUS_ON_CLIENT};

    op.data.recv_status_on_client.trailing_metadata = &c->trailing;
    op.data.recv_status_on_client.status = &c->status;
    op.data.recv_status_on_client.status_details = &c->details;
    return op;
}

static grpc_op
recv_op(struct ag_rpc_client_call *c)
{
    grpc_op op = {.op = GRPC_OP_RECV_MESSAGE};

    op.data.recv_message.recv_message = &c->message;
    return op;
}

/* ---- unary ------------------------------------------------------------- */

static void
unary_finished(struct ag_rpc_tag *tag, bool is_ok)
{
    struct ag_rpc_client_call *c =
        AG_CONTAINER(tag, struct ag_rpc_client_call, recv_tag);
    struct ag_err err = AG_ERR_INIT;

    (void)is_ok;
    if (!outcome(c, &err) && c->unpacked == NULL)
        ag_err_set(&err, AG_ERR_CORRUPT, "%s: OK without an answer",
                   c->method->path);
    if (err.kind != AG_ERR_NONE)
        c->unary_done(c->arg, NULL, &err);
    else
        c->unary_done(c->arg, c->unpacked, NULL);
    call_free(c);
}

struct ag_rpc_client_call *
ag_rpc_unary(struct ag_rpc_channel *ch, const struct ag_rpc_method *method,
             const ProtobufCMessage *request,
             const struct ag_rpc_call_opts *opts, ag_rpc_unary_done *done,
             void *arg)
{
    struct ag_rpc_client_call *c = call_new(ch, method, opts);
    grpc_byte_buffer *bb = ag_rpc_pack(request);
    grpc_op ops[6];
    size_t n = start_ops(c, bb, ops);

    ag_assert(request->descriptor == method->input);
    c->unary_done = done;
    c->arg = arg;
    ops[n++] = recv_op(c);
    ops[n++] = status_op(c);
    c->recv_tag.prepare = prepare_message;
    c->recv_tag.done = unary_finished;
    ag_rpc_start(c->call, ops, n, &c->recv_tag);
    grpc_byte_buffer_destroy(bb);
    return c;
}

/* ---- streams ----------------------------------------------------------- */

static void
stream_event_gone(struct ag_rpc_client_call *c)
{
    struct ag_err err = AG_ERR_INIT;

    if (--c->n_pending > 0)
        return;
    if (outcome(c, &err))
        c->stream_done(c->arg, &err);
    else
        c->stream_done(c->arg, NULL);
    call_free(c);
}

static void
stream_recv(struct ag_rpc_client_call *c)
{
    grpc_op op = recv_op(c);

    c->n_pending++;
    ag_rpc_start(c->call, &op, 1, &c->recv_tag);
}

static void
stream_received(struct ag_rpc_tag *tag, bool is_ok)
{
    struct ag_rpc_client_call *c =
        AG_CONTAINER(tag, struct ag_rpc_client_call, recv_tag);
    bool has_more = is_ok && c->message != NULL && !c->is_malformed;

    if (has_more) {
        c->stream_item(c->arg, c->unpacked);
        message_release(c);
        stream_recv(c);
    } else if (c->is_malformed) {
        (void)grpc_call_cancel(c->call, NULL);
    }
    stream_event_gone(c);
}

static void
stream_started(struct ag_rpc_tag *tag, bool is_ok)
{
    struct ag_rpc_client_call *c =
        AG_CONTAINER(tag, struct ag_rpc_client_call, start_tag);

    (void)is_ok;
    stream_event_gone(c);
}

static void
stream_status(struct ag_rpc_tag *tag, bool is_ok)
{
    struct ag_rpc_client_call *c =
        AG_CONTAINER(tag, struct ag_rpc_client_call, status_tag);

    (void)is_ok;
    stream_event_gone(c);
}

struct ag_rpc_client_call *
ag_rpc_stream(struct ag_rpc_channel *ch, const struct ag_rpc_method *method,
              const ProtobufCMessage *request,
              const struct ag_rpc_call_opts *opts, ag_rpc_stream_item *item,
              ag_rpc_stream_done *done, void *arg)
{
    struct ag_rpc_client_call *c = call_new(ch, method, opts);
    grpc_byte_buffer *bb = ag_rpc_pack(request);
    grpc_op ops[4];
    grpc_op status = status_op(c);

    ag_assert(request->descriptor == method->input);
    c->stream_item = item;
    c->stream_done = done;
    c->arg = arg;
    c->recv_tag.prepare = prepare_message;
    c->recv_tag.done = stream_received;
    c->start_tag.done = stream_started;
    c->status_tag.done = stream_status;
    c->n_pending = 2;
    ag_rpc_start(c->call, ops, start_ops(c, bb, ops), &c->start_tag);
    ag_rpc_start(c->call, &status, 1, &c->status_tag);
    stream_recv(c);
    grpc_byte_buffer_destroy(bb);
    return c;
}

void
ag_rpc_cancel(struct ag_rpc_client_call *call)
{
    (void)grpc_call_cancel(call->call, NULL);
}
