/*
 * Fuzz target of lib/json: what is accepted is written and read back as an
 * equal value, and the sorted form of equal values has equal bytes.
 */
#include <stdint.h>

#include "lib/json.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    AG_AUTO(ag_buf_release) struct ag_buf text = AG_BUF_INIT(SIZE_MAX / 4);
    AG_AUTO(ag_buf_release) struct ag_buf one = AG_BUF_INIT(SIZE_MAX / 4);
    AG_AUTO(ag_buf_release) struct ag_buf two = AG_BUF_INIT(SIZE_MAX / 4);
    AG_AUTO(ag_json_decref) json_t *j = NULL, *again = NULL;
    struct ag_err err = AG_ERR_INIT;

    j = ag_json_parse(ag_str_n(data, size), &err);
    if (j == NULL) {
        ag_assert(err.kind == AG_ERR_INVALID && err.msg[0] != '\0');
        return 0;
    }
    ag_assert(ag_json_dump(j, &text, &err) == 0);
    again = ag_json_parse(ag_buf_str(&text), &err);
    ag_assert(again != NULL && json_equal(j, again));
    ag_assert(ag_json_dump_sorted(j, &one, &err) == 0);
    ag_assert(ag_json_dump_sorted(again, &two, &err) == 0);
    ag_assert(ag_str_eq(ag_buf_str(&one), ag_buf_str(&two)));
    return 0;
}
