/*
 * Finding stubs and putting values in their place. Plain C, no nginx.
 *
 * A stub is "bbxs" and 32 characters of a-z2-7, with whatever characters of a
 * token ([A-Za-z0-9_-]) stand around it.
 */
#ifndef NGX_AGENT_SWAP_H
#define NGX_AGENT_SWAP_H

#include "lib/buf.h"

#define NGX_AGENT_BASIC_MAX  (128 * 1024)  /* decoded Basic credentials */

/* The first stub's token at or behind `from`; false when there is none. */
bool ngx_agent_stub_next(ag_str_t text, size_t from, ag_str_t *token);

/*
 * Is there a stub in what the text becomes when percent escapes, "\uXXXX" and
 * '+' are undone, once or twice? `core` gets the 36 characters.
 */
bool ngx_agent_stub_hidden(ag_str_t text, char core[36]);

/* A scan of a body that comes in pieces; matches may lie across them. */
struct ngx_agent_stub_scan {
    char carry[512];
    size_t n;
    bool is_found;
    char core[36];
};

void ngx_agent_stub_scan_feed(struct ngx_agent_stub_scan *s, ag_str_t piece);

/* Append `text` to `out` with `token` (a view into it) replaced by `value`. */
int ngx_agent_swap_token(ag_str_t text, ag_str_t token, ag_str_t value,
                         struct ag_buf *out, struct ag_err *err);

/* How a value is written where a stub stood. */
enum ngx_agent_escape {
    NGX_AGENT_ESCAPE_NONE,
    NGX_AGENT_ESCAPE_URI,              /* RFC 3986: all but unreserved */
    NGX_AGENT_ESCAPE_FORM,             /* the same with '+' for a space */
    NGX_AGENT_ESCAPE_JSON              /* inside a string */
};

int ngx_agent_swap_escape(enum ngx_agent_escape how, ag_str_t value,
                          struct ag_buf *out, struct ag_err *err);

/* The next "name=value" of a query, with or without its '?'. A name without
 * '=' has an empty value. Views; false at the end. */
bool ngx_agent_param_next(ag_str_t *rest, ag_str_t *name, ag_str_t *value);

/* Could a reader take both names for one? Escapes and case do not count. */
bool ngx_agent_param_same(ag_str_t a, ag_str_t b);

/* Standard base64 with or without padding, nothing else. */
int ngx_agent_base64_decode(ag_str_t in, struct ag_buf *out,
                            struct ag_err *err);
int ngx_agent_base64_encode(ag_str_t in, struct ag_buf *out,
                            struct ag_err *err);

/* "Basic <base64>", any case: the view of the base64. */
bool ngx_agent_is_basic(ag_str_t value, ag_str_t *credentials);

#endif
