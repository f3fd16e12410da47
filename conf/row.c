/* SPDX-License-Identifier: Apache-2.0 */
/* The option table as data, and the search in it. Values are conf/value.c's. */
#include "conf/row.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

#include "lib/text.h"

/* clang-format off */
static const struct conf_row rows[CONF_COUNT] = {
#define GROUP(group_, help_)
#define OPT(group_, name_, type_, default_, ...)                                                   \
    [CONF_##group_##_##name_] = {.group = #group_, .name = #name_, .type = CONF_TYPE_##type_,      \
                                 .default_text = (default_), __VA_ARGS__},
#include "conf/options.def.h"
#undef GROUP
#undef OPT
};

static const struct {
    const char *name, *help;
} groups[] = {
#define GROUP(group_, help_) {#group_, help_},
#define OPT(...)
#include "conf/options.def.h"
#undef GROUP
#undef OPT
};

/* Options of Nova and of the libraries it loads: "group.name", sorted by strcmp. */
static const char *const nova_options[] = {
#define NOVA_OPTION(name) name,
#include "conf/nova_options.def.h"
#undef NOVA_OPTION
};
/* clang-format on */

/* Groups whose options belong to plugins and other programs: any name in them is taken for known. */
static const char *const nova_groups[] = {
    "oslo_",   "neutron_",       "mdev_",      "vgpu_",    "privsep", "vif_plug_",
    "os_vif_", "nova_sys_admin", "osprofiler", "profiler", "filter",
};

const struct conf_row *conf_row(enum conf_id id)
{
    assert((unsigned)id < CONF_COUNT);
    return &rows[id];
}

static bool alias_matches(const char *alias, const char *group, const char *name)
{
    size_t group_length = strlen(group);

    while (alias && *alias) {
        size_t length = strcspn(alias, " ");
        if (length == group_length + 1 + strlen(name) && strncmp(alias, group, group_length) == 0 &&
            alias[group_length] == '.' &&
            strncmp(alias + group_length + 1, name, strlen(name)) == 0)
            return true;
        alias += length + (alias[length] == ' ');
    }
    return false;
}

enum conf_id conf_find(const char *group, const char *name)
{
    for (unsigned i = 0; i < CONF_COUNT; i++)
        if (strcmp(rows[i].group, group) == 0 && strcmp(rows[i].name, name) == 0)
            return (enum conf_id)i;
    for (unsigned i = 0; i < CONF_COUNT; i++)
        if (alias_matches(rows[i].alias, group, name))
            return (enum conf_id)i;
    return CONF_COUNT;
}

enum conf_id conf_find_dotted(const char *dotted)
{
    const char *dot = strchr(dotted, '.');
    if (!dot)
        return conf_find("DEFAULT", dotted);
    _cleanup_(str_freep) char *group = text_dup_n(dotted, (size_t)(dot - dotted));
    return conf_find(group, dot + 1);
}

const char *conf_group_name(size_t index)
{
    return index < ARRAY_LEN(groups) ? groups[index].name : NULL;
}

const char *conf_group_help(const char *group)
{
    for (size_t i = 0; i < ARRAY_LEN(groups); i++)
        if (strcmp(groups[i].name, group) == 0)
            return groups[i].help;
    return NULL;
}

const char *conf_type_name(enum conf_type type)
{
    static const char *const names[CONF_TYPE_COUNT] = {
        [CONF_TYPE_BOOL] = "boolean", [CONF_TYPE_INT] = "integer", [CONF_TYPE_FLOAT] = "number",
        [CONF_TYPE_STRING] = "text",  [CONF_TYPE_ENUM] = "word",   [CONF_TYPE_LIST] = "list",
        [CONF_TYPE_IP] = "address",   [CONF_TYPE_HOST] = "host",   [CONF_TYPE_PATH] = "path",
        [CONF_TYPE_URL] = "URL",
    };
    assert((unsigned)type < CONF_TYPE_COUNT);
    return names[type];
}

/* " from 3 to 1000", " of at least 3" or nothing. */
static void bounds_text(const struct conf_row *row, char *out, size_t size)
{
    out[0] = '\0';
    if (row->min == 0 && row->max == 0)
        return;
    if (row->max >= CONF_NO_MAX)
        (void)snprintf(out, size, " of at least %.15g", row->min);
    else
        (void)snprintf(out, size, " from %.15g to %.15g", row->min, row->max);
}

/* "a, b or c"; an empty word is written "". */
static void words_text(const char *words, const char *between, char *out, size_t size)
{
    char **parts = text_split(words, '|');
    size_t count = text_vector_length(parts);
    struct text_buffer b = TEXT_BUFFER_INIT;

    for (size_t i = 0; i < count; i++) {
        text_buffer_add(&b, parts[i][0] ? parts[i] : "\"\"");
        if (i + 1 < count)
            text_buffer_add(&b, i + 2 == count ? between : ", ");
    }
    (void)snprintf(out, size, "%s", b.data ? b.data : "");
    text_buffer_free(&b);
    text_vector_free(parts);
}

void conf_row_allowed(const struct conf_row *row, char *out, size_t size)
{
    char part[192];

    switch (row->type) {
    case CONF_TYPE_BOOL:
        (void)snprintf(out, size, "true or false");
        return;
    case CONF_TYPE_INT:
    case CONF_TYPE_FLOAT:
        bounds_text(row, part, sizeof(part));
        (void)snprintf(out, size, "%s%s%s%s%s",
                       row->type == CONF_TYPE_INT ? "an integer" : "a number", part,
                       row->unit ? " (" : "", row->unit ? row->unit : "", row->unit ? ")" : "");
        return;
    case CONF_TYPE_ENUM:
        words_text(row->words, " or ", out, size);
        return;
    case CONF_TYPE_URL:
        words_text(row->words, " or ", part, sizeof(part));
        (void)snprintf(out, size, "a URL of scheme %s", part);
        return;
    case CONF_TYPE_LIST:
        (void)snprintf(out, size, "a list, divided by commas");
        return;
    case CONF_TYPE_IP:
        (void)snprintf(out, size, "an IPv4 or IPv6 address");
        return;
    case CONF_TYPE_HOST:
        (void)snprintf(out, size, "a host name of letters, digits, '-', '_' and '.'");
        return;
    case CONF_TYPE_PATH:
        (void)snprintf(out, size, "an absolute path");
        return;
    case CONF_TYPE_STRING:
    case CONF_TYPE_COUNT:
        break;
    }
    (void)snprintf(out, size, "text");
}

/* Damerau-Levenshtein distance (adjacent swaps count one) of names up to 79 bytes; more is "far". */
static unsigned distance(const char *a, const char *b)
{
    enum { NAME_MAX_ = 80 };
    unsigned table[3][NAME_MAX_];
    size_t rows_ = strlen(a), columns = strlen(b);

    if (rows_ >= NAME_MAX_ || columns >= NAME_MAX_)
        return NAME_MAX_;
    for (size_t j = 0; j <= columns; j++)
        table[0][j] = (unsigned)j;
    for (size_t i = 1; i <= rows_; i++) {
        unsigned *now = table[i % 3], *before = table[(i + 2) % 3],
                 *two_before = table[(i + 1) % 3];
        now[0] = (unsigned)i;
        for (size_t j = 1; j <= columns; j++) {
            unsigned best = before[j - 1] + (a[i - 1] != b[j - 1]);
            if (before[j] + 1 < best)
                best = before[j] + 1;
            if (now[j - 1] + 1 < best)
                best = now[j - 1] + 1;
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] &&
                two_before[j - 2] + 1 < best)
                best = two_before[j - 2] + 1;
            now[j] = best;
        }
    }
    return table[rows_ % 3][columns];
}

/* Keeps the better of the best so far and this candidate. */
static void consider(const char *wanted, const char *candidate, const char **best, unsigned *limit)
{
    unsigned d = distance(wanted, candidate);
    if (d < *limit) {
        *limit = d;
        *best = candidate;
    }
}

const char *conf_nearest(const char *group, const char *name)
{
    const char *best = NULL;
    unsigned limit = (unsigned)strlen(name) / 4 + 2; /* a typo or two, more in long names */

    if (limit > 5)
        limit = 5;
    if (!group) {
        for (size_t i = 0; i < ARRAY_LEN(groups); i++)
            consider(name, groups[i].name, &best, &limit);
        return best;
    }
    for (unsigned i = 0; i < CONF_COUNT; i++)
        if (strcmp(rows[i].group, group) == 0)
            consider(name, rows[i].name, &best, &limit);
    return best;
}

bool conf_is_known_to_nova(const char *group, const char *name)
{
    _cleanup_(str_freep) char *dotted = text_format("%s.%s", group, name);
    size_t low = 0, high = ARRAY_LEN(nova_options);

    for (size_t i = 0; i < ARRAY_LEN(nova_groups); i++)
        if (text_starts_with(group, nova_groups[i]) && !conf_group_help(group))
            return true;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        int order = strcmp(dotted, nova_options[middle]);
        if (order == 0)
            return true;
        if (order < 0)
            high = middle;
        else
            low = middle + 1;
    }
    return false;
}
