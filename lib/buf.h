/*
 * A byte buffer that owns its memory and cannot grow beyond `max`.
 *
 * Invariants: n <= cap <= max + 1; when p is not NULL, p[n] is NUL (so
 * ag_buf_cstr works), and the NUL does not count. After a failed append the
 * content is unchanged.
 */
#ifndef LIB_BUF_H
#define LIB_BUF_H

#include "lib/err.h"
#include "lib/str.h"

struct ag_buf {
    char *p;
    size_t n, cap, max;
};

#define AG_BUF_INIT(limit)  \
    {                       \
        NULL, 0, 0, (limit) \
    }

void ag_buf_init(struct ag_buf *b, size_t max);
void ag_buf_release(struct ag_buf *b);
/* Empty it and keep the memory. */
void ag_buf_clear(struct ag_buf *b);

/* Append. Return 0, or -1 with AG_ERR_LIMIT when `max` would be passed. */
int ag_buf_append(struct ag_buf *b, ag_str_t s, struct ag_err *err);
int ag_buf_printf(struct ag_buf *b, struct ag_err *err, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

/* Append, for callers who know that the limit holds: aborts otherwise. */
void ag_buf_add(struct ag_buf *b, ag_str_t s);
void ag_buf_addc(struct ag_buf *b, char c);
void ag_buf_addf(struct ag_buf *b, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));

/* Room for `n` more bytes at p + this->n; the caller then raises n. */
char *ag_buf_reserve(struct ag_buf *b, size_t n, struct ag_err *err);

/* Drop the first `n` bytes (n <= b->n). */
void ag_buf_consume(struct ag_buf *b, size_t n);

static inline ag_str_t
ag_buf_str(const struct ag_buf *b)
{
    return (ag_str_t){b->p, b->n};
}

/* NUL-terminated; "" when empty. Valid until the buffer changes. */
const char *ag_buf_cstr(const struct ag_buf *b);

/* Append lower-case hex, or base64url without padding (RFC 4648, 5). */
void ag_buf_add_hex(struct ag_buf *b, ag_str_t s);
void ag_buf_add_b64url(struct ag_buf *b, ag_str_t s);

/* Decode and append. -1 with AG_ERR_INVALID for anything malformed. */
int ag_buf_append_b64url(struct ag_buf *b, ag_str_t text, struct ag_err *err);
int ag_buf_append_hex(struct ag_buf *b, ag_str_t text, struct ag_err *err);

/* Append as a JSON string with quotes; invalid UTF-8 becomes U+FFFD. */
void ag_buf_add_json(struct ag_buf *b, ag_str_t s);

#endif
