/* SPDX-License-Identifier: Apache-2.0 */
/* Requests for what this agent cannot do: told to the user, and nothing left hanging. See the header. */
#include "agent/unserved.h"

#include <stdio.h>

#include "agent/operation.h"
#include "lib/json.h"
#include "lib/log.h"

LOG_MODULE(endpoints);

/* Where Nova's API does not look for NotImplementedError (501), but for another class. */
static const struct {
    enum rpc_method_id method;
    const char *wire_class;
} classes[] = {
    {RPC_METHOD_reserve_block_device_name, "InvalidVolume"}, /* 400 */
    {RPC_METHOD_get_vnc_console, "ConsoleTypeUnavailable"},  /* 400 */
    {RPC_METHOD_get_spice_console, "ConsoleTypeUnavailable"},
    {RPC_METHOD_get_serial_console, "ConsoleTypeUnavailable"},
    {RPC_METHOD_get_rdp_console, "ConsoleTypeUnavailable"},
    {RPC_METHOD_get_mks_console, "ConsoleTypeUnavailable"},
};

static void set_refusal(const struct agent *agent, enum rpc_method_id method, struct err *e)
{
    err_set(e, ERR_NOT_IMPLEMENTED, "%s is not implemented on host %s", rpc_method_name(method),
            agent->host);
    for (size_t i = 0; i < ARRAY_LEN(classes); i++)
        if (classes[i].method == method)
            (void)err_set_class(e, classes[i].wire_class, ERR_MODULE_NOVA);
}

static struct migration_record *migration_of(const struct operation *op)
{
    struct json_object *primitive = op->request ? rpc_request_arg(op->request, "migration") : NULL;
    struct migration_record *record = NULL;

    if (primitive)
        (void)migration_record_from_json(primitive, &record, NULL);
    return record;
}

struct unserved {
    struct migration_record *record;
    char *task_state; /* as the API left it */
};

static void release(struct operation *op)
{
    struct unserved *unserved = op->data;

    migration_record_free(unserved->record);
    free(unserved->task_state);
}

static void clear_task_state(struct operation *op)
{
    struct unserved *unserved = op->data;

    if (!unserved->task_state) {
        operation_next(op);
        return;
    }
    instance_set_task_state(op->instance, NULL);
    operation_save(op, unserved->task_state);
}

static void migration_saved(void *aux, const struct err *failure)
{
    if (failure)
        log_err(LOG_LEVEL_WARNING, failure, "status of a migration that is not implemented");
    clear_task_state(aux);
}

static void reverted(void *aux, const struct err *failure)
{
    struct operation *op = aux;
    struct unserved *unserved = op->data;

    if (failure)
        log_err(LOG_LEVEL_WARNING, failure, "allocations of a migration that is not implemented");
    migration_record_set_status(unserved->record, "error");
    cloud_migration_save(op->agent->cloud, op->context, unserved->record, "source", NULL,
                         migration_saved, op);
}

/* As nova-compute names its events; `openstack server event show` has the reason then. */
static void tell_event(const struct operation *op, const struct err *e)
{
    struct cloud *cloud = op->agent->cloud;
    _cleanup_(str_freep) char *event =
        text_format("compute_%s", rpc_method_name(rpc_request_method(op->request)));

    cloud_event_start(cloud, op->context, op->uuid, event);
    cloud_event_finish(cloud, op->context, op->uuid, event, e);
}

static void refuse(struct operation *op)
{
    struct unserved *unserved = op->data;
    struct err e = ERR_INIT;

    unserved->record = migration_of(op);
    unserved->task_state = text_dup(instance_task_state(op->instance));
    set_refusal(op->agent, rpc_request_method(op->request), &e);
    tell_event(op, &e);
    operation_fail(op, &e);
}

static void failed(struct operation *op)
{
    struct unserved *unserved = op->data;

    if (unserved->record && rpc_request_method(op->request) == RPC_METHOD_prep_resize)
        cloud_allocations_revert(op->agent->cloud, op->context, op->instance, unserved->record,
                                 reverted, op);
    else
        clear_task_state(op);
}

static const struct operation_step steps[] = {{"refuse", refuse, NULL}, {NULL, NULL, NULL}};
static const struct operation_kind unserved_kind = {.name = "unserved",
                                                    .steps = steps,
                                                    .data_size = sizeof(struct unserved),
                                                    .failed = failed,
                                                    .release = release};

void endpoint_unserved(struct agent *agent, struct rpc_request *request)
{
    enum rpc_method_id method = rpc_request_method(request);
    struct err e = ERR_INIT;

    if (rpc_request_arg(request, "instance") &&
        (rpc_request_kind(request) == RPC_KIND_CAST || method == RPC_METHOD_set_admin_password)) {
        operation_request(agent, request, &unserved_kind);
        return;
    }
    set_refusal(agent, method, &e);
    rpc_fail(request, &e);
}
