/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Domain XML for the destination. Golden files: tests/data/xml/<case>.expected.xml is what <source>.xml
 * becomes; with COMPUTED_UPDATE_GOLDEN set in the environment they are written anew, to be read in review.
 */
#include "tests/unit/unit.h"

#include <time.h>

#include "lib/text.h"
#include "virt/domain_xml.h"
#include "virt/domain_xml_internal.h"

static char *read_source(const char *name)
{
    _cleanup_(str_freep) char *relative = text_format("tests/data/xml/%s.xml", name);
    _cleanup_(str_freep) char *path = unit_source_path(relative);

    return unit_read_file(path, NULL);
}

static void check_golden(const char *source, const char *name, const struct virt_destination *to)
{
    _cleanup_(str_freep) char *relative = text_format("tests/data/xml/%s.expected.xml", name);
    _cleanup_(str_freep) char *path = unit_source_path(relative);
    _cleanup_(str_freep) char *xml = read_source(source);
    _cleanup_(str_freep) char *expected = NULL;
    _cleanup_(str_freep) char *line = NULL;
    char *out = NULL;

    if (!UNIT_TRUE(xml) || !UNIT_OK(virt_domain_xml_for_destination(xml, to, &out, &unit_err)))
        return;
    line = text_format("%s\n", out);
    free(out);
    if (getenv("COMPUTED_UPDATE_GOLDEN"))
        unit_write_file(path, line);
    expected = unit_read_file(path, NULL);
    UNIT_STR(line, expected);
}

static bool lacks(const char *text, const char *part)
{
    return text && !strstr(text, part);
}

/* Rewrites with an interface that is otherwise as the source has it. */
static int rewrite(const char *xml, const struct virt_destination *to, char **out)
{
    err_clear(&unit_err);
    return virt_domain_xml_for_destination(xml, to, out, &unit_err);
}

#define DOMAIN(inside)                                                                             \
    "<domain type='kvm'><name>x</name><uuid>6f1b7c7e-6d0b-4c5e-9a57-0d2f1c3b4a5e</uuid>"           \
    "<memory>1024</memory><vcpu>1</vcpu>" inside "</domain>"
#define NIC(inside)                                                                                \
    DOMAIN("<devices><interface type='bridge'><mac address='fa:16:3e:00:00:01'/>"                  \
           "<source bridge='br0'/><target dev='tap0'/>" inside "</interface></devices>")

static struct virt_interface bridge_port(void)
{
    return (struct virt_interface){.mac = (char *)(uintptr_t) "fa:16:3e:00:00:01",
                                   .type = (char *)(uintptr_t) "bridge",
                                   .bridge = (char *)(uintptr_t) "br1",
                                   .target = (char *)(uintptr_t) "tap1"};
}

#define S(text) ((char *)(uintptr_t)(text))

/* --- golden files ----------------------------------------------------------------------------- */

UNIT_TEST(bridge,
          "a Linux bridge guest gets the destination's bridges, taps, VNC address and no shares")
{
    const struct virt_interface ports[] = {
        {.mac = S("FA:16:3E:1A:2B:3D"),
         .type = S("bridge"),
         .bridge = S("brq8e4b2c6f-0d"),
         .target = S("tap3f2a1b0c-12"),
         .mtu = 1500},
        {.mac = S("fa:16:3e:1a:2b:3c"),
         .type = S("bridge"),
         .bridge = S("brq-other"),
         .target = S("tap3f2a1b0c-11"),
         .mtu = 9000},
    };
    const struct virt_destination to = {.vnc_address = "198.51.100.12",
                                        .interfaces_set = true,
                                        .interfaces = ports,
                                        .interface_count = 2,
                                        .cpuset_set = true,
                                        .cpuset = "0-1,5"};

    check_golden("bridge", "bridge", &to);
}

UNIT_TEST(moved, "files whose path differs on the destination are renamed wherever they are named")
{
#define FROM        "/var/lib/nova/instances"
#define TO          "/srv/nova"
#define BRIDGE_UUID "6f1b7c7e-6d0b-4c5e-9a57-0d2f1c3b4a5e"
    struct virt_destination to = {.keep_cpu_shares = true};

    to.disk_paths = calloc(4, sizeof(*to.disk_paths));
    to.disk_path_count = 4;
    to.disk_paths[0].from = FROM "/" BRIDGE_UUID "/disk";
    to.disk_paths[0].to = TO "/" BRIDGE_UUID "/disk";
    to.disk_paths[1].from = FROM "/_base/a892a4710316eb95555f6ca88860c82372c22f03";
    to.disk_paths[1].to = TO "/_base/a892a4710316eb95555f6ca88860c82372c22f03";
    to.disk_paths[2].from = FROM "/" BRIDGE_UUID "/disk.config";
    to.disk_paths[2].to = TO "/" BRIDGE_UUID "/disk.config";
    to.disk_paths[3].from = FROM "/" BRIDGE_UUID "/console.log";
    to.disk_paths[3].to = TO "/" BRIDGE_UUID "/console.log";
    check_golden("bridge", "bridge-moved", &to);
    free(to.disk_paths);
}

UNIT_TEST(ovs, "an Open vSwitch guest keeps queues and MTU and gets the port id of the destination")
{
    const struct virt_interface ports[] = {
        {.mac = S("fa:16:3e:44:55:66"),
         .type = S("bridge"),
         .bridge = S("br-int"),
         .target = S("tap9c8b7a6d-5e"),
         .virtualport = S("openvswitch"),
         .interface_id = S("9c8b7a6d-5e4f-4a3b-8c2d-1e0f9a8b7c6d"),
         .mtu = 1442}};
    const struct virt_destination to = {.vnc_address = "2001:db8::12",
                                        .spice_address = "198.51.100.12",
                                        .perf_events_set = true,
                                        .interfaces_set = true,
                                        .interfaces = ports,
                                        .interface_count = 1,
                                        .keep_cpu_shares = true};

    check_golden("ovs", "ovs", &to);
}

UNIT_TEST(ovs_to_tap,
          "an Open vSwitch port may become a tap that is not libvirt's, without virtualport")
{
    static const char *const events[] = {"cmt", "mbmt"};
    const struct virt_interface ports[] = {{.mac = S("fa:16:3e:44:55:66"),
                                            .type = S("ethernet"),
                                            .bridge = S("br-int"),
                                            .target = S("tap9c8b7a6d-5e"),
                                            .target_unmanaged = true}};
    const struct virt_destination to = {.perf_events_set = true,
                                        .perf_events = events,
                                        .perf_event_count = 2,
                                        .file_backed_memory = true,
                                        .interfaces_set = true,
                                        .interfaces = ports,
                                        .interface_count = 1,
                                        .keep_cpu_shares = true};

    check_golden("ovs", "ovs-to-tap", &to);
}

UNIT_TEST(delegated,
          "a tap of the source becomes a bridge port, kernel and bases are renamed, pins stay")
{
    const struct virt_interface ports[] = {{.mac = S("fa:16:3e:77:88:99"),
                                            .type = S("bridge"),
                                            .bridge = S("brq7"),
                                            .target = S("tap77aa88bb-99"),
                                            .mtu = 1500}};
    struct virt_destination to = {
        .interfaces_set = true, .interfaces = ports, .interface_count = 1};

    to.disk_paths = calloc(3, sizeof(*to.disk_paths));
    to.disk_path_count = 3;
#define DELEGATED "8b3d9e9a-8f2d-4e7a-9c79-2f4b3e5d6c7a"
    to.disk_paths[0].from = FROM "/" DELEGATED "/kernel";
    to.disk_paths[0].to = TO "/" DELEGATED "/kernel";
    to.disk_paths[1].from = FROM "/_base/ephemeral_1_40d1d2c";
    to.disk_paths[1].to = FROM "/_base/ephemeral_1_40d1d2c_0123456789abcdef";
    to.disk_paths[2].from = FROM "/" DELEGATED "/console.log";
    to.disk_paths[2].to = TO "/" DELEGATED "/console.log";
    check_golden("delegated", "delegated", &to);
    free(to.disk_paths);
}

UNIT_TEST(volumes, "volumes get the destination's devices, serial consoles its address and ports")
{
    static const int ports[] = {10400, 10401};
    const struct virt_volume volumes[] = {
        {.serial = "1f2e3d4c-5b6a-4978-8796-a5b4c3d2e1f0",
         .bus = "virtio",
         .device_type = "disk",
         .target = "vda",
         .source_type = "block",
         .source = "/dev/disk/by-path/ip-198.51.100.40",
         .boot_order = "1"},
        {.serial = "2a3b4c5d-6e7f-4081-92a3-b4c5d6e7f809",
         .bus = "virtio",
         .device_type = "disk",
         .target = "vdb",
         .source_type = "network",
         .source = "volumes/volume-2a3b4c5d-6e7f-4081-92a3-b4c5d6e7f809"},
        {.serial = "3b4c5d6e-7f80-4192-a3b4-c5d6e7f8091a",
         .format = "qcow2",
         .source_type = "file",
         .source = "/var/lib/nova/mnt/9f8e/volume-3b4c5d6e-7f80-4192-a3b4-c5d6e7f8091a"},
    };
    const struct virt_destination to = {.serial_address_set = true,
                                        .serial_address = "198.51.100.12",
                                        .serial_ports = ports,
                                        .serial_port_count = 2,
                                        .volumes = volumes,
                                        .volume_count = 3,
                                        .cpuset_set = true,
                                        .cpuset = ""};

    check_golden("volumes", "volumes", &to);
}

/* --- promises --------------------------------------------------------------------------------- */

UNIT_TEST(unchanged, "with nothing to change the guest's XML says the same as before")
{
    static const char *const names[] = {"bridge", "ovs", "delegated", "volumes"};
    const struct virt_destination to = {.keep_cpu_shares = true, .file_backed_memory = false};

    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        _cleanup_(str_freep) char *xml = read_source(names[i]);
        _cleanup_(str_freep) char *out = NULL;
        const struct virt_destination none = {.keep_cpu_shares = true};

        if (UNIT_OK(virt_domain_xml_for_destination(xml, &to, &out, &unit_err)) && out)
            UNIT_OK(domain_xml_check_changes(xml, out, &none, &unit_err));
    }
}

UNIT_TEST(unknown_mac,
          "a guest's interface that the destination did not prepare is an error with its MAC")
{
    const struct virt_interface port = bridge_port();
    const struct virt_destination to = {
        .interfaces_set = true, .interfaces = &port, .interface_count = 1};
    char *out = NULL;

    UNIT_FAILS(virt_domain_xml_for_destination(
                   DOMAIN("<devices><interface type='bridge'><mac address='fa:16:3e:00:00:02'/>"
                          "</interface></devices>"),
                   &to, &out, &unit_err),
               ERR_INVALID);
    UNIT_HAS(unit_err.text, "fa:16:3e:00:00:02");
    UNIT_TRUE(out == NULL);
}

UNIT_TEST(no_mtu, "an MTU is not given to a guest that had none, and a given one stays")
{
    struct virt_interface port = bridge_port();
    const struct virt_destination to = {
        .interfaces_set = true, .interfaces = &port, .interface_count = 1};
    char *out = NULL;

    port.mtu = 9000;
    if (UNIT_EQ(rewrite(NIC(""), &to, &out), 0))
        UNIT_TRUE(lacks(out, "mtu"));
    free(out);
    out = NULL;
    if (UNIT_EQ(rewrite(NIC("<mtu size='1450'/>"), &to, &out), 0))
        UNIT_HAS(out, "<mtu size=\"1450\"/>");
    free(out);
}

UNIT_TEST(memfd, "memory of type memfd, which the guest's devices need, stays shared")
{
    const struct virt_destination to = {0};
    char *out = NULL;

    if (UNIT_EQ(rewrite(DOMAIN("<memoryBacking><source type='memfd'/><access mode='shared'/>"
                               "</memoryBacking>"),
                        &to, &out),
                0))
        UNIT_HAS(out, "<access mode=\"shared\"/>");
    free(out);
}

UNIT_TEST(volume_moves, "a volume that would get another name or bus under the guest is refused")
{
    struct virt_volume volume = {.serial = "1f2e3d4c-5b6a-4978-8796-a5b4c3d2e1f0",
                                 .target = "vdz",
                                 .bus = "virtio",
                                 .device_type = "disk",
                                 .source_type = "block",
                                 .source = "/dev/sdx"};
    const struct virt_destination to = {.volumes = &volume, .volume_count = 1};
    _cleanup_(str_freep) char *xml = read_source("volumes");
    char *out = NULL;

    UNIT_FAILS(virt_domain_xml_for_destination(xml, &to, &out, &unit_err), ERR_DISK);
    UNIT_HAS(unit_err.text, "vdz");
    volume.target = "vda";
    volume.bus = "scsi";
    UNIT_FAILS(virt_domain_xml_for_destination(xml, &to, &out, &unit_err), ERR_DISK);
    volume.bus = "virtio";
    volume.source_type = "network";
    UNIT_FAILS(virt_domain_xml_for_destination(xml, &to, &out, &unit_err), ERR_DISK);
    volume.source_type = "dir";
    UNIT_FAILS(virt_domain_xml_for_destination(xml, &to, &out, &unit_err), ERR_DISK);
}

/* --- the comparison --------------------------------------------------------------------------- */

static void check_found(const char *before, const char *after, const struct virt_destination *to,
                        const char *place)
{
    UNIT_FAILS(domain_xml_check_changes(before, after, to, &unit_err), ERR_INTERNAL);
    UNIT_HAS(unit_err.text, place);
}

UNIT_TEST(diff_finds, "any change beyond the allowed ones is found and its place is named")
{
    const struct virt_interface port = bridge_port();
    const struct virt_destination to = {.vnc_address = "198.51.100.12",
                                        .interfaces_set = true,
                                        .interfaces = &port,
                                        .interface_count = 1};

    UNIT_OK(domain_xml_check_changes(NIC(""), NIC(""), &to, &unit_err));
    check_found(NIC("<model type='virtio'/>"), NIC("<model type='e1000'/>"), &to,
                "/domain/devices/interface/model/@type");
    check_found(NIC("<address slot='1'/>"), NIC("<address slot='2'/>"), &to, "address/@slot");
    check_found(NIC("<address slot='1'/>"), NIC(""), &to, "interface/address");
    check_found(NIC(""), NIC("<driver queues='2'/>"), &to, "interface/driver");
    check_found(NIC("<mtu size='1450'/>"), NIC("<mtu size='1500'/>"), &to, "mtu/@size");
    check_found(DOMAIN("<os><type machine='a'>hvm</type></os>"),
                DOMAIN("<os><type machine='b'>hvm</type></os>"), &to, "/domain/os/type/@machine");
    check_found(DOMAIN("<title>a</title>"), DOMAIN("<title>b</title>"), &to, "/domain/title");
    check_found(DOMAIN("<a/><a/>"), DOMAIN("<a/><a x='1'/>"), &to, "/domain/a[2]/@x");
    check_found(DOMAIN("<devices><graphics type='spice' listen='1'/></devices>"),
                DOMAIN("<devices><graphics type='spice' listen='2'/></devices>"), &to,
                "graphics/@listen");
    check_found(DOMAIN("<devices><disk><source file='/a'/></disk></devices>"),
                DOMAIN("<devices><disk><source file='/b'/></disk></devices>"), &to,
                "disk/source/@file");
    check_found(DOMAIN("<vcpu cpuset='1'>1</vcpu>"), DOMAIN("<vcpu cpuset='2'>1</vcpu>"), &to,
                "/@cpuset");
    check_found(DOMAIN("<m xmlns='urn:a'/>"), DOMAIN("<m xmlns='urn:b'/>"), &to, "/domain/m");
}

UNIT_TEST(diff_paths, "a path may become only what the list of paths says")
{
    struct virt_destination to = {.disk_path_count = 1};

    to.disk_paths = calloc(1, sizeof(*to.disk_paths));
    to.disk_paths[0].from = "/a";
    to.disk_paths[0].to = "/b";
    UNIT_OK(domain_xml_check_changes(DOMAIN("<devices><disk><source file='/a'/></disk></devices>"),
                                     DOMAIN("<devices><disk><source file='/b'/></disk></devices>"),
                                     &to, &unit_err));
    check_found(DOMAIN("<devices><disk><source file='/a'/></disk></devices>"),
                DOMAIN("<devices><disk><source file='/c'/></disk></devices>"), &to, "@file");
    check_found(DOMAIN("<devices><disk><source file='/a'/></disk></devices>"),
                DOMAIN("<devices><disk><source file='/a'/></disk></devices>"), &to, "@file");
    free(to.disk_paths);
}

/* --- hostile input ---------------------------------------------------------------------------- */

UNIT_TEST(hostile_values,
          "values of the destination that are not of their type never enter the XML")
{
    static const char *const hostile[] = {"<x/>",  "a&b", "]]>",      "\"><x y=\"", "'",
                                          "a b",   "\n",  "\xff\xfe", "",           "../x",
                                          "a\x01", "-->", "${x}"};
    char *out = NULL;

    for (size_t i = 0; i < ARRAY_LEN(hostile); i++) {
        struct virt_interface port = bridge_port();
        struct virt_destination to = {
            .interfaces_set = true, .interfaces = &port, .interface_count = 1};

        port.bridge = S(hostile[i]);
        UNIT_FAILS(virt_domain_xml_for_destination(NIC(""), &to, &out, &unit_err), ERR_INVALID);
        port = bridge_port();
        port.target = S(hostile[i]);
        UNIT_FAILS(virt_domain_xml_for_destination(NIC(""), &to, &out, &unit_err), ERR_INVALID);
        port = bridge_port();
        port.mac = S(hostile[i]);
        UNIT_FAILS(virt_domain_xml_for_destination(NIC(""), &to, &out, &unit_err), ERR_INVALID);
        port = bridge_port();
        port.interface_id = S(hostile[i]);
        UNIT_FAILS(virt_domain_xml_for_destination(NIC(""), &to, &out, &unit_err), ERR_INVALID);
        port = bridge_port();
        to.vnc_address = hostile[i];
        UNIT_FAILS(virt_domain_xml_for_destination(NIC(""), &to, &out, &unit_err), ERR_INVALID);
    }
}

UNIT_TEST(escaped_values, "markup in a path is text in the result and comes back as it was")
{
    static const char path[] = "/srv/<a>&\"']]>/disk";
    struct virt_destination to = {.disk_path_count = 1};
    _cleanup_(xml_doc_freep) xmlDoc *doc = NULL;
    _cleanup_(str_freep) char *back = NULL;
    char *out = NULL;

    to.disk_paths = calloc(1, sizeof(*to.disk_paths));
    to.disk_paths[0].from = "/a";
    to.disk_paths[0].to = path;
    if (UNIT_EQ(rewrite(DOMAIN("<devices><disk><source file='/a'/></disk></devices>"), &to, &out),
                0) &&
        out && UNIT_OK(xml_parse(out, "result", "domain", &doc, &unit_err))) {
        back = xml_find_attr(xmlDocGetRootElement(doc), "devices/disk/source", "file");
        UNIT_STR(back, path);
    }
    free(out);
    free(to.disk_paths);
}

UNIT_TEST(no_entities, "document types, and with them entities and external files, are refused")
{
    static const char *const documents[] = {
        "<!DOCTYPE domain [<!ENTITY x SYSTEM 'file:///etc/passwd'>]><domain>&x;</domain>",
        "<!DOCTYPE domain SYSTEM 'http://198.51.100.1/x.dtd'><domain/>",
        "<!DOCTYPE d [<!ENTITY a 'aaaaaaaaaa'><!ENTITY b '&a;&a;&a;&a;'><!ENTITY c '&b;&b;&b;'>]>"
        "<domain>&c;</domain>",
        "<?xml version='1.0'?><!DOCTYPE domain><domain/>",
    };
    const struct virt_destination to = {0};
    char *out = NULL;

    for (size_t i = 0; i < ARRAY_LEN(documents); i++) {
        UNIT_FAILS(virt_domain_xml_for_destination(documents[i], &to, &out, &unit_err), ERR_PARSE);
        UNIT_HAS(unit_err.text, "document type");
    }
}

UNIT_TEST(malformed, "what is no domain XML is refused with the reason")
{
    static const char *const documents[] = {"",
                                            " ",
                                            "x",
                                            "<domain>",
                                            "<domain></domian>",
                                            "<domain a='1' a='2'/>",
                                            "<domain>&y;</domain>",
                                            "<domain><a>\x01</a></domain>",
                                            "<domain>\xff</domain>",
                                            "<pool/>",
                                            "<domain/><domain/>",
                                            "<x:domain xmlns:x='urn:y'/>",
                                            "<domain",
                                            "{}",
                                            "<domain>&#0;</domain>"};
    const struct virt_destination to = {0};
    char *out = NULL;

    for (size_t i = 0; i < ARRAY_LEN(documents); i++)
        UNIT_FAILS(virt_domain_xml_for_destination(documents[i], &to, &out, &unit_err), ERR_PARSE);
}

static char *nested(size_t depth)
{
    struct text_buffer b = TEXT_BUFFER_INIT;

    text_buffer_add(&b, "<domain>");
    for (size_t i = 1; i < depth; i++)
        text_buffer_add(&b, "<a>");
    for (size_t i = 1; i < depth; i++)
        text_buffer_add(&b, "</a>");
    text_buffer_add(&b, "</domain>");
    return text_buffer_take(&b);
}

UNIT_TEST(depth, "64 levels are read, deeper nesting is refused")
{
    _cleanup_(str_freep) char *good = nested(XML_DEPTH_MAX);
    _cleanup_(str_freep) char *deep = nested(XML_DEPTH_MAX + 1);
    _cleanup_(str_freep) char *deeper = nested(100000);
    const struct virt_destination to = {0};
    char *out = NULL;

    UNIT_OK(virt_domain_xml_for_destination(good, &to, &out, &unit_err));
    free(out);
    out = NULL;
    UNIT_FAILS(virt_domain_xml_for_destination(deep, &to, &out, &unit_err), ERR_PARSE);
    UNIT_FAILS(virt_domain_xml_for_destination(deeper, &to, &out, &unit_err), ERR_PARSE);
}

UNIT_TEST(long_strings,
          "a text of one MiB goes through unchanged, a document above 4 MiB is refused")
{
    struct text_buffer b = TEXT_BUFFER_INIT;
    _cleanup_(str_freep) char *filler = mem_new((1 << 20) + 1);
    _cleanup_(str_freep) char *xml = NULL;
    const struct virt_destination to = {0};
    char *out = NULL;

    memset(filler, 'a', 1 << 20);
    text_buffer_printf(&b, "<domain><title>%s</title></domain>", filler);
    if (UNIT_OK(virt_domain_xml_for_destination(b.data, &to, &out, &unit_err)))
        UNIT_EQ(out ? strlen(out) : 0, strlen(b.data));
    free(out);
    out = NULL;
    text_buffer_free(&b);
    text_buffer_add(&b, "<domain>");
    for (int i = 0; i < 4; i++)
        text_buffer_printf(&b, "<title>%s</title>", filler);
    text_buffer_add(&b, "</domain>");
    UNIT_FAILS(virt_domain_xml_for_destination(b.data, &to, &out, &unit_err), ERR_PARSE);
    text_buffer_free(&b);
}

static clock_t time_of(int elements)
{
    struct text_buffer b = TEXT_BUFFER_INIT;
    const struct virt_destination to = {0};
    clock_t start = 0;
    char *out = NULL;

    text_buffer_add(&b, "<domain>");
    for (int i = 0; i < elements; i++)
        text_buffer_add(&b, "<a b='c'/>");
    text_buffer_add(&b, "</domain>");
    start = clock();
    UNIT_OK(virt_domain_xml_for_destination(b.data, &to, &out, &unit_err));
    start = clock() - start;
    free(out);
    text_buffer_free(&b);
    return start;
}

UNIT_TEST(many_elements,
          "the time of a rewrite grows with the number of elements, not with its square")
{
    clock_t few = time_of(5000), many = time_of(80000);

    UNIT_TRUE(many < 80 * (few + CLOCKS_PER_SEC / 1000));
}

UNIT_TEST(redact, "the XML for the log has no password, token or firmware secret, and all the rest")
{
    _cleanup_(str_freep) char *ovs = read_source("ovs");
    _cleanup_(str_freep) char *volumes_xml = read_source("volumes");
    char *out = NULL;

    if (UNIT_OK(virt_domain_xml_redact(ovs, &out, &unit_err))) {
        UNIT_TRUE(lacks(out, "s3cret"));
        UNIT_HAS(out, "passwd=\"***\"");
        UNIT_HAS(out, "tap9c8b7a6d-5e");
    }
    free(out);
    out = NULL;
    if (UNIT_OK(virt_domain_xml_redact(volumes_xml, &out, &unit_err)))
        UNIT_TRUE(lacks(out, "hunter2"));
    free(out);
    out = NULL;
    if (UNIT_OK(virt_domain_xml_redact(
            "<domain><sysinfo type='fwcfg'><entry name='opt/a'>marker1</entry></sysinfo>"
            "<sysinfo><oemStrings><entry>marker2</entry></oemStrings></sysinfo></domain>",
            &out, &unit_err)))
        UNIT_TRUE(lacks(out, "marker"));
    free(out);
}
