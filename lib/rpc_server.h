/*
 * gRPC server for protobuf-c messages.
 *
 * A handler runs on the loop and owns the call until it finishes it
 * by exactly one of ag_rpc_reply, ag_rpc_fail or (streams) ag_rpc_end, at any
 * later time on the loop. When the caller goes away or the deadline passes,
 * `on_cancel` is called once; the handler still has to finish the call.
 *
 * Each server offers grpc.health.v1 and reflection besides its methods, and
 * answers UNIMPLEMENTED to anything else.
 */
#ifndef LIB_RPC_SERVER_H
#define LIB_RPC_SERVER_H

#include "lib/arena.h"
#include "lib/rpc.h"
#include "lib/rpc_method.h"

struct ag_rpc_server;
struct ag_rpc_call;

/* `request` lives as long as the call. */
typedef void ag_rpc_handler(struct ag_rpc_call *call,
                            const ProtobufCMessage *request, void *arg);

struct ag_rpc_tls {
    const char *cert_file, *key_file; /* PEM */
    const char *client_ca_file;       /* PEM; clients must show a certificate */
};

/* `name` is for logs: "vault-brain". */
struct ag_rpc_server *ag_rpc_server_new(struct ag_rpc *rpc, const char *name);

/* Before start. `method` must not stream from the client. */
void
ag_rpc_server_add(struct ag_rpc_server *srv, const struct ag_rpc_method *method,
                  ag_rpc_handler *fn, void *arg);

/*
 * Listen on a unix socket: takes an flock on "<path>.lock" (AG_ERR_EXISTS when
 * another process holds it), removes a stale socket, binds. The socket itself
 * is open to all: who may reach it is decided by its folder (mode 0710, the
 * caller's group). Paths have at most 107 bytes.
 */
int ag_rpc_server_listen_unix(struct ag_rpc_server *srv, const char *path,
                              struct ag_err *err);
/* Listen on "host:port" with mutual TLS; `*port` gets the bound port. */
int ag_rpc_server_listen_tls(struct ag_rpc_server *srv, const char *address,
                             const struct ag_rpc_tls *tls, int *port,
                             struct ag_err *err);

int ag_rpc_server_start(struct ag_rpc_server *srv, struct ag_err *err);

/* What health answers; SERVING from start on. */
void ag_rpc_server_set_serving(struct ag_rpc_server *srv, bool is_serving);

/*
 * Stop accepting; after `grace_ms` cancel what still runs; call `done(arg)` on
 * the loop when the last call is gone. Then free.
 */
void ag_rpc_server_stop(struct ag_rpc_server *srv, int64_t grace_ms,
                        void (*done)(void *arg), void *arg);
void ag_rpc_server_free(struct ag_rpc_server *srv);

/* ---- the call -------------------------------------------------------- */

/* Memory that lives as long as the call. */
struct ag_arena *ag_rpc_call_arena(struct ag_rpc_call *call);
/* The request as it came over the wire. */
ag_str_t ag_rpc_call_bytes(struct ag_rpc_call *call);
/* The scopes of which the caller needs one, as the method's .proto says. */
unsigned ag_rpc_call_scopes(const struct ag_rpc_call *call);
/* First value of a metadata key (lower case); {NULL, 0} when absent. */
ag_str_t ag_rpc_call_metadata(struct ag_rpc_call *call, const char *key);
/* `x-request-id` of the caller, or one made here. NUL-terminated. */
const char *ag_rpc_call_request_id(struct ag_rpc_call *call);
/* Called once on the loop when the caller is gone. NULL takes it back. */
void ag_rpc_call_on_cancel(struct ag_rpc_call *call,
                           void (*fn)(struct ag_rpc_call *call, void *arg),
                           void *arg);
/* The caller is known to be gone: of a stream, or once on_cancel was set. */
bool ag_rpc_call_is_cancelled(const struct ag_rpc_call *call);

/* Send the message, of a stream the last one, and OK, together. `msg` may be
 * freed at once. */
void ag_rpc_reply(struct ag_rpc_call *call, const ProtobufCMessage *msg);
/* Send the error as a gRPC status with google.rpc details (lib/rpc_details.h).
 */
void ag_rpc_fail(struct ag_rpc_call *call, const struct ag_err *err);

/*
 * Streams: tell the caller that the call is accepted, before there is a message
 * to send. Without it the first ag_rpc_send does. A call that fails before
 * becomes a plain error status. The caller's metadata is forgotten: there are
 * many streams, and they last.
 */
void ag_rpc_accept(struct ag_rpc_call *call);

/*
 * Streams: queue one message. Returns the bytes that now wait to be written.
 * A handler that sees more than it likes stops until `on_drain` is called
 * (once, when the queue is empty).
 */
size_t ag_rpc_send(struct ag_rpc_call *call, const ProtobufCMessage *msg);
void ag_rpc_call_on_drain(struct ag_rpc_call *call,
                          void (*fn)(struct ag_rpc_call *call, void *arg),
                          void *arg);
/* Send OK after what is queued. */
void ag_rpc_end(struct ag_rpc_call *call);

#endif
