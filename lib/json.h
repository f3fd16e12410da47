/* SPDX-License-Identifier: Apache-2.0 */
/*
 * JSON: the only place that calls json-c's parser. Input is bounded before it is parsed: size, depth 32,
 * duplicate keys, invalid UTF-8, NaN and trailing bytes are refused. Trees are plain json-c objects
 * (json_object_object_add() consumes, _get() borrows); the accessors below check types and say in one
 * sentence what was wrong where.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <json-c/json_object.h>

#include "lib/attributes.h"
#include "lib/err.h"

enum {
    JSON_DEPTH_MAX = 32,
    JSON_SIZE_MAX = 16 * 1024 * 1024,
    JSON_VALUES_MAX = 500000, /* a value takes ~100 bytes in memory but 2 in the text */
    JSON_NUMBER_MAX = 128     /* characters */
};

static inline void json_putp(struct json_object **o)
{
    json_object_put(*o);
}

/*
 * Parses one value that fills the text (white space around it is fine). -1 with ERR_PARSE on refusal;
 * JSON null is 0 with *out NULL. Integers outside int64/uint64, numbers that are not finite and lone
 * surrogates are refused, because json-c would change them silently. Any thread.
 */
int json_parse(const char *text, size_t length, struct json_object **out, struct err *e);
/* Compact text, slashes not escaped; the caller frees. */
char *json_text(struct json_object *o);

/* Member of an object or NULL; NULL object gives NULL. Borrowed. */
struct json_object *json_get(struct json_object *o, const char *key);
bool json_has(struct json_object *o, const char *key); /* present, null or not */

/*
 * Typed members. `json_need_*`: missing, null or of another type is ERR_PARSE naming the key.
 * `json_opt_*`: missing or null gives the fallback, another type is an error too.
 * Strings are borrowed from the tree; embedded NUL bytes are refused.
 */
int json_need_string(struct json_object *o, const char *key, const char **out, struct err *e);
int json_need_int(struct json_object *o, const char *key, int64_t *out, struct err *e);
int json_need_bool(struct json_object *o, const char *key, bool *out, struct err *e);
int json_need_object(struct json_object *o, const char *key, struct json_object **out,
                     struct err *e);
int json_need_array(struct json_object *o, const char *key, struct json_object **out,
                    struct err *e);
int json_opt_string(struct json_object *o, const char *key, const char *fallback, const char **out,
                    struct err *e);
int json_opt_int(struct json_object *o, const char *key, int64_t fallback, int64_t *out,
                 struct err *e);
int json_opt_bool(struct json_object *o, const char *key, bool fallback, bool *out, struct err *e);

/* Lenient reads for display code: the fallback whenever the value is not of that type. */
const char *json_get_string(struct json_object *o, const char *key, const char *fallback);
int64_t json_get_int(struct json_object *o, const char *key, int64_t fallback);
double json_get_double(struct json_object *o, const char *key, double fallback);
bool json_get_bool(struct json_object *o, const char *key, bool fallback);

/* Elements of an array; 0 for NULL and what is none. */
size_t json_array_length(struct json_object *array);

/* Adding; a NULL string is added as JSON null. */
void json_add_string(struct json_object *o, const char *key, const char *value);
void json_add_int(struct json_object *o, const char *key, int64_t value);
void json_add_double(struct json_object *o, const char *key, double value);
void json_add_bool(struct json_object *o, const char *key, bool value);
void json_add(struct json_object *o, const char *key,
              struct json_object *value); /* consumes value */

struct json_object *json_copy(struct json_object *o); /* deep; NULL gives NULL */
bool json_same(struct json_object *a, struct json_object *b);
