/*
 * What a value looks like: a credential of a shape in rules.conf, one of an
 * unknown kind, or neither. Pure but for loading; immutable once loaded.
 */
#ifndef VAULT_SHAPE_H
#define VAULT_SHAPE_H

#include "lib/shape.h"

enum vault_looks {
    VAULT_LOOKS_PLAIN,
    VAULT_LOOKS_KNOWN,  /* of a shape */
    VAULT_LOOKS_SECRET, /* a secret of an unknown kind */
};

/* Read the file; AG_ERR_INVALID names line and word. Release in any case. */
int
vault_shapes_load(const char *path, struct ag_shapes *out, struct ag_err *err);

/* The shape with the longest prefix that fits, or NULL. */
const struct ag_shape *
vault_shape_of(const struct ag_shapes *shapes, ag_str_t value);

/* What an environment variable looks like. */
enum vault_looks vault_shape_looks(const struct ag_shapes *shapes,
                                   ag_str_t name, ag_str_t value);

/*
 * The prefix for stubs of a value: its shape's, if any, unless stub and value
 * would then have the same length (a stub says nothing of the value's length);
 * then none, or "stub_" where there was none.
 */
ag_str_t
vault_shape_stub_prefix(const struct ag_shapes *shapes, ag_str_t value);

#endif
