/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Limits and a series of samples of any kind: each action of the policy is legal, and after a bounded
 * number of them it wants nothing more. Two limits are given, the second in force after half of the series.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "agent/policy.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { STEPS_MAX = 1000, SAMPLES_MAX = 64, DISKS = 2 };

struct input {
    const uint8_t *data;
    size_t left;
};

static void expect(int condition)
{
    if (!condition)
        abort();
}

/* The next bytes as a number; an odd first byte makes it small, so that sensible series come up too. */
static int64_t number(struct input *in)
{
    uint8_t bytes[8] = {0};
    uint64_t value = 0;
    size_t n = in->left < sizeof(bytes) ? in->left : sizeof(bytes);

    if (n > 0)
        memcpy(bytes, in->data, n);
    in->data += n;
    in->left -= n;
    for (size_t i = 0; i < sizeof(bytes); i++)
        value = value << 8 | bytes[i];
    return bytes[0] & 1 ? (int64_t)(value >> (bytes[1] & 63)) : (int64_t)value;
}

static int64_t natural(struct input *in)
{
    int64_t n = number(in);

    return n < 0 ? -(n + 1) : n;
}

/* What the configuration's and settings' bounds let through (conf/options.def.h), and more. */
static struct policy_limits read_limits(struct input *in)
{
    int64_t flags = number(in);

    return (struct policy_limits){
        .downtime_limit_ms = 1 + natural(in) % 2000000000,
        .downtime_steps = 1 + (int)(natural(in) % STEPS_MAX),
        .downtime_delay_s = natural(in),
        .completion_timeout_s = natural(in),
        .timeout_cap_s = natural(in),
        .timeout_is_total = flags & 1,
        .kind = flags & 8 ? POLICY_ADAPTIVE : POLICY_STEPPED,
        .auto_converge = flags & 16,
        .timeout_action = flags & 2 ? POLICY_ABORT : POLICY_FORCE_COMPLETE,
        .post_copy = flags & 4,
        .post_copy_after_iterations = (int)(natural(in) % 100),
    };
}

static struct policy_sample read_sample(struct input *in)
{
    return (struct policy_sample){
        .elapsed_us = number(in),
        .memory_remaining = number(in),
        .memory_processed = number(in),
        .disk_remaining = number(in),
        .disk_processed = number(in),
        .memory_bps = number(in),
        .dirty_rate = number(in),
        .iteration = (int)number(in),
        .throttle_percent = (int)number(in),
        .downtime_ms = number(in),
    };
}

/* What was done since the limits last changed. */
struct done {
    unsigned ends, post_copies;
};

static void check(const struct policy_decision *d, const struct policy_limits *limits,
                  struct done *done)
{
    expect(d->action >= POLICY_NOTHING && d->action <= POLICY_WARN);
    expect(d->action == POLICY_NOTHING || d->why != NULL);
    expect(done->post_copies == 0 || d->action == POLICY_NOTHING);
    if (d->action == POLICY_SET_DOWNTIME)
        expect(d->downtime_ms > 0 && d->downtime_ms <= limits->downtime_limit_ms);
    if (d->action == POLICY_START_POST_COPY) {
        expect(limits->post_copy);
        done->post_copies++;
    }
    if (d->action == POLICY_ABORT_NOW) {
        expect(limits->timeout_action == POLICY_ABORT);
        done->ends++;
    }
    if (d->action == POLICY_FORCE_NOW) {
        expect(limits->timeout_action == POLICY_FORCE_COMPLETE && !limits->post_copy);
        done->ends++;
    }
    expect(done->ends <= 1);
}

static void check_ends(int64_t value, int64_t low, int64_t high)
{
    expect(value >= -1 && low >= -1 && high >= -1);
    expect(low <= value && (high == -1 || value <= high));
}

static void check_told(struct policy_told t)
{
    check_ends(t.time_left_ms, t.time_left_low_ms, t.time_left_high_ms);
    check_ends(t.pause_ms, t.pause_low_ms, t.pause_high_ms);
    expect(t.pause_rest >= 0);
}

static void give(struct policy *policy, const struct policy_limits *limits,
                 const struct policy_sample *sample, struct done *done)
{
    struct policy_decision d;
    int calls = 0;

    do {
        d = policy_step(policy, limits, sample);
        check(&d, limits, done);
        expect(++calls <= STEPS_MAX + 4);
    } while (d.action != POLICY_NOTHING);
    expect(policy_timeout_s(policy, limits) >= 0);
    check_told(policy_tell(policy, limits, sample));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct input in = {.data = data, .left = size};
    struct policy_limits limits = read_limits(&in), later = read_limits(&in);
    const int64_t disks[DISKS] = {number(&in), number(&in)};
    struct done done = {0};
    struct policy_outlook outlook = {.data_gib = policy_data_gib(number(&in), disks, DISKS),
                                     .memory_bytes = number(&in),
                                     .disk_bytes = number(&in),
                                     .dirty_rate = number(&in),
                                     .bandwidth = number(&in),
                                     .bandwidth_limit = number(&in),
                                     .link = number(&in),
                                     .overhead_ms = number(&in),
                                     .pause_stray_ms = number(&in)};
    struct policy_start start = policy_start(&limits, &outlook);
    struct policy policy = policy_begin(&outlook, &start);

    expect(start.throttle_initial >= 0 && start.throttle_initial <= 95);
    check_ends(start.time_s, start.time_low_s, start.time_high_s);
    check_ends(start.pause_ms, start.pause_low_ms, start.pause_high_ms);
    for (int i = 0; i < SAMPLES_MAX && in.left > 0; i++) {
        struct policy_sample sample = read_sample(&in);
        give(&policy, &limits, &sample, &done);
        if (i != SAMPLES_MAX / 4 || done.post_copies > 0 || policy.forced)
            continue;
        limits = later;
        done = (struct done){0};
        policy_limits_changed(&policy);
    }
    return 0;
}
