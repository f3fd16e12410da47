/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The guest stays: it is resumed here if we paused it, the destination is told to take back what it made, and Nova's
 * and Neutron's records say that it never left. Also how a preparation that is under way is called off.
 */
#include "agent/host_pair.h"
#include "agent/parts.h"
#include "agent/source.h"

#include "lib/clock.h"
#include "lib/json.h"
#include "lib/log.h"

LOG_MODULE(source);

enum { ROLLBACK_CAST_S = 600 };

/* ---- taking back ---- */

struct back {
    struct parts *parts;
    struct virt *virt;
    char *uuid;
    bool resume;
    bool lift;             /* or libvirt would keep the limit, for whoever moves the guest next */
    enum virt_state state; /* at the end */
};

static void back_release(struct migration_job *job)
{
    struct back *back = job->aux;

    free(back->uuid);
    parts_end(back->parts);
    free(back);
}

static int resume(struct back *back, struct err *e)
{
    if (virt_guest_state(back->virt, back->uuid, &back->state, back->resume ? e : NULL) < 0)
        return back->resume ? -1 : 0;
    if (!back->resume || back->state != VIRT_STATE_PAUSED)
        return 0;
    if (virt_guest_resume(back->virt, back->uuid, e) < 0)
        return -1;
    back->state = VIRT_STATE_RUNNING;
    return 0;
}

static int back_run(struct migration_job *job, struct err *e)
{
    struct back *back = job->aux;

    if (resume(back, e) < 0)
        return -1;
    if (back->lift && virt_migration_set_bandwidth(back->virt, back->uuid, 0, NULL) < 0)
        log_info("instance %s: libvirt keeps its bandwidth limit", back->uuid);
    return 0;
}

static void told_destination(void *aux, struct json_object *result, const struct err *failure)
{
    struct parts *parts = aux;

    (void)result;
    if (failure)
        log_err(LOG_LEVEL_WARNING, failure,
                "a destination could not be told to take back; it will ask when it is up");
    parts_end(parts);
}

static void cast_rollback(struct migration *m, rpc_reply_fn done, void *aux)
{
    struct json_object *args = json_object_new_object();
    struct rpc_target target = {.topic = "compute", .server = m->destination_host};
    struct rpc_options options = {.timeout_us = ROLLBACK_CAST_S * USEC_PER_SEC};
    bool own_disks = !migrate_data_is_shared_instance_path(m->data) &&
                     !migrate_data_is_shared_block_storage(m->data);

    if (!migrate_data_migration_uuid(m->data)) /* a destination that did not give it back */
        migrate_data_set_migration(m->data, migration_record_to_json(m->record));
    json_add(args, "instance", instance_to_json(m->instance));
    json_add(args, "destroy_disks", json_object_new_boolean(own_disks));
    json_add(args, "migrate_data", migrate_data_to_json(m->data));
    migration_stamp(m, TIMELINE_BACK_ASKED);
    rpc_cast(m->agent->rpc, &target, RPC_METHOD_rollback_live_migration_at_destination, args,
             m->context, &options, done, aux);
}

static void tell_destination(struct migration *m, struct parts *parts)
{
    parts_hold(parts);
    cast_rollback(m, told_destination, parts);
}

static void submit_back(struct migration *m, struct parts *parts);

static void resume_again(void *aux)
{
    struct migration *m = aux;

    m->parts_held = false;
    submit_back(m, m->parts);
    parts_end(m->parts); /* what back_done() held */
}

static void back_done(struct migration_job *job)
{
    struct migration *m = job->migration;
    const struct back *back = job->aux;

    if (job->result < 0 && migration_tries_again(m, &job->e)) {
        log_err(LOG_LEVEL_WARNING, &job->e, "migration %s: resuming the guest on %s waits", m->uuid,
                m->source_host);
        parts_hold(back->parts);
        m->parts_held = true;
        migration_wait(m, "resume again", MIGRATION_TRY_PAUSE_US, resume_again);
        return;
    }
    if (job->result < 0) {
        migration_fail(m, &job->e);
        log_err(LOG_LEVEL_ERROR, &job->e, "migration %s: the guest could not be resumed on %s",
                m->uuid, m->source_host);
        machine_event(m, MACHINE_EVENT_ROLLBACK_FAILED);
        return;
    }
    /* libvirt's event may come later than its answer, or never */
    if (back->state == VIRT_STATE_RUNNING)
        source_reverted(m, clock_monotonic_us());
    if (back->resume && m->destination_prepared)
        tell_destination(m, back->parts);
}

/*
 * A guest that is being paused just now is to be resumed after that, not before. A destination is told when the guest
 * runs here again; at once where it was not paused by us. That is before the record says so: a restart would find it
 * here, unmoved, and tell the destination again.
 */
static void submit_back(struct migration *m, struct parts *parts)
{
    if (m->forcing) {
        parts_hold(parts);
        m->parts_held = m->back_waits = true;
        return;
    }
    struct back *back = NEW(struct back);
    struct migration_job job = {.name = "roll back",
                                .run = back_run,
                                .done = back_done,
                                .release = back_release,
                                .aux = back,
                                .goes_on_without_record = true};

    parts_hold(parts);
    back->parts = parts;
    back->virt = m->agent->virt;
    back->uuid = text_dup(m->instance_uuid);
    back->resume = m->suspended_by_us && !m->initially_paused;
    back->lift = m->bandwidth_unsure;
    if (!back->resume && m->destination_prepared)
        tell_destination(m, parts);
    migration_submit(m, &job, false, true);
}

void source_forcing_ended(struct migration *m)
{
    m->forcing = false;
    if (!m->back_waits)
        return;
    m->parts_held = m->back_waits = false;
    submit_back(m, m->parts);
    parts_end(m->parts); /* what submit_back() held */
}

static void revert_allocation(struct migration *m, cloud_done_fn done, void *aux)
{
    cloud_allocations_revert(m->agent->cloud, m->context, m->instance, m->record, done, aux);
}

/* The instance is as it was. Somebody else's task state (a deletion meanwhile) is not touched. */
static void clear_task_state(struct migration *m, cloud_done_fn done, void *aux)
{
    _cleanup_(instance_freep) struct instance *stays = instance_copy(m->instance);

    object_clear_changes(stays->object);
    instance_set_task_state(stays, NULL);
    instance_set_progress(stays, 0);
    cloud_instance_save(m->agent->cloud, m->context, stays, "migrating", done, aux);
}

void source_roll_back(struct migration *m)
{
    struct parts *parts = parts_open(m, MACHINE_EVENT_ROLLED_BACK);

    monitor_stop(m);
    migration_wait_end(m);
    m->start_held = false;
    m->tries = 0;
    if (m->abort_requested)
        m->final_state = MACHINE_SOURCE_CANCELLED;
    if (m->progress.ended_us == 0)
        m->progress.ended_us = clock_monotonic_us();
    parts_add(parts, "the source's port bindings", bindings_part_return);
    parts_add(parts, "the instance's allocation", revert_allocation);
    parts_add(parts, "the instance's task state", clear_task_state);
    submit_back(m, parts);
    parts_close(parts);
}

/* ---- calling the destination's preparation off ---- */

static void called_off(void *aux, struct json_object *result, const struct err *failure)
{
    (void)aux;
    (void)result;
    if (failure)
        log_err(LOG_LEVEL_WARNING, failure, "a preparation could not be called off");
}

/*
 * The preparation's answer is waited for all the same, and then taken back what it made. An agent of ours is told at
 * once, and answers as soon as it has stopped and taken back; nova-compute would take back while it still prepares.
 */
void source_call_off(struct migration *m)
{
    if (cloud_is_standalone(m->agent->cloud) || /* where there are no others */
        host_pair_is_ours(m->agent, m->destination_host))
        cast_rollback(m, called_off, NULL);
}
