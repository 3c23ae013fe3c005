/*
 * The wires that model endpoints speak, one file each behind one table: how a
 * request is written, and how the events of the streamed answer are read. Pure;
 * each parser is fuzzed by tests/fuzz/wire_<name>_fuzz.c.
 */
#ifndef BRAIN_WIRE_H
#define BRAIN_WIRE_H

#include "brain_svc/brain_answer.h"
#include "brain_svc/brain_prompt.h"

struct brain_wire {
    const char *name;
    const char *path;       /* behind the base URL */
    const char *key_header; /* what stands before the key */
    const char *header;     /* another header line, or NULL */
    /* The request. What does not change comes first, the conversation last. */
    json_t *(*build)(const struct brain_prompt *prompt);
    /* One event of the stream. Kinds of error: as brain_wire_feed. */
    int (*take)(struct brain_answer *answer, const json_t *event,
                struct ag_err *err);
};

extern const struct brain_wire brain_wire_chat, brain_wire_responses,
    brain_wire_messages;

/* "chat", "responses", "messages"; NULL otherwise. */
const struct brain_wire *brain_wire_find(ag_str_t name);

/* Append the request's JSON. AG_ERR_LIMIT when it is longer than `out` may. */
int brain_wire_write(const struct brain_wire *wire,
                     const struct brain_prompt *prompt, struct ag_buf *out,
                     struct ag_err *err);

/*
 * Feed bytes of the streamed body. Returns 0, or -1 with AG_ERR_LIMIT (too
 * long), AG_ERR_CORRUPT (not this wire), AG_ERR_UNAVAILABLE (an error in the
 * stream).
 */
int brain_wire_feed(const struct brain_wire *wire, struct brain_answer *answer,
                    ag_str_t bytes, struct ag_err *err);

/* ---- for the wires ------------------------------------------------------- */

/* AG_ERR_UNAVAILABLE with what a stream's error object says. Returns -1. */
int brain_wire_failed(const json_t *error, struct ag_err *err);

#endif
