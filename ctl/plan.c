/* SPDX-License-Identifier: Apache-2.0 */
/* `plan`: a page of five sections, from the document that the agent makes. What is missing in it is "-". */
#include "ctl/ctl.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "ctl/handlers.h"
#include "ctl/screen.h"
#include "ctl/view.h"
#include "lib/json.h"

enum { VALUES = 18, RESULTS = 9, LEAST_TEXT = 30, TEXT_MAX = 600 };
#define PATIENCE_S 60.0

static void spaces(struct text_buffer *out, size_t count)
{
    while (count--)
        text_buffer_add(out, " ");
}

/* ---- set text ---- */

/* Bytes of the text that stand on a line of so many: up to the last blank before, or the first after. */
static size_t line_length(const char *text, size_t most)
{
    size_t length = strlen(text), at = most;

    if (most == 0 || length <= most)
        return length;
    while (at > 0 && text[at] != ' ')
        at--;
    return at > 0 ? at : strcspn(text, " ");
}

/* From column `indent` on, where the cursor is; further lines begin there too. */
static void set_text(struct text_buffer *out, const char *text, unsigned indent, unsigned width)
{
    size_t most = width == 0 ? 0 : width < indent + LEAST_TEXT ? LEAST_TEXT : width - indent;

    for (;;) {
        size_t n = line_length(text, most);
        text_buffer_add_n(out, text, n);
        text_buffer_add(out, "\n");
        text += n + (text[n] == ' ');
        if (!*text)
            return;
        spaces(out, indent);
    }
}

struct page {
    struct text_buffer *out;
    unsigned width;
};

static void section(const struct page *page, const char *title)
{
    text_buffer_printf(page->out, "\n%s\n", title);
}

static void pair(const struct page *page, const char *name, const char *value)
{
    _cleanup_(str_freep) char *label = text_escape(name, 40), *text = text_escape(value, TEXT_MAX);
    size_t used = strlen(label);

    text_buffer_printf(page->out, "  %s", label);
    spaces(page->out, used < VALUES - 2 ? VALUES - 2 - used : 2);
    set_text(page->out, text, VALUES, page->width);
}

static void pair_owned(const struct page *page, const char *name, char *value)
{
    pair(page, name, value);
    free(value);
}

/* ---- checks ---- */

static size_t longest(struct json_object *rows, const char *key, size_t least)
{
    for (size_t i = 0; i < json_array_length(rows); i++) {
        size_t n = strlen(json_get_string(json_object_array_get_idx(rows, i), key, "-"));
        least = n > least && n <= 40 ? n : least;
    }
    return least;
}

static void cell(const struct page *page, const char *text, size_t width)
{
    _cleanup_(str_freep) char *shown = text_escape(text, 40);
    size_t used = strlen(shown);

    text_buffer_add(page->out, shown);
    spaces(page->out, used < width ? width - used : 1);
}

static void show_checks(const struct page *page, struct json_object *rows)
{
    size_t hosts = longest(rows, "at", 4) + 2, names = longest(rows, "check", 5) + 2;

    section(page, "Checks");
    for (size_t i = 0; i < json_array_length(rows); i++) {
        struct json_object *row = json_object_array_get_idx(rows, i);
        _cleanup_(str_freep) char *text = text_escape(json_get_string(row, "text", "-"), TEXT_MAX);
        text_buffer_add(page->out, "  ");
        cell(page, json_get_string(row, "result", "-"), RESULTS);
        cell(page, json_get_string(row, "at", "-"), hosts);
        cell(page, json_get_string(row, "check", "-"), names);
        set_text(page->out, text, (unsigned)(2 + RESULTS + hosts + names), page->width);
    }
}

/* ---- to move ---- */

static void show_memory(const struct page *page, struct json_object *memory)
{
    char total[SCREEN_TEXT_SIZE], touched[SCREEN_TEXT_SIZE];

    screen_bytes(json_get_int(memory, "total", -1), total);
    screen_bytes(json_get_int(memory, "touched", -1), touched);
    if (json_get_int(memory, "touched", -1) < 0)
        pair(page, "memory", total);
    else
        pair_owned(page, "memory", text_format("%s, of which %s are in use", total, touched));
}

static char *base_text(struct json_object *base)
{
    char bytes[SCREEN_TEXT_SIZE];

    screen_bytes(json_get_int(base, "bytes", -1), bytes);
    if (!json_get_bool(base, "here", false))
        return text_format("; its image base %s goes too, %s", json_get_string(base, "name", "-"),
                           bytes);
    return text_format("; its image base %s is there%s", json_get_string(base, "name", "-"),
                       json_get_bool(base, "local", false) ? ", to be compared" : "");
}

static const char *how_text(const char *how)
{
    static const char *const rows[][2] = {
        {"copied", "copied"},
        {"file", "copied as a file"},
        {"shared", "not copied: both hosts share it"},
        {"volume", "not copied: a volume"},
        {"stays", "not copied: the destination must have it under the same path"},
    };

    for (size_t i = 0; i < ARRAY_LEN(rows); i++)
        if (text_equal(how, rows[i][0]))
            return rows[i][1];
    return "-";
}

static void show_disk(const struct page *page, struct json_object *disk)
{
    char used[SCREEN_TEXT_SIZE], size[SCREEN_TEXT_SIZE];
    struct json_object *base = json_get(disk, "base");
    _cleanup_(str_freep) char *base_part = base ? base_text(base) : text_dup("");
    _cleanup_(str_freep) char *name = text_format("disk %s", json_get_string(disk, "target", "-"));

    screen_bytes(json_get_int(disk, "allocated", -1), used);
    screen_bytes(json_get_int(disk, "virtual_size", -1), size);
    pair_owned(page, name,
               text_format("%s of %s used, %s, %s%s", used, size,
                           json_get_string(disk, "format", "-"),
                           how_text(json_get_string(disk, "how", NULL)), base_part));
}

static void show_to_move(const struct page *page, struct json_object *o)
{
    struct json_object *disks = json_get(o, "disks");
    char total[SCREEN_TEXT_SIZE];

    section(page, "To move");
    show_memory(page, json_get(o, "memory"));
    for (size_t i = 0; i < json_array_length(disks); i++)
        show_disk(page, json_object_array_get_idx(disks, i));
    screen_bytes(json_get_int(o, "total_bytes", -1), total);
    pair(page, "together", total);
}

/* ---- expected ---- */

static void rate(const struct page *page, struct json_object *o, const char *name, const char *key,
                 const char *text)
{
    char shown[SCREEN_TEXT_SIZE];
    int64_t bytes_s = json_get_int(o, key, -1);

    screen_rate(bytes_s, shown);
    pair_owned(
        page, name,
        text_format("%s, %s", bytes_s < 0 ? "unknown" : shown, json_get_string(o, text, "-")));
}

static void show_pause(const struct page *page, struct json_object *o)
{
    int64_t ms = json_get_int(o, "pause_ms", -1);
    char pause[TEXT_EXPECTED_SIZE];

    text_expected(ms, json_get_int(o, "pause_low_ms", -1), json_get_int(o, "pause_high_ms", -1),
                  text_ms, pause);
    if (ms < 0)
        pair(page, "pause", pause);
    else
        pair_owned(
            page, "pause",
            text_format("about %s, of which %" PRId64 " ms do not depend on memory (%s)", pause,
                        json_get_int(o, "overhead_ms", 0),
                        json_get_bool(o, "overhead_learned", false) ? "learned" : "assumed"));
}

static void show_expected(const struct page *page, struct json_object *o)
{
    char time[TEXT_EXPECTED_SIZE];

    section(page, "Expected");
    rate(page, o, "dirty rate", "dirty_rate_bytes_s", "dirty_rate_text");
    rate(page, o, "bandwidth", "bandwidth_bytes_s", "bandwidth_text");
    view_time(json_get_int(o, "time_s", -1), json_get_int(o, "time_low_s", -1),
              json_get_int(o, "time_high_s", -1), time);
    pair(page, "time", time);
    show_pause(page, o);
}

/* ---- policy ---- */

static void show_switchover(const struct page *page, struct json_object *o)
{
    const char *mode = json_get_string(o, "mode", NULL);

    pair_owned(page, "switch-over",
               text_format("%s (the source does %s, the destination %s)", mode ? mode : "unknown",
                           json_get_string(o, "source", "-"),
                           json_get_string(o, "destination", "does not tell")));
    if (json_get_bool(o, "carries", false))
        pair(page, "late wiring", "frames are carried between the hosts until the ports are wired");
}

static void show_queue(const struct page *page, struct json_object *o)
{
    int64_t places = json_get_int(o, "places", -1);

    if (json_get_bool(o, "at_once", false)) {
        pair(page, "start", "at once");
        return;
    }
    pair_owned(page, "start",
               text_format("it waits: %" PRId64 " of %" PRId64 " place(s) in use, %" PRId64
                           " before it",
                           json_get_int(o, "in_use", -1), places, json_get_int(o, "ahead", -1)));
}

static void show_policy(const struct page *page, struct json_object *plan)
{
    struct json_object *list = json_get(json_get(plan, "policy"), "sentences");

    section(page, "Policy");
    for (size_t i = 0; i < json_array_length(list); i++) {
        _cleanup_(str_freep) char *text = screen_scalar(json_object_array_get_idx(list, i));
        pair(page, i ? "" : "rules", text);
    }
    show_switchover(page, json_get(plan, "switchover"));
    show_queue(page, json_get(plan, "queue"));
}

/* ---- verdict ---- */

static void show_verdict(const struct page *page, struct json_object *plan)
{
    const char *verdict = json_get_string(plan, "verdict", "unknown");
    struct json_object *reasons = json_get(plan, "reasons");

    section(page, "Verdict");
    text_buffer_add(page->out, text_equal(verdict, "go") ? "  It would go.\n"
                               : text_equal(verdict, "refused")
                                   ? "  It would be refused.\n"
                                   : "  Nothing that is known speaks against it.\n");
    for (size_t i = 0; i < json_array_length(reasons); i++) {
        const char *reason = json_object_get_string(json_object_array_get_idx(reasons, i));
        _cleanup_(str_freep) char *text = text_escape(reason ? reason : "-", TEXT_MAX);
        text_buffer_add(page->out, "  - ");
        set_text(page->out, text, 4, page->width);
    }
}

void view_plan(struct text_buffer *out, struct json_object *plan, unsigned width)
{
    const struct page page = {out, width};
    _cleanup_(str_freep) char *name = text_escape(json_get_string(plan, "name", "-"), 80);
    _cleanup_(str_freep) char *source = text_escape(json_get_string(plan, "source", "-"), 80);
    _cleanup_(str_freep) char *dest = text_escape(json_get_string(plan, "dest", "-"), 80);

    text_buffer_printf(out, "%s from %s to %s; nothing was changed\n", name, source, dest);
    show_checks(&page, json_get(plan, "checks"));
    show_to_move(&page, json_get(plan, "to_move"));
    show_expected(&page, json_get(plan, "expected"));
    show_policy(&page, plan);
    show_verdict(&page, plan);
}

int view_plan_outcome(struct json_object *plan, struct err *e)
{
    const char *verdict = json_get_string(plan, "verdict", "unknown");
    size_t reasons = json_array_length(json_get(plan, "reasons"));

    if (text_equal(verdict, "go"))
        return 0;
    if (text_equal(verdict, "refused"))
        return err_set(e, ERR_PRECHECK, "the migration would be refused, for %zu reason(s)",
                       reasons);
    return err_set(e, ERR_NOT_IMPLEMENTED,
                   "nothing speaks against the migration, but not all could be asked");
}

int ctl_run_plan(struct ctl *ctl, struct err *e)
{
    struct json_object *args;
    _cleanup_(json_putp) struct json_object *plan = NULL;
    struct text_buffer text = TEXT_BUFFER_INIT;
    int result;

    if (!ctl->values[CTL_OPTION_TO])
        return err_set(e, ERR_USAGE, "--to is missing: computectl plan %s --to HOST",
                       ctl->arguments[0]);
    ctl->patience_s = PATIENCE_S;
    if (ctl_move_args(ctl, &args, e) < 0 || ctl_call(ctl, "plan", args, &plan, e) < 0)
        return -1;
    if (ctl_wants_json(ctl)) {
        result = ctl_print_json(ctl, plan, e);
    } else {
        view_plan(&text, plan, ctl->terminal ? ctl->width : 0);
        result = ctl_print(ctl, &text, e);
    }
    return result < 0 ? -1 : view_plan_outcome(plan, e);
}
