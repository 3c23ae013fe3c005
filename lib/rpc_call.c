/*
 * One server call: matched, received, handed to its handler, answered. All on
 * the loop but the decoding.
 *
 * The call is freed when the handler has finished it, the status is sent, and
 * no event is under way any more.
 */
#include "lib/rpc_call.h"

#include <stdlib.h>

#include "lib/id.h"
#include "lib/log.h"
#include "lib/rpc_details.h"
#include "lib/rpc_status.h"
#include "lib/rpc_wire.h"

static void send_more(struct ag_rpc_call *call);

static void
call_free(struct ag_rpc_call *call)
{
    struct ag_rpc_server *srv = call->srv;

    *call->prev = call->next;
    if (call->next != NULL)
        call->next->prev = call->prev;
    for (struct ag_rpc_out *o = call->out, *next; o != NULL; o = next) {
        next = o->next;
        grpc_byte_buffer_destroy(o->bb);
        free(o);
    }
    grpc_byte_buffer_destroy(call->message);
    grpc_call_details_destroy(&call->details);
    grpc_metadata_array_destroy(&call->metadata);
    grpc_slice_unref(call->status_text);
    grpc_slice_unref(call->status_details.value);
    if (call->call != NULL)
        grpc_call_unref(call->call);
    ag_arena_free(call->arena);
    free(call);
    ag_rpc_server_call_gone(srv);
}

static void
maybe_free(struct ag_rpc_call *call)
{
    if (call->n_pending == 0 && call->is_handler_done && !call->is_sending
        && (call->is_status_sent || call->call == NULL))
        call_free(call);
}

/* ---- receiving --------------------------------------------------------- */

/* On the queue's thread. */
static void
decode(struct ag_rpc_call *call)
{
    call->request = NULL;
    call->nul_field = NULL;
    call->bytes = (ag_str_t){NULL, 0};
    if (call->message == NULL
        || !ag_rpc_bytes(call->message, call->arena, &call->bytes))
        return;
    call->nul_field = ag_rpc_wire_nul(call->method->input, call->bytes);
    if (call->nul_field == NULL)
        call->request =
            ag_rpc_unpack(call->method->input, call->bytes, call->arena);
}

static void
prepare_message(struct ag_rpc_tag *tag)
{
    decode(AG_CONTAINER(tag, struct ag_rpc_call, recv_tag));
}

static void
prepare_registered(struct ag_rpc_tag *tag)
{
    decode(AG_CONTAINER(tag, struct ag_rpc_call, new_tag));
}

/* A request, decoded, or the end of the client's stream. */
static void
take_message(struct ag_rpc_call *call, bool is_ok)
{
    bool has_message = is_ok && call->message != NULL;
    struct ag_err err;

    grpc_byte_buffer_destroy(call->message);
    call->message = NULL;
    if (call->is_handler_done) {
        maybe_free(call);
    } else if (has_message && call->request != NULL) {
        call->handler(call, call->request, call->handler_arg);
    } else if (call->is_bidi && !has_message) {
        ag_rpc_end(call);
    } else if (has_message && call->nul_field != NULL) {
        ag_err_set(&err, AG_ERR_INVALID, "%s: holds a NUL", call->nul_field);
        ag_rpc_fail(call, &err);
    } else {
        ag_err_set(&err, AG_ERR_INVALID, "%s: %s", call->method->path,
                   has_message ? "malformed request message"
                               : "no request message");
        ag_rpc_fail(call, &err);
    }
}

static void
received(struct ag_rpc_tag *tag, bool is_ok)
{
    struct ag_rpc_call *call = AG_CONTAINER(tag, struct ag_rpc_call, recv_tag);

    call->n_pending--;
    take_message(call, is_ok);
}

void
ag_rpc_call_recv(struct ag_rpc_call *call)
{
    grpc_op op = {.op = GRPC_OP_RECV_MESSAGE};

    op.data.recv_message.recv_message = &call->message;
    call->n_pending++;
    ag_rpc_start(call->call, &op, 1, &call->recv_tag);
}

static void
closed(struct ag_rpc_tag *tag, bool is_ok)
{
    struct ag_rpc_call *call = AG_CONTAINER(tag, struct ag_rpc_call, close_tag);
    void (*fn)(struct ag_rpc_call * call, void *arg) = call->on_cancel;

    (void)is_ok;
    call->n_pending--;
    call->is_cancelled = call->is_client_gone != 0;
    call->on_cancel = NULL;
    if (call->is_cancelled && !call->is_handler_done && fn != NULL) {
        /* The handler may finish, and so free, the call in there. */
        call->n_pending++;
        fn(call, call->on_cancel_arg);
        call->n_pending--;
    }
    maybe_free(call);
}

/* Have on_cancel called when the caller goes away. */
static void
watch_caller(struct ag_rpc_call *call)
{
    grpc_op op = {.op = GRPC_OP_RECV_CLOSE_ON_SERVER};

    if (call->is_watched)
        return;
    call->is_watched = true;
    op.data.recv_close_on_server.cancelled = &call->is_client_gone;
    call->n_pending++;
    ag_rpc_start(call->call, &op, 1, &call->close_tag);
}

/* A call of a method that is not registered. */
static void
dispatch(struct ag_rpc_call *call)
{
    ag_str_t path = ag_rpc_slice_str(&call->details.method);
    const struct ag_rpc_entry *entry = ag_rpc_server_find(call->srv, path);
    struct ag_err err;

    if (entry == NULL) {
        ag_err_set(&err, AG_ERR_UNIMPLEMENTED, "no method %.*s here",
                   AG_FMT(path));
        ag_rpc_fail(call, &err);
        return;
    }
    call->method = entry->method;
    call->handler = entry->fn;
    call->handler_arg = entry->arg;
    call->is_bidi = entry->method->client_streams;
    watch_caller(call);
    ag_rpc_call_recv(call);
}

static void
matched(struct ag_rpc_tag *tag, bool is_ok)
{
    struct ag_rpc_call *call = AG_CONTAINER(tag, struct ag_rpc_call, new_tag);
    struct ag_rpc_server *srv = call->srv;

    call->n_pending--;
    srv->n_waiting--;
    if (!is_ok) {
        call->call = NULL;
        call->is_handler_done = true;
        maybe_free(call);
        return;
    }
    if (!srv->is_stopping)
        ag_rpc_call_await(srv, call->entry);
    if (call->entry == NULL) {
        dispatch(call);
        return;
    }
    if (call->method->server_streams)
        watch_caller(call);
    take_message(call, true);
}

static grpc_call_error
request_call(struct ag_rpc_call *call)
{
    struct ag_rpc_server *srv = call->srv;
    grpc_completion_queue *cq = srv->rpc->cq;

    if (call->entry == NULL)
        return grpc_server_request_call(srv->server, &call->call,
                                        &call->details, &call->metadata, cq, cq,
                                        &call->new_tag);
    return grpc_server_request_registered_call(
        srv->server, call->entry->registered, &call->call, &call->deadline,
        &call->metadata, &call->message, cq, cq, &call->new_tag);
}

void
ag_rpc_call_await(struct ag_rpc_server *srv, const struct ag_rpc_entry *entry)
{
    struct ag_rpc_call *call = ag_xcalloc(1, sizeof(*call));

    call->srv = srv;
    call->arena = ag_arena_new();
    call->next = srv->calls;
    call->prev = &srv->calls;
    if (call->next != NULL)
        call->next->prev = &call->next;
    srv->calls = call;
    call->out_end = &call->out;
    call->status_text = grpc_empty_slice();
    call->status_details.value = grpc_empty_slice();
    grpc_call_details_init(&call->details);
    grpc_metadata_array_init(&call->metadata);
    if (entry != NULL) {
        call->entry = entry;
        call->method = entry->method;
        call->handler = entry->fn;
        call->handler_arg = entry->arg;
        call->new_tag.prepare = prepare_registered;
    }
    call->new_tag.done = matched;
    call->recv_tag.prepare = prepare_message;
    call->recv_tag.done = received;
    call->close_tag.done = closed;
    call->n_pending++;
    srv->n_waiting++;
    AG_RPC_TAG_GIVE(&call->new_tag);
    ag_assert(request_call(call) == GRPC_CALL_OK);
}

/* ---- sending ----------------------------------------------------------- */

static void
sent(struct ag_rpc_tag *tag, bool is_ok)
{
    struct ag_rpc_call *call = AG_CONTAINER(tag, struct ag_rpc_call, send_tag);
    void (*drained)(struct ag_rpc_call * call, void *arg);

    (void)is_ok; /* a peer that is gone is told by close_tag */
    call->is_sending = false;
    if (call->out != NULL || (call->is_handler_done && !call->is_status_sent)) {
        send_more(call);
        return;
    }
    drained = call->on_drain;
    call->on_drain = NULL;
    if (drained != NULL && !call->is_handler_done)
        drained(call, call->on_drain_arg);
    else
        maybe_free(call);
}

static void
add_status_op(struct ag_rpc_call *call, grpc_op *op)
{
    memset(op, 0, sizeof(*op));
    op->op = GRPC_OP_SEND_STATUS_FROM_SERVER;
    op->data.send_status_from_server.status = call->status;
    op->data.send_status_from_server.status_details = &call->status_text;
    if (GRPC_SLICE_LENGTH(call->status_details.value) > 0) {
        op->data.send_status_from_server.trailing_metadata_count = 1;
        op->data.send_status_from_server.trailing_metadata =
            &call->status_details;
    }
    call->is_status_sent = true;
}

/* gRPC wants it once a call; with the status it costs no event of its own. */
static size_t
add_close_op(struct ag_rpc_call *call, grpc_op *op)
{
    if (call->is_watched)
        return 0;
    call->is_watched = true;
    op->op = GRPC_OP_RECV_CLOSE_ON_SERVER;
    op->data.recv_close_on_server.cancelled = &call->is_client_gone;
    return 1;
}

/* Start one batch with what is due: metadata, one message, the status. */
static void
send_more(struct ag_rpc_call *call)
{
    struct ag_rpc_out *o = call->out;
    grpc_op ops[4];
    size_t n = 0;

    if (call->is_sending || call->is_status_sent)
        return;
    memset(ops, 0, sizeof(ops));
    if (!call->is_accepted) {
        ops[n++].op = GRPC_OP_SEND_INITIAL_METADATA;
        call->is_accepted = true;
    }
    if (o != NULL) {
        ops[n].op = GRPC_OP_SEND_MESSAGE;
        ops[n++].data.send_message.send_message = o->bb;
        call->out = o->next;
        call->out_bytes -= o->n;
        if (call->out == NULL)
            call->out_end = &call->out;
    }
    if (call->is_handler_done && call->out == NULL) {
        add_status_op(call, &ops[n++]);
        n += add_close_op(call, &ops[n]);
    }
    if (n == 0)
        return;
    call->is_sending = true;
    call->send_tag.done = sent;
    ag_rpc_start(call->call, ops, n, &call->send_tag);
    if (o != NULL) {
        grpc_byte_buffer_destroy(o->bb);
        free(o);
    }
}

static void
queue(struct ag_rpc_call *call, const ProtobufCMessage *msg)
{
    struct ag_rpc_out *o = ag_xcalloc(1, sizeof(*o));

    ag_assert(msg->descriptor == call->method->output);
    o->bb = ag_rpc_pack(msg);
    o->n = grpc_byte_buffer_length(o->bb);
    *call->out_end = o;
    call->out_end = &o->next;
    call->out_bytes += o->n;
}

/* The handler is through with the call, whatever is still to be written. */
static void
finish(struct ag_rpc_call *call)
{
    ag_assert(!call->is_handler_done);
    call->is_handler_done = true;
    call->on_cancel = NULL;
    call->on_drain = NULL;
    send_more(call);
    maybe_free(call);
}

/* ---- public ------------------------------------------------------------ */

struct ag_arena *
ag_rpc_call_arena(struct ag_rpc_call *call)
{
    return call->arena;
}

ag_str_t
ag_rpc_call_bytes(struct ag_rpc_call *call)
{
    return call->bytes;
}

unsigned
ag_rpc_call_scopes(const struct ag_rpc_call *call)
{
    return call->method->scopes;
}

ag_str_t
ag_rpc_call_metadata(struct ag_rpc_call *call, const char *key)
{
    for (size_t i = 0; i < call->metadata.count; i++)
        if (ag_str_is(ag_rpc_slice_str(&call->metadata.metadata[i].key), key))
            return ag_rpc_slice_str(&call->metadata.metadata[i].value);
    return (ag_str_t){NULL, 0};
}

/* Printable ASCII, at most 64 bytes: it goes into logs and headers. */
static bool
is_request_id(ag_str_t s)
{
    if (s.n == 0 || s.n > 64)
        return false;
    for (size_t i = 0; i < s.n; i++)
        if (s.p[i] <= ' ' || s.p[i] > '~' || s.p[i] == '"')
            return false;
    return true;
}

const char *
ag_rpc_call_request_id(struct ag_rpc_call *call)
{
    ag_str_t given = ag_rpc_call_metadata(call, "x-request-id");
    char text[AG_ID_TEXT];

    if (call->request_id != NULL)
        return call->request_id;
    if (is_request_id(given)) {
        call->request_id = ag_arena_cstr(call->arena, given);
    } else {
        ag_id_new("req", text);
        call->request_id = ag_arena_cstr(call->arena, ag_str(text));
    }
    return call->request_id;
}

void
ag_rpc_call_on_cancel(struct ag_rpc_call *call,
                      void (*fn)(struct ag_rpc_call *call, void *arg),
                      void *arg)
{
    call->on_cancel = fn;
    call->on_cancel_arg = arg;
    if (fn != NULL && call->call != NULL)
        watch_caller(call);
}

bool
ag_rpc_call_is_cancelled(const struct ag_rpc_call *call)
{
    return call->is_cancelled;
}

void
ag_rpc_reply(struct ag_rpc_call *call, const ProtobufCMessage *msg)
{
    queue(call, msg);
    finish(call);
}

void
ag_rpc_fail(struct ag_rpc_call *call, const struct ag_err *err)
{
    AG_AUTO(ag_buf_release) struct ag_buf details = AG_BUF_INIT(4096);

    ag_assert(err->kind != AG_ERR_NONE);
    call->status = (grpc_status_code)ag_rpc_status_of(err->kind);
    call->status_text = grpc_slice_from_copied_string(err->msg);
    call->status_details.key =
        grpc_slice_from_static_string("grpc-status-details-bin");
    ag_rpc_details((int)call->status, err, &details);
    call->status_details.value =
        grpc_slice_from_copied_buffer(details.p, details.n);
    finish(call);
}

void
ag_rpc_accept(struct ag_rpc_call *call)
{
    if (!call->is_accepted)
        send_more(call);
    (void)ag_rpc_call_request_id(call);
    grpc_metadata_array_destroy(&call->metadata);
    grpc_metadata_array_init(&call->metadata);
}

size_t
ag_rpc_send(struct ag_rpc_call *call, const ProtobufCMessage *msg)
{
    ag_assert(!call->is_handler_done);
    queue(call, msg);
    send_more(call);
    return call->out_bytes;
}

void
ag_rpc_call_on_drain(struct ag_rpc_call *call,
                     void (*fn)(struct ag_rpc_call *call, void *arg), void *arg)
{
    call->on_drain = fn;
    call->on_drain_arg = arg;
}

void
ag_rpc_end(struct ag_rpc_call *call)
{
    finish(call);
}
