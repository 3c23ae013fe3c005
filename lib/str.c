/*
 * Views of bytes, and the memory functions that abort. Any thread.
 */
#include "lib/str.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

void
ag_assert_failed(const char *what, const char *file, int line)
{
    (void)fprintf(stderr, "assertion failed: %s (%s:%d)\n", what, file, line);
    abort();
}

bool
ag_str_starts(ag_str_t s, ag_str_t prefix)
{
    return s.n >= prefix.n
           && (prefix.n == 0 || memcmp(s.p, prefix.p, prefix.n) == 0);
}

bool
ag_str_ends(ag_str_t s, ag_str_t suffix)
{
    return s.n >= suffix.n
           && (suffix.n == 0
               || memcmp(s.p + s.n - suffix.n, suffix.p, suffix.n) == 0);
}

ptrdiff_t
ag_str_chr(ag_str_t s, char c)
{
    const char *at = s.n == 0 ? NULL : memchr(s.p, c, s.n);

    return at == NULL ? -1 : at - s.p;
}

bool
ag_str_cut(ag_str_t *s, char sep, ag_str_t *head)
{
    ptrdiff_t at;

    if (s->p == NULL)
        return false;
    at = ag_str_chr(*s, sep);
    if (at < 0) {
        *head = *s;
        *s = (ag_str_t){NULL, 0};
        return true;
    }
    *head = ag_str_n(s->p, (size_t)at);
    *s = ag_str_n(s->p + at + 1, s->n - (size_t)at - 1);
    return true;
}

ag_str_t
ag_str_trim(ag_str_t s)
{
    while (s.n > 0 && (s.p[0] == ' ' || s.p[0] == '\t'))
        s.p++, s.n--;
    while (s.n > 0 && (s.p[s.n - 1] == ' ' || s.p[s.n - 1] == '\t'))
        s.n--;
    return s;
}

bool
ag_str_word(ag_str_t *line, ag_str_t *word)
{
    *line = ag_str_trim(*line);
    size_t n = 0;
    while (n < line->n && line->p[n] != ' ' && line->p[n] != '\t')
        n++;
    *word = ag_str_n(line->p, n);
    *line = ag_str_n(line->p + n, line->n - n);
    return n > 0;
}

int
ag_str_i64(ag_str_t s, int64_t *out)
{
    bool is_negative = s.n > 0 && s.p[0] == '-';
    int64_t v = 0;
    size_t i = is_negative;

    if (i == s.n)
        return -1;
    for (; i < s.n; i++) {
        if (s.p[i] < '0' || s.p[i] > '9')
            return -1;
        if (__builtin_mul_overflow(v, 10, &v)
            || __builtin_sub_overflow(v, s.p[i] - '0', &v))
            return -1;
    }
    /* Counted downwards, since -2^63 has no positive twin. */
    if (!is_negative && v == INT64_MIN)
        return -1;
    *out = is_negative ? v : -v;
    return 0;
}

/* Length of the sequence at p, or 0 when it is malformed (RFC 3629). */
static size_t
utf8_sequence(const unsigned char *p, size_t n)
{
    size_t len = p[0] < 0x80                   ? 1
                 : p[0] >= 0xc2 && p[0] < 0xe0 ? 2
                 : (p[0] & 0xf0) == 0xe0       ? 3
                 : p[0] >= 0xf0 && p[0] < 0xf5 ? 4
                                               : 0;

    if (len == 0 || len > n)
        return 0;
    for (size_t i = 1; i < len; i++)
        if ((p[i] & 0xc0) != 0x80)
            return 0;
    if ((p[0] == 0xe0 && p[1] < 0xa0) || (p[0] == 0xed && p[1] >= 0xa0)
        || (p[0] == 0xf0 && p[1] < 0x90) || (p[0] == 0xf4 && p[1] >= 0x90))
        return 0;
    return len;
}

bool
ag_str_is_utf8(ag_str_t s)
{
    const unsigned char *p = (const unsigned char *)s.p;

    for (size_t i = 0, len; i < s.n; i += len) {
        len = utf8_sequence(p + i, s.n - i);
        if (len == 0)
            return false;
    }
    return true;
}

ag_str_t
ag_str_whole_utf8(ag_str_t s)
{
    const unsigned char *p = (const unsigned char *)s.p;

    for (size_t i = 1; i <= 3 && i <= s.n; i++) {
        unsigned char c = p[s.n - i];
        size_t len = c >= 0xf0 ? 4 : c >= 0xe0 ? 3 : 2;

        if ((c & 0xc0) == 0x80) /* within a sequence */
            continue;
        if (c >= 0xc2 && c < 0xf5 && len > i)
            s.n -= i;
        break;
    }
    return s;
}

bool
ag_str_eq_ct(ag_str_t a, ag_str_t b)
{
    unsigned char diff = 0;

    if (a.n != b.n)
        return false;
    for (size_t i = 0; i < a.n; i++)
        diff |= (unsigned char)(a.p[i] ^ b.p[i]);
    return diff == 0;
}

char *
ag_str_dup(ag_str_t s)
{
    char *p = ag_xmalloc(s.n + 1);

    if (s.n > 0)
        memcpy(p, s.p, s.n);
    p[s.n] = '\0';
    return p;
}

void
ag_freep(void *pp)
{
    int sys = errno;
    void *p;

    memcpy(&p, pp, sizeof(p));
    free(p);
    errno = sys;
}

void
ag_closep(int *fd)
{
    int sys = errno;

    if (*fd >= 0)
        (void)close(*fd);
    *fd = -1;
    errno = sys;
}

static void *
checked(void *p)
{
    if (p == NULL) {
        static const char text[] = "out of memory\n";

        (void)!write(2, text, sizeof(text) - 1);
        abort();
    }
    return p;
}

void *
ag_xmalloc(size_t n)
{
    return checked(malloc(n == 0 ? 1 : n));
}

void *
ag_xcalloc(size_t count, size_t size)
{
    return checked(calloc(count == 0 ? 1 : count, size == 0 ? 1 : size));
}

void *
ag_xrealloc(void *p, size_t n)
{
    return checked(realloc(p, n == 0 ? 1 : n));
}
