/* SPDX-License-Identifier: Apache-2.0 */
/* What flavor, image and configuration decide of a new guest. */
#include "tests/unit/unit.h"

#include "lib/json.h"
#include "lib/text.h"
#include "virt/build_options.h"

static struct virt_build_options *options;
static int vcpus = 1;
static bool has_kernel, is_iso;

static int make(const char *specs, const char *image, const char *option, const char *value)
{
    _cleanup_(json_putp) struct json_object *extra = NULL, *properties = NULL;
    _cleanup_(str_freep) char *spec_text = text_format("{%s}", specs);
    _cleanup_(str_freep) char *image_text = text_format("{%s}", image);
    for (char *c = spec_text; *c; c++)
        *c = *c == '\'' ? '"' : *c;
    for (char *c = image_text; *c; c++)
        *c = *c == '\'' ? '"' : *c;
    if (!UNIT_OK(json_parse(spec_text, strlen(spec_text), &extra, &unit_err)) ||
        !UNIT_OK(json_parse(image_text, strlen(image_text), &properties, &unit_err)))
        return -1;
    err_clear(&unit_err);
    virt_build_options_free(options);
    options = NULL;
    struct conf *conf = conf_for_test("DEFAULT.instances_path", unit_directory(),
                                      "libvirt.virt_type", "kvm", option, value, NULL);
    const struct virt_build_request request = {.conf = conf,
                                               .extra_specs = extra,
                                               .image_properties = properties,
                                               .host_arch = "x86_64",
                                               .vcpus = vcpus,
                                               .memory_mb = 64,
                                               .has_kernel = has_kernel,
                                               .is_iso = is_iso};
    int rc = virt_build_options_make(&request, &options, &unit_err);
    conf_unref(conf);
    return rc;
}

#define GOOD(specs, image)                                                                         \
    UNIT_TRUE(make(specs, image, NULL, NULL) == 0 || (puts(unit_err.text), 0))
#define GOOD_WITH(option, value)                                                                   \
    UNIT_TRUE(make("", "", option, value) == 0 || (puts(unit_err.text), 0))
#define BAD(specs, image, code_, class_, part)                                                     \
    do {                                                                                           \
        UNIT_EQ(make(specs, image, NULL, NULL), -1);                                               \
        UNIT_EQ(unit_err.code, code_);                                                             \
        UNIT_STR(err_wire_class(&unit_err), class_);                                               \
        UNIT_HAS(unit_err.text, part);                                                             \
        UNIT_TRUE(!options);                                                                       \
    } while (0)

static void begin(void)
{
    vcpus = 1;
    has_kernel = is_iso = false;
}

static void end(void)
{
    virt_build_options_free(options);
    options = NULL;
}

UNIT_FIXTURE(begin, end)

UNIT_TEST(defaults, "without specs and properties a guest is what nova-compute would make of it")
{
    GOOD("", "");
    const struct virt_build *b = &options->build;
    UNIT_STR(b->virt_type, "kvm");
    UNIT_STR(b->machine, "pc");
    UNIT_STR(b->cpu_mode, "host-model");
    UNIT_STR(b->firmware, NULL);
    UNIT_STR(b->video, NULL);
    UNIT_STR(b->pointer, "usbtablet");
    UNIT_STR(b->vnc_listen, "127.0.0.1");
    UNIT_STR(b->spice_listen, NULL);
    UNIT_STR(b->watchdog, NULL);
    UNIT_STR(b->command_line, NULL);
    UNIT_TRUE(b->acpi && b->rng && !b->guest_agent && !b->hpet && b->pmu == 0);
    UNIT_STR(b->rng_path, "/dev/urandom");
    UNIT_EQ(b->balloon_period_s, 10);
    UNIT_EQ(b->serial_port_count, 1);
    UNIT_STR(options->disk.bus, "virtio");
    UNIT_STR(options->disk_prefix, "vd");
    UNIT_STR(options->cdrom_bus, "ide");
    UNIT_STR(options->interface.model, "virtio");
    UNIT_STR(options->interface.driver, NULL);
    UNIT_STR(options->disk.io, NULL);
}

static void topology(int cpus, const char *specs, const char *image, int s, int c, int t)
{
    vcpus = cpus;
    GOOD(specs, image);
    if (!options)
        return;
    UNIT_EQ(options->build.sockets, s);
    UNIT_EQ(options->build.cores, c);
    UNIT_EQ(options->build.threads, t);
}

UNIT_TEST(topologies, "the CPU topology is the one that Nova would choose")
{
    topology(8, "", "", 8, 1, 1);
    topology(8, "'hw:cpu_sockets': '2'", "", 2, 4, 1);
    topology(8, "'hw:cpu_max_sockets': '2'", "", 2, 4, 1);
    topology(8, "'hw:cpu_max_sockets': '2', 'hw:cpu_max_cores': '2'", "", 2, 2, 2);
    topology(8, "'hw:cpu_threads': '2'", "", 4, 1, 2);
    topology(8, "'hw:cpu_sockets': '4'", "'hw_cpu_cores': 8", 1, 8, 1);
    topology(8, "'hw:cpu_sockets': '4'", "'hw_cpu_max_sockets': '2'", 2, 4, 1);
    topology(7, "'hw:cpu_cores': '2'", "", 7, 1, 1);
    vcpus = 8;
    BAD("'hw:cpu_max_cores': '2'", "'hw_cpu_max_cores': '4'", ERR_INVALID,
        "ImageVCPULimitsRangeExceeded", "0:4:0");
    BAD("'hw:cpu_max_cores': '2'", "'hw_cpu_cores': '4'", ERR_INVALID,
        "ImageVCPUTopologyRangeExceeded", "0:4:0");
    BAD("'hw:cpu_max_cores': '1', 'hw:cpu_max_threads': '1', 'hw:cpu_max_sockets': '4'", "",
        ERR_INVALID, "ImageVCPULimitsRangeImpossible", "8 CPUs");
    BAD("'hw:cpu_cores': 'two'", "", ERR_INVALID, "Invalid", "hw:cpu_cores of the flavor");
}

UNIT_TEST(image_wins, "an image's property comes before the flavor's where Nova says so")
{
    GOOD("'hw:watchdog_action': 'reset', 'hw:boot_menu': 'true'",
         "'hw_watchdog_action': 'pause', 'hw_boot_menu': 'no'");
    UNIT_STR(options->build.watchdog, "pause");
    UNIT_TRUE(!options->build.boot_menu);
    GOOD("'hw:watchdog_action': 'reset'", "'hw_watchdog_action': null, 'hw_boot_menu': true");
    UNIT_STR(options->build.watchdog, "reset");
    UNIT_TRUE(options->build.boot_menu);
    BAD("'hw:watchdog_action': 'bark'", "", ERR_INVALID, "InvalidWatchdogAction", "bark");
    vcpus = 2;
    BAD("'hw:vif_multiqueue_enabled': 'true'", "'hw_vif_multiqueue_enabled': 'false'", ERR_INVALID,
        "FlavorImageConflict", "contradict");
    BAD("'hw:pmu': 'off'", "'hw_pmu': true", ERR_INVALID, "FlavorImageConflict", "hw:pmu");
    BAD("'hw:serial_port_count': '1'", "'hw_serial_port_count': 2", ERR_INVALID,
        "ImageSerialPortNumberExceedFlavorValue", "2");
}

UNIT_TEST(hardware, "disks, ports and screens are of the kind that the image asks for")
{
    GOOD("'hw_video:ram_max_mb': '64'",
         "'hw_disk_bus': 'scsi', 'hw_scsi_model': 'virtio-scsi', 'hw_vif_model': 'VirtualE1000', "
         "'hw_video_model': 'qxl', 'hw_video_ram': '32', 'hw_machine_type': 'q35', "
         "'hw_firmware_type': 'uefi', 'hw_qemu_guest_agent': 'yes', 'os_type': 'windows', "
         "'hw_time_hpet': 'on', 'img_hide_hypervisor_id': true, 'hw_input_bus': 'virtio'");
    const struct virt_build *b = &options->build;
    UNIT_STR(options->disk.bus, "scsi");
    UNIT_STR(options->disk_prefix, "sd");
    UNIT_STR(options->cdrom_bus, "sata");
    UNIT_STR(options->interface.model, "e1000");
    UNIT_STR(b->scsi_model, "virtio-scsi");
    UNIT_STR(b->video, "qxl");
    UNIT_EQ(b->video_ram_mb, 32);
    UNIT_STR(b->machine, "q35");
    UNIT_STR(b->firmware, "uefi");
    UNIT_STR(b->os_type, "windows");
    UNIT_STR(b->input_bus, "virtio");
    UNIT_TRUE(b->guest_agent && b->hpet && b->hide_hypervisor);
    is_iso = true;
    GOOD("", "");
    UNIT_STR(options->disk.device, "cdrom");
    UNIT_STR(options->disk.bus, "ide");
    BAD("", "'hw_disk_bus': 'xen'", ERR_INVALID, "UnsupportedHardware", "\"xen\"");
    BAD("", "'hw_vif_model': 'tulip'", ERR_INVALID, "UnsupportedHardware", "\"tulip\"");
    BAD("", "'hw_video_model': 'matrox'", ERR_INVALID, "InvalidVideoMode", "\"matrox\"");
    BAD("", "'hw_video_ram': '32'", ERR_INVALID, "RequestedVRamTooHigh", "32");
}

UNIT_TEST(architectures, "a guest of another architecture is emulated")
{
    GOOD("", "'hw_architecture': 'aarch64'");
    UNIT_STR(options->build.virt_type, "qemu");
    UNIT_STR(options->build.machine, "virt");
    UNIT_STR(options->build.firmware, "uefi");
    UNIT_STR(options->build.cpu_models[0], "cortex-a57");
    GOOD("", "'architecture': 'i386'");
    UNIT_STR(options->build.arch, "i686");
    UNIT_STR(options->build.cpu_mode, "none");
}

UNIT_TEST(quotas, "quotas of the flavor reach CPUs, disks and ports")
{
    GOOD(
        "'quota:cpu_shares': '2048', 'quota:cpu_quota': '-1', 'quota:disk_read_bytes_sec': '1000', "
        "'quota:vif_outbound_average': '10', 'hw_rng:rate_bytes': '7', 'hw_rng:rate_period': '9'",
        "");
    UNIT_EQ(options->build.cpu_shares, 2048);
    UNIT_EQ(options->build.cpu_quota, -1);
    UNIT_EQ(options->disk.read_bytes_sec, 1000);
    UNIT_EQ(options->interface.outbound_average, 10);
    UNIT_EQ(options->build.rng_bytes, 7);
    GOOD("'hw_rng:rate_bytes': '7'", "");
    UNIT_EQ(options->build.rng_bytes, 0);
    GOOD("'hw_rng:allowed': 'False'", "");
    UNIT_TRUE(!options->build.rng);
    BAD("'quota:cpu_shares': '-5'", "", ERR_INVALID, "Invalid", "quota:cpu_shares of the flavor");
}

UNIT_TEST(multiqueue, "ports get a queue for each CPU when asked for, under KVM alone")
{
    vcpus = 4;
    GOOD("", "'hw_vif_multiqueue_enabled': true");
    UNIT_EQ(options->interface.queues, 4);
    UNIT_STR(options->interface.driver, "vhost");
    UNIT_EQ(make("'hw:vif_multiqueue_enabled': 'true'", "", "libvirt.max_queues", "2"), 0);
    UNIT_EQ(options->interface.queues, 2);
    vcpus = 1;
    GOOD("", "'hw_vif_multiqueue_enabled': true");
    UNIT_EQ(options->interface.queues, 0);
    GOOD_WITH("libvirt.virt_type", "qemu");
    UNIT_STR(options->interface.driver, "qemu");
}

UNIT_TEST(configured, "the configuration decides what flavor and image leave open")
{
    GOOD_WITH("libvirt.hw_machine_type", "aarch64=virt-6.0,x86_64=pc-q35-7.2");
    UNIT_STR(options->build.machine, "pc-q35-7.2");
    UNIT_STR(options->cdrom_bus, "sata");
    GOOD_WITH("libvirt.cpu_model_extra_flags", "PCID,-vmx");
    UNIT_STR(options->build.cpu_flags[0], "pcid");
    UNIT_STR(options->build.cpu_flags[1], "-vmx");
    GOOD_WITH("libvirt.disk_cachemodes", "file=unsafe,block=none");
    UNIT_STR(options->disk.cache, "unsafe");
    GOOD_WITH("libvirt.hw_disk_discard", "unmap");
    UNIT_STR(options->disk.discard, "unmap");
    GOOD_WITH("DEFAULT.pointer_model", "ps2mouse");
    UNIT_STR(options->build.pointer, NULL);
    GOOD_WITH("compute.cpu_shared_set", "0-1");
    UNIT_STR(options->build.cpuset, "0-1");
    GOOD_WITH("libvirt.rx_queue_size", "512");
    UNIT_EQ(options->interface.rx_queue_size, 512);
    UNIT_STR(options->interface.driver, "vhost");
    GOOD_WITH("libvirt.sysinfo_serial", "none");
    UNIT_STR(options->build.system_serial, "");
    GOOD_WITH("libvirt.mem_stats_period_seconds", "-1");
    UNIT_EQ(options->build.balloon_period_s, 0);
    UNIT_EQ(make("", "", "libvirt.cpu_mode", "custom"), -1);
    UNIT_HAS(unit_err.text, "needs libvirt.cpu_models");
    UNIT_EQ(make("", "", "libvirt.disk_cachemodes", "file=fast"), -1);
    UNIT_EQ(unit_err.code, ERR_CONFIG);
    UNIT_EQ(make("", "", "libvirt.rng_dev_path", "/dev/no-such"), -1);
    UNIT_STR(err_wire_class(&unit_err), "RngDeviceNotExist");
    UNIT_EQ(make("", "", "libvirt.virt_type", "lxc"), -1);
    UNIT_EQ(unit_err.code, ERR_NOT_IMPLEMENTED);
}

UNIT_TEST(kernels, "a guest with its own kernel gets Nova's command line, or the image's")
{
    has_kernel = true;
    GOOD("", "");
    UNIT_STR(options->build.command_line, "root=/dev/vda console=tty0 console=ttyS0 console=hvc0");
    GOOD("", "'os_command_line': 'quiet'");
    UNIT_STR(options->build.command_line, "quiet");
    GOOD_WITH("libvirt.virt_type", "qemu");
    UNIT_HAS(options->build.command_line, " no_timer_check");
}

UNIT_TEST(not_built, "what is not implemented is refused, never left out in silence")
{
    BAD("'hw:numa_nodes': '2'", "", ERR_NOT_IMPLEMENTED, "NotImplementedError", "hw:numa_nodes");
    BAD("'hw:cpu_policy': 'dedicated'", "", ERR_NOT_IMPLEMENTED, "NotImplementedError",
        "\"dedicated\"");
    BAD("", "'hw_tpm_version': '2.0'", ERR_NOT_IMPLEMENTED, "NotImplementedError", "2.0");
    BAD("'os:secure_boot': 'required'", "", ERR_NOT_IMPLEMENTED, "NotImplementedError", "required");
    BAD("'hw:locked_memory': 'true'", "", ERR_INVALID, "LockMemoryForbidden", "hw:mem_page_size");
    GOOD("'hw:cpu_policy': 'shared', 'os:secure_boot': 'optional', 'hw:mem_encryption': 'false'",
         "");
    GOOD("'unknown:thing': '1', 'trait:HW_CPU_X86_AVX': 'required'", "'owner': 'me'");
}

/* A whole guest of it passes the builder. */
UNIT_TEST(builds, "what was decided is a guest that can be built")
{
    vcpus = 2;
    GOOD("'hw:cpu_sockets': '1'", "'hw_vif_multiqueue_enabled': true");
    struct virt_build guest = options->build;
    struct virt_build_disk disk = options->disk;
    struct virt_build_interface port = options->interface;
    _cleanup_(str_freep) char *xml = NULL;
    guest.uuid = "5dbd3dc3-8a3a-43b5-a17f-8e2bde3e7f30";
    guest.name = "instance-0000002a";
    disk.path = "/x/disk";
    disk.format = "qcow2";
    disk.target = "vda";
    port.mac = "fa:16:3e:00:00:01";
    port.tap = "tap0";
    port.bridge = "br0";
    guest.disks = &disk;
    guest.interfaces = &port;
    guest.disk_count = guest.interface_count = 1;
    UNIT_OK(virt_build_xml(&guest, &xml, &unit_err));
    UNIT_HAS(xml, "queues=\"2\"");
}
