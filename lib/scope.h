/*
 * What a principal may do, as a set of bits. `read`, `write` and `admin` go
 * through everything of a tenant; the others give one area alone, whole. A
 * method names the scopes of which any one is enough
 * (proto/agent/options.proto, agent.scope).
 */
#ifndef LIB_SCOPE_H
#define LIB_SCOPE_H

#include "lib/buf.h"

enum ag_scope {
    AG_SCOPE_READ = 1 << 0,
    AG_SCOPE_WRITE = 1 << 1,
    AG_SCOPE_ADMIN = 1 << 2,
    AG_SCOPE_SESSIONS = 1 << 3,
    AG_SCOPE_VAULTS = 1 << 4,
    AG_SCOPE_APPROVALS = 1 << 5,
    AG_SCOPE_INCIDENTS = 1 << 6,
    AG_SCOPE_AUDIT = 1 << 7,
    AG_SCOPE_METRICS = 1 << 8,
};

enum { AG_SCOPES_N = 9, AG_SCOPES_ALL = (1 << AG_SCOPES_N) - 1 };

/* The bit of a name; 0: there is no such scope. */
unsigned ag_scope_find(ag_str_t name);
/* The name of the i-th bit, i < AG_SCOPES_N. */
const char *ag_scope_name(int i);

/* Those of `wanted` that whoever holds `held` does not have himself: an area is
 * had with the scopes that go through everything in it, too. */
unsigned ag_scopes_beyond(unsigned held, unsigned wanted);

/* 0 when `held` has one of `needed`, which names at least one; else -1 with
 * AG_ERR_DENIED. */
int ag_scopes_check(unsigned held, unsigned needed, struct ag_err *err);

/* Append `"write" or "sessions"`. */
void ag_scopes_add_text(struct ag_buf *b, unsigned scopes);

#endif
