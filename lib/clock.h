/*
 * Time, through one place, so that tests can set it. All in UTC.
 */
#ifndef LIB_CLOCK_H
#define LIB_CLOCK_H

#include "lib/str.h"

/* Microseconds since the epoch; goes back when the machine's clock does. */
int64_t ag_now_us(void);
/* Milliseconds of a clock that never goes back. */
int64_t ag_mono_ms(void);
int64_t ag_mono_us(void);

/* Add `us` to what ag_now_us returns from now on (tests, --clock-offset). */
void ag_clock_shift(int64_t us);

/* "2026-11-20T19:46:53.000123Z" and a NUL into `out`. */
#define AG_TIME_TEXT 28
void ag_time_format(int64_t us, char out[AG_TIME_TEXT]);

#endif
