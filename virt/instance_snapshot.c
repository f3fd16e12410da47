/* SPDX-License-Identifier: Apache-2.0 */
/* Flat copies of disks, for images and backups. */
#include "virt/instance_disks.h"

#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "lib/fault.h"
#include "lib/text.h"
#include "virt/image.h"
#include "virt/paths.h"
#include "virt/storage.h"

int instance_snapshot_reserve(const struct conf *conf, char **name, char **path, struct err *e)
{
    _cleanup_(fd_closep) int fd = -1;
    char random[33];

    if (paths_open_directory(conf, PATHS_SNAPSHOTS, true, &fd, e) < 0)
        return -1;
    text_random_hex(16, random);
    *name = text_dup(random);
    *path = paths_text(conf, PATHS_SNAPSHOTS, random);
    return 0;
}

int instance_snapshot_open(const struct conf *conf, const char *name, int *fd, struct err *e)
{
    _cleanup_(fd_closep) int directory_fd = -1;

    if (paths_open_directory(conf, PATHS_SNAPSHOTS, false, &directory_fd, e) < 0)
        return -1;
    return paths_open_file(directory_fd, PATHS_SNAPSHOTS, name, O_RDONLY, 0, fd, e);
}

void instance_snapshot_remove(const struct conf *conf, const char *name)
{
    if (name)
        (void)paths_remove_file(conf, PATHS_SNAPSHOTS, name, NULL);
}

/* --- what may be copied ----------------------------------------------------------------------- */

static bool is_in(const struct conf *conf, const char *directory, const char *path)
{
    const char *name = strrchr(path, '/');
    _cleanup_(str_freep) char *expected = NULL;

    if (!name || paths_check_file(name + 1, "disk", NULL) < 0)
        return false;
    expected = paths_text(conf, directory, name + 1);
    return strcmp(expected, path) == 0;
}

/* The header of an overlay is ours, guests write below it; what it names is checked all the same. */
static int check_backing(const struct conf *conf, const char *path, const char *format,
                         int64_t *size, struct err *e)
{
    struct image_info info = {0};
    bool good = true;

    if (image_read(path, format, &info, e) < 0)
        return -1;
    good = !info.backing_file || is_in(conf, PATHS_BASE, info.backing_file);
    *size = info.virtual_size;
    image_info_clear(&info);
    if (!good)
        return err_set(e, ERR_DISK, "%s has a backing file that is not in the image cache", path);
    return 0;
}

static int check_source(const struct conf *conf, const char *uuid, const char *path,
                        const char *format, struct err *e)
{
    int64_t size = 0, available = 0;

    if (text_check_uuid(uuid, "instance", e) < 0)
        return -1;
    if (!is_in(conf, uuid, path) && !is_in(conf, PATHS_SNAPSHOTS, path))
        return err_set(e, ERR_DISK, "%s is no file of instance %s's directory", path, uuid);
    if (image_check_format(format, path, e) < 0 ||
        check_backing(conf, path, format, &size, e) < 0 ||
        virt_storage_free(conf, true, &available, e) < 0)
        return -1;
    if (available == 0)
        return err_set(e, ERR_NO_SPACE, "a snapshot of %s needs up to %jd bytes, and 0 are free",
                       path, (intmax_t)size);
    return 0;
}

static const char *choose_format(const struct conf *conf, const char *wanted,
                                 const char *disk_format)
{
    const char *by_conf = conf_string(conf, CONF_libvirt_snapshot_image_format);

    if (wanted && *wanted)
        return wanted;
    return by_conf && *by_conf ? by_conf : disk_format;
}

static int check_out_format(const char *format, struct err *e)
{
    static const char *const made[] = {"raw", "qcow2", "vmdk", "vdi"};

    for (size_t i = 0; i < ARRAY_LEN(made); i++)
        if (text_equal(made[i], format))
            return 0;
    _cleanup_(str_freep) char *shown = text_escape(format, 32);
    return err_set(e, ERR_INVALID,
                   "a snapshot cannot have the format %s: raw, qcow2, vmdk and vdi "
                   "can be made",
                   shown);
}

/* qemu-img keeps the mode of a file that is there. */
static int make_file(const struct conf *conf, const char *name, struct err *e)
{
    _cleanup_(fd_closep) int directory_fd = -1;
    _cleanup_(fd_closep) int fd = -1;

    if (paths_open_directory(conf, PATHS_SNAPSHOTS, false, &directory_fd, e) < 0)
        return -1;
    return paths_open_file(directory_fd, PATHS_SNAPSHOTS, name, O_RDWR | O_CREAT | O_EXCL, 0600,
                           &fd, e);
}

int instance_snapshot_make(const struct conf *conf, const char *instance_uuid,
                           const char *disk_path, const char *disk_format, const char *out_format,
                           int *fd, char **name, struct err *e)
{
    _cleanup_(str_freep) char *file = NULL;
    _cleanup_(str_freep) char *path = NULL;
    struct image_conversion c = {
        .source = disk_path,
        .source_format = disk_format,
        .target_format = choose_format(conf, out_format, disk_format),
        .compress = conf_bool(conf, CONF_libvirt_snapshot_compression),
    };

    if (check_source(conf, instance_uuid, disk_path, disk_format, e) < 0 ||
        check_out_format(c.target_format, e) < 0 ||
        instance_snapshot_reserve(conf, &file, &path, e) < 0)
        return -1;
    c.target = path;
    if (make_file(conf, file, e) < 0 || fault_point("snapshot.convert", e) < 0 ||
        image_convert(&c, e) < 0 || instance_snapshot_open(conf, file, fd, e) < 0) {
        instance_snapshot_remove(conf, file);
        return err_prefix(e, "snapshot of instance %s: ", instance_uuid);
    }
    *name = STEAL(file);
    return 0;
}
