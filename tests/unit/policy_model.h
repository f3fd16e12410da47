/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A model of QEMU's pre-copy, for the policy's tests: memory is sent in passes; a pass of R bytes lasts R/B
 * and dirties min(hot set, (1 - throttle) D R/B); the guest is stopped when what a pass left can be sent
 * within the downtime limit. Auto-converge adds throttle at the end of a pass, not of the first, once in
 * two passes that dirtied more than half of what they sent. Link and dirty rate may waver.
 */
#pragma once

#include "agent/policy.h"

struct model_guest {
    double memory, hot_set;  /* MiB */
    double link, dirty_rate; /* MiB a second */
    double waver;            /* 0.1: each pass's link and dirty rate are within 10 % of that */
    unsigned seed;
};

enum model_end { MODEL_COMPLETED, MODEL_ABORTED, MODEL_FORCED, MODEL_POST_COPY, MODEL_ENDLESS };

struct model_result {
    enum model_end end;
    double time_s;
    double throttle_s; /* integral of the throttle's share over the time, and the pause */
    double pause_ms;   /* with MODEL_OVERHEAD_MS */
    int passes, throttle_percent, warnings;
    int64_t downtime_limit_ms; /* in force at the end */
    /* relative errors of what was told; 9 when nothing was told */
    double time_error_quarter, time_error_half, time_error_later;
    double pause_error; /* in the last pass, newest sample */
};

enum { MODEL_OVERHEAD_MS = 60 };

/* What measuring over a second tells, bytes a second. */
int64_t model_measured_dirty_rate(const struct model_guest *guest);
/* `virsh migrate --auto-converge` as it is: 20 %, 10 % more each time, 300 ms. */
struct model_result model_virsh(const struct model_guest *guest);
/* Our policy, sampling every half second and when a pass begins. */
struct model_result model_policy(const struct model_guest *guest,
                                 const struct policy_limits *limits);
/* The outlook of that guest: bandwidth known, dirty rate measured. */
struct policy_outlook model_outlook(const struct model_guest *guest);
