/* SPDX-License-Identifier: Apache-2.0 */
/* The migration policy over synthetic traces. */
#include "tests/unit/unit.h"

#include "agent/policy.h"

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

UNIT_TEST(expected, "the expected pause is what is left by the measured rate, once memory is sent")
{
    struct policy policy = {0};
    struct policy_sample sample = at(SEC);

    sample.memory_remaining = 100 * MIB;
    sample.memory_bps = 1000 * MIB;
    sample.iteration = 0; /* disks are copied: memory has not begun */
    UNIT_EQ(policy_expected_downtime_ms(&policy, &sample), -1);
    sample.iteration = 1;
    UNIT_EQ(policy_expected_downtime_ms(&policy, &sample), 100 + 60);
    sample.iteration = 2;
    sample.downtime_ms = 300; /* QEMU tells what it knew at the end of the last pass */
    UNIT_EQ(policy_expected_downtime_ms(&policy, &sample), 100 + 60);
    sample.memory_bps = 0;
    UNIT_EQ(policy_expected_downtime_ms(&policy, &sample), 300);
}

UNIT_TEST(time_left, "the time left is told when it can be, and not when it does not converge")
{
    struct policy_limits limits = nova();
    struct policy policy = {.has_sample = true, .throughput = 100.0 * MIB};
    struct policy_sample sample = {.memory_remaining = 500 * MIB, .disk_remaining = 500 * MIB};
    struct policy fresh = {0};

    UNIT_EQ(policy_time_left_s(&fresh, &limits, &sample), -1);
    UNIT_EQ(policy_time_left_s(&policy, &limits, &sample), 10);
    sample.dirty_rate = 50 * MIB;
    UNIT_EQ(policy_time_left_s(&policy, &limits, &sample), 20);
    sample.dirty_rate = 100 * MIB;
    UNIT_EQ(policy_time_left_s(&policy, &limits, &sample), -1);
    sample.memory_remaining = 40 * MIB; /* fits into 500 ms */
    sample.disk_remaining = 0;
    UNIT_EQ(policy_time_left_s(&policy, &limits, &sample), 0);
    policy.post_copy_started = true;
    sample.memory_remaining = 300 * MIB;
    UNIT_EQ(policy_time_left_s(&policy, &limits, &sample), 3);
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
        .downtime_ms = (int64_t)(next(r) % 1000) - 1,
    };
}

/* What no series may bring about. `seen` has what was done since the last change of limits. */
static void check_legal(const struct policy_decision *d, const struct policy_limits *limits,
                        const struct policy *before, bool seen[POLICY_FORCE_NOW + 1])
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
    case POLICY_NOTHING:
        break;
    }
    seen[d->action] = true;
}

static void one_series(uint64_t *r)
{
    struct policy_limits limits = any_limits(r);
    struct policy policy = {.data_gib = 2.0 + (double)(next(r) % 16)};
    bool seen[POLICY_FORCE_NOW + 1] = {false};
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
        UNIT_TRUE(policy_expected_downtime_ms(&policy, &sample) >= -1);
        UNIT_TRUE(policy_time_left_s(&policy, &limits, &sample) >= -1);
    }
}

UNIT_TEST(any_series, "no series of samples and limits makes the policy do what is not allowed")
{
    uint64_t state = 0x9e3779b97f4a7c15u;

    for (int i = 0; i < 300; i++)
        one_series(&state);
}
