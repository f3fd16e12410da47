/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A host that comes back from the dead must not run what was evacuated from it meanwhile. The records of
 * evacuations are read, then the instances, which by then are where they are; agent/evacuation.c says what that
 * means. All that must not run is powered off first, in one job; then what is left of those that live elsewhere
 * is removed, some side by side (agent/instance_evacuated.c).
 */
#include "agent/node_internal.h"

#include "agent/evacuation.h"
#include "agent/instance_evacuated.h"
#include "cloud/instances.h"
#include "lib/json.h"
#include "lib/log.h"

LOG_MODULE(evacuated);

enum { RECOVERY_PAUSE_US = 50000, REMOVALS_MAX = 8 };

struct guest {
    char *uuid;
    struct json_object *records; /* Migration primitives */
    struct instance *instance;   /* NULL = its row is gone */
    enum evacuation_verdict verdict;
    bool busy; /* a migration or another operation of it decides, not we */
};

struct node_evacuated {
    struct node *node;
    void (*done)(struct node *node, const struct err *failure);
    struct json_object *context;
    struct guest *guests; /* of the look under way */
    size_t count, next;
    unsigned running;
    struct json_object *held;   /* {uuid: true} that nobody else may start */
    struct json_object *told;   /* {uuid: words} in the log, by the last look */
    struct json_object *report; /* [{"instance", "host", "why"}] of what is left */
    struct loop_timer *timer;
};

/* ---- life ---- */

static void begin_look(void *aux);

struct node_evacuated *node_evacuated_new(struct node *node)
{
    struct node_evacuated *v = NEW(struct node_evacuated);

    v->node = node;
    v->held = json_object_new_object();
    v->told = json_object_new_object();
    v->report = json_object_new_array();
    v->timer = loop_timer_new(node->agent->loop, "evacuated guests", begin_look, v);
    v->context = rpc_context_admin();
    json_add_string(v->context, "read_deleted", "yes");
    return v;
}

static void clear_guests(struct node_evacuated *v)
{
    for (size_t i = 0; i < v->count; i++) {
        free(v->guests[i].uuid);
        json_object_put(v->guests[i].records);
        instance_free(v->guests[i].instance);
    }
    free(STEAL(v->guests));
    v->count = v->next = 0;
}

void node_evacuated_free(struct node_evacuated *v)
{
    if (!v)
        return;
    clear_guests(v);
    loop_timer_free(v->timer);
    json_object_put(v->context);
    json_object_put(v->held);
    json_object_put(v->told);
    json_object_put(v->report);
    free(v);
}

bool node_evacuated_holds(const struct node_evacuated *v, const char *uuid)
{
    return json_has(v->held, uuid);
}

struct json_object *node_evacuated_report(const struct node_evacuated *v)
{
    return v->report;
}

static void end_look(struct node_evacuated *v, const struct err *failure)
{
    clear_guests(v);
    v->done(v->node, failure);
}

/* ---- removing ---- */

static const char *host_of(const struct guest *guest)
{
    const char *host = guest->instance ? instance_host(guest->instance) : NULL;

    return host ? host : "no host";
}

static void note_left(struct node_evacuated *v, const struct guest *guest, const char *why)
{
    struct json_object *o = json_object_new_object();

    json_add_string(o, "instance", guest->uuid);
    json_add_string(o, "host", host_of(guest));
    json_add_string(o, "why", why);
    json_object_array_add(v->report, o);
}

static struct guest *find_guest(const struct node_evacuated *v, const char *uuid)
{
    for (size_t i = 0; i < v->count; i++)
        if (text_equal(v->guests[i].uuid, uuid))
            return &v->guests[i];
    return NULL;
}

static void remove_next(struct node_evacuated *v);

static void removed(struct agent *agent, const char *uuid, const struct err *failure)
{
    struct node_evacuated *v = agent->node->evacuated;
    const struct guest *guest = find_guest(v, uuid);

    if (failure && guest)
        note_left(v, guest, failure->text);
    v->running--;
    remove_next(v);
}

/* Stands for one whose row is gone from the database. */
static struct instance *instance_of_uuid(const char *uuid)
{
    struct object *object = object_new("Instance", "2.7");

    object_set_string(object, "uuid", uuid);
    return instance_wrap(object);
}

static void remove_one(struct node_evacuated *v, const struct guest *guest)
{
    _cleanup_(instance_freep) struct instance *instance =
        guest->instance ? instance_copy(guest->instance) : instance_of_uuid(guest->uuid);
    bool back = guest->verdict == EVACUATION_CLOSE_RECORDS;
    _cleanup_(json_putp) struct json_object *records =
        back ? evacuation_done(guest->records) : json_object_get(guest->records);
    const struct instance_removal removal = {
        .instance = instance,
        .records = records,
        .deleted = guest->verdict == EVACUATION_REMOVE_DELETED,
        .only_records = back,
        .ended = removed,
    };

    if (removal.deleted)
        log_info("instance %s was evacuated from this host and deleted since: what is left of it "
                 "here goes",
                 guest->uuid);
    else if (!back)
        log_info("instance %s was evacuated from this host to %s: what is left of it here goes",
                 guest->uuid, host_of(guest));
    v->running++;
    instance_remove_here(v->node->agent, &removal);
}

static bool can_be_ended(const struct guest *guest)
{
    return !guest->busy && guest->verdict != EVACUATION_UNDER_WAY &&
           guest->verdict != EVACUATION_OWN;
}

static void remove_next(struct node_evacuated *v)
{
    while (v->next < v->count && v->running < REMOVALS_MAX) {
        const struct guest *guest = &v->guests[v->next++];
        if (can_be_ended(guest))
            remove_one(v, guest);
    }
    if (v->running == 0)
        end_look(v, NULL);
}

/* ---- powering off ---- */

struct stopped {
    char *uuid;
    bool ran;
    struct err e;
};

struct stop {
    struct node_evacuated *evacuated;
    struct virt *virt;
    struct stopped *guests;
    size_t count;
};

static void stop_run(void *aux)
{
    struct stop *stop = aux;

    for (size_t i = 0; i < stop->count; i++) {
        struct stopped *guest = &stop->guests[i];
        enum virt_state state;
        if (virt_guest_state(stop->virt, guest->uuid, &state, &guest->e) < 0)
            continue;
        guest->ran = state == VIRT_STATE_RUNNING || state == VIRT_STATE_PAUSED;
        if (guest->ran)
            (void)virt_guest_power_off(stop->virt, guest->uuid, &guest->e);
    }
}

static void tell_stopped(const struct stopped *guest)
{
    if (err_is_set(&guest->e))
        log_err(LOG_LEVEL_ERROR, &guest->e,
                "instance %s was evacuated from this host and may run here still: it cannot be "
                "powered off",
                guest->uuid);
    else if (guest->ran)
        log_warning("instance %s ran here although it was evacuated from this host: it is powered "
                    "off",
                    guest->uuid);
}

static void stop_done(void *aux, enum work_end end)
{
    const struct stop *stop = aux;
    struct node_evacuated *v = stop->evacuated;

    if (end != WORK_DONE || v->node->agent->closing)
        return;
    for (size_t i = 0; i < stop->count; i++)
        tell_stopped(&stop->guests[i]);
    v->next = 0;
    remove_next(v);
}

static void stop_release(void *aux)
{
    struct stop *stop = aux;

    for (size_t i = 0; i < stop->count; i++)
        free(stop->guests[i].uuid);
    free(stop->guests);
    free(stop);
}

static bool must_not_run(const struct guest *guest)
{
    return !guest->busy && guest->verdict != EVACUATION_CLOSE_RECORDS &&
           guest->verdict != EVACUATION_OWN;
}

static void stop_all(struct node_evacuated *v)
{
    struct stop *stop = NEW(struct stop);
    struct work work = {.name = "power off evacuated guests",
                        .run = stop_run,
                        .done = stop_done,
                        .release = stop_release,
                        .aux = stop};

    stop->evacuated = v;
    stop->virt = v->node->agent->virt;
    stop->guests = NEW_ARRAY(struct stopped, v->count);
    for (size_t i = 0; i < v->count; i++)
        if (must_not_run(&v->guests[i]))
            stop->guests[stop->count++].uuid = text_dup(v->guests[i].uuid);
    workers_submit(v->node->agent->workers, &work);
}

/* ---- judging ---- */

static bool is_busy(const struct agent *agent, const char *uuid)
{
    if (operation_running(agent, uuid))
        return true;
    for (const struct migration *m = agent->migrations; m; m = m->next)
        if (!machine_state_is_final(m->state) && text_equal(m->instance_uuid, uuid))
            return true;
    return false;
}

/* What an operator has to know, once for as long as it is so. */
static const char *words_of(const struct guest *guest)
{
    if (guest->busy)
        return "was evacuated from this host, but a migration or another operation of it is under "
               "way here: it is left to that";
    if (guest->verdict == EVACUATION_UNDER_WAY)
        return "is being evacuated from this host: it does not run here, and what there is of it "
               "stays until the evacuation has ended";
    if (guest->verdict == EVACUATION_OWN)
        return "is on this host and well, so the record of an evacuation that never ended is left "
               "alone";
    return NULL;
}

static void judge(struct node_evacuated *v, struct guest *guest, struct json_object *before)
{
    const struct agent *agent = v->node->agent;

    guest->verdict = evacuation_judge(guest->instance, guest->records, agent->host);
    guest->busy = is_busy(agent, guest->uuid);
    if (guest->busy || must_not_run(guest))
        json_add_bool(v->held, guest->uuid, true);
    const char *words = words_of(guest);
    if (!words)
        return;
    if (guest->busy || guest->verdict == EVACUATION_UNDER_WAY)
        note_left(v, guest, words);
    json_add_string(v->told, guest->uuid, words);
    if (!text_equal(json_get_string(before, guest->uuid, NULL), words))
        log_warning("instance %s %s", guest->uuid, words);
}

static void judge_all(struct node_evacuated *v)
{
    _cleanup_(json_putp) struct json_object *before = STEAL(v->told);

    v->told = json_object_new_object();
    json_object_put(v->held);
    json_object_put(v->report);
    v->held = json_object_new_object();
    v->report = json_object_new_array();
    for (size_t i = 0; i < v->count; i++)
        judge(v, &v->guests[i], before);
    if (v->count > 0)
        stop_all(v);
    else
        end_look(v, NULL);
}

/* ---- looking up ---- */

static void ask_next(struct node_evacuated *v);

static void instance_found(void *aux, struct json_object *result, const struct err *failure)
{
    struct node_evacuated *v = aux;
    struct err e = ERR_INIT;

    if (v->node->agent->closing)
        return;
    if (failure && failure->code != ERR_NO_INSTANCE) {
        end_look(v, failure);
        return;
    }
    if (!failure && instance_from_json(result, &v->guests[v->next].instance, &e) < 0) {
        end_look(v, &e);
        return;
    }
    v->next++;
    ask_next(v);
}

static void ask_next(struct node_evacuated *v)
{
    if (v->next == v->count)
        judge_all(v);
    else
        cloud_instance_get(v->node->agent->cloud, v->context, v->guests[v->next].uuid,
                           instance_found, v);
}

static void take_record(struct node_evacuated *v, struct json_object *record)
{
    const char *uuid = json_get_string(json_get(record, "nova_object.data"), "instance_uuid", NULL);
    struct err e = ERR_INIT;

    if (text_check_uuid(uuid, "instance_uuid of an evacuation", &e) < 0) {
        log_err(LOG_LEVEL_WARNING, &e, "the record of an evacuation is left alone");
        return;
    }
    struct guest *guest = find_guest(v, uuid);
    if (!guest) {
        v->guests = mem_resize(v->guests, (v->count + 1) * sizeof(*v->guests));
        guest = &v->guests[v->count++];
        *guest = (struct guest){.uuid = text_dup(uuid), .records = json_object_new_array()};
    }
    json_object_array_add(guest->records, json_object_get(record));
}

static void records_read(void *aux, struct json_object *result, const struct err *failure)
{
    struct node_evacuated *v = aux;

    if (v->node->agent->closing)
        return;
    if (failure) {
        end_look(v, failure);
        return;
    }
    for (size_t i = 0; i < json_object_array_length(result); i++)
        take_record(v, json_object_array_get_idx(result, i));
    ask_next(v);
}

/* What the journal knows to be under way is seen first. */
static void begin_look(void *aux)
{
    struct node_evacuated *v = aux;
    struct agent *agent = v->node->agent;

    if (agent->closing)
        return;
    if (!agent->recovered)
        loop_timer_arm(v->timer, RECOVERY_PAUSE_US);
    else
        cloud_node_evacuations(agent->cloud, v->context, records_read, v);
}

void node_evacuated_look(struct node_evacuated *v,
                         void (*done)(struct node *node, const struct err *failure))
{
    v->done = done;
    begin_look(v);
}

struct json_object *node_evacuated_without(const struct node_evacuated *v, struct json_object *list)
{
    struct json_object *others = json_object_new_array();

    for (size_t i = 0; i < json_object_array_length(list); i++) {
        struct json_object *primitive = json_object_array_get_idx(list, i);
        const char *uuid = json_get_string(json_get(primitive, "nova_object.data"), "uuid", NULL);
        if (!uuid || !node_evacuated_holds(v, uuid))
            json_object_array_add(others, json_object_get(primitive));
    }
    return others;
}
