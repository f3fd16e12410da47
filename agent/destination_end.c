/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The destination's end, and what the source says at it: the last word, or to take back; also when that migration is
 * not in memory any more.
 */
#include "agent/destination.h"

#include "agent/forwarding.h"
#include "lib/json.h"
#include "lib/log.h"
#include "virt/storage.h"

LOG_MODULE(destination);

#define ROLLBACK_EVENT "compute_rollback_live_migration_at_destination"

/* ---- the end ---- */

static void forgotten(struct migration *m)
{
    migration_forget_in(m, m->state == MACHINE_DESTINATION_COMPLETED ? MIGRATION_LINGER_US : 0);
}

void destination_end(struct migration *m)
{
    if (m->agent->switchover)
        switchover_forget(m->agent->switchover, m->uuid);
    forwarding_end(m);
    migration_wait_end(m);
    if (m->state == MACHINE_DESTINATION_COMPLETED)
        destination_answer_source(m);
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
    struct virt *virt;
    struct conf *conf;
    char *uuid;
    struct rpc_request *request;
    bool may_be_paused, remove;
    int result;
    struct err e;
};

/* A marked leftover of no domain is removed; anything else is left alone. */
static int remove_leftover_of(const struct stray *stray, struct err *e)
{
    enum virt_state state;

    if (virt_guest_state(stray->virt, stray->uuid, &state, e) < 0)
        return -1;
    return state == VIRT_STATE_NONE
               ? virt_storage_check_directory(stray->conf, stray->uuid, false, e)
               : 0;
}

static void stray_run(void *aux)
{
    struct stray *stray = aux;

    stray->result = stray->remove ? remove_leftover_of(stray, &stray->e)
                                  : destination_confirm(stray->virt, stray->conf, stray->uuid,
                                                        stray->may_be_paused, &stray->e);
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

    conf_unref(stray->conf);
    free(stray->uuid);
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

    stray->virt = agent->virt;
    stray->conf = conf_ref(agent->conf);
    stray->uuid = text_dup(instance_uuid(instance));
    stray->request = request;
    stray->may_be_paused = destination_may_be_paused(instance);
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
