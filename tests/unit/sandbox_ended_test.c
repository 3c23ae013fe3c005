/* Unit tests of sandbox_svc/sandbox_ended.c. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "sandbox_svc/sandbox_ended.h"

static void
the_last_reason_is_told_until_it_is_forgotten(void **state)
{
    struct sandbox_ended *e = sandbox_ended_new();

    (void)state;
    assert_null(sandbox_ended_why(e, "sesn_a"));
    sandbox_ended_note(e, "sesn_a", "idle");
    sandbox_ended_note(e, "sesn_b", "died");
    sandbox_ended_note(e, "sesn_a", "full");
    assert_string_equal(sandbox_ended_why(e, "sesn_a"), "full");
    assert_string_equal(sandbox_ended_why(e, "sesn_b"), "died");
    sandbox_ended_note(e, "sesn_a", NULL);
    assert_null(sandbox_ended_why(e, "sesn_a"));
    sandbox_ended_free(e);
}

static void
only_so_many_are_kept(void **state)
{
    struct sandbox_ended *e = sandbox_ended_new();
    char id[40];

    (void)state;
    for (int i = 0; i < 1000; i++) {
        snprintf(id, sizeof(id), "sesn_%d", i);
        sandbox_ended_note(e, id, "idle");
    }
    assert_null(sandbox_ended_why(e, "sesn_0"));
    assert_non_null(sandbox_ended_why(e, "sesn_999"));
    assert_non_null(sandbox_ended_why(e, "sesn_800"));
    sandbox_ended_free(e);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_last_reason_is_told_until_it_is_forgotten),
        cmocka_unit_test(only_so_many_are_kept),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
