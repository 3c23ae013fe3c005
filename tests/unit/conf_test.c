/* lib/conf.c: sources in their order, and what is refused. */
#include "tests/unit/unit.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "lib/conf.h"

struct opts {
    char *name;
    int64_t count;
    bool is_on;
};

static const struct ag_conf_option table[] = {
    {"name", AG_CONF_STR, "", "anna", 1, 16, NULL, offsetof(struct opts, name),
     "a name"},
    {"max_count", AG_CONF_INT, "", "3", 1, 10, "BBX_TEST_COUNT",
     offsetof(struct opts, count), "a number"},
    {"is_on", AG_CONF_BOOL, "", "false", 0, 1, NULL,
     offsetof(struct opts, is_on), "a switch"},
};
static const struct ag_conf conf = {"test", "tests", "[options]", table, 3};

static int
load(struct opts *o, struct ag_err *err, int argc, const char *a, const char *b,
     const char *c)
{
    char *argv[] = {(char *)(uintptr_t) "test", (char *)(uintptr_t)a,
                    (char *)(uintptr_t)b, (char *)(uintptr_t)c};
    int words, rc;

    memset(o, 0, sizeof(*o));
    rc = ag_conf_load(&conf, argc, argv, o, &words, err);
    return rc < 0 ? rc : words;
}

static void
later_sources_win(void **state)
{
    char path[] = "/tmp/bbconfXXXXXX", arg[64];
    int fd = mkstemp(path);
    struct opts o;
    struct ag_err err;

    (void)state;
    assert_true(fd >= 0);
    assert_true(dprintf(fd, "# comment\n name = bert \nmax_count=4\n") > 0);
    (void)close(fd);
    (void)snprintf(arg, sizeof(arg), "--config=%s", path);
    assert_int_equal(load(&o, &err, 2, arg, NULL, NULL), 0);
    assert_string_equal(o.name, "bert");
    assert_int_equal(o.count, 4);
    ag_conf_release(&conf, &o);
    (void)setenv("BBX_TEST_COUNT", "5", 1);
    assert_int_equal(load(&o, &err, 3, arg, "--name=carl", NULL), 0);
    assert_string_equal(o.name, "carl");
    assert_int_equal(o.count, 5);
    ag_conf_release(&conf, &o);
    assert_int_equal(load(&o, &err, 4, "--is-on", "--max-count", "6"), 0);
    assert_true(o.is_on);
    assert_int_equal(o.count, 6);
    ag_conf_release(&conf, &o);
    (void)unsetenv("BBX_TEST_COUNT");
    (void)unlink(path);
}

static void
refusals_name_the_option(void **state)
{
    static const struct {
        const char *arg, *message;
    } cases[] = {
        {"--max_count=11", "max_count: 11 is not between 1 and 10"},
        {"--max_count=x", "max_count: \"x\" is not an integer"},
        {"--is_on=maybe", "is_on: \"maybe\" is neither true nor false"},
        {"--nmae=x", "unknown option --nmae (--help lists them)"},
        {"--name=12345678901234567", "name: must have 1 to 16 bytes"},
        {"--name", "--name: needs a value"},
    };
    struct ag_err err;
    struct opts o;

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        assert_int_equal(load(&o, &err, 2, cases[i].arg, NULL, NULL), -1);
        assert_string_equal(err.msg, cases[i].message);
        ag_conf_release(&conf, &o);
    }
}

static void
words_are_left_in_order(void **state)
{
    struct ag_err err;
    struct opts o;

    (void)state;
    assert_int_equal(load(&o, &err, 4, "key", "--is_on", "create"), 2);
    ag_conf_release(&conf, &o);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(later_sources_win),
        cmocka_unit_test(refusals_name_the_option),
        cmocka_unit_test(words_are_left_in_order),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
