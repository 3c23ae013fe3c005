/* brain_svc/brain_wire*.c, brain_retry.c, brain_price.c, brain_prompt.c. */
#include "tests/unit/unit.h"

#include "brain_svc/brain_context.h"
#include "brain_svc/brain_price.h"
#include "brain_svc/brain_retry.h"
#include "brain_svc/brain_route.h"
#include "lib/clock.h"

#define D(x) "data: " x "\n\n"
#define DELTA(x) D("{\"choices\":[{\"index\":0,\"delta\":" x "}]}")

static const char chat[] = ": comment\n" DELTA("{\"content\":\"Hel\"}")
    DELTA("{\"content\":\"lo\"}") DELTA(
        "{\"tool_calls\":[{\"index\":0,\"id\":\"c1\",\"function\":"
        "{\"name\":\"run\",\"arguments\":\"\"}}]}")
        DELTA("{\"tool_calls\":[{\"index\":1,\"id\":\"c2\",\"function\":"
              "{\"name\":\"other\",\"arguments\":\"{}\"}}]}")
            DELTA("{\"tool_calls\":[{\"index\":0,\"function\":{\"arguments\":"
                  "\"{\\\"c\\\":1}\"}}]}")
                D("{\"choices\":[{\"index\":0,\"delta\":{},"
                  "\"finish_reason\":\"tool_calls\"}]}\r")
                    D("{\"choices\":[],\"usage\":{\"prompt_tokens\":12,"
                      "\"completion_tokens\":5,\"prompt_tokens_details\":"
                      "{\"cached_tokens\":4}}}") D("[DONE]");

static const char responses[] =
    D("{\"type\":\"response.output_item.added\",\"output_index\":0,"
      "\"item\":{\"type\":\"message\"}}")
        D("{\"type\":\"response.output_text.delta\",\"output_index\":0,"
          "\"delta\":\"Hello\"}")
            D("{\"type\":\"response.output_item.added\",\"output_index\":1,"
              "\"item\":{\"type\":\"function_call\",\"name\":\"run\"}}")
                D("{\"type\":\"response.output_item.added\","
                  "\"output_index\":2,\"item\":{\"type\":\"function_call\","
                  "\"name\":\"other\"}}")
                    D("{\"type\":\"response.function_call_arguments.delta\","
                      "\"output_index\":1,\"delta\":\"{\\\"c\\\":1}\"}")
                        D("{\"type\":\"response.completed\",\"response\":"
                          "{\"usage\":{\"input_tokens\":12,\"output_tokens\":"
                          "5,\"input_tokens_details\":{\"cached_tokens\":"
                          "4}}}}");

static const char messages[] =
    D("{\"type\":\"message_start\",\"message\":{\"usage\":{"
      "\"input_tokens\":8,\"cache_read_input_tokens\":4,"
      "\"output_tokens\":1}}}")
        D("{\"type\":\"content_block_start\",\"index\":0,"
          "\"content_block\":{\"type\":\"text\",\"text\":\"Hel\"}}")
            D("{\"type\":\"content_block_delta\",\"index\":0,"
              "\"delta\":{\"type\":\"text_delta\",\"text\":\"lo\"}}")
                D("{\"type\":\"content_block_start\",\"index\":1,"
                  "\"content_block\":{\"type\":\"tool_use\",\"name\":"
                  "\"run\",\"input\":{}}}")
                    D("{\"type\":\"content_block_delta\",\"index\":1,"
                      "\"delta\":{\"type\":\"input_json_delta\","
                      "\"partial_json\":\"{\\\"c\\\":1}\"}}")
                        D("{\"type\":\"content_block_start\",\"index\":2,"
                          "\"content_block\":{\"type\":\"tool_use\","
                          "\"name\":\"other\"}}")
                            D("{\"type\":\"message_delta\",\"delta\":{"
                              "\"stop_reason\":\"tool_use\"},\"usage\":{"
                              "\"output_tokens\":5}}")
                                D("{\"type\":\"message_stop\"}");

static int
feed(const char *wire, struct brain_answer *a, const char *text, size_t size,
     size_t max, struct ag_err *err)
{
    size_t n = strlen(text);

    brain_answer_init(a, max, NULL, NULL);
    for (size_t at = 0; at < n; at += size)
        if (brain_wire_feed(brain_wire_find(ag_str(wire)), a,
                            ag_str_n(text + at, n - at < size ? n - at : size),
                            err)
            < 0)
            return -1;
    return 0;
}

/* The same answer over each wire, however the bytes are cut. */
static void
each_wire_gives_the_same_answer_from_pieces_of_any_size(void **state)
{
    static const char *const all[][2] = {
        {"chat", chat}, {"responses", responses}, {"messages", messages}};

    (void)state;
    for (size_t w = 0; w < 3; w++)
        for (size_t size = 1; size < 4096; size = size * 2 + 1) {
            struct brain_answer a;
            struct ag_err err;

            assert_int_equal(feed(all[w][0], &a, all[w][1], size, 1000, &err),
                             0);
            assert_int_equal(a.n_blocks, 3);
            assert_str(ag_buf_str(&a.blocks[0].text), "Hello");
            assert_int_equal(a.n_calls, 2);
            assert_str(ag_buf_str(&a.blocks[1].text), "{\"c\":1}");
            assert_str(ag_buf_str(&a.blocks[2].name), "other");
            assert_int_equal(a.finish, BRAIN_FINISH_CALLS);
            assert_int_equal(a.usage.input, 8);
            assert_int_equal(a.usage.cache_read, 4);
            assert_int_equal(a.usage.output, 5);
            assert_true(a.is_done);
            brain_answer_release(&a);
        }
}

static enum ag_err_kind
kind_of(const char *wire, const char *text, size_t max)
{
    struct ag_err err = AG_ERR_INIT;
    struct brain_answer a;

    (void)feed(wire, &a, text, 4096, max, &err);
    brain_answer_release(&a);
    return err.kind;
}

static void
broken_streams_are_told_apart(void **state)
{
    static const char *const wires[] = {"chat", "responses", "messages"};

    (void)state;
    for (size_t w = 0; w < 3; w++) {
        assert_int_equal(kind_of(wires[w], "data: {\n", 100), AG_ERR_CORRUPT);
        assert_int_equal(kind_of(wires[w], "data: 7\n", 100), AG_ERR_CORRUPT);
        assert_int_equal(kind_of(wires[w], "event: ping\ndata:\n\n", 100),
                         AG_ERR_NONE);
    }
    assert_int_equal(kind_of("chat", DELTA("{\"content\":7}"), 100),
                     AG_ERR_CORRUPT);
    assert_int_equal(
        kind_of("chat", DELTA("{\"tool_calls\":[{\"index\":3}]}"), 100),
        AG_ERR_CORRUPT);
    assert_int_equal(
        kind_of("chat", DELTA("{\"tool_calls\":[{\"index\":-1}]}"), 100),
        AG_ERR_CORRUPT);
    assert_int_equal(
        kind_of("chat", DELTA("{\"content\":\"12345678901\"}"), 10),
        AG_ERR_LIMIT);
    assert_int_equal(kind_of("chat", D("{\"error\":{\"message\":\"x\"}}"), 100),
                     AG_ERR_UNAVAILABLE);
    assert_int_equal(
        kind_of("responses", D("{\"type\":\"error\",\"message\":\"x\"}"), 100),
        AG_ERR_UNAVAILABLE);
    assert_int_equal(
        kind_of("responses",
                D("{\"type\":\"response.function_call_arguments.delta\","
                  "\"output_index\":5,\"delta\":\"x\"}"),
                100),
        AG_ERR_CORRUPT);
    assert_int_equal(
        kind_of("messages",
                D("{\"type\":\"content_block_delta\",\"index\":0,"
                  "\"delta\":{\"type\":\"text_delta\",\"text\":\"x\"}}"),
                100),
        AG_ERR_CORRUPT);
    assert_int_equal(
        kind_of("messages",
                D("{\"type\":\"error\",\"error\":{\"message\":\"x\"}}"), 100),
        AG_ERR_UNAVAILABLE);
}

static void
delays_follow_retry_after_else_double_within_their_spread(void **state)
{
    int64_t now = ag_now_us(), ms;

    (void)state;
    assert_int_equal(brain_retry_after_ms(AG_STR("7"), 0), 7000);
    assert_int_equal(brain_retry_after_ms(AG_STR("-7"), 0), -1);
    assert_int_equal(brain_retry_after_ms(AG_STR("soon, perhaps"), 0), -1);
    assert_int_equal(
        brain_retry_after_ms(AG_STR("Wed, 21 Oct 2015 07:28:00 GMT"), now), 0);
    assert_int_equal(
        brain_retry_after_ms(AG_STR("Wed, 21 Oct 2015 07:28:00 GMT"),
                             1445412470LL * 1000000),
        10000);
    assert_int_equal(brain_retry_delay_ms(1, 7000, 0, 30000), 7000);
    assert_int_equal(brain_retry_delay_ms(1, 0, 0, 30000), 0);
    assert_int_equal(brain_retry_delay_ms(1, 70000, 0, 30000), 30000);
    for (int attempt = 1; attempt < 40; attempt++) {
        int64_t low = brain_retry_delay_ms(attempt, -1, 0, 30000);
        int64_t high = brain_retry_delay_ms(attempt, -1, UINT32_MAX, 30000);

        ms = attempt < 7 ? 500LL << (attempt - 1) : 30000;
        assert_true(low == ms / 2 || low == 15000);
        assert_true(high > low && high <= 30000);
    }
}

static void
prices_are_by_model_and_refuse_what_is_none(void **state)
{
    struct brain_usage u = {.input = 10, .output = 2, .cache_read = 100};
    struct brain_prices *p;
    struct ag_err err;
    int64_t nano = 0;

    (void)state;
    p = brain_prices_parse(AG_STR("# note\nm 3 15 0.3\n* 1 1 # any\n"), &err);
    assert_non_null(p);
    assert_true(brain_price_of(p, AG_STR("m"), &u, &nano));
    assert_int_equal(nano, 10 * 3000 + 2 * 15000 + 100 * 300);
    assert_true(brain_price_of(p, AG_STR("other"), &u, &nano));
    assert_int_equal(nano, 112 * 1000);
    brain_prices_free(p);
    assert_null(brain_prices_parse(AG_STR("m 3 15\nn 3\n"), &err));
    assert_non_null(strstr(err.msg, "line 2"));
    assert_null(brain_prices_parse(AG_STR("m 3 -1\n"), &err));
    assert_null(brain_prices_parse(AG_STR("m 1 2 3 4 5\n"), &err));
    assert_int_equal(brain_price_parse(AG_STR("1.8e-05"), &nano), 0);
    assert_int_equal(nano, 18000);
    assert_int_equal(brain_price_parse(AG_STR("nan"), &nano), -1);
    assert_int_equal(brain_price_parse(AG_STR("None"), &nano), -1);
}

static void
routes_are_the_agents_model_then_the_fallbacks_in_order(void **state)
{
    char url[] = "http://a/v1", wire[] = "chat";
    char list[] = "messages,m2  responses,m/3,https://b/v1";
    struct brain_conf conf = {
        .model_base_url = url, .model_wire = wire, .model_fallbacks = list};
    char bad[] = "smoke,m";
    struct brain_route r;
    struct ag_err err;

    (void)state;
    assert_int_equal(brain_route_check(&conf, &err), 0);
    assert_true(brain_route_get(&conf, AG_STR("m1"), AG_STR(""), 0, &r));
    assert_string_equal(r.wire->name, "chat");
    assert_str(r.model, "m1");
    assert_true(
        brain_route_get(&conf, AG_STR("m1"), AG_STR("messages"), 0, &r));
    assert_string_equal(r.wire->name, "messages");
    assert_true(brain_route_get(&conf, AG_STR("m1"), AG_STR(""), 1, &r));
    assert_str(r.base_url, "http://a/v1");
    assert_true(brain_route_get(&conf, AG_STR("m1"), AG_STR(""), 2, &r));
    assert_str(r.model, "m/3");
    assert_str(r.base_url, "https://b/v1");
    assert_false(brain_route_get(&conf, AG_STR("m1"), AG_STR(""), 3, &r));
    conf.model_fallbacks = bad;
    assert_int_equal(brain_route_check(&conf, &err), -1);
    assert_non_null(strstr(err.msg, "smoke,m"));
}

static void
put(struct brain_log *log, const char *type, const char *key, const char *value)
{
    json_t *e = brain_event_new(type);

    if (key != NULL && strcmp(key, "content") == 0)
        json_object_set_new(e, key, brain_text_content(ag_str(value)));
    else if (key != NULL)
        json_object_set_new(e, key, json_string(value));
    brain_log_put(log, brain_log_last(log) + 1, e);
    json_decref(e);
}

/* A message in mid-turn stands in the log between a call and its result. */
static void
results_stand_right_behind_their_calls(void **state)
{
    static const enum brain_item_kind want[] = {
        BRAIN_ITEM_USER,   BRAIN_ITEM_CALL, BRAIN_ITEM_CALL, BRAIN_ITEM_RESULT,
        BRAIN_ITEM_RESULT, BRAIN_ITEM_USER, BRAIN_ITEM_USER, BRAIN_ITEM_AGENT};
    struct brain_prompt p = {.n = 0};
    struct brain_log log = {.base = 0};

    (void)state;
    put(&log, "user.message", NULL, NULL);
    put(&log, "session.status_running", NULL, NULL);
    put(&log, "span.model_request_start", NULL, NULL);
    put(&log, "agent.tool_use", NULL, NULL);
    put(&log, "agent.tool_use", NULL, NULL);
    put(&log, "user.message", NULL, NULL);
    put(&log, "agent.tool_result", "tool_use_id", log.at[3].id);
    put(&log, "user.message", NULL, NULL);
    put(&log, "agent.tool_result", "tool_use_id", log.at[4].id);
    put(&log, "span.model_request_start", NULL, NULL);
    put(&log, "agent.message", NULL, NULL);
    brain_prompt_fill(&p, &log);
    assert_int_equal(p.n, 8);
    for (size_t i = 0; i < p.n; i++)
        assert_int_equal(p.items[i].kind, want[i]);
    assert_string_equal(p.items[3].call_id, log.at[3].id);
    brain_prompt_release(&p);
    brain_log_release(&log);
}

/* Steps of a user's message, a model call and its answer; then a compaction. */
static void
summary_stands_for_what_it_sums_up(void **state)
{
    char text[401] = {0};
    struct brain_prompt p = {.n = 0};
    struct brain_log log = {.base = 0};
    int64_t cut;
    json_t *e;

    (void)state;
    memset(text, 'x', 400);
    for (int i = 0; i < 10; i++) {
        put(&log, "user.message", "content", text);
        put(&log, "span.model_request_start", NULL, NULL);
        put(&log, "span.model_request_end", NULL, NULL);
        put(&log, "agent.message", "content", text);
    }
    assert_in_range(brain_context_tokens(&log), 2000, 2200);
    cut = brain_context_cut(&log, 450);
    assert_int_equal(cut, 34); /* the last two answers and a message */
    assert_int_equal(brain_context_cut(&log, 0), 38);
    assert_int_equal(brain_context_cut(&log, 100000), 2);
    put(&log, "span.model_request_start", NULL, NULL);
    e = brain_event_new(BRAIN_COMPACTED);
    json_object_set_new(e, "brainbox.kept_seq", json_integer(34));
    brain_log_put(&log, 42, e);
    json_decref(e);
    assert_in_range(brain_context_tokens(&log), 300, 340);
    brain_prompt_fill(&p, &log);
    assert_int_equal(p.n, 4);
    assert_string_equal(p.items[0].event->type, BRAIN_COMPACTED);
    assert_int_equal(p.items[1].kind, BRAIN_ITEM_AGENT);
    assert_int_equal(p.items[2].kind, BRAIN_ITEM_USER);
    assert_int_equal(brain_context_cut(&log, 0), 38);
    brain_prompt_release(&p);
    brain_log_release(&log);
}

static void
log_keeps_the_order_of_seq_and_takes_each_once(void **state)
{
    static const int order[] = {5, 1, 3, 3, 2, 4, 1};
    struct brain_log log = {.base = 0};

    (void)state;
    for (size_t i = 0; i < sizeof(order) / sizeof(order[0]); i++) {
        json_t *e = brain_event_new("x");

        brain_log_put(&log, order[i], e);
        json_decref(e);
    }
    assert_int_equal(log.n, 5);
    for (size_t i = 0; i < log.n; i++)
        assert_int_equal(log.at[i].seq, i + 1);
    assert_int_equal(brain_log_last(&log), 5);
    brain_log_release(&log);
    log.base = 7;
    assert_int_equal(brain_log_last(&log), 7);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(
            each_wire_gives_the_same_answer_from_pieces_of_any_size),
        cmocka_unit_test(broken_streams_are_told_apart),
        cmocka_unit_test(
            delays_follow_retry_after_else_double_within_their_spread),
        cmocka_unit_test(prices_are_by_model_and_refuse_what_is_none),
        cmocka_unit_test(
            routes_are_the_agents_model_then_the_fallbacks_in_order),
        cmocka_unit_test(results_stand_right_behind_their_calls),
        cmocka_unit_test(summary_stands_for_what_it_sums_up),
        cmocka_unit_test(log_keeps_the_order_of_seq_and_takes_each_once),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
