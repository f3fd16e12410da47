/* SPDX-License-Identifier: Apache-2.0 */
/* The option table as YAML sample, words, help and JSON Schema. The man pages are in man.c. */
#include "conf/render.h"

#include <stdio.h>
#include <string.h>
#include <json-c/json_object.h>

#include "conf/load.h"
#include "lib/json.h"

/* --- YAML ------------------------------------------------------------------------------------- */

/* Letters, digits and signs that mean nothing to YAML inside a plain scalar. */
static bool is_plain(const char *text)
{
    static const char safe[] =
        "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_./+-$:@%()=";

    if (!*text || strchr("-:@%=?", text[0]) || text[strlen(text) - 1] == ':' ||
        strspn(text, safe) != strlen(text))
        return false;
    return strcmp(text, "null") != 0 && strcmp(text, "~") != 0;
}

void conf_yaml_scalar(struct text_buffer *out, const char *text)
{
    if (is_plain(text)) {
        text_buffer_add(out, text);
        return;
    }
    text_buffer_add(out, "\"");
    for (const char *p = text; *p; p++) {
        if (*p == '"' || *p == '\\')
            text_buffer_printf(out, "\\%c", *p);
        else if ((unsigned char)*p < 0x20 || *p == 0x7f)
            text_buffer_printf(out, "\\x%02x", (unsigned)(unsigned char)*p);
        else
            text_buffer_add_n(out, p, 1);
    }
    text_buffer_add(out, "\"");
}

static void yaml_list(struct text_buffer *out, const char *text)
{
    char **items = text_split(text, ',');
    bool first = true;

    text_buffer_add(out, "[");
    for (char **item = items; *item; item++) {
        const char *start = *item + strspn(*item, " \t\n");
        if (!*start)
            continue;
        text_buffer_add(out, first ? "" : ", ");
        conf_yaml_scalar(out, start);
        first = false;
    }
    text_buffer_add(out, "]");
    text_vector_free(items);
}

void conf_yaml_value(struct text_buffer *out, const struct conf_row *row, const char *text)
{
    if (!text)
        return;
    if (row->type == CONF_TYPE_LIST)
        yaml_list(out, text);
    else
        conf_yaml_scalar(out, text);
}

/* One or more sentences as comment lines of at most 100 characters. */
static void comment(struct text_buffer *out, const char *indent, const char *text)
{
    enum { WIDTH = 96 };

    while (*text) {
        size_t length = strlen(text);
        if (length > WIDTH) {
            length = WIDTH;
            while (length && text[length] != ' ')
                length--;
            if (!length)
                length = strcspn(text, " ");
        }
        text_buffer_printf(out, "%s# %.*s\n", indent, (int)length, text);
        text += length;
        text += strspn(text, " ");
    }
}

static void sample_option(struct text_buffer *out, const struct conf_row *row)
{
    char allowed[256];
    struct text_buffer facts = TEXT_BUFFER_INIT;

    conf_row_allowed(row, allowed, sizeof(allowed));
    comment(out, "  ", row->help);
    if (row->more)
        comment(out, "  ", row->more);
    text_buffer_printf(&facts, "Allowed: %s.", allowed);
    if (row->automatic)
        text_buffer_printf(&facts, " Default: %s.", row->automatic);
    if (row->nova_default)
        text_buffer_printf(&facts, " With a nova.conf the default is %s.", row->nova_default);
    if (row->flags & CONF_RELOAD)
        text_buffer_add(&facts, " Takes effect on reload.");
    if (row->flags & CONF_SECRET)
        text_buffer_add(&facts, " A secret: this file must not be readable for everybody.");
    if (row->flags & CONF_DEPRECATED)
        text_buffer_add(&facts, " Deprecated.");
    if (row->flags & CONF_IDLE)
        text_buffer_add(&facts, " Without effect in this version.");
    comment(out, "  ", facts.data);
    text_buffer_free(&facts);
    text_buffer_printf(out, "  #%s:%s", row->name, row->default_text ? " " : "");
    conf_yaml_value(out, row, row->default_text);
    text_buffer_add(out, "\n\n");
}

void conf_render_sample(struct text_buffer *out)
{
    text_buffer_add(
        out,
        "# Configuration of computed: every option with its default.\n"
        "# See computed.conf(5); `computectl conf check` reads this file and says what is wrong.\n"
        "# A value may refer to other options: $my_ip, ${state_path}, ${libvirt.virt_type}; $$ is "
        "a dollar sign.\n\n");
    for (size_t g = 0; conf_group_name(g); g++) {
        const char *group = conf_group_name(g);
        text_buffer_printf(out, "# %s\n%s:\n", conf_group_help(group), group);
        for (unsigned i = 0; i < CONF_COUNT; i++)
            if (strcmp(conf_row((enum conf_id)i)->group, group) == 0)
                sample_option(out, conf_row((enum conf_id)i));
    }
}

/* --- words and help --------------------------------------------------------------------------- */

void conf_render_words(struct text_buffer *out)
{
    for (unsigned i = 0; i < CONF_COUNT; i++)
        text_buffer_printf(out, "%s.%s\n", conf_row((enum conf_id)i)->group,
                           conf_row((enum conf_id)i)->name);
}

void conf_render_help(struct text_buffer *out)
{
    for (size_t g = 0; conf_group_name(g); g++) {
        const char *group = conf_group_name(g);
        text_buffer_printf(out, "\n%s: %s\n", group, conf_group_help(group));
        for (unsigned i = 0; i < CONF_COUNT; i++) {
            const struct conf_row *row = conf_row((enum conf_id)i);
            if (strcmp(row->group, group) != 0)
                continue;
            text_buffer_printf(out, "  %s", row->name);
            if (row->default_text && *row->default_text)
                text_buffer_printf(out, " [%s%s%s]", row->default_text, row->unit ? " " : "",
                                   row->unit ? row->unit : "");
            text_buffer_printf(out, "\n      %s\n", row->help);
        }
    }
}

/* --- JSON Schema ------------------------------------------------------------------------------- */

static struct json_object *string_array(const char *text, char separator)
{
    char **parts = text_split(text, separator);
    struct json_object *array = json_object_new_array();

    for (char **part = parts; *part; part++)
        json_object_array_add(array, json_object_new_string(*part));
    text_vector_free(parts);
    return array;
}

/* Numbers may also be written as text that refers to another option ("$name"). */
static void schema_type(struct json_object *o, const struct conf_row *row)
{
    const char *types = "string,null";

    if (row->type == CONF_TYPE_BOOL)
        types = "boolean,string,null";
    else if (row->type == CONF_TYPE_INT)
        types = "integer,string,null";
    else if (row->type == CONF_TYPE_FLOAT)
        types = "number,string,null";
    else if (row->type == CONF_TYPE_LIST)
        types = "array,string,null";
    json_add(o, "type", string_array(types, ','));
    if (row->type == CONF_TYPE_LIST) {
        struct json_object *items = json_object_new_object();
        json_add_string(items, "type", "string");
        json_add(o, "items", items);
    }
    if (row->type == CONF_TYPE_ENUM) {
        struct json_object *words = string_array(row->words, '|');
        json_object_array_add(words, NULL);
        json_add(o, "enum", words);
    }
    if (row->min != 0 || row->max != 0) {
        json_add_int(o, "minimum", (int64_t)row->min);
        if (row->max < CONF_NO_MAX)
            json_add_double(o, "maximum", row->max);
    }
}

static struct json_object *schema_default(const struct conf_row *row)
{
    int64_t number;
    double real;

    if (row->type == CONF_TYPE_BOOL)
        return json_object_new_boolean(strcmp(row->default_text, "true") == 0);
    if (row->type == CONF_TYPE_INT &&
        text_to_int64(row->default_text, INT64_MIN, INT64_MAX, &number, NULL) == 0)
        return json_object_new_int64(number);
    if (row->type == CONF_TYPE_FLOAT &&
        text_to_double(row->default_text, -1e300, 1e300, &real, NULL) == 0)
        return json_object_new_double_s(real, row->default_text);
    if (row->type == CONF_TYPE_LIST)
        return *row->default_text ? string_array(row->default_text, ',') : json_object_new_array();
    return json_object_new_string(row->default_text);
}

static struct json_object *schema_option(const struct conf_row *row)
{
    struct json_object *o = json_object_new_object();
    _cleanup_(str_freep) char *text =
        text_format("%s%s%s", row->help, row->more ? " " : "", row->more ? row->more : "");

    json_add_string(o, "description", text);
    schema_type(o, row);
    if (row->default_text)
        json_add(o, "default", schema_default(row));
    if (row->flags & CONF_DEPRECATED)
        json_add_bool(o, "deprecated", true);
    return o;
}

static struct json_object *schema_group(const char *group)
{
    struct json_object *o = json_object_new_object(), *options = json_object_new_object();

    for (unsigned i = 0; i < CONF_COUNT; i++)
        if (strcmp(conf_row((enum conf_id)i)->group, group) == 0)
            json_add(options, conf_row((enum conf_id)i)->name,
                     schema_option(conf_row((enum conf_id)i)));
    json_add_string(o, "description", conf_group_help(group));
    json_add(o, "type", string_array("object,null", ','));
    json_add_bool(o, "additionalProperties", false);
    json_add(o, "properties", options);
    return o;
}

void conf_render_schema(struct text_buffer *out)
{
    _cleanup_(json_putp) struct json_object *schema = json_object_new_object();
    struct json_object *groups = json_object_new_object();

    json_add_string(schema, "$schema", "https://json-schema.org/draft/2020-12/schema");
    json_add_string(schema, "title", "Configuration of computed");
    json_add(schema, "type", string_array("object,null", ','));
    json_add_bool(schema, "additionalProperties", false);
    for (size_t g = 0; conf_group_name(g); g++)
        json_add(groups, conf_group_name(g), schema_group(conf_group_name(g)));
    json_add(schema, "properties", groups);
    text_buffer_printf(out, "%s\n",
                       json_object_to_json_string_ext(schema, JSON_C_TO_STRING_PRETTY |
                                                                  JSON_C_TO_STRING_NOSLASHESCAPE));
}
