/* SPDX-License-Identifier: Apache-2.0 */
/* Commands about the drain of a host: the agent does it, here it is asked for and shown. */
#include "ctl/ctl.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "ctl/handlers.h"
#include "ctl/screen.h"
#include "lib/json.h"

static const char *text_of(struct json_object *o, const char *key)
{
    return json_get_string(o, key, "-");
}

static int64_t count_of(struct json_object *drain, const char *state)
{
    return json_get_int(json_get(drain, "counts"), state, 0);
}

/* Those that are to go, or to come back, and are not at their place yet. */
static int64_t count_moving(struct json_object *drain)
{
    return count_of(drain, "moving") + count_of(drain, "asked");
}

static int64_t count_done(struct json_object *drain)
{
    return count_of(drain, json_get_bool(drain, "undoing", false) ? "returned" : "moved");
}

static bool is_active(struct json_object *drain)
{
    const char *state = json_get_string(drain, "state", "");

    return !strcmp(state, "starting") || !strcmp(state, "moving") || !strcmp(state, "stopping");
}

/* ---- as text ---- */

static void head_line(struct text_buffer *out, struct json_object *drain)
{
    _cleanup_(str_freep) char *host = text_escape(text_of(drain, "host"), 80);
    _cleanup_(str_freep) char *to = text_escape(json_get_string(drain, "to", "anywhere"), 80);
    char elapsed[SCREEN_TEXT_SIZE];

    screen_duration(json_get_int(drain, "elapsed_s", -1), elapsed);
    if (json_get_bool(drain, "undoing", false))
        text_buffer_printf(out, "drain of %s is undone: %s, %s\n", host, text_of(drain, "state"),
                           elapsed);
    else
        text_buffer_printf(out, "drain of %s to %s: %s, %s\n", host, to, text_of(drain, "state"),
                           elapsed);
}

static void counts_line(struct text_buffer *out, struct json_object *drain)
{
    char moved[SCREEN_TEXT_SIZE], left[SCREEN_TEXT_SIZE];

    screen_bytes(json_get_int(drain, "moved_bytes", -1), moved);
    screen_duration(json_get_int(drain, "time_left_s", -1), left);
    text_buffer_printf(out,
                       "%" PRId64 " %s, %" PRId64 " moving, %" PRId64 " waiting, %" PRId64
                       " stay, %" PRId64 " left alone; %s sent, time left %s\n",
                       count_done(drain), json_get_bool(drain, "undoing", false) ? "back" : "moved",
                       count_moving(drain), count_of(drain, "waiting"), count_of(drain, "stays"),
                       count_of(drain, "skipped") + count_of(drain, "gone"), moved,
                       strcmp(left, "-") == 0 ? "unknown" : left);
}

static void reason_line(struct text_buffer *out, struct json_object *drain)
{
    _cleanup_(str_freep) char *reason = text_escape(text_of(drain, "reason"), 500);

    if (json_get_string(drain, "reason", NULL))
        text_buffer_printf(out, "%s\n", reason);
}

static void add_guest(struct screen_table *table, struct json_object *guest)
{
    int64_t size = json_get_int(guest, "size_bytes", 0);
    int64_t left = json_get_int(guest, "left_bytes", 0);
    char percent[32];

    (void)snprintf(percent, sizeof(percent), "%" PRId64 " %%",
                   size > 0 && left <= size ? (size - left) * 100 / size : 0);
    screen_cell(table, json_get_string(guest, "name", NULL));
    screen_cell_int(table, json_get_int(guest, "memory_mb", 0));
    screen_cell(table, json_get_string(guest, "state", NULL));
    screen_cell(table, json_get_string(guest, "at", NULL));
    screen_cell(table, percent);
    screen_cell(table, json_get_string(guest, "reason", NULL));
}

static void guests_table(struct text_buffer *out, struct json_object *drain)
{
    static const char *const head[] = {"NAME", "MEMORY MB", "STATE", "AT", "DONE", "REASON"};
    static const bool right[] = {false, true, false, false, true, false};
    struct screen_table table = {.columns = ARRAY_LEN(head), .head = head, .right = right};
    struct json_object *guests = json_get(drain, "guests");
    size_t count =
        json_object_is_type(guests, json_type_array) ? json_object_array_length(guests) : 0;

    for (size_t i = 0; i < count; i++)
        add_guest(&table, json_object_array_get_idx(guests, i));
    if (count)
        screen_table_print(out, &table);
    screen_table_free(&table);
}

static void view_whole(struct text_buffer *out, struct json_object *drain)
{
    head_line(out, drain);
    counts_line(out, drain);
    reason_line(out, drain);
    guests_table(out, drain);
}

static void view_drawn(struct text_buffer *out, struct json_object *drain, unsigned width)
{
    enum { REST = 12 };
    int64_t size = json_get_int(drain, "size_bytes", 0);

    head_line(out, drain);
    screen_bar(out, size - json_get_int(drain, "left_bytes", 0), size,
               width > REST + 10 ? width - REST : 10);
    text_buffer_add(out, "\n");
    counts_line(out, drain);
    guests_table(out, drain);
}

static int outcome(struct json_object *drain, struct err *e)
{
    const char *state = json_get_string(drain, "state", "");
    int64_t stay = count_of(drain, "stays") + count_of(drain, "waiting");

    if (strcmp(state, "failed") == 0)
        return err_set(e, ERR_MIGRATION, "the drain could not begin: %s", text_of(drain, "reason"));
    if (stay > 0)
        return err_set(e, ERR_MIGRATION, "%" PRId64 " guest(s) did not move", stay);
    if (strcmp(state, "stopped") == 0)
        return err_set(e, ERR_CANCELLED, "the drain was stopped");
    return 0;
}

/* ---- the commands ---- */

/* Shows the answer, or follows the job to its end. */
static int show(struct ctl *ctl, struct json_object *drain, struct err *e)
{
    static const struct ctl_job job = {.command = "drain-status",
                                       .is_active = is_active,
                                       .screen = view_drawn,
                                       .line = counts_line,
                                       .result = view_whole,
                                       .outcome = outcome};
    struct text_buffer text = TEXT_BUFFER_INIT;
    bool watch = ctl->values[CTL_OPTION_WATCH], wait = ctl->values[CTL_OPTION_WAIT];

    if (watch || wait) {
        _cleanup_(json_putp) struct json_object *none = json_object_new_object();
        return ctl_follow_job(ctl, &job, none, !watch, e);
    }
    if (ctl_wants_json(ctl))
        return ctl_print_json(ctl, drain, e);
    view_whole(&text, drain);
    return ctl_print(ctl, &text, e);
}

static int run(struct ctl *ctl, const char *command, struct json_object *args, struct err *e)
{
    _cleanup_(json_putp) struct json_object *drain = NULL;

    if (ctl_call(ctl, command, args, &drain, e) < 0)
        return -1;
    return show(ctl, drain, e);
}

int ctl_run_drain(struct ctl *ctl, struct err *e)
{
    const char *parallel = ctl->values[CTL_OPTION_PARALLEL];
    int64_t number = 0;

    if (parallel && text_to_int64(parallel, 1, 1000, &number, NULL) < 0)
        return err_set(e, ERR_USAGE, "--parallel %s: it must be an integer from 1 to 1000",
                       parallel);
    struct json_object *args = json_object_new_object();
    json_add_string(args, "dest", ctl->values[CTL_OPTION_TO]);
    json_add_string(args, "order", ctl->values[CTL_OPTION_ORDER]);
    if (parallel)
        json_add_int(args, "parallel", number);
    json_add_bool(args, "disable", ctl->values[CTL_OPTION_DISABLE] != NULL);
    return run(ctl, "drain", args, e);
}

int ctl_run_drain_status(struct ctl *ctl, struct err *e)
{
    return run(ctl, "drain-status", NULL, e);
}

int ctl_run_drain_stop(struct ctl *ctl, struct err *e)
{
    return run(ctl, "drain-stop", NULL, e);
}

int ctl_run_drain_undo(struct ctl *ctl, struct err *e)
{
    return run(ctl, "drain-undo", NULL, e);
}
