/* SPDX-License-Identifier: Apache-2.0 */
/*
 * This host under Nova: see the header.
 *
 * Start: ping, versions and our service record, the compute nodes of this host, the node's uuid and its file,
 * then the records; the heartbeat starts with them, Placement follows. A step that fails by what passes
 * begins the whole anew after a pause: every step looks before it writes. Updates run one at a time;
 * those that come meanwhile make one more with the newest facts.
 */
#include "cloud/nova_node.h"

#include <stdlib.h>
#include <string.h>

#include "cloud/placement.h"
#include "lib/clock.h"
#include "lib/json.h"
#include "lib/log.h"

LOG_MODULE(node);

#define PING_TIMEOUT_US (10 * USEC_PER_SEC)
#define PAUSE_FIRST_US  (1 * USEC_PER_SEC)
#define PAUSE_MAX_US    (30 * USEC_PER_SEC)

/* Somebody who waits for the end of an update. */
struct waiter {
    struct waiter *next;
    cloud_done_fn done;
    void *aux;
};

enum node_state { NODE_IDLE, NODE_STARTING, NODE_STARTED };

struct nova_node {
    struct nova *nova;
    struct nova_service *service;
    enum node_state state;
    struct cloud_node_facts facts; /* copies */
    char *uuid;
    struct object *compute; /* the record as last read or saved, with what is to be saved */
    struct loop_timer *retry;
    int64_t pause_us;
    char *told; /* the last failure in the log */
    cloud_done_fn start_done;
    void *start_aux;
    bool running;           /* an update is under way */
    struct waiter *current; /* who waits for it, */
    struct waiter *waiting; /* and who for the next one */
};

/* ---- facts ---- */

static const char **copy_texts(const char *const *texts)
{
    size_t count = 0;

    while (texts && texts[count])
        count++;
    const char **copies = texts ? NEW_ARRAY(const char *, count + 1) : NULL;
    for (size_t i = 0; i < count; i++)
        copies[i] = text_dup(texts[i]);
    return copies;
}

static void facts_clear(struct cloud_node_facts *facts)
{
    free((char *)facts->hypervisor_hostname);
    free((char *)facts->hypervisor_type);
    free((char *)facts->host_ip);
    free((char *)facts->uptime);
    json_object_put(facts->cpu_info);
    json_object_put(facts->supported_instances);
    json_object_put(facts->stats);
    if (facts->traits)
        text_vector_free((char **)facts->traits);
    *facts = (struct cloud_node_facts){0};
}

static void facts_copy(struct cloud_node_facts *to, const struct cloud_node_facts *from)
{
    struct cloud_node_facts copy = *from;

    copy.hypervisor_hostname = text_dup(from->hypervisor_hostname);
    copy.hypervisor_type = text_dup(from->hypervisor_type);
    copy.host_ip = text_dup(from->host_ip);
    copy.uptime = text_dup(from->uptime);
    copy.cpu_info = json_copy(from->cpu_info);
    copy.supported_instances = json_copy(from->supported_instances);
    copy.stats = json_copy(from->stats);
    copy.traits = copy_texts(from->traits);
    facts_clear(to);
    *to = copy;
}

/* ---- life ---- */

static void begin(void *aux);

struct nova_node *nova_node_new(struct nova *nova)
{
    struct nova_node *node = NEW(struct nova_node);

    node->nova = nova;
    node->service = nova_service_new(nova);
    node->retry = loop_timer_new(nova->cloud->loop, "node start", begin, node);
    return node;
}

static void tell_waiters(struct waiter *waiters, const struct err *failure)
{
    while (waiters) {
        struct waiter *waiter = waiters;
        waiters = waiter->next;
        waiter->done(waiter->aux, failure);
        free(waiter);
    }
}

static void start_end(struct nova_node *node, const struct err *failure)
{
    cloud_done_fn done = node->start_done;

    node->start_done = NULL;
    if (done)
        done(node->start_aux, failure);
}

void nova_node_free(struct nova_node *node)
{
    struct err e = ERR_INIT;

    if (!node)
        return;
    err_set(&e, ERR_CANCELLED, "the agent stops");
    start_end(node, &e);
    tell_waiters(STEAL(node->current), &e);
    tell_waiters(STEAL(node->waiting), &e);
    loop_timer_free(node->retry);
    nova_service_free(node->service);
    object_free(node->compute);
    facts_clear(&node->facts);
    free(node->told);
    free(node->uuid);
    free(node);
}

const char *nova_node_name(const struct nova_node *node)
{
    return node->facts.hypervisor_hostname;
}

static int64_t id_of(const struct nova_node *node)
{
    return node->compute ? object_int(node->compute, "id", 0) : 0;
}

int64_t nova_node_id(const struct cloud *cloud)
{
    return id_of(nova_of(cloud)->node);
}

/* ---- the end of the start ---- */

/* True if the failure was told in these words already. */
static bool was_told(struct nova_node *node, const struct err *failure)
{
    if (text_equal(node->told, failure->text))
        return true;
    text_replace(&node->told, failure->text);
    return false;
}

/* What passes by itself begins the start anew; the rest ends it. */
static void start_failed(struct nova_node *node, const struct err *failure)
{
    if (failure->code == ERR_CONFIG || failure->code == ERR_CANCELLED) {
        node->state = NODE_IDLE;
        start_end(node, failure);
        return;
    }
    if (!was_told(node, failure))
        log_err(LOG_LEVEL_WARNING, failure, "the registration of %s is tried again",
                node->nova->cloud->host);
    loop_timer_arm(node->retry, node->pause_us);
    node->pause_us = node->pause_us * 2 > PAUSE_MAX_US ? PAUSE_MAX_US : node->pause_us * 2;
}

static void run_update(struct nova_node *node);

static void start_finished(struct nova_node *node)
{
    const struct object *record = nova_service_record(node->service);

    node->state = NODE_STARTED;
    log_info("%s is registered: service %lld, compute node %lld (%s)", node->nova->cloud->host,
             (long long)object_int(record, "id", 0), (long long)id_of(node), node->uuid);
    start_end(node, NULL);
    if (node->waiting)
        run_update(node);
}

/* ---- Placement ---- */

static void placement_written(struct nova_node *node, cloud_done_fn done)
{
    struct placement *placement = node->nova->placement;

    if (!placement) {
        done(node, NULL);
        return;
    }
    placement_expect_enabled(placement, !nova_service_is_disabled(node->service));
    placement_update(placement, node->uuid, &node->facts, done, node);
}

/* From Nova 33 on the scheduler asks for it. */
static void note_owner(struct nova_node *node)
{
    const struct placement *placement = node->nova->placement;

    if (placement && placement_knows_trait(placement, "OWNER_NOVA"))
        nova_service_set_owner(node->service);
}

/* ---- the compute node record ---- */

struct compute_save {
    struct nova_node *node;
    cloud_done_fn done;
};

static void compute_saved(void *aux, struct json_object *result, const struct err *failure)
{
    struct compute_save save = *(struct compute_save *)aux;
    struct nova_node *node = save.node;

    free(aux);
    if (failure && failure->code == ERR_NO_HOST)
        object_unset(node->compute, "id"); /* deleted by an operator: made again by the next run */
    if (!failure) {
        (void)object_apply_updates(node->compute, json_get(result, "updates"), NULL);
        object_clear_changes(node->compute);
    }
    save.done(node, failure);
}

static void add_service_id(struct nova_node *node)
{
    const struct object *record = nova_service_record(node->service);
    int64_t id = record ? object_int(record, "id", 0) : 0;

    if (id > 0 && object_int(node->compute, "service_id", 0) != id)
        object_set_int(node->compute, "service_id", id);
}

/* All of a new record; of another one what is to be changed. */
static struct json_object *compute_primitive(const struct nova_node *node)
{
    static const char *const keep[] = {"id", "uuid", "host", "hypervisor_hostname", NULL};

    return id_of(node) > 0 ? object_to_json_reduced(node->compute, keep)
                           : object_to_json(node->compute);
}

static void save_compute(struct nova_node *node, cloud_done_fn done)
{
    nova_compute_fill(node->compute, node->nova->cloud->host, &node->facts);
    add_service_id(node);
    bool create = id_of(node) <= 0;
    if (!create && !object_changed(node->compute, NULL)) {
        done(node, NULL);
        return;
    }
    if (create)
        object_set_string(node->compute, "uuid", node->uuid);
    struct compute_save *save = NEW(struct compute_save);
    save->node = node;
    save->done = done;
    conductor_object_action(node->nova->conductor, NULL, compute_primitive(node),
                            create ? "create" : "save", NULL, NULL, compute_saved, save);
}

/* ---- the start ---- */

static void first_placement_written(void *aux, const struct err *failure)
{
    struct nova_node *node = aux;

    if (failure && (failure->code == ERR_CANCELLED || failure->code == ERR_CONFIG)) {
        start_failed(node, failure);
        return;
    }
    if (failure)
        log_err(LOG_LEVEL_WARNING, failure,
                "Placement does not have %s yet; it is tried again with the next figures",
                node->nova->cloud->host);
    else
        note_owner(node);
    start_finished(node);
}

static void well_again(void *aux, const struct err *failure)
{
    struct nova_node *node = aux;

    if (failure && failure->code != ERR_CANCELLED)
        log_err(LOG_LEVEL_WARNING, failure, "the service record of %s cannot be enabled",
                node->nova->cloud->host);
}

/* A record that we disabled before we ended: the hypervisor answers, so it is well. */
static void enable_again(struct nova_node *node)
{
    if (nova_service_is_disabled(node->service))
        nova_service_set_fault(node->service, NULL, well_again, node);
}

static void first_compute_saved(void *aux, const struct err *failure)
{
    struct nova_node *node = aux;

    if (failure) {
        start_failed(node, failure);
        return;
    }
    nova_service_beat(node->service);
    enable_again(node);
    placement_written(node, first_placement_written);
}

static void service_ensured(void *aux, const struct err *failure)
{
    struct nova_node *node = aux;

    if (failure)
        start_failed(node, failure);
    else
        save_compute(node, first_compute_saved);
}

/* ---- whose node it is ---- */

static void keep_compute(struct nova_node *node, struct object *compute)
{
    object_free(node->compute);
    node->compute = compute ? object_copy(compute) : conductor_object_new("ComputeNode");
    object_clear_changes(node->compute);
}

static void compute_found(void *aux, struct json_object *result, const struct err *failure)
{
    struct nova_node *node = aux;
    const char *host = node->nova->cloud->host;
    _cleanup_(object_freep) struct object *found = NULL;
    struct err e = ERR_INIT;

    if (failure && failure->code != ERR_NO_HOST) {
        start_failed(node, failure);
        return;
    }
    if (!failure && object_from_json(result, "ComputeNode", 1, &found, &e) < 0) {
        start_failed(node, &e);
        return;
    }
    const char *is = found ? object_string(found, "host", "?") : host;
    if (!text_equal(is, host) && !conf_bool(node->nova->cloud->conf, CONF_agent_adopt_node)) {
        err_set(&e, ERR_CONFIG,
                "compute node %s, which the file compute_id names, is of host %s in the database, "
                "not of %s; was the file copied, or the host renamed? [agent] adopt_node moves it "
                "here",
                node->uuid, is, host);
        start_failed(node, &e);
        return;
    }
    keep_compute(node, found);
    nova_service_ensure(node->service, service_ensured, node);
}

/* Our node among those of this host; NULL = it is not. Caller frees. */
static struct object *own_node(const struct nova_node *node, const struct object *list)
{
    for (size_t i = 0; list && i < object_list_length(list); i++) {
        struct object *item = object_list_item(list, i);
        if (item && text_equal(object_string(item, "uuid", NULL), node->uuid))
            return item;
        object_free(item);
    }
    return NULL;
}

static void find_compute(struct nova_node *node, const struct object *list)
{
    _cleanup_(object_freep) struct object *own = own_node(node, list);

    if (own) {
        keep_compute(node, own);
        nova_service_ensure(node->service, service_ensured, node);
        return;
    }
    struct json_object *args = json_object_new_array();
    json_object_array_add(args, json_object_new_string(node->uuid));
    conductor_class_action(node->nova->conductor, NULL, "ComputeNode", "get_by_uuid", args, NULL,
                           compute_found, node);
}

static struct nova_identity_node *identity_nodes(const struct object *list, size_t *count)
{
    size_t length = list ? object_list_length(list) : 0;
    struct nova_identity_node *nodes = NEW_ARRAY(struct nova_identity_node, length + 1);

    *count = 0;
    for (size_t i = 0; i < length; i++) {
        struct object *item = object_list_item(list, i);
        if (!item)
            continue;
        /* the list keeps the tree, so the texts stay */
        nodes[*count].uuid = object_string(item, "uuid", "");
        nodes[(*count)++].name = object_string(item, "hypervisor_hostname", "");
        object_free(item);
    }
    return nodes;
}

static int decide(struct nova_node *node, const struct object *list, char **directories,
                  struct err *e)
{
    const struct cloud *cloud = node->nova->cloud;
    const struct object *record = nova_service_record(node->service);
    _cleanup_(str_freep) char *file_uuid = NULL;
    struct nova_identity in = {
        .service_version = record ? object_int(record, "version", 0) : 0,
        .host = cloud->host,
        .name = node->facts.hypervisor_hostname,
        .guests = node->facts.guests,
        .adopt = conf_bool(cloud->conf, CONF_agent_adopt_node),
    };
    char uuid[37];

    if (nova_identity_read((const char *const *)directories, &file_uuid, e) < 0)
        return -1;
    in.file_uuid = file_uuid;
    in.nodes = identity_nodes(list, &in.node_count);
    int result = nova_identity_decide(&in, uuid, e);
    free(in.nodes);
    if (result < 0)
        return -1;
    if (!file_uuid &&
        nova_identity_write(conf_string(cloud->conf, CONF_DEFAULT_state_path), uuid, e) < 0)
        return -1;
    text_replace(&node->uuid, uuid);
    return 0;
}

static void nodes_read(void *aux, struct json_object *result, const struct err *failure)
{
    struct nova_node *node = aux;
    _cleanup_(object_freep) struct object *list = NULL;
    struct err e = ERR_INIT;

    if (failure && failure->code != ERR_NO_HOST) {
        start_failed(node, failure);
        return;
    }
    if (!failure && object_from_json(result, "ComputeNodeList", 1, &list, &e) < 0) {
        start_failed(node, &e);
        return;
    }
    char **directories = nova_identity_directories(node->nova->cloud->conf);
    int decided = decide(node, list, directories, &e);
    text_vector_free(directories);
    if (decided < 0)
        start_failed(node, &e);
    else
        find_compute(node, list);
}

static void service_read(void *aux, const struct err *failure)
{
    struct nova_node *node = aux;

    if (failure) {
        start_failed(node, failure);
        return;
    }
    struct json_object *args = json_object_new_array();
    json_object_array_add(args, json_object_new_string(node->nova->cloud->host));
    conductor_class_action(node->nova->conductor, NULL, "ComputeNodeList", "get_all_by_host", args,
                           NULL, nodes_read, node);
}

static void pinged(void *aux, const struct err *failure)
{
    struct nova_node *node = aux;

    if (failure)
        start_failed(node, failure);
    else
        nova_service_read(node->service, service_read, node);
}

static void begin(void *aux)
{
    struct nova_node *node = aux;

    conductor_ping(node->nova->conductor, PING_TIMEOUT_US, pinged, node);
}

void nova_node_start(struct cloud *cloud, const struct cloud_node_facts *facts, cloud_done_fn done,
                     void *aux)
{
    struct nova_node *node = nova_of(cloud)->node;
    struct err e = ERR_INIT;

    if (node->state != NODE_IDLE) {
        err_set(&e, ERR_INTERNAL, "the host is registered already");
        done(aux, &e);
        return;
    }
    facts_copy(&node->facts, facts);
    node->state = NODE_STARTING;
    node->pause_us = PAUSE_FIRST_US;
    node->start_done = done;
    node->start_aux = aux;
    begin(node);
}

/* ---- updates ---- */

static void update_end(struct nova_node *node, const struct err *failure)
{
    bool stopped = failure && failure->code == ERR_CANCELLED;
    struct waiter *told = STEAL(node->current);

    node->running = false;
    if (node->waiting && !stopped)
        run_update(node);
    tell_waiters(told, failure);
}

static void update_compute_saved(void *aux, const struct err *failure)
{
    update_end(aux, failure);
}

static void update_placement_written(void *aux, const struct err *failure)
{
    struct nova_node *node = aux;

    if (failure) {
        update_end(node, failure);
        return;
    }
    note_owner(node);
    save_compute(node, update_compute_saved);
}

static void update_refreshed(void *aux, const struct err *failure)
{
    struct nova_node *node = aux;

    if (failure)
        update_end(node, failure);
    else
        placement_written(node, update_placement_written);
}

static void run_update(struct nova_node *node)
{
    node->running = true;
    node->current = STEAL(node->waiting);
    nova_service_refresh(node->service, update_refreshed, node);
}

static void request_update(struct nova_node *node, cloud_done_fn done, void *aux)
{
    struct waiter **last = &node->waiting;
    struct waiter *waiter = NEW(struct waiter);

    waiter->done = done;
    waiter->aux = aux;
    while (*last)
        last = &(*last)->next;
    *last = waiter;
    if (node->state == NODE_STARTED && !node->running)
        run_update(node);
}

void nova_node_update(struct cloud *cloud, const struct cloud_node_facts *facts, cloud_done_fn done,
                      void *aux)
{
    struct nova_node *node = nova_of(cloud)->node;

    facts_copy(&node->facts, facts);
    request_update(node, done, aux);
}

/* The API has written the record already; an update reads it and sets the trait by it. */
void nova_node_set_enabled(struct cloud *cloud, bool enabled, cloud_done_fn done, void *aux)
{
    log_info("%s is %s", cloud->host, enabled ? "enabled" : "disabled");
    request_update(nova_of(cloud)->node, done, aux);
}

/* The trait follows the record. */
struct fault_change {
    struct nova_node *node;
    cloud_done_fn done;
    void *aux;
};

static void fault_set(void *aux, const struct err *failure)
{
    struct fault_change change = *(struct fault_change *)aux;

    free(aux);
    if (failure)
        change.done(change.aux, failure);
    else
        request_update(change.node, change.done, change.aux);
}

void nova_node_set_fault(struct cloud *cloud, const char *reason, cloud_done_fn done, void *aux)
{
    struct nova_node *node = nova_of(cloud)->node;
    struct fault_change *change = NEW(struct fault_change);

    change->node = node;
    change->done = done;
    change->aux = aux;
    nova_service_set_fault(node->service, reason, fault_set, change);
}

/* ---- status ---- */

struct json_object *nova_node_status(const struct cloud *cloud)
{
    const struct nova_node *node = nova_of(cloud)->node;
    static const char *const words[] = {"not started", "starting", "started"};
    struct json_object *status = json_object_new_object();

    json_add_string(status, "state", words[node->state]);
    if (node->state == NODE_STARTING && node->told)
        json_add_string(status, "waits_for", node->told);
    nova_service_status(node->service, status);
    json_add_int(status, "compute_id", id_of(node));
    json_add_string(status, "compute_uuid", node->uuid);
    json_add_string(status, "hypervisor_hostname", node->facts.hypervisor_hostname);
    return status;
}
