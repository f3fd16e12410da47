/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The source's side of a migration, up to libvirt's call: taking the request on, waiting for a place, the
 * destination's preparation, the destination's XML, the call itself. What follows the call is in
 * source_end.c, what happens while it runs in monitor.c.
 */
#include "agent/source.h"

#include "agent/checks.h"
#include "agent/forwarding.h"
#include "agent/host_pair.h"
#include "agent/migration.h"

#include <string.h>

#include "lib/clock.h"
#include "lib/json.h"
#include "lib/log.h"
#include "lib/metrics.h"
#include "virt/domain_xml.h"
#include "virt/storage.h"

LOG_MODULE(source);

/* ---- taking it on ---- */

static int check_request(struct agent *agent, const struct instance *instance, const char *dest,
                         struct err *e)
{
    const struct check_subject subject = {
        .agent = agent, .host = agent->host, .destination = dest, .instance = instance};

    return checks_run(CHECK_SOURCE_TAKES, &subject, e);
}

static void accepted(struct migration_job *job)
{
    struct migration *m = job->migration;

    if (m->request) {
        rpc_request_free(m->request); /* accepts: from here on the journal has it */
        m->request = NULL;
    }
    if (job->result < 0)
        migration_fail(m, &job->e);
    machine_event(m, job->result < 0 ? MACHINE_EVENT_REFUSED : MACHINE_EVENT_JOURNALED);
}

static struct migration *make_migration(struct agent *agent, struct rpc_request *request,
                                        const struct instance *instance,
                                        struct migration_record *record, struct migrate_data *data,
                                        const char *dest)
{
    struct json_object *block = rpc_request_arg(request, "block_migration");
    struct migration *m =
        migration_new(agent, MIGRATION_SOURCE, migration_record_uuid(record), instance);

    m->id = migration_record_id(record);
    m->record = record;
    m->data = data;
    m->context = json_object_get(rpc_request_context(request));
    m->source_host = text_dup(agent->host);
    m->destination_host = text_dup(dest);
    m->block_migration =
        block ? json_object_get_boolean(block) : migrate_data_block_migration(data);
    settings_for_instance(agent->conf, instance, &m->settings);
    /* Nova sets it only after pre_live_migration; given at once, the other side has its fence */
    migrate_data_set_migration(data, migration_record_to_json(record));
    return m;
}

/* A cast cannot be answered: what refuses it goes to Nova's record, to the account and to the log. */
static void refuse_cast(struct migration *m, struct rpc_request *request, const struct err *e)
{
    migration_fail(m, e);
    m->state = MACHINE_SOURCE_ERROR;
    cloud_fault(m->agent->cloud, m->context, m->instance_uuid, e);
    migration_set_status(m, "error");
    rpc_fail(request, e);
    migration_forget(m);
}

void source_accept(struct agent *agent, struct rpc_request *request)
{
    struct err e = ERR_INIT;
    _cleanup_(instance_freep) struct instance *instance = NULL;
    _cleanup_(migration_record_freep) struct migration_record *record = NULL;
    _cleanup_(migrate_data_freep) struct migrate_data *data = NULL;
    const char *dest = json_object_get_string(rpc_request_arg(request, "dest"));

    if (instance_from_json(rpc_request_arg(request, "instance"), &instance, &e) < 0 ||
        migration_record_from_json(rpc_request_arg(request, "migration"), &record, &e) < 0 ||
        migrate_data_from_json(rpc_request_arg(request, "migrate_data"), &data, &e) < 0 ||
        text_check_uuid(migration_record_uuid(record), "migration uuid", &e) < 0 ||
        text_check_uuid(instance_uuid(instance), "instance uuid", &e) < 0) {
        rpc_fail(request, &e);
        return;
    }
    if (migration_find(agent, MIGRATION_SOURCE, migration_record_uuid(record))) {
        log_info("migration %s is known already: the request is a repetition",
                 migration_record_uuid(record));
        rpc_request_free(request);
        return;
    }
    int allowed = check_request(agent, instance, dest, &e);
    struct migration *m =
        make_migration(agent, request, instance, STEAL(record), STEAL(data), dest);
    if (allowed < 0) {
        refuse_cast(m, request, &e);
        return;
    }
    m->request = request;
    migration_stamp(m, TIMELINE_ACCEPTED);
    struct migration_job job = {.name = "journal", .done = accepted};
    migration_submit(m, &job, false, true);
}

/* The record may be on the disk although writing it failed: it must not run after a restart. */
void source_refuse(struct migration *m)
{
    cloud_fault(m->agent->cloud, m->context, m->instance_uuid, &m->failure);
    migration_end(m, "error", migration_forget);
}

/* ---- a place ---- */

void source_enqueue(struct migration *m)
{
    metric_inc(METRIC_MIGRATIONS_OUT);
    cloud_event_start(m->agent->cloud, m->context, m->instance_uuid, "compute_live_migration");
    migration_set_status(m, "queued");
    source_next(m->agent);
}

/* Disks are measured when it is their turn: until then memory stands for the size. */
static bool goes_before(const struct migration *m, const struct migration *other, bool largest)
{
    int64_t size_mb = instance_flavor_memory_mb(m->instance);
    int64_t other_mb = instance_flavor_memory_mb(other->instance);

    if (largest && size_mb != other_mb)
        return size_mb > other_mb;
    return m->created_us <= other->created_us;
}

static struct migration *first_queued(struct agent *agent)
{
    struct migration *first = NULL;
    bool largest =
        text_equal(conf_string(agent->conf, CONF_libvirt_live_migration_order), "largest");

    for (struct migration *m = agent->migrations; m; m = m->next)
        if (m->state == MACHINE_SOURCE_QUEUED && (!first || goes_before(m, first, largest)))
            first = m;
    return first;
}

/* Among equals the newest is the last. */
struct source_queue source_queue_foreseen(struct agent *agent, int64_t memory_mb)
{
    struct source_queue queue = {
        .places = conf_int(agent->conf, CONF_DEFAULT_max_concurrent_live_migrations),
        .in_use = agent->running_out,
    };
    bool largest =
        text_equal(conf_string(agent->conf, CONF_libvirt_live_migration_order), "largest");

    for (const struct migration *m = agent->migrations; m; m = m->next)
        if (m->role == MIGRATION_SOURCE &&
            (m->state == MACHINE_SOURCE_QUEUED || m->state == MACHINE_SOURCE_ACCEPTED))
            queue.ahead += !largest || instance_flavor_memory_mb(m->instance) >= memory_mb;
    queue.at_once = queue.ahead == 0 && virt_is_up(agent->virt) &&
                    (queue.places == 0 || queue.in_use < (unsigned)queue.places);
    return queue;
}

void source_next(struct agent *agent)
{
    int64_t places = conf_int(agent->conf, CONF_DEFAULT_max_concurrent_live_migrations);

    /* while libvirtd is away they wait, also after a start */
    while (!agent->draining && virt_is_up(agent->virt) &&
           (places == 0 || agent->running_out < (unsigned)places)) {
        struct migration *m = first_queued(agent);
        if (!m)
            break;
        m->holds_place = true;
        agent->running_out++;
        migration_stamp(m, TIMELINE_PLACE);
        machine_event(m, MACHINE_EVENT_PLACE);
    }
    source_share_bandwidth(agent);
}

void source_give_up_place(struct migration *m)
{
    if (!m->holds_place)
        return;
    m->holds_place = false;
    m->agent->running_out--;
    source_next(m->agent);
}

/* ---- preparing ---- */

struct look {
    struct virt *virt;
    char *uuid;
    bool measure;
    struct virt_guest *guest;
    struct json_object *disk_info;
};

static void look_release(struct migration_job *job)
{
    struct look *look = job->aux;

    free(look->uuid);
    virt_guest_free(look->guest);
    json_object_put(look->disk_info);
    free(look);
}

static int look_run(struct migration_job *job, struct err *e)
{
    struct look *look = job->aux;

    if (virt_guest_read(look->virt, look->uuid, &look->guest, e) < 0)
        return -1;
    if (look->guest->state != VIRT_STATE_RUNNING && look->guest->state != VIRT_STATE_PAUSED)
        return err_set(e, ERR_INSTANCE_STATE,
                       "instance %s is %s; only a running or paused guest can be moved live",
                       look->uuid, virt_state_name(look->guest->state));
    if (!look->measure)
        return 0;
    if (virt_storage_measure(look->guest, e) < 0)
        return -1;
    look->disk_info = virt_storage_disk_info(look->guest);
    return 0;
}

static void prepared(void *aux, struct json_object *result, const struct err *failure)
{
    struct migration *m = aux;
    struct err e = ERR_INIT;
    struct migrate_data *data = NULL;

    if (m->agent->closing) { /* the next start takes it up */
        migration_unref(m);
        return;
    }
    if (!failure && migrate_data_from_json(result, &data, &e) < 0)
        failure = &e;
    if (failure && m->abort_requested) { /* it was called off */
        log_err(LOG_LEVEL_DEBUG, failure, "migration %s: pre_live_migration on %s", m->uuid,
                m->destination_host);
        machine_event(m, MACHINE_EVENT_PREPARE_FAILED);
    } else if (failure) {
        struct err told = *failure;
        err_prefix(&told, "pre_live_migration on %s: ", m->destination_host);
        migration_fail(m, &told);
        m->final_state = MACHINE_SOURCE_ERROR;
        machine_event(m, MACHINE_EVENT_PREPARE_FAILED);
    } else {
        migrate_data_free(m->data);
        m->data = data;
        migration_stamp(m, TIMELINE_PREPARED);
        migration_stamp_peer(m, migrate_data_computed_timeline(data));
        m->peer_is_ours = migrate_data_computed_timeline(data) != NULL;
        host_pair_answered(m->agent, m->destination_host, m->peer_is_ours);
        object_unset(data->object, "computed_timeline"); /* it was for us alone */
        machine_event(m, MACHINE_EVENT_PREPARED);
    }
    migration_unref(m);
}

static struct json_object *disk_argument(const struct migration *m)
{
    _cleanup_(str_freep) char *text = m->disk_info ? json_text(m->disk_info) : NULL;

    return text ? json_object_new_string(text) : NULL;
}

/* The VIFs whose backend tells Nova when they are plugged, before a source of any release goes on. */
static struct json_object *ports_to_await(const struct migration *m)
{
    struct vif_list vifs = {0};
    struct json_object *ports = json_object_new_object();

    if (vif_list_of_destination(m->instance, m->data, &vifs, NULL) < 0)
        return ports;
    for (size_t i = 0; i < vifs.count; i++)
        if (vifs.items[i]->ovs_hybrid_plug)
            json_add_bool(ports, vifs.items[i]->port_id, true);
    vif_list_clear(&vifs);
    return ports;
}

static void call_destination(struct migration *m)
{
    struct agent *agent = m->agent;
    _cleanup_(str_freep) char *own_uri = NULL;
    _cleanup_(str_freep) char *unused = NULL;
    struct json_object *args = json_object_new_object();
    struct rpc_target target = {.topic = "compute", .server = m->destination_host};
    struct rpc_options options = {
        .timeout_us = conf_int(agent->conf, CONF_DEFAULT_long_rpc_timeout) * USEC_PER_SEC,
        .monitor_us = conf_int(agent->conf, CONF_DEFAULT_rpc_response_timeout) * USEC_PER_SEC,
    };

    json_object_put(m->ports_awaited);
    m->ports_awaited = ports_to_await(m);
    source_uris(agent->conf, agent->host,
                conf_string(agent->conf, CONF_libvirt_live_migration_inbound_addr), &own_uri,
                &unused);
    migrate_data_set_computed_source_uri(m->data, own_uri);
    json_add(args, "instance", instance_to_json(m->instance));
    json_add(args, "disk", disk_argument(m));
    json_add(args, "migrate_data", migrate_data_to_json(m->data));
    m->destination_prepared = true;
    migration_stamp(m, TIMELINE_PREPARE_ASKED);
    rpc_call(agent->rpc, &target, RPC_METHOD_pre_live_migration, args, m->context, &options,
             prepared, migration_ref(m));
}

bool source_destination_is_asked(const struct migration *m)
{
    return m->destination_prepared;
}

static void looked(struct migration_job *job)
{
    struct migration *m = job->migration;
    struct look *look = job->aux;

    if (m->state != MACHINE_SOURCE_PREPARING)
        return; /* aborted */
    if (job->result < 0) {
        migration_fail(m, &job->e);
        m->final_state = MACHINE_SOURCE_ERROR;
        machine_event(m, MACHINE_EVENT_PREPARE_FAILED);
        return;
    }
    virt_guest_free(m->guest); /* of an attempt before a restart */
    json_object_put(m->disk_info);
    m->guest = STEAL(look->guest);
    m->disk_info = STEAL(look->disk_info);
    m->initially_paused = m->guest->state == VIRT_STATE_PAUSED;
    /* the destination takes a paused guest as arrived only if it was paused here */
    instance_set_power_state(m->instance, virt_state_nova(m->guest->state));
    text_replace(&m->instance_name, m->guest->name);
    source_measure(m);
    call_destination(m);
}

void source_prepare(struct migration *m)
{
    struct look *look = NEW(struct look);
    struct migration_job job = {
        .name = "look at the guest", .run = look_run, .done = looked, .release = look_release};

    migration_set_status(m, "preparing");
    look->virt = m->agent->virt;
    look->uuid = text_dup(m->instance_uuid);
    look->measure = m->block_migration;
    job.aux = look;
    migration_submit(m, &job, false, true);
}

/* ---- ports ---- */

bool source_awaits_ports(const struct migration *m)
{
    return migrate_data_wait_for_vif_plugged(m->data) && m->ports_awaited &&
           json_object_object_length(m->ports_awaited) > 0 &&
           conf_int(m->agent->conf, CONF_DEFAULT_vif_plugging_timeout) > 0;
}

static void ports_late(void *aux)
{
    struct migration *m = aux;
    struct err e = ERR_INIT;

    if (m->state != MACHINE_SOURCE_WAITING_VIFS)
        return;
    if (!conf_bool(m->agent->conf, CONF_DEFAULT_vif_plugging_is_fatal)) {
        log_warning("migration %s: no network-vif-plugged for all ports within %lld s, going on",
                    m->uuid,
                    (long long)conf_int(m->agent->conf, CONF_DEFAULT_vif_plugging_timeout));
        machine_event(m, MACHINE_EVENT_PORTS_PLUGGED);
        return;
    }
    err_set(&e, ERR_NET_PLUG, "no network-vif-plugged event for %d port(s) within %lld s",
            json_object_object_length(m->ports_awaited),
            (long long)conf_int(m->agent->conf, CONF_DEFAULT_vif_plugging_timeout));
    migration_fail(m, &e);
    m->final_state = MACHINE_SOURCE_ERROR;
    machine_event(m, MACHINE_EVENT_PORTS_LATE);
}

void source_wait_ports(struct migration *m)
{
    migration_wait(m, "wait for ports",
                   conf_int(m->agent->conf, CONF_DEFAULT_vif_plugging_timeout) * USEC_PER_SEC,
                   ports_late);
}

void source_port_plugged(struct migration *m, const char *port_id)
{
    if (!m->ports_awaited || !json_has(m->ports_awaited, port_id))
        return;
    json_object_object_del(m->ports_awaited, port_id);
    if (m->state == MACHINE_SOURCE_WAITING_VIFS && json_object_object_length(m->ports_awaited) == 0)
        machine_event(m, MACHINE_EVENT_PORTS_PLUGGED);
}

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
