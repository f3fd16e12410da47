/* SPDX-License-Identifier: Apache-2.0 */
/* The checks of a plan: the source's own, what the destination answered, and what follows from both. */
#include "agent/plan.h"

#include "agent/check_answer.h"
#include "agent/checks.h"
#include "agent/commands_internal.h"
#include "agent/source.h"
#include "lib/json.h"

enum { MIB = 1 << 20 };

/* ---- the source's ---- */

static bool is_standalone(const struct plan *plan)
{
    return cloud_is_standalone(plan->agent->cloud);
}

/* Nova's API takes no request for an instance that is in a task. */
static void check_task(const struct plan *plan, struct json_object *checks)
{
    const char *task = instance_task_state(plan->instance);
    struct err e = ERR_INIT;

    if (is_standalone(plan))
        return;
    if (task)
        err_set(&e, ERR_INSTANCE_STATE,
                "instance %s is in the task state %s, so that Nova's API "
                "would refuse the request",
                plan->guest->uuid, task);
    checks_add_outcome(checks, plan->agent->host, "task", &e, "none");
}

void plan_check_source(const struct plan *plan, struct json_object *checks)
{
    const struct check_subject subject = {
        .agent = plan->agent,
        .host = plan->agent->host,
        .destination = plan->destination,
        .instance = plan->instance,
        .guest = plan->guest,
    };

    checks_tell(CHECK_SOURCE_TAKES | CHECK_SOURCE_GUEST |
                    (is_standalone(plan) ? CHECK_SOURCE_COMMAND : 0),
                &subject, checks);
    check_task(plan, checks);
}

/* ---- the destination's ---- */

static void unreachable(const struct plan *plan, struct json_object *checks)
{
    _cleanup_(str_freep) char *text =
        text_format("host %s does not answer: %.300s", plan->destination, plan->no_answer.text);

    checks_add(checks, plan->destination, "agent", CHECK_REFUSED, text);
}

static void not_told(const struct plan *plan, struct json_object *checks)
{
    enum err_code code = plan->no_answer.code;
    bool other = code == ERR_RPC_VERSION || code == ERR_NO_METHOD;
    _cleanup_(str_freep) char *text =
        other
            ? text_format("%s is run by nova-compute, which makes its checks only in a migration: "
                          "CPU, memory, disk and network of %s are not known, nor whether the "
                          "hosts share storage",
                          plan->destination, plan->destination)
            : text_format("%s does not tell: %.300s", plan->destination, plan->no_answer.text);

    checks_add(checks, plan->destination, "agent", CHECK_UNKNOWN, text);
}

void plan_check_destination(const struct plan *plan, struct json_object *checks)
{
    enum err_code code = plan->no_answer.code;
    struct json_object *list = json_get(plan->answer, "checks");

    if (code == ERR_TIMEOUT || code == ERR_UNREACHABLE)
        unreachable(plan, checks);
    else if (code != ERR_NONE)
        not_told(plan, checks);
    if (!json_object_is_type(list, json_type_array))
        return;
    for (size_t i = 0; i < json_object_array_length(list); i++)
        json_object_array_add(checks, json_copy(json_object_array_get_idx(list, i)));
}

/* ---- what needs both ---- */

int plan_shared_path(const struct plan *plan)
{
    struct json_object *shared = json_get(plan->answer, "shared");

    return json_object_is_type(shared, json_type_boolean) ? json_object_get_boolean(shared) : -1;
}

static const char *storage_text(const struct plan_sums *sums)
{
    if (sums->block)
        return "disks are local and are copied";
    return "both hosts reach the disks; none is copied";
}

void plan_check_storage(const struct plan *plan, struct plan_sums *sums, struct json_object *checks)
{
    const struct virt_guest *guest = plan->guest;
    int64_t available = json_get_int(plan->answer, "disk_free", -1);
    struct check_storage storage = {
        .volume_backed = check_answer_is_volume_backed(guest),
        .shared_path = sums->shared == 1,
        .block_migration = plan->block_migration,
        .disk_over_commit = plan->disk_over_commit,
        .need = virt_storage_need(guest, plan->disk_over_commit == 1),
        .available_mb = available < 0 ? -1 : available / MIB,
        .instance_uuid = guest->uuid,
        .host = plan->agent->host,
    };
    struct err e = ERR_INIT;

    storage.shared_block = check_answer_shares_block(
        guest, conf_string(plan->agent->conf, CONF_libvirt_images_type),
        json_get_string(plan->answer, "images_type", NULL), storage.shared_path);
    sums->block = plan->block_migration >= 0 ? plan->block_migration == 1
                                             : !storage.shared_path && !storage.shared_block;
    if (sums->shared < 0) {
        checks_add(checks, plan->agent->host, "storage", CHECK_UNKNOWN,
                   sums->block ? "whether both hosts share storage is not known; it is taken that "
                                 "the disks are copied"
                               : "whether both hosts share storage is not known");
        return;
    }
    (void)check_answer_storage(&storage, &sums->block, &e);
    checks_add_outcome(checks, plan->agent->host, "storage", &e, storage_text(sums));
}

/* What is not copied need not be of a kind that can be copied. */
void plan_check_images(const struct plan *plan, const struct plan_sums *sums,
                       struct json_object *checks)
{
    if (sums->block || sums->shared == 0)
        checks_add_outcome(checks, plan->agent->host, "images", &plan->unmeasured,
                           "the images say of themselves what the domain says");
}

void plan_check_end(const struct plan *plan, const struct plan_sums *sums,
                    struct json_object *checks)
{
    bool refuses = conf_bool(plan->agent->conf, CONF_libvirt_live_migration_refuse_hopeless);
    struct err e = ERR_INIT;

    if (!sums->start.hopeless) {
        checks_add(checks, plan->agent->host, "convergence", CHECK_PASSED,
                   sums->start.in_time ? "it ends by itself, as far as it is foreseen"
                   : sums->outlook.bandwidth > 0
                       ? "something that is permitted ends it"
                       : "nothing speaks against it; no bandwidth is known");
        return;
    }
    (void)source_hopeless(plan->guest->uuid, plan->destination, plan->settings.downtime_ms,
                          &sums->outlook, &e);
    checks_add(checks, plan->agent->host, "convergence", refuses ? CHECK_REFUSED : CHECK_WARNED,
               e.text);
}
