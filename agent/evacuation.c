/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/evacuation.h"

#include <string.h>

#include "lib/json.h"

static struct json_object *data_of(struct json_object *record)
{
    return json_get(record, "nova_object.data");
}

static bool is_done(struct json_object *record)
{
    return text_equal(json_get_string(data_of(record), "status", ""), "done");
}

struct json_object *evacuation_done(struct json_object *records)
{
    struct json_object *done = json_object_new_array();

    for (size_t i = 0; i < json_object_array_length(records); i++) {
        struct json_object *record = json_object_array_get_idx(records, i);
        if (is_done(record))
            json_object_array_add(done, json_object_get(record));
    }
    return done;
}

static bool any_done(struct json_object *records)
{
    for (size_t i = 0; i < json_object_array_length(records); i++)
        if (is_done(json_object_array_get_idx(records, i)))
            return true;
    return false;
}

static bool is_rebuilding(const struct instance *instance)
{
    const char *task = instance_task_state(instance);

    return text_equal(task, "rebuilding") || text_equal(task, "rebuild_block_device_mapping") ||
           text_equal(task, "rebuild_spawning");
}

/*
 * nova-compute at the destination first saves that the guest runs (task state none, launched now) and then,
 * apart, its host. An instance in error without a task may be one whose destination died in the middle. One
 * that is well, without such a task, and was launched before the evacuation began is not under way.
 */
static bool may_be_under_way(const struct instance *instance, struct json_object *record)
{
    const char *began = json_get_string(data_of(record), "created_at", NULL);
    const char *launched = object_string(instance->object, "launched_at", NULL);

    if (is_done(record))
        return false;
    return is_rebuilding(instance) || text_equal(instance_vm_state(instance), "error") || !began ||
           !launched || strcmp(launched, began) > 0;
}

static enum evacuation_verdict judge_here(const struct instance *instance,
                                          struct json_object *records)
{
    for (size_t i = 0; i < json_object_array_length(records); i++)
        if (may_be_under_way(instance, json_object_array_get_idx(records, i)))
            return EVACUATION_UNDER_WAY;
    return any_done(records) ? EVACUATION_CLOSE_RECORDS : EVACUATION_OWN;
}

enum evacuation_verdict evacuation_judge(const struct instance *instance,
                                         struct json_object *records, const char *host)
{
    if (!instance || object_bool(instance->object, "deleted", false))
        return EVACUATION_REMOVE_DELETED;
    const char *lives = instance_host(instance);
    if (text_equal(lives, host))
        return judge_here(instance, records);
    return lives || any_done(records) ? EVACUATION_REMOVE : EVACUATION_UNDER_WAY;
}
