/*
 * JSON on jansson, with duplicate keys rejected and a bound on depth.
 *
 * json_t values are reference-counted by jansson; ag_json_decref is for
 * AG_AUTO. All text is UTF-8.
 */
#ifndef LIB_JSON_H
#define LIB_JSON_H

#include <jansson.h>

#include "lib/buf.h"

#define AG_JSON_DEPTH_MAX 64

/* json_decref(*j), for AG_AUTO on json_t *. */
void ag_json_decref(json_t **j);

/*
 * Parse one JSON value with nothing behind it. Refuses duplicate keys, NUL in
 * strings is kept, and nesting deeper than AG_JSON_DEPTH_MAX is AG_ERR_INVALID
 * with line and column in the message.
 */
json_t *ag_json_parse(ag_str_t text, struct ag_err *err);

/* Compact, keys in the order of the object. Appends to `out`. */
int ag_json_dump(const json_t *j, struct ag_buf *out, struct ag_err *err);
/* The same with keys sorted: equal values give equal bytes. */
int
ag_json_dump_sorted(const json_t *j, struct ag_buf *out, struct ag_err *err);

/*
 * Members of an object, by type. `get` forms return the default when the key
 * is absent or null; a value of another type is AG_ERR_INVALID naming the key.
 */
int ag_json_get_str(const json_t *obj, const char *key, ag_str_t *out,
                    struct ag_err *err);
int ag_json_get_i64(const json_t *obj, const char *key, int64_t *out,
                    struct ag_err *err);
int ag_json_get_bool(const json_t *obj, const char *key, bool *out,
                     struct ag_err *err);

/* String value as a view that lives as long as `j`; {NULL, 0} otherwise. */
ag_str_t ag_json_str(const json_t *j);
/* The same of a member; {NULL, 0} also when `obj` is no object. */
ag_str_t ag_json_member(const json_t *obj, const char *key);
/* A JSON string from a view; invalid UTF-8 becomes U+FFFD. Never NULL. */
json_t *ag_json_from_str(ag_str_t s);

#endif
