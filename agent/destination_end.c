/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The destination's side once it is prepared: the guest's arrival, the source's last word, taking back what
 * was made, and what comes from a source whose migration is not in memory any more.
 */
#include "agent/destination.h"

#include "agent/carrying.h"
#include "agent/forwarding.h"
#include "agent/node.h"
#include "agent/parts.h"
#include "cloud/instances.h"
#include "cloud/ports.h"
#include "lib/clock.h"
#include "lib/json.h"
#include "lib/log.h"
#include "virt/storage.h"

LOG_MODULE(destination);

#define ROLLBACK_EVENT "compute_rollback_live_migration_at_destination"

enum { LINGER_US = 2500000 /* net_announce() repeats for so long */ };
#define BACK_PAUSE_US (3 * USEC_PER_SEC) /* between two tries while libvirtd is away */
/* Silence of a source after which it is asked: libvirt's own transfer may take long. */
#define WATCH_US     (300 * USEC_PER_SEC)
#define UNSETTLED_US (5 * USEC_PER_SEC)
#define ANSWER_US    (5 * USEC_PER_SEC)

/* ---- arrival ---- */

void destination_arrived(struct migration *m)
{
    migration_set_status(m, "running");
    log_info("migration %s: instance %s runs here now", m->uuid, m->instance_uuid);
}

struct settle {
    struct parts *parts; /* NULL for a stray */
    enum virt_state state;
    struct virt *virt;
    struct conf *conf;
    char *uuid;
    bool paused_is_right;
};

static void settle_release(struct migration_job *job)
{
    struct settle *settle = job->aux;

    conf_unref(settle->conf);
    free(settle->uuid);
    if (settle->parts)
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
static int check_memory(const struct settle *settle, struct err *e)
{
    enum virt_post_copy post_copy;

    if (virt_migration_post_copy(settle->virt, settle->uuid, &post_copy, e) < 0)
        return -1;
    if (post_copy == VIRT_POST_COPY_NONE)
        return 0;
    return err_set(e, ERR_TIMEOUT,
                   "instance %s is here without a part of its memory: its post-copy %s",
                   settle->uuid, post_copy == VIRT_POST_COPY_FAILED ? "failed" : "has not ended");
}

/* The word that the source deletes its disks on: read back from libvirt, now. */
static int settle_run(struct migration_job *job, struct err *e)
{
    struct settle *settle = job->aux;
    enum virt_state *state = &settle->state;

    if (virt_guest_state(settle->virt, settle->uuid, state, e) < 0)
        return -1;
    if (*state != VIRT_STATE_RUNNING && !(*state == VIRT_STATE_PAUSED && settle->paused_is_right))
        return err_set(e, ERR_INSTANCE_STATE, "instance %s does not run here: it is %s",
                       settle->uuid, virt_state_name(*state));
    if (check_memory(settle, e) < 0)
        return -1;
    return settle_directory(settle->conf, settle->uuid, e);
}

static struct settle *settle_new(struct agent *agent, const struct instance *instance)
{
    struct settle *settle = NEW(struct settle);

    settle->virt = agent->virt;
    settle->conf = conf_ref(agent->conf);
    settle->uuid = text_dup(instance_uuid(instance));
    settle->paused_is_right = instance_power_state(instance) == 3;
    return settle;
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

/* The guest is here, and the source may go on. */
static void answer_source(struct migration *m)
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

    answer_source(told->migration);
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
        answer_source(m);
    carrying_wait(m, network_turned, told_new(m, done, aux));
}

/* A control plane that is slow does not make the source think that its guest was lost. */
static void answer_late(void *aux)
{
    answer_source(aux);
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
    struct settle *settle = settle_new(m->agent, m->instance);

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

/* ---- taking back ---- */

struct back {
    struct undo *undo;
    struct virt *virt;
    char *uuid;
    bool may_have_come; /* the source was told that it may send */
    bool was_here;      /* the guest is not of this attempt: its ports are not either */
};

static void back_release(struct migration_job *job)
{
    struct back *back = job->aux;

    undo_free(back->undo);
    free(back->uuid);
    free(back);
}

/* Where something was made there was no domain: what is there now came, whatever the record knows of it. */
static int look_for_guest(struct back *back, struct err *e)
{
    enum virt_state state = VIRT_STATE_NONE;
    bool made = undo_length(back->undo) > 0;

    if (back->may_have_come)
        return 0;
    if (virt_guest_state(back->virt, back->uuid, &state, made ? e : NULL) < 0)
        return made ? -1 : 0;
    back->may_have_come = made && state != VIRT_STATE_NONE;
    back->was_here = !made && state != VIRT_STATE_NONE;
    return 0;
}

static int back_run(struct migration_job *job, struct err *e)
{
    struct back *back = job->aux;

    if (look_for_guest(back, e) < 0)
        return -1;
    /* a domain that was here before is not ours, and nothing was made over it */
    if (back->may_have_come && virt_guest_destroy_incoming(back->virt, back->uuid, e) < 0)
        return -1; /* it runs, or libvirt is away: its disks stay */
    return undo_run(back->undo, e);
}

static void undone_journaled(struct migration_job *job)
{
    if (job->result < 0)
        log_err(LOG_LEVEL_WARNING, &job->e,
                "migration %s: its record still says what was taken back", job->migration->uuid);
}

/* Each step again would do no harm, until another migration of the guest comes to this host: the record may
 * have to wait long for the word that it is over. */
static void journal_undone(struct migration *m)
{
    struct migration_job job = {.name = "journal", .done = undone_journaled};

    migration_submit(m, &job, false, true);
}

/* The source does it too; a Python one leaves it to its destination. */
static void remove_bindings(struct migration *m, cloud_done_fn done, void *aux)
{
    cloud_bindings(m->agent->cloud, m->context, m->instance, m->data, m->agent->host,
                   CLOUD_BINDING_DELETE, done, aux);
}

static void submit_back(struct migration *m);

static void back_again(void *aux)
{
    submit_back(aux);
}

static void back_done(struct migration_job *job)
{
    struct migration *m = job->migration;
    struct back *back = job->aux;

    destination_take_undo(m, back->undo);
    if (job->result < 0 && migration_tries_again(m, &job->e)) {
        log_err(LOG_LEVEL_WARNING, &job->e, "migration %s: taking back on %s waits", m->uuid,
                m->destination_host);
        destination_refuse_request(m);
        migration_wait(m, "take back again", BACK_PAUSE_US, back_again);
        return;
    }
    if (job->result < 0) {
        migration_fail(m, &job->e);
        log_err(LOG_LEVEL_ERROR, &job->e, "migration %s: taking back on %s", m->uuid,
                m->destination_host);
    }
    destination_refuse_request(m);
    if (job->result < 0) {
        machine_event(m, MACHINE_EVENT_ROLLBACK_FAILED);
        return;
    }
    migration_stamp(m, TIMELINE_TAKEN_BACK);
    journal_undone(m);
    struct parts *parts = parts_open(m, MACHINE_EVENT_ROLLED_BACK);
    if (!back->was_here)
        parts_add(parts, "the port bindings of this host", remove_bindings);
    parts_close(parts);
}

static void submit_back(struct migration *m)
{
    struct back *back = NEW(struct back);
    struct migration_job job = {.name = "take back",
                                .run = back_run,
                                .done = back_done,
                                .release = back_release,
                                .aux = back,
                                .goes_on_without_record = true};

    back->undo =
        destination_undo_of(m, NULL); /* each step saved would cost more than it undone again */
    back->virt = m->agent->virt;
    back->uuid = text_dup(m->instance_uuid);
    back->may_have_come = m->destination_prepared;
    migration_submit(m, &job, false, true);
}

void destination_roll_back(struct migration *m)
{
    migration_wait_end(m);
    net_disarm(m->armed);
    m->armed = NULL;
    m->tries = 0;
    submit_back(m);
}

/* ---- the end ---- */

static void forgotten(struct migration *m)
{
    migration_forget_in(m, m->state == MACHINE_DESTINATION_COMPLETED ? LINGER_US : 0);
}

void destination_end(struct migration *m)
{
    if (m->agent->switchover)
        switchover_forget(m->agent->switchover, m->uuid);
    forwarding_end(m);
    migration_wait_end(m);
    if (m->state == MACHINE_DESTINATION_COMPLETED)
        answer_source(m);
    if (m->state == MACHINE_DESTINATION_COMPLETED && m->armed)
        net_announce(m->armed);
    migration_stamp(m, TIMELINE_ENDED);
    if (m->told_back)
        cloud_event_finish(m->agent->cloud, m->context, m->instance_uuid, ROLLBACK_EVENT, NULL);
    migration_end(m, machine_state_text(m->state), forgotten);
}

void destination_park(struct migration *m)
{
    log_error(
        "migration %s of %s: what was made here could not be taken back (%s); it is kept until "
        "the source asks again or an operator looks",
        m->uuid, m->instance_uuid, m->message ? m->message : "no reason given");
    migration_set_status(m, "error");
}

/* ---- from the source, after the move or instead of it ---- */

/* Without a migration in memory (a restart in between, a repetition): the facts of the host decide. */
struct stray {
    struct agent *agent;
    struct rpc_request *request;
    struct settle *settle;
    bool remove;
    int result;
    struct err e;
};

static void stray_run(void *aux)
{
    struct stray *stray = aux;
    struct migration_job job = {.aux = stray->settle};
    enum virt_state state = VIRT_STATE_NONE;

    if (!stray->remove) {
        stray->result = settle_run(&job, &stray->e);
        return;
    }
    stray->result = virt_guest_state(stray->settle->virt, stray->settle->uuid, &state, &stray->e);
    /* a marked leftover of no domain is removed; anything else is left alone */
    if (stray->result == 0 && state == VIRT_STATE_NONE)
        stray->result = virt_storage_check_directory(stray->settle->conf, stray->settle->uuid,
                                                     false, &stray->e);
}

static void stray_done(void *aux, enum work_end end)
{
    struct stray *stray = aux;

    if (end != WORK_DONE)
        rpc_request_free(stray->request);
    else if (stray->result < 0)
        rpc_fail(stray->request, &stray->e);
    else
        rpc_reply(stray->request, NULL);
    stray->request = NULL;
}

static void stray_release(void *aux)
{
    struct stray *stray = aux;
    struct migration_job job = {.aux = stray->settle};

    settle_release(&job);
    free(stray);
}

static void handle_stray(struct agent *agent, struct rpc_request *request,
                         const struct instance *instance, bool remove_leftover)
{
    struct stray *stray = NEW(struct stray);
    struct work work = {.name = "stray",
                        .run = stray_run,
                        .done = stray_done,
                        .release = stray_release,
                        .aux = stray};

    stray->agent = agent;
    stray->request = request;
    stray->settle = settle_new(agent, instance);
    stray->remove = remove_leftover;
    workers_submit(agent->workers, &work);
}

/* The migration of the request's instance; NULL = there is none, and the request is seen to. */
static struct migration *find_or_handle(struct agent *agent, struct rpc_request *request,
                                        bool remove_leftover)
{
    struct err e = ERR_INIT;
    _cleanup_(instance_freep) struct instance *instance = NULL;

    if (instance_from_json(rpc_request_arg(request, "instance"), &instance, &e) < 0) {
        rpc_fail(request, &e);
        return NULL;
    }
    struct migration *m =
        migration_find_instance(agent, MIGRATION_DESTINATION, instance_uuid(instance));
    if (!m)
        handle_stray(agent, request, instance, remove_leftover);
    return m;
}

void destination_post(struct agent *agent, struct rpc_request *request)
{
    struct err e = ERR_INIT;
    struct migration *m = find_or_handle(agent, request, false);

    if (!m)
        return;
    /* asked again while the first question is being answered, or while we asked the source; or while a request
     * that came again late is taken back: after it the host tells */
    if (m->request || m->state == MACHINE_DESTINATION_SETTLING ||
        m->state == MACHINE_DESTINATION_ROLLING_BACK) {
        err_set(&e, ERR_TIMEOUT, "migration %s is %s", m->uuid, machine_state_text(m->state));
        rpc_fail(request, &e);
        return;
    }
    if (m->state != MACHINE_DESTINATION_PREPARED && m->state != MACHINE_DESTINATION_HERE &&
        m->state != MACHINE_DESTINATION_PARKED) {
        err_set(&e, ERR_INSTANCE_STATE, "instance %s: migration %s is %s here", m->instance_uuid,
                m->uuid, machine_state_text(m->state));
        rpc_fail(request, &e);
        return;
    }
    m->request = request;
    machine_event(m, MACHINE_EVENT_POST);
}

/* The fence: a late rollback of an earlier attempt must not touch this one. */
static bool is_of_migration(const struct migration *m, struct rpc_request *request)
{
    _cleanup_(migrate_data_freep) struct migrate_data *data = NULL;

    if (migrate_data_from_json(rpc_request_arg(request, "migrate_data"), &data, NULL) < 0)
        return false;
    const char *uuid = migrate_data_migration_uuid(data);
    return !uuid || !m->record || text_equal(uuid, m->uuid);
}

void destination_rollback(struct agent *agent, struct rpc_request *request)
{
    struct migration *m = find_or_handle(agent, request, true);

    if (!m)
        return;
    if (!is_of_migration(m, request)) {
        log_warning("a rollback of another migration of instance %s came while %s is %s; left out",
                    m->instance_uuid, m->uuid, machine_state_text(m->state));
        rpc_request_free(request);
        return;
    }
    rpc_request_free(request);
    if (m->state == MACHINE_DESTINATION_SETTLING) {
        log_warning(
            "migration %s: a rollback came while the source's last word is settled; left out",
            m->uuid);
        return;
    }
    if (!err_is_set(&m->failure)) {
        struct err e = ERR_INIT;
        err_set(&e, ERR_MIGRATION, "the source took the migration back");
        migration_fail(m, &e);
    }
    m->told_back = true;
    migration_stamp(m, TIMELINE_BACK_ASKED);
    cloud_event_start(agent->cloud, m->context, m->instance_uuid, ROLLBACK_EVENT);
    machine_event(m, MACHINE_EVENT_ROLLBACK);
}
