/* Fuzz target of brain_svc/brain_wire_responses.c; see wire_fuzz.h. */
#include "tests/fuzz/wire_fuzz.h"

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    return wire_fuzz(&brain_wire_responses, data, size);
}
