/* The decision, row by row: what is asked, and what must come of it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "vault_svc/vault_authorize.h"
#include "vault_svc/vault_deployment.h"

#define S_API "bbxsaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
#define S_NARROW "bbxsbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"
#define S_MODEL "bbxscccccccccccccccccccccccccccccccc"
#define S_WILD "bbxsdddddddddddddddddddddddddddddddd"
#define S_NONE "bbxszzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzz"

#define S_ODD "bbxseeeeeeeeeeeeeeeeeeeeeeeeeeeeeeee"

enum { HELD = 5 };
enum who { BOX, JAIL, BRAIN, NOBODY, ENDED, FROZEN };

static const struct row {
    const char *reason;
    int status; /* 0: allowed */
    enum who who;
    const char *scheme, *host;
    int port;
    const char *method, *path;
    enum vault_slot slot;
    const char *name, *stub;
    enum vault_stub_owner owner;
} rows[] = {
    {"allowed", 0, BOX, "https", "api.example.com", 443, "GET", "/",
     VAULT_SLOT_HEADER, "authorization", S_API, VAULT_STUB_NOBODYS},
    {"allowed", 0, JAIL, "https", "api.example.com", 443, "GET", "/",
     VAULT_SLOT_HEADER, "authorization", S_API, VAULT_STUB_NOBODYS},
    {"allowed", 0, BOX, "https", "api.example.com", 443, "POST", "/x",
     VAULT_SLOT_BASIC, "password", S_API, VAULT_STUB_NOBODYS},
    {"allowed", 0, BOX, "https", "free.example.com", 443, "GET", "/",
     VAULT_SLOT_NONE, "", NULL, VAULT_STUB_NOBODYS},
    {"allowed", 0, BOX, "http", "free.example.com", 80, "GET", "/",
     VAULT_SLOT_NONE, "", NULL, VAULT_STUB_NOBODYS},
    {"workload_unknown", 403, NOBODY, "https", "api.example.com", 443, "GET",
     "/", VAULT_SLOT_HEADER, "authorization", S_API, VAULT_STUB_NOBODYS},
    {"session_ended", 403, ENDED, "https", "api.example.com", 443, "GET", "/",
     VAULT_SLOT_HEADER, "authorization", S_API, VAULT_STUB_NOBODYS},
    {"session_frozen", 403, FROZEN, "https", "api.example.com", 443, "GET", "/",
     VAULT_SLOT_HEADER, "authorization", S_API, VAULT_STUB_NOBODYS},
    {"host_not_allowed", 403, BOX, "https", "evil.example.net", 443, "GET", "/",
     VAULT_SLOT_NONE, "", NULL, VAULT_STUB_NOBODYS},
    {"host_not_allowed", 403, BOX, "https", "api.example.com.evil.net", 443,
     "GET", "/", VAULT_SLOT_HEADER, "authorization", S_API, VAULT_STUB_NOBODYS},
    {"host_not_allowed", 403, BOX, "https", "evilapi.example.com", 443, "GET",
     "/", VAULT_SLOT_HEADER, "authorization", S_API, VAULT_STUB_NOBODYS},
    {"host_not_allowed", 403, BOX, "https", "API.example.com", 443, "GET", "/",
     VAULT_SLOT_NONE, "", NULL, VAULT_STUB_NOBODYS},
    {"host_not_allowed", 403, BOX, "https", "api.example.com.", 443, "GET", "/",
     VAULT_SLOT_NONE, "", NULL, VAULT_STUB_NOBODYS},
    {"host_not_allowed", 403, BOX, "https", "api.example.com", 8443, "GET", "/",
     VAULT_SLOT_HEADER, "authorization", S_API, VAULT_STUB_NOBODYS},
    {"host_not_allowed", 403, BOX, "http", "127.0.0.1", 4000, "GET", "/",
     VAULT_SLOT_NONE, "", NULL, VAULT_STUB_NOBODYS},
    {"host_not_allowed", 403, BOX, "https", "10.0.0.1", 443, "GET", "/",
     VAULT_SLOT_NONE, "", NULL, VAULT_STUB_NOBODYS},
    {"stub_wrong_host", 403, BOX, "https", "free.example.com", 443, "GET", "/",
     VAULT_SLOT_HEADER, "authorization", S_API, VAULT_STUB_NOBODYS},
    {"stub_wrong_slot", 403, BOX, "https", "api.example.com", 443, "GET", "/",
     VAULT_SLOT_HEADER, "cookie", S_API, VAULT_STUB_NOBODYS},
    {"stub_wrong_slot", 403, BOX, "https", "api.example.com", 443, "GET", "/",
     VAULT_SLOT_QUERY, "key", S_API, VAULT_STUB_NOBODYS},
    {"stub_wrong_slot", 403, BOX, "https", "api.example.com", 443, "GET", "/",
     VAULT_SLOT_PATH, "", S_API, VAULT_STUB_NOBODYS},
    {"stub_wrong_slot", 403, BOX, "https", "api.example.com", 443, "GET", "/",
     VAULT_SLOT_BODY, "", S_API, VAULT_STUB_NOBODYS},
    {"stub_wrong_slot", 403, BOX, "https", "api.example.com", 443, "GET", "/",
     VAULT_SLOT_NONE, "authorization", S_API, VAULT_STUB_NOBODYS},
    {"stub_wrong_slot", 403, BOX, "https", "api.example.com", 443, "POST", "/",
     VAULT_SLOT_BODY, "json", S_API, VAULT_STUB_NOBODYS},
    {"allowed", 0, BOX, "https", "odd.example.com", 443, "POST", "/x",
     VAULT_SLOT_QUERY, "api_key", S_ODD, VAULT_STUB_NOBODYS},
    {"stub_wrong_slot", 403, BOX, "https", "odd.example.com", 443, "POST", "/x",
     VAULT_SLOT_QUERY, "API_KEY", S_ODD, VAULT_STUB_NOBODYS},
    {"stub_wrong_slot", 403, BOX, "https", "odd.example.com", 443, "POST", "/x",
     VAULT_SLOT_QUERY, "api_key2", S_ODD, VAULT_STUB_NOBODYS},
    {"stub_wrong_slot", 403, BOX, "https", "odd.example.com", 443, "POST", "/x",
     VAULT_SLOT_QUERY, "", S_ODD, VAULT_STUB_NOBODYS},
    {"allowed", 0, BOX, "https", "odd.example.com", 443, "POST", "/x",
     VAULT_SLOT_PATH, "", S_ODD, VAULT_STUB_NOBODYS},
    {"allowed", 0, BOX, "https", "odd.example.com", 443, "POST", "/x",
     VAULT_SLOT_BODY, "json", S_ODD, VAULT_STUB_NOBODYS},
    {"allowed", 0, BOX, "https", "odd.example.com", 443, "POST", "/x",
     VAULT_SLOT_BODY, "form", S_ODD, VAULT_STUB_NOBODYS},
    {"allowed", 0, BOX, "https", "odd.example.com", 443, "POST", "/x",
     VAULT_SLOT_BODY, "text", S_ODD, VAULT_STUB_NOBODYS},
    {"stub_wrong_slot", 403, BOX, "https", "odd.example.com", 443, "POST", "/x",
     VAULT_SLOT_BODY, "", S_ODD, VAULT_STUB_NOBODYS},
    {"stub_wrong_slot", 403, BOX, "https", "odd.example.com", 443, "POST", "/x",
     VAULT_SLOT_BODY, "xml", S_ODD, VAULT_STUB_NOBODYS},
    {"stub_wrong_slot", 403, BOX, "https", "odd.example.com", 443, "POST", "/x",
     VAULT_SLOT_HEADER, "authorization", S_ODD, VAULT_STUB_NOBODYS},
    {"stub_wrong_slot", 403, BOX, "https", "odd.example.com", 443, "POST", "/x",
     VAULT_SLOT_BASIC, "password", S_ODD, VAULT_STUB_NOBODYS},
    {"stub_unknown", 403, BOX, "https", "api.example.com", 443, "GET", "/",
     VAULT_SLOT_HEADER, "authorization", S_NONE, VAULT_STUB_NOBODYS},
    {"stub_revoked", 403, BOX, "https", "api.example.com", 443, "GET", "/",
     VAULT_SLOT_HEADER, "authorization", S_NONE, VAULT_STUB_REVOKED},
    {"stub_foreign", 403, BOX, "https", "api.example.com", 443, "GET", "/",
     VAULT_SLOT_HEADER, "authorization", S_NONE, VAULT_STUB_FOREIGN},
    {"stub_foreign", 403, BOX, "https", "api.example.com", 443, "GET", "/",
     VAULT_SLOT_HEADER, "authorization", S_MODEL, VAULT_STUB_FOREIGN},
    {"clear_text_refused", 403, BOX, "http", "api.example.com", 80, "GET", "/",
     VAULT_SLOT_HEADER, "authorization", S_API, VAULT_STUB_NOBODYS},
    {"credential_required", 401, BOX, "https", "api.example.com", 443, "GET",
     "/", VAULT_SLOT_NONE, "", NULL, VAULT_STUB_NOBODYS},
    {"credential_required", 403, BOX, "https", "narrow.example.com", 443, "GET",
     "/", VAULT_SLOT_NONE, "", NULL, VAULT_STUB_NOBODYS},
    {"allowed", 0, BOX, "https", "narrow.example.com", 443, "GET", "/v1/a",
     VAULT_SLOT_HEADER, "x-key", S_NARROW, VAULT_STUB_NOBODYS},
    {"method_not_allowed", 403, BOX, "https", "narrow.example.com", 443, "POST",
     "/v1/a", VAULT_SLOT_HEADER, "x-key", S_NARROW, VAULT_STUB_NOBODYS},
    {"path_not_allowed", 403, BOX, "https", "narrow.example.com", 443, "GET",
     "/v2", VAULT_SLOT_HEADER, "x-key", S_NARROW, VAULT_STUB_NOBODYS},
    {"path_not_allowed", 403, BOX, "https", "narrow.example.com", 443, "GET",
     "/v1/../v2", VAULT_SLOT_HEADER, "x-key", S_NARROW, VAULT_STUB_NOBODYS},
    {"allowed", 0, BOX, "https", "a.wild.example.com", 443, "GET", "/",
     VAULT_SLOT_HEADER, "authorization", S_WILD, VAULT_STUB_NOBODYS},
    {"stub_wrong_host", 403, BOX, "https", "wild.example.com", 443, "GET", "/",
     VAULT_SLOT_HEADER, "authorization", S_WILD, VAULT_STUB_NOBODYS},
    {"stub_wrong_host", 403, BOX, "https", "a.b.wild.example.com", 443, "GET",
     "/", VAULT_SLOT_HEADER, "authorization", S_WILD, VAULT_STUB_NOBODYS},
    {"allowed", 0, BRAIN, "http", "127.0.0.1", 4000, "POST", "/v1/chat",
     VAULT_SLOT_HEADER, "authorization", S_MODEL, VAULT_STUB_NOBODYS},
    {"credential_required", 401, BRAIN, "http", "127.0.0.1", 4000, "POST",
     "/v1/chat", VAULT_SLOT_NONE, "", NULL, VAULT_STUB_NOBODYS},
    {"host_not_allowed", 403, BRAIN, "http", "127.0.0.1", 4001, "POST", "/",
     VAULT_SLOT_HEADER, "authorization", S_MODEL, VAULT_STUB_NOBODYS},
    {"host_not_allowed", 403, BRAIN, "https", "free.example.com", 443, "GET",
     "/", VAULT_SLOT_NONE, "", NULL, VAULT_STUB_NOBODYS},
    {"clear_text_refused", 403, BRAIN, "http", "private.example.com", 443,
     "GET", "/", VAULT_SLOT_NONE, "", NULL, VAULT_STUB_NOBODYS},
    {"allowed", 0, BRAIN, "https", "private.example.com", 443, "GET", "/",
     VAULT_SLOT_NONE, "", NULL, VAULT_STUB_NOBODYS},
};

static const char conf[] =
    "destination 127.0.0.1:4000 clear-text\n"
    "destination private.example.com:443 address=10.0.0.7:443\n";

static void
add_held(struct vault_held *h, const char *id, const char *binding,
         const char *stub, bool is_for_brain, const struct vault_deployment *d,
         struct ag_arena *arena)
{
    struct ag_err err = AG_ERR_INIT;
    *h = (struct vault_held){
        .id = ag_str(id), .stub = ag_str(stub), .is_for_brain = is_for_brain};
    if (vault_binding_parse(ag_str(binding), d, arena, &h->binding, &err) < 0)
        fail_msg("%s", err.msg);
}

static size_t
make_held(struct vault_held held[HELD], const struct vault_deployment *d,
          struct ag_arena *arena)
{
#define RULE(scheme, host, port, methods, paths, slots)                     \
    "[{\"scheme\":\"" scheme "\",\"host\":\"" host "\",\"port\":" port      \
    ",\"methods\":" methods ",\"path_prefixes\":" paths ",\"slots\":" slots \
    "}]"
#define USUAL "[\"header:authorization\",\"basic\"]"
    add_held(&held[0], "api",
             RULE("https", "api.example.com", "443", "[]", "[]", USUAL), S_API,
             false, d, arena);
    add_held(&held[1], "narrow",
             RULE("https", "narrow.example.com", "443", "[\"GET\"]",
                  "[\"/v1\"]", "[\"header:x-key\"]"),
             S_NARROW, false, d, arena);
    add_held(&held[2], "model",
             RULE("http", "127.0.0.1", "4000", "[]", "[]", USUAL), S_MODEL,
             true, d, arena);
    add_held(&held[3], "wild",
             RULE("https", "*.wild.example.com", "443", "[]", "[]", USUAL),
             S_WILD, false, d, arena);
    add_held(&held[4], "odd",
             RULE("https", "odd.example.com", "443", "[]", "[]",
                  "[\"query:api_key\",\"path\",\"body\"]"),
             S_ODD, false, d, arena);
    return HELD;
}

static void
check_row(const struct row *r, const struct vault_deployment *d,
          const struct vault_policy *policy, struct ag_arena *arena)
{
    static const enum vault_kind kinds[] = {
        VAULT_KIND_SANDBOX, VAULT_KIND_JAIL,    VAULT_KIND_BRAIN,
        VAULT_KIND_NONE,    VAULT_KIND_SANDBOX, VAULT_KIND_SANDBOX};
    struct vault_held held[HELD];
    struct vault_found found = {r->slot, ag_str(r->name), ag_str(r->stub),
                                r->owner, 0};
    struct vault_ask ask = {kinds[r->who],
                            strcmp(r->scheme, "https") == 0,
                            ag_str(r->host),
                            r->port,
                            ag_str(r->method),
                            ag_str(r->path),
                            &found,
                            r->stub != NULL};
    struct vault_state state = {r->who != NOBODY,
                                r->who == ENDED,
                                r->who == FROZEN,
                                policy,
                                d,
                                held,
                                make_held(held, d, arena)};
    struct vault_decision got;

    vault_authorize(&ask, &state, arena, &got);
    if (strcmp(got.reason, r->reason) != 0)
        fail_msg("row %td: %s instead of %s", r - rows, got.reason, r->reason);
    assert_int_equal(got.is_allowed, r->status == 0);
    assert_int_equal(got.http_status, r->status);
    assert_int_equal(got.challenge_basic, r->status == 401);
    if (got.is_allowed && r->stub != NULL)
        assert_true(ag_str_is(held[got.swaps[0]].stub, r->stub));
}

static void
every_row_of_the_table_is_decided(void **unused)
{
    struct ag_arena *arena = ag_arena_new();
    struct vault_deployment d;
    struct vault_policy policy;
    struct ag_err err = AG_ERR_INIT;
    (void)unused;

    assert_int_equal(vault_deployment_parse(ag_str(conf), &d, &err), 0);
    assert_int_equal(
        vault_policy_parse(AG_STR("{\"allowed_hosts\":[\"api.example.com\","
                                  "\"free.example.com\",\"odd.example.com\","
                                  "\"narrow.example.com\","
                                  "\"wild.example.com\","
                                  "\"a.b.wild.example.com\","
                                  "\"*.wild.example.com\"]}"),
                           &d, arena, &policy, &err),
        0);
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
        check_row(&rows[i], &d, &policy, arena);
    vault_deployment_release(&d);
    ag_arena_free(arena);
}

static void
one_bad_stub_among_good_ones_denies_all(void **unused)
{
    struct ag_arena *arena = ag_arena_new();
    struct vault_deployment d = {0};
    struct vault_policy policy;
    struct vault_held held[HELD];
    struct vault_decision got;
    struct ag_err err = AG_ERR_INIT;
    (void)unused;

    assert_int_equal(vault_deployment_parse(ag_str(conf), &d, &err), 0);
    assert_int_equal(
        vault_policy_parse(AG_STR("{\"allowed_hosts\":[\"api.example.com\"]}"),
                           &d, arena, &policy, &err),
        0);
    struct vault_state state = {
        true, false, false, &policy, &d, held, make_held(held, &d, arena)};
    struct vault_found found[] = {{VAULT_SLOT_BASIC, AG_STR("user"),
                                   AG_STR(S_API), VAULT_STUB_NOBODYS, 0},
                                  {VAULT_SLOT_HEADER, AG_STR("authorization"),
                                   AG_STR(S_API), VAULT_STUB_NOBODYS, 0},
                                  {VAULT_SLOT_HEADER, AG_STR("authorization"),
                                   AG_STR(S_WILD), VAULT_STUB_NOBODYS, 0}};
    struct vault_ask ask = {VAULT_KIND_SANDBOX,
                            true,
                            AG_STR("api.example.com"),
                            443,
                            AG_STR("GET"),
                            AG_STR("/"),
                            found,
                            2};
    vault_authorize(&ask, &state, arena, &got);
    assert_true(got.is_allowed);
    ask.n_stubs = 3;
    vault_authorize(&ask, &state, arena, &got);
    assert_string_equal(got.reason, "stub_wrong_host");
    vault_deployment_release(&d);
    ag_arena_free(arena);
}

static void
a_stub_is_found_at_the_end_of_a_path_segment(void **state)
{
    static const struct {
        enum vault_slot slot;
        const char *found, *stub;
        size_t keep;
    } rows_of[] = {
        {VAULT_SLOT_PATH, "bot" S_API, S_API, 3},
        {VAULT_SLOT_PATH, S_API, S_API, 0},
        {VAULT_SLOT_PATH, "bot" S_API "x", "bot" S_API "x", 0},
        {VAULT_SLOT_PATH, S_NARROW S_API, S_NARROW S_API, 0},
        {VAULT_SLOT_PATH, "bbxs" S_API, "bbxs" S_API, 0},
        {VAULT_SLOT_PATH, "bot" S_NONE, "bot" S_NONE, 0},
        /* Another kind of workload's. */
        {VAULT_SLOT_PATH, "bot" S_MODEL, "bot" S_MODEL, 0},
        {VAULT_SLOT_QUERY, "bot" S_API, "bot" S_API, 0},
        {VAULT_SLOT_HEADER, "bot" S_API, "bot" S_API, 0},
    };
    const struct vault_held held[] = {
        {.stub = AG_STR(S_API)},
        {.stub = AG_STR(S_NARROW)},
        {.is_for_brain = true, .stub = AG_STR(S_MODEL)},
        {.stub = AG_STR("")}};
    (void)state;
    for (size_t i = 0; i < sizeof(rows_of) / sizeof(rows_of[0]); i++) {
        struct vault_found f = {.slot = rows_of[i].slot,
                                .stub = ag_str(rows_of[i].found)};
        vault_found_unglue(&f, VAULT_KIND_SANDBOX, held, 4);
        assert_int_equal(f.keep, rows_of[i].keep);
        assert_true(ag_str_is(f.stub, rows_of[i].stub));
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_row_of_the_table_is_decided),
        cmocka_unit_test(a_stub_is_found_at_the_end_of_a_path_segment),
        cmocka_unit_test(one_bad_stub_among_good_ones_denies_all),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
