/*
 * Which method of a service a request asks for. The table comes from
 * build/gen/agent_routes.inc, most literal path first, so that the first match
 * is the right one. Called in nginx's access phase; pure, and without nginx.
 */
#include "ngx_agent_module/ngx_agent_route.h"

#include "brain.pb-c.h"
#include "lib/scope.h"
#include "sandbox.pb-c.h"
#include "vault.pb-c.h"

#define AGENT_ROUTE(verb, path, service, grpc, in, out, body, rbody, scopes,   \
                    bound, streams)                                            \
    {#verb, path, NGX_AGENT_##service, grpc, &in, &out, body,                  \
     rbody, scopes, bound, streams},

static const struct ngx_agent_route routes[] = {
#include "agent_routes.inc"
};

#define N_ROUTES (sizeof(routes) / sizeof(routes[0]))

static int
hex_value(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    if (c >= 'A' && c <= 'F')
        return c - 'A' + 10;
    return -1;
}

bool
ngx_agent_percent_decode(ag_str_t s, bool is_query, struct ag_arena *arena,
                         ag_str_t *out)
{
    char *p = ag_arena_alloc(arena, s.n + 1);
    size_t n = 0;

    for (size_t i = 0; i < s.n; i++) {
        char c = s.p[i];
        if (c == '+' && is_query) {
            c = ' ';
        } else if (c == '%') {
            if (s.n - i < 3)
                return false;
            int hi = hex_value(s.p[i + 1]), lo = hex_value(s.p[i + 2]);
            if (hi < 0 || lo < 0)
                return false;
            c = (char)(hi << 4 | lo);
            i += 2;
        }
        p[n++] = c;
    }
    *out = ag_str_n(p, n);
    return true;
}

/* One segment; a parameter takes any that is not empty. */
static bool
segment_matches(ag_str_t want, ag_str_t have, struct ngx_agent_match *m,
                struct ag_arena *arena)
{
    struct ngx_agent_param *param = &m->params[m->n_params];

    if (want.n < 2 || want.p[0] != '{')
        return ag_str_eq(want, have);
    if (have.n == 0 || m->n_params == NGX_AGENT_PARAMS_MAX)
        return false;
    param->name = ag_str_n(want.p + 1, want.n - 2);
    param->is_header = false;
    if (!ngx_agent_percent_decode(have, false, arena, &param->value))
        return false;
    m->n_params++;
    return true;
}

static bool
path_matches(const char *want_path, ag_str_t have, struct ngx_agent_match *m,
             struct ag_arena *arena)
{
    ag_str_t want = ag_str(want_path), w, h;

    m->n_params = 0;
    for (;;) {
        bool more_want = ag_str_cut(&want, '/', &w);
        bool more_have = ag_str_cut(&have, '/', &h);
        if (!more_want || !more_have)
            return more_want == more_have;
        if (!segment_matches(w, h, m, arena))
            return false;
    }
}

int
ngx_agent_route_find(ag_str_t verb, ag_str_t path, struct ngx_agent_match *m,
                     struct ag_arena *arena, struct ag_err *err)
{
    bool is_known = false;

    for (size_t i = 0; i < N_ROUTES; i++) {
        if (!path_matches(routes[i].path, path, m, arena))
            continue;
        is_known = true;
        if (ag_str_is(verb, routes[i].verb)) {
            m->route = &routes[i];
            return 0;
        }
    }
    m->route = NULL;
    if (is_known)
        return ag_err_set(err, AG_ERR_UNIMPLEMENTED,
                          "method %.*s is not allowed here", AG_FMT(verb));
    return ag_err_set(err, AG_ERR_NOT_FOUND, "there is no route %.*s",
                      AG_FMT(path));
}

const char *
ngx_agent_route_allow(ag_str_t path, struct ag_arena *arena)
{
    struct ngx_agent_match m;
    const char *allow = "";

    for (size_t i = 0; i < N_ROUTES; i++)
        if (path_matches(routes[i].path, path, &m, arena))
            allow = ag_arena_printf(arena, "%s%s%s", allow,
                                    *allow ? ", " : "", routes[i].verb);
    return allow;
}

const struct ngx_agent_route *
ngx_agent_route_by_grpc(ag_str_t grpc_path)
{
    for (size_t i = 0; i < N_ROUTES; i++)
        if (ag_str_is(grpc_path, routes[i].grpc_path))
            return &routes[i];
    return NULL;
}

const struct ngx_agent_route *
ngx_agent_route_table(size_t *n)
{
    *n = N_ROUTES;
    return routes;
}
