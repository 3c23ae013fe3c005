/*
 * What lib/rpc*.c share and nobody else includes: the tag of a completion
 * queue event and conversions between gRPC's and our types.
 */
#ifndef LIB_RPC_INTERNAL_H
#define LIB_RPC_INTERNAL_H

#include <grpc/grpc.h>
#include <grpc/slice.h>
#include <pthread.h>

#include "lib/arena.h"
#include "lib/buf.h"
#include "lib/rpc.h"
#include "lib/rpc_method.h"

/*
 * What an event's tag points to. `prepare` (may be NULL) runs on the queue's
 * thread for events that succeeded and may only decode; `done` runs on the
 * loop. A tag has one event under way at a time.
 */
struct ag_rpc_tag {
    struct ag_task task;
    void (*prepare)(struct ag_rpc_tag *tag);
    void (*done)(struct ag_rpc_tag *tag, bool is_ok);
    bool is_ok;
};

/*
 * TSan sees nothing of the locks in gRPC's library: what the loop did before
 * it gave a tag away happened before what the queue's thread does with it.
 */
#ifdef __SANITIZE_THREAD__
#include <sanitizer/tsan_interface.h>
#define AG_RPC_TAG_GIVE(tag) __tsan_release(tag)
#define AG_RPC_TAG_TAKE(tag) __tsan_acquire(tag)
#else
#define AG_RPC_TAG_GIVE(tag) ((void)(tag))
#define AG_RPC_TAG_TAKE(tag) ((void)(tag))
#endif

struct ag_rpc {
    struct ag_loop *loop;
    grpc_completion_queue *cq;
    pthread_t thread;
};

#define AG_CONTAINER(ptr, type, member) \
    ((type *)((char *)(ptr)-offsetof(type, member)))

static inline ag_str_t
ag_rpc_slice_str(const grpc_slice *s)
{
    return ag_str_n(GRPC_SLICE_START_PTR(*s), GRPC_SLICE_LENGTH(*s));
}

/* Serialized in a buffer that the caller destroys. */
grpc_byte_buffer *ag_rpc_pack(const ProtobufCMessage *msg);
/* All bytes of `bb`, copied to `arena`. False when it cannot be read. */
bool ag_rpc_bytes(grpc_byte_buffer *bb, struct ag_arena *arena, ag_str_t *out);
/* Unpacked into `arena`; NULL when malformed. */
ProtobufCMessage *ag_rpc_unpack(const ProtobufCMessageDescriptor *desc,
                                ag_str_t bytes, struct ag_arena *arena);

/* Starts a batch that must be accepted: a refusal is a bug here. */
void ag_rpc_start(grpc_call *call, const grpc_op *ops, size_t n,
                  struct ag_rpc_tag *tag);

/* A whole file, or NULL with err. The caller frees it. */
char *ag_rpc_read_pem(const char *path, struct ag_err *err);

#endif
