/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A domain that is here and an instance that is not: the guest may run on two hosts, and which one is right
 * cannot be known from here. Without the record of an evacuation (agent/node_evacuated.c) nothing is done to it,
 * but an operator is told. One whose instance was deleted while this host was away lives nowhere:
 * nova/compute/manager.py, _cleanup_running_deleted_instances().
 */
#include "agent/node_internal.h"

#include "agent/guest_list.h"
#include "agent/instance_evacuated.h"
#include "cloud/instances.h"
#include "lib/json.h"
#include "lib/log.h"

LOG_MODULE(node);

enum { DO_NOTHING, DO_LOG, DO_POWER_OFF, DO_REMOVE }; /* words of running_deleted_instance_action */

struct stranger {
    char *uuid, *name;
    enum virt_state state;
};

struct node_strangers {
    struct node *node;
    struct json_object *context;
    struct stranger *strangers;
    size_t count, next;
};

struct node_strangers *node_strangers_new(struct node *node)
{
    struct node_strangers *s = NEW(struct node_strangers);

    s->node = node;
    s->context = rpc_context_admin();
    json_add_string(s->context, "read_deleted", "yes");
    return s;
}

static void clear(struct node_strangers *s)
{
    for (size_t i = 0; i < s->count; i++) {
        free(s->strangers[i].uuid);
        free(s->strangers[i].name);
    }
    free(STEAL(s->strangers));
    s->count = s->next = 0;
}

void node_strangers_free(struct node_strangers *s)
{
    if (!s)
        return;
    clear(s);
    json_object_put(s->context);
    free(s);
}

/* ---- one whose instance was deleted ---- */

struct power_off {
    struct virt *virt;
    char *uuid;
    int result;
    struct err e;
};

static void power_off_run(void *aux)
{
    struct power_off *off = aux;

    off->result = virt_guest_power_off(off->virt, off->uuid, &off->e);
}

static void power_off_done(void *aux, enum work_end end)
{
    const struct power_off *off = aux;

    if (end == WORK_DONE && off->result < 0)
        log_err(LOG_LEVEL_ERROR, &off->e, "the guest of the deleted instance %s still runs",
                off->uuid);
}

static void power_off_release(void *aux)
{
    struct power_off *off = aux;

    free(off->uuid);
    free(off);
}

static void power_off(struct agent *agent, const char *uuid)
{
    struct power_off *off = NEW(struct power_off);
    struct work work = {.name = "power off a deleted guest",
                        .run = power_off_run,
                        .done = power_off_done,
                        .release = power_off_release,
                        .aux = off};

    off->virt = agent->virt;
    off->uuid = text_dup(uuid);
    workers_submit(agent->workers, &work);
}

static void was_deleted(struct node_strangers *s, const struct stranger *stranger,
                        const struct instance *instance)
{
    struct agent *agent = s->node->agent;
    const struct instance_removal removal = {.instance = instance, .deleted = true};
    int action = (int)conf_int(agent->conf, CONF_DEFAULT_running_deleted_instance_action);
    static const char *const what[] = {[DO_LOG] = "it is left alone",
                                       [DO_POWER_OFF] = "it is powered off",
                                       [DO_REMOVE] = "it is removed with its files"};

    if (action == DO_NOTHING)
        return;
    log_warning("instance %s was deleted, but its guest is still here (%s, %s): %s "
                "(running_deleted_instance_action)",
                stranger->uuid, stranger->name, virt_state_name(stranger->state), what[action]);
    if (action == DO_REMOVE)
        instance_remove_here(agent, &removal);
    else if (action == DO_POWER_OFF)
        power_off(agent, stranger->uuid);
}

/* ---- looking up ---- */

/* Off, it is only in the way; running, it may be the second of two. */
static void tell_elsewhere(const struct stranger *stranger, const char *host)
{
    _cleanup_(str_freep) char *text = text_format(
        "the guest of instance %s (%s) is %s here, but the instance is on %s and was not "
        "evacuated from this host: nothing is done to it, look at both hosts",
        stranger->uuid, stranger->name, virt_state_name(stranger->state), host ? host : "no host");

    if (stranger->state == VIRT_STATE_SHUTOFF)
        log_warning("%s", text);
    else
        log_error("%s", text);
}

static void look_up_next(struct node_strangers *s);

static void judge(struct node_strangers *s, const struct stranger *stranger,
                  struct json_object *primitive)
{
    _cleanup_(instance_freep) struct instance *instance = NULL;
    const struct agent *agent = s->node->agent;
    struct err e = ERR_INIT;

    if (instance_from_json(primitive, &instance, &e) < 0) {
        log_err(LOG_LEVEL_WARNING, &e, "domain %s (%s) cannot be looked up", stranger->uuid,
                stranger->name);
        return;
    }
    if (operation_running(agent, stranger->uuid) || json_has(s->node->instances, stranger->uuid))
        return;
    object_clear_changes(instance->object);
    const char *host = instance_host(instance);
    if (object_bool(instance->object, "deleted", false)) {
        if (!object_bool(instance->object, "hidden", false))
            was_deleted(s, stranger, instance);
    } else if (!text_equal(host, agent->host)) {
        tell_elsewhere(stranger, host);
    }
}

static void found(void *aux, struct json_object *result, const struct err *failure)
{
    struct node_strangers *s = aux;

    if (s->node->agent->closing)
        return;
    const struct stranger *stranger = &s->strangers[s->next++];
    if (!failure)
        judge(s, stranger, result);
    else if (failure->code == ERR_NO_INSTANCE)
        log_info("domain %s (%s) is no instance of this cloud: it is left alone", stranger->uuid,
                 stranger->name);
    else
        log_err(LOG_LEVEL_WARNING, failure, "domain %s (%s) cannot be looked up", stranger->uuid,
                stranger->name);
    look_up_next(s);
}

static void look_up_next(struct node_strangers *s)
{
    if (s->next < s->count)
        cloud_instance_get(s->node->agent->cloud, s->context, s->strangers[s->next].uuid, found, s);
    else
        clear(s);
}

/* ---- listing ---- */

/* A guest that comes here, or a migration that left it in doubt, has its own account. */
static bool has_migration(const struct agent *agent, const char *uuid)
{
    for (const struct migration *m = agent->migrations; m; m = m->next)
        if (text_equal(m->instance_uuid, uuid))
            return true;
    return false;
}

static bool is_strange(const struct node *node, const char *uuid)
{
    return !json_has(node->instances, uuid) && !node_evacuated_holds(node->evacuated, uuid) &&
           !operation_running(node->agent, uuid) && !has_migration(node->agent, uuid);
}

static void listed(void *aux, const struct guest_list *list, const struct err *failure)
{
    struct node_strangers *s = aux;

    if (failure) {
        log_err(LOG_LEVEL_WARNING, failure, "domains are not compared with the instances");
        return;
    }
    s->strangers = NEW_ARRAY(struct stranger, list->count + 1);
    for (size_t i = 0; i < list->count; i++) {
        const struct virt_guest *guest = list->guests[i];
        if (is_strange(s->node, guest->uuid))
            s->strangers[s->count++] = (struct stranger){.uuid = text_dup(guest->uuid),
                                                         .name = text_dup(guest->name),
                                                         .state = guest->state};
    }
    look_up_next(s);
}

void node_strangers_look(struct node_strangers *s)
{
    guest_list_read(s->node->agent, "list guests for strangers", listed, NULL, s);
}
