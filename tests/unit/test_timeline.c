/* SPDX-License-Identifier: Apache-2.0 */
/* The timeline of a migration: what is stamped, what two hosts' stamps become beside each other. */
#include "tests/unit/unit.h"

#include "agent/timeline.h"
#include "lib/clock.h"
#include "lib/json.h"

#define NOON (INT64_C(1795348800) * USEC_PER_SEC) /* 2026-11-22T12:00:00 */

static struct timeline t;
static struct json_object *told;

static void open_timeline(void)
{
    timeline_begin(&t, 5000, NOON + 5000);
}

static void close_timeline(void)
{
    json_object_put(told);
    told = NULL;
}
UNIT_FIXTURE(open_timeline, close_timeline)

static void tell(void)
{
    json_object_put(told);
    told = timeline_to_json(&t, "hosta", "hostb");
}

static size_t rows(void)
{
    return json_object_array_length(json_get(told, "stamps"));
}

static struct json_object *row(size_t i)
{
    return json_object_array_get_idx(json_get(told, "stamps"), i);
}

static const char *name(size_t i)
{
    return json_get_string(row(i), "name", "");
}

static double since(size_t i, const char *what)
{
    return json_get_double(row(i), what, -1e9);
}

UNIT_TEST(moments,
          "each moment is told from the start and from the pause, with the host's own time")
{
    timeline_stamp(&t, TIMELINE_ACCEPTED, 10000, 0);
    timeline_stamp(&t, TIMELINE_PAUSED, 2500250, 0);
    timeline_stamp(&t, TIMELINE_JOB_COMPLETED, 2600000, 0);
    tell();
    UNIT_EQ(rows(), 3);
    UNIT_STR(name(1), "paused");
    UNIT_STR(json_get_string(row(1), "text", ""), "guest paused");
    UNIT_STR(json_get_string(row(1), "host", ""), "hosta");
    UNIT_STR(json_get_string(row(1), "at", ""), "2026-11-22T12:00:02.500250");
    UNIT_EQ(json_get_int(row(1), "at_us", 0), NOON + 2500250);
    UNIT_TRUE(since(0, "since_start_ms") == 0.0 && since(0, "since_pause_ms") == -2490.25);
    UNIT_TRUE(since(1, "since_start_ms") == 2490.25 && since(1, "since_pause_ms") == 0.0);
    UNIT_TRUE(since(2, "since_pause_ms") == 99.75);
}

UNIT_TEST(no_pause, "without a pause nothing pretends to be measured from it")
{
    timeline_stamp(&t, TIMELINE_ACCEPTED, 10000, 0);
    tell();
    UNIT_TRUE(json_has(row(0), "since_pause_ms") && !json_get(row(0), "since_pause_ms"));
}

UNIT_TEST(once, "what happens once is stamped once, what can come again is stamped each time")
{
    UNIT_TRUE(timeline_stamp(&t, TIMELINE_CALLED, 1, 0));
    UNIT_TRUE(!timeline_stamp(&t, TIMELINE_CALLED, 2, 0));
    UNIT_TRUE(timeline_stamp(&t, TIMELINE_PAUSED, 3, 0));
    UNIT_TRUE(timeline_stamp(&t, TIMELINE_PAUSED, 4, 0));
    UNIT_TRUE(!timeline_stamp(&t, TIMELINE_PAUSED, 4, 0));
    UNIT_EQ(timeline_last(&t, TIMELINE_PAUSED, false)->at_us, NOON + 4);
    UNIT_TRUE(timeline_last(&t, TIMELINE_PAUSED, true) == NULL);
}

UNIT_TEST(bounded, "a guest that never converges fills its share and no more")
{
    for (int i = 0; i < 1000; i++)
        timeline_stamp(&t, TIMELINE_ITERATION, i, i);
    UNIT_EQ(t.count, TIMELINE_ITERATIONS_MAX);
    for (int i = 0; i < 1000; i++)
        timeline_stamp(&t, TIMELINE_PAUSED, i, 0);
    UNIT_EQ(t.count, TIMELINE_MAX);
    tell();
    UNIT_EQ(rows(), TIMELINE_MAX);
    UNIT_EQ(json_get_int(row(2), "iteration", -1), 1);
}

UNIT_TEST(travels, "the other host's stamps arrive whole, once, and named as its own")
{
    struct timeline there = {0};
    timeline_begin(&there, 0, NOON);
    timeline_stamp(&there, TIMELINE_ACCEPTED, 100, 0);
    timeline_stamp(&there, TIMELINE_RESUMED, 900, 0);
    _cleanup_(json_putp) struct json_object *wire = timeline_to_peer(&there);
    timeline_stamp(&t, TIMELINE_ACCEPTED, 50, 0);
    timeline_add_peer(&t, wire);
    timeline_add_peer(&t, wire);
    tell();
    UNIT_EQ(rows(), 3);
    UNIT_STR(json_get_string(row(1), "host", ""), "hostb");
    UNIT_STR(json_get_string(told, "aligned_by", ""), "clocks");
    _cleanup_(json_putp) struct json_object *back = timeline_to_peer(&t);
    UNIT_EQ(json_object_array_length(back), 1); /* ours alone */
}

UNIT_TEST(aligned, "clocks that differ by an hour do not bend the picture when both saw the signal")
{
    struct timeline there = {0};
    timeline_begin(&there, 0, NOON + 3600 * USEC_PER_SEC);
    timeline_stamp(&there, TIMELINE_SIGNAL_RECEIVED, 7000000, 0);
    timeline_stamp(&there, TIMELINE_RESUMED, 7080000, 0);
    _cleanup_(json_putp) struct json_object *wire = timeline_to_peer(&there);
    timeline_stamp(&t, TIMELINE_PAUSED, 1000000, 0);
    timeline_stamp(&t, TIMELINE_SIGNAL_SENT, 1000200, 0);
    timeline_stamp(&t, TIMELINE_RETURNED, 1200000, 0);
    timeline_add_peer(&t, wire);
    tell();
    UNIT_STR(json_get_string(told, "aligned_by", ""), "signal");
    UNIT_STR(name(3), "resumed");
    UNIT_TRUE(since(3, "since_pause_ms") == 80.2);
    UNIT_EQ(json_get_int(row(3), "at_us", 0), NOON + 3607080000); /* its own clock's word */
    UNIT_STR(name(4), "returned");
}

UNIT_TEST(at_destination, "a destination alone counts the pause from the signal")
{
    timeline_stamp(&t, TIMELINE_ACCEPTED, 0, 0);
    timeline_stamp(&t, TIMELINE_SIGNAL_RECEIVED, 3000000, 0);
    timeline_stamp(&t, TIMELINE_RESUMED, 3050000, 0);
    tell();
    UNIT_TRUE(since(2, "since_pause_ms") == 50.0);
}

UNIT_TEST(hostile, "stamps that are none are left out")
{
    static const char *const bad[] = {
        "null",
        "7",
        "{}",
        "[1, null, \"x\", [], {}]",
        "[{\"name\": \"paused\"}]",
        "[{\"name\": \"no such\", \"at_us\": 1795348800000000}]",
        "[{\"name\": \"paused\", \"at_us\": -5}]",
        "[{\"name\": \"paused\", \"at_us\": 9223372036854775807}]",
        "[{\"name\": \"iteration\", \"at_us\": 1795348800000000, \"value\": -1}]",
        "[{\"name\": \"iteration\", \"at_us\": 1795348800000000, \"value\": 99999999999}]",
    };
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        _cleanup_(json_putp) struct json_object *o = NULL;
        UNIT_OK(json_parse(bad[i], strlen(bad[i]), &o, &unit_err));
        timeline_add_peer(&t, o);
    }
    UNIT_EQ(t.count, 0);
    struct json_object *many = json_object_new_array();
    for (int i = 1; i < 10000; i++) {
        struct json_object *o = json_object_new_object();
        json_add_string(o, "name", "paused");
        json_add_int(o, "at_us", i);
        json_object_array_add(many, o);
    }
    timeline_add_peer(&t, many);
    json_object_put(many);
    UNIT_TRUE(t.count <= TIMELINE_MAX);
    tell();
}

UNIT_TEST(kept, "a stamp that was kept comes back as it was, of either host")
{
    struct timeline there = {0}, again = {0};
    timeline_begin(&there, 0, NOON);
    timeline_stamp(&there, TIMELINE_RESUMED, 9, 0);
    _cleanup_(json_putp) struct json_object *wire = timeline_to_peer(&there);
    timeline_stamp(&t, TIMELINE_ITERATION, 5, 3);
    timeline_add_peer(&t, wire);
    for (unsigned i = 0; i < t.count; i++) {
        _cleanup_(json_putp) struct json_object *o = timeline_stamp_to_json(&t.stamps[i]);
        UNIT_TRUE(timeline_add(&again, o, t.stamps[i].at_us));
        UNIT_TRUE(!timeline_add(&again, o, t.stamps[i].at_us));
    }
    tell();
    _cleanup_(json_putp) struct json_object *second = timeline_to_json(&again, "hosta", "hostb");
    UNIT_TRUE(json_same(told, second));
}

UNIT_TEST(empty, "nothing stamped is an empty list")
{
    tell();
    UNIT_EQ(rows(), 0);
    UNIT_EQ(timeline_start_us(&t), 0);
}
