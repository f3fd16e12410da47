/* SPDX-License-Identifier: Apache-2.0 */
#include "virt/instance_directory.h"

#include <fcntl.h>

#include "lib/fault.h"
#include "lib/json.h"
#include "lib/text.h"
#include "virt/marker.h"
#include "virt/paths.h"
#include "virt/storage.h"

bool instance_directory_preallocates(const struct conf *conf)
{
    return text_equal(conf_string(conf, CONF_DEFAULT_preallocate_images), "space");
}

int instance_directory_check_space(const struct conf *conf, const char *instance_uuid,
                                   int64_t needed, struct err *e)
{
    int64_t available = 0;

    if (virt_storage_free(conf, true, &available, e) < 0)
        return -1;
    if (needed <= available)
        return 0;
    return err_set(e, ERR_NO_SPACE,
                   "the disks of instance %s need %jd bytes below %s, where %jd are free "
                   "(reserved_host_disk_mb is %jd)",
                   instance_uuid, (intmax_t)needed, conf_string(conf, CONF_DEFAULT_instances_path),
                   (intmax_t)available,
                   (intmax_t)conf_int(conf, CONF_DEFAULT_reserved_host_disk_mb));
}

static int push_directory(struct undo *undo, const char *instance_uuid, const char *migration_uuid,
                          struct err *e)
{
    struct json_object *args = json_object_new_object();

    json_add_string(args, "instance", instance_uuid);
    json_add_string(args, "migration", migration_uuid);
    return undo_push(undo, "storage.remove_directory", args, e);
}

int instance_directory_make(const struct conf *conf, const char *instance_uuid,
                            const char *migration_uuid, const char *point, struct undo *undo,
                            int *fd, struct err *e)
{
    _cleanup_(fd_closep) int root = -1;
    _cleanup_(fd_closep) int made = -1;

    if (push_directory(undo, instance_uuid, migration_uuid, e) < 0 || fault_point(point, e) < 0 ||
        paths_open_directory(conf, instance_uuid, true, &made, e) < 0 ||
        marker_write(made, instance_uuid, instance_uuid, migration_uuid, e) < 0 ||
        paths_open_root(conf, &root, e) < 0 || paths_sync(root, "instances_path", e) < 0)
        return -1;
    *fd = made;
    made = -1;
    return 0;
}

int instance_directory_open_new(int directory_fd, const char *instance_uuid, const char *name,
                                int *fd, struct err *e)
{
    return paths_open_file(directory_fd, instance_uuid, name, O_RDWR | O_CREAT | O_EXCL, 0644, fd,
                           e);
}

int instance_directory_make_console(int directory_fd, const char *instance_uuid, struct err *e)
{
    _cleanup_(fd_closep) int fd = -1;

    return instance_directory_open_new(directory_fd, instance_uuid, "console.log", &fd, e);
}
