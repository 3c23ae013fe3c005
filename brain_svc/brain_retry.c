/*
 * Waiting times between tries of a model call. Called by the model client;
 * pure.
 */
#include "brain_svc/brain_retry.h"

#include <curl/curl.h>
#include <stdio.h>

#define FIRST_MS 500
#define DOUBLINGS_MAX 16

int64_t
brain_retry_after_ms(ag_str_t value, int64_t now_us)
{
    char text[64];
    int64_t n;

    if (ag_str_i64(value, &n) == 0)
        return n < 0           ? -1
               : n > INT32_MAX ? (int64_t)INT32_MAX * 1000
                               : n * 1000;
    if (value.n == 0 || value.n >= sizeof(text))
        return -1;
    (void)snprintf(text, sizeof(text), "%.*s", AG_FMT(value));
    n = (int64_t)curl_getdate(text, NULL);
    if (n < 0)
        return -1;
    n = n * 1000 - now_us / 1000;
    return n < 0 ? 0 : n;
}

int64_t
brain_retry_delay_ms(int attempt, int64_t after_ms, uint32_t random,
                     int64_t max_ms)
{
    int doublings = attempt - 1 < DOUBLINGS_MAX ? attempt - 1 : DOUBLINGS_MAX;
    int64_t half = ((int64_t)FIRST_MS << doublings) / 2;

    if (after_ms >= 0)
        return after_ms < max_ms ? after_ms : max_ms;
    if (half > max_ms / 2)
        half = max_ms / 2;
    return half + (half * (int64_t)random >> 32);
}

/* 502 is how egress says that it could not connect. */
bool
brain_retry_is_passing(int status)
{
    return status == 0 || status == 429 || status == 502 || status == 503;
}
