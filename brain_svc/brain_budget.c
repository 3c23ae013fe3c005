/*
 * Budgets: reading them, counting, deciding. Called by SessionService and by
 * runs; pure.
 */
#include "brain_svc/brain_budget.h"

#define NANO_IN_CENT 10000000
#define LIMIT_MAX 1000000000000000

/* In seconds for people, in milliseconds here. */
static const struct {
    const char *name;
    int64_t unit;
} limits[BRAIN_LIMITS] = {
    [BRAIN_LIMIT_COST] = {"cost_nano_usd", 1},
    [BRAIN_LIMIT_TOKENS] = {"tokens", 1},
    [BRAIN_LIMIT_STEPS] = {"steps", 1},
    [BRAIN_LIMIT_ACTIVE] = {"active_seconds", 1000},
    [BRAIN_LIMIT_SANDBOX] = {"sandbox_seconds", 1000},
};

const char *
brain_limit_name(enum brain_limit limit)
{
    return limits[limit].name;
}

static int
parse_value(const json_t *obj, const char *key, int64_t unit, int64_t *out,
            struct ag_err *err)
{
    int64_t v = -1;

    if (json_object_get(obj, key) == NULL)
        return 0;
    if (ag_json_get_i64(obj, key, &v, err) < 0)
        return -1;
    if (v < 0 || v > LIMIT_MAX / unit)
        return ag_err_set(err, AG_ERR_INVALID, "%s: must be 0 to %lld", key,
                          (long long)(LIMIT_MAX / unit));
    *out = v * unit;
    return 0;
}

enum brain_limit
brain_limit_find(ag_str_t name)
{
    int i = 0;

    while (i < BRAIN_LIMITS && !ag_str_is(name, limits[i].name))
        i++;
    return (enum brain_limit)i;
}

static int
parse_limits(const json_t *all, struct brain_budget *budget, struct ag_err *err)
{
    const char *name;
    json_t *one;

    json_object_foreach ((json_t *)(uintptr_t)all, name, one) {
        enum brain_limit i = brain_limit_find(ag_str(name));

        if (i == BRAIN_LIMITS || !json_is_object(one))
            return ag_err_set(err, AG_ERR_INVALID,
                              "brainbox.limits: \"%.64s\" is none of "
                              "cost_nano_usd, tokens, steps, active_seconds, "
                              "sandbox_seconds, each with soft and hard",
                              name);
        if (parse_value(one, "soft", limits[i].unit, &budget->soft[i], err) < 0
            || parse_value(one, "hard", limits[i].unit, &budget->hard[i], err)
                   < 0)
            return ag_err_wrap(err, "brainbox.limits.%s", name);
    }
    return 0;
}

static int
parse_cost(const json_t *cost, struct brain_budget *budget, struct ag_err *err)
{
    int64_t cents;

    if (cost == NULL || json_is_null(cost))
        return 0;
    if (!ag_str_is(ag_json_str(json_object_get(cost, "currency")), "USD")
        || ag_str_i64(ag_json_str(json_object_get(cost, "amount")), &cents) < 0
        || cents < 0 || cents > LIMIT_MAX / NANO_IN_CENT)
        return ag_err_set(err, AG_ERR_INVALID,
                          "max_list_cost: must be {amount: cents as a "
                          "string, currency: \"USD\"}");
    budget->hard[BRAIN_LIMIT_COST] = cents * NANO_IN_CENT;
    return 0;
}

int
brain_budget_parse(ag_str_t text, struct brain_budget *budget,
                   struct ag_err *err)
{
    AG_AUTO(ag_json_decref) json_t *j = NULL;

    for (int i = 0; i < BRAIN_LIMITS; i++)
        budget->soft[i] = budget->hard[i] = -1;
    if (text.n == 0)
        return 0;
    j = ag_json_parse(text, err);
    if (j == NULL)
        return ag_err_wrap(err, "budget");
    if (!ag_str_is(ag_json_str(json_object_get(j, "type")), "limit"))
        return ag_err_set(err, AG_ERR_INVALID,
                          "budget: must be an object with type \"limit\"");
    if (parse_cost(json_object_get(j, "max_list_cost"), budget, err) < 0
        || parse_limits(json_object_get(j, "brainbox.limits"), budget, err) < 0)
        return ag_err_wrap(err, "budget");
    return 0;
}

static void
use_span(int64_t used[BRAIN_USED], const json_t *event)
{
    static const char *const keys[] = {
        [BRAIN_USED_INPUT] = "input_tokens",
        [BRAIN_USED_OUTPUT] = "output_tokens",
        [BRAIN_USED_CACHE_READ] = "cache_read_input_tokens",
        [BRAIN_USED_CACHE_WRITE] = "cache_creation_input_tokens",
    };
    const json_t *usage = json_object_get(event, "model_usage");
    const json_t *model = json_object_get(event, "brainbox.model");

    for (int i = BRAIN_USED_INPUT; i <= BRAIN_USED_CACHE_WRITE; i++)
        used[i] += json_integer_value(json_object_get(usage, keys[i]));
    used[BRAIN_USED_REASONING] +=
        json_integer_value(json_object_get(model, "reasoning_tokens"));
    used[BRAIN_USED_COST] +=
        json_integer_value(json_object_get(model, "cost_nano_usd"));
    used[BRAIN_USED_UNPRICED] += ag_str_is(
        ag_json_str(json_object_get(model, "cost_source")), "unknown");
}

void
brain_used_add(int64_t used[BRAIN_USED], const json_t *event)
{
    ag_str_t type = ag_json_str(json_object_get(event, "type"));

    if (ag_str_is(type, "span.model_request_end"))
        use_span(used, event);
    else if (ag_str_is(type, "span.model_request_start")
             || ag_str_is(type, "agent.tool_use"))
        used[BRAIN_USED_STEPS]++;
    else if (ag_str_is(type, "agent.tool_result"))
        used[BRAIN_USED_SANDBOX] +=
            json_integer_value(json_object_get(event, "brainbox.wall_ms"));
    else if (ag_str_is(type, "session.status_idle"))
        used[BRAIN_USED_ASKED] |= json_integer_value(json_object_get(
            json_object_get(event, "stop_reason"), "brainbox.asked"));
}

void
brain_budget_count(struct brain_spent *spent, const json_t *event)
{
    int64_t used[BRAIN_USED] = {0};

    brain_used_add(used, event);
    spent->at[BRAIN_LIMIT_TOKENS] +=
        used[BRAIN_USED_INPUT] + used[BRAIN_USED_OUTPUT]
        + used[BRAIN_USED_CACHE_READ] + used[BRAIN_USED_CACHE_WRITE];
    spent->at[BRAIN_LIMIT_COST] += used[BRAIN_USED_COST];
    spent->at[BRAIN_LIMIT_STEPS] += used[BRAIN_USED_STEPS];
    spent->at[BRAIN_LIMIT_SANDBOX] += used[BRAIN_USED_SANDBOX];
    spent->n_unpriced += used[BRAIN_USED_UNPRICED];
    spent->asked |= used[BRAIN_USED_ASKED];
}

bool
brain_budget_allows(const struct brain_budget *budget,
                    const struct brain_spent *spent,
                    const struct brain_spent *reserve, enum brain_limit *limit,
                    bool *is_hard)
{
    for (int pass = 0; pass < 2; pass++)
        for (int i = 0; i < BRAIN_LIMITS; i++) {
            int64_t max = pass == 0 ? budget->hard[i] : budget->soft[i];
            bool is_unknown = i == BRAIN_LIMIT_COST && spent->n_unpriced > 0;

            if (max < 0 || (pass == 1 && (spent->asked & 1 << i) != 0))
                continue;
            if (!is_unknown && spent->at[i] + reserve->at[i] <= max)
                continue;
            *limit = (enum brain_limit)i;
            *is_hard = pass == 0;
            return false;
        }
    return true;
}

int64_t
brain_budget_left(const struct brain_budget *budget,
                  const struct brain_spent *spent, enum brain_limit limit)
{
    int64_t left = budget->hard[limit] - spent->at[limit];

    return budget->hard[limit] < 0 ? -1 : left < 0 ? 0 : left;
}
