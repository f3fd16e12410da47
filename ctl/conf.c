/* SPDX-License-Identifier: Apache-2.0 */
/* The commands of `conf`: what the agent has, what files say, and from a nova.conf to YAML. */
#include "conf/conf.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>

#include "conf/load.h"
#include "conf/render.h"
#include "ctl/handlers.h"
#include "ctl/screen.h"
#include "lib/json.h"

/* --- from the agent --------------------------------------------------------------------------- */

int ctl_run_conf_get(struct ctl *ctl, struct err *e)
{
    enum conf_id id = conf_find_dotted(ctl->arguments[0]);
    struct json_object *args;
    _cleanup_(json_putp) struct json_object *result = NULL;
    struct text_buffer text = TEXT_BUFFER_INIT;

    if (id == CONF_COUNT) {
        const char *dot = strchr(ctl->arguments[0], '.');
        _cleanup_(str_freep) char *group =
            dot ? text_dup_n(ctl->arguments[0], (size_t)(dot - ctl->arguments[0]))
                : text_dup("DEFAULT");
        const char *near = conf_nearest(group, dot ? dot + 1 : ctl->arguments[0]);
        return err_set(e, ERR_USAGE, "\"%s\" is not an option%s%s%s%s%s", ctl->arguments[0],
                       near ? "; did you mean " : "", near ? group : "", near ? "." : "",
                       near ? near : "", near ? "?" : "");
    }
    _cleanup_(str_freep) char *name = text_format("%s.%s", conf_row(id)->group, conf_row(id)->name);
    args = json_object_new_object();
    json_add_string(args, "name", name);
    if (ctl_call(ctl, "conf-get", args, &result, e) < 0)
        return -1;
    if (ctl_wants_json(ctl))
        return ctl_print_json(ctl, result, e);
    _cleanup_(str_freep) char *value = screen_scalar(json_get(result, "value"));
    text_buffer_printf(&text, "%s\n", value);
    return ctl_print(ctl, &text, e);
}

static bool in_group(const char *name, const char *group)
{
    size_t length = strlen(group);
    return strncmp(name, group, length) == 0 && name[length] == '.';
}

int ctl_run_conf_list(struct ctl *ctl, struct err *e)
{
    static const char *const head[] = {"OPTION", "VALUE", "FROM", "RELOAD"};
    struct screen_table table = {.columns = ARRAY_LEN(head), .head = head};
    _cleanup_(json_putp) struct json_object *result = NULL;
    struct text_buffer text = TEXT_BUFFER_INIT;

    if (ctl->argument_count && !conf_group_help(ctl->arguments[0]))
        return err_set(e, ERR_USAGE, "\"%s\" is not a group of options", ctl->arguments[0]);
    if (ctl_call(ctl, "conf-list", NULL, &result, e) < 0)
        return -1;
    if (ctl_wants_json(ctl))
        return ctl_print_json(ctl, result, e);
    struct json_object *list = json_get(result, "options");
    size_t count = json_object_is_type(list, json_type_array) ? json_object_array_length(list) : 0;
    for (size_t i = 0; i < count; i++) {
        struct json_object *o = json_object_array_get_idx(list, i);
        _cleanup_(str_freep) char *value = screen_scalar(json_get(o, "value"));
        if (ctl->argument_count && !in_group(json_get_string(o, "name", ""), ctl->arguments[0]))
            continue;
        screen_cell(&table, json_get_string(o, "name", NULL));
        screen_cell(&table, value);
        screen_cell(&table, json_get_string(o, "source", NULL));
        screen_cell(&table, json_get_bool(o, "reload", false) ? "yes" : "no");
    }
    screen_table_print(&text, &table);
    screen_table_free(&table);
    return ctl_print(ctl, &text, e);
}

static void name_list(struct text_buffer *out, struct json_object *result, const char *key,
                      const char *what)
{
    struct json_object *list = json_get(result, key);
    size_t count = json_object_is_type(list, json_type_array) ? json_object_array_length(list) : 0;

    for (size_t i = 0; i < count; i++) {
        _cleanup_(str_freep) char *name = screen_scalar(json_object_array_get_idx(list, i));
        text_buffer_printf(out, "%s %s\n", name, what);
    }
}

int ctl_run_conf_reload(struct ctl *ctl, struct err *e)
{
    _cleanup_(json_putp) struct json_object *result = NULL;
    struct text_buffer text = TEXT_BUFFER_INIT;

    if (ctl_call(ctl, "conf-reload", NULL, &result, e) < 0)
        return -1;
    if (ctl_wants_json(ctl))
        return ctl_print_json(ctl, result, e);
    name_list(&text, result, "changed", "has changed");
    name_list(&text, result, "needs_restart", "needs a restart of the agent");
    if (!text.length)
        text_buffer_add(&text, "nothing has changed\n");
    return ctl_print(ctl, &text, e);
}

/* --- files ------------------------------------------------------------------------------------ */

/* The files of the command line: --config-file, then the arguments. The vector is to be freed. */
static const char *const *given_files(const struct ctl *ctl)
{
    const char *const *option = ctl->lists[CTL_OPTION_CONFIG_FILE];
    size_t count = 0, used = 0;

    while (option && option[count])
        count++;
    const char **files = NEW_ARRAY(const char *, count + (size_t)ctl->argument_count + 1);
    for (size_t i = 0; i < count; i++)
        files[used++] = option[i];
    for (int i = 0; i < ctl->argument_count; i++)
        files[used++] = ctl->arguments[i];
    return files;
}

static struct conf_sources sources_of(const struct ctl *ctl, const char *const *files)
{
    return (struct conf_sources){.config_files = files,
                                 .config_dirs = ctl->lists[CTL_OPTION_CONFIG_DIR]};
}

static struct json_object *problem_json(const struct conf_problem *p)
{
    struct json_object *o = json_object_new_object();

    json_add_string(o, "level", conf_level_name(p->level));
    json_add_string(o, "file", p->file);
    json_add(o, "line", p->line ? json_object_new_int(p->line) : NULL);
    json_add_string(o, "text", p->text);
    return o;
}

static int print_report_json(struct ctl *ctl, const struct conf_report *report, struct err *e)
{
    _cleanup_(json_putp) struct json_object *o = json_object_new_object();
    struct json_object *problems = json_object_new_array();

    for (size_t i = 0; i < report->length; i++)
        json_object_array_add(problems, problem_json(&report->items[i]));
    json_add(o, "problems", problems);
    json_add_int(o, "errors", report->errors);
    json_add_int(o, "warnings", report->warnings);
    json_add_int(o, "ignored", report->ignored);
    return ctl_print_json(ctl, o, e);
}

static void add_problems(struct text_buffer *out, const struct conf_report *report)
{
    for (size_t i = 0; i < report->length; i++) {
        _cleanup_(str_freep) char *text = conf_problem_text(&report->items[i]);
        text_buffer_printf(out, "%s\n", text);
    }
}

int ctl_run_conf_check(struct ctl *ctl, struct err *e)
{
    const char *const *files = given_files(ctl);
    const struct conf_sources sources = sources_of(ctl, files);
    struct conf_report report = {0};
    struct text_buffer text = TEXT_BUFFER_INIT;
    _cleanup_(conf_unrefp) struct conf *conf = NULL;
    struct err ignored = ERR_INIT;
    unsigned errors;
    int printed;

    (void)conf_load(&sources, &conf, &report, &ignored);
    errors = report.errors;
    add_problems(&text, &report);
    text_buffer_printf(&text,
                       "%u errors, %u warnings, %u options of Nova that computed does not use\n",
                       report.errors, report.warnings, report.ignored);
    if (ctl_wants_json(ctl)) {
        text_buffer_free(&text);
        printed = print_report_json(ctl, &report, e);
    } else {
        printed = ctl_print(ctl, &text, e);
    }
    conf_report_clear(&report);
    free((void *)(uintptr_t)files);
    if (printed < 0)
        return -1;
    return errors ? err_set(e, ERR_CONFIG, "the configuration has %u error%s", errors,
                            errors == 1 ? "" : "s")
                  : 0;
}

/* Loads the files of the command line; warnings go to the error stream. */
static int load_files(struct ctl *ctl, const struct conf_sources *sources, struct conf **out,
                      struct err *e)
{
    struct conf_report report = {0};
    struct text_buffer text = TEXT_BUFFER_INIT;
    int result = conf_load(sources, out, &report, e);

    add_problems(&text, &report);
    if (text.length)
        (void)fputs(text.data, ctl->err);
    text_buffer_free(&text);
    conf_report_clear(&report);
    return result;
}

/* --- diff ------------------------------------------------------------------------------------- */

static const char *running_value(struct json_object *options, const char *name)
{
    size_t count =
        json_object_is_type(options, json_type_array) ? json_object_array_length(options) : 0;

    for (size_t i = 0; i < count; i++) {
        struct json_object *o = json_object_array_get_idx(options, i);
        if (strcmp(json_get_string(o, "name", ""), name) == 0)
            return json_object_get_string(json_get(o, "value"));
    }
    return NULL;
}

static struct json_object *differences(const struct conf *conf, struct json_object *running)
{
    struct json_object *list = json_object_new_array();

    for (unsigned i = 0; i < CONF_COUNT; i++) {
        const struct conf_row *row = conf_row((enum conf_id)i);
        _cleanup_(str_freep) char *name = text_format("%s.%s", row->group, row->name);
        _cleanup_(str_freep) char *value = conf_text(conf, (enum conf_id)i);
        const char *now = running_value(running, name);
        if ((row->flags & CONF_SECRET) || strcmp(now ? now : "", value) == 0)
            continue;
        struct json_object *o = json_object_new_object();
        json_add_string(o, "name", name);
        json_add_string(o, "running", now);
        json_add_string(o, "files", value);
        json_add_bool(o, "reload", row->flags & CONF_RELOAD);
        json_object_array_add(list, o);
    }
    return list;
}

static int print_differences(struct ctl *ctl, struct json_object *list, struct err *e)
{
    static const char *const head[] = {"OPTION", "RUNNING", "FILES", "TAKES EFFECT"};
    struct screen_table table = {.columns = ARRAY_LEN(head), .head = head};
    struct text_buffer text = TEXT_BUFFER_INIT;

    for (size_t i = 0; i < json_object_array_length(list); i++) {
        struct json_object *o = json_object_array_get_idx(list, i);
        screen_cell(&table, json_get_string(o, "name", NULL));
        screen_cell(&table, json_get_string(o, "running", NULL));
        screen_cell(&table, json_get_string(o, "files", NULL));
        screen_cell(&table, json_get_bool(o, "reload", false) ? "on reload" : "on restart");
    }
    if (table.count)
        screen_table_print(&text, &table);
    else
        text_buffer_add(&text, "the agent runs with what the files say\n");
    screen_table_free(&table);
    return ctl_print(ctl, &text, e);
}

int ctl_run_conf_diff(struct ctl *ctl, struct err *e)
{
    _cleanup_(conf_unrefp) struct conf *conf = NULL;
    _cleanup_(json_putp) struct json_object *result = NULL, *list = NULL;

    if (ctl->values[CTL_OPTION_HOST])
        return err_set(e, ERR_USAGE,
                       "conf diff compares files of this host; --host makes no sense");
    const char *const *files = given_files(ctl);
    const struct conf_sources sources = sources_of(ctl, files);
    int loaded = load_files(ctl, &sources, &conf, e);
    free((void *)(uintptr_t)files);
    if (loaded < 0 || ctl_call(ctl, "conf-list", NULL, &result, e) < 0)
        return -1;
    list = differences(conf, json_get(result, "options"));
    if (ctl_wants_json(ctl))
        return ctl_print_json(ctl, list, e);
    return print_differences(ctl, list, e);
}

/* --- import ----------------------------------------------------------------------------------- */

struct import {
    const struct conf *conf, *defaults; /* the files resolved; ours without any file */
    struct conf_entries *files;
    const char *const *names;
    size_t count;
    bool secrets; /* may be written */
};

/* The last entry of any file that sets the row; NULL if none does. */
static const struct conf_entry *entry_of(const struct import *im, enum conf_id id)
{
    const struct conf_entry *found = NULL;

    for (size_t f = 0; f < im->count; f++)
        for (size_t i = 0; i < im->files[f].length; i++) {
            const struct conf_entry *entry = &im->files[f].items[i];
            if (conf_find(entry->group, entry->name) == id)
                found = entry;
        }
    return found;
}

/* As written where it refers to other options, else normalised. */
static char *import_text(const struct import *im, enum conf_id id, const struct conf_entry *entry)
{
    size_t count = text_vector_length(entry->values);
    const char *last = count ? entry->values[count - 1] : "";

    if (conf_row(id)->type != CONF_TYPE_LIST && strchr(last, '$'))
        return text_dup(last);
    return conf_text_secret(im->conf, id);
}

static void import_row(const struct import *im, enum conf_id id, struct text_buffer *out)
{
    const struct conf_row *row = conf_row(id);
    const struct conf_entry *entry = entry_of(im, id);

    if (!entry && row->nova_default) {
        text_buffer_printf(out, "  %s: %s  # Nova's default; that of computed is %s\n", row->name,
                           row->nova_default, row->default_text);
        return;
    }
    if (!entry || conf_equal(im->conf, im->defaults, id))
        return;
    _cleanup_(str_freep) char *text = import_text(im, id, entry);
    if (text_equal(text, row->default_text))
        return;
    if ((row->flags & CONF_SECRET) && !im->secrets) {
        text_buffer_printf(out, "  # %s: left out, it is a secret; use --output\n", row->name);
        return;
    }
    text_buffer_printf(out, "  %s: ", row->name);
    conf_yaml_value(out, row, text);
    text_buffer_add(out, "\n");
}

static void import_rest(const struct import *im, struct text_buffer *out)
{
    bool first = true;

    for (size_t f = 0; f < im->count; f++)
        for (size_t i = 0; i < im->files[f].length; i++) {
            const struct conf_entry *entry = &im->files[f].items[i];
            if (conf_find(entry->group, entry->name) != CONF_COUNT)
                continue;
            if (first)
                text_buffer_add(out, "\n# Not options of computed, left out:\n");
            first = false;
            _cleanup_(str_freep) char *group = text_escape(entry->group, 60),
                                      *name = text_escape(entry->name, 60);
            text_buffer_printf(
                out, "#   %s.%s (line %d)%s\n", group, name, entry->line,
                conf_is_known_to_nova(entry->group, entry->name) ? "" : ", unknown to Nova too");
        }
}

static char *import_yaml(const struct import *im)
{
    struct text_buffer out = TEXT_BUFFER_INIT;

    text_buffer_add(&out, "# Made by computectl conf import from");
    for (size_t f = 0; f < im->count; f++) {
        _cleanup_(str_freep) char *name = text_escape(im->names[f], 200);
        text_buffer_printf(&out, "%s %s", f ? "," : "", name);
    }
    text_buffer_add(&out, ".\n# Only what differs from the defaults of computed.\n");
    for (size_t g = 0; conf_group_name(g); g++) {
        struct text_buffer group = TEXT_BUFFER_INIT;
        for (unsigned i = 0; i < CONF_COUNT; i++)
            if (strcmp(conf_row((enum conf_id)i)->group, conf_group_name(g)) == 0)
                import_row(im, (enum conf_id)i, &group);
        if (group.length)
            text_buffer_printf(&out, "\n%s:\n%s", conf_group_name(g), group.data);
        text_buffer_free(&group);
    }
    import_rest(im, &out);
    return text_buffer_take(&out);
}

/* Into a new file that only its owner may read: it holds secrets. */
int ctl_write_new_file(const char *file, const char *text, struct err *e)
{
    _cleanup_(fd_closep) int fd =
        open(file, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
    size_t length = strlen(text), written = 0;

    if (fd < 0)
        return err_set_errno(e, ERR_SYSTEM, errno, "%s cannot be made", file);
    while (written < length) {
        ssize_t n = write(fd, text + written, length - written);
        if (n < 0 && errno != EINTR)
            return err_set_errno(e, ERR_SYSTEM, errno, "%s cannot be written", file);
        written += n > 0 ? (size_t)n : 0;
    }
    return 0;
}

static int import_files(struct ctl *ctl, struct import *im, struct err *e)
{
    const char *output = ctl->values[CTL_OPTION_OUTPUT];
    struct conf_report report = {0};
    int result = 0;

    for (; result == 0 && im->names[im->count]; im->count++)
        result = conf_read_entries(im->names[im->count], &im->files[im->count], &report, e);
    conf_report_clear(&report);
    if (result < 0)
        return -1;
    _cleanup_(str_freep) char *yaml = import_yaml(im);
    if (output)
        return ctl_write_new_file(output, yaml, e);
    struct text_buffer text = TEXT_BUFFER_INIT;
    text_buffer_add(&text, yaml);
    return ctl_print(ctl, &text, e);
}

int ctl_run_conf_import(struct ctl *ctl, struct err *e)
{
    const struct conf_sources sources = {.config_files = ctl->arguments,
                                         .no_permission_check = true};
    const struct conf_sources none = {.no_default_files = true};
    _cleanup_(conf_unrefp) struct conf *conf = NULL, *defaults = NULL;

    if (load_files(ctl, &sources, &conf, e) < 0 || conf_load(&none, &defaults, NULL, e) < 0)
        return -1;
    struct import im = {.conf = conf,
                        .defaults = defaults,
                        .files = NEW_ARRAY(struct conf_entries, (size_t)ctl->argument_count),
                        .names = ctl->arguments,
                        .secrets = ctl->values[CTL_OPTION_OUTPUT] != NULL};
    int result = import_files(ctl, &im, e);
    for (size_t i = 0; i < im.count; i++)
        conf_entries_clear(&im.files[i]);
    free(im.files);
    return result;
}
