/* SPDX-License-Identifier: Apache-2.0 */
/* A guest as its domain XML describes it. The JSON form is in virt/guest_json.c. */
#include "virt/guest.h"

#include <string.h>

#include "lib/text.h"
#include "lib/vector.h"
#include "virt/guest_internal.h"
#include "virt/xml.h"

static const struct {
    const char *name;
    int nova;
} states[] = {
    [VIRT_STATE_NONE] = {"none", 0},       [VIRT_STATE_RUNNING] = {"running", 1},
    [VIRT_STATE_PAUSED] = {"paused", 3},   [VIRT_STATE_SHUTOFF] = {"shutoff", 4},
    [VIRT_STATE_CRASHED] = {"crashed", 6}, [VIRT_STATE_SUSPENDED] = {"suspended", 7},
};

const char *virt_state_name(enum virt_state state)
{
    return states[state].name;
}

int virt_state_nova(enum virt_state state)
{
    return states[state].nova;
}

int virt_state_parse(const char *name, enum virt_state *out)
{
    for (size_t i = 0; i < ARRAY_LEN(states); i++) {
        if (text_equal(name, states[i].name)) {
            *out = (enum virt_state)i;
            return 0;
        }
    }
    return -1;
}

/* --- parts of the XML ------------------------------------------------------------------------- */

static int read_memory(const xmlNode *root, int64_t *kib, struct err *e)
{
    static const struct {
        const char *unit;
        int64_t numerator, denominator; /* of KiB */
    } units[] = {
        {"KiB", 1, 1},      {"k", 1, 1},           {"b", 1, 1024},           {"bytes", 1, 1024},
        {"MiB", 1024, 1},   {"M", 1024, 1},        {"GiB", 1 << 20, 1},      {"G", 1 << 20, 1},
        {"KB", 1000, 1024}, {"MB", 1000000, 1024}, {"GB", 1000000000, 1024},
    };
    _cleanup_(str_freep) char *text = xml_find_content(root, "memory");
    _cleanup_(str_freep) char *unit = xml_find_attr(root, "memory", "unit");
    int64_t value = 0;

    if (!text)
        return err_set(e, ERR_PARSE, "the domain XML has no <memory>");
    if (text_to_int64(text, 1, INT64_C(1) << 42, &value, e) < 0)
        return err_prefix(e, "<memory> of the domain XML: ");
    for (size_t i = 0; i < ARRAY_LEN(units); i++) {
        if (!unit || strcmp(unit, units[i].unit) == 0) {
            *kib = value * units[i].numerator / units[i].denominator;
            return 0;
        }
    }
    return err_set(e, ERR_PARSE, "<memory> of the domain XML has the unknown unit \"%.16s\"", unit);
}

static int read_vcpus(const xmlNode *root, int *vcpus, struct err *e)
{
    _cleanup_(str_freep) char *text = xml_find_content(root, "vcpu");
    _cleanup_(str_freep) char *current = xml_find_attr(root, "vcpu", "current");
    int64_t value = 1;

    if (text && text_to_int64(current ? current : text, 1, 65536, &value, e) < 0)
        return err_prefix(e, "<vcpu> of the domain XML: ");
    *vcpus = (int)value;
    return 0;
}

static void read_backing(const xmlNode *element, struct virt_disk *disk)
{
    const xmlNode *store = xml_child(element, "backingStore");
    const xmlNode *source = xml_child(store, "source");

    if (!source)
        return;
    disk->backing_file = xml_attr(source, "file");
    if (!disk->backing_file)
        disk->backing_file = xml_attr(source, "dev");
    if (!disk->backing_file) /* a network image: named, so that nobody takes it for "none" */
        disk->backing_file = xml_attr(source, "name");
    disk->backing_format = xml_find_attr(store, "format", "type");
    disk->deep_chain = xml_find(store, "backingStore/source") != NULL;
}

static bool looks_like_volume(const xmlNode *element, const struct virt_disk *disk)
{
    _cleanup_(str_freep) char *alias = xml_find_attr(element, "alias", "name");

    if (text_equal(disk->kind, "network") || text_equal(disk->kind, "vhostuser"))
        return true;
    return (alias && text_starts_with(alias, "ua-")) ||
           (disk->serial && text_check_uuid(disk->serial, "serial", NULL) == 0);
}

static void read_disk(const xmlNode *element, struct virt_disk *disk)
{
    const xmlNode *source = xml_child(element, "source");

    disk->target = xml_find_attr(element, "target", "dev");
    disk->bus = xml_find_attr(element, "target", "bus");
    disk->kind = xml_attr(element, "type");
    disk->device = xml_attr(element, "device");
    if (!disk->device)
        disk->device = text_dup("disk");
    disk->path = xml_attr(source, text_equal(disk->kind, "block") ? "dev" : "file");
    disk->format = xml_find_attr(element, "driver", "type");
    if (!disk->format) /* libvirt's own reading of a disk without a type */
        disk->format = text_dup("raw");
    disk->serial = xml_find_content(element, "serial");
    disk->read_only = xml_child(element, "readonly") != NULL;
    disk->shareable = xml_child(element, "shareable") != NULL;
    read_backing(element, disk);
    disk->is_volume = looks_like_volume(element, disk);
    disk->virtual_size = disk->allocated = disk->backing_size = -1;
}

static void read_mtu(const xmlNode *element, struct virt_interface *interface)
{
    _cleanup_(str_freep) char *text = xml_find_attr(element, "mtu", "size");
    int64_t value = 0;

    if (text && text_to_int64(text, 1, 65535, &value, NULL) == 0)
        interface->mtu = (int)value;
}

static void read_interface(const xmlNode *element, struct virt_interface *interface)
{
    interface->mac = xml_find_attr(element, "mac", "address");
    interface->type = xml_attr(element, "type");
    interface->bridge = xml_find_attr(element, "source", "bridge");
    interface->target = xml_find_attr(element, "target", "dev");
    interface->model = xml_find_attr(element, "model", "type");
    interface->virtualport = xml_find_attr(element, "virtualport", "type");
    interface->interface_id = xml_find_attr(element, "virtualport/parameters", "interfaceid");
    interface->target_unmanaged = xml_attr_is(xml_child(element, "target"), "managed", "no");
    read_mtu(element, interface);
}

static size_t count_children(const xmlNode *parent, const char *name)
{
    size_t n = 0;

    for (const xmlNode *child = xml_child(parent, name); child; child = xml_next(child, name))
        n++;
    return n;
}

static int read_disks(const xmlNode *devices, struct virt_guest *guest, struct err *e)
{
    size_t count = count_children(devices, "disk");

    if (count > VIRT_DISKS_MAX)
        return err_set(e, ERR_INVALID, "the domain XML has %zu disks, allowed are %d", count,
                       VIRT_DISKS_MAX);
    guest->disks = NEW_ARRAY(struct virt_disk, count + 1);
    for (const xmlNode *d = xml_child(devices, "disk"); d; d = xml_next(d, "disk"))
        read_disk(d, &guest->disks[guest->disk_count++]);
    return 0;
}

static int read_interfaces(const xmlNode *devices, struct virt_guest *guest, struct err *e)
{
    size_t count = count_children(devices, "interface");

    if (count > VIRT_INTERFACES_MAX)
        return err_set(e, ERR_INVALID, "the domain XML has %zu interfaces, allowed are %d", count,
                       VIRT_INTERFACES_MAX);
    guest->interfaces = NEW_ARRAY(struct virt_interface, count + 1);
    for (const xmlNode *i = xml_child(devices, "interface"); i; i = xml_next(i, "interface"))
        read_interface(i, &guest->interfaces[guest->interface_count++]);
    return 0;
}

static bool any_with_type(const xmlNode *devices, const char *name, const char *type)
{
    for (const xmlNode *n = xml_child(devices, name); n; n = xml_next(n, name))
        if (xml_attr_is(n, "type", type))
            return true;
    return false;
}

static void read_serial_ports(const xmlNode *devices, struct virt_guest *guest)
{
    for (const xmlNode *s = xml_child(devices, "serial"); s; s = xml_next(s, "serial"))
        guest->tcp_serial_ports += xml_attr_is(s, "type", "tcp");
}

static void read_attachments(const xmlNode *devices, struct virt_guest *guest)
{
    guest->has_mdev = any_with_type(devices, "hostdev", "mdev");
    guest->has_pci_device =
        any_with_type(devices, "hostdev", "pci") || any_with_type(devices, "interface", "hostdev");
    guest->has_vtpm = xml_child(devices, "tpm") != NULL;
    guest->has_vnc = any_with_type(devices, "graphics", "vnc");
    guest->has_spice = any_with_type(devices, "graphics", "spice");
    read_serial_ports(devices, guest);
}

static int read_cpu(xmlDoc *doc, const xmlNode *root, struct virt_guest *guest, struct err *e)
{
    xmlNode *cpu = xml_child(root, "cpu");

    if (!cpu)
        return 0;
    guest->cpu_xml = xml_text_of(doc, cpu);
    if (!guest->cpu_xml || strlen(guest->cpu_xml) > GUEST_CPU_XML_MAX)
        return err_set(e, ERR_INVALID,
                       "<cpu> of the domain XML is larger than the %d bytes allowed",
                       GUEST_CPU_XML_MAX);
    return 0;
}

static int read_root(xmlDoc *doc, struct virt_guest *guest, struct err *e)
{
    const xmlNode *root = xmlDocGetRootElement(doc);
    const xmlNode *devices = xml_child(root, "devices");

    guest->uuid = xml_find_content(root, "uuid");
    guest->name = xml_find_content(root, "name");
    guest->title = xml_find_content(root, "title");
    guest->domain_type = xml_attr(root, "type");
    guest->arch = xml_find_attr(root, "os/type", "arch");
    guest->machine = xml_find_attr(root, "os/type", "machine");
    guest->firmware = xml_find_content(root, "os/loader");
    guest->kernel = xml_find_content(root, "os/kernel");
    guest->initrd = xml_find_content(root, "os/initrd");
    guest->emulator = xml_find_content(devices, "emulator");
    read_attachments(devices, guest);
    if (read_memory(root, &guest->memory_kib, e) < 0 || read_vcpus(root, &guest->vcpus, e) < 0 ||
        read_cpu(doc, root, guest, e) < 0 || read_disks(devices, guest, e) < 0)
        return -1;
    return read_interfaces(devices, guest, e);
}

int virt_guest_from_xml(const char *xml, struct virt_guest **out, struct err *e)
{
    _cleanup_(xml_doc_freep) xmlDoc *doc = NULL;
    _cleanup_(virt_guest_freep) struct virt_guest *guest = NEW(struct virt_guest);

    if (xml_parse(xml, "domain XML", "domain", &doc, e) < 0)
        return -1;
    if (read_root(doc, guest, e) < 0 || virt_guest_check(guest, e) < 0)
        return -1;
    *out = STEAL(guest);
    return 0;
}

/* --- the rest --------------------------------------------------------------------------------- */

static bool is_copied(const struct virt_disk *disk)
{
    return disk->target && disk->path && !disk->is_volume && !disk->read_only && !disk->shareable &&
           !text_equal(disk->device, "cdrom") &&
           (text_equal(disk->kind, "file") || text_equal(disk->kind, "block"));
}

char **virt_guest_disks_to_copy(const struct virt_guest *guest)
{
    char **targets = NEW_ARRAY(char *, guest->disk_count + 1);
    size_t n = 0;

    for (size_t i = 0; i < guest->disk_count; i++)
        if (is_copied(&guest->disks[i]))
            targets[n++] = text_dup(guest->disks[i].target);
    return targets;
}
