/* What is had by whom, and how it is said. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "lib/scope.h"

static void
scope_names_are_found_and_no_others(void **state)
{
    (void)state;
    for (int i = 0; i < AG_SCOPES_N; i++)
        assert_int_equal(ag_scope_find(ag_str(ag_scope_name(i))), 1u << i);
    assert_int_equal(ag_scope_find(AG_STR("")), 0);
    assert_int_equal(ag_scope_find(AG_STR("Read")), 0);
    assert_int_equal(ag_scope_find(AG_STR("read,write")), 0);
}

static void
scope_of_an_area_is_had_with_all_that_it_gives(void **state)
{
    const unsigned rw = AG_SCOPE_READ | AG_SCOPE_WRITE;

    (void)state;
    assert_int_equal(ag_scopes_beyond(rw, AG_SCOPE_SESSIONS), 0);
    assert_int_equal(ag_scopes_beyond(rw, rw), 0);
    assert_int_equal(ag_scopes_beyond(0, 0), 0);
    assert_int_equal(ag_scopes_beyond(AG_SCOPE_WRITE, AG_SCOPE_SESSIONS),
                     AG_SCOPE_SESSIONS);
    assert_int_equal(ag_scopes_beyond(rw, rw | AG_SCOPE_AUDIT), AG_SCOPE_AUDIT);
    /* An area gives nothing that goes through everything. */
    assert_int_equal(ag_scopes_beyond(AG_SCOPE_SESSIONS | AG_SCOPE_VAULTS, rw),
                     rw);
    assert_int_equal(ag_scopes_beyond(AG_SCOPE_ADMIN, rw), rw);
}

static void
scope_check_names_what_would_be_enough(void **state)
{
    struct ag_err err = AG_ERR_INIT;

    (void)state;
    assert_int_equal(ag_scopes_check(AG_SCOPE_SESSIONS,
                                     AG_SCOPE_WRITE | AG_SCOPE_SESSIONS, &err),
                     0);
    assert_int_equal(ag_scopes_check(AG_SCOPE_READ,
                                     AG_SCOPE_WRITE | AG_SCOPE_SESSIONS, &err),
                     -1);
    assert_int_equal(err.kind, AG_ERR_DENIED);
    assert_string_equal(err.msg,
                        "the key lacks the scope \"write\" or \"sessions\"");
    /* A method that names none is open to nobody. */
    assert_int_equal(ag_scopes_check(AG_SCOPES_ALL, 0, &err), -1);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(scope_names_are_found_and_no_others),
        cmocka_unit_test(scope_of_an_area_is_had_with_all_that_it_gives),
        cmocka_unit_test(scope_check_names_what_would_be_enough),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
