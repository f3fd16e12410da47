/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a terminal shows: tables, bars, numbers for people. Pure functions from values to text, so that
 * tests compare whole screens. Text that comes from an agent is escaped here.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <json-c/json_object.h>

#include "lib/text.h"

enum { SCREEN_TEXT_SIZE = 48 };

/* "1.02 GiB", "0 B"; "-" for negative. */
void screen_bytes(int64_t bytes, char out[SCREEN_TEXT_SIZE]);
/* "112.3 MiB/s"; "-" for negative. */
void screen_rate(int64_t bytes_per_second, char out[SCREEN_TEXT_SIZE]);
/* "00:01:23", "3 days 00:00:00"; "-" for negative. */
void screen_duration(int64_t seconds, char out[SCREEN_TEXT_SIZE]);

/* "[#####.....]" with `width` inner characters; done and total may be anything, total 0 is full. */
void screen_bar(struct text_buffer *out, int64_t done, int64_t total, unsigned width);

/* A table: head and rows of the same number of cells. Columns are as wide as needed. */
struct screen_table {
    unsigned columns;
    const char *const *head;
    const bool *right; /* per column: numbers are set to the right; NULL = none */
    char **cells;      /* owned */
    size_t count, capacity;
};
/* Adds the next cell, escaped, at most 80 characters; NULL is "-". */
void screen_cell(struct screen_table *table, const char *text);
void screen_cell_int(struct screen_table *table, int64_t value);
void screen_table_print(struct text_buffer *out, const struct screen_table *table);
void screen_table_free(struct screen_table *table);

/* "  name      value" lines; `width` is the column of the values. */
void screen_pair(struct text_buffer *out, unsigned width, const char *name, const char *value);

/* Any JSON value for people: pairs, nested objects indented, arrays of objects as tables. */
void screen_json(struct text_buffer *out, struct json_object *value, unsigned indent);
/* A scalar as text: strings as they are (escaped), null "-", booleans "yes"/"no". The caller frees. */
char *screen_scalar(struct json_object *value);
