/*
 * Fuzz target of lib/rpc_wire.c: what it passes has, unpacked, no string that is
 * shorter than it was sent.
 */
#include <stdint.h>

#include "lib/rpc_wire.h"
#include "sandbox.pb-c.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const ProtobufCMessageDescriptor *types[] = {
        &agent__sandbox__v1__execute_request__descriptor,
        &agent__sandbox__v1__list_sandboxes_response__descriptor};

    for (size_t i = 0; i < 2; i++) {
        const char *name = ag_rpc_wire_nul(
            types[i], ag_str_n((const char *)data, size));
        ProtobufCMessage *m =
            protobuf_c_message_unpack(types[i], NULL, size, data);
        if (m == NULL)
            continue;
        /* No field that is not there is named. */
        if (name != NULL)
            ag_assert(*name != 0);
        protobuf_c_message_free_unpacked(m, NULL);
    }
    return 0;
}
