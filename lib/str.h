/*
 * Borrowed views of bytes. A view owns nothing, is not NUL-terminated, and is
 * valid for as long as what it points into. {NULL, 0} is the empty view.
 */
#ifndef LIB_STR_H
#define LIB_STR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

typedef struct {
    const char *p;
    size_t n;
} ag_str_t;

/* For "%.*s": the length is cut at INT_MAX. */
#define AG_FMT(s) (int)((s).n > INT32_MAX ? INT32_MAX : (s).n), (s).p

/* A view of a string literal. */
#define AG_STR(lit) ((ag_str_t){"" lit, sizeof(lit) - 1})

/* Runs `fn(&variable)` when the variable leaves its scope. */
#define AG_AUTO(fn) __attribute__((cleanup(fn)))

/* Hands on the pointer in `*pp` and leaves NULL behind. */
#define ag_take(pp)                          \
    ({                                       \
        __typeof__(*(pp)) ag_take_v = *(pp); \
        *(pp) = NULL;                        \
        ag_take_v;                           \
    })

/* Aborts in every build: for bugs, never for data from outside. */
#define ag_assert(x)                                  \
    do {                                              \
        if (!(x))                                     \
            ag_assert_failed(#x, __FILE__, __LINE__); \
    } while (0)

_Noreturn void ag_assert_failed(const char *what, const char *file, int line);

static inline ag_str_t
ag_str(const char *cstr)
{
    return (ag_str_t){cstr, cstr == NULL ? 0 : strlen(cstr)};
}

static inline ag_str_t
ag_str_n(const void *p, size_t n)
{
    return (ag_str_t){p, n};
}

static inline bool
ag_str_eq(ag_str_t a, ag_str_t b)
{
    return a.n == b.n && (a.n == 0 || memcmp(a.p, b.p, a.n) == 0);
}

static inline bool
ag_str_is(ag_str_t a, const char *cstr)
{
    return ag_str_eq(a, ag_str(cstr));
}

bool ag_str_starts(ag_str_t s, ag_str_t prefix);
bool ag_str_ends(ag_str_t s, ag_str_t suffix);

/* Offset of the first `c`, or -1. */
ptrdiff_t ag_str_chr(ag_str_t s, char c);

/*
 * Take the part of `*s` before the first `sep` into `*head` and leave what is
 * behind it in `*s`; without `sep` the whole is the head and `*s` is empty.
 * Returns false, and does nothing, when `*s` is {NULL, 0}.
 */
bool ag_str_cut(ag_str_t *s, char sep, ag_str_t *head);

/* Without the spaces and tabs at both ends. */
ag_str_t ag_str_trim(ag_str_t s);

/*
 * Take the next word of `*line` (up to a space or tab) into `*word`, an empty
 * view at the end. Returns whether there was one.
 */
bool ag_str_word(ag_str_t *line, ag_str_t *word);

/* Decimal, with an optional '-', nothing else around it. Returns 0 or -1. */
int ag_str_i64(ag_str_t s, int64_t *out);

/* True for well-formed UTF-8 (RFC 3629: no surrogates, no overlong forms). */
bool ag_str_is_utf8(ag_str_t s);

/* Without a UTF-8 sequence at its end of which bytes are still to come: at most
 * three bytes shorter. Bytes that begin nothing stay. */
ag_str_t ag_str_whole_utf8(ag_str_t s);

/* Equal, in time that depends on the lengths only. */
bool ag_str_eq_ct(ag_str_t a, ag_str_t b);

/* A malloc'd NUL-terminated copy; the caller frees it. Aborts without memory.
 */
char *ag_str_dup(ag_str_t s);

/* free(*pp), for AG_AUTO on char * and other malloc'd pointers. */
void ag_freep(void *pp);

/* close(*fd) unless negative, keeping errno, for AG_AUTO on descriptors. */
void ag_closep(int *fd);

/* As malloc, calloc and realloc, but abort without memory. */
void *ag_xmalloc(size_t n);
void *ag_xcalloc(size_t count, size_t size);
void *ag_xrealloc(void *p, size_t n);

#endif
