/*
 * Arena: chunks of growing size, freed together.
 */
#include "lib/arena.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#define CHUNK_MIN 1024
#define CHUNK_MAX (256 * 1024)
#define ALIGN _Alignof(max_align_t)

struct chunk {
    struct chunk *next;
    size_t used, size;
    _Alignas(max_align_t) char data[];
};

struct ag_arena {
    struct chunk *head;
};

struct ag_arena *
ag_arena_new(void)
{
    return ag_xcalloc(1, sizeof(struct ag_arena));
}

void
ag_arena_free(struct ag_arena *a)
{
    if (a == NULL)
        return;
    for (struct chunk *c = a->head, *next; c != NULL; c = next) {
        next = c->next;
        free(c);
    }
    free(a);
}

void
ag_arena_freep(struct ag_arena **a)
{
    ag_arena_free(*a);
    *a = NULL;
}

static struct chunk *
chunk_for(struct ag_arena *a, size_t n)
{
    size_t size = a->head == NULL ? CHUNK_MIN : a->head->size * 2;
    struct chunk *c;

    if (size > CHUNK_MAX)
        size = CHUNK_MAX;
    if (size < n)
        size = n;
    c = ag_xmalloc(sizeof(*c) + size);
    c->next = a->head;
    c->used = 0;
    c->size = size;
    a->head = c;
    return c;
}

void *
ag_arena_alloc(struct ag_arena *a, size_t n)
{
    struct chunk *c = a->head;
    void *p;

    ag_assert(n < SIZE_MAX - 2 * ALIGN);
    n = (n + ALIGN - 1) / ALIGN * ALIGN;
    if (c == NULL || c->size - c->used < n)
        c = chunk_for(a, n);
    p = c->data + c->used;
    c->used += n;
    return memset(p, 0, n);
}

char *
ag_arena_cstr(struct ag_arena *a, ag_str_t s)
{
    char *p = ag_arena_alloc(a, s.n + 1);

    if (s.n > 0)
        memcpy(p, s.p, s.n);
    return p;
}

ag_str_t
ag_arena_copy(struct ag_arena *a, ag_str_t s)
{
    return ag_str_n(ag_arena_cstr(a, s), s.n);
}

char *
ag_arena_printf(struct ag_arena *a, const char *fmt, ...)
{
    va_list ap, again;
    char *p;
    int n;

    va_start(ap, fmt);
    va_copy(again, ap);
    n = vsnprintf(NULL, 0, fmt, again);
    va_end(again);
    ag_assert(n >= 0);
    p = ag_arena_alloc(a, (size_t)n + 1);
    (void)vsnprintf(p, (size_t)n + 1, fmt, ap);
    va_end(ap);
    return p;
}
