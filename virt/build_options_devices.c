/* SPDX-License-Identifier: Apache-2.0 */
/* What disks and ports of a new guest have in common: buses, models, caches, quotas. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "lib/text.h"
#include "virt/build_internal.h"
#include "virt/build_options_internal.h"
#include "virt/paths.h"

enum { BLOCK = 4096 };

/* --- disks ------------------------------------------------------------------------------------ */

static const char *prefix_of(const char *bus)
{
    static const char *const prefixes[][2] = {{"virtio", "vd"}, {"ide", "hd"}, {"fdc", "fd"}};
    for (size_t i = 0; i < ARRAY_LEN(prefixes); i++)
        if (text_equal(bus, prefixes[i][0]))
            return prefixes[i][1];
    return "sd";
}

static int bus_of(const struct build_source *s, const char *key, const char *fallback,
                  const char **out, struct err *e)
{
    const char *bus = build_property(s, key);
    if (bus && !build_is_word(BUILD_DISK_BUSES, bus))
        return build_refuse(e, "UnsupportedHardware", "%s \"%s\" of the image is not one of %s",
                            key, bus, BUILD_DISK_BUSES);
    *out = bus ? bus : fallback;
    return 0;
}

/* pc has IDE, q35 has SATA, other architectures have neither. */
static const char *usual_cdrom_bus(const struct virt_build *b)
{
    if (build_is_word("ppc|ppc64|ppcle|ppc64le|s390|s390x|aarch64", b->arch))
        return "scsi";
    return b->machine && strstr(b->machine, "q35") ? "sata" : "ide";
}

/* Names that images of VMware's time have. */
static const char *scsi_model(const struct build_source *s)
{
    const char *model = build_lower(s, build_property(s, "hw_scsi_model"));
    if (text_equal(model, "lsilogicsas"))
        return "lsisas1068";
    return text_equal(model, "paravirtual") ? "vmpvscsi" : model;
}

/* One block written past the page cache, into a file that has no name any more. */
static bool knows_direct_io(const struct conf *conf)
{
    _cleanup_(fd_closep) int root = -1, fd = -1;
    _cleanup_(mem_freep) void *block = NULL;
    char name[64], random[17];
    text_random_hex(8, random);
    (void)snprintf(name, sizeof(name), ".computed-direct-io-%s", random);
    if (paths_open_root(conf, &root, NULL) < 0 || posix_memalign(&block, BLOCK, BLOCK) != 0)
        return true; /* nothing is known: Nova's first choice */
    fd = openat(root, name, O_RDWR | O_CREAT | O_EXCL | O_DIRECT | O_CLOEXEC, 0600);
    int reason = errno;
    (void)unlinkat(root, name, 0);
    if (fd < 0)
        return reason != EINVAL;
    memset(block, 0, BLOCK);
    return pwrite(fd, block, BLOCK, 0) == BLOCK || errno != EINVAL;
}

static int choose_cache(const struct build_source *s, struct err *e)
{
    struct virt_build_disk *disk = &s->out->disk;
    size_t count = 0;
    const char *const *modes = conf_list(s->conf, CONF_libvirt_disk_cachemodes, &count);
    for (size_t i = 0; i < count; i++) {
        const char *mode = strchr(modes[i], '=');
        if (!mode || !build_is_word(BUILD_CACHE_MODES, mode + 1))
            return err_set(e, ERR_CONFIG,
                           "libvirt.disk_cachemodes \"%s\" is not KIND=MODE with a MODE of %s",
                           modes[i], BUILD_CACHE_MODES);
        if (text_starts_with(modes[i], "file="))
            disk->cache = mode + 1;
    }
    if (!disk->cache)
        disk->cache = knows_direct_io(s->conf) ? "none" : "writeback";
    return 0;
}

/* Space that was given beforehand makes native AIO safe; it needs direct I/O. */
static void choose_io(const struct build_source *s)
{
    struct virt_build_disk *disk = &s->out->disk;
    if (text_equal(conf_string(s->conf, CONF_DEFAULT_preallocate_images), "space"))
        disk->io = build_is_word("none|directsync", disk->cache) ? "native" : "threads";
    disk->discard = conf_string(s->conf, CONF_libvirt_hw_disk_discard);
}

static int choose_disk_quotas(const struct build_source *s, struct err *e)
{
    struct virt_build_disk *disk = &s->out->disk;
    const struct {
        const char *key;
        int64_t *value;
    } rows[] = {
        {"quota:disk_read_bytes_sec", &disk->read_bytes_sec},
        {"quota:disk_read_iops_sec", &disk->read_iops_sec},
        {"quota:disk_write_bytes_sec", &disk->write_bytes_sec},
        {"quota:disk_write_iops_sec", &disk->write_iops_sec},
        {"quota:disk_total_bytes_sec", &disk->total_bytes_sec},
        {"quota:disk_total_iops_sec", &disk->total_iops_sec},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++)
        if (build_spec_int(s, rows[i].key, 0, INT64_C(1) << 50, rows[i].value, e) < 0)
            return -1;
    return 0;
}

int build_storage_options(const struct build_source *s, struct err *e)
{
    struct virt_build_options *o = s->out;
    if (bus_of(s, "hw_disk_bus", "virtio", &o->disk_bus, e) < 0 ||
        bus_of(s, "hw_cdrom_bus", usual_cdrom_bus(&o->build), &o->cdrom_bus, e) < 0 ||
        choose_cache(s, e) < 0 || choose_disk_quotas(s, e) < 0)
        return -1;
    o->disk_prefix = prefix_of(o->disk_bus);
    o->cdrom_prefix = prefix_of(o->cdrom_bus);
    o->disk.bus = s->request->is_iso ? o->cdrom_bus : o->disk_bus;
    o->disk.device = s->request->is_iso ? "cdrom" : "disk";
    choose_io(s);
    o->build.scsi_model = scsi_model(s);
    if (o->build.scsi_model && !build_is_word(BUILD_SCSI_MODELS, o->build.scsi_model))
        return build_refuse(e, "UnsupportedHardware",
                            "hw_scsi_model \"%s\" of the image is not one of %s",
                            o->build.scsi_model, BUILD_SCSI_MODELS);
    return 0;
}

/* --- ports ------------------------------------------------------------------------------------ */

/* VMware's names for the same cards (fields.VIFModel.LEGACY_VALUES). */
static const char *vif_model(const struct build_source *s)
{
    static const char *const legacy[][2] = {
        {"virtuale1000", "e1000"},
        {"virtuale1000e", "e1000e"},
        {"virtualpcnet32", "pcnet"},
        {"virtualvmxnet3", "vmxnet3"},
    };
    const char *model = build_lower(s, build_property(s, "hw_vif_model"));
    for (size_t i = 0; model && i < ARRAY_LEN(legacy); i++)
        if (text_equal(model, legacy[i][0]))
            return legacy[i][1];
    if (!model && conf_bool(s->conf, CONF_libvirt_use_virtio_for_bridges))
        return "virtio";
    return model;
}

/*
 * Under plain QEMU there is no vhost, and libvirt must be told so. Nova's queues: one for each CPU, as many
 * as the kernel's tap takes.
 */
static int choose_virtio(const struct build_source *s, struct err *e)
{
    struct virt_build_interface *port = &s->out->interface;
    int queues = -1, packed = -1;
    if (build_both_bool(s, "vif_multiqueue_enabled", &queues, e) < 0 ||
        build_both_bool(s, "virtio_packed_ring", &packed, e) < 0)
        return -1;
    port->packed = packed == 1;
    if (text_equal(s->out->build.virt_type, "qemu")) {
        port->driver = "qemu";
        return 0;
    }
    if (queues == 1 && s->request->vcpus >= 2) {
        int64_t most = conf_is_set(s->conf, CONF_libvirt_max_queues)
                           ? conf_int(s->conf, CONF_libvirt_max_queues)
                           : 256;
        port->driver = "vhost";
        port->queues = s->request->vcpus > most ? (int)most : s->request->vcpus;
    }
    const char *size = conf_string(s->conf, CONF_libvirt_rx_queue_size);
    int64_t value = 0;
    if (size && text_to_int64(size, 256, 1024, &value, NULL) == 0) {
        port->driver = "vhost";
        port->rx_queue_size = (int)value;
    }
    return 0;
}

static int choose_port_quotas(const struct build_source *s, struct err *e)
{
    struct virt_build_interface *port = &s->out->interface;
    const struct {
        const char *key;
        int64_t *value;
    } rows[] = {
        {"quota:vif_inbound_average", &port->inbound_average},
        {"quota:vif_inbound_peak", &port->inbound_peak},
        {"quota:vif_inbound_burst", &port->inbound_burst},
        {"quota:vif_outbound_average", &port->outbound_average},
        {"quota:vif_outbound_peak", &port->outbound_peak},
        {"quota:vif_outbound_burst", &port->outbound_burst},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++)
        if (build_spec_int(s, rows[i].key, 0, INT64_C(1) << 40, rows[i].value, e) < 0)
            return -1;
    return 0;
}

int build_port_options(const struct build_source *s, struct err *e)
{
    struct virt_build_interface *port = &s->out->interface;
    port->model = vif_model(s);
    if (port->model && !build_is_word(BUILD_VIF_MODELS, port->model))
        return build_refuse(e, "UnsupportedHardware",
                            "hw_vif_model \"%s\" of the image is not one of %s", port->model,
                            BUILD_VIF_MODELS);
    if (text_equal(port->model, "virtio") && choose_virtio(s, e) < 0)
        return -1;
    return choose_port_quotas(s, e);
}
