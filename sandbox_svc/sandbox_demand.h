/*
 * How many sandboxes are worth keeping ready: as many as were claimed in the
 * busiest of the last seconds. Pure.
 */
#ifndef SANDBOX_SVC_SANDBOX_DEMAND_H
#define SANDBOX_SVC_SANDBOX_DEMAND_H

#include <stdint.h>

#define SANDBOX_DEMAND_SECONDS 30

struct sandbox_demand {
    int claims[SANDBOX_DEMAND_SECONDS]; /* of a second, by its number */
    int64_t second;                     /* the last that was counted */
};

/* `now_ms` never goes back. */
void sandbox_demand_claim(struct sandbox_demand *d, int64_t now_ms);
/* At least `min`, at most `max`. */
int64_t sandbox_demand_want(struct sandbox_demand *d, int64_t now_ms,
                            int64_t min, int64_t max);

#endif
