/*
 * Finding stubs and putting values in their place. Plain C, no nginx.
 *
 * A stub is "bbxs" and 32 characters of a-z2-7, with whatever characters of a
 * token ([A-Za-z0-9_-]) stand around it.
 */
#ifndef NGX_AGENT_SWAP_H
#define NGX_AGENT_SWAP_H

#include "lib/buf.h"

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

/* Standard base64 with or without padding, nothing else. */
int ngx_agent_base64_decode(ag_str_t in, struct ag_buf *out,
                            struct ag_err *err);
int ngx_agent_base64_encode(ag_str_t in, struct ag_buf *out,
                            struct ag_err *err);

/* "Basic <base64>", any case: the view of the base64. */
bool ngx_agent_is_basic(ag_str_t value, ag_str_t *credentials);

#endif
