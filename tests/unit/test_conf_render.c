/* SPDX-License-Identifier: Apache-2.0 */
/* What is made from the tables: sample, man pages, schema, words, help. */
#include "tests/unit/unit.h"

#include <sys/stat.h>

#include "conf/load.h"
#include "conf/render.h"
#include "lib/json.h"

static char *rendered(void (*render)(struct text_buffer *))
{
    struct text_buffer b = TEXT_BUFFER_INIT;
    render(&b);
    return text_buffer_take(&b);
}

/* The sample with its options switched on: "  #name: ..." becomes "  name: ...". */
static char *switched_on(const char *sample)
{
    struct text_buffer b = TEXT_BUFFER_INIT;
    char **lines = text_split(sample, '\n');

    for (char **line = lines; *line; line++) {
        bool option = text_starts_with(*line, "  #") && (*line)[3] != ' ';
        text_buffer_printf(&b, "%s%s\n", option ? "  " : "", option ? *line + 3 : *line);
    }
    text_vector_free(lines);
    return text_buffer_take(&b);
}

static struct conf *load(const char *content)
{
    _cleanup_(str_freep) char *file = text_format("%s/sample.conf", unit_directory());
    const char *const files[] = {file, NULL};
    const struct conf_sources sources = {.config_files = files};
    struct conf *conf = NULL;

    unit_write_file(file, content);
    (void)chmod(file, 0600);
    UNIT_OK(conf_load(&sources, &conf, NULL, &unit_err));
    return conf;
}

UNIT_TEST(sample,
          "the sample parses to exactly the defaults, as it is and with every option switched on")
{
    const struct conf_sources nothing = {.no_default_files = true};
    _cleanup_(str_freep) char *text = rendered(conf_render_sample);
    _cleanup_(str_freep) char *on = switched_on(text);
    _cleanup_(conf_unrefp) struct conf *defaults = NULL, *as_is = load(text), *all = load(on);

    UNIT_OK(conf_load(&nothing, &defaults, NULL, &unit_err));
    if (!defaults || !as_is || !all)
        return;
    for (unsigned i = 0; i < CONF_COUNT; i++) {
        enum conf_id id = (enum conf_id)i;
        const struct conf_row *row = conf_row(id);
        unit_check(conf_equal(defaults, as_is, id) && conf_equal(defaults, all, id), __LINE__,
                   __FILE__, "%s.%s differs from its default", row->group, row->name);
        unit_check(!row->default_text || conf_is_set(all, id), __LINE__, __FILE__,
                   "%s.%s is not in the sample", row->group, row->name);
    }
}

UNIT_TEST(man_page, "the man page names every option and tells every default")
{
    struct text_buffer b = TEXT_BUFFER_INIT;
    conf_render_man(&b, "0");
    for (unsigned i = 0; i < CONF_COUNT; i++) {
        const struct conf_row *row = conf_row((enum conf_id)i);
        struct text_buffer name = TEXT_BUFFER_INIT;
        text_buffer_add(&name, ".TP\n.B ");
        conf_roff(&name, row->name);
        text_buffer_add(&name, "\n");
        conf_roff(&name, row->help);
        UNIT_HAS(b.data, name.data);
        text_buffer_free(&name);
    }
    text_buffer_free(&b);
}

UNIT_TEST(errors_page, "the page of errors names every code")
{
    struct text_buffer b = TEXT_BUFFER_INIT;
    conf_render_errors(&b, "0");
    for (int i = ERR_NONE + 1; i < ERR_CODE_COUNT; i++) {
        _cleanup_(str_freep) char *line = text_format("\n.B %s\n", err_name((enum err_code)i));
        UNIT_HAS(b.data, line);
    }
    text_buffer_free(&b);
}

UNIT_TEST(schema, "the JSON Schema holds every option with its bounds, words and default")
{
    _cleanup_(str_freep) char *text = rendered(conf_render_schema);
    _cleanup_(json_putp) struct json_object *schema = NULL;

    UNIT_OK(json_parse(text, strlen(text), &schema, &unit_err));
    struct json_object *groups = json_get(schema, "properties");
    for (unsigned i = 0; i < CONF_COUNT; i++) {
        const struct conf_row *row = conf_row((enum conf_id)i);
        struct json_object *option =
            json_get(json_get(json_get(groups, row->group), "properties"), row->name);
        unit_check(option != NULL, __LINE__, __FILE__, "%s.%s is missing", row->group, row->name);
        if (row->min != 0 || row->max != 0)
            UNIT_EQ(json_get_int(option, "minimum", -77), (int64_t)row->min);
        UNIT_EQ(json_has(option, "enum"), row->type == CONF_TYPE_ENUM);
        UNIT_EQ(json_has(option, "default"), row->default_text != NULL);
    }
    struct json_object *libvirt = json_get(json_get(groups, "libvirt"), "properties");
    UNIT_EQ(json_get_int(json_get(libvirt, "live_migration_downtime"), "default", 0), 500);
    UNIT_TRUE(!json_get_bool(json_get(groups, "libvirt"), "additionalProperties", true));
}

UNIT_TEST(words_and_help, "the completion words and the help name every option")
{
    _cleanup_(str_freep) char *words = rendered(conf_render_words);
    _cleanup_(str_freep) char *help = rendered(conf_render_help);

    for (unsigned i = 0; i < CONF_COUNT; i++) {
        const struct conf_row *row = conf_row((enum conf_id)i);
        _cleanup_(str_freep) char *word = text_format("%s.%s\n", row->group, row->name);
        _cleanup_(str_freep) char *line = text_format("\n  %s", row->name);
        UNIT_HAS(words, word);
        UNIT_HAS(help, line);
        UNIT_HAS(help, row->help);
    }
}

UNIT_TEST(quoting, "what is written as YAML reads back as the same text")
{
    static const char *const texts[] = {
        "plain",  "",           "~",           "null",  "a: b",     "a #b",
        "- a",    "*x",         "&x",          "!x",    "%x",       "@x",
        "it's",   "say \"hi\"", "back\\slash", "tail:", "a,b",      " lead",
        "trail ", "{x}",        "[x]",         "?",     "\xc3\xa9", "instance-%(uuid)s"};
    for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
        struct text_buffer b = TEXT_BUFFER_INIT;
        text_buffer_add(&b, "vnc:\n  server_listen: ");
        conf_yaml_scalar(&b, texts[i]);
        text_buffer_add(&b, "\n");
        _cleanup_(conf_unrefp) struct conf *conf = load(b.data);
        if (conf)
            UNIT_STR(conf_string(conf, CONF_vnc_server_listen), texts[i]);
        text_buffer_free(&b);
    }
}
