/* SPDX-License-Identifier: Apache-2.0 */
/* The page of the report: what is said in which order. */
#include "ctl/report.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "ctl/screen.h"
#include "ctl/view.h"
#include "lib/clock.h"
#include "lib/json.h"

enum { NAME_MAX_SHOWN = 120, TEXT_MAX_SHOWN = 600 };
#define NUMBER_MAX 1e15

/* ---- words and numbers ---- */

static const char *entity_of(char c)
{
    switch (c) {
    case '&':
        return "&amp;";
    case '<':
        return "&lt;";
    case '>':
        return "&gt;";
    case '"':
        return "&quot;";
    case '\'':
        return "&#39;";
    default:
        return NULL;
    }
}

/* text_escape() has taken away control characters and what is no UTF-8; XML has no place for U+FFFE and
 * U+FFFF either. */
void report_text(struct text_buffer *out, const char *text, size_t limit)
{
    _cleanup_(str_freep) char *shown = text_escape(text ? text : "-", limit);

    for (const char *p = shown; *p; p++) {
        const char *entity = entity_of(*p);
        if (entity) {
            text_buffer_add(out, entity);
        } else if (strncmp(p, "\xef\xbf\xbe", 3) == 0 || strncmp(p, "\xef\xbf\xbf", 3) == 0) {
            text_buffer_add(out, "\xef\xbf\xbd");
            p += 2;
        } else {
            text_buffer_add_n(out, p, 1);
        }
    }
}

double report_number(struct json_object *o, const char *key, double fallback)
{
    double value = json_get_double(o, key, fallback);

    if (isnan(value))
        return fallback;
    return value > NUMBER_MAX ? NUMBER_MAX : value < -NUMBER_MAX ? -NUMBER_MAX : value;
}

size_t report_length(struct json_object *array)
{
    return json_object_is_type(array, json_type_array) ? json_object_array_length(array) : 0;
}

void report_ms(double ms, char *out, size_t size)
{
    char long_text[SCREEN_TEXT_SIZE];

    if (fabs(ms) < 100) {
        (void)snprintf(out, size, "%.1f ms", ms);
    } else if (fabs(ms) < 2000) {
        (void)snprintf(out, size, "%.0f ms", ms);
    } else if (fabs(ms) < 120000) {
        (void)snprintf(out, size, "%.1f s", ms / 1000);
    } else {
        screen_duration((int64_t)(ms / 1000), long_text);
        (void)snprintf(out, size, "%s", long_text);
    }
}

/* "2026-11-22T12:00:00.123456" as people write it, to the millisecond; UTC. */
static void add_at(struct text_buffer *out, const char *at)
{
    size_t length = at ? strlen(at) : 0;

    if (length < 19 || at[10] != 'T') {
        report_text(out, at, 40);
        return;
    }
    _cleanup_(str_freep) char *text =
        text_format("%.10s %.*s UTC", at, length > 23 ? 12 : 8, at + 11);
    report_text(out, text, 40);
}

/* ---- figures that are said more than once ---- */

static double measured_pause_ms(struct json_object *m)
{
    double to = report_number(report_stamp(m, "resumed"), "since_pause_ms", NAN);

    return to > 0 ? to : NAN;
}

static double told_pause_ms(struct json_object *m)
{
    return report_number(json_get(m, "result"), "downtime_ms", NAN);
}

static double pause_ms(struct json_object *m)
{
    double measured = measured_pause_ms(m);

    return isnan(measured) ? told_pause_ms(m) : measured;
}

static double total_ms(struct json_object *m)
{
    double total = report_number(json_get(m, "result"), "total_time_ms", NAN);

    return isnan(total) ? report_number(m, "elapsed_s", 0) * 1000 : total;
}

static double moved_bytes(struct json_object *m)
{
    return report_number(json_get(m, "memory"), "processed", 0) +
           report_number(json_get(m, "disk"), "processed", 0);
}

static const char *word(struct json_object *m, const char *key)
{
    return json_get_string(m, key, "");
}

struct report_span report_span_of(struct json_object *m)
{
    struct json_object *called = report_stamp(m, "called"), *paused = report_stamp(m, "paused");
    struct json_object *resumed = report_stamp(m, "resumed"), *samples = json_get(m, "samples");
    static const char *const ends[] = {"paused", "resumed", "job_completed", "returned",
                                       "reverted"};
    struct report_span span = {.notes = json_get(m, "notes")};
    double end_ms = 0;

    span.start_ms = report_number(called, "since_start_ms", 0);
    for (size_t i = 0; i < ARRAY_LEN(ends); i++)
        end_ms = fmax(end_ms, report_number(report_stamp(m, ends[i]), "since_start_ms", 0));
    for (size_t i = 0; i < report_length(samples); i++)
        end_ms =
            fmax(end_ms, report_number(json_object_array_get_idx(samples, i), "since_start_ms", 0));
    span.end_s = fmax((end_ms - span.start_ms) / 1000, 0.1);
    span.pause_s = (report_number(paused, "since_start_ms", NAN) - span.start_ms) / 1000;
    span.resume_s = (report_number(resumed, "since_start_ms", NAN) - span.start_ms) / 1000;
    return span;
}

/* ---- the head ---- */

static const char *pill_style(struct json_object *m)
{
    const char *status = word(m, "status");

    if (strcmp(status, "completed") == 0)
        return "good";
    if (strcmp(status, "cancelled") == 0)
        return "warn";
    return view_is_active(m) ? "live" : "bad";
}

static void verdict_completed(struct text_buffer *out, struct json_object *m)
{
    char total[SCREEN_TEXT_SIZE], pause[SCREEN_TEXT_SIZE];

    report_ms(total_ms(m), total, sizeof(total));
    text_buffer_add(out, "The instance moved to ");
    report_text(out, word(m, "dest"), NAME_MAX_SHOWN);
    if (total_ms(m) > 0)
        text_buffer_printf(out, " in %s", total);
    if (isnan(pause_ms(m))) {
        text_buffer_add(out, "; how long it stood still was not measured.");
        return;
    }
    report_ms(pause_ms(m), pause, sizeof(pause));
    text_buffer_printf(out, " and stood still for %s.", pause);
}

static void verdict_running(struct text_buffer *out, struct json_object *m)
{
    char elapsed[SCREEN_TEXT_SIZE], left[TEXT_EXPECTED_SIZE];

    screen_duration((int64_t)report_number(m, "elapsed_s", 0), elapsed);
    view_time((int64_t)report_number(m, "time_left_s", -1),
              (int64_t)report_number(m, "time_left_low_s", -1),
              (int64_t)report_number(m, "time_left_high_s", -1), left);
    text_buffer_printf(out, "It is under way: libvirt has worked for %s", elapsed);
    if (report_number(m, "time_left_s", -1) >= 0)
        text_buffer_printf(out, ", and about %s are left", left);
    text_buffer_add(out, ". This report tells what was known when it was written.");
}

static void verdict_stayed(struct text_buffer *out, struct json_object *m, const char *what)
{
    text_buffer_printf(out, "%s; the instance stays on ", what);
    report_text(out, word(m, "source"), NAME_MAX_SHOWN);
    text_buffer_add(out, ".");
}

static void verdict(struct text_buffer *out, struct json_object *m)
{
    const char *status = word(m, "status");

    text_buffer_printf(out, "<p class=\"verdict\"><span class=\"pill %s\" id=\"status\">",
                       pill_style(m));
    report_text(out, status, 40);
    text_buffer_add(out, "</span>");
    if (strcmp(word(m, "phase"), "parked") == 0)
        text_buffer_add(out, "Where the instance runs cannot be told: look at both hosts. Nothing "
                             "was removed and nothing was resumed.");
    else if (strcmp(status, "completed") == 0)
        verdict_completed(out, m);
    else if (strcmp(status, "cancelled") == 0)
        verdict_stayed(out, m, "The migration was cancelled");
    else if (view_is_active(m))
        verdict_running(out, m);
    else
        verdict_stayed(out, m, "The migration failed");
    text_buffer_add(out, "</p>\n");
    if (*word(m, "message")) {
        text_buffer_add(out, "<p class=\"verdict note\" id=\"message\">");
        report_text(out, word(m, "message"), TEXT_MAX_SHOWN);
        text_buffer_add(out, "</p>\n");
    }
}

static void title(struct text_buffer *out, struct json_object *m)
{
    report_text(out, word(m, "name"), NAME_MAX_SHOWN);
    text_buffer_add(out, ": ");
    report_text(out, word(m, "source"), NAME_MAX_SHOWN);
    text_buffer_add(out, " \xe2\x86\x92 ");
    report_text(out, word(m, "dest"), NAME_MAX_SHOWN);
}

static void key_figure(struct text_buffer *out, const char *name, const char *value)
{
    text_buffer_printf(out, "<div><dt>%s</dt><dd>%s</dd></div>", name, value);
}

static void key_figures(struct text_buffer *out, struct json_object *m)
{
    char text[SCREEN_TEXT_SIZE] = "\xe2\x80\x93";
    struct json_object *result = json_get(m, "result");

    text_buffer_add(out, "<dl class=\"key\">");
    if (!isnan(pause_ms(m)))
        report_ms(pause_ms(m), text, sizeof(text));
    key_figure(out, "Pause of the instance", text);
    report_ms(total_ms(m), text, sizeof(text));
    key_figure(out, view_is_active(m) ? "Time so far" : "Time in all", text);
    screen_bytes((int64_t)moved_bytes(m), text);
    key_figure(out, "Moved", text);
    screen_rate((int64_t)report_number(result, "average_throughput_bytes_s",
                                       report_number(m, "throughput_bytes_s", -1)),
                text);
    key_figure(out, result ? "Average throughput" : "Throughput", text);
    text_buffer_add(out, "</dl>\n");
}

/* ---- facts ---- */

static void fact(struct text_buffer *out, const char *name, const char *value)
{
    text_buffer_printf(out, "<div><dt>%s</dt><dd>", name);
    report_text(out, value && *value ? value : NULL, NAME_MAX_SHOWN);
    text_buffer_add(out, "</dd></div>\n");
}

static void fact_time(struct text_buffer *out, const char *name, const char *at)
{
    text_buffer_printf(out, "<div><dt>%s</dt><dd>", name);
    add_at(out, at);
    text_buffer_add(out, "</dd></div>\n");
}

static void fact_amount(struct text_buffer *out, struct json_object *m, const char *key,
                        const char *name)
{
    struct json_object *o = json_get(m, key);
    char total[SCREEN_TEXT_SIZE], processed[SCREEN_TEXT_SIZE], text[2 * SCREEN_TEXT_SIZE + 16];

    if (report_number(o, "total", 0) <= 0)
        return;
    screen_bytes((int64_t)report_number(o, "total", 0), total);
    screen_bytes((int64_t)report_number(o, "processed", 0), processed);
    (void)snprintf(text, sizeof(text), "%s, %s of it moved", total, processed);
    fact(out, name, text);
}

static void fact_number(struct text_buffer *out, const char *name, double value, const char *unit)
{
    char text[SCREEN_TEXT_SIZE];

    if (isnan(value))
        return;
    (void)snprintf(text, sizeof(text), "%.0f%s%s", value, *unit ? " " : "", unit);
    fact(out, name, text);
}

static double highest(struct json_object *m, const char *key)
{
    struct json_object *samples = json_get(m, "samples");
    double value = report_number(m, key, 0);

    for (size_t i = 0; i < report_length(samples); i++)
        value = fmax(value, report_number(json_object_array_get_idx(samples, i), key, 0));
    return value;
}

static void fact_limits(struct text_buffer *out, struct json_object *m)
{
    double timeout = report_number(m, "completion_timeout_s", 0);
    _cleanup_(str_freep) char *after =
        timeout > 0 ? text_format("%s after %.0f s", word(m, "timeout_action"), timeout)
                    : text_dup("none");
    double bandwidth = report_number(m, "bandwidth_mib", 0);

    fact(out, "Timeout", after);
    fact_number(out, "Longest pause permitted at the end",
                report_number(m, "downtime_limit_ms", NAN), "ms");
    fact(out, "Auto-converge", json_get_bool(m, "auto_converge", false) ? "permitted" : "off");
    fact(out, "Post-copy", json_get_bool(m, "post_copy", false) ? "permitted" : "off");
    if (bandwidth > 0)
        fact_number(out, "Bandwidth limit", bandwidth, "MiB/s");
    else
        fact(out, "Bandwidth limit", "none");
}

static void facts(struct text_buffer *out, struct json_object *m)
{
    char text[SCREEN_TEXT_SIZE];

    text_buffer_add(out, "<section id=\"facts\"><h2>Facts</h2><div class=\"facts\"><dl>\n");
    fact(out, "Instance", word(m, "name"));
    fact(out, "Instance UUID", word(m, "instance"));
    fact_number(out, "Migration", report_number(m, "id", NAN), "");
    fact(out, "Migration UUID", word(m, "uuid"));
    fact(out, "From", word(m, "source"));
    fact(out, "To", word(m, "dest"));
    fact_time(out, "Requested", json_get_string(m, "created_at", NULL));
    fact_time(out, "Last change", json_get_string(m, "updated_at", NULL));
    fact(out, "Phase", word(m, "phase"));
    fact_amount(out, m, "memory", "Memory");
    fact_amount(out, m, "disk", "Disks");
    fact_number(out, "Passes over the memory", highest(m, "iteration"), "");
    fact_number(out, "Strongest throttle", highest(m, "throttle_percent"), "%");
    screen_rate((int64_t)highest(m, "dirty_rate_bytes_s"), text);
    fact(out, "Highest dirty rate", text);
    if (!isnan(measured_pause_ms(m)) && !isnan(told_pause_ms(m)))
        fact_number(out, "Pause as libvirt tells it", told_pause_ms(m), "ms");
    fact_limits(out, m);
    text_buffer_add(out, "</dl></div></section>\n");
}

/* ---- sections ---- */

/* Accounts of older releases have none. */
static bool has_ends(struct json_object *samples)
{
    return json_has(json_object_array_get_idx(samples, 0), "expected_downtime_low_ms");
}

static void plots(struct text_buffer *out, struct json_object *m)
{
    static const struct report_series rest[] = {{"memory", "memory_remaining", "a", false},
                                                {"disks", "disk_remaining", "b", false}};
    static const struct report_series rates[] = {{"throughput", "throughput_bytes_s", "a", false},
                                                 {"dirty rate", "dirty_rate_bytes_s", "b", false}};
    static const struct report_series throttle[] = {{"throttle", "throttle_percent", "a", true}};
    static const struct report_series pause[] = {
        {"expected pause", "expected_downtime_ms", "a", false},
        {"limit in force", "downtime_limit_ms", "b", true},
        {"in 4 of 5 cases between these", "expected_downtime_low_ms", "e", false},
        {NULL, "expected_downtime_high_ms", "e", false}};
    struct json_object *samples = json_get(m, "samples");
    struct report_span span = report_span_of(m);

    text_buffer_add(out, "<section id=\"progress\"><h2>Progress</h2>\n");
    if (report_length(samples) == 0) {
        text_buffer_add(out, "<p class=\"empty\">No samples are on record: the copy never began, "
                             "or this account is from before samples were kept.</p></section>\n");
        return;
    }
    report_plot(out, "Left to move", REPORT_BYTES, rest, 2, samples, &span);
    report_plot(out, "Throughput and dirty rate", REPORT_BYTES_S, rates, 2, samples, &span);
    report_plot(out, "Throttle of the instance", REPORT_PERCENT, throttle, 1, samples, &span);
    report_plot(out, "Expected pause and its limit", REPORT_MS, pause, has_ends(samples) ? 4 : 2,
                samples, &span);
    text_buffer_add(out,
                    "<p class=\"note\">Time runs from libvirt\xe2\x80\x99s call. Numbers mark the "
                    "decisions below, the red line is the pause.</p></section>\n");
}

static void decisions(struct text_buffer *out, struct json_object *m)
{
    struct json_object *notes = json_get(m, "notes");
    double start_ms = report_span_of(m).start_ms;

    text_buffer_add(out, "<section id=\"decisions\"><h2>What was decided, and why</h2>\n");
    if (report_length(notes) == 0) {
        text_buffer_add(out, "<p class=\"empty\">Neither the policy nor an operator had to do "
                             "anything.</p></section>\n");
        return;
    }
    text_buffer_add(out, "<ol class=\"decisions\">\n");
    for (size_t i = 0; i < report_length(notes); i++) {
        struct json_object *note = json_object_array_get_idx(notes, i);
        char at[SCREEN_TEXT_SIZE];
        report_ms(report_number(note, "since_start_ms", 0) - start_ms, at, sizeof(at));
        text_buffer_printf(out, "<li><span class=\"no\">%zu</span><time>%s</time><span>", i + 1,
                           at);
        report_text(out, json_get_string(note, "text", NULL), TEXT_MAX_SHOWN);
        text_buffer_add(out, "</span></li>\n");
    }
    text_buffer_add(out, "</ol></section>\n");
}

static void cell_ms(struct text_buffer *out, struct json_object *stamp, const char *key)
{
    double ms = report_number(stamp, key, NAN);

    if (isnan(ms))
        text_buffer_add(out, "<td class=\"n\">\xe2\x80\x93</td>");
    else
        text_buffer_printf(out, "<td class=\"n\">%+.1f</td>", ms);
}

static void timeline_row(struct text_buffer *out, struct json_object *stamp)
{
    _cleanup_(str_freep) char *text = view_stamp_text(stamp);

    text_buffer_add(out, "<tr>");
    cell_ms(out, stamp, "since_start_ms");
    cell_ms(out, stamp, "since_pause_ms");
    text_buffer_add(out, "<td>");
    report_text(out, json_get_string(stamp, "host", NULL), NAME_MAX_SHOWN);
    text_buffer_add(out, "</td><td>");
    report_text(out, text, NAME_MAX_SHOWN);
    text_buffer_add(out, "</td><td class=\"n\">");
    add_at(out, json_get_string(stamp, "at", NULL));
    text_buffer_add(out, "</td></tr>\n");
}

static void timeline(struct text_buffer *out, struct json_object *m)
{
    struct json_object *o = json_get(m, "timeline"), *stamps = json_get(o, "stamps");
    bool by_signal = text_equal(json_get_string(o, "aligned_by", ""), "signal");

    text_buffer_add(out, "<section id=\"timeline\"><h2>Timeline</h2>\n");
    if (report_length(stamps) == 0) {
        text_buffer_add(out, "<p class=\"empty\">No timeline is on record.</p></section>\n");
        return;
    }
    text_buffer_add(out,
                    "<table><thead><tr><th class=\"n\">Start, ms</th><th class=\"n\">Pause, "
                    "ms</th><th>Host</th><th>What</th><th class=\"n\">By the host\xe2\x80\x99s "
                    "clock</th></tr></thead><tbody>\n");
    for (size_t i = 0; i < report_length(stamps); i++)
        timeline_row(out, json_object_array_get_idx(stamps, i));
    text_buffer_printf(
        out,
        "</tbody></table><p class=\"note\">The other host\xe2\x80\x99s times are laid "
        "beside by %s.</p></section>\n",
        by_signal ? "the signal of the pause, which both saw"
                  : "the clocks of the hosts, which may differ");
}

void report_page(struct text_buffer *out, struct json_object *m, int64_t written_us,
                 const char *version)
{
    char now[CLOCK_TEXT_SIZE];

    clock_format_object(written_us, now);
    text_buffer_add(out,
                    "<!DOCTYPE html>\n<html xmlns=\"http://www.w3.org/1999/xhtml\" lang=\"en\">"
                    "<head><meta charset=\"utf-8\"/>\n"
                    "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src "
                    "'none'; style-src 'unsafe-inline'\"/>\n"
                    "<meta name=\"viewport\" content=\"width=device-width, "
                    "initial-scale=1\"/>\n<meta name=\"color-scheme\" content=\"light dark\"/>\n"
                    "<title>");
    title(out, m);
    text_buffer_printf(out,
                       "</title>\n<style>\n%s</style></head>\n<body>\n<header><p class=\"kicker\">"
                       "Live migration %lld</p>\n<h1>",
                       report_style, (long long)report_number(m, "id", 0));
    title(out, m);
    text_buffer_add(out, "</h1>\n");
    verdict(out, m);
    text_buffer_add(out, "</header>\n<main>\n");
    key_figures(out, m);
    facts(out, m);
    plots(out, m);
    decisions(out, m);
    text_buffer_add(out, "<section><h2>The switch-over, to scale</h2>\n");
    report_switchover(out, m);
    text_buffer_add(out, "</section>\n");
    timeline(out, m);
    text_buffer_add(out, "</main>\n<footer>Written ");
    add_at(out, now);
    text_buffer_add(out, " by computectl ");
    report_text(out, version, 40);
    text_buffer_add(out, " from the account of ");
    report_text(out, word(m, text_equal(word(m, "role"), "destination") ? "dest" : "source"),
                NAME_MAX_SHOWN);
    text_buffer_add(out, ".</footer>\n</body></html>\n");
}
