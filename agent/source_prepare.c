/* SPDX-License-Identifier: Apache-2.0 */
/* The source waits for the destination: its preparation, for which the guest is looked at, and its ports. */
#include "agent/source.h"

#include "agent/host_pair.h"
#include "lib/clock.h"
#include "lib/json.h"
#include "lib/log.h"
#include "virt/storage.h"

LOG_MODULE(source);

/* ---- preparing ---- */

struct look {
    struct virt *virt;
    struct net *net;
    char *uuid;
    struct port_list ports;
    bool measure;
    struct virt_guest *guest;
    struct json_object *disk_info, *unwired;
};

static void look_release(struct migration_job *job)
{
    struct look *look = job->aux;

    free(look->uuid);
    virt_guest_free(look->guest);
    json_object_put(look->disk_info);
    json_object_put(look->unwired);
    port_list_clear(&look->ports);
    free(look);
}

/* What has no way here loses none there: the destination need not wait for it. */
static struct json_object *unwired_ports(const struct look *look)
{
    struct json_object *unwired = json_object_new_array();
    struct err e = ERR_INIT;

    for (size_t i = 0; i < look->ports.count; i++) {
        const struct net_port *port = look->ports.items[i];
        bool wired;
        if (net_wait_wired(look->net, port, 0, &wired, &e) < 0)
            log_err(LOG_LEVEL_DEBUG, &e, "instance %s", look->uuid);
        else if (!wired)
            json_object_array_add(unwired, json_object_new_string(port->port_id));
    }
    return unwired;
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
    look->unwired = unwired_ports(look);
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
    migrate_data_set_computed_unwired(m->data, STEAL(look->unwired));
    source_measure(m);
    call_destination(m);
}

void source_prepare(struct migration *m)
{
    struct look *look = NEW(struct look);
    struct migration_job job = {
        .name = "look at the guest", .run = look_run, .done = looked, .release = look_release};
    struct err e = ERR_INIT;

    migration_set_status(m, "preparing");
    look->virt = m->agent->virt;
    look->net = m->agent->net;
    look->uuid = text_dup(m->instance_uuid);
    look->measure = m->block_migration;
    if (ports_of_instance(m->instance, &look->ports, &e) < 0)
        log_err(LOG_LEVEL_DEBUG, &e, "migration %s", m->uuid);
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
