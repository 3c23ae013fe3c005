/* Forms of values, against encoders that share no code with them. */
#include <openssl/evp.h>

#include "lib/fingerprint.h"
#include "tests/unit/unit.h"
#include "vault_svc/vault_form.h"

static const ag_str_t token = AG_STR("ghp_0123456789+/abcDEF~?>=&\"\\xyz");

static bool
appears(ag_str_t form, const char *in, size_t n)
{
    return memmem(in, n, form.p, form.n) != NULL;
}

/* Whatever stands around the value, one of the forms is in the base64. */
static void
base64_of_a_text_with_the_value_holds_a_form(void **state)
{
    struct ag_buf form = AG_BUF_INIT(VAULT_FORM_MAX);
    char text[128], out[256];

    (void)state;
    for (int before = 0; before < 9; before++)
        for (int after = 0; after < 4; after++)
            for (size_t n = 16; n <= token.n; n++) {
                memset(text, 'x', sizeof(text));
                memcpy(text + before, token.p, n);
                int len =
                    EVP_EncodeBlock((unsigned char *)out, (unsigned char *)text,
                                    before + (int)n + after);
                assert_true(vault_form_make(ag_str_n(token.p, n),
                                            1 + before % 3, &form));
                assert_true(appears(ag_buf_str(&form), out, (size_t)len));
            }
    ag_buf_wipe(&form);
}

static void
forms_are_as_others_write_them(void **state)
{
    static const struct {
        int form;
        const char *value, *text;
    } cases[] = {
        {0, "0123456789abcdef", "0123456789abcdef"},
        {7, "jklmnopqrstuvwx\xff",
         "6a6b6c6d6e6f7071727374757677"
         "78ff"},
        {8, "jklmnopqrstuvwx\xff",
         "6A6B6C6D6E6F7071727374757677"
         "78FF"},
        {9, "a b/c+d=e&f%g\"h~i", "a%20b%2Fc%2Bd%3De%26f%25g%22h~i"},
        {10, "0123456789\"\\\n123", "0123456789\\\"\\\\\\n123"},
    };
    struct ag_buf form = AG_BUF_INIT(VAULT_FORM_MAX);

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        assert_true(
            vault_form_make(ag_str(cases[i].value), cases[i].form, &form));
        assert_string_equal(ag_buf_cstr(&form), cases[i].text);
    }
    ag_buf_wipe(&form);
}

static void
a_form_that_adds_nothing_is_left_out(void **state)
{
    struct ag_buf form = AG_BUF_INIT(VAULT_FORM_MAX);
    int n = 0;

    (void)state;
    /* Digits alone: hex has no letter, base64 no '+', nothing is escaped. */
    for (int i = 0; i < VAULT_FORM_N; i++)
        n += vault_form_make(AG_STR("00000000000000000000"), i, &form);
    assert_int_equal(n, 5);
    for (int i = 0; i < VAULT_FORM_N; i++)
        assert_false(vault_form_make(AG_STR("short"), 0, &form));
    ag_buf_wipe(&form);
}

static void
a_window_stands_in_the_middle_with_its_span(void **state)
{
    static char long_one[20000];
    struct vault_form_window w = vault_form_window(AG_STR("0123456789abcdef"));

    (void)state;
    assert_int_equal(w.at + w.before + w.after, 0);
    w = vault_form_window(AG_STR("0123456789abcdefghi"));
    assert_int_equal(w.at, 1);
    assert_int_equal(w.before, 1);
    assert_int_equal(w.after, 2);
    w = vault_form_window(ag_str_n(long_one, sizeof(long_one)));
    assert_int_equal(w.at, 9992);
    assert_int_equal(w.before, VAULT_FORM_SPAN_MAX);
    assert_int_equal(w.after, VAULT_FORM_SPAN_MAX);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(base64_of_a_text_with_the_value_holds_a_form),
        cmocka_unit_test(forms_are_as_others_write_them),
        cmocka_unit_test(a_form_that_adds_nothing_is_left_out),
        cmocka_unit_test(a_window_stands_in_the_middle_with_its_span),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
