/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Instances whose build, rebuild or deletion a former agent did not end (nova/compute/manager.py,
 * _init_instance). What it had made on this host was taken back with the journal before.
 */
#include "agent/instance_build.h"

#include "agent/instance_make.h"
#include "lib/json.h"
#include "lib/log.h"
#include "lib/text.h"

LOG_MODULE(build);

static bool was_deleted(const struct instance *instance)
{
    return text_equal(instance_task_state(instance), "deleting") ||
           text_equal(instance_vm_state(instance), "deleted");
}

static bool was_made(const struct instance *instance)
{
    static const char *const tasks[] = {"scheduling",           "networking",
                                        "block_device_mapping", "spawning",
                                        "rebuilding",           "rebuild_block_device_mapping",
                                        "rebuild_spawning",     NULL};

    return text_equal(instance_vm_state(instance), "building") ||
           text_is_one_of(instance_task_state(instance), tasks);
}

static void step_error(struct operation *op)
{
    instance_set_vm_state(op->instance, "error");
    instance_set_task_state(op->instance, NULL);
    operation_save(op, NULL);
}

static const struct operation_step steps[] = {{"mark as failed", step_error, NULL},
                                              {NULL, NULL, NULL}};
static const struct operation_kind mark_kind = {
    .name = "recover", .steps = steps, .no_fault = true};

bool instance_recover(struct agent *agent, const struct instance *instance)
{
    if (operation_running(agent, instance_uuid(instance)))
        return true;
    if (was_deleted(instance)) {
        log_warning("instance %s: its deletion was cut off and goes on", instance_uuid(instance));
        operation_start(agent, instance_copy(instance), &instance_terminate_kind, NULL);
        return true;
    }
    if (text_equal(instance_vm_state(instance), "error") || !was_made(instance))
        return false;
    log_warning("instance %s: its build was cut off while its task was %s; it is in error now",
                instance_uuid(instance),
                instance_task_state(instance) ? instance_task_state(instance) : "none");
    operation_start(agent, instance_copy(instance), &mark_kind, NULL);
    return true;
}

/* ---- what they had made ---- */

struct take_back {
    struct agent *agent;
    struct journal *journal;
    const struct undo_handler *handlers;
    struct json_object *records, *left;
};

static void run_take_back(void *aux)
{
    struct take_back *back = aux;

    for (size_t i = 0; i < json_object_array_length(back->records); i++) {
        struct json_object *record = json_object_array_get_idx(back->records, i);
        const char *uuid = json_get_string(record, "uuid", "?");
        struct err e = ERR_INIT;
        if (instance_make_recover(back->journal, back->handlers, record, &e) == 0) {
            log_warning("instance %s: its build was cut off; what it had made is taken back", uuid);
            continue;
        }
        log_err(LOG_LEVEL_WARNING, &e, "instance %s: what its build had made is not taken back yet",
                uuid);
        json_object_array_add(back->left, json_object_get(record));
    }
}

static void taken_back(void *aux, enum work_end end)
{
    struct take_back *back = aux;

    if (end != WORK_DONE || back->agent->closing)
        return;
    if (json_object_array_length(back->left) > 0)
        back->agent->unfinished_builds = json_object_get(back->left);
}

static void take_back_release(void *aux)
{
    struct take_back *back = aux;

    json_object_put(back->records);
    json_object_put(back->left);
    free(back);
}

void instance_builds_take_back(struct agent *agent, struct json_object *records)
{
    struct json_object *todo = records ? json_object_get(records) : STEAL(agent->unfinished_builds);
    struct work work = {.name = "take builds back",
                        .run = run_take_back,
                        .done = taken_back,
                        .release = take_back_release};

    if (!todo || json_object_array_length(todo) == 0) {
        json_object_put(todo);
        return;
    }
    struct take_back *back = NEW(struct take_back);
    *back = (struct take_back){.agent = agent,
                               .journal = agent->journal,
                               .handlers = agent->undo_handlers,
                               .records = todo,
                               .left = json_object_new_array()};
    work.aux = back;
    workers_submit(agent->workers, &work);
}
