/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/node.h"

#include <stdio.h>

#include "agent/node_internal.h"
#include "agent/power_sync.h"
#include "cloud/instances.h"
#include "cloud/node.h"
#include "lib/clock.h"
#include "lib/json.h"
#include "lib/log.h"

LOG_MODULE(node);

enum {
    SOON_US = 200000, /* many changes make one audit */
    RETRY_FIRST_US = 500000,
    RETRY_LONGEST_US = 10000000,
    INTERVAL_DEFAULT_S = 60,
};
/* Figures that did not change are written all the same, so that what others changed is put right. */
#define REFRESH_US (300 * USEC_PER_SEC)

/* ---- one audit after the other ---- */

/* -1 = only when something changed. */
static int64_t interval_us(const struct node *node)
{
    int64_t s = conf_int(node->agent->conf, CONF_DEFAULT_update_resources_interval);

    return s < 0 ? -1 : (s ? s : INTERVAL_DEFAULT_S) * USEC_PER_SEC;
}

static void audit_ended(struct node *node)
{
    node->busy = false;
    if (node->agent->closing)
        return;
    if (node->again)
        loop_timer_arm(node->timer, SOON_US);
    else if (interval_us(node) > 0)
        loop_timer_arm(node->timer, interval_us(node));
    node->again = false;
}

/* Tries again: at the start soon and ever later, after it with the next audit. */
static void audit_failed(struct node *node, const struct err *failure, const char *what)
{
    int64_t pause_us = (int64_t)RETRY_FIRST_US << (node->failures < 5 ? node->failures : 5);

    if (node->agent->closing) {
        node->busy = false;
        return;
    }
    if (node->failures++ == 0 || node->state == NODE_READY)
        log_err(LOG_LEVEL_WARNING, failure, "%s", what);
    if (node->state == NODE_READY) {
        audit_ended(node);
        return;
    }
    node->busy = false;
    loop_timer_arm(node->timer, pause_us < RETRY_LONGEST_US ? pause_us : RETRY_LONGEST_US);
}

static void looked_again(struct node *node, const struct err *failure)
{
    if (failure)
        log_err(LOG_LEVEL_WARNING, failure, "guests that were evacuated are not looked for now");
    audit_ended(node);
}

static void leaks_looked(struct node *node)
{
    int64_t now_us = clock_monotonic_us();

    if (node->agent->closing || now_us - node->cleared_us < interval_us(node)) {
        audit_ended(node);
        return;
    }
    node->cleared_us = now_us;
    node_evacuated_look(node->evacuated, looked_again);
}

static void written(void *aux, const struct err *failure)
{
    struct node *node = aux;

    if (failure) {
        json_object_put(STEAL(node->written));
        audit_failed(node, failure, "the figures of this host could not be written");
        return;
    }
    node->failures = 0;
    node_service_settle(node->service);
    int64_t now_us = clock_monotonic_us();
    if (node->agent->closing || now_us - node->full_us < interval_us(node)) {
        audit_ended(node);
        return;
    }
    node->full_us = now_us;
    node_leaks_look(node->leaks, leaks_looked);
}

static void write_figures(struct node *node)
{
    struct cloud_node_facts facts;
    int64_t now_us = clock_monotonic_us();

    node->usage = node_usage_sum(node);
    node_stats_count(node);
    node_usage_facts(node, &facts);
    struct json_object *figures = node_usage_figures(&facts);
    bool same = node->written && json_same(figures, node->written) &&
                now_us - node->written_us < REFRESH_US;
    json_object_put(node->written);
    node->written = figures;
    if (same) {
        written(node, NULL);
        return;
    }
    node->written_us = now_us;
    cloud_node_update(node->agent->cloud, &facts, written, node);
}

/* ---- instances ---- */

static void compute_id_saved(void *aux, const struct err *failure)
{
    instance_free(aux);
    if (failure)
        log_err(LOG_LEVEL_WARNING, failure, "an instance's compute_id could not be saved");
}

/* Releases that know the field want it to be ours (Instance 2.8); others do not send it. */
static void correct_compute_id(struct node *node, const struct instance *instance)
{
    int64_t id = cloud_node_id(node->agent->cloud);

    if (id <= 0 || !object_has(instance->object, "compute_id") ||
        object_int(instance->object, "compute_id", 0) == id || instance_task_state(instance))
        return;
    log_info("instance %s: compute_id %lld becomes %lld", instance_uuid(instance),
             (long long)object_int(instance->object, "compute_id", 0), (long long)id);
    _cleanup_(json_putp) struct json_object *context = rpc_context_admin();
    struct instance *copy = instance_copy(instance);
    object_set_int(copy->object, "compute_id", id);
    cloud_instance_save(node->agent->cloud, context, copy, NULL, compute_id_saved, copy);
}

static void take_list(struct node *node, struct json_object *list)
{
    size_t count = json_object_is_type(list, json_type_array) ? json_object_array_length(list) : 0;

    json_object_put(node->instances);
    node->instances = json_object_new_object();
    for (size_t i = 0; i < count; i++) {
        struct json_object *primitive = json_object_array_get_idx(list, i);
        _cleanup_(instance_freep) struct instance *instance = NULL;
        struct err e = ERR_INIT;
        if (instance_from_json(primitive, &instance, &e) < 0 || !instance_uuid(instance)) {
            log_err(LOG_LEVEL_WARNING, &e, "an instance of the control plane cannot be read");
            continue;
        }
        json_add(node->instances, instance_uuid(instance), json_object_get(primitive));
        correct_compute_id(node, instance);
    }
}

static void become_ready(struct node *node)
{
    struct agent *agent = node->agent;
    _cleanup_(json_putp) struct json_object *listed = STEAL(node->listed);
    _cleanup_(json_putp) struct json_object *list = node_evacuated_without(node->evacuated, listed);

    node->state = NODE_READY;
    log_info("this host is registered as %s, with %d instance(s)", node->resources->hostname,
             json_object_object_length(node->instances));
    node_service_want(node->service, virt_is_up(agent->virt), "not connected");
    agent_rpc_release(agent); /* what was asked meanwhile goes first: repair leaves it alone */
    power_repair(agent, list);
    power_sync_open(agent);
    node_strangers_look(node->strangers);
}

/* Before a request is taken up, and before a guest is started again. */
static void cleared(struct node *node, const struct err *failure)
{
    if (failure) {
        json_object_put(STEAL(node->listed));
        audit_failed(node, failure, "evacuations from this host could not be asked for");
        return;
    }
    node->cleared_us = clock_monotonic_us();
    become_ready(node);
    write_figures(node);
}

static void listed(void *aux, struct json_object *result, const struct err *failure)
{
    struct node *node = aux;

    if (failure || node->agent->closing) {
        audit_failed(node, failure, "the instances of this host could not be asked for");
        return;
    }
    take_list(node, result);
    if (node->state == NODE_READY) {
        write_figures(node);
        return;
    }
    node->state = NODE_CLEARS;
    node->listed = json_object_get(result);
    node_evacuated_look(node->evacuated, cleared);
}

/* ---- registering ---- */

static void started(void *aux, const struct err *failure)
{
    struct node *node = aux;
    struct agent *agent = node->agent;

    if (failure && failure->code == ERR_CONFIG && !agent->closing) {
        node->state = NODE_FAILED;
        node->busy = false;
        agent->fatal = *failure;
        loop_quit(agent->loop);
        return;
    }
    if (failure) {
        node->state = NODE_READS;
        audit_failed(node, failure, "this host could not be registered");
        return;
    }
    node->registered = true;
    node->state = NODE_LOOKS;
    cloud_instances(agent->cloud, listed, node);
}

/* ---- reading the hypervisor ---- */

struct reading {
    struct node *node;
    struct virt *virt;
    struct virt_resources *resources;
    int result;
    struct err e;
};

static void read_run(void *aux)
{
    struct reading *reading = aux;

    reading->result = virt_resources_read(reading->virt, &reading->resources, &reading->e);
}

static void go_on(struct node *node)
{
    struct cloud_node_facts facts;

    if (node->registered) {
        if (node->state != NODE_READY)
            node->state = NODE_LOOKS;
        cloud_instances(node->agent->cloud, listed, node);
        return;
    }
    node->state = NODE_REGISTERS;
    node_usage_facts(node, &facts);
    cloud_node_start(node->agent->cloud, &facts, started, node);
}

static void read_done(void *aux, enum work_end end)
{
    struct reading *reading = aux;
    struct node *node = reading->node;

    if (end != WORK_DONE)
        err_set(&reading->e, end == WORK_OVERDUE ? ERR_TIMEOUT : ERR_CANCELLED,
                "the hypervisor gave no answer");
    if (end != WORK_DONE || reading->result < 0 || node->agent->closing) {
        audit_failed(node, &reading->e, "what the hypervisor has could not be read");
        return;
    }
    virt_resources_free(node->resources);
    node->resources = STEAL(reading->resources);
    go_on(node);
}

static void read_release(void *aux)
{
    struct reading *reading = aux;

    virt_resources_free(reading->resources);
    free(reading);
}

static void audit(struct node *node)
{
    struct reading *reading = NEW(struct reading);
    struct work work = {.name = "read the host",
                        .deadline_us = 60 * USEC_PER_SEC,
                        .run = read_run,
                        .done = read_done,
                        .release = read_release,
                        .aux = reading};

    node->busy = true;
    reading->node = node;
    reading->virt = node->agent->virt;
    workers_submit(node->agent->workers, &work);
}

static void due(void *aux)
{
    struct node *node = aux;

    if (!node->busy && node->state != NODE_FAILED && !node->agent->closing)
        audit(node);
}

/* ---- for others ---- */

void node_open(struct agent *agent)
{
    if (cloud_is_standalone(agent->cloud))
        return;
    struct node *node = NEW(struct node);
    node->agent = agent;
    node->state = NODE_READS;
    node->timer = loop_timer_new(agent->loop, "node", due, node);
    node->evacuated = node_evacuated_new(node);
    node->strangers = node_strangers_new(node);
    node->leaks = node_leaks_new(node);
    node->service = node_service_new(node);
    agent->node = node;
    if (virt_is_up(agent->virt))
        audit(node);
    else
        loop_timer_arm(node->timer, RETRY_FIRST_US);
}

void node_close(struct agent *agent)
{
    struct node *node = STEAL(agent->node);

    if (!node)
        return;
    while (node->claims) {
        struct node_claim *claim = node->claims;
        node->claims = claim->next;
        free(claim->uuid);
        free(claim);
    }
    loop_timer_free(node->timer);
    node_evacuated_free(node->evacuated);
    node_strangers_free(node->strangers);
    node_leaks_free(node->leaks);
    node_service_free(node->service);
    virt_resources_free(node->resources);
    json_object_put(node->instances);
    json_object_put(node->listed);
    json_object_put(node->written);
    json_object_put(node->stats);
    free(node);
}

bool node_is_ready(const struct agent *agent)
{
    return !agent->node || agent->node->state == NODE_READY;
}

void node_changed(struct agent *agent)
{
    struct node *node = agent->node;

    if (!node || node->state != NODE_READY)
        return;
    if (node->busy) {
        node->again = true;
        return;
    }
    loop_timer_arm(node->timer, SOON_US);
}

void node_connection(struct agent *agent, bool up, const char *why)
{
    struct node *node = agent->node;

    if (!node)
        return;
    node_service_want(node->service, up, why);
    if (up && !node->busy && node->state != NODE_FAILED)
        loop_timer_arm(node->timer, 0);
}

/* ---- claims ---- */

static int refuse_claim(struct err *e, const struct instance *instance, const char *why)
{
    err_set(e, ERR_NO_SPACE, "Insufficient compute resources: instance %s %s",
            instance_uuid(instance), why);
    return err_set_class(e, "ComputeResourcesUnavailable", NULL);
}

int node_claim(struct agent *agent, const struct instance *instance, struct err *e)
{
    struct node *node = agent->node;

    if (!node)
        return 0;
    if (!node->registered)
        return refuse_claim(e, instance, "came before this host was registered");
    if (instance_numa_topology(instance))
        return refuse_claim(e, instance, "wants a NUMA topology, which this host does not give");
    if (instance_has_pci_requests(instance))
        return refuse_claim(e, instance, "wants PCI devices, which this host does not give");
    node_unclaim(agent, instance_uuid(instance));
    struct node_claim *claim = NEW(struct node_claim);
    claim->uuid = text_dup(instance_uuid(instance));
    claim->usage = node_usage_of(instance);
    claim->next = node->claims;
    node->claims = claim;
    node_changed(agent);
    return 0;
}

void node_unclaim(struct agent *agent, const char *instance_uuid)
{
    if (!agent->node)
        return;
    for (struct node_claim **p = &agent->node->claims; *p; p = &(*p)->next) {
        struct node_claim *claim = *p;
        if (!text_equal(claim->uuid, instance_uuid))
            continue;
        *p = claim->next;
        free(claim->uuid);
        free(claim);
        node_changed(agent);
        return;
    }
}

/* ---- what is told ---- */

const char *node_hostname(const struct agent *agent)
{
    return agent->node && agent->node->resources ? agent->node->resources->hostname : NULL;
}

const char *node_uptime(const struct agent *agent)
{
    return agent->node && agent->node->resources ? agent->node->resources->uptime : NULL;
}

void node_own_instance(const struct agent *agent, struct instance *instance)
{
    const char *name = node_hostname(agent);
    int64_t id = cloud_node_id(agent->cloud);

    if (name)
        instance_set_node(instance, name);
    if (id > 0)
        object_set_int(instance->object, "compute_id", id);
}

static const char *state_text(const struct node *node)
{
    static const char *const texts[] = {
        [NODE_READS] = "waits for the hypervisor",
        [NODE_REGISTERS] = "registers",
        [NODE_LOOKS] = "asks for its instances",
        [NODE_CLEARS] = "clears what was evacuated",
        [NODE_READY] = "registered",
        [NODE_FAILED] = "cannot be registered",
    };

    return texts[node->state];
}

struct json_object *node_status(const struct agent *agent)
{
    const struct node *node = agent->node;
    struct json_object *o, *usage, *record;
    int claims = 0;

    if (!node)
        return NULL;
    o = json_object_new_object();
    usage = json_object_new_object();
    json_add_string(o, "state", state_text(node));
    json_add_string(o, "hypervisor_hostname", node_hostname(agent));
    json_add_int(usage, "instances", node->usage.instances);
    json_add_int(usage, "vcpus", node->usage.vcpus);
    json_add_int(usage, "memory_mb", node->usage.memory_mb);
    json_add_int(usage, "disk_gb", node->usage.disk_mb / 1024);
    json_add(o, "usage", usage);
    for (const struct node_claim *claim = node->claims; claim; claim = claim->next)
        claims++;
    json_add_int(o, "claims", claims);
    json_add(o, "evacuated", json_object_get(node_evacuated_report(node->evacuated)));
    json_add(o, "leaks", json_object_get(node_leaks_report(node->leaks)));
    record = cloud_node_status(agent->cloud);
    json_add(o, "record", record);
    return o;
}
