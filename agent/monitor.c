/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The monitor of a running source migration: samples on a timer, asks the policy, acts on libvirt, writes
 * the period's line. Samples and tuning are jobs on workers, at most one sample at a time, so a libvirt
 * that hangs costs one worker and never the loop. From the guest's pause to the outcome the monitor is
 * silent: a query would share QEMU's monitor with the switch-over (migration-floor, lever 2).
 */
#include "agent/migration.h"

#include "agent/source.h"

#include <stdio.h>

#include "agent/decision.h"
#include "agent/host_pair.h"

#include "lib/clock.h"
#include "lib/json.h"
#include "lib/log.h"

LOG_MODULE(monitor);

enum {
    SAMPLE_PERIOD_US = 500000,
    ABORT_FIRST_US =
        5000, /* an abort that came before libvirt's job is tried again, twice as late each time */
    ABORT_LAST_US = 100000,
    SWITCH_PATIENCE_US = 5000000,
    MEASURE_PATIENCE_US = 5000000,
    IDLE_PERIOD_S = 5
};

/* ---- acting on libvirt ---- */

enum tuning { TUNE_DOWNTIME, TUNE_BANDWIDTH, TUNE_POST_COPY, TUNE_ABORT, TUNE_FORCE };

struct tune {
    struct virt *virt;
    char *uuid;
    enum tuning what;
    int64_t value;
};

static void tune_release(struct migration_job *job)
{
    struct tune *tune = job->aux;

    free(tune->uuid);
    free(tune);
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
        return virt_migration_abort(tune->virt, tune->uuid, e);
    case TUNE_FORCE:
        /* a paused guest must not wait behind the bandwidth limit: what is left goes at full speed */
        if (virt_migration_set_bandwidth(tune->virt, tune->uuid, 0, NULL) < 0)
            log_warning("instance %s: the bandwidth limit could not be lifted", tune->uuid);
        return virt_guest_suspend(tune->virt, tune->uuid, e);
    }
    return 0;
}

/* It may be asked for again. Whether the guest was paused all the same is not known: taking back looks. */
static void forcing_failed(struct migration *m)
{
    m->policy.forced = false;
    if (m->bandwidth_mib > 0)
        monitor_bandwidth_changed(m); /* it was lifted for this */
}

/* Without this way out the timeout's other action must stay possible. */
static void post_copy_failed(struct migration *m)
{
    m->post_copy_possible = false;
    m->policy.post_copy_started = false;
    m->policy.forced = false;
    m->policy.timeout_fired = false;
}

static bool is_running(const struct migration *m)
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
static bool abort_is_due(const struct migration *m)
{
    return is_running(m) && m->abort_requested && !m->abort_outstanding && !m->abort_taken &&
           !m->post_copy_running && !is_switched_over(m);
}

static int64_t abort_pause_us(struct migration *m)
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
    if (!abort_is_due(m))
        return; /* libvirt's call has ended; what is here decides */
    log_err(LOG_LEVEL_DEBUG, &job->e, "migration %s: abort", m->uuid);
    if (!m->abort_again)
        migration_note(m, "libvirt does not take the abort yet (%s); it is asked again",
                       job->e.text);
    m->abort_again = true;
    if (m->monitor_timer)
        loop_timer_arm(m->monitor_timer, abort_pause_us(m));
}

static void tuned(struct migration_job *job)
{
    struct migration *m = job->migration;
    struct tune *tune = job->aux;

    if (tune->what == TUNE_FORCE && job->result < 0)
        forcing_failed(m);
    if (tune->what == TUNE_FORCE)
        source_forcing_ended(m);
    if (tune->what == TUNE_ABORT) {
        abort_asked(m, job);
        return;
    }
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
    m->forcing = m->forcing || what == TUNE_FORCE;
    m->abort_outstanding = m->abort_outstanding || what == TUNE_ABORT;
    job.goes_on_without_record = what == TUNE_ABORT;
    /* the next start must know that we paused the guest, to resume it if it has to, and that it shall stay */
    migration_submit(m, &job, false, what == TUNE_FORCE || what == TUNE_ABORT);
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

static void start_post_copy(struct migration *m, const char *why)
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

static void force(struct migration *m, const char *why)
{
    m->force_waits = !may_be_forced(m);
    if (m->force_waits) {
        migration_note(m, "it is completed by force as soon as it has begun: %s", why);
        return;
    }
    if (m->post_copy_possible && m->settings.post_copy) {
        start_post_copy(m, why);
        return;
    }
    migration_note(m, "the guest is paused until it has moved: %s", why);
    m->suspended_by_us = true;
    tune(m, TUNE_FORCE, 0, "force to complete");
}

int source_force_complete(struct migration *m, struct err *e)
{
    if (!is_running(m))
        return err_set(e, ERR_MIGRATION_STATE,
                       "migration %s is %s; only a running one can be forced to complete", m->uuid,
                       machine_state_text(m->state));
    if (m->abort_requested)
        return err_set(e, ERR_MIGRATION_STATE, "migration %s is being aborted", m->uuid);
    if (m->post_copy_running || m->policy.forced)
        return err_set(e, ERR_MIGRATION_STATE, "migration %s is being completed by force already",
                       m->uuid);
    m->policy.forced = true;
    force(m, "asked for");
    return 0;
}

static int check_change(const struct migration *m, const struct settings *fresh, struct err *e)
{
    if (!is_running(m))
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
    if (is_running(m)) {
        if (bandwidth && m->suspended_by_us) { /* shares leave it alone, an operator may limit it */
            m->bandwidth_mib = fresh.bandwidth_mib;
            monitor_bandwidth_changed(m);
        }
        monitor_limits_changed(m);
    }
    source_share_bandwidth(m->agent);
    return 0;
}

/* ---- deciding ---- */

static struct policy_sample to_sample(const struct migration *m, const struct virt_job *job)
{
    return (struct policy_sample){
        .elapsed_us = clock_monotonic_us() - m->progress.started_us,
        .memory_remaining = job->memory_remaining,
        .memory_processed = job->memory_processed,
        .disk_remaining = job->disk_remaining,
        .disk_processed = job->disk_processed,
        .memory_bps = job->memory_bps,
        .dirty_rate = job->dirty_rate,
        .iteration = job->iteration,
        .throttle_percent = job->throttle_percent,
        .downtime_ms = job->downtime_ms,
        .bandwidth_limit = migration_bandwidth_limit(m),
    };
}

static void act(struct migration *m, const struct policy_decision *decision)
{
    char text[DECISION_TEXT_SIZE];

    decision_text(decision, text, sizeof(text));
    switch (decision->action) {
    case POLICY_NOTHING:
        return;
    case POLICY_WARN:
        migration_note(m, "stalled: %s", text);
        return;
    case POLICY_SET_DOWNTIME:
        if (m->settings.policy == POLICY_ADAPTIVE)
            migration_note(m, "%s", text);
        else /* by the clock, and up to 1000 of them */
            log_debug("migration %s: %s", m->uuid, text);
        m->progress.downtime_limit_ms = decision->downtime_ms;
        tune(m, TUNE_DOWNTIME, decision->downtime_ms, "set the downtime limit");
        return;
    case POLICY_START_POST_COPY:
        start_post_copy(m, text);
        return;
    case POLICY_ABORT_NOW: {
        struct err e = ERR_INIT;
        err_set(&e, ERR_MIGRATION, "not complete after %lld s (live_migration_completion_timeout)",
                (long long)((clock_monotonic_us() - m->progress.started_us) / USEC_PER_SEC));
        migration_fail(m, &e);
        migration_note(m, "aborted: %s", text);
        machine_event(m, MACHINE_EVENT_ABORT);
        return;
    }
    case POLICY_FORCE_NOW:
        force(m, text);
        return;
    }
}

static void decide(struct migration *m)
{
    struct policy_limits limits = settings_limits(&m->settings, m->agent->conf);
    struct policy_sample sample = to_sample(m, &m->progress.job);

    limits.post_copy = limits.post_copy && m->post_copy_possible;
    for (int i = 0; i < 4 && is_running(m) && !m->abort_requested; i++) {
        struct policy_decision decision = policy_step(&m->policy, &limits, &sample);
        if (decision.action == POLICY_NOTHING)
            break;
        act(m, &decision);
    }
    m->progress.throughput = m->policy.throughput;
    m->progress.told = policy_tell(&m->policy, &limits, &sample);
    m->progress.last_pass = policy_is_last_pass(&m->policy, &sample);
}

/* ---- sampling ---- */

struct sample {
    struct virt *virt;
    char *uuid;
    struct virt_job job;
    int measure_s;      /* a measurement over so many seconds should have ended; 0 = none */
    int64_t dirty_rate; /* what came of it; -1 */
};

static void sample_release(struct migration_job *job)
{
    struct sample *sample = job->aux;

    job->migration->sample_outstanding = false;
    free(sample->uuid);
    free(sample);
}

static int sample_run(struct migration_job *job, struct err *e)
{
    struct sample *sample = job->aux;

    if (sample->measure_s > 0)
        (void)virt_dirty_rate_look(sample->virt, sample->uuid, sample->measure_s,
                                   &sample->dirty_rate, NULL);
    return virt_migration_sample(sample->virt, sample->uuid, &sample->job, e);
}

/* A measurement that began before libvirt's call (source_measure.c). */
static void take_measurement(struct migration *m, const struct sample *sample)
{
    char text[32];

    if (sample->dirty_rate >= 0) {
        text_bytes((double)sample->dirty_rate, text, sizeof(text));
        log_info("migration %s: dirty rate %s/s over %d s", m->uuid, text, sample->measure_s);
        policy_measured(&m->policy, sample->measure_s, sample->dirty_rate);
        if (sample->measure_s == MEASURE_S)
            m->measured.dirty_rate = sample->dirty_rate;
        m->long_measure_s = 0;
    } else if (clock_monotonic_us() > m->long_measure_due_us + MEASURE_PATIENCE_US) {
        m->long_measure_s = 0;
    }
}

/* A share that changed while libvirt's call began may have been told before it, and in vain. */
static void first_seen(struct migration *m)
{
    if (m->bandwidth_mib != m->bandwidth_given_mib && !m->suspended_by_us)
        monitor_bandwidth_changed(m);
}

/* The first pass over memory: the disks are copied, and what they took may be shared again. What a paused guest's
 * memory may take was told while libvirt copied them, and libvirt may have set its own since. */
static void memory_began(struct migration *m, int iteration)
{
    if (iteration == 0 || m->memory_begun)
        return;
    m->memory_begun = true;
    if (m->suspended_by_us)
        tune(m, TUNE_BANDWIDTH, 0, "lift the bandwidth limit again");
    if (m->disks_bandwidth_mib == 0)
        return;
    m->disks_bandwidth_mib = 0;
    source_share_bandwidth(m->agent);
}

static void sampled(struct migration_job *job)
{
    struct migration *m = job->migration;
    struct sample *sample = job->aux;

    if (job->result < 0) {
        log_debug("migration %s: no sample: %s", m->uuid, job->e.text);
        return;
    }
    if (!is_running(m) || m->switching || !sample->job.active)
        return;
    if (abort_is_due(m))
        tune(m, TUNE_ABORT, 0, "abort");
    if (!m->progress.has_job)
        first_seen(m);
    m->progress.job = sample->job;
    m->progress.has_job = true;
    if (m->force_waits && !m->abort_requested && may_be_forced(m))
        force(m, "asked for before");
    take_measurement(m, sample);
    memory_began(m, sample->job.iteration);
    if (sample->job.post_copy)
        source_post_copy_began(m);
    decide(m);
    migration_story_sample(m);
    migration_save_counters(m);
}

static void sample_now(struct migration *m)
{
    if (m->sample_outstanding || m->switching)
        return;
    struct sample *sample = NEW(struct sample);
    struct migration_job job = {.name = "sample",
                                .run = sample_run,
                                .done = sampled,
                                .release = sample_release,
                                .aux = sample};
    m->sample_outstanding = true;
    sample->virt = m->agent->virt;
    sample->uuid = text_dup(m->instance_uuid);
    sample->dirty_rate = -1;
    if (clock_monotonic_us() >= m->long_measure_due_us)
        sample->measure_s = m->long_measure_s;
    migration_submit(m, &job, false, false);
}

static void tick(void *aux)
{
    struct migration *m = aux;

    bool soon = abort_is_due(m) && m->state != MACHINE_SOURCE_OBSERVING;

    loop_timer_arm(m->monitor_timer, soon ? abort_pause_us(m) : SAMPLE_PERIOD_US);
    if (m->switching && abort_is_due(m)) /* no sample will tell */
        tune(m, TUNE_ABORT, 0, "abort");
    sample_now(m);
}

void monitor_iteration(struct migration *m, int iteration)
{
    m->progress.job.iteration = iteration;
    memory_began(m, iteration);
    /* when the rest fits into the pause, the switch-over is due: nothing may stand in its way */
    if (m->monitor_timer && (!m->progress.last_pass || abort_is_due(m)))
        sample_now(m);
}

/* ---- the period's line ---- */

static double percent(int64_t part, int64_t total)
{
    return total > 0 ? 100.0 * (double)part / (double)total : 0.0;
}

/* "12 (9 to 17) s"; without ends "12 s" */
static void format_told(int64_t value, int64_t low, int64_t high, const char *unit, char *out,
                        size_t size)
{
    if (value < 0)
        snprintf(out, size, "unknown");
    else if (low < 0)
        snprintf(out, size, "%lld %s", (long long)value, unit);
    else if (high < 0)
        snprintf(out, size, "%lld (%lld or more) %s", (long long)value, (long long)low, unit);
    else
        snprintf(out, size, "%lld (%lld to %lld) %s", (long long)value, (long long)low,
                 (long long)high, unit);
}

static void format_forecast(const struct policy_told *t, char downtime[], char left[], size_t size)
{
    format_told(t->pause_ms, t->pause_low_ms, t->pause_high_ms, "ms", downtime, size);
    format_told(policy_told_s(t->time_left_ms), policy_told_low_s(t->time_left_low_ms),
                policy_told_high_s(t->time_left_high_ms), "s", left, size);
}

/* A period of 0 means no line; the timer still looks now and then, as the option can be reloaded. */
static void arm_log_timer(struct migration *m)
{
    int64_t period_s = conf_int(m->agent->conf, CONF_libvirt_live_migration_log_period);

    loop_timer_arm(m->log_timer, (period_s > 0 ? period_s : IDLE_PERIOD_S) * USEC_PER_SEC);
}

static void write_line(void *aux)
{
    struct migration *m = aux;
    const struct migration_progress *p = &m->progress;
    const struct virt_job *j = &p->job;
    char rate[32], dirty[32], downtime[96], left[96];

    arm_log_timer(m);
    cloud_bindings_warm(m->agent->cloud); /* the pause may come at any time */
    if (!p->has_job || conf_int(m->agent->conf, CONF_libvirt_live_migration_log_period) == 0)
        return;
    _cleanup_(log_scope_end) struct log_scope scope =
        log_scope_begin(json_get_string(m->context, "request_id", NULL), m->instance_uuid);
    text_bytes(p->throughput, rate, sizeof(rate));
    text_bytes((double)j->dirty_rate, dirty, sizeof(dirty));
    format_forecast(&p->told, downtime, left, sizeof(left));
    log_info("migration %s running for %lld s: memory %.0f%% left (%lld of %lld bytes), "
             "disk %.0f%% left (%lld of %lld bytes), throughput %s/s, dirty rate %s/s, "
             "iteration %d, throttle %d%%, expected downtime %s, limit %lld ms, time left %s",
             m->uuid, (long long)((clock_monotonic_us() - p->started_us) / USEC_PER_SEC),
             percent(j->memory_remaining, j->memory_total), (long long)j->memory_remaining,
             (long long)j->memory_total, percent(j->disk_remaining, j->disk_total),
             (long long)j->disk_remaining, (long long)j->disk_total, rate, dirty, j->iteration,
             j->throttle_percent, downtime, (long long)p->downtime_limit_ms, left);
}

/* ---- from and to ---- */

void monitor_start(struct migration *m)
{
    if (m->monitor_timer)
        return;
    if (m->progress.started_us == 0)
        m->progress.started_us = clock_monotonic_us();
    struct policy_outlook outlook = source_outlook(m);
    m->policy = policy_begin(&outlook, &m->start);
    m->policy.post_copy_started = m->post_copy_running; /* before a restart */
    m->monitor_timer = loop_timer_new(m->agent->loop, "monitor", tick, m);
    m->log_timer = loop_timer_new(m->agent->loop, "period line", write_line, m);
    loop_timer_arm(m->monitor_timer, SAMPLE_PERIOD_US / 5);
    arm_log_timer(m);
}

void monitor_stop(struct migration *m)
{
    loop_timer_free(m->monitor_timer);
    loop_timer_free(m->log_timer);
    m->monitor_timer = m->log_timer = NULL;
}

void monitor_bandwidth_changed(struct migration *m)
{
    if (is_running(m))
        tune(m, TUNE_BANDWIDTH, m->bandwidth_mib, "set the bandwidth");
}

void monitor_limits_changed(struct migration *m)
{
    policy_limits_changed(&m->policy);
    if (m->progress.has_job && !m->switching)
        decide(m);
}

void monitor_completed(struct migration *m, const struct virt_job *job)
{
    struct migration_progress *p = &m->progress;

    if (job->downtime_ms >= 0)
        p->downtime_ms = job->downtime_ms;
    if (p->job.active)
        host_pair_learn(m, job->downtime_ms);
    int64_t moved = job->memory_processed + job->disk_processed;
    if (job->elapsed_ms > 0)
        p->average_throughput = moved * 1000 / job->elapsed_ms;
    p->job = *job;
    p->job.active = false;
    p->has_job = true;
}
