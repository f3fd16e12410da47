/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The report of one migration: a page of HTML that stands alone (style and drawings within, no script, no
 * network), written as well-formed XML. Everything is a pure function from the answer of the agent (a
 * migration's account with "timeline", "notes" and "samples", agent/story.h) to text; what is missing or
 * of another type is left out, and every text of it is escaped.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <json-c/json_object.h>

#include "lib/text.h"

/* The whole page. `written_us` is the time of the report, `version` the program's. */
void report_page(struct text_buffer *out, struct json_object *migration, int64_t written_us,
                 const char *version);

/* ---- between the files of the report ---- */

/* Text for elements and attributes' values: markup, control characters and bad UTF-8 escaped, cut at
 * `limit` bytes. NULL is "-". */
void report_text(struct text_buffer *out, const char *text, size_t limit);
/* "98.2 ms", "12.4 s", "00:12:05" */
void report_ms(double ms, char *out, size_t size);
/* A number of the answer, whatever it is: within +-1e15, NaN as the fallback. */
double report_number(struct json_object *o, const char *key, double fallback);
size_t report_length(struct json_object *array);

/* report_style.c: what stands between <style> and </style>. */
extern const char report_style[];

/* ---- drawing (report_plot.c, report_timeline.c) ---- */

enum report_unit { REPORT_BYTES, REPORT_BYTES_S, REPORT_PERCENT, REPORT_MS };

struct report_series {
    const char *label, *key; /* NULL = that of the one before; member of a sample */
    const char *style;       /* class of the style sheet: "a", "b", "e" */
    bool steps;              /* holds until the next sample */
};

/* Moments that all plots show: seconds since libvirt's call. */
struct report_span {
    double start_ms; /* of libvirt's call, since the request */
    double end_s;    /* > 0 */
    double pause_s;  /* NAN = none */
    double resume_s; /* NAN = not known */
    struct json_object *notes;
};
struct report_span report_span_of(struct json_object *migration);

/* One figure: curves of the samples on one axis, with the notes' numbers and the pause. REPORT_MS is
 * drawn by powers of ten. */
void report_plot(struct text_buffer *out, const char *title, enum report_unit unit,
                 const struct report_series *series, size_t count, struct json_object *samples,
                 const struct report_span *span);

/* The pause drawn to scale, a row a stamp; says so if there was none. */
void report_switchover(struct text_buffer *out, struct json_object *migration);

/* Of the stamps of the account's timeline: the last of that name (host NULL = any); NULL. Borrowed. */
struct json_object *report_stamp(struct json_object *migration, const char *name);
/* A step of 1, 2 or 5 times a power of ten that parts `range` into at most `most` pieces. */
double report_nice_step(double range, int most);
