/* The one table between error kinds and gRPC status codes. */
#ifndef LIB_RPC_STATUS_H
#define LIB_RPC_STATUS_H

#include "lib/err.h"

/* A value of grpc_status_code. */
int ag_rpc_status_of(enum ag_err_kind kind);
enum ag_err_kind ag_rpc_status_kind(int grpc_status);

#endif
