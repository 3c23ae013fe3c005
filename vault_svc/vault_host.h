/*
 * Host names in the one form that policy, bindings and egress compare: A-label
 * (IDNA 2008), lower case, no trailing dot. Pure functions.
 */
#ifndef VAULT_HOST_H
#define VAULT_HOST_H

#include "lib/err.h"
#include "lib/str.h"

#define VAULT_HOST_TEXT 254

struct vault_deployment;

/* "host", "host:port", "*.host", "*.host:port". */
struct vault_host_pattern {
    char host[VAULT_HOST_TEXT]; /* without the "*." */
    bool is_wildcard;
    int port; /* 0: none written */
};

/* Numbers and dots, anything with a colon or bracket, or a last label that a
 * resolver might read as a number (octal, hex). */
bool vault_host_is_address(ag_str_t host);

/* True for a name that is already canonical. */
bool vault_host_is_canonical(ag_str_t host);

/* Bring a name into canonical form. AG_ERR_INVALID says what is wrong. */
int vault_host_canonical(ag_str_t in, char out[VAULT_HOST_TEXT],
                         struct ag_err *err);

/*
 * Parse a pattern. Refused: a wildcard right above a public suffix, a suffix
 * itself, and, unless `deployment` (may be NULL) lists it with that port, an
 * address or a name of this machine or network.
 */
int
vault_host_pattern_parse(ag_str_t in, const struct vault_deployment *deployment,
                         struct vault_host_pattern *out, struct ag_err *err);

/* Does the name fit? One left-most label stands for "*". Ignores the port. */
bool vault_host_pattern_fits(const struct vault_host_pattern *p, ag_str_t host);

#endif
