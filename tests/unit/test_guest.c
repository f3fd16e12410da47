/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/unit.h"

#include "lib/json.h"
#include "lib/text.h"
#include "virt/guest.h"

static struct virt_guest *guest;

static void setup(void)
{
}

static void teardown(void)
{
    virt_guest_free(guest);
    guest = NULL;
}

UNIT_FIXTURE(setup, teardown)

static bool read_file(const char *name)
{
    _cleanup_(str_freep) char *relative = text_format("tests/data/xml/%s.xml", name);
    _cleanup_(str_freep) char *path = unit_source_path(relative);
    _cleanup_(str_freep) char *xml = unit_read_file(path, NULL);

    virt_guest_free(guest);
    guest = NULL;
    return UNIT_TRUE(xml) && UNIT_OK(virt_guest_from_xml(xml, &guest, &unit_err));
}

UNIT_TEST(bridge, "a Nova guest on Linux bridges is read with its disks and interfaces")
{
    if (!read_file("bridge"))
        return;
    UNIT_STR(guest->uuid, "6f1b7c7e-6d0b-4c5e-9a57-0d2f1c3b4a5e");
    UNIT_STR(guest->name, "instance-0000002a");
    UNIT_STR(guest->title, NULL);
    UNIT_STR(guest->arch, "x86_64");
    UNIT_STR(guest->machine, "pc-i440fx-7.2");
    UNIT_STR(guest->domain_type, "kvm");
    UNIT_STR(guest->emulator, "/usr/bin/qemu-system-x86_64");
    UNIT_STR(guest->firmware, NULL);
    UNIT_HAS(guest->cpu_xml, "Haswell-noTSX-IBRS");
    UNIT_EQ(guest->memory_kib, 2097152);
    UNIT_EQ(guest->vcpus, 2);
    UNIT_EQ(guest->state, VIRT_STATE_NONE);
    UNIT_TRUE(guest->has_vnc && !guest->has_spice && !guest->has_mdev && !guest->has_vtpm);
    UNIT_EQ(guest->tcp_serial_ports, 0);
    UNIT_EQ(guest->disk_count, 2);
    UNIT_STR(guest->disks[0].target, "vda");
    UNIT_STR(guest->disks[0].format, "qcow2");
    UNIT_STR(guest->disks[0].backing_file,
             "/var/lib/nova/instances/_base/a892a4710316eb95555f6ca88860c82372c22f03");
    UNIT_STR(guest->disks[0].backing_format, "raw");
    UNIT_TRUE(!guest->disks[0].deep_chain);
    UNIT_EQ(guest->disks[0].virtual_size, -1);
    UNIT_STR(guest->disks[1].device, "cdrom");
    UNIT_TRUE(guest->disks[1].read_only && !guest->disks[1].backing_file);
    UNIT_EQ(guest->interface_count, 2);
    UNIT_STR(guest->interfaces[0].mac, "fa:16:3e:1a:2b:3c");
    UNIT_STR(guest->interfaces[0].bridge, "brq5c1a7d3e-9b");
    UNIT_STR(guest->interfaces[0].target, "tap3f2a1b0c-11");
    UNIT_EQ(guest->interfaces[0].mtu, 1450);
    UNIT_EQ(guest->interfaces[1].mtu, 0);
}

UNIT_TEST(ovs, "what cannot be migrated, firmware and virtual ports are seen")
{
    if (!read_file("ovs"))
        return;
    UNIT_TRUE(guest->has_mdev && guest->has_vtpm && guest->has_spice && guest->has_vnc);
    UNIT_TRUE(!guest->has_pci_device);
    UNIT_STR(guest->firmware, "/usr/share/OVMF/OVMF_CODE_4M.fd");
    UNIT_STR(guest->interfaces[0].virtualport, "openvswitch");
    UNIT_STR(guest->interfaces[0].interface_id, "9c8b7a6d-5e4f-4a3b-8c2d-1e0f9a8b7c6d");
}

UNIT_TEST(delegated, "units of memory, boot files and unmanaged taps are read")
{
    if (!read_file("delegated"))
        return;
    UNIT_EQ(guest->memory_kib, 1048576);
    UNIT_STR(guest->kernel, "/var/lib/nova/instances/8b3d9e9a-8f2d-4e7a-9c79-2f4b3e5d6c7a/kernel");
    UNIT_HAS(guest->initrd, "/ramdisk");
    UNIT_TRUE(guest->interfaces[0].target_unmanaged);
}

UNIT_TEST(to_copy,
          "only the guest's own writable disks are copied: no volume, shared or read-only disk")
{
    char **targets = NULL;

    if (!read_file("volumes"))
        return;
    UNIT_EQ(guest->tcp_serial_ports, 3);
    UNIT_TRUE(guest->disks[0].is_volume && guest->disks[1].is_volume && guest->disks[2].is_volume);
    UNIT_TRUE(!guest->disks[3].is_volume && guest->disks[3].shareable);
    targets = virt_guest_disks_to_copy(guest);
    UNIT_EQ(text_vector_length(targets), 0);
    text_vector_free(targets);
    if (!read_file("bridge"))
        return;
    targets = virt_guest_disks_to_copy(guest);
    UNIT_EQ(text_vector_length(targets), 1);
    UNIT_STR(targets[0], "vda");
    text_vector_free(targets);
    if (!read_file("delegated"))
        return;
    targets = virt_guest_disks_to_copy(guest);
    UNIT_EQ(text_vector_length(targets), 2);
    UNIT_STR(targets[1], "vdb");
    text_vector_free(targets);
}

#define XML(inside)                                                                                \
    "<domain type='kvm'><name>x</name><uuid>6f1b7c7e-6d0b-4c5e-9a57-0d2f1c3b4a5e</uuid>"           \
    "<memory>1024</memory><devices>" inside "</devices></domain>"

UNIT_TEST(chain, "a backing image below the backing image is noticed, as is one on the network")
{
    UNIT_OK(virt_guest_from_xml(
        XML("<disk type='file'><driver type='qcow2'/><source file='/a'/><backingStore type='file'>"
            "<format type='qcow2'/><source file='/b'/><backingStore type='file'><format "
            "type='raw'/>"
            "<source file='/c'/></backingStore></backingStore><target dev='vda'/></disk>"
            "<disk type='file'><driver type='qcow2'/><source file='/d'/><backingStore "
            "type='network'><format type='raw'/><source protocol='nbd' name='n'/></backingStore>"
            "<target dev='vdb'/></disk>"),
        &guest, &unit_err));
    UNIT_TRUE(guest && guest->disks[0].deep_chain);
    UNIT_STR(guest ? guest->disks[1].backing_file : NULL, "n");
}

UNIT_TEST(bad_xml, "values of the XML that have another form than theirs are refused")
{
    static const char *const documents[] = {
        "<domain/>",
        "<domain><name>x</name><uuid>zz</uuid><memory>1</memory></domain>",
        "<domain><uuid>6f1b7c7e-6d0b-4c5e-9a57-0d2f1c3b4a5e</uuid><memory>1</memory></domain>",
        XML("<disk type='file'><source file='relative'/><target dev='vda'/></disk>"),
        XML("<disk type='file'><source file='/a'/><target dev='v/da'/></disk>"),
        XML("<disk type='file'><source file='/a'/></disk>"),
        XML("<disk type='file'><target dev='vda'/></disk><disk type='file'><target dev='vda'/>"
            "</disk>"),
        XML("<interface type='bridge'><mac address='xx'/></interface>"),
        XML("<interface type='bridge'><mac address='fa:16:3e:00:00:01'/><source bridge='a b'/>"
            "</interface>"),
        XML("<interface type='bridge'><mac address='fa:16:3e:00:00:01'/></interface>"
            "<interface type='bridge'><mac address='FA:16:3E:00:00:01'/></interface>"),
    };

    for (size_t i = 0; i < ARRAY_LEN(documents); i++) {
        err_clear(&unit_err);
        UNIT_EQ(virt_guest_from_xml(documents[i], &guest, &unit_err), -1);
        UNIT_TRUE(unit_err.code == ERR_INVALID || unit_err.code == ERR_PARSE);
        UNIT_TRUE(guest == NULL);
    }
}

UNIT_TEST(many, "more than 256 disks are refused")
{
    struct text_buffer b = TEXT_BUFFER_INIT;

    text_buffer_add(&b, "<domain><memory>1</memory><devices>");
    for (int i = 0; i < VIRT_DISKS_MAX + 1; i++)
        text_buffer_printf(&b, "<disk type='file'><target dev='vd%d'/></disk>", i);
    text_buffer_add(&b, "</devices></domain>");
    UNIT_FAILS(virt_guest_from_xml(b.data, &guest, &unit_err), ERR_INVALID);
    text_buffer_free(&b);
}

UNIT_TEST(round_trip, "a guest that went through JSON is the same guest")
{
    static const char *const names[] = {"bridge", "ovs", "delegated", "volumes"};

    for (size_t i = 0; i < ARRAY_LEN(names) && read_file(names[i]); i++) {
        _cleanup_(json_putp) struct json_object *first = virt_guest_to_json(guest);
        _cleanup_(json_putp) struct json_object *second = NULL;
        struct virt_guest *back = NULL;

        guest->state = VIRT_STATE_PAUSED;
        if (UNIT_OK(virt_guest_from_json(first, &back, &unit_err))) {
            second = virt_guest_to_json(back);
            UNIT_TRUE(json_same(first, second));
        }
        virt_guest_free(back);
    }
}

static struct json_object *good_json(void)
{
    return read_file("bridge") ? virt_guest_to_json(guest) : json_object_new_object();
}

static void check_refused(struct json_object *o, const char *key)
{
    struct virt_guest *back = NULL;

    err_clear(&unit_err);
    UNIT_EQ(virt_guest_from_json(o, &back, &unit_err), -1);
    UNIT_TRUE(unit_err.code == ERR_INVALID || unit_err.code == ERR_PARSE);
    UNIT_HAS(unit_err.text, key);
    virt_guest_free(back);
}

UNIT_TEST(hostile_json, "each value of a peer is checked by its type before it is used")
{
    static const struct {
        const char *where, *key, *value;
    } rows[] = {
        {NULL, "uuid", "../../etc"},
        {NULL, "name", "a/b"},
        {NULL, "name", "a\nb"},
        {NULL, "name", ""},
        {NULL, "machine", "pc;rm"},
        {NULL, "arch", "x86 64"},
        {NULL, "emulator", "qemu"},
        {NULL, "firmware", "/a\nb"},
        {NULL, "cpu_xml", "<domain/>"},
        {NULL, "cpu_xml", "<!DOCTYPE cpu><cpu/>"},
        {NULL, "state", "flying"},
        {"disks", "target", "../vda"},
        {"disks", "target", ""},
        {"disks", "path", "disk"},
        {"disks", "format", "qcow2,file=x"},
        {"disks", "backing_file", "a\x1b[2J"},
        {"disks", "kind", "a b"},
        {"interfaces", "mac", "fa:16:3e:00:00:0g"},
        {"interfaces", "bridge", "br0 type veth"},
        {"interfaces", "target", "abcdefghijklmnopq"},
        {"interfaces", "virtualport", "<x/>"},
        {"interfaces", "interface_id", "no"},
    };

    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        _cleanup_(json_putp) struct json_object *o = good_json();
        struct json_object *at = o;

        if (rows[i].where)
            at = json_object_array_get_idx(json_get(o, rows[i].where), 0);
        json_add_string(at, rows[i].key, rows[i].value);
        check_refused(o, rows[i].key);
    }
}

UNIT_TEST(wrong_types, "numbers out of range, wrong types and missing parts are refused by name")
{
    static const char *const texts[] = {"[]",
                                        "null",
                                        "1",
                                        "{\"disks\":{},\"interfaces\":[]}",
                                        "{\"disks\":[1],\"interfaces\":[]}",
                                        "{\"disks\":[]}"};

    for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
        _cleanup_(json_putp) struct json_object *o = NULL;
        struct virt_guest *back = NULL;

        if (UNIT_OK(json_parse(texts[i], strlen(texts[i]), &o, &unit_err)))
            UNIT_EQ(virt_guest_from_json(o, &back, &unit_err), -1);
    }
    for (int i = 0; i < 4; i++) {
        static const char *const keys[] = {"vcpus", "memory_kib", "persistent", "title"};
        _cleanup_(json_putp) struct json_object *o = good_json();

        if (i == 2)
            json_add_string(o, keys[i], "yes");
        else if (i == 3)
            json_add_int(o, keys[i], 1);
        else
            json_add_int(o, keys[i], -5);
        check_refused(o, keys[i]);
    }
}

UNIT_TEST(sizes, "unknown sizes stay unknown through JSON")
{
    _cleanup_(json_putp) struct json_object *o = good_json();
    struct virt_guest *back = NULL;

    json_object_object_del(json_object_array_get_idx(json_get(o, "disks"), 0), "virtual_size");
    if (UNIT_OK(virt_guest_from_json(o, &back, &unit_err)))
        UNIT_EQ(back ? back->disks[0].virtual_size : 0, -1);
    virt_guest_free(back);
}

UNIT_TEST(states, "states have libvirt's words and Nova's numbers")
{
    UNIT_STR(virt_state_name(VIRT_STATE_RUNNING), "running");
    UNIT_EQ(virt_state_nova(VIRT_STATE_RUNNING), 1);
    UNIT_EQ(virt_state_nova(VIRT_STATE_PAUSED), 3);
    UNIT_EQ(virt_state_nova(VIRT_STATE_SHUTOFF), 4);
    UNIT_EQ(virt_state_nova(VIRT_STATE_CRASHED), 6);
    UNIT_EQ(virt_state_nova(VIRT_STATE_SUSPENDED), 7);
    UNIT_EQ(virt_state_nova(VIRT_STATE_NONE), 0);
}
