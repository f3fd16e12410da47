/* SPDX-License-Identifier: Apache-2.0 */
/* A versioned object of any kind: read by every accessor, changed, written and read again. */
#include <stdint.h>
#include <stdlib.h>
#include <json-c/linkhash.h>

#include "lib/json.h"
#include "rpc/object.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void expect(int condition)
{
    if (!condition)
        abort();
}

static void read_fields(const struct object *object)
{
    _cleanup_(json_putp) struct json_object *copy = object_to_json(object);
    json_object_object_foreach (json_get(copy, "nova_object.data"), field, value) {
        const char *text;
        int64_t number;
        expect(object_has(object, field));
        expect(object_is_null(object, field) == !value);
        (void)object_string(object, field, "");
        (void)object_double(object, field, 0);
        (void)object_bool(object, field, false);
        (void)object_need_string(object, field, &text, NULL);
        (void)object_need_int(object, field, &number, NULL);
        _cleanup_(object_freep) struct object *child = object_child(object, field);
        for (size_t i = 0; child && i < object_list_length(child) && i < 8; i++)
            object_free(object_list_item(child, i));
    }
}

static void change(struct object *object)
{
    static const char *const keep[] = {"uuid", "id", NULL};
    _cleanup_(json_putp) struct json_object *updates = object_to_json(object);
    (void)object_apply_updates(object, json_get(updates, "nova_object.data"), NULL);
    object_set_string(object, "host", "here");
    object_set_int(object, "id", 7);
    object_unset(object, "host");
    expect(object_changed(object, "id") && !object_changed(object, "host"));
    _cleanup_(json_putp) struct json_object *reduced = object_to_json_reduced(object, keep);
    _cleanup_(object_freep) struct object *again = NULL;
    expect(object_from_json(reduced, object_name(object), 0, &again, NULL) == 0);
    expect(object_int(again, "id", 0) == 7);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    _cleanup_(json_putp) struct json_object *tree = NULL, *before = NULL;
    _cleanup_(object_freep) struct object *object = NULL;
    struct err e = ERR_INIT;
    if (json_parse((const char *)data, size, &tree, &e) ||
        object_from_json(tree, NULL, 0, &object, &e)) {
        expect(e.code == ERR_PARSE && e.text[0]);
        return 0;
    }
    before = json_copy(tree);
    read_fields(object);
    expect(json_same(before, tree));
    change(object);
    return 0;
}
