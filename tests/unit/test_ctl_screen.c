/* SPDX-License-Identifier: Apache-2.0 */
/* What a terminal shows: whole screens as golden text. */
#include "tests/unit/unit.h"

#include "ctl/screen.h"
#include "ctl/view.h"
#include "lib/json.h"

static struct json_object *parsed(const char *text)
{
    struct json_object *o = NULL;
    UNIT_OK(json_parse(text, strlen(text), &o, &unit_err));
    return o;
}

static const char running[] =
    "{\"id\":12,\"uuid\":\"7f3c0000-0000-4000-8000-000000000001\",\"instance\":\"1b0e0000-0000-"
    "4000-8000-000000000002\","
    "\"name\":\"guest1\",\"role\":\"source\",\"source\":\"hosta\",\"dest\":\"hostb\",\"status\":"
    "\"running\","
    "\"phase\":\"running\",\"created_at\":\"2026-11-21T12:00:00Z\",\"elapsed_s\":83,"
    "\"memory\":{\"total\":2147483648,\"processed\":1073741824,\"remaining\":536870912},"
    "\"disk\":{\"total\":4294967296,\"processed\":4294967296,\"remaining\":0},"
    "\"throughput_bytes_s\":117755084,\"dirty_rate_bytes_s\":36909875,\"iteration\":3,\"throttle_"
    "percent\":20,"
    "\"downtime_limit_ms\":300,\"expected_downtime_ms\":240,\"expected_downtime_low_ms\":200,"
    "\"expected_downtime_high_ms\":310,\"time_left_s\":12,\"time_left_low_s\":9,\"time_left_high_"
    "s\":null,\"completion_"
    "timeout_s\":360,"
    "\"timeout_action\":\"abort\",\"auto_converge\":true,\"post_copy\":false,\"bandwidth_mib\":0,"
    "\"message\":\"\",\"result\":null}";

static const char ended[] = "{\"id\":12,\"name\":\"guest1\",\"source\":\"hosta\",\"dest\":"
                            "\"hostb\",\"status\":\"completed\","
                            "\"result\":{\"total_time_ms\":34120,\"average_throughput_bytes_s\":"
                            "102970163,\"downtime_ms\":182,"
                            "\"switchover_announced\":true,\"actions\":[\"raised the downtime "
                            "limit to 350 ms\",\"throttled to 30 %\"]}}";

UNIT_TEST(numbers, "sizes, rates and times read like a person writes them")
{
    char text[SCREEN_TEXT_SIZE];
    static const struct {
        int64_t value;
        const char *text;
    } sizes[] = {{0, "0 B"},
                 {1023, "1023 B"},
                 {1024, "1.0 KiB"},
                 {536870912, "512.0 MiB"},
                 {1610612736, "1.50 GiB"},
                 {-1, "-"},
                 {INT64_MAX, "8.00 EiB"}},
      times[] = {{0, "00:00:00"},
                 {83, "00:01:23"},
                 {86400, "1 day 00:00:00"},
                 {-5, "-"},
                 {INT64_MAX, "99999 days 15:30:07"}};

    for (size_t i = 0; i < ARRAY_LEN(sizes); i++) {
        screen_bytes(sizes[i].value, text);
        UNIT_STR(text, sizes[i].text);
    }
    for (size_t i = 0; i < ARRAY_LEN(times); i++) {
        screen_duration(times[i].value, text);
        UNIT_STR(text, times[i].text);
    }
    screen_rate(117755084, text);
    UNIT_STR(text, "112.3 MiB/s");
}

static void bar_is(int64_t done, int64_t total, const char *expected)
{
    struct text_buffer b = TEXT_BUFFER_INIT;
    screen_bar(&b, done, total, 10);
    UNIT_STR(b.data, expected);
    text_buffer_free(&b);
}

UNIT_TEST(bars, "a bar is never shorter or longer than its width, whatever the figures")
{
    bar_is(0, 100, "[..........]");
    bar_is(5, 10, "[#####.....]");
    bar_is(99, 100, "[#########.]");
    bar_is(100, 100, "[##########]");
    bar_is(200, 100, "[##########]");
    bar_is(-5, 100, "[..........]");
    bar_is(0, 0, "[##########]");
    bar_is(INT64_MAX, INT64_MAX, "[##########]");
}

UNIT_TEST(
    tables,
    "columns are as wide as their longest cell, numbers stand to the right, UTF-8 counts as seen")
{
    static const char *const head[] = {"NAME", "MEMORY"};
    static const bool right[] = {false, true};
    struct screen_table table = {.columns = 2, .head = head, .right = right};
    struct text_buffer b = TEXT_BUFFER_INIT;

    screen_cell(&table, "caf\xc3\xa9");
    screen_cell_int(&table, 512);
    screen_cell(&table, "guest\x1b[31m");
    screen_cell(&table, NULL);
    screen_table_print(&b, &table);
    UNIT_STR(b.data, "NAME           MEMORY\n"
                     "caf\xc3\xa9              512\n"
                     "guest\\x1b[31m       -\n");
    text_buffer_free(&b);
    screen_table_free(&table);
}

UNIT_TEST(watch_screen, "the screen of watch shows both bars, rates, downtime and the time left")
{
    _cleanup_(json_putp) struct json_object *m = parsed(running);
    struct text_buffer b = TEXT_BUFFER_INIT;

    view_screen(&b, m, 80);
    UNIT_STR(b.data, "migration 12: guest1 from hosta to hostb, running, 00:01:23\n"
                     "memory     [###################.......]  75.0 %  512.0 MiB of 2.00 GiB left\n"
                     "disk       [##########################] 100.0 %  0 B of 4.00 GiB left\n"
                     "throughput 112.3 MiB/s, dirty rate 35.2 MiB/s, iteration 3, throttle 20 %\n"
                     "downtime   240 ms (200 ms to 310 ms) expected, limit 300 ms\n"
                     "time left  00:00:12 (00:00:09 or more); after 00:06:00: abort\n");
    text_buffer_free(&b);
}

UNIT_TEST(watch_line, "a watch that goes to a file writes one line with everything")
{
    _cleanup_(json_putp) struct json_object *m = parsed(running);
    struct text_buffer b = TEXT_BUFFER_INIT;

    view_line(&b, m);
    UNIT_STR(b.data,
             "00:01:23 guest1 running, memory 75.0 % (512.0 MiB left), disk 100.0 % (0 B left), "
             "112.3 MiB/s, dirty 35.2 MiB/s, iteration 3, throttle 20 %, "
             "downtime 240 ms (200 ms to 310 ms) expected, limit 300 ms, "
             "time left 00:00:12 (00:00:09 or more)\n");
    text_buffer_free(&b);
}

UNIT_TEST(result, "the end is a table of what happened")
{
    _cleanup_(json_putp) struct json_object *m = parsed(ended);
    struct text_buffer b = TEXT_BUFFER_INIT;

    view_result(&b, m);
    UNIT_STR(b.data, "migration 12 of guest1 from hosta to hostb: completed\n"
                     "  total time          34.1 s\n"
                     "  average throughput  98.2 MiB/s\n"
                     "  downtime            182 ms\n"
                     "  switchover          announced at the pause\n"
                     "  actions             raised the downtime limit to 350 ms\n"
                     "                      throttled to 30 %\n");
    text_buffer_free(&b);
}

UNIT_TEST(forwarded, "the end tells of frames that were forwarded, and of those that were lost")
{
    static const struct {
        const char *counts, *shown;
    } rows[] = {
        {"\"forwarded\":0", "  switchover          announced at the pause\n"},
        {"\"forwarded\":1", "  switchover          announced at the pause, 1 frame forwarded\n"},
        {"\"forwarded\":7,\"dropped\":2",
         "  switchover          announced at the pause, 7 frames forwarded, 2 lost\n"}};

    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        _cleanup_(str_freep) char *text =
            text_format("{\"id\":1,\"result\":{\"switchover_announced\":true,\"switchover\":{%s}}}",
                        rows[i].counts);
        _cleanup_(json_putp) struct json_object *m = parsed(text);
        struct text_buffer b = TEXT_BUFFER_INIT;
        view_result(&b, m);
        const char *line = strstr(b.data, "  switchover");
        UNIT_TRUE(line && text_starts_with(line, rows[i].shown));
        text_buffer_free(&b);
    }
}

UNIT_TEST(unknown_values, "what the agent does not know is a dash, never a wrong number")
{
    _cleanup_(json_putp) struct json_object *m =
        parsed("{\"id\":1,\"status\":\"preparing\",\"time_left_s\":null}");
    struct text_buffer b = TEXT_BUFFER_INIT;

    view_screen(&b, m, 80);
    UNIT_STR(b.data, "migration 1: - from - to -, preparing, -\n"
                     "memory     -\n"
                     "disk       -\n"
                     "throughput -, dirty rate -, iteration 0, throttle 0 %\n"
                     "downtime   unknown expected\n"
                     "time left  unknown\n");
    text_buffer_free(&b);
}

UNIT_TEST(hostile_values, "names with terminal escapes and absurd figures do no harm")
{
    _cleanup_(json_putp) struct json_object *m = parsed(
        "{\"id\":1,\"name\":\"a\\u001b[2Jb\",\"status\":\"running\\n\",\"source\":5,\"dest\":{},"
        "\"memory\":{\"total\":-5,\"remaining\":99},\"disk\":{\"total\":10,\"remaining\":"
        "9223372036854775807},"
        "\"throughput_bytes_s\":\"fast\",\"elapsed_s\":9223372036854775807,\"message\":\"x\\u001b]"
        "0;y\\u0007\"}");
    struct text_buffer b = TEXT_BUFFER_INIT;

    view_screen(&b, m, 60);
    view_line(&b, m);
    view_result(&b, m);
    UNIT_TRUE(!strchr(b.data, '\x1b') && !strchr(b.data, '\x07'));
    UNIT_HAS(b.data, "a\\x1b[2Jb");
    UNIT_HAS(b.data, "[..........]   0.0 %");
    text_buffer_free(&b);
}

UNIT_TEST(narrow, "no line is wider than the terminal")
{
    _cleanup_(json_putp) struct json_object *m = parsed(running);

    for (unsigned width = 40; width <= 200; width += 20) {
        struct text_buffer b = TEXT_BUFFER_INIT;
        view_screen(&b, m, width);
        char **lines = text_split(b.data, '\n');
        for (char **line = lines; *line; line++)
            UNIT_TRUE(strlen(*line) <= width);
        text_vector_free(lines);
        text_buffer_free(&b);
    }
}

UNIT_TEST(any_json, "an answer of any shape is shown as pairs, parts and tables")
{
    _cleanup_(json_putp) struct json_object *o =
        parsed("{\"agent\":{\"version\":\"0.1\",\"up\":true},\"none\":null,\"list\":[1,\"b\"],"
               "\"empty\":[],"
               "\"disks\":[{\"dev\":\"vda\",\"size\":5,\"x\":{}},{\"dev\":\"vdb\"}],\"n\":1.5}");
    struct text_buffer b = TEXT_BUFFER_INIT;

    screen_json(&b, o, 0);
    UNIT_STR(b.data, "  agent\n"
                     "    version  0.1\n"
                     "    up       yes\n"
                     "  none   -\n"
                     "  list   1, b\n"
                     "  empty  -\n"
                     "  disks\n"
                     "    dev  size\n"
                     "    vda  5\n"
                     "    vdb  -\n"
                     "  n      1.5\n");
    text_buffer_free(&b);
}

UNIT_TEST(outcomes, "the exit status tells completed, cancelled and failed apart")
{
    static const struct {
        const char *status;
        enum err_code code;
    } rows[] = {{"completed", ERR_NONE},
                {"cancelled", ERR_CANCELLED},
                {"failed", ERR_MIGRATION},
                {"error", ERR_MIGRATION}};

    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        _cleanup_(json_putp) struct json_object *m = json_object_new_object();
        struct err e = ERR_INIT;
        json_add_string(m, "status", rows[i].status);
        json_add_string(m, "message", "why");
        UNIT_EQ(view_outcome(m, &e), rows[i].code ? -1 : 0);
        UNIT_EQ(e.code, rows[i].code);
        UNIT_TRUE(!view_is_active(m));
    }
    static const char *const active[] = {"queued", "preparing", "running", "running (post-copy)",
                                         "accepted"};
    for (size_t i = 0; i < ARRAY_LEN(active); i++) {
        _cleanup_(json_putp) struct json_object *m = json_object_new_object();
        json_add_string(m, "status", active[i]);
        UNIT_TRUE(view_is_active(m));
    }
}
