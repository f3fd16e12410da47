/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Time: one unit (microseconds) and two clocks. Deadlines and durations use the monotonic clock,
 * what people and Nova read uses the real-time clock. Unit tests replace both.
 */
#pragma once

#include <stdint.h>
#include <stddef.h>

#define USEC_PER_SEC  INT64_C(1000000)
#define USEC_PER_MSEC INT64_C(1000)

/* CLOCK_MONOTONIC in microseconds. Any thread. */
int64_t clock_monotonic_us(void);
/* CLOCK_REALTIME in microseconds since 1970. Any thread. */
int64_t clock_realtime_us(void);

enum { CLOCK_TEXT_SIZE = 40 };
/* "2026-11-21T12:00:00Z", the form of a versioned object's DateTime field; UTC, no fraction. */
void clock_format_object(int64_t realtime_us, char out[CLOCK_TEXT_SIZE]);
/* "2026-11-21T12:00:00.123456", the form of a request context's timestamp; naive UTC. */
void clock_format_context(int64_t realtime_us, char out[CLOCK_TEXT_SIZE]);

/* Seconds since 1970 of "2026-11-21T12:00:00", whatever follows; UTC. -1 if it is no time. NULL is accepted. */
int64_t clock_parse_s(const char *text);

/* For tests: both clocks read this value (us) until clock_fake_stop(). Not thread-safe by intent. */
void clock_fake_set(int64_t us);
void clock_fake_stop(void);
