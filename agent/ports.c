/* SPDX-License-Identifier: Apache-2.0 */
/* VIFs of the control plane -> ports of the net room, here and in journal records. */
#include "agent/migration.h"

#include "lib/json.h"
#include "lib/log.h"
#include "net/frames.h"
#include "net/net_provider.h"

LOG_MODULE(ports);

static char **copy_addresses(char *const *addresses)
{
    size_t n = text_vector_length(addresses);
    if (n > FRAME_ADDRESSES_MAX)
        n = FRAME_ADDRESSES_MAX; /* more are not announced, and a record may not have more */
    char **copy = NEW_ARRAY(char *, n + 1);

    for (size_t i = 0; i < n; i++)
        copy[i] = text_dup(addresses[i]);
    return copy;
}

static int port_from_vif(const struct vif *vif, const char *instance_uuid, struct net_port **out,
                         struct err *e)
{
    bool ovs = text_equal(vif->type, "ovs");

    if (!ovs && !text_equal(vif->type, "bridge"))
        return err_set(e, ERR_PRECHECK,
                       "port %s has VIF type %s; this agent wires the types bridge and ovs",
                       vif->port_id, vif->type);
    if (!vif->bridge)
        return err_set(e, ERR_PRECHECK, "port %s names no bridge", vif->port_id);
    /* plugged straight it would have no security groups: that firewall sits on the bridge between */
    if (ovs && vif->ovs_hybrid_plug)
        return err_set(
            e, ERR_PRECHECK,
            "port %s wants a hybrid plug (Neutron's firewall_driver iptables_hybrid); this "
            "agent wires ports straight into Open vSwitch (openvswitch, noop)",
            vif->port_id);
    struct net_port *port = NEW(struct net_port);
    port->kind = ovs ? NET_KIND_OVS : NET_KIND_BRIDGE;
    port->port_id = text_dup(ovs && vif->ovs_interface_id ? vif->ovs_interface_id : vif->port_id);
    port->instance_uuid = text_dup(instance_uuid);
    port->mac = text_dup(vif->mac);
    port->addresses = copy_addresses(vif->addresses);
    port->bridge = text_dup(vif->bridge);
    port->physical_network = text_dup(vif->physical_network);
    port->is_flat = vif->is_flat;
    port->is_tagged = vif->is_tagged;
    port->tap = text_dup(vif->devname);
    port->mtu = vif->mtu;
    port->create_tap = vif->ovs_create_tap;
    /* as the domain's XML has it: source_start.c's interface_from_vif() */
    port->plugged_by_libvirt = ovs && !vif->delegate_create && !vif->ovs_create_tap;
    if (net_port_check(port, e) < 0) {
        net_port_free(port);
        return err_prefix(e, "port %s: ", vif->port_id);
    }
    *out = port;
    return 0;
}

void port_list_clear(struct port_list *list)
{
    for (size_t i = 0; i < list->count; i++)
        net_port_free(list->items[i]);
    free(list->items);
    *list = (struct port_list){0};
}

static void append(struct port_list *list, struct net_port *port)
{
    list->items = mem_resize(list->items, (list->count + 1) * sizeof(struct net_port *));
    list->items[list->count++] = port;
}

/* Consumes vifs. */
static int ports_from_vifs(struct vif_list *vifs, const char *instance_uuid, struct port_list *out,
                           struct err *e)
{
    struct port_list list = {0};
    int result = 0;

    for (size_t i = 0; i < vifs->count && result == 0; i++) {
        struct net_port *port = NULL;
        result = port_from_vif(vifs->items[i], instance_uuid, &port, e);
        if (result == 0)
            append(&list, port);
    }
    vif_list_clear(vifs);
    if (result < 0)
        port_list_clear(&list);
    else
        *out = list;
    return result;
}

int ports_of_destination(const struct instance *instance, const struct migrate_data *data,
                         struct port_list *out, struct err *e)
{
    struct vif_list vifs = {0};

    if (vif_list_of_destination(instance, data, &vifs, e) < 0)
        return -1;
    return ports_from_vifs(&vifs, instance_uuid(instance), out, e);
}

int ports_of_instance(const struct instance *instance, struct port_list *out, struct err *e)
{
    struct vif_list vifs = {0};

    if (vif_list_of_instance(instance, &vifs, e) < 0)
        return -1;
    return ports_from_vifs(&vifs, instance_uuid(instance), out, e);
}

int ports_of_network_info(struct json_object *network_info, const char *uuid, struct port_list *out,
                          struct err *e)
{
    struct vif_list vifs = {0};

    if (vif_list_of_network_info(network_info, &vifs, e) < 0)
        return -1;
    return ports_from_vifs(&vifs, uuid, out, e);
}

void ports_to_unplug(struct json_object *network_info, const char *uuid, struct port_list *out)
{
    for (size_t i = 0; network_info && i < json_object_array_length(network_info); i++) {
        _cleanup_(json_putp) struct json_object *one = json_object_new_array();
        struct port_list list = {0};
        struct err e = ERR_INIT;
        json_object_array_add(one, json_object_get(json_object_array_get_idx(network_info, i)));
        if (ports_of_network_info(one, uuid, &list, &e) < 0) {
            log_err(LOG_LEVEL_INFO, &e, "a port is not unplugged");
            continue;
        }
        for (size_t k = 0; k < list.count; k++)
            append(out, list.items[k]);
        free(list.items);
    }
}

struct json_object *port_list_to_json(const struct port_list *list)
{
    struct json_object *array = json_object_new_array();

    for (size_t i = 0; i < list->count; i++)
        json_object_array_add(array, net_port_to_json(list->items[i]));
    return array;
}

int port_list_from_json(struct json_object *array, struct port_list *out, struct err *e)
{
    struct port_list list = {0};

    if (array && !json_object_is_type(array, json_type_array))
        return err_set(e, ERR_PARSE, "a list of ports is not an array");
    for (size_t i = 0; array && i < json_object_array_length(array); i++) {
        struct net_port *port = NULL;
        if (net_port_from_json(json_object_array_get_idx(array, i), &port, e) < 0) {
            port_list_clear(&list);
            return -1;
        }
        append(&list, port);
    }
    *out = list;
    return 0;
}
