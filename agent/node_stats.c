/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the scheduler's filters and weighers want to know of a host beside its resources, by the names of
 * nova/compute/stats.py: how many instances there are in which state, how many of them are at work on its disks
 * (IoOpsFilter, IoOpsWeigher), how many builds failed here since the last good one (BuildFailureWeigher).
 */
#include "agent/node_internal.h"

#include <json-c/linkhash.h>

#include "lib/json.h"
#include "lib/text.h"

static void count_one(struct json_object *stats, const char *prefix, const char *value)
{
    _cleanup_(str_freep) char *key = text_format("%s_%s", prefix, value ? value : "None");

    json_add_int(stats, key, json_get_int(stats, key, 0) + 1);
}

/* An instance that is being built, and perhaps rebuilt, is as many as Nova counts. */
static int disk_work(const struct instance *instance)
{
    static const char *const tasks[] = {
        "resize_migrating", "rebuilding", "resize_prep", "image_snapshot",
        "image_backup",     "rescuing",   "unshelving",  NULL};

    return text_equal(instance_vm_state(instance), "building") +
           text_is_one_of(instance_task_state(instance), tasks);
}

void node_stats_count(struct node *node)
{
    struct json_object *stats = json_object_new_object();
    int64_t work = 0;

    node->workload = 0;
    json_object_object_foreach (node->instances, uuid, primitive) {
        _cleanup_(instance_freep) struct instance *instance = NULL;
        (void)uuid;
        if (instance_from_json(primitive, &instance, NULL) < 0 || node_usage_is_none(instance))
            continue;
        count_one(stats, "num_vm", instance_vm_state(instance));
        count_one(stats, "num_task", instance_task_state(instance));
        count_one(stats, "num_os_type", object_string(instance->object, "os_type", NULL));
        count_one(stats, "num_proj", object_string(instance->object, "project_id", NULL));
        work += disk_work(instance);
        node->workload += instance_task_state(instance) != NULL;
    }
    json_add_int(stats, "io_workload", work);
    json_add_int(stats, "failed_builds", node->failed_builds);
    json_object_put(node->stats);
    node->stats = stats;
}

void node_build_ended(struct agent *agent, bool good)
{
    struct node *node = agent->node;

    if (!node)
        return;
    if (good)
        node->failed_builds = 0;
    else if (conf_int(agent->conf, CONF_compute_consecutive_build_service_disable_threshold) != 0)
        node->failed_builds++;
    node_changed(agent);
}
