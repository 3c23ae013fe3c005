/*
 * Fuzz target of the model's wire: whatever a gateway streams, the parser says
 * the same whether it comes whole or in pieces, holds no more than it was told
 * to, and each call it makes has a name and an id.
 */
#include <stdint.h>

#include "brain_svc/brain_chat.h"

#define ANSWER_MAX 4096

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int
feed(struct brain_chat *c, const uint8_t *data, size_t size, size_t step)
{
    struct ag_err err = AG_ERR_INIT;

    brain_chat_init(c, ANSWER_MAX);
    for (size_t at = 0; at < size; at += step) {
        size_t n = size - at < step ? size - at : step;

        if (brain_chat_feed(c, ag_str_n(data + at, n), &err) < 0) {
            ag_assert(err.kind != AG_ERR_NONE && err.msg[0] != '\0');
            return -1;
        }
    }
    return 0;
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct brain_chat whole, pieces;

    if (size == 0)
        return 0;
    int first = feed(&whole, data + 1, size - 1, SIZE_MAX / 2);
    int second = feed(&pieces, data + 1, size - 1, data[0] % 16 + 1);

    ag_assert(whole.text.n <= ANSWER_MAX);
    ag_assert(whole.n_calls <= BRAIN_CHAT_CALLS_MAX);
    if (first == 0 && second == 0) {
        ag_assert(whole.n_calls == pieces.n_calls);
        ag_assert(whole.is_done == pieces.is_done);
        ag_assert(ag_str_eq(ag_buf_str(&whole.text),
                            ag_buf_str(&pieces.text)));
    }
    ag_assert(first == second);
    brain_chat_release(&whole);
    brain_chat_release(&pieces);
    return 0;
}
