/*
 * The generation file: what the vault tells nginx's workers without being
 * asked. Little-endian, written by vault_svc alone, readable by all; it holds
 * no name, only parts of digests of ids that were made at random.
 */
#ifndef LIB_GENERATION_H
#define LIB_GENERATION_H

#include <stdint.h>

#include "lib/str.h"

#define AG_GENERATION_REVOKED 4096

struct ag_generation {
    /* Moves when anything that was decided may be decided otherwise now. */
    uint64_t counter;
    /* How many were revoked since the file was made, and the last of them:
     * sessions that ended or are frozen, credentials and vaults that are gone.
     * The i-th stands at i % AG_GENERATION_REVOKED. */
    uint64_t n_revoked;
    uint64_t revoked[AG_GENERATION_REVOKED];
};

/* What stands in `revoked` for an id. */
uint64_t ag_generation_digest(ag_str_t id);

#endif
