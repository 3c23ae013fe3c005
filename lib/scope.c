/*
 * The one table of scopes: ingress, the services and the vault's keys and roles
 * read it. A scope that is added here must be named by a method, or nothing
 * enforces it (tests/unit/ngx_agent_route_test.c).
 */
#include "lib/scope.h"

/* In the order of the bits. `by`: the scopes that together have all that the
 * area has; the unit test compares it with the methods. */
static const struct {
    const char *name;
    unsigned by;
} scopes[AG_SCOPES_N] = {
    {"read", AG_SCOPE_READ},
    {"write", AG_SCOPE_WRITE},
    {"admin", AG_SCOPE_ADMIN},
    {"sessions", AG_SCOPE_READ | AG_SCOPE_WRITE},
    {"vaults", AG_SCOPE_READ | AG_SCOPE_WRITE},
    {"approvals", AG_SCOPE_READ | AG_SCOPE_WRITE},
    {"incidents", AG_SCOPE_READ | AG_SCOPE_ADMIN},
    {"audit", AG_SCOPE_ADMIN},
    {"metrics", AG_SCOPE_ADMIN},
};

unsigned
ag_scope_find(ag_str_t name)
{
    for (int i = 0; i < AG_SCOPES_N; i++)
        if (ag_str_is(name, scopes[i].name))
            return 1u << i;
    return 0;
}

const char *
ag_scope_name(int i)
{
    return scopes[i].name;
}

unsigned
ag_scopes_beyond(unsigned held, unsigned wanted)
{
    unsigned beyond = wanted & ~held;

    for (int i = 0; i < AG_SCOPES_N; i++)
        if ((held & scopes[i].by) == scopes[i].by)
            beyond &= ~(1u << i);
    return beyond;
}

void
ag_scopes_add_text(struct ag_buf *b, unsigned set)
{
    const char *between = "";

    for (int i = 0; i < AG_SCOPES_N; i++) {
        if ((set & 1u << i) == 0)
            continue;
        ag_buf_addf(b, "%s\"%s\"", between, scopes[i].name);
        between = " or ";
    }
}

int
ag_scopes_check(unsigned held, unsigned needed, struct ag_err *err)
{
    AG_AUTO(ag_buf_release) struct ag_buf names = AG_BUF_INIT(256);

    if ((held & needed) != 0)
        return 0;
    ag_scopes_add_text(&names, needed);
    return ag_err_set(err, AG_ERR_DENIED, "the key lacks the scope %s",
                      ag_buf_cstr(&names));
}
