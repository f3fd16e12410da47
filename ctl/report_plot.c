/* SPDX-License-Identifier: Apache-2.0 */
/* Curves over time as SVG. Coordinates are those of a sheet of 960 x 200. */
#include "ctl/report.h"

#include <math.h>
#include <stdio.h>

#include "lib/json.h"

enum { WIDTH = 960, HEIGHT = 200, LEFT = 78, RIGHT = 14, TOP = 22, BOTTOM = 26, Y_TICKS = 5 };

#define PLOT_WIDTH  ((double)(WIDTH - LEFT - RIGHT))
#define PLOT_HEIGHT ((double)(HEIGHT - TOP - BOTTOM))

/* ---- axes ---- */

double report_nice_step(double range, int most)
{
    double rough = range / most, power = pow(10, floor(log10(rough)));
    double part = rough / power;

    return power * (part <= 1 ? 1 : part <= 2 ? 2 : part <= 5 ? 5 : 10);
}

/* How values are written (divided, and with what behind them) and where they lie. */
struct scale {
    double divisor, bottom, top; /* in divided units */
    double step;                 /* between two lines; 0 = by powers of ten */
    const char *suffix;
};

/* The lowest and the highest value of the series, gaps left out. */
struct extent {
    double lowest, highest;
};

/* Expected pause and limit differ by powers of ten until the last passes: that is their scale. */
static struct scale scale_of_ms(const struct extent *extent)
{
    double low = fmax(extent->lowest, 1), high = fmax(extent->highest, low);

    return (struct scale){.divisor = 1,
                          .bottom = pow(10, floor(log10(low))),
                          .top = pow(10, floor(log10(high)) + 1),
                          .suffix = "ms"};
}

static struct scale scale_of(enum report_unit unit, const struct extent *extent)
{
    static const char *const bytes[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB"};
    static const char *const rates[] = {"B/s", "KiB/s", "MiB/s", "GiB/s", "TiB/s", "PiB/s"};
    struct scale s = {.divisor = 1};
    unsigned power = 0;

    if (unit == REPORT_MS)
        return scale_of_ms(extent);
    if (unit == REPORT_PERCENT)
        return (struct scale){.divisor = 1, .top = 100, .step = 25, .suffix = "%"};
    for (; extent->highest / s.divisor >= 1024 && power + 1 < ARRAY_LEN(bytes); power++)
        s.divisor *= 1024;
    s.suffix = unit == REPORT_BYTES ? bytes[power] : rates[power];
    double reach = extent->highest > 0 ? extent->highest / s.divisor : 1;
    s.step = report_nice_step(reach, Y_TICKS);
    s.top = s.step * ceil(reach / s.step - 1e-9);
    return s;
}

static double x_at(const struct report_span *span, double seconds)
{
    return LEFT + PLOT_WIDTH * seconds / span->end_s;
}

/* 0 at the foot, 1 at the top. */
static double part_of(const struct scale *scale, double shown)
{
    double within = fmax(fmin(shown, scale->top), scale->bottom);

    return scale->step > 0 ? within / scale->top
                           : log(within / scale->bottom) / log(scale->top / scale->bottom);
}

static double y_at(const struct scale *scale, double value)
{
    return TOP + PLOT_HEIGHT * (1 - part_of(scale, value / scale->divisor));
}

static double time_step(double range)
{
    static const double steps[] = {60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 43200, 86400};

    if (range <= 300)
        return report_nice_step(range, 10);
    for (size_t i = 0; i < ARRAY_LEN(steps); i++)
        if (range / steps[i] <= 10)
            return steps[i];
    return 86400 * ceil(range / 864000);
}

static void time_label(double seconds, double step, char *out, size_t size)
{
    long long whole = (long long)seconds;

    if (step < 1)
        (void)snprintf(out, size, "%.*f s", step < 0.1 ? 2 : 1, seconds);
    else if (step < 60)
        (void)snprintf(out, size, "%.0f s", seconds);
    else if (step < 3600)
        (void)snprintf(out, size, "%lld:%02lld", whole / 60, whole % 60);
    else
        (void)snprintf(out, size, "%lld h", whole / 3600);
}

static void line_at(struct text_buffer *out, const struct scale *scale, double shown)
{
    double y = y_at(scale, shown * scale->divisor);
    int digits = scale->step > 0 && scale->step < 1 ? (scale->step < 0.1 ? 2 : 1) : 0;

    text_buffer_printf(out,
                       "<path class=\"%s\" d=\"M%d %.1fH%d\"/>"
                       "<text class=\"end\" x=\"%d\" y=\"%.1f\">%.*f %s</text>\n",
                       shown <= scale->bottom ? "axis" : "grid", LEFT, y, WIDTH - RIGHT, LEFT - 8,
                       y + 4, digits, shown, scale->suffix);
}

/* Above the lowest. */
static int lines_of(const struct scale *scale)
{
    return (int)lround(scale->step > 0 ? scale->top / scale->step
                                       : log10(scale->top / scale->bottom));
}

static void axes(struct text_buffer *out, const struct scale *scale, const struct report_span *span)
{
    double step = time_step(span->end_s);
    char label[32];

    for (int i = 0; i <= lines_of(scale); i++)
        line_at(out, scale, scale->step > 0 ? i * scale->step : scale->bottom * pow(10, i));
    for (int i = 0; i * step <= span->end_s * 1.001; i++) {
        time_label(i * step, step, label, sizeof(label));
        text_buffer_printf(out, "<text class=\"mid\" x=\"%.1f\" y=\"%d\">%s</text>",
                           x_at(span, i * step), HEIGHT - 6, label);
    }
    text_buffer_add(out, "\n");
}

/* ---- curves ---- */

struct point {
    double x, y;
};

/* A member that is null or missing is a gap. */
static bool point_of(struct json_object *sample, const char *key, const struct scale *scale,
                     const struct report_span *span, struct point *out)
{
    double seconds = (report_number(sample, "since_start_ms", NAN) - span->start_ms) / 1000;
    double value = report_number(sample, key, NAN);

    if (isnan(seconds) || isnan(value) || seconds < -1 || seconds > span->end_s)
        return false;
    out->x = x_at(span, seconds < 0 ? 0 : seconds);
    out->y = y_at(scale, value);
    return true;
}

struct pen {
    struct text_buffer path, area;
    bool down, steps;
    struct point first, last;
    size_t run, points; /* of the present stretch; of all */
};

static void lift(struct pen *pen)
{
    if (pen->down && pen->run > 1)
        text_buffer_printf(&pen->area, "L%.1f %dL%.1f %dZ", pen->last.x, HEIGHT - BOTTOM,
                           pen->first.x, HEIGHT - BOTTOM);
    else if (pen->down) /* a point alone shows as the dot of its round end */
        text_buffer_add(&pen->path, "h.1");
    pen->down = false;
    pen->run = 0;
}

static void move(struct pen *pen, struct point p)
{
    const char *word = pen->down ? "L" : "M";

    if (!pen->down)
        pen->first = p;
    else if (pen->steps)
        text_buffer_printf(&pen->path, "H%.1f", p.x);
    text_buffer_printf(&pen->path, "%s%.1f %.1f", word, p.x, p.y);
    text_buffer_printf(&pen->area, "%s%.1f %.1f", word, p.x, p.y);
    pen->last = p;
    pen->down = true;
    pen->run++;
    pen->points++;
}

static void curve(struct text_buffer *out, const struct report_series *series, bool filled,
                  struct json_object *samples, const struct scale *scale,
                  const struct report_span *span)
{
    struct pen pen = {.steps = series->steps};
    struct point p;

    for (size_t i = 0; i < report_length(samples); i++) {
        if (point_of(json_object_array_get_idx(samples, i), series->key, scale, span, &p))
            move(&pen, p);
        else
            lift(&pen);
    }
    lift(&pen);
    if (filled && pen.area.length && pen.points > 1 && !series->steps)
        text_buffer_printf(out, "<path class=\"area\" d=\"%s\"/>", pen.area.data);
    if (pen.points)
        text_buffer_printf(out, "<path class=\"curve %s\" d=\"%s\"/>\n", series->style,
                           pen.path.data);
    text_buffer_free(&pen.path);
    text_buffer_free(&pen.area);
}

/* ---- what happened meanwhile ---- */

static void pause_mark(struct text_buffer *out, const struct report_span *span)
{
    if (isnan(span->pause_s) || span->pause_s < 0 || span->pause_s > span->end_s)
        return;
    double x = x_at(span, span->pause_s);
    double to = isnan(span->resume_s) ? x : x_at(span, fmin(span->resume_s, span->end_s));
    text_buffer_printf(out,
                       "<rect class=\"band\" x=\"%.1f\" y=\"%d\" width=\"%.1f\" height=\"%.0f\"/>"
                       "<path class=\"pause\" d=\"M%.1f %dV%d\"><title>the guest was paused</title>"
                       "</path>\n",
                       x, TOP, fmax(to - x, 1), PLOT_HEIGHT, x, TOP, HEIGHT - BOTTOM);
}

static void note_marks(struct text_buffer *out, const struct report_span *span)
{
    double last = -100;

    for (size_t i = 0; i < report_length(span->notes); i++) {
        struct json_object *note = json_object_array_get_idx(span->notes, i);
        double seconds = (report_number(note, "since_start_ms", NAN) - span->start_ms) / 1000;
        if (isnan(seconds) || seconds < -1 || seconds > span->end_s)
            continue;
        double x = x_at(span, fmax(seconds, 0)); /* decided with the call in mind: at its edge */
        text_buffer_printf(out, "<g><title>");
        report_text(out, json_get_string(note, "text", NULL), 300);
        text_buffer_printf(out, "</title><path class=\"decided\" d=\"M%.1f %dV%d\"/>", x, TOP,
                           HEIGHT - BOTTOM);
        if (x - last >= 17) { /* those that would lie on one another keep their line alone */
            text_buffer_printf(out,
                               "<circle class=\"ball\" cx=\"%.1f\" cy=\"12\" r=\"8\"/>"
                               "<text class=\"num\" x=\"%.1f\" y=\"15.5\">%zu</text>",
                               x, x, i + 1);
            last = x;
        }
        text_buffer_add(out, "</g>\n");
    }
}

static struct extent extent_of(const struct report_series *series, size_t count,
                               struct json_object *samples)
{
    struct extent e = {.lowest = INFINITY};

    for (size_t i = 0; i < report_length(samples) * count; i++) {
        double value = report_number(json_object_array_get_idx(samples, i / count),
                                     series[i % count].key, NAN);
        if (isnan(value))
            continue;
        e.lowest = fmin(e.lowest, value);
        e.highest = fmax(e.highest, value);
    }
    if (e.lowest > e.highest)
        e.lowest = 0;
    return e;
}

static void caption(struct text_buffer *out, const char *title, const struct report_series *series,
                    size_t count)
{
    text_buffer_printf(out, "<figure class=\"plot\"><figcaption><b>%s</b>", title);
    for (size_t k = 0; k < count; k++)
        if (series[k].label)
            text_buffer_printf(out, "<span><i class=\"sw c%s\"></i>%s</span>", series[k].style,
                               series[k].label);
    text_buffer_add(out, "</figcaption>\n");
}

void report_plot(struct text_buffer *out, const char *title, enum report_unit unit,
                 const struct report_series *series, size_t count, struct json_object *samples,
                 const struct report_span *span)
{
    struct extent extent = extent_of(series, count, samples);
    struct scale scale = scale_of(unit, &extent);

    caption(out, title, series, count);
    text_buffer_printf(out,
                       "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 %d %d\" "
                       "role=\"img\" aria-label=\"%s over time\">\n",
                       WIDTH, HEIGHT, title);
    axes(out, &scale, span);
    pause_mark(out, span);
    for (size_t k = 0; k < count; k++)
        curve(out, &series[k], k == 0, samples, &scale, span);
    note_marks(out, span);
    text_buffer_add(out, "</svg></figure>\n");
}
