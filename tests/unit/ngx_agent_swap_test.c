/* Stubs are found wherever they hide, and only stubs. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "ngx_agent_module/ngx_agent_swap.h"

#define CORE "bbxsabcdefghijklmnopqrstuvwxyz234567"

static void
a_token_is_found_with_what_stands_around_it(void **state)
{
    static const struct {
        const char *text, *token;
    } rows[] = {
        {CORE, CORE},
        {"Bearer " CORE, CORE},
        {"Bearer ghp_" CORE ";", "ghp_" CORE},
        {"x=" CORE "-tail,", CORE "-tail"},
        {"bbxs" CORE, "bbxs" CORE},
        {"bbxsabc", NULL},
        {"bbxsABCDEFGHIJKLMNOPQRSTUVWXYZ234567", NULL},
        {"bbxsabcdefghijklmnopqrstuvwxyz23456", NULL},
        {"", NULL},
    };
    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        ag_str_t token;
        bool found = ngx_agent_stub_next(ag_str(rows[i].text), 0, &token);
        assert_int_equal(found, rows[i].token != NULL);
        if (found)
            assert_true(ag_str_is(token, rows[i].token));
    }
}

static void
several_stubs_are_found_one_after_the_other(void **state)
{
    ag_str_t text = AG_STR(CORE "," CORE), token;
    (void)state;
    assert_true(ngx_agent_stub_next(text, 0, &token));
    size_t from = (size_t)(token.p - text.p) + token.n;
    assert_true(ngx_agent_stub_next(text, from, &token));
    from = (size_t)(token.p - text.p) + token.n;
    assert_false(ngx_agent_stub_next(text, from, &token));
}

static void
escaped_stubs_are_found(void **state)
{
    static const char *const hidden[] = {
        "%62bxsabcdefghijklmnopqrstuvwxyz234567",
        "%2562bxsabcdefghijklmnopqrstuvwxyz234567",
        "\\u0062bxsabcdefghijklmnopqrstuvwxyz23456\\u0037",
        "x%5cu0062bxsabcdefghijklmnopqrstuvwxyz234567"};
    char core[36];
    (void)state;
    for (size_t i = 0; i < sizeof(hidden) / sizeof(hidden[0]); i++) {
        assert_true(ngx_agent_stub_hidden(ag_str(hidden[i]), core));
        assert_memory_equal(core, CORE, 36);
    }
    assert_false(ngx_agent_stub_hidden(AG_STR("100% of nothing at all, "
                                              "really nothing \\u00"),
                                       core));
}

static void
a_body_is_scanned_across_its_pieces(void **state)
{
    static const char *const texts[] = {CORE, "%62"
                                              "bxsabcdefghijklmnop"
                                              "qrstuvwxyz234567"};
    char big[10000];
    (void)state;
    for (int t = 0; t < 2; t++) {
        for (size_t at = 4000; at < 4200; at += 7) {
            struct ngx_agent_stub_scan s = {.n = 0};
            memset(big, 'z', sizeof(big));
            big[at - 1] = '"';
            memcpy(big + at, texts[t], strlen(texts[t]));
            for (size_t i = 0; i < sizeof(big); i += 100)
                ngx_agent_stub_scan_feed(&s, ag_str_n(big + i, 100));
            assert_true(s.is_found);
            assert_memory_equal(s.core, CORE, 36);
        }
    }
    struct ngx_agent_stub_scan s = {.n = 0};
    memset(big, 'b', sizeof(big));
    ngx_agent_stub_scan_feed(&s, ag_str_n(big, sizeof(big)));
    assert_false(s.is_found);
}

static void
base64_goes_there_and_back(void **state)
{
    (void)state;
    for (size_t n = 0; n < 40; n++) {
        struct ag_err err = AG_ERR_INIT;
        struct ag_buf text = AG_BUF_INIT(100), back = AG_BUF_INIT(100);
        const char *plain = "user:\xff\x00pass/word+0123456789abcdefghijkl";
        assert_int_equal(
            ngx_agent_base64_encode(ag_str_n(plain, n), &text, &err), 0);
        assert_int_equal(
            ngx_agent_base64_decode(ag_buf_str(&text), &back, &err), 0);
        assert_int_equal(back.n, n);
        if (n > 0)
            assert_memory_equal(back.p, plain, n);
        ag_buf_release(&text);
        ag_buf_release(&back);
    }
    struct ag_err err = AG_ERR_INIT;
    struct ag_buf out = AG_BUF_INIT(100);
    assert_int_equal(ngx_agent_base64_decode(AG_STR("a b="), &out, &err), -1);
    ag_buf_release(&out);
}

static void
a_token_is_replaced_in_place(void **state)
{
    struct ag_err err = AG_ERR_INIT;
    struct ag_buf out = AG_BUF_INIT(100);
    ag_str_t text = AG_STR("Bearer " CORE " x"), token, credentials;
    (void)state;
    assert_true(ngx_agent_stub_next(text, 0, &token));
    assert_int_equal(
        ngx_agent_swap_token(text, token, AG_STR("real"), &out, &err), 0);
    assert_string_equal(ag_buf_cstr(&out), "Bearer real x");
    ag_buf_release(&out);
    assert_true(ngx_agent_is_basic(AG_STR("bAsIc  dTpw "), &credentials));
    assert_true(ag_str_is(credentials, "dTpw"));
    assert_false(ngx_agent_is_basic(AG_STR("Bearer x"), &credentials));
}

static void
values_are_escaped_as_their_place_wants(void **state)
{
    static const struct {
        enum ngx_agent_escape how;
        const char *value, *out;
    } rows[] = {
        {NGX_AGENT_ESCAPE_NONE, "a \"b&=%/", "a \"b&=%/"},
        {NGX_AGENT_ESCAPE_URI, "aZ9-._~ +&=/?#%\"",
         "aZ9-._~%20%2B%26%3D%2F"
         "%3F%23%25%22"},
        {NGX_AGENT_ESCAPE_URI, "\xc3\xbc", "%C3%BC"},
        {NGX_AGENT_ESCAPE_FORM, "a b+c&d", "a+b%2Bc%26d"},
        {NGX_AGENT_ESCAPE_JSON, "a\"b\\c/\xc3\xbc\x7f",
         "a\\\"b\\\\c/"
         "\xc3\xbc\\u007F"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct ag_buf out = AG_BUF_INIT(1024);
        struct ag_err err = AG_ERR_INIT;
        assert_int_equal(ngx_agent_swap_escape(
                             rows[i].how, ag_str(rows[i].value), &out, &err),
                         0);
        assert_true(ag_str_is(ag_buf_str(&out), rows[i].out));
        ag_buf_release(&out);
    }
}

static void
parameters_are_cut_at_ampersands(void **state)
{
    static const char *const want[][2] = {
        {"a", "1"}, {"b", ""}, {"", ""}, {"c", "x=y;z"}, {"", "v"}};
    ag_str_t rest = AG_STR("?a=1&b&&c=x=y;z&=v"), name, value;
    (void)state;
    for (size_t i = 0; i < sizeof(want) / sizeof(want[0]); i++) {
        assert_true(ngx_agent_param_next(&rest, &name, &value));
        assert_true(ag_str_is(name, want[i][0]));
        assert_true(ag_str_is(value, want[i][1]));
    }
    assert_false(ngx_agent_param_next(&rest, &name, &value));
    rest = AG_STR("");
    assert_false(ngx_agent_param_next(&rest, &name, &value));
    rest = AG_STR("?");
    assert_false(ngx_agent_param_next(&rest, &name, &value));
}

static void
names_that_a_reader_takes_for_one_are_one(void **state)
{
    static const char *const same[][2] = {{"key", "key"},   {"key", "KEY"},
                                          {"key", "%6bey"}, {"a b", "a+b"},
                                          {"a b", "a%20b"}, {"", ""}};
    static const char *const other[][2] = {
        {"key", "keys"}, {"key", "ke"}, {"key", ""}, {"key", "%6bex"}};
    (void)state;
    for (size_t i = 0; i < sizeof(same) / sizeof(same[0]); i++)
        assert_true(
            ngx_agent_param_same(ag_str(same[i][0]), ag_str(same[i][1])));
    for (size_t i = 0; i < sizeof(other) / sizeof(other[0]); i++)
        assert_false(
            ngx_agent_param_same(ag_str(other[i][0]), ag_str(other[i][1])));
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_token_is_found_with_what_stands_around_it),
        cmocka_unit_test(several_stubs_are_found_one_after_the_other),
        cmocka_unit_test(escaped_stubs_are_found),
        cmocka_unit_test(a_body_is_scanned_across_its_pieces),
        cmocka_unit_test(base64_goes_there_and_back),
        cmocka_unit_test(a_token_is_replaced_in_place),
        cmocka_unit_test(values_are_escaped_as_their_place_wants),
        cmocka_unit_test(parameters_are_cut_at_ampersands),
        cmocka_unit_test(names_that_a_reader_takes_for_one_are_one),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
