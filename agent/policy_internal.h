/* SPDX-License-Identifier: Apache-2.0 */
/* Shared by agent/policy*.c. Nobody else includes it. */
#pragma once

#include "agent/policy.h"

#define POLICY_USEC INT64_C(1000000)

enum {
    POLICY_THROTTLE_INITIAL = 20, /* QEMU's own */
    POLICY_THROTTLE_INCREMENT = 10,
    POLICY_THROTTLE_MAX = 99,
};

/* Statistics may be anything; figures out of them stay within what an int64_t holds. */
int64_t policy_saturated(double value);
int64_t policy_product(int64_t a, int64_t b);
struct policy_decision policy_decision(enum policy_action action, const char *why,
                                       const struct policy *policy,
                                       const struct policy_sample *sample);

/* policy_stepped.c: the step that is due; the limit in force after so many seconds. */
struct policy_decision policy_stepped_downtime(struct policy *policy,
                                               const struct policy_limits *limits,
                                               const struct policy_sample *sample);
int64_t policy_stepped_limit_ms(const struct policy *policy, const struct policy_limits *limits,
                                double elapsed_s);

/* policy_adaptive.c. `new_pass`: the sample is the first of a pass over memory. */
struct policy_decision policy_adaptive_step(struct policy *policy,
                                            const struct policy_limits *limits,
                                            const struct policy_sample *sample, bool new_pass);
/* The limit for a pass that begins with `size` bytes after one of `size_before`, under that throttle. */
int64_t policy_adaptive_limit_ms(int64_t limit_ms, int64_t most_ms, double size, double size_before,
                                 double throughput, int throttle_percent);

/* policy_dirtying.c: a measurement comes in; bytes that are dirtied in so many seconds without throttle. */
void policy_dirtying_take(struct policy_dirtying *dirtying, double seconds, double bytes);
double policy_dirtied(const struct policy_dirtying *dirtying, double seconds);
/* The same with something else for what points do not tell. */
struct policy_unknown {
    double fast;    /* 0 to 1: how fast it writes in shorter times than were seen */
    double largest; /* times what the last point has: the set of a guest that did not slow down */
};
#define POLICY_UNKNOWN_MIDDLE                                                                      \
    {                                                                                              \
        .fast = 0.4, .largest = 2.0                                                                \
    }
double policy_dirtied_as(const struct policy_dirtying *dirtying, double seconds,
                         const struct policy_unknown *unknown);

/* policy_forecast.c: what may be otherwise than it looks; factors, 1 = as it looks */
struct policy_scenario {
    double rate;     /* at which memory leaves from now on */
    double rate_now; /* at the very end of it, when the pause is decided on and in it */
    double dirtying; /* what the guest dirties */
    double bend;     /* the same of the shorter times alone */
    double headroom; /* of the link above a limit, where nothing else is known of it */
    struct policy_unknown unknown; /* these are no factors */
};
struct policy_forecast {
    bool ends;        /* by itself, or by force or post-copy at the timeout */
    bool in_time;     /* by itself, before the timeout */
    double time_s;    /* from the sample on */
    double pause_ms;  /* without the overhead */
    double rest;      /* bytes that are sent in it */
    bool pause_known; /* false before anything is known of the dirty rate */
};
void policy_forecast_take(struct policy *policy, const struct policy_sample *sample, bool new_pass);
void policy_forecast_skip(struct policy *policy, const struct policy_sample *sample, bool new_pass);
struct policy_forecast policy_forecast(const struct policy *policy,
                                       const struct policy_limits *limits,
                                       const struct policy_sample *sample);
struct policy_forecast policy_forecast_of(const struct policy *policy,
                                          const struct policy_limits *limits,
                                          const struct policy_sample *sample,
                                          const struct policy_scenario *scenario);
double policy_unsent(const struct policy *policy, const struct policy_sample *sample);
/* The rate at which memory leaves; 0 = unknown. */
double policy_memory_rate(const struct policy *policy, const struct policy_sample *sample);

/* policy_told.c: what was seen, for the spread: memory that left; what a pass left that lasted so long. */
void policy_told_take_rate(struct policy *policy, double bytes, double seconds);
void policy_told_take_pass(struct policy *policy, double seconds, double dirtied);
