/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/unit.h"

#include "lib/clock.h"

UNIT_TEST(formats, "times are printed as Nova's objects and contexts print them")
{
    char text[CLOCK_TEXT_SIZE];

    clock_format_object(INT64_C(1795262400123456), text);
    UNIT_STR(text, "2026-11-21T12:00:00Z");
    clock_format_context(INT64_C(1795262400000042), text);
    UNIT_STR(text, "2026-11-21T12:00:00.000042");
    clock_format_context(0, text);
    UNIT_STR(text, "1970-01-01T00:00:00.000000");
    clock_format_context(-1, text);
    UNIT_STR(text, "1969-12-31T23:59:59.999999");
}

UNIT_TEST(extremes, "a time that no calendar knows does not overrun the text")
{
    char text[CLOCK_TEXT_SIZE];

    clock_format_object(INT64_MAX, text);
    UNIT_TRUE(strlen(text) < sizeof(text));
    clock_format_context(INT64_MIN, text);
    UNIT_TRUE(strlen(text) < sizeof(text));
}

UNIT_TEST(parsed, "a time that was written is read again, with fraction and zone left out")
{
    char text[CLOCK_TEXT_SIZE];

    clock_format_object(INT64_C(1795000000000000), text);
    UNIT_EQ(clock_parse_s(text), 1795000000);
    UNIT_EQ(clock_parse_s("2026-11-18T14:26:40.999999Z"), INT64_C(1795012000));
    UNIT_EQ(clock_parse_s("yesterday"), -1);
    UNIT_EQ(clock_parse_s(NULL), -1);
}

UNIT_TEST(fake, "the stand-in replaces both clocks until it is stopped")
{
    clock_fake_set(5);
    UNIT_EQ(clock_monotonic_us(), 5);
    UNIT_EQ(clock_realtime_us(), 5);
    clock_fake_stop();
    UNIT_TRUE(clock_realtime_us() > INT64_C(1700000000000000));
    UNIT_TRUE(clock_monotonic_us() > 5);
}

UNIT_TEST(forward, "the monotonic clock never goes back")
{
    int64_t last = clock_monotonic_us();

    for (int i = 0; i < 1000; i++) {
        int64_t now = clock_monotonic_us();

        UNIT_TRUE(now >= last);
        last = now;
    }
}
