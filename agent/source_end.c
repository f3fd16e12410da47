/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The source's side after libvirt's call: who has the guest, the destination's word, clean-up here or
 * taking back. A disk of this host is removed only after the destination said that the guest runs there
 * and that word is in the journal (promise S2); a guest that may run there is never resumed here (S1).
 */
#include "agent/carrying.h"
#include "agent/forwarding.h"
#include "agent/host_pair.h"
#include "agent/parts.h"
#include "agent/source.h"

#include <stdio.h>
#include <string.h>

#include "lib/clock.h"
#include "lib/json.h"
#include "lib/log.h"
#include "lib/metrics.h"
#include "virt/storage.h"

LOG_MODULE(source);

enum {
    OBSERVE_PERIOD_US = 1000000,
    LIBVIRT_PAUSE_US = 3000000, /* between two tries of what needs a libvirtd that is away */
    CONFIRM_ATTEMPTS = 20,
    CONFIRM_PAUSE_US = 3000000,
    LINGER_US = 2500000, /* net_announce() repeats for so long */
    ROLLBACK_CAST_S = 600,
};

/* Tries an action again, in the state that it belongs to. */
static void again_later(struct migration *m, const char *name, void (*again)(void *aux))
{
    migration_wait(m, name, LIBVIRT_PAUSE_US, again);
}

/* ---- the outcome ---- */

static void not_moved(struct migration *m, enum machine_state final, const struct err *e)
{
    m->final_state = final;
    migration_fail(m, e);
    machine_event(m, MACHINE_EVENT_NOT_MOVED);
}

void source_outcome(struct migration *m, enum virt_outcome outcome, const struct err *e)
{
    /* a post-copy that failed has the guest's memory on both hosts: what is here is looked at */
    if ((outcome == VIRT_OUTCOME_FAILED && m->post_copy_running) ||
        (outcome != VIRT_OUTCOME_COMPLETED && m->state == MACHINE_SOURCE_RECOVERING))
        outcome = VIRT_OUTCOME_UNKNOWN;
    if (e)
        log_err(LOG_LEVEL_WARNING, e, "migration %s to %s", m->uuid, m->destination_host);
    switch (outcome) {
    case VIRT_OUTCOME_COMPLETED:
        machine_event(m, MACHINE_EVENT_MOVED);
        return;
    case VIRT_OUTCOME_UNKNOWN:
        machine_event(m, MACHINE_EVENT_UNKNOWN);
        return;
    case VIRT_OUTCOME_CANCELLED:
        not_moved(m, MACHINE_SOURCE_CANCELLED, e);
        return;
    case VIRT_OUTCOME_FAILED:
        not_moved(m, MACHINE_SOURCE_FAILED, e);
        return;
    }
}

/* ---- observing ---- */

struct look_again {
    struct virt *virt;
    char *uuid;
    enum virt_state state;
    struct virt_job job;
    bool here;    /* the guest is */
    bool sampled; /* libvirt told whether it is being moved */
};

static void look_again_release(struct migration_job *job)
{
    struct look_again *look = job->aux;

    free(look->uuid);
    free(look);
}

static int look_again_run(struct migration_job *job, struct err *e)
{
    struct look_again *look = job->aux;

    if (virt_guest_state(look->virt, look->uuid, &look->state, e) < 0)
        return -1;
    look->here = look->state == VIRT_STATE_RUNNING || look->state == VIRT_STATE_PAUSED;
    look->sampled =
        look->here && virt_migration_sample(look->virt, look->uuid, &look->job, NULL) == 0;
    return 0;
}

static void look_again_later(struct migration *m);

static void looked_again(struct migration_job *job)
{
    struct migration *m = job->migration;
    struct look_again *look = job->aux;
    struct err e = ERR_INIT;

    if (m->state != MACHINE_SOURCE_OBSERVING)
        return;
    if (look->sampled && look->job.active && look->job.post_copy_failed) {
        machine_event(m, MACHINE_EVENT_LOST);
        return;
    }
    if (look->sampled && look->job.active && look->job.post_copy)
        source_post_copy_recovered(m, clock_monotonic_us());
    if (job->result < 0 || look->here != look->sampled || look->job.active) {
        look_again_later(m); /* libvirt is away or does not tell, or it still runs */
        return;
    }
    switch (look->state) {
    case VIRT_STATE_NONE:
    case VIRT_STATE_SHUTOFF:
        machine_event(m, MACHINE_EVENT_MOVED);
        return;
    case VIRT_STATE_RUNNING:
        err_set(&e, ERR_MIGRATION,
                "the migration ended while libvirt or this agent was away; "
                "the guest runs on %s",
                m->source_host);
        log_err(LOG_LEVEL_WARNING, &e, "migration %s to %s", m->uuid, m->destination_host);
        not_moved(m, m->abort_requested ? MACHINE_SOURCE_CANCELLED : MACHINE_SOURCE_FAILED, &e);
        return;
    default:
        machine_event(m, MACHINE_EVENT_AMBIGUOUS);
    }
}

void source_look_again(struct migration *m)
{
    struct look_again *look = NEW(struct look_again);
    struct migration_job job = {.name = "observe",
                                .run = look_again_run,
                                .done = looked_again,
                                .release = look_again_release,
                                .aux = look};

    look->virt = m->agent->virt;
    look->uuid = text_dup(m->instance_uuid);
    migration_submit(m, &job, false, false);
}

static void look_again(void *aux)
{
    source_look_again(aux);
}

static void look_again_later(struct migration *m)
{
    migration_wait(m, "observe", OBSERVE_PERIOD_US, look_again);
}

void source_observe(struct migration *m)
{
    log_warning("migration %s: libvirt's answer is missing; the guest's state decides", m->uuid);
    migration_wait_end(m);
    monitor_start(m);
    source_look_again(m);
}

/* ---- the destination's word ---- */

static void ask(struct migration *m);

static void ask_again(void *aux)
{
    struct migration *m = aux;

    if (m->state == MACHINE_SOURCE_FINISHING || m->state == MACHINE_SOURCE_OBSERVING)
        ask(m);
}

static void answered(void *aux, struct json_object *result, const struct err *failure)
{
    struct migration *m = aux;

    if (m->agent->closing) {
        migration_unref(m);
        return;
    }
    if (!failure) {
        migration_stamp(m, TIMELINE_CONFIRMED);
        /* Nova's answer is None, an agent of ours adds what it saw */
        migration_stamp_peer(m, json_get(result, "computed_timeline"));
        machine_event(m, MACHINE_EVENT_CONFIRMED);
    } else if (failure->code == ERR_INSTANCE_STATE || failure->code == ERR_NO_INSTANCE) {
        migration_fail(m, failure);
        machine_event(m, MACHINE_EVENT_DENIED);
    } else if (++m->confirm_attempts < CONFIRM_ATTEMPTS) {
        log_err(LOG_LEVEL_WARNING, failure, "migration %s: %s has not confirmed yet", m->uuid,
                m->destination_host);
        migration_wait(m, "ask again", CONFIRM_PAUSE_US, ask_again);
    } else {
        migration_fail(m, failure);
        machine_event(m, MACHINE_EVENT_UNCONFIRMED);
    }
    migration_unref(m);
}

static void ask(struct migration *m)
{
    struct agent *agent = m->agent;
    struct json_object *args = json_object_new_object();
    struct rpc_target target = {.topic = "compute", .server = m->destination_host};
    int64_t period_us = conf_int(agent->conf, CONF_DEFAULT_rpc_response_timeout) * USEC_PER_SEC;
    struct rpc_options options = {.timeout_us = period_us, .monitor_us = period_us};

    json_add(args, "instance", instance_to_json(m->instance));
    json_add(args, "block_migration", json_object_new_boolean(m->block_migration));
    rpc_call(agent->rpc, &target, RPC_METHOD_post_live_migration_at_destination, args, m->context,
             &options, answered, migration_ref(m));
}

void source_ask_destination(struct migration *m)
{
    m->confirm_attempts = 0;
    ask(m);
}

/* Nova's record says at once where the guest is, whatever becomes of the destination's agent and of the
 * clean-up. The task state stays: the destination's word ends it. */
static void save_host(struct migration *m, cloud_done_fn done, void *aux)
{
    _cleanup_(instance_freep) struct instance *moved = instance_copy(m->instance);
    const char *node = m->record ? migration_record_dest_node(m->record) : NULL;

    object_clear_changes(moved->object);
    instance_set_host(moved, m->destination_host);
    instance_set_node(moved, node ? node : m->destination_host);
    cloud_instance_save(m->agent->cloud, m->context, moved, NULL, done, aux);
}

static void host_saved(void *aux, const struct err *failure)
{
    struct migration *m = aux;

    if (failure)
        log_err(LOG_LEVEL_WARNING, failure, "migration %s: the instance's new host", m->uuid);
    migration_unref(m);
}

/* The record is written before the question: a crash in between asks again. */
static void finish_journaled(struct migration_job *job)
{
    if (job->result < 0)
        log_err(LOG_LEVEL_ERROR, &job->e, "migration %s", job->migration->uuid);
    source_ask_destination(job->migration);
}

void source_finish(struct migration *m)
{
    struct migration_job job = {.name = "journal", .done = finish_journaled};

    monitor_stop(m);
    if (m->post_copy_lost)
        source_post_copy_recovered(m, clock_monotonic_us());
    source_give_up_place(m); /* libvirt is done; a destination that is silent holds up nobody */
    if (m->progress.ended_us == 0)
        m->progress.ended_us = clock_monotonic_us();
    migration_wait_end(m);
    if (m->abort_requested)
        migration_note(m, "the abort came too late: the guest is on %s", m->destination_host);
    if (!carrying_holds_bindings(m))
        bindings_switch(m); /* the pause did it; after a restart, or without its event, now */
    save_host(m, host_saved, migration_ref(m));
    migration_submit(m, &job, false, true);
}

/* ---- cleaning up here ---- */

struct clean {
    struct parts *parts;
    struct virt *virt;
    struct net *net;
    struct conf *conf;
    char *uuid;
    bool remove_files;
    struct port_list ports;
};

static void clean_release(struct migration_job *job)
{
    struct clean *clean = job->aux;

    conf_unref(clean->conf);
    free(clean->uuid);
    port_list_clear(&clean->ports);
    parts_end(clean->parts);
    free(clean);
}

/* Every step is tried; the first failure is told. */
static void keep_first(struct err *first, const struct err *e)
{
    if (!err_is_set(first))
        *first = *e;
}

static int clean_run(struct migration_job *job, struct err *e)
{
    struct clean *clean = job->aux;
    struct err step = ERR_INIT;
    enum virt_state state = VIRT_STATE_NONE;

    if (virt_guest_state(clean->virt, clean->uuid, &state, e) < 0)
        return -1;
    if (state == VIRT_STATE_RUNNING)
        return err_set(e, ERR_INSTANCE_STATE,
                       "instance %s runs here although the destination says that it runs there",
                       clean->uuid);
    /* a domain that is left is a stopped definition, or the paused shell of a post-copy that the
     * destination confirmed; neither may keep the disks */
    if (virt_guest_destroy(clean->virt, clean->uuid, &step) < 0) {
        *e = step;
        return -1; /* its files may be in use: they stay */
    }
    if (clean->remove_files && virt_storage_remove(clean->conf, clean->uuid, &step) < 0)
        keep_first(e, &step);
    for (size_t i = 0; i < clean->ports.count; i++) {
        step = ERR_INIT;
        if (net_unplug(clean->net, clean->ports.items[i], &step) < 0)
            keep_first(e, &step);
    }
    return err_is_set(e) ? -1 : 0;
}

static void submit_clean(struct migration *m, struct parts *parts);

static void clean_again(void *aux)
{
    struct migration *m = aux;

    m->parts_held = false;
    submit_clean(m, m->parts);
    parts_end(m->parts); /* what cleaned() held */
}

static void cleaned(struct migration_job *job)
{
    struct migration *m = job->migration;
    struct clean *clean = job->aux;

    if (job->result < 0 && migration_tries_again(m, &job->e)) {
        log_err(LOG_LEVEL_WARNING, &job->e, "migration %s: cleaning up on %s waits", m->uuid,
                m->source_host);
        parts_hold(clean->parts);
        m->parts_held = true;
        again_later(m, "clean up again", clean_again);
        return;
    }
    if (job->result < 0) {
        log_err(LOG_LEVEL_ERROR, &job->e, "migration %s completed, but something is left on %s",
                m->uuid, m->source_host);
        migration_note(m, "left behind on %s: %s", m->source_host, job->e.text);
        return;
    }
    migration_stamp(m, TIMELINE_CLEANED);
}

static void drop_allocation(struct migration *m, cloud_done_fn done, void *aux)
{
    cloud_allocations_drop(m->agent->cloud, m->context, m->record, done, aux);
}

static void submit_clean(struct migration *m, struct parts *parts)
{
    struct clean *clean = NEW(struct clean);
    struct migration_job job = {.name = "clean up",
                                .run = clean_run,
                                .done = cleaned,
                                .release = clean_release,
                                .aux = clean};
    struct err e = ERR_INIT;

    parts_hold(parts);
    clean->parts = parts;
    clean->virt = m->agent->virt;
    clean->net = m->agent->net;
    clean->conf = conf_ref(m->agent->conf);
    clean->uuid = text_dup(m->instance_uuid);
    /* never on shared storage, and only what a block migration copied */
    clean->remove_files = m->block_migration && !migrate_data_is_shared_instance_path(m->data) &&
                          !migrate_data_is_shared_block_storage(m->data);
    if (ports_of_instance(m->instance, &clean->ports, &e) < 0)
        log_err(LOG_LEVEL_ERROR, &e, "migration %s: ports stay plugged", m->uuid);
    migration_submit(m, &job, false, true);
}

/* Ends the part that source_clean() held. */
static void network_turned(void *aux, const struct err *failure _unused_)
{
    struct migration *m = aux;
    struct parts *parts = m->parts;

    if (!m->agent->closing) {
        submit_clean(m, parts);
        parts_add(parts, "the destination's port bindings", bindings_part_switch);
        parts_add(parts, "the migration's allocation", drop_allocation);
    }
    parts_end(parts);
}

/* A network that follows late is first: the guest's port here is its way until then. */
void source_clean(struct migration *m)
{
    struct parts *parts = parts_open(m, MACHINE_EVENT_CLEANED);

    monitor_stop(m);
    m->tries = 0;
    parts_hold(parts);
    carrying_wait(m, network_turned, m);
    parts_close(parts);
}

/* ---- taking back ---- */

struct back {
    struct parts *parts;
    struct virt *virt;
    char *uuid;
    bool resume;
    enum virt_state state; /* at the end */
};

static void back_release(struct migration_job *job)
{
    struct back *back = job->aux;

    free(back->uuid);
    parts_end(back->parts);
    free(back);
}

static int back_run(struct migration_job *job, struct err *e)
{
    struct back *back = job->aux;

    if (virt_guest_state(back->virt, back->uuid, &back->state, back->resume ? e : NULL) < 0)
        return back->resume ? -1 : 0;
    if (!back->resume || back->state != VIRT_STATE_PAUSED)
        return 0;
    if (virt_guest_resume(back->virt, back->uuid, e) < 0)
        return -1;
    back->state = VIRT_STATE_RUNNING;
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
        again_later(m, "resume again", resume_again);
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
    if (host_pair_is_ours(m->agent, m->destination_host))
        cast_rollback(m, called_off, NULL);
}

/* ---- the end ---- */

bool source_abort_is_requested(const struct migration *m)
{
    return m->abort_requested;
}

bool source_ends_completed(const struct migration *m)
{
    return m->state == MACHINE_SOURCE_COMPLETED;
}

bool source_ends_failed(const struct migration *m)
{
    return m->final_state == MACHINE_SOURCE_FAILED;
}

bool source_ends_cancelled(const struct migration *m)
{
    return m->final_state == MACHINE_SOURCE_CANCELLED;
}

static void log_end(const struct migration *m)
{
    const struct migration_progress *p = &m->progress;

    if (m->state == MACHINE_SOURCE_COMPLETED && p->started_us == 0) {
        log_info("migration %s of %s to %s completed, partly while this agent was away", m->uuid,
                 m->instance_name ? m->instance_name : m->instance_uuid, m->destination_host);
        return;
    }
    if (m->state == MACHINE_SOURCE_COMPLETED) {
        char rate[32], pause[32] = "not measured";
        text_bytes((double)p->average_throughput, rate, sizeof(rate));
        if (p->downtime_ms >= 0)
            snprintf(pause, sizeof(pause), "%lld ms", (long long)p->downtime_ms);
        log_info("migration %s of %s to %s completed: %.3f s in all, %s/s on average, pause %s",
                 m->uuid, m->instance_name ? m->instance_name : m->instance_uuid,
                 m->destination_host, (double)(p->ended_us - p->started_us) / USEC_PER_SEC, rate,
                 pause);
        return;
    }
    log_warning("migration %s of %s to %s ended as %s: %s; the guest stays on %s", m->uuid,
                m->instance_name ? m->instance_name : m->instance_uuid, m->destination_host,
                machine_state_text(m->state), m->message ? m->message : "no reason is known",
                m->source_host);
}

static enum metric end_metric(enum machine_state state)
{
    if (state == MACHINE_SOURCE_COMPLETED)
        return METRIC_MIGRATIONS_COMPLETED;
    return state == MACHINE_SOURCE_CANCELLED ? METRIC_MIGRATIONS_CANCELLED
                                             : METRIC_MIGRATIONS_FAILED;
}

/* A network that is being turned back is told of for a moment yet. */
static void forgotten(struct migration *m)
{
    if (m->armed)
        migration_forget_in(m, LINGER_US);
    else
        migration_forget(m);
}

void source_end(struct migration *m)
{
    struct agent *agent = m->agent;
    bool completed = m->state == MACHINE_SOURCE_COMPLETED;
    bool failed = !completed && m->state != MACHINE_SOURCE_CANCELLED;
    struct err failure = m->failure;

    metric_inc(end_metric(m->state));
    migration_stamp(m, TIMELINE_ENDED);
    if (completed) { /* what looked like a failure on the way was none */
        free(m->message);
        m->message = NULL;
        m->failure = ERR_INIT;
    }
    log_end(m);
    if (failed && !err_is_set(&failure)) /* of before a restart: its text is left */
        err_set(&failure, ERR_MIGRATION, "%s", m->message ? m->message : "the migration failed");
    if (failed)
        cloud_fault(agent->cloud, m->context, m->instance_uuid, &failure);
    cloud_event_finish(agent->cloud, m->context, m->instance_uuid, "compute_live_migration",
                       failed ? &failure : NULL);
    if (completed || m->progress.resumed_us == 0) {
        net_disarm(m->armed);
        m->armed = NULL;
    }
    forwarding_end(m);
    source_give_up_place(m);
    /* Nova's words for the ends are our states' texts */
    migration_end(m, machine_state_text(m->state), forgotten);
}

static void parked(struct migration_job *job)
{
    if (job->result < 0)
        log_err(LOG_LEVEL_ERROR, &job->e, "migration %s", job->migration->uuid);
}

void source_park(struct migration *m)
{
    struct migration_job job = {.name = "journal", .done = parked};

    monitor_stop(m);
    log_error("migration %s of %s to %s is parked: where the guest runs cannot be told (%s). "
              "Nothing is removed and nothing is resumed; look at both hosts",
              m->uuid, m->instance_uuid, m->destination_host,
              m->message ? m->message : "no answer");
    cloud_fault(m->agent->cloud, m->context, m->instance_uuid, &m->failure);
    migration_set_status(m, "error");
    metric_inc(METRIC_MIGRATIONS_FAILED);
    source_give_up_place(m);
    migration_submit(m, &job, false, true);
}
