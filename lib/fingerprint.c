/*
 * The tables of a fingerprint. A window of bytes b0…b15 has the fingerprint
 * rotl(T[b0], 15) ^ rotl(T[b1], 14) ^ … ^ T[b15], where T is drawn by SHA-256
 * from the key; `out` is T turned by the whole window, which takes b0 away
 * after one more turn.
 */
#include "lib/fingerprint.h"

#include "lib/secret.h"

static uint64_t
turn(uint64_t v, int by)
{
    return v << by | v >> (64 - by);
}

void
ag_fingerprint_init(struct ag_fingerprint *f,
                    const unsigned char key[AG_FINGERPRINT_KEY])
{
    static const char domain[] = "brainbox-fingerprint-v1";
    unsigned char msg[AG_FINGERPRINT_KEY + sizeof(domain) + 1], hash[32];

    memcpy(msg, key, AG_FINGERPRINT_KEY);
    memcpy(msg + AG_FINGERPRINT_KEY, domain, sizeof(domain));
    /* A hash gives four words: 64 hashes for 256 bytes. */
    for (int i = 0; i < 64; i++) {
        msg[sizeof(msg) - 1] = (unsigned char)i;
        ag_sha256(ag_str_n(msg, sizeof(msg)), hash);
        for (int k = 0; k < 4; k++) {
            uint64_t w = 0;
            for (int b = 0; b < 8; b++)
                w = w << 8 | hash[8 * k + b];
            f->in[4 * i + k] = w;
            f->out[4 * i + k] = turn(w, AG_FINGERPRINT_WINDOW);
        }
    }
    ag_wipe(msg, sizeof(msg));
    ag_wipe(hash, sizeof(hash));
}

uint64_t
ag_fingerprint_of(const struct ag_fingerprint *f, const void *window)
{
    const unsigned char *p = window;
    uint64_t h = 0;

    for (int i = 0; i < AG_FINGERPRINT_WINDOW; i++)
        h = ag_fingerprint_add(f, h, p[i]);
    return h;
}
