/* SPDX-License-Identifier: Apache-2.0 */
/*
 * snapshot_instance and backup_instance: nova/compute/manager.py, _snapshot_instance(). A running guest runs on:
 * its root disk is copied by QEMU while it writes. Task states: image_snapshot (image_backup) ->
 * image_pending_upload -> image_uploading -> none. An image that was not filled is deleted.
 */
#include "agent/instance_build.h"

#include "cloud/images.h"
#include "lib/json.h"
#include "lib/log.h"
#include "virt/instance_disks.h"

LOG_MODULE(build);

struct snapshot {
    struct conf *conf;
    char *uuid, *image_id;
    const char *task_state; /* the one that it begins with */
    int fd;                 /* of the copy; -1 */
    char *name;             /* of the copy; NULL */
    char *format;
    bool uploaded;
};

static struct snapshot *snapshot_of(const struct operation *op)
{
    return op->data;
}

static void release(struct operation *op)
{
    struct snapshot *snapshot = snapshot_of(op);

    if (snapshot->name && snapshot->fd >= 0)
        (void)close(snapshot->fd);
    conf_unref(snapshot->conf);
    free(snapshot->uuid);
    free(snapshot->image_id);
    free(snapshot->name);
    free(snapshot->format);
}

/* ---- the copy ---- */

static const struct virt_disk *find_root(const struct virt_guest *guest)
{
    const struct virt_disk *first = NULL;

    for (size_t i = 0; i < guest->disk_count; i++) {
        const struct virt_disk *disk = &guest->disks[i];
        if (disk->is_volume || !disk->path || !text_equal(disk->device, "disk"))
            continue;
        if (text_ends_with(disk->path, "/disk"))
            return disk;
        if (!first)
            first = disk;
    }
    return first;
}

/* QEMU copies the whole disk into a file of its own format; it is converted when another one is wanted. */
static int copy_running(struct agent *agent, struct snapshot *snapshot,
                        const struct virt_disk *root, struct err *e)
{
    _cleanup_(str_freep) char *name = NULL, *path = NULL;
    bool plain = text_equal(snapshot->format, root->format) &&
                 !conf_bool(snapshot->conf, CONF_libvirt_snapshot_compression);
    int result;

    if (instance_snapshot_reserve(snapshot->conf, &name, &path, e) < 0)
        return -1;
    result = virt_guest_copy_disk(agent->virt, snapshot->uuid, root->target, path, root->format, e);
    if (result == 0 && plain) {
        result = instance_snapshot_open(snapshot->conf, name, &snapshot->fd, e);
        if (result == 0) {
            snapshot->name = STEAL(name);
            return 0;
        }
    } else if (result == 0) {
        result = instance_snapshot_make(snapshot->conf, snapshot->uuid, path, root->format,
                                        snapshot->format, &snapshot->fd, &snapshot->name, e);
    }
    instance_snapshot_remove(snapshot->conf, name);
    return result;
}

static int run_copy(struct agent *agent, void *data, struct err *e)
{
    struct snapshot *snapshot = data;
    _cleanup_(virt_guest_freep) struct virt_guest *guest = NULL;
    const char *wanted = conf_string(snapshot->conf, CONF_libvirt_snapshot_image_format);

    if (virt_guest_read(agent->virt, snapshot->uuid, &guest, e) < 0)
        return -1;
    const struct virt_disk *root = find_root(guest);
    if (!root)
        return err_set(e, ERR_DISK, "instance %s has no disk of its own to make an image of",
                       snapshot->uuid);
    snapshot->format = text_dup(wanted && *wanted ? wanted : root->format);
    if (guest->state == VIRT_STATE_RUNNING || guest->state == VIRT_STATE_PAUSED)
        return copy_running(agent, snapshot, root, e);
    return instance_snapshot_make(snapshot->conf, snapshot->uuid, root->path, root->format,
                                  snapshot->format, &snapshot->fd, &snapshot->name, e);
}

static void step_copy(struct operation *op)
{
    operation_job(op, "copy the disk", run_copy, NULL);
}

static int run_remove(struct agent *agent, void *data, struct err *e)
{
    struct snapshot *snapshot = data;

    (void)agent;
    (void)e;
    if (!snapshot->name)
        return 0;
    (void)close(snapshot->fd);
    instance_snapshot_remove(snapshot->conf, snapshot->name);
    free(STEAL(snapshot->name));
    return 0;
}

static void step_remove(struct operation *op)
{
    operation_job(op, "remove the copy", run_remove, NULL);
}

/* ---- task states ---- */

static void prepare(struct operation *op, const char *task_state)
{
    struct snapshot *snapshot = snapshot_of(op);

    snapshot->conf = conf_ref(op->agent->conf);
    snapshot->uuid = text_dup(op->uuid);
    snapshot->image_id = text_dup(json_object_get_string(rpc_request_arg(op->request, "image_id")));
    snapshot->task_state = task_state;
    snapshot->fd = -1;
}

static void step_place(struct operation *op)
{
    operation_wait_for_place(op, conf_int(op->agent->conf, CONF_DEFAULT_max_concurrent_snapshots));
}

static void step_begin_snapshot(struct operation *op)
{
    prepare(op, "image_snapshot");
    instance_set_task_state(op->instance, "image_snapshot");
    operation_save(op, "image_snapshot_pending");
}

static void step_begin_backup(struct operation *op)
{
    prepare(op, "image_backup");
    operation_next(op);
}

static void undo_begin(struct operation *op)
{
    const struct snapshot *snapshot = snapshot_of(op);

    if (!snapshot->uploaded)
        cloud_image_delete(op->agent->cloud, op->context, snapshot->image_id);
    operation_next(op);
}

static void step_pending(struct operation *op)
{
    operation_save_state(op, NULL, "image_pending_upload", snapshot_of(op)->task_state);
}

static void step_uploading(struct operation *op)
{
    instance_set_task_state(op->instance, "image_uploading");
    operation_save(op, "image_pending_upload");
}

static void step_done(struct operation *op)
{
    instance_set_task_state(op->instance, NULL);
    operation_save(op, "image_uploading");
}

/* ---- the image ---- */

static void copy_field(struct json_object *properties, const char *name, const struct operation *op,
                       const char *field)
{
    const char *value = object_string(op->instance->object, field, NULL);

    if (value && *value)
        json_add_string(properties, name, value);
}

/* nova/virt/libvirt/driver.py, _create_snapshot_metadata() */
static struct json_object *image_fields(const struct operation *op)
{
    struct json_object *metadata = instance_system_metadata(op->instance);
    struct json_object *fields = json_object_new_object();
    struct json_object *properties = json_object_new_object();
    const char *format = json_get_string(metadata, "image_disk_format", NULL);

    json_add_string(fields, "disk_format",
                    text_equal(format, "ami") ? "ami" : snapshot_of(op)->format);
    json_add_string(fields, "container_format",
                    json_get_string(metadata, "image_container_format", "bare"));
    json_add_string(properties, "image_location", "snapshot");
    json_add_string(properties, "image_state", "available");
    copy_field(properties, "kernel_id", op, "kernel_id");
    copy_field(properties, "ramdisk_id", op, "ramdisk_id");
    copy_field(properties, "owner_id", op, "project_id");
    copy_field(properties, "os_type", op, "os_type");
    json_add(fields, "properties", properties);
    return fields;
}

static void uploaded(void *aux, const struct err *failure)
{
    struct operation *op = aux;

    snapshot_of(op)->uploaded = failure == NULL;
    if (failure)
        operation_fail(op, failure);
    else
        operation_next(op);
}

static void step_upload(struct operation *op)
{
    const struct snapshot *snapshot = snapshot_of(op);
    _cleanup_(json_putp) struct json_object *fields = image_fields(op);

    cloud_image_upload(op->agent->cloud, op->context, snapshot->image_id, fields, snapshot->fd,
                       uploaded, op);
}

/* ---- rotation ---- */

static void rotate(void *aux, struct json_object *result, const struct err *failure)
{
    struct operation *op = aux;
    int64_t keep = json_object_get_int64(rpc_request_arg(op->request, "rotation"));

    if (failure) /* the backup itself is made */
        log_err(LOG_LEVEL_WARNING, failure, "older backups are not looked at");
    for (size_t i = keep > 0 ? (size_t)keep : 0; !failure && i < json_object_array_length(result);
         i++) {
        const char *id = json_get_string(json_object_array_get_idx(result, i), "id", NULL);
        if (!id)
            continue;
        log_info("backup %s is one more than %lld: it is deleted", id, (long long)keep);
        cloud_image_delete(op->agent->cloud, op->context, id);
    }
    operation_next(op);
}

static void step_rotate(struct operation *op)
{
    struct json_object *type = rpc_request_arg(op->request, "backup_type");

    if (!rpc_request_arg(op->request, "rotation"))
        operation_next(op);
    else
        cloud_image_backups(op->agent->cloud, op->context, op->uuid, json_object_get_string(type),
                            rotate, op);
}

#define COMMON_STEPS                                                                               \
    {"pending", step_pending, NULL}, {"copy", step_copy, step_remove},                             \
        {"uploading", step_uploading, NULL}, {"upload", step_upload, NULL},                        \
        {"remove", step_remove, NULL},                                                             \
    {                                                                                              \
        "done", step_done, NULL                                                                    \
    }

static const struct operation_step snapshot_steps[] = {
    {"place", step_place, NULL},
    {"begin", step_begin_snapshot, undo_begin},
    COMMON_STEPS,
    {NULL, NULL, NULL},
};
static const struct operation_step backup_steps[] = {
    {"place", step_place, NULL},
    {"begin", step_begin_backup, undo_begin},
    COMMON_STEPS,
    {"rotate", step_rotate, NULL},
    {NULL, NULL, NULL},
};

static const struct operation_kind snapshot_kind = {
    .name = "snapshot",
    .event = "compute_snapshot_instance",
    .steps = snapshot_steps,
    .data_size = sizeof(struct snapshot),
    .release = release,
};
static const struct operation_kind backup_kind = {
    .name = "backup",
    .event = "compute_backup_instance",
    .steps = backup_steps,
    .data_size = sizeof(struct snapshot),
    .release = release,
};

void instance_snapshot(struct agent *agent, struct rpc_request *request)
{
    operation_request(agent, request, &snapshot_kind);
}

void instance_backup(struct agent *agent, struct rpc_request *request)
{
    operation_request(agent, request, &backup_kind);
}
