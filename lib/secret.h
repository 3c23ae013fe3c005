/*
 * Bytes that must not be seen: wiped on release, kept out of core files and,
 * where the limit allows, out of swap. There is no function that prints one.
 */
#ifndef LIB_SECRET_H
#define LIB_SECRET_H

#include "lib/buf.h"

typedef struct {
    unsigned char *p;
    size_t n;
} ag_secret_t;

#define AG_SECRET_INIT \
    {                  \
        NULL, 0        \
    }

/* A copy of `n` bytes. Aborts without memory. */
ag_secret_t ag_secret_copy(const void *p, size_t n);
/* `n` zero bytes to fill in. */
ag_secret_t ag_secret_new(size_t n);
/* Wipes, frees, leaves {NULL, 0}. */
void ag_secret_release(ag_secret_t *s);
/* Wipe memory that the compiler would otherwise leave (explicit_bzero). */
void ag_wipe(void *p, size_t n);
/* Wipe and release a buffer that held a secret. */
void ag_buf_wipe(struct ag_buf *b);

static inline ag_str_t
ag_secret_view(const ag_secret_t *s)
{
    return (ag_str_t){(const char *)s->p, s->n};
}

/* Random bytes from the kernel; aborts when it has none. */
void ag_random(void *p, size_t n);

/* SHA-256 of `s` into `out[32]`. */
void ag_sha256(ag_str_t s, unsigned char out[32]);
/* The same in lower-case hex, with a NUL. */
void ag_sha256_hex(ag_str_t s, char out[65]);

#endif
