/*
 * Keyed 64-bit fingerprints of 16-byte windows, for finding a known value in a
 * stream without holding the value: whoever searches has key and fingerprints
 * alone. A hash by cyclic polynomials over tables that the key decides, so it
 * rolls on by a byte for three operations, and nobody without the key can make
 * two windows meet or tell one from its fingerprint. Two given windows meet
 * with a probability of at most 2^-49: a hit is confirmed, never believed.
 * Pure, any thread.
 */
#ifndef LIB_FINGERPRINT_H
#define LIB_FINGERPRINT_H

#include <stdint.h>

#include "lib/str.h"

enum { AG_FINGERPRINT_WINDOW = 16, AG_FINGERPRINT_KEY = 32 };

/* 4 KiB, as secret as the key; ag_wipe when it is done with. */
struct ag_fingerprint {
    uint64_t in[256], out[256];
};

void ag_fingerprint_init(struct ag_fingerprint *f,
                         const unsigned char key[AG_FINGERPRINT_KEY]);

/* Of AG_FINGERPRINT_WINDOW bytes at `window`. */
uint64_t ag_fingerprint_of(const struct ag_fingerprint *f, const void *window);

/*
 * The window moves on by one byte: `gone` was its first, `come` is its new
 * last. To begin with, roll AG_FINGERPRINT_WINDOW bytes in from 0 with
 * ag_fingerprint_add; what is rolled out must be what was rolled in, so a
 * search over buffers keeps the last AG_FINGERPRINT_WINDOW bytes of each.
 */
static inline uint64_t
ag_fingerprint_add(const struct ag_fingerprint *f, uint64_t h,
                   unsigned char come)
{
    return (h << 1 | h >> 63) ^ f->in[come];
}

static inline uint64_t
ag_fingerprint_roll(const struct ag_fingerprint *f, uint64_t h,
                    unsigned char gone, unsigned char come)
{
    return (h << 1 | h >> 63) ^ f->out[gone] ^ f->in[come];
}

#endif
