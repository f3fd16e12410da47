/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The proof of a rewrite. Source and result are parsed afresh and from both is taken away what the
 * destination was allowed to change, no more; what is left must be the same. This does not trust the
 * rewriting code: it knows nothing of how a part was changed, only where changes are allowed.
 */
#include "virt/domain_xml_internal.h"

#include <string.h>

#include "lib/text.h"

static void drop_attr(xmlNode *node, const char *name)
{
    if (node)
        xml_set_attr(node, name, NULL);
}

static void mask_graphics(const xmlNode *devices, const char *type)
{
    for (xmlNode *g = xml_child(devices, "graphics"); g; g = xml_next(g, "graphics")) {
        if (!xml_attr_is(g, "type", type))
            continue;
        drop_attr(g, "listen");
        for (xmlNode *l = xml_child(g, "listen"); l; l = xml_next(l, "listen"))
            drop_attr(l, "address");
    }
}

static void mask_serial(const xmlNode *devices, const char *name)
{
    for (xmlNode *d = xml_child(devices, name); d; d = xml_next(d, name)) {
        if (!xml_attr_is(d, "type", "tcp"))
            continue;
        drop_attr(xml_child(d, "source"), "host");
        drop_attr(xml_child(d, "source"), "service");
    }
}

static void mask_volume(xmlNode *disk, const struct virt_volume *volume)
{
    xmlNode *driver = xml_child(disk, "driver");

    drop_attr(disk, "type");
    xml_remove_children(disk, "source");
    xml_remove_children(disk, "auth");
    xml_remove_children(disk, "backingStore");
    if (volume->format && driver) {
        drop_attr(driver, "type");
        drop_attr(driver, "name");
        if (!driver->properties && xml_is_empty(driver))
            xml_remove(driver);
    }
    if (volume->boot_order)
        xml_remove_children(disk, "boot");
}

/* A path may only become what the list says: both sides are brought to the destination's. */
static void map_path(xmlNode *node, const char *name, const struct virt_destination *to)
{
    _cleanup_(str_freep) char *path =
        node ? (name ? xml_attr(node, name) : xml_content(node)) : NULL;

    for (size_t i = 0; path && i < to->disk_path_count; i++) {
        if (strcmp(to->disk_paths[i].from, path) != 0)
            continue;
        if (name)
            xml_set_attr(node, name, to->disk_paths[i].to);
        else
            xml_set_content(node, to->disk_paths[i].to);
        return;
    }
}

static void map_device(const xmlNode *device, const struct virt_destination *to)
{
    static const char *const attributes[] = {"file", "dev", "path"};

    for (size_t i = 0; i < ARRAY_LEN(attributes); i++)
        map_path(xml_child(device, "source"), attributes[i], to);
    map_path(xml_child(device, "log"), "file", to);
}

static void mask_disks(const xmlNode *devices, const struct virt_destination *to, bool is_source)
{
    for (xmlNode *disk = xml_child(devices, "disk"); disk; disk = xml_next(disk, "disk")) {
        const struct virt_volume *volume = domain_xml_volume(to, disk);

        if (volume)
            mask_volume(disk, volume);
        for (const xmlNode *n = disk; is_source && !volume && n; n = xml_child(n, "backingStore"))
            map_device(n, to);
    }
}

static void mask_paths(xmlNode *root, const struct virt_destination *to)
{
    const xmlNode *devices = xml_child(root, "devices");

    map_path(xml_find(root, "os/kernel"), NULL, to);
    map_path(xml_find(root, "os/initrd"), NULL, to);
    for (xmlNode *s = xml_child(devices, "serial"); s; s = xml_next(s, "serial"))
        map_device(s, to);
    for (xmlNode *c = xml_child(devices, "console"); c; c = xml_next(c, "console"))
        map_device(c, to);
}

static void mask_memory(xmlNode *root, const struct virt_destination *to)
{
    static const char *const names[] = {"access", "source", "allocation", "discard"};
    xmlNode *backing = xml_child(root, "memoryBacking");

    if (!backing ||
        (!to->file_backed_memory && xml_attr_is(xml_child(backing, "source"), "type", "memfd")))
        return;
    for (size_t i = 0; i < ARRAY_LEN(names); i++)
        xml_remove_children(backing, names[i]);
    if (xml_is_empty(backing))
        xml_remove(backing);
}

static void mask_cputune(xmlNode *root)
{
    xmlNode *cputune = xml_child(root, "cputune");

    if (!cputune)
        return;
    xml_remove_children(cputune, "shares");
    if (xml_is_empty(cputune))
        xml_remove(cputune);
}

static void mask_interfaces(const xmlNode *devices)
{
    static const char *const names[] = {"source", "virtualport", "script"};

    for (xmlNode *i = xml_child(devices, "interface"); i; i = xml_next(i, "interface")) {
        xmlNode *target = xml_child(i, "target");

        drop_attr(i, "type");
        for (size_t k = 0; k < ARRAY_LEN(names); k++)
            xml_remove_children(i, names[k]);
        drop_attr(target, "dev");
        drop_attr(target, "managed");
        if (target && !target->properties && xml_is_empty(target))
            xml_remove(target);
    }
}

static void mask(xmlNode *root, const struct virt_destination *to, bool is_source)
{
    const xmlNode *devices = xml_child(root, "devices");

    if (to->vnc_address)
        mask_graphics(devices, "vnc");
    if (to->spice_address)
        mask_graphics(devices, "spice");
    if (to->serial_address_set) {
        mask_serial(devices, "serial");
        mask_serial(devices, "console");
    }
    mask_disks(devices, to, is_source);
    if (is_source)
        mask_paths(root, to);
    if (to->perf_events_set)
        xml_remove_children(root, "perf");
    mask_memory(root, to);
    if (!to->keep_cpu_shares)
        mask_cputune(root);
    if (to->interfaces_set)
        mask_interfaces(devices);
    if (to->cpuset_set)
        drop_attr(xml_child(root, "vcpu"), "cpuset");
}

int domain_xml_check_changes(const char *source, const char *result,
                             const struct virt_destination *to, struct err *e)
{
    _cleanup_(xml_doc_freep) xmlDoc *before = NULL;
    _cleanup_(xml_doc_freep) xmlDoc *after = NULL;
    _cleanup_(str_freep) char *place = NULL;

    if (xml_parse(source, "domain XML", "domain", &before, e) < 0)
        return -1;
    if (xml_parse(result, "domain XML for the destination", "domain", &after, e) < 0)
        return -1;
    mask(xmlDocGetRootElement(before), to, true);
    mask(xmlDocGetRootElement(after), to, false);
    place = xml_difference(xmlDocGetRootElement(before), xmlDocGetRootElement(after));
    if (place)
        return err_set(e, ERR_INTERNAL,
                       "the domain XML for the destination differs at %s, which must not change",
                       place);
    return 0;
}
