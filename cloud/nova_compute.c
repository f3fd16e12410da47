/* SPDX-License-Identifier: Apache-2.0 */
/* The compute node record (contract 2.3) out of facts: only what differs enters the change set. */
#include "cloud/nova_node.h"

#include <stdio.h>
#include <string.h>
#include <json-c/linkhash.h>

#include "lib/json.h"

static void fill(struct object *compute, const char *field, struct json_object *value)
{
    if (object_has(compute, field) && json_same(object_json(compute, field), value))
        json_object_put(value);
    else
        object_set_json(compute, field, value);
}

static void fill_int(struct object *compute, const char *field, int64_t value)
{
    fill(compute, field, json_object_new_int64(value));
}

static void fill_string(struct object *compute, const char *field, const char *value)
{
    fill(compute, field, value ? json_object_new_string(value) : NULL);
}

/* A text that holds JSON: the same content written in another way is no change. */
static void fill_text(struct object *compute, const char *field, struct json_object *value)
{
    const char *is = object_string(compute, field, NULL);
    _cleanup_(json_putp) struct json_object *parsed = NULL;
    _cleanup_(json_putp) struct json_object *wanted =
        value ? json_object_get(value) : json_object_new_object();

    if (is && json_parse(is, strlen(is), &parsed, NULL) == 0 && json_same(parsed, wanted))
        return;
    _cleanup_(str_freep) char *text = json_text(wanted);
    object_set_string(compute, field, text);
}

/* ---- nested objects ---- */

static struct json_object *spec_of(struct json_object *triple)
{
    static const char *const fields[] = {"arch", "hv_type", "vm_mode"};
    struct object *spec = conductor_object_new("HVSpec");

    for (size_t i = 0; i < ARRAY_LEN(fields); i++)
        object_set_string(spec, fields[i],
                          json_object_get_string(json_object_array_get_idx(triple, i)));
    struct json_object *primitive = object_to_json(spec);
    object_free(spec);
    return primitive;
}

static bool same_spec(struct json_object *a, struct json_object *b)
{
    return json_same(json_get(a, "nova_object.data"), json_get(b, "nova_object.data"));
}

/* The change sets of nested objects have no meaning and no order. */
static bool same_specs(struct json_object *is, struct json_object *specs)
{
    size_t count = json_object_array_length(specs);

    if (!json_object_is_type(is, json_type_array) || json_object_array_length(is) != count)
        return false;
    for (size_t i = 0; i < count; i++)
        if (!same_spec(json_object_array_get_idx(is, i), json_object_array_get_idx(specs, i)))
            return false;
    return true;
}

static void fill_specs(struct object *compute, struct json_object *triples)
{
    struct json_object *specs = json_object_new_array();

    for (size_t i = 0; triples && i < json_object_array_length(triples); i++)
        json_object_array_add(specs, spec_of(json_object_array_get_idx(triples, i)));
    if (same_specs(object_json(compute, "supported_hv_specs"), specs))
        json_object_put(specs);
    else
        object_set_json(compute, "supported_hv_specs", specs);
}

/* We give no PCI devices to flavors; a record that was never filled has no list at all. */
static void fill_pools(struct object *compute)
{
    struct json_object *is = object_json(compute, "pci_device_pools");
    struct json_object *objects = json_get(json_get(is, "nova_object.data"), "objects");

    if (json_object_is_type(objects, json_type_array) && json_object_array_length(objects) == 0)
        return;
    struct object *pools =
        object_list_new("PciDevicePoolList", conductor_class_version("PciDevicePoolList"), NULL, 0);
    object_set_json(compute, "pci_device_pools", object_to_json(pools));
    object_free(pools);
}

static void add_count(struct json_object *stats, const char *name, int64_t count)
{
    char text[24];

    snprintf(text, sizeof(text), "%lld", (long long)count);
    json_add_string(stats, name, text);
}

/* Counts are texts there. */
static struct json_object *make_stats(const struct cloud_node_facts *facts)
{
    struct json_object *stats = json_object_new_object();

    add_count(stats, "failed_builds", 0);
    if (facts->stats) {
        json_object_object_foreach (facts->stats, name, value) {
            add_count(stats, name, json_object_get_int64(value));
        }
    }
    add_count(stats, "num_instances", facts->running_vms);
    return stats;
}

/*
 * Anew each time, as nova-compute does it: what an earlier agent counted must not stay. `uptime` (read by Nova's
 * API since 2026.2) changes at each look, so it goes along when something else is saved, and is no reason to save.
 */
static void fill_stats(struct object *compute, const struct cloud_node_facts *facts)
{
    struct json_object *is = object_json(compute, "stats"), *stats = make_stats(facts);
    const char *uptime = json_get_string(is, "uptime", NULL);

    if (uptime)
        json_add_string(stats, "uptime", uptime);
    bool differs = !is || !json_same(is, stats) || object_changed(compute, NULL);
    if (facts->uptime)
        json_add_string(stats, "uptime", facts->uptime);
    if (differs)
        fill(compute, "stats", stats);
    else
        json_object_put(stats);
}

/* ---- all of it ---- */

static void fill_identity(struct object *compute, const char *host,
                          const struct cloud_node_facts *facts)
{
    fill_string(compute, "host", host);
    fill_string(compute, "hypervisor_hostname", facts->hypervisor_hostname);
    fill_string(compute, "hypervisor_type", facts->hypervisor_type);
    fill_int(compute, "hypervisor_version", facts->hypervisor_version);
    fill_string(compute, "host_ip", facts->host_ip);
    fill_text(compute, "cpu_info", facts->cpu_info);
    fill_specs(compute, facts->supported_instances);
}

static void fill_figures(struct object *compute, const struct cloud_node_facts *facts)
{
    fill_int(compute, "vcpus", facts->vcpus);
    fill_int(compute, "memory_mb", facts->memory_mb);
    fill_int(compute, "local_gb", facts->local_gb);
    fill_int(compute, "vcpus_used", facts->vcpus_used);
    fill_int(compute, "memory_mb_used", facts->memory_mb_used);
    fill_int(compute, "local_gb_used", facts->local_gb_used);
    fill_int(compute, "free_ram_mb", facts->memory_mb - facts->memory_mb_used);
    fill_int(compute, "free_disk_gb", facts->free_disk_gb);
    fill_int(compute, "disk_available_least", facts->disk_available_least_gb);
    fill_int(compute, "running_vms", facts->running_vms);
    fill_int(compute, "current_workload", facts->current_workload);
    fill_string(compute, "metrics", "[]");
}

void nova_compute_fill(struct object *compute, const char *host,
                       const struct cloud_node_facts *facts)
{
    fill_identity(compute, host, facts);
    fill_figures(compute, facts);
    fill_pools(compute);
    fill_stats(compute, facts);
}
