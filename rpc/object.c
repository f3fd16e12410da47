/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Versioned objects: see the header.
 *
 * A handle keeps no state of its own: data, version and change set are members of the primitive, so
 * what was received goes out again, whatever of it we know.
 */
#include "rpc/object.h"

#include <assert.h>
#include <string.h>
#include <json-c/linkhash.h>
#include <json-c/json_util.h>

#include "lib/json.h"
#include "lib/text.h"
#include "rpc/envelope.h"

#define KEY_NAME      "nova_object.name"
#define KEY_NAMESPACE "nova_object.namespace"
#define KEY_VERSION   "nova_object.version"
#define KEY_DATA      "nova_object.data"
#define KEY_CHANGES   "nova_object.changes"

struct object {
    struct json_object *tree; /* the primitive; or an array of primitives (object_child) */
};

/* ---- making, checking ---- */

static struct object *handle_on(struct json_object *tree)
{
    struct object *object = NEW(struct object);
    object->tree = json_object_get(tree);
    return object;
}

static struct json_object *data_of(const struct object *object)
{
    return json_get(object->tree, KEY_DATA);
}

struct object *object_new(const char *name, const char *version)
{
    _cleanup_(json_putp) struct json_object *tree = json_object_new_object();
    json_add_string(tree, KEY_NAME, name);
    json_add_string(tree, KEY_NAMESPACE, "nova");
    json_add_string(tree, KEY_VERSION, version);
    json_add(tree, KEY_DATA, json_object_new_object());
    return handle_on(tree);
}

static bool is_string_array(struct json_object *value)
{
    if (!json_object_is_type(value, json_type_array))
        return false;
    for (size_t i = 0; i < json_object_array_length(value); i++)
        if (!json_object_is_type(json_object_array_get_idx(value, i), json_type_string))
            return false;
    return true;
}

static int check_class(const char *is, const char *version, const char *name, int major,
                       struct err *e)
{
    int is_major, is_minor;
    if (!envelope_parse_version(version, &is_major, &is_minor))
        return err_set(e, ERR_PARSE, "object %.64s: version '%.32s' is not major.minor", is,
                       version);
    if (name && !text_equal(is, name))
        return err_set(e, ERR_PARSE, "object is of class %.64s; allowed is %s", is, name);
    if (major && is_major != major)
        return err_set(e, ERR_OBJECT_VERSION,
                       "Version %.32s of %.64s is not supported, supported version is %d.x",
                       version, is, major);
    return 0;
}

int object_from_json(struct json_object *primitive, const char *name, int major,
                     struct object **out, struct err *e)
{
    const char *is, *name_space, *version;
    struct json_object *data;
    if (!json_object_is_type(primitive, json_type_object))
        return err_set(e, ERR_PARSE, "object%s%s: JSON type %s; allowed is a versioned object",
                       name ? " " : "", name ? name : "",
                       json_type_to_name(json_object_get_type(primitive)));
    if (json_need_string(primitive, KEY_NAME, &is, e) ||
        json_need_string(primitive, KEY_VERSION, &version, e) ||
        json_opt_string(primitive, KEY_NAMESPACE, "nova", &name_space, e) ||
        json_need_object(primitive, KEY_DATA, &data, e))
        return err_prefix(e, "versioned object: ");
    if (check_class(is, version, name, major, e))
        return -1;
    if (json_has(primitive, KEY_CHANGES) && !is_string_array(json_get(primitive, KEY_CHANGES)))
        return err_set(e, ERR_PARSE, "object %.64s: " KEY_CHANGES " is not an array of names", is);
    *out = handle_on(primitive);
    return 0;
}

struct json_object *object_to_json(const struct object *object)
{
    return json_copy(object->tree);
}

struct json_object *object_to_json_reduced(const struct object *object, const char *const *keep)
{
    struct json_object *tree = json_object_new_object();
    struct json_object *data = json_object_new_object();
    json_add_string(tree, KEY_NAME, object_name(object));
    json_add_string(tree, KEY_NAMESPACE, json_get_string(object->tree, KEY_NAMESPACE, "nova"));
    json_add_string(tree, KEY_VERSION, object_version(object));
    for (; keep && *keep; keep++)
        if (object_has(object, *keep))
            json_add(data, *keep, json_copy(object_json(object, *keep)));
    struct json_object *changes = json_get(object->tree, KEY_CHANGES);
    for (size_t i = 0; changes && i < json_object_array_length(changes); i++) {
        const char *field = json_object_get_string(json_object_array_get_idx(changes, i));
        if (object_has(object, field))
            json_add(data, field, json_copy(object_json(object, field)));
    }
    json_add(tree, KEY_DATA, data);
    if (changes)
        json_add(tree, KEY_CHANGES, json_copy(changes));
    return tree;
}

struct object *object_copy(const struct object *object)
{
    _cleanup_(json_putp) struct json_object *tree = json_copy(object->tree);
    return handle_on(tree);
}

void object_free(struct object *object)
{
    if (!object)
        return;
    json_object_put(object->tree);
    free(object);
}

const char *object_name(const struct object *object)
{
    return json_get_string(object->tree, KEY_NAME, "");
}

const char *object_version(const struct object *object)
{
    return json_get_string(object->tree, KEY_VERSION, "");
}

/* ---- reading ---- */

bool object_has(const struct object *object, const char *field)
{
    return json_has(data_of(object), field);
}

bool object_is_null(const struct object *object, const char *field)
{
    return object_has(object, field) && !json_get(data_of(object), field);
}

const char *object_string(const struct object *object, const char *field, const char *fallback)
{
    return json_get_string(data_of(object), field, fallback);
}

int64_t object_int(const struct object *object, const char *field, int64_t fallback)
{
    return json_get_int(data_of(object), field, fallback);
}

double object_double(const struct object *object, const char *field, double fallback)
{
    return json_get_double(data_of(object), field, fallback);
}

bool object_bool(const struct object *object, const char *field, bool fallback)
{
    return json_get_bool(data_of(object), field, fallback);
}

struct json_object *object_json(const struct object *object, const char *field)
{
    return json_get(data_of(object), field);
}

static int need(const struct object *object, const char *field, enum json_type type,
                struct json_object **out, struct err *e)
{
    struct json_object *value = object_json(object, field);
    if (json_object_is_type(value, type)) {
        *out = value;
        return 0;
    }
    return err_set(e, ERR_INVALID, "object %.64s: field %s is %s%s; needed is %s",
                   object_name(object), field,
                   object_has(object, field) ? "of JSON type " : "not set",
                   object_has(object, field) ? json_type_to_name(json_object_get_type(value)) : "",
                   json_type_to_name(type));
}

int object_need_string(const struct object *object, const char *field, const char **out,
                       struct err *e)
{
    struct json_object *value = NULL;
    if (need(object, field, json_type_string, &value, e))
        return -1;
    const char *text = json_object_get_string(value);
    if (strlen(text) != (size_t)json_object_get_string_len(value))
        return err_set(e, ERR_INVALID, "object %.64s: field %s has a NUL byte", object_name(object),
                       field);
    *out = text;
    return 0;
}

int object_need_int(const struct object *object, const char *field, int64_t *out, struct err *e)
{
    struct json_object *value = NULL;
    if (need(object, field, json_type_int, &value, e))
        return -1;
    *out = json_object_get_int64(value);
    return 0;
}

struct object *object_child(const struct object *object, const char *field)
{
    struct json_object *value = object_json(object, field);
    struct object *child = NULL;
    if (json_object_is_type(value, json_type_array))
        return handle_on(value);
    if (!value || object_from_json(value, NULL, 0, &child, NULL))
        return NULL;
    return child;
}

/* The array that a list handle stands for; NULL if it is none. */
static struct json_object *items_of(const struct object *list)
{
    struct json_object *items = json_object_is_type(list->tree, json_type_array)
                                    ? list->tree
                                    : object_json(list, "objects");
    return json_object_is_type(items, json_type_array) ? items : NULL;
}

size_t object_list_length(const struct object *list)
{
    struct json_object *items = items_of(list);
    return items ? json_object_array_length(items) : 0;
}

struct object *object_list_item(const struct object *list, size_t index)
{
    struct json_object *items = items_of(list);
    struct object *item = NULL;
    if (!items || index >= json_object_array_length(items) ||
        object_from_json(json_object_array_get_idx(items, index), NULL, 0, &item, NULL))
        return NULL;
    return item;
}

/* ---- change set ---- */

bool object_changed(const struct object *object, const char *field)
{
    struct json_object *changes = json_get(object->tree, KEY_CHANGES);
    size_t count = changes ? json_object_array_length(changes) : 0;
    if (!field)
        return count > 0;
    for (size_t i = 0; i < count; i++)
        if (text_equal(json_object_get_string(json_object_array_get_idx(changes, i)), field))
            return true;
    return false;
}

static void mark_changed(struct object *object, const char *field)
{
    if (object_changed(object, field))
        return;
    struct json_object *changes = json_get(object->tree, KEY_CHANGES);
    if (!changes) {
        changes = json_object_new_array();
        json_add(object->tree, KEY_CHANGES, changes);
    }
    json_object_array_add(changes, json_object_new_string(field));
}

static void unmark_changed(struct object *object, const char *field)
{
    struct json_object *changes = json_get(object->tree, KEY_CHANGES);
    size_t count = changes ? json_object_array_length(changes) : 0;
    for (size_t i = count; i-- > 0;)
        if (text_equal(json_object_get_string(json_object_array_get_idx(changes, i)), field))
            json_object_array_del_idx(changes, i, 1);
    if (changes && !json_object_array_length(changes))
        object_clear_changes(object);
}

void object_clear_changes(struct object *object)
{
    json_object_object_del(object->tree, KEY_CHANGES);
}

/* ---- writing ---- */

void object_set_json(struct object *object, const char *field, struct json_object *value)
{
    struct json_object *data = data_of(object);
    assert(data);
    json_add(data, field, value);
    mark_changed(object, field);
}

void object_set_string(struct object *object, const char *field, const char *value)
{
    object_set_json(object, field, value ? json_object_new_string(value) : NULL);
}

void object_set_int(struct object *object, const char *field, int64_t value)
{
    object_set_json(object, field, json_object_new_int64(value));
}

void object_set_bool(struct object *object, const char *field, bool value)
{
    object_set_json(object, field, json_object_new_boolean(value));
}

void object_set_child(struct object *object, const char *field, const struct object *child)
{
    object_set_json(object, field, child ? object_to_json(child) : NULL);
}

void object_unset(struct object *object, const char *field)
{
    json_object_object_del(data_of(object), field);
    unmark_changed(object, field);
}

int object_apply_updates(struct object *object, struct json_object *updates, struct err *e)
{
    if (!json_object_is_type(updates, json_type_object))
        return err_set(e, ERR_PARSE, "object %.64s: updates are of JSON type %s; allowed is object",
                       object_name(object), json_type_to_name(json_object_get_type(updates)));
    struct json_object *changed = json_get(updates, "obj_what_changed");
    if (changed && !is_string_array(changed))
        return err_set(e, ERR_PARSE, "object %.64s: obj_what_changed is not an array of names",
                       object_name(object));
    json_object_object_foreach (updates, field, value) {
        if (!text_equal(field, "obj_what_changed"))
            json_add(data_of(object), field, json_copy(value));
    }
    object_clear_changes(object);
    for (size_t i = 0; changed && i < json_object_array_length(changed); i++)
        mark_changed(object, json_object_get_string(json_object_array_get_idx(changed, i)));
    return 0;
}

struct object *object_list_new(const char *name, const char *version, struct object *const *items,
                               size_t count)
{
    struct object *list = object_new(name, version);
    struct json_object *array = json_object_new_array();
    for (size_t i = 0; i < count; i++)
        json_object_array_add(array, object_to_json(items[i]));
    object_set_json(list, "objects", array);
    return list;
}
