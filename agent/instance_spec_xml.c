/* SPDX-License-Identifier: Apache-2.0 */
/* An instance's domain XML, out of its spec and its disks. */
#include "agent/instance_spec.h"

#include <stdio.h>
#include <netdb.h>
#include <string.h>
#include <sys/socket.h>

#include "agent/instance_spec_internal.h"

/* ---- serial ports ---- */

static int open_listener(const struct addrinfo *address)
{
    int fd = socket(address->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);

    if (fd >= 0 && bind(fd, address->ai_addr, address->ai_addrlen) < 0) {
        (void)close(fd);
        fd = -1;
    }
    return fd;
}

static int read_range(const struct conf *conf, int *first, int *last, struct err *e)
{
    const char *range = conf_string(conf, CONF_serial_console_port_range);
    char **parts = text_split(range, ':');
    int64_t from, to;
    int result = 0;

    if (text_vector_length(parts) != 2 || text_to_int64(parts[0], 1, 65535, &from, NULL) < 0 ||
        text_to_int64(parts[1], 1, 65535, &to, NULL) < 0 || from > to) {
        result =
            err_set(e, ERR_CONFIG, "[serial_console] port_range \"%s\" is not first:last", range);
    } else {
        *first = (int)from;
        *last = (int)to;
    }
    text_vector_free(parts);
    return result;
}

/* The sockets stay open until all are found, so that none is found twice. QEMU opens them anew. */
static int find_ports(const struct conf *conf, const char *host, int *ports, size_t count,
                      struct err *e)
{
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE}, *address = NULL;
    int fds[8], first = 0, last = 0;
    size_t found = 0;

    if (count > ARRAY_LEN(fds))
        return err_set(e, ERR_INVALID, "%zu serial ports are wanted; at most %zu are possible",
                       count, ARRAY_LEN(fds));
    if (read_range(conf, &first, &last, e) < 0)
        return -1;
    for (int port = first; port <= last && found < count; port++) {
        char text[8];
        snprintf(text, sizeof(text), "%d", port);
        if (getaddrinfo(host, text, &hints, &address) != 0)
            break;
        fds[found] = open_listener(address);
        freeaddrinfo(address);
        if (fds[found] >= 0)
            ports[found++] = port;
    }
    for (size_t i = 0; i < found; i++)
        (void)close(fds[i]);
    if (found < count)
        return err_set(e, ERR_NO_SPACE, "no free TCP port of %d to %d on %s for a serial console",
                       first, last, host);
    return 0;
}

/* ---- disks ---- */

static struct virt_build_disk *make_disks(const struct instance_spec *spec,
                                          const struct instance_disks *disks)
{
    struct virt_build_disk *rows = NEW_ARRAY(struct virt_build_disk, disks->count + 1);

    for (size_t i = 0; i < disks->count; i++) {
        const struct instance_disk *disk = &disks->items[i];
        bool cdrom = text_equal(disk->device, "cdrom");
        struct virt_build_disk row = {.cache = spec->options->disk.cache};
        if (!cdrom)
            row = spec->options->disk;
        row.path = disk->path;
        row.format = disk->format;
        row.target = disk->target;
        row.bus = disk->bus;
        row.device = disk->device;
        row.read_only = cdrom;
        row.boot_order = i == 0 ? 1 : 0; /* the root disk is the first */
        rows[i] = row;
    }
    return rows;
}

/* ---- interfaces ---- */

/*
 * As migrations write them (source_start.c): an Open vSwitch port that os-vif makes is plain ethernet, one
 * that libvirt plugs has a virtualport.
 */
static struct virt_build_interface interface_of(const struct instance_spec *spec,
                                                const struct vif *vif)
{
    struct virt_build_interface row = spec->options->interface;

    row.mac = vif->mac;
    row.tap = vif->devname;
    row.mtu = vif->mtu;
    if (text_equal(vif->type, "ovs") && (vif->delegate_create || vif->ovs_create_tap)) {
        row.ethernet = true;
        row.unmanaged = vif->ovs_create_tap;
        return row;
    }
    row.bridge = vif->bridge;
    if (text_equal(vif->type, "ovs")) {
        row.openvswitch = true;
        row.interface_id = vif->ovs_interface_id ? vif->ovs_interface_id : vif->port_id;
    }
    return row;
}

static struct virt_build_interface *make_interfaces(const struct instance_spec *spec)
{
    struct virt_build_interface *rows =
        NEW_ARRAY(struct virt_build_interface, spec->vifs.count + 1);

    for (size_t i = 0; i < spec->vifs.count; i++)
        rows[i] = interface_of(spec, spec->vifs.items[i]);
    return rows;
}

int instance_spec_interface_xml(const struct instance_spec *spec, size_t index, char **xml,
                                struct err *e)
{
    if (index >= spec->vifs.count)
        return err_set(e, ERR_INVALID, "instance %s has %zu ports, there is none at place %zu",
                       spec->uuid, spec->vifs.count, index);
    struct virt_build_interface interface = interface_of(spec, spec->vifs.items[index]);
    return virt_build_interface_xml(&interface, xml, e);
}

/* ---- all of it ---- */

int instance_spec_xml(struct instance_spec *spec, const struct instance_disks *disks, char **xml,
                      struct err *e)
{
    struct virt_build build = spec->options->build;
    int ports[8];

    if (build.serial_tcp) {
        if (find_ports(spec->conf, build.serial_host, ports, build.serial_port_count, e) < 0)
            return -1;
        build.serial_ports = ports;
    }
    _cleanup_(mem_freep) struct virt_build_disk *rows = make_disks(spec, disks);
    _cleanup_(mem_freep) struct virt_build_interface *interfaces = make_interfaces(spec);
    build.uuid = spec->uuid;
    build.name = spec->name;
    build.title = spec->title;
    build.metadata_xml = spec->metadata_xml;
    build.kernel = disks->kernel;
    build.initrd = disks->ramdisk;
    build.disks = rows;
    build.disk_count = disks->count;
    build.interfaces = interfaces;
    build.interface_count = spec->vifs.count;
    build.console_log = disks->console_log;
    return virt_build_xml(&build, xml, e);
}
