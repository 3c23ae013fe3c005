/*
 * A run and its session's budget: what is reserved before it is used, and the
 * pause when it may not be. On the loop.
 */
#include "brain_svc/brain_run_internal.h"

#include "brain_svc/brain_io.h"
#include "lib/clock.h"

bool
brain_run_has_budget(const struct brain_run *run)
{
    for (int i = 0; i < BRAIN_LIMITS; i++)
        if (run->budget.soft[i] >= 0 || run->budget.hard[i] >= 0)
            return true;
    return false;
}

/* Of this turn, so far; turns before it are in run->spent. */
static int64_t
active_ms(const struct brain_run *run)
{
    return run->turn_started_us == 0
               ? 0
               : (ag_now_us() - run->turn_started_us) / 1000;
}

int64_t
brain_run_active_left(const struct brain_run *run)
{
    int64_t left =
        brain_budget_left(&run->budget, &run->spent, BRAIN_LIMIT_ACTIVE);

    if (left < 0)
        return -1;
    return left > active_ms(run) ? left - active_ms(run) : 0;
}

int64_t
brain_run_sandbox_left(const struct brain_run *run)
{
    int64_t left =
        brain_budget_left(&run->budget, &run->spent, BRAIN_LIMIT_SANDBOX);

    return left < 0 ? -1 : (left + 999) / 1000;
}

bool
brain_run_pause(struct brain_run *run, enum brain_limit limit, bool is_hard,
                json_t **events, size_t n)
{
    json_t *reason = json_pack(
        "{s:s, s:s, s:s, s:I, s:I}", "type", "budget_reached", "brainbox.limit",
        brain_limit_name(limit), "brainbox.kind", is_hard ? "hard" : "soft",
        "brainbox.used", (json_int_t)run->spent.at[limit], "brainbox.allowed",
        (json_int_t)(is_hard ? run->budget.hard[limit]
                             : run->budget.soft[limit]));

    /* A soft limit asks once. */
    if (!is_hard) {
        run->spent.asked |= 1 << limit;
        json_object_set_new(reason, "brainbox.asked", json_integer(1 << limit));
    }
    ag_log(AG_INFO, "budget.reached", AG_S("session", run->session),
           AG_S("limit", brain_limit_name(limit)),
           AG_S("kind", is_hard ? "hard" : "soft"));
    brain_run_end_with(run, events, n, reason);
    return false;
}

bool
brain_run_affords(struct brain_run *run, const struct brain_spent *reserve,
                  json_t **events, size_t n)
{
    struct brain_spent all = *reserve;
    enum brain_limit limit;
    bool is_hard;

    all.at[BRAIN_LIMIT_ACTIVE] += active_ms(run);
    if (run->brain->io->affords(run, &all, &limit, &is_hard))
        return true;
    return brain_run_pause(run, limit, is_hard, events, n);
}
