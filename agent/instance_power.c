/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/instance_power_internal.h"

#include "agent/instance_launch.h"
#include "lib/clock.h"
#include "lib/json.h"
#include "lib/log.h"

LOG_MODULE(power);

enum { LOOK_AGAIN_US = 100000 };

struct power *power_of(struct operation *op)
{
    struct power *p = op->data;

    if (!p->uuid)
        p->uuid = text_dup(op->uuid);
    return p;
}

void power_release(struct operation *op)
{
    struct power *p = op->data;

    free(p->uuid);
    instance_launch_free(p->launch);
}

static bool is_off(enum virt_state state)
{
    return state == VIRT_STATE_NONE || state == VIRT_STATE_SHUTOFF || state == VIRT_STATE_CRASHED;
}

/* ---- jobs ---- */

int power_read_state(struct agent *agent, void *data, struct err *e)
{
    struct power *p = data;

    return virt_guest_state(agent->virt, p->uuid, &p->state, e);
}

/* A guest that cannot be asked is powered off in the end: no failure. */
static int ask_guest(struct agent *agent, void *data, struct err *e)
{
    struct power *p = data;
    struct err ignored = ERR_INIT;

    if (virt_guest_state(agent->virt, p->uuid, &p->state, e) < 0)
        return -1;
    if (!is_off(p->state) && virt_guest_shutdown(agent->virt, p->uuid, &ignored) < 0)
        log_debug("the guest cannot be asked to shut down: %s", ignored.text);
    return 0;
}

static int power_off(struct agent *agent, void *data, struct err *e)
{
    const struct power *p = data;

    return virt_guest_power_off(agent->virt, p->uuid, e);
}

/* ---- shutting down ---- */

static void step_look(struct operation *op)
{
    struct power *p = power_of(op);

    operation_expect(op, POWER_STOPPED_EVENT);
    p->state = VIRT_STATE_NONE;
    operation_job(op, "look at the guest", power_read_state, NULL);
}

/* The image's word goes before the configuration's (os_shutdown_timeout). */
static int64_t shutdown_timeout_s(const struct operation *op)
{
    struct json_object *meta = instance_system_metadata(op->instance);
    const char *text = json_get_string(meta, "image_os_shutdown_timeout", NULL);
    int64_t seconds;

    if (text && text_to_int64(text, 0, 86400, &seconds, NULL) == 0)
        return seconds;
    return conf_int(op->agent->conf, CONF_DEFAULT_shutdown_timeout);
}

void power_await_shutdown(struct operation *op, int64_t timeout_s, int64_t retry_s)
{
    struct power *p = op->data;
    int64_t now_us = clock_monotonic_us();

    if (is_off(p->state) || timeout_s <= 0) {
        operation_next(op);
        return;
    }
    p->deadline_us = now_us + timeout_s * USEC_PER_SEC;
    p->retry_us = retry_s * USEC_PER_SEC;
    p->ask_again_us = now_us + p->retry_us;
    operation_job(op, "ask the guest to shut down", ask_guest, NULL);
}

static void asked_again(struct operation *op)
{
    operation_again(op, LOOK_AGAIN_US);
}

/* Who asks for a hard reboot does not want to wait for the soft one. */
static bool harder_one_waits(const struct operation *op)
{
    for (const struct operation *other = op->next; other; other = other->next)
        if (other->kind == &instance_hard_reboot_kind && text_equal(other->uuid, op->uuid))
            return op->kind == &instance_soft_reboot_kind;
    return false;
}

static void give_way(struct operation *op)
{
    struct err e = ERR_INIT;

    err_set(&e, ERR_CANCELLED, "a hard reboot of instance %s was asked for", op->uuid);
    op->cancelled = true;
    operation_fail(op, &e);
}

void power_step_wait(struct operation *op)
{
    struct power *p = op->data;
    int64_t now_us = clock_monotonic_us();

    if (harder_one_waits(op)) {
        give_way(op);
        return;
    }

    if (operation_event_came(op, POWER_STOPPED_EVENT))
        p->state = VIRT_STATE_SHUTOFF;
    if (is_off(p->state) || now_us >= p->deadline_us) {
        operation_next(op);
    } else if (p->retry_us > 0 && now_us >= p->ask_again_us) {
        p->ask_again_us = now_us + p->retry_us;
        operation_job(op, "ask the guest to shut down", ask_guest, asked_again);
    } else {
        operation_again(op, LOOK_AGAIN_US);
    }
}

/* ---- stop ---- */

static void step_ask_to_stop(struct operation *op)
{
    struct json_object *clean = op->request ? rpc_request_arg(op->request, "clean_shutdown") : NULL;

    power_await_shutdown(op, !clean || json_object_get_boolean(clean) ? shutdown_timeout_s(op) : 0,
                         conf_int(op->agent->conf, CONF_compute_shutdown_retry_interval));
}

static void step_power_off(struct operation *op)
{
    const struct power *p = op->data;

    if (is_off(p->state)) {
        operation_next(op);
        return;
    }
    if (p->deadline_us)
        log_info("the guest did not shut itself down in time and is powered off");
    operation_job(op, "power off", power_off, NULL);
}

/* Who finds it off already may come after somebody else's change (manager.stop_instance). */
static void step_save_stopped(struct operation *op)
{
    operation_save_state(op, "stopped", NULL, "powering-off|-");
}

static const struct operation_step stop_steps[] = {
    {.name = "look", .run = step_look},         {.name = "ask", .run = step_ask_to_stop},
    {.name = "wait", .run = power_step_wait},   {.name = "power off", .run = step_power_off},
    {.name = "save", .run = step_save_stopped}, {0},
};

const struct operation_kind instance_stop_kind = {
    .name = "stop",
    .event = "compute_stop_instance",
    .steps = stop_steps,
    .data_size = sizeof(struct power),
    .release = power_release,
};

void instance_stop(struct agent *agent, struct rpc_request *request)
{
    operation_request(agent, request, &instance_stop_kind);
}

/* ---- stop, because the hypervisor says so ---- */

static void task_taken(void *aux, const struct err *failure)
{
    struct operation *op = aux;
    struct power *p = op->data;

    p->taken = !failure;
    operation_cloud_done(op, failure);
}

static void step_take_task(struct operation *op)
{
    (void)power_of(op);
    instance_set_task_state(op->instance, "powering-off");
    instance_set_progress(op->instance, 0);
    cloud_instance_save(op->agent->cloud, op->context, op->instance, "-", task_taken, op);
}

static void clear_own_task(struct operation *op)
{
    const struct power *p = op->data;

    if (!p->taken) {
        operation_next(op);
        return;
    }
    object_clear_changes(op->instance->object);
    instance_set_task_state(op->instance, NULL);
    operation_save(op, "powering-off|-");
}

static const struct operation_step sync_stop_steps[] = {
    {.name = "take", .run = step_take_task},
    {.name = "look", .run = step_look},
    {.name = "ask", .run = step_ask_to_stop},
    {.name = "wait", .run = power_step_wait},
    {.name = "power off", .run = step_power_off},
    {.name = "save", .run = step_save_stopped},
    {0},
};

const struct operation_kind instance_sync_stop_kind = {
    .name = "stop by power sync",
    .event = "compute_stop_instance",
    .steps = sync_stop_steps,
    .data_size = sizeof(struct power),
    .release = power_release,
    .failed = clear_own_task,
    .no_fault = true,
};

/* ---- a domain made anew ---- */

void power_step_ports(struct operation *op)
{
    struct power *p = power_of(op);

    instance_launch_free(p->launch);
    p->launch = instance_launch_new(op);
    instance_launch_ports(p->launch, op);
}

static int launch(struct agent *agent, void *data, struct err *e)
{
    const struct power *p = data;

    return instance_launch_run(p->launch, agent, e);
}

void power_step_launch(struct operation *op)
{
    operation_job(op, "start the guest", launch, NULL);
}

/* ---- start ---- */

/* What an unshelved instance carried along (compute_utils.remove_shelved_keys_from_system_metadata). */
static void remove_shelved_keys(struct instance *instance)
{
    static const char *const keys[] = {"shelved_at", "shelved_image_id", "shelved_host"};
    struct json_object *meta = instance_system_metadata(instance), *changed;
    bool any = false;

    for (size_t i = 0; i < ARRAY_LEN(keys); i++)
        any = any || json_has(meta, keys[i]);
    if (!any)
        return;
    changed = json_copy(meta);
    for (size_t i = 0; i < ARRAY_LEN(keys); i++)
        json_object_object_del(changed, keys[i]);
    instance_set_system_metadata(instance, changed);
}

static void step_save_started(struct operation *op)
{
    remove_shelved_keys(op->instance);
    operation_save_state(op, "active", NULL, "powering-on");
}

static const struct operation_step start_steps[] = {
    {.name = "ports", .run = power_step_ports},
    {.name = "launch", .run = power_step_launch},
    {.name = "save", .run = step_save_started},
    {0},
};

const struct operation_kind instance_start_kind = {
    .name = "start",
    .event = "compute_start_instance",
    .steps = start_steps,
    .data_size = sizeof(struct power),
    .release = power_release,
};

void instance_start(struct agent *agent, struct rpc_request *request)
{
    operation_request(agent, request, &instance_start_kind);
}

/* ---- after the host's own start ---- */

static void step_save_running(struct operation *op)
{
    operation_save_state(op, NULL, "", NULL);
}

void power_save_error(struct operation *op)
{
    object_clear_changes(op->instance->object);
    operation_save_state(op, "error", NULL, NULL);
}

static const struct operation_step boot_steps[] = {
    {.name = "ports", .run = power_step_ports},
    {.name = "launch", .run = power_step_launch},
    {.name = "save", .run = step_save_running},
    {0},
};

const struct operation_kind instance_boot_kind = {
    .name = "start after the host",
    .steps = boot_steps,
    .data_size = sizeof(struct power),
    .release = power_release,
    .failed = power_save_error,
};

/* ---- soft delete, restore ---- */

static void step_save_soft_deleted(struct operation *op)
{
    operation_save_state(op, "soft-delete", NULL, "soft-deleting");
}

static const struct operation_step soft_delete_steps[] = {
    {.name = "look", .run = step_look},
    {.name = "power off", .run = step_power_off},
    {.name = "save", .run = step_save_soft_deleted},
    {0},
};

static const struct operation_kind soft_delete_kind = {
    .name = "soft delete",
    .event = "compute_soft_delete_instance",
    .steps = soft_delete_steps,
    .data_size = sizeof(struct power),
    .release = power_release,
};

void instance_soft_delete(struct agent *agent, struct rpc_request *request)
{
    operation_request(agent, request, &soft_delete_kind);
}

static void step_save_restored(struct operation *op)
{
    operation_save_state(op, "active", NULL, "restoring");
}

static const struct operation_step restore_steps[] = {
    {.name = "ports", .run = power_step_ports},
    {.name = "launch", .run = power_step_launch},
    {.name = "save", .run = step_save_restored},
    {0},
};

static const struct operation_kind restore_kind = {
    .name = "restore",
    .event = "compute_restore_instance",
    .steps = restore_steps,
    .data_size = sizeof(struct power),
    .release = power_release,
};

void instance_restore(struct agent *agent, struct rpc_request *request)
{
    operation_request(agent, request, &restore_kind);
}
