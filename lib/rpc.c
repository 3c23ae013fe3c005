/*
 * The gRPC runtime of a process: completion queue, its thread, conversions.
 * The thread decodes and hands over to the loop, whose turn it takes when that
 * is free; it owns nothing else.
 */
#include "lib/rpc_internal.h"

#include <grpc/byte_buffer_reader.h>
#include <grpc/support/log.h>
#include <grpc/support/time.h>
#include <stdio.h>
#include <stdlib.h>

#include "lib/log.h"

#define PEM_MAX_BYTES (1024 * 1024)

static void
run_tag(struct ag_task *task)
{
    struct ag_rpc_tag *tag = AG_CONTAINER(task, struct ag_rpc_tag, task);

    tag->done(tag, tag->is_ok);
}

static void *
queue_thread(void *arg)
{
    struct ag_rpc *rpc = arg;

    for (;;) {
        grpc_event ev = grpc_completion_queue_next(
            rpc->cq, gpr_inf_future(GPR_CLOCK_REALTIME), NULL);
        struct ag_rpc_tag *tag = ev.tag;

        if (ev.type == GRPC_QUEUE_SHUTDOWN)
            break;
        AG_RPC_TAG_TAKE(tag);
        tag->is_ok = ev.success != 0;
        if (tag->is_ok && tag->prepare != NULL)
            tag->prepare(tag);
        tag->task.fn = run_tag;
        ag_loop_post(rpc->loop, &tag->task);
    }
    return NULL;
}

/* gRPC's own lines become ours. */
static void
log_of_grpc(gpr_log_func_args *args)
{
    ag_log(args->severity == GPR_LOG_SEVERITY_ERROR ? AG_WARN : AG_DEBUG,
           "grpc.logged", AG_S("message", args->message));
}

struct ag_rpc *
ag_rpc_new(struct ag_loop *loop, struct ag_err *err)
{
    struct ag_rpc *rpc = ag_xcalloc(1, sizeof(*rpc));

    gpr_set_log_function(log_of_grpc);
    /* A connection that waits keeps what it was given to read into: no whole
     * chunks of 8 kB, but as much as it read lately (READ_BYTES at first). */
    (void)setenv("GRPC_EXPERIMENTS", "-tcp_read_chunks", 0);
    grpc_init();
    rpc->loop = loop;
    rpc->cq = grpc_completion_queue_create_for_next(NULL);
    if (pthread_create(&rpc->thread, NULL, queue_thread, rpc) != 0) {
        ag_err_set(err, AG_ERR_IO, "cannot start the completion-queue thread");
        grpc_completion_queue_destroy(rpc->cq);
        free(rpc);
        return NULL;
    }
    return rpc;
}

void
ag_rpc_free(struct ag_rpc *rpc)
{
    if (rpc == NULL)
        return;
    grpc_completion_queue_shutdown(rpc->cq);
    (void)pthread_join(rpc->thread, NULL);
    grpc_completion_queue_destroy(rpc->cq);
    free(rpc);
    grpc_shutdown();
}

grpc_byte_buffer *
ag_rpc_pack(const ProtobufCMessage *msg)
{
    size_t n = protobuf_c_message_get_packed_size(msg);
    grpc_slice slice = grpc_slice_malloc(n);
    grpc_byte_buffer *bb;

    protobuf_c_message_pack(msg, GRPC_SLICE_START_PTR(slice));
    bb = grpc_raw_byte_buffer_create(&slice, 1);
    grpc_slice_unref(slice);
    return bb;
}

bool
ag_rpc_bytes(grpc_byte_buffer *bb, struct ag_arena *arena, ag_str_t *out)
{
    grpc_byte_buffer_reader reader;
    grpc_slice all;

    if (bb == NULL || !grpc_byte_buffer_reader_init(&reader, bb))
        return false;
    all = grpc_byte_buffer_reader_readall(&reader);
    *out = ag_arena_copy(arena, ag_rpc_slice_str(&all));
    grpc_slice_unref(all);
    grpc_byte_buffer_reader_destroy(&reader);
    return true;
}

static void *
arena_alloc(void *arena, size_t n)
{
    return ag_arena_alloc(arena, n);
}

static void
arena_free(void *arena, void *p)
{
    (void)arena;
    (void)p;
}

ProtobufCMessage *
ag_rpc_unpack(const ProtobufCMessageDescriptor *desc, ag_str_t bytes,
              struct ag_arena *arena)
{
    ProtobufCAllocator from_arena = {arena_alloc, arena_free, arena};

    return protobuf_c_message_unpack(desc, &from_arena, bytes.n,
                                     (const uint8_t *)bytes.p);
}

void
ag_rpc_start(grpc_call *call, const grpc_op *ops, size_t n,
             struct ag_rpc_tag *tag)
{
    AG_RPC_TAG_GIVE(tag);
    ag_assert(grpc_call_start_batch(call, ops, n, tag, NULL) == GRPC_CALL_OK);
}

char *
ag_rpc_read_pem(const char *path, struct ag_err *err)
{
    FILE *f = fopen(path, "re");
    char *text;
    size_t n;

    if (f == NULL) {
        ag_err_sys(err, "%s", path);
        return NULL;
    }
    text = ag_xmalloc(PEM_MAX_BYTES + 1);
    n = fread(text, 1, PEM_MAX_BYTES, f);
    (void)fclose(f);
    text[n] = '\0';
    return text;
}
