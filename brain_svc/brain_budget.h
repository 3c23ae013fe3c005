/*
 * What a session may use, and what it has used. A soft limit pauses the session
 * once and asks; a hard one stops it until it is raised. Pure.
 *
 * Written as {"type": "limit", "max_list_cost": {"amount": "2500" (cents),
 * "currency": "USD"}, "brainbox.limits": {"tokens": {"soft": n, "hard": n},
 * …}}.
 */
#ifndef BRAIN_BUDGET_H
#define BRAIN_BUDGET_H

#include "lib/json.h"

enum brain_limit {
    BRAIN_LIMIT_COST,    /* nano-dollars */
    BRAIN_LIMIT_TOKENS,  /* all that model calls read and wrote */
    BRAIN_LIMIT_STEPS,   /* model calls and tool calls */
    BRAIN_LIMIT_ACTIVE,  /* milliseconds of turns */
    BRAIN_LIMIT_SANDBOX, /* milliseconds of commands */
    BRAIN_LIMITS,
};

struct brain_budget {
    int64_t soft[BRAIN_LIMITS], hard[BRAIN_LIMITS]; /* -1: none */
};

struct brain_spent {
    int64_t at[BRAIN_LIMITS];
    int64_t n_unpriced; /* model calls whose cost nobody knows */
    int64_t asked;      /* bit by limit: its soft limit has paused once */
};

/* "" is no limit. AG_ERR_INVALID names the field. */
int brain_budget_parse(ag_str_t text, struct brain_budget *budget,
                       struct ag_err *err);

/* What events use, in the order in which event_append takes it. */
enum brain_used {
    BRAIN_USED_INPUT, /* tokens that no cache knew */
    BRAIN_USED_OUTPUT,
    BRAIN_USED_CACHE_READ,
    BRAIN_USED_CACHE_WRITE,
    BRAIN_USED_REASONING, /* of the output */
    BRAIN_USED_COST,      /* nano-dollars */
    BRAIN_USED_UNPRICED,  /* model calls of unknown cost */
    BRAIN_USED_SANDBOX,   /* milliseconds of commands */
    BRAIN_USED_STEPS,
    BRAIN_USED_ASKED, /* bits, as in struct brain_spent */
    BRAIN_USED,
};
void brain_used_add(int64_t used[BRAIN_USED], const json_t *event);

/* Add what an event says was used. */
void brain_budget_count(struct brain_spent *spent, const json_t *event);

/*
 * May `reserve` be used, too? True when it may. Else *limit and *is_hard say
 * what is in the way.
 */
bool brain_budget_allows(const struct brain_budget *budget,
                         const struct brain_spent *spent,
                         const struct brain_spent *reserve,
                         enum brain_limit *limit, bool *is_hard);

/* "tokens", …: as the limit is written. */
const char *brain_limit_name(enum brain_limit limit);
/* BRAIN_LIMITS for a name that is none. */
enum brain_limit brain_limit_find(ag_str_t name);
/* What is left of a hard limit, at least 0; -1 without one. */
int64_t
brain_budget_left(const struct brain_budget *budget,
                  const struct brain_spent *spent, enum brain_limit limit);

#endif
