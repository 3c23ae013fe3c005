/*
 * Error kinds and gRPC status codes: the one table.
 */
#include "lib/rpc_status.h"

#include <grpc/status.h>
#include <stddef.h>

/* The first line of a status is the kind it maps back to. */
static const struct {
    enum ag_err_kind kind;
    int status;
} table[] = {
    {AG_ERR_NONE, GRPC_STATUS_OK},
    {AG_ERR_INVALID, GRPC_STATUS_INVALID_ARGUMENT},
    {AG_ERR_UNAUTHENTICATED, GRPC_STATUS_UNAUTHENTICATED},
    {AG_ERR_DENIED, GRPC_STATUS_PERMISSION_DENIED},
    {AG_ERR_NOT_FOUND, GRPC_STATUS_NOT_FOUND},
    {AG_ERR_EXISTS, GRPC_STATUS_ALREADY_EXISTS},
    {AG_ERR_CONFLICT, GRPC_STATUS_ABORTED},
    {AG_ERR_PRECONDITION, GRPC_STATUS_FAILED_PRECONDITION},
    {AG_ERR_LIMIT, GRPC_STATUS_RESOURCE_EXHAUSTED},
    {AG_ERR_TIMEOUT, GRPC_STATUS_DEADLINE_EXCEEDED},
    {AG_ERR_CANCELLED, GRPC_STATUS_CANCELLED},
    {AG_ERR_UNAVAILABLE, GRPC_STATUS_UNAVAILABLE},
    {AG_ERR_UNIMPLEMENTED, GRPC_STATUS_UNIMPLEMENTED},
    {AG_ERR_CORRUPT, GRPC_STATUS_DATA_LOSS},
    {AG_ERR_INTERNAL, GRPC_STATUS_INTERNAL},
    {AG_ERR_IO, GRPC_STATUS_INTERNAL},
    {AG_ERR_INVALID, GRPC_STATUS_OUT_OF_RANGE},
    {AG_ERR_INTERNAL, GRPC_STATUS_UNKNOWN},
};

int
ag_rpc_status_of(enum ag_err_kind kind)
{
    for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++)
        if (table[i].kind == kind)
            return table[i].status;
    return GRPC_STATUS_INTERNAL;
}

enum ag_err_kind
ag_rpc_status_kind(int grpc_status)
{
    for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++)
        if (table[i].status == grpc_status)
            return table[i].kind;
    return AG_ERR_INTERNAL;
}
