/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/instance_metadata.h"

#include <string.h>

#include "config.h"
#include "lib/clock.h"
#include "lib/json.h"
#include "lib/text.h"
#include "virt/nova_metadata.h"

enum { PORTS_MAX = 256, IPS_MAX = 64 };

struct ports {
    struct nova_metadata_port *items;
    size_t count;
};

static void ports_clear(struct ports *ports)
{
    for (size_t i = 0; i < ports->count; i++)
        free((void *)(uintptr_t)ports->items[i].ips);
    free(ports->items);
}

static void add_ips(struct nova_metadata_port *port, struct json_object *subnet)
{
    struct json_object *ips = json_get(subnet, "ips");
    struct nova_metadata_ip *items = (void *)(uintptr_t)port->ips;

    for (size_t i = 0; json_object_is_type(ips, json_type_array) &&
                       i < json_object_array_length(ips) && port->ip_count < IPS_MAX;
         i++) {
        struct json_object *ip = json_object_array_get_idx(ips, i);

        items = mem_resize(items, (port->ip_count + 1) * sizeof(*items));
        items[port->ip_count++] = (struct nova_metadata_ip){
            .type = json_get_string(ip, "type", "fixed"),
            .address = json_get_string(ip, "address", ""),
            .version = (int)json_get_int(ip, "version", 4),
        };
    }
    port->ips = items;
}

static void add_port(struct ports *ports, struct json_object *vif)
{
    struct json_object *subnets = json_get(json_get(vif, "network"), "subnets");
    struct nova_metadata_port port = {.uuid = json_get_string(vif, "id", "")};

    for (size_t i = 0;
         json_object_is_type(subnets, json_type_array) && i < json_object_array_length(subnets);
         i++)
        add_ips(&port, json_object_array_get_idx(subnets, i));
    ports->items = mem_resize(ports->items, (ports->count + 1) * sizeof(port));
    ports->items[ports->count++] = port;
}

static void read_ports(struct ports *ports, struct json_object *network_info)
{
    for (size_t i = 0; json_object_is_type(network_info, json_type_array) &&
                       i < json_object_array_length(network_info) && ports->count < PORTS_MAX;
         i++)
        add_port(ports, json_object_array_get_idx(network_info, i));
}

static void read_flavor(struct nova_metadata *m, const struct instance *instance)
{
    struct json_object *flavor =
        json_get(object_json(instance->object, "flavor"), "nova_object.data");

    m->flavor = json_get_string(flavor, "name", NULL);
    m->memory_mb = json_get_int(flavor, "memory_mb", 0);
    m->disk_gb = json_get_int(flavor, "root_gb", 0);
    m->swap_mb = json_get_int(flavor, "swap", 0);
    m->ephemeral_gb = json_get_int(flavor, "ephemeral_gb", 0);
    m->vcpus = json_get_int(flavor, "vcpus", 0);
}

char *instance_metadata_xml(const struct instance *instance, struct json_object *network_info)
{
    struct json_object *system = instance_system_metadata(instance);
    const char *image = instance_image_ref(instance);
    _cleanup_(json_putp) struct json_object *cached = NULL;
    _cleanup_(ports_clear) struct ports ports = {NULL, 0};
    struct nova_metadata m = {
        .package = PACKAGE_STRING,
        .name = instance_display_name(instance),
        .created_us = clock_realtime_us(),
        .user_id = instance_user_id(instance),
        .user_name = json_get_string(system, "owner_user_name", "N/A"),
        .project_id = instance_project_id(instance),
        .project_name = json_get_string(system, "owner_project_name", "N/A"),
        .image_id = image && *image ? image : NULL,
    };

    if (!network_info && instance_network_info(instance, &cached, NULL) == 0)
        network_info = cached;
    read_flavor(&m, instance);
    read_ports(&ports, network_info);
    m.ports = ports.items;
    m.port_count = ports.count;
    return nova_metadata_xml(&m);
}
