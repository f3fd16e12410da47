/* SPDX-License-Identifier: Apache-2.0 */
/* The source's last steps before the copy: the destination's XML, the network made ready, libvirt's call. */
#include "agent/source.h"

#include "agent/forwarding.h"
#include "lib/clock.h"
#include "lib/json.h"
#include "lib/log.h"

LOG_MODULE(source);

/* ---- the destination's XML ---- */

struct start {
    struct virt *virt;
    char *uuid;
    struct migrate_data *data;
    struct instance *instance;
    char *xml;
};

static void start_release(struct migration_job *job)
{
    struct start *start = job->aux;

    free(start->uuid);
    migrate_data_free(start->data);
    instance_free(start->instance);
    free(start->xml);
    free(start);
}

static int start_run(struct migration_job *job, struct err *e)
{
    struct start *start = job->aux;
    _cleanup_(str_freep) char *xml = NULL;

    if (virt_guest_migratable_xml(start->virt, start->uuid, &xml, e) < 0)
        return -1;
    return source_destination_xml(start->instance, start->data, xml, &start->xml, e);
}

/* The direct line to the destination's agent; a Python destination has none, which is no fault. */
static void open_direct_line(struct migration *m)
{
    struct json_object *facts = migrate_data_computed_switchover(m->data);
    struct err e = ERR_INIT;

    if (!facts || !agent_switchover_is_on(m->agent))
        return;
    if (switchover_peer_new(m->agent->switchover, json_get_string(facts, "address", ""),
                            (int)json_get_int(facts, "port", 0), m->uuid,
                            json_get_string(facts, "key", ""), &m->peer, &e) < 0)
        log_err(LOG_LEVEL_WARNING, &e,
                "migration %s: no direct line to %s, its own events announce", m->uuid,
                m->destination_host);
    else
        forwarding_connect(m, facts);
}

/* So that the network can be turned back at once if the switch-over fails. */
static void arm_here(struct migration *m)
{
    struct port_list ports = {0};
    struct err e = ERR_INIT;

    migration_silence_others(m);
    if (ports_of_instance(m->instance, &ports, &e) < 0 ||
        net_arm(m->agent->net, ports.items, ports.count, &m->armed, &e) < 0)
        log_err(LOG_LEVEL_WARNING, &e, "migration %s: ports here cannot be announced", m->uuid);
    port_list_clear(&ports);
}

static void start_done(struct migration_job *job)
{
    struct migration *m = job->migration;
    struct start *start = job->aux;

    if (m->state != MACHINE_SOURCE_STARTING)
        return; /* aborted */
    if (job->result < 0) {
        migration_fail(m, &job->e);
        machine_event(m, MACHINE_EVENT_START_FAILED);
        return;
    }
    m->destination_xml = STEAL(start->xml);
    arm_here(m);
    open_direct_line(m);
    source_ready(m);
}

void source_start(struct migration *m)
{
    struct start *start = NEW(struct start);
    struct migration_job job = {.name = "make the destination's XML",
                                .run = start_run,
                                .done = start_done,
                                .release = start_release};

    cloud_bindings_warm(m->agent->cloud);
    migration_wait_end(m);
    start->virt = m->agent->virt;
    start->uuid = text_dup(m->instance_uuid);
    start->data = migrate_data_copy(m->data);
    start->instance = instance_copy(m->instance);
    job.aux = start;
    migration_submit(m, &job, false, false);
}

/* ---- libvirt's call ---- */

struct run {
    struct virt *virt;
    struct virt_migration migration;
    char *uuid, *destination_uri, *migrate_uri, *xml;
    char **copy_disks;
    enum virt_outcome outcome;
};

static void run_release(struct migration_job *job)
{
    struct run *run = job->aux;

    free(run->uuid);
    free(run->destination_uri);
    free(run->migrate_uri);
    free(run->xml);
    text_vector_free(run->copy_disks);
    free(run);
}

static int run_run(struct migration_job *job, struct err *e)
{
    struct run *run = job->aux;

    return virt_migrate(run->virt, &run->migration, &run->outcome, e);
}

static void run_done(struct migration_job *job)
{
    const struct run *run = job->aux;

    migration_stamp(job->migration, TIMELINE_RETURNED);
    source_outcome(job->migration, run->outcome, job->result < 0 ? &job->e : NULL);
    source_turns(job->migration->agent);
}

/* A host's limit is for all disks of all migrations, whatever is said of one migration's. */
static void fill_bandwidth(struct migration *m, struct virt_migration *v, size_t disks)
{
    const struct conf *conf = m->agent->conf;
    bool divided = conf_bool(conf, CONF_libvirt_live_migration_disk_bandwidth_divided) ||
                   conf_int(conf, CONF_libvirt_live_migration_host_bandwidth) > 0;

    v->bandwidth_mib = m->bandwidth_given_mib = m->bandwidth_mib;
    v->disk_bandwidth_mib = divided ? source_disk_bandwidth(m->bandwidth_mib, disks) : 0;
    m->disks_bandwidth_mib =
        v->block_migration ? m->bandwidth_mib * (divided ? 1 : (int64_t)disks) : 0;
}

static void fill_migration(struct migration *m, struct run *run)
{
    const struct conf *conf = m->agent->conf;
    struct virt_migration *v = &run->migration;
    size_t disks = text_vector_length(run->copy_disks);

    v->uuid = run->uuid;
    v->destination_uri = run->destination_uri;
    v->migrate_uri = run->migrate_uri;
    v->destination_xml = run->xml;
    v->block_migration = m->block_migration && disks > 0;
    v->copy_disks = run->copy_disks;
    v->tunnelled = conf_bool(conf, CONF_libvirt_live_migration_tunnelled);
    v->tls = conf_bool(conf, CONF_libvirt_live_migration_with_native_tls);
    v->auto_converge = m->settings.auto_converge;
    v->post_copy = v->resume_post_copy || (m->settings.post_copy && !m->initially_paused);
    v->synchronous_writes = conf_bool(conf, CONF_libvirt_live_migration_synchronous_writes);
    v->auto_converge_initial = m->start.throttle_initial;
    v->auto_converge_increment = m->start.throttle_increment;
    v->parallel_connections = (int)conf_int(conf, CONF_libvirt_live_migration_parallel_connections);
    fill_bandwidth(m, v, disks);
    v->post_copy_bandwidth_mib = conf_int(conf, CONF_libvirt_live_migration_post_copy_bandwidth);
    m->post_copy_possible = v->post_copy;
}

static void call_libvirt(struct migration *m, bool resume_post_copy)
{
    struct migration_job job = {
        .name = "migrate", .run = run_run, .done = run_done, .release = run_release};
    struct run *run = NEW(struct run);

    run->migration.resume_post_copy = resume_post_copy;
    run->virt = m->agent->virt;
    run->uuid = text_dup(m->instance_uuid);
    run->xml = STEAL(m->destination_xml);
    run->copy_disks = virt_guest_disks_to_copy(m->guest);
    source_uris(m->agent->conf, m->destination_host, migrate_data_target_connect_addr(m->data),
                &run->destination_uri, &run->migrate_uri);
    fill_migration(m, run);
    job.aux = run;
    migration_stamp(m, TIMELINE_CALLED);
    migration_submit(m, &job, true, false);
}

void source_call_again(struct migration *m)
{
    call_libvirt(m, true);
}

/* Not one job with its record: as long as it lasts no other could write one. */
static void run_journaled(struct migration_job *journal)
{
    struct migration *m = journal->migration;

    if (journal->result < 0) { /* nothing was started */
        source_outcome(m, VIRT_OUTCOME_FAILED, &journal->e);
        return;
    }
    if (m->abort_requested) {
        struct err e = ERR_INIT;
        err_set(&e, ERR_CANCELLED, "aborted before libvirt was asked to move it");
        source_outcome(m, VIRT_OUTCOME_CANCELLED, &e);
        return;
    }
    call_libvirt(m, false);
}

void source_run(struct migration *m)
{
    struct migration_job job = {.name = "journal", .done = run_journaled};

    m->progress.started_us = clock_monotonic_us();
    migration_set_status(m, "running");
    migration_submit(m, &job, false, true);
    monitor_start(m);
}
