/*
 * The gRPC runtime of a process: one completion queue, one thread that waits
 * on it and hands every event to the loop. Servers and channels are made from
 * it. All functions are called on the loop.
 *
 * Fork before ag_rpc_new: gRPC starts threads.
 */
#ifndef LIB_RPC_H
#define LIB_RPC_H

#include "lib/loop.h"

struct ag_rpc;

struct ag_rpc *ag_rpc_new(struct ag_loop *loop, struct ag_err *err);
/*
 * After every server has stopped and every channel is freed: shuts the queue
 * down, drains it, joins the thread.
 */
void ag_rpc_free(struct ag_rpc *rpc);

#endif
