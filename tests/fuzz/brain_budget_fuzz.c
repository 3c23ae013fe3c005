/*
 * Fuzz target of brain_svc/brain_budget.c: whatever a caller calls a budget, a
 * limit is none or at least 0, and deciding about it ends.
 */
#include <stdint.h>

#include "brain_svc/brain_budget.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct brain_spent spent = {.at = {1, 2, 3, 4, 5}};
    struct ag_err err = AG_ERR_INIT;
    struct brain_budget b;
    enum brain_limit limit;
    bool is_hard;

    if (brain_budget_parse(ag_str_n(data, size), &b, &err) < 0) {
        ag_assert(err.msg[0] != '\0');
        return 0;
    }
    for (int i = 0; i < BRAIN_LIMITS; i++) {
        ag_assert(b.soft[i] >= -1 && b.hard[i] >= -1);
        ag_assert(brain_budget_left(&b, &spent, (enum brain_limit)i) >= -1);
    }
    if (!brain_budget_allows(&b, &spent, &spent, &limit, &is_hard))
        ag_assert(limit < BRAIN_LIMITS);
    return 0;
}
