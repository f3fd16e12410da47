/* SPDX-License-Identifier: Apache-2.0 */
/* The timeline of a migration as a table. */
#include "ctl/view.h"

#include <stdio.h>

#include "ctl/screen.h"
#include "lib/json.h"

static void cell_ms(struct screen_table *table, struct json_object *o, const char *key)
{
    char text[SCREEN_TEXT_SIZE];

    if (!json_get(o, key)) {
        screen_cell(table, NULL);
        return;
    }
    (void)snprintf(text, sizeof(text), "%+.1f", json_get_double(o, key, 0));
    screen_cell(table, text);
}

char *view_stamp_text(struct json_object *stamp)
{
    const char *text = json_get_string(stamp, "text", "-");
    int64_t iteration = json_get_int(stamp, "iteration", 0);

    return iteration > 0 ? text_format("%s: %lld", text, (long long)iteration) : text_dup(text);
}

void view_timeline(struct text_buffer *out, struct json_object *timeline)
{
    static const char *const head[] = {"START MS", "PAUSE MS", "HOST", "WHAT"};
    static const bool right[] = {true, true, false, false};
    struct screen_table table = {.columns = ARRAY_LEN(head), .head = head, .right = right};
    struct json_object *stamps = json_get(timeline, "stamps");
    size_t count =
        json_object_is_type(stamps, json_type_array) ? json_object_array_length(stamps) : 0;

    for (size_t i = 0; i < count; i++) {
        struct json_object *stamp = json_object_array_get_idx(stamps, i);
        _cleanup_(str_freep) char *text = view_stamp_text(stamp);
        cell_ms(&table, stamp, "since_start_ms");
        cell_ms(&table, stamp, "since_pause_ms");
        screen_cell(&table, json_get_string(stamp, "host", NULL));
        screen_cell(&table, text);
    }
    if (count == 0)
        text_buffer_add(out, "no timeline was kept of this migration\n");
    else
        screen_table_print(out, &table);
    screen_table_free(&table);
    if (count > 0)
        text_buffer_printf(out, "The other host's times are laid beside by %s.\n",
                           text_equal(json_get_string(timeline, "aligned_by", ""), "signal")
                               ? "the signal of the pause"
                               : "the clocks of the hosts, which may differ");
}
