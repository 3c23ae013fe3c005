/* Fingerprints are met wherever a value lies, in whatever pieces it comes. */
#include "tests/unit/unit.h"

#include <stdlib.h>

#include "ngx_agent_module/ngx_agent_prints.h"

static const char key[] = "0123456789abcdef0123456789abcdef";
static const char value[] = "token-9f2c8e1a7b3d5f60-and-its-tail";

enum { BEFORE = 6, BEHIND = 13 }; /* the window is "9f2c8e1a7b3d5f60" */

static void
put_le(char *out, uint64_t v, int n)
{
    for (int i = 0; i < n; i++)
        out[i] = (char)(v >> 8 * i);
}

static uint64_t
print_of(const char *window)
{
    struct ag_fingerprint f;

    ag_fingerprint_init(&f, (const unsigned char *)key);
    return ag_fingerprint_of(&f, window);
}

static struct ngx_agent_prints *
table(void)
{
    char entry[8], span[4];
    struct ag_err err = AG_ERR_INIT;
    struct ngx_agent_prints *p =
        ngx_agent_prints_new(ag_str_n(key, 32), 1, &err);

    assert_non_null(p);
    put_le(entry, print_of(value + BEFORE), 8);
    put_le(span, BEFORE, 2);
    put_le(span + 2, BEHIND, 2);
    assert_int_equal(
        ngx_agent_prints_add(p, ag_str_n(entry, 8), ag_str_n(span, 4), &err),
        0);
    return p;
}

static void
feed(struct ngx_agent_prints_scan *s, ag_str_t text, size_t step)
{
    for (size_t at = 0; at < text.n; at += step) {
        size_t n = text.n - at < step ? text.n - at : step;
        char *piece = ag_str_dup(ag_str_n(text.p + at, n));
        ngx_agent_prints_scan_feed(s, ag_str_n(piece, n));
        free(piece);
    }
    ngx_agent_prints_scan_end(s);
}

static void
meets_a_value_anywhere(void **state)
{
    static const size_t lens[] = {0, 1, 9, 15, 16, 17, 4095, 4112, 9000};
    static const size_t steps[] = {1, 2, 15, 16, 17, 33, 4111, 20000};
    static char text[20000];
    struct ngx_agent_prints *p = table();
    struct ngx_agent_prints_scan s;
    (void)state;

    for (size_t l = 0; l < sizeof(lens) / sizeof(lens[0]); l++)
        for (size_t k = 0; k < sizeof(steps) / sizeof(steps[0]); k++) {
            size_t n = strlen(value);
            memset(text, 'x', sizeof(text));
            memcpy(text + lens[l], value, n);
            ngx_agent_prints_scan_init(&s, p);
            feed(&s, ag_str_n(text, lens[l] + n + 5), steps[k]);
            if (s.n_hits != 1)
                fail_msg("%u hits at %zu in steps of %zu", s.n_hits, lens[l],
                         steps[k]);
            assert_int_equal(s.hits[0].n, n);
            assert_memory_equal(s.hits[0].data, value, n);
            assert_int_equal(s.hits[0].print, print_of(value + BEFORE));
            ngx_agent_prints_scan_release(&s);
        }
    ngx_agent_prints_free(p);
}

static void
a_window_alone_is_no_hit(void **state)
{
    static const char *const texts[] = {
        "9f2c8e1a7b3d5f60-and-its-tail",      /* nothing before it */
        "token-9f2c8e1a7b3d5f60-and-its-tai", /* a byte is missing */
        "token-9f2c8e1a7b3d5f6",
    };
    struct ngx_agent_prints *p = table();
    struct ngx_agent_prints_scan s;
    (void)state;

    ngx_agent_prints_scan_init(&s, p);
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++)
        feed(&s, ag_str(texts[i]), 7);
    assert_int_equal(s.n_hits, 0);
    /* Texts do not run into each other. */
    feed(&s, ag_str("token-9f2c8e1a"), 7);
    feed(&s, ag_str("7b3d5f60-and-its-tail"), 7);
    assert_int_equal(s.n_hits, 0);
    feed(&s, ag_str(value), 7);
    assert_int_equal(s.n_hits, 1);
    ngx_agent_prints_scan_release(&s);
    ngx_agent_prints_free(p);
}

static void
remembers_a_bounded_number(void **state)
{
    struct ngx_agent_prints *p = table();
    struct ngx_agent_prints_scan s;
    (void)state;

    ngx_agent_prints_scan_init(&s, p);
    for (int i = 0; i < 2 * NGX_AGENT_PRINT_HITS; i++)
        feed(&s, ag_str(value), 50);
    assert_int_equal(s.n_hits, NGX_AGENT_PRINT_HITS);
    assert_true(s.is_full);
    ngx_agent_prints_scan_release(&s);
    ngx_agent_prints_free(p);
}

static void
refuses_bad_tables(void **state)
{
    char two[16], spans[8] = {0};
    struct ag_err err = AG_ERR_INIT;
    struct ngx_agent_prints *p =
        ngx_agent_prints_new(ag_str_n(key, 32), 2, &err);
    (void)state;

    put_le(two, 2, 8);
    put_le(two + 8, 1, 8);
    assert_null(ngx_agent_prints_new(ag_str_n(key, 31), 2, &err));
    assert_null(ngx_agent_prints_new(ag_str_n(key, 32), 1 << 25, &err));
    assert_true(
        ngx_agent_prints_add(p, ag_str_n(two, 15), ag_str_n(spans, 4), &err)
        < 0);
    assert_true(
        ngx_agent_prints_add(p, ag_str_n(two, 8), ag_str_n(spans, 8), &err)
        < 0);
    assert_int_equal(ngx_agent_prints_count(p), 0);
    /* Descending. */
    assert_true(
        ngx_agent_prints_add(p, ag_str_n(two, 16), ag_str_n(spans, 8), &err)
        < 0);
    /* More than were announced. */
    assert_true(
        ngx_agent_prints_add(p, ag_str_n(two, 16), ag_str_n(spans, 8), &err)
        < 0);
    put_le(spans, 5000, 2);
    ngx_agent_prints_free(p);
    p = ngx_agent_prints_new(ag_str_n(key, 32), 2, &err);
    assert_true(
        ngx_agent_prints_add(p, ag_str_n(two, 8), ag_str_n(spans, 4), &err)
        < 0);
    ngx_agent_prints_free(p);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(meets_a_value_anywhere),
        cmocka_unit_test(a_window_alone_is_no_hit),
        cmocka_unit_test(remembers_a_bounded_number),
        cmocka_unit_test(refuses_bad_tables),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
