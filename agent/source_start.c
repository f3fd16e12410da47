/* SPDX-License-Identifier: Apache-2.0 */
/* Pure helpers of the start: addresses, bandwidth, what differs on the destination. */
#include "agent/source.h"

#include <json-c/linkhash.h>
#include <string.h>

#include "lib/json.h"
#include "virt/domain_xml.h"

/* An address as it stands in a URI: IPv6 in brackets. */
static char *uri_host(const char *host)
{
    return strchr(host, ':') ? text_format("[%s]", host) : text_dup(host);
}

/* Puts the host into Nova's old "%s" template. */
static char *fill_template(const char *template, const char *host)
{
    const char *mark = strstr(template, "%s");

    if (!mark)
        return text_dup(template);
    return text_format("%.*s%s%s", (int)(mark - template), template, host, mark + 2);
}

void source_uris(const struct conf *conf, const char *host, const char *address,
                 char **destination_uri, char **migrate_uri)
{
    const char *template = conf_string(conf, CONF_libvirt_live_migration_uri);
    const char *scheme = conf_string(conf, CONF_libvirt_live_migration_scheme);
    _cleanup_(str_freep) char *to = uri_host(address ? address : host);
    bool tunnelled = conf_bool(conf, CONF_libvirt_live_migration_tunnelled);

    *destination_uri = template && *template
                           ? fill_template(template, to)
                           : text_format("qemu+%s://%s/system", scheme ? scheme : "tcp", to);
    *migrate_uri = address && !tunnelled ? text_format("tcp://%s", to) : NULL;
}

int64_t source_disk_bandwidth(int64_t bandwidth_mib, size_t disks)
{
    if (bandwidth_mib == 0 || disks < 2)
        return bandwidth_mib;
    int64_t share = bandwidth_mib / (int64_t)disks;
    return share > 0 ? share : 1;
}

/* ---- what differs on the destination ---- */

/* Everything a struct virt_destination points to. */
struct parts {
    struct vif_list vifs;
    struct virt_interface *interfaces;
    int *serial_ports;
    const char **perf_events;
    char *cpuset;
    struct virt_path_change *paths;
};

static void parts_clear(struct parts *parts)
{
    vif_list_clear(&parts->vifs);
    free(parts->interfaces);
    free(parts->serial_ports);
    free(parts->perf_events);
    free(parts->cpuset);
    free(parts->paths);
}

/*
 * How the domain names a port: a bridge's port goes by <interface type='bridge'>; a delegated Open
 * vSwitch port is made before the tap exists and is plain ethernet (libvirt then runs no ovs-vsctl in
 * the pause); an Open vSwitch port that libvirt plugs has a virtualport (ports.c says the same to net).
 */
static void interface_from_vif(const struct vif *vif, struct virt_interface *out)
{
    *out = (struct virt_interface){.mac = vif->mac, .target = vif->devname, .mtu = vif->mtu};
    if (text_equal(vif->type, "ovs") && (vif->delegate_create || vif->ovs_create_tap)) {
        out->type = (char *)"ethernet";
        out->target_unmanaged = vif->ovs_create_tap;
        return;
    }
    out->type = (char *)"bridge";
    out->bridge = vif->bridge;
    if (text_equal(vif->type, "ovs")) {
        out->virtualport = (char *)"openvswitch";
        out->interface_id = vif->ovs_interface_id ? vif->ovs_interface_id : vif->port_id;
    }
}

static int fill_interfaces(struct parts *parts, struct virt_destination *out,
                           const struct instance *instance, const struct migrate_data *data,
                           struct err *e)
{
    if (vif_list_of_destination(instance, data, &parts->vifs, e) < 0)
        return -1;
    parts->interfaces = NEW_ARRAY(struct virt_interface, parts->vifs.count + 1);
    for (size_t i = 0; i < parts->vifs.count; i++)
        interface_from_vif(parts->vifs.items[i], &parts->interfaces[i]);
    out->interfaces = parts->interfaces;
    out->interface_count = parts->vifs.count;
    out->interfaces_set = true;
    return 0;
}

static void fill_serial_ports(struct parts *parts, struct virt_destination *out,
                              const struct migrate_data *data)
{
    struct json_object *ports = migrate_data_serial_listen_ports(data);
    size_t count = json_array_length(ports);

    parts->serial_ports = NEW_ARRAY(int, count + 1);
    for (size_t i = 0; i < count; i++)
        parts->serial_ports[i] = json_object_get_int(json_object_array_get_idx(ports, i));
    out->serial_ports = parts->serial_ports;
    out->serial_port_count = count;
    out->serial_address_set = migrate_data_serial_listen_addr(data) != NULL;
    out->serial_address = migrate_data_serial_listen_addr(data);
}

static void fill_perf_events(struct parts *parts, struct virt_destination *out,
                             const struct migrate_data *data)
{
    struct json_object *events = migrate_data_supported_perf_events(data);
    size_t count = json_array_length(events);

    if (!events)
        return;
    parts->perf_events = NEW_ARRAY(const char *, count + 1);
    for (size_t i = 0; i < count; i++)
        parts->perf_events[i] = json_object_get_string(json_object_array_get_idx(events, i));
    out->perf_events = parts->perf_events;
    out->perf_event_count = count;
    out->perf_events_set = true;
}

/* An absent set means an old destination that leaves the guest's CPU set alone; an empty one means none. */
static void fill_cpuset(struct parts *parts, struct virt_destination *out,
                        const struct migrate_data *data)
{
    struct json_object *cpus = migrate_data_dst_cpu_shared_set_info(data);
    struct text_buffer b = TEXT_BUFFER_INIT;

    if (!cpus)
        return;
    for (size_t i = 0; i < json_array_length(cpus); i++)
        text_buffer_printf(&b, "%s%d", i ? "," : "",
                           json_object_get_int(json_object_array_get_idx(cpus, i)));
    parts->cpuset = text_buffer_take(&b);
    out->cpuset = parts->cpuset;
    out->cpuset_set = true;
}

/* Files that lie elsewhere on the destination, as it said itself. */
static void fill_paths(struct parts *parts, struct virt_destination *out,
                       const struct migrate_data *data)
{
    struct json_object *paths = migrate_data_computed_paths(data);

    if (!json_object_is_type(paths, json_type_object))
        return;
    parts->paths = NEW_ARRAY(struct virt_path_change, (size_t)json_object_object_length(paths) + 1);
    json_object_object_foreach (paths, from, to) {
        parts->paths[out->disk_path_count++] =
            (struct virt_path_change){.from = from, .to = json_object_get_string(to)};
    }
    out->disk_paths = parts->paths;
}

int source_destination_xml(const struct instance *instance, const struct migrate_data *data,
                           const char *xml, char **out, struct err *e)
{
    _cleanup_(parts_clear) struct parts parts = {0};
    struct virt_destination destination = {
        .vnc_address = migrate_data_graphics_listen_addr_vnc(data),
        .spice_address = migrate_data_graphics_listen_addr_spice(data),
        .file_backed_memory = migrate_data_dst_wants_file_backed_memory(data),
        .keep_cpu_shares = json_has(instance_extra_specs(instance), "quota:cpu_shares"),
    };

    if (json_array_length(migrate_data_bdms(data)) > 0)
        return err_set(e, ERR_NOT_IMPLEMENTED,
                       "instance %s has attached volumes; this agent does not move volumes yet",
                       instance_uuid(instance));
    if (fill_interfaces(&parts, &destination, instance, data, e) < 0)
        return -1;
    fill_serial_ports(&parts, &destination, data);
    fill_perf_events(&parts, &destination, data);
    fill_cpuset(&parts, &destination, data);
    fill_paths(&parts, &destination, data);
    return virt_domain_xml_for_destination(xml, &destination, out, e);
}
