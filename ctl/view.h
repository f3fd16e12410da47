/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A migration as the control protocol tells it, as text: the screen of `watch`, the line of a log, the
 * table at the end, the row of `migrations`. Pure functions; what is missing or of another type is "-".
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <json-c/json_object.h>

#include "lib/err.h"
#include "lib/text.h"

/* text_expected() of a duration: "00:00:12 (00:00:09 to 00:00:17)". */
void view_time(int64_t s, int64_t low_s, int64_t high_s, char out[TEXT_EXPECTED_SIZE]);
/* Still under way (Nova's statuses before an end). */
bool view_is_active(struct json_object *migration);
/* The six or seven lines of `watch`, `width` characters wide at most. */
void view_screen(struct text_buffer *out, struct json_object *migration, unsigned width);
/* One line of a watch that does not go to a terminal. */
void view_line(struct text_buffer *out, struct json_object *migration);
/* The end: what happened and how it was. */
void view_result(struct text_buffer *out, struct json_object *migration);
/* Many migrations as a table. */
void view_table(struct text_buffer *out, struct json_object *migrations);
/* view_timeline.c: its "timeline" (agent/timeline.h) as a table, milliseconds since start and pause. */
void view_timeline(struct text_buffer *out, struct json_object *timeline);
/* A stamp of it in words; the caller frees. */
char *view_stamp_text(struct json_object *stamp);
/* What an ended migration means for the exit status: 0, or -1 with the error. */
int view_outcome(struct json_object *migration, struct err *e);
/* plan.c: the document of the command `plan` as a page, `width` characters wide; 0 = lines as long as they are. */
void view_plan(struct text_buffer *out, struct json_object *plan, unsigned width);
/* What its verdict means for the exit status: 0, or -1 with the error. */
int view_plan_outcome(struct json_object *plan, struct err *e);
/* The settings in force, as pairs. */
void view_settings(struct text_buffer *out, struct json_object *migration);
