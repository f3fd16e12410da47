/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The destination's side: directories, disks and ports for a guest that comes. What is made is made by one
 * job at a time, each step after its undo step is in the journal. What follows is destination_settle.c (the guest
 * arrives) or destination_roll_back.c (it does not come), and destination_end.c.
 */
#include "agent/destination.h"

#include <string.h>
#include <unistd.h>

#include "agent/carrying.h"
#include "agent/checks.h"
#include "agent/forwarding.h"
#include "agent/source.h"
#include "cloud/instances.h"
#include "lib/clock.h"
#include "lib/fault.h"
#include "lib/json.h"
#include "lib/log.h"
#include "lib/metrics.h"
#include "virt/storage.h"

LOG_MODULE(destination);

enum { PORT_READY_US = 10000000 };
/* Silence of a source after which it is asked: libvirt's own transfer may take long. */
#define WATCH_US (300 * USEC_PER_SEC)

/* ---- taking it on ---- */

static bool is_preparing(const struct migration *m)
{
    return m->state == MACHINE_DESTINATION_ACCEPTED || m->state == MACHINE_DESTINATION_PREPARING ||
           m->state == MACHINE_DESTINATION_PREPARED;
}

static void answer_again(struct migration *m, struct rpc_request *request)
{
    struct err e = ERR_INIT;

    if (is_preparing(m) && m->request) { /* whoever asks last waits for the answer */
        err_set(&e, ERR_TIMEOUT, "migration %s: the request came again", m->uuid);
        rpc_fail(m->request, &e);
        m->request = request;
        return;
    }
    if (m->state == MACHINE_DESTINATION_PREPARED) {
        rpc_reply(request, migrate_data_to_json(m->data));
        return;
    }
    err_set(&e, ERR_INSTANCE_STATE, "instance %s: migration %s is %s here", m->instance_uuid,
            m->uuid, machine_state_text(m->state));
    rpc_fail(request, &e);
}

/* Now that Nova has the migration to this host in its records: the last word, as nova-compute says it here. */
static void group_checked(void *aux, const struct err *failure)
{
    struct migration *m = aux;

    if (!m->agent->closing && failure) {
        cloud_event_start(m->agent->cloud, m->context, m->instance_uuid,
                          "compute_pre_live_migration");
        migration_fail(m, failure);
        machine_event(m, MACHINE_EVENT_REFUSED);
    } else if (!m->agent->closing) {
        machine_event(m, MACHINE_EVENT_JOURNALED);
    }
    migration_unref(m);
}

/* The request itself stays with the broker until it is answered: an agent that dies before gets it again, and its
 * refusal, or its word that all is prepared, reaches the source at once and not by a timeout. */
static void accepted(struct migration_job *job)
{
    struct migration *m = job->migration;

    if (job->result < 0) {
        migration_fail(m, &job->e);
        machine_event(m, MACHINE_EVENT_REFUSED);
        return;
    }
    cloud_server_group_check(m->agent->cloud, m->context, m->instance_uuid, NULL, group_checked,
                             migration_ref(m));
}

static int read_disk_argument(struct rpc_request *request, struct json_object **out, struct err *e)
{
    const char *text = json_object_get_string(rpc_request_arg(request, "disk"));

    if (!text) {
        *out = NULL;
        return 0;
    }
    if (json_parse(text, strlen(text), out, e) < 0)
        return err_prefix(e, "argument disk of pre_live_migration: ");
    return 0;
}

static int check_request(struct agent *agent, const struct instance *instance, struct err *e)
{
    const struct check_subject subject = {
        .agent = agent, .host = agent->host, .instance = instance};

    return checks_run(CHECK_DESTINATION_TAKES, &subject, e);
}

static struct migration *make_migration(struct agent *agent, struct rpc_request *request,
                                        const char *uuid, const struct instance *instance,
                                        struct migrate_data *data)
{
    struct migration *m = migration_new(agent, MIGRATION_DESTINATION, uuid, instance);
    struct json_object *record = migrate_data_migration(data);

    m->data = data;
    m->context = json_object_get(rpc_request_context(request));
    m->source_host = text_dup(instance_host(instance));
    m->destination_host = text_dup(agent->host);
    m->block_migration = migrate_data_block_migration(data);
    m->initially_paused = instance_power_state(instance) == 3;
    m->request = request;
    if (record && migration_record_from_json(record, &m->record, NULL) == 0)
        m->id = migration_record_id(m->record);
    settings_for_instance(agent->conf, instance, &m->settings);
    return m;
}

void destination_accept(struct agent *agent, struct rpc_request *request)
{
    struct err e = ERR_INIT;
    char fresh[37];
    _cleanup_(instance_freep) struct instance *instance = NULL;
    _cleanup_(migrate_data_freep) struct migrate_data *data = NULL;
    _cleanup_(json_putp) struct json_object *disks = NULL;

    if (instance_from_json(rpc_request_arg(request, "instance"), &instance, &e) < 0 ||
        migrate_data_from_json(rpc_request_arg(request, "migrate_data"), &data, &e) < 0 ||
        read_disk_argument(request, &disks, &e) < 0) {
        rpc_fail(request, &e);
        return;
    }
    const char *uuid = migrate_data_migration_uuid(data);
    if (!uuid) { /* a Python source sets it only later */
        text_new_uuid(fresh);
        uuid = fresh;
    }
    struct migration *known = migration_find(agent, MIGRATION_DESTINATION, uuid);
    if (known) {
        answer_again(known, request);
        return;
    }
    if (text_check_uuid(uuid, "migration uuid", &e) < 0 || check_request(agent, instance, &e) < 0) {
        rpc_fail(request, &e);
        return;
    }
    struct migration *m = make_migration(agent, request, uuid, instance, STEAL(data));
    migration_stamp(m, TIMELINE_ACCEPTED);
    m->disk_info = STEAL(disks);
    struct migration_job job = {.name = "journal", .done = accepted};
    migration_submit(m, &job, false, true);
}

void destination_refuse_request(struct migration *m)
{
    if (!m->request)
        return;
    cloud_event_finish(m->agent->cloud, m->context, m->instance_uuid, "compute_pre_live_migration",
                       &m->failure);
    rpc_fail(m->request, &m->failure);
    m->request = NULL;
}

/* The record may be on the disk although writing it failed. */
void destination_refuse(struct migration *m)
{
    destination_refuse_request(m);
    migration_remove_record(m, migration_forget);
}

/* ---- preparing ---- */

struct prepare {
    struct destination_saver saver;
    struct undo *undo;
    struct virt *virt;
    struct net *net;
    struct conf *conf;
    char *instance_uuid, *migration_uuid, *source_uri;
    bool own_directory, peer_is_ours;
    bool holds; /* frames at the switch-over */
    const atomic_bool *called_off;
    struct json_object *disk_info, *paths;
    struct port_list ports;
    struct err ports_error;
};

static void prepare_release(struct migration_job *job)
{
    struct prepare *prepare = job->aux;

    undo_free(prepare->undo);
    destination_saver_clear(&prepare->saver);
    conf_unref(prepare->conf);
    free(prepare->instance_uuid);
    free(prepare->migration_uuid);
    free(prepare->source_uri);
    json_object_put(prepare->disk_info);
    json_object_put(prepare->paths);
    port_list_clear(&prepare->ports);
    free(prepare);
}

static int prepare_storage(struct prepare *prepare, struct err *e)
{
    struct virt_storage_plan plan = {
        .instance_uuid = prepare->instance_uuid,
        .migration_uuid = prepare->migration_uuid,
        .disk_info = prepare->disk_info,
        .source_uri = prepare->source_uri,
        .called_off = prepare->called_off,
        /* only an agent of ours can be told that a path is another one here */
        .paths = prepare->peer_is_ours ? &prepare->paths : NULL,
    };

    if (!prepare->own_directory)
        return 0;
    if (virt_storage_check_directory(prepare->conf, prepare->instance_uuid, false, e) < 0)
        return -1;
    return virt_storage_prepare(prepare->virt, prepare->conf, &plan, prepare->undo, e);
}

static int prepare_ports(struct prepare *prepare, struct err *e)
{
    int attempts = (int)conf_int(prepare->conf, CONF_DEFAULT_live_migration_retry_count);

    for (size_t i = 0; i < prepare->ports.count; i++) {
        const struct net_port *port = prepare->ports.items[i];
        struct err attempt = ERR_INIT;
        int result = -1;
        for (int n = 0; result < 0 && n < (attempts > 0 ? attempts : 1); n++) {
            if (n > 0)
                usleep(USEC_PER_SEC);
            attempt = ERR_INIT;
            result = net_plug(prepare->net, port, prepare->undo, &attempt);
            if (result < 0 && (!err_may_retry(attempt.code) || atomic_load(prepare->called_off)))
                break;
        }
        if (result == 0 && prepare->holds)
            result = net_hold_make(prepare->net, port, prepare->undo, &attempt);
        if (result == 0)
            result = net_wait_ready(prepare->net, port, PORT_READY_US, &attempt);
        if (result < 0) {
            if (e)
                *e = attempt;
            return err_prefix(e, "port %s: ", port->port_id);
        }
    }
    return 0;
}

static int prepare_run(struct migration_job *job, struct err *e)
{
    struct prepare *prepare = job->aux;
    enum virt_state state = VIRT_STATE_NONE;

    if (err_is_set(&prepare->ports_error)) {
        *e = prepare->ports_error;
        return -1;
    }
    if (virt_guest_state(prepare->virt, prepare->instance_uuid, &state, e) < 0)
        return -1;
    if (state != VIRT_STATE_NONE)
        return err_set(e, ERR_PRECHECK, "instance %s exists here already and is %s",
                       prepare->instance_uuid, virt_state_name(state));
    if (prepare_storage(prepare, e) < 0)
        return -1;
    return prepare_ports(prepare, e);
}

/* What the source needs to know of this host (nova-contract 2.4); a Python source reads serial_* and
 * wait_for_vif_plugged without a test. */
static void fill_answer(struct migration *m)
{
    const struct conf *conf = m->agent->conf;
    struct migrate_data *d = m->data;

    if (!migrate_data_has(d, "bdms"))
        migrate_data_set_bdms(d, json_object_new_array());
    migrate_data_set_target_connect_addr(
        d, conf_string(conf, CONF_libvirt_live_migration_inbound_addr));
    migrate_data_set_serial_listen_ports(d, json_object_new_array());
    migrate_data_set_supported_perf_events(d, json_object_new_array());
    migrate_data_set_old_vol_attachment_ids(d, json_object_new_object());
    /* true only when the event is certain: a wrong true costs a source of 2026.2 300 s */
    migrate_data_set_wait_for_vif_plugged(d, false);
}

static void open_direct_line(struct migration *m)
{
    struct agent *agent = m->agent;
    struct err e = ERR_INIT;

    if (!agent_switchover_is_on(agent))
        return;
    if (switchover_expect(agent->switchover, m->uuid, m->switchover_key, &e) < 0) {
        log_err(LOG_LEVEL_WARNING, &e, "migration %s: no direct line", m->uuid);
        return;
    }
    struct json_object *facts = json_object_new_object();
    json_add_string(facts, "address", agent_direct_address(agent->conf));
    json_add_int(facts, "port", switchover_port(agent->switchover));
    json_add_string(facts, "key", m->switchover_key);
    forwarding_expect(m, facts);
    migrate_data_set_computed_switchover(m->data, facts);
}

static void arm(struct migration *m, const struct port_list *ports)
{
    struct err e = ERR_INIT;

    net_disarm(m->armed);
    m->armed = NULL;
    if (net_arm(m->agent->net, ports->items, ports->count, &m->armed, &e) < 0)
        log_err(LOG_LEVEL_WARNING, &e, "migration %s: the ports cannot be announced", m->uuid);
    carrying_watch(m);
}

void destination_arm(struct migration *m)
{
    struct port_list ports = {0};
    struct err e = ERR_INIT;

    if (ports_of_destination(m->instance, m->data, &ports, &e) < 0)
        log_err(LOG_LEVEL_WARNING, &e, "migration %s: the ports cannot be announced", m->uuid);
    else
        arm(m, &ports);
    port_list_clear(&ports);
}

void destination_rearm(struct migration *m)
{
    struct err e = ERR_INIT;

    destination_arm(m);
    if (m->agent->switchover && m->switchover_key[0] &&
        switchover_expect_key(m->agent->switchover, m->uuid, m->switchover_key, &e) < 0)
        log_err(LOG_LEVEL_WARNING, &e, "migration %s: no direct line", m->uuid);
    forwarding_expect_again(m);
}

static void prepare_done(struct migration_job *job)
{
    struct migration *m = job->migration;
    struct prepare *prepare = job->aux;

    destination_take_undo(m, prepare->undo);
    if (job->result < 0) {
        migration_fail(m, &job->e);
        machine_event(m, MACHINE_EVENT_PREPARE_FAILED);
        return;
    }
    fill_answer(m);
    if (prepare->paths && json_object_object_length(prepare->paths) > 0)
        migrate_data_set_computed_paths(m->data, STEAL(prepare->paths));
    arm(m, &prepare->ports);
    open_direct_line(m);
    machine_event(m, MACHINE_EVENT_PREPARED);
}

bool destination_peer_is_ours(const struct migration *m)
{
    return migrate_data_computed_source_uri(m->data) != NULL;
}

static bool is_named(const char *id)
{
    return id && *id;
}

/* nova-compute names the disks, but neither its libvirtd nor the kernel and ramdisk beside them: the first
 * is by Nova's rule for URIs, the others have fixed names. */
static void fill_source(const struct migration *m, struct prepare *prepare)
{
    const char *told = migrate_data_computed_source_uri(m->data);
    _cleanup_(str_freep) char *unused = NULL;
    struct json_object *files;

    prepare->disk_info = json_copy(m->disk_info);
    prepare->peer_is_ours = told != NULL;
    if (told) {
        prepare->source_uri = text_dup(told);
        return;
    }
    source_uris(m->agent->conf, m->source_host, NULL, &prepare->source_uri, &unused);
    if (!prepare->disk_info || json_object_array_length(prepare->disk_info) == 0)
        return;
    files = json_object_new_array();
    if (is_named(instance_kernel_id(m->instance)))
        json_object_array_add(files, json_object_new_string("kernel"));
    if (is_named(instance_ramdisk_id(m->instance)))
        json_object_array_add(files, json_object_new_string("ramdisk"));
    json_add(json_object_array_get_idx(prepare->disk_info, 0), "computed_files", files);
}

/* What is being made is not gone on with; what was made is taken back when the job has ended. */
void destination_call_off(struct migration *m)
{
    m->abort_requested = true;
    atomic_store(&m->called_off, true);
    migration_note(m, "called off while %s", machine_state_text(m->state));
}

/* ---- the networks' owner, and the answer ---- */

/* Nova wants it written; a guest can come without it. */
static void announced(void *aux, const struct err *failure)
{
    struct migration *m = aux;

    m->announcing = false;
    if (failure)
        log_err(LOG_LEVEL_WARNING, failure, "migration %s: the ports are not told that they move",
                m->uuid);
    if (!m->agent->closing) {
        destination_wait_for_wiring(m);
        destination_answer_prepared(m);
    }
    migration_unref(m);
}

void destination_prepare(struct migration *m)
{
    struct agent *agent = m->agent;
    struct prepare *prepare = NEW(struct prepare);
    struct migration_job job = {.name = "prepare",
                                .run = prepare_run,
                                .done = prepare_done,
                                .release = prepare_release,
                                .aux = prepare};

    metric_inc(METRIC_MIGRATIONS_IN);
    cloud_event_start(agent->cloud, m->context, m->instance_uuid, "compute_pre_live_migration");
    migration_set_status(m, "preparing");
    m->announcing = true;
    cloud_bindings(agent->cloud, m->context, m->instance, m->data, agent->host,
                   CLOUD_BINDING_ANNOUNCE, announced, migration_ref(m));
    destination_saver_fill(&prepare->saver, m);
    prepare->undo = destination_undo_of(m, &prepare->saver);
    prepare->called_off = &m->called_off;
    prepare->virt = agent->virt;
    prepare->net = agent->net;
    prepare->conf = conf_ref(agent->conf);
    prepare->instance_uuid = text_dup(m->instance_uuid);
    prepare->migration_uuid = text_dup(m->uuid);
    fill_source(m, prepare);
    prepare->holds = prepare->peer_is_ours && agent->streams &&
                     switchover_mode_wanted(agent->conf) == SWITCHOVER_MODE_HOLD;
    prepare->own_directory = !migrate_data_is_shared_instance_path(m->data);
    (void)ports_of_destination(m->instance, m->data, &prepare->ports, &prepare->ports_error);
    job.aux = prepare;
    migration_submit(m, &job, false, true);
}

static void ready_journaled(struct migration_job *job)
{
    struct migration *m = job->migration;

    m->journaling = false;
    if (job->result < 0 && m->state == MACHINE_DESTINATION_PREPARED) {
        /* the next start would not know that a guest may have come, and take its disks */
        migration_fail(m, &job->e);
        machine_event(m, MACHINE_EVENT_ROLLBACK);
        return;
    }
    destination_answer_prepared(m);
}

/* The answer waits for the record, for the ports' word that they move (profile.migrating_to): a write that
 * came after the activation would change the active binding; and for the way out of this host. */
void destination_answer_prepared(struct migration *m)
{
    if (m->announcing || m->journaling || m->wiring)
        return;
    if (m->request && m->state == MACHINE_DESTINATION_PREPARED) {
        (void)fault_point("destination.answer", NULL);
        cloud_event_finish(m->agent->cloud, m->context, m->instance_uuid,
                           "compute_pre_live_migration", NULL);
        migration_stamp(m, TIMELINE_PREPARED);
        if (destination_peer_is_ours(m))
            migrate_data_set_computed_timeline(m->data, timeline_to_peer(&m->timeline));
        rpc_reply(m->request, migrate_data_to_json(m->data));
        m->request = NULL;
    }
}

void destination_ready(struct migration *m)
{
    struct migration_job job = {.name = "journal", .done = ready_journaled};

    m->destination_prepared = true;
    m->journaling = true;
    recovery_watch(m, WATCH_US);
    migration_set_status(m, "prepared");
    migration_submit(m, &job, false, true);
    destination_wait_for_wiring(m);
}
