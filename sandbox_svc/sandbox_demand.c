/* A ring of seconds. For sandbox_pool.c. */
#include "sandbox_svc/sandbox_demand.h"

#include <string.h>

/* Seconds that have passed without a claim count as such. */
static void
advance(struct sandbox_demand *d, int64_t now_ms)
{
    int64_t now = now_ms / 1000;

    if (now - d->second >= SANDBOX_DEMAND_SECONDS) {
        memset(d->claims, 0, sizeof(d->claims));
        d->second = now;
    }
    while (d->second < now)
        d->claims[++d->second % SANDBOX_DEMAND_SECONDS] = 0;
}

void
sandbox_demand_claim(struct sandbox_demand *d, int64_t now_ms)
{
    advance(d, now_ms);
    d->claims[d->second % SANDBOX_DEMAND_SECONDS]++;
}

int64_t
sandbox_demand_want(struct sandbox_demand *d, int64_t now_ms, int64_t min,
                    int64_t max)
{
    int64_t want = 0;

    advance(d, now_ms);
    for (int i = 0; i < SANDBOX_DEMAND_SECONDS; i++)
        if (d->claims[i] > want)
            want = d->claims[i];
    if (want > max)
        want = max;
    return want < min ? min : want;
}
