/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/policy_internal.h"

#include <assert.h>

#define GIB       ((double)(INT64_C(1) << 30))
#define SMOOTHING 0.3

int64_t policy_saturated(double value)
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

int64_t policy_product(int64_t a, int64_t b)
{
    int64_t r;

    if (__builtin_mul_overflow(a, b, &r))
        return (a < 0) == (b < 0) ? INT64_MAX : INT64_MIN;
    return r;
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

int64_t policy_timeout_s(const struct policy *policy, const struct policy_limits *limits)
{
    int64_t timeout_s = limits->completion_timeout_s;

    if (!limits->timeout_is_total)
        timeout_s = policy_saturated((double)timeout_s * policy->data_gib);
    if (limits->timeout_cap_s > 0 && (timeout_s == 0 || timeout_s > limits->timeout_cap_s))
        return limits->timeout_cap_s;
    return timeout_s;
}

/* ---- taking a sample in ---- */

static void take_throughput(struct policy *policy, const struct policy_sample *sample)
{
    int64_t processed = sum(sample->memory_processed, sample->disk_processed);
    double passed_us = (double)sample->elapsed_us - (double)policy->last_elapsed_us;

    if (policy->has_sample && passed_us > 0.0 && processed >= policy->last_processed) {
        double now =
            ((double)processed - (double)policy->last_processed) * (double)POLICY_USEC / passed_us;
        policy->throughput = policy->throughput > 0.0
                                 ? policy->throughput + SMOOTHING * (now - policy->throughput)
                                 : now;
    }
    policy->last_processed = processed;
    policy->last_elapsed_us = sample->elapsed_us;
}

/* A new pass over memory began: did the last one come nearer to the end? */
static bool take_iteration(struct policy *policy, const struct policy_sample *sample)
{
    if (sample->iteration <= policy->last_iteration)
        return false;
    policy->last_iteration = sample->iteration;
    if (policy->best_remaining == 0 || sample->memory_remaining < policy->best_remaining) {
        policy->best_remaining = sample->memory_remaining;
        policy->iterations_without_progress = 0;
    } else if (!policy->disturbed) {
        policy->iterations_without_progress++;
    }
    return true;
}

/* True if it is the first sample of a pass over memory. */
static bool take(struct policy *policy, const struct policy_sample *sample)
{
    if (policy->has_sample && sample->elapsed_us == policy->last_elapsed_us)
        return false; /* the same sample again */
    bool new_pass = take_iteration(policy, sample);
    policy_forecast_take(policy, sample, new_pass);
    take_throughput(policy, sample);
    policy->has_sample = true;
    if (new_pass && policy->disturbed) { /* longer than it would have been: so much was left */
        policy->disturbed = false;
        return false;
    }
    return new_pass;
}

void policy_skip(struct policy *policy, const struct policy_sample *sample)
{
    bool new_pass = sample->iteration > policy->last_iteration;

    policy->disturbed = true;
    policy->last_iteration = sample->iteration;
    policy_forecast_skip(policy, sample, new_pass);
    policy->last_processed = sum(sample->memory_processed, sample->disk_processed);
    policy->last_elapsed_us = sample->elapsed_us;
    policy->has_sample = true;
}

/* ---- deciding ---- */

struct policy_decision policy_decision(enum policy_action action, const char *why,
                                       const struct policy *policy,
                                       const struct policy_sample *sample)
{
    return (struct policy_decision){
        .action = action,
        .why = why,
        .downtime_before_ms = policy->downtime_set_ms,
        .remaining = sample->memory_remaining,
        .throughput = policy_saturated(policy_memory_rate(policy, sample)),
        .iteration = sample->iteration,
        .throttle_percent = sample->throttle_percent,
    };
}

static bool timeout_due(const struct policy *policy, const struct policy_limits *limits,
                        const struct policy_sample *sample)
{
    int64_t timeout_s = policy_timeout_s(policy, limits);

    return timeout_s > 0 && sample->elapsed_us > policy_product(timeout_s, POLICY_USEC) &&
           !policy->timeout_fired && !policy->post_copy_started && !policy->forced;
}

static struct policy_decision at_timeout(struct policy *policy, const struct policy_limits *limits,
                                         const struct policy_sample *sample)
{
    static const char why[] = "the completion timeout is over";

    policy->timeout_fired = true;
    if (limits->timeout_action == POLICY_ABORT)
        return policy_decision(POLICY_ABORT_NOW, why, policy, sample);
    if (limits->post_copy) {
        policy->post_copy_started = true;
        return policy_decision(POLICY_START_POST_COPY, why, policy, sample);
    }
    policy->forced = true;
    return policy_decision(POLICY_FORCE_NOW, why, policy, sample);
}

static bool post_copy_due(const struct policy *policy, const struct policy_limits *limits,
                          const struct policy_sample *sample)
{
    return limits->post_copy && limits->post_copy_after_iterations > 0 &&
           !policy->post_copy_started && !policy->forced && sample->disk_remaining == 0 &&
           policy->iterations_without_progress >= limits->post_copy_after_iterations;
}

struct policy_decision policy_step(struct policy *policy, const struct policy_limits *limits,
                                   const struct policy_sample *sample)
{
    const struct policy_decision nothing = {.action = POLICY_NOTHING};

    assert(limits->downtime_steps >= 1);
    bool new_pass = take(policy, sample);
    if (timeout_due(policy, limits, sample))
        return at_timeout(policy, limits, sample);
    if (policy->timeout_fired && !policy->post_copy_started && !policy->forced)
        return nothing; /* it is being aborted */
    if (post_copy_due(policy, limits, sample)) {
        policy->post_copy_started = true;
        return policy_decision(POLICY_START_POST_COPY, "pre-copy does not converge", policy,
                               sample);
    }
    if (policy->post_copy_started || policy->forced)
        return nothing;
    return limits->kind == POLICY_ADAPTIVE ? policy_adaptive_step(policy, limits, sample, new_pass)
                                           : policy_stepped_downtime(policy, limits, sample);
}

void policy_limits_changed(struct policy *policy)
{
    policy->step = 0;
    policy->timeout_fired = false;
    policy->stall_told = false;
    policy->iterations_without_progress = 0;
}
