/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Allocations. While a guest moves, the migration's uuid holds what it takes at the source, the instance's
 * what it takes at the destination (the conductor did that). A move that failed gives the migration's to
 * the instance in one transaction; one that succeeded drops them.
 */
#include "cloud/placement.h"

#include <json-c/linkhash.h>
#include <string.h>

#include "cloud/placement_internal.h"
#include "cloud/views.h"
#include "lib/json.h"
#include "lib/text.h"

static bool has_allocations(struct json_object *answer)
{
    struct json_object *allocations = json_get(answer, "allocations");

    return json_object_is_type(allocations, json_type_object) &&
           json_object_object_length(allocations) > 0;
}

static char *path_of(const char *consumer)
{
    return text_format("/allocations/%s", consumer);
}

/* ---- away ---- */

static void deleted(struct placement_op *op, const struct http_reply *reply)
{
    if (reply->status == 409)
        placement_conflict(op, reply);
    else if (reply->status != 204 && reply->status != 404)
        placement_refused(op, reply);
    else
        placement_end(op, NULL, NULL);
}

static void delete_all(struct placement_op *op)
{
    _cleanup_(str_freep) char *path = path_of(op->consumer);

    placement_ask(op, "DELETE", path, NULL, deleted);
}

/* In the background the consumer may be somebody else's by now: a build that failed here and went on. */
static void owner_read(struct placement_op *op, const struct http_reply *reply)
{
    struct json_object *allocations = json_get(reply->json, "allocations");

    if (reply->status != 200) {
        placement_refused(op, reply);
        return;
    }
    if (has_allocations(reply->json) && json_object_object_length(allocations) == 1 &&
        op->placement->uuid && json_has(allocations, op->placement->uuid))
        delete_all(op);
    else
        placement_end(op, NULL, NULL);
}

static void forget(struct placement_op *op)
{
    _cleanup_(str_freep) char *path = path_of(op->consumer);

    if (op->told)
        placement_ask(op, "GET", path, NULL, owner_read);
    else
        delete_all(op);
}

/* ---- back to the instance ---- */

/* {provider: {"resources": {...}}} without what an answer has besides. */
static struct json_object *resources_of(struct json_object *answer)
{
    struct json_object *allocations = json_object_new_object();

    json_object_object_foreach (json_get(answer, "allocations"), provider, allocation) {
        struct json_object *one = json_object_new_object();
        json_add(one, "resources", json_copy(json_get(allocation, "resources")));
        json_add(allocations, provider, one);
    }
    return allocations;
}

/* allocations is consumed; generation NULL: a new consumer. */
static void add_consumer(struct json_object *body, const char *consumer, struct json_object *owner,
                         struct json_object *allocations, struct json_object *generation)
{
    struct json_object *entry = json_object_new_object();

    json_add(entry, "allocations", allocations);
    json_add_string(entry, "project_id", json_get_string(owner, "project_id", ""));
    json_add_string(entry, "user_id", json_get_string(owner, "user_id", ""));
    json_object_object_add(entry, "consumer_generation", json_copy(generation));
    json_add(body, consumer, entry);
}

static void moved(struct placement_op *op, const struct http_reply *reply)
{
    if (reply->status == 409)
        placement_conflict(op, reply);
    else if (reply->status != 204)
        placement_refused(op, reply);
    else
        placement_end(op, NULL, NULL);
}

/* `target` is what the instance has, NULL when nothing: one POST takes that away, too. */
static void move(struct placement_op *op, struct json_object *target)
{
    struct json_object *body = json_object_new_object();

    add_consumer(body, op->consumer, op->source, json_object_new_object(),
                 json_get(op->source, "consumer_generation"));
    add_consumer(body, op->target, op->source, resources_of(op->source),
                 json_get(target, "consumer_generation"));
    placement_ask(op, "POST", "/allocations", body, moved);
}

static void find_source(struct placement_op *op);

static void revert_again(struct placement_op *op)
{
    loop_timer_arm(op->timer, 10 * INT64_C(1000000));
}

/* NULL when the operation was ended while the question was out. */
static struct placement_op *answer_for(void *aux)
{
    struct placement_op *op = aux;

    op->asking = false;
    if (op->placement)
        return op;
    placement_op_free(op);
    return NULL;
}

/* The instance has nothing: deleted meanwhile (then it must get nothing), or not yet allocated to. */
static void instance_seen(void *aux, struct json_object *instance, const struct err *failure)
{
    struct placement_op *op = answer_for(aux);

    (void)instance;
    if (!op)
        return;
    if (failure && failure->code == ERR_NO_INSTANCE)
        delete_all(op);
    else
        move(op, NULL);
}

/* In the background: another migration of the instance may be under way by now. */
static void instance_checked(void *aux, struct json_object *instance, const struct err *failure)
{
    struct placement_op *op = answer_for(aux);
    struct json_object *data = json_get(instance, "nova_object.data");

    if (!op)
        return;
    if (failure && failure->code == ERR_NO_INSTANCE)
        delete_all(op);
    else if (failure || text_equal(json_get_string(data, "task_state", NULL), "migrating"))
        revert_again(op);
    else
        find_source(op);
}

static void ask_instance(struct placement_op *op, cloud_result_fn done)
{
    struct cloud *cloud = op->placement->cloud;

    op->asking = true;
    cloud->ops->instance_get(cloud, op->context, op->target, done, op);
}

static void target_read(struct placement_op *op, const struct http_reply *reply)
{
    if (reply->status != 200)
        placement_refused(op, reply);
    else if (has_allocations(reply->json) || !op->placement->cloud->ops->instance_get)
        move(op, reply->json);
    else
        ask_instance(op, instance_seen);
}

static void source_read(struct placement_op *op, const struct http_reply *reply)
{
    _cleanup_(str_freep) char *path = path_of(op->target);

    if (reply->status != 200) {
        placement_refused(op, reply);
        return;
    }
    if (!has_allocations(reply->json)) {
        placement_end(op, NULL, NULL); /* done before, or the conductor took them back */
        return;
    }
    json_object_put(op->source);
    op->source = json_object_get(reply->json);
    placement_ask(op, "GET", path, NULL, target_read);
}

static void find_source(struct placement_op *op)
{
    _cleanup_(str_freep) char *path = path_of(op->consumer);

    placement_ask(op, "GET", path, NULL, source_read);
}

static void revert(struct placement_op *op)
{
    if (op->told && op->placement->cloud->ops->instance_get)
        ask_instance(op, instance_checked);
    else
        find_source(op);
}

/* ---- this host's part ---- */

static void part_read(struct placement_op *op, const struct http_reply *reply)
{
    struct json_object *body;

    if (reply->status != 200) {
        placement_refused(op, reply);
        return;
    }
    const char *here = op->placement->uuid;
    if (!here || !json_has(json_get(reply->json, "allocations"), here)) {
        placement_end(op, NULL, NULL);
        return;
    }
    struct json_object *others = resources_of(reply->json);
    json_object_object_del(others, here);
    body = json_object_new_object();
    add_consumer(body, op->consumer, reply->json, others,
                 json_get(reply->json, "consumer_generation"));
    placement_ask(op, "POST", "/allocations", body, moved);
}

static void leave(struct placement_op *op)
{
    _cleanup_(str_freep) char *path = path_of(op->consumer);

    placement_ask(op, "GET", path, NULL, part_read);
}

/* ---- rows ---- */

static struct placement_op *op_of(struct cloud *cloud, struct json_object *context,
                                  const char *what, placement_step_fn start, const char *consumer)
{
    struct placement_op *op = placement_op_new(nova_of(cloud)->placement, what, start);

    op->persists = true;
    op->context = json_object_get(context);
    op->request_id = text_dup(nova_request_id(context));
    op->consumer = text_dup(consumer);
    return op;
}

void placement_allocations(struct cloud *cloud, struct json_object *context,
                           const struct instance *instance, const struct migration_record *record,
                           cloud_done_fn done, void *aux)
{
    struct placement_op *op =
        op_of(cloud, context, instance ? "reverting allocations" : "dropping allocations",
              instance ? revert : delete_all, migration_record_uuid(record));

    op->done = done;
    op->aux = aux;
    if (instance)
        op->target = text_dup(instance_uuid(instance));
    op->start(op);
}

void placement_allocations_delete(struct cloud *cloud, struct json_object *context,
                                  const char *consumer_uuid, cloud_done_fn done, void *aux)
{
    struct placement_op *op = op_of(cloud, context, "deleting allocations", forget, consumer_uuid);

    op->done = done;
    op->aux = aux;
    forget(op);
}

void placement_allocations_leave(struct cloud *cloud, struct json_object *context,
                                 const char *consumer_uuid, cloud_done_fn done, void *aux)
{
    struct placement_op *op = op_of(cloud, context, "leaving an allocation", leave, consumer_uuid);

    op->done = done;
    op->aux = aux;
    leave(op);
}

static void here_read(struct placement_op *op, const struct http_reply *reply)
{
    _cleanup_(json_putp) struct json_object *result = json_object_new_object();
    struct json_object *allocations = json_get(reply->json, "allocations");

    if (reply->status != 200 && reply->status != 404) {
        placement_refused(op, reply);
        return;
    }
    if (json_object_is_type(allocations, json_type_object)) {
        json_object_object_foreach (allocations, consumer, allocation) {
            json_add(result, consumer, json_copy(json_get(allocation, "resources")));
        }
    }
    placement_end(op, result, NULL);
}

static void read_here(struct placement_op *op)
{
    _cleanup_(str_freep) char *path = text_format("/resource_providers/%s/allocations", op->uuid);

    placement_ask(op, "GET", path, NULL, here_read);
}

void placement_allocations_here(struct cloud *cloud, cloud_result_fn done, void *aux)
{
    struct placement *placement = nova_of(cloud)->placement;
    struct placement_op *op = placement_op_new(placement, "reading allocations", read_here);
    struct err e = ERR_INIT;

    op->result_done = done;
    op->aux = aux;
    op->uuid = text_dup(placement->uuid);
    if (op->uuid) {
        read_here(op);
        return;
    }
    err_set(&e, ERR_UNREACHABLE, "the provider of this host is not known yet");
    placement_fail(op, &e);
}
