/* SPDX-License-Identifier: Apache-2.0 */
/*
 * terminate_instance: nova/compute/manager.py, _delete_instance(), as steps. It interrupts what is being done to
 * the instance (agent/operation.c); a live migration is aborted, and when it cannot be any more its end is
 * awaited: a guest that has left is deleted where it is.
 */
#include "agent/instance_build.h"

#include "agent/carrying.h"
#include "agent/instance_make.h"
#include "agent/node.h"
#include "cloud/instances.h"
#include "cloud/ports.h"
#include "lib/clock.h"
#include "lib/json.h"
#include "lib/log.h"

LOG_MODULE(build);

enum { MIGRATION_PAUSE_US = 200000 };

struct terminate {
    struct conf *conf;
    char *uuid;
    struct migration *migration; /* reference; the one that was under way */
    struct json_object *network_info;
    struct port_list ports;
};

static struct terminate *terminate_of(const struct operation *op)
{
    return op->data;
}

static void release(struct operation *op)
{
    struct terminate *terminate = terminate_of(op);

    if (terminate->migration)
        migration_unref(terminate->migration);
    json_object_put(terminate->network_info);
    port_list_clear(&terminate->ports);
    free(terminate->uuid);
    conf_unref(terminate->conf);
}

/* ---- a migration that is under way ---- */

static struct migration *find_migration(const struct operation *op)
{
    struct migration *m = migration_find_instance(op->agent, MIGRATION_SOURCE, op->uuid);

    return m ? m : migration_find_instance(op->agent, MIGRATION_DESTINATION, op->uuid);
}

static void abort_migration(struct operation *op, struct migration *m)
{
    struct terminate *terminate = terminate_of(op);
    struct err e = ERR_INIT;

    carrying_give_up(m);
    if (terminate->migration)
        migration_unref(terminate->migration);
    terminate->migration = migration_ref(m);
    if (m->role == MIGRATION_SOURCE && source_abort(m, &e) < 0)
        log_err(LOG_LEVEL_INFO, &e, "the deletion waits for migration %s", m->uuid);
    /* a source that failed after the guest had come never says its last word: it is asked now */
    if (m->role == MIGRATION_DESTINATION)
        recovery_watch(m, MIGRATION_PAUSE_US);
}

static bool is_parked(const struct migration *m)
{
    return m->state == MACHINE_SOURCE_PARKED || m->state == MACHINE_DESTINATION_PARKED;
}

static void forwarded(void *aux, struct json_object *result, const struct err *failure)
{
    struct operation *op = aux;

    (void)result;
    if (failure)
        operation_fail(op, failure);
    else
        operation_skip_to_end(op);
}

/* It runs there now, and its record says so. */
static void delete_there(struct operation *op, const char *host)
{
    struct rpc_target target = {.topic = "compute", .server = host};
    struct json_object *args = json_object_new_object();

    log_info("the guest moved to %s meanwhile: it is deleted there", host);
    json_add(args, "instance", instance_to_json(op->instance));
    json_add(args, "bdms",
             op->request ? json_object_get(rpc_request_arg(op->request, "bdms")) : NULL);
    rpc_cast(op->agent->rpc, &target, RPC_METHOD_terminate_instance, args, op->context, NULL,
             forwarded, op);
}

static void step_migration(struct operation *op)
{
    struct terminate *terminate = terminate_of(op);
    struct migration *m = find_migration(op);

    if (m && !machine_state_is_final(m->state) && !is_parked(m)) {
        if (m != terminate->migration)
            abort_migration(op, m);
        operation_again(op, MIGRATION_PAUSE_US);
        return;
    }
    m = terminate->migration;
    if (m && m->role == MIGRATION_SOURCE && m->state == MACHINE_SOURCE_COMPLETED)
        delete_there(op, m->destination_host);
    else
        operation_next(op);
}

/* ---- what is here ---- */

static void ports_known(struct operation *op, struct json_object *network_info)
{
    struct terminate *terminate = terminate_of(op);

    terminate->network_info = json_copy(network_info);
    ports_to_unplug(network_info, terminate->uuid, &terminate->ports);
    operation_next(op);
}

static void refreshed(void *aux, struct json_object *result, const struct err *failure)
{
    struct operation *op = aux;
    _cleanup_(json_putp) struct json_object *none = json_object_new_array();

    if (failure)
        log_err(LOG_LEVEL_WARNING, failure, "ports of the instance");
    ports_known(op, failure ? none : result);
}

/* A cache that is empty may be one that was never written. */
static void step_ports(struct operation *op)
{
    struct terminate *terminate = terminate_of(op);
    _cleanup_(json_putp) struct json_object *cached = NULL;

    terminate->conf = conf_ref(op->agent->conf);
    terminate->uuid = text_dup(op->uuid);
    if (instance_network_info(op->instance, &cached, NULL) == 0 &&
        json_object_array_length(cached) > 0)
        ports_known(op, cached);
    else
        cloud_ports_refresh(op->agent->cloud, op->context, op->instance, refreshed, op);
}

static int run_tear_down(struct agent *agent, void *data, struct err *e)
{
    struct terminate *terminate = data;

    return instance_tear_down(agent, terminate->conf, terminate->uuid, &terminate->ports, false, e);
}

static void step_tear_down(struct operation *op)
{
    operation_job(op, "take the guest down", run_tear_down, NULL);
}

/* ---- what the control plane has ---- */

static void step_release(struct operation *op)
{
    cloud_ports_release(op->agent->cloud, op->context, op->instance, operation_cloud_done, op);
}

static void step_interfaces(struct operation *op)
{
    cloud_virtual_interfaces_delete(op->agent->cloud, op->context, op->uuid, operation_cloud_done,
                                    op);
}

static void step_info_cache(struct operation *op)
{
    _cleanup_(json_putp) struct json_object *none = json_object_new_array();

    cloud_info_cache_save(op->agent->cloud, op->context, op->uuid, none, operation_cloud_done, op);
}

static void step_deleted(struct operation *op)
{
    char now[CLOCK_TEXT_SIZE];

    clock_format_object(clock_realtime_us(), now);
    instance_set_vm_state(op->instance, "deleted");
    instance_set_task_state(op->instance, NULL);
    instance_set_power_state(op->instance, 0);
    object_set_bool(op->instance->object, "cleaned", true);
    object_set_string(op->instance->object, "terminated_at", now);
    operation_save(op, NULL);
}

static void step_allocation(struct operation *op)
{
    cloud_allocations_delete(op->agent->cloud, op->context, op->uuid, operation_cloud_done, op);
}

/* Block device mappings go with the record. */
static void step_destroy(struct operation *op)
{
    cloud_console_tokens_clean(op->agent->cloud, op->context, op->uuid);
    cloud_instance_destroy(op->agent->cloud, op->context, op->instance, operation_cloud_done, op);
}

static void step_changed(struct operation *op)
{
    node_changed(op->agent);
    operation_next(op);
}

static void failed(struct operation *op)
{
    if (op->failure.code == ERR_NO_INSTANCE) { /* somebody was faster */
        operation_next(op);
        return;
    }
    object_clear_changes(op->instance->object);
    instance_set_vm_state(op->instance, "error");
    instance_set_task_state(op->instance, NULL);
    operation_save(op, NULL);
}

static const struct operation_step steps[] = {
    {"end a migration", step_migration, NULL},
    {"ports", step_ports, NULL},
    {"take the guest down", step_tear_down, NULL},
    {"release ports", step_release, NULL},
    {"virtual interfaces", step_interfaces, NULL},
    {"info cache", step_info_cache, NULL},
    {"deleted", step_deleted, NULL},
    {"allocation", step_allocation, NULL},
    {"destroy", step_destroy, NULL},
    {"figures", step_changed, NULL},
    {NULL, NULL, NULL},
};

const struct operation_kind instance_terminate_kind = {
    .name = "terminate",
    .event = "compute_terminate_instance",
    .steps = steps,
    .data_size = sizeof(struct terminate),
    .release = release,
    .failed = failed,
    .interrupts = true,
};

void instance_terminate(struct agent *agent, struct rpc_request *request)
{
    operation_request(agent, request, &instance_terminate_kind);
}
