/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What is to be expected. What the guest dirties in which time is known from measurements and from each pass
 * over memory (policy_dirtying.c). With it QEMU's own rule is run ahead, and what the policy itself will do:
 * pass after pass, throttle after throttle, limit after limit, until what is left fits into the pause.
 */
#include "agent/policy_internal.h"

enum { PASSES_MAX = 300 };

#define FAST_S         0.5  /* time constants of rates: what is so now, */
#define SLOW_S         20.0 /* and what is so on the whole */
#define FORESEEN_S     2.0  /* that a rate was seen which was foreseen */
#define SURPRISE       1.6 /* times by which the one leaves the other: the link is another one now */
#define ZERO_BPS       (2.0 * 1024.0 * 1024.0 * 1024.0) /* pages of zeros are only looked at */
#define ANY_PASS_S     600.0                            /* longer than what is looked at */
#define BLEND          0.5
#define MEASURED_IN    1048576.0 /* bytes a second: measurements are cut to whole ones */
#define SLICE_S        0.01      /* that QEMU lets a throttled processor run between two sleeps */
#define TURN_SEEN      5.0       /* a pass shorter than so many sleeps shows what its turn took */
#define LIMITED        0.8       /* of the limit: it is what holds memory back */
#define NEARLY         0.5       /* the same where it is known that the link has more */
#define USUAL_HEADROOM 4.0
#define LEAST_PAUSE_MS 5.0 /* that memory takes in a pause, for learning */

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

/* How much of what it does a guest still does: throttle takes the processor's idle time first. */
static double throttled(double seconds, int percent, int busy_percent)
{
    double busy = busy_percent > 0 ? within(busy_percent, 1, 100) / 100.0 : 1.0;

    return seconds * least(1.0, (1.0 - within(percent, 0, POLICY_THROTTLE_MAX) / 100.0) / busy);
}

/* ---- what samples teach ---- */

static double smoothed(double before, double rate, double passed_s, double constant_s)
{
    return before > 0.0 ? before + (rate - before) * passed_s / (passed_s + constant_s) : rate;
}

/* While disks are copied: what they get tells of the link, and so does what was foreseen. */
static double rate_before_memory(const struct policy *policy)
{
    double foreseen = positive(policy->bandwidth);

    if (foreseen <= 0.0 || policy->disk_throughput <= 0.0)
        return foreseen + policy->disk_throughput;
    return 0.5 * (foreseen + policy->disk_throughput);
}

/* How fast all leaves on the whole: what was foreseen, until enough was seen, as the first second has more in buffers
 * than on the link. It is the mean of what was seen until that is long enough. */
static void take_usual(struct policy *policy, double rate, double passed_s)
{
    double now = policy->memory_throughput;
    if (policy->usual_over_s <= 0.0) {
        policy->usual_throughput = rate_before_memory(policy);
        policy->usual_over_s = policy->usual_throughput > 0.0 ? FORESEEN_S : 0.0;
    }
    double seen_s = policy->usual_over_s + passed_s;

    policy->usual_over_s = seen_s < SLOW_S ? seen_s : SLOW_S;
    policy->usual_throughput += (rate - policy->usual_throughput) * passed_s / policy->usual_over_s;
    if (now > SURPRISE * policy->usual_throughput || policy->usual_throughput > SURPRISE * now) {
        policy->usual_throughput = now;
        policy->usual_over_s = FAST_S;
    }
}

/* Emulated processors, and those of KVM with a dirty ring, are waited for at the turn of a pass: QEMU goes on when the
 * last of them has slept. At 99 % of throttle that is a second. */
static double sleep_s(int throttle)
{
    double share = within(throttle, 0, POLICY_THROTTLE_MAX) / 100.0;

    return SLICE_S * share / (1.0 - share);
}

static void take_turn(struct policy *policy, double lasted_s, double sent)
{
    double sleep = sleep_s(policy->pass_throttle), sending_s = sent / policy->usual_throughput;

    if (sleep <= 0.0 || policy->usual_throughput <= 0.0 || sending_s > TURN_SEEN * sleep)
        return;
    double share = (lasted_s - sending_s) / sleep;
    share = share < 0.0 ? 0.0 : least(share, 1.0);
    policy->turn_share += BLEND * (share - policy->turn_share);
}

/* The time that pages of zeros took, which cost no bandwidth, does not count. */
static void take_rates(struct policy *policy, const struct policy_sample *sample, double passed_s,
                       bool new_pass)
{
    bool knows = policy->usual_over_s > FORESEEN_S + 1.0;

    if (new_pass && knows && policy->pass_throttle > 0)
        return; /* that was no sending alone: see take_turn() */
    double sent = (double)sample->memory_processed - (double)policy->last_memory_processed;
    double fell = (double)policy->last_remaining - (double)sample->memory_remaining;

    if (passed_s <= 0.0 || policy->pass_size <= 0.0 || sent <= 0.0)
        return; /* since the last sample memory was not sent all the time */
    double zeros_s = !new_pass && fell > sent ? (fell - sent) / ZERO_BPS : 0.0;
    if (zeros_s > 0.5 * passed_s)
        return;
    double rate = sent / (passed_s - zeros_s);
    policy->memory_throughput = smoothed(policy->memory_throughput, rate, passed_s, FAST_S);
    take_usual(policy, rate, passed_s - zeros_s);
    policy_told_take_rate(policy, sent, passed_s - zeros_s);
}

/* While disks are copied. */
static void take_disk_rate(struct policy *policy, const struct policy_sample *sample,
                           double passed_s)
{
    double sent = (double)sample->disk_processed - (double)policy->last_disk_processed;

    if (passed_s <= 0.0 || sent <= 0.0)
        return;
    double seen_s = policy->disk_over_s + passed_s;
    policy->disk_over_s = seen_s < SLOW_S ? seen_s : SLOW_S;
    policy->disk_throughput +=
        (sent / passed_s - policy->disk_throughput) * passed_s / policy->disk_over_s;
}

void policy_measured(struct policy *policy, int seconds, int64_t bytes_per_s)
{
    if (policy->passes_seen == 0 && seconds > 0 && bytes_per_s >= 0)
        policy_dirtying_take(&policy->dirtying, seconds,
                             ((double)bytes_per_s + (bytes_per_s > 0 ? MEASURED_IN / 2.0 : 0.0)) *
                                 seconds);
}

/* A pass ended after `lasted_s`, and `dirtied` is what it left. */
static void take_pass(struct policy *policy, double lasted_s, double dirtied)
{
    double seconds = throttled(lasted_s, policy->pass_throttle, policy->busy_percent);

    policy_told_take_pass(policy, seconds, dirtied);
    policy_dirtying_take(&policy->dirtying, seconds, dirtied);
    policy->passes_seen++;
}

static void begin_pass(struct policy *policy, const struct policy_sample *sample)
{
    double lasted_s = ((double)sample->elapsed_us - (double)policy->pass_began_us) / POLICY_USEC;
    double size = positive(sample->memory_remaining);

    /* neither what came before the first pass teaches anything, nor do passes of which one was missed */
    if (policy->pass_size > 0.0 && sample->iteration == policy->pass_iteration + 1 &&
        lasted_s > 0.01) {
        if (!policy->disturbed) /* it waited for another migration, not for its guest */
            take_turn(policy, lasted_s,
                      (double)sample->memory_processed - (double)policy->pass_processed);
        take_pass(policy, lasted_s, size);
    }
    policy->pass_iteration = sample->iteration;
    policy->pass_size_before = policy->pass_size;
    policy->pass_size = size;
    policy->pass_began_us = sample->elapsed_us;
    policy->pass_processed = sample->memory_processed;
    policy->pass_throttle = sample->throttle_percent;
}

void policy_forecast_take(struct policy *policy, const struct policy_sample *sample, bool new_pass)
{
    double passed_s =
        ((double)sample->elapsed_us - (double)policy->last_elapsed_us) / (double)POLICY_USEC;

    if (policy->has_sample && sample->iteration >= 1)
        take_rates(policy, sample, passed_s, new_pass);
    else if (policy->has_sample)
        take_disk_rate(policy, sample, passed_s);
    policy_forecast_skip(policy, sample, new_pass);
}

void policy_forecast_skip(struct policy *policy, const struct policy_sample *sample, bool new_pass)
{
    if (new_pass)
        begin_pass(policy, sample);
    if (sample->memory_processed != policy->last_memory_processed || sample->disk_remaining > 0 ||
        sample->iteration < 1)
        policy->last_moved_us = sample->elapsed_us;
    if (policy->copied_us == 0 && (sample->iteration >= 1 || sample->disk_processed > 0))
        policy->copied_us = sample->elapsed_us;
    policy->last_memory_processed = sample->memory_processed;
    policy->last_disk_processed = sample->disk_processed;
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
    const struct policy_dirtying *dirtying;
    const struct policy_unknown *unknown;
    double most; /* bytes that can be dirtied at all */
    double rate; /* bytes a second */
    double
        reckoned_rate; /* that the hypervisor takes for the pause's: the one that it has seen last */
    double pause_rate;        /* that it will be: the limit is lifted */
    double size, size_before; /* of this pass, of the one before */
    double lasts_s, left_s;   /* this pass: in all, still */
    double turn_share;
    int throttle, initial, increment, busy_percent;
    int high; /* passes that dirtied too much since the last step */
    int iteration;
    double limit_ms;
};

/* The points of measurements stray each for itself: the first one by so much more than the last. */
static void bend(struct policy_dirtying *d, double factor)
{
    if (d->count == 0)
        return;
    const struct policy_point *last = &d->points[d->count - 1];

    for (int i = 0; i < d->count - 1; i++) {
        double straight = last->bytes * d->points[i].seconds / last->seconds;
        double bytes = d->points[i].bytes * factor;
        d->points[i].bytes = bytes < straight ? straight : least(bytes, last->bytes);
    }
}

/* Where no pass was seen, as after a restart of the agent, the hypervisor's own figure must do: it is taken for a
 * guest that does not slow down. */
static struct policy_dirtying dirtying_of(const struct policy *policy,
                                          const struct policy_sample *sample,
                                          const struct policy_scenario *scenario)
{
    struct policy_dirtying seen = policy->dirtying;

    if (seen.count == 0 && sample->dirty_rate > 0) {
        double rate = (double)sample->dirty_rate;
        double share = throttled(1.0, sample->throttle_percent, policy->busy_percent);
        policy_dirtying_take(&seen, share, rate);
        policy_dirtying_take(&seen, share * ANY_PASS_S, rate * ANY_PASS_S);
    }
    for (int i = 0; i < seen.count; i++)
        seen.points[i].bytes *= scenario->dirtying;
    bend(&seen, scenario->bend);
    return seen;
}

static double limit_in_force(const struct policy *policy, const struct policy_limits *limits)
{
    if (limits->kind == POLICY_STEPPED)
        return 0.0; /* by the time: see next_limit() */
    int64_t limit_ms =
        policy->downtime_set_ms > 0 ? policy->downtime_set_ms : POLICY_DOWNTIME_FLOOR_MS;

    return (double)(limit_ms < limits->downtime_limit_ms ? limit_ms : limits->downtime_limit_ms);
}

/* What of the rest of the first pass must be sent: nothing is sent of what the guest never wrote to. Where it is not
 * known how much that is, the rest is taken for such as was seen. */
static double first_pass_unsent(const struct policy *policy, const struct policy_sample *sample,
                                double left)
{
    bool began = policy->pass_size > 0.0;
    double sent = began ? (double)sample->memory_processed - (double)policy->pass_processed : 0.0;
    double done = began ? policy->pass_size - left : 0.0;

    if (policy->touched_bytes > 0)
        return least((double)policy->touched_bytes > sent ? (double)policy->touched_bytes - sent
                                                          : 0.0,
                     left);
    return done > 0.0 && sent >= 0.0 && sent < done ? left * sent / done : left;
}

static double first_pass_left_s(const struct policy *policy, const struct policy_sample *sample,
                                double left, double rate)
{
    double unsent = first_pass_unsent(policy, sample, left);

    return unsent / rate + (left - unsent) / ZERO_BPS;
}

static double usual_rate(const struct policy *policy, const struct policy_sample *sample)
{
    double rate = policy->usual_throughput;

    if (rate <= 0.0)
        rate = rate_before_memory(policy);
    return rate > 0.0 ? rate : policy_memory_rate(policy, sample);
}

static struct ahead now(const struct policy *policy, const struct policy_limits *limits,
                        const struct policy_sample *sample, const struct policy_dirtying *dirtying,
                        double rate)
{
    double left = positive(sample->memory_remaining);
    double passed_s =
        policy->pass_size > 0.0
            ? ((double)sample->elapsed_us - (double)policy->pass_began_us) / POLICY_USEC
            : 0.0;
    struct ahead a = {
        .dirtying = dirtying,
        .most = positive(policy->touched_bytes > 0 ? policy->touched_bytes : policy->memory_bytes),
        .rate = rate,
        .busy_percent = policy->busy_percent,
        .turn_share = policy->turn_share,
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
    a.left_s = sample->iteration <= 1 ? first_pass_left_s(policy, sample, left, rate) : left / rate;
    a.left_s += a.turn_share * sleep_s(a.throttle);
    a.lasts_s = (passed_s > 0.0 ? passed_s : 0.0) + a.left_s;
    return a;
}

static double dirtied_by_its_end(const struct ahead *a)
{
    double dirtied = policy_dirtied_as(
        a->dirtying, throttled(a->lasts_s, a->throttle, a->busy_percent), a->unknown);

    return a->most > 0.0 ? least(dirtied, a->most) : dirtied;
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
    a->lasts_s = a->left_s = dirtied / a->rate + a->turn_share * sleep_s(a->throttle);
    a->iteration++;
    if (limits->kind == POLICY_ADAPTIVE && a->iteration > 1)
        a->limit_ms =
            (double)policy_adaptive_limit_ms((int64_t)a->limit_ms, limits->downtime_limit_ms,
                                             a->size, a->size_before, a->rate, a->throttle);
}

bool policy_is_limited(const struct policy *policy, int64_t bandwidth_limit)
{
    return bandwidth_limit > 0 && policy->usual_throughput >= LIMITED * (double)bandwidth_limit;
}

/* QEMU lifts the limit when it has stopped the guest (migration_completion()); up to libvirt 11.1 nothing tells it
 * beforehand how fast the link is without. */
static double pause_rate(const struct policy *policy, const struct policy_sample *sample,
                         const struct policy_scenario *scenario, double rate)
{
    double limit = (double)sample->bandwidth_limit, link = (double)policy->link;

    if (limit <= 0.0 || policy->usual_throughput < (link > 0.0 ? NEARLY : LIMITED) * limit)
        return rate;
    link = link > 0.0 ? link * scenario->rate_now : scenario->headroom * rate;
    return link > rate ? link : rate;
}

/* At the timeout: time and pause of the way that the operator chose. */
static struct policy_forecast at_the_timeout(const struct policy_limits *limits, double left_s,
                                             const struct ahead *a)
{
    struct policy_forecast f = {.time_s = left_s, .pause_known = true};

    f.ends = limits->timeout_action == POLICY_FORCE_COMPLETE || limits->post_copy;
    if (f.ends)
        f.time_s += a->size / a->pause_rate;
    if (!limits->post_copy) {
        f.rest = a->size;
        f.pause_ms = 1000.0 * a->size / a->pause_rate;
    }
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
        double dirtied = dirtied_by_its_end(a), pause_s = dirtied / a->pause_rate;
        time_s += a->left_s;
        if (timeout_s > 0.0 && elapsed_s + time_s > timeout_s)
            return at_the_timeout(limits, timeout_s > elapsed_s ? timeout_s - elapsed_s : 0.0, a);
        if (limits->kind == POLICY_STEPPED)
            a->limit_ms = (double)policy_stepped_limit_ms(policy, limits, elapsed_s + time_s);
        if (1000.0 * dirtied / a->reckoned_rate <= a->limit_ms)
            return (struct policy_forecast){.ends = true,
                                            .in_time = true,
                                            .time_s = time_s + pause_s,
                                            .pause_ms = 1000.0 * pause_s,
                                            .rest = dirtied,
                                            .pause_known = true};
        next_pass(a, limits, dirtied);
    }
    return (struct policy_forecast){
        .pause_known = true, .pause_ms = 1000.0 * a->size / a->pause_rate, .rest = a->size};
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
                                    .rest = policy->forced ? left : 0.0,
                                    .pause_known = true};
}

struct policy_forecast policy_forecast(const struct policy *policy,
                                       const struct policy_limits *limits,
                                       const struct policy_sample *sample)
{
    const struct policy_scenario as_it_looks = {.rate = 1.0,
                                                .rate_now = 1.0,
                                                .dirtying = 1.0,
                                                .bend = 1.0,
                                                .headroom = USUAL_HEADROOM,
                                                .unknown = POLICY_UNKNOWN_MIDDLE};

    return policy_forecast_of(policy, limits, sample, &as_it_looks);
}

struct policy_forecast policy_forecast_of(const struct policy *policy,
                                          const struct policy_limits *limits,
                                          const struct policy_sample *sample,
                                          const struct policy_scenario *scenario)
{
    double rate = usual_rate(policy, sample) * scenario->rate, time_s = 0.0;

    if (rate <= 0.0 || !policy->has_sample)
        return (struct policy_forecast){0};
    if (policy->post_copy_started || policy->forced)
        return the_rest(policy, sample, rate);
    const struct policy_dirtying dirtying = dirtying_of(policy, sample, scenario);
    struct ahead a = now(policy, limits, sample, &dirtying, rate);
    a.unknown = &scenario->unknown;
    a.reckoned_rate = rate * scenario->rate_now;
    a.pause_rate = pause_rate(policy, sample, scenario, a.reckoned_rate);
    if (sample->iteration < 1)
        time_s = positive(sample->disk_remaining) /
                 (policy->disk_throughput > 0.0 ? policy->disk_throughput * scenario->rate : rate);
    struct policy_forecast f = look_ahead(policy, limits, sample, time_s, &a);
    f.pause_known = f.pause_known && sample->iteration >= 1 &&
                    (sample->iteration > 1 || policy->dirtying.count > 0);
    return f;
}

/* ---- the pass that runs ---- */

static double dirtied_in_pass(const struct policy *policy, const struct policy_sample *sample,
                              double seconds)
{
    return policy_dirtied(&policy->dirtying,
                          throttled(seconds, sample->throttle_percent, policy->busy_percent));
}

static double in_pass_s(const struct policy *policy, const struct policy_sample *sample)
{
    return ((double)sample->elapsed_us - (double)policy->pass_began_us) / POLICY_USEC;
}

/* What a switch to post-copy would leave to be sent: the rest of the pass, and what was dirtied since. */
double policy_unsent(const struct policy *policy, const struct policy_sample *sample)
{
    double unsent = positive(sample->memory_remaining) +
                    dirtied_in_pass(policy, sample, in_pass_s(policy, sample));

    return policy->memory_bytes > 0 ? least(unsent, (double)policy->memory_bytes) : unsent;
}

bool policy_is_last_pass(const struct policy *policy, const struct policy_sample *sample)
{
    double rate = policy_memory_rate(policy, sample);

    if (rate <= 0.0 || sample->iteration < 2 || policy->dirtying.count == 0)
        return false;
    double lasts_s = in_pass_s(policy, sample) + positive(sample->memory_remaining) / rate;
    return 1000.0 * dirtied_in_pass(policy, sample, lasts_s) / rate <=
           (double)policy->downtime_set_ms;
}

int64_t policy_learn_overhead_ms(int64_t known_ms, int64_t expected_ms, int64_t measured_ms)
{
    enum { MOST_MS = 5000 };
    double known = known_ms > 0 ? (double)known_ms : POLICY_OVERHEAD_MS;
    double learned = known + BLEND * ((double)measured_ms - (double)expected_ms);

    return learned < 1.0 ? 1 : learned > MOST_MS ? MOST_MS : (int64_t)learned;
}

int64_t policy_learn_time_ms(int64_t known_ms, int64_t measured_ms)
{
    double learned = (double)measured_ms;

    if (known_ms > 0)
        learned = (1.0 - BLEND) * (double)known_ms + BLEND * learned;
    return learned < 1.0 ? 1 : policy_saturated(learned);
}

int64_t policy_learn_stray_ms(int64_t known_ms, int64_t expected_ms, int64_t measured_ms)
{
    double stray = (double)measured_ms - (double)expected_ms;

    return policy_learn_time_ms(known_ms, policy_saturated(stray < 0.0 ? -stray : stray));
}

int64_t policy_learn_link(int64_t known, int64_t rest, int64_t overhead_ms, int64_t measured_ms)
{
    double spent_ms = (double)measured_ms - (double)overhead_ms;
    double seen = 1000.0 * (double)rest / (spent_ms > LEAST_PAUSE_MS ? spent_ms : LEAST_PAUSE_MS);

    return policy_saturated(known > 0 ? (1.0 - BLEND) * (double)known + BLEND * seen : seen);
}
