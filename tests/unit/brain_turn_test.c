/* brain_svc/brain_turn.c, brain_tools.c: what the log says comes next. */
#include "tests/unit/unit.h"

#include "brain_svc/brain_tools.h"
#include "brain_svc/brain_turn.h"

static const char *
put(struct brain_log *log, const char *type, const char *key, const char *value)
{
    json_t *e = brain_event_new(type);

    if (key != NULL && strcmp(key, "stop") == 0)
        json_object_set_new(e, "stop_reason",
                            json_pack("{s:s}", "type", value));
    else if (key != NULL)
        json_object_set_new(e, key, json_string(value));
    brain_log_put(log, brain_log_last(log) + 1, e);
    json_decref(e);
    return log->at[log->n - 1].id;
}

static enum brain_step
step(const struct brain_log *log, bool must_stop)
{
    struct brain_turn turn;

    brain_turn_find(log, &turn);
    return brain_turn_decide(log, &turn, must_stop).step;
}

static void
turn_begins_runs_its_tools_and_advances(void **state)
{
    struct brain_log log = {.base = 0};
    const char *call;

    (void)state;
    put(&log, "user.interrupt", NULL, NULL);
    assert_int_equal(step(&log, false), BRAIN_STEP_NOTHING);
    put(&log, "user.message", NULL, NULL);
    assert_int_equal(step(&log, false), BRAIN_STEP_BEGIN);
    put(&log, "session.status_running", NULL, NULL);
    assert_int_equal(step(&log, false), BRAIN_STEP_ADVANCE);
    call = put(&log, "agent.tool_use", NULL, NULL);
    assert_int_equal(step(&log, false), BRAIN_STEP_CALL);
    assert_int_equal(step(&log, true), BRAIN_STEP_STOP);
    put(&log, "user.interrupt", NULL, NULL);
    assert_int_equal(step(&log, false), BRAIN_STEP_STOP);
    put(&log, "user.message", NULL, NULL);
    assert_int_equal(step(&log, false), BRAIN_STEP_CALL);
    put(&log, "agent.tool_result", "tool_use_id", call);
    assert_int_equal(step(&log, false), BRAIN_STEP_ADVANCE);
    put(&log, "session.status_idle", "stop", "end_turn");
    assert_int_equal(step(&log, false), BRAIN_STEP_NOTHING);
    brain_log_release(&log);
}

static void
turn_that_waits_goes_on_where_it_was(void **state)
{
    struct brain_log log = {.base = 0};
    const char *custom, *asked;
    struct brain_turn turn;

    (void)state;
    put(&log, "user.message", NULL, NULL);
    put(&log, "session.status_running", NULL, NULL);
    custom = put(&log, "agent.custom_tool_use", NULL, NULL);
    asked = put(&log, "agent.tool_use", "evaluated_permission", "ask");
    assert_int_equal(step(&log, false), BRAIN_STEP_WAIT);
    put(&log, "session.status_idle", "stop", "requires_action");
    put(&log, "user.custom_tool_result", "custom_tool_use_id", custom);
    assert_int_equal(step(&log, false), BRAIN_STEP_BEGIN);
    put(&log, "session.status_running", NULL, NULL);
    assert_int_equal(step(&log, false), BRAIN_STEP_WAIT);
    put(&log, "user.tool_confirmation", "tool_use_id", asked);
    assert_int_equal(step(&log, false), BRAIN_STEP_DENY);
    json_object_set_new(log.at[log.n - 1].body, "result", json_string("allow"));
    assert_int_equal(step(&log, false), BRAIN_STEP_CALL);
    brain_turn_find(&log, &turn);
    assert_int_equal(turn.start, 0);
    assert_true(turn.has_message);
    brain_log_release(&log);
}

static void
open_span_is_the_last_without_an_end(void **state)
{
    struct brain_log log = {.base = 0};
    struct brain_turn turn;
    const char *start;

    (void)state;
    put(&log, "user.message", NULL, NULL);
    put(&log, "span.model_request_start", NULL, NULL);
    put(&log, "span.model_request_end", NULL, NULL);
    brain_turn_find(&log, &turn);
    assert_null(brain_turn_open_span(&log, &turn));
    start = put(&log, "span.model_request_start", NULL, NULL);
    assert_string_equal(brain_turn_open_span(&log, &turn)->id, start);
    brain_log_release(&log);
}

static void
tools_are_sorted_and_ask_as_their_policy_says(void **state)
{
    struct ag_err err;
    struct brain_tools *t = brain_tools_new(
        AG_STR("[{\"type\":\"custom\",\"name\":\"z\",\"input_schema\":{}},"
               "{\"type\":\"agent_toolset_20260401\",\"configs\":[{\"name\":"
               "\"sandbox_provision\",\"permission_policy\":{\"type\":"
               "\"always_ask\"}}]},{\"type\":\"custom\",\"name\":\"a\","
               "\"input_schema\":{}},{\"type\":\"mcp_toolset\"}]"),
        &err);
    static const char *const names[] = {"a", "sandbox_execute",
                                        "sandbox_provision", "z"};
    static const bool asks[] = {false, false, true, false};

    (void)state;
    assert_non_null(t);
    assert_int_equal(json_array_size(brain_tools_list(t)), 4);
    for (size_t i = 0; i < 4; i++) {
        json_t *none = json_object();
        json_t *e = brain_tools_call(t, ag_str(names[i]), none);

        assert_string_equal(
            json_string_value(json_object_get(
                json_array_get(brain_tools_list(t), i), "name")),
            names[i]);
        assert_int_equal(json_object_get(e, "evaluated_permission") != NULL,
                         asks[i]);
        assert_string_equal(brain_event_type(e), strlen(names[i]) == 1
                                                     ? "agent.custom_tool_use"
                                                     : "agent.tool_use");
        json_decref(e);
        json_decref(none);
    }
    brain_tools_free(t);
    assert_null(brain_tools_new(
        AG_STR("[{\"type\":\"custom\",\"name\":\"a b\"}]"), &err));
    assert_non_null(strstr(err.msg, "tools[0]: name"));
    assert_null(brain_tools_new(
        AG_STR("[{\"type\":\"custom\",\"name\":\"a\"}]"), &err));
    assert_non_null(strstr(err.msg, "input_schema"));
}

static void
staged_events_stay_behind_all_others(void **state)
{
    struct brain_log log = {.base = 7};
    json_t *e[3];

    (void)state;
    for (int i = 0; i < 3; i++)
        e[i] = brain_event_new("agent.message");
    brain_log_stage(&log, e[0]);
    brain_log_stage(&log, e[1]);
    assert_int_equal(brain_log_last(&log), 7);
    brain_log_put(&log, 8, e[2]);
    assert_int_equal(brain_log_last(&log), 8);
    assert_int_equal(brain_log_whole(&log), 8);
    assert_ptr_equal(log.at[0].body, e[2]);
    brain_log_unstage(&log, 1);
    assert_int_equal(log.n, 2);
    assert_ptr_equal(log.at[1].body, e[1]);
    brain_log_put(&log, 9, e[0]);
    assert_ptr_equal(log.at[1].body, e[0]);
    assert_int_equal(log.at[2].seq, BRAIN_SEQ_STAGED);
    brain_log_release(&log);
    assert_int_equal(log.n_staged, 0);
    for (int i = 0; i < 3; i++)
        json_decref(e[i]);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(turn_begins_runs_its_tools_and_advances),
        cmocka_unit_test(turn_that_waits_goes_on_where_it_was),
        cmocka_unit_test(staged_events_stay_behind_all_others),
        cmocka_unit_test(open_span_is_the_last_without_an_end),
        cmocka_unit_test(tools_are_sorted_and_ask_as_their_policy_says),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
