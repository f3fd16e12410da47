/* SPDX-License-Identifier: Apache-2.0 */
/* Reboot of instances: the soft one asks the guest first and becomes a hard one when that does not help. */
#include "agent/instance_power_internal.h"

#include "lib/log.h"

LOG_MODULE(power);

#define SOFT_STATES "rebooting|reboot_pending|reboot_started"
#define HARD_STATES "rebooting_hard|reboot_pending_hard|reboot_started_hard"

static bool is_hard(const struct operation *op)
{
    return op->kind == &instance_hard_reboot_kind;
}

static void state_known(struct operation *op)
{
    const struct power *p = op->data;

    instance_set_power_state(op->instance, virt_state_nova(p->state));
    instance_set_task_state(op->instance, is_hard(op) ? "reboot_pending_hard" : "reboot_pending");
    operation_save(op, is_hard(op) ? HARD_STATES : SOFT_STATES);
}

static void step_take_reboot(struct operation *op)
{
    struct power *p = power_of(op);

    p->hard = is_hard(op);
    operation_expect(op, POWER_STOPPED_EVENT);
    operation_job(op, "look at the guest", power_read_state, state_known);
}

static void step_note_reboot(struct operation *op)
{
    instance_set_task_state(op->instance, is_hard(op) ? "reboot_started_hard" : "reboot_started");
    operation_save(op, is_hard(op) ? "reboot_pending_hard" : "reboot_pending");
}

static void step_ask_to_reboot(struct operation *op)
{
    const struct power *p = op->data;

    power_await_shutdown(op,
                         p->state == VIRT_STATE_RUNNING
                             ? conf_int(op->agent->conf, CONF_libvirt_wait_soft_reboot_seconds)
                             : 0,
                         0);
}

static int start_or_harder(struct agent *agent, void *data, struct err *e)
{
    struct power *p = data;
    struct err failure = ERR_INIT;

    (void)e;
    p->hard =
        p->state != VIRT_STATE_SHUTOFF || virt_guest_start(agent->virt, p->uuid, &failure) < 0;
    if (p->hard)
        log_warning("the soft reboot did not work (%s), the hard one follows",
                    err_is_set(&failure) ? failure.text : "the guest did not shut itself down");
    return 0;
}

static void step_start_again(struct operation *op)
{
    operation_job(op, "start the guest", start_or_harder, NULL);
}

static void step_ports_if_hard(struct operation *op)
{
    const struct power *p = op->data;

    if (p->hard)
        power_step_ports(op);
    else
        operation_next(op);
}

static void step_launch_if_hard(struct operation *op)
{
    const struct power *p = op->data;

    if (p->hard)
        power_step_launch(op);
    else
        operation_next(op);
}

static const char *state_after_reboot(const struct operation *op)
{
    return text_equal(instance_vm_state(op->instance), "rescued") ? "rescued" : "active";
}

static void step_save_rebooted(struct operation *op)
{
    operation_save_state(op, state_after_reboot(op), NULL, NULL);
}

static void save_by_state(struct operation *op)
{
    const struct power *p = op->data;
    bool runs = p->state == VIRT_STATE_RUNNING;

    if (runs)
        log_warning("the reboot failed, but the guest runs");
    operation_save_state(op, runs ? state_after_reboot(op) : "error", NULL, NULL);
}

static void reboot_failed(struct operation *op)
{
    object_clear_changes(op->instance->object);
    (void)power_of(op);
    operation_job(op, "look at the guest", power_read_state, save_by_state);
}

static const struct operation_step soft_reboot_steps[] = {
    {.name = "take", .run = step_take_reboot},
    {.name = "note", .run = step_note_reboot},
    {.name = "ask", .run = step_ask_to_reboot},
    {.name = "wait", .run = power_step_wait},
    {.name = "start again", .run = step_start_again},
    {.name = "ports", .run = step_ports_if_hard},
    {.name = "launch", .run = step_launch_if_hard},
    {.name = "save", .run = step_save_rebooted},
    {0},
};

const struct operation_kind instance_soft_reboot_kind = {
    .name = "soft reboot",
    .event = "compute_reboot_instance",
    .steps = soft_reboot_steps,
    .data_size = sizeof(struct power),
    .release = power_release,
    .failed = reboot_failed,
};

static const struct operation_step hard_reboot_steps[] = {
    {.name = "take", .run = step_take_reboot},   {.name = "note", .run = step_note_reboot},
    {.name = "ports", .run = power_step_ports},  {.name = "launch", .run = power_step_launch},
    {.name = "save", .run = step_save_rebooted}, {0},
};

const struct operation_kind instance_hard_reboot_kind = {
    .name = "hard reboot",
    .event = "compute_reboot_instance",
    .steps = hard_reboot_steps,
    .data_size = sizeof(struct power),
    .release = power_release,
    .failed = reboot_failed,
};

void instance_reboot(struct agent *agent, struct rpc_request *request)
{
    const char *type = json_object_get_string(rpc_request_arg(request, "reboot_type"));

    operation_request(agent, request,
                      text_equal(type, "SOFT") ? &instance_soft_reboot_kind
                                               : &instance_hard_reboot_kind);
}
