/*
 * Checks of what callers send, and the small conversions between rows,
 * messages and JSON. Errors name the field.
 */
#ifndef BRAIN_CHECK_H
#define BRAIN_CHECK_H

#include "brain_svc/brain.h"

/* 1..256 bytes of UTF-8 without control characters. */
int brain_check_name(const char *field, const char *value, struct ag_err *err);
/* NULL is an optional field that is absent. */
int brain_check_text(const char *field, const char *value, size_t max,
                     struct ag_err *err);
/* A JSON value of `bytes` that must be an object, an array; absent is `def`.
 * The text lives in `arena`. */
int brain_check_object(const char *field, ProtobufCBinaryData bytes,
                       const char *def, struct ag_arena *arena, ag_str_t *out,
                       struct ag_err *err);
int
brain_check_array(const char *field, ProtobufCBinaryData bytes, const char *def,
                  struct ag_arena *arena, ag_str_t *out, struct ag_err *err);
/*
 * `metadata`: at most 16 pairs, keys up to 64 and string values up to 512
 * bytes. `*parsed` gets the object (the caller releases it).
 */
int brain_check_metadata(ProtobufCBinaryData bytes, struct ag_arena *arena,
                         ag_str_t *out, json_t **parsed, struct ag_err *err);
/* Identifier with a prefix: "agent_id: …". */
int brain_check_id(const char *field, const char *value, const char *prefix,
                   struct ag_err *err);
/* 1..100, 0 is 20. */
int brain_check_limit(int32_t limit, int *out, struct ag_err *err);

/* A message's view of a bytes field, and back. */
static inline ag_str_t
brain_bytes(ProtobufCBinaryData b)
{
    return ag_str_n(b.data, b.len);
}

static inline ProtobufCBinaryData
brain_data(ag_str_t s)
{
    return (ProtobufCBinaryData){s.n, (uint8_t *)(uintptr_t)s.p};
}

/* Cells of a row as message fields, copied to the arena. */
char *brain_cell(const struct ag_db_result *res, int row, int col,
                 struct ag_arena *arena);
ProtobufCBinaryData brain_cell_json(const struct ag_db_result *res, int row,
                                    int col, struct ag_arena *arena);
/* A text[] cell that the query turned into JSON. */
char **brain_cell_list(const struct ag_db_result *res, int row, int col,
                       struct ag_arena *arena, size_t *n);

/* Fills one message, zeroed before, from one row. */
typedef void brain_fill(void *message, const struct ag_db_result *res, int row,
                        struct ag_arena *arena);
/* An SQL expression: timestamptz column as RFC 3339 text. */
#define BRAIN_TIME(col) \
    "to_char(" col " AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"')"

/* A parameter of type text[] as a JSON array text, for
 * `ARRAY(SELECT json_array_elements_text($n::json))`. */
ag_str_t brain_json_list(char **items, size_t n, struct ag_arena *arena);

#endif
