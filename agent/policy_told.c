/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What people are told: time left and pause, each with the ends between which it is expected in four of five cases.
 *
 * The forecast (policy_forecast.c) is run many times, each time with other values for what is not known for certain:
 * the rate at which memory leaves from now on, what the guest dirties, what it does in times that no pass or
 * measurement had, and the part of the pause that memory does not explain. The middle of the outcomes is told, and
 * the ends of the middle part of them. How far the values stray is what was seen in this migration: of the throughput
 * from second to second, of passes against what was foreseen of them, of measurements by samples; and of the pauses
 * that were told before for the same destination. Where little was seen yet, something usual stands in for it.
 *
 * The members' values are not drawn but spread evenly (additive recurrence): the same sample gives the same figures.
 */
#include "agent/policy_internal.h"

#include <math.h>
#include <stdlib.h>

enum {
    MEMBERS = 41,
    TAIL = 10, /* one in so many lies beyond each end */
    BLOCKS_MOST = 30,
    PASSES_MOST = 6,
    SAMPLED_PAGES_PER_GIB = 512, /* QEMU's, in a measurement */
};

#define BLOCK_S        1.0  /* over which the throughput is looked at, */
#define LASTS_S        4.0  /* and how long it stays as it strayed */
#define USUAL_RATE     0.08 /* spread before blocks were seen, worth so many: */
#define USUAL_BLOCKS   4.0
#define USUAL_DIRTYING 0.12
#define USUAL_PASSES   2.0
#define USUAL_OVERHEAD 0.25  /* of the overhead, before any pause was measured */
#define DRIFT          0.03  /* that no measurement foretells */
#define WIDTH          1.4   /* chosen so that the truth is within in four of five model runs */
#define NORMAL         1.702 /* of the logistic distribution's spread to the normal one's */
#define MEAN_TO_SPREAD 1.25
#define LEAST_LARGEST  1.2 /* the set of a guest that did not slow down, times what was seen */
#define MOST_LARGEST   4.0
#define MOST_HEADROOM  16.0 /* of a link above a limit, where nothing is known of it */

/* ---- what is seen ---- */

static double square(double value)
{
    return value * value;
}

/* The mean of what was seen and of something usual, by how much was seen. */
static double seen_or_usual(double seen, double count, double usual, double worth)
{
    return (seen * count + square(usual) * worth) / (count + worth);
}

void policy_told_take_rate(struct policy *policy, double bytes, double seconds)
{
    policy->block_bytes += bytes;
    policy->block_s += seconds;
    if (policy->block_s < BLOCK_S)
        return;
    double stray = log(policy->block_bytes / policy->block_s / policy->usual_throughput);
    if (policy->rate_blocks < BLOCKS_MOST)
        policy->rate_blocks++;
    policy->rate_variance +=
        (fmin(square(stray), 1.0) - policy->rate_variance) / policy->rate_blocks;
    policy->block_bytes = policy->block_s = 0.0;
}

void policy_told_take_pass(struct policy *policy, double seconds, double dirtied)
{
    double foreseen = policy_dirtied(&policy->dirtying, seconds);

    if (policy->passes_seen < 1 || foreseen <= 0.0 || dirtied <= 0.0)
        return; /* the first pass lasts longer than anything that was seen: no wonder that it is otherwise */
    double stray = log(dirtied / foreseen);
    if (policy->dirtying_passes < PASSES_MOST)
        policy->dirtying_passes++;
    policy->dirtying_variance +=
        (fmin(square(stray), 1.0) - policy->dirtying_variance) / policy->dirtying_passes;
}

/* ---- how far it may stray ---- */

struct spreads {
    double rate, rate_now, dirtying, bend, overhead_ms;
};

static double rate_variance(const struct policy *policy)
{
    return seen_or_usual(policy->rate_variance, policy->rate_blocks, USUAL_RATE, USUAL_BLOCKS);
}

/* Of the mean over the time that is left, told by the mean over the time that was seen. */
static double rate_spread(const struct policy *policy, double left_s)
{
    double seen_s = policy->usual_over_s > 0.0 ? policy->usual_over_s : policy->disk_over_s;
    double seen = LASTS_S / fmax(seen_s, LASTS_S), left = LASTS_S / fmax(left_s, LASTS_S);

    return sqrt(rate_variance(policy) * (seen + left) + square(DRIFT));
}

/* A measurement compares a few pages alone; passes are counted page by page. */
static double sampling_variance(const struct policy *policy)
{
    const struct policy_dirtying *d = &policy->dirtying;

    if (policy->passes_seen > 0 || d->count == 0 || policy->memory_bytes <= 0)
        return 0.0;
    double memory = (double)policy->memory_bytes,
           share = fmin(d->points[d->count - 1].bytes / memory, 1.0);
    double pages = SAMPLED_PAGES_PER_GIB * memory / (double)(INT64_C(1) << 30);
    return fmin((1.0 - share) / fmax(share * pages, 1.0), 0.25);
}

static double dirtying_spread(const struct policy *policy)
{
    return sqrt(seen_or_usual(policy->dirtying_variance, policy->dirtying_passes, USUAL_DIRTYING,
                              USUAL_PASSES) +
                sampling_variance(policy));
}

static double overhead_ms(const struct policy *policy)
{
    return policy->overhead_ms > 0 ? (double)policy->overhead_ms : POLICY_OVERHEAD_MS;
}

static struct spreads spreads_of(const struct policy *policy, double left_s)
{
    return (struct spreads){
        .rate = WIDTH * rate_spread(policy, left_s),
        .rate_now = WIDTH * sqrt(rate_variance(policy)),
        .dirtying = WIDTH * dirtying_spread(policy),
        .bend = sqrt(sampling_variance(policy)),
        .overhead_ms = policy->pause_stray_ms > 0 ? MEAN_TO_SPREAD * (double)policy->pause_stray_ms
                                                  : USUAL_OVERHEAD * overhead_ms(policy),
    };
}

/* ---- the members ---- */

enum dimension { RATE, RATE_NOW, DIRTYING, FAST, LARGEST, HEADROOM, BEND, OVERHEAD, DIMENSIONS };

/* Between 0 and 1, so that the members fill the space of all dimensions evenly. */
static double even(int member, enum dimension dimension)
{
    static const double steps[DIMENSIONS] = {
        0.9215993196, 0.8493453059, 0.7827560561, 0.7213874487,
        0.6648301820, 0.6127070434, 0.5646703943, 0.5203998512,
    }; /* powers of the inverse of the root of x^9 = x + 1 */
    double whole;

    return modf(0.5 + steps[dimension] * member, &whole);
}

/* About normally distributed, of standard deviation 1. */
static double normal(int member, enum dimension dimension)
{
    double u = 0.005 + 0.99 * even(member, dimension);

    return log(u / (1.0 - u)) / NORMAL;
}

static double evenly_by_ratio(double least, double most, double u)
{
    return least * pow(most / least, u);
}

static struct policy_scenario scenario(const struct spreads *spreads, int member)
{
    return (struct policy_scenario){
        .rate = exp(spreads->rate * normal(member, RATE)),
        .rate_now = exp(spreads->rate_now * normal(member, RATE_NOW)),
        .dirtying = exp(spreads->dirtying * normal(member, DIRTYING)),
        .bend = exp(spreads->bend * normal(member, BEND)),
        .headroom = evenly_by_ratio(1.0, MOST_HEADROOM, even(member, HEADROOM)),
        .unknown = {.fast = even(member, FAST),
                    .largest = evenly_by_ratio(LEAST_LARGEST, MOST_LARGEST, even(member, LARGEST))},
    };
}

static int by_size(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

/* ---- telling ---- */

/* A figure that is told to people: never below 0, which is left for "cannot be told". */
static int64_t told(double value)
{
    return value > 0.0 ? policy_saturated(value + 0.5) : 0;
}

static int64_t told_end(double value)
{
    return isfinite(value) ? told(value) : -1;
}

static void tell_time(struct policy_told *t, double times_s[MEMBERS])
{
    qsort(times_s, MEMBERS, sizeof(*times_s), by_size);
    if (!isfinite(times_s[MEMBERS / 2]))
        return; /* it is more likely that it does not end */
    t->time_left_ms = told(1000.0 * times_s[MEMBERS / 2]);
    t->time_left_low_ms = told(1000.0 * times_s[MEMBERS / TAIL]);
    t->time_left_high_ms = told_end(1000.0 * times_s[MEMBERS - 1 - MEMBERS / TAIL]);
}

static void tell_pause(struct policy_told *t, double *pauses_ms, int count)
{
    qsort(pauses_ms, (size_t)count, sizeof(*pauses_ms), by_size);
    t->pause_ms = told(pauses_ms[count / 2]);
    t->pause_low_ms = told(pauses_ms[count / TAIL]);
    t->pause_high_ms = told_end(pauses_ms[count - 1 - count / TAIL]);
}

/* What takes its time besides disks and memory: libvirt's part before anything is copied, as far as it is still to
 * come, and after the guest runs again. */
static double around_ms(const struct policy *policy, const struct policy_sample *sample)
{
    double begin = policy->copied_us != 0 || policy->post_copy_started
                       ? 0.0
                       : (double)policy->begin_ms - (double)sample->elapsed_us / 1000.0;

    return fmax(begin, 0.0) + (double)policy->finish_ms;
}

/* Before the first pass has ended, and without a measurement: it may dirty nothing or anything. */
static bool knows_nothing(const struct policy *policy, const struct policy_sample *sample)
{
    return policy->dirtying.count == 0 && sample->dirty_rate <= 0 && !policy->post_copy_started &&
           !policy->forced;
}

struct policy_told policy_tell(const struct policy *policy, const struct policy_limits *limits,
                               const struct policy_sample *sample)
{
    const struct policy_forecast middle = policy_forecast(policy, limits, sample);
    const struct spreads spreads = spreads_of(policy, middle.time_s);
    struct policy_told t = POLICY_TOLD_NOTHING;
    double times_s[MEMBERS], pauses_ms[MEMBERS];
    int ending = 0;

    for (int i = 0; i < MEMBERS; i++) {
        const struct policy_scenario s = scenario(&spreads, i);
        struct policy_forecast f = policy_forecast_of(policy, limits, sample, &s);
        double overhead = overhead_ms(policy) + spreads.overhead_ms * normal(i, OVERHEAD);
        double around = around_ms(policy, sample) * (1.0 + USUAL_OVERHEAD * normal(i, OVERHEAD));
        times_s[i] = f.ends ? f.time_s + (fmax(overhead, 0.0) + around) / 1000.0 : INFINITY;
        if (f.ends) /* what does not end has no pause */
            pauses_ms[ending++] = f.pause_ms + fmax(overhead, 0.0);
    }
    tell_time(&t, times_s);
    if (knows_nothing(policy, sample))
        t.time_left_high_ms = -1;
    if (middle.pause_known && ending > 0)
        tell_pause(&t, pauses_ms, ending);
    else if (sample->iteration >= 1 && sample->downtime_ms >= 0)
        t.pause_ms = sample->downtime_ms; /* the hypervisor's own */
    t.pause_rest = middle.pause_known ? policy_saturated(middle.rest) : 0;
    return t;
}

static int64_t later(int64_t ms, int64_t age_ms)
{
    return ms < 0 ? -1 : ms > age_ms ? ms - age_ms : 0;
}

struct policy_told policy_told_later(struct policy_told told, int64_t age_ms)
{
    told.time_left_ms = later(told.time_left_ms, age_ms);
    told.time_left_low_ms = later(told.time_left_low_ms, age_ms);
    told.time_left_high_ms = later(told.time_left_high_ms, age_ms);
    return told;
}

int64_t policy_told_s(int64_t ms)
{
    return ms < 0 ? -1 : ms / 1000 + (ms % 1000 >= 500);
}

int64_t policy_told_low_s(int64_t ms)
{
    return ms < 0 ? -1 : ms / 1000;
}

int64_t policy_told_high_s(int64_t ms)
{
    return ms < 0 ? -1 : ms / 1000 + (ms % 1000 > 0);
}
