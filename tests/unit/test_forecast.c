/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What people are told of a migration that runs: time left and pause, over a population of guests in the model of
 * QEMU (policy_model.h). The lines that begin with "#" are the hit rates that docs/CONVERGENCE.md gives.
 */
#include "tests/unit/unit.h"

#include <stdlib.h>
#include <string.h>

#include "agent/policy_internal.h"
#include "tests/unit/policy_model.h"

#define MIB (INT64_C(1) << 20)

/* ---- what the guest dirties in which time ---- */

static double dirtied_mib(const struct policy_dirtying *d, double seconds)
{
    return policy_dirtied(d, seconds) / (double)MIB;
}

static bool is_about(double value, double expected)
{
    bool is = value > 0.99 * expected && value < 1.01 * expected;

    if (!is)
        fprintf(stderr, "# %.2f is not about %.2f\n", value, expected);
    return is;
}

UNIT_TEST(nothing_known, "nothing is dirtied while nothing is known, and never by a quiet guest")
{
    struct policy_dirtying d = {0};

    UNIT_TRUE(policy_dirtied(&d, 10.0) == 0.0);
    policy_dirtying_take(&d, 1.0, 0.0);
    policy_dirtying_take(&d, 20.0, 0.0);
    UNIT_TRUE(policy_dirtied(&d, 0.1) == 0.0 && policy_dirtied(&d, 100.0) == 0.0);
}

UNIT_TEST(points, "what was measured is what is told, and between it grows, but not in proportion")
{
    struct policy_dirtying d = {0};

    policy_dirtying_take(&d, 1.0, 100.0 * MIB);
    policy_dirtying_take(&d, 10.0, 400.0 * MIB);
    UNIT_TRUE(dirtied_mib(&d, 0.5) >= 50.0 && dirtied_mib(&d, 0.5) < 52.0);
    UNIT_TRUE(is_about(dirtied_mib(&d, 1.0), 100.0));
    UNIT_TRUE(is_about(dirtied_mib(&d, 10.0), 400.0));
    for (double s = 0.1; s < 200.0; s *= 1.1) {
        double now = policy_dirtied(&d, s), later = policy_dirtied(&d, 1.1 * s);
        UNIT_TRUE(later >= 0.9999 * now && later <= 1.1001 * now);
    }
    UNIT_TRUE(dirtied_mib(&d, 1e6) < 450.0); /* it has slowed down: there is not much more */
}

UNIT_TEST(unknown_set,
          "a guest that did not slow down is taken for one whose set is twice what it wrote")
{
    struct policy_dirtying d = {0};

    policy_dirtying_take(&d, 1.0, 10.0 * MIB);
    policy_dirtying_take(&d, 20.0, 200.0 * MIB);
    UNIT_TRUE(dirtied_mib(&d, 60.0) > 300.0 && dirtied_mib(&d, 1e6) <= 400.1);
}

UNIT_TEST(set_seen,
          "a guest that rewrites its set within the first second may write it any number of times")
{
    static const struct policy_unknown slow = {.fast = 0.0, .largest = 2.0}, fast = {1.0, 2.0};
    struct policy_dirtying d = {0};

    policy_dirtying_take(&d, 1.0, 50.0 * MIB);
    policy_dirtying_take(&d, 10.0, 50.0 * MIB);
    UNIT_TRUE(is_about(policy_dirtied_as(&d, 0.1, &slow), 5.0 * MIB));
    UNIT_TRUE(is_about(policy_dirtied_as(&d, 0.1, &fast), 20.0 * MIB));
    UNIT_TRUE(dirtied_mib(&d, 0.1) > 8.0 && dirtied_mib(&d, 0.1) < 10.0);
    UNIT_TRUE(is_about(dirtied_mib(&d, 0.9), 50.0));
    UNIT_TRUE(is_about(dirtied_mib(&d, 1000.0), 50.0));
}

UNIT_TEST(one_pass,
          "after one pass alone it may have been written evenly, or at once, or in between")
{
    static const struct policy_unknown slow = {.fast = 0.0, .largest = 2.0}, fast = {1.0, 2.0};
    struct policy_dirtying d = {0};

    policy_dirtying_take(&d, 9.0, 90.0 * MIB);
    UNIT_TRUE(is_about(policy_dirtied_as(&d, 1.0, &slow), 10.0 * MIB));
    UNIT_TRUE(policy_dirtied_as(&d, 1.0, &fast) > 85.0 * MIB);
    UNIT_TRUE(dirtied_mib(&d, 1.0) > 20.0 && dirtied_mib(&d, 1.0) < 60.0);
    UNIT_TRUE(is_about(policy_dirtied_as(&d, 9.0, &fast), 90.0 * MIB));
}

UNIT_TEST(newest_counts, "a guest that changed is believed: the older points follow the newest")
{
    struct policy_dirtying d = {0};

    policy_dirtying_take(&d, 1.0, 100.0 * MIB);
    policy_dirtying_take(&d, 10.0, 100.0 * MIB);
    policy_dirtying_take(&d, 5.0, 1000.0 * MIB); /* it writes far more now */
    UNIT_TRUE(dirtied_mib(&d, 1.0) >= 199.9 && dirtied_mib(&d, 10.0) >= 999.9);
    policy_dirtying_take(&d, 2.0, 4.0 * MIB); /* and now nearly nothing */
    UNIT_TRUE(dirtied_mib(&d, 1.0) <= 4.1 && dirtied_mib(&d, 10.0) <= 20.1);
}

UNIT_TEST(many_points, "more points than are kept push out those of the shortest times")
{
    struct policy_dirtying d = {0};

    for (int i = 0; i < 40; i++)
        policy_dirtying_take(&d, (double)(INT64_C(1) << i), 1000.0 * (double)(INT64_C(1) << i));
    UNIT_EQ(d.count, POLICY_POINTS);
    UNIT_TRUE(is_about(policy_dirtied(&d, 1e6), 1e9));
}

/* ---- the measurement that goes on in the first pass ---- */

UNIT_TEST(how_long, "it is over at a quarter of the way, within what libvirt measures")
{
    struct policy_outlook o = {.memory_bytes = 1000 * MIB, .bandwidth = 10 * MIB};

    UNIT_EQ(policy_measure_s(&o), 30);
    o.touched_bytes = 500 * MIB;
    UNIT_EQ(policy_measure_s(&o), 15);
    o.disk_bytes = 500 * MIB;
    UNIT_EQ(policy_measure_s(&o), 30);
    o.bandwidth = MIB;
    UNIT_EQ(policy_measure_s(&o), 60);
    o.bandwidth = 1000 * MIB;
    UNIT_EQ(policy_measure_s(&o), 2);
    o.bandwidth = 0; /* unknown */
    UNIT_EQ(policy_measure_s(&o), 2);
}

UNIT_TEST(passes_win, "a measurement that comes after a whole pass was seen is left out")
{
    struct policy policy = {.passes_seen = 1};

    policy_measured(&policy, 10, MIB);
    UNIT_EQ(policy.dirtying.count, 0);
    policy.passes_seen = 0;
    policy_measured(&policy, 10, -1);
    UNIT_EQ(policy.dirtying.count, 0);
    policy_measured(&policy, 10, 7 * MIB); /* of 7 to 8 MiB/s: QEMU cuts the rest off */
    UNIT_EQ(policy.dirtying.count, 1);
    UNIT_TRUE(is_about(dirtied_mib(&policy.dirtying, 10.0), 75.0));
}

/* ---- the population ---- */

static uint64_t next(uint64_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state;
}

static double between(uint64_t *r, double from, double to)
{
    return from + (to - from) * (double)(next(r) % 1000001) / 1000000.0;
}

/*
 * Guests of any size on links of any speed that write up to four times what the link carries, in one of three ways.
 * Half of them have used all of their memory, half of the links are unsteady, a third of the guests have local disks.
 */
static struct model_guest any_guest(uint64_t *r)
{
    double memory = 512.0 * (double)(1 << next(r) % 5), share = between(r, 0, 1);
    struct model_guest g = {.memory = memory,
                            .link = 25.0 * (double)(1 << next(r) % 6),
                            .waver = 0.05,
                            .sampled = true,
                            .seed = (unsigned)next(r),
                            .pattern = (enum model_pattern)(next(r) % 3),
                            .idle = between(r, 0.0, 0.6)};

    g.untouched = next(r) % 2 ? between(r, 0.2, 0.7) : 0.0;
    g.hot_set = memory * (0.02 + 0.5 * share * share);
    if (g.hot_set > 0.9 * memory * (1.0 - g.untouched))
        g.hot_set = 0.9 * memory * (1.0 - g.untouched);
    g.dirty_rate = g.link * between(r, 0.0, 4.0);
    g.wobble = next(r) % 2 ? 0.15 : 0.0;
    g.overhead_spread = 0.12;
    g.disk = next(r) % 3 == 0 ? memory * between(r, 0.5, 4.0) : 0.0;
    return g;
}

/* Within the first half of what it would take, the guest begins to do twice as much, or half. */
static void change(struct model_guest *g, uint64_t *r)
{
    g->changes_at_s = g->memory / g->link * between(r, 0.0, 2.0);
    g->changes_by = next(r) % 2 ? 2.0 : 0.5;
}

struct told {
    int within_error, within_ends, open; /* open: there was no upper end */
};

struct hits {
    const char *what;
    int runs;
    struct told quarter, half, later, second_pass, third_pass, pause;
};

static void count_told(struct told *t, const struct model_told *m, double most)
{
    t->within_error += m->error <= most;
    t->within_ends += m->within;
    t->open += m->open;
}

static void count_in(struct hits *h, const struct model_result *m)
{
    h->runs++;
    count_told(&h->quarter, &m->quarter, 0.2);
    count_told(&h->half, &m->half, 0.2);
    count_told(&h->later, &m->later, 0.2);
    count_told(&h->second_pass, &m->second_pass, 0.2);
    count_told(&h->third_pass, &m->third_pass, 0.2);
    count_told(&h->pause, &m->pause, 0.3);
}

static double share(int part, int of)
{
    return of > 0 ? 100.0 * part / of : 0.0;
}

static bool at_least(int part, const struct hits *h, double percent)
{
    bool is = share(part, h->runs) >= percent;

    if (!is)
        fprintf(stderr, "# %s: %.1f %% is below %.0f %%\n", h->what, share(part, h->runs), percent);
    return is;
}

static void tell(const struct hits *h)
{
    fprintf(
        stderr,
        "# %-32s %5d runs: time within 20 %% at 1/4 %3.0f %%, 1/2 %3.0f %%, 3/4 %3.0f %%; "
        "pause within 30 %% %3.0f %%; between the ends %3.0f %%, %3.0f %%, %3.0f %%; %3.0f %%\n",
        h->what, h->runs, share(h->quarter.within_error, h->runs),
        share(h->half.within_error, h->runs), share(h->later.within_error, h->runs),
        share(h->pause.within_error, h->runs), share(h->quarter.within_ends, h->runs),
        share(h->half.within_ends, h->runs), share(h->later.within_ends, h->runs),
        share(h->pause.within_ends, h->runs));
}

enum {
    ALL,
    ROUND_ROBIN,
    RANDOM,
    LAYERED,
    RATE_1, /* up to the half of the link, all of it, twice, four times */
    RATE_2,
    RATE_3,
    RATE_4,
    STEADY,
    UNSTEADY,
    USED,
    UNUSED,
    NO_DISKS,
    DISKS,
    CLASSES
};

static void count_all(struct hits *hits, const struct model_guest *g, const struct model_result *m)
{
    double rate = g->dirty_rate / g->link;

    count_in(&hits[ALL], m);
    count_in(&hits[ROUND_ROBIN + (int)g->pattern], m);
    count_in(&hits[rate < 0.5 ? RATE_1 : rate < 1.0 ? RATE_2 : rate < 2.0 ? RATE_3 : RATE_4], m);
    count_in(&hits[g->wobble > 0.0 ? UNSTEADY : STEADY], m);
    count_in(&hits[g->untouched > 0.0 ? UNUSED : USED], m);
    count_in(&hits[g->disk > 0.0 ? DISKS : NO_DISKS], m);
}

static const struct policy_limits limits = {
    .kind = POLICY_ADAPTIVE,
    .downtime_limit_ms = 300,
    .downtime_steps = 10,
    .downtime_delay_s = 75,
    .completion_timeout_s = 180,
    .timeout_action = POLICY_ABORT,
    .auto_converge = true,
};

/* Whatever was chosen in the forecast was chosen by the one; whether it is right is judged by the other, which nobody
 * looked at before. */
enum { RUNS = 1500, FEW = 500 };
static const uint64_t choosing = 0x1111222233334444u, judging = 0xc0ffee1234567891u;

static const struct hits classes[CLASSES] = {
    [ALL] = {.what = "all"},
    [ROUND_ROBIN] = {.what = "writes page after page"},
    [RANDOM] = {.what = "writes anywhere in its set"},
    [LAYERED] = {.what = "80 % of the writes to 20 %"},
    [RATE_1] = {.what = "dirty rate below 0.5 of the link"},
    [RATE_2] = {.what = "0.5 to 1"},
    [RATE_3] = {.what = "1 to 2"},
    [RATE_4] = {.what = "2 to 4"},
    [STEADY] = {.what = "steady link"},
    [UNSTEADY] = {.what = "link that wobbles by 15 %"},
    [USED] = {.what = "memory used before"},
    [UNUSED] = {.what = "20 to 70 % of memory never used"},
    [NO_DISKS] = {.what = "no disks to copy"},
    [DISKS] = {.what = "disks to copy"},
};

/* `change_guest` may be NULL. */
static void count_population(struct hits hits[CLASSES], uint64_t r, int runs,
                             const struct policy_limits *with,
                             void (*change_guest)(struct model_guest *g, uint64_t *r))
{
    memcpy(hits, classes, sizeof(classes));
    for (int i = 0; i < runs; i++) {
        struct model_guest g = any_guest(&r);
        if (change_guest)
            change_guest(&g, &r);
        struct model_result m = model_policy(&g, with);
        if (m.end == MODEL_COMPLETED && m.time_s >= 5.0) /* the first measurements last as long */
            count_all(hits, &g, &m);
    }
}

/* The truth lies between the ends that are told in about four of five runs, and not in all. */
static bool is_honest(const struct told *t, const struct hits *h)
{
    double within = share(t->within_ends, h->runs);

    if (within < 72.0 || within > 88.0)
        fprintf(stderr, "# %s: the truth lay within %.1f %% of the intervals\n", h->what, within);
    return within >= 72.0 && within <= 88.0;
}

UNIT_TEST(
    prediction,
    "in most runs the time is told within 20 % from a quarter of the way on, the pause within 30 %")
{
    struct hits hits[CLASSES];

    fprintf(stderr, "# --- the runs that figures were chosen by\n");
    count_population(hits, choosing, RUNS, &limits, NULL);
    tell(&hits[ALL]);
    fprintf(stderr, "# --- the runs that they are judged by\n");
    count_population(hits, judging, RUNS, &limits, NULL);
    for (int i = 0; i < CLASSES; i++)
        tell(&hits[i]);
    UNIT_TRUE(hits[ALL].runs >= RUNS * 3 / 4);
    UNIT_TRUE(at_least(hits[ALL].quarter.within_error, &hits[ALL], 85));
    UNIT_TRUE(at_least(hits[ALL].half.within_error, &hits[ALL], 90));
    UNIT_TRUE(at_least(hits[ALL].later.within_error, &hits[ALL], 96));
    UNIT_TRUE(at_least(hits[ALL].pause.within_error, &hits[ALL], 95));
    UNIT_TRUE(is_honest(&hits[ALL].quarter, &hits[ALL]));
    UNIT_TRUE(is_honest(&hits[ALL].half, &hits[ALL]));
    UNIT_TRUE(is_honest(&hits[ALL].later, &hits[ALL]));
    UNIT_TRUE(is_honest(&hits[ALL].pause, &hits[ALL]));
    for (int i = 0; i < CLASSES; i++) {
        UNIT_TRUE(at_least(hits[i].quarter.within_error, &hits[i], 75));
        UNIT_TRUE(at_least(hits[i].later.within_error, &hits[i], 92));
        UNIT_TRUE(at_least(hits[i].pause.within_error, &hits[i], 92));
    }
}

/* ---- other ways ---- */

static void limit_it(struct model_guest *g, uint64_t *r)
{
    g->unlimited = g->link * between(r, 1.5, 12.0);
}

static void limit_it_again(struct model_guest *g, uint64_t *r)
{
    limit_it(g, r);
    g->unlimited_known = true;
}

UNIT_TEST(limited,
          "a limit is lifted in the pause, which is told so: within 30 % where the link is known")
{
    struct hits unknown[CLASSES], known[CLASSES];

    count_population(unknown, judging, FEW, &limits, limit_it);
    count_population(known, judging, FEW, &limits, limit_it_again);
    unknown[ALL].what = "bandwidth limit, link unknown";
    known[ALL].what = "bandwidth limit, link known";
    tell(&unknown[ALL]);
    tell(&known[ALL]);
    UNIT_TRUE(at_least(unknown[ALL].pause.within_error, &unknown[ALL], 80));
    UNIT_TRUE(at_least(unknown[ALL].pause.within_ends, &unknown[ALL], 75));
    UNIT_TRUE(at_least(known[ALL].pause.within_error, &known[ALL], 95));
    UNIT_TRUE(is_honest(&known[ALL].pause, &known[ALL]));
}

static void tell_passes(const struct hits *h)
{
    fprintf(stderr,
            "# %-32s %5d runs: time within 20 %% in the second pass %3.0f %%, the third %3.0f %%; "
            "between the ends %3.0f %%, %3.0f %%; no upper end %3.0f %%, %3.0f %%\n",
            h->what, h->runs, share(h->second_pass.within_error, h->runs),
            share(h->third_pass.within_error, h->runs), share(h->second_pass.within_ends, h->runs),
            share(h->third_pass.within_ends, h->runs), share(h->second_pass.open, h->runs),
            share(h->third_pass.open, h->runs));
}

static const struct policy_limits nova = {
    .kind = POLICY_STEPPED,
    .downtime_limit_ms = 500,
    .downtime_steps = 10,
    .downtime_delay_s = 75,
    .completion_timeout_s = 180,
    .timeout_action = POLICY_ABORT,
    .auto_converge = true,
};

UNIT_TEST(stepped, "the stepped policy's time is told by what was measured, too")
{
    struct hits hits[CLASSES];

    count_population(hits, judging, FEW, &nova, NULL);
    hits[ALL].what = "stepped policy";
    tell(&hits[ALL]);
    UNIT_TRUE(at_least(hits[ALL].quarter.within_error, &hits[ALL], 75));
    UNIT_TRUE(at_least(hits[ALL].half.within_error, &hits[ALL], 80));
    UNIT_TRUE(at_least(hits[ALL].later.within_error, &hits[ALL], 92));
    UNIT_TRUE(at_least(hits[ALL].pause.within_error, &hits[ALL], 95));
    UNIT_TRUE(is_honest(&hits[ALL].quarter, &hits[ALL]));
    UNIT_TRUE(is_honest(&hits[ALL].half, &hits[ALL]));
    UNIT_TRUE(is_honest(&hits[ALL].later, &hits[ALL]));
}

static void measure_nothing(struct model_guest *g, uint64_t *r)
{
    (void)r;
    g->unmeasured = true;
}

UNIT_TEST(unmeasured, "where nothing could be measured no upper end is told until a pass has ended")
{
    struct hits hits[CLASSES];

    count_population(hits, judging, FEW, &nova, measure_nothing);
    hits[ALL].what = "stepped policy, nothing measured";
    tell(&hits[ALL]);
    tell_passes(&hits[ALL]);
    UNIT_TRUE(at_least(hits[ALL].quarter.open, &hits[ALL], 50));
    UNIT_TRUE(at_least(hits[ALL].second_pass.within_ends, &hits[ALL], 70));
    UNIT_TRUE(at_least(hits[ALL].third_pass.within_error, &hits[ALL], 70));
    UNIT_TRUE(at_least(hits[ALL].third_pass.within_ends, &hits[ALL], 65));
    UNIT_TRUE(at_least(hits[ALL].later.within_error, &hits[ALL], 80));
    UNIT_TRUE(at_least(hits[ALL].pause.within_error, &hits[ALL], 95));
}

UNIT_TEST(
    changing,
    "of a guest that changes what it does, the last quarter and the pause are told all the same")
{
    struct hits hits[CLASSES];

    count_population(hits, 0x9e3779b97f4a7c15u, 400, &limits, change);
    hits[ALL].what = "changes while it is moved";
    tell(&hits[ALL]);
    UNIT_TRUE(hits[ALL].runs >= 300);
    UNIT_TRUE(at_least(hits[ALL].later.within_error, &hits[ALL], 80));
    UNIT_TRUE(at_least(hits[ALL].pause.within_error, &hits[ALL], 90));
}

UNIT_TEST(ordered, "points stay in the order of time, also when one overtakes the next")
{
    struct policy_dirtying d = {0};

    policy_dirtying_take(&d, 1.0, 10.0 * MIB);
    policy_dirtying_take(&d, 1.5, 14.0 * MIB);
    policy_dirtying_take(&d, 8.0, 60.0 * MIB);
    UNIT_EQ(d.count, 3);
    policy_dirtying_take(&d, 1.39, 13.0 * MIB);
    policy_dirtying_take(&d, 1.9, 17.0 * MIB);
    UNIT_EQ(d.count, 2);
    for (int i = 1; i < d.count; i++)
        UNIT_TRUE(d.points[i - 1].seconds < d.points[i].seconds &&
                  d.points[i - 1].bytes <= d.points[i].bytes);
}

/* ---- what is told, and what was learned for it ---- */

UNIT_TEST(seconds,
          "whole seconds: the figure to the nearest, the ends outwards, unknown stays unknown")
{
    UNIT_EQ(policy_told_s(1499), 1);
    UNIT_EQ(policy_told_s(1500), 2);
    UNIT_EQ(policy_told_low_s(1999), 1);
    UNIT_EQ(policy_told_high_s(1001), 2);
    UNIT_EQ(policy_told_high_s(1000), 1);
    UNIT_EQ(policy_told_s(-1), -1);
    UNIT_EQ(policy_told_low_s(-1), -1);
    UNIT_EQ(policy_told_high_s(-1), -1);
}

UNIT_TEST(goes_on,
          "the time that is told goes on between two samples, and what is unknown stays so")
{
    const struct policy_told told = {
        .time_left_ms = 900, .time_left_low_ms = 300, .time_left_high_ms = -1, .pause_ms = 80};
    struct policy_told now = policy_told_later(told, 400);

    UNIT_EQ(now.time_left_ms, 500);
    UNIT_EQ(now.time_left_low_ms, 0);
    UNIT_EQ(now.time_left_high_ms, -1);
    UNIT_EQ(now.pause_ms, 80);
}

static int64_t told_time_ms(const struct policy_outlook *outlook, int64_t elapsed_ms)
{
    static const struct policy_start start = {0};
    struct policy policy = policy_begin(outlook, &start);
    struct policy_sample sample = {.elapsed_us = 1000 * elapsed_ms, .downtime_ms = -1};

    (void)policy_step(&policy, &limits, &sample);
    return policy_tell(&policy, &limits, &sample).time_left_ms;
}

UNIT_TEST(around, "what libvirt takes before and after the copy is told as far as it is to come")
{
    struct policy_outlook o = {
        .data_gib = 2.0, .memory_bytes = 100 * MIB, .dirty_rate = 0, .bandwidth = 100 * MIB};
    int64_t copy_ms = told_time_ms(&o, 100);

    UNIT_TRUE(copy_ms > 900 && copy_ms < 1300);
    o.finish_ms = 400;
    UNIT_TRUE(llabs(told_time_ms(&o, 100) - copy_ms - 400) < 60);
    o.begin_ms = 600;
    UNIT_TRUE(llabs(told_time_ms(&o, 100) - copy_ms - 900) < 90);
    UNIT_TRUE(llabs(told_time_ms(&o, 5000) - copy_ms - 400) < 60);
}

/* Passes of 60 MiB that leave as much, each 1.6 s: 0.6 s at 100 MiB a second, and a second at their turn. */
UNIT_TEST(turns, "a second that each pass waits for a throttled processor is no slow link")
{
    struct policy policy = {.memory_bytes = 1000 * MIB, .usual_throughput = 100.0 * MIB};
    struct policy_sample sample = {.downtime_ms = -1, .iteration = 4, .throttle_percent = 99};

    policy.usual_over_s = 20.0;
    policy.memory_throughput = policy.usual_throughput;
    for (int pass = 0; pass < 12; pass++, sample.iteration++) {
        sample.memory_remaining = 60 * MIB;
        (void)policy_step(&policy, &limits, &sample);
        for (int i = 0; i < 2; i++) {
            sample.elapsed_us += 300000;
            sample.memory_processed += 30 * MIB;
            sample.memory_remaining -= 30 * MIB;
            (void)policy_step(&policy, &limits, &sample);
        }
        sample.elapsed_us += 1000000;
    }
    UNIT_TRUE(is_about(policy.usual_throughput, 100.0 * MIB));
    UNIT_TRUE(policy.turn_share > 0.95);
}

UNIT_TEST(no_turn, "the time that a pass waited for another migration is not its processors' sleep")
{
    struct policy policy = {.memory_bytes = 1000 * MIB, .usual_throughput = 100.0 * MIB};
    struct policy_sample sample = {.downtime_ms = -1, .iteration = 4, .throttle_percent = 99};

    policy.usual_over_s = 20.0;
    policy.memory_throughput = policy.usual_throughput;
    sample.memory_remaining = 60 * MIB;
    (void)policy_step(&policy, &limits, &sample);
    for (int i = 0; i < 2; i++, sample.iteration++) {
        sample.elapsed_us += 4000000;
        sample.memory_processed += 4 * MIB;
        policy_skip(&policy, &sample);
    }
    sample.elapsed_us += 1000000;
    sample.memory_processed += 56 * MIB;
    (void)policy_step(&policy, &limits, &sample);
    UNIT_TRUE(policy.turn_share == 0.0);
}

UNIT_TEST(learning, "what pauses taught: by how much they were told wrongly, what the link carries")
{
    UNIT_EQ(policy_learn_time_ms(0, 300), 300);
    UNIT_EQ(policy_learn_time_ms(300, 100), 200);
    UNIT_EQ(policy_learn_time_ms(0, -5), 1); /* 0 would be "not known" */
    UNIT_EQ(policy_learn_stray_ms(0, 100, 140), 40);
    UNIT_EQ(policy_learn_stray_ms(40, 100, 80), 30);
    UNIT_EQ(policy_learn_stray_ms(1, 100, 100), 1); /* 0 would be "not known" */
    UNIT_EQ(policy_learn_link(0, 10 * MIB, 60, 160), 100 * MIB);
    UNIT_EQ(policy_learn_link(200 * MIB, 10 * MIB, 60, 160), 150 * MIB);
    UNIT_EQ(policy_learn_link(0, MIB, 60, 50), 200 * MIB); /* 5 ms at least */
}
