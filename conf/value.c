/* SPDX-License-Identifier: Apache-2.0 */
/* Text of a file to a typed value. The words of booleans are oslo.config's. */
#include "conf/internal.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "lib/text.h"

static int refuse(const struct conf_row *row, const char *text, struct err *e)
{
    char allowed[256];

    conf_row_allowed(row, allowed, sizeof(allowed));
    if (row->flags & CONF_SECRET)
        return err_set(e, ERR_INVALID, "%s.%s: the value (a secret) is not allowed, it must be %s",
                       row->group, row->name, allowed);
    _cleanup_(str_freep) char *shown = text_escape(text, 80);
    return err_set(e, ERR_INVALID, "%s.%s: \"%s\" is not allowed, it must be %s", row->group,
                   row->name, shown, allowed);
}

static int parse_bool(const char *text, bool *out)
{
    static const char *const words[2][5] = {{"false", "no", "off", "0", "f"},
                                            {"true", "yes", "on", "1", "t"}};

    for (unsigned value = 0; value < 2; value++)
        for (size_t i = 0; i < ARRAY_LEN(words[value]); i++)
            if (strcasecmp(text, words[value][i]) == 0) {
                *out = value;
                return 0;
            }
    return -1;
}

/* Index of the word in "a|b|c", -1 if it is none of them. */
static int word_index(const char *words, const char *text)
{
    size_t length = strlen(text);

    for (int index = 0;; index++) {
        size_t word = strcspn(words, "|");
        if (word == length && strncmp(words, text, length) == 0)
            return index;
        if (!words[word])
            return -1;
        words += word + 1;
    }
}

static bool is_host(const char *text)
{
    static const char allowed[] =
        "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.";
    size_t length = strlen(text);

    return length > 0 && length <= 253 && strspn(text, allowed) == length && text[0] != '.' &&
           text[0] != '-' && !strstr(text, "..");
}

static bool is_path(const char *text)
{
    if (text[0] != '/' || strlen(text) > 4095)
        return false;
    for (const char *p = text; *p; p += strspn(p, "/")) {
        size_t part = strcspn(p, "/");
        if ((part == 1 && p[0] == '.') || (part == 2 && p[0] == '.' && p[1] == '.'))
            return false;
        p += part;
    }
    return true;
}

/* Schemes that end in "+" stand for every one that starts so. */
static bool has_scheme(const char *schemes, const char *text)
{
    const char *end = strstr(text, "://");
    size_t length = end ? (size_t)(end - text) : 0;

    while (length && *schemes) {
        size_t word = strcspn(schemes, "|");
        bool open = schemes[word - 1] == '+';
        if (strncmp(schemes, text, word) == 0 && (open ? word < length : word == length))
            return true;
        schemes += word + (schemes[word] == '|');
    }
    return false;
}

static bool has_control(const char *text)
{
    for (; *text; text++)
        if ((unsigned char)*text < 0x20 || *text == 0x7f)
            return true;
    return false;
}

static void parse_list(const char *text, struct conf_value *out)
{
    char **parts = text_split(text, ',');
    struct text_buffer joined = TEXT_BUFFER_INIT;

    out->list = NEW_ARRAY(char *, text_vector_length(parts) + 1);
    for (char **part = parts; *part; part++) {
        const char *start = *part + strspn(*part, " \t\n");
        size_t length = strlen(start);
        while (length && strchr(" \t\n", start[length - 1]))
            length--;
        if (!length)
            continue;
        out->list[out->count] = text_dup_n(start, length);
        text_buffer_printf(&joined, "%s%s", out->count ? "," : "", out->list[out->count]);
        out->count++;
    }
    free(out->text);
    out->text = text_buffer_take(&joined);
    text_vector_free(parts);
}

static int parse_number(const struct conf_row *row, struct conf_value *out)
{
    bool bounded = row->min != 0 || row->max != 0;
    struct err ignored = ERR_INIT;

    if (row->type == CONF_TYPE_FLOAT) {
        if (text_to_double(out->text, bounded ? row->min : -CONF_NO_MAX,
                           bounded ? row->max : CONF_NO_MAX, &out->real, &ignored) < 0)
            return -1;
        return 0;
    }
    int64_t min = bounded ? (int64_t)row->min : -(int64_t)CONF_NO_MAX;
    int64_t max = bounded ? (int64_t)row->max : (int64_t)CONF_NO_MAX;
    if (text_to_int64(out->text, min, max, &out->number, &ignored) < 0)
        return -1;
    out->real = (double)out->number;
    return 0;
}

static int parse_typed(const struct conf_row *row, struct conf_value *out)
{
    bool flag;
    int index;

    switch (row->type) {
    case CONF_TYPE_BOOL:
        if (parse_bool(out->text, &flag) < 0)
            return -1;
        out->number = flag;
        free(out->text);
        out->text = text_dup(flag ? "true" : "false");
        return 0;
    case CONF_TYPE_INT:
    case CONF_TYPE_FLOAT:
        return parse_number(row, out);
    case CONF_TYPE_ENUM:
        index = word_index(row->words, out->text);
        out->number = index;
        return index < 0 ? -1 : 0;
    case CONF_TYPE_LIST:
        parse_list(out->text, out);
        return 0;
    case CONF_TYPE_IP:
        return text_check_ip(out->text, row->name, NULL);
    case CONF_TYPE_HOST:
        return is_host(out->text) ? 0 : -1;
    case CONF_TYPE_PATH:
        return is_path(out->text) && !has_control(out->text) ? 0 : -1;
    case CONF_TYPE_URL:
        return has_scheme(row->words, out->text) && !has_control(out->text) ? 0 : -1;
    case CONF_TYPE_STRING:
    case CONF_TYPE_COUNT:
        break;
    }
    return has_control(out->text) ? -1 : 0;
}

int conf_value_parse(const struct conf_row *row, const char *text, struct conf_value *out,
                     struct err *e)
{
    struct conf_value value = {.number = row->type == CONF_TYPE_ENUM ? -1 : 0};

    if (text) {
        value.text = text_dup(text);
        if (parse_typed(row, &value) < 0) {
            conf_value_clear(&value);
            return refuse(row, text, e);
        }
    }
    *out = value;
    return 0;
}
