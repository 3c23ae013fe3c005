/* The rule set: what is found, what is not, and in which pieces it comes. */
#include "tests/unit/unit.h"

#include <stdio.h>
#include <stdlib.h>

#include "lib/buf.h"
#include "ngx_agent_module/ngx_agent_rules.h"

static struct ngx_agent_rules *
rules_of(const char *text)
{
    struct ag_err err = AG_ERR_INIT;
    struct ngx_agent_rules *rules = ngx_agent_rules_new(ag_str(text), &err);
    if (rules == NULL)
        fail_msg("%s", err.msg);
    return rules;
}

static struct ngx_agent_rules *
rules_shipped(void)
{
    char text[65536];
    FILE *f = fopen("vault_svc/rules.conf", "r");
    assert_non_null(f);
    size_t n = fread(text, 1, sizeof(text) - 1, f);
    fclose(f);
    assert_true(n < sizeof(text) - 1);
    text[n] = '\0';
    return rules_of(text);
}

/* Fed in pieces of `step` bytes. The name of the first hit, or NULL. */
static const char *
scan(const struct ngx_agent_rules *rules, ag_str_t text, size_t step,
     struct ngx_agent_rules_scan *s)
{
    struct ag_err err = AG_ERR_INIT;

    assert_int_equal(ngx_agent_rules_scan_init(s, rules, &err), 0);
    for (size_t at = 0; at < text.n; at += step) {
        size_t n = text.n - at < step ? text.n - at : step;
        /* A copy of its own: nothing may be read beyond it. */
        char *piece = ag_str_dup(ag_str_n(text.p + at, n));
        assert_int_equal(ngx_agent_rules_scan_feed(s, ag_str_n(piece, n), &err),
                         0);
        free(piece);
    }
    ngx_agent_rules_scan_release(s);
    return s->n_hits > 0 ? ngx_agent_rules_name(rules, s->hits[0].rule) : NULL;
}

static void
finds_shapes(void **state)
{
    static const struct {
        const char *text, *name;
    } rows[] = {
        {"token ghp_aB3dE6gH9jK2mN5pQ8sT1vW4yZ7bC0dF3gH6", "github-personal"},
        {"{\"a\":\"x\\nAKIAQ3EGRZTBW5NHPJ7K\"}", "aws-access-key"},
        {"-----BEGIN RSA PRIVATE KEY-----\n"
         "MIIEowIBAAKCAQEAwJ8n3kV0pQ7r5tXyZ1a2b3c4d5e6f7g8",
         "private-key"},
        {"-----BEGIN PRIVATE KEY-----\\n"
         "MIIEowIBAAKCAQEAwJ8n3kV0pQ7r5tXyZ1a2b3c4d5e6f7g8",
         "private-key"},
        {"glpat-Zx9_yW8vU7tS6rQ5pO4n", "gitlab"},
        {"k=AIzaSyD4x8Qm2Kp7Lw9Zt3Vb6Nc1Rf5Hj0YgEuA", "google-api"},
        /* Placeholders, words, parts of longer words, other lengths. */
        {"ghp_xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx", NULL},
        {"AKIAIIIIIIIIIIIIIIII", NULL},
        {"the prefix ghp_ is that of a token", NULL},
        {"xAKIAQ3EGRZTBW5NHPJ7K", NULL},
        {"ghp_aB3dE6gH9jK2mN5pQ8sT1vW4yZ7bC0dF3g", NULL},
        {"-----BEGIN PRIVATE KEY-----\nYOUR KEY HERE\n", NULL},
        /* A stub, with the prefix of what it stands for. */
        {"ghp_bbxsabcdefghijklmnopqrstuvwxyz234567", NULL},
    };
    struct ngx_agent_rules *rules = rules_shipped();
    struct ngx_agent_rules_scan s;
    (void)state;

    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
        for (size_t step = 1; step < 80; step += 13) {
            const char *name = scan(rules, ag_str(rows[i].text), step, &s);
            if (rows[i].name == NULL
                    ? name != NULL
                    : name == NULL || strcmp(name, rows[i].name) != 0)
                fail_msg("%s in pieces of %zu: %s", rows[i].text, step,
                         name == NULL ? "(nothing)" : name);
        }
    ngx_agent_rules_free(rules);
}

static void
says_where(void **state)
{
    static const char token[] = "ghp_aB3dE6gH9jK2mN5pQ8sT1vW4yZ7bC0dF3gH6";
    struct ngx_agent_rules *rules = rules_shipped();
    struct ag_buf text = AG_BUF_INIT(1 << 20);
    struct ngx_agent_rules_scan s;
    (void)state;

    for (int i = 0; i < 3; i++) {
        for (int j = 0; j < 5000; j++)
            ag_buf_add(&text, AG_STR("x y "));
        ag_buf_add(&text, ag_str(token));
        ag_buf_add(&text, AG_STR(" "));
    }
    assert_non_null(scan(rules, ag_buf_str(&text), 4096, &s));
    assert_int_equal(s.n_hits, 3);
    for (unsigned i = 0; i < 3; i++) {
        assert_int_equal(s.hits[i].to - s.hits[i].from, strlen(token));
        assert_memory_equal(text.p + s.hits[i].from, token, strlen(token));
    }
    assert_false(s.is_full);
    ag_buf_release(&text);
    ngx_agent_rules_free(rules);
}

static void
remembers_a_bounded_number(void **state)
{
    struct ngx_agent_rules *rules =
        rules_of("shape a pattern=secret[0-9]{4}\n");
    struct ag_buf text = AG_BUF_INIT(1 << 20);
    struct ngx_agent_rules_scan s;
    struct ag_err err = AG_ERR_INIT;
    (void)state;

    for (int i = 0; i < 100; i++)
        assert_int_equal(ag_buf_printf(&text, &err, "secret%04d ", i), 0);
    assert_string_equal(scan(rules, ag_buf_str(&text), 7, &s), "a");
    assert_int_equal(s.n_hits, NGX_AGENT_RULE_HITS);
    assert_true(s.is_full);
    ag_buf_release(&text);
    ngx_agent_rules_free(rules);
}

static void
one_that_only_logs_yields(void **state)
{
    struct ngx_agent_rules *rules =
        rules_of("shape low pattern=tok_[a-z]{8} only=log\n"
                 "shape high pattern=tok_[a-z]{12}\n");
    struct ngx_agent_rules_scan s;
    (void)state;

    assert_string_equal(scan(rules, AG_STR("tok_abcdefgh "), 3, &s), "low");
    assert_true(ngx_agent_rules_only_log(rules, s.hits[0].rule));
    assert_string_equal(scan(rules, AG_STR("tok_abcdefghijkl"), 3, &s), "high");
    assert_int_equal(s.n_hits, 1);
    assert_false(ngx_agent_rules_only_log(rules, s.hits[0].rule));
    ngx_agent_rules_free(rules);
}

static void
refuses_bad_rules(void **state)
{
    static const struct {
        const char *text, *why;
    } rows[] = {
        {"shape a pattern=[a-\n", "shape a"},
        {"shape a pattern=(?=x)y\n", "shape a"},
        {"shape a pattern=x*\n", "shape a"},
        {"shape a pattern=x entropy=9\n", "line 1"},
        {"shape a pattern=x entropy=3.55\n", "line 1"},
        {"\nshape a pattern=x only=mail\n", "line 2"},
        {"shape a prefix=x min=20\n", "lacks"},
        {"shape a\n", "lacks"},
        {"rule a pattern=x\n", "lines are"},
        {"shape a pattern=x pattern=y\n", "each once"},
    };
    (void)state;

    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct ag_err err = AG_ERR_INIT;
        if (ngx_agent_rules_new(ag_str(rows[i].text), &err) != NULL)
            fail_msg("took %s", rows[i].text);
        assert_int_equal(err.kind, AG_ERR_INVALID);
        if (strstr(err.msg, rows[i].why) == NULL)
            fail_msg("%s: %s", rows[i].text, err.msg);
    }
}

static void
an_empty_set_finds_nothing(void **state)
{
    struct ngx_agent_rules *rules = rules_of("# none\n");
    struct ngx_agent_rules_scan s;
    (void)state;

    assert_int_equal(ngx_agent_rules_count(rules), 0);
    assert_null(scan(rules, AG_STR("AKIAQ3EGRZTBW5NHPJ7K"), 5, &s));
    ngx_agent_rules_free(rules);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(finds_shapes),
        cmocka_unit_test(says_where),
        cmocka_unit_test(remembers_a_bounded_number),
        cmocka_unit_test(one_that_only_logs_yields),
        cmocka_unit_test(refuses_bad_rules),
        cmocka_unit_test(an_empty_set_finds_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
