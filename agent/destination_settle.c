/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The guest's arrival at the destination, and the word that the source waits for: read back from libvirt, and then told
 * to Nova and Neutron.
 */
#include "agent/destination.h"

#include "agent/carrying.h"
#include "agent/node.h"
#include "agent/parts.h"
#include "cloud/instances.h"
#include "cloud/ports.h"
#include "lib/clock.h"
#include "lib/json.h"
#include "lib/log.h"
#include "virt/storage.h"

LOG_MODULE(destination);

#define UNSETTLED_US (5 * USEC_PER_SEC)
#define ANSWER_US    (5 * USEC_PER_SEC)

/* ---- arrival ---- */

void destination_arrived(struct migration *m)
{
    migration_set_status(m, "running");
    log_info("migration %s: instance %s runs here now", m->uuid, m->instance_uuid);
}

struct settle {
    struct parts *parts;
    struct virt *virt;
    struct conf *conf;
    char *uuid;
    bool may_be_paused;
};

static void settle_release(struct migration_job *job)
{
    struct settle *settle = job->aux;

    conf_unref(settle->conf);
    free(settle->uuid);
    parts_end(settle->parts);
    free(settle);
}

/* A directory of ours becomes the guest's; on shared storage, and when it is settled, there is none. */
static int settle_directory(const struct conf *conf, const char *uuid, struct err *e)
{
    _cleanup_(str_freep) char *migration = NULL;
    struct err reason = ERR_INIT;

    if (virt_storage_leftover_migration(conf, uuid, &migration, &reason) == 0)
        return virt_storage_settle(conf, uuid, e);
    if (reason.code == ERR_NO_MIGRATION)
        return 0;
    if (e)
        *e = reason;
    return -1;
}

/* While it waits for memory it is said to run. When libvirt has not seen yet that all came, or never will, the source
 * asks again for a while, and then an operator has to look: with the source's QEMU the rest of the guest is gone. */
static int check_memory(struct virt *virt, const char *uuid, struct err *e)
{
    enum virt_post_copy post_copy;

    if (virt_migration_post_copy(virt, uuid, &post_copy, e) < 0)
        return -1;
    if (post_copy == VIRT_POST_COPY_NONE)
        return 0;
    return err_set(e, ERR_TIMEOUT,
                   "instance %s is here without a part of its memory: its post-copy %s", uuid,
                   post_copy == VIRT_POST_COPY_FAILED ? "failed" : "has not ended");
}

bool destination_may_be_paused(const struct instance *instance)
{
    return instance_power_state(instance) == 3;
}

int destination_confirm(struct virt *virt, const struct conf *conf, const char *uuid,
                        bool may_be_paused, struct err *e)
{
    enum virt_state state;

    if (virt_guest_state(virt, uuid, &state, e) < 0)
        return -1;
    if (state != VIRT_STATE_RUNNING && !(state == VIRT_STATE_PAUSED && may_be_paused))
        return err_set(e, ERR_INSTANCE_STATE, "instance %s does not run here: it is %s", uuid,
                       virt_state_name(state));
    if (check_memory(virt, uuid, e) < 0)
        return -1;
    return settle_directory(conf, uuid, e);
}

static int settle_run(struct migration_job *job, struct err *e)
{
    const struct settle *settle = job->aux;

    return destination_confirm(settle->virt, settle->conf, settle->uuid, settle->may_be_paused, e);
}

/* ---- what Nova and Neutron are told ---- */

/* Nova's is None; an agent of ours is told what was seen here. */
static struct json_object *answer(const struct migration *m)
{
    struct json_object *o;

    if (!destination_peer_is_ours(m))
        return NULL;
    o = json_object_new_object();
    json_add(o, "computed_timeline", timeline_to_peer(&m->timeline));
    return o;
}

void destination_answer_source(struct migration *m)
{
    if (m->request) {
        cloud_event_finish(m->agent->cloud, m->context, m->instance_uuid,
                           "compute_post_live_migration_at_destination", NULL);
        migration_stamp(m, TIMELINE_CONFIRMED);
        rpc_reply(m->request, answer(m));
    }
    m->request = NULL;
}

struct told {
    struct migration *migration;
    cloud_done_fn done;
    void *aux;
};

static struct told *told_new(struct migration *m, cloud_done_fn done, void *aux)
{
    struct told *told = NEW(struct told);

    *told = (struct told){migration_ref(m), done, aux};
    return told;
}

static void told_end(struct told *told, const struct err *failure)
{
    told->done(told->aux, failure);
    migration_unref(told->migration);
    free(told);
}

/* First of all, where it is. */
static void save_instance(struct migration *m, cloud_done_fn done, void *aux)
{
    _cleanup_(instance_freep) struct instance *here = instance_copy(m->instance);

    object_clear_changes(here->object);
    instance_set_host(here, m->agent->host);
    instance_set_node(here, m->agent->host);
    node_own_instance(m->agent, here);
    instance_set_power_state(here, m->initially_paused ? 3 : 1);
    cloud_instance_save(m->agent->cloud, m->context, here, "migrating", done, aux);
}

static void task_told(void *aux, const struct err *failure)
{
    struct told *told = aux;

    destination_answer_source(told->migration);
    told_end(told, failure);
}

/* With the task state the server is ACTIVE for those who wait for it: the next migration may begin. */
static void end_task(struct migration *m, cloud_done_fn done, void *aux)
{
    _cleanup_(instance_freep) struct instance *here = instance_copy(m->instance);

    object_clear_changes(here->object);
    instance_set_task_state(here, NULL);
    instance_set_progress(here, 0);
    cloud_instance_save(m->agent->cloud, m->context, here, "migrating", task_told,
                        told_new(m, done, aux));
}

/*
 * The task ends when the source's bindings are gone: the way back would find one on that host and be told
 * that there is one already. A Neutron that fails holds it up no longer than its first answer.
 */
static void ports_told(void *aux, const struct err *failure)
{
    struct told *told = aux;
    struct migration *m = told->migration;

    if (!m->task_ended && m->parts && !m->agent->closing) {
        m->task_ended = true;
        parts_add(m->parts, "the instance's task state", end_task);
    }
    told_end(told, failure);
}

static void cache_saved(void *aux, const struct err *failure)
{
    struct told *told = aux;
    struct migration *m = told->migration;

    if (failure)
        ports_told(told, failure);
    else
        cloud_bindings(m->agent->cloud, m->context, m->instance, m->data, m->source_host,
                       CLOUD_BINDING_DELETE, ports_told, told);
}

static void ports_moved(void *aux, struct json_object *network_info, const struct err *failure)
{
    struct told *told = aux;
    struct migration *m = told->migration;

    if (failure && failure->code == ERR_NOT_IMPLEMENTED) /* no Neutron: nothing is to be moved */
        ports_told(told, NULL);
    else if (failure)
        ports_told(told, failure);
    else
        cloud_info_cache_save(m->agent->cloud, m->context, m->instance_uuid, network_info,
                              cache_saved, told);
}

/* The bindings are this host's now if the source activated them; if it could not, this does. */
static void network_turned(void *aux, const struct err *failure)
{
    struct told *told = aux;
    struct migration *m = told->migration;

    if (m->agent->closing)
        told_end(told, failure);
    else
        cloud_ports_move_here(m->agent->cloud, m->context, m->instance, ports_moved, told);
}

static void move_ports(struct migration *m, cloud_done_fn done, void *aux)
{
    if (carrying_is_on(m)) /* the source need not wait for its answer until then */
        destination_answer_source(m);
    carrying_wait(m, network_turned, told_new(m, done, aux));
}

/* A control plane that is slow does not make the source think that its guest was lost. */
static void answer_late(void *aux)
{
    destination_answer_source(aux);
}

static void settled(struct migration_job *job)
{
    struct migration *m = job->migration;
    struct settle *settle = job->aux;

    if (job->result == 0) {
        migration_wait(m, "answer the source", ANSWER_US, answer_late);
        parts_add(settle->parts, "the instance's record", save_instance);
        parts_add(settle->parts, "the ports", move_ports);
        return;
    }
    log_err(LOG_LEVEL_WARNING, &job->e, "migration %s", m->uuid);
    if (m->request) {
        cloud_event_finish(m->agent->cloud, m->context, m->instance_uuid,
                           "compute_post_live_migration_at_destination", &job->e);
        rpc_fail(m->request, &job->e);
    }
    m->request = NULL;
    machine_event(m, MACHINE_EVENT_SETTLE_FAILED);
}

void destination_settle(struct migration *m)
{
    struct migration_job job = {
        .name = "settle", .run = settle_run, .done = settled, .release = settle_release};
    struct settle *settle = NEW(struct settle);

    settle->virt = m->agent->virt;
    settle->conf = conf_ref(m->agent->conf);
    settle->uuid = text_dup(m->instance_uuid);
    settle->may_be_paused = destination_may_be_paused(m->instance);
    if (m->request)
        cloud_event_start(m->agent->cloud, m->context, m->instance_uuid,
                          "compute_post_live_migration_at_destination");
    m->task_ended = false;
    settle->parts = parts_open(m, MACHINE_EVENT_SETTLED); /* ended by settle_release() */
    job.aux = settle;
    migration_submit(m, &job, false, false);
}

/* The source asks again; if it does not, it is asked. */
void destination_unsettled(struct migration *m)
{
    recovery_watch(m, UNSETTLED_US);
}
