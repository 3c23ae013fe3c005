/* lib/json.c, lib/id.c, lib/clock.c, lib/err.c, lib/arena.c. */
#include "tests/unit/unit.h"

#include "lib/arena.h"
#include "lib/clock.h"
#include "lib/id.h"
#include "lib/json.h"

static void
duplicate_keys_and_trailing_text_are_refused(void **state)
{
    static const char *const bad[] = {
        "{\"a\":1,\"a\":2}", "1 2", "{", "", "[1,]", "nul", "\"\xff\""};
    struct ag_err err;

    (void)state;
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        assert_null(ag_json_parse(ag_str(bad[i]), &err));
        assert_int_equal(err.kind, AG_ERR_INVALID);
    }
}

static void
nul_and_large_integers_survive(void **state)
{
    AG_AUTO(ag_json_decref) json_t *j = NULL;
    AG_AUTO(ag_buf_release) struct ag_buf b = AG_BUF_INIT(256);
    struct ag_err err;

    (void)state;
    j = ag_json_parse(AG_STR("[\"a\\u0000b\",9007199254740993]"), &err);
    assert_non_null(j);
    assert_int_equal(ag_json_str(json_array_get(j, 0)).n, 3);
    assert_int_equal(ag_json_dump(j, &b, &err), 0);
    assert_string_equal(ag_buf_cstr(&b), "[\"a\\u0000b\",9007199254740993]");
}

static void
depth_is_bounded_outside_of_strings(void **state)
{
    char text[2 * (AG_JSON_DEPTH_MAX + 1) + 1];
    AG_AUTO(ag_json_decref) json_t *j = NULL;
    struct ag_err err;

    (void)state;
    memset(text, '[', AG_JSON_DEPTH_MAX + 1);
    memset(text + AG_JSON_DEPTH_MAX + 1, ']', AG_JSON_DEPTH_MAX + 1);
    assert_null(ag_json_parse(ag_str_n(text, sizeof(text) - 1), &err));
    assert_null(ag_json_parse(ag_str_n(text + 1, sizeof(text) - 2),
                              &err)); /* one too many ']' */
    j = ag_json_parse(ag_str_n(text + 1, sizeof(text) - 3), &err);
    assert_non_null(j);
    json_decref(j);
    j = ag_json_parse(AG_STR("\"[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[["
                             "[[[[[[[[[[[[[[[[[[[[[[[[[[[[[\""),
                      &err);
    assert_non_null(j);
}

static void
members_have_their_type_or_an_error_that_names_them(void **state)
{
    AG_AUTO(ag_json_decref) json_t *j = NULL;
    struct ag_err err;
    ag_str_t s = AG_STR("default");
    int64_t n = 5;
    bool b = true;

    (void)state;
    j = ag_json_parse(AG_STR("{\"s\":\"x\",\"n\":null,\"b\":1}"), &err);
    assert_int_equal(ag_json_get_str(j, "absent", &s, &err), 0);
    assert_str(s, "default");
    assert_int_equal(ag_json_get_str(j, "s", &s, &err), 0);
    assert_str(s, "x");
    assert_int_equal(ag_json_get_i64(j, "n", &n, &err), 0);
    assert_int_equal(n, 5);
    assert_int_equal(ag_json_get_bool(j, "b", &b, &err), -1);
    assert_string_equal(err.msg, "b: must be true or false");
}

static void
malformed_text_becomes_a_json_string_all_the_same(void **state)
{
    AG_AUTO(ag_json_decref)
    json_t *j = ag_json_from_str(AG_STR("a\xff"
                                        "b"));

    (void)state;
    assert_str(ag_json_str(j), "a\xef\xbf\xbd"
                               "b");
}

static void
ids_are_ordered_by_time_and_check_out(void **state)
{
    char a[AG_ID_TEXT], b[AG_ID_TEXT];

    (void)state;
    ag_id_new("agent", a);
    ag_clock_shift(5000);
    ag_id_new("agent", b);
    ag_clock_shift(-5000);
    assert_true(strcmp(a, b) < 0);
    assert_true(ag_id_is(ag_str(a), "agent"));
    assert_false(ag_id_is(ag_str(a), "env"));
    assert_false(ag_id_is(AG_STR("env_"), "env"));
    assert_false(ag_id_is(AG_STR("env_80000000000000000000000000"), "env"));
    assert_false(ag_id_is(AG_STR("env_0000000000000000000000000u"), "env"));
    assert_true(ag_id_is(AG_STR("env_7zzzzzzzzzzzzzzzzzzzzzzzzz"), "env"));
}

static void
times_are_rfc3339_also_before_the_epoch(void **state)
{
    char text[AG_TIME_TEXT];

    (void)state;
    ag_time_format(0, text);
    assert_string_equal(text, "1970-01-01T00:00:00.000000Z");
    ag_time_format(-1, text);
    assert_string_equal(text, "1969-12-31T23:59:59.999999Z");
    ag_time_format(1795203161000123, text);
    assert_string_equal(text, "2026-11-20T19:32:41.000123Z");
}

static void
context_goes_before_the_message_and_is_cut_at_the_end(void **state)
{
    struct ag_err err;

    (void)state;
    ag_err_set(&err, AG_ERR_LIMIT, "too long");
    assert_int_equal(ag_err_wrap(&err, "field %d", 7), -1);
    assert_string_equal(err.msg, "field 7: too long");
    assert_int_equal(err.kind, AG_ERR_LIMIT);
    ag_err_set(&err, AG_ERR_LIMIT, "%0300d", 0);
    ag_err_wrap(&err, "x");
    assert_int_equal(strlen(err.msg), sizeof(err.msg) - 1);
}

static void
arena_gives_aligned_zeroed_memory_of_any_size(void **state)
{
    AG_AUTO(ag_arena_freep) struct ag_arena *a = ag_arena_new();

    (void)state;
    for (size_t n = 0; n < 100000; n = n * 3 + 1) {
        char *p = ag_arena_alloc(a, n);

        assert_int_equal((uintptr_t)p % _Alignof(max_align_t), 0);
        for (size_t i = 0; i < n; i++)
            assert_int_equal(p[i], 0);
        memset(p, 0xff, n);
    }
    assert_string_equal(ag_arena_printf(a, "%s-%d", "x", 3), "x-3");
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(duplicate_keys_and_trailing_text_are_refused),
        cmocka_unit_test(nul_and_large_integers_survive),
        cmocka_unit_test(depth_is_bounded_outside_of_strings),
        cmocka_unit_test(members_have_their_type_or_an_error_that_names_them),
        cmocka_unit_test(malformed_text_becomes_a_json_string_all_the_same),
        cmocka_unit_test(ids_are_ordered_by_time_and_check_out),
        cmocka_unit_test(times_are_rfc3339_also_before_the_epoch),
        cmocka_unit_test(context_goes_before_the_message_and_is_cut_at_the_end),
        cmocka_unit_test(arena_gives_aligned_zeroed_memory_of_any_size),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
