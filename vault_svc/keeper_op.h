/* The keeper's operations: one request datagram to one reply datagram. */
#ifndef KEEPER_OP_H
#define KEEPER_OP_H

#include "vault_svc/keeper_key.h"
#include "vault_svc/keeper_msg.h"

/*
 * Append the reply to `out`. What the request got wrong is a status in the
 * reply; -1 with AG_ERR_INVALID only for bytes that are no request at all.
 */
int keeper_op_run(const struct keeper_keys *keys, ag_str_t raw,
                  struct ag_buf *out, struct ag_err *err);

#endif
