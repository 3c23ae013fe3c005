/*
 * Memory that is freed all at once: one arena lives as long as one call.
 * Not thread-safe; handed from thread to thread as a whole.
 */
#ifndef LIB_ARENA_H
#define LIB_ARENA_H

#include "lib/str.h"

struct ag_arena;

struct ag_arena *ag_arena_new(void);
/* Frees everything that was allocated. NULL is a no-op. */
void ag_arena_free(struct ag_arena *a);
void ag_arena_freep(struct ag_arena **a);

/* Zeroed, aligned for any type; never NULL. */
void *ag_arena_alloc(struct ag_arena *a, size_t n);
/* A copy; the char form is NUL-terminated. */
ag_str_t ag_arena_copy(struct ag_arena *a, ag_str_t s);
char *ag_arena_cstr(struct ag_arena *a, ag_str_t s);
char *ag_arena_printf(struct ag_arena *a, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));

#endif
