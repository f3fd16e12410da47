/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The source's migratable XML becomes the destination's: one small function for each part, called in the
 * order in which nova-compute does them, so that the results can be compared line by line.
 */
#include "virt/domain_xml.h"

#include <string.h>
#include <strings.h>

#include "lib/text.h"
#include "virt/domain_xml_internal.h"

typedef int (*step)(xmlNode *root, const struct virt_destination *to, struct err *e);

const struct virt_volume *domain_xml_volume(const struct virt_destination *to, const xmlNode *disk)
{
    _cleanup_(str_freep) char *serial = xml_find_content(disk, "serial");

    for (size_t i = 0; serial && i < to->volume_count; i++)
        if (text_equal(to->volumes[i].serial, serial))
            return &to->volumes[i];
    return NULL;
}

const struct virt_interface *domain_xml_interface(const struct virt_destination *to,
                                                  const xmlNode *interface)
{
    _cleanup_(str_freep) char *mac = xml_find_attr(interface, "mac", "address");

    for (size_t i = 0; mac && i < to->interface_count; i++)
        if (strcasecmp(to->interfaces[i].mac, mac) == 0)
            return &to->interfaces[i];
    return NULL;
}

/* --- graphics and serial ports ---------------------------------------------------------------- */

static void set_listen(xmlNode *graphics, const char *address)
{
    if (!address)
        return;
    if (xmlHasProp(graphics, (const xmlChar *)"listen"))
        xml_set_attr(graphics, "listen", address);
    for (xmlNode *l = xml_child(graphics, "listen"); l; l = xml_next(l, "listen"))
        if (!xml_attr_is(l, "type", "socket") && !xml_attr_is(l, "type", "none"))
            xml_set_attr(l, "address", address);
}

static int rewrite_graphics(xmlNode *root, const struct virt_destination *to, struct err *e)
{
    xmlNode *first = xml_find(root, "devices/graphics");

    (void)e;
    for (xmlNode *g = first; g; g = xml_next(g, "graphics")) {
        if (xml_attr_is(g, "type", "vnc"))
            set_listen(g, to->vnc_address);
        else if (xml_attr_is(g, "type", "spice"))
            set_listen(g, to->spice_address);
    }
    return 0;
}

static void set_serial_source(xmlNode *device, const struct virt_destination *to)
{
    _cleanup_(str_freep) char *port_text = xml_find_attr(device, "target", "port");
    xmlNode *source = xml_child(device, "source");
    char service[16];
    int64_t port = -1;

    if (!source)
        return;
    if (to->serial_address)
        xml_set_attr(source, "host", to->serial_address);
    if (!port_text || text_to_int64(port_text, 0, INT32_MAX, &port, NULL) < 0)
        return;
    if ((size_t)port < to->serial_port_count) {
        (void)snprintf(service, sizeof(service), "%d", to->serial_ports[port]);
        xml_set_attr(source, "service", service);
    }
}

static int rewrite_serial(xmlNode *root, const struct virt_destination *to, struct err *e)
{
    static const char *const names[] = {"serial", "console"};
    const xmlNode *devices = xml_child(root, "devices");

    (void)e;
    if (!to->serial_address_set)
        return 0;
    for (size_t i = 0; i < ARRAY_LEN(names); i++)
        for (xmlNode *d = xml_child(devices, names[i]); d; d = xml_next(d, names[i]))
            if (xml_attr_is(d, "type", "tcp"))
                set_serial_source(d, to);
    return 0;
}

/* --- disks ------------------------------------------------------------------------------------ */

/* What the guest sees of a volume may not differ: a disk that changes its name or bus under a running
 * guest is another device. */
static int check_volume(const xmlNode *disk, const struct virt_volume *volume, struct err *e)
{
    const xmlNode *target = xml_child(disk, "target");
    _cleanup_(str_freep) char *dev = xml_attr(target, "dev");
    _cleanup_(str_freep) char *bus = xml_attr(target, "bus");
    _cleanup_(str_freep) char *device = xml_attr(disk, "device");

    if (volume->target && !text_equal(dev, volume->target))
        return err_set(e, ERR_DISK, "volume %s is %s here and %s on the destination",
                       volume->serial, dev, volume->target);
    if (volume->bus && bus && !text_equal(bus, volume->bus))
        return err_set(e, ERR_DISK, "volume %s is on bus %s here and on %s on the destination",
                       volume->serial, bus, volume->bus);
    if (volume->device_type && !text_equal(device ? device : "disk", volume->device_type))
        return err_set(e, ERR_DISK, "volume %s is a %s here and a %s on the destination",
                       volume->serial, device ? device : "disk", volume->device_type);
    return 0;
}

static const char *source_attribute(const char *source_type)
{
    static const struct {
        const char *type, *attribute;
    } table[] = {{"file", "file"}, {"block", "dev"}, {"network", "name"}};

    for (size_t i = 0; source_type && i < ARRAY_LEN(table); i++)
        if (strcmp(table[i].type, source_type) == 0)
            return table[i].attribute;
    return NULL;
}

static int set_volume_source(xmlNode *disk, const struct virt_volume *volume, struct err *e)
{
    const char *attribute = source_attribute(volume->source_type);
    xmlNode *source = xml_child(disk, "source");
    _cleanup_(str_freep) char *before = NULL;

    if (!attribute || !volume->source)
        return err_set(e, ERR_DISK,
                       "volume %s has the source type \"%.32s\" on the destination, "
                       "allowed are file, block and network with a source",
                       volume->serial, volume->source_type ? volume->source_type : "(none)");
    if (!xml_attr_is(disk, "type", volume->source_type)) {
        if (strcmp(volume->source_type, "network") == 0)
            return err_set(e, ERR_DISK,
                           "volume %s becomes a network disk on the destination, of "
                           "which only the name is known",
                           volume->serial);
        xml_set_attr(disk, "type", volume->source_type);
        xml_remove_children(disk, "source");
        xml_remove_children(disk, "auth");
        source = NULL;
    }
    if (!source)
        source = xml_add_child(disk, "source");
    before = xml_attr(source, attribute);
    xml_set_attr(source, attribute, volume->source);
    if (!text_equal(before, volume->source)) /* the old chain is that of the old source */
        xml_remove_children(disk, "backingStore");
    return 0;
}

static void set_volume_driver(xmlNode *disk, const struct virt_volume *volume)
{
    xmlNode *driver = xml_child(disk, "driver");
    xmlNode *boot = xml_child(disk, "boot");

    if (volume->format) {
        if (!driver) {
            driver = xml_add_child(disk, "driver");
            xml_set_attr(driver, "name", "qemu");
        }
        xml_set_attr(driver, "type", volume->format);
    }
    if (volume->boot_order) {
        if (!boot)
            boot = xml_add_child(disk, "boot");
        xml_set_attr(boot, "order", volume->boot_order);
    }
}

static int rewrite_volumes(xmlNode *root, const struct virt_destination *to, struct err *e)
{
    xmlNode *first = xml_find(root, "devices/disk");

    for (xmlNode *disk = first; disk; disk = xml_next(disk, "disk")) {
        const struct virt_volume *volume = domain_xml_volume(to, disk);

        if (!volume)
            continue;
        if (check_volume(disk, volume, e) < 0 || set_volume_source(disk, volume, e) < 0)
            return -1;
        set_volume_driver(disk, volume);
    }
    return 0;
}

/* --- paths of files that differ on the destination --------------------------------------------- */

static const char *mapped(const struct virt_destination *to, const char *path)
{
    for (size_t i = 0; path && i < to->disk_path_count; i++)
        if (strcmp(to->disk_paths[i].from, path) == 0)
            return to->disk_paths[i].to;
    return NULL;
}

static void map_attribute(xmlNode *node, const char *name, const struct virt_destination *to)
{
    _cleanup_(str_freep) char *path = xml_attr(node, name);
    const char *target = mapped(to, path);

    if (target)
        xml_set_attr(node, name, target);
}

static void map_content(xmlNode *node, const struct virt_destination *to)
{
    _cleanup_(str_freep) char *path = xml_content(node);
    const char *target = mapped(to, path);

    if (target)
        xml_set_content(node, target);
}

static void map_device(xmlNode *device, const struct virt_destination *to)
{
    xmlNode *source = xml_child(device, "source");
    xmlNode *log = xml_child(device, "log");

    if (source) {
        map_attribute(source, "file", to);
        map_attribute(source, "dev", to);
        map_attribute(source, "path", to);
    }
    if (log)
        map_attribute(log, "file", to);
}

static void map_disk(xmlNode *disk, const struct virt_destination *to)
{
    for (xmlNode *n = disk; n; n = xml_child(n, "backingStore"))
        map_device(n, to);
}

static int rewrite_paths(xmlNode *root, const struct virt_destination *to, struct err *e)
{
    static const char *const boot_files[] = {"os/kernel", "os/initrd"};
    const xmlNode *devices = xml_child(root, "devices");

    (void)e;
    for (size_t i = 0; i < ARRAY_LEN(boot_files); i++) {
        xmlNode *file = xml_find(root, boot_files[i]);

        if (file)
            map_content(file, to);
    }
    for (xmlNode *d = xml_child(devices, "disk"); d; d = xml_next(d, "disk"))
        if (!domain_xml_volume(to, d))
            map_disk(d, to);
    for (xmlNode *s = xml_child(devices, "serial"); s; s = xml_next(s, "serial"))
        map_device(s, to);
    for (xmlNode *c = xml_child(devices, "console"); c; c = xml_next(c, "console"))
        map_device(c, to);
    return 0;
}

/* --- perf, memory, CPU shares and set --------------------------------------------------------- */

static int rewrite_perf(xmlNode *root, const struct virt_destination *to, struct err *e)
{
    xmlNode *perf = NULL;

    (void)e;
    if (!to->perf_events_set)
        return 0;
    xml_remove_children(root, "perf");
    if (to->perf_event_count == 0)
        return 0;
    perf = xml_add_child(root, "perf");
    for (size_t i = 0; i < to->perf_event_count; i++) {
        xmlNode *event = xml_add_child(perf, "event");

        xml_set_attr(event, "name", to->perf_events[i]);
        xml_set_attr(event, "enabled", "yes");
    }
    return 0;
}

/*
 * File-backed memory is a property of the host, so the source's goes and the destination's comes. Memory
 * of type memfd stays as it is: it is a property of the guest's own devices (virtiofs, vhost-user), which
 * would not work without it.
 */
static int rewrite_memory(xmlNode *root, const struct virt_destination *to, struct err *e)
{
    static const char *const names[] = {"access", "source", "allocation", "discard"};
    xmlNode *backing = xml_child(root, "memoryBacking");

    (void)e;
    if (backing && !to->file_backed_memory &&
        xml_attr_is(xml_child(backing, "source"), "type", "memfd"))
        return 0;
    for (size_t i = 0; backing && i < ARRAY_LEN(names); i++)
        xml_remove_children(backing, names[i]);
    if (to->file_backed_memory) {
        if (!backing)
            backing = xml_add_child(root, "memoryBacking");
        xml_set_attr(xml_add_child(backing, "source"), "type", "file");
        xml_set_attr(xml_add_child(backing, "access"), "mode", "shared");
        xml_set_attr(xml_add_child(backing, "allocation"), "mode", "immediate");
        (void)xml_add_child(backing, "discard");
    } else if (backing && xml_is_empty(backing)) {
        xml_remove(backing);
    }
    return 0;
}

static int rewrite_cpu_shares(xmlNode *root, const struct virt_destination *to, struct err *e)
{
    xmlNode *cputune = xml_child(root, "cputune");

    (void)e;
    if (!cputune || to->keep_cpu_shares)
        return 0;
    xml_remove_children(cputune, "shares");
    if (xml_is_empty(cputune))
        xml_remove(cputune);
    return 0;
}

static int rewrite_cpuset(xmlNode *root, const struct virt_destination *to, struct err *e)
{
    xmlNode *vcpu = xml_child(root, "vcpu");

    (void)e;
    if (to->cpuset_set && vcpu)
        xml_set_attr(vcpu, "cpuset", to->cpuset && *to->cpuset ? to->cpuset : NULL);
    return 0;
}

/* --- interfaces ------------------------------------------------------------------------------- */

static void set_interface_source(xmlNode *element, const struct virt_interface *to)
{
    xml_remove_children(element, "source");
    if (to->bridge && !text_equal(to->type, "ethernet"))
        xml_set_attr(xml_add_child(element, "source"), "bridge", to->bridge);
}

static void set_interface_target(xmlNode *element, const struct virt_interface *to)
{
    xmlNode *target = xml_child(element, "target");

    if (!to->target)
        return;
    if (!target)
        target = xml_add_child(element, "target");
    xml_set_attr(target, "dev", to->target);
    xml_set_attr(target, "managed", to->target_unmanaged ? "no" : NULL);
}

static void set_virtualport(xmlNode *element, const struct virt_interface *to)
{
    xmlNode *port = NULL;

    xml_remove_children(element, "virtualport");
    if (!to->virtualport)
        return;
    port = xml_add_child(element, "virtualport");
    xml_set_attr(port, "type", to->virtualport);
    if (to->interface_id)
        xml_set_attr(xml_add_child(port, "parameters"), "interfaceid", to->interface_id);
}

/*
 * Only how the host wires the port changes. What the guest sees stays: MAC, model, driver and its queues,
 * address, boot order, and the MTU, which is offered to the guest as a feature of the device and so may
 * be neither added, changed nor removed.
 */
static int rewrite_interface(xmlNode *element, const struct virt_destination *to, struct err *e)
{
    const struct virt_interface *new = domain_xml_interface(to, element);
    _cleanup_(str_freep) char *mac = xml_find_attr(element, "mac", "address");

    if (!new)
        return err_set(e, ERR_INVALID,
                       "the guest has an interface with MAC %s, which is not among the %zu ports "
                       "that the destination has prepared",
                       mac ? mac : "(none)", to->interface_count);
    if (!new->type)
        return err_set(e, ERR_INVALID, "the destination gives no type for the interface %s", mac);
    xml_set_attr(element, "type", new->type);
    set_interface_source(element, new);
    set_interface_target(element, new);
    set_virtualport(element, new);
    if (text_equal(new->type, "ethernet")) /* the tag goes with the port, which is not libvirt's */
        xml_remove_children(element, "vlan");
    xml_remove_children(element, "script");
    return 0;
}

static int rewrite_interfaces(xmlNode *root, const struct virt_destination *to, struct err *e)
{
    xmlNode *first = xml_find(root, "devices/interface");

    if (!to->interfaces_set)
        return 0;
    for (xmlNode *i = first; i; i = xml_next(i, "interface"))
        if (rewrite_interface(i, to, e) < 0)
            return -1;
    return 0;
}

/* --- the whole -------------------------------------------------------------------------------- */

int virt_domain_xml_for_destination(const char *xml, const struct virt_destination *to, char **out,
                                    struct err *e)
{
    static const step steps[] = {
        rewrite_graphics, rewrite_serial,     rewrite_volumes,    rewrite_paths,  rewrite_perf,
        rewrite_memory,   rewrite_cpu_shares, rewrite_interfaces, rewrite_cpuset,
    };
    _cleanup_(xml_doc_freep) xmlDoc *doc = NULL;
    _cleanup_(str_freep) char *result = NULL;

    if (domain_xml_check_values(to, e) < 0 || xml_parse(xml, "domain XML", "domain", &doc, e) < 0)
        return -1;
    for (size_t i = 0; i < ARRAY_LEN(steps); i++)
        if (steps[i](xmlDocGetRootElement(doc), to, e) < 0)
            return -1;
    result = xml_text_of(doc, xmlDocGetRootElement(doc));
    if (!result)
        return err_set(e, ERR_NOMEM, "no memory for the destination's domain XML");
    if (domain_xml_check_changes(xml, result, to, e) < 0)
        return -1;
    *out = STEAL(result);
    return 0;
}
