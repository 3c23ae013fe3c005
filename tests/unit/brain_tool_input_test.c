/* brain_svc/brain_tool_input.c: what a model may say to the two tools. */
#include "tests/unit/unit.h"

#include "brain_svc/brain_tool_input.h"

#define DEFAULT_SECONDS 120

/* Reads a call; NULL when it is taken, else what the model is told. */
static const char *
read_call(struct brain_tool_input *in, const char *name, const char *input)
{
    static struct ag_err err;
    struct brain_event event = {
        .body = json_pack(
            "{s:s, s:o}", "name", name, "input",
            json_loads(input, JSON_ALLOW_NUL | JSON_DECODE_ANY, NULL))};
    int rc;

    brain_tool_input_init(in);
    rc = brain_tool_input_read(in, &event, DEFAULT_SECONDS, &err);
    json_decref(event.body);
    if (rc == 0)
        return NULL;
    assert_int_equal(err.kind, AG_ERR_INVALID);
    return err.msg;
}

static void
arguments_are_taken_and_left_out_ones_are_defaults(void **state)
{
    struct brain_tool_input in;
    (void)state;

    assert_null(read_call(&in, "sandbox_execute",
                          "{\"command\":\"ls\",\"sandbox_id\":\"sbx_1\","
                          "\"stdin\":\"in\",\"timeout_seconds\":7}"));
    assert_true(in.is_execute);
    assert_string_equal(in.command, "ls");
    assert_string_equal(in.sandbox_id, "sbx_1");
    assert_string_equal(in.stdin_text, "in");
    assert_int_equal(in.timeout_seconds, 7);
    brain_tool_input_release(&in);
    assert_null(read_call(&in, "sandbox_execute", "{\"command\":\"ls\"}"));
    assert_string_equal(in.sandbox_id, "");
    assert_string_equal(in.stdin_text, "");
    assert_int_equal(in.timeout_seconds, DEFAULT_SECONDS);
    brain_tool_input_release(&in);
    assert_null(
        read_call(&in, "sandbox_provision",
                  "{\"task_description\":\"t\",\"environment\":\"e\"}"));
    assert_false(in.is_execute);
    assert_string_equal(in.task, "t");
    assert_string_equal(in.environment_id, "e");
    brain_tool_input_release(&in);
    assert_null(read_call(&in, "sandbox_provision", "{}"));
    assert_string_equal(in.environment_id, "");
    brain_tool_input_release(&in);
}

static void
what_is_wrong_is_named(void **state)
{
    static const struct {
        const char *name, *input, *why;
    } bad[] = {
        {"shell", "{}", "unknown tool \"shell\""},
        {"sandbox_execute", "[]", "not a JSON object"},
        {"sandbox_execute", "{}", "command: is required"},
        {"sandbox_execute", "{\"command\":7}", "command"},
        {"sandbox_execute", "{\"command\":\"a\\u0000b\"}",
         "command: holds a NUL byte"},
        {"sandbox_execute", "{\"command\":\"ls\",\"stdin\":\"\\u0000\"}",
         "stdin: holds a NUL byte"},
        {"sandbox_execute", "{\"command\":\"ls\",\"timeout_seconds\":0}",
         "timeout_seconds: must be 1 to 3600"},
        {"sandbox_execute", "{\"command\":\"ls\",\"timeout_seconds\":3601}",
         "timeout_seconds: must be 1 to 3600"},
        {"sandbox_execute", "{\"command\":\"ls\",\"timeout_seconds\":\"1\"}",
         "timeout_seconds"},
        {"sandbox_execute", "{\"command\":\"ls\",\"cwd\":\"/\"}",
         "cwd: is no argument of this tool"},
        {"sandbox_provision", "{\"command\":\"ls\"}",
         "command: is no argument of this tool"},
    };
    (void)state;

    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        struct brain_tool_input in;
        const char *why = read_call(&in, bad[i].name, bad[i].input);

        assert_non_null(why);
        if (strstr(why, bad[i].why) == NULL)
            fail_msg("%s %s: %s", bad[i].name, bad[i].input, why);
        brain_tool_input_release(&in);
    }
}

static void
arguments_that_were_no_json_are_told_as_such(void **state)
{
    struct brain_event event = {.body = json_pack("{s:s, s:{}, s:s}", "name",
                                                  "sandbox_execute", "input",
                                                  "brainbox.input_error",
                                                  "cut off in the middle")};
    struct brain_tool_input in;
    struct ag_err err;
    (void)state;

    brain_tool_input_init(&in);
    assert_int_equal(brain_tool_input_read(&in, &event, 1, &err), -1);
    assert_string_equal(err.msg, "cut off in the middle");
    brain_tool_input_release(&in);
    json_decref(event.body);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(arguments_are_taken_and_left_out_ones_are_defaults),
        cmocka_unit_test(what_is_wrong_is_named),
        cmocka_unit_test(arguments_that_were_no_json_are_told_as_such),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
