/*
 * The clocks. The shift is for tests and is set before threads start.
 */
#include "lib/clock.h"

#include <stdio.h>
#include <time.h>

static int64_t shift_us;

static int64_t
read_us(clockid_t id)
{
    struct timespec ts;

    (void)clock_gettime(id, &ts);
    return (int64_t)ts.tv_sec * 1000000 + ts.tv_nsec / 1000;
}

int64_t
ag_now_us(void)
{
    return read_us(CLOCK_REALTIME) + shift_us;
}

int64_t
ag_mono_us(void)
{
    return read_us(CLOCK_MONOTONIC);
}

int64_t
ag_mono_ms(void)
{
    return ag_mono_us() / 1000;
}

void
ag_clock_shift(int64_t us)
{
    shift_us += us;
}

void
ag_time_format(int64_t us, char out[AG_TIME_TEXT])
{
    int64_t sec = us >= 0 ? us / 1000000 : -((-us + 999999) / 1000000);
    time_t t = (time_t)sec;
    char day[32];
    struct tm tm;

    (void)gmtime_r(&t, &tm);
    (void)strftime(day, sizeof(day), "%Y-%m-%dT%H:%M:%S", &tm);
    (void)snprintf(out, AG_TIME_TEXT, "%.19s.%06dZ", day,
                   (int)(us - sec * 1000000));
}
