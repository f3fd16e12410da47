/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/node_internal.h"

#include <json-c/linkhash.h>
#include "cloud/instances.h"
#include "lib/json.h"
#include "lib/log.h"

LOG_MODULE(node);

struct node_leaks {
    struct node *node;
    void (*done)(struct node *node);
    struct json_object *report;
    struct json_object *suspects;    /* of the look before: {consumer: true} */
    struct json_object *found;       /* of the look under way */
    struct json_object *allocations; /* {consumer: resources} */
    struct json_object *queue;       /* consumers to be looked up */
    size_t next;
    const char *consumer; /* in queue */
    struct json_object *context;
    struct instance *instance; /* alive while a call has it */
    struct migration_record *record;
};

static void look_up_next(struct node_leaks *l);

struct node_leaks *node_leaks_new(struct node *node)
{
    struct node_leaks *l = NEW(struct node_leaks);

    l->node = node;
    l->report = json_object_new_array();
    return l;
}

static void clear_look(struct node_leaks *l)
{
    json_object_put(STEAL(l->allocations));
    json_object_put(STEAL(l->queue));
    json_object_put(STEAL(l->context));
    json_object_put(STEAL(l->found));
    instance_free(STEAL(l->instance));
    migration_record_free(STEAL(l->record));
    l->consumer = NULL;
}

void node_leaks_free(struct node_leaks *l)
{
    if (!l)
        return;
    clear_look(l);
    json_object_put(l->suspects);
    json_object_put(l->report);
    free(l);
}

struct json_object *node_leaks_report(const struct node_leaks *l)
{
    return l->report;
}

static void end_look(struct node_leaks *l)
{
    json_object_put(l->suspects);
    l->suspects = STEAL(l->found);
    clear_look(l);
    l->done(l->node);
}

static void give_up(struct node_leaks *l, const struct err *failure)
{
    log_err(LOG_LEVEL_WARNING, failure, "allocations could not be looked through");
    end_look(l);
}

/* ---- what is done with one ---- */

static void note(struct node_leaks *l, const char *kind, const char *why, const char *action)
{
    struct json_object *o = json_object_new_object();
    struct json_object *resources = json_get(l->allocations, l->consumer);
    _cleanup_(str_freep) char *amounts = json_text(resources);

    log_warning("allocation of %s (%s, %s): %s; %s", l->consumer, kind, amounts, why, action);
    json_add_string(o, "consumer", l->consumer);
    json_add_string(o, "kind", kind);
    json_add_string(o, "why", why);
    json_add_string(o, "action", action);
    json_add(o, "resources", json_object_get(resources));
    json_object_array_add(l->report, o);
}

static void put_right(void *aux, const struct err *failure)
{
    struct node_leaks *l = aux;

    if (failure)
        log_err(LOG_LEVEL_WARNING, failure, "the allocation of %s stays for now", l->consumer);
    look_up_next(l);
}

static bool instance_is_here_without(const struct node_leaks *l, const char *uuid)
{
    return json_has(l->node->instances, uuid) && !json_has(l->allocations, uuid);
}

static bool has_ended(const char *status)
{
    static const char *const words[] = {"completed", "failed",   "error",
                                        "cancelled", "reverted", "confirmed"};

    for (size_t i = 0; i < ARRAY_LEN(words); i++)
        if (text_equal(status, words[i]))
            return true;
    return false;
}

static void migration_left_it(struct node_leaks *l)
{
    struct cloud *cloud = l->node->agent->cloud;
    const char *uuid = migration_record_instance_uuid(l->record);
    const char *status = migration_record_status(l->record);
    _cleanup_(str_freep) char *why =
        text_format("migration of %s ended as %s", uuid ? uuid : "?", status);

    if (uuid && !text_equal(status, "completed") && instance_is_here_without(l, uuid) &&
        instance_from_json(json_get(l->node->instances, uuid), &l->instance, NULL) == 0) {
        note(l, "migration", why, "given back to the instance");
        cloud_allocations_revert(cloud, l->context, l->instance, l->record, put_right, l);
        return;
    }
    note(l, "migration", why, "removed");
    cloud_allocations_drop(cloud, l->context, l->record, put_right, l);
}

static void instance_found(void *aux, struct json_object *result, const struct err *failure)
{
    struct node_leaks *l = aux;

    if (failure && failure->code != ERR_NO_INSTANCE) {
        give_up(l, failure);
        return;
    }
    if (failure || instance_from_json(result, &l->instance, NULL) < 0) {
        note(l, "unknown", "neither an instance nor a migration of this cell", "left alone");
        look_up_next(l);
        return;
    }
    const char *host = instance_host(l->instance);
    if (object_bool(l->instance->object, "deleted", false) &&
        !object_bool(l->instance->object, "hidden", false)) {
        note(l, "instance", "the instance was deleted", "removed");
        cloud_allocations_delete(l->node->agent->cloud, l->context, l->consumer, put_right, l);
        return;
    }
    if (host && !text_equal(host, l->node->agent->host) && !instance_task_state(l->instance)) {
        _cleanup_(str_freep) char *why = text_format("the instance is on %s", host);
        note(l, "instance", why, "left alone");
    }
    look_up_next(l);
}

static void migration_found(void *aux, struct json_object *result, const struct err *failure)
{
    struct node_leaks *l = aux;

    if (l->node->agent->closing) {
        end_look(l);
    } else if (failure && failure->code == ERR_NO_MIGRATION) {
        cloud_instance_get(l->node->agent->cloud, l->context, l->consumer, instance_found, l);
    } else if (failure) {
        give_up(l, failure);
    } else if (migration_record_from_json(result, &l->record, NULL) == 0 &&
               has_ended(migration_record_status(l->record))) {
        migration_left_it(l);
    } else {
        look_up_next(l);
    }
}

static void look_up_next(struct node_leaks *l)
{
    instance_free(STEAL(l->instance));
    migration_record_free(STEAL(l->record));
    if (l->next >= json_object_array_length(l->queue) || l->node->agent->closing) {
        end_look(l);
        return;
    }
    l->consumer = json_object_get_string(json_object_array_get_idx(l->queue, l->next++));
    cloud_migration_get(l->node->agent->cloud, l->context, l->consumer, migration_found, l);
}

/* ---- who is looked up ---- */

/* A parked migration keeps what it has: nobody knows where its guest is. */
static bool is_on_its_way(const struct node *node, const char *consumer)
{
    for (const struct node_claim *claim = node->claims; claim; claim = claim->next)
        if (text_equal(claim->uuid, consumer))
            return true;
    for (const struct migration *m = node->agent->migrations; m; m = m->next)
        if (!machine_state_is_final(m->state) &&
            (text_equal(m->uuid, consumer) || text_equal(m->instance_uuid, consumer)))
            return true;
    return false;
}

/* Once may be chance: the scheduler allocates before we hear of it, the end of a migration saves first. */
static void choose(struct node_leaks *l)
{
    json_object_object_foreach (l->allocations, consumer, resources) {
        (void)resources;
        if (json_has(l->node->instances, consumer) || is_on_its_way(l->node, consumer))
            continue;
        json_add_bool(l->found, consumer, true);
        if (json_has(l->suspects, consumer))
            json_object_array_add(l->queue, json_object_new_string(consumer));
    }
}

static void allocations_read(void *aux, struct json_object *result, const struct err *failure)
{
    struct node_leaks *l = aux;

    if (failure || !json_object_is_type(result, json_type_object)) {
        if (failure && !l->node->agent->closing)
            log_err(LOG_LEVEL_WARNING, failure, "the allocations of this host could not be read");
        clear_look(l);
        l->done(l->node);
        return;
    }
    l->allocations = json_object_get(result);
    l->found = json_object_new_object();
    l->queue = json_object_new_array();
    l->next = 0;
    l->context = rpc_context_admin();
    json_add_string(l->context, "read_deleted", "yes");
    json_object_put(l->report);
    l->report = json_object_new_array();
    choose(l);
    look_up_next(l);
}

void node_leaks_look(struct node_leaks *l, void (*done)(struct node *node))
{
    l->done = done;
    cloud_allocations_here(l->node->agent->cloud, allocations_read, l);
}
