/* SPDX-License-Identifier: Apache-2.0 */
/* The command `plan`, at the source: gathering. First the guest; then, at once, its dirty rate and the destination. */
#include "agent/plan.h"

#include <string.h>

#include "agent/commands_internal.h"
#include "agent/relay.h"
#include "cloud/instances.h"
#include "lib/clock.h"
#include "lib/json.h"

#define LOOK_DEADLINE_US    (15 * USEC_PER_SEC)
#define MEASURE_DEADLINE_US (8 * USEC_PER_SEC)

static void plan_free(struct plan *plan)
{
    virt_guest_free(plan->guest);
    json_object_put(plan->disk_info);
    json_object_put(plan->identity);
    json_object_put(plan->answer);
    instance_free(plan->instance);
    free(plan);
}

static void plan_fail(struct plan *plan, const struct err *failure)
{
    command_fail(plan->command, failure);
    plan_free(plan);
}

static void plan_part_ended(struct plan *plan)
{
    if (--plan->open > 0)
        return;
    command_reply(plan->command, plan_document(plan));
    plan_free(plan);
}

/* ---- the dirty rate ---- */

struct measuring {
    struct plan *plan; /* the loop's */
    struct virt *virt;
    char *uuid;
    int64_t memory_bytes;
    struct measurement found;
    int result;
    struct err e;
};

static void measuring_release(void *aux)
{
    struct measuring *m = aux;

    free(m->uuid);
    free(m);
}

static void measuring_run(void *aux)
{
    struct measuring *m = aux;

    m->result = measure_guest(m->virt, m->uuid, m->memory_bytes, &m->found, &m->e);
}

static void measuring_done(void *aux, enum work_end end)
{
    const struct measuring *m = aux;
    struct plan *plan = m->plan;

    if (end != WORK_DONE) {
        err_set(&plan->no_rate, ERR_TIMEOUT, "libvirt on %s did not answer", plan->agent->host);
    } else if (m->result < 0) {
        plan->no_rate = m->e;
    } else {
        plan->measured = m->found;
    }
    plan_part_ended(plan);
}

static void measure(struct plan *plan)
{
    struct measuring *m;
    struct work work = {.name = "measure the dirty rate for a plan",
                        .deadline_us = MEASURE_DEADLINE_US,
                        .run = measuring_run,
                        .done = measuring_done,
                        .release = measuring_release};

    /* a migration measures by itself, and QEMU measures for one at a time */
    if (migration_find_instance(plan->agent, MIGRATION_SOURCE, plan->guest->uuid)) {
        err_set(&plan->no_rate, ERR_INSTANCE_STATE, "the guest is being moved");
        plan_part_ended(plan);
        return;
    }
    if (plan->guest->state != VIRT_STATE_RUNNING) {
        err_set(&plan->no_rate, ERR_INSTANCE_STATE, "the guest is %s",
                virt_state_name(plan->guest->state));
        plan_part_ended(plan);
        return;
    }
    work.aux = m = NEW(struct measuring);
    m->plan = plan;
    m->virt = plan->agent->virt;
    m->uuid = text_dup(plan->guest->uuid);
    m->memory_bytes = plan->guest->memory_kib * 1024;
    workers_submit(plan->agent->workers, &work);
}

/* ---- the destination ---- */

static void answered(void *aux, struct json_object *result, const struct err *failure)
{
    struct plan *plan = aux;

    if (failure)
        plan->no_answer = *failure;
    else if (json_object_is_type(result, json_type_object))
        plan->answer = json_copy(result);
    else
        err_set(&plan->no_answer, ERR_PARSE, "the answer of %s is no object", plan->destination);
    plan_part_ended(plan);
}

static struct json_object *choice(int value)
{
    return value < 0 ? NULL : json_object_new_boolean(value == 1);
}

static void ask(struct plan *plan)
{
    _cleanup_(json_putp) struct json_object *args = json_object_new_object();

    json_add(args, "instance", instance_to_json(plan->instance));
    json_add(args, "guest", virt_guest_to_json(plan->guest));
    json_add(args, "disks", json_object_get(plan->disk_info));
    json_add(args, "identity", json_object_get(plan->identity));
    json_add(args, "block_migration", choice(plan->block_migration));
    json_add(args, "disk_over_commit", choice(plan->disk_over_commit));
    relay_run(plan->agent, plan->destination, "plan-destination", args, answered, plan);
}

/* ---- the instance ---- */

/* What an operator gives here overrides all but the hard limits. */
static int choose_settings(struct plan *plan, struct err *e)
{
    struct json_object *given = json_get(plan->command->args, "settings");

    settings_for_instance(plan->agent->conf, plan->instance, &plan->settings);
    if (!given || json_object_object_length(given) == 0)
        return 0;
    return settings_change(plan->agent->conf, &plan->settings, given, e);
}

static void instance_known(struct plan *plan)
{
    struct err e = ERR_INIT;

    if (choose_settings(plan, &e) < 0) {
        plan_fail(plan, &e);
        return;
    }
    plan->open = 2;
    measure(plan);
    ask(plan);
}

static void instance_read(void *aux, struct json_object *result, const struct err *failure)
{
    struct plan *plan = aux;
    struct err e = ERR_INIT;

    if (failure || instance_from_json(result, &plan->instance, &e) < 0)
        plan_fail(plan, failure ? failure : &e);
    else
        instance_known(plan);
}

static void make_instance(struct plan *plan, const char *metadata)
{
    struct agent *agent = plan->agent;
    _cleanup_(json_putp) struct json_object *settings = NULL;
    struct err e = ERR_INIT;

    if (!cloud_is_standalone(agent->cloud)) {
        _cleanup_(json_putp) struct json_object *context = rpc_context_admin();
        cloud_instance_get(agent->cloud, context, plan->guest->uuid, instance_read, plan);
        return;
    }
    if (command_join_settings(agent, plan->guest->name, metadata, NULL, &settings, &e) < 0) {
        plan_fail(plan, &e);
        return;
    }
    plan->instance = command_instance_of(agent, plan->guest, settings);
    instance_known(plan);
}

/* ---- the guest ---- */

struct look {
    struct plan *plan; /* the loop's */
    struct virt *virt;
    struct conf *conf;
    char *name, *metadata;
    struct virt_guest *guest;
    struct json_object *disk_info, *identity;
    int64_t touched;
    int result;
    struct err e, unmeasured;
};

static void look_release(void *aux)
{
    struct look *look = aux;

    conf_unref(look->conf);
    free(look->name);
    free(look->metadata);
    virt_guest_free(look->guest);
    json_object_put(look->disk_info);
    json_object_put(look->identity);
    free(look);
}

static void look_disks(struct look *look)
{
    struct virt_storage_identity identity = {0};
    const char *uuid = look->guest->uuid;

    if (virt_storage_measure(look->guest, &look->unmeasured) == 0)
        look->disk_info = virt_storage_disk_info(look->guest);
    if (virt_storage_identity(look->conf, uuid, &identity, NULL) == 0 && !identity.present)
        uuid = NULL; /* its disks lie elsewhere */
    if (virt_storage_identity(look->conf, uuid, &identity, NULL) == 0)
        look->identity = plan_identity_to_json(&identity, !uuid);
}

static void look_run(void *aux)
{
    struct look *look = aux;

    look->result = virt_guest_read(look->virt, look->name, &look->guest, &look->e);
    if (look->result == 0)
        look->result =
            virt_guest_metadata(look->virt, look->guest->uuid, &look->metadata, &look->e);
    if (look->result < 0)
        return;
    look->touched = measure_touched(look->virt, look->guest->uuid, look->guest->memory_kib * 1024);
    look_disks(look);
}

static void look_done(void *aux, enum work_end end)
{
    struct look *look = aux;
    struct plan *plan = look->plan;
    struct err e = ERR_INIT;

    if (end == WORK_DONE)
        e = look->e;
    else
        err_set(&e, end == WORK_DROPPED ? ERR_CANCELLED : ERR_TIMEOUT,
                end == WORK_DROPPED ? "the agent on %s stops" : "libvirt on %s did not answer",
                plan->agent->host);
    if (err_is_set(&e)) {
        plan_fail(plan, &e);
        return;
    }
    plan->guest = STEAL(look->guest);
    plan->disk_info = STEAL(look->disk_info);
    plan->identity = STEAL(look->identity);
    plan->touched = look->touched;
    plan->unmeasured = look->unmeasured;
    make_instance(plan, look->metadata);
}

void command_plan(struct command *command)
{
    const char *instance = NULL;
    struct err e = ERR_INIT;
    struct work work = {.name = "look at a guest for a plan",
                        .deadline_us = LOOK_DEADLINE_US,
                        .run = look_run,
                        .done = look_done,
                        .release = look_release};

    if (command_check_move(command, &instance, &e) < 0) {
        command_fail(command, &e);
        return;
    }
    struct plan *plan = NEW(struct plan);
    struct look *look = NEW(struct look);
    plan->command = command;
    plan->agent = command->agent;
    plan->destination = json_get_string(command->args, "dest", NULL);
    plan->measured.dirty_rate = -1;
    (void)command_opt_choice(command, "block_migration", &plan->block_migration, &e);
    (void)command_opt_choice(command, "disk_over_commit", &plan->disk_over_commit, &e);
    look->plan = plan;
    look->virt = command->agent->virt;
    look->conf = conf_ref(command->agent->conf);
    look->name = text_dup(instance);
    work.aux = look;
    workers_submit(command->agent->workers, &work);
}
