/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/instance_interface.h"

#include "agent/instance_ask.h"
#include "agent/instance_spec.h"
#include "cloud/instances.h"
#include "cloud/ports.h"
#include "lib/clock.h"
#include "lib/json.h"
#include "lib/log.h"

LOG_MODULE(interface);

enum { DETACH_ATTEMPTS = 8 }; /* device_detach_attempts and _timeout of nova.conf, their defaults */
#define DETACH_TIMEOUT_US (20 * USEC_PER_SEC)

struct interface {
    struct conf *conf; /* for the worker */
    struct instance *instance;
    char *port_id;
    struct json_object *vif;          /* the one that comes or goes */
    struct json_object *network_info; /* as it is afterwards */
    bool port_is_gone;                /* the network service deleted it: nothing to release there */
    bool begun;                       /* of a refresh: a later one may not rely on it */
};

static struct interface *interface_of(struct operation *op)
{
    struct interface *it = op->data;

    if (!it->conf)
        it->conf = conf_ref(op->agent->conf);
    return it;
}

static void release(struct operation *op)
{
    struct interface *it = op->data;

    conf_unref(it->conf);
    instance_free(it->instance);
    free(it->port_id);
    json_object_put(it->vif);
    json_object_put(it->network_info);
}

/* The task state is the API's, whatever became of the interface. */
static void leave_task(struct operation *op)
{
    operation_next(op);
}

static const char *arg_string(const struct operation *op, const char *name)
{
    return op->request ? json_object_get_string(rpc_request_arg(op->request, name)) : NULL;
}

/* ---- the instance's record: what was known when the request was sent may be old by now ---- */

static void record_read(void *aux, struct json_object *result, const struct err *failure)
{
    struct operation *op = aux;
    struct instance *fresh = NULL;
    struct err e = ERR_INIT;

    if (failure || instance_from_json(result, &fresh, &e) < 0) {
        operation_fail(op, failure ? failure : &e);
        return;
    }
    object_clear_changes(fresh->object);
    instance_free(op->instance);
    op->instance = fresh;
    operation_next(op);
}

static void step_read_record(struct operation *op)
{
    interface_of(op)->begun = true;
    cloud_instance_get(op->agent->cloud, op->context, op->uuid, record_read, op);
}

static void step_save_cache(struct operation *op)
{
    const struct interface *it = op->data;

    cloud_info_cache_save(op->agent->cloud, op->context, op->uuid, it->network_info,
                          operation_cloud_done, op);
}

/* ---- the one interface, on the worker ---- */

static int make_spec(const struct interface *it, struct instance_spec **spec, struct err *e)
{
    struct json_object *list = json_object_new_array();
    struct instance_spec_source source = {
        .conf = it->conf, .instance = it->instance, .network_info = list};

    json_object_array_add(list, json_object_get(it->vif));
    int result = instance_spec_make(&source, spec, e);
    json_object_put(list);
    return result;
}

static int attach(struct agent *agent, void *data, struct err *e)
{
    const struct interface *it = data;
    _cleanup_(instance_spec_freep) struct instance_spec *spec = NULL;
    _cleanup_(str_freep) char *xml = NULL;

    if (make_spec(it, &spec, e) < 0 || instance_spec_interface_xml(spec, 0, &xml, e) < 0)
        return -1;
    const struct net_port *port = instance_spec_ports(spec)->items[0];
    struct undo *undo = undo_new(agent->undo_handlers, NULL, NULL);
    int result = net_plug(agent->net, port, undo, e);
    undo_free(undo);
    if (result == 0)
        result = virt_guest_attach(agent->virt, instance_uuid(it->instance), xml, e);
    if (result < 0)
        (void)net_unplug(agent->net, port, NULL);
    return result;
}

/* A guest that is busy may not hear the first time. */
static int detach_patiently(struct agent *agent, const char *uuid, const char *xml, struct err *e)
{
    int result = -1;

    for (int i = 0; i < DETACH_ATTEMPTS && result < 0; i++) {
        err_clear(e);
        result = virt_guest_detach(agent->virt, uuid, xml, DETACH_TIMEOUT_US, e);
        if (result < 0 && e->code != ERR_TIMEOUT)
            break;
    }
    return result;
}

static int detach(struct agent *agent, void *data, struct err *e)
{
    const struct interface *it = data;
    _cleanup_(instance_spec_freep) struct instance_spec *spec = NULL;
    _cleanup_(str_freep) char *xml = NULL;
    enum virt_state state = VIRT_STATE_NONE;

    if (make_spec(it, &spec, e) < 0 || instance_spec_interface_xml(spec, 0, &xml, e) < 0 ||
        virt_guest_state(agent->virt, instance_uuid(it->instance), &state, e) < 0)
        return -1;
    if (state != VIRT_STATE_NONE &&
        detach_patiently(agent, instance_uuid(it->instance), xml, e) < 0)
        return -1;
    return net_unplug(agent->net, instance_spec_ports(spec)->items[0], e);
}

static struct json_object *find_vif(struct json_object *network_info, const char *port_id)
{
    size_t count = json_object_is_type(network_info, json_type_array)
                       ? json_object_array_length(network_info)
                       : 0;

    for (size_t i = 0; i < count; i++) {
        struct json_object *vif = json_object_array_get_idx(network_info, i);
        if (text_equal(json_get_string(vif, "id", NULL), port_id))
            return vif;
    }
    return NULL;
}

static struct json_object *without_vif(struct json_object *network_info, const char *port_id)
{
    struct json_object *rest = json_object_new_array();

    for (size_t i = 0; i < json_object_array_length(network_info); i++) {
        struct json_object *vif = json_object_array_get_idx(network_info, i);
        if (!text_equal(json_get_string(vif, "id", NULL), port_id))
            json_object_array_add(rest, json_object_get(vif));
    }
    return rest;
}

/* ---- attach ---- */

static void port_made(void *aux, struct json_object *result, const struct err *failure)
{
    struct operation *op = aux;
    struct interface *it = op->data;
    size_t count =
        json_object_is_type(result, json_type_array) ? json_object_array_length(result) : 0;
    struct err e = ERR_INIT;

    if (!failure && count == 0)
        err_set(&e, ERR_INTERNAL, "the new port of instance %s is not in its network info",
                op->uuid);
    if (failure || err_is_set(&e)) {
        operation_fail(op, failure ? failure : &e);
        return;
    }
    it->network_info = json_copy(result);
    it->vif = json_object_get(json_object_array_get_idx(it->network_info, count - 1));
    it->port_id = text_dup(json_get_string(it->vif, "id", ""));
    it->instance = instance_copy(op->instance);
    operation_next(op);
}

static void step_make_port(struct operation *op)
{
    (void)interface_of(op);
    cloud_port_attach(op->agent->cloud, op->context, op->instance, arg_string(op, "network_id"),
                      arg_string(op, "port_id"), arg_string(op, "requested_ip"),
                      arg_string(op, "tag"), port_made, op);
}

static void port_released(void *aux, struct json_object *result, const struct err *failure)
{
    (void)result;
    operation_cloud_done(aux, failure);
}

static void undo_make_port(struct operation *op)
{
    const struct interface *it = op->data;

    cloud_port_detach(op->agent->cloud, op->context, op->instance, it->port_id, port_released, op);
}

static void step_attach(struct operation *op)
{
    operation_job(op, "attach the interface", attach, NULL);
}

static void undo_attach(struct operation *op)
{
    operation_job(op, "detach the interface", detach, NULL);
}

static void row_made(void *aux, const struct err *failure)
{
    struct operation *op = aux;
    struct interface *it = op->data;

    if (failure) /* only device tags are looked up there */
        log_err(LOG_LEVEL_WARNING, failure, "port %s has no row of its own in Nova", it->port_id);
    op->result = json_object_get(it->vif);
    operation_next(op);
}

static void step_make_row(struct operation *op)
{
    const struct interface *it = op->data;

    cloud_virtual_interface_create(op->agent->cloud, op->context, op->uuid, it->port_id,
                                   json_get_string(it->vif, "address", ""), arg_string(op, "tag"),
                                   row_made, op);
}

static const struct operation_step attach_steps[] = {
    {.name = "read", .run = step_read_record},
    {.name = "port", .run = step_make_port, .undo = undo_make_port},
    {.name = "attach", .run = step_attach, .undo = undo_attach},
    {.name = "cache", .run = step_save_cache},
    {.name = "row", .run = step_make_row},
    {0},
};

static const struct operation_kind attach_kind = {
    .name = "attach interface",
    .event = "compute_attach_interface",
    .steps = attach_steps,
    .data_size = sizeof(struct interface),
    .release = release,
    .failed = leave_task,
};

void instance_attach_interface(struct agent *agent, struct rpc_request *request)
{
    operation_request(agent, request, &attach_kind);
}

/* ---- detach ---- */

static void step_find_port(struct operation *op)
{
    struct interface *it = op->data;
    _cleanup_(json_putp) struct json_object *info = NULL;
    struct err e = ERR_INIT;

    if (!it->port_id)
        it->port_id = text_dup(arg_string(op, "port_id"));
    if (instance_network_info(op->instance, &info, &e) < 0) {
        operation_fail(op, &e);
        return;
    }
    it->vif = json_object_get(find_vif(info, it->port_id));
    if (!it->vif && it->port_is_gone) {
        operation_skip_to_end(op);
        return;
    }
    if (!it->vif) {
        instance_refuse(&e, ERR_INVALID, "PortNotFound", "Port %s is not attached", it->port_id);
        operation_fail(op, &e);
        return;
    }
    it->network_info = without_vif(info, it->port_id);
    it->instance = instance_copy(op->instance);
    operation_next(op);
}

static void step_detach(struct operation *op)
{
    operation_job(op, "detach the interface", detach, NULL);
}

static void port_left(void *aux, struct json_object *result, const struct err *failure)
{
    struct operation *op = aux;
    struct interface *it = op->data;

    if (!failure && json_object_is_type(result, json_type_array)) {
        json_object_put(it->network_info);
        it->network_info = json_copy(result);
    }
    operation_cloud_done(op, failure);
}

static void step_release_port(struct operation *op)
{
    const struct interface *it = op->data;

    cloud_port_detach(op->agent->cloud, op->context, op->instance, it->port_id, port_left, op);
}

static void row_destroyed(void *aux, const struct err *failure)
{
    if (failure)
        log_debug("the port's row in Nova stays: %s", failure->text);
    operation_next(aux);
}

static void step_remove_row(struct operation *op)
{
    const struct interface *it = op->data;

    cloud_virtual_interface_delete(op->agent->cloud, op->context, it->port_id, row_destroyed, op);
}

static const struct operation_step detach_steps[] = {
    {.name = "read", .run = step_read_record},
    {.name = "find", .run = step_find_port},
    {.name = "detach", .run = step_detach},
    {.name = "release", .run = step_release_port},
    {.name = "cache", .run = step_save_cache},
    {.name = "row", .run = step_remove_row},
    {0},
};

static const struct operation_kind detach_kind = {
    .name = "detach interface",
    .event = "compute_detach_interface",
    .steps = detach_steps,
    .data_size = sizeof(struct interface),
    .release = release,
    .failed = leave_task,
};

void instance_detach_interface(struct agent *agent, struct rpc_request *request)
{
    operation_request(agent, request, &detach_kind);
}

/* ---- the network service deleted the port ---- */

static const struct operation_step deleted_steps[] = {
    {.name = "read", .run = step_read_record}, {.name = "find", .run = step_find_port},
    {.name = "detach", .run = step_detach},    {.name = "cache", .run = step_save_cache},
    {.name = "row", .run = step_remove_row},   {0},
};

static const struct operation_kind deleted_kind = {
    .name = "detach of a deleted port",
    .steps = deleted_steps,
    .data_size = sizeof(struct interface),
    .release = release,
    .no_fault = true,
};

void instance_port_deleted(struct agent *agent, const struct instance *instance,
                           const char *port_id, struct json_object *context)
{
    struct operation *op = operation_start(agent, instance_copy(instance), &deleted_kind, context);
    struct interface *it = op->data;

    it->port_id = text_dup(port_id);
    it->port_is_gone = true;
}

/* ---- what the network service has now ---- */

static void info_read(void *aux, struct json_object *result, const struct err *failure)
{
    struct operation *op = aux;
    struct interface *it = op->data;
    _cleanup_(json_putp) struct json_object *cached = NULL;

    if (failure) {
        operation_fail(op, failure);
        return;
    }
    if (instance_network_info(op->instance, &cached, NULL) == 0 && json_same(cached, result)) {
        operation_skip_to_end(op);
        return;
    }
    it->network_info = json_copy(result);
    operation_next(op);
}

static void step_refresh(struct operation *op)
{
    cloud_ports_refresh(op->agent->cloud, op->context, op->instance, info_read, op);
}

static const struct operation_step refresh_steps[] = {
    {.name = "read", .run = step_read_record},
    {.name = "refresh", .run = step_refresh},
    {.name = "cache", .run = step_save_cache},
    {0},
};

static const struct operation_kind refresh_kind = {
    .name = "refresh of the network info",
    .steps = refresh_steps,
    .data_size = sizeof(struct interface),
    .release = release,
    .no_fault = true,
};

void instance_inject_network_info(struct agent *agent, struct rpc_request *request)
{
    operation_request(agent, request, &refresh_kind);
}

/* One that has not begun yet will see the same. */
static bool refresh_waits(const struct agent *agent, const char *uuid)
{
    for (const struct operation *op = agent->operations; op; op = op->next) {
        const struct interface *it = op->data;
        if (op->kind == &refresh_kind && text_equal(op->uuid, uuid) && !it->begun)
            return true;
    }
    return false;
}

void instance_network_changed(struct agent *agent, const struct instance *instance,
                              const char *port_id, struct json_object *context)
{
    (void)port_id; /* all ports are asked for at once: one request */
    if (!refresh_waits(agent, instance_uuid(instance)))
        (void)operation_start(agent, instance_copy(instance), &refresh_kind, context);
}
