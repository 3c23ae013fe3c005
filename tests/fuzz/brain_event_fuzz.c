/*
 * Fuzz target of brain_svc/brain_event_check.c: whatever a caller sends, what
 * is stored has an id, the type that was sent, and dumps to JSON.
 */
#include <stdint.h>

#include "brain_svc/brain_event_check.h"
#include "brain_svc/brain_log.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    AG_AUTO(ag_buf_release) struct ag_buf text = AG_BUF_INIT(SIZE_MAX / 4);
    AG_AUTO(ag_json_decref) json_t *in = NULL, *out = NULL;
    struct ag_err err = AG_ERR_INIT;

    in = ag_json_parse(ag_str_n(data, size), &err);
    if (in == NULL)
        return 0;
    if (brain_event_check(in, &out, &err) < 0) {
        ag_assert(out == NULL && err.msg[0] != '\0');
        return 0;
    }
    ag_assert(ag_id_is(ag_str(brain_event_id(out)), "sevt"));
    ag_assert(json_equal(json_object_get(in, "type"),
                         json_object_get(out, "type")));
    ag_assert(ag_json_dump(out, &text, &err) == 0);
    return 0;
}
