/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/policy.h"

#include <assert.h>
#include <string.h>

enum {
    SWITCH_OVERHEAD_MS = 60, /* device state and libvirt's part of the pause (migration-floor 2) */
    MSEC_PER_SEC = 1000,
};
#define USEC      INT64_C(1000000)
#define GIB       ((double)(INT64_C(1) << 30))
#define SMOOTHING 0.3

/* Statistics may be anything; figures out of them stay within what an int64_t holds. */
static int64_t saturated(double value)
{
    return value >= 9e18 ? INT64_MAX : value <= -9e18 ? INT64_MIN : (int64_t)value;
}

static int64_t sum(int64_t a, int64_t b)
{
    int64_t r;

    if (__builtin_add_overflow(a, b, &r))
        return a < 0 ? INT64_MIN : INT64_MAX;
    return r;
}

static int64_t product(int64_t a, int64_t b)
{
    int64_t r;

    if (__builtin_mul_overflow(a, b, &r))
        return (a < 0) == (b < 0) ? INT64_MAX : INT64_MIN;
    return r;
}

/* A figure that is told to people: never below 0, which is left for "cannot be told". */
static int64_t told(double value)
{
    return value > 0.0 ? saturated(value) : 0;
}

static double at_least_two(double gib)
{
    return gib < 2.0 ? 2.0 : gib;
}

double policy_data_gib(int64_t memory_mb, const int64_t *disk_bytes, unsigned disk_count)
{
    double gib = at_least_two((double)memory_mb / 1024.0);

    for (unsigned i = 0; i < disk_count; i++)
        gib += at_least_two(disk_bytes[i] > 0 ? (double)disk_bytes[i] / GIB : 0.0);
    return gib;
}

int64_t policy_downtime_step_ms(const struct policy_limits *limits, int step)
{
    double limit = (double)limits->downtime_limit_ms;
    double base = limit / limits->downtime_steps;

    if (step >= limits->downtime_steps)
        return limits->downtime_limit_ms;
    return (int64_t)(base + step * (limit - base) / limits->downtime_steps);
}

int64_t policy_timeout_s(const struct policy *policy, const struct policy_limits *limits)
{
    int64_t timeout_s = limits->completion_timeout_s;

    if (!limits->timeout_is_total)
        timeout_s = saturated((double)timeout_s * policy->data_gib);
    if (limits->timeout_cap_s > 0 && (timeout_s == 0 || timeout_s > limits->timeout_cap_s))
        return limits->timeout_cap_s;
    return timeout_s;
}

/* The rate at which memory leaves: the hypervisor's figure, else what we measured. */
static double memory_rate(const struct policy *policy, const struct policy_sample *sample)
{
    return sample->memory_bps > 0 ? (double)sample->memory_bps : policy->throughput;
}

int64_t policy_expected_downtime_ms(const struct policy *policy, const struct policy_sample *sample)
{
    double rate = memory_rate(policy, sample);

    if (sample->iteration < 1)
        return -1; /* disks are copied; memory has not begun */
    if (rate <= 0.0)
        return sample->downtime_ms >= 0 ? sample->downtime_ms : -1;
    return sum(told((double)sample->memory_remaining * MSEC_PER_SEC / rate), SWITCH_OVERHEAD_MS);
}

int64_t policy_time_left_s(const struct policy *policy, const struct policy_limits *limits,
                           const struct policy_sample *sample)
{
    double rate = policy->throughput;
    double left = (double)sample->memory_remaining + (double)sample->disk_remaining;
    double dirty = (double)sample->dirty_rate;

    if (rate <= 0.0 || !policy->has_sample)
        return -1;
    if (policy->post_copy_started)
        return told(left / rate);
    if (dirty >= rate) {
        /* it ends only if the rest fits into the pause that is allowed */
        double pause_s = (double)limits->downtime_limit_ms / MSEC_PER_SEC;
        return left <= rate * pause_s ? 0 : -1;
    }
    return told(left / (rate - dirty));
}

/* ---- taking a sample in ---- */

static void take_throughput(struct policy *policy, const struct policy_sample *sample)
{
    int64_t processed = sum(sample->memory_processed, sample->disk_processed);
    double passed_us = (double)sample->elapsed_us - (double)policy->last_elapsed_us;

    if (policy->has_sample && passed_us > 0.0 && processed >= policy->last_processed) {
        double now =
            ((double)processed - (double)policy->last_processed) * (double)USEC / passed_us;
        policy->throughput = policy->throughput > 0.0
                                 ? policy->throughput + SMOOTHING * (now - policy->throughput)
                                 : now;
    }
    policy->last_processed = processed;
    policy->last_elapsed_us = sample->elapsed_us;
}

/* A new pass over memory began: did the last one come nearer to the end? */
static void take_iteration(struct policy *policy, const struct policy_sample *sample)
{
    if (sample->iteration <= policy->last_iteration)
        return;
    policy->last_iteration = sample->iteration;
    if (policy->best_remaining == 0 || sample->memory_remaining < policy->best_remaining) {
        policy->best_remaining = sample->memory_remaining;
        policy->iterations_without_progress = 0;
    } else {
        policy->iterations_without_progress++;
    }
}

static void take(struct policy *policy, const struct policy_sample *sample)
{
    if (policy->has_sample && sample->elapsed_us == policy->last_elapsed_us)
        return; /* the same sample again */
    take_throughput(policy, sample);
    take_iteration(policy, sample);
    policy->has_sample = true;
}

/* ---- deciding ---- */

static struct policy_decision decision(enum policy_action action, int64_t downtime_ms,
                                       const char *why)
{
    return (struct policy_decision){.action = action, .downtime_ms = downtime_ms, .why = why};
}

static bool timeout_due(const struct policy *policy, const struct policy_limits *limits,
                        const struct policy_sample *sample)
{
    int64_t timeout_s = policy_timeout_s(policy, limits);

    return timeout_s > 0 && sample->elapsed_us > product(timeout_s, USEC) &&
           !policy->timeout_fired && !policy->post_copy_started && !policy->forced;
}

static struct policy_decision at_timeout(struct policy *policy, const struct policy_limits *limits)
{
    policy->timeout_fired = true;
    if (limits->timeout_action == POLICY_ABORT)
        return decision(POLICY_ABORT_NOW, 0, "the completion timeout is over");
    if (limits->post_copy) {
        policy->post_copy_started = true;
        return decision(POLICY_START_POST_COPY, 0, "the completion timeout is over");
    }
    policy->forced = true;
    return decision(POLICY_FORCE_NOW, 0, "the completion timeout is over");
}

static bool post_copy_due(const struct policy *policy, const struct policy_limits *limits,
                          const struct policy_sample *sample)
{
    return limits->post_copy && limits->post_copy_after_iterations > 0 &&
           !policy->post_copy_started && !policy->forced && sample->disk_remaining == 0 &&
           policy->iterations_without_progress >= limits->post_copy_after_iterations;
}

/* Nova's step i is due when more than i delays have passed; only the newest that is due counts. */
static struct policy_decision downtime_step(struct policy *policy,
                                            const struct policy_limits *limits,
                                            const struct policy_sample *sample)
{
    int64_t delay_us =
        product(saturated((double)limits->downtime_delay_s * policy->data_gib), USEC);
    int64_t wanted_ms = 0;

    while (policy->step <= limits->downtime_steps &&
           sample->elapsed_us > product(policy->step, delay_us)) {
        wanted_ms = policy_downtime_step_ms(limits, policy->step);
        policy->step++;
    }
    if (wanted_ms == 0 || wanted_ms == policy->downtime_set_ms)
        return decision(POLICY_NOTHING, 0, NULL);
    policy->downtime_set_ms = wanted_ms;
    return decision(POLICY_SET_DOWNTIME, wanted_ms, "the next step is due");
}

struct policy_decision policy_step(struct policy *policy, const struct policy_limits *limits,
                                   const struct policy_sample *sample)
{
    assert(limits->downtime_steps >= 1);
    take(policy, sample);
    if (timeout_due(policy, limits, sample))
        return at_timeout(policy, limits);
    if (policy->timeout_fired && !policy->post_copy_started && !policy->forced)
        return decision(POLICY_NOTHING, 0, NULL); /* it is being aborted */
    if (post_copy_due(policy, limits, sample)) {
        policy->post_copy_started = true;
        return decision(POLICY_START_POST_COPY, 0, "pre-copy does not converge");
    }
    if (policy->post_copy_started || policy->forced)
        return decision(POLICY_NOTHING, 0, NULL);
    return downtime_step(policy, limits, sample);
}

void policy_limits_changed(struct policy *policy)
{
    policy->step = 0;
    policy->timeout_fired = false;
    policy->iterations_without_progress = 0;
}
