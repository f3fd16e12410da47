/* SPDX-License-Identifier: Apache-2.0 */
/* Migrations as text. */
#include "ctl/view.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "ctl/screen.h"
#include "lib/json.h"

static char *safe(struct json_object *o, const char *key)
{
    return text_escape(json_get_string(o, key, "-"), 80);
}

bool view_is_active(struct json_object *m)
{
    static const char *const ended[] = {"completed", "failed",   "error",     "cancelled",
                                        "done",      "finished", "confirmed", "reverted"};
    const char *status = json_get_string(m, "status", "");

    for (size_t i = 0; i < ARRAY_LEN(ended); i++)
        if (strcmp(status, ended[i]) == 0)
            return false;
    return true;
}

/* {"total", "processed", "remaining"} of memory or disk. */
struct amount {
    int64_t total, remaining;
    double percent; /* done */
};

static struct amount amount_of(struct json_object *m, const char *key)
{
    struct json_object *o = json_get(m, key);
    struct amount a = {json_get_int(o, "total", 0), json_get_int(o, "remaining", 0), 0};

    if (a.total < 0)
        a.total = 0;
    if (a.remaining < 0)
        a.remaining = 0;
    if (a.remaining > a.total)
        a.remaining = a.total;
    a.percent = a.total ? 100.0 * (double)(a.total - a.remaining) / (double)a.total : 0;
    return a;
}

/* --- the screen ------------------------------------------------------------------------------- */

static void amount_line(struct text_buffer *out, struct json_object *m, const char *key,
                        unsigned width)
{
    enum { REST = 54 }; /* label, percentage and sizes */
    struct amount a = amount_of(m, key);
    char left[SCREEN_TEXT_SIZE], total[SCREEN_TEXT_SIZE];

    if (!a.total) {
        text_buffer_printf(out, "%-10s -\n", key);
        return;
    }
    screen_bytes(a.remaining, left);
    screen_bytes(a.total, total);
    text_buffer_printf(out, "%-10s ", key);
    screen_bar(out, a.total - a.remaining, a.total, width > REST + 10 ? width - REST : 10);
    text_buffer_printf(out, " %5.1f %%  %s of %s left\n", a.percent, left, total);
}

static void head_line(struct text_buffer *out, struct json_object *m)
{
    _cleanup_(str_freep) char *name = safe(m, "name"), *source = safe(m, "source"),
                              *dest = safe(m, "dest");
    _cleanup_(str_freep) char *status = safe(m, "status");
    char elapsed[SCREEN_TEXT_SIZE];

    screen_duration(json_get_int(m, "elapsed_s", -1), elapsed);
    text_buffer_printf(out, "migration %" PRId64 ": %s from %s to %s, %s, %s\n",
                       json_get_int(m, "id", 0), name, source, dest, status, elapsed);
}

static void rates_line(struct text_buffer *out, struct json_object *m)
{
    char throughput[SCREEN_TEXT_SIZE], dirty[SCREEN_TEXT_SIZE];

    screen_rate(json_get_int(m, "throughput_bytes_s", -1), throughput);
    screen_rate(json_get_int(m, "dirty_rate_bytes_s", -1), dirty);
    text_buffer_printf(out,
                       "%-10s %s, dirty rate %s, iteration %" PRId64 ", throttle %" PRId64 " %%\n",
                       "throughput", throughput, dirty, json_get_int(m, "iteration", 0),
                       json_get_int(m, "throttle_percent", 0));
}

static void duration(int64_t s, char *out, size_t size)
{
    char text[SCREEN_TEXT_SIZE];

    screen_duration(s, text);
    (void)snprintf(out, size, "%s", text);
}

void view_time(int64_t s, int64_t low_s, int64_t high_s, char out[TEXT_EXPECTED_SIZE])
{
    text_expected(s, low_s, high_s, duration, out);
}

static void time_left_text(struct json_object *m, char out[TEXT_EXPECTED_SIZE])
{
    view_time(json_get_int(m, "time_left_s", -1), json_get_int(m, "time_left_low_s", -1),
              json_get_int(m, "time_left_high_s", -1), out);
}

static void downtime_text(struct json_object *m, char *out, size_t size)
{
    int64_t limit = json_get_int(m, "downtime_limit_ms", -1);
    const char *waits = json_get_bool(m, "waits_to_switch_over", false)
                            ? "; waits for its turn to switch over"
                            : "";
    char shown[TEXT_EXPECTED_SIZE];

    text_expected(json_get_int(m, "expected_downtime_ms", -1),
                  json_get_int(m, "expected_downtime_low_ms", -1),
                  json_get_int(m, "expected_downtime_high_ms", -1), text_ms, shown);
    if (limit >= 0)
        (void)snprintf(out, size, "%s expected, limit %" PRId64 " ms%s", shown, limit, waits);
    else
        (void)snprintf(out, size, "%s expected%s", shown, waits);
}

static void time_line(struct text_buffer *out, struct json_object *m)
{
    _cleanup_(str_freep) char *action = safe(m, "timeout_action");
    char left[TEXT_EXPECTED_SIZE], limit[SCREEN_TEXT_SIZE];
    int64_t timeout = json_get_int(m, "completion_timeout_s", 0);

    time_left_text(m, left);
    screen_duration(timeout, limit);
    text_buffer_printf(out, "%-10s %s", "time left", left);
    if (timeout > 0)
        text_buffer_printf(out, "; after %s: %s", limit, action);
    text_buffer_add(out, "\n");
}

/* Cuts each line of the text to the width, so that a terminal never wraps and redrawing fits. */
static void add_cut(struct text_buffer *out, const char *text, unsigned width)
{
    char **lines = text_split(text, '\n');

    for (char **line = lines; *line && **line; line++) {
        size_t bytes = 0;
        for (unsigned seen = 0; (*line)[bytes]; bytes++)
            if (((unsigned char)(*line)[bytes] & 0xc0) != 0x80 && seen++ == width)
                break;
        text_buffer_add_n(out, *line, bytes);
        text_buffer_add(out, "\n");
    }
    text_vector_free(lines);
}

void view_screen(struct text_buffer *out, struct json_object *m, unsigned width)
{
    struct text_buffer b = TEXT_BUFFER_INIT;
    char downtime[TEXT_EXPECTED_SIZE + 96];
    const char *message = json_get_string(m, "message", "");

    head_line(&b, m);
    amount_line(&b, m, "memory", width);
    amount_line(&b, m, "disk", width);
    rates_line(&b, m);
    downtime_text(m, downtime, sizeof(downtime));
    text_buffer_printf(&b, "%-10s %s\n", "downtime", downtime);
    time_line(&b, m);
    if (*message) {
        _cleanup_(str_freep) char *shown = text_escape(message, 300);
        text_buffer_printf(&b, "%-10s %s\n", "message", shown);
    }
    add_cut(out, b.data, width);
    text_buffer_free(&b);
}

/* --- one line --------------------------------------------------------------------------------- */

static void amount_part(struct text_buffer *out, struct json_object *m, const char *key)
{
    struct amount a = amount_of(m, key);
    char left[SCREEN_TEXT_SIZE];

    if (!a.total)
        return;
    screen_bytes(a.remaining, left);
    text_buffer_printf(out, ", %s %.1f %% (%s left)", key, a.percent, left);
}

void view_line(struct text_buffer *out, struct json_object *m)
{
    _cleanup_(str_freep) char *name = safe(m, "name"), *status = safe(m, "status");
    char elapsed[SCREEN_TEXT_SIZE], left[TEXT_EXPECTED_SIZE], throughput[SCREEN_TEXT_SIZE],
        dirty[SCREEN_TEXT_SIZE], downtime[TEXT_EXPECTED_SIZE + 96];

    screen_duration(json_get_int(m, "elapsed_s", -1), elapsed);
    time_left_text(m, left);
    screen_rate(json_get_int(m, "throughput_bytes_s", -1), throughput);
    screen_rate(json_get_int(m, "dirty_rate_bytes_s", -1), dirty);
    downtime_text(m, downtime, sizeof(downtime));
    text_buffer_printf(out, "%s %s %s", elapsed, name, status);
    amount_part(out, m, "memory");
    amount_part(out, m, "disk");
    text_buffer_printf(out,
                       ", %s, dirty %s, iteration %" PRId64 ", throttle %" PRId64
                       " %%, downtime %s, time left %s\n",
                       throughput, dirty, json_get_int(m, "iteration", 0),
                       json_get_int(m, "throttle_percent", 0), downtime, left);
}

/* --- the end ---------------------------------------------------------------------------------- */

enum { RESULT_WIDTH = 20 };

static void actions(struct text_buffer *out, struct json_object *list)
{
    size_t count = json_object_is_type(list, json_type_array) ? json_object_array_length(list) : 0;

    for (size_t i = 0; i < count; i++) {
        _cleanup_(str_freep) char *shown = screen_scalar(json_object_array_get_idx(list, i));
        screen_pair(out, RESULT_WIDTH, i ? "" : "actions", shown);
    }
    if (!count)
        screen_pair(out, RESULT_WIDTH, "actions", "none");
}

static void milliseconds(struct text_buffer *out, const char *name, int64_t value)
{
    char text[SCREEN_TEXT_SIZE] = "-";

    if (value >= 10000)
        (void)snprintf(text, sizeof(text), "%.1f s", (double)value / 1000);
    else if (value >= 0)
        (void)snprintf(text, sizeof(text), "%" PRId64 " ms", value);
    screen_pair(out, RESULT_WIDTH, name, text);
}

/* How the network turned, and what became of frames that still reached the source. */
static void switchover(struct text_buffer *out, struct json_object *result)
{
    struct json_object *s = json_get(result, "switchover");
    bool announced = json_get_bool(result, "switchover_announced", false);
    int64_t forwarded = json_get_int(s, "forwarded", 0), lost = json_get_int(s, "dropped", 0);
    int64_t carried_ms = json_get_int(s, "carried_ms", -1);
    struct text_buffer b = TEXT_BUFFER_INIT;

    text_buffer_add(&b, carried_ms >= 0 ? "announced late"
                        : announced     ? "announced at the pause"
                                        : "not announced");
    if (forwarded > 0)
        text_buffer_printf(&b, ", %" PRId64 " frame%s forwarded", forwarded,
                           forwarded == 1 ? "" : "s");
    if (carried_ms >= 0)
        text_buffer_printf(&b, ", frames carried for %.1f s", (double)carried_ms / 1000);
    if (lost > 0)
        text_buffer_printf(&b, ", %" PRId64 " lost", lost);
    _cleanup_(str_freep) char *text = text_buffer_take(&b);
    screen_pair(out, RESULT_WIDTH, "switchover", text);
}

void view_result(struct text_buffer *out, struct json_object *m)
{
    struct json_object *r = json_get(m, "result");
    _cleanup_(str_freep) char *name = safe(m, "name"), *status = safe(m, "status");
    _cleanup_(str_freep) char *source = safe(m, "source"), *dest = safe(m, "dest");
    const char *message = json_get_string(m, "message", "");
    char rate[SCREEN_TEXT_SIZE];

    text_buffer_printf(out, "migration %" PRId64 " of %s from %s to %s: %s\n",
                       json_get_int(m, "id", 0), name, source, dest, status);
    if (*message) {
        _cleanup_(str_freep) char *shown = text_escape(message, 400);
        screen_pair(out, RESULT_WIDTH, "message", shown);
    }
    if (!json_object_is_type(r, json_type_object))
        return;
    screen_rate(json_get_int(r, "average_throughput_bytes_s", -1), rate);
    milliseconds(out, "total time", json_get_int(r, "total_time_ms", -1));
    screen_pair(out, RESULT_WIDTH, "average throughput", rate);
    milliseconds(out, "downtime", json_get_int(r, "downtime_ms", -1));
    switchover(out, r);
    actions(out, json_get(r, "actions"));
}

int view_outcome(struct json_object *m, struct err *e)
{
    const char *status = json_get_string(m, "status", "");
    _cleanup_(str_freep) char *message = text_escape(json_get_string(m, "message", ""), 300);

    if (strcmp(status, "completed") == 0)
        return 0;
    return err_set(e, strcmp(status, "cancelled") == 0 ? ERR_CANCELLED : ERR_MIGRATION,
                   "the migration ended with the status %s%s%s", status, *message ? ": " : "",
                   message);
}

/* --- table ------------------------------------------------------------------------------------ */

void view_table(struct text_buffer *out, struct json_object *migrations)
{
    static const char *const head[] = {"ID",     "INSTANCE", "SOURCE",  "DESTINATION", "STATUS",
                                       "MEMORY", "DISK",     "ELAPSED", "STARTED"};
    static const bool right[] = {true, false, false, false, false, true, true, true, false};
    struct screen_table table = {.columns = ARRAY_LEN(head), .head = head, .right = right};
    size_t count =
        json_object_is_type(migrations, json_type_array) ? json_object_array_length(migrations) : 0;

    for (size_t i = 0; i < count; i++) {
        struct json_object *m = json_object_array_get_idx(migrations, i);
        char text[SCREEN_TEXT_SIZE];
        screen_cell_int(&table, json_get_int(m, "id", 0));
        screen_cell(&table, json_get_string(m, "name", NULL));
        screen_cell(&table, json_get_string(m, "source", NULL));
        screen_cell(&table, json_get_string(m, "dest", NULL));
        screen_cell(&table, json_get_string(m, "status", NULL));
        for (int part = 0; part < 2; part++) {
            struct amount a = amount_of(m, part ? "disk" : "memory");
            (void)snprintf(text, sizeof(text), "%.0f %%", a.percent);
            screen_cell(&table, a.total ? text : NULL);
        }
        screen_duration(json_get_int(m, "elapsed_s", -1), text);
        screen_cell(&table, text);
        screen_cell(&table, json_get_string(m, "created_at", NULL));
    }
    screen_table_print(out, &table);
    screen_table_free(&table);
}

void view_settings(struct text_buffer *out, struct json_object *m)
{
    static const struct {
        const char *key, *label;
    } rows[] = {{"downtime_limit_ms", "downtime, ms"},
                {"completion_timeout_s", "timeout, s"},
                {"timeout_action", "action"},
                {"auto_converge", "auto_converge"},
                {"post_copy", "post_copy"},
                {"bandwidth_mib", "bandwidth, MiB/s"}};
    _cleanup_(str_freep) char *name = safe(m, "name");

    text_buffer_printf(out, "migration %" PRId64 " of %s\n", json_get_int(m, "id", 0), name);
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        _cleanup_(str_freep) char *value = screen_scalar(json_get(m, rows[i].key));
        screen_pair(out, RESULT_WIDTH, rows[i].label, value);
    }
}
