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
/* The limit for a pass that begins with `size` bytes after one of `size_before`. */
int64_t policy_adaptive_limit_ms(int64_t limit_ms, int64_t most_ms, double size, double size_before,
                                 double throughput);

/* policy_dirtying.c: a measurement comes in; bytes that are dirtied in so many seconds without throttle. */
void policy_dirtying_take(struct policy_dirtying *dirtying, double seconds, double bytes);
double policy_dirtied(const struct policy_dirtying *dirtying, double seconds);

/* policy_forecast.c */
struct policy_forecast {
    bool ends;        /* by itself, or by force or post-copy at the timeout */
    bool in_time;     /* by itself, before the timeout */
    double time_s;    /* from the sample on */
    double pause_ms;  /* without the overhead */
    bool pause_known; /* false before anything is known of the dirty rate */
};
void policy_forecast_take(struct policy *policy, const struct policy_sample *sample, bool new_pass);
struct policy_forecast policy_forecast(const struct policy *policy,
                                       const struct policy_limits *limits,
                                       const struct policy_sample *sample);
double policy_unsent(const struct policy *policy, const struct policy_sample *sample);
/* The rate at which memory leaves; 0 = unknown. */
double policy_memory_rate(const struct policy *policy, const struct policy_sample *sample);
