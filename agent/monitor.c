/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The monitor of a running source migration: samples on a timer, asks the policy, acts on its decisions
 * (source_tune.c), writes the period's line. Samples are jobs on workers, at most one at a time, so a libvirt
 * that hangs costs one worker and never the loop. From the guest's pause to the outcome the monitor is
 * silent: a query would share QEMU's monitor with the switch-over (migration-floor, lever 2).
 */
#include "agent/migration.h"

#include <stdio.h>

#include "agent/decision.h"
#include "agent/host_pair.h"
#include "agent/source.h"
#include "lib/clock.h"
#include "lib/json.h"
#include "lib/log.h"

LOG_MODULE(monitor);

enum {
    SAMPLE_PERIOD_US = 500000,
    LOST_PERIOD_MAX_US = 30000000, /* while post-copy waits to be recovered */
    MEASURE_PATIENCE_US = 5000000,
    IDLE_PERIOD_S = 5,
};

/* ---- deciding ---- */

static struct policy_sample to_sample(const struct migration *m, const struct virt_job *job)
{
    return (struct policy_sample){
        .elapsed_us = m->progress.sampled_us - m->progress.started_us,
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
        source_set_downtime(m, decision->downtime_ms);
        return;
    case POLICY_START_POST_COPY:
        source_start_post_copy(m, text);
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
        source_force(m, text);
        return;
    }
}

/* It gives way, or did since the last sample. */
static void pass_over(struct migration *m)
{
    struct policy_sample sample = to_sample(m, &m->progress.job);

    policy_skip(&m->policy, &sample);
    m->progress.last_pass = policy_is_last_pass(&m->policy, &sample);
    m->turn.disturbed = m->turn.turn == TURN_ANOTHERS;
}

static void decide(struct migration *m)
{
    struct policy_limits limits = settings_limits(&m->settings, m->agent->conf);
    struct policy_sample sample = to_sample(m, &m->progress.job);

    limits.post_copy = limits.post_copy && m->post_copy_possible;
    for (int i = 0; i < 4 && source_is_running(m) && !m->abort_requested; i++) {
        struct policy_decision decision = policy_step(&m->policy, &limits, &sample);
        if (decision.action == POLICY_NOTHING)
            break;
        act(m, &decision);
    }
    m->progress.throughput = m->policy.throughput;
    m->progress.told = policy_tell(&m->policy, &limits, &sample);
    m->progress.told_us = m->progress.started_us + sample.elapsed_us;
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
        source_bandwidth_changed(m);
}

/* The first pass over memory: the disks are copied, and what they took may be shared again. What a paused guest's
 * memory may take was told while libvirt copied them, and libvirt may have set its own since. */
static void memory_began(struct migration *m, int iteration)
{
    if (iteration == 0 || m->memory_begun)
        return;
    m->memory_begun = true;
    /* where the call is not ours, the limit that libvirt sets now is not known */
    m->bandwidth_unsure |= m->state != MACHINE_SOURCE_RUNNING;
    if (m->suspended_by_us)
        source_lift_bandwidth(m);
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
    if (!source_is_running(m) || m->switching || !sample->job.active)
        return;
    source_abort_again(m);
    if (!m->progress.has_job)
        first_seen(m);
    m->progress.job = sample->job;
    m->progress.sampled_us = clock_monotonic_us();
    m->progress.has_job = true;
    source_force_waiting(m);
    take_measurement(m, sample);
    memory_began(m, sample->job.iteration);
    if (sample->job.post_copy)
        source_post_copy_began(m);
    if (m->turn.disturbed)
        pass_over(m);
    else
        decide(m);
    source_turns(m->agent);
    source_make_bandwidth_sure(m);
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

/* While its connection is lost nothing moves: twice as late each time. */
static int64_t sample_period_us(struct migration *m)
{
    int64_t period_us = m->lost_period_us ? m->lost_period_us : SAMPLE_PERIOD_US;

    m->lost_period_us = 0;
    if (!m->post_copy_lost)
        return SAMPLE_PERIOD_US;
    m->lost_period_us = period_us * 2 < LOST_PERIOD_MAX_US ? period_us * 2 : LOST_PERIOD_MAX_US;
    return period_us;
}

static void tick(void *aux)
{
    struct migration *m = aux;

    bool soon = source_abort_is_due(m) && m->state != MACHINE_SOURCE_OBSERVING;

    loop_timer_arm(m->monitor_timer, soon ? source_abort_pause_us(m) : sample_period_us(m));
    if (m->switching) /* no sample will tell */
        source_abort_again(m);
    source_turns(m->agent);
    sample_now(m);
}

void monitor_look_now(struct migration *m)
{
    if (m->monitor_timer)
        loop_timer_arm(m->monitor_timer, 0);
}

void monitor_iteration(struct migration *m, int iteration)
{
    m->progress.job.iteration = iteration;
    memory_began(m, iteration);
    /* when the rest fits into the pause, the switch-over is due: nothing may stand in its way */
    if (m->monitor_timer && (!m->progress.last_pass || source_abort_is_due(m)))
        sample_now(m);
}

/* ---- the period's line ---- */

static double percent(int64_t part, int64_t total)
{
    return total > 0 ? 100.0 * (double)part / (double)total : 0.0;
}

static void seconds(int64_t s, char *out, size_t size)
{
    snprintf(out, size, "%lld s", (long long)s);
}

static void format_forecast(const struct policy_told *t, char downtime[TEXT_EXPECTED_SIZE],
                            char left[TEXT_EXPECTED_SIZE])
{
    text_expected(t->pause_ms, t->pause_low_ms, t->pause_high_ms, text_ms, downtime);
    text_expected(policy_told_s(t->time_left_ms), policy_told_low_s(t->time_left_low_ms),
                  policy_told_high_s(t->time_left_high_ms), seconds, left);
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
    char rate[32], dirty[32], downtime[TEXT_EXPECTED_SIZE], left[TEXT_EXPECTED_SIZE];

    arm_log_timer(m);
    cloud_bindings_warm(m->agent->cloud); /* the pause may come at any time */
    if (!p->has_job || conf_int(m->agent->conf, CONF_libvirt_live_migration_log_period) == 0)
        return;
    _cleanup_(log_scope_end) struct log_scope scope =
        log_scope_begin(json_get_string(m->context, "request_id", NULL), m->instance_uuid);
    text_bytes(p->throughput, rate, sizeof(rate));
    text_bytes((double)j->dirty_rate, dirty, sizeof(dirty));
    const struct policy_told told = migration_told(m);
    format_forecast(&told, downtime, left);
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
    bool is_found = m->progress.started_us == 0; /* before a restart, nobody knows when */
    if (is_found)
        m->progress.started_us = clock_monotonic_us();
    struct policy_outlook outlook = source_outlook(m);
    m->policy = policy_begin(&outlook, &m->start);
    m->policy.copied_us = is_found ? POLICY_COPIED_UNSEEN : 0;
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

void monitor_limits_changed(struct migration *m)
{
    policy_limits_changed(&m->policy);
    source_turn_spare(m);
    if (m->progress.has_job && !m->switching)
        decide(m); /* on what was seen; nothing is learned twice */
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
