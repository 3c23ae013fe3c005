/*
 * Identifiers: "<prefix>_" and a time-ordered 128-bit value (48 bits of
 * milliseconds, 80 random bits) as 26 characters of Crockford base 32 in lower
 * case.
 */
#ifndef LIB_ID_H
#define LIB_ID_H

#include "lib/str.h"

/* Longest prefix (5), '_', 26 characters, NUL. */
#define AG_ID_TEXT 33

/* A new identifier, for example ag_id_new("sesn", out). Any thread. */
void ag_id_new(const char *prefix, char out[AG_ID_TEXT]);

/* True when `s` is an identifier with that prefix, in canonical form. */
bool ag_id_is(ag_str_t s, const char *prefix);

#endif
