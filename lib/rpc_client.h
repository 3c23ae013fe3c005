/*
 * gRPC client for protobuf-c messages. Callbacks run on the loop,
 * never from inside the function that starts the call.
 */
#ifndef LIB_RPC_CLIENT_H
#define LIB_RPC_CLIENT_H

#include "lib/rpc.h"
#include "lib/rpc_method.h"

struct ag_rpc_channel;
struct ag_rpc_client_call;

struct ag_rpc_metadata {
    const char *key; /* lower case */
    ag_str_t value;
};

struct ag_rpc_call_opts {
    int64_t timeout_ms; /* required */
    const struct ag_rpc_metadata *metadata;
    size_t n_metadata;
};

struct ag_rpc_client_tls {
    const char *cert_file, *key_file; /* what this client shows */
    const char *ca_file;              /* what the server's must chain to */
};

/* `target` as gRPC names it: "unix:/path", "host:port". Connects lazily. */
struct ag_rpc_channel *
ag_rpc_channel_new(struct ag_rpc *rpc, const char *target);
/* The same over mutual TLS, PEM files; `host` is the name to verify. */
struct ag_rpc_channel *
ag_rpc_channel_new_tls(struct ag_rpc *rpc, const char *target, const char *host,
                       const struct ag_rpc_client_tls *tls, struct ag_err *err);
void ag_rpc_channel_free(struct ag_rpc_channel *ch);

/* Exactly one of `reply` and `err` is not NULL; both live for the callback. */
typedef void ag_rpc_unary_done(void *arg, const ProtobufCMessage *reply,
                               const struct ag_err *err);

/* The call object is freed after `done`; keep it only for ag_rpc_cancel. */
struct ag_rpc_client_call *
ag_rpc_unary(struct ag_rpc_channel *ch, const struct ag_rpc_method *method,
             const ProtobufCMessage *request,
             const struct ag_rpc_call_opts *opts, ag_rpc_unary_done *done,
             void *arg);

/* One message of a server stream. */
typedef void ag_rpc_stream_item(void *arg, const ProtobufCMessage *item);
/* The end: `err` is NULL for OK. */
typedef void ag_rpc_stream_done(void *arg, const struct ag_err *err);

struct ag_rpc_client_call *
ag_rpc_stream(struct ag_rpc_channel *ch, const struct ag_rpc_method *method,
              const ProtobufCMessage *request,
              const struct ag_rpc_call_opts *opts, ag_rpc_stream_item *item,
              ag_rpc_stream_done *done, void *arg);

/* Ask for the end; `done` still comes, with AG_ERR_CANCELLED. */
void ag_rpc_cancel(struct ag_rpc_client_call *call);

#endif
