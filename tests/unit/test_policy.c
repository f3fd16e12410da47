/* SPDX-License-Identifier: Apache-2.0 */
/* The migration policy over synthetic traces, and over a model of QEMU. */
#include "tests/unit/unit.h"

#include "agent/decision.h"
#include "agent/policy.h"
#include "tests/unit/policy_model.h"

#define SEC INT64_C(1000000)
#define MIB (INT64_C(1) << 20)
#define GIB (INT64_C(1) << 30)

/* Nova's defaults: 500 ms in 10 steps, 75 s apart for each GiB, 800 s for each GiB in all. */
static struct policy_limits nova(void)
{
    return (struct policy_limits){
        .downtime_limit_ms = 500,
        .downtime_steps = 10,
        .downtime_delay_s = 75,
        .completion_timeout_s = 800,
        .timeout_action = POLICY_ABORT,
    };
}

static struct policy_sample at(int64_t elapsed_us)
{
    return (struct policy_sample){.elapsed_us = elapsed_us,
                                  .memory_remaining = GIB,
                                  .memory_processed = elapsed_us, /* 1 MB/s */
                                  .downtime_ms = -1,
                                  .iteration = 1};
}

static struct policy_decision step(struct policy *policy, const struct policy_limits *limits,
                                   const struct policy_sample *sample)
{
    struct policy_decision decision = policy_step(policy, limits, sample);

    /* a decision says why, and a decision that is none says nothing */
    UNIT_EQ(decision.action != POLICY_NOTHING, decision.why != NULL);
    UNIT_EQ(decision.action == POLICY_SET_DOWNTIME, decision.downtime_ms > 0);
    return decision;
}

/* ---- Nova's numbers ---- */

UNIT_TEST(data, "data_gib is at least 2 for memory and for each disk, else their size")
{
    const int64_t disks[] = {GIB / 2, 20 * GIB, 0, -1};

    UNIT_TRUE(policy_data_gib(512, NULL, 0) == 2.0);
    UNIT_TRUE(policy_data_gib(4096, NULL, 0) == 4.0);
    UNIT_TRUE(policy_data_gib(3584, NULL, 0) == 3.5);
    UNIT_TRUE(policy_data_gib(1024, disks, 2) == 2.0 + 2.0 + 20.0);
    UNIT_TRUE(policy_data_gib(8192, disks, 4) == 8.0 + 2.0 + 20.0 + 2.0 + 2.0);
}

UNIT_TEST(steps, "the downtime steps are those that Nova computes for its defaults")
{
    /* base 50, offset (500 - 50) / 10 = 45: 50, 95, ... 500 */
    static const int64_t expected[] = {50, 95, 140, 185, 230, 275, 320, 365, 410, 455, 500};
    struct policy_limits limits = nova();

    for (int i = 0; i <= 10; i++)
        UNIT_EQ(policy_downtime_step_ms(&limits, i), expected[i]);
    UNIT_EQ(policy_downtime_step_ms(&limits, 11), 500);
    limits.downtime_limit_ms = 400; /* 40, 76, 112 ... */
    UNIT_EQ(policy_downtime_step_ms(&limits, 0), 40);
    UNIT_EQ(policy_downtime_step_ms(&limits, 1), 76);
    limits.downtime_steps =
        3; /* base 133.3, offset 88.9: truncated, the last is the limit itself */
    UNIT_EQ(policy_downtime_step_ms(&limits, 0), 133);
    UNIT_EQ(policy_downtime_step_ms(&limits, 1), 222);
    UNIT_EQ(policy_downtime_step_ms(&limits, 2), 311);
    UNIT_EQ(policy_downtime_step_ms(&limits, 3), 400);
    limits.downtime_steps = 1;
    UNIT_EQ(policy_downtime_step_ms(&limits, 0), 400);
}

UNIT_TEST(schedule, "a step is due when its delay for each GiB has passed, and is made once")
{
    struct policy_limits limits = nova();
    struct policy policy = {.data_gib = 2.0}; /* 150 s apart */
    int64_t set_at_s[11] = {0};
    int made = 0;

    limits.completion_timeout_s = 0;
    for (int64_t us = SEC / 2; us < 1700 * SEC; us += SEC / 2) {
        struct policy_sample sample = at(us);
        struct policy_decision d = step(&policy, &limits, &sample);
        if (d.action == POLICY_NOTHING)
            continue;
        UNIT_EQ(d.action, POLICY_SET_DOWNTIME);
        if (!UNIT_TRUE(made < 11))
            return;
        UNIT_EQ(d.downtime_ms, policy_downtime_step_ms(&limits, made));
        set_at_s[made++] = us / SEC;
    }
    UNIT_EQ(made, 11);
    for (int i = 0; i < made; i++)
        UNIT_EQ(set_at_s[i], 150 * i);
}

UNIT_TEST(late_look, "after a gap in the samples only the newest step is made")
{
    struct policy_limits limits = nova();
    struct policy policy = {.data_gib = 2.0};
    struct policy_sample sample = at(460 * SEC);
    struct policy_decision d = step(&policy, &limits, &sample);

    UNIT_EQ(d.action, POLICY_SET_DOWNTIME);
    UNIT_EQ(d.downtime_ms, 185); /* steps 0 to 3 are due */
    UNIT_EQ(step(&policy, &limits, &sample).action, POLICY_NOTHING);
}

UNIT_TEST(timeout_scale, "the timeout is for each GiB, or total, and the operator's cap cuts it")
{
    struct policy_limits limits = nova();
    struct policy policy = {.data_gib = 2.5};

    UNIT_EQ(policy_timeout_s(&policy, &limits), 2000);
    limits.timeout_is_total = true;
    UNIT_EQ(policy_timeout_s(&policy, &limits), 800);
    limits.timeout_cap_s = 600;
    UNIT_EQ(policy_timeout_s(&policy, &limits), 600);
    limits.completion_timeout_s = 0;
    UNIT_EQ(policy_timeout_s(&policy, &limits), 600);
    limits.timeout_cap_s = 0;
    UNIT_EQ(policy_timeout_s(&policy, &limits), 0);
    limits.completion_timeout_s = 5;
    limits.timeout_cap_s = 600;
    UNIT_EQ(policy_timeout_s(&policy, &limits), 5);
}

/* ---- the timeout ---- */

/* How often an action is decided between two times, a sample each second. */
static int count(struct policy *policy, const struct policy_limits *limits,
                 enum policy_action action, int64_t from_s, int64_t to_s)
{
    int n = 0;

    for (int64_t s = from_s; s <= to_s; s++) {
        struct policy_sample sample = at(s * SEC);
        for (int i = 0; i < 20; i++) {
            enum policy_action now = step(policy, limits, &sample).action;
            n += now == action;
            if (now == POLICY_NOTHING)
                break;
            UNIT_TRUE(i < 19); /* ends */
        }
    }
    return n;
}

UNIT_TEST(timeout_abort, "the timeout aborts once, when the time is over and not before")
{
    struct policy_limits limits = nova();
    struct policy policy = {.data_gib = 2.0};

    UNIT_EQ(count(&policy, &limits, POLICY_ABORT_NOW, 1, 1600), 0);
    UNIT_EQ(count(&policy, &limits, POLICY_ABORT_NOW, 1601, 1601), 1);
    UNIT_EQ(count(&policy, &limits, POLICY_ABORT_NOW, 1602, 4000), 0);
}

UNIT_TEST(timeout_force, "force_complete forces once, by post-copy where it is permitted")
{
    struct policy_limits limits = nova();
    struct policy policy = {.data_gib = 2.0}, other = {.data_gib = 2.0};

    limits.timeout_action = POLICY_FORCE_COMPLETE;
    UNIT_EQ(count(&policy, &limits, POLICY_FORCE_NOW, 1, 4000), 1);
    UNIT_TRUE(policy.forced && !policy.post_copy_started);
    limits.post_copy = true;
    UNIT_EQ(count(&other, &limits, POLICY_START_POST_COPY, 1, 4000), 1);
    UNIT_TRUE(other.post_copy_started && !other.forced);
}

UNIT_TEST(timeout_abort_first, "the action abort aborts even where post-copy is permitted")
{
    struct policy_limits limits = nova();
    struct policy policy = {.data_gib = 2.0};

    limits.post_copy = true;
    UNIT_EQ(count(&policy, &limits, POLICY_ABORT_NOW, 1, 4000), 1);
    UNIT_TRUE(!policy.post_copy_started);
}

UNIT_TEST(abort_is_final, "after the timeout's abort neither post-copy nor a step is begun")
{
    struct policy_limits limits = nova();
    struct policy policy = {.data_gib = 2.0};

    limits.post_copy = true;
    limits.post_copy_after_iterations = 1;
    limits.completion_timeout_s = 1;
    for (int i = 1; i <= 30; i++) {
        struct policy_sample sample = at((2 + i) * SEC);
        sample.iteration = i;
        enum policy_action action = step(&policy, &limits, &sample).action;
        UNIT_EQ(action, i == 1 ? POLICY_ABORT_NOW : POLICY_NOTHING);
        UNIT_EQ(step(&policy, &limits, &sample).action, POLICY_NOTHING);
    }
}

UNIT_TEST(no_abort_in_post_copy, "in post-copy there is no timeout, no step and no force")
{
    struct policy_limits limits = nova();
    struct policy policy = {.data_gib = 2.0, .post_copy_started = true};

    limits.post_copy = true;
    for (int64_t s = 1; s < 5000; s += 7) {
        struct policy_sample sample = at(s * SEC);
        UNIT_EQ(step(&policy, &limits, &sample).action, POLICY_NOTHING);
    }
}

UNIT_TEST(no_timeout, "without a completion timeout nothing is ever aborted or forced")
{
    struct policy_limits limits = nova();
    struct policy policy = {.data_gib = 2.0};

    limits.completion_timeout_s = 0;
    UNIT_EQ(count(&policy, &limits, POLICY_ABORT_NOW, 1, 100000), 0);
    UNIT_TRUE(!policy.timeout_fired);
}

/* ---- post-copy by itself ---- */

/* A guest that dirties as fast as it is copied: each pass leaves as much as the last one. */
static int64_t switch_at_iteration(struct policy *policy, const struct policy_limits *limits,
                                   int64_t disk_remaining, int64_t shrinks_by)
{
    int64_t remaining = GIB;

    for (int i = 1; i <= 30; i++) {
        struct policy_sample sample = at(i * SEC);
        sample.iteration = i;
        sample.memory_remaining = remaining;
        sample.disk_remaining = disk_remaining;
        remaining = remaining > shrinks_by ? remaining - shrinks_by : 0;
        for (int k = 0; k < 5; k++)
            if (step(policy, limits, &sample).action == POLICY_START_POST_COPY)
                return i;
    }
    return 0;
}

UNIT_TEST(post_copy_switch, "post-copy begins after the given passes without progress")
{
    struct policy_limits limits = nova();
    struct policy policy = {.data_gib = 2.0}, converging = {.data_gib = 2.0};
    struct policy copying = {.data_gib = 2.0}, never = {.data_gib = 2.0}, off = {.data_gib = 2.0};

    limits.post_copy = true;
    limits.post_copy_after_iterations = 3;
    UNIT_EQ(switch_at_iteration(&policy, &limits, 0, 0), 4);
    UNIT_EQ(switch_at_iteration(&converging, &limits, 0, 10 * MIB), 0);
    UNIT_EQ(switch_at_iteration(&copying, &limits, MIB, 0), 0); /* disks have to be there first */
    limits.post_copy_after_iterations = 0;
    UNIT_EQ(switch_at_iteration(&never, &limits, 0, 0), 0);
    limits.post_copy_after_iterations = 3;
    limits.post_copy = false;
    UNIT_EQ(switch_at_iteration(&off, &limits, 0, 0), 0);
}

/* ---- limits that change while it runs ---- */

UNIT_TEST(raised_downtime, "a higher downtime limit is set at the next sample, step by step anew")
{
    struct policy_limits limits = nova();
    struct policy policy = {.data_gib = 2.0};

    limits.completion_timeout_s = 0;
    UNIT_EQ(count(&policy, &limits, POLICY_SET_DOWNTIME, 1, 1600), 11);
    UNIT_EQ(policy.downtime_set_ms, 500);
    limits.downtime_limit_ms = 2000;
    policy_limits_changed(&policy);
    struct policy_sample sample = at(1601 * SEC);
    struct policy_decision d = step(&policy, &limits, &sample);
    UNIT_EQ(d.action, POLICY_SET_DOWNTIME);
    UNIT_EQ(d.downtime_ms, 2000); /* all steps are due by now */
    UNIT_EQ(step(&policy, &limits, &sample).action, POLICY_NOTHING);
}

UNIT_TEST(lowered_timeout, "a timeout that is lowered while it runs is judged from the start")
{
    struct policy_limits limits = nova();
    struct policy policy = {.data_gib = 2.0};

    UNIT_EQ(count(&policy, &limits, POLICY_ABORT_NOW, 1, 100), 0);
    limits.completion_timeout_s = 40; /* 80 s for 2 GiB */
    policy_limits_changed(&policy);
    UNIT_EQ(count(&policy, &limits, POLICY_ABORT_NOW, 101, 103), 1);
}

UNIT_TEST(raised_timeout, "a timeout that fired and is raised fires again when the new one is over")
{
    struct policy_limits limits = nova();
    struct policy policy = {.data_gib = 2.0};

    UNIT_EQ(count(&policy, &limits, POLICY_ABORT_NOW, 1, 1700), 1);
    limits.completion_timeout_s = 1000;
    policy_limits_changed(&policy);
    UNIT_EQ(count(&policy, &limits, POLICY_ABORT_NOW, 1701, 2000), 0);
    UNIT_EQ(count(&policy, &limits, POLICY_ABORT_NOW, 2001, 3000), 1);
}

/* ---- what people are told ---- */

/* A pass over memory as the hypervisor tells it: `left` at its begin, `seconds` long. */
static void give_pass(struct policy *policy, const struct policy_limits *limits, int iteration,
                      int64_t begun_us, int64_t left, int64_t rate)
{
    for (int i = 0; i < 4; i++) {
        struct policy_sample sample = at(begun_us + i * SEC / 10);
        sample.iteration = iteration;
        sample.memory_remaining = left - i * rate / 10;
        sample.memory_processed = rate * sample.elapsed_us / SEC;
        while (policy_step(policy, limits, &sample).action != POLICY_NOTHING) {
        }
    }
}

/* What is told is the middle of many forecasts. */
static bool is_near(int64_t value, int64_t expected)
{
    bool is = llabs(value - expected) * 5 <= expected;

    if (!is)
        fprintf(stderr, "# %lld is not near %lld\n", (long long)value, (long long)expected);
    return is;
}

UNIT_TEST(expected, "the expected pause is what the pass under way will leave, and the overhead")
{
    struct policy_limits limits = nova();
    struct policy policy = {.data_gib = 2.0};
    struct policy_sample sample = at(SEC);

    limits.downtime_delay_s = 1;
    sample.iteration = 0; /* disks are copied: memory has not begun */
    UNIT_EQ(policy_tell(&policy, &limits, &sample).pause_ms, -1);
    give_pass(&policy, &limits, 1, SEC, 1000 * MIB, 100 * MIB); /* 10 s */
    sample = at(3 * SEC / 2);
    UNIT_EQ(policy_tell(&policy, &limits, &sample).pause_ms, -1); /* nobody knows yet */
    sample.downtime_ms = 300;                                     /* QEMU does */
    UNIT_EQ(policy_tell(&policy, &limits, &sample).pause_ms, 300);
    policy_measured(&policy, 1, 30 * MIB);
    give_pass(&policy, &limits, 2, 11 * SEC, 300 * MIB, 100 * MIB); /* dirtied at 30 MiB/s */
    sample = at(11 * SEC + 3 * SEC / 10);
    sample.iteration = 2;
    sample.memory_remaining = 270 * MIB;
    /* this pass of 3 s leaves 90 MiB (900 ms), the next one 27 MiB: below the limit of 500 ms */
    const struct policy_told told = policy_tell(&policy, &limits, &sample);
    UNIT_TRUE(is_near(told.pause_ms, 270 + 60));
    UNIT_TRUE(told.pause_low_ms < 300 && told.pause_high_ms > 360);
    UNIT_TRUE(is_near(told.time_left_ms, 2700 + 900 + 270));
    UNIT_TRUE(told.time_left_low_ms < 3700 && told.time_left_high_ms > 4000);
    UNIT_TRUE(is_near(1000 * told.pause_rest, 27000 * MIB));
    policy.overhead_ms = 400;
    UNIT_TRUE(is_near(policy_tell(&policy, &limits, &sample).pause_ms, 270 + 400));
}

UNIT_TEST(learning, "what a measured pause was off goes into the overhead by half")
{
    UNIT_EQ(policy_learn_overhead_ms(0, 160, 200), 80);
    UNIT_EQ(policy_learn_overhead_ms(80, 200, 200), 80);
    UNIT_EQ(policy_learn_overhead_ms(80, 300, 100), 1);
    UNIT_EQ(policy_learn_overhead_ms(80, 0, INT64_MAX), 5000);
}

UNIT_TEST(time_left, "the time left is told when it can be, and not when it does not converge")
{
    struct policy_limits limits = nova();
    struct policy policy = {.has_sample = true, .data_gib = 2.0, .throughput = 100.0 * MIB};
    struct policy_sample sample = {.memory_remaining = 500 * MIB, .disk_remaining = 500 * MIB};
    struct policy fresh = {0};

    limits.completion_timeout_s = 0;
    UNIT_EQ(policy_told_s(policy_tell(&fresh, &limits, &sample).time_left_ms), -1);
    UNIT_EQ(policy_told_s(policy_tell(&policy, &limits, &sample).time_left_ms),
            10);                     /* disks, then memory */
    policy.memory_bytes = 500 * MIB; /* while disks are copied nobody tells of memory */
    sample.memory_remaining = 0;
    UNIT_EQ(policy_told_s(policy_tell(&policy, &limits, &sample).time_left_ms), 10);
    sample.iteration = 3;
    sample.memory_remaining = 500 * MIB;
    sample.disk_remaining = 0;
    sample.dirty_rate = 50 * MIB; /* 5 + 2.5 + ... + 0.04 s */
    UNIT_TRUE(is_near(policy_tell(&policy, &limits, &sample).time_left_ms, 9960));
    sample.dirty_rate = 400 * MIB; /* does not fit into 500 ms, ever: each pass leaves more */
    UNIT_EQ(policy_told_s(policy_tell(&policy, &limits, &sample).time_left_ms), -1);
    limits.completion_timeout_s = 5;
    UNIT_EQ(policy_told_s(policy_tell(&policy, &limits, &sample).time_left_ms), -1); /* aborted */
    limits.timeout_action = POLICY_FORCE_COMPLETE;
    UNIT_TRUE(policy_told_s(policy_tell(&policy, &limits, &sample).time_left_ms) >=
              10); /* forced, after 5 s a GiB */
    policy.post_copy_started = true;
    sample.memory_remaining = 300 * MIB;
    UNIT_EQ(policy_told_s(policy_tell(&policy, &limits, &sample).time_left_ms), 3);
}

UNIT_TEST(throughput, "the throughput is that of memory and disk, smoothed, whatever the sampling")
{
    struct policy_limits limits = nova();
    struct policy policy = {.data_gib = 2.0};

    for (int i = 0; i < 60; i++) {
        struct policy_sample sample = at((i + 1) * SEC / 2);
        sample.memory_processed = i * 10 * MIB;
        sample.disk_processed = i * 15 * MIB;
        (void)step(&policy, &limits, &sample);
        (void)step(&policy, &limits, &sample); /* the same again changes nothing */
    }
    UNIT_TRUE(policy.throughput > 49.9 * (double)MIB && policy.throughput < 50.1 * (double)MIB);
    struct policy_sample back = at(40 * SEC); /* counters that go back are not believed */
    back.memory_processed = 0;
    (void)step(&policy, &limits, &back);
    UNIT_TRUE(policy.throughput > 49.9 * (double)MIB);
}

/* ---- anything ---- */

static uint64_t next(uint64_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state;
}

static struct policy_limits any_limits(uint64_t *r)
{
    return (struct policy_limits){
        .kind = next(r) % 2 ? POLICY_ADAPTIVE : POLICY_STEPPED,
        .auto_converge = next(r) % 2,
        .downtime_limit_ms = (int64_t)(next(r) % 5000) + 20,
        .downtime_steps = (int)(next(r) % 20) + 1,
        .downtime_delay_s = (int64_t)(next(r) % 100),
        .completion_timeout_s = (int64_t)(next(r) % 500),
        .timeout_is_total = next(r) % 2,
        .timeout_cap_s = (int64_t)(next(r) % 3 ? 0 : next(r) % 900),
        .timeout_action = next(r) % 2 ? POLICY_ABORT : POLICY_FORCE_COMPLETE,
        .post_copy = next(r) % 2,
        .post_copy_after_iterations = (int)(next(r) % 5),
    };
}

static struct policy_sample any_sample(uint64_t *r, int64_t elapsed_us)
{
    return (struct policy_sample){
        .elapsed_us = elapsed_us,
        .memory_remaining = (int64_t)(next(r) % (64 * (uint64_t)GIB)),
        .memory_processed = (int64_t)(next(r) % (64 * (uint64_t)GIB)),
        .disk_remaining = next(r) % 2 ? 0 : (int64_t)(next(r) % (uint64_t)GIB),
        .disk_processed = (int64_t)(next(r) % (uint64_t)GIB),
        .memory_bps = next(r) % 3 ? 0 : (int64_t)(next(r) % (uint64_t)GIB),
        .dirty_rate = (int64_t)(next(r) % (uint64_t)GIB),
        .iteration = (int)(next(r) % 50),
        .throttle_percent = (int)(next(r) % 110),
        .downtime_ms = (int64_t)(next(r) % 1000) - 1,
    };
}

/* What no series may bring about. `seen` has what was done since the last change of limits. */
static void check_legal(const struct policy_decision *d, const struct policy_limits *limits,
                        const struct policy *before, bool seen[POLICY_WARN + 1])
{
    bool ended = before->post_copy_started || before->forced || seen[POLICY_ABORT_NOW];

    switch (d->action) {
    case POLICY_SET_DOWNTIME:
        UNIT_TRUE(!ended && d->downtime_ms > 0 && d->downtime_ms <= limits->downtime_limit_ms &&
                  d->downtime_ms != before->downtime_set_ms);
        break;
    case POLICY_START_POST_COPY:
        UNIT_TRUE(limits->post_copy && !ended);
        break;
    case POLICY_ABORT_NOW:
        UNIT_TRUE(!ended && limits->timeout_action == POLICY_ABORT);
        break;
    case POLICY_FORCE_NOW:
        UNIT_TRUE(!ended && limits->timeout_action == POLICY_FORCE_COMPLETE && !limits->post_copy);
        break;
    case POLICY_WARN:
        UNIT_TRUE(!ended && limits->kind == POLICY_ADAPTIVE);
        break;
    case POLICY_NOTHING:
        break;
    }
    seen[d->action] = true;
}

static void one_series(uint64_t *r)
{
    struct policy_limits limits = any_limits(r);
    struct policy policy = {.data_gib = 2.0 + (double)(next(r) % 16)};
    bool seen[POLICY_WARN + 1] = {false};
    int64_t elapsed_us = 0;

    for (int i = 0; i < 300; i++) {
        elapsed_us += (int64_t)(next(r) % (uint64_t)(10 * SEC));
        struct policy_sample sample = any_sample(r, elapsed_us);
        if (next(r) % 50 == 0) {
            limits = any_limits(r);
            policy_limits_changed(&policy);
            memset(seen, 0, sizeof(seen));
        }
        for (int k = 0;; k++) {
            struct policy before = policy;
            struct policy_decision d = step(&policy, &limits, &sample);
            check_legal(&d, &limits, &before, seen);
            if (d.action == POLICY_NOTHING)
                break;
            if (!UNIT_TRUE(k < 10))
                return;
        }
        UNIT_TRUE(policy_tell(&policy, &limits, &sample).pause_ms >= -1);
        UNIT_TRUE(policy_told_s(policy_tell(&policy, &limits, &sample).time_left_ms) >= -1);
    }
}

UNIT_TEST(any_series, "no series of samples and limits makes the policy do what is not allowed")
{
    uint64_t state = 0x9e3779b97f4a7c15u;

    for (int i = 0; i < 300; i++)
        one_series(&state);
}

/* ---- the adaptive kind: before the start ---- */

static struct policy_limits adaptive(void)
{
    return (struct policy_limits){
        .kind = POLICY_ADAPTIVE,
        .downtime_limit_ms = 300, /* QEMU's own, for a fair comparison */
        .downtime_steps = 10,
        .downtime_delay_s = 75,
        .completion_timeout_s = 180,
        .timeout_action = POLICY_ABORT,
        .auto_converge = true,
    };
}

static struct policy_outlook outlook(int64_t dirty_mib, int64_t bandwidth_mib)
{
    return (struct policy_outlook){.data_gib = 2.0,
                                   .memory_bytes = GIB,
                                   .dirty_rate = dirty_mib < 0 ? -1 : dirty_mib * MIB,
                                   .bandwidth = bandwidth_mib * MIB};
}

UNIT_TEST(start_throttle,
          "the first throttle lets the guest dirty 40 % of what is sent, 20 to 95 %")
{
    static const struct {
        int64_t dirty, bandwidth;
        int initial, increment;
    } cases[] = {
        {100, 100, 65, 17}, /* 113 with the error of samples */
        {200, 100, 82, 10}, {400, 100, 91, 10}, {10000, 100, 95, 10},
        {60, 100, 36, 32}, /* a fifth of that error: it hardly dirties too much */
        {51, 100, 22, 39},  {50, 100, 20, 10},  {1, 100, 20, 10},
        {0, 100, 0, 0},     {-1, 100, 0, 0},    {100, 0, 0, 0}, /* not known: QEMU's own */
    };
    struct policy_limits limits = adaptive();

    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct policy_outlook o = outlook(cases[i].dirty, cases[i].bandwidth);
        struct policy_start start = policy_start(&limits, &o);
        UNIT_EQ(start.throttle_initial, cases[i].initial);
        UNIT_EQ(start.throttle_increment, cases[i].increment);
    }
}

UNIT_TEST(
    start_idle,
    "throttle takes a guest's idle time first, which is added where throttle is surely needed")
{
    struct policy_limits limits = adaptive();
    struct policy_outlook o = outlook(200, 100);

    o.busy_percent = 50;
    UNIT_EQ(policy_start(&limits, &o).throttle_initial, 91);
    o.busy_percent = 1; /* QEMU's most */
    UNIT_EQ(policy_start(&limits, &o).throttle_initial, 99);
    o = outlook(10000, 100); /* a twentieth of what it does is left to it */
    o.busy_percent = 60;
    UNIT_EQ(policy_start(&limits, &o).throttle_initial, 97);
    o = outlook(50, 100); /* it converges as it is */
    o.busy_percent = 10;
    UNIT_EQ(policy_start(&limits, &o).throttle_initial, 20);
    o = outlook(51, 100);
    o.busy_percent = 10;
    UNIT_EQ(policy_start(&limits, &o).throttle_initial, 23);
}

UNIT_TEST(start_coarse, "the fewer pages were compared the higher the first throttle")
{
    static const struct {
        int64_t memory_mib;
        int initial, increment;
    } cases[] = {{64000, 61, 19}, {1000, 65, 17}, {100, 72, 14}, {50, 75, 12}};
    struct policy_limits limits = adaptive();

    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        int64_t tenth_mib = cases[i].memory_mib / 10;
        struct policy_outlook o = outlook(tenth_mib, tenth_mib);
        o.memory_bytes = cases[i].memory_mib * MIB;
        UNIT_EQ(policy_start(&limits, &o).throttle_initial, cases[i].initial);
        UNIT_EQ(policy_start(&limits, &o).throttle_increment, cases[i].increment);
    }
    struct policy_outlook all =
        outlook(100, 100); /* or more than there is: nothing to be wrong about */
    all.memory_bytes = 50 * MIB;
    UNIT_EQ(policy_start(&limits, &all).throttle_initial, 60);
    all.memory_bytes = 0;
    UNIT_EQ(policy_start(&limits, &all).throttle_initial, 60);
}

UNIT_TEST(start_own,
          "an operator's throttle, the stepped kind and a guest not to be slowed stay as they are")
{
    struct policy_limits limits = adaptive();
    struct policy_outlook o = outlook(300, 100);

    o.throttle_initial = 35;
    UNIT_EQ(policy_start(&limits, &o).throttle_initial, 35);
    UNIT_EQ(policy_start(&limits, &o).throttle_increment, 0);
    o.throttle_increment = 5;
    UNIT_EQ(policy_start(&limits, &o).throttle_increment, 5);
    o.throttle_initial = 0;
    UNIT_EQ(policy_start(&limits, &o).throttle_initial, 88);
    UNIT_EQ(policy_start(&limits, &o).throttle_increment, 5);
    limits.kind = POLICY_STEPPED;
    UNIT_EQ(policy_start(&limits, &o).throttle_initial, 0);
    limits.kind = POLICY_ADAPTIVE;
    limits.auto_converge = false;
    UNIT_EQ(policy_start(&limits, &o).throttle_initial, 0);
}

/* Why nobody waits for the dirty rate; "" = it is waited for. */
static const char *needless(const struct policy_limits *limits, const struct policy_outlook *o,
                            double processors)
{
    const char *why = policy_needs_no_rate(limits, o, processors);

    return why ? why : "";
}

UNIT_TEST(rate_decides, "the dirty rate is waited for where it may bring a throttle or a refusal")
{
    struct policy_limits limits = adaptive();
    struct policy_outlook o = outlook(-1, 100);

    UNIT_STR(needless(&limits, &o, -1.0), "");
    UNIT_STR(needless(&limits, &o, 1.0), "");
    o.throttle_initial = 30; /* the operator's */
    UNIT_STR(needless(&limits, &o, 1.0), "nothing that is permitted depends on it");
    limits.auto_converge = false;
    UNIT_STR(needless(&limits, &o, 1.0), ""); /* to be told, or refused */
    limits.post_copy = true;
    UNIT_STR(needless(&limits, &o, 1.0), "nothing that is permitted depends on it");
    limits.post_copy = false;
    limits.timeout_action = POLICY_FORCE_COMPLETE;
    UNIT_STR(needless(&limits, &o, 1.0), "nothing that is permitted depends on it");
}

UNIT_TEST(rate_stepped, "the stepped policy waits for no rate, and refuses nothing by it")
{
    struct policy_limits limits = adaptive();
    struct policy_outlook o = outlook(300, 100);

    limits.auto_converge = false;
    UNIT_TRUE(policy_start(&limits, &o).hopeless);
    limits.kind = POLICY_STEPPED;
    UNIT_TRUE(!policy_start(&limits, &o).hopeless);
    o.disk_bytes = 100000 * MIB;
    UNIT_STR(needless(&limits, &o, 1.0), "the stepped policy does not depend on it");
}

UNIT_TEST(rate_unknown_link, "without a bandwidth there is nothing to compare it with")
{
    struct policy_limits limits = adaptive();
    struct policy_outlook o = outlook(-1, 0);

    UNIT_STR(needless(&limits, &o, 1.0), "no bandwidth to compare it with is known");
}

UNIT_TEST(rate_small, "memory that is sent in two of the longest pauses is given no throttle")
{
    static const char small[] = "its memory is sent about as fast as the longest pause lasts";
    struct policy_limits limits = adaptive();
    struct policy_outlook o = outlook(-1, 100);

    limits.downtime_limit_ms = 500;
    o.touched_bytes = 100 * MIB; /* 1 s */
    UNIT_STR(needless(&limits, &o, 4.0), small);
    o.touched_bytes = 101 * MIB;
    UNIT_STR(needless(&limits, &o, 4.0), "");
    o.touched_bytes = 0; /* unknown: all of it */
    UNIT_STR(needless(&limits, &o, 4.0), "");
    o.bandwidth = 2 * GIB;
    UNIT_STR(needless(&limits, &o, 4.0), small);
    limits.auto_converge = false; /* a refusal is not missed: nothing may be left to dirty */
    o = outlook(-1, 100);
    o.touched_bytes = 41 * MIB;
    UNIT_STR(needless(&limits, &o, 4.0), "");
    o.touched_bytes = 40 * MIB;
    UNIT_STR(needless(&limits, &o, 4.0), small);
}

UNIT_TEST(rate_idle, "no guest dirties more than its processor time allows")
{
    struct policy_limits limits = adaptive();
    struct policy_outlook o = outlook(-1, 1024);

    o.memory_bytes = 16 * GIB;
    UNIT_STR(needless(&limits, &o, 0.12), "its processors are too idle for much");
    UNIT_STR(needless(&limits, &o, 0.13), ""); /* 532 MiB a second: 512 bring a throttle */
    UNIT_STR(needless(&limits, &o, -1.0), "");
    o = outlook(512, 1024);
    UNIT_EQ(policy_start(&limits, &o).throttle_initial, 20);
}

UNIT_TEST(rate_long, "what takes so long that a second is not felt has it for its forecast")
{
    struct policy_limits limits = adaptive();
    struct policy_outlook o = outlook(-1, 100);

    o.disk_bytes = 4000 * MIB; /* and 1024 of memory */
    UNIT_STR(needless(&limits, &o, 0.0), "");
    limits.auto_converge = false;
    limits.post_copy = true;
    UNIT_STR(needless(&limits, &o, 0.0), "");
    o.disk_bytes = 3900 * MIB;
    UNIT_STR(needless(&limits, &o, 0.0), "nothing that is permitted depends on it");
}

UNIT_TEST(hopeless,
          "hopeless is only what nothing permitted can end, clearly and by measured figures")
{
    struct policy_limits limits = adaptive();
    struct policy_outlook o = outlook(300, 100);

    UNIT_TRUE(!policy_start(&limits, &o).hopeless);
    limits.auto_converge = false;
    UNIT_TRUE(policy_start(&limits, &o).hopeless);
    UNIT_EQ(policy_start(&limits, &o).time_s, -1);
    o.dirty_rate = 110 * MIB; /* samples are coarse: not clearly more than the bandwidth */
    UNIT_TRUE(!policy_start(&limits, &o).hopeless);
    o.dirty_rate = -1;
    UNIT_TRUE(!policy_start(&limits, &o).hopeless);
    o = outlook(300, 0);
    UNIT_TRUE(!policy_start(&limits, &o).hopeless);
    o = outlook(300, 100);
    limits.post_copy = true;
    UNIT_TRUE(!policy_start(&limits, &o).hopeless);
    limits.post_copy = false;
    limits.timeout_action = POLICY_FORCE_COMPLETE;
    UNIT_TRUE(!policy_start(&limits, &o).hopeless);
    limits.timeout_action = POLICY_ABORT;
    limits.downtime_limit_ms = 4000; /* what it dirties in a second fits into the pause */
    UNIT_TRUE(!policy_start(&limits, &o).hopeless);
}

UNIT_TEST(start_forecast, "before the start time and pause of a quiet guest are told")
{
    struct policy_limits limits = adaptive();
    struct policy_outlook o = outlook(0, 100);
    struct policy_start start = policy_start(&limits, &o);

    UNIT_EQ(start.time_s, 10); /* 1 GiB at 100 MiB/s */
    UNIT_EQ(start.pause_ms, 60);
    o.disk_bytes = 450 * MIB;
    o.overhead_ms = 110;
    start = policy_start(&limits, &o);
    UNIT_EQ(start.time_s, 15);
    UNIT_EQ(start.pause_ms, 110);
    o.begin_ms = 2000;
    o.finish_ms = 1000;
    UNIT_EQ(policy_start(&limits, &o).time_s, 18);
    o.bandwidth = 0;
    start = policy_start(&limits, &o);
    UNIT_EQ(start.time_s, -1);
    UNIT_EQ(start.pause_ms, -1);
}

/* ---- the adaptive kind: while it runs ---- */

UNIT_TEST(low_first, "the adaptive limit begins at 50 ms, or at the maximum where that is lower")
{
    struct policy_limits limits = adaptive();
    struct policy policy = {.data_gib = 2.0}, strict = {.data_gib = 2.0};
    struct policy_sample sample = at(SEC);
    struct policy_decision d = step(&policy, &limits, &sample);

    UNIT_EQ(d.action, POLICY_SET_DOWNTIME);
    UNIT_EQ(d.downtime_ms, 50);
    UNIT_EQ(step(&policy, &limits, &sample).action, POLICY_NOTHING);
    limits.downtime_limit_ms = 30;
    UNIT_EQ(step(&strict, &limits, &sample).downtime_ms, 30);
}

/* What is decided as passes of these sizes (MiB) begin, one each second, at 100 MiB/s. */
static int64_t limit_after(struct policy *policy, const struct policy_limits *limits,
                           const int64_t *sizes, int count)
{
    for (int i = 0; i < count; i++)
        give_pass(policy, limits, i + 1, (i + 1) * SEC, sizes[i] * MIB, 100 * MIB);
    return policy->downtime_set_ms;
}
#define LIMIT_AFTER(policy, limits, ...)                                                           \
    limit_after(policy, limits, (const int64_t[]){__VA_ARGS__},                                    \
                (int)ARRAY_LEN(((const int64_t[]){__VA_ARGS__})))

UNIT_TEST(evidence,
          "passes that shrink leave the limit alone; one that does not raises it to what is needed")
{
    struct policy_limits limits = adaptive();
    struct policy a = {.data_gib = 2.0}, b = a, c = a, d = a;

    limits.completion_timeout_s = 0;
    UNIT_EQ(LIMIT_AFTER(&a, &limits, 1000, 500, 250, 125, 60, 30), 50);
    int64_t needed = LIMIT_AFTER(&b, &limits, 1000, 20, 20);
    UNIT_TRUE(needed >= 205 && needed <= 216);             /* 20 MiB at 100 MiB/s, and 5 % */
    UNIT_EQ(LIMIT_AFTER(&c, &limits, 1000, 100, 80), 76);  /* slowly nearer: a step */
    UNIT_EQ(LIMIT_AFTER(&d, &limits, 1000, 100, 100), 76); /* it would need more than is allowed */
    UNIT_EQ(LIMIT_AFTER(&d, &limits, 1000, 100, 100, 100, 100, 100, 100, 100), 300);
}

/* The limit after passes of 1000, 100 and `last` MiB at 100 MiB/s, the last of which began with that throttle. */
static int64_t limit_under(int throttle_percent, int64_t last)
{
    const int64_t sizes[] = {1000, 100, last};
    struct policy_limits limits = adaptive();
    struct policy policy = {.data_gib = 2.0};

    limits.completion_timeout_s = 0;
    for (int i = 0; i < (int)ARRAY_LEN(sizes); i++) {
        struct policy_sample sample = at((i + 1) * SEC);
        sample.iteration = i + 1;
        sample.memory_remaining = sizes[i] * MIB;
        sample.memory_processed = (i + 1) * 100 * MIB;
        sample.throttle_percent = i == 2 ? throttle_percent : 0;
        while (step(&policy, &limits, &sample).action != POLICY_NOTHING)
            ;
    }
    return policy.downtime_set_ms;
}

UNIT_TEST(throttled,
          "a guest is not kept under a throttle to shorten a pause that takes less from it")
{
    UNIT_EQ(limit_under(0, 20), 50);
    UNIT_EQ(limit_under(70, 20), 50); /* 140 ms of throttle and a pause of 40 ms: less than 200 */
    int64_t needed_ms = limit_under(85, 20);
    UNIT_TRUE(needed_ms >= 205 && needed_ms <= 216);
    UNIT_EQ(limit_under(99, 20), needed_ms);
    UNIT_EQ(limit_under(99, 40), 50); /* more than is allowed: the passes shrink by themselves */
    UNIT_EQ(limit_under(99, 3), 50);
}

UNIT_TEST(skipped, "what a migration did while it was slowed down for another one proves nothing")
{
    struct policy_limits limits = adaptive();
    struct policy policy = {.data_gib = 2.0};

    limits.completion_timeout_s = 0;
    (void)LIMIT_AFTER(&policy, &limits, 1000, 20);
    double throughput = policy.throughput, rate = policy.memory_throughput;
    for (int i = 1; i <= 8; i++) { /* 4 s at 1 MiB/s: the pass that runs then leaves much */
        struct policy_sample sample = at(2 * SEC + i * SEC / 2);
        sample.iteration = 2;
        sample.memory_processed = policy.last_memory_processed + MIB / 2;
        sample.memory_remaining = 20 * MIB - i * MIB / 2;
        policy_skip(&policy, &sample);
    }
    UNIT_TRUE(policy.throughput == throughput && policy.memory_throughput == rate);
    give_pass(&policy, &limits, 3, 7 * SEC, 40 * MIB, 100 * MIB);
    UNIT_EQ(policy.downtime_set_ms, 50);
    UNIT_EQ(policy.iterations_without_progress, 0);
    give_pass(&policy, &limits, 4, 8 * SEC, 40 * MIB, 100 * MIB);
    UNIT_TRUE(policy.downtime_set_ms > 50);
}

UNIT_TEST(evidence_once, "a limit is raised once in a pass however often the pass is looked at")
{
    struct policy_limits limits = adaptive();
    struct policy policy = {.data_gib = 2.0};
    int made = 0;

    (void)LIMIT_AFTER(&policy, &limits, 1000, 100);
    for (int i = 0; i < 50; i++) {
        struct policy_sample sample = at(3 * SEC + i * SEC / 50);
        sample.iteration = 3;
        sample.memory_remaining = 100 * MIB;
        sample.memory_processed = 100 * MIB * sample.elapsed_us / SEC;
        made += step(&policy, &limits, &sample).action == POLICY_SET_DOWNTIME;
    }
    UNIT_EQ(made, 1);
}

UNIT_TEST(lowered_limit,
          "a maximum that an operator lowers below the limit in force is obeyed at once")
{
    struct policy_limits limits = adaptive();
    struct policy policy = {.data_gib = 2.0};

    (void)LIMIT_AFTER(&policy, &limits, 1000, 20, 20);
    limits.downtime_limit_ms = 100;
    policy_limits_changed(&policy);
    struct policy_sample sample = at(5 * SEC);
    UNIT_EQ(step(&policy, &limits, &sample).downtime_ms, 100);
}

UNIT_TEST(stalled, "a stall is told once, and again when it comes again")
{
    struct policy_limits limits = adaptive();
    struct policy policy = {.data_gib = 2.0};
    int told = 0;

    limits.completion_timeout_s = 0;
    for (int i = 1; i <= 60; i++) {
        struct policy_sample sample = at(i * SEC);
        sample.memory_processed = (i < 20 ? i : i < 40 ? 20 : i < 45 ? i : 45) * MIB;
        for (int k = 0; k < 5; k++)
            told += step(&policy, &limits, &sample).action == POLICY_WARN;
    }
    UNIT_EQ(told, 2);
}

/* ---- the adaptive kind in the model of QEMU ---- */

/* The guests of the measurements, with their results under virsh's defaults. */
static const struct {
    struct model_guest guest;
    double virsh_s, virsh_throttle_s;
} table[] = {
    {{4096, 4096, 119, 300, 0, 0}, 544, 210},    {{1024, 512, 119, 180, 0, 0}, 53, 13.4},
    {{512, 150, 100, 150, 0, 0}, 20.4, 4.4},     {{512, 150, 25, 100, 0, 0}, 122, 46},
    {{8192, 2048, 1190, 1800, 0, 0}, 24.6, 5.1},
};

UNIT_TEST(model_is_right, "the model gives the known figures of virsh --auto-converge")
{
    for (size_t i = 0; i < ARRAY_LEN(table); i++) {
        struct model_result r = model_virsh(&table[i].guest);
        double pause_s = (r.pause_ms - MODEL_OVERHEAD_MS) / 1000.0;
        UNIT_EQ(r.end, MODEL_COMPLETED);
        UNIT_TRUE(r.time_s > 0.99 * table[i].virsh_s && r.time_s < 1.01 * table[i].virsh_s);
        UNIT_TRUE(r.throttle_s - pause_s > 0.98 * table[i].virsh_throttle_s &&
                  r.throttle_s - pause_s < 1.02 * table[i].virsh_throttle_s);
    }
}

/* Both in the model; true if ours ended as it should. */
static bool better(const struct model_guest *guest, double most_time, double most_throttle)
{
    struct policy_limits limits = adaptive();
    struct model_result virsh = model_virsh(guest), ours = model_policy(guest, &limits);
    double deadline_s = 180.0 * policy_data_gib((int64_t)guest->memory, NULL, 0);

    UNIT_EQ(ours.end, MODEL_COMPLETED);
    UNIT_TRUE(ours.time_s <= deadline_s);
    bool good = ours.time_s <= most_time * virsh.time_s &&
                ours.throttle_s <= most_throttle * virsh.throttle_s;
    if (!good)
        fprintf(stderr,
                "# %.0f MiB, hot %.0f, link %.0f, dirty %.0f: %.1f of %.1f s, %.1f of %.1f\n",
                guest->memory, guest->hot_set, guest->link, guest->dirty_rate, ours.time_s,
                virsh.time_s, ours.throttle_s, virsh.throttle_s);
    return good;
}

UNIT_TEST(model_table,
          "the five guests need at most 0.55 of virsh's time and 0.45 of its throttling")
{
    for (size_t i = 0; i < ARRAY_LEN(table); i++)
        UNIT_TRUE(better(&table[i].guest, 0.55, 0.45));
}

/* Where the guest dirties less than the link carries it converges anyway: there is nothing to win, and
 * little may be lost. 0.55 and 0.45 are for rates above the link. */
UNIT_TEST(model_rates,
          "at 1.5 and 3 times the link 0.55 and 0.45 hold, at 0.5 and 0.9 nothing is lost")
{
    for (size_t i = 0; i < ARRAY_LEN(table); i++) {
        struct model_guest g = table[i].guest;
        g.dirty_rate = 0.5 * g.link;
        UNIT_TRUE(better(&g, 1.03, 0.3));
        g.dirty_rate = 0.9 * g.link;
        UNIT_TRUE(better(&g, 0.95, 1.25));
        g.dirty_rate = 1.5 * g.link;
        UNIT_TRUE(better(&g, 0.55, 0.45));
        g.dirty_rate = 3.0 * g.link;
        UNIT_TRUE(better(&g, 0.55, 0.45));
    }
}

/* Guests like the lab's: 64 pages are compared, and the set is rewritten within the second that is measured. */
enum { COARSE_RUNS = 40 };

static int by_size(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

/* Against virsh: the median time, and all throttling. */
static void run_coarse(double times, double idle, double *time, double *throttle)
{
    double times_taken[COARSE_RUNS], ours_s = 0.0, virsh_s = 0.0;
    struct policy_limits limits = adaptive();

    for (unsigned seed = 0; seed < COARSE_RUNS; seed++) {
        struct model_guest g = {.memory = 128,
                                .hot_set = 23,
                                .link = 15.26,
                                .dirty_rate = 15.26 * times,
                                .waver = 0.05,
                                .seed = seed,
                                .pattern = (enum model_pattern)(seed % 3),
                                .sampled = true,
                                .idle = idle};
        struct model_result virsh = model_virsh(&g), ours = model_policy(&g, &limits);
        UNIT_EQ(ours.end, MODEL_COMPLETED);
        times_taken[seed] = ours.time_s / virsh.time_s;
        ours_s += ours.throttle_s;
        virsh_s += virsh.throttle_s;
    }
    qsort(times_taken, COARSE_RUNS, sizeof(*times_taken), by_size);
    *time = times_taken[COARSE_RUNS / 2];
    *throttle = ours_s / virsh_s;
}

UNIT_TEST(model_coarse,
          "of a small guest 64 pages and the processor's time say what throttle a fast one needs, "
          "and a slow one is not throttled for it")
{
    static const struct {
        double times, idle, time, throttle;
    } most[] = {
        {0.5, 0.0, 1.03, 0.30}, {0.5, 0.5, 1.03, 0.30}, {0.5, 0.94, 1.03, 0.30},
        {0.9, 0.0, 1.03, 1.10}, {0.9, 0.5, 1.03, 0.75}, {0.9, 0.94, 1.03, 1.00},
        {1.5, 0.0, 0.85, 0.55}, {1.5, 0.5, 0.70, 0.40}, {1.5, 0.94, 0.70, 0.40},
        {3.0, 0.0, 0.60, 0.45}, {3.0, 0.5, 0.55, 0.45}, {3.0, 0.94, 0.55, 0.45},
    };

    for (size_t i = 0; i < ARRAY_LEN(most); i++) {
        double time, throttle;
        run_coarse(most[i].times, most[i].idle, &time, &throttle);
        if (!UNIT_TRUE(time <= most[i].time && throttle <= most[i].throttle))
            fprintf(stderr, "# %.1f times the link, %.0f %% idle: time %.2f, throttling %.2f\n",
                    most[i].times, 100.0 * most[i].idle, time, throttle);
    }
}

UNIT_TEST(model_pause,
          "whatever it dirties the pause in the model is below virsh's or within its limit")
{
    struct policy_limits limits = adaptive();

    for (size_t i = 0; i < ARRAY_LEN(table); i++) {
        for (int tenths = 0; tenths <= 40; tenths++) {
            struct model_guest g = table[i].guest;
            g.dirty_rate = g.link * tenths / 10.0;
            struct model_result r = model_policy(&g, &limits);
            UNIT_EQ(r.end, MODEL_COMPLETED);
            UNIT_TRUE(r.pause_ms <= 300.0 + MODEL_OVERHEAD_MS);
            if (tenths <= 5) /* it converges by itself: the least pause costs nothing */
                UNIT_TRUE(r.pause_ms <= 50.0 + MODEL_OVERHEAD_MS);
        }
    }
}

UNIT_TEST(model_deadline, "without throttle each guest ends by its deadline as the operator chose")
{
    static const enum model_end ends[] = {MODEL_ABORTED, MODEL_FORCED, MODEL_POST_COPY};
    struct model_guest g = {1024, 512, 100, 150, 0.05, 3};

    for (int way = 0; way < 3; way++) {
        struct policy_limits limits = adaptive();
        limits.auto_converge = false;
        limits.completion_timeout_s = 60;
        limits.timeout_is_total = true;
        limits.timeout_action = way == 1 ? POLICY_FORCE_COMPLETE : POLICY_ABORT;
        limits.post_copy = way == 2;
        struct model_result r = model_policy(&g, &limits);
        UNIT_EQ(r.end, ends[way]);
        UNIT_TRUE(way == 2 ? r.time_s < 60.0 : r.time_s >= 60.0 && r.time_s < 70.0);
        UNIT_TRUE(way == 2 || r.warnings == 1); /* it was told long before */
    }
}

UNIT_TEST(model_last_moment,
          "with throttle and post-copy permitted, post-copy comes when throttling is too slow")
{
    struct model_guest g = {4096, 4096, 100, 800, 0, 0};
    struct policy_limits limits = adaptive();

    limits.completion_timeout_s = 100;
    limits.timeout_is_total = true;
    limits.post_copy = true;
    struct model_result r = model_policy(&g, &limits);
    UNIT_EQ(r.end, MODEL_POST_COPY);
    UNIT_TRUE(r.time_s > 60.0 && r.time_s <= 100.0);
}

/* ---- as a line ---- */

UNIT_TEST(line, "a decision is told in one line with its figures")
{
    struct policy_decision d = {.action = POLICY_SET_DOWNTIME,
                                .downtime_ms = 84,
                                .downtime_before_ms = 50,
                                .remaining = 31 * MIB / 10,
                                .throughput = 38 * MIB,
                                .iteration = 5,
                                .why = "without progress"};
    char text[DECISION_TEXT_SIZE];

    decision_text(&d, text, sizeof(text));
    UNIT_STR(
        text,
        "downtime limit 50 -> 84 ms: 3.1 MiB left at 38.0 MiB/s after pass 4, without progress");
    d = (struct policy_decision){
        .action = POLICY_SET_DOWNTIME, .downtime_ms = 50, .why = "low to begin with"};
    decision_text(&d, text, sizeof(text));
    UNIT_STR(text, "downtime limit 50 ms: low to begin with");
    d = (struct policy_decision){.action = POLICY_WARN,
                                 .remaining = 10 * MIB,
                                 .throughput = 5 * MIB,
                                 .iteration = 1,
                                 .why = "nothing was sent for 10 s"};
    decision_text(&d, text, sizeof(text));
    UNIT_STR(text, "nothing was sent for 10 s (10.0 MiB left at 5.0 MiB/s in pass 1)");
}
