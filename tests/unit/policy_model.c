/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/policy_model.h"

#include <math.h>
#include <stdbool.h>
#include <stddef.h>

#define MIB          1048576.0
#define PERIOD_S     0.5    /* between samples */
#define EVENT_S      0.005  /* from a pass's begin to the sample that it causes */
#define ZERO_SPEED   4096.0 /* MiB a second: pages of zeros are only looked at */
#define WANDER_S     1.0    /* a wobbling link has another speed after it, */
#define WANDER_KEPT  0.8    /* which keeps so much of the deviation before */
#define AHEAD_S      0.2    /* the long measurement began so much before libvirt's call */
#define NOT_TOLD     9.0
#define EMULATOR_MIB 40.0

enum { PASSES_MAX = 2000, TOLD_MAX = 20000, CHUNKS = 64, SAMPLED_PAGES_PER_GIB = 512 };

/* All that is needed to tell later what was told at that moment. */
struct told {
    double at_s;
    int pass;
    struct policy policy;
    struct policy_sample sample;
};

struct run {
    const struct model_guest *guest;
    uint64_t random;
    double time_s, throttle_s, sent, rest;
    double disk_rest;
    int pass, throttle, high, initial, increment;
    double link, rate_share; /* of this pass */
    double wander, wander_until_s;
    bool zero[CHUNKS];
    double touched, written; /* MiB; written to in this pass */
    double last_dirty_rate;
    double limit_ms;
    /* with a policy */
    const struct policy_limits *limits;
    struct policy policy;
    int measure_s; /* how long the measurement that goes on lasts; 0 = none */
    double next_sample_s;
    enum policy_action ended_by;
    int warnings;
    double overhead_ms;
    struct told told[TOLD_MAX];
    int told_count;
};

/* ---- chance ---- */

/* 0 to 1 */
static double chance(uint64_t *random)
{
    *random ^= *random << 13;
    *random ^= *random >> 7;
    *random ^= *random << 17;
    return (double)(*random % 20001) / 20000.0;
}

static double wavering(struct run *r)
{
    return 1.0 + r->guest->waver * (2.0 * chance(&r->random) - 1.0);
}

/* About normally distributed, of standard deviation 1. */
static double deviation(uint64_t *random)
{
    double sum = 0.0;

    for (int i = 0; i < 12; i++)
        sum += chance(random);
    return sum - 6.0;
}

static uint64_t seed_of(const struct model_guest *guest)
{
    return 0x9e3779b97f4a7c15u ^ (uint64_t)guest->seed * 0x2545f4914f6cdd1du;
}

/* ---- the guest ---- */

static double behaviour(const struct model_guest *g, double at_s)
{
    return g->changes_by > 0.0 && at_s >= g->changes_at_s ? g->changes_by : 1.0;
}

/* Distinct MiB of `set` after `written` MiB of writes. */
static double distinct(const struct model_guest *g, double set, double written)
{
    double u = set > 0.0 ? written / set : 0.0;

    switch (g->pattern) {
    case MODEL_ROUND_ROBIN:
        return fmin(set, written);
    case MODEL_RANDOM:
        return set * (1.0 - exp(-u));
    case MODEL_LAYERED:
        return set * (0.2 * (1.0 - exp(-4.0 * u)) + 0.8 * (1.0 - exp(-0.25 * u)));
    }
    return 0.0;
}

static double writing_share(const struct run *r)
{
    double busy = 1.0 - r->guest->idle;

    return fmin(1.0, (1.0 - r->throttle / 100.0) / busy);
}

static double dirtied(const struct run *r)
{
    double set = r->guest->hot_set * behaviour(r->guest, r->time_s);

    return distinct(r->guest, fmin(set, r->touched), r->written);
}

/* As QEMU measures: of some pages of the whole memory, how many have changed; in whole MiB a second. */
static int64_t measured_dirty_rate(const struct model_guest *g, int seconds, uint64_t *random)
{
    double changed = distinct(g, g->hot_set, g->dirty_rate * seconds);
    double pages = SAMPLED_PAGES_PER_GIB * g->memory / 1024.0, share = changed / g->memory;

    if (!g->sampled)
        return (int64_t)(changed / seconds * MIB);
    double spread = sqrt(share * (1.0 - share) / pages) * deviation(random);
    double seen = floor(fmax(share + spread, 0.0) * pages + 0.5) / pages * g->memory;
    return (int64_t)floor(seen / seconds) * (int64_t)MIB;
}

/* As the emulator's resident memory tells it, with the emulator's own. */
static int64_t touched_seen(const struct model_guest *g)
{
    double touched = g->memory * (1.0 - g->untouched) + EMULATOR_MIB;

    return g->untouched > 0.0 ? (int64_t)(fmin(touched, g->memory) * MIB) : 0;
}

/* The bandwidth was learned from an earlier migration, on another day. */
static double known_share(const struct model_guest *g, uint64_t *random)
{
    return g->wobble > 0.0 ? fmax(0.5, 1.0 + g->wobble * deviation(random)) : 1.0;
}

static struct policy_outlook unmeasured(struct policy_outlook outlook)
{
    outlook.touched_bytes = 0;
    outlook.busy_percent = 0;
    outlook.dirty_rate = -1;
    return outlook;
}

static struct policy_outlook outlook_of(const struct model_guest *guest, uint64_t *random)
{
    const int64_t disk_bytes = (int64_t)(guest->disk * MIB);

    return (struct policy_outlook){
        .data_gib = policy_data_gib((int64_t)guest->memory, &disk_bytes, disk_bytes > 0),
        .memory_bytes = (int64_t)(guest->memory * MIB),
        .disk_bytes = disk_bytes,
        .touched_bytes = touched_seen(guest),
        .busy_percent = (int)(100.0 * (1.0 - guest->idle) + 0.5),
        .dirty_rate = measured_dirty_rate(guest, 1, random),
        .bandwidth = (int64_t)(guest->link * known_share(guest, random) * MIB),
        .link = guest->unlimited_known ? (int64_t)(guest->unlimited * MIB) : 0,
        .finish_ms = MODEL_FINISH_MS,
        .pause_stray_ms = (int64_t)(0.8 * guest->overhead_spread * MODEL_OVERHEAD_MS + 0.5),
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

static void take_sample(struct run *r)
{
    struct policy_sample sample = {
        .elapsed_us = (int64_t)(r->time_s * 1e6),
        .memory_remaining = r->pass > 0 ? (int64_t)(r->rest * MIB) : 0,
        .memory_processed = (int64_t)(r->sent * MIB),
        .disk_remaining = (int64_t)(r->disk_rest * MIB),
        .disk_processed = (int64_t)((r->guest->disk - r->disk_rest) * MIB),
        .dirty_rate = (int64_t)(r->last_dirty_rate * MIB),
        .iteration = r->pass,
        .throttle_percent = r->throttle,
        .downtime_ms = -1,
        .bandwidth_limit = r->guest->unlimited > 0.0 ? (int64_t)(r->guest->link * MIB) : 0,
    };
    struct policy_decision d;

    if (r->measure_s > 0 && r->time_s >= r->measure_s - AHEAD_S) {
        policy_measured(&r->policy, r->measure_s,
                        measured_dirty_rate(r->guest, r->measure_s, &r->random));
        r->measure_s = 0;
    }
    do {
        d = policy_step(&r->policy, r->limits, &sample);
        act(r, &d);
    } while (d.action != POLICY_NOTHING);
    if (r->told_count < TOLD_MAX)
        r->told[r->told_count++] = (struct told){r->time_s, r->pass, r->policy, sample};
}

/* ---- QEMU's part ---- */

static bool is_zero(const struct run *r)
{
    int chunk = (int)((r->guest->memory - r->rest) / r->guest->memory * CHUNKS + 1e-9);

    return r->pass == 1 && chunk < CHUNKS && r->zero[chunk];
}

/* MiB until memory of another kind comes, in the first pass. */
static double chunk_left(const struct run *r)
{
    double chunk = r->guest->memory / CHUNKS, done = r->guest->memory - r->rest;

    return fmax(chunk * (floor(done / chunk + 1e-9) + 1.0) - done, 1e-6);
}

static double link_now(struct run *r)
{
    if (r->guest->wobble > 0.0 && r->time_s >= r->wander_until_s) {
        double fresh = sqrt(1.0 - WANDER_KEPT * WANDER_KEPT) * deviation(&r->random);
        r->wander = WANDER_KEPT * r->wander + fresh;
        r->wander_until_s = r->time_s + WANDER_S;
    }
    return r->link * fmax(0.2, 1.0 + r->guest->wobble * r->wander);
}

/* A limit is what the link gives, until the guest is stopped. */
static double lifted(const struct run *r, double seen)
{
    return r->guest->unlimited > 0.0 ? seen * r->guest->unlimited / r->guest->link : seen;
}

/* Sends for at most `most_s`, at one speed; how long it did. */
static double go(struct run *r, double *rest, double most_s)
{
    bool zero = is_zero(r);
    double link = link_now(r), speed = zero ? fmax(ZERO_SPEED, link) : link;
    double lasts_s = fmin(*rest / speed, most_s);

    if (r->guest->wobble > 0.0)
        lasts_s = fmin(lasts_s, fmax(r->wander_until_s - r->time_s, 1e-6));
    if (r->guest->untouched > 0.0 && r->pass == 1)
        lasts_s = fmin(lasts_s, chunk_left(r) / speed);
    if (r->time_s < r->guest->changes_at_s)
        lasts_s = fmin(lasts_s, fmax(r->guest->changes_at_s - r->time_s, 1e-6));
    double done = fmin(speed * lasts_s, *rest);
    *rest = done > *rest - 1e-9 ? 0.0 : *rest - done;
    r->sent += zero || rest != &r->rest ? 0.0 : done;
    r->written += r->guest->dirty_rate * r->rate_share * behaviour(r->guest, r->time_s) *
                  writing_share(r) * lasts_s;
    r->time_s += lasts_s;
    r->throttle_s += lasts_s * r->throttle / 100.0;
    return lasts_s;
}

/* A pass, or the disks; false if the policy ended it. */
static bool send(struct run *r, double *rest)
{
    double begun_s = r->time_s, event_s = begun_s + EVENT_S;
    bool event = true;

    while (*rest > 0.0) {
        double at_s = !r->limits ? INFINITY
                      : event    ? event_s
                                 : fmax(r->next_sample_s, begun_s + 2.0 * EVENT_S);
        (void)go(r, rest, at_s - r->time_s);
        if (*rest <= 0.0 || r->time_s < at_s - 1e-9)
            continue;
        take_sample(r);
        if (r->ended_by != POLICY_NOTHING)
            return false;
        if (!event)
            r->next_sample_s = r->time_s + PERIOD_S;
        event = false;
    }
    return true;
}

static void trigger_throttle(struct run *r, double left, double size)
{
    if (r->initial == 0 || r->pass < 2 || left <= 0.5 * size * 1.000001 || ++r->high < 2)
        return;
    r->high = 0;
    r->throttle = r->throttle == 0 ? r->initial : r->throttle + r->increment;
    if (r->throttle > 99)
        r->throttle = 99;
}

/* What was told when so much of the time was over; NULL = nothing. */
static const struct told *told_after(const struct run *r, double share)
{
    for (int i = 0; i < r->told_count; i++)
        if (r->told[i].at_s >= share * r->time_s)
            return &r->told[i];
    return NULL;
}

static const struct told *told_in_pass(const struct run *r, int pass)
{
    for (int i = 0; i < r->told_count; i++)
        if (r->told[i].pass >= pass)
            return &r->told[i];
    return NULL;
}

static struct model_told judged_value(double told, double low, double high, double truth,
                                      double whole)
{
    return (struct model_told){
        .error = fabs(told - truth) / whole,
        .within = low <= truth && (high < 0.0 || truth <= high),
        .open = high < 0.0,
    };
}

static struct model_told judged(const struct run *r, const struct told *told)
{
    struct policy_told t = POLICY_TOLD_NOTHING;

    if (told)
        t = policy_tell(&told->policy, r->limits, &told->sample);
    if (t.time_left_ms < 0)
        return (struct model_told){.error = NOT_TOLD};
    double ended_ms = 1000.0 * r->time_s + r->overhead_ms + MODEL_FINISH_MS;
    return judged_value((double)t.time_left_ms, (double)t.time_left_low_ms,
                        (double)t.time_left_high_ms, ended_ms - 1000.0 * told->at_s, ended_ms);
}

static struct model_told judged_pause(const struct run *r, double pause_ms)
{
    const struct told *last = r->told_count > 0 ? &r->told[r->told_count - 1] : NULL;
    struct policy_told t = POLICY_TOLD_NOTHING;

    if (last)
        t = policy_tell(&last->policy, r->limits, &last->sample);
    if (t.pause_ms < 0)
        return (struct model_told){.error = NOT_TOLD};
    return judged_value((double)t.pause_ms, (double)t.pause_low_ms, (double)t.pause_high_ms,
                        pause_ms, pause_ms);
}

static struct model_result result_of(const struct run *r, enum model_end end, double pause_s)
{
    double pause_ms = 1000.0 * pause_s + r->overhead_ms;

    return (struct model_result){
        .end = end,
        .time_s = r->time_s,
        .throttle_s = r->throttle_s + pause_s,
        .pause_ms = pause_ms,
        .passes = r->pass,
        .throttle_percent = r->throttle,
        .warnings = r->warnings,
        .downtime_limit_ms = (int64_t)r->limit_ms,
        .quarter = judged(r, told_after(r, 0.25)),
        .half = judged(r, told_after(r, 0.5)),
        .later = judged(r, told_after(r, 0.75)),
        .second_pass = judged(r, told_in_pass(r, 2)),
        .third_pass = judged(r, told_in_pass(r, 3)),
        .pause = judged_pause(r, pause_ms),
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

static void begin(struct run *r)
{
    int zeros = (int)(r->guest->untouched * CHUNKS + 0.5);

    r->overhead_ms = MODEL_OVERHEAD_MS;
    if (r->guest->overhead_spread > 0.0)
        r->overhead_ms *= fmax(0.3, 1.0 + r->guest->overhead_spread * deviation(&r->random));
    r->rest = r->guest->memory;
    r->disk_rest = r->guest->disk;
    r->touched = r->guest->memory * (1.0 - (double)zeros / CHUNKS);
    while (zeros > 0) {
        int chunk = (int)(chance(&r->random) * (CHUNKS - 0.001));
        zeros -= !r->zero[chunk];
        r->zero[chunk] = true;
    }
}

static struct model_result run(struct run *r)
{
    begin(r);
    for (r->pass = r->disk_rest > 0.0 ? 0 : 1; r->pass < PASSES_MAX; r->pass++) {
        r->link = r->guest->link * wavering(r);
        r->rate_share = wavering(r);
        r->written = 0.0;
        if (r->pass == 0 && send(r, &r->disk_rest))
            continue;
        double size = r->rest, begun_s = r->time_s;
        if (r->ended_by != POLICY_NOTHING || !send(r, &r->rest))
            return ended(r, r->rest + dirtied(r));
        double left = dirtied(r), seen = link_now(r), pause_s = left / lifted(r, seen);
        r->last_dirty_rate = left / (r->time_s - begun_s);
        if (1000.0 * left / seen <= r->limit_ms) {
            r->time_s += pause_s;
            return result_of(r, MODEL_COMPLETED, pause_s);
        }
        trigger_throttle(r, left, size);
        r->rest = left;
    }
    return result_of(r, MODEL_ENDLESS, 0.0);
}

struct model_result model_virsh(const struct model_guest *guest)
{
    static struct run r; /* large */

    r = (struct run){.guest = guest, .initial = 20, .increment = 10, .limit_ms = 300};
    r.random = seed_of(guest);
    return run(&r);
}

struct model_result model_policy(const struct model_guest *guest,
                                 const struct policy_limits *limits)
{
    static struct run r;
    uint64_t random = seed_of(guest) + 1;
    struct policy_outlook outlook = outlook_of(guest, &random);

    if (guest->unmeasured)
        outlook = unmeasured(outlook);
    struct policy_start start = policy_start(limits, &outlook);

    r = (struct run){.guest = guest, .limits = limits, .limit_ms = 300, .next_sample_s = 0.1};
    r.random = seed_of(guest);
    r.policy = policy_begin(&outlook, &start);
    r.measure_s = guest->unmeasured ? 0 : policy_measure_s(&outlook);
    if (limits->auto_converge) {
        r.initial = start.throttle_initial > 0 ? start.throttle_initial : 20;
        r.increment = start.throttle_increment > 0 ? start.throttle_increment : 10;
    }
    return run(&r);
}
