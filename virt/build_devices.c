/* SPDX-License-Identifier: Apache-2.0 */
/* <devices> of a new guest, in the order in which Nova adds them. */
#include <string.h>

#include "lib/text.h"
#include "virt/build_internal.h"
#include "virt/xml.h"

/* --- disks ------------------------------------------------------------------------------------ */

static void add_iotune(xmlNode *element, const struct virt_build_disk *disk)
{
    const struct {
        const char *name;
        int64_t value;
    } rows[] = {
        {"read_bytes_sec", disk->read_bytes_sec},   {"read_iops_sec", disk->read_iops_sec},
        {"write_bytes_sec", disk->write_bytes_sec}, {"write_iops_sec", disk->write_iops_sec},
        {"total_bytes_sec", disk->total_bytes_sec}, {"total_iops_sec", disk->total_iops_sec},
    };
    xmlNode *tune = NULL;
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        if (!rows[i].value)
            continue;
        if (!tune)
            tune = build_add(element, "iotune", NULL);
        build_add_number(tune, rows[i].name, rows[i].value);
    }
}

void build_disk(xmlNode *devices, const struct virt_build_disk *disk, int unit)
{
    xmlNode *element = build_add(devices, "disk", "type", disk->block ? "block" : "file", "device",
                                 disk->device ? disk->device : "disk", NULL);
    build_add(element, "driver", "name", "qemu", "type", disk->format, "cache",
              disk->cache ? disk->cache : "none", "discard", disk->discard, "io", disk->io, NULL);
    build_add(element, "source", disk->block ? "dev" : "file", disk->path, NULL);
    build_add(element, "target", "dev", disk->target, "bus", disk->bus, NULL);
    build_add_text(element, "serial", disk->serial);
    add_iotune(element, disk);
    if (disk->read_only)
        build_add(element, "readonly", NULL);
    if (unit >= 0) {
        xmlNode *address = build_add(element, "address", "type", "drive", "controller", "0", NULL);
        build_set_number(address, "unit", unit);
    }
}

/* Units are numbered by us on a virtio-scsi controller: libvirt alone would stop at 7 (LP 1792077). */
static void add_disks(xmlNode *devices, const struct virt_build *build)
{
    bool numbered = text_equal(build->scsi_model, "virtio-scsi");
    int unit = 0;
    for (size_t i = 0; i < build->disk_count; i++) {
        bool here = numbered && text_equal(build->disks[i].bus, "scsi");
        build_disk(devices, &build->disks[i], here ? unit++ : -1);
    }
    if (build->scsi_model)
        build_add(devices, "controller", "type", "scsi", "index", "0", "model", build->scsi_model,
                  NULL);
}

/* --- interfaces ------------------------------------------------------------------------------- */

static void add_driver(xmlNode *element, const struct virt_build_interface *interface)
{
    bool queues = interface->queues > 1;
    const char *name = interface->driver;
    if (!name && (queues || interface->rx_queue_size))
        name = "vhost";
    if (!name && !interface->packed)
        return;
    xmlNode *driver = build_add(element, "driver", "name", name, NULL);
    if (queues)
        build_set_number(driver, "queues", interface->queues);
    if (interface->rx_queue_size)
        build_set_number(driver, "rx_queue_size", interface->rx_queue_size);
    if (interface->packed)
        xml_set_attr(driver, "packed", "on");
}

static void add_limits(xmlNode *bandwidth, const char *name, int64_t average, int64_t peak,
                       int64_t burst)
{
    if (!average)
        return;
    xmlNode *limits = build_add(bandwidth, name, NULL);
    build_set_number(limits, "average", average);
    if (peak)
        build_set_number(limits, "peak", peak);
    if (burst)
        build_set_number(limits, "burst", burst);
}

static void add_bandwidth(xmlNode *element, const struct virt_build_interface *interface)
{
    if (!interface->inbound_average && !interface->outbound_average)
        return;
    xmlNode *bandwidth = build_add(element, "bandwidth", NULL);
    add_limits(bandwidth, "inbound", interface->inbound_average, interface->inbound_peak,
               interface->inbound_burst);
    add_limits(bandwidth, "outbound", interface->outbound_average, interface->outbound_peak,
               interface->outbound_burst);
}

void build_interface(xmlNode *parent, const struct virt_build_interface *interface)
{
    xmlNode *element =
        build_add(parent, "interface", "type", interface->ethernet ? "ethernet" : "bridge", NULL);
    build_add(element, "mac", "address", interface->mac, NULL);
    if (interface->model)
        build_add(element, "model", "type", interface->model, NULL);
    add_driver(element, interface);
    if (!interface->ethernet)
        build_add(element, "source", "bridge", interface->bridge, NULL);
    if (interface->mtu)
        build_set_number(build_add(element, "mtu", NULL), "size", interface->mtu);
    if (interface->tap)
        build_add(element, "target", "dev", interface->tap, "managed",
                  interface->unmanaged ? "no" : NULL, NULL);
    if (interface->openvswitch && !interface->ethernet)
        build_add(build_add(element, "virtualport", "type", "openvswitch", NULL), "parameters",
                  "interfaceid", interface->interface_id, NULL);
    add_bandwidth(element, interface);
}

/* --- consoles and what one sees and touches ----------------------------------------------------- */

static void add_log(xmlNode *serial, const char *file)
{
    if (file)
        build_add(serial, "log", "file", file, "append", "off", NULL);
}

/* The boot messages go to the first port, so that one alone has the log. */
static void add_consoles(xmlNode *devices, const struct virt_build *build)
{
    if (!build->serial_tcp) {
        add_log(build_add(devices, "serial", "type", "pty", NULL), build->console_log);
        return;
    }
    for (size_t i = 0; i < build->serial_port_count; i++) {
        xmlNode *serial = build_add(devices, "serial", "type", "tcp", NULL);
        xmlNode *source =
            build_add(serial, "source", "mode", "bind", "host", build->serial_host, NULL);
        build_set_number(source, "service", build->serial_ports[i]);
        if (i == 0)
            add_log(serial, build->console_log);
    }
}

static void add_graphics(xmlNode *devices, const char *type, const char *address,
                         const char *keymap)
{
    if (!address)
        return;
    xmlNode *graphics = build_add(devices, "graphics", "type", type, "autoport", "yes", "keymap",
                                  keymap, "listen", address, NULL);
    build_add(graphics, "listen", "type", "address", "address", address, NULL);
}

/* Nova's choice where the image says nothing (_get_video_type). */
static const char *video_model(const struct virt_build *build)
{
    if (build->video)
        return build->video;
    if (build->spice_listen && build_is_word("x86_64|i686", build->arch))
        return "qxl";
    return build_is_word("ppc|ppc64|ppc64le", build->arch) ? "vga" : "virtio";
}

static void add_video(xmlNode *devices, const struct virt_build *build)
{
    xmlNode *model =
        build_add(build_add(devices, "video", NULL), "model", "type", video_model(build), NULL);
    if (build->video_ram_mb)
        build_set_number(model, "vram", build->video_ram_mb * 1024);
}

static bool has_tablet(const struct virt_build *build)
{
    return build->input_bus || text_equal(build->pointer, "usbtablet");
}

static const char *keyboard_bus(const struct virt_build *build)
{
    if (build->input_bus)
        return build->input_bus;
    return text_equal(build->arch, "aarch64") ? "usb" : NULL; /* others have one built in */
}

static void add_screen(xmlNode *devices, const struct virt_build *build)
{
    if (!build->vnc_listen && !build->spice_listen)
        return;
    add_graphics(devices, "vnc", build->vnc_listen, build->keymap);
    add_graphics(devices, "spice", build->spice_listen, build->keymap);
    add_video(devices, build);
    if (has_tablet(build))
        build_add(devices, "input", "type", "tablet", "bus",
                  build->input_bus ? build->input_bus : "usb", NULL);
    if (keyboard_bus(build))
        build_add(devices, "input", "type", "keyboard", "bus", keyboard_bus(build), NULL);
}

static void add_spice_channel(xmlNode *devices, const struct virt_build *build)
{
    if (!build->spice_agent || !build->spice_listen)
        return;
    xmlNode *channel = build_add(devices, "channel", "type", "spicevmc", NULL);
    build_add(channel, "target", "type", "virtio", "name", "com.redhat.spice.0", NULL);
}

static void add_guest_agent(xmlNode *devices, const struct virt_build *build)
{
    if (!build->guest_agent)
        return;
    _cleanup_(str_freep) char *path =
        text_format("/var/lib/libvirt/qemu/org.qemu.guest_agent.0.%s.sock", build->name);
    xmlNode *channel = build_add(devices, "channel", "type", "unix", NULL);
    build_add(channel, "source", "mode", "bind", "path", path, NULL);
    build_add(channel, "target", "type", "virtio", "name", "org.qemu.guest_agent.0", NULL);
}

/* --- the rest ----------------------------------------------------------------------------------- */

static void add_rng(xmlNode *devices, const struct virt_build *build)
{
    if (!build->rng)
        return;
    xmlNode *rng = build_add(devices, "rng", "model", "virtio", NULL);
    if (build->rng_bytes) {
        xmlNode *rate = build_add(rng, "rate", NULL);
        build_set_number(rate, "period", build->rng_period_ms);
        build_set_number(rate, "bytes", build->rng_bytes);
    }
    xmlNode *backend =
        build_add_text(rng, "backend", build->rng_path ? build->rng_path : "/dev/urandom");
    xml_set_attr(backend, "model", "random");
}

static bool wants_pcie(const struct virt_build *build)
{
    if (!build->pcie_ports || !build->machine)
        return false;
    return text_equal(build->arch, "aarch64") ? text_starts_with(build->machine, "virt")
                                              : strstr(build->machine, "q35") != NULL;
}

static void add_pcie(xmlNode *devices, const struct virt_build *build)
{
    if (!wants_pcie(build))
        return;
    build_add(devices, "controller", "type", "pci", "model", "pcie-root", NULL);
    for (int i = 0; i < build->pcie_ports; i++)
        build_add(devices, "controller", "type", "pci", "model", "pcie-root-port", NULL);
}

static bool needs_usb(const struct virt_build *build)
{
    bool screen = build->vnc_listen || build->spice_listen;
    for (size_t i = 0; i < build->disk_count; i++)
        if (text_equal(build->disks[i].bus, "usb"))
            return true;
    if (screen && text_equal(keyboard_bus(build), "usb"))
        return true;
    return screen && has_tablet(build) &&
           (!build->input_bus || text_equal(build->input_bus, "usb"));
}

/* x86 gets one of itself, unless told not to. */
static void add_usb(xmlNode *devices, const struct virt_build *build)
{
    bool ppc = build_is_word("ppc|ppc64|ppc64le", build->arch);
    build_add(devices, "controller", "type", "usb", "index", "0", "model",
              needs_usb(build) || ppc ? NULL : "none", NULL);
}

static void add_watchdog(xmlNode *devices, const struct virt_build *build)
{
    if (build->watchdog && !text_equal(build->watchdog, "disabled"))
        build_add(devices, "watchdog", "model", "i6300esb", "action", build->watchdog, NULL);
}

static void add_balloon(xmlNode *devices, const struct virt_build *build)
{
    if (build->balloon_period_s <= 0)
        return;
    xmlNode *balloon = build_add(devices, "memballoon", "model", "virtio", NULL);
    build_set_number(build_add(balloon, "stats", NULL), "period", build->balloon_period_s);
}

void build_devices(xmlNode *devices, const struct virt_build *build)
{
    build_add_text(devices, "emulator", build->emulator);
    add_disks(devices, build);
    for (size_t i = 0; i < build->interface_count; i++)
        build_interface(devices, &build->interfaces[i]);
    add_consoles(devices, build);
    add_spice_channel(devices, build);
    add_screen(devices, build);
    add_guest_agent(devices, build);
    add_rng(devices, build);
    add_pcie(devices, build);
    add_usb(devices, build);
    add_watchdog(devices, build);
    add_balloon(devices, build);
}
