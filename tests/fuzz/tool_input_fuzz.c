/*
 * Fuzz target of brain_svc/brain_tool_input.c: whatever a model gives to a tool
 * is taken within its bounds, or refused with a reason.
 */
#include <stdint.h>

#include "brain_svc/brain_tool_input.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct ag_err err = AG_ERR_INIT;
    struct brain_event event = {.body =
                                    ag_json_parse(ag_str_n(data, size), &err)};
    struct brain_tool_input in;

    if (event.body == NULL)
        return 0;
    brain_tool_input_init(&in);
    if (brain_tool_input_read(&in, &event, 120, &err) < 0)
        ag_assert(err.kind == AG_ERR_INVALID && err.msg[0] != '\0');
    else if (in.is_execute)
        ag_assert(in.command[0] != '\0' && in.timeout_seconds >= 1
                  && in.timeout_seconds <= BRAIN_EXECUTE_SECONDS_MAX);
    brain_tool_input_release(&in);
    json_decref(event.body);
    return 0;
}
