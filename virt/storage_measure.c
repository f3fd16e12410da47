/* SPDX-License-Identifier: Apache-2.0 */
/* Sizes: of the guest's disks as the source tells them, of the room that this host has. */
#include "virt/storage.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>
#include <json-c/linkhash.h>

#include "lib/json.h"
#include "lib/text.h"
#include "virt/disk_info.h"
#include "virt/image.h"
#include "virt/paths.h"

static bool is_local(const struct virt_disk *disk)
{
    return disk->path && !disk->is_volume &&
           (text_equal(disk->kind, "file") || text_equal(disk->kind, "block"));
}

/* --- the guest's disks ------------------------------------------------------------------------ */

static bool same_file(const char *a, const char *b)
{
    struct stat x, y;

    if (strcmp(a, b) == 0)
        return true;
    return *a == '/' && *b == '/' && stat(a, &x) == 0 && stat(b, &y) == 0 && x.st_dev == y.st_dev &&
           x.st_ino == y.st_ino;
}

/* The image's header and the XML tell the same chain, or somebody has tampered with one of them. */
static int check_chain(const struct virt_disk *disk, const struct image_info *info, struct err *e)
{
    const char *recorded = disk->backing_file, *found = info->backing_file;
    _cleanup_(str_freep) char *shown = found ? text_escape(found, 200) : NULL;

    if ((recorded == NULL) != (found == NULL) || (recorded && !same_file(recorded, found)))
        return err_set(
            e, ERR_DISK,
            "disk %s: the image %s has the backing file %s, but the domain's record says "
            "%s",
            disk->target, disk->path, shown ? shown : "(none)", recorded ? recorded : "(none)");
    if (disk->backing_format && info->backing_format &&
        strcmp(disk->backing_format, info->backing_format) != 0)
        return err_set(
            e, ERR_DISK,
            "disk %s: the image %s says that its backing file is %.32s, but the domain's "
            "record says %s",
            disk->target, disk->path, info->backing_format, disk->backing_format);
    return 0;
}

static int measure_backing(struct virt_disk *disk, struct err *e)
{
    struct image_info info = {0};
    bool chained = disk->deep_chain;

    if (!disk->backing_file)
        return 0;
    if (!disk->backing_format)
        return err_set(e, ERR_DISK, "disk %s: the format of the backing file %s is not recorded",
                       disk->target, disk->backing_file);
    if (image_read(disk->backing_file, disk->backing_format, &info, e) < 0)
        return err_prefix(e, "disk %s: backing file: ", disk->target);
    chained = chained || info.backing_file;
    disk->backing_size = info.file_size;
    image_info_clear(&info);
    if (chained)
        return err_set(
            e, ERR_DISK,
            "disk %s: the backing file %s has a backing file itself; only one is allowed",
            disk->target, disk->backing_file);
    return 0;
}

static int measure_disk(struct virt_disk *disk, struct err *e)
{
    struct image_info info = {0};
    int result = 0;

    if (image_read(disk->path, disk->format, &info, e) < 0)
        return err_prefix(e, "disk %s: ", disk->target);
    result = check_chain(disk, &info, e);
    if (result == 0) {
        disk->virtual_size = info.virtual_size;
        disk->allocated = info.allocated;
        result = measure_backing(disk, e);
    }
    image_info_clear(&info);
    return result;
}

int virt_storage_measure(struct virt_guest *guest, struct err *e)
{
    for (size_t i = 0; i < guest->disk_count; i++)
        if (is_local(&guest->disks[i]) && measure_disk(&guest->disks[i], e) < 0)
            return -1;
    return 0;
}

/* --- Nova's `disk` argument ------------------------------------------------------------------- */

static const char *base_name(const char *path)
{
    const char *slash = strrchr(path, '/');

    return slash ? slash + 1 : path;
}

static int64_t growth(const struct virt_disk *disk)
{
    return disk->virtual_size > disk->allocated ? disk->virtual_size - disk->allocated : 0;
}

static void add_backing(struct json_object *o, const struct virt_disk *disk)
{
    json_add_string(o, "backing_file", disk->backing_file ? base_name(disk->backing_file) : "");
    if (!disk->backing_file)
        return;
    json_add_string(o, "backing_path", disk->backing_file);
    json_add_string(o, "backing_format", disk->backing_format);
    json_add_int(o, "backing_size", disk->backing_size);
}

static struct json_object *describe(const struct virt_disk *disk)
{
    struct json_object *o = json_object_new_object();

    json_add_string(o, "type", disk->format);
    json_add_string(o, "path", disk->path);
    json_add_int(o, "virt_disk_size", disk->virtual_size);
    add_backing(o, disk);
    json_add_int(o, "disk_size", disk->allocated);
    json_add_int(o, "over_committed_disk_size", growth(disk));
    json_add_string(o, "target", disk->target);
    json_add_string(o, "device", disk->device);
    json_add_bool(o, "read_only", disk->read_only || text_equal(disk->device, "cdrom"));
    return o;
}

/* A boot file travels only if it is the instance's own; others belong to the host. */
static void add_boot_file(struct json_object *names, const struct virt_guest *guest,
                          const char *path)
{
    _cleanup_(str_freep) char *root = NULL;
    _cleanup_(str_freep) char *name = NULL;

    if (path && paths_split_peer(path, guest->uuid, &root, &name, NULL) == 0 && root)
        json_object_array_add(names, json_object_new_string(name));
}

struct json_object *virt_storage_disk_info(const struct virt_guest *guest)
{
    struct json_object *list = json_object_new_array();
    struct json_object *files = json_object_new_array();

    for (size_t i = 0; i < guest->disk_count; i++)
        if (is_local(&guest->disks[i]))
            json_object_array_add(list, describe(&guest->disks[i]));
    add_boot_file(files, guest, guest->kernel);
    add_boot_file(files, guest, guest->initrd);
    if (json_object_array_length(files) > 0 && json_object_array_length(list) > 0)
        json_add(json_object_array_get_idx(list, 0), "computed_files", files);
    else
        json_object_put(files);
    return list;
}

int64_t virt_storage_need(const struct virt_guest *guest, bool disk_over_commit)
{
    int64_t need = 0;

    for (size_t i = 0; i < guest->disk_count; i++) {
        const struct virt_disk *disk = &guest->disks[i];
        int64_t size = disk_over_commit ? disk->allocated : disk->virtual_size;

        if (is_local(disk) && size > 0)
            need += size;
    }
    return need;
}

/* --- the host's room -------------------------------------------------------------------------- */

static int64_t growth_of_instance(int directory_fd)
{
    _cleanup_(json_putp) struct json_object *info = disk_info_read(directory_fd);
    int64_t sum = 0;

    if (!info)
        return 0;
    json_object_object_foreach (info, path, format) {
        _cleanup_(fd_closep) int fd = -1;

        if (paths_open_file(directory_fd, "instance", base_name(path), O_RDONLY, 0, &fd, NULL) == 0)
            sum += image_growth(fd, json_object_get_string(format));
    }
    return sum;
}

/* An instance that vanishes while we look needs no room. */
int virt_storage_growth(const struct conf *conf, int64_t *out, struct err *e)
{
    int64_t sum = 0;
    _cleanup_(paths_list_closep) DIR *dir = NULL;
    _cleanup_(fd_closep) int root = -1;

    if (paths_open_root(conf, &root, e) < 0)
        return -1;
    dir = paths_list(root);
    if (!dir)
        return err_set_errno(e, ERR_SYSTEM, errno, "instances_path cannot be read");
    for (const struct dirent *d = readdir(dir); d; d = readdir(dir)) {
        _cleanup_(fd_closep) int fd = -1;

        if (text_check_uuid(d->d_name, "instance", NULL) == 0 &&
            paths_open_directory(conf, d->d_name, false, &fd, NULL) == 0)
            sum += growth_of_instance(fd);
    }
    *out = sum;
    return 0;
}

int virt_storage_free(const struct conf *conf, bool disk_over_commit, int64_t *out, struct err *e)
{
    _cleanup_(fd_closep) int root = -1;
    int64_t available = 0, promised = 0;
    struct statvfs fs;

    if (paths_open_root(conf, &root, e) < 0)
        return -1;
    if (fstatvfs(root, &fs) < 0)
        return err_set_errno(e, ERR_SYSTEM, errno, "the free space of %s cannot be read",
                             conf_string(conf, CONF_DEFAULT_instances_path));
    if (!disk_over_commit && virt_storage_growth(conf, &promised, e) < 0)
        return -1;
    available = (int64_t)fs.f_bavail * (int64_t)fs.f_frsize - promised -
                conf_int(conf, CONF_DEFAULT_reserved_host_disk_mb) * 1024 * 1024;
    *out = available > 0 ? available : 0;
    return 0;
}
