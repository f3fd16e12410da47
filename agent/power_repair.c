/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Instances of this host at the agent's start, one table of what is done by task state and power (rules:
 * nova/compute/manager.py, _init_instance). What has an operation or a migration already is left to it.
 */
#include "agent/power_sync.h"

#include "agent/guest_list.h"
#include "agent/instance_build.h"
#include "agent/instance_power.h"
#include "agent/migration.h"
#include "lib/json.h"
#include "lib/log.h"
#include "lib/text.h"

LOG_MODULE(power);

enum action {
    LEAVE,
    MARK_ERROR,  /* vm_state error, no task */
    CLEAR_TASK,  /* no task */
    MARK_ACTIVE, /* vm_state active, no task */
    REBOOT_SOFT,
    REBOOT_HARD,
    UNPAUSE,
    STOP,
    START,
    BOOT,
};

static bool was_building(const struct instance *instance)
{
    static const char *const tasks[] = {"scheduling", "block_device_mapping", "networking",
                                        "spawning", NULL};

    return text_equal(instance_vm_state(instance), "building") ||
           text_is_one_of(instance_task_state(instance), tasks);
}

static enum action reboot_again(const struct instance *instance, enum virt_state state)
{
    static const char *const started[] = {"rebooting", "rebooting_hard", "reboot_started",
                                          "reboot_started_hard", NULL};
    const char *task = instance_task_state(instance);
    bool runs = state == VIRT_STATE_RUNNING;

    if (text_equal(task, "reboot_pending"))
        return runs ? REBOOT_SOFT : REBOOT_HARD;
    if (text_equal(task, "reboot_pending_hard"))
        return REBOOT_HARD;
    if (text_is_one_of(task, started))
        return runs ? MARK_ACTIVE : REBOOT_HARD;
    return LEAVE;
}

static enum action judge_task(const struct instance *instance, enum virt_state state)
{
    static const char *const rebuilding[] = {"rebuilding", "rebuild_block_device_mapping",
                                             "rebuild_spawning", NULL};
    static const char *const harmless[] = {"image_snapshot_pending",
                                           "image_pending_upload",
                                           "image_uploading",
                                           "image_snapshot",
                                           "image_backup",
                                           "resize_prep",
                                           NULL};
    const char *task = instance_task_state(instance);

    if (text_is_one_of(task, rebuilding))
        return MARK_ERROR;
    if (text_is_one_of(task, harmless))
        return CLEAR_TASK;
    if (text_equal(task, "powering-off"))
        return STOP;
    if (text_equal(task, "powering-on"))
        return START;
    if (text_equal(task, "unpausing") && state == VIRT_STATE_PAUSED)
        return UNPAUSE;
    if ((text_equal(task, "pausing") || text_equal(task, "unpausing")) &&
        state == VIRT_STATE_RUNNING)
        return MARK_ACTIVE;
    /* a migration that nobody here knows of: another agent's, that did not live to its end */
    if (text_equal(task, "migrating") && state != VIRT_STATE_NONE)
        return CLEAR_TASK;
    return reboot_again(instance, state);
}

static enum action judge(const struct agent *agent, const struct instance *instance,
                         enum virt_state state)
{
    const char *vm_state = instance_vm_state(instance);

    if (text_equal(vm_state, "soft-delete") || text_equal(vm_state, "error") ||
        text_equal(vm_state, "deleted"))
        return LEAVE;
    if (was_building(instance))
        return MARK_ERROR;
    if (instance_task_state(instance))
        return judge_task(instance, state);
    if (text_equal(vm_state, "active") &&
        instance_power_state(instance) == virt_state_nova(VIRT_STATE_RUNNING) &&
        (state == VIRT_STATE_NONE || state == VIRT_STATE_SHUTOFF || state == VIRT_STATE_CRASHED) &&
        conf_bool(agent->conf, CONF_DEFAULT_resume_guests_state_on_host_boot))
        return BOOT;
    return LEAVE;
}

/* ---- acting ---- */

static void step_save(struct operation *op)
{
    operation_save(op, NULL);
}

static const struct operation_step save_steps[] = {
    {.name = "save", .run = step_save},
    {0},
};

static const struct operation_kind mark_kind = {
    .name = "repair of the state",
    .steps = save_steps,
    .no_fault = true,
};

static void begin(struct agent *agent, struct instance *instance, const struct operation_kind *kind)
{
    (void)operation_start(agent, instance_copy(instance), kind, NULL);
}

static void mark(struct agent *agent, struct instance *instance, const char *vm_state)
{
    if (vm_state)
        instance_set_vm_state(instance, vm_state);
    instance_set_task_state(instance, NULL);
    begin(agent, instance, &mark_kind);
}

static void act(struct agent *agent, struct instance *instance, enum action action)
{
    switch (action) {
    case LEAVE:
        return;
    case MARK_ERROR:
        mark(agent, instance, "error");
        return;
    case CLEAR_TASK:
        mark(agent, instance, NULL);
        return;
    case MARK_ACTIVE:
        mark(agent, instance, "active");
        return;
    case REBOOT_SOFT:
        begin(agent, instance, &instance_soft_reboot_kind);
        return;
    case REBOOT_HARD:
        instance_set_task_state(instance, "reboot_pending_hard");
        begin(agent, instance, &mark_kind);
        object_clear_changes(instance->object);
        begin(agent, instance, &instance_hard_reboot_kind);
        return;
    case UNPAUSE:
        begin(agent, instance, &instance_unpause_kind);
        return;
    case STOP:
        begin(agent, instance, &instance_stop_kind);
        return;
    case START:
        begin(agent, instance, &instance_start_kind);
        return;
    case BOOT:
        begin(agent, instance, &instance_boot_kind);
        return;
    }
}

/* ---- looking ---- */

struct repair {
    struct agent *agent;
    struct json_object *instances;
};

static void repair_one(struct agent *agent, const struct guest_list *guests,
                       struct json_object *primitive)
{
    _cleanup_(instance_freep) struct instance *instance = NULL;

    if (instance_from_json(primitive, &instance, NULL) < 0)
        return;
    object_clear_changes(instance->object);
    const char *uuid = instance_uuid(instance);
    if (operation_running(agent, uuid) || migration_find_instance(agent, MIGRATION_SOURCE, uuid) ||
        migration_find_instance(agent, MIGRATION_DESTINATION, uuid) ||
        instance_recover(agent, instance))
        return;
    enum virt_state state = guest_list_state(guests, uuid);
    enum action action = judge(agent, instance, state);
    if (action != LEAVE)
        log_warning("instance %s was left %s, task %s, and is %s here: it is put in order", uuid,
                    instance_vm_state(instance),
                    instance_task_state(instance) ? instance_task_state(instance) : "none",
                    virt_state_name(state));
    act(agent, instance, action);
}

static void repair_all(void *aux, const struct guest_list *guests, const struct err *failure)
{
    struct repair *repair = aux;

    if (failure) {
        log_err(LOG_LEVEL_WARNING, failure, "instances are not looked through at this start");
        return;
    }
    for (size_t i = 0; i < json_object_array_length(repair->instances); i++)
        repair_one(repair->agent, guests, json_object_array_get_idx(repair->instances, i));
}

static void repair_release(void *aux)
{
    struct repair *repair = aux;

    json_object_put(repair->instances);
    free(repair);
}

void power_repair(struct agent *agent, struct json_object *instances)
{
    struct repair *repair = NEW(struct repair);

    repair->agent = agent;
    repair->instances = json_object_is_type(instances, json_type_array) ? json_object_get(instances)
                                                                        : json_object_new_array();
    guest_list_read(agent, "list guests for repair", repair_all, repair_release, repair);
}
