/*
 * The server call's insides, shared by rpc_server.c (accepting, dispatching,
 * stopping), rpc_call.c (one call's life) and rpc_builtin.c (health and
 * reflection). Nobody else includes it.
 */
#ifndef LIB_RPC_CALL_H
#define LIB_RPC_CALL_H

#include "lib/rpc_internal.h"
#include "lib/rpc_server.h"

struct ag_rpc_out {
    struct ag_rpc_out *next;
    grpc_byte_buffer *bb;
    size_t n;
};

struct ag_rpc_call {
    struct ag_rpc_server *srv;
    struct ag_rpc_call *next, **prev; /* list of the server's calls */
    const struct ag_rpc_entry *entry; /* awaited for this method, or NULL */
    gpr_timespec deadline;            /* of such a call */
    struct ag_arena *arena;
    grpc_call *call;
    grpc_call_details details;
    grpc_metadata_array metadata;
    const char *request_id;
    const struct ag_rpc_method *method;
    ag_rpc_handler *handler;
    void *handler_arg;

    grpc_byte_buffer *message;
    ag_str_t bytes;
    ProtobufCMessage *request;
    const char *nul_field; /* a string of the request that holds a NUL */

    struct ag_rpc_tag new_tag, recv_tag, close_tag, send_tag;
    int n_pending;      /* events under way */
    int is_client_gone; /* written by gRPC when close_tag, or the batch with
                           the status, is done */
    bool is_watched;    /* close_tag was started: a caller that goes is told */
    bool is_cancelled;
    bool is_handler_done; /* reply, fail or end was called */
    bool is_accepted;     /* initial metadata was sent or is being sent */
    bool is_sending;      /* send_tag is under way */
    bool is_status_sent;
    bool is_bidi; /* reflection: more messages may come */

    struct ag_rpc_out *out, **out_end;
    size_t out_bytes;
    grpc_status_code status;
    grpc_slice status_text;
    grpc_metadata status_details; /* key is empty when unused */

    void (*on_cancel)(struct ag_rpc_call *call, void *arg);
    void *on_cancel_arg;
    void (*on_drain)(struct ag_rpc_call *call, void *arg);
    void *on_drain_arg;
};

struct ag_rpc_entry {
    const struct ag_rpc_method *method;
    ag_rpc_handler *fn;
    void *arg;
    void *registered; /* gRPC's handle; NULL for a client's stream */
};

#define AG_RPC_WATCHERS_MAX 64

struct ag_rpc_server {
    struct ag_rpc *rpc;
    const char *name;
    grpc_server *server;
    int lock_fd[4];
    size_t n_locks;
    struct ag_rpc_entry *entries;
    size_t n_entries;
    struct ag_rpc_call *calls;
    int n_waiting; /* grpc_server_request_call under way */
    bool is_serving, is_stopping, is_shut;
    struct ag_rpc_call *watchers[AG_RPC_WATCHERS_MAX]; /* of health */
    size_t n_watchers;
    struct ag_rpc_tag shut_tag;
    struct ag_timer grace;
    void (*stopped)(void *arg);
    void *stopped_arg;
};

/*
 * A call that waits to be matched with an incoming one: of a registered method,
 * which comes with its request in one event, or (NULL) of any other.
 */
void
ag_rpc_call_await(struct ag_rpc_server *srv, const struct ag_rpc_entry *entry);
/* Ask for the next message of a bidirectional call. */
void ag_rpc_call_recv(struct ag_rpc_call *call);
/* Called by rpc_call.c when a call is gone. */
void ag_rpc_server_call_gone(struct ag_rpc_server *srv);
/* The entry for a path, or NULL. */
const struct ag_rpc_entry *
ag_rpc_server_find(const struct ag_rpc_server *srv, ag_str_t path);
/* Health and reflection: add them; tell the watchers of health; end them. */
void ag_rpc_builtin_add(struct ag_rpc_server *srv);
void ag_rpc_builtin_changed(struct ag_rpc_server *srv);
void ag_rpc_builtin_stop(struct ag_rpc_server *srv);

#endif
