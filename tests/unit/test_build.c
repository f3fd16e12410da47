/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Domain XML of new guests. Golden files: tests/data/build/<case>.xml; with COMPUTED_UPDATE_GOLDEN set in the
 * environment they are written anew, to be read in review. Our version is VERSION in them. They are
 * checked against libvirt's schema where that is installed.
 */
#include <config.h>

#include "tests/unit/unit.h"

#include <libxml/relaxng.h>

#include "lib/text.h"
#include "virt/build.h"
#include "virt/build_internal.h"
#include "virt/guest.h"
#include "virt/xml.h"

#define UUID     "5dbd3dc3-8a3a-43b5-a17f-8e2bde3e7f30"
#define PORT     "3f2a1b0c-12d4-4c55-9a57-0d2f1c3b4a5e"
#define SCHEMA   "/usr/share/libvirt/schemas/domain.rng"
#define INSTANCE "/var/lib/nova/instances/" UUID "/"
#define METADATA                                                                                   \
    "<nova:instance xmlns:nova=\"http://openstack.org/xmlns/libvirt/nova/1.1\">"                   \
    "<nova:name>a &lt;b&gt;</nova:name></nova:instance>"

static const struct virt_build_disk simple_disks[] = {
    {.path = INSTANCE "disk",
     .format = "qcow2",
     .target = "vda",
     .bus = "virtio",
     .cache = "none",
     .boot_order = 1},
    {.path = INSTANCE "disk.config",
     .format = "raw",
     .target = "hda",
     .bus = "ide",
     .device = "cdrom",
     .read_only = true},
};
static const struct virt_build_interface simple_ports[] = {
    {.mac = "fa:16:3e:1a:2b:3c",
     .model = "virtio",
     .driver = "qemu",
     .tap = "tap3f2a1b0c-12",
     .bridge = "brq8e4b2c6f-0d",
     .mtu = 1450},
};

static struct virt_build simple(void)
{
    return (struct virt_build){
        .uuid = UUID,
        .name = "instance-0000002a",
        .metadata_xml = METADATA,
        .virt_type = "qemu",
        .arch = "x86_64",
        .machine = "pc",
        .memory_mb = 128,
        .vcpus = 1,
        .cpu_mode = "none",
        .acpi = true,
        .disks = simple_disks,
        .disk_count = ARRAY_LEN(simple_disks),
        .interfaces = simple_ports,
        .interface_count = ARRAY_LEN(simple_ports),
        .console_log = INSTANCE "console.log",
        .vnc_listen = "0.0.0.0",
        .pointer = "usbtablet",
        .rng = true,
        .rng_path = "/dev/urandom",
        .balloon_period_s = 10,
    };
}

static const struct virt_build_disk rich_disks[] = {
    {.path = INSTANCE "disk",
     .format = "raw",
     .target = "sda",
     .bus = "scsi",
     .cache = "writeback",
     .io = "threads",
     .discard = "unmap",
     .serial = "root disk",
     .boot_order = 2,
     .total_bytes_sec = 1048576,
     .read_iops_sec = 100},
    {.path = INSTANCE "disk.eph0", .format = "raw", .target = "sdb", .bus = "scsi"},
    {.path = INSTANCE "disk.iso",
     .format = "raw",
     .target = "sdc",
     .bus = "sata",
     .device = "cdrom",
     .boot_order = 1,
     .read_only = true},
};
static const struct virt_build_interface rich_ports[] = {
    {.mac = "fa:16:3e:1a:2b:3c",
     .model = "virtio",
     .tap = "tap3f2a1b0c-12",
     .bridge = "br-int",
     .openvswitch = true,
     .interface_id = PORT,
     .mtu = 9000,
     .queues = 4,
     .rx_queue_size = 512,
     .packed = true,
     .inbound_average = 1000,
     .inbound_peak = 2000,
     .inbound_burst = 3000,
     .outbound_average = 500},
    {.mac = "fa:16:3e:1a:2b:3d",
     .model = "e1000",
     .tap = "tap00000000-01",
     .ethernet = true,
     .unmanaged = true},
};

static struct virt_build rich(void)
{
    static const char *const models[] = {"Nehalem", "Westmere", NULL};
    static const char *const flags[] = {"+pcid", "-vmx", "ssbd", NULL};
    static const int ports[] = {10000, 10001};
    return (struct virt_build){
        .uuid = UUID,
        .name = "instance-0000002b",
        .title = "a <b> & c",
        .virt_type = "kvm",
        .arch = "x86_64",
        .machine = "q35",
        .emulator = "/usr/bin/qemu-system-x86_64",
        .memory_mb = 2048,
        .vcpus = 8,
        .sockets = 2,
        .cores = 2,
        .threads = 2,
        .cpu_mode = "custom",
        .cpu_models = models,
        .cpu_flags = flags,
        .cpuset = "0-3,6",
        .cpu_shares = 2048,
        .cpu_period = 10000,
        .cpu_quota = 20000,
        .memory_locked = true,
        .firmware = "uefi",
        .os_type = "windows",
        .acpi = true,
        .hide_hypervisor = true,
        .boot_menu = true,
        .pmu = -1,
        .disks = rich_disks,
        .disk_count = ARRAY_LEN(rich_disks),
        .interfaces = rich_ports,
        .interface_count = ARRAY_LEN(rich_ports),
        .console_log = INSTANCE "console.log",
        .serial_tcp = true,
        .serial_host = "127.0.0.1",
        .serial_ports = ports,
        .serial_port_count = 2,
        .vnc_listen = "::1",
        .spice_listen = "198.51.100.11",
        .spice_agent = true,
        .keymap = "de",
        .video = "qxl",
        .video_ram_mb = 64,
        .input_bus = "virtio",
        .rng = true,
        .rng_bytes = 1024,
        .rng_period_ms = 1000,
        .watchdog = "reset",
        .guest_agent = true,
        .scsi_model = "virtio-scsi",
        .pcie_ports = 3,
        .system_serial = "4711",
    };
}

static struct virt_build direct_boot(void)
{
    struct virt_build build = simple();
    build.kernel = INSTANCE "kernel";
    build.initrd = INSTANCE "ramdisk";
    build.command_line = "root=/dev/vda console=tty0 console=ttyS0 no_timer_check";
    build.vnc_listen = NULL;
    build.watchdog = "disabled";
    return build;
}

/* --- golden files ----------------------------------------------------------------------------- */

static char *without_version(const char *xml)
{
    static const char entry[] = "<entry name=\"version\">";
    const char *at = strstr(xml, entry);
    if (!at)
        return text_dup(xml);
    at += strlen(entry);
    return text_format("%.*sVERSION%s\n", (int)(at - xml), xml, at + strlen(PACKAGE_VERSION));
}

static void ignore(void *aux _unused_, const char *format _unused_, ...)
{
}

static void check_schema(const char *name, const char *xml)
{
    if (access(SCHEMA, R_OK) != 0)
        return;
    xmlRelaxNGParserCtxtPtr parser = xmlRelaxNGNewParserCtxt(SCHEMA);
    xmlRelaxNGSetParserErrors(parser, ignore, ignore, NULL);
    xmlRelaxNGPtr schema = xmlRelaxNGParse(parser);
    xmlRelaxNGFreeParserCtxt(parser);
    _cleanup_(xml_doc_freep) xmlDoc *doc = NULL;
    if (UNIT_TRUE(schema) && UNIT_OK(xml_parse(xml, name, "domain", &doc, &unit_err))) {
        xmlRelaxNGValidCtxtPtr validator = xmlRelaxNGNewValidCtxt(schema);
        UNIT_EQ(xmlRelaxNGValidateDoc(validator, doc), 0);
        xmlRelaxNGFreeValidCtxt(validator);
    }
    xmlRelaxNGFree(schema);
}

static void check_golden(const char *name, const struct virt_build *build)
{
    _cleanup_(str_freep) char *relative = text_format("tests/data/build/%s.xml", name);
    _cleanup_(str_freep) char *path = unit_source_path(relative);
    _cleanup_(str_freep) char *xml = NULL;
    if (!UNIT_OK(virt_build_xml(build, &xml, &unit_err)))
        return;
    _cleanup_(str_freep) char *text = without_version(xml);
    if (getenv("COMPUTED_UPDATE_GOLDEN"))
        unit_write_file(path, text);
    _cleanup_(str_freep) char *expected = unit_read_file(path, NULL);
    UNIT_STR(text, expected);
    check_schema(name, xml);
}

UNIT_TEST(golden_simple, "a small QEMU guest on a Linux bridge has Nova's layout")
{
    struct virt_build build = simple();
    check_golden("simple", &build);
}

UNIT_TEST(golden_rich, "a guest with everything that can be asked for has Nova's layout")
{
    struct virt_build build = rich();
    check_golden("rich", &build);
}

UNIT_TEST(golden_direct, "a guest with a kernel of its own has no boot order and no screen")
{
    struct virt_build build = direct_boot();
    check_golden("direct-boot", &build);
}

UNIT_TEST(golden_interface, "the XML of one port is that of the same port in a guest")
{
    _cleanup_(str_freep) char *xml = NULL, *whole = NULL;
    _cleanup_(xml_doc_freep) xmlDoc *one = NULL, *all = NULL;
    struct virt_build build = rich();
    UNIT_OK(virt_build_interface_xml(&rich_ports[1], &xml, &unit_err));
    UNIT_OK(virt_build_xml(&build, &whole, &unit_err));
    if (!UNIT_OK(xml_parse(xml, "port", "interface", &one, &unit_err)) ||
        !UNIT_OK(xml_parse(whole, "guest", "domain", &all, &unit_err)))
        return;
    const xmlNode *first = xml_find(xmlDocGetRootElement(all), "devices/interface");
    _cleanup_(str_freep) char *difference =
        xml_difference(xmlDocGetRootElement(one), xml_next(first, "interface"));
    UNIT_STR(difference, NULL);
}

/* --- and back --------------------------------------------------------------------------------- */

UNIT_TEST(round_trip, "what was built is read back as the same guest")
{
    _cleanup_(virt_guest_freep) struct virt_guest *guest = NULL;
    _cleanup_(str_freep) char *xml = NULL;
    struct virt_build build = rich();
    build.metadata_xml = METADATA;
    UNIT_OK(virt_build_xml(&build, &xml, &unit_err));
    if (!UNIT_OK(virt_guest_from_xml(xml, &guest, &unit_err)))
        return;
    UNIT_STR(guest->uuid, build.uuid);
    UNIT_STR(guest->name, build.name);
    UNIT_STR(guest->title, build.title);
    UNIT_STR(guest->machine, "q35");
    UNIT_STR(guest->domain_type, "kvm");
    UNIT_STR(guest->emulator, build.emulator);
    UNIT_EQ(guest->memory_kib, 2048 * 1024);
    UNIT_EQ(guest->vcpus, 8);
    UNIT_EQ(guest->tcp_serial_ports, 2);
    UNIT_TRUE(guest->has_vnc && guest->has_spice && !guest->has_vtpm && !guest->has_pci_device);
    UNIT_HAS(guest->cpu_xml, "Nehalem");
    UNIT_EQ(guest->disk_count, 3);
    UNIT_STR(guest->disks[0].path, rich_disks[0].path);
    UNIT_STR(guest->disks[0].serial, "root disk");
    UNIT_STR(guest->disks[2].device, "cdrom");
    UNIT_TRUE(guest->disks[2].read_only && !guest->disks[0].is_volume);
    UNIT_EQ(guest->interface_count, 2);
    UNIT_STR(guest->interfaces[0].virtualport, "openvswitch");
    UNIT_STR(guest->interfaces[0].interface_id, PORT);
    UNIT_EQ(guest->interfaces[0].mtu, 9000);
    UNIT_STR(guest->interfaces[1].type, "ethernet");
    UNIT_TRUE(guest->interfaces[1].target_unmanaged);
}

UNIT_TEST(odd_title, "a title that cannot be XML is shown as far as it can, not refused")
{
    _cleanup_(str_freep) char *xml = NULL;
    struct virt_build build = simple();
    build.title = "a\nb\x01\xff \xc3\xa4";
    UNIT_OK(virt_build_xml(&build, &xml, &unit_err));
    UNIT_HAS(xml, "<title>a?b?? ä</title>");
}

/* --- refusals --------------------------------------------------------------------------------- */

static void refused(const struct virt_build *build, const char *part)
{
    char *xml = NULL;
    UNIT_FAILS(virt_build_xml(build, &xml, &unit_err), ERR_INVALID);
    UNIT_HAS(unit_err.text, part);
    UNIT_TRUE(!xml);
}

#define REFUSED(field, value, part)                                                                \
    do {                                                                                           \
        struct virt_build build_ = rich();                                                         \
        build_.field = (value);                                                                    \
        refused(&build_, part);                                                                    \
    } while (0)

UNIT_TEST(guest_values, "a value of a guest that is not allowed is refused by its name")
{
    static const char *const bad_flags[] = {"+a b", NULL};
    REFUSED(uuid, "../../etc", "uuid");
    REFUSED(name, "a/b", "name \"a/b\"");
    REFUSED(name, "", "name \"\"");
    REFUSED(virt_type, "xen", "virt_type \"xen\"");
    REFUSED(machine, "q35,accel=x", "machine type");
    REFUSED(emulator, "qemu", "emulator");
    REFUSED(memory_mb, 0, "memory in MiB 0");
    REFUSED(vcpus, 0, "number of CPUs 0");
    REFUSED(cores, 3, "2 sockets of 3 cores");
    REFUSED(cpu_mode, "best", "CPU mode \"best\"");
    REFUSED(cpu_models, NULL, "needs a CPU model");
    REFUSED(cpu_flags, bad_flags, "CPU flag \"a b\"");
    REFUSED(cpuset, "all", "CPU set");
    REFUSED(cpu_shares, 1, "quota:cpu_shares 1");
    REFUSED(firmware, "coreboot", "firmware");
    REFUSED(video, "matrox", "video model \"matrox\"");
    REFUSED(watchdog, "bark", "watchdog");
    REFUSED(scsi_model, "ncr", "SCSI model");
    REFUSED(vnc_listen, "a b", "VNC address \"a b\"");
    REFUSED(serial_port_count, 5, "not 5");
    REFUSED(rng_period_ms, 0, "hw_rng:rate_period 0");
    REFUSED(console_log, "x\x01", "console log");
    REFUSED(metadata_xml, "<instance/>", "namespace");
}

static void disk_refused(struct virt_build_disk disk, const char *part)
{
    struct virt_build build = simple();
    build.disks = &disk;
    build.disk_count = 1;
    refused(&build, part);
}

#define DISK_REFUSED(field, value, part)                                                           \
    do {                                                                                           \
        struct virt_build_disk disk_ = simple_disks[0];                                            \
        disk_.field = (value);                                                                     \
        disk_refused(disk_, part);                                                                 \
    } while (0)

UNIT_TEST(disk_values, "a value of a disk that is not allowed is refused by its name")
{
    DISK_REFUSED(path, "disk", "path \"disk\"");
    DISK_REFUSED(path, NULL, "path of the new guest is missing");
    DISK_REFUSED(format, "vmdk", "format \"vmdk\"");
    DISK_REFUSED(bus, "nvme", "bus \"nvme\"");
    DISK_REFUSED(bus, "virtio|scsi", "bus \"virtio|scsi\"");
    DISK_REFUSED(target, "sda", "target \"sda\"");
    DISK_REFUSED(target, "vd a", "target \"vd a\"");
    DISK_REFUSED(cache, "fast", "cache mode \"fast\"");
    DISK_REFUSED(discard, "on", "discard mode \"on\"");
    DISK_REFUSED(serial, "a&b", "serial \"a&b\"");
    DISK_REFUSED(read_bytes_sec, -1, "disk_read_bytes_sec -1");
    struct virt_build_disk disk = simple_disks[0];
    disk.total_iops_sec = disk.read_iops_sec = 5;
    disk_refused(disk, "excludes");
    const struct virt_build_disk twice[] = {simple_disks[0], simple_disks[0]};
    struct virt_build build = simple();
    build.disks = twice;
    refused(&build, "two disks");
}

#define PORT_REFUSED(field, value, part)                                                           \
    do {                                                                                           \
        struct virt_build_interface port_ = rich_ports[0];                                         \
        char *xml_ = NULL;                                                                         \
        port_.field = (value);                                                                     \
        UNIT_FAILS(virt_build_interface_xml(&port_, &xml_, &unit_err), ERR_INVALID);               \
        UNIT_HAS(unit_err.text, part);                                                             \
    } while (0)

UNIT_TEST(port_values, "a value of a port that is not allowed is refused by its name")
{
    PORT_REFUSED(mac, NULL, "MAC address");
    PORT_REFUSED(mac, "01:00:5e:00:00:01", "MAC address");
    PORT_REFUSED(tap, "tap'/><x a='", "tap name");
    PORT_REFUSED(bridge, NULL, "no bridge");
    PORT_REFUSED(model, "tulip", "model \"tulip\"");
    PORT_REFUSED(mtu, 10, "MTU 10");
    PORT_REFUSED(queues, 1000, "queues 1000");
    PORT_REFUSED(interface_id, "x", "interface id");
    PORT_REFUSED(driver, "user", "driver \"user\"");
}
