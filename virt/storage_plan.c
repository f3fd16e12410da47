/* SPDX-License-Identifier: Apache-2.0 */
#include "virt/storage_plan.h"

#include <string.h>

#include "lib/json.h"
#include "lib/text.h"
#include "virt/guest.h"
#include "virt/image.h"
#include "virt/paths.h"

#define DISK_SIZE_MAX (INT64_C(1) << 56)

bool storage_base_is_local(const char *base)
{
    return text_starts_with(base, "ephemeral") || text_starts_with(base, "swap");
}

static int read_size(struct json_object *o, const char *key, int64_t fallback, int64_t *out,
                     struct err *e)
{
    if (json_opt_int(o, key, fallback, out, e) < 0)
        return -1;
    if (*out < -1 || *out > DISK_SIZE_MAX)
        return err_set(e, ERR_DISK, "%s %jd is not a possible size", key, (intmax_t)*out);
    return 0;
}

/* Config drives of a peer that does not tell the device (Nova's own name for them). */
static bool is_config_drive(const char *name)
{
    return strcmp(name, "disk.config") == 0 || strcmp(name, "disk.config.rescue") == 0;
}

static int read_base(struct json_object *o, struct storage_disk *disk, struct err *e)
{
    const char *base = NULL, *path = NULL, *format = NULL;
    _cleanup_(str_freep) char *expected = NULL;

    if (json_opt_string(o, "backing_file", "", &base, e) < 0 ||
        json_opt_string(o, "backing_path", NULL, &path, e) < 0 ||
        json_opt_string(o, "backing_format", NULL, &format, e) < 0 ||
        read_size(o, "backing_size", -1, &disk->base_size, e) < 0)
        return -1;
    if (!*base)
        return 0;
    if (strcmp(disk->format, "qcow2") != 0)
        return err_set(e, ERR_DISK, "a %s disk cannot have a backing file", disk->format);
    if (paths_check_file(base, "backing file", e) < 0 ||
        image_check_format(format ? format : "raw", base, e) < 0)
        return -1;
    if (disk->root)
        expected = text_format("%s/%s/%s", disk->root, PATHS_BASE, base);
    if (path && !text_equal(path, expected) &&
        (*path != '/' || !text_equal(strrchr(path, '/') + 1, base)))
        return err_set(e, ERR_DISK, "the backing path does not end in the backing file %s", base);
    disk->base = text_dup(base);
    disk->base_path = path ? text_dup(path) : STEAL(expected);
    disk->base_format = text_dup(format ? format : "raw");
    disk->base_format_told = format != NULL;
    return 0;
}

static int read_disk(struct json_object *o, const char *instance_uuid, struct storage_disk *disk,
                     struct err *e)
{
    const char *path = NULL, *type = NULL;

    if (!json_object_is_type(o, json_type_object))
        return err_set(e, ERR_PARSE, "it is not an object");
    if (json_need_string(o, "path", &path, e) < 0 || json_need_string(o, "type", &type, e) < 0 ||
        json_opt_bool(o, "read_only", false, &disk->read_only, e) < 0 ||
        read_size(o, "virt_disk_size", -1, &disk->virtual_size, e) < 0 ||
        read_size(o, "disk_size", 0, &disk->used, e) < 0)
        return -1;
    if (paths_split_peer(path, instance_uuid, &disk->root, &disk->name, e) < 0 ||
        image_check_format(type, disk->name, e) < 0)
        return -1;
    if (disk->virtual_size < 0)
        return err_set(e, ERR_DISK, "virt_disk_size of %s is missing", disk->name);
    disk->source_path = text_dup(path);
    disk->format = text_dup(type);
    if (is_config_drive(disk->name) && strcmp(type, "raw") == 0)
        disk->read_only = true;
    return read_base(o, disk, e);
}

static int read_files(struct json_object *first, struct storage_disks *disks, struct err *e)
{
    struct json_object *names = json_get(first, "computed_files");
    size_t count = 0;

    if (names && !json_object_is_type(names, json_type_array))
        return err_set(e, ERR_PARSE, "computed_files is not an array");
    count = names ? json_object_array_length(names) : 0;
    if (count > 2)
        return err_set(e, ERR_DISK, "computed_files names %zu files, allowed are 2", count);
    disks->files = NEW_ARRAY(char *, count + 1);
    for (size_t i = 0; i < count; i++) {
        const char *name = json_object_get_string(json_object_array_get_idx(names, i));

        if (paths_check_file(name, "file of the instance", e) < 0)
            return -1;
        disks->files[i] = text_dup(name);
    }
    return 0;
}

static int check_names(const struct storage_disks *disks, struct err *e)
{
    static const char *const reserved[] = {"disk.info", "console.log"};

    for (size_t i = 0; i < disks->count; i++) {
        const char *name = disks->items[i].name;

        for (size_t k = 0; k < ARRAY_LEN(reserved); k++)
            if (strcmp(name, reserved[k]) == 0)
                return err_set(e, ERR_DISK, "a disk may not be named %s", name);
        for (size_t k = 0; k < i; k++)
            if (strcmp(name, disks->items[k].name) == 0)
                return err_set(e, ERR_DISK,
                               "two disks of the guest are files named %s, which would be one in "
                               "the instance's directory here",
                               name);
    }
    return 0;
}

/* All disks that lie in an instance's directory lie in the same one. */
static int find_root(struct storage_disks *disks, struct err *e)
{
    for (size_t i = 0; i < disks->count; i++) {
        const char *root = disks->items[i].root;

        if (root && disks->root && strcmp(root, disks->root) != 0)
            return err_set(e, ERR_DISK, "the source has two instance directories, %s and %s",
                           disks->root, root);
        if (root && !disks->root)
            disks->root = text_dup(root);
    }
    return 0;
}

int storage_disks_parse(struct json_object *disk_info, const char *instance_uuid,
                        struct storage_disks **out, struct err *e)
{
    _cleanup_(storage_disks_freep) struct storage_disks *disks = NEW(struct storage_disks);
    size_t count = 0;

    if (disk_info && !json_object_is_type(disk_info, json_type_array))
        return err_set(e, ERR_PARSE, "the list of disks is not an array");
    count = disk_info ? json_object_array_length(disk_info) : 0;
    if (count > VIRT_DISKS_MAX)
        return err_set(e, ERR_DISK, "the list of disks has %zu entries, allowed are %d", count,
                       VIRT_DISKS_MAX);
    disks->items = NEW_ARRAY(struct storage_disk, count + 1);
    for (size_t i = 0; i < count; i++) {
        disks->count = i + 1;
        if (read_disk(json_object_array_get_idx(disk_info, i), instance_uuid, &disks->items[i], e) <
            0)
            return err_prefix(e, "disk %zu of the list: ", i);
    }
    if (read_files(count ? json_object_array_get_idx(disk_info, 0) : NULL, disks, e) < 0 ||
        check_names(disks, e) < 0 || find_root(disks, e) < 0)
        return -1;
    *out = STEAL(disks);
    return 0;
}

void storage_disks_free(struct storage_disks *disks)
{
    if (!disks)
        return;
    for (size_t i = 0; i < disks->count; i++) {
        struct storage_disk *d = &disks->items[i];

        free(d->source_path);
        free(d->name);
        free(d->root);
        free(d->format);
        free(d->base);
        free(d->base_path);
        free(d->base_format);
    }
    free(disks->items);
    text_vector_free(disks->files);
    free(disks->root);
    free(disks);
}
