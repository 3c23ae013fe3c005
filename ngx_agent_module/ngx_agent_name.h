/* Names of hosts in the one form that egress knows. Plain C, no nginx. */
#ifndef NGX_AGENT_NAME_H
#define NGX_AGENT_NAME_H

#include <stdbool.h>

#include "lib/str.h"

#define NGX_AGENT_NAME_MAX  253

/* Labels of a-z, 0-9 and inner hyphens, with dots between. */
bool ngx_agent_name_is_canonical(ag_str_t name);

/*
 * "host" or "host:port" -> the host in lower case with its NUL, and the port of
 * 1 to 65535 or 0 when none is written. False when it is none, or the host has
 * no canonical form: then both are untouched.
 */
bool ngx_agent_authority_read(ag_str_t in, char host[NGX_AGENT_NAME_MAX + 1],
                              unsigned *port);

#endif
