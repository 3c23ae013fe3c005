/* lib/str.c: views, numbers, UTF-8. */
#include "tests/unit/unit.h"

static void
cut_walks_over_every_field(void **state)
{
    ag_str_t rest = AG_STR("a,,b"), head;

    (void)state;
    assert_true(ag_str_cut(&rest, ',', &head));
    assert_str(head, "a");
    assert_true(ag_str_cut(&rest, ',', &head));
    assert_str(head, "");
    assert_true(ag_str_cut(&rest, ',', &head));
    assert_str(head, "b");
    assert_false(ag_str_cut(&rest, ',', &head));
}

static void
integers_are_exact_and_bounded(void **state)
{
    static const struct {
        const char *text;
        int rc;
        int64_t v;
    } cases[] = {
        {"0", 0, 0},
        {"-7", 0, -7},
        {"9223372036854775807", 0, INT64_MAX},
        {"-9223372036854775808", 0, INT64_MIN},
        {"9223372036854775808", -1, 0},
        {"-9223372036854775809", -1, 0},
        {"", -1, 0},
        {"-", -1, 0},
        {"1 ", -1, 0},
        {"0x1", -1, 0},
        {"+1", -1, 0},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        int64_t v = 0;

        assert_int_equal(ag_str_i64(ag_str(cases[i].text), &v), cases[i].rc);
        assert_true(v == cases[i].v);
    }
}

static void
utf8_refuses_overlong_surrogates_and_cut_sequences(void **state)
{
    static const char *const good[] = {"",
                                       "a",
                                       "\xc3\xa4",
                                       "\xe2\x82\xac",
                                       "\xf0\x9f\x98\x80",
                                       "\xed\x9f\xbf",
                                       "\xf4\x8f\xbf\xbf"};
    static const char *const bad[] = {"\x80",
                                      "\xc0\xaf",
                                      "\xc1\xbf",
                                      "\xe0\x80\xaf",
                                      "\xed\xa0\x80",
                                      "\xf0\x80\x80\xaf",
                                      "\xf4\x90\x80\x80",
                                      "\xf5\x80\x80\x80",
                                      "\xe2\x82",
                                      "a\xff"};

    (void)state;
    for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++)
        assert_true(ag_str_is_utf8(ag_str(good[i])));
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        assert_false(ag_str_is_utf8(ag_str(bad[i])));
}

static void
utf8_whole_leaves_out_a_sequence_that_may_go_on(void **state)
{
    static const struct {
        const char *text;
        size_t n;
    } cases[] = {
        {"", 0},
        {"ab", 2},
        {"a\xc3", 1},
        {"a\xc3\xa4", 3},
        {"\xe2", 0},
        {"a\xe2\x82", 1},
        {"\xe2\x82\xac", 3},
        {"a\xf0\x9f\x98", 1},
        {"\xf0\x9f\x98\x80", 4},
        {"\xc3\xa4\xf0\x9f", 2},
        /* malformed: nothing that comes would make it whole */
        {"\x80\x80\x80\x80", 4},
        {"a\xff", 2},
        {"a\xc1", 2},
        {"\xc3\xa4\x80", 3},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
        assert_int_equal(ag_str_whole_utf8(ag_str(cases[i].text)).n,
                         cases[i].n);
}

static void
constant_time_comparison_compares(void **state)
{
    (void)state;
    assert_true(ag_str_eq_ct(AG_STR("secret"), AG_STR("secret")));
    assert_false(ag_str_eq_ct(AG_STR("secret"), AG_STR("secreT")));
    assert_false(ag_str_eq_ct(AG_STR("secret"), AG_STR("secre")));
}

static void
prefix_suffix_and_trim(void **state)
{
    (void)state;
    assert_true(ag_str_starts(AG_STR("abc"), AG_STR("ab")));
    assert_false(ag_str_starts(AG_STR("ab"), AG_STR("abc")));
    assert_true(ag_str_ends(AG_STR("abc"), AG_STR("bc")));
    assert_str(ag_str_trim(AG_STR("\t a b ")), "a b");
    assert_str(ag_str_trim(AG_STR("  ")), "");
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(cut_walks_over_every_field),
        cmocka_unit_test(integers_are_exact_and_bounded),
        cmocka_unit_test(utf8_refuses_overlong_surrogates_and_cut_sequences),
        cmocka_unit_test(utf8_whole_leaves_out_a_sequence_that_may_go_on),
        cmocka_unit_test(constant_time_comparison_compares),
        cmocka_unit_test(prefix_suffix_and_trim),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
