/* SPDX-License-Identifier: Apache-2.0 */
/* The life of a guest: the fake, libvirt over its test driver, and the pure parts of the provider. */
#include "tests/unit/unit.h"

#include "lib/clock.h"
#include "lib/json.h"
#include "lib/text.h"
#include "tests/unit/worker.h"
#include "virt/consoles.h"
#include "virt/device_match.h"
#include "virt/fake.h"
#include "virt/libvirt_internal.h"

#define UUID "5dbd3dc3-8a3a-43b5-a17f-8e2bde3e7f30"
#define DOMAIN(type, devices)                                                                      \
    "<domain type='" type "'><name>instance-0000002a</name><uuid>" UUID "</uuid>"                  \
    "<memory unit='KiB'>65536</memory><vcpu>1</vcpu><os><type arch='x86_64'>hvm</type></os>"       \
    "<devices>" devices "</devices></domain>"
#define PORT(mac, alias)                                                                           \
    "<interface type='bridge'><mac address='" mac "'/><source bridge='br0'/>"                      \
    "<target dev='tap0'/>" alias "</interface>"

static struct loop *loop;
static struct virt *virt;
static char story[512];

static void on_event(void *aux _unused_, const char *uuid _unused_, enum virt_event event,
                     int64_t at_us _unused_)
{
    size_t length = strlen(story);
    (void)snprintf(story + length, sizeof(story) - length, "%s ", virt_event_name(event));
}

static void fake_up(void)
{
    static const struct virt_callbacks callbacks = {.event = on_event};
    struct err e = ERR_INIT;
    story[0] = '\0';
    if (loop_new(&loop, &e) < 0 || virt_fake_new(&virt, loop, &callbacks, NULL, &e) < 0)
        abort();
}

static void down(void)
{
    (void)loop_turn(loop, 0, NULL); /* what was posted goes before its loop does */
    virt_free(virt);
    loop_free(loop);
}

/* Events posted by other threads; on the loop's own they come at once. */
static void hear(void)
{
    (void)loop_turn(loop, 0, NULL);
}

static bool told(const char *events)
{
    hear();
    bool same = UNIT_STR(story, events);
    story[0] = '\0';
    return same;
}

/* --- the fake --------------------------------------------------------------------------------- */

UNIT_TEST(fake_life, "a guest of the fake lives as one of libvirt, and tells the same events")
{
    fake_up();
    UNIT_OK(virt_guest_create(virt, DOMAIN("qemu", ""), true, &unit_err));
    told("defined started paused ");
    UNIT_EQ(virt_fake_state(virt, UUID), VIRT_STATE_PAUSED);
    UNIT_OK(virt_guest_resume(virt, UUID, &unit_err));
    UNIT_OK(virt_guest_start(virt, UUID, &unit_err));
    told("");
    UNIT_OK(virt_guest_save(virt, UUID, &unit_err));
    UNIT_TRUE(virt_fake_saved(virt, UUID));
    told("stopped ");
    UNIT_OK(virt_guest_start(virt, UUID, &unit_err));
    UNIT_TRUE(!virt_fake_saved(virt, UUID));
    UNIT_OK(virt_guest_reboot(virt, UUID, &unit_err));
    UNIT_OK(virt_guest_shutdown(virt, UUID, &unit_err));
    told("started stopped ");
    UNIT_FAILS(virt_guest_shutdown(virt, UUID, &unit_err), ERR_INSTANCE_STATE);
    UNIT_OK(virt_guest_power_off(virt, UUID, &unit_err));
    told("");
    UNIT_OK(virt_guest_destroy(virt, UUID, &unit_err));
    UNIT_FAILS(virt_guest_start(virt, UUID, &unit_err), ERR_NO_INSTANCE);
    UNIT_OK(virt_guest_power_off(virt, UUID, &unit_err));
    down();
}

UNIT_TEST(fake_stubborn, "a stubborn guest of the fake neither shuts down nor lets devices go")
{
    fake_up();
    virt_fake_add(virt, UUID, "a", DOMAIN("qemu", PORT("fa:16:3e:00:00:01", "")),
                  VIRT_STATE_RUNNING);
    virt_fake_set_stubborn(virt, UUID, true);
    UNIT_OK(virt_guest_shutdown(virt, UUID, &unit_err));
    told("");
    UNIT_EQ(virt_fake_state(virt, UUID), VIRT_STATE_RUNNING);
    UNIT_FAILS(virt_guest_detach(virt, UUID, PORT("fa:16:3e:00:00:01", ""), 1, &unit_err),
               ERR_TIMEOUT);
    UNIT_OK(virt_guest_power_off(virt, UUID, &unit_err));
    told("stopped ");
    down();
}

UNIT_TEST(fake_devices, "devices of the fake stand in its XML until they are detached")
{
    fake_up();
    virt_fake_add(virt, UUID, "a", DOMAIN("qemu", PORT("fa:16:3e:00:00:01", "")),
                  VIRT_STATE_RUNNING);
    UNIT_OK(virt_guest_attach(virt, UUID, PORT("fa:16:3e:00:00:02", ""), &unit_err));
    _cleanup_(str_freep) char *both = virt_fake_xml(virt, UUID);
    UNIT_HAS(both, "00:00:01");
    UNIT_HAS(both, "00:00:02");
    UNIT_OK(virt_guest_detach(virt, UUID, PORT("FA:16:3e:00:00:01", ""), 1, &unit_err));
    UNIT_OK(virt_guest_detach(virt, UUID, PORT("fa:16:3e:00:00:01", ""), 1, &unit_err));
    _cleanup_(str_freep) char *one = virt_fake_xml(virt, UUID);
    UNIT_TRUE(one && !strstr(one, "00:00:01") && strstr(one, "00:00:02"));
    UNIT_EQ(virt_fake_count(virt, "detach"), 2);
    down();
}

static void fewer_cpus(void *aux _unused_, struct virt_resources *resources)
{
    resources->cpus = 1;
}

UNIT_TEST(fake_reads, "the fake copies disks, and tells consoles, diagnostics and resources")
{
    static const char vnc[] = "<graphics type='vnc' port='5901'/>";
    _cleanup_(str_freep) char *path = text_format("%s/copy", unit_directory());
    _cleanup_(virt_resources_freep) struct virt_resources *resources = NULL;
    _cleanup_(json_putp) struct json_object *diagnostics = NULL;
    struct virt_consoles consoles;
    fake_up();
    virt_fake_add(virt, UUID, "a", NULL, VIRT_STATE_RUNNING);
    UNIT_OK(virt_guest_attach(virt, UUID, vnc, &unit_err));
    UNIT_OK(virt_guest_consoles(virt, UUID, &consoles, &unit_err));
    UNIT_EQ(consoles.vnc_port, 5901);
    UNIT_OK(virt_guest_diagnostics(virt, UUID, &diagnostics, &unit_err));
    UNIT_STR(json_get_string(diagnostics, "state", ""), "running");
    UNIT_OK(virt_guest_copy_disk(virt, UUID, "vda", path, "qcow2", &unit_err));
    _cleanup_(str_freep) char *copy = unit_read_file(path, NULL);
    UNIT_STR(copy, "copy of vda");
    UNIT_FAILS(virt_guest_copy_disk(virt, UUID, "vda", path, "vmdk", &unit_err), ERR_INVALID);
    virt_fake_set_resources(virt, fewer_cpus, NULL);
    UNIT_OK(virt_resources_read(virt, &resources, &unit_err));
    UNIT_EQ(resources->cpus, 1);
    UNIT_EQ(resources->guests, 1);
    virt_fake_fail(virt, "start", ERR_VIRT, "no", 1);
    UNIT_FAILS(virt_guest_start(virt, UUID, &unit_err), ERR_VIRT);
    down();
}

/* --- pure parts ------------------------------------------------------------------------------- */

UNIT_TEST(consoles_read,
          "ports of consoles are read from the XML, and nothing else is taken for one")
{
    struct virt_consoles c;
    UNIT_OK(virt_consoles_from_xml(
        DOMAIN("qemu", "<graphics type='vnc' port='-1'/><graphics type='spice' port='5902' "
                       "tlsPort='5903'/><serial type='tcp'><source mode='bind' host='::1' "
                       "service='10000'/></serial><serial type='tcp'><source mode='connect' "
                       "service='7'/></serial><serial type='tcp'><source mode='bind' "
                       "service='10001'/></serial><console type='tcp'><source mode='bind' "
                       "service='10000'/></console>"),
        &c, &unit_err));
    UNIT_EQ(c.vnc_port, -1);
    UNIT_EQ(c.spice_port, 5902);
    UNIT_EQ(c.spice_tls_port, 5903);
    UNIT_EQ(c.serial_count, 2);
    UNIT_EQ(c.serial_ports[1], 10001);
    UNIT_OK(virt_consoles_from_xml(DOMAIN("qemu", ""), &c, &unit_err));
    UNIT_EQ(c.spice_port, -1);
    UNIT_EQ(c.serial_count, 0);
    UNIT_FAILS(virt_consoles_from_xml("<x/>", &c, &unit_err), ERR_PARSE);
}

UNIT_TEST(device_found, "a device is found by its target or MAC, and its alias told")
{
    static const char domain[] = DOMAIN(
        "qemu", PORT("fa:16:3e:00:00:01", "<alias name='net0'/>")
                    PORT("fa:16:3e:00:00:02",
                         "<alias name='net1'/>") "<disk type='file'><target dev='vdb'/><alias "
                                                 "name='virtio-disk1'/></disk>");
    char *alias = NULL;
    UNIT_EQ(virt_device_find(domain, PORT("FA:16:3E:00:00:02", ""), &alias, &unit_err), 1);
    UNIT_STR(alias, "net1");
    free(alias);
    UNIT_EQ(virt_device_find(domain, "<disk><target dev='vdb'/></disk>", NULL, &unit_err), 1);
    UNIT_EQ(virt_device_find(domain, "<disk><target dev='vda'/></disk>", NULL, &unit_err), 0);
    UNIT_FAILS(virt_device_find(domain, "<disk/>", NULL, &unit_err), ERR_INVALID);
    UNIT_FAILS(virt_device_find(domain, "<disk", NULL, &unit_err), ERR_PARSE);
}

UNIT_TEST(diagnostics_mapped, "libvirt's counters become Nova's diagnostics, unknown ones null")
{
    virTypedParameterPtr params = NULL;
    int count = 0, max = 0;
    UNIT_EQ(virInitialize(), 0);
    (void)virTypedParamsAddInt(&params, &count, &max, "state.state", VIR_DOMAIN_PAUSED);
    (void)virTypedParamsAddULLong(&params, &count, &max, "balloon.maximum", 131072);
    (void)virTypedParamsAddULLong(&params, &count, &max, "balloon.current", 65536);
    (void)virTypedParamsAddUInt(&params, &count, &max, "vcpu.current", 1);
    (void)virTypedParamsAddULLong(&params, &count, &max, "vcpu.0.time", UINT64_MAX);
    (void)virTypedParamsAddUInt(&params, &count, &max, "net.count", 1);
    (void)virTypedParamsAddString(&params, &count, &max, "net.0.name", "tap0");
    (void)virTypedParamsAddULLong(&params, &count, &max, "net.0.rx.bytes", 42);
    (void)virTypedParamsAddUInt(&params, &count, &max, "block.count", 1);
    (void)virTypedParamsAddString(&params, &count, &max, "block.0.name", "vda");
    (void)virTypedParamsAddULLong(&params, &count, &max, "block.0.wr.reqs", 7);
    (void)virTypedParamsAddULLong(&params, &count, &max, "balloon.last-update", 9);
    _cleanup_(virt_guest_freep) struct virt_guest *guest = NULL;
    UNIT_OK(virt_guest_from_xml(DOMAIN("qemu", PORT("fa:16:3e:00:00:01", "")), &guest, &unit_err));
    _cleanup_(json_putp) struct json_object *o = libvirt_diagnostics_map(params, count, guest);
    virTypedParamsFree(params, count);
    _cleanup_(str_freep) char *text = json_text(o);
    UNIT_HAS(text, "\"state\":\"paused\"");
    UNIT_HAS(text, "\"hypervisor\":\"qemu\"");
    UNIT_HAS(text, "\"memory_details\":{\"maximum\":128,\"used\":64}");
    UNIT_HAS(text,
             "\"cpu_details\":[{\"time\":9223372036854775807,\"utilisation\":null,\"id\":0}]");
    UNIT_HAS(text, "\"rx_octets\":42,\"rx_errors\":null");
    UNIT_HAS(text, "\"mac_address\":\"fa:16:3e:00:00:01\"");
    UNIT_HAS(text, "\"write_requests\":7,\"errors_count\":-1,\"name\":\"vda\"");
    UNIT_HAS(text, "\"memory_statistics\":{\"actual\":65536,\"last_update\":9}");
    UNIT_HAS(text, "\"name\":\"tap0\",\"mac_address\":\"fa:16:3e:00:00:01\"");
    UNIT_HAS(text, "\"num_nics\":1");
}

/* --- libvirt, by its test driver -------------------------------------------------------------- */

static void expect_state(enum virt_state wanted)
{
    enum virt_state state;
    UNIT_OK(virt_guest_state(virt, UUID, &state, &unit_err));
    UNIT_EQ(state, wanted);
}

static void live(void)
{
    _cleanup_(str_freep) char *xml = NULL;
    UNIT_FAILS(virt_guest_create(virt, "<domain/>", false, &unit_err), ERR_VIRT);
    UNIT_HAS(unit_err.text, "missing name");
    UNIT_OK(virt_guest_create(virt, DOMAIN("test", ""), false, &unit_err));
    expect_state(VIRT_STATE_RUNNING);
    UNIT_OK(virt_guest_suspend(virt, UUID, &unit_err));
    UNIT_OK(virt_guest_resume(virt, UUID, &unit_err));
    UNIT_OK(virt_guest_start(virt, UUID, &unit_err));
    UNIT_OK(virt_guest_xml(virt, UUID, &xml, &unit_err));
    UNIT_HAS(xml, "instance-0000002a");
    UNIT_OK(virt_guest_save(virt, UUID, &unit_err));
    expect_state(VIRT_STATE_SHUTOFF);
    UNIT_OK(virt_guest_save_remove(virt, UUID, &unit_err));
    UNIT_OK(virt_guest_save_remove(virt, UUID, &unit_err));
    UNIT_OK(virt_guest_start(virt, UUID, &unit_err));
    UNIT_OK(virt_guest_shutdown(virt, UUID, &unit_err));
    UNIT_FAILS(virt_guest_shutdown(virt, UUID, &unit_err), ERR_VIRT);
    UNIT_OK(virt_guest_start(virt, UUID, &unit_err));
    UNIT_OK(virt_guest_detach(virt, UUID, PORT("fa:16:3e:00:00:01", ""), 1, &unit_err));
    UNIT_OK(virt_guest_power_off(virt, UUID, &unit_err));
    UNIT_OK(virt_guest_power_off(virt, UUID, &unit_err));
    expect_state(VIRT_STATE_SHUTOFF);
    UNIT_OK(virt_guest_destroy(virt, UUID, &unit_err));
    UNIT_FAILS(virt_guest_start(virt, UUID, &unit_err), ERR_NO_INSTANCE);
    UNIT_FAILS(virt_guest_attach(virt, UUID, "<x/>", &unit_err), ERR_NO_INSTANCE);
    UNIT_OK(virt_guest_detach(virt, UUID, "<x/>", 1, &unit_err));
    UNIT_OK(virt_guest_power_off(virt, UUID, &unit_err));
}

UNIT_TEST(libvirt_life, "libvirt makes, starts, saves, stops and removes a guest; twice is once")
{
    static const struct virt_callbacks callbacks = {.event = on_event};
    struct conf *conf = conf_for_test("libvirt.connection_uri", "test:///default", NULL);
    struct err e = ERR_INIT;
    int64_t until = clock_monotonic_us() + 5 * USEC_PER_SEC;
    story[0] = '\0';
    if (loop_new(&loop, &e) < 0 || virt_new(&virt, loop, conf, &callbacks, NULL, &e) < 0)
        abort();
    while (!virt_is_up(virt) && clock_monotonic_us() < until)
        (void)loop_turn(loop, 100, NULL);
    worker_run(loop, live);
    until = clock_monotonic_us() + 5 * USEC_PER_SEC;
    while (!strstr(story, "defined") && clock_monotonic_us() < until)
        (void)loop_turn(loop, 100, NULL);
    UNIT_HAS(story, "defined");
    down();
    conf_unref(conf);
}
