/*
 * The response of a list method, by its descriptor: `data`, messages that have
 * an `id`, and `next_page`, where the next page begins, if there is one.
 */
#ifndef LIB_RPC_PAGE_H
#define LIB_RPC_PAGE_H

#include <protobuf-c/protobuf-c.h>

#include "lib/arena.h"

/*
 * A message of the type `response`, in `arena`, which keeps `data`: n messages,
 * at least one when there are more behind them. `next_page` is then the last
 * one's id.
 */
ProtobufCMessage *
ag_rpc_page(struct ag_arena *arena, const ProtobufCMessageDescriptor *response,
            ProtobufCMessage **data, size_t n, bool has_more);

#endif
