/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/policy_model.h"

#include <math.h>
#include <stdbool.h>
#include <stddef.h>

#define MIB      1048576.0
#define PERIOD_S 0.5   /* between samples */
#define EVENT_S  0.005 /* from a pass's begin to the sample that it causes */
#define NOT_TOLD 9.0

enum { PASSES_MAX = 2000, TOLD_MAX = 20000 };

struct told {
    double at_s, total_s;
};

struct run {
    const struct model_guest *guest;
    uint64_t random;
    double time_s, throttle_s, sent, rest;
    int pass, throttle, high, initial, increment;
    double link, dirty_rate, last_dirty_rate;
    double limit_ms;
    /* with a policy */
    const struct policy_limits *limits;
    struct policy policy;
    double next_sample_s;
    enum policy_action ended_by;
    int warnings;
    double pause_told_ms;
    struct told told[TOLD_MAX];
    int told_count;
};

static double wavering(struct run *r, double value)
{
    r->random ^= r->random << 13;
    r->random ^= r->random >> 7;
    r->random ^= r->random << 17;
    double share = (double)(r->random % 20001) / 10000.0 - 1.0;
    return value * (1.0 + r->guest->waver * share);
}

int64_t model_measured_dirty_rate(const struct model_guest *guest)
{
    return (int64_t)(fmin(guest->hot_set, guest->dirty_rate) * MIB);
}

struct policy_outlook model_outlook(const struct model_guest *guest)
{
    return (struct policy_outlook){
        .data_gib = policy_data_gib((int64_t)guest->memory, NULL, 0),
        .memory_bytes = (int64_t)(guest->memory * MIB),
        .dirty_rate = model_measured_dirty_rate(guest),
        .bandwidth = (int64_t)(guest->link * MIB),
    };
}

/* ---- the policy's part ---- */

static void act(struct run *r, const struct policy_decision *d)
{
    switch (d->action) {
    case POLICY_NOTHING:
        return;
    case POLICY_SET_DOWNTIME:
        r->limit_ms = (double)d->downtime_ms;
        return;
    case POLICY_WARN:
        r->warnings++;
        return;
    case POLICY_START_POST_COPY:
    case POLICY_ABORT_NOW:
    case POLICY_FORCE_NOW:
        r->ended_by = d->action;
        return;
    }
}

static void take_sample(struct run *r, double at_s, double rest)
{
    struct policy_sample sample = {
        .elapsed_us = (int64_t)(at_s * 1e6),
        .memory_remaining = (int64_t)(rest * MIB),
        .memory_processed = (int64_t)((r->sent + r->rest - rest) * MIB),
        .dirty_rate = (int64_t)(r->last_dirty_rate * MIB),
        .iteration = r->pass,
        .throttle_percent = r->throttle,
        .downtime_ms = -1,
    };
    struct policy_decision d;

    do {
        d = policy_step(&r->policy, r->limits, &sample);
        act(r, &d);
    } while (d.action != POLICY_NOTHING);
    int64_t left_s = policy_time_left_s(&r->policy, r->limits, &sample);
    r->pause_told_ms = (double)policy_expected_downtime_ms(&r->policy, r->limits, &sample);
    if (r->told_count < TOLD_MAX)
        r->told[r->told_count++] = (struct told){at_s, left_s < 0 ? -1.0 : at_s + (double)left_s};
}

/* The samples of a pass; true if the policy ended it, `*done_s` into the pass. */
static bool sample_pass(struct run *r, double lasts_s, double *done_s)
{
    double at_s = r->time_s + EVENT_S;

    if (!r->limits)
        return false;
    for (bool event = true; at_s < r->time_s + lasts_s; event = false) {
        take_sample(r, at_s, r->rest - (at_s - r->time_s) * r->link);
        *done_s = at_s - r->time_s;
        if (r->ended_by != POLICY_NOTHING)
            return true;
        if (!event)
            r->next_sample_s = at_s + PERIOD_S;
        at_s = fmax(r->next_sample_s, at_s + 0.001);
    }
    return false;
}

/* ---- QEMU's part ---- */

static double dirtied_in(const struct run *r, double seconds)
{
    return fmin(r->guest->hot_set, (1.0 - r->throttle / 100.0) * r->dirty_rate * seconds);
}

static void trigger_throttle(struct run *r, double dirtied, double sent)
{
    if (r->initial == 0 || r->pass < 2 || dirtied <= 0.5 * sent * 1.000001 || ++r->high < 2)
        return;
    r->high = 0;
    r->throttle = r->throttle == 0 ? r->initial : r->throttle + r->increment;
    if (r->throttle > 99)
        r->throttle = 99;
}

static void pass_time(struct run *r, double seconds)
{
    r->time_s += seconds;
    r->throttle_s += seconds * r->throttle / 100.0;
}

static double error_from(const struct run *r, double share)
{
    for (int i = 0; i < r->told_count; i++)
        if (r->told[i].at_s >= share * r->time_s)
            return r->told[i].total_s < 0.0 ? NOT_TOLD
                                            : fabs(r->told[i].total_s - r->time_s) / r->time_s;
    return 0.0;
}

static struct model_result result_of(const struct run *r, enum model_end end, double pause_s)
{
    double pause_ms = 1000.0 * pause_s + MODEL_OVERHEAD_MS;

    return (struct model_result){
        .end = end,
        .time_s = r->time_s,
        .throttle_s = r->throttle_s + pause_s,
        .pause_ms = pause_ms,
        .passes = r->pass,
        .throttle_percent = r->throttle,
        .warnings = r->warnings,
        .downtime_limit_ms = (int64_t)r->limit_ms,
        .time_error_quarter = error_from(r, 0.25),
        .time_error_half = error_from(r, 0.5),
        .time_error_later = error_from(r, 0.75),
        .pause_error =
            r->pause_told_ms < 0.0 ? NOT_TOLD : fabs(r->pause_told_ms - pause_ms) / pause_ms,
    };
}

/* The policy stepped in while `left` MiB were unsent. */
static struct model_result ended(struct run *r, double left)
{
    double rest_s = fmin(left, r->guest->memory) / r->link;

    if (r->ended_by == POLICY_ABORT_NOW)
        return result_of(r, MODEL_ABORTED, 0.0);
    r->time_s += rest_s;
    return r->ended_by == POLICY_FORCE_NOW ? result_of(r, MODEL_FORCED, rest_s)
                                           : result_of(r, MODEL_POST_COPY, 0.0);
}

static struct model_result run(struct run *r)
{
    r->random = 0x9e3779b97f4a7c15u ^ (uint64_t)r->guest->seed * 0x2545f4914f6cdd1du;
    r->rest = r->guest->memory;
    for (r->pass = 1; r->pass < PASSES_MAX; r->pass++) {
        r->link = wavering(r, r->guest->link);
        r->dirty_rate = wavering(r, r->guest->dirty_rate);
        double lasts_s = r->rest / r->link, done_s = 0.0;
        if (sample_pass(r, lasts_s, &done_s)) {
            pass_time(r, done_s);
            return ended(r, r->rest - done_s * r->link + dirtied_in(r, done_s));
        }
        pass_time(r, lasts_s);
        double dirtied = dirtied_in(r, lasts_s);
        r->last_dirty_rate = dirtied / lasts_s;
        if (1000.0 * dirtied / r->link <= r->limit_ms) {
            r->time_s += dirtied / r->link;
            return result_of(r, MODEL_COMPLETED, dirtied / r->link);
        }
        r->sent += r->rest;
        trigger_throttle(r, dirtied, r->rest);
        r->rest = dirtied;
    }
    return result_of(r, MODEL_ENDLESS, 0.0);
}

struct model_result model_virsh(const struct model_guest *guest)
{
    static struct run r; /* large */

    r = (struct run){.guest = guest, .initial = 20, .increment = 10, .limit_ms = 300};
    return run(&r);
}

struct model_result model_policy(const struct model_guest *guest,
                                 const struct policy_limits *limits)
{
    static struct run r;
    struct policy_outlook outlook = model_outlook(guest);
    struct policy_start start = policy_start(limits, &outlook);

    r = (struct run){.guest = guest, .limits = limits, .limit_ms = 300, .next_sample_s = 0.1};
    r.policy = policy_begin(&outlook, &start);
    if (limits->auto_converge) {
        r.initial = start.throttle_initial > 0 ? start.throttle_initial : 20;
        r.increment = start.throttle_increment > 0 ? start.throttle_increment : 10;
    }
    return run(&r);
}
