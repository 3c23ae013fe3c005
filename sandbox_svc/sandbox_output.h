/*
 * One stream of a command: its head and tail in memory, and the whole of it in
 * a file once it is longer than both.
 *
 * Invariants: the head holds the first `half` bytes, the ring the last `half`
 * behind them; while total <= 2 * half nothing is missing and there is no
 * file.
 */
#ifndef SANDBOX_SVC_SANDBOX_OUTPUT_H
#define SANDBOX_SVC_SANDBOX_OUTPUT_H

#include "lib/buf.h"

struct sandbox_output {
    size_t half;
    char *head, *ring;
    size_t head_n, ring_at;
    int64_t total;
    /* Where the file goes; the name is kept by the caller. */
    int dir;
    const char *name;
    int file;
    bool has_file;
};

/* Keep `limit` bytes (at least 2). `dir` -1: no file. */
void sandbox_output_init(struct sandbox_output *o, size_t limit, int dir,
                         const char *name);
void sandbox_output_release(struct sandbox_output *o);

/* What the command wrote. An error of the file ends the file, not the call. */
void sandbox_output_add(struct sandbox_output *o, ag_str_t data);

static inline bool
sandbox_output_is_truncated(const struct sandbox_output *o)
{
    return o->total > (int64_t)(2 * o->half);
}

/* Room that sandbox_output_text needs beside the limit. */
#define SANDBOX_OUTPUT_MARK 64
/* Append head, a line that says how much is left out, and tail. */
void sandbox_output_text(const struct sandbox_output *o, struct ag_buf *out);

#endif
