/* SPDX-License-Identifier: Apache-2.0 */
/* The values of a new guest, by kind: one row for each says what it is called and what it may be. */
#include <inttypes.h>
#include <string.h>

#include "lib/text.h"
#include "virt/build_internal.h"
#include "virt/guest.h"

enum { TEXT_MAX = 255, COMMAND_LINE_MAX = 4096, PATH_MAX_BYTES = 4096 };

bool build_is_word(const char *words, const char *word)
{
    size_t length = word ? strlen(word) : 0;
    if (length == 0 || strchr(word, '|'))
        return false;
    for (const char *at = strstr(words, word); at; at = strstr(at + 1, word))
        if ((at == words || at[-1] == '|') && (at[length] == '|' || !at[length]))
            return true;
    return false;
}

static int refuse(const char *value, const char *what, const char *allowed, struct err *e)
{
    _cleanup_(str_freep) char *shown = text_escape(value ? value : "", 80);
    return err_set(e, ERR_INVALID, "%s \"%s\" of the new guest is not %s", what, shown, allowed);
}

/* Text that may stand in XML and means one line. */
static bool is_line(const char *s, size_t max)
{
    size_t length = strlen(s);
    if (length > max)
        return false;
    for (size_t i = 0; i < length;) {
        size_t bytes = text_printable(s + i, length - i);
        if (bytes == 0)
            return false;
        i += bytes;
    }
    return true;
}

/* --- kinds of strings; NULL passes unless `needed` --------------------------------------------- */

struct text_row {
    const char *what, *value;
    int (*check)(const char *value, const char *what, struct err *e);
    const char *words; /* instead of check */
    bool needed;
};

static int check_path(const char *value, const char *what, struct err *e)
{
    return value[0] == '/' && is_line(value, PATH_MAX_BYTES)
               ? 0
               : refuse(value, what, "an absolute path without control characters", e);
}

static int check_name(const char *value, const char *what, struct err *e)
{
    return value[0] && is_line(value, TEXT_MAX) && !strchr(value, '/')
               ? 0
               : refuse(value, what, "1 to 255 bytes without \"/\" and control characters", e);
}

static int check_line(const char *value, const char *what, struct err *e)
{
    return is_line(value, TEXT_MAX)
               ? 0
               : refuse(value, what, "at most 255 bytes of text in one line", e);
}

static int check_command_line(const char *value, const char *what, struct err *e)
{
    return is_line(value, COMMAND_LINE_MAX)
               ? 0
               : refuse(value, what, "at most 4096 bytes of text in one line", e);
}

static int check_identifier(const char *value, const char *what, struct err *e)
{
    static const char allowed[] =
        "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.+-";
    size_t length = strlen(value);
    return length >= 1 && length <= 128 && strspn(value, allowed) == length
               ? 0
               : refuse(value, what, "1 to 128 letters, digits and _.+-", e);
}

static int check_serial(const char *value, const char *what, struct err *e)
{
    static const char allowed[] =
        "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.+- ";
    size_t length = strlen(value);
    return length >= 1 && length <= 64 && strspn(value, allowed) == length
               ? 0
               : refuse(value, what, "1 to 64 letters, digits, blanks and _.+-", e);
}

static int check_cpuset(const char *value, const char *what, struct err *e)
{
    size_t length = strlen(value);
    return length >= 1 && length <= 1024 && strspn(value, "0123456789,-^") == length
               ? 0
               : refuse(value, what, "a list of host CPUs such as 0-3,6", e);
}

static int check_address(const char *value, const char *what, struct err *e)
{
    if (text_check_ip(value, what, NULL) == 0 || text_check_hostname(value, what, NULL) == 0)
        return 0;
    return refuse(value, what, "an address or a host name", e);
}

static int check_texts(const struct text_row *rows, size_t count, struct err *e)
{
    for (size_t i = 0; i < count; i++) {
        const struct text_row *row = &rows[i];
        if (!row->value && row->needed)
            return err_set(e, ERR_INVALID, "%s of the new guest is missing", row->what);
        if (!row->value)
            continue;
        if (row->words && !build_is_word(row->words, row->value)) {
            _cleanup_(str_freep) char *allowed = text_format("one of %s", row->words);
            return refuse(row->value, row->what, allowed, e);
        }
        if (row->check && row->check(row->value, row->what, e) < 0)
            return -1;
    }
    return 0;
}

struct number_row {
    const char *what;
    int64_t value, min, max;
};

static int check_numbers(const struct number_row *rows, size_t count, struct err *e)
{
    for (size_t i = 0; i < count; i++)
        if (rows[i].value < rows[i].min || rows[i].value > rows[i].max)
            return err_set(e, ERR_INVALID,
                           "%s %" PRId64 " of the new guest is not between %" PRId64
                           " and %" PRId64,
                           rows[i].what, rows[i].value, rows[i].min, rows[i].max);
    return 0;
}

/* --- disks ------------------------------------------------------------------------------------ */

/* "vda", "sdaa": the bus has its own letter, libvirt takes no other. */
static int check_target(const struct virt_build_disk *disk, struct err *e)
{
    static const char *const prefixes[][2] = {
        {"virtio", "vd"}, {"scsi", "sd"}, {"sata", "sd"},
        {"usb", "sd"},    {"ide", "hd"},  {"fdc", "fd"},
    };
    size_t length = strlen(disk->target);
    bool form =
        length >= 3 && length <= 5 && strspn(disk->target, "abcdefghijklmnopqrstuvwxyz") == length;
    for (size_t i = 0; form && i < ARRAY_LEN(prefixes); i++)
        if (text_equal(disk->bus, prefixes[i][0]) && text_starts_with(disk->target, prefixes[i][1]))
            return 0;
    _cleanup_(str_freep) char *shown = text_escape(disk->target, 80);
    return err_set(e, ERR_INVALID,
                   "the disk target \"%s\" of the new guest is no name of a disk on the bus %s",
                   shown, disk->bus);
}

/* QEMU refuses a total beside its parts. */
static int check_iotune(const struct virt_build_disk *disk, struct err *e)
{
    const int64_t limit = INT64_C(1) << 50;
    const struct number_row rows[] = {
        {"quota:disk_read_bytes_sec", disk->read_bytes_sec, 0, limit},
        {"quota:disk_write_bytes_sec", disk->write_bytes_sec, 0, limit},
        {"quota:disk_total_bytes_sec", disk->total_bytes_sec, 0, limit},
        {"quota:disk_read_iops_sec", disk->read_iops_sec, 0, limit},
        {"quota:disk_write_iops_sec", disk->write_iops_sec, 0, limit},
        {"quota:disk_total_iops_sec", disk->total_iops_sec, 0, limit},
        {"the boot order", disk->boot_order, 0, VIRT_DISKS_MAX},
    };
    if (check_numbers(rows, ARRAY_LEN(rows), e) < 0)
        return -1;
    if (disk->total_bytes_sec && (disk->read_bytes_sec || disk->write_bytes_sec))
        return err_set(
            e, ERR_INVALID,
            "quota:disk_total_bytes_sec of the new guest excludes the limits of reading and "
            "writing");
    if (disk->total_iops_sec && (disk->read_iops_sec || disk->write_iops_sec))
        return err_set(
            e, ERR_INVALID,
            "quota:disk_total_iops_sec of the new guest excludes the limits of reading and "
            "writing");
    return 0;
}

static int check_disk(const struct virt_build_disk *disk, struct err *e)
{
    const struct text_row rows[] = {
        {"the disk's path", disk->path, check_path, NULL, true},
        {"the disk's format", disk->format, NULL, "raw|qcow2", true},
        {"the disk's bus", disk->bus, NULL, BUILD_DISK_BUSES, true},
        {"the disk's target", disk->target, NULL, NULL, true},
        {"the disk's device", disk->device, NULL, "disk|cdrom|floppy|lun", false},
        {"the disk's cache mode", disk->cache, NULL, BUILD_CACHE_MODES, false},
        {"the disk's io mode", disk->io, NULL, "native|threads|io_uring", false},
        {"the disk's discard mode", disk->discard, NULL, "ignore|unmap", false},
        {"the disk's serial", disk->serial, check_serial, NULL, false},
    };
    if (check_texts(rows, ARRAY_LEN(rows), e) < 0 || check_target(disk, e) < 0)
        return -1;
    return check_iotune(disk, e);
}

static int check_disks(const struct virt_build *build, struct err *e)
{
    if (build->disk_count > VIRT_DISKS_MAX)
        return err_set(e, ERR_INVALID, "the new guest has %zu disks, allowed are %d",
                       build->disk_count, VIRT_DISKS_MAX);
    for (size_t i = 0; i < build->disk_count; i++) {
        if (check_disk(&build->disks[i], e) < 0)
            return -1;
        for (size_t k = 0; k < i; k++)
            if (text_equal(build->disks[k].target, build->disks[i].target))
                return err_set(e, ERR_INVALID, "two disks of the new guest have the target \"%s\"",
                               build->disks[i].target);
    }
    return 0;
}

/* --- interfaces ------------------------------------------------------------------------------- */

static int check_names(const struct virt_build_interface *interface, struct err *e)
{
    if (!interface->mac)
        return err_set(e, ERR_INVALID, "the MAC address of a port of the new guest is missing");
    if (text_check_mac(interface->mac, "MAC address", e) < 0)
        return -1;
    if (interface->tap && text_check_ifname(interface->tap, "tap name", e) < 0)
        return -1;
    if (interface->ethernet && !interface->tap)
        return err_set(e, ERR_INVALID, "the port %s is made by the agent, so it needs a tap name",
                       interface->mac);
    if (!interface->ethernet && !interface->bridge)
        return err_set(e, ERR_INVALID, "the port %s has no bridge", interface->mac);
    if (interface->bridge && text_check_ifname(interface->bridge, "bridge name", e) < 0)
        return -1;
    if (interface->openvswitch && !interface->ethernet)
        return text_check_uuid(interface->interface_id ? interface->interface_id : "",
                               "interface id", e);
    return 0;
}

int build_check_interface(const struct virt_build_interface *interface, struct err *e)
{
    const int64_t limit = INT64_C(1) << 40;
    const struct text_row texts[] = {
        {"the port's model", interface->model, NULL, BUILD_VIF_MODELS, false},
        {"the port's driver", interface->driver, NULL, "qemu|vhost", false},
    };
    const struct number_row numbers[] = {
        {"the port's MTU", interface->mtu ? interface->mtu : 1500, 68, 65535},
        {"the number of queues", interface->queues, 0, 256},
        {"the receive queue's size", interface->rx_queue_size, 0, 1024},
        {"quota:vif_inbound_average", interface->inbound_average, 0, limit},
        {"quota:vif_inbound_peak", interface->inbound_peak, 0, limit},
        {"quota:vif_inbound_burst", interface->inbound_burst, 0, limit},
        {"quota:vif_outbound_average", interface->outbound_average, 0, limit},
        {"quota:vif_outbound_peak", interface->outbound_peak, 0, limit},
        {"quota:vif_outbound_burst", interface->outbound_burst, 0, limit},
    };
    if (check_names(interface, e) < 0 || check_texts(texts, ARRAY_LEN(texts), e) < 0)
        return -1;
    return check_numbers(numbers, ARRAY_LEN(numbers), e);
}

static int check_interfaces(const struct virt_build *build, struct err *e)
{
    if (build->interface_count > VIRT_INTERFACES_MAX)
        return err_set(e, ERR_INVALID, "the new guest has %zu ports, allowed are %d",
                       build->interface_count, VIRT_INTERFACES_MAX);
    for (size_t i = 0; i < build->interface_count; i++)
        if (build_check_interface(&build->interfaces[i], e) < 0)
            return -1;
    return 0;
}

/* --- the guest -------------------------------------------------------------------------------- */

static int check_cpu(const struct virt_build *build, struct err *e)
{
    bool custom = text_equal(build->cpu_mode, "custom");
    int64_t sockets = build->sockets ? build->sockets : build->vcpus;
    int64_t cores = build->cores ? build->cores : 1, threads = build->threads ? build->threads : 1;
    if (sockets * cores * threads != build->vcpus)
        return err_set(e, ERR_INVALID,
                       "%d sockets of %d cores of %d threads are not the %d CPUs of the new guest",
                       build->sockets, build->cores, build->threads, build->vcpus);
    if (custom && (!build->cpu_models || !build->cpu_models[0]))
        return err_set(e, ERR_INVALID, "the CPU mode custom needs a CPU model");
    for (size_t i = 0; build->cpu_models && build->cpu_models[i]; i++)
        if (check_identifier(build->cpu_models[i], "the CPU model", e) < 0)
            return -1;
    for (size_t i = 0; build->cpu_flags && build->cpu_flags[i]; i++)
        if (check_identifier(build->cpu_flags[i] + strspn(build->cpu_flags[i], "+-"),
                             "the CPU flag", e) < 0)
            return -1;
    return 0;
}

static int check_consoles(const struct virt_build *build, struct err *e)
{
    if (!build->serial_tcp)
        return 0;
    if (!build->serial_host || build->serial_port_count < 1 || build->serial_port_count > 4)
        return err_set(e, ERR_INVALID,
                       "the new guest's TCP consoles need an address and 1 to 4 ports, not %zu",
                       build->serial_port_count);
    for (size_t i = 0; i < build->serial_port_count; i++)
        if (build->serial_ports[i] < 1 || build->serial_ports[i] > 65535)
            return err_set(e, ERR_INVALID, "the serial console's port %d is not 1 to 65535",
                           build->serial_ports[i]);
    return check_address(build->serial_host, "the serial console's address", e);
}

static int check_guest_texts(const struct virt_build *build, struct err *e)
{
    const struct text_row rows[] = {
        {"the uuid", build->uuid, text_check_uuid, NULL, true},
        {"the name", build->name, check_name, NULL, true},
        {"the virt_type", build->virt_type, NULL, "kvm|qemu", true},
        {"the architecture", build->arch, check_identifier, NULL, true},
        {"the machine type", build->machine, check_identifier, NULL, false},
        {"the emulator", build->emulator, check_path, NULL, false},
        {"the CPU mode", build->cpu_mode, NULL, BUILD_CPU_MODES, false},
        {"the CPU set", build->cpuset, check_cpuset, NULL, false},
        {"the kernel", build->kernel, check_path, NULL, false},
        {"the initrd", build->initrd, check_path, NULL, false},
        {"the command line", build->command_line, check_command_line, NULL, false},
        {"the firmware", build->firmware, NULL, "bios|uefi", false},
        {"the os_type", build->os_type, check_identifier, NULL, false},
        {"the console log", build->console_log, check_path, NULL, false},
        {"the VNC address", build->vnc_listen, check_address, NULL, false},
        {"the SPICE address", build->spice_listen, check_address, NULL, false},
        {"the keymap", build->keymap, check_identifier, NULL, false},
        {"the video model", build->video, NULL, BUILD_VIDEO_MODELS, false},
        {"the pointer model", build->pointer, NULL, "usbtablet|ps2mouse", false},
        {"the input bus", build->input_bus, NULL, "usb|virtio", false},
        {"the RNG's source", build->rng_path, check_path, NULL, false},
        {"the watchdog's action", build->watchdog, NULL, BUILD_WATCHDOGS, false},
        {"the SCSI model", build->scsi_model, NULL, BUILD_SCSI_MODELS, false},
        {"the system serial", build->system_serial, check_line, NULL, false},
    };
    return check_texts(rows, ARRAY_LEN(rows), e);
}

/* The numbers' bounds are libvirt's and the kernel's. */
static int check_guest_numbers(const struct virt_build *build, struct err *e)
{
    const struct number_row rows[] = {
        {"the memory in MiB", build->memory_mb, 1, INT64_C(1) << 30},
        {"the number of CPUs", build->vcpus, 1, 4096},
        {"the number of sockets", build->sockets, 0, 4096},
        {"the number of cores", build->cores, 0, 4096},
        {"the number of threads", build->threads, 0, 4096},
        {"quota:cpu_shares", build->cpu_shares ? build->cpu_shares : 2, 2, 262144},
        {"quota:cpu_period", build->cpu_period ? build->cpu_period : 1000, 1000, 1000000},
        {"quota:cpu_quota", build->cpu_quota < 0 ? 1000 : build->cpu_quota, 0,
         INT64_C(17592186044415)},
        {"the video memory in MiB", build->video_ram_mb, 0, 4096},
        {"hw_rng:rate_bytes", build->rng_bytes, 0, INT64_C(1) << 40},
        {"hw_rng:rate_period", build->rng_period_ms, build->rng_bytes ? 1 : 0, INT64_C(1) << 31},
        {"the balloon's period", build->balloon_period_s, 0, 86400},
        {"the number of PCIe ports", build->pcie_ports, 0, 28},
    };
    return check_numbers(rows, ARRAY_LEN(rows), e);
}

int build_check(const struct virt_build *build, struct err *e)
{
    if (check_guest_texts(build, e) < 0 || check_guest_numbers(build, e) < 0 ||
        check_cpu(build, e) < 0 || check_consoles(build, e) < 0 || check_disks(build, e) < 0)
        return -1;
    return check_interfaces(build, e);
}
