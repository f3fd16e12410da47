/* SPDX-License-Identifier: Apache-2.0 */
/* An instance's disks: the plan, their names, what is there. virt/instance_disks_make.c makes them. */
#include "virt/instance_disks.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/json.h"
#include "lib/text.h"
#include "virt/config_drive_image.h"
#include "virt/disk_info.h"
#include "virt/image.h"
#include "virt/instance_disks_internal.h"
#include "virt/paths.h"

enum { AMOUNT_MAX = 1 << 20 }; /* GiB of a disk, MiB of swap: a PiB, a TiB */

void disks_base_clear(struct disks_base *base)
{
    fd_closep(&base->fd);
    free(base->path);
}

void instance_disks_clear(struct instance_disks *disks)
{
    for (size_t i = 0; i < disks->count; i++) {
        struct instance_disk *d = &disks->items[i];

        free(d->name);
        free(d->path);
        free(d->format);
        free(d->target);
        free(d->bus);
        free(d->device);
    }
    free(disks->items);
    free(disks->kernel);
    free(disks->ramdisk);
    free(disks->console_log);
    *disks = (struct instance_disks){0};
}

void disks_work_clear(struct disks_work *m)
{
    disks_base_clear(&m->root);
    disks_base_clear(&m->kernel);
    disks_base_clear(&m->ramdisk);
    fd_closep(&m->directory_fd);
    fd_closep(&m->cache_fd);
    json_object_put(m->formats);
    instance_disks_clear(&m->disks);
}

struct disks_work disks_work_init(const struct conf *conf, const struct instance_disks_plan *plan)
{
    return (struct disks_work){
        .conf = conf,
        .plan = plan,
        .directory_fd = -1,
        .cache_fd = -1,
        .root.fd = -1,
        .kernel.fd = -1,
        .ramdisk.fd = -1,
        .formats = json_object_new_object(),
    };
}

/* --- names ------------------------------------------------------------------------------------ */

/* nova.virt.libvirt.blockinfo.get_dev_prefix_for_disk_bus */
static const char *prefix_of(const char *bus)
{
    static const char *const prefixes[][2] = {
        {"virtio", "vd"}, {"ide", "hd"}, {"scsi", "sd"}, {"sata", "sd"},
        {"usb", "sd"},    {"fdc", "fd"}, {"lxc", "vd"},
    };

    for (size_t i = 0; i < ARRAY_LEN(prefixes); i++)
        if (text_equal(prefixes[i][0], bus))
            return prefixes[i][1];
    return NULL;
}

static bool target_taken(const struct instance_disks *disks, const char *target)
{
    for (size_t i = 0; i < disks->count; i++)
        if (strcmp(disks->items[i].target, target) == 0)
            return true;
    return false;
}

static char *next_target(const struct instance_disks *disks, const char *bus, struct err *e)
{
    const char *prefix = prefix_of(bus);
    _cleanup_(str_freep) char *shown = NULL;

    for (char letter = 'a'; prefix && letter <= 'z'; letter++) {
        char *target = text_format("%s%c", prefix, letter);

        if (!target_taken(disks, target))
            return target;
        free(target);
    }
    shown = text_escape(bus, 32);
    err_set(e, ERR_INVALID, "disks cannot be on the bus %s: virtio, scsi, sata, ide, usb, fdc",
            shown);
    return NULL;
}

int disks_work_add(struct disks_work *m, const char *name, const char *format, int64_t virtual_size,
                   bool cdrom, struct err *e)
{
    const char *given = cdrom ? m->plan->cdrom_bus : m->plan->bus;
    const char *bus = given ? given : cdrom ? "ide" : "virtio";
    char *target = next_target(&m->disks, bus, e);
    struct instance_disk *d = NULL;

    if (!target)
        return -1;
    m->disks.items = mem_resize(m->disks.items, (m->disks.count + 1) * sizeof(*m->disks.items));
    d = &m->disks.items[m->disks.count++];
    *d = (struct instance_disk){
        .name = text_dup(name),
        .path = paths_text(m->conf, m->plan->instance_uuid, name),
        .format = text_dup(format),
        .target = target,
        .bus = text_dup(bus),
        .device = text_dup(cdrom ? "cdrom" : "disk"),
        .virtual_size = virtual_size,
    };
    json_add_string(m->formats, d->path, format);
    return 0;
}

bool disks_drive_is_cdrom(const struct conf *conf)
{
    return text_equal(conf_string(conf, CONF_DEFAULT_config_drive_format), "iso9660");
}

/* --- the plan --------------------------------------------------------------------------------- */

static int choose_layout(const struct conf *conf, bool *flat, struct err *e)
{
    const char *type = conf_string(conf, CONF_libvirt_images_type);

    if (strcmp(type, "default") == 0)
        *flat = !conf_bool(conf, CONF_DEFAULT_use_cow_images);
    else if (strcmp(type, "qcow2") == 0)
        *flat = false;
    else if (strcmp(type, "raw") == 0 || strcmp(type, "flat") == 0)
        *flat = true;
    else
        return err_set(e, ERR_INVALID,
                       "libvirt.images_type is %s; this agent makes disks of default, qcow2, raw "
                       "and flat",
                       type);
    return 0;
}

static int check_amount(int64_t amount, const char *what, struct err *e)
{
    if (amount < 0 || amount > AMOUNT_MAX)
        return err_set(e, ERR_INVALID, "%s of %jd is not between 0 and %d", what, (intmax_t)amount,
                       AMOUNT_MAX);
    return 0;
}

int disks_work_check(struct disks_work *m, struct err *e)
{
    const struct instance_disks_plan *plan = m->plan;

    if (text_check_uuid(plan->instance_uuid, "instance", e) < 0 ||
        paths_check_directory(plan->instance_uuid, e) < 0 ||
        check_amount(plan->root_gb, "a root disk", e) < 0 ||
        check_amount(plan->ephemeral_gb, "an ephemeral disk", e) < 0 ||
        check_amount(plan->swap_mb, "a swap disk", e) < 0 ||
        choose_layout(m->conf, &m->flat, e) < 0)
        return -1;
    m->ephemeral = (struct blank){
        .kind = BLANK_EPHEMERAL, .amount = plan->ephemeral_gb, .label = "ephemeral0"};
    m->swap = (struct blank){.kind = BLANK_SWAP, .amount = plan->swap_mb};
    if (plan->ephemeral_gb == 0)
        return 0;
    return blank_file_system(m->conf, plan->ephemeral_format, plan->os_type, &m->ephemeral.fs, e);
}

int64_t disks_file_size(int directory_fd, const char *name)
{
    struct stat st;

    return fstatat(directory_fd, name, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISREG(st.st_mode)
               ? (int64_t)st.st_size
               : -1;
}

/* --- what is there ---------------------------------------------------------------------------- */

static const char *recorded_format(const struct disks_work *m, struct json_object *info,
                                   const char *name)
{
    _cleanup_(str_freep) char *path = paths_text(m->conf, m->plan->instance_uuid, name);
    const char *format = json_get_string(info, path, NULL);

    if (strcmp(name, CONFIG_DRIVE_NAME) == 0)
        return "raw";
    return format ? format : m->flat ? "raw" : "qcow2";
}

static int size_of_disk(const struct disks_work *m, const char *name, const char *format,
                        int64_t *size, struct err *e)
{
    _cleanup_(fd_closep) int fd = -1;
    struct image_header header;

    *size = disks_file_size(m->directory_fd, name);
    if (*size < 0)
        return err_set(e, ERR_DISK, "%s of instance %s is missing", name, m->plan->instance_uuid);
    if (strcmp(format, "qcow2") != 0)
        return image_check_format(format, name, e);
    if (paths_open_file(m->directory_fd, m->plan->instance_uuid, name, O_RDONLY, 0, &fd, e) < 0 ||
        image_read_header(fd, name, &header, e) < 0)
        return -1;
    *size = header.virtual_size;
    return 0;
}

static int find_disk(struct disks_work *m, struct json_object *info, const char *name, bool cdrom,
                     struct err *e)
{
    const char *format = recorded_format(m, info, name);
    int64_t size = 0;

    if (size_of_disk(m, name, format, &size, e) < 0)
        return -1;
    return disks_work_add(m, name, format, size, cdrom, e);
}

static int find_file(const struct disks_work *m, const char *name, char **out, struct err *e)
{
    if (disks_file_size(m->directory_fd, name) < 0)
        return err_set(e, ERR_DISK, "%s of instance %s is missing", name, m->plan->instance_uuid);
    *out = paths_text(m->conf, m->plan->instance_uuid, name);
    return 0;
}

/* An ephemeral disk that came with the flavor, not with a block device mapping, is disk.local in Nova. */
static const char *ephemeral_name(const struct disks_work *m)
{
    return !paths_exists(m->directory_fd, "disk.eph0") &&
                   paths_exists(m->directory_fd, "disk.local")
               ? "disk.local"
               : "disk.eph0";
}

static int find_disks(struct disks_work *m, struct json_object *info, struct err *e)
{
    const struct instance_disks_plan *plan = m->plan;

    if (plan->image_id && find_disk(m, info, "disk", plan->root_is_cdrom, e) < 0)
        return -1;
    if (plan->ephemeral_gb > 0 && find_disk(m, info, ephemeral_name(m), false, e) < 0)
        return -1;
    if (plan->swap_mb > 0 && find_disk(m, info, "disk.swap", false, e) < 0)
        return -1;
    if (plan->config_drive || paths_exists(m->directory_fd, CONFIG_DRIVE_NAME))
        return find_disk(m, info, CONFIG_DRIVE_NAME, disks_drive_is_cdrom(m->conf), e);
    return 0;
}

static int find_all(struct disks_work *m, struct err *e)
{
    _cleanup_(json_putp) struct json_object *info = NULL;

    if (disks_work_check(m, e) < 0)
        return -1;
    if (paths_open_directory(m->conf, m->plan->instance_uuid, false, &m->directory_fd, e) < 0) {
        if (e && e->sys == ENOENT)
            return err_set(e, ERR_DISK, "the directory of instance %s is missing",
                           m->plan->instance_uuid);
        return -1;
    }
    info = disk_info_read(m->directory_fd);
    if (find_disks(m, info, e) < 0 ||
        (m->plan->kernel_id && find_file(m, "kernel", &m->disks.kernel, e) < 0) ||
        (m->plan->ramdisk_id && find_file(m, "ramdisk", &m->disks.ramdisk, e) < 0))
        return -1;
    m->disks.console_log = paths_text(m->conf, m->plan->instance_uuid, "console.log");
    return 0;
}

int instance_disks_find(const struct conf *conf, const struct instance_disks_plan *plan,
                        struct instance_disks *out, struct err *e)
{
    _cleanup_(disks_work_clear) struct disks_work m = disks_work_init(conf, plan);

    if (find_all(&m, e) < 0)
        return -1;
    *out = m.disks;
    m.disks = (struct instance_disks){0};
    return 0;
}
