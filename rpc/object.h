/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Versioned objects (oslo.versionedobjects primitives): a thin handle on the JSON that was received,
 * with a change set. Fields that are not understood stay in the tree and go out again unchanged; a
 * field that is not set is absent, one set to None is null (nova-contract 2.1).
 *
 * Handles are not thread-safe; a handle belongs to the loop or to the job that it was given to.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <json-c/json_object.h>

#include "lib/err.h"

struct object;

/* A new object of namespace "nova". */
struct object *object_new(const char *name, const char *version);
/*
 * A handle on a primitive (a new reference is taken). `name` NULL accepts any; another name, another
 * major version than `major` (0 = any) or a malformed primitive is refused (ERR_PARSE, ERR_OBJECT_VERSION).
 */
int object_from_json(struct json_object *primitive, const char *name, int major,
                     struct object **out, struct err *e);
/* The primitive, with "nova_object.changes" when fields were changed. New reference. */
struct json_object *object_to_json(const struct object *object);
/* A primitive with the named fields plus all changed ones only (Nova accepts reduced saves, 3). */
struct json_object *object_to_json_reduced(const struct object *object, const char *const *keep);
struct object *object_copy(const struct object *object);
void object_free(struct object *object);
DEFINE_CLEANUP(struct object *, object_free)

const char *object_name(const struct object *object);
const char *object_version(const struct object *object);

bool object_has(const struct object *object, const char *field);     /* set, null or not */
bool object_is_null(const struct object *object, const char *field); /* set to None */

/* Reads; a missing, null or differently typed field gives the fallback. Strings are borrowed. */
const char *object_string(const struct object *object, const char *field, const char *fallback);
int64_t object_int(const struct object *object, const char *field, int64_t fallback);
double object_double(const struct object *object, const char *field, double fallback);
bool object_bool(const struct object *object, const char *field, bool fallback);
struct json_object *object_json(const struct object *object,
                                const char *field); /* borrowed, any type */
/* Strict reads, for what a method cannot work without: ERR_INVALID names object and field. */
int object_need_string(const struct object *object, const char *field, const char **out,
                       struct err *e);
int object_need_int(const struct object *object, const char *field, int64_t *out, struct err *e);
/* A nested object as a handle of its own on the same tree; NULL when absent or null. Caller frees. */
struct object *object_child(const struct object *object, const char *field);
/* Elements of a list object ("objects") or of an array field of primitives. */
size_t object_list_length(const struct object *list);
struct object *object_list_item(const struct object *list,
                                size_t index); /* caller frees; NULL if malformed */

/* Writes; the field enters the change set. A NULL string stores null. */
void object_set_string(struct object *object, const char *field, const char *value);
void object_set_int(struct object *object, const char *field, int64_t value);
void object_set_bool(struct object *object, const char *field, bool value);
void object_set_json(struct object *object, const char *field,
                     struct json_object *value); /* consumes */
void object_set_child(struct object *object, const char *field, const struct object *child);
void object_unset(struct object *object, const char *field);

bool object_changed(const struct object *object, const char *field); /* NULL = any field */
void object_clear_changes(struct object *object);
/* Takes over what a remote method changed: {field: value, ..., "obj_what_changed": [...]} (3). */
int object_apply_updates(struct object *object, struct json_object *updates, struct err *e);

/* A list object of the given class with these items (their primitives are copied). */
struct object *object_list_new(const char *name, const char *version, struct object *const *items,
                               size_t count);
