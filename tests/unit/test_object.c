/* SPDX-License-Identifier: Apache-2.0 */
#include "rpc/object.h"

#include <json-c/linkhash.h>

#include "lib/json.h"
#include "lib/text.h"
#include "tests/unit/capture.h"
#include "tests/unit/unit.h"

static struct object *parse(const char *text)
{
    _cleanup_(json_putp) struct json_object *o = NULL;
    struct object *object = NULL;
    if (UNIT_OK(json_parse(text, strlen(text), &o, &unit_err)))
        UNIT_OK(object_from_json(o, NULL, 0, &object, &unit_err));
    return object;
}

#define MIGRATION(data, more)                                                                      \
    "{\"nova_object.name\":\"Migration\",\"nova_object.namespace\":\"nova\","                      \
    "\"nova_object.version\":\"1.7\",\"nova_object.data\":{" data "}" more "}"

static char *text_of(struct json_object *taken)
{
    char *text = json_text(taken);
    json_object_put(taken);
    return text;
}

/* ---- recorded objects ---- */

static unsigned objects_seen, fields_seen;

/* Reads a field by the accessor of its type, which must give what stands in the JSON. */
static void read_field(const struct object *o, const char *field, struct json_object *value)
{
    UNIT_TRUE(object_has(o, field));
    UNIT_EQ(object_is_null(o, field), value == NULL);
    UNIT_TRUE(object_json(o, field) == value);
    switch (json_object_get_type(value)) {
    case json_type_string:
        UNIT_STR(object_string(o, field, NULL), json_object_get_string(value));
        break;
    case json_type_int:
        UNIT_EQ(object_int(o, field, -77), json_object_get_int64(value));
        break;
    case json_type_boolean:
        UNIT_EQ(object_bool(o, field, !json_object_get_boolean(value)),
                json_object_get_boolean(value));
        break;
    case json_type_double:
        UNIT_TRUE(object_double(o, field, -1) == json_object_get_double(value));
        break;
    default:
        UNIT_STR(object_string(o, field, "fallback"), "fallback");
        UNIT_EQ(object_int(o, field, -77), -77);
    }
    fields_seen++;
}

static void walk(const char *name, struct json_object *value);

static void walk_object(const char *name, struct json_object *primitive)
{
    _cleanup_(object_freep) struct object *o = NULL;
    if (!UNIT_OK(object_from_json(primitive, NULL, 0, &o, &unit_err)))
        return;
    objects_seen++;
    _cleanup_(json_putp) struct json_object *again = object_to_json(o);
    unit_check(json_same(again, primitive), __LINE__, __FILE__, "%s: %s is changed", name,
               object_name(o));
    json_object_object_foreach (json_get(primitive, "nova_object.data"), field, value) {
        read_field(o, field, value);
        _cleanup_(object_freep) struct object *child = object_child(o, field);
        if (json_has(value, "nova_object.name"))
            UNIT_STR(object_name(child), json_get_string(value, "nova_object.name", NULL));
        if (text_equal(field, "objects"))
            UNIT_EQ(object_list_length(o), json_object_array_length(value));
    }
    struct json_object *changes = json_get(primitive, "nova_object.changes");
    for (size_t i = 0; changes && i < json_object_array_length(changes); i++)
        UNIT_TRUE(object_changed(o, json_object_get_string(json_object_array_get_idx(changes, i))));
}

static void walk(const char *name, struct json_object *value)
{
    if (json_object_is_type(value, json_type_array)) {
        for (size_t i = 0; i < json_object_array_length(value); i++)
            walk(name, json_object_array_get_idx(value, i));
    } else if (json_object_is_type(value, json_type_object)) {
        if (json_has(value, "nova_object.name"))
            walk_object(name, value);
        json_object_object_foreach (value, key, member) {
            (void)key;
            walk(name, member);
        }
    }
}

UNIT_TEST(capture,
          "every object of the recorded messages is read field by field and goes out unchanged")
{
    objects_seen = fields_seen = 0;
    UNIT_EQ(capture_each(walk), CAPTURE_COUNT);
    UNIT_EQ(objects_seen, 1069);
    UNIT_EQ(fields_seen, 7820);
}

UNIT_TEST(instance_view, "the instance of a recorded request gives its fields, children and lists")
{
    _cleanup_(json_putp) struct json_object *inner =
        capture_load("live-migration/008-compute.os-hostb-check_can_live_migrate_destination.json");
    _cleanup_(object_freep) struct object *instance = NULL;
    UNIT_OK(object_from_json(json_get(json_get(inner, "args"), "instance"), "Instance", 2,
                             &instance, &unit_err));
    const char *uuid = NULL;
    UNIT_OK(object_need_string(instance, "uuid", &uuid, &unit_err));
    UNIT_STR(uuid, "fa70925f-2d0d-4024-871f-903f3c94d32b");
    _cleanup_(object_freep) struct object *cache = object_child(instance, "info_cache");
    if (UNIT_TRUE(cache != NULL))
        UNIT_STR(object_name(cache), "InstanceInfoCache");
    UNIT_TRUE(object_child(instance, "nothing") == NULL);
    UNIT_TRUE(object_is_null(instance, "key_name"));
    UNIT_TRUE(object_child(instance, "key_name") == NULL);
}

/* ---- rules ---- */

static int check(const char *text, const char *name, int major)
{
    _cleanup_(json_putp) struct json_object *o = NULL;
    struct object *object = NULL;
    if (json_parse(text, strlen(text), &o, &unit_err))
        return -2;
    if (object_from_json(o, name, major, &object, &unit_err))
        return -1;
    object_free(object);
    return 0;
}

UNIT_TEST(class_and_version, "another class or major version is refused, newer minors are read")
{
    UNIT_OK(check(MIGRATION("", ""), "Migration", 1));
    UNIT_OK(check(MIGRATION("", ""), NULL, 0));
    UNIT_FAILS(check(MIGRATION("", ""), "Instance", 1), ERR_PARSE);
    UNIT_HAS(unit_err.text, "Migration");
    UNIT_FAILS(check(MIGRATION("", ""), "Migration", 2), ERR_OBJECT_VERSION);
    UNIT_HAS(unit_err.text, "1.7");
    UNIT_OK(check("{\"nova_object.name\":\"Migration\",\"nova_object.version\":\"1.99\","
                  "\"nova_object.data\":{\"unheard\":1}}",
                  "Migration", 1));
}

UNIT_TEST(malformed, "what is no primitive is refused with a reason")
{
    static const char *const texts[] = {
        "null",
        "[]",
        "\"Instance\"",
        "{}",
        "{\"nova_object.name\":\"X\"}",
        "{\"nova_object.name\":1,\"nova_object.version\":\"1.0\",\"nova_object.data\":{}}",
        "{\"nova_object.name\":\"X\",\"nova_object.version\":1.0,\"nova_object.data\":{}}",
        "{\"nova_object.name\":\"X\",\"nova_object.version\":\"one\",\"nova_object.data\":{}}",
        "{\"nova_object.name\":\"X\",\"nova_object.version\":\"1.0\",\"nova_object.data\":[]}",
        "{\"nova_object.name\":\"X\",\"nova_object.version\":\"1.0\",\"nova_object.data\":{},"
        "\"nova_object.changes\":{}}",
        "{\"nova_object.name\":\"X\",\"nova_object.version\":\"1.0\",\"nova_object.data\":{},"
        "\"nova_object.changes\":[1]}",
    };
    for (size_t i = 0; i < ARRAY_LEN(texts); i++)
        UNIT_FAILS(check(texts[i], NULL, 0), ERR_PARSE);
}

UNIT_TEST(set_or_not, "not set, set to null and set to a value are three things")
{
    _cleanup_(object_freep) struct object *o = parse(MIGRATION("\"a\":null,\"b\":\"x\"", ""));
    UNIT_TRUE(object_has(o, "a") && object_is_null(o, "a"));
    UNIT_TRUE(object_has(o, "b") && !object_is_null(o, "b"));
    UNIT_TRUE(!object_has(o, "c") && !object_is_null(o, "c"));
    UNIT_STR(object_string(o, "a", "none"), "none");
}

UNIT_TEST(needs, "a strict read names object, field and what was there")
{
    _cleanup_(object_freep) struct object *o = parse(MIGRATION("\"id\":\"4\",\"n\":null", ""));
    int64_t id = 5;
    const char *text = "untouched";
    UNIT_FAILS(object_need_int(o, "id", &id, &unit_err), ERR_INVALID);
    UNIT_HAS(unit_err.text, "Migration");
    UNIT_HAS(unit_err.text, "id");
    UNIT_HAS(unit_err.text, "string");
    UNIT_FAILS(object_need_string(o, "n", &text, &unit_err), ERR_INVALID);
    UNIT_FAILS(object_need_string(o, "m", &text, &unit_err), ERR_INVALID);
    UNIT_HAS(unit_err.text, "not set");
    UNIT_EQ(id, 5);
    UNIT_STR(text, "untouched");
}

UNIT_TEST(changes, "writes enter the change set once and clearing empties it")
{
    _cleanup_(object_freep) struct object *o = object_new("Migration", "1.7");
    UNIT_TRUE(!object_changed(o, NULL));
    object_set_string(o, "status", "running");
    object_set_string(o, "status", "completed");
    object_set_int(o, "memory_total", 5);
    object_set_bool(o, "hidden", false);
    object_set_string(o, "dest_host", NULL);
    _cleanup_(str_freep) char *text = text_of(object_to_json(o));
    UNIT_STR(text, MIGRATION("\"status\":\"completed\",\"memory_total\":5,\"hidden\":false,"
                             "\"dest_host\":null",
                             ",\"nova_object.changes\":[\"status\",\"memory_total\",\"hidden\","
                             "\"dest_host\"]"));
    object_unset(o, "hidden");
    UNIT_TRUE(!object_has(o, "hidden") && !object_changed(o, "hidden"));
    object_clear_changes(o);
    UNIT_TRUE(!object_changed(o, NULL));
    _cleanup_(json_putp) struct json_object *clean = object_to_json(o);
    UNIT_TRUE(!json_has(clean, "nova_object.changes"));
}

UNIT_TEST(unset_last, "taking back the only change leaves no empty change set")
{
    _cleanup_(object_freep) struct object *o = object_new("Migration", "1.7");
    object_set_int(o, "id", 1);
    object_unset(o, "id");
    _cleanup_(str_freep) char *text = text_of(object_to_json(o));
    UNIT_STR(text, MIGRATION("", ""));
}

UNIT_TEST(own_copy, "what was given out does not follow later writes, a copy neither")
{
    _cleanup_(object_freep) struct object *o = parse(MIGRATION("\"id\":1", ""));
    _cleanup_(json_putp) struct json_object *sent = object_to_json(o);
    _cleanup_(object_freep) struct object *copy = object_copy(o);
    object_set_int(o, "id", 2);
    UNIT_EQ(json_get_int(json_get(sent, "nova_object.data"), "id", 0), 1);
    UNIT_EQ(object_int(copy, "id", 0), 1);
}

UNIT_TEST(reduced, "a reduced save has the named and the changed fields only")
{
    _cleanup_(object_freep) struct object *o =
        parse(MIGRATION("\"uuid\":\"u\",\"id\":1,\"big\":[1,2],\"status\":\"a\"", ""));
    object_set_string(o, "status", "b");
    static const char *const keep[] = {"uuid", "absent", NULL};
    _cleanup_(str_freep) char *text = text_of(object_to_json_reduced(o, keep));
    UNIT_STR(text,
             MIGRATION("\"uuid\":\"u\",\"status\":\"b\"", ",\"nova_object.changes\":[\"status\"]"));
}

UNIT_TEST(updates, "what a remote method changed is taken over and replaces the change set")
{
    _cleanup_(object_freep) struct object *o = parse(MIGRATION("\"id\":1,\"status\":\"a\"", ""));
    object_set_string(o, "status", "b");
    _cleanup_(json_putp) struct json_object *updates = NULL, *bad = NULL;
    const char *text = "{\"updated_at\":\"2026-11-21T20:00:00Z\",\"id\":9,\"obj_what_changed\":[]}";
    UNIT_OK(json_parse(text, strlen(text), &updates, &unit_err));
    UNIT_OK(object_apply_updates(o, updates, &unit_err));
    UNIT_EQ(object_int(o, "id", 0), 9);
    UNIT_STR(object_string(o, "updated_at", ""), "2026-11-21T20:00:00Z");
    UNIT_STR(object_string(o, "status", ""), "b");
    UNIT_TRUE(!object_changed(o, NULL) && !object_has(o, "obj_what_changed"));
    UNIT_FAILS(object_apply_updates(o, NULL, &unit_err), ERR_PARSE);
    text = "{\"id\":3,\"obj_what_changed\":{}}";
    UNIT_OK(json_parse(text, strlen(text), &bad, &unit_err));
    UNIT_FAILS(object_apply_updates(o, bad, &unit_err), ERR_PARSE);
    UNIT_EQ(object_int(o, "id", 0), 9);
}

UNIT_TEST(lists, "a list object is made of copies and gives its items back")
{
    _cleanup_(object_freep) struct object *a = parse(MIGRATION("\"id\":1", ""));
    _cleanup_(object_freep) struct object *b = parse(MIGRATION("\"id\":2", ""));
    struct object *const both[] = {a, b};
    _cleanup_(object_freep) struct object *list = object_list_new("MigrationList", "1.5", both, 2);
    object_set_int(a, "id", 7);
    UNIT_EQ(object_list_length(list), 2);
    _cleanup_(object_freep) struct object *first = object_list_item(list, 0);
    UNIT_EQ(object_int(first, "id", 0), 1);
    UNIT_TRUE(object_list_item(list, 2) == NULL);
}

UNIT_TEST(arrays, "an array field of primitives is walked like a list, malformed items are none")
{
    _cleanup_(object_freep) struct object *o =
        parse(MIGRATION("\"vifs\":[" MIGRATION("\"id\":3", "") ",7]", ""));
    _cleanup_(object_freep) struct object *vifs = object_child(o, "vifs");
    UNIT_EQ(object_list_length(vifs), 2);
    _cleanup_(object_freep) struct object *first = object_list_item(vifs, 0);
    UNIT_EQ(object_int(first, "id", 0), 3);
    UNIT_TRUE(object_list_item(vifs, 1) == NULL);
    UNIT_STR(object_name(vifs), "");
}

UNIT_TEST(child_tree, "a child is on the same tree as its parent")
{
    _cleanup_(object_freep) struct object *o =
        parse(MIGRATION("\"inner\":" MIGRATION("\"id\":3", ""), ""));
    _cleanup_(object_freep) struct object *child = object_child(o, "inner");
    object_set_int(child, "id", 4);
    _cleanup_(object_freep) struct object *again = object_child(o, "inner");
    UNIT_EQ(object_int(again, "id", 0), 4);
    object_set_child(o, "other", child);
    UNIT_TRUE(object_changed(o, "other"));
    object_set_child(o, "other", NULL);
    UNIT_TRUE(object_is_null(o, "other"));
}

UNIT_TEST(numbers, "numbers go out as they came in")
{
    static const char text[] = MIGRATION("\"f\":0.1,\"e\":1e10,\"big\":9223372036854775807,"
                                         "\"neg\":-9223372036854775808,\"z\":1.0",
                                         "");
    _cleanup_(object_freep) struct object *o = parse(text);
    _cleanup_(str_freep) char *again = text_of(object_to_json(o));
    UNIT_STR(again, text);
}
