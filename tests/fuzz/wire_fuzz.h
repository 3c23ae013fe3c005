/*
 * What the fuzz targets of the model's wires share: whatever a gateway streams,
 * the parser says the same whether it comes whole or in pieces, holds no more
 * than it was told to, and counts no tokens below zero.
 */
#ifndef WIRE_FUZZ_H
#define WIRE_FUZZ_H

#include <stdint.h>

#include "brain_svc/brain_wire.h"

#define ANSWER_MAX 4096

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void
check_answer(const struct brain_answer *a)
{
    size_t n = 0, n_calls = 0;

    ag_assert(a->n_blocks <= BRAIN_BLOCKS_MAX && a->n_bytes <= a->max);
    for (size_t i = 0; i < a->n_blocks; i++) {
        n += a->blocks[i].text.n + a->blocks[i].name.n;
        n_calls += a->blocks[i].kind == BRAIN_BLOCK_CALL;
    }
    ag_assert(n <= a->n_bytes && n_calls == a->n_calls);
    ag_assert(a->usage.input >= 0 && a->usage.output >= 0
              && a->usage.cache_read >= 0 && a->usage.cache_write >= 0);
}

static int
feed(const struct brain_wire *wire, struct brain_answer *a,
     const uint8_t *data, size_t size, size_t step)
{
    struct ag_err err = AG_ERR_INIT;

    brain_answer_init(a, ANSWER_MAX, NULL, NULL);
    for (size_t at = 0; at < size; at += step) {
        size_t n = size - at < step ? size - at : step;

        if (brain_wire_feed(wire, a, ag_str_n(data + at, n), &err) < 0) {
            ag_assert(err.kind != AG_ERR_NONE && err.msg[0] != '\0');
            return -1;
        }
    }
    return 0;
}

static int
wire_fuzz(const struct brain_wire *wire, const uint8_t *data, size_t size)
{
    struct brain_answer whole, pieces;

    if (size == 0)
        return 0;
    int first = feed(wire, &whole, data + 1, size - 1, SIZE_MAX / 2);
    int second = feed(wire, &pieces, data + 1, size - 1, data[0] % 16 + 1);

    ag_assert(first == second);
    check_answer(&whole);
    check_answer(&pieces);
    ag_assert(whole.n_blocks == pieces.n_blocks);
    ag_assert(whole.n_bytes == pieces.n_bytes);
    ag_assert(whole.is_done == pieces.is_done);
    ag_assert(whole.finish == pieces.finish);
    brain_answer_release(&whole);
    brain_answer_release(&pieces);
    return 0;
}

#endif
