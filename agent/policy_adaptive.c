/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The adaptive policy.
 *
 * Before the start: QEMU throttles late (after the third pass at the earliest) and in small steps (10 % for
 * two passes). A first throttle that lets the guest dirty half of what is sent makes each further pass half
 * as long as the one before; smaller is slow, larger is harsher than needed.
 *
 * While it runs: the downtime limit begins low, so that a guest that can be moved with a short pause is.
 * A pass that is not clearly smaller than the one before is evidence that the limit stands in the way: if
 * what is left fits into the longest pause, the limit becomes exactly that, else it grows by half. A guest that
 * is slowed down so much that the pause is the lesser evil is given the pause.
 */
#include "agent/policy_internal.h"

#include <math.h>
#include <stddef.h>

enum {
    STALL_PASSES = 3,
    STALL_S = 10,
    THROTTLE_NEARLY_MAX = 90,
    MEASURE_LEAST_S = 2,
    MEASURE_MOST_S = 60, /* libvirt's */
};

#define PROGRESS   0.7  /* a pass that is smaller than so much of the one before: it converges */
#define STANDSTILL 0.95 /* one that is not smaller than this has no progress at all */
#define GROWTH     1.5
#define MARGIN     1.05
#define RATE_CERTAINLY                                                                             \
    1.2 /* measurements by samples are coarse: only what is clearly above counts */

#define MEASURE_SHARE                                                                              \
    0.3 /* of the first pass: a quarter of the way where it is not nearly all of it */
#define MEASURE_BANDWIDTH 1.0e9 /* bytes a second, where none is known */

#define MEASURE_WORTH                                                                              \
    0.02 /* of the time that all takes: so much more for better forecasts is not felt */

/*
 * Once memory is logged, the first write to a page in a pass costs the processor a fault or an entry in a log, about a
 * microsecond: no more pages than that are dirtied in a second of its time, bytes.
 */
#define DIRTIED_MOST (4.0 * 1024.0 * 1024.0 * 1024.0)

/*
 * Memory that can be sent within the longest pause converges whatever the guest does. Twice as much needs throttle only
 * if more than half of all that the guest ever wrote to is written anew in each pass: so unlikely that nobody waits.
 * A refusal must not be missed.
 */
#define PAUSES_TO_THROTTLE 2.0
#define PAUSES_TO_REFUSE   0.8

/* ---- before the start ---- */

#define THROTTLED_TO 0.4 /* of what is sent: so much the guest dirties with the first throttle */

/* Above so much of the bandwidth that is more throttle than QEMU's own. */
#define THROTTLED_FROM (THROTTLED_TO / (1.0 - POLICY_THROTTLE_INITIAL / 100.0))
/* From so much of it on the guest does not converge by itself, however coarse the measurement is. */
#define THROTTLED_SURELY (2.0 * THROTTLED_FROM)

#define KEPT_LEAST     0.05  /* of what the guest does, with the first throttle */
#define SAMPLED_PAGES  512.0 /* that QEMU compares of each GiB */
#define INCREMENT_HALF 0.5   /* of what the first throttle leaves to the guest */

/* The standard deviation of a dirty rate that was measured by samples over a second. */
static double sampling_error(const struct policy_outlook *outlook)
{
    double memory = (double)outlook->memory_bytes, dirty = (double)outlook->dirty_rate;
    double pages = SAMPLED_PAGES * memory / (double)(INT64_C(1) << 30);
    double share = memory > 0.0 && dirty < memory ? dirty / memory : 0.0;

    return share > 0.0 ? memory * sqrt(share * (1.0 - share) / pages) : 0.0;
}

/* How sure it is that the guest has to be slowed down, 0 to 1. */
static double need_of_throttle(const struct policy_outlook *outlook)
{
    double part = (double)outlook->dirty_rate / (double)outlook->bandwidth;
    double need = (part - THROTTLED_FROM) / (THROTTLED_SURELY - THROTTLED_FROM);

    return need < 0.0 ? 0.0 : need > 1.0 ? 1.0 : need;
}

/*
 * Throttle is a share of the processor's time, and takes the time that the guest would not have used first: one that
 * dirties what it does in a fifth of the time is slowed down by nothing below 80 %. Too little throttle costs two
 * passes for each further step, so that of a coarse measurement the upper end counts. Both only as far as it is sure
 * that throttle is needed: QEMU may throttle a guest for a moment that would have converged by itself.
 */
static double wanted_throttle(const struct policy_outlook *outlook)
{
    double need = need_of_throttle(outlook);
    double dirty = (double)outlook->dirty_rate + need * sampling_error(outlook);
    double idle = outlook->busy_percent > 0 ? 1.0 - outlook->busy_percent / 100.0 : 0.0;
    double kept = THROTTLED_TO * (double)outlook->bandwidth / dirty;

    return 100.0 * (1.0 - (1.0 - need * idle) * fmax(kept, KEPT_LEAST));
}

static int start_throttle(const struct policy_limits *limits, const struct policy_outlook *outlook)
{
    if (outlook->throttle_initial > 0 || !limits->auto_converge ||
        limits->kind != POLICY_ADAPTIVE || outlook->bandwidth <= 0 || outlook->dirty_rate <= 0)
        return outlook->throttle_initial;
    double percent = wanted_throttle(outlook);
    if (percent <= POLICY_THROTTLE_INITIAL)
        return POLICY_THROTTLE_INITIAL;
    return percent < POLICY_THROTTLE_MAX ? (int)(percent + 0.5) : POLICY_THROTTLE_MAX;
}

/*
 * A guest that does not converge with a throttle that was made for it does more than was measured, as one does that
 * rewrites its set several times in that second: nobody knows how much more.
 */
static int start_increment(int initial)
{
    int half = (int)(INCREMENT_HALF * (100 - initial));

    return initial > POLICY_THROTTLE_INITIAL && half > POLICY_THROTTLE_INCREMENT
               ? half
               : POLICY_THROTTLE_INCREMENT;
}

static double longest_pause_s(const struct policy_limits *limits)
{
    return (double)limits->downtime_limit_ms / 1000.0;
}

/* What may fail to converge, and ends in nothing then. */
static bool has_no_way_out(const struct policy_limits *limits)
{
    return !limits->auto_converge && !limits->post_copy && limits->timeout_action == POLICY_ABORT;
}

static bool is_hopeless(const struct policy_limits *limits, const struct policy_outlook *outlook)
{
    double pause_s = longest_pause_s(limits);

    if (limits->kind == POLICY_STEPPED || !has_no_way_out(limits) || outlook->bandwidth <= 0 ||
        outlook->dirty_rate <= 0)
        return false;
    /* what was dirtied in a second is the least that the hot set has */
    double dirty = (double)outlook->dirty_rate / RATE_CERTAINLY;
    return dirty > (double)outlook->bandwidth && dirty > (double)outlook->bandwidth * pause_s;
}

struct policy policy_begin(const struct policy_outlook *outlook, const struct policy_start *start)
{
    struct policy policy = {
        .data_gib = outlook->data_gib,
        .memory_bytes = outlook->memory_bytes,
        .touched_bytes = outlook->touched_bytes,
        .bandwidth = outlook->bandwidth,
        .busy_percent = outlook->busy_percent,
        .overhead_ms = outlook->overhead_ms,
        .pause_stray_ms = outlook->pause_stray_ms,
        .begin_ms = outlook->begin_ms,
        .finish_ms = outlook->finish_ms,
        .link = outlook->link,
        .throttle_initial = start->throttle_initial,
        .throttle_increment = start->throttle_increment,
    };

    policy_measured(&policy, 1, outlook->dirty_rate);
    return policy;
}

static double memory_in_use(const struct policy_outlook *outlook)
{
    return (double)(outlook->touched_bytes > 0 ? outlook->touched_bytes : outlook->memory_bytes);
}

/* The disks and the first pass. */
static double takes_s(const struct policy_outlook *outlook)
{
    double bandwidth = outlook->bandwidth > 0 ? (double)outlook->bandwidth : MEASURE_BANDWIDTH;

    return ((double)outlook->disk_bytes + memory_in_use(outlook)) / bandwidth;
}

const char *policy_needs_no_rate(const struct policy_limits *limits,
                                 const struct policy_outlook *outlook, double processors)
{
    bool may_throttle = limits->auto_converge && outlook->throttle_initial == 0;
    double bandwidth = (double)outlook->bandwidth;

    if (limits->kind == POLICY_STEPPED)
        return "the stepped policy does not depend on it";
    if (MEASURE_WORTH * takes_s(outlook) >= 1.0)
        return NULL;
    if (!may_throttle && !has_no_way_out(limits))
        return "nothing that is permitted depends on it";
    if (outlook->bandwidth <= 0)
        return "no bandwidth to compare it with is known";
    double pauses = may_throttle ? PAUSES_TO_THROTTLE : PAUSES_TO_REFUSE;
    if (memory_in_use(outlook) <= pauses * bandwidth * longest_pause_s(limits))
        return "its memory is sent about as fast as the longest pause lasts";
    if (processors >= 0.0 && processors * DIRTIED_MOST < THROTTLED_FROM * bandwidth)
        return "its processors are too idle for much";
    return NULL;
}

int policy_measure_s(const struct policy_outlook *outlook)
{
    double seconds = MEASURE_SHARE * takes_s(outlook);

    return seconds < MEASURE_LEAST_S  ? MEASURE_LEAST_S
           : seconds > MEASURE_MOST_S ? MEASURE_MOST_S
                                      : (int)seconds;
}

struct policy_start policy_start(const struct policy_limits *limits,
                                 const struct policy_outlook *outlook)
{
    struct policy_start start = {
        .throttle_initial = start_throttle(limits, outlook),
        .throttle_increment = outlook->throttle_increment,
        .hopeless = is_hopeless(limits, outlook),
    };
    struct policy policy = policy_begin(outlook, &start);
    struct policy_sample sample = {.memory_remaining = outlook->memory_bytes,
                                   .disk_remaining = outlook->disk_bytes,
                                   .bandwidth_limit = outlook->bandwidth_limit,
                                   .downtime_ms = -1};

    if (start.throttle_initial != outlook->throttle_initial && start.throttle_increment == 0)
        start.throttle_increment = policy.throttle_increment =
            start_increment(start.throttle_initial);
    policy.usual_throughput = outlook->bandwidth > 0 ? (double)outlook->bandwidth : 0.0;
    policy.has_sample = true;
    struct policy_told told = policy_tell(&policy, limits, &sample);
    start.time_s = policy_told_s(told.time_left_ms);
    start.time_low_s = policy_told_low_s(told.time_left_low_ms);
    start.time_high_s = policy_told_high_s(told.time_left_high_ms);
    start.in_time = policy_forecast(&policy, limits, &sample).in_time;
    sample.iteration = 1;
    told = policy_tell(&policy, limits, &sample);
    start.pause_ms = told.pause_ms;
    start.pause_low_ms = told.pause_low_ms;
    start.pause_high_ms = told.pause_high_ms;
    return start;
}

/* ---- the downtime limit ---- */

static int64_t grown(int64_t limit_ms, int64_t most_ms)
{
    int64_t next_ms = policy_saturated((double)limit_ms * GROWTH + 1.0);

    return next_ms < most_ms ? next_ms : most_ms;
}

/*
 * The next pass takes the guest as long as the pause would, with the throttle in force, and leaves it a pause that is
 * shorter by as much as passes shrink: if that is more in all than the pause that would end it now, that one is better.
 */
static bool throttle_is_worse(double size, double size_before, int throttle_percent)
{
    return throttle_percent > 0 && size + throttle_percent / 100.0 * size_before >= size_before;
}

int64_t policy_adaptive_limit_ms(int64_t limit_ms, int64_t most_ms, double size, double size_before,
                                 double throughput, int throttle_percent)
{
    if (limit_ms >= most_ms)
        return most_ms;
    if (throughput <= 0.0 || size_before <= 0.0)
        return limit_ms;
    int64_t needed_ms = policy_saturated(1000.0 * MARGIN * size / throughput + 1.0);
    if (needed_ms > limit_ms && needed_ms <= most_ms &&
        throttle_is_worse(size, size_before, throttle_percent))
        return needed_ms;
    if (size < PROGRESS * size_before)
        return limit_ms;
    int64_t step_ms = grown(limit_ms, most_ms);
    /* it should have ended with this limit: the hypervisor reckons with less than we measure */
    if (needed_ms <= limit_ms)
        return step_ms;
    if (size >= STANDSTILL * size_before)
        return needed_ms <= most_ms ? needed_ms : step_ms;
    return needed_ms < step_ms ? needed_ms : step_ms;
}

static struct policy_decision set_downtime(struct policy *policy, int64_t downtime_ms,
                                           const char *why, const struct policy_sample *sample)
{
    struct policy_decision d = policy_decision(POLICY_SET_DOWNTIME, why, policy, sample);

    d.downtime_ms = policy->downtime_set_ms = downtime_ms;
    return d;
}

static const char *why_raised(const struct policy *policy)
{
    return policy->pass_size < PROGRESS * policy->pass_size_before
               ? "a pause costs the guest less than another pass with its throttle"
               : "without progress";
}

static bool misses_the_timeout(const struct policy *policy, const struct policy_limits *limits,
                               const struct policy_sample *sample)
{
    return policy_timeout_s(policy, limits) > 0 && sample->iteration >= 2 &&
           !policy_forecast(policy, limits, sample).in_time;
}

static struct policy_decision downtime(struct policy *policy, const struct policy_limits *limits,
                                       const struct policy_sample *sample, bool new_pass)
{
    int64_t most_ms = limits->downtime_limit_ms, now_ms = policy->downtime_set_ms;

    if (now_ms == 0)
        return set_downtime(policy,
                            most_ms < POLICY_DOWNTIME_FLOOR_MS ? most_ms : POLICY_DOWNTIME_FLOOR_MS,
                            "low to begin with", sample);
    if (now_ms > most_ms)
        return set_downtime(policy, most_ms, "no more is allowed", sample);
    if (!new_pass || sample->iteration < 2)
        return policy_decision(POLICY_NOTHING, NULL, policy, sample);
    int64_t wanted_ms =
        policy_adaptive_limit_ms(now_ms, most_ms, policy->pass_size, policy->pass_size_before,
                                 policy_memory_rate(policy, sample), sample->throttle_percent);
    if (wanted_ms != now_ms)
        return set_downtime(policy, wanted_ms, why_raised(policy), sample);
    if (now_ms < most_ms && misses_the_timeout(policy, limits, sample))
        return set_downtime(policy, grown(now_ms, most_ms),
                            "it would not end before the completion timeout", sample);
    return policy_decision(POLICY_NOTHING, NULL, policy, sample);
}

/* ---- the last resort ---- */

static bool throttle_is_used_up(const struct policy_limits *limits,
                                const struct policy_sample *sample)
{
    return !limits->auto_converge || sample->throttle_percent >= THROTTLE_NEARLY_MAX;
}

/* So late that what is left just goes in post-copy before the timeout. */
static bool last_moment(const struct policy *policy, const struct policy_limits *limits,
                        const struct policy_sample *sample)
{
    double rate = policy_memory_rate(policy, sample);
    int64_t timeout_s = policy_timeout_s(policy, limits);

    if (timeout_s == 0 || rate <= 0.0)
        return false;
    double needed_s = 2.0 + 1.25 * policy_unsent(policy, sample) / rate;
    return (double)sample->elapsed_us / (double)POLICY_USEC + needed_s >= (double)timeout_s &&
           !policy_forecast(policy, limits, sample).in_time;
}

static const char *post_copy_reason(const struct policy *policy, const struct policy_limits *limits,
                                    const struct policy_sample *sample)
{
    if (!limits->post_copy || limits->post_copy_after_iterations > 0 ||
        sample->disk_remaining > 0 || sample->iteration < 2)
        return NULL;
    if (policy->iterations_without_progress >= STALL_PASSES &&
        policy->downtime_set_ms >= limits->downtime_limit_ms && throttle_is_used_up(limits, sample))
        return "pre-copy makes no progress and nothing else is permitted";
    if (last_moment(policy, limits, sample))
        return "pre-copy would not end before the completion timeout";
    return NULL;
}

/* ---- stalls ---- */

static const char *stall_reason(const struct policy *policy, const struct policy_limits *limits,
                                const struct policy_sample *sample)
{
    if ((double)sample->elapsed_us - (double)policy->last_moved_us > STALL_S * (double)POLICY_USEC)
        return "nothing was sent for 10 s";
    if (policy->iterations_without_progress >= STALL_PASSES &&
        policy->downtime_set_ms >= limits->downtime_limit_ms &&
        throttle_is_used_up(limits, sample) && !limits->post_copy)
        return "passes make no progress at the highest downtime limit";
    return NULL;
}

struct policy_decision policy_adaptive_step(struct policy *policy,
                                            const struct policy_limits *limits,
                                            const struct policy_sample *sample, bool new_pass)
{
    const char *why = post_copy_reason(policy, limits, sample);

    if (why) {
        policy->post_copy_started = true;
        return policy_decision(POLICY_START_POST_COPY, why, policy, sample);
    }
    struct policy_decision d = downtime(policy, limits, sample, new_pass);
    if (d.action != POLICY_NOTHING)
        return d;
    why = stall_reason(policy, limits, sample);
    bool told = policy->stall_told;
    policy->stall_told = why != NULL;
    return policy_decision(why && !told ? POLICY_WARN : POLICY_NOTHING, why && !told ? why : NULL,
                           policy, sample);
}
