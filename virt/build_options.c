/* SPDX-License-Identifier: Apache-2.0 */
#include "virt/build_options.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "lib/json.h"
#include "lib/text.h"
#include "virt/build_internal.h"
#include "virt/build_options_internal.h"

/* Nova's CONSOLE. */
#define CONSOLES "console=tty0 console=ttyS0 console=hvc0"

enum { SERIAL_PORTS_MAX = 4 };

/* --- values ----------------------------------------------------------------------------------- */

const char *build_keep(const struct build_source *s, char *text)
{
    struct virt_build_options *o = s->out;
    o->strings = mem_resize(o->strings, sizeof(char *) * (o->string_count + 1));
    o->strings[o->string_count++] = text;
    return text;
}

const char *build_lower(const struct build_source *s, const char *text)
{
    if (!text)
        return NULL;
    char *copy = text_dup(text);
    for (char *c = copy; *c; c++)
        *c = (char)tolower((unsigned char)*c);
    return build_keep(s, copy);
}

static const char *value_of(const struct build_source *s, struct json_object *from, const char *key)
{
    struct json_object *value = json_get(from, key);
    if (!value || json_object_is_type(value, json_type_object) ||
        json_object_is_type(value, json_type_array))
        return NULL;
    const char *text = json_object_get_string(value);
    return text && *text ? build_keep(s, text_dup(text)) : NULL;
}

const char *build_spec(const struct build_source *s, const char *key)
{
    return value_of(s, s->request->extra_specs, key);
}

const char *build_property(const struct build_source *s, const char *key)
{
    return value_of(s, s->request->image_properties, key);
}

static int to_int(const char *text, const char *key, const char *where, int64_t min, int64_t max,
                  int64_t *out, struct err *e)
{
    if (text && text_to_int64(text, min, max, out, e) < 0)
        return err_prefix(e, "%s of the %s: ", key, where);
    return 0;
}

int build_spec_int(const struct build_source *s, const char *key, int64_t min, int64_t max,
                   int64_t *out, struct err *e)
{
    return to_int(build_spec(s, key), key, "flavor", min, max, out, e);
}

int build_property_int(const struct build_source *s, const char *key, int64_t min, int64_t max,
                       int64_t *out, struct err *e)
{
    return to_int(build_property(s, key), key, "image", min, max, out, e);
}

bool build_is_true(const char *text)
{
    static const char *const words[] = {"1", "t", "true", "on", "y", "yes"};
    for (size_t i = 0; text && i < ARRAY_LEN(words); i++)
        if (strcasecmp(text, words[i]) == 0)
            return true;
    return false;
}

int build_both_bool(const struct build_source *s, const char *name, int *out, struct err *e)
{
    _cleanup_(str_freep) char *spec_key = text_format("hw:%s", name);
    _cleanup_(str_freep) char *image_key = text_format("hw_%s", name);
    const char *spec = build_spec(s, spec_key), *image = build_property(s, image_key);
    if (spec && image && build_is_true(spec) != build_is_true(image))
        return build_refuse(
            e, "FlavorImageConflict",
            "%s \"%s\" of the flavor and %s \"%s\" of the image contradict each other", spec_key,
            spec, image_key, image);
    *out = spec ? build_is_true(spec) : image ? build_is_true(image) : -1;
    return 0;
}

/* --- what is not built ------------------------------------------------------------------------ */

/* Words that ask for nothing, divided by "|"; all others are refused rather than left out in silence. */
static const struct {
    const char *key;
    bool image;
    const char *harmless;
} not_built[] = {
    {"hw:numa_nodes", false, ""},
    {"hw_numa_nodes", true, ""},
    {"hw:mem_page_size", false, ""},
    {"hw_mem_page_size", true, ""},
    {"hw:cpu_policy", false, "shared"},
    {"hw_cpu_policy", true, "shared"},
    {"hw:emulator_threads_policy", false, ""},
    {"hw:cpu_realtime", false, "false|no|0|off|False"},
    {"hw:cpu_dedicated_mask", false, ""},
    {"hw:tpm_version", false, ""},
    {"hw:tpm_model", false, ""},
    {"hw_tpm_version", true, ""},
    {"hw_tpm_model", true, ""},
    {"hw:mem_encryption", false, "false|no|0|off|False"},
    {"hw_mem_encryption", true, "false|no|0|off|False"},
    {"hw:viommu_model", false, ""},
    {"hw_viommu_model", true, ""},
    {"hw:ephemeral_encryption", false, "false|no|0|off|False"},
    {"hw_ephemeral_encryption", true, "false|no|0|off|False"},
    {"os:secure_boot", false, "disabled|optional"},
    {"os_secure_boot", true, "disabled|optional"},
    {"pci_passthrough:alias", false, ""},
    {"accel:device_profile", false, ""},
    {"resources:VGPU", false, "0"},
    {"hw:pmem", false, ""},
};

static int check_not_built(const struct build_source *s, struct err *e)
{
    for (size_t i = 0; i < ARRAY_LEN(not_built); i++) {
        const char *value = not_built[i].image ? build_property(s, not_built[i].key)
                                               : build_spec(s, not_built[i].key);
        if (!value || build_is_word(not_built[i].harmless, value))
            continue;
        _cleanup_(str_freep) char *shown = text_escape(value, 80);
        return err_set(e, ERR_NOT_IMPLEMENTED, "%s \"%s\" of the %s is not implemented here",
                       not_built[i].key, shown, not_built[i].image ? "image" : "flavor");
    }
    return 0;
}

/* --- the machine ------------------------------------------------------------------------------ */

static const char *canonical_arch(const char *arch)
{
    if (build_is_word("i386|i486|i586|x86_32", arch))
        return "i686";
    return text_equal(arch, "amd64") || text_equal(arch, "x64") ? "x86_64" : arch;
}

static const char *host_arch(const struct build_source *s)
{
    struct utsname name;
    if (s->request->host_arch)
        return canonical_arch(s->request->host_arch);
    return uname(&name) == 0 ? canonical_arch(build_keep(s, text_dup(name.machine))) : "x86_64";
}

/* The older property name is what images of ten years ago have. */
static const char *wanted_arch(const struct build_source *s)
{
    static const char *const keys[] = {"hw_emulation_architecture", "hw_architecture",
                                       "architecture"};
    for (size_t i = 0; i < ARRAY_LEN(keys); i++) {
        const char *arch = build_property(s, keys[i]);
        if (arch)
            return canonical_arch(arch);
    }
    return host_arch(s);
}

static const char *configured_machine(const struct build_source *s, const char *arch)
{
    size_t count = 0, length = strlen(arch);
    const char *const *list = conf_list(s->conf, CONF_libvirt_hw_machine_type, &count);
    for (size_t i = 0; i < count; i++)
        if (strncmp(list[i], arch, length) == 0 && list[i][length] == '=' && list[i][length + 1])
            return build_keep(s, text_dup(list[i] + length + 1));
    return NULL;
}

static const char *machine_of(const struct build_source *s, const char *arch)
{
    static const char *const defaults[][2] = {
        {"x86_64", "pc"},
        {"i686", "pc"},
        {"aarch64", "virt"},
        {"armv7l", "virt"},
        {"ppc64le", "pseries"},
        {"s390x", "s390-ccw-virtio"},
        {"s390", "s390-ccw-virtio"},
    };
    const char *machine = build_property(s, "hw_machine_type");
    if (!machine)
        machine = configured_machine(s, arch);
    for (size_t i = 0; !machine && i < ARRAY_LEN(defaults); i++)
        if (text_equal(arch, defaults[i][0]))
            machine = defaults[i][1];
    return machine;
}

static int choose_machine(const struct build_source *s, bool *emulated, struct err *e)
{
    struct virt_build *b = &s->out->build;
    b->virt_type = conf_string(s->conf, CONF_libvirt_virt_type);
    if (!build_is_word("kvm|qemu", b->virt_type))
        return err_set(
            e, ERR_NOT_IMPLEMENTED,
            "guests of libvirt.virt_type \"%s\" are not implemented here, only kvm and qemu",
            b->virt_type);
    b->arch = wanted_arch(s);
    *emulated = !text_equal(b->arch, host_arch(s));
    if (*emulated)
        b->virt_type = "qemu";
    b->machine = machine_of(s, b->arch);
    b->acpi = true;
    b->no_apic = conf_bool(s->conf, CONF_workarounds_libvirt_disable_apic);
    b->pcie_ports = (int)conf_int(s->conf, CONF_libvirt_num_pcie_ports);
    return 0;
}

static int choose_firmware(const struct build_source *s, struct err *e)
{
    struct virt_build *b = &s->out->build;
    b->firmware = build_property(s, "hw_firmware_type");
    if (!b->firmware && text_equal(b->arch, "aarch64"))
        b->firmware = "uefi";
    if (b->firmware && !build_is_word("bios|uefi", b->firmware))
        return err_set(e, ERR_INVALID, "hw_firmware_type \"%s\" of the image is not bios or uefi",
                       b->firmware);
    return 0;
}

static int choose_features(const struct build_source *s, struct err *e)
{
    struct virt_build *b = &s->out->build;
    int pmu, locked;
    const char *menu = build_property(s, "hw_boot_menu");
    b->os_type = s->request->os_type ? build_keep(s, text_dup(s->request->os_type))
                                     : build_property(s, "os_type");
    b->hpet = build_is_true(build_property(s, "hw_time_hpet"));
    b->hide_hypervisor = build_is_true(build_spec(s, "hide_hypervisor_id")) ||
                         build_is_true(build_spec(s, "hw:hide_hypervisor_id")) ||
                         build_is_true(build_property(s, "img_hide_hypervisor_id"));
    b->boot_menu = build_is_true(menu ? menu : build_spec(s, "hw:boot_menu"));
    b->guest_agent = build_is_true(build_property(s, "hw_qemu_guest_agent"));
    if (build_both_bool(s, "pmu", &pmu, e) < 0 ||
        build_both_bool(s, "locked_memory", &locked, e) < 0)
        return -1;
    if (locked == 1) /* Nova's rule: only with hw:mem_page_size, which is not built */
        return build_refuse(e, "LockMemoryForbidden",
                            "hw:locked_memory needs hw:mem_page_size, which is not given");
    b->pmu = pmu == 1 ? 1 : pmu == 0 ? -1 : 0;
    return 0;
}

static int choose_shares(const struct build_source *s, struct err *e)
{
    struct virt_build *b = &s->out->build;
    b->cpuset = conf_string(s->conf, CONF_compute_cpu_shared_set);
    if (b->cpuset && !*b->cpuset)
        b->cpuset = NULL;
    if (build_spec_int(s, "quota:cpu_shares", 2, 262144, &b->cpu_shares, e) < 0 ||
        build_spec_int(s, "quota:cpu_period", 1000, 1000000, &b->cpu_period, e) < 0)
        return -1;
    return build_spec_int(s, "quota:cpu_quota", -1, INT64_C(17592186044415), &b->cpu_quota, e);
}

/* --- what one sees, and what has a console ----------------------------------------------------- */

static int choose_video(const struct build_source *s, struct err *e)
{
    struct virt_build *b = &s->out->build;
    int64_t ram = 0, limit = 0;
    if (!b->vnc_listen && !b->spice_listen)
        return 0;
    b->video = build_property(s, "hw_video_model");
    if (b->video && !build_is_word(BUILD_VIDEO_MODELS, b->video))
        return build_refuse(e, "InvalidVideoMode",
                            "hw_video_model \"%s\" of the image is not one of %s", b->video,
                            BUILD_VIDEO_MODELS);
    if (build_property_int(s, "hw_video_ram", 0, 4096, &ram, e) < 0 ||
        build_spec_int(s, "hw_video:ram_max_mb", 0, INT32_MAX, &limit, e) < 0)
        return -1;
    if (ram > limit)
        return build_refuse(
            e, "RequestedVRamTooHigh",
            "hw_video_ram %d of the image is more than hw_video:ram_max_mb %d of the "
            "flavor",
            (int)ram, (int)limit);
    b->video_ram_mb = ram;
    return 0;
}

/* SPICE's agent brings a better pointer, unless VNC wants one too. */
static int choose_pointer(const struct build_source *s, struct err *e)
{
    struct virt_build *b = &s->out->build;
    const char *model = build_property(s, "hw_pointer_model");
    b->input_bus = build_property(s, "hw_input_bus");
    if (b->input_bus && !build_is_word("usb|virtio", b->input_bus))
        return err_set(e, ERR_INVALID, "hw_input_bus \"%s\" of the image is not usb or virtio",
                       b->input_bus);
    if (model && !text_equal(model, "usbtablet"))
        return err_set(e, ERR_INVALID, "hw_pointer_model \"%s\" of the image is not usbtablet",
                       model);
    if (b->spice_listen && b->spice_agent && !b->vnc_listen)
        return 0;
    if (model || text_equal(conf_string(s->conf, CONF_DEFAULT_pointer_model), "usbtablet"))
        b->pointer = "usbtablet";
    return 0;
}

static int choose_screen(const struct build_source *s, struct err *e)
{
    struct virt_build *b = &s->out->build;
    if (conf_bool(s->conf, CONF_vnc_enabled))
        b->vnc_listen = conf_string(s->conf, CONF_vnc_server_listen);
    if (conf_bool(s->conf, CONF_spice_enabled))
        b->spice_listen = conf_string(s->conf, CONF_spice_server_listen);
    b->spice_agent = conf_bool(s->conf, CONF_spice_agent_enabled);
    return choose_video(s, e) < 0 ? -1 : choose_pointer(s, e);
}

static int choose_consoles(const struct build_source *s, struct err *e)
{
    struct virt_build *b = &s->out->build;
    int64_t flavor = 0, image = 0;
    b->serial_tcp = conf_bool(s->conf, CONF_serial_console_enabled);
    b->serial_host = conf_string(s->conf, CONF_serial_console_proxyclient_address);
    if (build_spec_int(s, "hw:serial_port_count", 0, INT32_MAX, &flavor, e) < 0 ||
        build_property_int(s, "hw_serial_port_count", 0, INT32_MAX, &image, e) < 0)
        return -1;
    if (flavor && image > flavor)
        return build_refuse(
            e, "ImageSerialPortNumberExceedFlavorValue",
            "hw_serial_port_count %d of the image is more than hw:serial_port_count "
            "%d of the flavor",
            (int)image, (int)flavor);
    int64_t count = image ? image : flavor ? flavor : 1;
    if (b->serial_tcp && count > SERIAL_PORTS_MAX)
        return build_refuse(e, "SerialPortNumberLimitExceeded",
                            "%d serial ports are wanted, QEMU has at most %d", (int)count,
                            SERIAL_PORTS_MAX);
    b->serial_port_count = b->serial_tcp ? (size_t)count : 1;
    return 0;
}

/* --- small devices ---------------------------------------------------------------------------- */

static int choose_rng(const struct build_source *s, struct err *e)
{
    struct virt_build *b = &s->out->build;
    const char *allowed = build_spec(s, "hw_rng:allowed");
    if (allowed && !build_is_true(allowed))
        return 0;
    b->rng_path = conf_string(s->conf, CONF_libvirt_rng_dev_path);
    if (b->rng_path && !*b->rng_path)
        b->rng_path = NULL;
    if (b->rng_path && access(b->rng_path, F_OK) != 0)
        return build_refuse(e, "RngDeviceNotExist",
                            "libvirt.rng_dev_path \"%s\" does not exist on this host", b->rng_path);
    if (build_spec_int(s, "hw_rng:rate_bytes", 0, INT64_C(1) << 40, &b->rng_bytes, e) < 0 ||
        build_spec_int(s, "hw_rng:rate_period", 0, INT64_C(1) << 31, &b->rng_period_ms, e) < 0)
        return -1;
    if (!b->rng_bytes || !b->rng_period_ms) /* Nova: only both together are a limit */
        b->rng_bytes = b->rng_period_ms = 0;
    b->rng = true;
    return 0;
}

static int choose_watchdog(const struct build_source *s, struct err *e)
{
    struct virt_build *b = &s->out->build;
    b->watchdog = build_property(s, "hw_watchdog_action");
    if (!b->watchdog)
        b->watchdog = build_spec(s, "hw:watchdog_action");
    if (b->watchdog && !build_is_word(BUILD_WATCHDOGS, b->watchdog))
        return build_refuse(e, "InvalidWatchdogAction",
                            "the watchdog's action \"%s\" is not one of %s", b->watchdog,
                            BUILD_WATCHDOGS);
    return 0;
}

static const char *first_line(const struct build_source *s, const char *path)
{
    char text[64] = "";
    FILE *file = fopen(path, "re");
    if (!file)
        return NULL;
    size_t length = fread(text, 1, sizeof(text) - 1, file);
    (void)fclose(file);
    text[length] = '\0';
    text[strcspn(text, "\n")] = '\0';
    return *text ? build_keep(s, text_dup(text)) : NULL;
}

/* /etc/machine-id is a UUID without its dashes. */
static const char *machine_id(const struct build_source *s)
{
    const char *id = first_line(s, "/etc/machine-id");
    if (!id || strlen(id) != 32)
        return NULL;
    return build_keep(
        s, text_format("%.8s-%.4s-%.4s-%.4s-%.12s", id, id + 8, id + 12, id + 16, id + 20));
}

static int choose_serial(const struct build_source *s, struct err *e)
{
    const char *kind = conf_string(s->conf, CONF_libvirt_sysinfo_serial);
    const char *serial = NULL;
    if (text_equal(kind, "unique"))
        return 0; /* the builder takes the uuid */
    if (text_equal(kind, "none"))
        serial = "";
    if (text_equal(kind, "os") || text_equal(kind, "auto"))
        serial = machine_id(s);
    if (!serial && !text_equal(kind, "os"))
        serial = first_line(s, "/sys/class/dmi/id/product_uuid");
    if (!serial)
        return err_set(e, ERR_CONFIG, "libvirt.sysinfo_serial \"%s\": this host has no such number",
                       kind);
    s->out->build.system_serial = serial;
    return 0;
}

/* Nova gives a kernel the whole disk as its root, unless the image knows better. */
static void choose_command_line(const struct build_source *s)
{
    struct virt_build *b = &s->out->build;
    const char *root = s->request->root_device;
    if (!s->request->has_kernel)
        return;
    b->command_line = build_property(s, "os_command_line");
    if (b->command_line)
        return;
    char *device = root ? text_dup(root) : text_format("/dev/%sa", s->out->disk_prefix);
    b->command_line =
        build_keep(s, text_format("root=%s %s%s", build_keep(s, device), CONSOLES,
                                  text_equal(b->virt_type, "qemu") ? " no_timer_check" : ""));
}

static int choose_devices(const struct build_source *s, struct err *e)
{
    int64_t period = conf_int(s->conf, CONF_libvirt_mem_stats_period_seconds);
    s->out->build.balloon_period_s = period > 0 ? (int)period : 0;
    if (choose_rng(s, e) < 0 || choose_watchdog(s, e) < 0 || choose_serial(s, e) < 0)
        return -1;
    return choose_screen(s, e) < 0 ? -1 : choose_consoles(s, e);
}

/* --- entry ------------------------------------------------------------------------------------ */

static int choose(const struct build_source *s, struct err *e)
{
    bool emulated = false;
    if (check_not_built(s, e) < 0 || choose_machine(s, &emulated, e) < 0 ||
        choose_firmware(s, e) < 0 || choose_features(s, e) < 0 || choose_shares(s, e) < 0 ||
        build_cpu_topology(s, e) < 0 || build_cpu_model(s, emulated, e) < 0 ||
        build_storage_options(s, e) < 0 || build_port_options(s, e) < 0 || choose_devices(s, e) < 0)
        return -1;
    choose_command_line(s);
    return 0;
}

int virt_build_options_make(const struct virt_build_request *request,
                            struct virt_build_options **out, struct err *e)
{
    _cleanup_(virt_build_options_freep) struct virt_build_options *options =
        NEW(struct virt_build_options);
    const struct build_source source = {request, request->conf, options};
    options->conf = conf_ref(request->conf);
    options->build.vcpus = request->vcpus;
    options->build.memory_mb = request->memory_mb;
    if (request->vcpus < 1)
        return err_set(e, ERR_INVALID, "the flavor has %d CPUs, at least 1 is needed",
                       request->vcpus);
    if (choose(&source, e) < 0)
        return -1;
    *out = STEAL(options);
    return 0;
}

void virt_build_options_free(struct virt_build_options *options)
{
    if (!options)
        return;
    for (size_t i = 0; i < options->string_count; i++)
        free(options->strings[i]);
    free(options->strings);
    free(options->pointers);
    conf_unref(options->conf);
    free(options);
}
