/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Domain XML of any kind: read as a guest, rewritten for a destination, redacted. What the guest sees must
 * be the same in the result, and a guest must survive being sent as JSON.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "lib/json.h"
#include "lib/text.h"
#include "virt/domain_xml.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void expect(bool condition)
{
    if (!condition)
        abort();
}

static void round_trip(const struct virt_guest *guest)
{
    _cleanup_(json_putp) struct json_object *first = virt_guest_to_json(guest);
    _cleanup_(virt_guest_freep) struct virt_guest *back = NULL;
    _cleanup_(json_putp) struct json_object *second = NULL;

    expect(virt_guest_from_json(first, &back, NULL) == 0);
    second = virt_guest_to_json(back);
    expect(json_same(first, second));
}

/* Everything that the guest itself can see; the wiring behind it may differ. */
static void expect_same_guest(const struct virt_guest *a, const struct virt_guest *b)
{
    expect(text_equal(a->uuid, b->uuid) && text_equal(a->name, b->name));
    expect(text_equal(a->machine, b->machine) && text_equal(a->cpu_xml, b->cpu_xml));
    expect(a->memory_kib == b->memory_kib && a->vcpus == b->vcpus);
    expect(a->disk_count == b->disk_count && a->interface_count == b->interface_count);
    for (size_t i = 0; i < a->disk_count; i++) {
        expect(text_equal(a->disks[i].target, b->disks[i].target));
        expect(text_equal(a->disks[i].bus, b->disks[i].bus));
        expect(text_equal(a->disks[i].path, b->disks[i].path));
    }
    for (size_t i = 0; i < a->interface_count; i++) {
        expect(text_equal(a->interfaces[i].mac, b->interfaces[i].mac));
        expect(text_equal(a->interfaces[i].model, b->interfaces[i].model));
        expect(a->interfaces[i].mtu == b->interfaces[i].mtu);
    }
}

static void rewrite(const char *xml, const struct virt_guest *guest)
{
    static const int ports[] = {10000, 10001};
    struct virt_interface *ports_here =
        NEW_ARRAY(struct virt_interface, guest->interface_count + 1);
    struct virt_destination to = {.vnc_address = "198.51.100.12",
                                  .spice_address = "198.51.100.12",
                                  .serial_address_set = true,
                                  .serial_address = "198.51.100.12",
                                  .serial_ports = ports,
                                  .serial_port_count = 2,
                                  .perf_events_set = true,
                                  .interfaces_set = true,
                                  .interfaces = ports_here,
                                  .interface_count = guest->interface_count,
                                  .cpuset_set = true,
                                  .cpuset = "0-3"};
    _cleanup_(virt_guest_freep) struct virt_guest *after = NULL;
    _cleanup_(str_freep) char *out = NULL;

    for (size_t i = 0; i < guest->interface_count; i++)
        ports_here[i] = (struct virt_interface){.mac = guest->interfaces[i].mac,
                                                .type = (char *)(uintptr_t) "bridge",
                                                .bridge = (char *)(uintptr_t) "br1",
                                                .target = (char *)(uintptr_t) "tap1"};
    if (virt_domain_xml_for_destination(xml, &to, &out, NULL) == 0) {
        expect(virt_guest_from_xml(out, &after, NULL) == 0);
        expect_same_guest(guest, after);
    }
    free(ports_here);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    _cleanup_(str_freep) char *xml = text_dup_n((const char *)data, size);
    _cleanup_(virt_guest_freep) struct virt_guest *guest = NULL;
    _cleanup_(str_freep) char *redacted = NULL;

    (void)virt_domain_xml_redact(xml, &redacted, NULL);
    if (virt_guest_from_xml(xml, &guest, NULL) < 0)
        return 0;
    round_trip(guest);
    rewrite(xml, guest);
    return 0;
}
