/*
 * One answer of a model, as the wires fill it: blocks in the order in which the
 * model gave them, why it ended, what it used. Pure; no wire knows another.
 */
#ifndef BRAIN_ANSWER_H
#define BRAIN_ANSWER_H

#include "lib/json.h"

#define BRAIN_BLOCKS_MAX 64
#define BRAIN_CALLS_MAX 32

enum brain_block_kind {
    BRAIN_BLOCK_TEXT,
    BRAIN_BLOCK_THINKING,
    BRAIN_BLOCK_CALL,
};

struct brain_block {
    enum brain_block_kind kind;
    int64_t key;        /* the wire's own index of it */
    struct ag_buf text; /* what is said, thought, or a call's arguments */
    struct ag_buf name; /* of a call */
    struct ag_buf signature;
    json_t *raw; /* THINKING: what the wire wants back; NULL for nothing */
};

enum brain_finish {
    BRAIN_FINISH_NONE, /* it did not end */
    BRAIN_FINISH_STOP,
    BRAIN_FINISH_CALLS,
    BRAIN_FINISH_LENGTH,
    BRAIN_FINISH_FILTER, /* a content filter, or the model refused */
};

/*
 * Tokens that do not overlap: `input` is without what was read from or written
 * to a cache. `reasoning` is a part of `output`.
 */
struct brain_usage {
    int64_t input, cache_read, cache_write, output, reasoning;
};

/* More of what is said or thought, in the block with this index. */
typedef void brain_answer_text(void *arg, size_t block,
                               enum brain_block_kind kind, ag_str_t text);

struct brain_answer {
    struct ag_buf line; /* an incomplete line of the stream */
    struct brain_block blocks[BRAIN_BLOCKS_MAX];
    size_t n_blocks, n_calls;
    enum brain_finish finish;
    bool is_done; /* the stream said that nothing follows */
    struct brain_usage usage;
    size_t n_bytes, max; /* of all blocks together */
    brain_answer_text *on_text;
    void *arg;
};

/* `max` bounds the answer as a whole; `on_text` may be NULL. */
void brain_answer_init(struct brain_answer *a, size_t max,
                       brain_answer_text *on_text, void *arg);
void brain_answer_release(struct brain_answer *a);

/* True once something came that a caller may have seen. */
static inline bool
brain_answer_has_begun(const struct brain_answer *a)
{
    return a->n_blocks > 0;
}

/* ---- for the wires ------------------------------------------------------- */

/* A new block at the end. NULL with AG_ERR_CORRUPT when there are too many. */
struct brain_block *
brain_answer_add(struct brain_answer *a, enum brain_block_kind kind,
                 int64_t key, struct ag_err *err);
/* The newest block of this kind and key, or NULL. */
struct brain_block *brain_answer_find(struct brain_answer *a,
                                      enum brain_block_kind kind, int64_t key);
/* The last block when it is of this kind, else a new one. */
struct brain_block *
brain_answer_last(struct brain_answer *a, enum brain_block_kind kind,
                  struct ag_err *err);
/*
 * Append the string member `key` of `obj` to one of a block's buffers, in the
 * bound of the whole answer. Absent is nothing; another type is AG_ERR_CORRUPT.
 */
int brain_answer_put(struct brain_answer *a, struct brain_block *block,
                     struct ag_buf *to, const json_t *obj, const char *key,
                     struct ag_err *err);
/* Keep `raw` (a reference is taken) as what the wire wants back. */
int brain_answer_keep(struct brain_answer *a, struct brain_block *block,
                      const json_t *raw, struct ag_err *err);
/* A count of tokens: absent, negative or absurd leaves *out as it is. */
void brain_answer_count(const json_t *usage, const char *key, int64_t *out);

#endif
