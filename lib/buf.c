/*
 * Growing buffers with a limit, and the text encodings built on them.
 * Any thread, one at a time for a buffer.
 */
#include "lib/buf.h"

#include <stdio.h>
#include <stdlib.h>

void
ag_buf_init(struct ag_buf *b, size_t max)
{
    *b = (struct ag_buf)AG_BUF_INIT(max);
}

void
ag_buf_release(struct ag_buf *b)
{
    free(b->p);
    *b = (struct ag_buf)AG_BUF_INIT(b->max);
}

void
ag_buf_clear(struct ag_buf *b)
{
    b->n = 0;
    if (b->p != NULL)
        b->p[0] = '\0';
}

char *
ag_buf_reserve(struct ag_buf *b, size_t n, struct ag_err *err)
{
    size_t cap;

    if (n > b->max - b->n) {
        ag_err_set(err, AG_ERR_LIMIT, "more than %zu bytes", b->max);
        return NULL;
    }
    if (b->n + n + 1 > b->cap) {
        cap = b->cap < 32 ? 64 : b->cap * 2;
        if (cap < b->n + n + 1)
            cap = b->n + n + 1;
        if (cap > b->max + 1)
            cap = b->max + 1;
        b->p = ag_xrealloc(b->p, cap);
        b->cap = cap;
    }
    return b->p + b->n;
}

int
ag_buf_append(struct ag_buf *b, ag_str_t s, struct ag_err *err)
{
    char *at = ag_buf_reserve(b, s.n, err);

    if (at == NULL)
        return -1;
    if (s.n > 0)
        memcpy(at, s.p, s.n);
    at[s.n] = '\0';
    b->n += s.n;
    return 0;
}

static int
append_va(struct ag_buf *b, struct ag_err *err, const char *fmt, va_list ap)
{
    va_list again;
    char *at;
    int n;

    va_copy(again, ap);
    n = vsnprintf(NULL, 0, fmt, again);
    va_end(again);
    ag_assert(n >= 0);
    at = ag_buf_reserve(b, (size_t)n, err);
    if (at == NULL)
        return -1;
    (void)vsnprintf(at, (size_t)n + 1, fmt, ap);
    b->n += (size_t)n;
    return 0;
}

int
ag_buf_printf(struct ag_buf *b, struct ag_err *err, const char *fmt, ...)
{
    va_list ap;
    int rc;

    va_start(ap, fmt);
    rc = append_va(b, err, fmt, ap);
    va_end(ap);
    return rc;
}

void
ag_buf_add(struct ag_buf *b, ag_str_t s)
{
    struct ag_err err;

    ag_assert(ag_buf_append(b, s, &err) == 0);
}

void
ag_buf_addc(struct ag_buf *b, char c)
{
    ag_buf_add(b, ag_str_n(&c, 1));
}

void
ag_buf_addf(struct ag_buf *b, const char *fmt, ...)
{
    struct ag_err err;
    va_list ap;
    int rc;

    va_start(ap, fmt);
    rc = append_va(b, &err, fmt, ap);
    va_end(ap);
    ag_assert(rc == 0);
}

void
ag_buf_consume(struct ag_buf *b, size_t n)
{
    ag_assert(n <= b->n);
    if (n == 0)
        return;
    memmove(b->p, b->p + n, b->n - n);
    b->n -= n;
    b->p[b->n] = '\0';
}

const char *
ag_buf_cstr(const struct ag_buf *b)
{
    return b->p == NULL ? "" : b->p;
}

void
ag_buf_add_hex(struct ag_buf *b, ag_str_t s)
{
    static const char digits[] = "0123456789abcdef";

    for (size_t i = 0; i < s.n; i++) {
        ag_buf_addc(b, digits[(unsigned char)s.p[i] >> 4]);
        ag_buf_addc(b, digits[(unsigned char)s.p[i] & 15]);
    }
}

static const char b64url[] =
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

void
ag_buf_add_b64url(struct ag_buf *b, ag_str_t s)
{
    const unsigned char *p = (const unsigned char *)s.p;

    for (size_t i = 0; i < s.n; i += 3) {
        size_t left = s.n - i;
        uint32_t v = (uint32_t)p[i] << 16
                     | (left > 1 ? (uint32_t)p[i + 1] << 8 : 0)
                     | (left > 2 ? p[i + 2] : 0);

        for (size_t k = 0; k < (left > 2 ? 4 : left + 1); k++)
            ag_buf_addc(b, b64url[v >> (18 - 6 * k) & 63]);
    }
}

static int
b64url_value(char c)
{
    const char *at = c == '\0' ? NULL : strchr(b64url, c);

    return at == NULL ? -1 : (int)(at - b64url);
}

/* Decode up to 4 characters into `out`; returns the bytes, or -1. */
static int
b64url_group(const char *text, size_t n, unsigned char out[3])
{
    uint32_t v = 0;

    if (n == 1)
        return -1;
    for (size_t k = 0; k < 4; k++) {
        int d = k < n ? b64url_value(text[k]) : 0;

        if (d < 0)
            return -1;
        v = v << 6 | (uint32_t)d;
    }
    out[0] = (unsigned char)(v >> 16);
    out[1] = (unsigned char)(v >> 8);
    out[2] = (unsigned char)v;
    /* Bits that no byte takes must be zero, or two texts mean the same. */
    if ((n == 2 && (v & 0xffff) != 0) || (n == 3 && (v & 0xff) != 0))
        return -1;
    return (int)n - 1;
}

int
ag_buf_append_b64url(struct ag_buf *b, ag_str_t text, struct ag_err *err)
{
    size_t start = b->n;

    for (size_t i = 0; i < text.n; i += 4) {
        size_t left = text.n - i < 4 ? text.n - i : 4;
        unsigned char out[3];
        int n = b64url_group(text.p + i, left, out);

        if (n < 0)
            ag_err_set(err, AG_ERR_INVALID, "not base64url at byte %zu", i);
        if (n < 0 || ag_buf_append(b, ag_str_n(out, (size_t)n), err) < 0) {
            b->n = start;
            return -1;
        }
    }
    return 0;
}

static int
hex_value(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    if (c >= 'A' && c <= 'F')
        return c - 'A' + 10;
    return -1;
}

int
ag_buf_append_hex(struct ag_buf *b, ag_str_t text, struct ag_err *err)
{
    char *at;

    if (text.n % 2 != 0)
        return ag_err_set(err, AG_ERR_INVALID, "odd number of hex digits");
    at = ag_buf_reserve(b, text.n / 2, err);
    if (at == NULL)
        return -1;
    for (size_t i = 0; i < text.n; i += 2) {
        int hi = hex_value(text.p[i]), lo = hex_value(text.p[i + 1]);

        if (hi < 0 || lo < 0)
            return ag_err_set(err, AG_ERR_INVALID, "no hex digit at byte %zu",
                              i);
        at[i / 2] = (char)(hi << 4 | lo);
    }
    b->n += text.n / 2;
    at[text.n / 2] = '\0';
    return 0;
}

/* Escape one byte below 0x80 that JSON does not take as it is. */
static void
add_json_escape(struct ag_buf *b, unsigned char c)
{
    switch (c) {
    case '"':
        ag_buf_add(b, AG_STR("\\\""));
        return;
    case '\\':
        ag_buf_add(b, AG_STR("\\\\"));
        return;
    case '\n':
        ag_buf_add(b, AG_STR("\\n"));
        return;
    case '\r':
        ag_buf_add(b, AG_STR("\\r"));
        return;
    case '\t':
        ag_buf_add(b, AG_STR("\\t"));
        return;
    default:
        ag_buf_addf(b, "\\u%04x", c);
    }
}

/* Bytes of well-formed, unescaped text at the start of `s`. */
static size_t
json_plain_run(ag_str_t s)
{
    size_t n = 0;

    while (n < s.n) {
        unsigned char c = (unsigned char)s.p[n];
        size_t len = 1;

        if (c < 0x20 || c == '"' || c == '\\' || c == 0x7f)
            break;
        if (c >= 0x80) {
            len = c >= 0xf0 ? 4 : c >= 0xe0 ? 3 : 2;
            if (len > s.n - n || !ag_str_is_utf8(ag_str_n(s.p + n, len)))
                break;
        }
        n += len;
    }
    return n;
}

void
ag_buf_add_json(struct ag_buf *b, ag_str_t s)
{
    ag_buf_addc(b, '"');
    while (s.n > 0) {
        size_t run = json_plain_run(s);

        if (run == 0) {
            if ((unsigned char)s.p[0] < 0x80)
                add_json_escape(b, (unsigned char)s.p[0]);
            else
                ag_buf_add(b, AG_STR("\xef\xbf\xbd"));
            run = 1;
        } else {
            ag_buf_add(b, ag_str_n(s.p, run));
        }
        s.p += run;
        s.n -= run;
    }
    ag_buf_addc(b, '"');
}
