/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The destination's side of a block migration: what must be on the disk before libvirt starts to copy.
 * Order: everything that can be refused is refused first; then the directory with its marker, which makes
 * all that follows recognisable as ours; then bases, disks and copied files.
 */
#include "virt/storage.h"

#include <string.h>

#include "lib/fault.h"
#include "lib/json.h"
#include "lib/text.h"
#include "virt/disk_info.h"
#include "virt/image.h"
#include "virt/instance_directory.h"
#include "virt/paths.h"
#include "virt/storage_base.h"
#include "virt/storage_plan.h"

enum { BOOT_FILE_MAX = 1 << 30 };

struct prepare {
    const struct conf *conf;
    const struct virt_storage_plan *plan;
    struct undo *undo;
    struct storage_disks *disks;
    struct json_object *paths; /* what differs */
    int directory_fd;
};

static void prepare_clear(struct prepare *p)
{
    storage_disks_free(p->disks);
    json_object_put(p->paths);
    fd_closep(&p->directory_fd);
}

/* --- what can be refused ---------------------------------------------------------------------- */

static int64_t bytes_needed(const struct prepare *p, int base_fd)
{
    int64_t needed = 0;

    for (size_t i = 0; i < p->disks->count; i++) {
        const struct storage_disk *d = &p->disks->items[i];

        if (d->read_only && !d->root)
            continue;
        needed +=
            instance_directory_preallocates(p->conf) || d->read_only ? d->virtual_size : d->used;
        if (d->base && d->base_size > 0 && (base_fd < 0 || !paths_exists(base_fd, d->base)))
            needed += d->base_size;
    }
    return needed;
}

static int check_space(const struct prepare *p, struct err *e)
{
    _cleanup_(fd_closep) int base_fd = -1;

    (void)paths_open_directory(p->conf, PATHS_BASE, false, &base_fd, NULL);
    return instance_directory_check_space(p->conf, p->plan->instance_uuid, bytes_needed(p, base_fd),
                                          e);
}

/* The directory of the same migration is that of the same request sent twice: it is made anew. */
static int clear_directory(const struct prepare *p, struct err *e)
{
    const char *uuid = p->plan->instance_uuid;
    _cleanup_(str_freep) char *owner = NULL;
    struct err reason = ERR_INIT;

    if (virt_storage_leftover_migration(p->conf, uuid, &owner, &reason) < 0)
        return virt_storage_check_directory(p->conf, uuid, true, e);
    if (*owner && strcmp(owner, p->plan->migration_uuid) != 0)
        return err_set(e, ERR_DISK_EXISTS, "the directory of instance %s belongs to migration %s",
                       uuid, owner);
    return paths_remove_tree(p->conf, uuid, e);
}

/* --- paths that differ ------------------------------------------------------------------------ */

static int note_path(struct prepare *p, const char *source, const char *here, struct err *e)
{
    if (!source || strcmp(source, here) == 0)
        return 0;
    if (!p->plan->paths)
        return err_set(e, ERR_DISK,
                       "%s of the source would be %s here, and the source cannot be told", source,
                       here);
    json_add_string(p->paths, source, here);
    return 0;
}

static int note_file(struct prepare *p, const char *source, const char *name, struct err *e)
{
    _cleanup_(str_freep) char *here = paths_text(p->conf, p->plan->instance_uuid, name);

    return note_path(p, source, here, e);
}

static int note_console(struct prepare *p, struct err *e)
{
    _cleanup_(str_freep) char *source = NULL;

    if (!p->disks->root)
        return 0;
    source = text_format("%s/%s/console.log", p->disks->root, p->plan->instance_uuid);
    return note_file(p, source, "console.log", e);
}

/* --- the directory ---------------------------------------------------------------------------- */

static int make_directory(struct prepare *p, struct err *e)
{
    return instance_directory_make(p->conf, p->plan->instance_uuid, p->plan->migration_uuid,
                                   "storage.make_directory", p->undo, &p->directory_fd, e);
}

static int open_new(const struct prepare *p, const char *name, int *fd, struct err *e)
{
    return instance_directory_open_new(p->directory_fd, p->plan->instance_uuid, name, fd, e);
}

static int write_disk_info(const struct prepare *p, struct err *e)
{
    _cleanup_(json_putp) struct json_object *o = json_object_new_object();

    for (size_t i = 0; i < p->disks->count; i++) {
        const struct storage_disk *d = &p->disks->items[i];
        _cleanup_(str_freep) char *path = paths_text(p->conf, p->plan->instance_uuid, d->name);

        if (!d->read_only || d->root)
            json_add_string(o, path, d->format);
    }
    return disk_info_write(p->directory_fd, p->plan->instance_uuid, o, e);
}

/* --- files ------------------------------------------------------------------------------------ */

static int copy_file(const struct prepare *p, const char *root, const char *name, int64_t size,
                     struct err *e)
{
    _cleanup_(str_freep) char *directory = text_format("%s/%s", root, p->plan->instance_uuid);
    _cleanup_(str_freep) char *path = paths_text(p->conf, p->plan->instance_uuid, name);
    _cleanup_(fd_closep) int fd = -1;
    struct image_transfer transfer = {
        .source_uri = p->plan->source_uri,
        .directory = directory,
        .name = name,
        .size = size,
        .size_max = size >= 0 ? size : BOOT_FILE_MAX,
        .path = path,
    };

    if (!p->plan->source_uri)
        return err_set(e, ERR_DISK,
                       "%s of instance %s cannot be copied: no connection to the source's libvirt",
                       name, p->plan->instance_uuid);
    if (open_new(p, name, &fd, e) < 0 || fault_point("storage.copy_file", e) < 0)
        return -1;
    transfer.fd = fd;
    return storage_transfer(p->plan, &transfer, e);
}

static int make_disk(struct prepare *p, const struct storage_disk *d, struct err *e)
{
    _cleanup_(str_freep) char *path = paths_text(p->conf, p->plan->instance_uuid, d->name);
    _cleanup_(str_freep) char *base = NULL;
    _cleanup_(fd_closep) int fd = -1;
    struct image_spec spec = {
        .path = path,
        .format = d->format,
        .virtual_size = d->virtual_size,
        .preallocate = instance_directory_preallocates(p->conf),
    };

    if (d->base) {
        if (storage_base_prepare(p->conf, p->plan, d, p->undo, &base, e) < 0 ||
            note_path(p, d->base_path, base, e) < 0)
            return -1;
        spec.backing_file = base;
        spec.backing_format = d->base_format;
    }
    if (open_new(p, d->name, &fd, e) < 0 || fault_point("storage.make_disk", e) < 0)
        return -1;
    return image_create(fd, &spec, e);
}

static int make_disks(struct prepare *p, struct err *e)
{
    for (size_t i = 0; i < p->disks->count; i++) {
        const struct storage_disk *d = &p->disks->items[i];
        int64_t size = strcmp(d->format, "raw") == 0 ? d->virtual_size : -1;

        if (d->read_only && !d->root)
            continue;
        if (note_file(p, d->source_path, d->name, e) < 0)
            return -1;
        if (d->read_only ? copy_file(p, d->root, d->name, size, e) : make_disk(p, d, e))
            return -1;
    }
    return 0;
}

static int copy_boot_files(struct prepare *p, struct err *e)
{
    for (size_t i = 0; p->disks->files[i]; i++) {
        const char *name = p->disks->files[i];
        _cleanup_(str_freep) char *source = NULL;

        if (!p->disks->root)
            return err_set(e, ERR_DISK,
                           "%s is announced, but no disk lies in the instance's "
                           "directory of the source",
                           name);
        source = text_format("%s/%s/%s", p->disks->root, p->plan->instance_uuid, name);
        if (note_file(p, source, name, e) < 0 || copy_file(p, p->disks->root, name, -1, e) < 0)
            return -1;
    }
    return 0;
}

static int prepare_all(struct prepare *p, struct err *e)
{
    const char *uuid = p->plan->instance_uuid;

    if (storage_disks_parse(p->plan->disk_info, uuid, &p->disks, e) < 0 ||
        clear_directory(p, e) < 0 || check_space(p, e) < 0 || make_directory(p, e) < 0 ||
        write_disk_info(p, e) < 0 || make_disks(p, e) < 0 || copy_boot_files(p, e) < 0 ||
        note_console(p, e) < 0 || instance_directory_make_console(p->directory_fd, uuid, e) < 0 ||
        fault_point("storage.prepared", e) < 0)
        return -1;
    return paths_sync(p->directory_fd, uuid, e);
}

int virt_storage_prepare(struct virt *virt, const struct conf *conf,
                         const struct virt_storage_plan *plan, struct undo *undo, struct err *e)
{
    _cleanup_(prepare_clear) struct prepare p = {
        .conf = conf, .plan = plan, .undo = undo, .directory_fd = -1};

    (void)virt;
    if (paths_check_directory(plan->instance_uuid, e) < 0 ||
        text_check_uuid(plan->instance_uuid, "instance", e) < 0 ||
        text_check_uuid(plan->migration_uuid, "migration", e) < 0)
        return -1;
    p.paths = json_object_new_object();
    if (prepare_all(&p, e) < 0)
        return err_prefix(e, "preparing the disks of instance %s: ", plan->instance_uuid);
    if (plan->paths)
        *plan->paths = STEAL(p.paths);
    return 0;
}

/* --- beforehand ------------------------------------------------------------------------------- */

static struct json_object *foresee_bases(const struct storage_disks *disks, int base_fd)
{
    struct json_object *bases = json_object_new_object();

    for (size_t i = 0; i < disks->count; i++) {
        const struct storage_disk *d = &disks->items[i];
        bool here = d->base && base_fd >= 0 && paths_exists(base_fd, d->base);
        if (!d->base)
            continue;
        struct json_object *o = json_object_new_object();
        json_add_string(o, "name", d->base);
        json_add_bool(o, "here", here);
        json_add_bool(o, "local", storage_base_is_local(d->base));
        json_add_int(o, "bytes", here || d->base_size < 0 ? 0 : d->base_size);
        json_add(bases, d->source_path, o);
    }
    return bases;
}

int virt_storage_foresee(const struct conf *conf, const char *instance_uuid,
                         struct json_object *disk_info, int64_t *needed, struct json_object **bases,
                         struct err *e)
{
    const struct virt_storage_plan plan = {.instance_uuid = instance_uuid, .disk_info = disk_info};
    _cleanup_(prepare_clear) struct prepare p = {.conf = conf, .plan = &plan, .directory_fd = -1};
    _cleanup_(fd_closep) int base_fd = -1;

    if (text_check_uuid(instance_uuid, "instance", e) < 0 ||
        storage_disks_parse(disk_info, instance_uuid, &p.disks, e) < 0)
        return -1;
    (void)paths_open_directory(conf, PATHS_BASE, false, &base_fd, NULL);
    int64_t bytes = bytes_needed(&p, base_fd);
    if (instance_directory_check_space(conf, instance_uuid, bytes, e) < 0)
        return -1;
    *needed = bytes;
    *bases = foresee_bases(p.disks, base_fd);
    return 0;
}
