/*
 * Building an answer piece by piece, within its bound. Called by the wires'
 * parsers on the loop; pure.
 */
#include "brain_svc/brain_answer.h"

#define NAME_BYTES_MAX 256
#define TOKENS_MAX 1000000000000

void
brain_answer_init(struct brain_answer *a, size_t max,
                  brain_answer_text *on_text, void *arg)
{
    *a = (struct brain_answer){.max = max, .on_text = on_text, .arg = arg};
    /* One line may hold the whole answer, escaped. */
    ag_buf_init(&a->line, 2 * max + 65536);
}

void
brain_answer_release(struct brain_answer *a)
{
    ag_buf_release(&a->line);
    for (size_t i = 0; i < a->n_blocks; i++) {
        ag_buf_release(&a->blocks[i].text);
        ag_buf_release(&a->blocks[i].name);
        ag_buf_release(&a->blocks[i].signature);
        json_decref(a->blocks[i].raw);
    }
    a->n_blocks = a->n_calls = 0;
}

struct brain_block *
brain_answer_add(struct brain_answer *a, enum brain_block_kind kind,
                 int64_t key, struct ag_err *err)
{
    struct brain_block *b;
    bool is_call = kind == BRAIN_BLOCK_CALL;

    if (a->n_blocks == BRAIN_BLOCKS_MAX
        || (is_call && a->n_calls == BRAIN_CALLS_MAX)) {
        ag_err_set(err, AG_ERR_CORRUPT,
                   "the answer has more than %d blocks or %d tool calls",
                   BRAIN_BLOCKS_MAX, BRAIN_CALLS_MAX);
        return NULL;
    }
    b = &a->blocks[a->n_blocks++];
    *b = (struct brain_block){.kind = kind, .key = key};
    ag_buf_init(&b->text, a->max);
    ag_buf_init(&b->name, NAME_BYTES_MAX);
    ag_buf_init(&b->signature, a->max);
    a->n_calls += is_call;
    return b;
}

struct brain_block *
brain_answer_find(struct brain_answer *a, enum brain_block_kind kind,
                  int64_t key)
{
    for (size_t i = a->n_blocks; i > 0; i--)
        if (a->blocks[i - 1].kind == kind && a->blocks[i - 1].key == key)
            return &a->blocks[i - 1];
    return NULL;
}

struct brain_block *
brain_answer_last(struct brain_answer *a, enum brain_block_kind kind,
                  struct ag_err *err)
{
    if (a->n_blocks > 0 && a->blocks[a->n_blocks - 1].kind == kind)
        return &a->blocks[a->n_blocks - 1];
    return brain_answer_add(a, kind, -1, err);
}

static int
reserve(struct brain_answer *a, size_t n, struct ag_err *err)
{
    if (n > a->max - a->n_bytes)
        return ag_err_set(err, AG_ERR_LIMIT,
                          "the answer is longer than %zu bytes "
                          "(model_answer_bytes)",
                          a->max);
    a->n_bytes += n;
    return 0;
}

int
brain_answer_put(struct brain_answer *a, struct brain_block *block,
                 struct ag_buf *to, const json_t *obj, const char *key,
                 struct ag_err *err)
{
    ag_str_t piece = {NULL, 0};

    if (ag_json_get_str(obj, key, &piece, err) < 0) {
        err->kind = AG_ERR_CORRUPT;
        return -1;
    }
    if (piece.n == 0)
        return 0;
    if (reserve(a, piece.n, err) < 0 || ag_buf_append(to, piece, err) < 0)
        return -1;
    if (to == &block->text && block->kind != BRAIN_BLOCK_CALL
        && a->on_text != NULL)
        a->on_text(a->arg, (size_t)(block - a->blocks), block->kind, piece);
    return 0;
}

int
brain_answer_keep(struct brain_answer *a, struct brain_block *block,
                  const json_t *raw, struct ag_err *err)
{
    AG_AUTO(ag_buf_release) struct ag_buf text = AG_BUF_INIT(a->max);

    if (ag_json_dump(raw, &text, err) < 0 || reserve(a, text.n, err) < 0)
        return -1;
    json_decref(block->raw);
    block->raw = json_incref((json_t *)(uintptr_t)raw);
    return 0;
}

void
brain_answer_count(const json_t *usage, const char *key, int64_t *out)
{
    const json_t *v = json_object_get(usage, key);
    int64_t n = json_integer_value(v);

    if (json_is_integer(v) && n >= 0 && n <= TOKENS_MAX)
        *out = n;
}
