/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The source's side after libvirt's call, where its outcome is told and where all ends: who has the guest, by
 * libvirt's answer or by a look at the domain; the last words of a migration, and its parking. In between are
 * source_finish.c (the guest has moved) and source_roll_back.c (it stays). A guest that may run at the destination
 * is never resumed here (promise S1).
 */
#include "agent/source.h"

#include <stdio.h>

#include "agent/forwarding.h"
#include "lib/clock.h"
#include "lib/log.h"
#include "lib/metrics.h"

LOG_MODULE(source);

enum { OBSERVE_PERIOD_US = 1000000 };

/* ---- the outcome ---- */

static void not_moved(struct migration *m, enum machine_state final, const struct err *e)
{
    m->final_state = final;
    migration_fail(m, e);
    machine_event(m, MACHINE_EVENT_NOT_MOVED);
}

void source_outcome(struct migration *m, enum virt_outcome outcome, const struct err *e)
{
    /* a post-copy that failed has the guest's memory on both hosts: what is here is looked at */
    if ((outcome == VIRT_OUTCOME_FAILED && m->post_copy_running) ||
        (outcome != VIRT_OUTCOME_COMPLETED && m->state == MACHINE_SOURCE_RECOVERING))
        outcome = VIRT_OUTCOME_UNKNOWN;
    if (e)
        log_err(LOG_LEVEL_WARNING, e, "migration %s to %s", m->uuid, m->destination_host);
    switch (outcome) {
    case VIRT_OUTCOME_COMPLETED:
        machine_event(m, MACHINE_EVENT_MOVED);
        return;
    case VIRT_OUTCOME_UNKNOWN:
        machine_event(m, MACHINE_EVENT_UNKNOWN);
        return;
    case VIRT_OUTCOME_CANCELLED:
        not_moved(m, MACHINE_SOURCE_CANCELLED, e);
        return;
    case VIRT_OUTCOME_FAILED:
        not_moved(m, MACHINE_SOURCE_FAILED, e);
        return;
    }
}

/* ---- observing ---- */

struct look_again {
    struct virt *virt;
    char *uuid;
    enum virt_state state;
    struct virt_job job;
    bool here;    /* the guest is */
    bool sampled; /* libvirt told whether it is being moved */
};

static void look_again_release(struct migration_job *job)
{
    struct look_again *look = job->aux;

    free(look->uuid);
    free(look);
}

static int look_again_run(struct migration_job *job, struct err *e)
{
    struct look_again *look = job->aux;

    if (virt_guest_state(look->virt, look->uuid, &look->state, e) < 0)
        return -1;
    look->here = look->state == VIRT_STATE_RUNNING || look->state == VIRT_STATE_PAUSED;
    look->sampled =
        look->here && virt_migration_sample(look->virt, look->uuid, &look->job, NULL) == 0;
    return 0;
}

static void look_again_later(struct migration *m);

static void looked_again(struct migration_job *job)
{
    struct migration *m = job->migration;
    struct look_again *look = job->aux;
    struct err e = ERR_INIT;

    if (m->state != MACHINE_SOURCE_OBSERVING)
        return;
    if (look->sampled && look->job.active && look->job.post_copy_failed) {
        machine_event(m, MACHINE_EVENT_LOST);
        return;
    }
    if (look->sampled && look->job.active && look->job.post_copy)
        source_post_copy_recovered(m, clock_monotonic_us());
    if (job->result < 0 || look->here != look->sampled || look->job.active) {
        look_again_later(m); /* libvirt is away or does not tell, or it still runs */
        return;
    }
    switch (look->state) {
    case VIRT_STATE_NONE:
    case VIRT_STATE_SHUTOFF:
        machine_event(m, MACHINE_EVENT_MOVED);
        return;
    case VIRT_STATE_RUNNING:
        err_set(&e, ERR_MIGRATION,
                "the migration ended while libvirt or this agent was away; "
                "the guest runs on %s",
                m->source_host);
        log_err(LOG_LEVEL_WARNING, &e, "migration %s to %s", m->uuid, m->destination_host);
        not_moved(m, m->abort_requested ? MACHINE_SOURCE_CANCELLED : MACHINE_SOURCE_FAILED, &e);
        return;
    default:
        machine_event(m, MACHINE_EVENT_AMBIGUOUS);
    }
}

void source_look_again(struct migration *m)
{
    struct look_again *look = NEW(struct look_again);
    struct migration_job job = {.name = "observe",
                                .run = look_again_run,
                                .done = looked_again,
                                .release = look_again_release,
                                .aux = look};

    look->virt = m->agent->virt;
    look->uuid = text_dup(m->instance_uuid);
    migration_submit(m, &job, false, false);
}

static void look_again(void *aux)
{
    source_look_again(aux);
}

static void look_again_later(struct migration *m)
{
    migration_wait(m, "observe", OBSERVE_PERIOD_US, look_again);
}

void source_observe(struct migration *m)
{
    log_warning("migration %s: libvirt's answer is missing; the guest's state decides", m->uuid);
    migration_wait_end(m);
    monitor_start(m);
    source_look_again(m);
}

/* ---- the end ---- */

bool source_abort_is_requested(const struct migration *m)
{
    return m->abort_requested;
}

bool source_ends_completed(const struct migration *m)
{
    return m->state == MACHINE_SOURCE_COMPLETED;
}

bool source_ends_failed(const struct migration *m)
{
    return m->final_state == MACHINE_SOURCE_FAILED;
}

bool source_ends_cancelled(const struct migration *m)
{
    return m->final_state == MACHINE_SOURCE_CANCELLED;
}

static void log_end(const struct migration *m)
{
    const struct migration_progress *p = &m->progress;

    if (m->state == MACHINE_SOURCE_COMPLETED && p->started_us == 0) {
        log_info("migration %s of %s to %s completed, partly while this agent was away", m->uuid,
                 m->instance_name ? m->instance_name : m->instance_uuid, m->destination_host);
        return;
    }
    if (m->state == MACHINE_SOURCE_COMPLETED) {
        char rate[32], pause[32] = "not measured";
        text_bytes((double)p->average_throughput, rate, sizeof(rate));
        if (p->downtime_ms >= 0)
            snprintf(pause, sizeof(pause), "%lld ms", (long long)p->downtime_ms);
        log_info("migration %s of %s to %s completed: %.3f s in all, %s/s on average, pause %s",
                 m->uuid, m->instance_name ? m->instance_name : m->instance_uuid,
                 m->destination_host, (double)(p->ended_us - p->started_us) / USEC_PER_SEC, rate,
                 pause);
        return;
    }
    log_warning("migration %s of %s to %s ended as %s: %s; the guest stays on %s", m->uuid,
                m->instance_name ? m->instance_name : m->instance_uuid, m->destination_host,
                machine_state_text(m->state), m->message ? m->message : "no reason is known",
                m->source_host);
}

static enum metric end_metric(enum machine_state state)
{
    if (state == MACHINE_SOURCE_COMPLETED)
        return METRIC_MIGRATIONS_COMPLETED;
    return state == MACHINE_SOURCE_CANCELLED ? METRIC_MIGRATIONS_CANCELLED
                                             : METRIC_MIGRATIONS_FAILED;
}

/* A network that is being turned back is told of for a moment yet. */
static void forgotten(struct migration *m)
{
    if (m->armed)
        migration_forget_in(m, MIGRATION_LINGER_US);
    else
        migration_forget(m);
}

void source_end(struct migration *m)
{
    struct agent *agent = m->agent;
    bool completed = m->state == MACHINE_SOURCE_COMPLETED;
    bool failed = !completed && m->state != MACHINE_SOURCE_CANCELLED;
    struct err failure = m->failure;

    metric_inc(end_metric(m->state));
    migration_stamp(m, TIMELINE_ENDED);
    if (completed) { /* what looked like a failure on the way was none */
        text_replace(&m->message, NULL);
        m->failure = ERR_INIT;
    }
    log_end(m);
    if (failed && !err_is_set(&failure)) /* of before a restart: its text is left */
        err_set(&failure, ERR_MIGRATION, "%s", m->message ? m->message : "the migration failed");
    if (failed)
        cloud_fault(agent->cloud, m->context, m->instance_uuid, &failure);
    cloud_event_finish(agent->cloud, m->context, m->instance_uuid, "compute_live_migration",
                       failed ? &failure : NULL);
    if (completed || m->progress.resumed_us == 0) {
        net_disarm(m->armed);
        m->armed = NULL;
    }
    forwarding_end(m);
    source_give_up_place(m);
    /* Nova's words for the ends are our states' texts */
    migration_end(m, machine_state_text(m->state), forgotten);
}

static void parked(struct migration_job *job)
{
    if (job->result < 0)
        log_err(LOG_LEVEL_ERROR, &job->e, "migration %s", job->migration->uuid);
}

void source_park(struct migration *m)
{
    struct migration_job job = {.name = "journal", .done = parked};

    monitor_stop(m);
    log_error("migration %s of %s to %s is parked: where the guest runs cannot be told (%s). "
              "Nothing is removed and nothing is resumed; look at both hosts",
              m->uuid, m->instance_uuid, m->destination_host,
              m->message ? m->message : "no answer");
    cloud_fault(m->agent->cloud, m->context, m->instance_uuid, &m->failure);
    migration_set_status(m, "error");
    metric_inc(METRIC_MIGRATIONS_FAILED);
    source_give_up_place(m);
    migration_submit(m, &job, false, true);
}
