/*
 * When a failed model call is tried again. Pure: time and randomness come from
 * the caller.
 */
#ifndef BRAIN_RETRY_H
#define BRAIN_RETRY_H

#include "lib/str.h"

/* A Retry-After header, in seconds or as a date; -1 when it is neither. */
int64_t brain_retry_after_ms(ag_str_t value, int64_t now_us);

/*
 * How long to wait behind failed try `attempt` (1 is the first). `after_ms` is
 * what the endpoint asked for, -1 for nothing: then the wait doubles with each
 * try, and `random` spreads it over its upper half, so that many callers do not
 * come back at once. Never longer than `max_ms`.
 */
int64_t brain_retry_delay_ms(int attempt, int64_t after_ms, uint32_t random,
                             int64_t max_ms);

/* True for what may pass: 0 is a connection that could not be made. */
bool brain_retry_is_passing(int status);

#endif
