/* SPDX-License-Identifier: Apache-2.0 */
/* The rows of rpc/methods.def.h meet their handlers. A request here has passed the method table. */
#include "agent/agent.h"

#include "agent/check.h"
#include "agent/commands.h"
#include "agent/instance_build.h"
#include "agent/instance_console.h"
#include "agent/instance_interface.h"
#include "agent/instance_power.h"
#include "agent/unserved.h"
#include "agent/migration.h"
#include "agent/node.h"
#include "agent/operation.h"
#include "lib/json.h"
#include "lib/log.h"

LOG_MODULE(endpoints);

typedef void (*endpoint)(struct agent *agent, struct rpc_request *request);

/* Ends a cast that acts at once: its failure is logged by rpc_fail(). */
static void end(struct rpc_request *request, int result, const struct err *e)
{
    if (result < 0)
        rpc_fail(request, e);
    else
        rpc_reply(request, NULL);
}

static int need_source(struct agent *agent, struct rpc_request *request, struct migration **out,
                       struct err *e)
{
    _cleanup_(instance_freep) struct instance *instance = NULL;

    if (instance_from_json(rpc_request_arg(request, "instance"), &instance, e) < 0)
        return -1;
    *out = migration_find_instance(agent, MIGRATION_SOURCE, instance_uuid(instance));
    if (!*out)
        return err_set(e, ERR_NO_MIGRATION, "instance %s is not being migrated from %s",
                       instance_uuid(instance), agent->host);
    return 0;
}

/* What was done for the API's request, as an event of its action, and the end of the request. */
static void end_with_event(struct agent *agent, struct rpc_request *request, const char *event,
                           int result, const struct err *e)
{
    struct json_object *context = rpc_request_context(request);
    _cleanup_(instance_freep) struct instance *instance = NULL;

    if (instance_from_json(rpc_request_arg(request, "instance"), &instance, NULL) == 0) {
        cloud_event_start(agent->cloud, context, instance_uuid(instance), event);
        cloud_event_finish(agent->cloud, context, instance_uuid(instance), event,
                           result < 0 ? e : NULL);
    }
    end(request, result, e);
}

static void endpoint_live_migration_abort(struct agent *agent, struct rpc_request *request)
{
    struct err e = ERR_INIT;
    struct migration *m = NULL;
    int64_t id = json_object_get_int64(rpc_request_arg(request, "migration_id"));
    int result = need_source(agent, request, &m, &e);

    if (result == 0 && m->id != id)
        result =
            err_set(&e, ERR_NO_MIGRATION, "instance %s is in migration %lld, not in migration %lld",
                    m->instance_uuid, (long long)m->id, (long long)id);
    if (result == 0)
        result = source_abort(m, &e);
    end_with_event(agent, request, "compute_live_migration_abort", result, &e);
}

static void endpoint_live_migration_force_complete(struct agent *agent, struct rpc_request *request)
{
    struct err e = ERR_INIT;
    struct migration *m = NULL;
    int result = need_source(agent, request, &m, &e);

    if (result == 0)
        result = source_force_complete(m, &e);
    end_with_event(agent, request, "compute_live_migration_force_complete", result, &e);
}

/* There are no claims without a resource tracker: nothing is held, nothing is to be dropped. */
static void endpoint_drop_move_claim_at_destination(struct agent *agent,
                                                    struct rpc_request *request)
{
    (void)agent;
    rpc_reply(request, NULL);
}

/* This agent connects no volumes, so none is connected here: Nova asks for that, however often. */
static void endpoint_remove_volume_connection(struct agent *agent, struct rpc_request *request)
{
    (void)agent;
    rpc_reply(request, NULL);
}

/* The instance that an event is about, of those that came with it; NULL if it is not among them. */
static struct instance *instance_of_event(struct json_object *instances, const char *uuid)
{
    for (size_t i = 0; i < json_object_array_length(instances); i++) {
        struct instance *instance = NULL;
        if (instance_from_json(json_object_array_get_idx(instances, i), &instance, NULL) < 0)
            continue;
        if (text_equal(instance_uuid(instance), uuid))
            return instance;
        instance_free(instance);
    }
    return NULL;
}

/* What the agent itself acts on; false if it is for somebody who waits. */
static bool act_on_event(struct agent *agent, const struct external_event *event,
                         struct rpc_request *request)
{
    const char *name = external_event_name(event), *tag = external_event_tag(event);
    bool changed = text_equal(name, "network-changed");

    if (!changed && !(text_equal(name, "network-vif-deleted") && tag))
        return false;
    _cleanup_(instance_freep) struct instance *instance = instance_of_event(
        rpc_request_arg(request, "instances"), external_event_instance_uuid(event));
    if (instance && changed)
        instance_network_changed(agent, instance, tag, rpc_request_context(request));
    else if (instance)
        instance_port_deleted(agent, instance, tag, rpc_request_context(request));
    return true;
}

static bool tell_waiting(struct agent *agent, const struct external_event *event)
{
    const char *name = external_event_name(event), *tag = external_event_tag(event);
    const char *uuid = external_event_instance_uuid(event);
    struct migration *m = migration_find_instance(agent, MIGRATION_SOURCE, uuid);
    _cleanup_(str_freep) char *key = text_format("%s-%s", name, tag ? tag : "");
    bool waited = operation_event(agent, uuid, key, external_event_status(event));

    if (!m || !tag || !text_equal(name, "network-vif-plugged"))
        return waited;
    source_port_plugged(m, tag);
    return true;
}

static void take_event(struct agent *agent, struct json_object *primitive,
                       struct rpc_request *request)
{
    _cleanup_(external_event_freep) struct external_event *event = NULL;
    struct err e = ERR_INIT;

    if (external_event_from_json(primitive, &event, &e) < 0) {
        log_err(LOG_LEVEL_WARNING, &e, "external event");
        return;
    }
    if (!external_event_name(event) || !external_event_instance_uuid(event))
        return;
    if (!act_on_event(agent, event, request) && !tell_waiting(agent, event))
        log_info("external event %s (%s) of instance %s: nobody waits for it",
                 external_event_name(event),
                 external_event_tag(event) ? external_event_tag(event) : "-",
                 external_event_instance_uuid(event));
}

static void endpoint_external_instance_event(struct agent *agent, struct rpc_request *request)
{
    struct json_object *events = rpc_request_arg(request, "events");

    for (size_t i = 0; i < json_object_array_length(events); i++)
        take_event(agent, json_object_array_get_idx(events, i), request);
    rpc_reply(request, NULL);
}

static void endpoint_ping(struct agent *agent, struct rpc_request *request)
{
    struct json_object *result = json_object_new_object();

    (void)agent;
    json_add_string(result, "service", "compute");
    json_add(result, "arg", json_copy(rpc_request_arg(request, "arg")));
    rpc_reply(request, result);
}

static void endpoint_get_backdoor_port(struct agent *agent, struct rpc_request *request)
{
    (void)agent;
    rpc_reply(request, NULL);
}

static void control_ended(void *aux, struct json_object *result, const struct err *failure)
{
    struct rpc_request *request = aux;

    if (failure)
        rpc_fail(request, failure);
    else
        rpc_reply(request, json_object_get(result));
}

static void endpoint_control(struct agent *agent, struct rpc_request *request)
{
    const char *command = json_object_get_string(rpc_request_arg(request, "command"));
    struct err e = ERR_INIT;

    if (!conf_bool(agent->conf, CONF_standalone_allow_remote_commands)) {
        err_set(&e, ERR_DENIED,
                "%s takes no commands from other hosts: [standalone] allow_remote_commands is off",
                agent->host);
        rpc_fail(request, &e);
        return;
    }
    if (commands_writes(command))
        log_info("command %s from another host", command);
    commands_run(agent, command, rpc_request_arg(request, "args"), control_ended, request);
}

static const endpoint endpoints[RPC_METHOD_COUNT] = {
#define SERVED(handler) handler
#define UNSERVED        endpoint_unserved
#define METHOD(name, name_space, major, minor, kind, topic, handler, ...)                          \
    [RPC_METHOD_##name] = (handler),
#include "rpc/methods.def.h"
#undef METHOD
#undef SERVED
#undef UNSERVED
};

static void dispatch(struct agent *agent, struct rpc_request *request)
{
    enum rpc_method_id method = rpc_request_method(request);
    struct json_object *instance = rpc_request_arg(request, "instance");
    _cleanup_(log_scope_end) struct log_scope scope =
        log_scope_begin(rpc_request_id(request),
                        json_get_string(json_get(instance, "nova_object.data"), "uuid", NULL));

    log_debug("%s", rpc_method_name(method));
    endpoints[method](agent, request);
}

void agent_rpc_request(void *aux, struct rpc_request *request)
{
    struct agent *agent = aux;

    if (agent->recovered && node_is_ready(agent)) {
        dispatch(agent, request);
        return;
    }
    agent->held = mem_resize(agent->held, (agent->held_count + 1) * sizeof(struct rpc_request *));
    agent->held[agent->held_count++] = request;
}

void agent_rpc_release(struct agent *agent)
{
    if (!agent->closing && !(agent->recovered && node_is_ready(agent)))
        return;
    struct rpc_request **held = STEAL(agent->held);
    size_t count = agent->held_count;

    agent->held_count = 0;
    for (size_t i = 0; i < count; i++) {
        if (agent->closing)
            rpc_request_free(held[i]);
        else
            dispatch(agent, held[i]);
    }
    free(held);
}
