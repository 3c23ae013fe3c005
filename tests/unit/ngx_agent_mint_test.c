/* Pointers into JSON, and what they lead to. */
#include "ngx_agent_module/ngx_agent_mint.h"
#include "tests/unit/unit.h"

static void
a_pointer_leads_to_the_bytes_of_a_string(void **state)
{
    static const struct {
        const char *text, *pointer, *want; /* want: with quotes; NULL: none */
    } cases[] = {
        {"{\"access_token\":\"t\"}", "/access_token", "\"t\""},
        {" { \"b\" : 1 , \"a\" : \"x\\\"}\" } ", "/a", "\"x\\\"}\""},
        {"{\"a\":{\"b\":[1,[2],{\"c\":\"v\"}]}}", "/a/b/2/c", "\"v\""},
        {"[\"x\",\"y\"]", "/1", "\"y\""},
        {"[\"x\",\"y\"]", "/01", NULL},
        {"[\"x\",\"y\"]", "/-", NULL},
        {"[\"x\",\"y\"]", "/2", NULL},
        {"[]", "/0", NULL},
        {"{}", "/a", NULL},
        {"{\"a/b~c\":\"v\"}", "/a~1b~0c", "\"v\""},
        {"{\"\\u0061b\":\"v\"}", "/ab", "\"v\""},
        {"{\"\":\"v\"}", "/", "\"v\""},
        {"{\"a\":\"v\"}", "", NULL},
        {"\"v\"", "", "\"v\""},
        {"{\"a\":1}", "/a", NULL},
        {"{\"a\":null,\"b\":true,\"c\":-1.5e3,\"d\":\"v\"}", "/d", "\"v\""},
        {"{\"x\":{\"a\":\"no\"},\"y\":[{\"a\":\"no\"}]}", "/a", NULL},
        {"{\"x\":\"\\\\\",\"a\":\"\"}", "/a", "\"\""},
        {"{\"ab\":\"no\",\"a\":\"v\"}", "/a", "\"v\""},
        {"{\"a\":\"v\"}", "a", NULL},
        {"{\"a\":\"v\"}", "/a/b", NULL},
    };
    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct ngx_agent_mint_span s;
        ag_str_t text = ag_str(cases[i].text);
        bool is_there = ngx_agent_mint_find(text, ag_str(cases[i].pointer), &s);
        if (is_there != (cases[i].want != NULL))
            fail_msg("case %zu", i);
        if (is_there)
            assert_str(ag_str_n(text.p + s.begin, s.end - s.begin),
                       cases[i].want);
    }
}

static void
what_is_no_json_or_says_two_things_is_refused(void **state)
{
    static const char *const bad[] = {"",
                                      "access_token=x&y=z",
                                      "{\"a\":1}{",
                                      "{\"a\":1,\"a\":2}",
                                      "{\"a\":\"\xff\"}",
                                      "\xef\xbb\xbf{}"};
    (void)state;
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        assert_false(ngx_agent_mint_is_json(ag_str(bad[i])));
    assert_true(ngx_agent_mint_is_json(AG_STR(" {\"a\":[1]} ")));
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_pointer_leads_to_the_bytes_of_a_string),
        cmocka_unit_test(what_is_no_json_or_says_two_things_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
