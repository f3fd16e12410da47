/* SPDX-License-Identifier: Apache-2.0 */
/*
 * This host's provider: learn the traits, find or make the provider, inventories, traits. Everything is
 * read before it is written, so that a host on which nothing changed costs three small GETs.
 */
#include "cloud/placement.h"

#include <assert.h>
#include <math.h>
#include <json-c/linkhash.h>
#include <string.h>

#include "cloud/placement_internal.h"
#include "lib/clock.h"
#include "lib/json.h"
#include "lib/log.h"
#include "lib/text.h"

LOG_MODULE(placement);

#define MICROVERSION    "placement 1.28" /* Rocky and later: error codes, consumer generations */
#define TRAIT_DISABLED  "COMPUTE_STATUS_DISABLED"
#define TRAIT_OWNER     "OWNER_NOVA"
#define CODE_CONCURRENT "placement.concurrent_update"

enum {
    TRIES_MAX = 4,
    CONFLICT_PAUSE_US = 50000,
    PERSIST_PAUSE_US = 30000000,
};
static const int64_t persist_us = INT64_C(3600) * USEC_PER_SEC;
static const int64_t traits_old_us = INT64_C(3600) * USEC_PER_SEC; /* Placement may be upgraded */

/* ---- operations ---- */

static void next_writer(struct placement *placement);

static void op_timer(void *aux)
{
    struct placement_op *op = aux;

    op->start(op);
}

struct placement_op *placement_op_new(struct placement *placement, const char *what,
                                      placement_step_fn start)
{
    struct placement_op *op = NEW(struct placement_op);

    assert(loop_is_current(placement->cloud->loop));
    op->placement = placement;
    op->what = what;
    op->start = start;
    op->timer = loop_timer_new(placement->cloud->loop, "placement", op_timer, op);
    op->until_us = clock_monotonic_us() + persist_us;
    LIST_INSERT_HEAD(&placement->ops, op, link);
    return op;
}

void placement_op_free(struct placement_op *op)
{
    loop_timer_free(op->timer);
    json_object_put(op->wanted_traits);
    json_object_put(op->context);
    json_object_put(op->source);
    free(op->request_id);
    free(op->uuid);
    free(op->name);
    free(op->consumer);
    free(op->target);
    free(op);
}

static void tell(struct placement_op *op, struct json_object *result, const struct err *failure)
{
    cloud_done_fn done = STEAL(op->done);
    cloud_result_fn result_done = STEAL(op->result_done);

    if (done)
        done(op->aux, failure);
    else if (result_done)
        result_done(op->aux, failure ? NULL : result, failure);
}

void placement_end(struct placement_op *op, struct json_object *result, const struct err *failure)
{
    struct placement *placement = op->placement;

    LIST_REMOVE(op, link);
    if (placement->writing == op)
        placement->writing = NULL;
    if (op->told && !failure)
        log_info("%s of %s succeeded after all", op->what, op->consumer);
    tell(op, result, failure);
    if (op->asking)
        op->placement = NULL; /* freed when the answer comes */
    else
        placement_op_free(op);
    if (!placement->closing)
        next_writer(placement);
}

static bool may_pass(const struct err *failure)
{
    return failure->code == ERR_UNREACHABLE || failure->code == ERR_TIMEOUT;
}

void placement_fail(struct placement_op *op, const struct err *failure)
{
    struct err e = *failure;

    err_prefix(&e, "%s", op->what);
    if (!op->persists || !may_pass(failure) || clock_monotonic_us() > op->until_us) {
        placement_end(op, NULL, &e);
        return;
    }
    op->tries = 0;
    op->told = true;
    loop_timer_arm(op->timer, PERSIST_PAUSE_US);
    tell(op, NULL, &e);
}

/* 5xx may pass, and so may a conflict that four tries did not end. */
void placement_refused(struct placement_op *op, const struct http_reply *reply)
{
    struct err e = ERR_INIT;
    bool passes = reply->status >= 500 || reply->status == 409;

    (void)service_refused(reply, op->placement->service, op->consumer ? op->consumer : op->uuid,
                          passes ? ERR_UNREACHABLE : ERR_REMOTE, &e);
    placement_fail(op, &e);
}

static bool is_concurrent(const struct http_reply *reply)
{
    struct json_object *errors = json_get(reply->json, "errors");

    if (!json_object_is_type(errors, json_type_array) || !json_object_array_length(errors))
        return false;
    return text_equal(json_get_string(json_object_array_get_idx(errors, 0), "code", NULL),
                      CODE_CONCURRENT);
}

static void again(struct placement_op *op, const struct http_reply *reply)
{
    if (++op->tries >= TRIES_MAX)
        placement_refused(op, reply);
    else
        loop_timer_arm(op->timer, (int64_t)CONFLICT_PAUSE_US * op->tries);
}

void placement_conflict(struct placement_op *op, const struct http_reply *reply)
{
    if (is_concurrent(reply))
        again(op, reply);
    else
        placement_refused(op, reply);
}

static void answered(void *aux, const struct http_reply *reply, const struct err *failure)
{
    struct placement_op *op = aux;

    op->call = NULL;
    if (failure)
        placement_fail(op, failure);
    else if (reply->status >= 500)
        placement_refused(op, reply);
    else
        op->take(op, reply);
}

void placement_ask(struct placement_op *op, const char *method, const char *path,
                   struct json_object *body, placement_reply_fn take)
{
    struct service_request request = {.method = method,
                                      .path = path,
                                      .body = body,
                                      .microversion = MICROVERSION,
                                      .request_id = op->request_id};

    op->take = take;
    op->call = service_send(op->placement->service, &request, answered, op);
    json_object_put(body);
}

struct placement *placement_new(struct cloud *cloud, struct service *service)
{
    struct placement *placement = NEW(struct placement);

    placement->cloud = cloud;
    placement->service = service;
    return placement;
}

void placement_free(struct placement *placement)
{
    struct err e = ERR_INIT;

    if (!placement)
        return;
    placement->closing = true;
    err_set(&e, ERR_CANCELLED, "the agent stops");
    while (!LIST_EMPTY(&placement->ops)) {
        struct placement_op *op = LIST_FIRST(&placement->ops);
        if (op->call)
            service_cancel(op->call); /* ends it */
        else
            placement_end(op, NULL, &e);
    }
    json_object_put(placement->traits);
    free(placement->uuid);
    free(placement);
}

/* ---- traits that Placement has ---- */

static bool traits_are_known(const struct placement *placement)
{
    return placement->traits && clock_monotonic_us() - placement->traits_us < traits_old_us;
}

bool placement_knows_trait(const struct placement *placement, const char *trait)
{
    return json_has(placement->traits, trait);
}

/* False when the reply is not what was asked for; the operation has failed then. */
static bool take_traits(struct placement_op *op, const struct http_reply *reply)
{
    struct json_object *names = json_get(reply->json, "traits");
    struct json_object *known;

    if (reply->status != 200 || !json_object_is_type(names, json_type_array)) {
        placement_refused(op, reply);
        return false;
    }
    known = json_object_new_object();
    for (size_t i = 0; i < json_object_array_length(names); i++) {
        const char *name = json_object_get_string(json_object_array_get_idx(names, i));
        if (name)
            json_add_bool(known, name, true);
    }
    json_object_put(op->placement->traits);
    op->placement->traits = known;
    op->placement->traits_us = clock_monotonic_us();
    return true;
}

static void learnt(struct placement_op *op, const struct http_reply *reply)
{
    if (take_traits(op, reply))
        placement_end(op, NULL, NULL);
}

static void learn(struct placement_op *op)
{
    /* all of them: a list of names would not fit into the 4 KiB of headers that uWSGI takes */
    if (traits_are_known(op->placement))
        placement_end(op, NULL, NULL);
    else
        placement_ask(op, "GET", "/traits", NULL, learnt);
}

void placement_learn_traits(struct placement *placement, cloud_done_fn done, void *aux)
{
    struct placement_op *op = placement_op_new(placement, "asking for traits", learn);

    op->uuid = text_dup("traits");
    op->done = done;
    op->aux = aux;
    learn(op);
}

/* ---- traits of the provider ---- */

/* What says what a hypervisor can do is ours; all else belongs to operators and other services. */
static bool is_ours(const char *trait)
{
    static const char *const prefixes[] = {"COMPUTE_", "HW_CPU_", "HW_ARCH_"};

    for (size_t i = 0; i < ARRAY_LEN(prefixes); i++)
        if (text_starts_with(trait, prefixes[i]))
            return true;
    return strcmp(trait, TRAIT_OWNER) == 0;
}

static bool stays(const struct placement_op *op, const char *trait)
{
    enum placement_status status = op->placement->status;

    if (strcmp(trait, TRAIT_DISABLED) == 0)
        return status != PLACEMENT_ENABLED;
    return op->status_only || !op->wanted_traits || !is_ours(trait);
}

static void add_if_known(const struct placement_op *op, struct json_object *set, const char *trait)
{
    if (placement_knows_trait(op->placement, trait))
        json_add_bool(set, trait, true);
}

/* {trait: true} as it should be. */
static struct json_object *traits_wanted(const struct placement_op *op, struct json_object *current)
{
    struct json_object *set = json_object_new_object();

    for (size_t i = 0; i < json_object_array_length(current); i++) {
        const char *trait = json_object_get_string(json_object_array_get_idx(current, i));
        if (trait && stays(op, trait))
            json_add_bool(set, trait, true);
    }
    if (op->placement->status == PLACEMENT_DISABLED)
        add_if_known(op, set, TRAIT_DISABLED);
    if (op->status_only || !op->wanted_traits)
        return set;
    add_if_known(op, set, TRAIT_OWNER);
    for (size_t i = 0; i < json_object_array_length(op->wanted_traits); i++) {
        const char *trait = json_object_get_string(json_object_array_get_idx(op->wanted_traits, i));
        if (strcmp(trait, TRAIT_DISABLED) != 0)
            add_if_known(op, set, trait);
    }
    return set;
}

static bool same_traits(struct json_object *set, struct json_object *current)
{
    if ((size_t)json_object_object_length(set) != json_object_array_length(current))
        return false;
    for (size_t i = 0; i < json_object_array_length(current); i++)
        if (!json_has(set, json_object_get_string(json_object_array_get_idx(current, i))))
            return false;
    return true;
}

static void traits_written(struct placement_op *op, const struct http_reply *reply)
{
    if (reply->status == 409)
        placement_conflict(op, reply);
    else if (reply->status != 200)
        placement_refused(op, reply);
    else
        placement_end(op, NULL, NULL);
}

static void traits_read(struct placement_op *op, const struct http_reply *reply)
{
    struct json_object *current = json_get(reply->json, "traits"), *body, *names;
    _cleanup_(str_freep) char *path = text_format("/resource_providers/%s/traits", op->uuid);

    if (reply->status != 200 || !json_object_is_type(current, json_type_array)) {
        placement_refused(op, reply);
        return;
    }
    _cleanup_(json_putp) struct json_object *set = traits_wanted(op, current);
    if (same_traits(set, current)) {
        placement_end(op, NULL, NULL);
        return;
    }
    body = json_object_new_object();
    names = json_object_new_array();
    json_object_object_foreach (set, name, value) {
        (void)value;
        json_object_array_add(names, json_object_new_string(name));
    }
    json_add(body, "traits", names);
    json_add_int(body, "resource_provider_generation",
                 json_get_int(reply->json, "resource_provider_generation", 0));
    placement_ask(op, "PUT", path, body, traits_written);
}

static void read_traits(struct placement_op *op)
{
    _cleanup_(str_freep) char *path = text_format("/resource_providers/%s/traits", op->uuid);

    placement_ask(op, "GET", path, NULL, traits_read);
}

/* ---- inventories ---- */

struct inventory {
    const char *resource_class;
    int64_t total, reserved;
    enum conf_id ratio, initial_ratio;
};

static struct json_object *inventory_wanted(const struct conf *conf, const struct inventory *want,
                                            struct json_object *current)
{
    struct json_object *inventory = json_object_new_object();
    double ratio = conf_is_set(conf, want->ratio) ? conf_double(conf, want->ratio) : 0;

    if (ratio <= 0) /* Nova takes 0 for "not given" too */
        ratio = json_get_double(current, "allocation_ratio", 0);
    if (ratio <= 0)
        ratio = conf_double(conf, want->initial_ratio);
    if (ratio <= 0)
        ratio = 1;
    json_add_int(inventory, "total", want->total);
    json_add_int(inventory, "reserved",
                 want->reserved < want->total ? want->reserved : want->total);
    json_add_int(inventory, "min_unit", 1);
    json_add_int(inventory, "max_unit", want->total);
    json_add_int(inventory, "step_size", 1);
    json_add_double(inventory, "allocation_ratio", ratio);
    return inventory;
}

static bool same_inventory(struct json_object *a, struct json_object *b)
{
    static const char *const members[] = {"total", "reserved", "min_unit", "max_unit", "step_size"};
    double one = json_get_double(a, "allocation_ratio", 0);
    double other = json_get_double(b, "allocation_ratio", 0);

    for (size_t i = 0; i < ARRAY_LEN(members); i++)
        if (json_get_int(a, members[i], -1) != json_get_int(b, members[i], -1))
            return false;
    return fabs(one - other) <= 1e-5 * one; /* a database keeps single precision */
}

/* Puts ours into `all`; true if something changed. */
static bool merge_inventories(const struct placement_op *op, struct json_object *all)
{
    const struct conf *conf = op->placement->cloud->conf;
    const struct inventory ours[] = {
        {"VCPU", op->vcpus, conf_int(conf, CONF_DEFAULT_reserved_host_cpus),
         CONF_DEFAULT_cpu_allocation_ratio, CONF_DEFAULT_initial_cpu_allocation_ratio},
        {"MEMORY_MB", op->memory_mb, conf_int(conf, CONF_DEFAULT_reserved_host_memory_mb),
         CONF_DEFAULT_ram_allocation_ratio, CONF_DEFAULT_initial_ram_allocation_ratio},
        {"DISK_GB", op->disk_gb, (conf_int(conf, CONF_DEFAULT_reserved_host_disk_mb) + 1023) / 1024,
         CONF_DEFAULT_disk_allocation_ratio, CONF_DEFAULT_initial_disk_allocation_ratio},
    };
    bool changed = false;

    for (size_t i = 0; i < ARRAY_LEN(ours); i++) {
        struct json_object *current = json_get(all, ours[i].resource_class);
        if (ours[i].total <= 0)
            continue; /* Placement has no empty inventories */
        _cleanup_(json_putp) struct json_object *want = inventory_wanted(conf, &ours[i], current);
        if (current && same_inventory(want, current))
            continue;
        json_add(all, ours[i].resource_class, STEAL(want));
        changed = true;
    }
    return changed;
}

static void inventories_done(struct placement_op *op)
{
    if (op->wanted_traits || op->placement->status != PLACEMENT_STATUS_UNKNOWN)
        read_traits(op);
    else
        placement_end(op, NULL, NULL);
}

static void inventories_written(struct placement_op *op, const struct http_reply *reply)
{
    if (reply->status == 409)
        placement_conflict(op, reply);
    else if (reply->status != 200)
        placement_refused(op, reply);
    else
        inventories_done(op);
}

static void inventories_read(struct placement_op *op, const struct http_reply *reply)
{
    _cleanup_(str_freep) char *path = text_format("/resource_providers/%s/inventories", op->uuid);
    struct json_object *current = json_get(reply->json, "inventories");

    if (reply->status == 404) { /* deleted since it was found */
        again(op, reply);
        return;
    }
    if (reply->status != 200 || !json_object_is_type(current, json_type_object)) {
        placement_refused(op, reply);
        return;
    }
    struct json_object *all = json_copy(current);
    if (!merge_inventories(op, all)) {
        json_object_put(all);
        inventories_done(op);
        return;
    }
    struct json_object *body = json_object_new_object();
    json_add(body, "inventories", all);
    json_add_int(body, "resource_provider_generation",
                 json_get_int(reply->json, "resource_provider_generation", 0));
    placement_ask(op, "PUT", path, body, inventories_written);
}

static void read_inventories(struct placement_op *op)
{
    _cleanup_(str_freep) char *path = text_format("/resource_providers/%s/inventories", op->uuid);

    placement_ask(op, "GET", path, NULL, inventories_read);
}

/* ---- the provider ---- */

static struct json_object *provider_with(struct json_object *answer, const char *member,
                                         const char *value)
{
    struct json_object *providers = json_get(answer, "resource_providers");

    if (!json_object_is_type(providers, json_type_array))
        return NULL;
    for (size_t i = 0; i < json_object_array_length(providers); i++) {
        struct json_object *provider = json_object_array_get_idx(providers, i);
        if (text_equal(json_get_string(provider, member, NULL), value))
            return provider;
    }
    return NULL;
}

/* Creation was refused: who has the name? */
static void name_looked_up(struct placement_op *op, const struct http_reply *reply)
{
    struct json_object *other = provider_with(reply->json, "name", op->name);
    const char *uuid = json_get_string(other, "uuid", NULL);
    struct err e = ERR_INIT;

    if (reply->status != 200 || !other || text_equal(uuid, op->uuid)) {
        again(op, reply); /* gone or ours by now */
        return;
    }
    err_set(&e, ERR_CONFIG,
            "Placement has a provider named %s with the uuid %s, but this node's is %s; give the "
            "node its old uuid (file compute_id), or delete that provider once it has no "
            "allocations",
            op->name, uuid, op->uuid);
    placement_fail(op, &e);
}

static void made(struct placement_op *op, const struct http_reply *reply)
{
    if (reply->status == 409) {
        /* a host name has nothing that a query must escape */
        _cleanup_(str_freep) char *path = text_format("/resource_providers?name=%s", op->name);
        placement_ask(op, "GET", path, NULL, name_looked_up);
        return;
    }
    if (reply->status != 200 && reply->status != 201) {
        placement_refused(op, reply);
        return;
    }
    log_info("made the resource provider %s (%s)", op->name, op->uuid);
    read_inventories(op);
}

static void found(struct placement_op *op, const struct http_reply *reply)
{
    struct json_object *body;

    if (reply->status != 200) {
        placement_refused(op, reply);
        return;
    }
    if (provider_with(reply->json, "uuid", op->uuid)) {
        read_inventories(op);
        return;
    }
    body = json_object_new_object();
    json_add_string(body, "uuid", op->uuid);
    json_add_string(body, "name", op->name);
    placement_ask(op, "POST", "/resource_providers", body, made);
}

static void find(struct placement_op *op)
{
    _cleanup_(str_freep) char *path = text_format("/resource_providers?in_tree=%s", op->uuid);

    placement_ask(op, "GET", path, NULL, found);
}

static void learnt_first(struct placement_op *op, const struct http_reply *reply)
{
    if (take_traits(op, reply))
        op->start(op);
}

/* True if the operation goes on; one of those that write waits for the one before. */
static bool may_write(struct placement_op *op)
{
    struct placement *placement = op->placement;

    op->waiting = placement->writing && placement->writing != op;
    if (op->waiting)
        return false;
    placement->writing = op;
    if (!traits_are_known(placement)) {
        placement_ask(op, "GET", "/traits", NULL, learnt_first);
        return false;
    }
    return true;
}

/* The oldest that waits: new ones are put at the head. */
static void next_writer(struct placement *placement)
{
    struct placement_op *op, *oldest = NULL;

    if (placement->writing)
        return;
    LIST_FOREACH(op, &placement->ops, link)
    {
        if (op->waiting)
            oldest = op;
    }
    if (oldest)
        oldest->start(oldest);
}

static void update(struct placement_op *op)
{
    if (may_write(op))
        find(op);
}

void placement_update(struct placement *placement, const char *uuid,
                      const struct cloud_node_facts *facts, cloud_done_fn done, void *aux)
{
    struct placement_op *op = placement_op_new(placement, "the resource provider", update);

    op->done = done;
    op->aux = aux;
    op->uuid = text_dup(uuid);
    op->name = text_dup(facts->hypervisor_hostname);
    op->vcpus = facts->vcpus;
    op->memory_mb = facts->memory_mb;
    op->disk_gb = facts->local_gb;
    if (facts->traits)
        op->wanted_traits = json_object_new_array();
    for (const char *const *trait = facts->traits; trait && *trait; trait++)
        json_object_array_add(op->wanted_traits, json_object_new_string(*trait));
    text_replace(&placement->uuid, uuid);
    update(op);
}

static void update_status(struct placement_op *op)
{
    if (may_write(op))
        read_traits(op);
}

void placement_expect_enabled(struct placement *placement, bool enabled)
{
    placement->status = enabled ? PLACEMENT_ENABLED : PLACEMENT_DISABLED;
}

void placement_set_enabled(struct placement *placement, bool enabled, cloud_done_fn done, void *aux)
{
    struct placement_op *op = placement_op_new(placement, "the provider's status", update_status);

    op->done = done;
    op->aux = aux;
    op->uuid = text_dup(placement->uuid);
    op->status_only = true;
    placement_expect_enabled(placement, enabled);
    if (placement->uuid)
        update_status(op);
    else
        placement_end(op, NULL, NULL); /* the first update does it */
}
