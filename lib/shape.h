/*
 * The rule set: shapes of credentials that are known, as data. The vault binds
 * values by them, and egress looks for them in what goes out. Lines:
 *
 *   shape NAME prefix=TEXT min=N hosts=HOST[,HOST…] [stub=TEXT] [SEARCH…]
 *   shape NAME SEARCH…
 *
 * where SEARCH is pattern=REGEX (PCRE2 syntax without spaces, see
 * ngx_agent_rules.h), entropy=BITS (of a character of what matched, at least;
 * up to 8, one decimal) and only=log (never more than a line in the log).
 */
#ifndef LIB_SHAPE_H
#define LIB_SHAPE_H

#include "lib/err.h"
#include "lib/str.h"

#define AG_SHAPES_MAX 256

/* NUL-terminated; NULL where the line does not say. */
struct ag_shape {
    char *name;
    char *prefix, *stub_prefix, *hosts; /* hosts: "a,b", or "" */
    size_t min;                         /* bytes, with the prefix */
    char *pattern;
    unsigned entropy_tenths; /* of a bit */
    bool only_logs;
};

struct ag_shapes {
    struct ag_shape *v;
    size_t n;
};

/* AG_ERR_INVALID names line and word. Release in any case. */
int ag_shapes_parse(ag_str_t text, struct ag_shapes *out, struct ag_err *err);
void ag_shapes_release(struct ag_shapes *shapes);

#endif
