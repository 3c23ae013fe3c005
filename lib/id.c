/*
 * Identifiers: 48 bits of milliseconds, 80 random bits, Crockford base 32.
 */
#include "lib/id.h"

#include <stdio.h>

#include "lib/clock.h"
#include "lib/secret.h"

static const char alphabet[] = "0123456789abcdefghjkmnpqrstvwxyz";

void
ag_id_new(const char *prefix, char out[AG_ID_TEXT])
{
    uint64_t ms = (uint64_t)(ag_now_us() / 1000);
    unsigned __int128 v = 0;
    unsigned char raw[16];
    size_t n = strlen(prefix);

    ag_assert(n <= 5);
    ag_random(raw + 6, 10);
    for (int i = 0; i < 6; i++)
        raw[i] = (unsigned char)(ms >> (40 - 8 * i));
    for (int i = 0; i < 16; i++)
        v = v << 8 | raw[i];
    memcpy(out, prefix, n);
    out[n++] = '_';
    for (int i = 0; i < 26; i++)
        out[n++] = alphabet[(unsigned)(v >> (125 - 5 * i)) & 31];
    out[n] = '\0';
}

bool
ag_id_is(ag_str_t s, const char *prefix)
{
    size_t n = strlen(prefix);

    if (s.n != n + 27 || memcmp(s.p, prefix, n) != 0 || s.p[n] != '_')
        return false;
    /* 26 characters hold 130 bits: the first one is at most 7. */
    if (s.p[n + 1] > '7')
        return false;
    for (size_t i = n + 1; i < s.n; i++)
        if (s.p[i] == '\0' || strchr(alphabet, s.p[i]) == NULL)
            return false;
    return true;
}
