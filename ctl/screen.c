/* SPDX-License-Identifier: Apache-2.0 */
/* Tables, bars and numbers. Widths count characters of UTF-8, not bytes. */
#include "ctl/screen.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <json-c/linkhash.h>

#include "lib/json.h"

enum { CELL_MAX = 80 };

/* --- numbers ---------------------------------------------------------------------------------- */

static void scaled(double value, const char *suffix, char *out)
{
    static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
    unsigned unit = 0;

    while (value >= 1024 && unit + 1 < ARRAY_LEN(units)) {
        value /= 1024;
        unit++;
    }
    (void)snprintf(out, SCREEN_TEXT_SIZE,
                   unit == 0  ? "%.0f %s%s"
                   : unit < 3 ? "%.1f %s%s"
                              : "%.2f %s%s",
                   value, units[unit], suffix);
}

void screen_bytes(int64_t bytes, char out[SCREEN_TEXT_SIZE])
{
    if (bytes < 0)
        (void)snprintf(out, SCREEN_TEXT_SIZE, "-");
    else
        scaled((double)bytes, "", out);
}

void screen_rate(int64_t bytes_per_second, char out[SCREEN_TEXT_SIZE])
{
    if (bytes_per_second < 0)
        (void)snprintf(out, SCREEN_TEXT_SIZE, "-");
    else
        scaled((double)bytes_per_second, "/s", out);
}

void screen_duration(int64_t seconds, char out[SCREEN_TEXT_SIZE])
{
    int64_t days = seconds / 86400, rest = seconds % 86400;
    char prefix[SCREEN_TEXT_SIZE / 2] = "";

    if (seconds < 0) {
        (void)snprintf(out, SCREEN_TEXT_SIZE, "-");
        return;
    }
    if (days > 99999)
        days = 99999;
    if (days)
        (void)snprintf(prefix, sizeof(prefix), "%d day%s ", (int)days, days == 1 ? "" : "s");
    (void)snprintf(out, SCREEN_TEXT_SIZE, "%s%02d:%02d:%02d", prefix, (int)(rest / 3600),
                   (int)(rest / 60 % 60), (int)(rest % 60));
}

void screen_bar(struct text_buffer *out, int64_t done, int64_t total, unsigned width)
{
    double share = total > 0 ? (double)done / (double)total : 1;
    share = share < 0 ? 0 : share > 1 ? 1 : share;
    unsigned full = (unsigned)(share * width);

    text_buffer_add(out, "[");
    for (unsigned i = 0; i < width; i++)
        text_buffer_add(out, i < full ? "#" : ".");
    text_buffer_add(out, "]");
}

/* --- tables ----------------------------------------------------------------------------------- */

static size_t characters(const char *text)
{
    size_t count = 0;

    for (; *text; text++)
        count += ((unsigned char)*text & 0xc0) != 0x80;
    return count;
}

static void pad(struct text_buffer *out, size_t count)
{
    while (count--)
        text_buffer_add(out, " ");
}

void screen_cell(struct screen_table *table, const char *text)
{
    if (table->count == table->capacity) {
        table->capacity = table->capacity ? table->capacity * 2 : 32;
        table->cells = mem_resize(table->cells, table->capacity * sizeof(char *));
    }
    table->cells[table->count++] = text && *text ? text_escape(text, CELL_MAX) : text_dup("-");
}

void screen_cell_int(struct screen_table *table, int64_t value)
{
    char text[SCREEN_TEXT_SIZE];
    (void)snprintf(text, sizeof(text), "%" PRId64, value);
    screen_cell(table, text);
}

static size_t column_width(const struct screen_table *table, unsigned column)
{
    size_t width = characters(table->head[column]);

    for (size_t i = column; i < table->count; i += table->columns) {
        size_t cell = characters(table->cells[i]);
        if (cell > width)
            width = cell;
    }
    return width;
}

static void print_row(struct text_buffer *out, const struct screen_table *table,
                      const char *const *cells)
{
    for (unsigned c = 0; c < table->columns; c++) {
        size_t gap = column_width(table, c) - characters(cells[c]);
        bool right = table->right && table->right[c], last = c + 1 == table->columns;
        if (right)
            pad(out, gap);
        text_buffer_add(out, cells[c]);
        if (!right && !last)
            pad(out, gap);
        text_buffer_add(out, last ? "\n" : "  ");
    }
}

void screen_table_print(struct text_buffer *out, const struct screen_table *table)
{
    print_row(out, table, table->head);
    for (size_t i = 0; i + table->columns <= table->count; i += table->columns)
        print_row(out, table, (const char *const *)&table->cells[i]);
}

void screen_table_free(struct screen_table *table)
{
    for (size_t i = 0; i < table->count; i++)
        free(table->cells[i]);
    free(table->cells);
    table->cells = NULL;
    table->count = table->capacity = 0;
}

void screen_pair(struct text_buffer *out, unsigned width, const char *name, const char *value)
{
    size_t length = characters(name);

    text_buffer_printf(out, "  %s", name);
    pad(out, length < width ? width - length : 1);
    text_buffer_printf(out, "%s\n", value);
}

/* --- any JSON --------------------------------------------------------------------------------- */

char *screen_scalar(struct json_object *value)
{
    switch (json_object_get_type(value)) {
    case json_type_null:
        return text_dup("-");
    case json_type_boolean:
        return text_dup(json_object_get_boolean(value) ? "yes" : "no");
    case json_type_string:
        return text_escape(json_object_get_string(value), 200);
    default: {
        _cleanup_(str_freep) char *text = json_text(value);
        return text_escape(text, 200);
    }
    }
}

static bool is_scalar(struct json_object *value)
{
    return !json_object_is_type(value, json_type_object) &&
           !json_object_is_type(value, json_type_array);
}

/* Arrays whose elements are all objects become tables with the first element's scalar keys. */
static bool is_table(struct json_object *value)
{
    size_t count =
        json_object_is_type(value, json_type_array) ? json_object_array_length(value) : 0;

    for (size_t i = 0; i < count; i++)
        if (!json_object_is_type(json_object_array_get_idx(value, i), json_type_object))
            return false;
    return count > 0;
}

static void json_table(struct text_buffer *out, struct json_object *array, unsigned indent)
{
    enum { COLUMNS_MAX = 12 };
    const char *head[COLUMNS_MAX];
    struct screen_table table = {.head = head};
    struct text_buffer text = TEXT_BUFFER_INIT;

    json_object_object_foreach (json_object_array_get_idx(array, 0), key, first) {
        if (is_scalar(first) && table.columns < COLUMNS_MAX)
            head[table.columns++] = text_escape(key, 40);
    }
    for (size_t i = 0; table.columns && i < json_object_array_length(array); i++)
        for (unsigned c = 0; c < table.columns; c++) {
            struct json_object *cell = json_get(json_object_array_get_idx(array, i), head[c]);
            _cleanup_(str_freep) char *shown = screen_scalar(cell);
            screen_cell(&table, shown);
        }
    if (table.columns)
        screen_table_print(&text, &table);
    char **lines = text_split(text.data ? text.data : "", '\n');
    for (char **line = lines; *line && **line; line++) {
        pad(out, indent + 2);
        text_buffer_printf(out, "%s\n", *line);
    }
    text_vector_free(lines);
    text_buffer_free(&text);
    screen_table_free(&table);
    for (unsigned c = 0; c < table.columns; c++)
        free((char *)(uintptr_t)head[c]);
}

static void json_list(struct text_buffer *out, struct json_object *array)
{
    for (size_t i = 0; i < json_object_array_length(array); i++) {
        _cleanup_(str_freep) char *shown = screen_scalar(json_object_array_get_idx(array, i));
        text_buffer_printf(out, "%s%s", i ? ", " : "", shown);
    }
    text_buffer_add(out, json_object_array_length(array) ? "\n" : "-\n");
}

static size_t key_width(struct json_object *object)
{
    size_t width = 0;

    json_object_object_foreach (object, key, value) {
        (void)value;
        size_t length = characters(key);
        if (length > width)
            width = length;
    }
    return width < 40 ? width : 40;
}

static void json_member(struct text_buffer *out, const char *key, struct json_object *value,
                        unsigned indent, size_t width)
{
    _cleanup_(str_freep) char *name = text_escape(key, 40);
    bool nested = json_object_is_type(value, json_type_object);

    pad(out, indent + 2);
    text_buffer_add(out, name);
    if (nested || is_table(value)) {
        text_buffer_add(out, "\n");
        if (nested)
            screen_json(out, value, indent + 2);
        else
            json_table(out, value, indent + 2);
        return;
    }
    pad(out, (characters(name) < width ? width - characters(name) : 0) + 2);
    if (json_object_is_type(value, json_type_array)) {
        json_list(out, value);
        return;
    }
    _cleanup_(str_freep) char *shown = screen_scalar(value);
    text_buffer_printf(out, "%s\n", shown);
}

void screen_json(struct text_buffer *out, struct json_object *value, unsigned indent)
{
    if (json_object_is_type(value, json_type_object)) {
        size_t width = key_width(value);
        json_object_object_foreach (value, key, member) {
            json_member(out, key, member, indent, width);
        }
    } else if (is_table(value)) {
        json_table(out, value, indent);
    } else if (json_object_is_type(value, json_type_array)) {
        pad(out, indent + 2);
        json_list(out, value);
    } else {
        _cleanup_(str_freep) char *shown = screen_scalar(value);
        pad(out, indent + 2);
        text_buffer_printf(out, "%s\n", shown);
    }
}
