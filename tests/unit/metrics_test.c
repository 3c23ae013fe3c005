/* lib/metrics: what is counted, and the text it becomes. */
#include "tests/unit/unit.h"

#include <stdio.h>

#include "lib/metrics.h"

enum { DONE, OPEN, TOOK, SIZE };

static const double sizes[] = {1, 1048576, 0};

static const struct ag_metric_def defs[] = {
    [DONE] = {"t_done_total",
              "Done, by \"how\"\nand \\why.",
              AG_COUNTER,
              {"how", "why"}},
    [OPEN] = {"t_open", "Open.", AG_GAUGE, {NULL, NULL}},
    [TOOK] = {"t_took_seconds", "Took.", AG_HISTOGRAM, {"part", NULL}},
    [SIZE] = {"t_size", "Size.", AG_HISTOGRAM, {"a", "b", "c", "d"}, sizes},
};

static struct ag_buf text;

static const char *
written(const struct ag_metrics *m)
{
    struct ag_err err;

    ag_buf_release(&text);
    ag_buf_init(&text, 1 << 20);
    assert_int_equal(ag_metrics_write(m, &text, &err), 0);
    return ag_buf_cstr(&text);
}

static void
has(const struct ag_metrics *m, const char *line)
{
    if (strstr(written(m), line) == NULL)
        fail_msg("no %s in\n%s", line, ag_buf_cstr(&text));
}

static void
a_metric_without_labels_is_there_at_zero(void **state)
{
    struct ag_metrics *m = ag_metrics_new(defs, 4);

    (void)state;
    has(m, "# HELP t_open Open.\n# TYPE t_open gauge\nt_open 0\n");
    ag_metrics_set(m, OPEN, NULL, NULL, 7);
    ag_metrics_add(m, OPEN, NULL, NULL, -2);
    has(m, "\nt_open 5\n");
    ag_metrics_free(m);
}

static void
a_histogram_has_bounds_of_its_own(void **state)
{
    static const char *const w[] = {"1", "2", "3", "4"};
    static const char *const x[] = {"1", "2", "3", "x"};
    struct ag_metrics *m = ag_metrics_new(defs, 4);

    (void)state;
    ag_metrics_observe(m, SIZE, w, 1);
    ag_metrics_observe(m, SIZE, w, 1048576);
    ag_metrics_observe(m, SIZE, w, 1048577);
    ag_metrics_observe(m, SIZE, x, 1);
    has(m, "t_size_bucket{a=\"1\",b=\"2\",c=\"3\",d=\"4\",le=\"1\"} 1\n"
           "t_size_bucket{a=\"1\",b=\"2\",c=\"3\",d=\"4\",le=\"1048576\"} 2\n"
           "t_size_bucket{a=\"1\",b=\"2\",c=\"3\",d=\"4\",le=\"+Inf\"} 3\n");
    has(m, "t_size_count{a=\"1\",b=\"2\",c=\"3\",d=\"x\"} 1\n");
    ag_metrics_free(m);
}

static void
labels_and_help_are_escaped(void **state)
{
    struct ag_metrics *m = ag_metrics_new(defs, 4);

    (void)state;
    ag_metrics_add(m, DONE, "a\"b", "c\\d\ne", 1);
    ag_metrics_add(m, DONE, "a\"b", "c\\d\ne", 2);
    has(m, "# HELP t_done_total Done, by \"how\"\\nand \\\\why.\n");
    has(m, "\nt_done_total{how=\"a\\\"b\",why=\"c\\\\d\\ne\"} 3\n");
    ag_metrics_free(m);
}

static void
buckets_are_cumulated(void **state)
{
    struct ag_metrics *m = ag_metrics_new(defs, 4);

    (void)state;
    ag_metrics_observe_us(m, TOOK, "x", NULL, 1000);
    ag_metrics_observe_us(m, TOOK, "x", NULL, 1001);
    ag_metrics_observe_us(m, TOOK, "x", NULL, 7200000000);
    ag_metrics_observe_us(m, TOOK, "x", NULL, -5);
    has(m, "t_took_seconds_bucket{part=\"x\",le=\"0.001\"} 2\n");
    has(m, "t_took_seconds_bucket{part=\"x\",le=\"0.0025\"} 3\n");
    has(m, "t_took_seconds_bucket{part=\"x\",le=\"3600\"} 3\n");
    has(m, "t_took_seconds_bucket{part=\"x\",le=\"+Inf\"} 4\n");
    has(m, "t_took_seconds_sum{part=\"x\"} 7200.002001\n");
    has(m, "t_took_seconds_count{part=\"x\"} 4\n");
    ag_metrics_free(m);
}

static void
too_many_series_are_counted_as_other(void **state)
{
    struct ag_metrics *m = ag_metrics_new(defs, 4);
    char how[16];

    (void)state;
    for (int i = 0; i < AG_METRIC_SERIES + 10; i++) {
        (void)snprintf(how, sizeof(how), "h%d", i);
        ag_metrics_add(m, DONE, how, "w", 1);
    }
    has(m, "{how=\"h62\",why=\"w\"} 1\n");
    has(m, "{how=\"other\",why=\"other\"} 11\n");
    assert_null(strstr(written(m), "h63"));
    ag_metrics_free(m);
}

static void
a_limit_is_an_error(void **state)
{
    struct ag_metrics *m = ag_metrics_new(defs, 4);
    AG_AUTO(ag_buf_release) struct ag_buf out = AG_BUF_INIT(100);
    struct ag_err err;

    (void)state;
    assert_int_equal(ag_metrics_write(m, &out, &err), -1);
    assert_int_equal(err.kind, AG_ERR_LIMIT);
    ag_metrics_free(m);
    ag_metrics_add(NULL, DONE, "a", "b", 1);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_metric_without_labels_is_there_at_zero),
        cmocka_unit_test(a_histogram_has_bounds_of_its_own),
        cmocka_unit_test(labels_and_help_are_escaped),
        cmocka_unit_test(buckets_are_cumulated),
        cmocka_unit_test(too_many_series_are_counted_as_other),
        cmocka_unit_test(a_limit_is_an_error),
    };
    int rc = cmocka_run_group_tests(tests, NULL, NULL);

    ag_buf_release(&text);
    return rc;
}
