/* SPDX-License-Identifier: Apache-2.0 */
/*
 * YAML, the part of it that a configuration needs: a mapping of groups, each a mapping of options, each
 * a scalar or a sequence of scalars. libyaml's events are read one by one with everything bounded;
 * anchors, aliases, tags and further documents are refused, so that nothing expands.
 */
#include "conf/internal.h"

#include <string.h>
#include <yaml.h>

#include "lib/text.h"

enum { YAML_EVENTS_MAX = 4 * CONF_ENTRIES_MAX };

struct reader {
    yaml_parser_t parser;
    const char *file;
    struct conf_entries *out;
    struct conf_report *report;
    unsigned events;
    unsigned depth;
};

static void event_clear(yaml_event_t *event)
{
    yaml_event_delete(event);
}

static int complain(struct reader *r, size_t line, const char *text)
{
    conf_report_add(r->report, CONF_ERROR, r->file, (int)line + 1, "%s", text);
    return -1;
}

static int check_bounds(struct reader *r, const yaml_event_t *event)
{
    size_t line = event->start_mark.line;
    const yaml_char_t *anchor = NULL, *tag = NULL;

    switch (event->type) {
    case YAML_ALIAS_EVENT:
        return complain(r, line, "YAML aliases (*name) are not allowed");
    case YAML_SCALAR_EVENT:
        anchor = event->data.scalar.anchor;
        tag = event->data.scalar.tag;
        if (event->data.scalar.length > CONF_VALUE_MAX)
            return complain(r, line, "a value is longer than 16384 bytes");
        if (memchr(event->data.scalar.value, '\0', event->data.scalar.length))
            return complain(r, line, "a NUL byte is not allowed");
        break;
    case YAML_SEQUENCE_START_EVENT:
        anchor = event->data.sequence_start.anchor;
        tag = event->data.sequence_start.tag;
        r->depth++;
        break;
    case YAML_MAPPING_START_EVENT:
        anchor = event->data.mapping_start.anchor;
        tag = event->data.mapping_start.tag;
        r->depth++;
        break;
    case YAML_SEQUENCE_END_EVENT:
    case YAML_MAPPING_END_EVENT:
        r->depth--;
        break;
    default:
        break;
    }
    if (anchor)
        return complain(r, line, "YAML anchors (&name) are not allowed");
    if (tag)
        return complain(r, line, "YAML tags (!name) are not allowed");
    if (r->depth >= CONF_DEPTH_MAX)
        return complain(r, line,
                        "nested too deeply: groups hold options, options hold values or lists");
    if (++r->events > YAML_EVENTS_MAX)
        return complain(r, line, "more than 10000 options in one file");
    return 0;
}

/* The next event within the bounds; -1 after the first thing that cannot be read. */
static int next(struct reader *r, yaml_event_t *event)
{
    if (!yaml_parser_parse(&r->parser, event)) {
        size_t line =
            r->parser.problem_mark.line ? r->parser.problem_mark.line : r->parser.context_mark.line;
        conf_report_add(r->report, CONF_ERROR, r->file, (int)line + 1, "this is not YAML: %s",
                        r->parser.problem ? r->parser.problem : "it cannot be read");
        return -1;
    }
    if (check_bounds(r, event) < 0) {
        yaml_event_delete(event);
        return -1;
    }
    return 0;
}

static const char *scalar_text(const yaml_event_t *event)
{
    return (const char *)event->data.scalar.value;
}

/* A plain null, ~ or nothing: the option is as if it were not there. */
static bool is_null(const yaml_event_t *event)
{
    const char *text = scalar_text(event);
    return event->data.scalar.style == YAML_PLAIN_SCALAR_STYLE &&
           (!*text || strcmp(text, "~") == 0 || strcmp(text, "null") == 0);
}

static void append(struct conf_entry *entry, const char *value)
{
    size_t count = text_vector_length(entry->values);

    entry->values = mem_resize(entry->values, (count + 2) * sizeof(char *));
    entry->values[count] = text_dup(value);
    entry->values[count + 1] = NULL;
}

static int read_sequence(struct reader *r, struct conf_entry *entry)
{
    for (;;) {
        _cleanup_(event_clear) yaml_event_t event = {0};
        if (next(r, &event) < 0)
            return -1;
        if (event.type == YAML_SEQUENCE_END_EVENT)
            return 0;
        if (event.type != YAML_SCALAR_EVENT)
            return complain(r, event.start_mark.line, "a list may hold plain values only");
        append(entry, scalar_text(&event));
    }
}

/* The value of one option; the entry is added to the list unless the value is null. */
static int read_value(struct reader *r, const char *group, const char *name, int line)
{
    _cleanup_(event_clear) yaml_event_t event = {0};

    if (next(r, &event) < 0)
        return -1;
    if (event.type == YAML_MAPPING_START_EVENT) {
        _cleanup_(str_freep) char *shown = text_escape(name, 60);
        _cleanup_(str_freep) char *text =
            text_format("%s: an option holds a value or a list, not further options", shown);
        return complain(r, event.start_mark.line, text);
    }
    if (event.type == YAML_SCALAR_EVENT && is_null(&event))
        return 0;
    struct conf_entry *entry = conf_entries_add(r->out);
    entry->group = text_dup(group);
    entry->name = text_dup(name);
    entry->line = line;
    if (event.type == YAML_SEQUENCE_START_EVENT) {
        entry->sequence = true;
        return read_sequence(r, entry);
    }
    append(entry, scalar_text(&event));
    return 0;
}

/* A key, copied; NULL at the mapping's end (*end true) or on an error. */
static char *read_key(struct reader *r, int *line, bool *end)
{
    _cleanup_(event_clear) yaml_event_t event = {0};

    *end = false;
    if (next(r, &event) < 0)
        return NULL;
    *line = (int)event.start_mark.line + 1;
    if (event.type == YAML_MAPPING_END_EVENT) {
        *end = true;
        return NULL;
    }
    if (event.type != YAML_SCALAR_EVENT || event.data.scalar.length == 0 ||
        event.data.scalar.length > CONF_NAME_MAX) {
        (void)complain(r, event.start_mark.line, "a name of 1 to 128 characters is needed here");
        return NULL;
    }
    return text_dup(scalar_text(&event));
}

static int read_group(struct reader *r, const char *group)
{
    _cleanup_(event_clear) yaml_event_t event = {0};
    bool end = false;

    if (next(r, &event) < 0)
        return -1;
    if (event.type == YAML_SCALAR_EVENT && is_null(&event))
        return 0;
    if (event.type != YAML_MAPPING_START_EVENT) {
        enum conf_id id = conf_find("DEFAULT", group);
        _cleanup_(str_freep) char *shown = text_escape(group, 60);
        _cleanup_(str_freep) char *text =
            text_format("%s: a group that holds options must stand here%s%s%s", shown,
                        id != CONF_COUNT ? "; did you mean DEFAULT." : "",
                        id != CONF_COUNT ? shown : "", id != CONF_COUNT ? "?" : "");
        return complain(r, event.start_mark.line, text);
    }
    for (;;) {
        int line = 0;
        _cleanup_(str_freep) char *name = read_key(r, &line, &end);
        if (!name)
            return end ? 0 : -1;
        if (read_value(r, group, name, line) < 0)
            return -1;
    }
}

static bool group_seen(struct reader *r, char **seen, const char *group, int line)
{
    for (; *seen; seen++)
        if (strcmp(*seen, group) == 0) {
            _cleanup_(str_freep) char *shown = text_escape(group, 60);
            conf_report_add(r->report, CONF_ERROR, r->file, line,
                            "group %s is given twice in this file", shown);
            return true;
        }
    return false;
}

static int read_groups(struct reader *r)
{
    enum { GROUPS_MAX = 256 };
    char *seen[GROUPS_MAX + 1] = {NULL};
    size_t count = 0;
    int result = -1;
    bool end = false;

    while (count < GROUPS_MAX) {
        int line = 0;
        char *group = read_key(r, &line, &end);
        if (!group) {
            result = end ? 0 : -1;
            break;
        }
        (void)group_seen(r, seen, group, line);
        seen[count++] = group;
        if (read_group(r, group) < 0)
            break;
    }
    if (count == GROUPS_MAX)
        (void)complain(r, r->parser.mark.line, "more than 256 groups in one file");
    while (count)
        free(seen[--count]);
    return result;
}

static int read_stream(struct reader *r)
{
    for (bool seen = false;;) {
        _cleanup_(event_clear) yaml_event_t event = {0};
        if (next(r, &event) < 0)
            return -1;
        if (event.type == YAML_STREAM_END_EVENT)
            return 0;
        if (event.type == YAML_DOCUMENT_START_EVENT && seen)
            return complain(r, event.start_mark.line, "a second YAML document is not allowed");
        if (event.type == YAML_STREAM_START_EVENT || event.type == YAML_DOCUMENT_START_EVENT ||
            event.type == YAML_DOCUMENT_END_EVENT)
            continue;
        seen = true;
        if (event.type == YAML_SCALAR_EVENT && is_null(&event))
            continue;
        if (event.type != YAML_MAPPING_START_EVENT)
            return complain(r, event.start_mark.line,
                            "a mapping of groups is needed here (\"libvirt:\", then its options)");
        if (read_groups(r) < 0)
            return -1;
    }
}

int conf_yaml_read(const char *file, const char *text, size_t length, struct conf_entries *out,
                   struct conf_report *report)
{
    struct reader r = {.file = file, .out = out, .report = report};
    unsigned errors = report->errors;

    if (!yaml_parser_initialize(&r.parser)) {
        conf_report_add(report, CONF_ERROR, file, 0, "out of memory");
        return -1;
    }
    yaml_parser_set_encoding(&r.parser, YAML_UTF8_ENCODING);
    yaml_parser_set_input_string(&r.parser, (const unsigned char *)text, length);
    (void)read_stream(&r);
    yaml_parser_delete(&r.parser);
    return report->errors == errors ? 0 : -1;
}
