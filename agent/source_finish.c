/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The guest has moved: the destination's word, and the clean-up here. A disk of this host is removed only after the
 * destination said that the guest runs there and that word is in the journal (promise S2).
 */
#include "agent/carrying.h"
#include "agent/parts.h"
#include "agent/source.h"

#include "lib/clock.h"
#include "lib/json.h"
#include "lib/log.h"
#include "virt/storage.h"

LOG_MODULE(source);

enum { CONFIRM_ATTEMPTS = 20, CONFIRM_PAUSE_US = 3000000 };

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
        migration_wait(m, "clean up again", MIGRATION_TRY_PAUSE_US, clean_again);
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
