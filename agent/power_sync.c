/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A look at one instance: the control plane's record, then the domain, then the rules. The round over all
 * instances compares the list with the hypervisor's and looks closer only where they differ.
 */
#include "agent/power_sync.h"

#include "agent/guest_list.h"
#include "agent/instance_power.h"
#include "agent/migration.h"
#include "cloud/instances.h"
#include "lib/clock.h"
#include "lib/json.h"
#include "lib/log.h"

LOG_MODULE(power);

enum { INTERVAL_DEFAULT_S = 60 };

struct look {
    struct look *next;
    struct agent *agent;
    char *uuid;
    struct instance *instance;
    struct json_object *context;
    struct virt *virt;
    enum virt_state state;
    bool again; /* another event came meanwhile */
    int result;
    struct err e;
};

struct power_sync {
    struct agent *agent;
    struct loop_timer *timer;
    struct look *looks;
    struct json_object *instances; /* of the round under way */
};

static void begin_look(struct power_sync *sync, const char *uuid);

/* Somebody else decides on the instance at present. */
static bool is_busy(struct agent *agent, const char *uuid)
{
    return operation_running(agent, uuid) ||
           migration_find_instance(agent, MIGRATION_SOURCE, uuid) ||
           migration_find_instance(agent, MIGRATION_DESTINATION, uuid);
}

static void free_look(struct look *look)
{
    instance_free(look->instance);
    json_object_put(look->context);
    free(look->uuid);
    free(look);
}

static void end_look(struct look *look)
{
    struct power_sync *sync = look->agent->power_sync;
    bool again = look->again && !look->agent->closing;

    if (sync) {
        struct look **p = &sync->looks;
        while (*p && *p != look)
            p = &(*p)->next;
        if (*p)
            *p = look->next;
        if (again)
            begin_look(sync, look->uuid);
    }
    free_look(look);
}

/* ---- rules ---- */

enum verdict { VERDICT_GOOD, VERDICT_STOP, VERDICT_STRANGE };

static bool is_off(enum virt_state state)
{
    return state == VIRT_STATE_SHUTOFF || state == VIRT_STATE_CRASHED;
}

static enum verdict judge(const char *vm_state, enum virt_state state)
{
    if (text_equal(vm_state, "active")) {
        if (is_off(state) || state == VIRT_STATE_SUSPENDED)
            return VERDICT_STOP;
        return state == VIRT_STATE_RUNNING ? VERDICT_GOOD : VERDICT_STRANGE;
    }
    if (text_equal(vm_state, "stopped"))
        return is_off(state) || state == VIRT_STATE_NONE ? VERDICT_GOOD : VERDICT_STOP;
    if (text_equal(vm_state, "paused"))
        return is_off(state) ? VERDICT_STOP : VERDICT_GOOD;
    if (text_equal(vm_state, "soft-delete") || text_equal(vm_state, "deleted"))
        return state == VIRT_STATE_NONE || state == VIRT_STATE_SHUTOFF ? VERDICT_GOOD
                                                                       : VERDICT_STRANGE;
    return VERDICT_GOOD; /* building, rescued, resized, suspended, error: left alone */
}

/* ---- acting ---- */

static void action_noted(void *aux, const struct err *failure)
{
    struct look *look = aux;

    if (failure)
        log_debug("the stop is not in the instance's actions: %s", failure->text);
    if (!look->agent->closing && !is_busy(look->agent, look->uuid))
        (void)operation_start(look->agent, STEAL(look->instance), &instance_sync_stop_kind,
                              look->context);
    end_look(look);
}

/* As the API does it: an action, whose event the operation then starts and finishes. */
static void stop_instance(struct look *look)
{
    log_warning("instance %s is %s in Nova and %s here: it is stopped", look->uuid,
                instance_vm_state(look->instance), virt_state_name(look->state));
    cloud_action_start(look->agent->cloud, look->context, look->uuid, "stop", action_noted, look);
}

static void power_state_saved(void *aux, const struct err *failure)
{
    struct look *look = aux;

    if (failure) /* somebody began something with it */
        log_debug("instance %s: its power state is left alone: %s", look->uuid, failure->text);
    end_look(look);
}

static void decide(struct look *look)
{
    struct instance *instance = look->instance;
    enum verdict verdict = judge(instance_vm_state(instance), look->state);
    int power_state = virt_state_nova(look->state);

    if (verdict == VERDICT_STRANGE)
        log_warning("instance %s is %s in Nova, but %s here; nothing is done", look->uuid,
                    instance_vm_state(instance), virt_state_name(look->state));
    bool differs = instance_power_state(instance) != power_state;
    if (differs)
        instance_set_power_state(instance, power_state);
    if (verdict == VERDICT_STOP) {
        stop_instance(look);
    } else if (differs) {
        log_info("instance %s: power state %d is saved", look->uuid, power_state);
        cloud_instance_save(look->agent->cloud, look->context, instance, "-", power_state_saved,
                            look);
    } else {
        end_look(look);
    }
}

/* ---- looking ---- */

static void state_run(void *aux)
{
    struct look *look = aux;

    look->result = virt_guest_state(look->virt, look->uuid, &look->state, &look->e);
}

static void state_done(void *aux, enum work_end end)
{
    struct look *look = aux;

    if (end == WORK_OVERDUE)
        return;
    if (end != WORK_DONE || look->result < 0 || look->agent->closing ||
        is_busy(look->agent, look->uuid)) {
        end_look(look);
        return;
    }
    decide(look);
}

static void record_read(void *aux, struct json_object *result, const struct err *failure)
{
    struct look *look = aux;
    struct agent *agent = look->agent;
    struct work work = {.name = "power sync", .run = state_run, .done = state_done, .aux = look};
    struct err e = ERR_INIT;

    if (failure || agent->closing || instance_from_json(result, &look->instance, &e) < 0 ||
        !text_equal(instance_host(look->instance), agent->host) ||
        instance_task_state(look->instance)) {
        log_debug("instance %s is left alone: %s", look->uuid,
                  failure ? failure->text : "another host's, or with a task under way");
        end_look(look);
        return;
    }
    object_clear_changes(look->instance->object);
    look->virt = agent->virt;
    workers_submit(agent->workers, &work);
}

static void begin_look(struct power_sync *sync, const char *uuid)
{
    struct agent *agent = sync->agent;

    if (agent->closing || is_busy(agent, uuid))
        return;
    for (struct look *look = sync->looks; look; look = look->next)
        if (text_equal(look->uuid, uuid)) {
            look->again = true;
            return;
        }
    struct look *look = NEW(struct look);
    look->agent = agent;
    look->uuid = text_dup(uuid);
    look->context = rpc_context_admin();
    look->next = sync->looks;
    sync->looks = look;
    cloud_instance_get(agent->cloud, look->context, uuid, record_read, look);
}

void power_sync_event(struct agent *agent, const char *uuid, enum virt_event event)
{
    if (!agent->power_sync || !virt_is_up(agent->virt) ||
        !conf_bool(agent->conf, CONF_workarounds_handle_virt_lifecycle_events))
        return;
    switch (event) {
    case VIRT_EVENT_STARTED:
    case VIRT_EVENT_STOPPED:
    case VIRT_EVENT_PAUSED:
    case VIRT_EVENT_PAUSED_IO_ERROR:
    case VIRT_EVENT_RESUMED:
        begin_look(agent->power_sync, uuid);
        return;
    default: /* migrations know for themselves */
        return;
    }
}

/* ---- the round ---- */

static void arm_round(struct power_sync *sync)
{
    int64_t s = conf_int(sync->agent->conf, CONF_DEFAULT_sync_power_state_interval);

    if (s >= 0 && !sync->agent->closing)
        loop_timer_arm(sync->timer, (s ? s : INTERVAL_DEFAULT_S) * USEC_PER_SEC);
}

static void compare(struct power_sync *sync, const struct guest_list *guests)
{
    struct json_object *list = sync->instances;

    if (json_object_array_length(list) != guests->count)
        log_info("Nova has %zu instance(s) here, the hypervisor %zu domain(s)",
                 json_object_array_length(list), guests->count);
    for (size_t i = 0; i < json_object_array_length(list); i++) {
        _cleanup_(instance_freep) struct instance *instance = NULL;
        if (instance_from_json(json_object_array_get_idx(list, i), &instance, NULL) < 0 ||
            instance_task_state(instance))
            continue;
        enum virt_state state = guest_list_state(guests, instance_uuid(instance));
        if (instance_power_state(instance) != virt_state_nova(state) ||
            judge(instance_vm_state(instance), state) != VERDICT_GOOD)
            begin_look(sync, instance_uuid(instance));
    }
}

static void guests_listed(void *aux, const struct guest_list *guests, const struct err *failure)
{
    struct power_sync *sync = aux;

    if (failure)
        log_err(LOG_LEVEL_INFO, failure, "power states are not compared now");
    else
        compare(sync, guests);
    arm_round(sync);
}

static void instances_listed(void *aux, struct json_object *result, const struct err *failure)
{
    struct power_sync *sync = aux;

    if (sync->agent->closing)
        return;
    if (failure || !json_object_is_type(result, json_type_array)) {
        log_err(LOG_LEVEL_INFO, failure, "power states are not compared now");
        arm_round(sync);
        return;
    }
    json_object_put(sync->instances);
    sync->instances = json_object_get(result);
    guest_list_read(sync->agent, "list guests for power sync", guests_listed, NULL, sync);
}

static void begin_round(void *aux)
{
    struct power_sync *sync = aux;

    cloud_instances(sync->agent->cloud, instances_listed, sync);
}

void power_sync_open(struct agent *agent)
{
    struct power_sync *sync = NEW(struct power_sync);

    sync->agent = agent;
    sync->timer = loop_timer_new(agent->loop, "power sync", begin_round, sync);
    agent->power_sync = sync;
    if (conf_int(agent->conf, CONF_DEFAULT_sync_power_state_interval) >= 0)
        begin_round(sync);
}

void power_sync_close(struct agent *agent)
{
    struct power_sync *sync = STEAL(agent->power_sync);

    if (!sync)
        return;
    while (sync->looks) {
        struct look *look = sync->looks;
        sync->looks = look->next;
        free_look(look);
    }
    loop_timer_free(sync->timer);
    json_object_put(sync->instances);
    free(sync);
}
