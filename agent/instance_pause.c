/* SPDX-License-Identifier: Apache-2.0 */
/* Pause and suspend of instances, and their ways back. */
#include "agent/instance_power_internal.h"

#include "agent/instance_launch.h"
#include "lib/json.h"

static int pause_guest(struct agent *agent, void *data, struct err *e)
{
    const struct power *p = data;

    return virt_guest_suspend(agent->virt, p->uuid, e);
}

static int unpause_guest(struct agent *agent, void *data, struct err *e)
{
    const struct power *p = data;

    return virt_guest_resume(agent->virt, p->uuid, e);
}

static int save_guest(struct agent *agent, void *data, struct err *e)
{
    const struct power *p = data;

    return virt_guest_save(agent->virt, p->uuid, e);
}

static int start_guest(struct agent *agent, void *data, struct err *e)
{
    const struct power *p = data;

    return virt_guest_start(agent->virt, p->uuid, e);
}

/* ---- pause, unpause ---- */

static void step_pause(struct operation *op)
{
    (void)power_of(op);
    operation_job(op, "pause the guest", pause_guest, NULL);
}

static void step_save_paused(struct operation *op)
{
    operation_save_state(op, "paused", NULL, "pausing");
}

static const struct operation_step pause_steps[] = {
    {.name = "pause", .run = step_pause},
    {.name = "save", .run = step_save_paused},
    {0},
};

static const struct operation_kind pause_kind = {
    .name = "pause",
    .event = "compute_pause_instance",
    .steps = pause_steps,
    .data_size = sizeof(struct power),
    .release = power_release,
};

void instance_pause(struct agent *agent, struct rpc_request *request)
{
    operation_request(agent, request, &pause_kind);
}

static void step_unpause(struct operation *op)
{
    (void)power_of(op);
    operation_job(op, "resume the guest", unpause_guest, NULL);
}

static void step_save_unpaused(struct operation *op)
{
    operation_save_state(op, "active", NULL, "unpausing");
}

static const struct operation_step unpause_steps[] = {
    {.name = "unpause", .run = step_unpause},
    {.name = "save", .run = step_save_unpaused},
    {0},
};

const struct operation_kind instance_unpause_kind = {
    .name = "unpause",
    .event = "compute_unpause_instance",
    .steps = unpause_steps,
    .data_size = sizeof(struct power),
    .release = power_release,
};

void instance_unpause(struct agent *agent, struct rpc_request *request)
{
    operation_request(agent, request, &instance_unpause_kind);
}

/* ---- suspend, resume ---- */

#define OLD_STATE "old_vm_state"

static void step_suspend(struct operation *op)
{
    (void)power_of(op);
    operation_job(op, "save the guest's memory", save_guest, NULL);
}

static void step_save_suspended(struct operation *op)
{
    struct json_object *meta = json_copy(instance_system_metadata(op->instance));

    if (!meta)
        meta = json_object_new_object();
    json_add_string(meta, OLD_STATE, instance_vm_state(op->instance));
    instance_set_system_metadata(op->instance, meta);
    operation_save_state(op, "suspended", NULL, "suspending");
}

static const struct operation_step suspend_steps[] = {
    {.name = "suspend", .run = step_suspend},
    {.name = "save", .run = step_save_suspended},
    {0},
};

static const struct operation_kind suspend_kind = {
    .name = "suspend",
    .event = "compute_suspend_instance",
    .steps = suspend_steps,
    .data_size = sizeof(struct power),
    .release = power_release,
    .failed = power_save_error,
};

void instance_suspend(struct agent *agent, struct rpc_request *request)
{
    operation_request(agent, request, &suspend_kind);
}

static int plug_and_start(struct agent *agent, void *data, struct err *e)
{
    struct power *p = data;

    if (instance_launch_plug(p->launch, agent, e) < 0)
        return -1;
    return start_guest(agent, data, e);
}

static void step_resume(struct operation *op)
{
    operation_job(op, "start from saved memory", plug_and_start, NULL);
}

static void step_save_resumed(struct operation *op)
{
    struct json_object *meta = json_copy(instance_system_metadata(op->instance));
    _cleanup_(str_freep) char *state = text_dup(json_get_string(meta, OLD_STATE, "active"));

    if (json_has(meta, OLD_STATE)) {
        json_object_object_del(meta, OLD_STATE);
        instance_set_system_metadata(op->instance, meta);
    } else {
        json_object_put(meta);
    }
    operation_save_state(op, state, NULL, "resuming");
}

static const struct operation_step resume_steps[] = {
    {.name = "ports", .run = power_step_ports},
    {.name = "resume", .run = step_resume},
    {.name = "save", .run = step_save_resumed},
    {0},
};

static const struct operation_kind resume_kind = {
    .name = "resume",
    .event = "compute_resume_instance",
    .steps = resume_steps,
    .data_size = sizeof(struct power),
    .release = power_release,
    .failed = power_save_error,
};

void instance_resume(struct agent *agent, struct rpc_request *request)
{
    operation_request(agent, request, &resume_kind);
}
