/* Unit tests of ngx_agent_module/ngx_agent_route.c. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "lib/scope.h"
#include "ngx_agent_module/ngx_agent_route.h"

enum { WHOLE = AG_SCOPE_READ | AG_SCOPE_WRITE | AG_SCOPE_ADMIN };

static struct ag_arena *arena;
static struct ngx_agent_match m;
static struct ag_err err;

static int
find(const char *verb, const char *path)
{
    return ngx_agent_route_find(ag_str(verb), ag_str(path), &m, arena, &err);
}

static void
route_finds_the_method_of_a_path(void **state)
{
    (void)state;
    assert_int_equal(find("POST", "/v1/sessions"), 0);
    assert_string_equal(m.route->grpc_path,
                        "/agent.brain.v1.SessionService/CreateSession");
    assert_true(m.route->is_bound);
    assert_int_equal(m.route->service, NGX_AGENT_BRAIN);
    assert_int_equal(find("GET", "/v1/vaults"), 0);
    assert_int_equal(m.route->service, NGX_AGENT_VAULT);
    assert_false(m.route->is_bound);
    assert_int_equal(find("GET", "/v1/sessions/s/events/stream"), 0);
    assert_true(m.route->streams);
}

static void
route_decodes_parameters(void **state)
{
    (void)state;
    assert_int_equal(find("GET", "/v1/vaults/vlt%5F1/credentials/%2e%2E%2fx"),
                     0);
    assert_int_equal(m.n_params, 2);
    assert_true(ag_str_is(m.params[0].name, "vault_id"));
    assert_true(ag_str_is(m.params[0].value, "vlt_1"));
    assert_true(ag_str_is(m.params[1].name, "credential_id"));
    assert_true(ag_str_is(m.params[1].value, "../x"));
}

static void
route_knows_no_path_that_only_looks_alike(void **state)
{
    static const char *const paths[] = {
        "",
        "/",
        "/v1",
        "/v1/agents/",
        "/v1//agents",
        "v1/agents",
        "/V1/agents",
        "/v1/agents/a/b",
        "/v1/agents/%zz",
        "/v1/agents/%4",
        "/v1/agents?x",
        "//v1/agents",
    };

    (void)state;
    for (size_t i = 0; i < sizeof(paths) / sizeof(paths[0]); i++) {
        assert_int_equal(find("GET", paths[i]), -1);
        assert_int_equal(err.kind, AG_ERR_NOT_FOUND);
        assert_null(m.route);
    }
}

static void
route_tells_the_verbs_of_a_path(void **state)
{
    (void)state;
    assert_int_equal(find("PATCH", "/v1/environments/env_1"), -1);
    assert_int_equal(err.kind, AG_ERR_UNIMPLEMENTED);
    assert_string_equal(
        ngx_agent_route_allow(AG_STR("/v1/environments/env_1"), arena),
        "GET, POST, DELETE");
    assert_string_equal(ngx_agent_route_allow(AG_STR("/v1/x"), arena), "");
}

static void
route_is_found_by_its_grpc_path(void **state)
{
    (void)state;
    assert_non_null(ngx_agent_route_by_grpc(
        AG_STR("/agent.brain.v1.AgentService/GetAgent")));
    assert_null(ngx_agent_route_by_grpc(
        AG_STR("/agent.vault.v1.IdentityService/Resolve")));
    assert_null(ngx_agent_route_by_grpc(
        AG_STR("/agent.vault.v1.GrantService/PutGrant")));
    assert_null(ngx_agent_route_by_grpc(AG_STR("")));
}

/* The module handles these forms only: a new one has to be built first. */
static void
route_table_uses_only_what_the_module_does(void **state)
{
    const struct ngx_agent_route *routes;
    size_t n;

    (void)state;
    routes = ngx_agent_route_table(&n);
    assert_true(n > 30);
    for (size_t i = 0; i < n; i++) {
        const struct ngx_agent_route *r = &routes[i];
        assert_true(strcmp(r->body, "") == 0 || strcmp(r->body, "*") == 0);
        if (*r->response_body != '\0') {
            const ProtobufCFieldDescriptor *f =
                protobuf_c_message_descriptor_get_field_by_name(
                    r->output, r->response_body);
            assert_non_null(f);
            assert_int_equal(f->type, PROTOBUF_C_TYPE_STRING);
        }
        assert_true((r->scopes & ~(unsigned)AG_SCOPES_ALL) == 0);
        assert_true((r->scopes & WHOLE) != 0);
        if (r->streams)
            assert_string_equal(r->output->short_name, "StreamEventsResponse");
    }
}

/* A scope of an area has what its methods ask, and nothing enforces one that no
 * method names; who has all that they ask can give it. */
static void
route_areas_are_had_by_the_scopes_of_their_methods(void **state)
{
    const struct ngx_agent_route *routes;
    size_t n;

    (void)state;
    routes = ngx_agent_route_table(&n);
    for (unsigned area = AG_SCOPE_SESSIONS; area < AG_SCOPES_ALL; area <<= 1) {
        unsigned held = 0;
        for (size_t i = 0; i < n; i++)
            if ((routes[i].scopes & area) != 0)
                held |= routes[i].scopes & WHOLE;
        assert_true(held != 0);
        assert_int_equal(ag_scopes_beyond(held, area), 0);
        for (unsigned one = 1; one <= AG_SCOPE_ADMIN; one <<= 1)
            if ((held & one) != 0)
                assert_int_equal(ag_scopes_beyond(WHOLE & ~one, area), area);
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(route_finds_the_method_of_a_path),
        cmocka_unit_test(route_decodes_parameters),
        cmocka_unit_test(route_knows_no_path_that_only_looks_alike),
        cmocka_unit_test(route_tells_the_verbs_of_a_path),
        cmocka_unit_test(route_is_found_by_its_grpc_path),
        cmocka_unit_test(route_table_uses_only_what_the_module_does),
        cmocka_unit_test(route_areas_are_had_by_the_scopes_of_their_methods),
    };

    arena = ag_arena_new();
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    ag_arena_free(arena);
    return failed;
}
