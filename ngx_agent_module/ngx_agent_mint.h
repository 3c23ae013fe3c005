/*
 * Strings of a JSON text by their pointer (RFC 6901), as bytes of the text, so
 * that they can be replaced and all else stays as it was written. Plain C, no
 * nginx.
 */
#ifndef NGX_AGENT_MINT_H
#define NGX_AGENT_MINT_H

#include "lib/str.h"

struct ngx_agent_mint_span {
    size_t begin, end;                 /* with the quotes */
};

/* Is it one JSON value, in which no key stands twice? */
bool ngx_agent_mint_is_json(ag_str_t text);

/*
 * Where the string stands that `pointer` leads to; false when there is none,
 * or something else. `text` is_json.
 */
bool ngx_agent_mint_find(ag_str_t text, ag_str_t pointer,
                         struct ngx_agent_mint_span *out);

#endif
