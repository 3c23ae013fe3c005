/*
 * The streaming wire of /v1/chat/completions: server-sent events in, the
 * answer so far out. Pure; fuzzed by tests/fuzz/chat_fuzz.c.
 *
 * What a stream may hold: `choices[0].delta` with `content` and `tool_calls`
 * keyed by `index` (id and name first, arguments in pieces), `finish_reason`,
 * a last chunk with `choices: []` and `usage`, `[DONE]`; or an `error`.
 */
#ifndef BRAIN_CHAT_H
#define BRAIN_CHAT_H

#include "lib/json.h"

#define BRAIN_CHAT_CALLS_MAX 32

struct brain_chat_call {
    struct ag_buf id, name, arguments;
};

struct brain_chat {
    struct ag_buf line; /* an incomplete line */
    struct ag_buf text; /* content so far */
    struct brain_chat_call calls[BRAIN_CHAT_CALLS_MAX];
    size_t n_calls;
    struct ag_buf finish; /* finish_reason, empty until it came */
    size_t max;
    bool is_done; /* [DONE] came */
    int64_t input_tokens, output_tokens, cached_tokens;
};

/* `max` bounds the answer as a whole. */
void brain_chat_init(struct brain_chat *chat, size_t max);
void brain_chat_release(struct brain_chat *chat);

/*
 * Feed bytes of the body. Returns 0, or -1 with AG_ERR_LIMIT (too long),
 * AG_ERR_CORRUPT (not the wire), AG_ERR_UNAVAILABLE (an error in the stream).
 * New text is what is behind the old length of `text`.
 */
int
brain_chat_feed(struct brain_chat *chat, ag_str_t bytes, struct ag_err *err);

#endif
