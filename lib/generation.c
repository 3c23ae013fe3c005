/* Digests of the generation file. Pure functions. */
#include "lib/generation.h"

#include "lib/secret.h"

uint64_t
ag_generation_digest(ag_str_t id)
{
    unsigned char sha[32];
    uint64_t out;

    ag_sha256(id, sha);
    memcpy(&out, sha, sizeof(out));
    return out;
}
