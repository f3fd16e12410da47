/* SPDX-License-Identifier: Apache-2.0 */
/* Failures: see the header. */
#include "rpc/failure.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "lib/json.h"
#include "lib/text.h"

#define REMOTE_SUFFIX "_Remote"

/*
 * What nova.exception's classes put before the reason, and the keyword that carries it. `uuid` is the
 * keyword for the identifier that the sentence names, when it names one.
 */
struct wire_form {
    const char *wire_class;
    const char *prefix;
    const char *reason_key;
    const char *uuid_key;
};
static const struct wire_form wire_forms[] = {
    {"MigrationPreCheckError", "Migration pre-check error: ", "reason", NULL},
    {"MigrationError", "Migration error: ", "reason", NULL},
    {"InvalidDiskInfo", "Disk info file is invalid: ", "reason", NULL},
    {"DestinationDiskExists", "", "path", NULL},
    {"InternalError", "", "err", NULL},
    {"InstanceNotFound", "", NULL, "instance_id"},
    {"MigrationNotFound", "", NULL, "migration_id"},
    {"InstanceInvalidState", "", NULL, "instance_uuid"},
    {"InvalidMigrationState", "", NULL, "instance_uuid"},
};

static const struct wire_form *find_form(const char *wire_class)
{
    for (size_t i = 0; i < ARRAY_LEN(wire_forms); i++)
        if (text_equal(wire_forms[i].wire_class, wire_class))
            return &wire_forms[i];
    return NULL;
}

/* ---- scrubbing ---- */

static bool is_word(char c)
{
    return isalnum((unsigned char)c) || c == '_' || c == '-';
}

/* "scheme://user:password@host": all between "//" and the last "@" before the path. */
static void scrub_urls(char *text)
{
    for (char *p = strstr(text, "://"); p; p = strstr(p, "://")) {
        p += 3;
        size_t length = strcspn(p, "/ \t\"'<>,?#");
        char *at = memrchr(p, '@', length);
        if (at)
            memset(p, '*', (size_t)(at - p));
    }
}

/* Hides the value that starts at `p` (after the key): optional quote, separators, quote, value. */
static void scrub_value(char *p)
{
    p += strspn(p, "\\\"'");
    char *separator = p + strspn(p, " \t");
    if (*separator != '=' && *separator != ':')
        return;
    p = separator + 1 + strspn(separator + 1, " \t\\");
    const char *stop = " \t,;&}])";
    if (*p == '"' || *p == '\'')
        stop = *p++ == '"' ? "\"\\" : "'\\";
    size_t length = strcspn(p, stop);
    if (length == 4 && !strncmp(p, "null", 4))
        return;
    memset(p, '*', length);
}

static void scrub_keys(char *text)
{
    static const char *const keys[] = {"password", "passwd", "secret", "token", "auth_key"};
    for (size_t i = 0; i < ARRAY_LEN(keys); i++) {
        for (char *p = strcasestr(text, keys[i]); p; p = strcasestr(p, keys[i])) {
            p += strlen(keys[i]);
            while (is_word(*p))
                p++;
            scrub_value(p);
        }
    }
}

void failure_scrub(char *text)
{
    scrub_urls(text);
    scrub_keys(text);
}

/* ---- out ---- */

/* The first UUID that stands in a sentence; false if none. */
static bool find_uuid(const char *text, char out[37])
{
    for (const char *p = text; strlen(p) >= 36; p++) {
        if (p > text && is_word(p[-1]))
            continue;
        memcpy(out, p, 36);
        out[36] = '\0';
        if (!is_word(p[36]) && !text_check_uuid(out, "uuid", NULL))
            return true;
    }
    return false;
}

/* kwargs: only nova's and oslo's own classes take any; a builtin would refuse to be rebuilt. */
static struct json_object *make_kwargs(const struct err *e, const struct wire_form *form,
                                       const char *reason)
{
    struct json_object *kwargs = json_object_new_object();
    const char *module = err_wire_module(e);
    if (!text_equal(module, ERR_MODULE_NOVA) && !text_equal(module, ERR_MODULE_OBJECT))
        return kwargs;
    if (form && form->reason_key)
        json_add_string(kwargs, form->reason_key, reason);
    char uuid[37];
    if (form && form->uuid_key && find_uuid(reason, uuid))
        json_add_string(kwargs, form->uuid_key, uuid);
    json_add_int(kwargs, "code", err_http_code(e->code));
    return kwargs;
}

static const char *base_name(const char *file)
{
    const char *slash = file ? strrchr(file, '/') : NULL;
    return slash ? slash + 1 : file ? file : "?";
}

char *failure_encode(const struct err *e)
{
    const char *wire_class = err_wire_class(e);
    const struct wire_form *form =
        text_equal(err_wire_module(e), ERR_MODULE_NOVA) ? find_form(wire_class) : NULL;
    const char *prefix = form ? form->prefix : "";
    _cleanup_(str_freep) char *text = text_dup(e->text);
    failure_scrub(text);

    /* A failure that came from a peer has the class's prefix already. */
    bool prefixed = *prefix && text_starts_with(text, prefix);
    const char *reason = prefixed ? text + strlen(prefix) : text;
    _cleanup_(str_freep) char *message = text_format("%s%s", prefix, reason);
    _cleanup_(str_freep) char *trace =
        text_format("computed, %s:%d: %s: %s\n", base_name(e->file), e->line, wire_class, message);

    _cleanup_(json_putp) struct json_object *failure = json_object_new_object();
    json_add_string(failure, "class", wire_class);
    json_add_string(failure, "module", err_wire_module(e));
    json_add_string(failure, "message", message);
    struct json_object *tb = json_object_new_array();
    json_object_array_add(tb, json_object_new_string(trace));
    json_add(failure, "tb", tb);
    struct json_object *args = json_object_new_array();
    json_object_array_add(args, json_object_new_string(message));
    json_add(failure, "args", args);
    json_add(failure, "kwargs", make_kwargs(e, form, reason));
    return json_text(failure);
}

/* ---- in ---- */

/* Cut at the limit; relays of relays have the suffix more than once. */
static void copy_name(char *out, size_t size, const char *name)
{
    snprintf(out, size, "%s", name);
    while (text_ends_with(out, REMOTE_SUFFIX))
        out[strlen(out) - strlen(REMOTE_SUFFIX)] = '\0';
}

/* A class name only means ours when it is of the module that our table has it in. */
static enum err_code code_of(const char *wire_class, const char *wire_module)
{
    if (text_equal(wire_class, "Invalid") && text_equal(wire_module, ERR_MODULE_NOVA))
        return ERR_INVALID;
    enum err_code code = err_code_by_wire_class(wire_class);
    struct err own = {.code = code};
    if (!text_equal(err_wire_class(&own), wire_class) ||
        !text_equal(err_wire_module(&own), wire_module))
        return ERR_REMOTE;
    return code;
}

void failure_decode(const char *text, struct err *e)
{
    _cleanup_(json_putp) struct json_object *failure = NULL;
    const char *wire_class, *wire_module, *message;
    if (json_parse(text, strlen(text), &failure, NULL) ||
        json_need_string(failure, "class", &wire_class, NULL) ||
        json_opt_string(failure, "module", "", &wire_module, NULL) ||
        json_opt_string(failure, "message", "", &message, NULL)) {
        _cleanup_(str_freep) char *excerpt = text_escape(text, 120);
        failure_scrub(excerpt);
        err_set(e, ERR_REMOTE, "the peer's failure cannot be read: %s", excerpt);
        return;
    }
    char class_name[ERR_CLASS_SIZE], module_name[ERR_MODULE_SIZE];
    copy_name(class_name, sizeof(class_name), wire_class);
    copy_name(module_name, sizeof(module_name), wire_module);
    err_set(e, code_of(class_name, module_name), "%s", *message ? message : class_name);
    if (!e)
        return;
    memcpy(e->wire_class, class_name, sizeof(class_name));
    memcpy(e->wire_module, module_name, sizeof(module_name));
}
