/* SPDX-License-Identifier: Apache-2.0 */
/* Commands about the host: list, show, status, stats, log-level. */
#include "ctl/ctl.h"

#include <string.h>

#include "ctl/handlers.h"
#include "ctl/screen.h"
#include "ctl/view.h"
#include "lib/json.h"
#include "lib/log.h"

/* Asks, and prints the answer as JSON if that is wanted: 1 = done, 0 = *result is to be shown. */
static int ask(struct ctl *ctl, const char *command, struct json_object *args,
               struct json_object **result, struct err *e)
{
    if (ctl_call(ctl, command, args, result, e) < 0)
        return -1;
    if (!ctl_wants_json(ctl))
        return 0;
    return ctl_print_json(ctl, *result, e) < 0 ? -1 : 1;
}

int ctl_run_list(struct ctl *ctl, struct err *e)
{
    static const char *const head[] = {"UUID", "NAME", "STATE", "MEMORY", "VCPUS", "TASK"};
    static const bool right[] = {false, false, false, true, true, false};
    struct screen_table table = {.columns = ARRAY_LEN(head), .head = head, .right = right};
    _cleanup_(json_putp) struct json_object *result = NULL;
    struct text_buffer text = TEXT_BUFFER_INIT;
    int done = ask(ctl, "list", NULL, &result, e);

    if (done)
        return done < 0 ? -1 : 0;
    struct json_object *list = json_get(result, "instances");
    for (size_t i = 0; i < json_array_length(list); i++) {
        struct json_object *o = json_object_array_get_idx(list, i);
        _cleanup_(str_freep) char *memory =
            text_format("%lld MiB", (long long)json_get_int(o, "memory_mb", 0));
        screen_cell(&table, json_get_string(o, "uuid", NULL));
        screen_cell(&table, json_get_string(o, "name", NULL));
        screen_cell(&table, json_get_string(o, "state", NULL));
        screen_cell(&table, memory);
        screen_cell_int(&table, json_get_int(o, "vcpus", 0));
        screen_cell(&table, json_get_string(o, "task", NULL));
    }
    screen_table_print(&text, &table);
    screen_table_free(&table);
    return ctl_print(ctl, &text, e);
}

int ctl_run_operations(struct ctl *ctl, struct err *e)
{
    static const char *const head[] = {"INSTANCE", "OPERATION", "STEP", "SINCE"};
    static const bool right[] = {false, false, false, true};
    struct screen_table table = {.columns = ARRAY_LEN(head), .head = head, .right = right};
    _cleanup_(json_putp) struct json_object *result = NULL;
    struct text_buffer text = TEXT_BUFFER_INIT;
    int done = ask(ctl, "operations", NULL, &result, e);

    if (done)
        return done < 0 ? -1 : 0;
    struct json_object *list = json_get(result, "operations");
    for (size_t i = 0; i < json_array_length(list); i++) {
        struct json_object *o = json_object_array_get_idx(list, i);
        char since[SCREEN_TEXT_SIZE];
        screen_duration(json_get_int(o, "since_s", -1), since);
        screen_cell(&table, json_get_string(o, "instance_uuid", NULL));
        screen_cell(&table, json_get_string(o, "operation", NULL));
        screen_cell(&table, json_get_string(o, "step", NULL));
        screen_cell(&table, since);
    }
    screen_table_print(&text, &table);
    screen_table_free(&table);
    return ctl_print(ctl, &text, e);
}

int ctl_run_show(struct ctl *ctl, struct err *e)
{
    struct json_object *args = json_object_new_object();
    _cleanup_(json_putp) struct json_object *result = NULL;
    struct text_buffer text = TEXT_BUFFER_INIT;

    json_add_string(args, "instance", ctl->arguments[0]);
    if (ctl->values[CTL_OPTION_TIMELINE])
        json_add_bool(args, "timeline", true);
    int done = ask(ctl, "show", args, &result, e);
    if (done)
        return done < 0 ? -1 : 0;
    struct json_object *migration = json_object_get(json_get(result, "migration"));
    if (json_object_is_type(result, json_type_object))
        json_object_object_del(result, "migration");
    screen_json(&text, result, 0);
    if (json_object_is_type(migration, json_type_object)) {
        text_buffer_add(&text, "\n");
        if (view_is_active(migration))
            view_screen(&text, migration, ctl->width);
        else
            view_result(&text, migration);
        if (ctl->values[CTL_OPTION_TIMELINE]) {
            text_buffer_add(&text, "\n");
            view_timeline(&text, json_get(migration, "timeline"));
        }
    }
    json_object_put(migration);
    return ctl_print(ctl, &text, e);
}

/* Answers that are shown as they come: names and values. */
static int show_answer(struct ctl *ctl, const char *command, struct json_object *args,
                       struct err *e)
{
    _cleanup_(json_putp) struct json_object *result = NULL;
    struct text_buffer text = TEXT_BUFFER_INIT;
    int done = ask(ctl, command, args, &result, e);

    if (done)
        return done < 0 ? -1 : 0;
    screen_json(&text, result, 0);
    return ctl_print(ctl, &text, e);
}

int ctl_run_status(struct ctl *ctl, struct err *e)
{
    struct json_object *args = json_object_new_object();

    if (ctl->values[CTL_OPTION_METHODS])
        json_add_bool(args, "methods", true);
    return show_answer(ctl, "status", args, e);
}

int ctl_run_stats(struct ctl *ctl, struct err *e)
{
    return show_answer(ctl, "stats", NULL, e);
}

int ctl_run_log_level(struct ctl *ctl, struct err *e)
{
    enum log_level level;
    int count = ctl->argument_count;
    const char *last = count ? ctl->arguments[count - 1] : NULL;
    bool given = last && log_level_parse(last, &level) == 0;

    if (count == 2 && !given)
        return err_set(e, ERR_USAGE,
                       "\"%s\" is not a level; it must be debug, info, warning or error", last);
    struct json_object *args = json_object_new_object();
    if (count == 2 || (count == 1 && !given))
        json_add_string(args, "module", ctl->arguments[0]);
    if (given)
        json_add_string(args, "level", last);
    return show_answer(ctl, "log-level", args, e);
}
