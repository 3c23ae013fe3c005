/* lib/buf.c: the limit, the encodings, JSON strings. */
#include "tests/unit/unit.h"

#include "lib/buf.h"

static void
buffer_never_passes_its_limit(void **state)
{
    AG_AUTO(ag_buf_release) struct ag_buf b = AG_BUF_INIT(4);
    struct ag_err err;

    (void)state;
    assert_int_equal(ag_buf_append(&b, AG_STR("abcd"), &err), 0);
    assert_int_equal(ag_buf_append(&b, AG_STR("e"), &err), -1);
    assert_int_equal(err.kind, AG_ERR_LIMIT);
    assert_string_equal(ag_buf_cstr(&b), "abcd");
    ag_buf_consume(&b, 3);
    assert_int_equal(ag_buf_printf(&b, &err, "%d", 12), 0);
    assert_string_equal(ag_buf_cstr(&b), "d12");
}

static void
base64url_decodes_what_it_encodes(void **state)
{
    static const char *const text[] = {"",       "Zg",      "Zm8",      "Zm9v",
                                       "Zm9vYg", "Zm9vYmE", "Zm9vYmFy", "-_8"};

    (void)state;
    for (size_t i = 0; i < sizeof(text) / sizeof(text[0]); i++) {
        AG_AUTO(ag_buf_release) struct ag_buf raw = AG_BUF_INIT(64);
        AG_AUTO(ag_buf_release) struct ag_buf back = AG_BUF_INIT(64);
        struct ag_err err;

        assert_int_equal(ag_buf_append_b64url(&raw, ag_str(text[i]), &err), 0);
        ag_buf_add_b64url(&back, ag_buf_str(&raw));
        assert_string_equal(ag_buf_cstr(&back), text[i]);
    }
}

static void
base64url_refuses_second_spellings(void **state)
{
    static const char *const bad[] = {
        "Z", "Zh", "Zm9", "Zg==", "Zm+v", "Zm/v", "Zm 9"};

    (void)state;
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        AG_AUTO(ag_buf_release) struct ag_buf raw = AG_BUF_INIT(64);
        struct ag_err err;

        assert_int_equal(ag_buf_append_b64url(&raw, ag_str(bad[i]), &err), -1);
        assert_int_equal(raw.n, 0);
    }
}

static void
hex_decodes_both_cases_and_nothing_else(void **state)
{
    AG_AUTO(ag_buf_release) struct ag_buf b = AG_BUF_INIT(64);
    struct ag_err err;

    (void)state;
    assert_int_equal(ag_buf_append_hex(&b, AG_STR("00fFA9"), &err), 0);
    assert_memory_equal(b.p, "\x00\xff\xa9", 3);
    assert_int_equal(ag_buf_append_hex(&b, AG_STR("0"), &err), -1);
    assert_int_equal(ag_buf_append_hex(&b, AG_STR("0g"), &err), -1);
    assert_int_equal(b.n, 3);
}

static void
json_strings_are_escaped_and_well_formed(void **state)
{
    AG_AUTO(ag_buf_release) struct ag_buf b = AG_BUF_INIT(256);

    (void)state;
    ag_buf_add_json(&b, ag_str_n("a\"\\\n\x01\0\xc3\xa4\xff\xe2\x82", 11));
    assert_string_equal(ag_buf_cstr(&b),
                        "\"a\\\"\\\\\\n\\u0001\\u0000\xc3\xa4"
                        "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\"");
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(buffer_never_passes_its_limit),
        cmocka_unit_test(base64url_decodes_what_it_encodes),
        cmocka_unit_test(base64url_refuses_second_spellings),
        cmocka_unit_test(hex_decodes_both_cases_and_nothing_else),
        cmocka_unit_test(json_strings_are_escaped_and_well_formed),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
