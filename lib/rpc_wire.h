/* A look at a message before it is unpacked. Pure. */
#ifndef LIB_RPC_WIRE_H
#define LIB_RPC_WIRE_H

#include <protobuf-c/protobuf-c.h>

#include "lib/str.h"

/*
 * The name of the first string field in `bytes`, a message of type `desc`, that
 * holds a NUL; NULL when none does. Unpacked, such a string would end there,
 * and what was checked would not be what was sent. Malformed bytes hold none:
 * they do not unpack.
 */
const char *
ag_rpc_wire_nul(const ProtobufCMessageDescriptor *desc, ag_str_t bytes);

#endif
