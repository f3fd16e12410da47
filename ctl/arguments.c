/* SPDX-License-Identifier: Apache-2.0 */
/* The tables, and the command line against them. Options may stand anywhere; "--" ends them. */
#include "ctl/ctl.h"

#include <string.h>

#include "ctl/handlers.h"
#include "lib/json.h"

/* clang-format off */
#define WITH(id) (UINT32_C(1) << CTL_OPTION_##id)
const struct ctl_command ctl_commands[] = {
#define COMMAND(handler, name, arguments, least, most, options, complete, help, more)              \
    {name, arguments, least, most, options, CTL_COMPLETE_##complete, help, more, ctl_run_##handler},
#include "ctl/commands.def.h"
#undef COMMAND
    {0}
};

const struct ctl_option_row ctl_options[] = {
#define OPTION(id, name, argument, help) {name, argument, help},
#include "ctl/commands.def.h"
#undef OPTION
    {0}
};

const struct ctl_setting ctl_settings[] = {
#define INT()        CTL_SETTING_INT, NULL
#define BOOL()       CTL_SETTING_BOOL, NULL
#define WORDS(words) CTL_SETTING_WORD, words
#define SETTING(word, key, type, min, max, help) {word, key, type, min, max, help},
#include "ctl/commands.def.h"
#undef SETTING
    {0}
};
/* clang-format on */

uint32_t ctl_common_options(void)
{
    return WITH(HELP) | WITH(VERSION) | WITH(JSON) | WITH(HOST) | WITH(SOCKET) | WITH(TIMEOUT);
}

/* --- options ---------------------------------------------------------------------------------- */

/* Row of "--name" or "--name=value"; CTL_OPTION_COUNT if there is none. *value points behind "=". */
static enum ctl_option find_option(const char *text, const char **value)
{
    size_t length = strcspn(text, "=");

    *value = text[length] ? text + length + 1 : NULL;
    for (int i = 0; ctl_options[i].name; i++)
        if (strlen(ctl_options[i].name) == length &&
            strncmp(text, ctl_options[i].name, length) == 0)
            return (enum ctl_option)i;
    return CTL_OPTION_COUNT;
}

static void add_to_list(struct ctl *ctl, enum ctl_option option, const char *value)
{
    const char **list = (const char **)(uintptr_t)ctl->lists[option];
    size_t count = 0;

    while (list && list[count])
        count++;
    list = mem_resize(list, (count + 2) * sizeof(char *));
    list[count] = value;
    list[count + 1] = NULL;
    ctl->lists[option] = list;
}

static int take_option(struct ctl *ctl, int argc, char **argv, int *i, struct err *e)
{
    const char *value;
    enum ctl_option option = find_option(argv[*i] + 2, &value);

    if (option == CTL_OPTION_COUNT)
        return err_set(e, ERR_USAGE, "%s is not an option of computectl", argv[*i]);
    if (!ctl_options[option].argument && value)
        return err_set(e, ERR_USAGE, "--%s takes no value", ctl_options[option].name);
    if (ctl_options[option].argument && !value) {
        if (*i + 1 >= argc)
            return err_set(e, ERR_USAGE, "--%s needs a value: %s", ctl_options[option].name,
                           ctl_options[option].argument);
        value = argv[++*i];
    }
    ctl->values[option] = value ? value : "";
    add_to_list(ctl, option, ctl->values[option]);
    return 0;
}

/* --- the command ------------------------------------------------------------------------------ */

/* True if the first words of the arguments are the command's name; *words is how many. */
static bool names_command(const struct ctl_command *command, const char **arguments, int count,
                          int *words)
{
    size_t first = strcspn(command->name, " ");
    bool two = command->name[first] == ' ';

    *words = two ? 2 : 1;
    if (count < *words || strlen(arguments[0]) != first ||
        strncmp(arguments[0], command->name, first) != 0)
        return false;
    return !two || strcmp(arguments[1], command->name + first + 1) == 0;
}

static int find_command(struct ctl *ctl, struct err *e)
{
    for (const struct ctl_command *command = ctl_commands; command->name; command++) {
        int words;
        if (!names_command(command, ctl->arguments, ctl->argument_count, &words))
            continue;
        ctl->command = command;
        ctl->argument_count -= words;
        memmove(ctl->arguments, ctl->arguments + words,
                (size_t)(ctl->argument_count + 1) * sizeof(char *));
        return 0;
    }
    return err_set(
        e, ERR_USAGE, "\"%s%s%s\" is not a command of computectl, see computectl --help",
        ctl->arguments[0],
        ctl->argument_count > 1 && strcmp(ctl->arguments[0], "conf") == 0 ? " " : "",
        ctl->argument_count > 1 && strcmp(ctl->arguments[0], "conf") == 0 ? ctl->arguments[1] : "");
}

static int check_command(const struct ctl *ctl, struct err *e)
{
    const struct ctl_command *command = ctl->command;

    for (int i = 0; i < CTL_OPTION_COUNT; i++)
        if (ctl->values[i] && !((command->options | ctl_common_options()) & (UINT32_C(1) << i)))
            return err_set(e, ERR_USAGE, "%s takes no --%s", command->name, ctl_options[i].name);
    if (ctl->values[CTL_OPTION_HELP])
        return 0;
    if (ctl->argument_count < command->least)
        return err_set(e, ERR_USAGE, "an argument is missing: computectl %s %s", command->name,
                       command->arguments);
    if (command->most >= 0 && ctl->argument_count > command->most)
        return err_set(e, ERR_USAGE, "\"%s\" is one argument too many: computectl %s %s",
                       ctl->arguments[command->most], command->name, command->arguments);
    if (ctl->values[CTL_OPTION_BLOCK] && ctl->values[CTL_OPTION_SHARED])
        return err_set(e, ERR_USAGE, "--block and --shared exclude each other");
    return 0;
}

int ctl_parse(struct ctl *ctl, int argc, char **argv, struct err *e)
{
    bool options = true;

    ctl->arguments = NEW_ARRAY(const char *, (size_t)argc + 1);
    for (int i = 1; i < argc; i++) {
        if (options && strcmp(argv[i], "--") == 0)
            options = false;
        else if (options && strcmp(argv[i], "-h") == 0)
            ctl->values[CTL_OPTION_HELP] = "";
        else if (options && text_starts_with(argv[i], "--")) {
            if (take_option(ctl, argc, argv, &i, e) < 0)
                return -1;
        } else if (options && argv[i][0] == '-' && argv[i][1])
            return err_set(e, ERR_USAGE, "%s is not an option of computectl", argv[i]);
        else
            ctl->arguments[ctl->argument_count++] = argv[i];
    }
    if (ctl->argument_count == 0) {
        if (ctl->values[CTL_OPTION_HELP] || ctl->values[CTL_OPTION_VERSION])
            return 0;
        return err_set(e, ERR_USAGE, "a command is missing, see computectl --help");
    }
    if (find_command(ctl, e) < 0)
        return -1;
    return check_command(ctl, e);
}

void ctl_clear(struct ctl *ctl)
{
    for (int i = 0; i < CTL_OPTION_COUNT; i++)
        free((void *)(uintptr_t)ctl->lists[i]);
    free(ctl->arguments);
    control_close(ctl->client);
    ctl->client = NULL;
}

/* --- settings --------------------------------------------------------------------------------- */

static const struct ctl_setting *find_setting(const char *text, size_t length)
{
    for (const struct ctl_setting *s = ctl_settings; s->word; s++)
        if (strlen(s->word) == length && strncmp(s->word, text, length) == 0)
            return s;
    return NULL;
}

static int parse_word(const struct ctl_setting *s, const char *value, struct json_object *out,
                      struct err *e)
{
    char **words = text_split(s->words, '|');
    bool found = false;
    struct text_buffer allowed = TEXT_BUFFER_INIT;

    for (size_t i = 0; words[i]; i++) {
        found = found || strcmp(value, words[i]) == 0;
        text_buffer_printf(&allowed, "%s%s", i ? " or " : "", words[i]);
    }
    text_vector_free(words);
    _cleanup_(str_freep) char *list = text_buffer_take(&allowed);
    if (!found)
        return err_set(e, ERR_USAGE, "%s=%s: it must be %s", s->word, value, list);
    json_add_string(out, s->key, value);
    return 0;
}

static int parse_flag(const struct ctl_setting *s, const char *value, struct json_object *out,
                      struct err *e)
{
    bool yes = text_equal(value, "true") || text_equal(value, "yes") || text_equal(value, "on");
    bool no = text_equal(value, "false") || text_equal(value, "no") || text_equal(value, "off");

    if (!yes && !no)
        return err_set(e, ERR_USAGE, "%s=%s: it must be true or false", s->word, value);
    json_add_bool(out, s->key, yes);
    return 0;
}

static int parse_setting(const char *text, struct json_object *out, struct err *e)
{
    size_t length = strcspn(text, "=");
    const struct ctl_setting *s = find_setting(text, length);
    const char *value = text + length + 1;
    int64_t number;

    if (!text[length])
        return err_set(e, ERR_USAGE, "\"%s\" is no setting, it must be written SETTING=VALUE",
                       text);
    if (!s)
        return err_set(
            e, ERR_USAGE,
            "\"%.*s\" is not a setting; it must be downtime, timeout, action, auto_converge, "
            "post_copy, bandwidth or policy",
            (int)length, text);
    if (s->type == CTL_SETTING_BOOL)
        return parse_flag(s, value, out, e);
    if (s->type == CTL_SETTING_WORD)
        return parse_word(s, value, out, e);
    if (text_to_int64(value, s->min, s->max, &number, e) < 0) {
        err_clear(e);
        return err_set(e, ERR_USAGE, "%s=%s: it must be an integer from %lld to %lld", s->word,
                       value, (long long)s->min, (long long)s->max);
    }
    json_add_int(out, s->key, number);
    return 0;
}

int ctl_parse_settings(struct ctl *ctl, int first, struct json_object **out, struct err *e)
{
    _cleanup_(json_putp) struct json_object *settings = json_object_new_object();

    for (int i = first; i < ctl->argument_count; i++)
        if (parse_setting(ctl->arguments[i], settings, e) < 0)
            return -1;
    *out = STEAL(settings);
    return 0;
}
