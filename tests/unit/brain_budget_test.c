/* brain_svc/brain_budget.c: limits, what counts, and when it is too much. */
#include "tests/unit/unit.h"

#include "brain_svc/brain_budget.h"

static void
budgets_are_read_and_refuse_what_is_none(void **state)
{
    static const char *const bad[] = {
        "7",
        "{}",
        "{\"type\":\"limit\",\"brainbox.limits\":{\"miles\":{}}}",
        "{\"type\":\"limit\",\"brainbox.limits\":{\"steps\":{\"soft\":-1}}}",
        "{\"type\":\"limit\",\"brainbox.limits\":{\"steps\":{\"hard\":"
        "\"many\"}}}",
        "{\"type\":\"limit\",\"max_list_cost\":{\"amount\":25,\"currency\":"
        "\"USD\"}}",
        "{\"type\":\"limit\",\"max_list_cost\":{\"amount\":\"25\","
        "\"currency\":\"EUR\"}}"};
    struct brain_budget b;
    struct ag_err err;

    (void)state;
    assert_int_equal(brain_budget_parse(AG_STR(""), &b, &err), 0);
    assert_int_equal(b.hard[BRAIN_LIMIT_COST], -1);
    assert_int_equal(
        brain_budget_parse(
            AG_STR("{\"type\":\"limit\",\"max_list_cost\":{\"amount\":\"25\","
                   "\"currency\":\"USD\"},\"brainbox.limits\":{"
                   "\"active_seconds\":{\"soft\":3,\"hard\":4}}}"),
            &b, &err),
        0);
    assert_int_equal(b.hard[BRAIN_LIMIT_COST], 250000000);
    assert_int_equal(b.soft[BRAIN_LIMIT_ACTIVE], 3000);
    assert_int_equal(b.hard[BRAIN_LIMIT_ACTIVE], 4000);
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        assert_int_equal(brain_budget_parse(ag_str(bad[i]), &b, &err), -1);
        assert_non_null(strstr(err.msg, "budget"));
    }
}

static void
hard_goes_before_soft_and_soft_asks_once(void **state)
{
    struct brain_budget b;
    struct brain_spent spent = {.at = {0}}, reserve = {.at = {0}};
    enum brain_limit limit;
    struct ag_err err;
    bool is_hard;

    (void)state;
    (void)brain_budget_parse(
        AG_STR("{\"type\":\"limit\",\"brainbox.limits\":{\"tokens\":"
               "{\"soft\":50,\"hard\":100}}}"),
        &b, &err);
    spent.at[BRAIN_LIMIT_TOKENS] = 40;
    reserve.at[BRAIN_LIMIT_TOKENS] = 10;
    assert_true(brain_budget_allows(&b, &spent, &reserve, &limit, &is_hard));
    reserve.at[BRAIN_LIMIT_TOKENS] = 11;
    assert_false(brain_budget_allows(&b, &spent, &reserve, &limit, &is_hard));
    assert_int_equal(limit, BRAIN_LIMIT_TOKENS);
    assert_false(is_hard);
    spent.asked = 1 << BRAIN_LIMIT_TOKENS;
    assert_true(brain_budget_allows(&b, &spent, &reserve, &limit, &is_hard));
    reserve.at[BRAIN_LIMIT_TOKENS] = 61;
    assert_false(brain_budget_allows(&b, &spent, &reserve, &limit, &is_hard));
    assert_true(is_hard);
    assert_int_equal(brain_budget_left(&b, &spent, BRAIN_LIMIT_TOKENS), 60);
    assert_int_equal(brain_budget_left(&b, &spent, BRAIN_LIMIT_STEPS), -1);
}

static void
events_count_and_unknown_costs_are_too_much(void **state)
{
    static const char *const log[] = {
        "{\"type\":\"span.model_request_start\"}",
        "{\"type\":\"span.model_request_end\",\"model_usage\":{"
        "\"input_tokens\":5,\"output_tokens\":2,\"cache_read_input_tokens\":1,"
        "\"cache_creation_input_tokens\":1},\"brainbox.model\":{"
        "\"cost_nano_usd\":7,\"cost_source\":\"prices\"}}",
        "{\"type\":\"agent.tool_use\"}",
        "{\"type\":\"agent.tool_result\",\"brainbox.wall_ms\":30}",
        "{\"type\":\"user.message\"}"};
    struct brain_budget b;
    struct brain_spent spent = {.at = {0}}, none = {.at = {0}};
    enum brain_limit limit;
    struct ag_err err;
    bool is_hard;

    (void)state;
    for (size_t i = 0; i < sizeof(log) / sizeof(log[0]); i++) {
        json_t *e = ag_json_parse(ag_str(log[i]), &err);

        brain_budget_count(&spent, e);
        json_decref(e);
    }
    assert_int_equal(spent.at[BRAIN_LIMIT_TOKENS], 9);
    assert_int_equal(spent.at[BRAIN_LIMIT_COST], 7);
    assert_int_equal(spent.at[BRAIN_LIMIT_STEPS], 2);
    assert_int_equal(spent.at[BRAIN_LIMIT_SANDBOX], 30);
    (void)brain_budget_parse(
        AG_STR("{\"type\":\"limit\",\"brainbox.limits\":{\"cost_nano_usd\":"
               "{\"hard\":1000}}}"),
        &b, &err);
    assert_true(brain_budget_allows(&b, &spent, &none, &limit, &is_hard));
    spent.n_unpriced = 1;
    assert_false(brain_budget_allows(&b, &spent, &none, &limit, &is_hard));
    assert_int_equal(limit, BRAIN_LIMIT_COST);
}

static void
each_use_has_its_place(void **state)
{
    static const struct {
        const char *event;
        enum brain_used at;
        int64_t n;
    } all[] = {
        {"{\"type\":\"agent.tool_use\"}", BRAIN_USED_STEPS, 1},
        {"{\"type\":\"agent.tool_result\",\"brainbox.wall_ms\":7}",
         BRAIN_USED_SANDBOX, 7},
        {"{\"type\":\"session.status_idle\",\"stop_reason\":"
         "{\"brainbox.asked\":2}}",
         BRAIN_USED_ASKED, 2},
        {"{\"type\":\"span.model_request_end\",\"model_usage\":"
         "{\"cache_creation_input_tokens\":5}}",
         BRAIN_USED_CACHE_WRITE, 5},
        {"{\"type\":\"span.model_request_end\",\"brainbox.model\":"
         "{\"cost_source\":\"unknown\"}}",
         BRAIN_USED_UNPRICED, 1},
        {"{\"type\":\"user.message\",\"brainbox.wall_ms\":7}",
         BRAIN_USED_SANDBOX, 0},
    };
    struct ag_err err;

    (void)state;
    for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
        int64_t used[BRAIN_USED] = {0}, sum = 0;
        json_t *e = ag_json_parse(ag_str(all[i].event), &err);

        brain_used_add(used, e);
        for (int k = 0; k < BRAIN_USED; k++)
            sum += used[k];
        assert_int_equal(used[all[i].at], all[i].n);
        assert_int_equal(sum, all[i].n);
        json_decref(e);
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(budgets_are_read_and_refuse_what_is_none),
        cmocka_unit_test(hard_goes_before_soft_and_soft_asks_once),
        cmocka_unit_test(events_count_and_unknown_costs_are_too_much),
        cmocka_unit_test(each_use_has_its_place),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
