/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The late check of server groups: nova/compute/manager.py, _validate_instance_group_policy(). The scheduler
 * decides by what it knew; two requests at once may both get a place that is there for one. So a host looks again
 * when the instance is its own already in the database, a migration to it has begun.
 *
 * Checks of one group run one after the other, in order of arrival. In Nova two instances that came at once see
 * each other, and both are sent away; here one that waits for its check does not count yet: the first may stay,
 * and the second sees it.
 */
#include "cloud/nova_groups.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/queue.h>

#include "cloud/nova_node.h"
#include "lib/json.h"
#include "lib/log.h"

LOG_MODULE(nova);

struct group_check {
    TAILQ_ENTRY(group_check) link; /* from when the group is known */
    struct nova_groups *groups;
    struct json_object *context, *group;
    char *instance_uuid;
    char *group_uuid; /* its place among the checks; NULL until the group is known */
    bool runs;
    struct json_object *here; /* {uuid: true}: who is on this host, or on the way to or from it */
    cloud_done_fn done;
    void *aux;
};

struct nova_groups {
    struct nova *nova;
    TAILQ_HEAD(checks, group_check) checks; /* in order of arrival */
    bool closing;
};

struct nova_groups *nova_groups_new(struct nova *nova)
{
    struct nova_groups *groups = NEW(struct nova_groups);

    groups->nova = nova;
    TAILQ_INIT(&groups->checks);
    return groups;
}

/* ---- the group's fields ---- */

static struct json_object *data_of(struct json_object *primitive)
{
    return json_get(primitive, "nova_object.data");
}

static bool has_policy(const struct group_check *check, const char *policy)
{
    return text_equal(json_get_string(data_of(check->group), "policy", NULL), policy);
}

/* Rules are texts; without one a host takes a single member. */
static int most_members(const struct group_check *check, int64_t *most, struct err *e)
{
    const char *text =
        json_get_string(json_get(data_of(check->group), "_rules"), "max_server_per_host", NULL);

    *most = 1;
    if (text && text_to_int64(text, 0, INT32_MAX, most, e) < 0)
        return err_prefix(e, "max_server_per_host of server group %s: ", check->group_uuid);
    return 0;
}

static int violated(const char *policy, struct err *e)
{
    (void)err_set_class(e, "GroupAffinityViolation", ERR_MODULE_NOVA);
    return err_prefix(e, "%s instance group policy was violated: ", policy);
}

/* ---- one after the other ---- */

static void run(struct group_check *check);

static struct group_check *first_of(const struct nova_groups *groups, const char *uuid)
{
    struct group_check *check;

    TAILQ_FOREACH(check, &groups->checks, link)
    {
        if (text_equal(check->group_uuid, uuid))
            return check;
    }
    return NULL;
}

static void end(struct group_check *check, const struct err *failure)
{
    struct nova_groups *groups = check->groups;
    struct group_check ended = *check;

    if (ended.group_uuid)
        TAILQ_REMOVE(&groups->checks, check, link);
    free(check);
    ended.done(ended.aux, failure);
    struct group_check *next =
        ended.group_uuid && !groups->closing ? first_of(groups, ended.group_uuid) : NULL;
    json_object_put(ended.context);
    json_object_put(ended.group);
    json_object_put(ended.here);
    free(ended.instance_uuid);
    free(ended.group_uuid);
    if (next && !next->runs)
        run(next);
}

/* Does another instance wait for the same check? Then it will count this one. */
static bool waits(const struct group_check *check, const char *uuid)
{
    const struct group_check *other;

    TAILQ_FOREACH(other, &check->groups->checks, link)
    {
        if (!other->runs && text_equal(other->instance_uuid, uuid) &&
            text_equal(other->group_uuid, check->group_uuid))
            return true;
    }
    return false;
}

/* ---- anti-affinity ---- */

static int64_t members_here(const struct group_check *check)
{
    struct json_object *members = json_get(data_of(check->group), "members");
    size_t count = members ? json_object_array_length(members) : 0;
    int64_t here = 0;

    for (size_t i = 0; i < count; i++) {
        const char *uuid = json_object_get_string(json_object_array_get_idx(members, i));
        here += uuid && !text_equal(uuid, check->instance_uuid) && json_has(check->here, uuid) &&
                !waits(check, uuid);
    }
    return here;
}

static int decide(const struct group_check *check, struct err *e)
{
    int64_t here = members_here(check), most;

    if (most_members(check, &most, e) < 0)
        return -1;
    if (here < most)
        return 0;
    err_set(e, ERR_PRECHECK,
            "this host has %lld of the other members of server group %s, which permits %lld",
            (long long)here, check->group_uuid, (long long)most);
    return violated("Anti-affinity", e);
}

static struct json_object *texts(const char *first, const char *second)
{
    struct json_object *array = json_object_new_array();

    json_object_array_add(array, json_object_new_string(first));
    if (second)
        json_object_array_add(array, json_object_new_string(second));
    return array;
}

static void refreshed(void *aux, struct json_object *result, const struct err *failure)
{
    struct group_check *check = aux;
    struct err e = ERR_INIT;

    if (failure) {
        end(check, failure);
        return;
    }
    struct json_object *fresh = json_copy(result);
    json_object_put(check->group);
    check->group = fresh;
    end(check, decide(check, &e) < 0 ? &e : NULL);
}

static void add_here(struct group_check *check, const char *uuid)
{
    if (uuid)
        json_add_bool(check->here, uuid, true);
}

static void migrations_listed(void *aux, struct json_object *result, const struct err *failure)
{
    struct group_check *check = aux;
    struct json_object *items = json_get(data_of(result), "objects");

    if (failure) {
        end(check, failure);
        return;
    }
    for (size_t i = 0; items && i < json_object_array_length(items); i++)
        add_here(check, json_get_string(data_of(json_object_array_get_idx(items, i)),
                                        "instance_uuid", NULL));
    conductor_class_action(check->groups->nova->conductor, check->context, "InstanceGroup",
                           "get_by_uuid", texts(check->group_uuid, NULL), NULL, refreshed, check);
}

static void instances_listed(void *aux, struct json_object *result, const struct err *failure)
{
    struct group_check *check = aux;
    struct nova *nova = check->groups->nova;
    size_t count =
        json_object_is_type(result, json_type_array) ? json_object_array_length(result) : 0;

    if (failure) {
        end(check, failure);
        return;
    }
    for (size_t i = 0; i < count; i++)
        add_here(check, json_object_get_string(json_object_array_get_idx(result, i)));
    const char *node = nova_node_name(nova->node);
    conductor_class_action(
        nova->conductor, check->context, "MigrationList", "get_in_progress_by_host_and_node",
        texts(nova->cloud->host, node ? node : nova->cloud->host), NULL, migrations_listed, check);
}

/* ---- affinity ---- */

static void hosts_listed(void *aux, struct json_object *result, const struct err *failure)
{
    struct group_check *check = aux;
    struct json_object *hosts = json_get(result, "result");
    size_t count =
        json_object_is_type(hosts, json_type_array) ? json_object_array_length(hosts) : 0;
    bool good = count == 0;
    struct err e = ERR_INIT;

    for (size_t i = 0; i < count; i++)
        good |= text_equal(json_object_get_string(json_object_array_get_idx(hosts, i)),
                           check->groups->nova->cloud->host);
    if (!failure && !good) {
        err_set(&e, ERR_PRECHECK,
                "the other members of server group %s are on another host than this one",
                check->group_uuid);
        (void)violated("Affinity", &e);
        failure = &e;
    }
    end(check, failure);
}

static void run(struct group_check *check)
{
    struct nova *nova = check->groups->nova;

    check->runs = true;
    if (has_policy(check, "anti-affinity")) {
        check->here = json_object_new_object();
        conductor_class_action(nova->conductor, check->context, "InstanceList", "get_uuids_by_host",
                               texts(nova->cloud->host, NULL), NULL, instances_listed, check);
        return;
    }
    struct json_object *kwargs = json_object_new_object();
    json_add(kwargs, "exclude", texts(check->instance_uuid, NULL));
    conductor_object_action(nova->conductor, check->context, json_copy(check->group), "get_hosts",
                            NULL, kwargs, hosts_listed, check);
}

/* ---- the group ---- */

static void found(void *aux, struct json_object *result, const struct err *failure)
{
    struct group_check *check = aux;

    if (failure) {
        end(check, conductor_failed_with(failure, "InstanceGroupNotFound") ? NULL : failure);
        return;
    }
    const char *uuid = json_get_string(data_of(result), "uuid", "");
    bool first = first_of(check->groups, uuid) == NULL;
    check->group = json_copy(result);
    check->group_uuid = text_dup(uuid);
    TAILQ_INSERT_TAIL(&check->groups->checks, check, link);
    if (!has_policy(check, "anti-affinity") && !has_policy(check, "affinity"))
        end(check, NULL);
    else if (first)
        run(check);
}

/* A hint is the group's uuid or its name. */
static void find(struct group_check *check, const char *hint)
{
    const char *method = "get_by_instance_uuid";

    if (hint)
        method = text_check_uuid(hint, "server group", NULL) == 0 ? "get_by_uuid" : "get_by_name";
    conductor_class_action(check->groups->nova->conductor, check->context, "InstanceGroup", method,
                           texts(hint ? hint : check->instance_uuid, NULL), NULL, found, check);
}

void nova_server_group_check(struct cloud *cloud, struct json_object *context,
                             const char *instance_uuid, const char *hint, cloud_done_fn done,
                             void *aux)
{
    if (conf_bool(cloud->conf, CONF_workarounds_disable_group_policy_check_upcall)) {
        done(aux, NULL);
        return;
    }
    struct group_check *check = NEW(struct group_check);
    check->groups = nova_of(cloud)->groups;
    check->context = json_object_get(context);
    check->instance_uuid = text_dup(instance_uuid);
    check->done = done;
    check->aux = aux;
    find(check, hint);
}

void nova_groups_stop(struct nova_groups *groups)
{
    struct group_check *check, *next;

    groups->closing = true;
    for (check = TAILQ_FIRST(&groups->checks); check; check = next) {
        struct err e = ERR_INIT;
        next = TAILQ_NEXT(check, link);
        if (check->runs) /* its call ends it */
            continue;
        err_set(&e, ERR_CANCELLED, "the server group of instance %s: the agent stops",
                check->instance_uuid);
        end(check, &e);
    }
}

void nova_groups_free(struct nova_groups *groups)
{
    free(groups);
}
