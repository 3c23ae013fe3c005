/*
 * The details of an error that programs read: google.rpc.Status, for the
 * trailer `grpc-status-details-bin` (AIP-193).
 */
#ifndef LIB_RPC_DETAILS_H
#define LIB_RPC_DETAILS_H

#include "lib/buf.h"
#include "lib/err.h"

/*
 * Append the packed Status with this gRPC code: an ErrorInfo with the kind's
 * name as its reason, and for AG_ERR_INVALID whose message begins with a field
 * ("content[0].text: must be a string") a BadRequest with that violation.
 */
void ag_rpc_details(int code, const struct ag_err *err, struct ag_buf *out);

#endif
