/* Unit tests of sandbox_svc/sandbox_demand.c. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "sandbox_svc/sandbox_demand.h"

#define SECOND 1000

static void
claim(struct sandbox_demand *d, int n, int64_t now_ms)
{
    for (int i = 0; i < n; i++)
        sandbox_demand_claim(d, now_ms);
}

static void
the_busiest_second_decides_as_long_as_it_counts(void **state)
{
    struct sandbox_demand d = {.second = 0};
    int64_t t = 1000000 * (int64_t)SECOND;

    (void)state;
    claim(&d, 3, t);
    claim(&d, 9, t + SECOND);
    claim(&d, 1, t + SECOND + 999);
    claim(&d, 5, t + 2 * SECOND);
    assert_int_equal(sandbox_demand_want(&d, t + 3 * SECOND, 2, 100), 10);
    assert_int_equal(sandbox_demand_want(&d, t + 30 * SECOND, 2, 100), 10);
    assert_int_equal(sandbox_demand_want(&d, t + 31 * SECOND, 2, 100), 5);
    assert_int_equal(sandbox_demand_want(&d, t + 32 * SECOND, 2, 100), 2);
}

static void
it_stays_between_the_limits(void **state)
{
    struct sandbox_demand d = {.second = 0};

    (void)state;
    assert_int_equal(sandbox_demand_want(&d, 5, 2, 8), 2);
    claim(&d, 50, 6);
    assert_int_equal(sandbox_demand_want(&d, 7, 2, 8), 8);
    assert_int_equal(sandbox_demand_want(&d, 7, 60, 8), 60);
    assert_int_equal(sandbox_demand_want(&d, 7 + 1000 * (int64_t)SECOND, 2, 8),
                     2);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_busiest_second_decides_as_long_as_it_counts),
        cmocka_unit_test(it_stays_between_the_limits),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
