/* SPDX-License-Identifier: Apache-2.0 */
/*
 * oslo.config's INI, as its parser reads it: `[group]`, `name = value` or `name: value`, comments are
 * whole lines that start with `#` or `;`, a line that starts with a blank continues the value before, an
 * empty line ends it, one pair of quotes around a value is taken off, a repeated name adds a value.
 */
#include "conf/internal.h"

#include <string.h>

#include "lib/text.h"

struct reader {
    const char *file;
    struct conf_entries *out;
    struct conf_report *report;
    char *group;                /* of the section we are in; NULL before the first */
    struct conf_entry *current; /* whose value may be continued */
    int line;
};

static void complain(struct reader *r, const char *what, const char *line)
{
    _cleanup_(str_freep) char *shown = text_escape(line, 40);
    conf_report_add(r->report, CONF_ERROR, r->file, r->line, "\"%s\": %s", shown, what);
}

/* Cut at both ends; the result points into text. */
static char *trim(char *text)
{
    text += strspn(text, " \t\r");
    for (size_t n = strlen(text); n && strchr(" \t\r", text[n - 1]); n--)
        text[n - 1] = '\0';
    return text;
}

static void section(struct reader *r, char *line)
{
    size_t length = strlen(line);

    r->current = NULL;
    if (length <= 2 || line[length - 1] != ']' || length > CONF_NAME_MAX) {
        complain(r, "a section is written [name]", line);
        return;
    }
    line[length - 1] = '\0';
    free(r->group);
    r->group = text_dup(line + 1);
    if (strcmp(r->group, "DEFAULT") != 0)
        for (char *p = r->group; *p; p++)
            if (*p >= 'A' && *p <= 'Z')
                *p = (char)(*p - 'A' + 'a');
}

static void append_value(struct conf_entry *entry, const char *value)
{
    size_t count = text_vector_length(entry->values);

    entry->values = mem_resize(entry->values, (count + 2) * sizeof(char *));
    entry->values[count] = text_dup(value);
    entry->values[count + 1] = NULL;
}

static void assignment(struct reader *r, char *line)
{
    size_t at = strcspn(line, "=:");

    r->current = NULL;
    if (!line[at]) {
        /* The text is not shown: it may be the rest of a secret. */
        conf_report_add(r->report, CONF_ERROR, r->file, r->line,
                        "this line is neither a [group], a comment nor name = value");
        return;
    }
    line[at] = '\0';
    char *name = trim(line), *value = trim(line + at + 1);
    size_t length = strlen(value);
    if (!*name || strlen(name) > CONF_NAME_MAX) {
        complain(r, "a name of 1 to 128 characters must stand before the = sign", name);
        return;
    }
    if (!r->group) {
        complain(r, "stands before the first [group]", name);
        return;
    }
    if (length > 1 && value[0] == value[length - 1] && (value[0] == '"' || value[0] == '\'')) {
        value[length - 1] = '\0';
        value++;
    }
    if (r->out->length >= CONF_ENTRIES_MAX)
        return;
    r->current = conf_entries_add(r->out);
    r->current->group = text_dup(r->group);
    r->current->name = text_dup(name);
    r->current->line = r->line;
    append_value(r->current, value);
}

static void continuation(struct reader *r, const char *line)
{
    if (!r->current) {
        conf_report_add(
            r->report, CONF_ERROR, r->file, r->line,
            "this line starts with a blank but there is no value that it could continue");
        return;
    }
    size_t last = text_vector_length(r->current->values) - 1;
    char **value = &r->current->values[last];
    if (strlen(*value) + strlen(line) > CONF_VALUE_MAX)
        return;
    char *longer = text_format("%s%s%s", *value, **value ? "\n" : "", line);
    free(*value);
    *value = longer;
}

static void read_line(struct reader *r, char *line)
{
    size_t blanks = strspn(line, " \t\r");

    if (!line[blanks])
        r->current = NULL;
    else if (blanks)
        continuation(r, trim(line));
    else if (line[0] == '[')
        section(r, trim(line));
    else if (line[0] != '#' && line[0] != ';')
        assignment(r, line);
}

int conf_ini_read(const char *file, const char *text, size_t length, struct conf_entries *out,
                  struct conf_report *report)
{
    struct reader r = {.file = file, .out = out, .report = report};
    _cleanup_(str_freep) char *copy = text_dup_n(text, length);
    unsigned errors = report->errors;

    for (char *line = copy, *next; line; line = next) {
        next = strchr(line, '\n');
        if (next)
            *next++ = '\0';
        r.line++;
        read_line(&r, line);
        if (out->length >= CONF_ENTRIES_MAX) {
            conf_report_add(report, CONF_ERROR, file, r.line, "more than %d options in one file",
                            CONF_ENTRIES_MAX);
            break;
        }
    }
    free(r.group);
    return report->errors == errors ? 0 : -1;
}
