/* SPDX-License-Identifier: Apache-2.0 */
/* The switch-over drawn to scale: a row for each stamp around the pause, the blackout as a band. */
#include "ctl/report.h"

#include <math.h>
#include <stdio.h>

#include "ctl/view.h"
#include "lib/json.h"

enum { WIDTH = 960, LEFT = 330, RIGHT = 96, HEAD = 30, ROW = 24, FOOT = 8, TICKS = 8 };

/* A blackout that takes a small part of the time around it would not be seen. */
enum { TIMES_THE_BLACKOUT = 5 };

/* What is drawn, in milliseconds since the pause. */
struct window {
    double from, to;
    double resumed; /* NAN = not known */
};

static struct json_object *stamps_of(struct json_object *migration)
{
    return json_get(json_get(migration, "timeline"), "stamps");
}

struct json_object *report_stamp(struct json_object *migration, const char *name)
{
    struct json_object *list = stamps_of(migration), *found = NULL;

    for (size_t i = 0; i < report_length(list); i++) {
        struct json_object *stamp = json_object_array_get_idx(list, i);
        if (text_equal(json_get_string(stamp, "name", NULL), name))
            found = stamp;
    }
    return found;
}

static double since_pause(struct json_object *stamp)
{
    return report_number(stamp, "since_pause_ms", NAN);
}

static struct window window_of(struct json_object *migration)
{
    struct json_object *list = stamps_of(migration);
    struct json_object *runs = report_stamp(migration, "resumed");
    struct window w = {.resumed = NAN};

    if (!runs || since_pause(runs) < 0)
        runs = report_stamp(migration, "reverted");
    if (runs && since_pause(runs) > 0)
        w.resumed = since_pause(runs);
    for (size_t i = 0; i < report_length(list); i++) {
        double ms = since_pause(json_object_array_get_idx(list, i));
        bool near = isnan(w.resumed) || ms <= w.resumed * TIMES_THE_BLACKOUT;
        if (!isnan(ms) && near && ms > w.to)
            w.to = ms;
    }
    w.to = fmax(w.to * 1.04, 1);
    w.from = -w.to * 0.06;
    return w;
}

static double x_at(const struct window *w, double ms)
{
    return LEFT + (WIDTH - LEFT - RIGHT) * (ms - w->from) / (w->to - w->from);
}

static void scale(struct text_buffer *out, const struct window *w, int height)
{
    double step = report_nice_step(w->to, TICKS);

    for (int i = 0; i * step <= w->to; i++) {
        double x = x_at(w, i * step);
        text_buffer_printf(out,
                           "<path class=\"%s\" d=\"M%.1f %dV%d\"/>"
                           "<text class=\"mid\" x=\"%.1f\" y=\"%d\">%.*f ms</text>\n",
                           i == 0 ? "axis" : "grid", x, HEAD - 6, height - FOOT, x, HEAD - 13,
                           step < 1 ? 1 : 0, i * step);
    }
}

static void blackout(struct text_buffer *out, const struct window *w, int height)
{
    if (isnan(w->resumed))
        return;
    text_buffer_printf(out,
                       "<rect class=\"band\" x=\"%.1f\" y=\"%d\" width=\"%.1f\" height=\"%d\">"
                       "<title>the guest stood still for %.1f ms</title></rect>\n",
                       x_at(w, 0), HEAD - 6, x_at(w, w->resumed) - x_at(w, 0),
                       height - FOOT - HEAD + 6, w->resumed);
}

/* The stem starts at the pause, so that its length is the time. */
static void row(struct text_buffer *out, const struct window *w, struct json_object *stamp,
                bool here, int number)
{
    _cleanup_(str_freep) char *text = view_stamp_text(stamp);
    double ms = since_pause(stamp), x = x_at(w, ms), y = HEAD + ROW * number + ROW / 2.0;
    const char *style = here ? "a" : "b";

    text_buffer_add(out, "<g class=\"stamp\"><title>");
    report_text(out, json_get_string(stamp, "host", NULL), 80);
    text_buffer_add(out, ", ");
    report_text(out, json_get_string(stamp, "at", NULL), 40);
    text_buffer_printf(out, "</title><text class=\"ink\" x=\"0\" y=\"%.1f\">", y + 4);
    report_text(out, text, 60);
    text_buffer_printf(out, "</text><path class=\"stem %s\" d=\"M%.1f %.1fH%.1f\"/>", style,
                       x_at(w, 0), y, x);
    if (here)
        text_buffer_printf(out, "<circle class=\"pt a\" cx=\"%.1f\" cy=\"%.1f\" r=\"5\"/>", x, y);
    else
        text_buffer_printf(out, "<path class=\"pt b\" d=\"M%.1f %.1fl5.5 5.5-5.5 5.5-5.5-5.5Z\"/>",
                           x, y - 5.5);
    text_buffer_printf(out, "<text class=\"ink end\" x=\"%d\" y=\"%.1f\">%+.1f ms</text></g>\n",
                       WIDTH, y + 4, ms);
}

static void caption(struct text_buffer *out, struct json_object *migration, const struct window *w)
{
    text_buffer_add(out, "<figure id=\"switchover\"><figcaption><b>");
    if (isnan(w->resumed))
        text_buffer_add(out, "From the pause on");
    else
        text_buffer_printf(out, "The guest stood still for %.1f ms", w->resumed);
    text_buffer_add(out, "</b><span><i class=\"dot ca\"></i>");
    report_text(out, json_get_string(migration, "source", NULL), 60);
    text_buffer_add(out, "</span><span><i class=\"dot sq cb\"></i>");
    report_text(out, json_get_string(migration, "dest", NULL), 60);
    text_buffer_add(out, "</span></figcaption>\n");
}

void report_switchover(struct text_buffer *out, struct json_object *migration)
{
    struct json_object *list = stamps_of(migration);
    const char *source = json_get_string(migration, "source", "");
    struct window w = window_of(migration);
    struct text_buffer rows = TEXT_BUFFER_INIT;
    int count = 0;

    for (size_t i = 0; i < report_length(list); i++) {
        struct json_object *stamp = json_object_array_get_idx(list, i);
        double ms = since_pause(stamp);
        if (isnan(ms) || ms < w.from || ms > w.to)
            continue;
        row(&rows, &w, stamp, text_equal(json_get_string(stamp, "host", ""), source), count++);
    }
    if (count == 0) {
        text_buffer_add(out, "<p class=\"empty\">No pause for a switch-over is on record.</p>\n");
        text_buffer_free(&rows);
        return;
    }
    int height = HEAD + ROW * count + FOOT;
    caption(out, migration, &w);
    text_buffer_printf(out,
                       "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 %d %d\" "
                       "role=\"img\" aria-label=\"the switch-over in milliseconds since the "
                       "pause\">\n",
                       WIDTH, height);
    blackout(out, &w, height);
    scale(out, &w, height);
    text_buffer_add_n(out, rows.data, rows.length);
    text_buffer_free(&rows);
    text_buffer_add(out, "</svg></figure>\n");
}
