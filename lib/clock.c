/* SPDX-License-Identifier: Apache-2.0 */
/* The two clocks, and the stand-in for tests. */
#include "lib/clock.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <time.h>

static atomic_bool clock_is_fake;
static _Atomic int64_t clock_fake_us;

static int64_t read_clock(clockid_t id)
{
    struct timespec now;

    if (atomic_load_explicit(&clock_is_fake, memory_order_relaxed))
        return atomic_load_explicit(&clock_fake_us, memory_order_relaxed);
    clock_gettime(id, &now);
    return (int64_t)now.tv_sec * USEC_PER_SEC + now.tv_nsec / 1000;
}

int64_t clock_monotonic_us(void)
{
    return read_clock(CLOCK_MONOTONIC);
}

int64_t clock_realtime_us(void)
{
    return read_clock(CLOCK_REALTIME);
}

/* Returns the microseconds of the second; rounds towards the past also before 1970. */
static int64_t to_utc(int64_t realtime_us, struct tm *tm)
{
    int64_t fraction = realtime_us % USEC_PER_SEC;
    time_t seconds = (time_t)(realtime_us / USEC_PER_SEC);

    if (fraction < 0) {
        fraction += USEC_PER_SEC;
        seconds--;
    }
    if (!gmtime_r(&seconds, tm))
        *tm = (struct tm){.tm_year = 70, .tm_mday = 1};
    return fraction;
}

void clock_format_object(int64_t realtime_us, char out[CLOCK_TEXT_SIZE])
{
    struct tm tm;

    to_utc(realtime_us, &tm);
    strftime(out, CLOCK_TEXT_SIZE, "%Y-%m-%dT%H:%M:%SZ", &tm);
}

void clock_format_context(int64_t realtime_us, char out[CLOCK_TEXT_SIZE])
{
    struct tm tm;
    int64_t fraction = to_utc(realtime_us, &tm);
    size_t n = strftime(out, CLOCK_TEXT_SIZE, "%Y-%m-%dT%H:%M:%S", &tm);

    snprintf(out + n, CLOCK_TEXT_SIZE - n, ".%06d", (int)fraction);
}

int64_t clock_parse_s(const char *text)
{
    struct tm tm = {0};

    return text && strptime(text, "%Y-%m-%dT%H:%M:%S", &tm) ? timegm(&tm) : -1;
}

void clock_fake_set(int64_t us)
{
    atomic_store(&clock_fake_us, us);
    atomic_store(&clock_is_fake, true);
}

void clock_fake_stop(void)
{
    atomic_store(&clock_is_fake, false);
}
