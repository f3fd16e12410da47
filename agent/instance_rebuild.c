/* SPDX-License-Identifier: Apache-2.0 */
/*
 * rebuild_instance: nova/compute/manager.py, _do_rebuild_instance(). In place, the guest and its disks go and come
 * anew from the image. Evacuated (`recreate`), the instance comes from a host that is dead: its ports are moved
 * here, its disks are made anew, or used as they are when both hosts share instances_path. Task states:
 * rebuilding -> rebuild_block_device_mapping -> rebuild_spawning -> none.
 *
 * An instance that was stopped (or shall be: target_state) is defined and not started.
 */
#include "agent/instance_build.h"

#include <stdio.h>

#include "agent/instance_devices.h"
#include "agent/instance_make.h"
#include "agent/node.h"
#include "agent/server_group.h"
#include "cloud/images.h"
#include "cloud/instances.h"
#include "cloud/ports.h"
#include "lib/clock.h"
#include "lib/json.h"
#include "lib/log.h"
#include "virt/storage.h"

LOG_MODULE(build);

struct rebuild {
    struct instance_make make; /* first: its steps look for it there */
    struct instance_devices devices;
    struct migration_record *record; /* of an evacuation; NULL */
    struct port_list former;         /* ports of the guest that goes */
    bool evacuates, claimed, has_context;
    bool touched; /* the guest or its network was changed: it cannot be as it was */
    int shared;   /* the request's on_shared_storage: 1, 0, -1 = find out */
    bool on_disk; /* its directory is here */
};

static struct rebuild *rebuild_of(const struct operation *op)
{
    return op->data;
}

static void release(struct operation *op)
{
    struct rebuild *rebuild = rebuild_of(op);

    if (rebuild->claimed)
        node_unclaim(op->agent, op->uuid);
    port_list_clear(&rebuild->former);
    migration_record_free(rebuild->record);
    instance_devices_clear(&rebuild->devices);
    instance_make_clear(&rebuild->make);
}

/* ---- taking on ---- */

static bool flag(const struct operation *op, const char *name)
{
    return json_object_get_boolean(rpc_request_arg(op->request, name));
}

static const char *text(const struct operation *op, const char *name)
{
    return json_object_get_string(rpc_request_arg(op->request, name));
}

static void read_request(struct operation *op)
{
    struct rebuild *rebuild = rebuild_of(op);
    struct json_object *shared = rpc_request_arg(op->request, "on_shared_storage");
    struct json_object *migration = rpc_request_arg(op->request, "migration");

    rebuild->evacuates = flag(op, "recreate");
    rebuild->shared = shared ? json_object_get_boolean(shared) : -1;
    rebuild->make.admin_password = text_dup(text(op, "new_pass"));
    rebuild->make.injected_files = json_object_get(rpc_request_arg(op->request, "injected_files"));
    rebuild->make.power_off = text_equal(instance_vm_state(op->instance), "stopped") ||
                              text_equal(text(op, "target_state"), "stopped");
    if (migration && migration_record_from_json(migration, &rebuild->record, NULL) == 0)
        object_clear_changes(rebuild->record->object);
}

static int check_request(const struct operation *op, struct err *e)
{
    if (flag(op, "preserve_ephemeral")) {
        err_set(e, ERR_NOT_IMPLEMENTED, "ephemeral disks cannot be kept in a rebuild on host %s",
                op->agent->host);
        return err_set_class(e, "PreserveEphemeralNotSupported", ERR_MODULE_NOVA);
    }
    return 0;
}

static void image_read(void *aux, struct json_object *result, const struct err *failure)
{
    struct operation *op = aux;

    if (failure) {
        operation_fail(op, failure);
        return;
    }
    rebuild_of(op)->make.image = json_copy(result);
    operation_next(op);
}

static void step_begin(struct operation *op)
{
    read_request(op);
    instance_make_begin(op);
    operation_next(op);
}

static void step_image(struct operation *op)
{
    struct err e = ERR_INIT;
    const char *image = text(op, "image_ref");

    if (check_request(op, &e) < 0)
        operation_fail(op, &e);
    else if (image && *image)
        cloud_image_get(op->agent->cloud, op->context, image, image_read, op);
    else /* an evacuation: as system_metadata keeps it */
        operation_next(op);
}

/*
 * Nova's API sends external events to instance.host, which is the dead one, and to the hosts of the migration
 * in the migration context: without it "network-vif-plugged" would never reach this host.
 */
static struct json_object *migration_context(const struct operation *op)
{
    static const char *const nulls[] = {
        "new_numa_topology", "old_numa_topology", "new_pci_devices", "old_pci_devices",
        "new_pci_requests",  "old_pci_requests",  "new_resources",   "old_resources"};
    struct object *context = object_new("MigrationContext", "1.2");

    object_set_string(context, "instance_uuid", op->uuid);
    object_set_int(context, "migration_id", migration_record_id(rebuild_of(op)->record));
    for (size_t i = 0; i < ARRAY_LEN(nulls); i++)
        object_set_string(context, nulls[i], NULL);
    struct json_object *primitive = object_to_json(context);
    object_free(context);
    return primitive;
}

static void claim_record(struct operation *op)
{
    struct rebuild *rebuild = rebuild_of(op);

    migration_record_set_dest_compute(rebuild->record, op->agent->host);
    migration_record_set_dest_node(rebuild->record, node_hostname(op->agent));
    object_set_string(rebuild->record->object, "dest_host",
                      conf_string(rebuild->make.conf, CONF_DEFAULT_my_ip));
    object_set_json(op->instance->object, "migration_context", migration_context(op));
    rebuild->has_context = true;
    cloud_migration_save(op->agent->cloud, op->context, rebuild->record, "source", NULL,
                         operation_cloud_done, op);
}

static void step_claim(struct operation *op)
{
    struct rebuild *rebuild = rebuild_of(op);
    struct err e = ERR_INIT;

    if (rebuild->evacuates && node_claim(op->agent, op->instance, &e) < 0) {
        operation_fail(op, &e);
        return;
    }
    rebuild->claimed = rebuild->evacuates;
    if (rebuild->evacuates && rebuild->record)
        claim_record(op);
    else
        operation_next(op);
}

static void step_server_group(struct operation *op)
{
    if (rebuild_of(op)->evacuates)
        server_group_step(op);
    else
        operation_next(op);
}

static void context_dropped(void *aux, const struct err *failure)
{
    if (failure) /* it does no harm, the next operation with one replaces it */
        log_err(LOG_LEVEL_WARNING, failure, "the migration context of an evacuation");
    operation_next(aux);
}

static void drop_context(struct operation *op)
{
    if (rebuild_of(op)->has_context)
        cloud_migration_context_drop(op->agent->cloud, op->context, op->instance, context_dropped,
                                     op);
    else
        operation_next(op);
}

/* ---- shared storage ---- */

static int run_look(struct agent *agent, void *data, struct err *e)
{
    struct rebuild *rebuild = data;
    struct err found = ERR_INIT;
    const char *uuid = instance_uuid(rebuild->make.instance);

    (void)agent;
    if (virt_storage_check_directory(rebuild->make.conf, uuid, false, &found) < 0) {
        rebuild->on_disk = found.code == ERR_DISK_EXISTS;
        if (!rebuild->on_disk) {
            *e = found;
            return -1;
        }
    }
    if (rebuild->shared >= 0 && rebuild->on_disk != (rebuild->shared == 1)) {
        err_set(e, ERR_INVALID,
                "the files of instance %s are %son this host, but on_shared_storage is %s", uuid,
                rebuild->on_disk ? "" : "not ", rebuild->shared ? "true" : "false");
        return err_set_class(e, "InvalidSharedStorage", ERR_MODULE_NOVA);
    }
    rebuild->make.keep_disks = rebuild->on_disk;
    return 0;
}

static void step_storage(struct operation *op)
{
    if (rebuild_of(op)->evacuates)
        operation_job(op, "look for shared storage", run_look, NULL);
    else
        operation_next(op);
}

static void step_rebuilding(struct operation *op)
{
    operation_save_state(op, NULL, "rebuilding", "rebuilding");
}

/* ---- networks ---- */

static void moved(void *aux, struct json_object *result, const struct err *failure)
{
    struct operation *op = aux;

    if (failure) {
        operation_fail(op, failure);
        return;
    }
    instance_make_set_network(op, result);
    cloud_info_cache_save(op->agent->cloud, op->context, op->uuid, result, operation_cloud_done,
                          op);
}

static void refreshed(void *aux, struct json_object *result, const struct err *failure)
{
    struct operation *op = aux;

    if (failure)
        log_err(LOG_LEVEL_WARNING, failure, "the ports are taken from the info cache");
    else
        instance_make_set_network(op, result);
    operation_next(op);
}

/* In place: a cache that says that a port is down would have us wait for an event that never comes. */
static void step_network(struct operation *op)
{
    struct rebuild *rebuild = rebuild_of(op);
    struct cloud *cloud = op->agent->cloud;

    if (rebuild->evacuates)
        cloud_ports_move_here(cloud, op->context, op->instance, moved, op);
    else
        cloud_ports_refresh(cloud, op->context, op->instance, refreshed, op);
    rebuild->touched = true;
}

/* ---- the guest that goes ---- */

static int run_tear_down(struct agent *agent, void *data, struct err *e)
{
    struct rebuild *rebuild = data;

    return instance_tear_down(agent, rebuild->make.conf, instance_uuid(rebuild->make.instance),
                              &rebuild->former, rebuild->make.keep_disks, e);
}

static void step_tear_down(struct operation *op)
{
    struct rebuild *rebuild = rebuild_of(op);
    struct err e = ERR_INIT;

    if (rebuild->evacuates)
        operation_next(op);
    else if (ports_of_instance(op->instance, &rebuild->former, &e) < 0)
        operation_fail(op, &e);
    else
        operation_job(op, "take the guest down", run_tear_down, NULL);
}

/* ---- the guest that comes ---- */

static void step_mapping(struct operation *op)
{
    instance_set_task_state(op->instance, "rebuild_block_device_mapping");
    operation_save(op, "rebuilding");
}

static void devices_known(struct operation *op)
{
    struct rebuild *rebuild = rebuild_of(op);

    rebuild->make.block_devices = instance_devices_json(&rebuild->devices);
    instance_make_renew(op);
    operation_next(op);
}

static void step_devices(struct operation *op)
{
    instance_devices_load(op, &rebuild_of(op)->devices, rpc_request_arg(op->request, "bdms"),
                          devices_known);
}

static void step_spawning(struct operation *op)
{
    instance_set_task_state(op->instance, "rebuild_spawning");
    operation_save(op, "rebuild_block_device_mapping");
}

static void undo_keep(struct operation *op)
{
    struct rebuild *rebuild = rebuild_of(op);
    struct err e = ERR_INIT;

    port_list_clear(&rebuild->former);
    if (ports_of_instance(op->instance, &rebuild->former, &e) < 0)
        operation_fail(op, &e);
    else
        operation_job(op, "take the guest down", run_tear_down, NULL);
}

/* ---- the end ---- */

static void step_active(struct operation *op)
{
    const struct rebuild *rebuild = rebuild_of(op);
    char now[CLOCK_TEXT_SIZE];

    clock_format_object(clock_realtime_us(), now);
    object_set_string(op->instance->object, "launched_at", now);
    if (rebuild->evacuates) {
        instance_set_host(op->instance, op->agent->host);
        node_own_instance(op->agent, op->instance);
    }
    operation_save_state(op, rebuild->make.power_off ? "stopped" : "active", NULL,
                         "rebuild_spawning");
}

static void save_migration(struct operation *op, const char *status)
{
    struct rebuild *rebuild = rebuild_of(op);

    if (!rebuild->record) {
        operation_next(op);
        return;
    }
    migration_record_set_status(rebuild->record, status);
    cloud_migration_save(op->agent->cloud, op->context, rebuild->record, "source", NULL,
                         operation_cloud_done, op);
}

static void step_migration(struct operation *op)
{
    node_changed(op->agent);
    if (rebuild_of(op)->evacuates)
        cloud_console_tokens_clean(op->agent->cloud, op->context, op->uuid);
    save_migration(op, "done");
}

/* An interrupted one has no `failed`: the record's end is an undo. */
static void undo_begin(struct operation *op)
{
    save_migration(op, "failed");
}

/* An evacuation that did not come about holds nothing of this host. */
static void undo_claim(struct operation *op)
{
    if (rebuild_of(op)->evacuates)
        cloud_allocations_leave(op->agent->cloud, op->context, op->uuid, operation_cloud_done, op);
    else
        operation_next(op);
}

static void failed(struct operation *op)
{
    const struct rebuild *rebuild = rebuild_of(op);

    node_changed(op->agent);
    object_clear_changes(op->instance->object);
    if (rebuild->touched)
        instance_set_vm_state(op->instance, "error");
    instance_set_task_state(op->instance, NULL);
    operation_save(op, NULL);
}

static const struct operation_step steps[] = {
    {"begin", step_begin, undo_begin},
    {"allocation", instance_make_nothing, undo_claim},
    {"image record", step_image, NULL},
    {"claim", step_claim, NULL},
    {"server group", step_server_group, NULL},
    {"storage", step_storage, NULL},
    {"rebuilding", step_rebuilding, drop_context},
    {"network", step_network, NULL},
    {"take the guest down", step_tear_down, NULL},
    {"mapping", step_mapping, NULL},
    {"block devices", step_devices, NULL},
    {"spec", instance_make_spec, NULL},
    {"spawning", step_spawning, NULL},
    {"images", instance_make_images, NULL},
    {"parts", instance_make_parts, instance_make_undo},
    {"start", instance_make_start, instance_make_nothing},
    {"wait for ports", instance_make_wait, NULL},
    {"resume", instance_make_resume, NULL},
    {"keep", instance_make_keep, undo_keep},
    {"active", step_active, NULL},
    {"migration", step_migration, NULL},
    {"migration context", drop_context, NULL},
    {NULL, NULL, NULL},
};

static const struct operation_kind rebuild_kind = {
    .name = "rebuild",
    .event = "compute_rebuild_instance",
    .steps = steps,
    .data_size = sizeof(struct rebuild),
    .release = release,
    .failed = failed,
};

void instance_rebuild(struct agent *agent, struct rpc_request *request)
{
    operation_request(agent, request, &rebuild_kind);
}
