/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What libvirt is told while it moves a guest from here: the limits, post-copy, the pause by force, the abort.
 * Operators ask for it by source_abort() and its like, the monitor by what the policy decides (monitor.c). Each is a
 * job on a worker, so a libvirt that hangs costs one worker and never the loop.
 */
#include "agent/source.h"

#include "lib/clock.h"
#include "lib/json.h"
#include "lib/log.h"

LOG_MODULE(monitor);

enum {
    ABORT_FIRST_US =
        5000, /* an abort that came before libvirt's job is tried again, twice as late each time */
    ABORT_LAST_US = 100000,
    SWITCH_PATIENCE_US = 5000000,
};

/* ---- acting on libvirt ---- */

enum tuning { TUNE_DOWNTIME, TUNE_BANDWIDTH, TUNE_POST_COPY, TUNE_ABORT, TUNE_FORCE };

struct tune {
    struct virt *virt;
    char *uuid;
    enum tuning what;
    int64_t value;
    const atomic_bool *switching; /* if that is so by now it is left; NULL = whatever happens */
    atomic_bool *suspending;      /* TUNE_FORCE: it is not left any more */
    bool limited;                 /* out: the limit is in force still */
};

static void tune_release(struct migration_job *job)
{
    struct tune *tune = job->aux;

    free(tune->uuid);
    free(tune);
}

/* A paused guest must not wait behind the bandwidth limit: what is left goes at full speed. */
static int pause_by_force(struct tune *tune, struct err *e)
{
    *tune->suspending = true; /* first: a pause from now on is this one */
    if (*tune->switching)
        return err_set(e, ERR_MIGRATION_STATE,
                       "instance %s is paused to be switched over already, and is not paused by "
                       "force",
                       tune->uuid);
    tune->limited = virt_migration_set_bandwidth(tune->virt, tune->uuid, 0, NULL) < 0;
    if (tune->limited)
        log_warning("instance %s: the bandwidth limit could not be lifted", tune->uuid);
    return virt_guest_suspend(tune->virt, tune->uuid, e);
}

static int tune_run(struct migration_job *job, struct err *e)
{
    struct tune *tune = job->aux;

    switch (tune->what) {
    case TUNE_DOWNTIME:
        return virt_migration_set_downtime(tune->virt, tune->uuid, tune->value, e);
    case TUNE_BANDWIDTH:
        return virt_migration_set_bandwidth(tune->virt, tune->uuid, tune->value, e);
    case TUNE_POST_COPY:
        return virt_migration_start_post_copy(tune->virt, tune->uuid, e);
    case TUNE_ABORT:
        if (tune->switching && *tune->switching)
            return err_set(e, ERR_MIGRATION_STATE,
                           "instance %s was paused to be switched over before its migration could "
                           "be aborted",
                           tune->uuid);
        return virt_migration_abort(tune->virt, tune->uuid, e);
    case TUNE_FORCE:
        return pause_by_force(tune, e);
    }
    return 0;
}

/* It may be asked for again. Whether the guest was paused all the same is not known: taking back looks. */
static void forcing_failed(struct migration *m)
{
    m->policy.forced = false;
    source_bandwidth_changed(m); /* it was lifted for this */
}

/* Without this way out the timeout's other action must stay possible. */
static void post_copy_failed(struct migration *m)
{
    m->post_copy_possible = false;
    m->policy.post_copy_started = false;
    m->policy.forced = false;
    m->policy.timeout_fired = false;
}

bool source_is_running(const struct migration *m)
{
    return m->state == MACHINE_SOURCE_RUNNING || m->state == MACHINE_SOURCE_OBSERVING ||
           m->state == MACHINE_SOURCE_RECOVERING;
}

/*
 * A guest that has stopped to be switched over is let go: it has moved in a moment, or runs here again. QEMU (7.2) dies
 * of a cancel while it saves the devices' state, and libvirt (9.0) waits for ever for the stop that a cancel took back.
 * A pause that lasts that long has no outcome of its own any more.
 */
static bool is_switched_over(const struct migration *m)
{
    return m->switching && clock_monotonic_us() - m->progress.paused_us < SWITCH_PATIENCE_US;
}

/* Wanted, and libvirt has not said yes: it had no job yet, or was away. A guest in post-copy cannot come back. */
bool source_abort_is_due(const struct migration *m)
{
    return source_is_running(m) && m->abort_requested && !m->abort_outstanding && !m->abort_taken &&
           !m->post_copy_running && !is_switched_over(m);
}

int64_t source_abort_pause_us(struct migration *m)
{
    int64_t pause_us = m->abort_pause_us ? m->abort_pause_us : ABORT_FIRST_US;

    m->abort_pause_us = pause_us * 2 < ABORT_LAST_US ? pause_us * 2 : ABORT_LAST_US;
    return pause_us;
}

/* Libvirt says no to one that comes before its job, and the job would go on: it is told again when it is seen. */
static void abort_asked(struct migration *m, const struct migration_job *job)
{
    m->abort_outstanding = false;
    if (job->result == 0) {
        m->abort_taken = true;
        migration_stamp(m, TIMELINE_ABORT_TAKEN);
        return;
    }
    if (!source_abort_is_due(m))
        return; /* libvirt's call has ended; what is here decides */
    log_err(LOG_LEVEL_DEBUG, &job->e, "migration %s: abort", m->uuid);
    if (!m->abort_again)
        migration_note(m, "libvirt does not take the abort yet (%s); it is asked again",
                       job->e.text);
    m->abort_again = true;
    if (m->monitor_timer)
        loop_timer_arm(m->monitor_timer, source_abort_pause_us(m));
}

static void tell_bandwidth(struct migration *m, int64_t mib);

/* What was asked for meanwhile is told now. */
static void bandwidth_told(struct migration *m, int64_t mib, bool done)
{
    bool another = mib != m->bandwidth_wanted_mib;

    m->bandwidth_outstanding = false;
    if (another && source_is_running(m))
        tell_bandwidth(m, m->bandwidth_wanted_mib);
    else if (!another && !done)
        m->bandwidth_unsure = true;
    else if (!another && m->turn.turn != TURN_ANOTHERS)
        m->bandwidth_unsure = false;
}

static void tuned(struct migration_job *job)
{
    struct migration *m = job->migration;
    struct tune *tune = job->aux;

    if (tune->what == TUNE_FORCE) {
        m->bandwidth_unsure = m->bandwidth_unsure || tune->limited;
        if (job->result < 0)
            forcing_failed(m);
        source_forcing_ended(m);
    }
    if (tune->what == TUNE_ABORT) {
        abort_asked(m, job);
        return;
    }
    if (tune->what == TUNE_BANDWIDTH)
        bandwidth_told(m, tune->value, job->result == 0);
    if (job->result == 0) {
        if (tune->what == TUNE_POST_COPY)
            source_post_copy_began(m);
        return;
    }
    log_err(LOG_LEVEL_WARNING, &job->e, "migration %s: %s", m->uuid, job->name);
    if (tune->what == TUNE_POST_COPY)
        post_copy_failed(m);
}

static void tune(struct migration *m, enum tuning what, int64_t value, const char *name)
{
    struct tune *t = NEW(struct tune);
    struct migration_job job = {
        .name = name, .run = tune_run, .done = tuned, .release = tune_release, .aux = t};

    t->virt = m->agent->virt;
    t->uuid = text_dup(m->instance_uuid);
    t->what = what;
    t->value = value;
    /* the record is written first, which may take longer than all that is left to send */
    t->switching = m->switching && what != TUNE_FORCE ? NULL : &m->switching;
    t->suspending = &m->suspending;
    if (what == TUNE_FORCE)
        m->suspending = false;
    m->forcing = m->forcing || what == TUNE_FORCE;
    m->abort_outstanding = m->abort_outstanding || what == TUNE_ABORT;
    job.goes_on_without_record = what == TUNE_ABORT;
    /* the next start must know that we paused the guest, to resume it if it has to, and that it shall stay */
    migration_submit(m, &job, false, what == TUNE_FORCE || what == TUNE_ABORT);
}

static void tell_bandwidth(struct migration *m, int64_t mib)
{
    m->bandwidth_wanted_mib = mib;
    if (m->switching) /* the pause is left in peace; QEMU minds no limit in it */
        m->bandwidth_unsure = true;
    if (m->switching || m->bandwidth_outstanding)
        return;
    m->bandwidth_outstanding = true;
    tune(m, TUNE_BANDWIDTH, mib, "set the bandwidth");
}

void source_bandwidth_changed(struct migration *m)
{
    if (source_is_running(m))
        tell_bandwidth(m, m->bandwidth_mib);
}

void source_make_bandwidth_sure(struct migration *m)
{
    if (m->bandwidth_unsure && m->turn.turn != TURN_ANOTHERS && !m->bandwidth_outstanding &&
        source_is_running(m))
        tell_bandwidth(m, m->suspended_by_us ? m->bandwidth_wanted_mib : m->bandwidth_mib);
}

void source_lift_bandwidth(struct migration *m)
{
    tell_bandwidth(m, 0);
}

void source_set_downtime(struct migration *m, int64_t downtime_ms)
{
    m->progress.downtime_limit_ms = downtime_ms;
    tune(m, TUNE_DOWNTIME, downtime_ms, "set the downtime limit");
}

void source_abort_again(struct migration *m)
{
    if (source_abort_is_due(m))
        tune(m, TUNE_ABORT, 0, "abort");
}

/* ---- what operators and the policy may do ---- */

static void note_abort(struct migration *m)
{
    m->abort_requested = true;
    migration_stamp(m, TIMELINE_ABORT_ASKED);
    migration_note(m, "abort asked for while %s", machine_state_text(m->state));
}

int source_abort(struct migration *m, struct err *e)
{
    switch (m->state) {
    case MACHINE_SOURCE_QUEUED:
    case MACHINE_SOURCE_PREPARING:
    case MACHINE_SOURCE_WAITING_VIFS:
    case MACHINE_SOURCE_STARTING: /* before libvirt's call: they must know as what they end */
        if (m->abort_requested)
            return 0;
        note_abort(m);
        break;
    case MACHINE_SOURCE_RUNNING:
    case MACHINE_SOURCE_OBSERVING:
    case MACHINE_SOURCE_RECOVERING:
        if (m->post_copy_running)
            return err_set(e, ERR_MIGRATION_STATE,
                           "migration %s is in post-copy: the guest runs on %s already and cannot "
                           "be called back",
                           m->uuid, m->destination_host);
        break;
    default:
        return err_set(e, ERR_MIGRATION_STATE,
                       "migration %s is %s; only a queued, preparing or running one can be aborted",
                       m->uuid, machine_state_text(m->state));
    }
    machine_event(m, MACHINE_EVENT_ABORT);
    return 0;
}

void source_abort_running(struct migration *m)
{
    if (!m->abort_requested)
        migration_note(m, "abort asked for%s",
                       is_switched_over(m)
                           ? " while the guest is paused to be switched over, which is not "
                             "broken off: if it fails the migration ends"
                           : "");
    m->abort_requested = true;
    migration_stamp(m, TIMELINE_ABORT_ASKED);
    if (!m->abort_outstanding && !is_switched_over(m))
        tune(m, TUNE_ABORT, 0, "abort");
}

void source_start_post_copy(struct migration *m, const char *why)
{
    migration_note(m, "switched to post-copy: %s", why);
    tune(m, TUNE_POST_COPY, 0, "switch to post-copy");
}

/* A guest that is paused before libvirt has looked at it stays paused at the destination, and a limit that is
 * lifted before libvirt sets it stays: what is asked for so early waits until there is something to send. */
static bool may_be_forced(const struct migration *m)
{
    const struct virt_job *job = &m->progress.job;

    return m->progress.has_job && job->memory_total + job->disk_total > 0;
}

void source_force(struct migration *m, const char *why)
{
    source_turns(m->agent); /* it gives way to nobody any more */
    m->force_waits = !may_be_forced(m);
    if (m->force_waits) {
        migration_note(m, "it is completed by force as soon as it has begun: %s", why);
        return;
    }
    if (m->post_copy_possible && m->settings.post_copy) {
        source_start_post_copy(m, why);
        return;
    }
    migration_note(m, "the guest is paused until it has moved: %s", why);
    m->suspended_by_us = true;
    m->bandwidth_wanted_mib = 0;
    tune(m, TUNE_FORCE, 0, "force to complete");
}

void source_force_waiting(struct migration *m)
{
    if (m->force_waits && !m->abort_requested && may_be_forced(m))
        source_force(m, "asked for before");
}

int source_force_complete(struct migration *m, struct err *e)
{
    if (!source_is_running(m))
        return err_set(e, ERR_MIGRATION_STATE,
                       "migration %s is %s; only a running one can be forced to complete", m->uuid,
                       machine_state_text(m->state));
    if (m->abort_requested)
        return err_set(e, ERR_MIGRATION_STATE, "migration %s is being aborted", m->uuid);
    if (m->post_copy_running || m->policy.forced)
        return err_set(e, ERR_MIGRATION_STATE, "migration %s is being completed by force already",
                       m->uuid);
    m->policy.forced = true;
    source_force(m, "asked for");
    return 0;
}

static int check_change(const struct migration *m, const struct settings *fresh, struct err *e)
{
    if (!source_is_running(m))
        return 0;
    if (fresh->auto_converge != m->settings.auto_converge)
        return err_set(e, ERR_MIGRATION_STATE,
                       "auto_converge of migration %s is %s and libvirt fixes it at the start; "
                       "abort and start again, or use another setting",
                       m->uuid, m->settings.auto_converge ? "on" : "off");
    if (fresh->post_copy && !m->settings.post_copy && !m->post_copy_possible)
        return err_set(e, ERR_MIGRATION_STATE,
                       "post_copy of migration %s was off when it started, and libvirt cannot turn "
                       "it on later; abort and start again",
                       m->uuid);
    return 0;
}

int source_change_settings(struct migration *m, struct json_object *changes, struct err *e)
{
    struct settings fresh = m->settings;

    if (m->role != MIGRATION_SOURCE || machine_state_is_final(m->state))
        return err_set(e, ERR_MIGRATION_STATE,
                       "migration %s is %s here; settings are changed at the source while it lasts",
                       m->uuid, machine_state_text(m->state));
    if (settings_change(m->agent->conf, &fresh, changes, e) < 0 || check_change(m, &fresh, e) < 0)
        return -1;
    bool bandwidth = fresh.bandwidth_mib != m->settings.bandwidth_mib;
    _cleanup_(str_freep) char *text = json_text(changes);
    m->settings = fresh;
    migration_note(m, "settings changed: %s", text);
    if (source_is_running(m)) {
        if (bandwidth && m->suspended_by_us) { /* shares leave it alone, an operator may limit it */
            m->bandwidth_mib = fresh.bandwidth_mib;
            source_bandwidth_changed(m);
        }
        monitor_limits_changed(m);
    }
    source_share_bandwidth(m->agent);
    return 0;
}
