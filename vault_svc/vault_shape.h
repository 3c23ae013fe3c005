/*
 * Shapes of known credentials (rules.conf), and a guess at whether a value is
 * one of an unknown kind. Pure but for loading; immutable once loaded.
 */
#ifndef VAULT_SHAPE_H
#define VAULT_SHAPE_H

#include "lib/err.h"
#include "lib/str.h"

struct vault_shape {
    char *name, *prefix, *stub_prefix, *hosts; /* hosts: "a,b", or "" */
    size_t min;
};

struct vault_shapes {
    struct vault_shape *v;
    size_t n;
};

enum vault_looks {
    VAULT_LOOKS_PLAIN,
    VAULT_LOOKS_KNOWN,  /* of a shape */
    VAULT_LOOKS_SECRET, /* a secret of an unknown kind */
};

/* AG_ERR_INVALID names line and word. Release in any case. */
int
vault_shapes_parse(ag_str_t text, struct vault_shapes *out, struct ag_err *err);
int vault_shapes_load(const char *path, struct vault_shapes *out,
                      struct ag_err *err);
void vault_shapes_release(struct vault_shapes *shapes);

/* The shape with the longest prefix that fits, or NULL. */
const struct vault_shape *
vault_shape_of(const struct vault_shapes *shapes, ag_str_t value);

/* What an environment variable looks like. */
enum vault_looks vault_shape_looks(const struct vault_shapes *shapes,
                                   ag_str_t name, ag_str_t value);

/*
 * The prefix for stubs of a value: its shape's, if any, unless stub and value
 * would then have the same length (a stub says nothing of the value's length);
 * then none, or "stub_" where there was none.
 */
ag_str_t
vault_shape_stub_prefix(const struct vault_shapes *shapes, ag_str_t value);

#endif
