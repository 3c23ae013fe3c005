/* Unit tests of sandbox_svc/sandbox_journal.c. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <fcntl.h>
#include <unistd.h>

#include <cmocka.h>

#include "lib/err.h"
#include "sandbox_svc/sandbox_journal.h"

#define NAME ".journal"

static int dir = -1;
static char path[] = "/tmp/journal_testXXXXXX";

static struct sandbox_journal *
open_journal(void)
{
    struct ag_err err = AG_ERR_INIT;
    struct sandbox_journal *j = sandbox_journal_open(dir, NAME, &err);

    if (j == NULL)
        print_error("%s\n", err.msg);
    assert_non_null(j);
    return j;
}

static int
add(struct sandbox_journal *j, const char *call_id)
{
    struct sandbox_note n = {.command_bytes = 7};

    snprintf(n.call_id, sizeof(n.call_id), "%s", call_id);
    return sandbox_journal_add(j, &n);
}

static int
begin(void **state)
{
    (void)state;
    strcpy(path + strlen(path) - 6, "XXXXXX");
    dir = mkdtemp(path) == NULL ? -1 : open(path, O_RDONLY | O_DIRECTORY);
    return dir < 0 ? -1 : 0;
}

static int
end(void **state)
{
    (void)state;
    unlinkat(dir, NAME, 0);
    close(dir);
    return rmdir(path);
}

static void
overwrite(off_t at, const char *text)
{
    int fd = openat(dir, NAME, O_WRONLY);

    assert_int_equal(pwrite(fd, text, strlen(text), at), strlen(text));
    close(fd);
}

static void
notes_outlive_an_end_that_was_not_clean(void **state)
{
    struct sandbox_journal *j = open_journal();
    int at = 0;

    (void)state;
    add(j, "a");
    int b = add(j, "b");
    add(j, "c");
    sandbox_journal_remove(j, b);
    sandbox_journal_close(j, false);

    j = open_journal();
    assert_false(sandbox_journal_is_unsure(j));
    assert_string_equal(sandbox_journal_next(j, &at)->call_id, "a");
    const struct sandbox_note *c = sandbox_journal_next(j, &at);
    assert_string_equal(c->call_id, "c");
    assert_int_equal(c->command_bytes, 7);
    assert_null(sandbox_journal_next(j, &at));
    sandbox_journal_close(j, false);
}

static void
another_boot_is_unsure_until_a_clean_end(void **state)
{
    struct sandbox_journal *j = open_journal();

    (void)state;
    sandbox_journal_close(j, false);
    overwrite(8, "00000000");
    j = open_journal();
    assert_true(sandbox_journal_is_unsure(j));
    sandbox_journal_close(j, false);
    j = open_journal();
    assert_true(sandbox_journal_is_unsure(j));
    sandbox_journal_close(j, true);
    j = open_journal();
    assert_false(sandbox_journal_is_unsure(j));
    sandbox_journal_close(j, true);
    overwrite(8, "00000000");
    j = open_journal();
    assert_false(sandbox_journal_is_unsure(j));
    sandbox_journal_close(j, true);
}

static void
an_end_with_notes_is_not_clean(void **state)
{
    struct sandbox_journal *j = open_journal();

    (void)state;
    add(j, "a");
    sandbox_journal_close(j, true);
    overwrite(8, "00000000");
    j = open_journal();
    assert_true(sandbox_journal_is_unsure(j));
    sandbox_journal_close(j, true);
}

static void
damage_is_unsure_and_has_no_notes(void **state)
{
    struct sandbox_journal *j = open_journal();
    char all[sizeof(struct sandbox_note)];
    int at = 0;

    (void)state;
    add(j, "a");
    sandbox_journal_close(j, false);
    /* The strings of the first note have no end. */
    memset(all, 'x', sizeof(all));
    all[sizeof(all) - 1] = 0;
    overwrite(72, all);
    j = open_journal();
    assert_true(sandbox_journal_is_unsure(j));
    assert_null(sandbox_journal_next(j, &at));
    sandbox_journal_close(j, false);
}

static void
it_has_one_owner_and_an_end(void **state)
{
    struct sandbox_journal *j = open_journal();
    struct ag_err err = AG_ERR_INIT;
    int n = 0;

    (void)state;
    assert_null(sandbox_journal_open(dir, NAME, &err));
    assert_int_equal(err.kind, AG_ERR_CONFLICT);
    while (add(j, "x") >= 0)
        n++;
    assert_int_equal(n, 4096);
    sandbox_journal_remove(j, 17);
    assert_int_equal(add(j, "y"), 17);
    sandbox_journal_close(j, false);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(notes_outlive_an_end_that_was_not_clean,
                                        begin, end),
        cmocka_unit_test_setup_teardown(
            another_boot_is_unsure_until_a_clean_end, begin, end),
        cmocka_unit_test_setup_teardown(an_end_with_notes_is_not_clean, begin,
                                        end),
        cmocka_unit_test_setup_teardown(damage_is_unsure_and_has_no_notes,
                                        begin, end),
        cmocka_unit_test_setup_teardown(it_has_one_owner_and_an_end, begin,
                                        end),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
