/* SPDX-License-Identifier: Apache-2.0 */
/* The figures of the host, as Nova's resource tracker counts them (nova/compute/resource_tracker.py). */
#include "agent/node_internal.h"

#include <json-c/linkhash.h>

#include "lib/json.h"
#include "lib/text.h"

enum { MIB_OF_GIB = 1024 };

/* A guest whose root disk is a volume takes no disk of the host for it. */
static bool is_volume_backed(const struct instance *instance)
{
    const char *image = instance_image_ref(instance);

    return !image || !*image;
}

struct node_usage node_usage_of(const struct instance *instance)
{
    _cleanup_(object_freep) struct object *flavor = object_child(instance->object, "flavor");
    struct node_usage usage = {.instances = 1};
    int64_t root_gb, ephemeral_gb, swap_mb = 0;

    if (flavor) {
        usage.vcpus = object_int(flavor, "vcpus", 0);
        usage.memory_mb = object_int(flavor, "memory_mb", 0);
        root_gb = object_int(flavor, "root_gb", 0);
        ephemeral_gb = object_int(flavor, "ephemeral_gb", 0);
        swap_mb = object_int(flavor, "swap", 0);
    } else {
        usage.vcpus = instance_vcpus(instance);
        usage.memory_mb = instance_memory_mb(instance);
        root_gb = instance_root_gb(instance);
        ephemeral_gb = instance_ephemeral_gb(instance);
    }
    if (is_volume_backed(instance))
        root_gb = 0;
    usage.disk_mb = (root_gb + ephemeral_gb) * MIB_OF_GIB + swap_mb;
    return usage;
}

static void add_usage(struct node_usage *sum, const struct node_usage *usage)
{
    sum->instances += usage->instances;
    sum->vcpus += usage->vcpus;
    sum->memory_mb += usage->memory_mb;
    sum->disk_mb += usage->disk_mb;
}

/* nova/compute/vm_states.py, allow_resource_removal() */
bool node_usage_is_none(const struct instance *instance)
{
    const char *state = instance_vm_state(instance);

    return text_equal(state, "deleted") || text_equal(state, "shelved_offloaded");
}

static bool is_listed(const struct node *node, const char *uuid)
{
    return json_has(node->instances, uuid);
}

static bool has_claim(const struct node *node, const char *uuid)
{
    for (const struct node_claim *claim = node->claims; claim; claim = claim->next)
        if (text_equal(claim->uuid, uuid))
            return true;
    return false;
}

static bool is_incoming(const struct migration *m)
{
    return m->role == MIGRATION_DESTINATION && m->instance && !machine_state_is_final(m->state) &&
           m->state != MACHINE_DESTINATION_PARKED;
}

static void add_listed(const struct node *node, struct node_usage *sum)
{
    json_object_object_foreach (node->instances, uuid, primitive) {
        _cleanup_(instance_freep) struct instance *instance = NULL;
        (void)uuid;
        if (instance_from_json(primitive, &instance, NULL) < 0 || node_usage_is_none(instance))
            continue;
        struct node_usage usage = node_usage_of(instance);
        add_usage(sum, &usage);
    }
}

struct node_usage node_usage_sum(const struct node *node)
{
    struct node_usage sum = {0};

    if (node->instances)
        add_listed(node, &sum);
    for (const struct node_claim *claim = node->claims; claim; claim = claim->next)
        if (!is_listed(node, claim->uuid))
            add_usage(&sum, &claim->usage);
    for (const struct migration *m = node->agent->migrations; m; m = m->next) {
        if (!is_incoming(m) || is_listed(node, m->instance_uuid) ||
            has_claim(node, m->instance_uuid))
            continue;
        struct node_usage usage = node_usage_of(m->instance);
        usage.instances = 0; /* not here yet: Nova counts what it will take, not the guest */
        add_usage(&sum, &usage);
    }
    return sum;
}

void node_usage_facts(const struct node *node, struct cloud_node_facts *facts)
{
    const struct conf *conf = node->agent->conf;
    const struct virt_resources *r = node->resources;
    int64_t reserved_disk_mb = conf_int(conf, CONF_DEFAULT_reserved_host_disk_mb);

    *facts = (struct cloud_node_facts){
        .hypervisor_hostname = r->hostname,
        .hypervisor_type = r->type,
        .hypervisor_version = r->hypervisor_version,
        .host_ip = conf_string(conf, CONF_DEFAULT_my_ip),
        .vcpus = r->cpus,
        .memory_mb = r->memory_mb,
        .local_gb = r->local_gb,
        .disk_available_least_gb = r->disk_available_least_gb,
        .vcpus_used = (int)node->usage.vcpus,
        .memory_mb_used =
            node->usage.memory_mb + conf_int(conf, CONF_DEFAULT_reserved_host_memory_mb),
        .local_gb_used = (node->usage.disk_mb + reserved_disk_mb) / MIB_OF_GIB,
        .running_vms = (int)node->usage.instances,
        .current_workload = node->workload,
        .stats = node->stats,
        .cpu_info = r->cpu_info,
        .supported_instances = r->supported_instances,
        .traits = (const char *const *)r->traits,
        .guests = r->guests,
        .uptime = r->uptime,
    };
    facts->free_disk_gb = facts->local_gb - facts->local_gb_used;
}

/* Without what moves by itself (uptime), and without what only the start looks at (guests). */
struct json_object *node_usage_figures(const struct cloud_node_facts *facts)
{
    struct json_object *o = json_object_new_object(), *traits = json_object_new_array();

    json_add_string(o, "hypervisor_hostname", facts->hypervisor_hostname);
    json_add_string(o, "hypervisor_type", facts->hypervisor_type);
    json_add_int(o, "hypervisor_version", facts->hypervisor_version);
    json_add_string(o, "host_ip", facts->host_ip);
    json_add_int(o, "vcpus", facts->vcpus);
    json_add_int(o, "memory_mb", facts->memory_mb);
    json_add_int(o, "local_gb", facts->local_gb);
    json_add_int(o, "disk_available_least_gb", facts->disk_available_least_gb);
    json_add_int(o, "vcpus_used", facts->vcpus_used);
    json_add_int(o, "memory_mb_used", facts->memory_mb_used);
    json_add_int(o, "local_gb_used", facts->local_gb_used);
    json_add_int(o, "running_vms", facts->running_vms);
    json_add_int(o, "current_workload", facts->current_workload);
    json_add(o, "stats", json_copy(facts->stats));
    json_add(o, "cpu_info", json_copy(facts->cpu_info));
    json_add(o, "supported_instances", json_copy(facts->supported_instances));
    for (const char *const *trait = facts->traits; trait && *trait; trait++)
        json_object_array_add(traits, json_object_new_string(*trait));
    json_add(o, "traits", traits);
    return o;
}
