/* SPDX-License-Identifier: Apache-2.0 */
/* The error object and the columns of its table. */
#define ERR_IMPLEMENTATION
#include "lib/err.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "lib/text.h"

struct err_row {
    const char *name, *wire_class, *wire_module, *summary;
    int http, retry, exit_code;
};

static const struct err_row err_rows[ERR_CODE_COUNT] = {
    [ERR_NONE] = {"NONE", "NovaException", ERR_MODULE_NOVA, "no error", 500, 0, 0},
#define X(code, class, module, http, retry, exit, summary)                                         \
    [ERR_##code] = {#code, class, module, summary, http, retry, exit},
    ERR_LIST(X)
#undef X
};

/* Larger than any text that is kept, so that cutting happens in one place, on a character's edge. */
enum { RAW_SIZE = 2 * ERR_TEXT_SIZE + 256 };

static void set_text(struct err *e, const char *raw)
{
    text_escape_line(raw, strnlen(raw, RAW_SIZE), e->text, sizeof(e->text));
}

int err_set_at(struct err *e, enum err_code code, int sys, const char *file, int line,
               const char *format, ...)
{
    char raw[RAW_SIZE];
    va_list args;
    int n;

    if (!e)
        return -1;
    /* The text may be made from the one that is replaced, so it is formatted apart. */
    va_start(args, format);
    n = vsnprintf(raw, sizeof(raw), format, args);
    va_end(args);
    if (sys > 0 && n >= 0 && (size_t)n < sizeof(raw)) {
        char reason[128];

        snprintf(raw + n, sizeof(raw) - (size_t)n, ": %s", strerror_r(sys, reason, sizeof(reason)));
    }
    *e = (struct err){.code = code, .sys = sys < 0 ? -sys : sys, .file = file, .line = line};
    set_text(e, n < 0 ? err_summary(code) : raw);
    return -1;
}

int err_prefix(struct err *e, const char *format, ...)
{
    char raw[RAW_SIZE];
    va_list args;
    size_t n;

    if (!err_is_set(e))
        return -1;
    va_start(args, format);
    (void)vsnprintf(raw, sizeof(raw) - ERR_TEXT_SIZE - 2, format, args);
    va_end(args);
    n = strlen(raw);
    snprintf(raw + n, sizeof(raw) - n, "%s%s", n && raw[n - 1] == ' ' ? "" : ": ", e->text);
    set_text(e, raw);
    return -1;
}

static const struct err_row *row(enum err_code code)
{
    return &err_rows[(unsigned)code < ERR_CODE_COUNT ? code : ERR_INTERNAL];
}

int err_set_class(struct err *e, const char *wire_class, const char *wire_module)
{
    if (!e)
        return -1;
    (void)snprintf(e->wire_class, sizeof(e->wire_class), "%s", wire_class);
    if (wire_module)
        (void)snprintf(e->wire_module, sizeof(e->wire_module), "%s", wire_module);
    return -1;
}

const char *err_wire_class(const struct err *e)
{
    return e->wire_class[0] ? e->wire_class : row(e->code)->wire_class;
}

const char *err_wire_module(const struct err *e)
{
    return e->wire_module[0] ? e->wire_module : row(e->code)->wire_module;
}

const char *err_name(enum err_code code)
{
    return row(code)->name;
}

const char *err_summary(enum err_code code)
{
    return row(code)->summary;
}

int err_http_code(enum err_code code)
{
    return row(code)->http;
}

int err_exit_code(enum err_code code)
{
    return row(code)->exit_code;
}

bool err_may_retry(enum err_code code)
{
    return row(code)->retry;
}

enum err_code err_code_by_wire_class(const char *wire_class)
{
    /* Several codes share NovaException, which says nothing: a peer's general failure stays REMOTE. */
    if (!wire_class || text_equal(wire_class, "NovaException"))
        return ERR_REMOTE;
    for (int i = ERR_NONE + 1; i < ERR_CODE_COUNT; i++)
        if (text_equal(err_rows[i].wire_class, wire_class))
            return (enum err_code)i;
    return err_code_by_name(wire_class);
}

enum err_code err_code_by_name(const char *name)
{
    for (int i = ERR_NONE + 1; i < ERR_CODE_COUNT; i++)
        if (text_equal(err_rows[i].name, name))
            return (enum err_code)i;
    return ERR_REMOTE;
}
