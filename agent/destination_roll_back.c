/* SPDX-License-Identifier: Apache-2.0 */
/* Taking back at the destination what was made for a guest that does not come. */
#include "agent/destination.h"

#include "agent/parts.h"
#include "cloud/ports.h"
#include "lib/log.h"

LOG_MODULE(destination);

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
        migration_wait(m, "take back again", MIGRATION_TRY_PAUSE_US, back_again);
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
    atomic_store(&m->wiring_ends, true);
    migration_wait_end(m);
    net_disarm(m->armed);
    m->armed = NULL;
    m->tries = 0;
    submit_back(m);
}
