/* The scrubber against an oracle: whatever the split, the same text comes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "ngx_agent_module/ngx_agent_scrub.h"
#include "ngx_agent_module/ngx_agent_swap.h"

#define VALUE "s3cret/\"value\"+0123456789"

static struct ngx_agent_scrub *
scrub_of(const char *value)
{
    struct ngx_agent_scrub *s = ag_xcalloc(1, sizeof(*s));
    ngx_agent_scrub_init(s, 1);
    ngx_agent_scrub_add(s, ag_str(value), 0);
    return s;
}

static void
scrub_done(struct ngx_agent_scrub *s)
{
    ngx_agent_scrub_release(s);
    free(s);
}

/* Feed `text` in pieces of `step` bytes; the result is malloc'd. */
static char *
feed(struct ngx_agent_scrub *s, ag_str_t text, size_t step)
{
    unsigned char *out = ag_xmalloc(text.n + 2 * s->longest + 1);
    size_t n = 0;

    for (size_t at = 0; at < text.n; at += step) {
        size_t take = text.n - at < step ? text.n - at : step;
        n += ngx_agent_scrub_feed(s, ag_str_n(text.p + at, take),
                                  at + take == text.n, out + n);
    }
    assert_int_equal(n, text.n);
    out[n] = '\0';
    return (char *)out;
}

static void
every_split_gives_the_same_text(void **state)
{
    static const char text[] =
        "a " VALUE " b\n" VALUE VALUE "x" VALUE "\ns3cret/ s3cret/\"val";
    (void)state;
    char *want = NULL;

    for (size_t step = sizeof(text) - 1; step >= 1; step--) {
        struct ngx_agent_scrub *s = scrub_of(VALUE);
        char *got = feed(s, ag_str(text), step);
        if (want == NULL) {
            want = got;
            assert_null(strstr(want, "0123456789"));
            assert_non_null(strstr(want, "s3cret/ s3cret/\"val"));
        } else {
            assert_string_equal(got, want);
            free(got);
        }
        assert_int_equal(s->hits[0], 4);
        scrub_done(s);
    }
    free(want);
}

static void
every_encoding_is_covered(void **state)
{
    static const char *const forms[] = {
        "s3cret%2F%22value%22%2B0123456789",
        "s3cret%2f%22value%22%2b0123456789",
        "s3cret/%22value%22+0123456789",
        "s3cret/\\\"value\\\"+0123456789",
        "s3cret\\/\\\"value\\\"+0123456789",
        "s3cret/&quot;value&quot;+0123456789",
        "s3cret/%22value%22%2B0123456789",
        "s3cret%252F%2522value%2522%252B0123456789",
        "s3cret/&#34;value&#34;&#43;0123456789",
        "s3cret&#x2F;&#x22;value&#x0022;&#x2b;0123456789",
        "s3cret/\\u0022value\\u0022\\u002B0123456789",
        "\\x73\\x33cret/\\x22value\\x22+0123456789",
        "&#115;&#0051;cret/\"value\"+0123456789",
        "czNjcmV0LyJ2YWx1ZSIrMDEyMzQ1Njc4O",
        "czNjcmV0LyJ2YWx1ZSIrMDEyMzQ1Njc4%4f",
        "7333637265742f2276616c7565222b30313233343536373839",
        "7333637265742F2276616C7565222B30313233343536373839"};
    (void)state;

    for (size_t i = 0; i < sizeof(forms) / sizeof(forms[0]); i++) {
        struct ngx_agent_scrub *s = scrub_of(VALUE);
        char *got = feed(s, ag_str(forms[i]), 3);
        for (const char *c = got; *c != '\0'; c++)
            assert_int_equal(*c, '*');
        free(got);
        scrub_done(s);
    }
}

static void
base64_at_every_offset_is_covered(void **state)
{
    (void)state;
    for (size_t before = 0; before < 6; before++) {
        for (size_t after = 0; after < 3; after++) {
            struct ag_err err = AG_ERR_INIT;
            struct ag_buf plain = AG_BUF_INIT(256), text = AG_BUF_INIT(512);
            struct ngx_agent_scrub *s = scrub_of(VALUE);
            ag_buf_add(&plain, ag_str_n("\x01user:", before));
            ag_buf_add(&plain, ag_str(VALUE));
            ag_buf_add(&plain, ag_str_n("::", after));
            assert_int_equal(
                ngx_agent_base64_encode(ag_buf_str(&plain), &text, &err), 0);
            char *got = feed(s, ag_buf_str(&text), 5);
            assert_int_equal(s->hits[0], 1);
            struct ag_buf back = AG_BUF_INIT(512);
            for (char *c = got; *c != '\0'; c++)
                *c = *c == '*' ? 'A' : *c;
            assert_int_equal(ngx_agent_base64_decode(ag_str(got), &back, &err),
                             0);
            /* At most the bits that neighbours share are left. */
            assert_null(memmem(back.p, back.n, &VALUE[2], 4));
            ag_buf_release(&back);
            ag_buf_release(&plain);
            ag_buf_release(&text);
            free(got);
            scrub_done(s);
        }
    }
}

/* What stays behind must not tell how far a match has come. */
static void
the_hold_back_depends_on_the_class_of_bytes_only(void **state)
{
    static const char *const guesses[] = {"s3cret/\"val", "s3cret/XXXX",
                                          "XXXXXXXXXXX"};
    unsigned char out[512];
    (void)state;

    for (size_t i = 0; i < 3; i++) {
        struct ngx_agent_scrub *s = scrub_of(VALUE);
        size_t n = ngx_agent_scrub_feed(s, ag_str(guesses[i]), false, out);
        assert_int_equal(n, 0);
        assert_int_equal(s->n_held, 11);
        n = ngx_agent_scrub_feed(s, AG_STR("\n"), false, out);
        assert_int_equal(n, 12);
        assert_memory_equal(out, guesses[i], 11);
        scrub_done(s);
    }
}

static void
an_event_stream_is_not_delayed(void **state)
{
    struct ngx_agent_scrub *s = scrub_of(VALUE);
    unsigned char out[512];
    (void)state;
    assert_int_equal(ngx_agent_scrub_feed(s, AG_STR("data: 1\n\n"), false, out),
                     9);
    scrub_done(s);
}

static void
a_longer_value_is_covered_as_a_whole(void **state)
{
    struct ngx_agent_scrub *s = ag_xcalloc(1, sizeof(*s));
    (void)state;
    ngx_agent_scrub_init(s, 2);
    ngx_agent_scrub_add(s, AG_STR("shared-prefix-0123"), 0);
    ngx_agent_scrub_add(s, AG_STR("shared-prefix-0123-and-more-of-it"), 1);
    char *got = feed(s, AG_STR("[shared-prefix-0123-and-more-of-it]"), 4);
    assert_string_equal(got, "[*********************************]");
    assert_int_equal(s->hits[1], 1);
    free(got);
    scrub_done(s);
}

/* Sixteen places are looked at together: a text at every place of two such
 * steps, behind bytes that nearly begin one, in texts of every length near it.
 */
static void
a_value_is_found_at_every_place(void **state)
{
    static const char *const forms[] = {
        VALUE,
        "%73"
        "3cret/\\\"value\\\"+0123456789",
        "&#115;3cret/&quot;value&quot;+0123456789",
        "7333637265742f2276616c7565222b30313233343536373839"};
    static const char fill[] = "s%&\\7A";
    struct ngx_agent_scrub *s = scrub_of(VALUE);
    unsigned char text[160];
    unsigned hits = 0;
    (void)state;

    for (size_t f = 0; f < sizeof(forms) / sizeof(forms[0]); f++)
        for (size_t at = 0; at < 40; at++)
            for (size_t behind = 0; behind < 40; behind++) {
                size_t n = strlen(forms[f]);
                memset(text, fill[(at + behind) % 6], sizeof(text));
                memcpy(text + at, forms[f], n);
                assert_int_equal(ngx_agent_scrub_text(s, text, at + n + behind),
                                 1);
                for (size_t i = 0; i < n; i++)
                    assert_int_equal(text[at + i], NGX_AGENT_SCRUB_FILLER);
                hits++;
            }
    assert_int_equal(s->hits[0], hits);
    assert_int_equal(hits, 4 * 40 * 40);
    scrub_done(s);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_split_gives_the_same_text),
        cmocka_unit_test(every_encoding_is_covered),
        cmocka_unit_test(base64_at_every_offset_is_covered),
        cmocka_unit_test(the_hold_back_depends_on_the_class_of_bytes_only),
        cmocka_unit_test(an_event_stream_is_not_delayed),
        cmocka_unit_test(a_value_is_found_at_every_place),
        cmocka_unit_test(a_longer_value_is_covered_as_a_whole),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
