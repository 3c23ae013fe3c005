/* A turn's events become spans that a collector takes. */
#include "tests/unit/unit.h"

#include <stdlib.h>

#include "brain_svc/brain_trace.h"

static const char *const events[] = {
    "{\"id\":\"sevt_1\",\"type\":\"user.message\","
    "\"processed_at\":\"2026-11-21T14:00:00.000001Z\","
    "\"content\":[{\"type\":\"text\",\"text\":\"SECRET WORDS\"}]}",
    "{\"id\":\"sevt_2\",\"type\":\"span.model_request_start\","
    "\"processed_at\":\"2026-11-21T14:00:01.000000Z\"}",
    "{\"id\":\"sevt_3\",\"type\":\"span.model_request_end\","
    "\"processed_at\":\"2026-11-21T14:00:02.500000Z\",\"is_error\":false,"
    "\"model_request_start_id\":\"sevt_2\",\"model_usage\":{"
    "\"input_tokens\":12,\"cache_read_input_tokens\":100,\"output_tokens\":34},\"brainbox.model\":{"
    "\"wire\":\"messages\",\"model\":\"m-1\",\"cost_nano_usd\":56}}",
    "{\"id\":\"sevt_4\",\"type\":\"agent.tool_use\",\"name\":"
    "\"sandbox_execute\",\"processed_at\":\"2026-11-21T14:00:02.500000Z\","
    "\"input\":{\"command\":\"SECRET WORDS\"}}",
    "{\"id\":\"sevt_5\",\"type\":\"agent.tool_result\",\"tool_use_id\":"
    "\"sevt_4\",\"is_error\":true,"
    "\"processed_at\":\"2026-11-21T14:00:03.000000Z\"}",
    "{\"id\":\"sevt_6\",\"type\":\"span.model_request_start\","
    "\"processed_at\":\"2026-11-21T14:00:03.000000Z\"}",
    "{\"id\":\"sevt_7\",\"type\":\"session.error\",\"error\":{\"type\":"
    "\"unknown_error\"},\"processed_at\":\"2026-11-21T14:00:04.000000Z\"}",
};

static struct brain_log
make_log(size_t n)
{
    struct brain_log log = {0};
    struct ag_err err;

    for (size_t i = 0; i < n; i++) {
        json_t *body = ag_json_parse(ag_str(events[i]), &err);
        assert_non_null(body);
        brain_log_put(&log, (int64_t)i + 1, body);
        json_decref(body);
    }
    return log;
}

static const char *
attribute(const json_t *span, const char *key)
{
    size_t i;
    json_t *a;

    json_array_foreach (json_object_get(span, "attributes"), i, a) {
        const json_t *v = json_object_get(a, "value");
        if (strcmp(json_string_value(json_object_get(a, "key")), key) == 0)
            return json_string_value(json_object_get(
                v,
                json_object_get(v, "intValue") ? "intValue" : "stringValue"));
    }
    return "";
}

static const char *
text_of(const json_t *span, const char *key)
{
    const char *s = json_string_value(json_object_get(span, key));
    return s == NULL ? "" : s;
}

static void
turn_becomes_spans(void **state)
{
    struct brain_log log = make_log(7);
    struct brain_trace_turn turn = {AG_STR("acme"),
                                    AG_STR("sesn_1"),
                                    AG_STR("brain-1"),
                                    AG_STR("default"),
                                    &log,
                                    0};
    json_t *j = brain_trace_json(&turn), *again = brain_trace_json(&turn);
    const json_t *spans, *s;
    char *text;
    (void)state;

    assert_non_null(j);
    assert_true(json_equal(j, again));
    spans = json_object_get(
        json_array_get(
            json_object_get(
                json_array_get(json_object_get(j, "resourceSpans"), 0),
                "scopeSpans"),
            0),
        "spans");
    /* The call that has no end has no span. */
    assert_int_equal(json_array_size(spans), 3);

    s = json_array_get(spans, 0);
    assert_string_equal(text_of(s, "name"), "invoke_agent");
    assert_string_equal(text_of(s, "startTimeUnixNano"), "1795269600000001000");
    assert_string_equal(text_of(s, "endTimeUnixNano"), "1795269604000000000");
    assert_int_equal(strlen(text_of(s, "traceId")), 32);
    assert_int_equal(strlen(text_of(s, "spanId")), 16);
    assert_string_equal(text_of(s, "parentSpanId"), "");
    assert_string_equal(attribute(s, "gen_ai.conversation.id"), "sesn_1");
    assert_string_equal(attribute(s, "error.type"), "unknown_error");
    assert_int_equal(json_integer_value(
                         json_object_get(json_object_get(s, "status"), "code")),
                     2);

    s = json_array_get(spans, 1);
    assert_string_equal(text_of(s, "name"), "chat m-1");
    assert_string_equal(text_of(s, "parentSpanId"),
                        text_of(json_array_get(spans, 0), "spanId"));
    assert_string_equal(attribute(s, "gen_ai.provider.name"), "anthropic");
    assert_string_equal(attribute(s, "gen_ai.usage.input_tokens"), "112");
    assert_string_equal(attribute(s, "gen_ai.usage.cache_read.input_tokens"),
                        "100");
    assert_string_equal(attribute(s, "gen_ai.usage.output_tokens"), "34");
    assert_string_equal(attribute(s, "brainbox.cost_nano_usd"), "56");
    assert_null(json_object_get(s, "status"));

    s = json_array_get(spans, 2);
    assert_string_equal(text_of(s, "name"), "execute_tool sandbox_execute");
    assert_string_equal(attribute(s, "gen_ai.tool.call.id"), "sevt_4");
    assert_string_equal(attribute(s, "error.type"), "tool_error");

    text = json_dumps(j, 0);
    assert_null(strstr(text, "SECRET"));
    free(text);
    json_decref(j);
    json_decref(again);
    brain_log_release(&log);
}

static void
empty_turn_has_no_spans(void **state)
{
    struct brain_log log = make_log(2);
    struct brain_trace_turn turn = {.log = &log, .start = 2};
    json_t *j = brain_trace_json(&turn);
    (void)state;

    assert_non_null(j);
    json_decref(j);
    brain_log_release(&log);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(turn_becomes_spans),
        cmocka_unit_test(empty_turn_has_no_spans),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
