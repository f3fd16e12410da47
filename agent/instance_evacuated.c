/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/instance_evacuated.h"

#include "agent/migration.h"
#include "cloud/instances.h"
#include "lib/clock.h"
#include "lib/json.h"
#include "lib/log.h"
#include "virt/storage.h"

LOG_MODULE(evacuated);

/* The other host's answer; the start of this one may wait for it. */
#define ASK_TIMEOUT_US (10 * USEC_PER_SEC)

struct removal {
    struct conf *conf;
    char *uuid, *host; /* host: where the instance lives; NULL = nowhere */
    struct json_object *records;
    size_t next_record;
    struct migration_record *record; /* while it is saved */
    bool deleted, only_records;
    void (*ended)(struct agent *agent, const char *uuid, const struct err *failure);
    struct port_list ports;
    bool had_domain;
    char *probe; /* in its directory; NULL = it has none */
    bool keep_files;
};

static struct removal *removal_of(const struct operation *op)
{
    return op->data;
}

static void release(struct operation *op)
{
    struct removal *r = removal_of(op);

    if (r->ended && !op->agent->closing)
        r->ended(op->agent, op->uuid, err_is_set(&op->failure) ? &op->failure : NULL);
    port_list_clear(&r->ports);
    migration_record_free(r->record);
    json_object_put(r->records);
    conf_unref(r->conf);
    free(r->probe);
    free(r->host);
    free(r->uuid);
}

/* ---- the guest ---- */

/* First of all, and alone: whatever else fails, it does not run here. */
static int run_destroy(struct agent *agent, void *data, struct err *e)
{
    struct removal *r = data;
    enum virt_state state;

    if (virt_guest_state(agent->virt, r->uuid, &state, e) < 0)
        return -1;
    r->had_domain = state != VIRT_STATE_NONE;
    return r->had_domain ? virt_guest_destroy(agent->virt, r->uuid, e) : 0;
}

/* Somebody moves it here at this very time: what is here is his, and what it holds here, too. */
static bool comes_back(struct operation *op)
{
    struct err e = ERR_INIT;

    if (!migration_find_instance(op->agent, MIGRATION_DESTINATION, op->uuid))
        return false;
    err_set(&e, ERR_INSTANCE_STATE, "instance %s is being migrated to this host", op->uuid);
    operation_fail(op, &e);
    return true;
}

static void step_destroy(struct operation *op)
{
    if (removal_of(op)->only_records)
        operation_next(op);
    else if (!comes_back(op))
        operation_job(op, "take an evacuated guest down", run_destroy, NULL);
}

static int run_probe(struct agent *agent, void *data, struct err *e)
{
    struct removal *r = data;

    (void)agent;
    return virt_storage_probe_create_in(r->conf, r->uuid, &r->probe, e);
}

static void step_probe(struct operation *op)
{
    if (removal_of(op)->only_records)
        operation_next(op);
    else
        operation_job(op, "look for its files", run_probe, NULL);
}

static int run_remove_probe(struct agent *agent, void *data, struct err *e)
{
    struct removal *r = data;

    (void)agent;
    (void)e;
    if (r->probe)
        virt_storage_probe_remove(r->conf, r->probe);
    return 0;
}

static void undo_probe(struct operation *op)
{
    operation_job(op, "remove the probe file", run_remove_probe, NULL);
}

/* A host that never had it has no ports of it either. */
static bool was_here(const struct removal *r)
{
    return r->had_domain || r->probe;
}

static int run_unplug(struct agent *agent, void *data, struct err *e)
{
    struct removal *r = data;
    int result = 0;

    for (size_t i = 0; i < r->ports.count; i++) {
        struct err failure = ERR_INIT;
        if (net_unplug(agent->net, r->ports.items[i], &failure) == 0)
            continue;
        if (result == 0)
            *e = failure;
        result = -1;
    }
    return result;
}

static void step_unplug(struct operation *op)
{
    struct removal *r = removal_of(op);
    _cleanup_(json_putp) struct json_object *network_info = NULL;
    struct err e = ERR_INIT;

    if (r->only_records || !was_here(r)) {
        operation_next(op);
        return;
    }
    if (instance_network_info(op->instance, &network_info, &e) < 0)
        log_err(LOG_LEVEL_WARNING, &e, "its ports are not known, none is unplugged");
    ports_to_unplug(network_info, r->uuid, &r->ports);
    operation_job(op, "unplug its ports", run_unplug, NULL);
}

/* ---- its files ---- */

static void asked(void *aux, struct json_object *result, const struct err *failure)
{
    struct operation *op = aux;
    struct removal *r = removal_of(op);
    struct err e = ERR_INIT;

    if (failure || !json_object_is_type(result, json_type_boolean)) {
        err_set(&e, failure ? failure->code : ERR_PARSE,
                "host %s does not say whether it has the files of instance %s as well, so they "
                "stay for now: %s",
                r->host, r->uuid, failure ? failure->text : "its answer is neither true nor false");
        operation_fail(op, &e);
        return;
    }
    r->keep_files = json_object_get_boolean(result);
    if (r->keep_files)
        log_info("its files are on storage that host %s has as well: they stay", r->host);
    operation_next(op);
}

static void step_ask(struct operation *op)
{
    struct removal *r = removal_of(op);
    const struct rpc_target target = {.topic = "compute", .server = r->host};
    const struct rpc_options options = {.timeout_us = ASK_TIMEOUT_US};

    if (!r->probe || r->deleted) {
        operation_next(op);
        return;
    }
    if (!r->host) {
        log_warning("nobody can be asked whether its files are shared, since it has no host: they "
                    "stay");
        r->keep_files = true;
        operation_next(op);
        return;
    }
    struct json_object *args = json_object_new_object(), *data = json_object_new_object();
    json_add_string(data, "filename", r->probe);
    json_add(args, "data", data);
    (void)rpc_call(op->agent->rpc, &target, RPC_METHOD_check_instance_shared_storage, args,
                   op->context, &options, asked, op);
}

static int run_files(struct agent *agent, void *data, struct err *e)
{
    struct removal *r = data;

    if (!r->keep_files)
        return virt_storage_remove(r->conf, r->uuid, e);
    return run_remove_probe(agent, data, e);
}

static void step_files(struct operation *op)
{
    if (!removal_of(op)->probe)
        operation_next(op);
    else if (!comes_back(op))
        operation_job(op, "remove its files", run_files, NULL);
}

/* ---- what the control plane has ---- */

static void step_allocation(struct operation *op)
{
    const struct removal *r = removal_of(op);

    if (r->only_records || r->deleted)
        operation_next(op);
    else if (!comes_back(op))
        cloud_allocations_leave(op->agent->cloud, op->context, op->uuid, operation_cloud_done, op);
}

static void save_next(struct operation *op);

static void record_saved(void *aux, const struct err *failure)
{
    struct operation *op = aux;

    migration_record_free(STEAL(removal_of(op)->record));
    if (failure)
        operation_fail(op, failure);
    else
        save_next(op);
}

static void save_next(struct operation *op)
{
    struct removal *r = removal_of(op);
    struct err e = ERR_INIT;

    if (!r->records || r->next_record >= json_object_array_length(r->records)) {
        operation_next(op);
        return;
    }
    if (migration_record_from_json(json_object_array_get_idx(r->records, r->next_record++),
                                   &r->record, &e) < 0) {
        operation_fail(op, &e);
        return;
    }
    object_clear_changes(r->record->object);
    migration_record_set_status(r->record, "completed");
    cloud_migration_save(op->agent->cloud, op->context, r->record, "source", NULL, record_saved,
                         op);
}

static void step_tell(struct operation *op)
{
    const struct removal *r = removal_of(op);

    if (r->only_records)
        log_info("instance %s is back on this host: the record of its evacuation is closed",
                 r->uuid);
    else if (was_here(r))
        log_info("nothing of instance %s is left on this host%s", r->uuid,
                 r->keep_files ? ", but for the files that are shared" : "");
    else
        log_info("instance %s had left nothing on this host but its allocation", r->uuid);
    operation_next(op);
}

/* The instance is another host's: nothing of its record is touched. */
static void failed(struct operation *op)
{
    (void)err_prefix(&op->failure, "what is left of it here cannot all be removed now: ");
    operation_next(op);
}

static const struct operation_step steps[] = {
    {"take the guest down", step_destroy, NULL},
    {"probe", step_probe, undo_probe},
    {"unplug", step_unplug, NULL},
    {"shared storage", step_ask, NULL},
    {"files", step_files, NULL},
    {"allocation", step_allocation, NULL},
    {"record", save_next, NULL},
    {"tell", step_tell, NULL},
    {NULL, NULL, NULL},
};

static const struct operation_kind removal_kind = {
    .name = "removal from this host",
    .steps = steps,
    .data_size = sizeof(struct removal),
    .release = release,
    .failed = failed,
    .no_fault = true,
};

void instance_remove_here(struct agent *agent, const struct instance_removal *removal)
{
    struct instance *instance = instance_copy(removal->instance);
    const char *host = instance_host(instance);

    object_clear_changes(instance->object);
    struct operation *op = operation_start(agent, instance, &removal_kind, NULL);
    *removal_of(op) = (struct removal){
        .conf = conf_ref(agent->conf),
        .uuid = text_dup(op->uuid),
        .host = host ? text_dup(host) : NULL,
        .records = json_object_get(removal->records),
        .deleted = removal->deleted,
        .only_records = removal->only_records,
        .ended = removal->ended,
    };
}
