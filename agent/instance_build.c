/* SPDX-License-Identifier: Apache-2.0 */
/*
 * build_and_run_instance: nova/compute/manager.py, _do_build_and_run_instance(), as steps. Task states:
 * scheduling -> none -> networking -> block_device_mapping -> spawning -> none, vm_state building -> active.
 *
 * A failure takes all back; then the conductor tries another host (filter_properties.retry), or the instance is
 * in error and belongs to no host. What another host would refuse as well is not tried again, as in Nova:
 * networks that cannot be had, images and flavors that do not fit.
 */
#include "agent/instance_build.h"

#include <json-c/linkhash.h>

#include "agent/config_drive.h"
#include "agent/instance_devices.h"
#include "agent/instance_make.h"
#include "agent/node.h"
#include "agent/server_group.h"
#include "cloud/instances.h"
#include "cloud/ports.h"
#include "lib/clock.h"
#include "lib/json.h"
#include "lib/log.h"

LOG_MODULE(build);

struct build {
    struct instance_make make; /* first: its steps look for it there */
    struct instance_devices devices;
    size_t vif_index;
    bool is_final; /* another host would fail too */
    bool claimed;
};

static struct build *build_of(const struct operation *op)
{
    return op->data;
}

static void release(struct operation *op)
{
    struct build *build = build_of(op);

    if (build->claimed)
        node_unclaim(op->agent, op->uuid);
    instance_devices_clear(&build->devices);
    instance_make_clear(&build->make);
}

/* ---- taking on ---- */

static void step_place(struct operation *op)
{
    operation_wait_for_place(op, conf_int(op->agent->conf, CONF_DEFAULT_max_concurrent_builds));
}

static void step_begin(struct operation *op)
{
    struct build *build = build_of(op);

    build->make.image = json_object_get(rpc_request_arg(op->request, "image"));
    build->make.injected_files = json_object_get(rpc_request_arg(op->request, "injected_files"));
    build->make.admin_password =
        text_dup(json_object_get_string(rpc_request_arg(op->request, "admin_password")));
    instance_make_begin(op);
    instance_set_vm_state(op->instance, "building");
    instance_set_task_state(op->instance, NULL);
    operation_save(op, "scheduling|-");
}

/* Roles of who built it, for the metadata service. */
static void add_boot_roles(struct operation *op)
{
    struct json_object *roles = json_get(op->context, "roles");
    struct json_object *metadata = json_copy(instance_system_metadata(op->instance));
    struct text_buffer b = TEXT_BUFFER_INIT;

    for (size_t i = 0; roles && i < json_object_array_length(roles); i++)
        text_buffer_printf(&b, "%s%s", i ? "," : "",
                           json_object_get_string(json_object_array_get_idx(roles, i)));
    if (!metadata)
        metadata = json_object_new_object();
    json_add_string(metadata, "boot_roles", b.length ? b.data : "");
    text_buffer_free(&b);
    instance_set_system_metadata(op->instance, metadata);
}

static void step_claim(struct operation *op)
{
    struct build *build = build_of(op);
    struct err e = ERR_INIT;

    if (node_claim(op->agent, op->instance, &e) < 0) {
        operation_fail(op, &e);
        return;
    }
    build->claimed = true;
    instance_set_host(op->instance, op->agent->host);
    object_set_string(op->instance->object, "launched_on", op->agent->host);
    node_own_instance(op->agent, op->instance);
    add_boot_roles(op);
    operation_save(op, NULL);
}

/* ---- networking ---- */

static void step_networking(struct operation *op)
{
    instance_set_task_state(op->instance, "networking");
    operation_save(op, "-");
}

static void allocated(void *aux, struct json_object *result, const struct err *failure)
{
    struct operation *op = aux;

    if (failure) {
        build_of(op)->is_final = true;
        operation_fail(op, failure);
        return;
    }
    instance_make_set_network(op, result);
    operation_next(op);
}

static void step_allocate(struct operation *op)
{
    struct build *build = build_of(op);

    build->is_final = false;
    cloud_ports_allocate(op->agent->cloud, op->context, op->instance,
                         rpc_request_arg(op->request, "requested_networks"),
                         rpc_request_arg(op->request, "security_groups"), allocated, op);
}

static void emptied(void *aux, const struct err *failure)
{
    struct operation *op = aux;
    _cleanup_(json_putp) struct json_object *none = json_object_new_array();

    if (failure) {
        operation_fail(op, failure);
        return;
    }
    instance_make_set_network(op, none);
    cloud_info_cache_save(op->agent->cloud, op->context, op->uuid, none, operation_cloud_done, op);
}

static void undo_allocate(struct operation *op)
{
    cloud_ports_release(op->agent->cloud, op->context, op->instance, emptied, op);
}

/* Which port was asked for with which device tag: by its id, else by its place. */
static const char *tag_of(const struct operation *op, const char *port_id, size_t index)
{
    struct json_object *list = rpc_request_arg(op->request, "requested_networks");
    struct json_object *items = json_get(json_get(list, "nova_object.data"), "objects");
    struct json_object *at = NULL;

    for (size_t i = 0; items && i < json_object_array_length(items); i++) {
        struct json_object *item =
            json_get(json_object_array_get_idx(items, i), "nova_object.data");
        if (text_equal(json_get_string(item, "port_id", NULL), port_id))
            return json_get_string(item, "tag", NULL);
        if (i == index)
            at = item;
    }
    return json_get_string(at, "port_id", NULL) ? NULL : json_get_string(at, "tag", NULL);
}

static void next_vif(void *aux, const struct err *failure)
{
    struct operation *op = aux;
    struct build *build = build_of(op);
    struct json_object *vif = json_object_array_get_idx(build->make.network_info, build->vif_index);

    if (failure) {
        operation_fail(op, failure);
        return;
    }
    if (!vif) {
        operation_next(op);
        return;
    }
    const char *id = json_get_string(vif, "id", "");
    cloud_virtual_interface_create(op->agent->cloud, op->context, op->uuid, id,
                                   json_get_string(vif, "address", ""),
                                   tag_of(op, id, build->vif_index), next_vif, op);
    build->vif_index++;
}

static void step_info_cache(struct operation *op)
{
    cloud_info_cache_save(op->agent->cloud, op->context, op->uuid, build_of(op)->make.network_info,
                          next_vif, op);
}

static void undo_info_cache(struct operation *op)
{
    cloud_virtual_interfaces_delete(op->agent->cloud, op->context, op->uuid, operation_cloud_done,
                                    op);
}

/* ---- block devices ---- */

static void devices_known(struct operation *op)
{
    struct build *build = build_of(op);

    build->make.block_devices = instance_devices_json(&build->devices);
    operation_next(op);
}

static void step_devices(struct operation *op)
{
    instance_devices_load(op, &build_of(op)->devices,
                          rpc_request_arg(op->request, "block_device_mapping"), devices_known);
}

static void step_device_names(struct operation *op)
{
    struct build *build = build_of(op);

    instance_devices_name(op, &build->devices, build->make.spec);
}

static void step_mapping(struct operation *op)
{
    const struct build *build = build_of(op);

    if (!object_string(op->instance->object, "root_device_name", NULL))
        object_set_string(op->instance->object, "root_device_name",
                          instance_spec_root_device(build->make.spec));
    instance_set_task_state(op->instance, "block_device_mapping");
    operation_save(op, NULL);
}

static void step_spawning(struct operation *op)
{
    instance_set_task_state(op->instance, "spawning");
    operation_save(op, "block_device_mapping");
}

/* ---- the end ---- */

static int run_tear_down(struct agent *agent, void *data, struct err *e)
{
    struct build *build = data;

    return instance_tear_down(agent, build->make.conf, instance_uuid(build->make.instance),
                              instance_spec_ports(build->make.spec), false, e);
}

static void undo_keep(struct operation *op)
{
    operation_job(op, "take the guest down", run_tear_down, NULL);
}

static void step_active(struct operation *op)
{
    const struct build *build = build_of(op);
    struct json_object *metadata = json_copy(instance_system_metadata(op->instance));
    _cleanup_(json_putp) struct json_object *defaults =
        instance_spec_defaults(build->make.spec, op->instance);
    char now[CLOCK_TEXT_SIZE];

    json_object_object_foreach (defaults, name, value) {
        json_add(metadata, name, json_object_get(value));
    }
    bool changed = json_object_object_length(defaults) > 0;
    if (json_has(metadata, "network_allocated")) { /* of a nova-compute that tried before us */
        json_object_object_del(metadata, "network_allocated");
        changed = true;
    }
    if (changed)
        instance_set_system_metadata(op->instance, STEAL(metadata));
    json_object_put(metadata);
    /* forced ones stay with the instance, for a hard reboot looks at the record alone */
    const char *config_drive = instance_config_drive(op->instance);
    if (config_drive_wanted(build->make.conf, op->instance) && (!config_drive || !*config_drive))
        instance_set_config_drive(op->instance, "True");
    clock_format_object(clock_realtime_us(), now);
    object_set_string(op->instance->object, "launched_at", now);
    operation_save_state(op, "active", NULL, "spawning");
}

static void step_changed(struct operation *op)
{
    node_build_ended(op->agent, true);
    operation_next(op);
}

/* ---- failure ---- */

static bool is_deleted(const struct err *failure)
{
    return failure->code == ERR_NO_INSTANCE ||
           text_equal(err_wire_class(failure), "UnexpectedDeletingTaskStateError");
}

/* Of the image or the flavor, not of this host: a disk fault with a system error is the host's. */
static bool is_of_request(const struct err *failure)
{
    return failure->code == ERR_INVALID || (failure->code == ERR_DISK && failure->sys == 0);
}

static bool may_retry(const struct operation *op)
{
    const struct build *build = build_of(op);
    struct json_object *retry =
        json_get(rpc_request_arg(op->request, "filter_properties"), "retry");

    if (!json_object_is_type(retry, json_type_object))
        return false;
    return !build->is_final && !build->make.waits && !is_of_request(&op->failure);
}

/* The instance belongs to no host again. */
static void leave_host(struct operation *op)
{
    object_clear_changes(op->instance->object);
    instance_set_host(op->instance, NULL);
    instance_set_node(op->instance, NULL);
    if (object_int(op->instance->object, "compute_id", 0) > 0)
        object_set_string(op->instance->object, "compute_id", NULL);
}

static struct json_object *argument(const struct operation *op, const char *name)
{
    return json_object_get(rpc_request_arg(op->request, name));
}

/* Why, for the log and the fault if no host is left (retry.exc, retry.exc_reason). */
static struct json_object *filter_properties(const struct operation *op)
{
    struct json_object *properties = json_copy(rpc_request_arg(op->request, "filter_properties"));
    struct json_object *retry = json_get(properties, "retry");
    struct json_object *trace = json_object_new_array();

    json_object_array_add(trace, json_object_new_string(op->failure.text));
    json_add(retry, "exc", trace);
    json_add_string(retry, "exc_reason", op->failure.text);
    return properties;
}

/* As in Nova the event of an attempt that is followed by another has no error: the action would keep it. */
static void rescheduled(void *aux, const struct err *failure)
{
    struct operation *op = aux;

    op->passed_on = failure == NULL;
    operation_cloud_done(op, failure);
}

static void reschedule(void *aux, const struct err *failure)
{
    struct operation *op = aux;
    struct json_object *args = json_object_new_object();
    struct json_object *instances = json_object_new_array();
    struct json_object *hosts = json_object_new_array();

    if (failure) /* another host's claim on it fails then, and says so */
        log_err(LOG_LEVEL_WARNING, failure, "the allocation of a failed build");
    json_object_array_add(instances, instance_to_json(op->instance));
    json_object_array_add(hosts, argument(op, "host_list"));
    json_add(args, "instances", instances);
    json_add(args, "image", argument(op, "image"));
    json_add(args, "filter_properties", filter_properties(op));
    json_add(args, "admin_password", argument(op, "admin_password"));
    json_add(args, "injected_files", argument(op, "injected_files"));
    json_add(args, "requested_networks", argument(op, "requested_networks"));
    json_add(args, "security_groups", argument(op, "security_groups"));
    json_add(args, "request_spec", argument(op, "request_spec"));
    json_add(args, "host_lists", hosts);
    cloud_reschedule(op->agent->cloud, op->context, args, rescheduled, op);
}

static void free_allocation(struct operation *op, cloud_done_fn then)
{
    cloud_allocations_delete(op->agent->cloud, op->context, op->uuid, then, op);
}

static void saved_for_retry(void *aux, const struct err *failure)
{
    if (failure) /* deleted meanwhile */
        operation_fail(aux, failure);
    else
        free_allocation(aux, reschedule);
}

static void saved_error(void *aux, const struct err *failure)
{
    struct operation *op = aux;

    if (failure)
        log_err(LOG_LEVEL_WARNING, failure, "the state of a failed build");
    free_allocation(op, operation_cloud_done);
}

static void failed(struct operation *op)
{
    struct cloud *cloud = op->agent->cloud;

    node_changed(op->agent);
    if (is_deleted(&op->failure)) {
        free_allocation(op, operation_cloud_done);
        return;
    }
    if (!text_equal(err_wire_class(&op->failure), "GroupAffinityViolation"))
        node_build_ended(op->agent, false); /* what a policy forbids is not this host's fault */
    leave_host(op);
    if (may_retry(op)) {
        instance_set_task_state(op->instance, "scheduling");
        cloud_instance_save(cloud, op->context, op->instance, NULL, saved_for_retry, op);
        return;
    }
    cloud_fault(cloud, op->context, op->uuid, &op->failure);
    instance_set_vm_state(op->instance, "error");
    instance_set_task_state(op->instance, NULL);
    cloud_instance_save(cloud, op->context, op->instance, NULL, saved_error, op);
}

static const struct operation_step steps[] = {
    {"place", step_place, NULL},
    {"begin", step_begin, NULL},
    {"claim", step_claim, NULL},
    {"server group", server_group_step, NULL},
    {"networking", step_networking, NULL},
    {"allocate ports", step_allocate, undo_allocate},
    {"info cache", step_info_cache, undo_info_cache},
    {"block devices", step_devices, NULL},
    {"spec", instance_make_spec, NULL},
    {"device names", step_device_names, NULL},
    {"mapping", step_mapping, NULL},
    {"spawning", step_spawning, NULL},
    {"images", instance_make_images, NULL},
    {"parts", instance_make_parts, instance_make_undo},
    {"start", instance_make_start, instance_make_nothing},
    {"wait for ports", instance_make_wait, NULL},
    {"resume", instance_make_resume, NULL},
    {"keep", instance_make_keep, undo_keep},
    {"active", step_active, NULL},
    {"figures", step_changed, NULL},
    {NULL, NULL, NULL},
};

static const struct operation_kind build_kind = {
    .name = "build",
    .event = "compute__do_build_and_run_instance",
    .steps = steps,
    .data_size = sizeof(struct build),
    .release = release,
    .failed = failed,
    .no_fault = true, /* one that goes to another host has none */
};

void instance_build(struct agent *agent, struct rpc_request *request)
{
    operation_request(agent, request, &build_kind);
}
