/* SPDX-License-Identifier: Apache-2.0 */
/*
 * JSON: the tree from the text, typed reads, and text from the tree. What json-c would let pass or change
 * silently is refused by json_scan.c before.
 */
#include "lib/json.h"

#include <inttypes.h>
#include <json-c/json_tokener.h>
#include <math.h>
#include <string.h>

#include "lib/json_scan.h"
#include "lib/text.h"

/* --- parsing and printing -------------------------------------------------------------------- */

static void tokener_freep(struct json_tokener **tokener)
{
    if (*tokener)
        json_tokener_free(*tokener);
}

int json_parse(const char *text, size_t length, struct json_object **out, struct err *e)
{
    _cleanup_(tokener_freep) struct json_tokener *tokener = NULL;
    _cleanup_(json_putp) struct json_object *tree = NULL;
    enum json_tokener_error error;

    if (length > JSON_SIZE_MAX)
        return err_set(e, ERR_PARSE, "the JSON text has %zu bytes, allowed are %d", length,
                       JSON_SIZE_MAX);
    while (length && strchr(" \t\r\n", text[length - 1]) && text[length - 1])
        length--;
    if (json_scan(text, length, e) < 0)
        return -1;
    tokener = json_tokener_new_ex(JSON_DEPTH_MAX + 2);
    if (!tokener)
        return err_set(e, ERR_NOMEM, "no memory to read JSON");
    json_tokener_set_flags(tokener, JSON_TOKENER_STRICT);
    tree = json_tokener_parse_ex(tokener, text, (int)length);
    /* A number at the top ends only where the text does, which a NUL tells. */
    if (json_tokener_get_error(tokener) == json_tokener_continue)
        tree = json_tokener_parse_ex(tokener, "", 1);
    error = json_tokener_get_error(tokener);
    if (error != json_tokener_success)
        return err_set(e, ERR_PARSE, "the JSON text is malformed at byte %zu of %zu: %s",
                       json_tokener_get_parse_end(tokener), length, json_tokener_error_desc(error));
    *out = STEAL(tree);
    return 0;
}

char *json_text(struct json_object *o)
{
    return text_dup(
        json_object_to_json_string_ext(o, JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE));
}

/* --- reading members ------------------------------------------------------------------------- */

bool json_has(struct json_object *o, const char *key)
{
    return json_object_is_type(o, json_type_object) && json_object_object_get_ex(o, key, NULL);
}

struct json_object *json_get(struct json_object *o, const char *key)
{
    struct json_object *value = NULL;

    if (json_object_is_type(o, json_type_object))
        json_object_object_get_ex(o, key, &value);
    return value;
}

/* The words of messages; json-c's own say "int" and "double". */
static const char *type_words(enum json_type type)
{
    switch (type) {
    case json_type_null:
        return "null";
    case json_type_boolean:
        return "a boolean";
    case json_type_double:
        return "a number with a fraction";
    case json_type_int:
        return "an integer";
    case json_type_object:
        return "an object";
    case json_type_array:
        return "an array";
    case json_type_string:
        return "a string";
    default:
        return "unknown";
    }
}

static int check_type(struct json_object *value, const char *key, enum json_type type,
                      struct err *e)
{
    if (json_object_is_type(value, type))
        return 0;
    return err_set(e, ERR_PARSE, "\"%s\" is %s, it must be %s", key,
                   type_words(json_object_get_type(value)), type_words(type));
}

static int need(struct json_object *o, const char *key, enum json_type type,
                struct json_object **out, struct err *e)
{
    struct json_object *value = json_get(o, key);

    if (!json_has(o, key))
        return err_set(e, ERR_PARSE, "\"%s\" is missing, it must be %s", key, type_words(type));
    if (check_type(value, key, type, e) < 0)
        return -1;
    *out = value;
    return 0;
}

static bool has_nul(struct json_object *value)
{
    return strlen(json_object_get_string(value)) != (size_t)json_object_get_string_len(value);
}

static bool fits_int64(struct json_object *value)
{
    return json_object_get_int64(value) < 0 || json_object_get_uint64(value) <= INT64_MAX;
}

int json_need_string(struct json_object *o, const char *key, const char **out, struct err *e)
{
    struct json_object *value;

    if (need(o, key, json_type_string, &value, e) < 0)
        return -1;
    if (has_nul(value))
        return err_set(e, ERR_PARSE, "\"%s\" has a NUL inside", key);
    *out = json_object_get_string(value);
    return 0;
}

int json_need_int(struct json_object *o, const char *key, int64_t *out, struct err *e)
{
    struct json_object *value;

    if (need(o, key, json_type_int, &value, e) < 0)
        return -1;
    if (!fits_int64(value))
        return err_set(e, ERR_PARSE, "\"%s\" is %" PRIu64 ", allowed is up to %" PRId64, key,
                       json_object_get_uint64(value), INT64_MAX);
    *out = json_object_get_int64(value);
    return 0;
}

int json_need_bool(struct json_object *o, const char *key, bool *out, struct err *e)
{
    struct json_object *value;

    if (need(o, key, json_type_boolean, &value, e) < 0)
        return -1;
    *out = json_object_get_boolean(value);
    return 0;
}

int json_need_object(struct json_object *o, const char *key, struct json_object **out,
                     struct err *e)
{
    return need(o, key, json_type_object, out, e);
}

int json_need_array(struct json_object *o, const char *key, struct json_object **out, struct err *e)
{
    return need(o, key, json_type_array, out, e);
}

int json_opt_string(struct json_object *o, const char *key, const char *fallback, const char **out,
                    struct err *e)
{
    if (json_get(o, key))
        return json_need_string(o, key, out, e);
    *out = fallback;
    return 0;
}

int json_opt_int(struct json_object *o, const char *key, int64_t fallback, int64_t *out,
                 struct err *e)
{
    if (json_get(o, key))
        return json_need_int(o, key, out, e);
    *out = fallback;
    return 0;
}

int json_opt_bool(struct json_object *o, const char *key, bool fallback, bool *out, struct err *e)
{
    if (json_get(o, key))
        return json_need_bool(o, key, out, e);
    *out = fallback;
    return 0;
}

const char *json_get_string(struct json_object *o, const char *key, const char *fallback)
{
    const char *value = fallback;

    (void)json_need_string(o, key, &value, NULL);
    return value;
}

int64_t json_get_int(struct json_object *o, const char *key, int64_t fallback)
{
    int64_t value = fallback;

    (void)json_need_int(o, key, &value, NULL);
    return value;
}

double json_get_double(struct json_object *o, const char *key, double fallback)
{
    struct json_object *value = json_get(o, key);

    if (json_object_is_type(value, json_type_double) || json_object_is_type(value, json_type_int))
        return json_object_get_double(value);
    return fallback;
}

bool json_get_bool(struct json_object *o, const char *key, bool fallback)
{
    bool value = fallback;

    (void)json_need_bool(o, key, &value, NULL);
    return value;
}

/* --- adding, copying, comparing -------------------------------------------------------------- */

void json_add(struct json_object *o, const char *key, struct json_object *value)
{
    /* It fails for want of memory only, where the small allocations of this tree give up. */
    if (json_object_object_add(o, key, value) < 0)
        abort();
}

size_t json_array_length(struct json_object *array)
{
    return json_object_is_type(array, json_type_array) ? json_object_array_length(array) : 0;
}

void json_add_string(struct json_object *o, const char *key, const char *value)
{
    json_add(o, key, value ? json_object_new_string(value) : NULL);
}

void json_add_int(struct json_object *o, const char *key, int64_t value)
{
    json_add(o, key, json_object_new_int64(value));
}

void json_add_double(struct json_object *o, const char *key, double value)
{
    /* JSON has no word for infinity and NaN; json-c would print one that no strict reader takes. */
    json_add(o, key, isfinite(value) ? json_object_new_double(value) : NULL);
}

void json_add_bool(struct json_object *o, const char *key, bool value)
{
    json_add(o, key, json_object_new_boolean(value));
}

struct json_object *json_copy(struct json_object *o)
{
    struct json_object *copy = NULL;

    if (o && json_object_deep_copy(o, &copy, NULL) < 0)
        abort();
    return copy;
}

bool json_same(struct json_object *a, struct json_object *b)
{
    return json_object_equal(a, b);
}
