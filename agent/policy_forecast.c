/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What is to be expected. Each pass over memory teaches two figures: the rate at which the guest dirties
 * memory when nothing throttles it, and the hot set, the most that passes dirty however long they are. With
 * them QEMU's own rule is run ahead: pass after pass, throttle after throttle, limit after limit, until what
 * is left fits into the pause. Before the first pass has ended nothing tells the hot set; it is taken for
 * what the guest dirties in HOT_SET_GUESS_S.
 */
#include "agent/policy_internal.h"

enum { PASSES_MAX = 300 };

#define SMOOTHING_S     0.5 /* time constant of rates */
#define SMOOTHING_1_S   1.5 /* in the first pass, where pages of zeros make them jump */
#define SLOWER          0.75
#define FASTER          1.1
#define BLEND           0.5
#define HOT_SET_GUESS_S 1.5

static double positive(int64_t value)
{
    return value > 0 ? (double)value : 0.0;
}

static double least(double a, double b)
{
    return a < b ? a : b;
}

static int within(int value, int least_value, int most_value)
{
    return value < least_value ? least_value : value > most_value ? most_value : value;
}

static double throttled(double rate, int percent)
{
    return rate * (1.0 - within(percent, 0, POLICY_THROTTLE_MAX) / 100.0);
}

/* ---- what samples teach ---- */

static double smoothed(double before, double rate, double passed_s, int iteration)
{
    double constant_s = iteration > 1 ? SMOOTHING_S : SMOOTHING_1_S;

    return before > 0.0 ? before + (rate - before) * passed_s / (passed_s + constant_s) : rate;
}

static void take_rates(struct policy *policy, const struct policy_sample *sample, double passed_s,
                       bool new_pass)
{
    double sent = (double)sample->memory_processed - (double)policy->last_memory_processed;
    double fell = (double)policy->last_remaining - (double)sample->memory_remaining;

    if (passed_s <= 0.0 || policy->pass_size <= 0.0)
        return; /* since the last sample memory was not sent all the time */
    if (sent > 0.0)
        policy->memory_throughput =
            smoothed(policy->memory_throughput, sent / passed_s, passed_s, sample->iteration);
    if (fell > 0.0 && !new_pass)
        policy->drain = smoothed(policy->drain, fell / passed_s, passed_s, sample->iteration);
}

/* A pass of `size` ended after `lasted_s`, and `dirtied` is what it left. */
static void take_pass(struct policy *policy, double lasted_s, double dirtied)
{
    double rate = throttled(1.0, policy->pass_throttle);
    double seen = dirtied / lasted_s / rate;
    double foretold = policy->dirty_rate * rate * lasted_s;
    bool hot_set_bound = policy->hot_set > 0.0 && foretold > policy->hot_set;

    if (policy->hot_set <= 0.0) { /* the first pass that was seen whole */
        policy->hot_set = dirtied;
        if (seen > policy->dirty_rate)
            policy->dirty_rate = seen;
    } else if (seen > FASTER * policy->dirty_rate) {
        policy->dirty_rate = seen;
    } else if (dirtied < SLOWER * least(foretold, policy->hot_set)) {
        policy->dirty_rate = seen;
    } else if (!hot_set_bound) {
        policy->dirty_rate += BLEND * (seen - policy->dirty_rate);
    }
    if (dirtied > policy->hot_set)
        policy->hot_set = dirtied;
    else if (hot_set_bound)
        policy->hot_set += BLEND * (dirtied - policy->hot_set);
    policy->dirty_rate_known = true;
}

static void begin_pass(struct policy *policy, const struct policy_sample *sample)
{
    double lasted_s = ((double)sample->elapsed_us - (double)policy->pass_began_us) / POLICY_USEC;
    double size = positive(sample->memory_remaining);

    /* neither what came before the first pass teaches anything, nor do passes of which one was missed */
    if (policy->pass_size > 0.0 && sample->iteration == policy->pass_iteration + 1 &&
        lasted_s > 0.01)
        take_pass(policy, lasted_s, size);
    policy->pass_iteration = sample->iteration;
    policy->pass_size_before = policy->pass_size;
    policy->pass_size = size;
    policy->pass_began_us = sample->elapsed_us;
    policy->pass_throttle = sample->throttle_percent;
}

void policy_forecast_take(struct policy *policy, const struct policy_sample *sample, bool new_pass)
{
    if (policy->has_sample)
        take_rates(policy, sample,
                   ((double)sample->elapsed_us - (double)policy->last_elapsed_us) / POLICY_USEC,
                   new_pass);
    if (new_pass)
        begin_pass(policy, sample);
    if (sample->memory_processed != policy->last_memory_processed || sample->disk_remaining > 0 ||
        sample->iteration < 1)
        policy->last_moved_us = sample->elapsed_us;
    policy->last_memory_processed = sample->memory_processed;
    policy->last_remaining = sample->memory_remaining;
}

double policy_memory_rate(const struct policy *policy, const struct policy_sample *sample)
{
    if (policy->memory_throughput > 0.0)
        return policy->memory_throughput;
    return sample->memory_bps > 0 ? (double)sample->memory_bps : policy->throughput;
}

/* ---- looking ahead ---- */

/* A pass under way, and what QEMU and the policy have in force. */
struct ahead {
    double rate; /* bytes a second */
    double dirty_rate, hot_set;
    double size, size_before; /* of this pass, of the one before */
    double lasts_s, left_s;   /* this pass: in all, still */
    int throttle, initial, increment;
    int high; /* passes that dirtied too much since the last step */
    int iteration;
    double limit_ms;
};

static double dirty_rate_of(const struct policy *policy, const struct policy_sample *sample)
{
    if (policy->dirty_rate > 0.0 || policy->dirty_rate_known)
        return policy->dirty_rate;
    double seen = positive(sample->dirty_rate);
    double share = throttled(1.0, sample->throttle_percent);
    return seen / share;
}

static double limit_in_force(const struct policy *policy, const struct policy_limits *limits)
{
    if (limits->kind == POLICY_STEPPED)
        return 0.0; /* by the time: see next_limit() */
    int64_t limit_ms =
        policy->downtime_set_ms > 0 ? policy->downtime_set_ms : POLICY_DOWNTIME_FLOOR_MS;

    return (double)(limit_ms < limits->downtime_limit_ms ? limit_ms : limits->downtime_limit_ms);
}

static struct ahead now(const struct policy *policy, const struct policy_limits *limits,
                        const struct policy_sample *sample)
{
    double left = positive(sample->memory_remaining);
    bool first = sample->iteration <= 1;
    double rate = policy_memory_rate(policy, sample);
    double drain = first && policy->drain > rate ? policy->drain : rate;
    double passed_s =
        policy->pass_size > 0.0
            ? ((double)sample->elapsed_us - (double)policy->pass_began_us) / POLICY_USEC
            : 0.0;
    struct ahead a = {
        .rate = rate,
        .dirty_rate = dirty_rate_of(policy, sample),
        .hot_set = policy->hot_set,
        .size = policy->pass_size > left ? policy->pass_size : left,
        .size_before = policy->pass_size_before,
        .throttle = within(sample->throttle_percent, 0, POLICY_THROTTLE_MAX),
        .initial =
            policy->throttle_initial > 0 ? policy->throttle_initial : POLICY_THROTTLE_INITIAL,
        .increment =
            policy->throttle_increment > 0 ? policy->throttle_increment : POLICY_THROTTLE_INCREMENT,
        .iteration = within(sample->iteration, 0, PASSES_MAX),
        .limit_ms = limit_in_force(policy, limits),
    };

    if (left <= 0.0 && sample->iteration < 1)
        a.size = left = (double)policy->memory_bytes; /* disks are copied: memory has not begun */
    if (a.hot_set <= 0.0) {
        a.hot_set = HOT_SET_GUESS_S * a.dirty_rate;
        if (!first && left > a.hot_set)
            a.hot_set = left; /* what the pass before dirtied */
    }
    a.left_s = left / drain;
    a.lasts_s = (passed_s > 0.0 ? passed_s : 0.0) + a.left_s;
    return a;
}

static double dirtied_by_its_end(const struct ahead *a)
{
    double dirtied = throttled(a->dirty_rate, a->throttle) * a->lasts_s;

    return a->hot_set > 0.0 ? least(dirtied, a->hot_set) : dirtied;
}

/* QEMU's: once in two passes that dirtied more than half of what they sent, not after the first. */
static void next_throttle(struct ahead *a, double dirtied)
{
    if (a->iteration < 2 || dirtied <= 0.5 * a->size * 1.02 || ++a->high < 2)
        return;
    a->high = 0;
    a->throttle = a->throttle == 0 ? a->initial : a->throttle + a->increment;
    if (a->throttle > POLICY_THROTTLE_MAX)
        a->throttle = POLICY_THROTTLE_MAX;
}

static void next_pass(struct ahead *a, const struct policy_limits *limits, double dirtied)
{
    if (limits->auto_converge)
        next_throttle(a, dirtied);
    a->size_before = a->size;
    a->size = dirtied;
    a->lasts_s = a->left_s = dirtied / a->rate;
    a->iteration++;
    if (limits->kind == POLICY_ADAPTIVE && a->iteration > 1)
        a->limit_ms = (double)policy_adaptive_limit_ms(
            (int64_t)a->limit_ms, limits->downtime_limit_ms, a->size, a->size_before, a->rate);
}

/* At the timeout: time and pause of the way that the operator chose. */
static struct policy_forecast at_the_timeout(const struct policy_limits *limits, double left_s,
                                             const struct ahead *a)
{
    struct policy_forecast f = {.time_s = left_s, .pause_known = true};

    f.ends = limits->timeout_action == POLICY_FORCE_COMPLETE || limits->post_copy;
    if (f.ends)
        f.time_s += a->size / a->rate;
    f.pause_ms = limits->post_copy ? 0.0 : 1000.0 * a->size / a->rate;
    return f;
}

static struct policy_forecast look_ahead(const struct policy *policy,
                                         const struct policy_limits *limits,
                                         const struct policy_sample *sample, double time_s,
                                         struct ahead *a)
{
    double elapsed_s = (double)sample->elapsed_us / POLICY_USEC;
    double timeout_s = (double)policy_timeout_s(policy, limits);

    for (int i = 0; i < PASSES_MAX; i++) {
        double dirtied = dirtied_by_its_end(a), pause_s = dirtied / a->rate;
        time_s += a->left_s;
        if (timeout_s > 0.0 && elapsed_s + time_s > timeout_s)
            return at_the_timeout(limits, timeout_s > elapsed_s ? timeout_s - elapsed_s : 0.0, a);
        if (limits->kind == POLICY_STEPPED)
            a->limit_ms = (double)policy_stepped_limit_ms(policy, limits, elapsed_s + time_s);
        if (1000.0 * pause_s <= a->limit_ms)
            return (struct policy_forecast){.ends = true,
                                            .in_time = true,
                                            .time_s = time_s + pause_s,
                                            .pause_ms = 1000.0 * pause_s,
                                            .pause_known = true};
        next_pass(a, limits, dirtied);
    }
    return (struct policy_forecast){.pause_known = true, .pause_ms = 1000.0 * a->size / a->rate};
}

/* No more passes: what is left goes once. */
static struct policy_forecast the_rest(const struct policy *policy,
                                       const struct policy_sample *sample, double rate)
{
    double left = positive(sample->memory_remaining) + positive(sample->disk_remaining);

    return (struct policy_forecast){.ends = true,
                                    .in_time = true,
                                    .time_s = left / rate,
                                    .pause_ms = policy->forced ? 1000.0 * left / rate : 0.0,
                                    .pause_known = true};
}

struct policy_forecast policy_forecast(const struct policy *policy,
                                       const struct policy_limits *limits,
                                       const struct policy_sample *sample)
{
    double rate = policy_memory_rate(policy, sample), time_s = 0.0;

    if (rate <= 0.0 || !policy->has_sample)
        return (struct policy_forecast){0};
    if (policy->post_copy_started || policy->forced)
        return the_rest(policy, sample, rate);
    struct ahead a = now(policy, limits, sample);
    if (sample->iteration < 1)
        time_s = positive(sample->disk_remaining) /
                 (policy->throughput > 0.0 ? policy->throughput : rate);
    struct policy_forecast f = look_ahead(policy, limits, sample, time_s, &a);
    f.pause_known = f.pause_known && sample->iteration >= 1 &&
                    (sample->iteration > 1 || policy->dirty_rate_known);
    return f;
}

/* ---- what people are told ---- */

/* A figure that is told to people: never below 0, which is left for "cannot be told". */
static int64_t told(double value)
{
    return value > 0.0 ? policy_saturated(value + 0.5) : 0;
}

int64_t policy_expected_downtime_ms(const struct policy *policy, const struct policy_limits *limits,
                                    const struct policy_sample *sample)
{
    struct policy_forecast f = policy_forecast(policy, limits, sample);
    int64_t overhead_ms = policy->overhead_ms > 0 ? policy->overhead_ms : POLICY_OVERHEAD_MS;

    if (f.pause_known)
        return told(f.pause_ms + (double)overhead_ms);
    return sample->iteration >= 1 && sample->downtime_ms >= 0 ? sample->downtime_ms : -1;
}

int64_t policy_time_left_s(const struct policy *policy, const struct policy_limits *limits,
                           const struct policy_sample *sample)
{
    struct policy_forecast f = policy_forecast(policy, limits, sample);

    return f.ends ? told(f.time_s) : -1;
}

/* What a switch to post-copy would leave to be sent: the rest of the pass, and what was dirtied since. */
double policy_unsent(const struct policy *policy, const struct policy_sample *sample)
{
    double passed_s = ((double)sample->elapsed_us - (double)policy->pass_began_us) / POLICY_USEC;
    double dirtied =
        least(throttled(policy->dirty_rate, sample->throttle_percent) * passed_s, policy->hot_set);
    double unsent = positive(sample->memory_remaining) + (dirtied > 0.0 ? dirtied : 0.0);

    return policy->memory_bytes > 0 ? least(unsent, (double)policy->memory_bytes) : unsent;
}

bool policy_is_last_pass(const struct policy *policy, const struct policy_sample *sample)
{
    double rate = policy_memory_rate(policy, sample);

    if (rate <= 0.0 || sample->iteration < 2 || policy->hot_set <= 0.0)
        return false;
    double passed_s = ((double)sample->elapsed_us - (double)policy->pass_began_us) / POLICY_USEC;
    double lasts_s = passed_s + positive(sample->memory_remaining) / rate;
    double dirtied =
        least(throttled(policy->dirty_rate, sample->throttle_percent) * lasts_s, policy->hot_set);
    return 1000.0 * dirtied / rate <= (double)policy->downtime_set_ms;
}

int64_t policy_learn_overhead_ms(int64_t known_ms, int64_t expected_ms, int64_t measured_ms)
{
    enum { MOST_MS = 5000 };
    double known = known_ms > 0 ? (double)known_ms : POLICY_OVERHEAD_MS;
    double learned = known + BLEND * ((double)measured_ms - (double)expected_ms);

    return learned < 1.0 ? 1 : learned > MOST_MS ? MOST_MS : (int64_t)learned;
}
