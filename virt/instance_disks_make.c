/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The disks of an instance that begins here. First everything is looked at that can be refused; then comes
 * the directory with its marker, as for an arriving instance (virt/storage_prepare.c), which makes all
 * that follows known as ours.
 */
#include "virt/instance_disks.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/fault.h"
#include "lib/json.h"
#include "lib/text.h"
#include "virt/config_drive_image.h"
#include "virt/disk_info.h"
#include "virt/file_copy.h"
#include "virt/image.h"
#include "virt/image_check.h"
#include "virt/instance_directory.h"
#include "virt/instance_disks_internal.h"
#include "virt/paths.h"
#include "virt/storage.h"

#define GIB (INT64_C(1) << 30)

/* --- bases ------------------------------------------------------------------------------------ */

static int measure_base(struct disks_base *base, struct err *e)
{
    struct image_header header;
    struct stat st;

    if (fstat(base->fd, &st) < 0)
        return err_set_errno(e, ERR_DISK, errno, "image base %s cannot be read", base->path);
    base->virtual_size = st.st_size;
    base->allocated = (int64_t)st.st_blocks * 512;
    if (strcmp(base->format, "raw") == 0)
        return 0;
    if (image_read_header(base->fd, base->path, &header, e) < 0)
        return -1;
    base->virtual_size = header.virtual_size;
    return 0;
}

/* A lock that cannot be had is no obstacle: not every file system has them. */
static int open_base(const struct disks_work *m, const char *name, struct disks_base *base,
                     struct err *e)
{
    if (paths_open_file(m->cache_fd, PATHS_BASE, name, O_RDONLY, 0, &base->fd, e) < 0)
        return err_prefix(e, "the image is not in the cache: ");
    (void)flock(base->fd, LOCK_SH | LOCK_NB);
    (void)futimens(base->fd, NULL);
    base->path = paths_text(m->conf, PATHS_BASE, name);
    if (image_base_format(base->fd, base->path, &base->format, e) < 0)
        return -1;
    return measure_base(base, e);
}

static int open_image(const struct disks_work *m, const char *image_id, struct disks_base *base,
                      struct err *e)
{
    char name[IMAGE_CACHE_NAME_SIZE];

    if (!image_id)
        return 0;
    if (image_cache_name(image_id, name, e) < 0)
        return -1;
    if (open_base(m, name, base, e) < 0)
        return err_prefix(e, "image %s: ", image_id);
    return 0;
}

static int check_fit(const struct disks_work *m, struct err *e)
{
    int64_t wanted = m->plan->root_gb * GIB;

    if (!m->plan->image_id || wanted == 0 || m->root.virtual_size <= wanted)
        return 0;
    err_set(e, ERR_INVALID,
            "the flavor's disk of %jd bytes is smaller than image %s with its %jd bytes",
            (intmax_t)wanted, m->plan->image_id, (intmax_t)m->root.virtual_size);
    return err_set_class(e, "FlavorDiskSmallerThanImage", NULL);
}

static int64_t root_size(const struct disks_work *m)
{
    int64_t wanted = m->plan->root_gb * GIB;

    return wanted > 0 ? wanted : m->root.virtual_size;
}

static int check_space(const struct disks_work *m, struct err *e)
{
    int64_t needed = m->kernel.allocated + m->ramdisk.allocated;

    if (m->flat)
        needed += m->root.allocated;
    if (instance_directory_preallocates(m->conf))
        needed += root_size(m) + blank_size(&m->ephemeral) + blank_size(&m->swap);
    return instance_directory_check_space(m->conf, m->plan->instance_uuid, needed, e);
}

static int look(struct disks_work *m, struct err *e)
{
    if (disks_work_check(m, e) < 0 ||
        paths_open_directory(m->conf, PATHS_BASE, true, &m->cache_fd, e) < 0 ||
        open_image(m, m->plan->image_id, &m->root, e) < 0 ||
        open_image(m, m->plan->kernel_id, &m->kernel, e) < 0 ||
        open_image(m, m->plan->ramdisk_id, &m->ramdisk, e) < 0 || check_fit(m, e) < 0)
        return -1;
    return check_space(m, e);
}

/* --- the directory ---------------------------------------------------------------------------- */

static int make_directory(struct disks_work *m, struct err *e)
{
    const char *uuid = m->plan->instance_uuid;

    if (virt_storage_check_directory(m->conf, uuid, false, e) < 0)
        return -1;
    return instance_directory_make(m->conf, uuid, uuid, "instance.make_directory", m->undo,
                                   &m->directory_fd, e);
}

static int open_new(const struct disks_work *m, const char *name, int *fd, struct err *e)
{
    return instance_directory_open_new(m->directory_fd, m->plan->instance_uuid, name, fd, e);
}

/* --- disks ------------------------------------------------------------------------------------ */

static int make_overlay(const struct disks_work *m, const char *name, const struct disks_base *base,
                        int64_t size, struct err *e)
{
    _cleanup_(str_freep) char *path = paths_text(m->conf, m->plan->instance_uuid, name);
    _cleanup_(fd_closep) int fd = -1;
    const struct image_spec spec = {
        .path = path,
        .format = "qcow2",
        .virtual_size = size,
        .backing_file = base->path,
        .backing_format = base->format,
        .preallocate = instance_directory_preallocates(m->conf),
    };

    if (open_new(m, name, &fd, e) < 0 || fault_point("instance.make_disk", e) < 0)
        return -1;
    return image_create(fd, &spec, e);
}

static int copy_base(const struct disks_base *base, int fd, const char *path, struct err *e)
{
    const struct image_conversion conversion = {
        .source = base->path,
        .source_format = base->format,
        .target = path,
        .target_format = "raw",
    };

    if (strcmp(base->format, "raw") == 0)
        return file_copy(base->fd, fd, path, e);
    return image_convert(&conversion, e);
}

static int stretch(const struct disks_work *m, int fd, const char *path, int64_t size,
                   struct err *e)
{
    int reason = 0;

    if (ftruncate(fd, (off_t)size) < 0)
        return err_set_errno(e, ERR_DISK, errno, "%s cannot be made %jd bytes long", path,
                             (intmax_t)size);
    if (instance_directory_preallocates(m->conf))
        reason = posix_fallocate(fd, 0, (off_t)size);
    if (reason == ENOSPC)
        return image_no_space(fd, path, size, e);
    if (reason != 0 || fsync(fd) < 0)
        return err_set_errno(e, ERR_DISK, reason ? reason : errno, "%s cannot be flushed", path);
    return 0;
}

static int make_flat_root(const struct disks_work *m, int64_t size, struct err *e)
{
    _cleanup_(str_freep) char *path = paths_text(m->conf, m->plan->instance_uuid, "disk");
    _cleanup_(fd_closep) int fd = -1;

    if (open_new(m, "disk", &fd, e) < 0 || fault_point("instance.make_disk", e) < 0 ||
        copy_base(&m->root, fd, path, e) < 0)
        return -1;
    return stretch(m, fd, path, size, e);
}

static int make_root(struct disks_work *m, struct err *e)
{
    int64_t size = root_size(m);

    if (!m->plan->image_id)
        return 0;
    if ((m->flat ? make_flat_root(m, size, e) : make_overlay(m, "disk", &m->root, size, e)) < 0)
        return -1;
    return disks_work_add(m, "disk", m->flat ? "raw" : "qcow2", size, m->plan->root_is_cdrom, e);
}

static int make_blank_overlay(const struct disks_work *m, const struct blank *blank,
                              const char *name, struct err *e)
{
    _cleanup_(disks_base_clear) struct disks_base base = {.fd = -1};
    _cleanup_(str_freep) char *base_name = blank_name(blank);

    if (blank_base(m->conf, blank, m->undo, e) < 0 || open_base(m, base_name, &base, e) < 0)
        return -1;
    return make_overlay(m, name, &base, blank_size(blank), e);
}

static int make_blank_flat(const struct disks_work *m, const struct blank *blank, const char *name,
                           struct err *e)
{
    _cleanup_(str_freep) char *path = paths_text(m->conf, m->plan->instance_uuid, name);
    _cleanup_(fd_closep) int fd = -1;

    if (open_new(m, name, &fd, e) < 0 || fault_point("instance.make_disk", e) < 0 ||
        blank_make(blank, fd, path, e) < 0)
        return -1;
    return stretch(m, fd, path, blank_size(blank), e);
}

static int make_blank(struct disks_work *m, const struct blank *blank, const char *name,
                      struct err *e)
{
    if (blank->amount == 0)
        return 0;
    if ((m->flat ? make_blank_flat(m, blank, name, e) : make_blank_overlay(m, blank, name, e)) < 0)
        return -1;
    return disks_work_add(m, name, m->flat ? "raw" : "qcow2", blank_size(blank), false, e);
}

static int make_config_drive(struct disks_work *m, struct err *e)
{
    if (!m->plan->config_drive)
        return 0;
    if (config_drive_image_make(m->conf, m->plan->instance_uuid, m->directory_fd,
                                m->plan->config_drive, e) < 0)
        return -1;
    return disks_work_add(m, CONFIG_DRIVE_NAME, "raw",
                          disks_file_size(m->directory_fd, CONFIG_DRIVE_NAME),
                          disks_drive_is_cdrom(m->conf), e);
}

/* --- other files ------------------------------------------------------------------------------ */

/* Nova's disk.info has these too. */
static int make_boot_file(const struct disks_work *m, const struct disks_base *base,
                          const char *name, char **out, struct err *e)
{
    _cleanup_(str_freep) char *path = paths_text(m->conf, m->plan->instance_uuid, name);
    _cleanup_(fd_closep) int fd = -1;

    if (base->fd < 0)
        return 0;
    if (open_new(m, name, &fd, e) < 0 || file_copy(base->fd, fd, path, e) < 0)
        return -1;
    json_add_string(m->formats, path, "raw");
    *out = STEAL(path);
    return 0;
}

static int make_console(struct disks_work *m, struct err *e)
{
    m->disks.console_log = paths_text(m->conf, m->plan->instance_uuid, "console.log");
    return instance_directory_make_console(m->directory_fd, m->plan->instance_uuid, e);
}

static int make_all(struct disks_work *m, struct err *e)
{
    const char *uuid = m->plan->instance_uuid;

    if (look(m, e) < 0 || make_directory(m, e) < 0 ||
        make_boot_file(m, &m->kernel, "kernel", &m->disks.kernel, e) < 0 ||
        make_boot_file(m, &m->ramdisk, "ramdisk", &m->disks.ramdisk, e) < 0 ||
        make_root(m, e) < 0 || make_blank(m, &m->ephemeral, "disk.eph0", e) < 0 ||
        make_blank(m, &m->swap, "disk.swap", e) < 0 || make_config_drive(m, e) < 0 ||
        disk_info_write(m->directory_fd, uuid, m->formats, e) < 0 || make_console(m, e) < 0 ||
        fault_point("instance.disks_made", e) < 0)
        return -1;
    return paths_sync(m->directory_fd, uuid, e);
}

int instance_disks_make(const struct conf *conf, const struct instance_disks_plan *plan,
                        struct undo *undo, struct instance_disks *out, struct err *e)
{
    _cleanup_(disks_work_clear) struct disks_work m = disks_work_init(conf, plan);

    m.undo = undo;
    if (make_all(&m, e) < 0)
        return err_prefix(e, "making the disks of instance %s: ", plan->instance_uuid);
    *out = m.disks;
    m.disks = (struct instance_disks){0};
    return 0;
}
