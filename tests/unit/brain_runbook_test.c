/* brain_svc/brain_runbook.c: which blocks are steps. */
#include "tests/unit/unit.h"

#include "brain_svc/brain_runbook.h"

static void
check(const char *text, size_t n, const char *first, const char *last)
{
    struct brain_runbook book;

    brain_runbook_parse(ag_str(text), &book);
    assert_int_equal(book.n, n);
    if (n > 0) {
        assert_str(book.steps[0], first);
        assert_str(book.steps[n - 1], last);
    }
    brain_runbook_release(&book);
}

static void
fenced_shell_blocks_are_steps_in_order(void **state)
{
    (void)state;
    check("# x\n```sh\na\n```\ntext\n```bash\nb\nc\n```\n", 2, "a\n", "b\nc\n");
    check("~~~shell extra words\na\n~~~\n", 1, "a\n", "a\n");
}

static void
other_languages_and_no_language_are_not(void **state)
{
    (void)state;
    check("```c\nint x;\n```\n```\nplain\n```\n```shx\nno\n```\n", 0, "", "");
}

static void
longer_fences_hold_shorter_ones(void **state)
{
    (void)state;
    check("````sh\ncat <<E\n```sh\ninner\n```\nE\n````\n", 1,
          "cat <<E\n```sh\ninner\n```\nE\n", "cat <<E\n```sh\ninner\n```\nE\n");
}

static void
block_that_is_not_closed_ends_with_the_text(void **state)
{
    (void)state;
    check("```sh\na\nb", 1, "a\nb", "a\nb");
    check("```sh", 1, "", "");
    check("", 0, "", "");
}

static void
carriage_returns_and_indents_are_allowed(void **state)
{
    (void)state;
    check("   ```sh\r\na\r\n   ```\r\n", 1, "a\r\n", "a\r\n");
    check("    ```sh\na\n    ```\n", 0, "", "");
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(fenced_shell_blocks_are_steps_in_order),
        cmocka_unit_test(other_languages_and_no_language_are_not),
        cmocka_unit_test(longer_fences_hold_shorter_ones),
        cmocka_unit_test(block_that_is_not_closed_ends_with_the_text),
        cmocka_unit_test(carriage_returns_and_indents_are_allowed),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
