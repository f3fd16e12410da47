/* SPDX-License-Identifier: Apache-2.0 */
#include "cloud/views.h"

#include <string.h>

#include "lib/json.h"

static struct json_object *nested_data(struct json_object *primitive)
{
    return json_get(primitive, "nova_object.data");
}

int64_t instance_flavor_memory_mb(const struct instance *instance)
{
    struct json_object *flavor = object_json(instance->object, "flavor");
    int64_t memory_mb = json_get_int(nested_data(flavor), "memory_mb", 0);

    return memory_mb > 0 ? memory_mb : instance_memory_mb(instance);
}

struct json_object *instance_extra_specs(const struct instance *instance)
{
    return json_get(nested_data(object_json(instance->object, "flavor")), "extra_specs");
}

int instance_network_info(const struct instance *instance, struct json_object **out, struct err *e)
{
    struct json_object *cache = nested_data(object_json(instance->object, "info_cache"));
    const char *text = json_get_string(cache, "network_info", NULL);

    if (!text) {
        *out = json_object_new_array();
        return 0;
    }
    struct json_object *info = NULL;
    if (json_parse(text, strlen(text), &info, e) < 0)
        return err_prefix(e, "network_info of instance %s: ", instance_uuid(instance));
    if (!json_object_is_type(info, json_type_array)) {
        json_object_put(info);
        return err_set(e, ERR_PARSE, "network_info of instance %s is not a list of VIFs",
                       instance_uuid(instance));
    }
    *out = info;
    return 0;
}

bool instance_has_pci_requests(const struct instance *instance)
{
    struct json_object *data = nested_data(object_json(instance->object, "pci_requests"));
    struct json_object *requests = json_get(data, "requests");

    if (!requests || !json_object_is_type(requests, json_type_array))
        return false;
    for (size_t i = 0; i < json_object_array_length(requests); i++) {
        struct json_object *request = nested_data(json_object_array_get_idx(requests, i));
        /* requests of SR-IOV ports carry a requester id; what has none comes from the flavor */
        if (!json_get_string(request, "requester_id", NULL))
            return true;
    }
    return false;
}

struct migrate_data *migrate_data_new(void)
{
    return migrate_data_wrap(object_new("LibvirtLiveMigrateData", "1.10"));
}

const char *migrate_data_migration_uuid(const struct migrate_data *data)
{
    return json_get_string(nested_data(migrate_data_migration(data)), "uuid", NULL);
}

struct json_object *vif_migrate_data_skeletons(struct json_object *network_info)
{
    struct json_object *list = json_object_new_array();

    for (size_t i = 0; i < json_object_array_length(network_info); i++) {
        struct json_object *vif = json_object_array_get_idx(network_info, i);
        _cleanup_(str_freep) char *text = json_text(vif);
        struct object *skeleton = object_new("VIFMigrateData", "1.0");
        object_set_string(skeleton, "port_id", json_get_string(vif, "id", NULL));
        object_set_string(skeleton, "source_vif", text);
        object_set_string(skeleton, "profile_json", "{\"os_vif_delegation\": true}");
        json_object_array_add(list, object_to_json(skeleton));
        object_free(skeleton);
    }
    return list;
}

/* ---- VIFs ---- */

void vif_free(struct vif *vif)
{
    if (!vif)
        return;
    free(vif->port_id);
    free(vif->mac);
    free(vif->type);
    free(vif->vnic_type);
    free(vif->bridge);
    free(vif->devname);
    free(vif->physical_network);
    free(vif->ovs_interface_id);
    text_vector_free(vif->addresses);
    free(vif);
}

void vif_list_clear(struct vif_list *list)
{
    for (size_t i = 0; i < list->count; i++)
        vif_free(list->items[i]);
    free(list->items);
    *list = (struct vif_list){0};
}

static char **fixed_addresses(struct json_object *network)
{
    size_t count = 0;
    char **addresses = NEW_ARRAY(char *, 1);
    struct json_object *subnets = json_get(network, "subnets");

    if (!subnets || !json_object_is_type(subnets, json_type_array))
        return addresses;
    for (size_t i = 0; i < json_object_array_length(subnets); i++) {
        struct json_object *ips = json_get(json_object_array_get_idx(subnets, i), "ips");
        if (!ips || !json_object_is_type(ips, json_type_array))
            continue;
        for (size_t k = 0; k < json_object_array_length(ips); k++) {
            const char *address =
                json_get_string(json_object_array_get_idx(ips, k), "address", NULL);
            if (!address || text_check_ip(address, "address", NULL) < 0)
                continue;
            addresses = mem_resize(addresses, (count + 2) * sizeof(char *));
            addresses[count++] = text_dup(address);
            addresses[count] = NULL;
        }
    }
    return addresses;
}

/* Nova's rule: "tap" and the first 11 characters of the port's id. */
static char *device_name(const char *devname, const char *port_id)
{
    return devname ? text_dup(devname) : text_format("tap%.11s", port_id);
}

static int check_names(const struct vif *vif, struct err *e)
{
    if (text_check_uuid(vif->port_id, "port id", e) < 0 ||
        text_check_mac(vif->mac, "MAC address", e) < 0 ||
        text_check_ifname(vif->devname, "device name", e) < 0)
        return -1;
    if (vif->bridge && text_check_ifname(vif->bridge, "bridge name", e) < 0)
        return -1;
    if (vif->ovs_interface_id &&
        text_check_filename(vif->ovs_interface_id, "ovs_interfaceid", e) < 0)
        return -1;
    return vif->physical_network ? text_check_filename(vif->physical_network, "physical network", e)
                                 : 0;
}

int vif_from_json(struct json_object *json, struct vif **out, struct err *e)
{
    const char *port_id, *mac, *type;
    _cleanup_(vif_freep) struct vif *vif = NEW(struct vif);

    if (json_need_string(json, "id", &port_id, e) < 0 ||
        json_need_string(json, "address", &mac, e) < 0 ||
        json_need_string(json, "type", &type, e) < 0)
        return err_prefix(e, "VIF: ");
    struct json_object *network = json_get(json, "network");
    struct json_object *meta = json_get(network, "meta");
    struct json_object *details = json_get(json, "details");
    vif->port_id = text_dup(port_id);
    vif->mac = text_dup(mac);
    vif->type = text_dup(type);
    vif->vnic_type = text_dup(json_get_string(json, "vnic_type", "normal"));
    vif->bridge =
        text_dup(json_get_string(details, "bridge_name", json_get_string(network, "bridge", NULL)));
    vif->devname = device_name(json_get_string(json, "devname", NULL), port_id);
    vif->physical_network = text_dup(json_get_string(meta, "physical_network", NULL));
    const char *network_type = json_get_string(meta, "computed_network_type", NULL);
    vif->is_flat = text_equal(network_type, "flat");
    vif->is_tagged = network_type && !vif->is_flat;
    vif->ovs_interface_id = text_dup(json_get_string(json, "ovs_interfaceid", NULL));
    vif->addresses = fixed_addresses(network);
    int64_t mtu = json_get_int(meta, "mtu", 0);
    vif->mtu = mtu >= 68 && mtu <= 65535 ? (int)mtu : 0;
    vif->delegate_create = json_get_bool(json, "delegate_create", false);
    vif->ovs_hybrid_plug = json_get_bool(details, "ovs_hybrid_plug", false);
    vif->ovs_create_tap = json_get_bool(details, "ovs_create_tap", false);
    if (check_names(vif, e) < 0)
        return err_prefix(e, "VIF: ");
    *out = STEAL(vif);
    return 0;
}

static int list_add(struct vif_list *list, struct json_object *json, struct err *e)
{
    struct vif *vif = NULL;

    if (vif_from_json(json, &vif, e) < 0)
        return -1;
    list->items = mem_resize(list->items, (list->count + 1) * sizeof(struct vif *));
    list->items[list->count++] = vif;
    return 0;
}

int vif_list_of_network_info(struct json_object *info, struct vif_list *out, struct err *e)
{
    struct vif_list list = {0};

    for (size_t i = 0; i < json_object_array_length(info); i++) {
        if (list_add(&list, json_object_array_get_idx(info, i), e) < 0) {
            vif_list_clear(&list);
            return -1;
        }
    }
    *out = list;
    return 0;
}

int vif_list_of_instance(const struct instance *instance, struct vif_list *out, struct err *e)
{
    _cleanup_(json_putp) struct json_object *info = NULL;

    if (instance_network_info(instance, &info, e) < 0)
        return -1;
    return vif_list_of_network_info(info, out, e);
}

static int replace_text_json(struct json_object *vif, const char *key, const char *text,
                             struct err *e)
{
    struct json_object *value = NULL;

    if (!text)
        return 0;
    if (json_parse(text, strlen(text), &value, e) < 0)
        return err_prefix(e, "%s of the port binding: ", key);
    json_add(vif, key, value);
    return 0;
}

/* source_vif with what the destination's binding says put in. */
static int destination_vif(const struct vif_migrate_data *data, struct json_object **out,
                           struct err *e)
{
    const char *source = vif_migrate_data_source_vif(data);
    _cleanup_(json_putp) struct json_object *vif = NULL;

    if (!source)
        return err_set(e, ERR_PARSE, "VIF migrate data of port %s has no source_vif",
                       vif_migrate_data_port_id(data) ? vif_migrate_data_port_id(data) : "?");
    if (json_parse(source, strlen(source), &vif, e) < 0)
        return err_prefix(e, "source_vif: ");
    if (!json_object_is_type(vif, json_type_object))
        return err_set(e, ERR_PARSE, "source_vif of VIF migrate data is not an object");
    if (vif_migrate_data_vif_type(data))
        json_add_string(vif, "type", vif_migrate_data_vif_type(data));
    if (vif_migrate_data_vnic_type(data))
        json_add_string(vif, "vnic_type", vif_migrate_data_vnic_type(data));
    if (replace_text_json(vif, "details", vif_migrate_data_vif_details_json(data), e) < 0 ||
        replace_text_json(vif, "profile", vif_migrate_data_profile_json(data), e) < 0)
        return -1;
    json_add_bool(vif, "delegate_create",
                  json_get_bool(json_get(vif, "profile"), "os_vif_delegation", false));
    *out = STEAL(vif);
    return 0;
}

static int add_destination_vif(struct vif_list *list, struct json_object *primitive, struct err *e)
{
    _cleanup_(vif_migrate_data_freep) struct vif_migrate_data *data = NULL;
    _cleanup_(json_putp) struct json_object *vif = NULL;

    if (vif_migrate_data_from_json(primitive, &data, e) < 0 || destination_vif(data, &vif, e) < 0)
        return -1;
    return list_add(list, vif, e);
}

int vif_list_of_destination(const struct instance *instance, const struct migrate_data *data,
                            struct vif_list *out, struct err *e)
{
    struct json_object *vifs = migrate_data_vifs(data);
    struct vif_list list = {0};

    if (!vifs || !json_object_is_type(vifs, json_type_array) || json_object_array_length(vifs) == 0)
        return vif_list_of_instance(instance, out, e);
    for (size_t i = 0; i < json_object_array_length(vifs); i++) {
        if (add_destination_vif(&list, json_object_array_get_idx(vifs, i), e) < 0) {
            vif_list_clear(&list);
            return -1;
        }
    }
    *out = list;
    return 0;
}
