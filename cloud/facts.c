/* SPDX-License-Identifier: Apache-2.0 */
/* An Instance object out of what the hypervisor says of a domain: what Nova's database would hold. */
#include "cloud/cloud.h"

#include <json-c/linkhash.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/clock.h"
#include "lib/json.h"

enum { POWER_STATE_PAUSED = 3 };

/* Nova's number in "instance-0000002a"; 0 for other names. */
static int64_t number_of_name(const char *name)
{
    static const char prefix[] = "instance-";
    char *end = NULL;

    if (!text_starts_with(name, prefix))
        return 0;
    unsigned long long n = strtoull(name + strlen(prefix), &end, 16);
    return end && *end == '\0' && n < INT32_MAX ? (int64_t)n : 0;
}

/* Without Neutron a port's id is made from the MAC, so that both hosts make the same. */
static char *port_id_of_mac(const char *mac)
{
    char digits[13] = "";
    size_t n = 0;

    for (const char *c = mac; *c && n < 12; c++)
        if (*c != ':')
            digits[n++] = *c;
    digits[n] = '\0';
    return text_format("00000000-0000-4000-8000-%s", digits);
}

static struct json_object *network_of(const struct cloud_interface_facts *facts)
{
    struct json_object *network = json_object_new_object();
    struct json_object *meta = json_object_new_object();

    if (facts->mtu > 0)
        json_add_int(meta, "mtu", facts->mtu);
    json_add_string(network, "bridge", facts->bridge);
    json_add(network, "subnets", json_object_new_array());
    json_add(network, "meta", meta);
    return network;
}

static struct json_object *vif_of(const struct cloud_interface_facts *facts)
{
    struct json_object *vif = json_object_new_object();
    _cleanup_(str_freep) char *made = port_id_of_mac(facts->mac);
    const char *id = facts->interface_id ? facts->interface_id : made;

    json_add_string(vif, "id", id);
    json_add_string(vif, "address", facts->mac);
    json_add(vif, "network", network_of(facts));
    json_add_string(vif, "type", facts->openvswitch ? "ovs" : "bridge");
    json_add(vif, "details", json_object_new_object());
    json_add_string(vif, "devname", facts->tap);
    json_add_string(vif, "ovs_interfaceid", facts->openvswitch ? id : NULL);
    json_add_bool(vif, "active", true);
    json_add_string(vif, "vnic_type", "normal");
    json_add(vif, "profile", json_object_new_object());
    json_add_bool(vif, "preserve_on_delete", true);
    json_add_bool(vif, "delegate_create", false); /* libvirt makes the port, as the domain says */
    json_add(vif, "meta", json_object_new_object());
    return vif;
}

static struct object *info_cache(const struct cloud_instance_facts *facts)
{
    struct object *cache = object_new("InstanceInfoCache", "1.5");
    _cleanup_(json_putp) struct json_object *vifs = json_object_new_array();

    for (size_t i = 0; i < facts->interface_count; i++)
        json_object_array_add(vifs, vif_of(&facts->interfaces[i]));
    _cleanup_(str_freep) char *text = json_text(vifs);
    object_set_string(cache, "instance_uuid", facts->uuid);
    object_set_string(cache, "network_info", text);
    object_clear_changes(cache);
    return cache;
}

static struct object *flavor(const struct cloud_instance_facts *facts)
{
    struct object *o = object_new("Flavor", "1.2");
    struct json_object *specs = json_object_new_object();

    if (facts->settings) {
        json_object_object_foreach (facts->settings, name, value) {
            char key[80];
            snprintf(key, sizeof(key), "computed:%s", name);
            json_add_string(specs, key, json_object_get_string(value));
        }
    }
    object_set_string(o, "name", "standalone");
    object_set_int(o, "memory_mb", facts->memory_mb);
    object_set_int(o, "vcpus", facts->vcpus);
    object_set_int(o, "root_gb", 0);
    object_set_int(o, "ephemeral_gb", 0);
    object_set_int(o, "swap", 0);
    object_set_json(o, "extra_specs", specs);
    object_clear_changes(o);
    return o;
}

static void set_identity(struct object *o, const struct cloud_instance_facts *facts)
{
    object_set_int(o, "id", number_of_name(facts->name));
    object_set_string(o, "uuid", facts->uuid);
    object_set_string(o, "display_name", facts->title ? facts->title : facts->name);
    object_set_string(o, "hostname", facts->name);
    object_set_string(o, "host", facts->host);
    object_set_string(o, "node", facts->host);
    object_set_string(o, "launched_on", facts->host);
    object_set_string(o, "project_id", "standalone");
    object_set_string(o, "user_id", "standalone");
    object_set_string(o, "image_ref", "");
    object_set_string(o, "config_drive", "");
}

struct instance *cloud_instance_from_facts(const struct cloud_instance_facts *facts)
{
    struct object *o = object_new("Instance", "2.7");
    struct object *cache = info_cache(facts), *kind = flavor(facts);
    bool paused = facts->power_state == POWER_STATE_PAUSED;

    set_identity(o, facts);
    object_set_string(o, "vm_state", paused ? "paused" : "active");
    object_set_int(o, "power_state", facts->power_state);
    object_set_string(o, "task_state", NULL);
    object_set_int(o, "progress", 0);
    object_set_int(o, "memory_mb", facts->memory_mb);
    object_set_int(o, "vcpus", facts->vcpus);
    object_set_int(o, "root_gb", 0);
    object_set_int(o, "ephemeral_gb", 0);
    object_set_json(o, "metadata", json_object_new_object());
    object_set_json(o, "system_metadata", json_object_new_object());
    object_set_json(o, "numa_topology", NULL);
    object_set_json(o, "pci_requests", NULL);
    object_set_child(o, "flavor", kind);
    object_set_child(o, "info_cache", cache);
    object_clear_changes(o);
    object_free(cache);
    object_free(kind);
    return instance_wrap(o);
}
