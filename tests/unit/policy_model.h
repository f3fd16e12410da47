/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A model of QEMU's pre-copy, for the policy's tests: memory is sent in passes; a pass that lasts t dirties what
 * the guest writes to in t under its throttle; the guest is stopped when what a pass left can be sent within
 * the downtime limit. Auto-converge adds throttle at the end of a pass, not of the first, once in two passes
 * that dirtied more than half of what they sent.
 *
 * The policy sees of it what the agent sees: job statistics each half second and as a pass begins, and the
 * dirty rate as QEMU measures it, by comparing 512 pages of each GiB, in whole MiB/s. All fields that are 0 leave
 * out what they stand for.
 */
#pragma once

#include "agent/policy.h"

/* How distinct pages add up while the guest writes; u = bytes written / hot set. */
enum model_pattern {
    MODEL_ROUND_ROBIN, /* min(1, u): each page in its turn */
    MODEL_RANDOM,      /* 1 - exp(-u): any page at any time */
    MODEL_LAYERED,     /* 80 % of the writes go to 20 % of the set */
};

struct model_guest {
    double memory, hot_set;  /* MiB */
    double link, dirty_rate; /* MiB a second */
    double waver;            /* 0.1: each pass's link and dirty rate are within 10 % of that */
    unsigned seed;
    enum model_pattern pattern;
    double
        untouched; /* share of memory that was never written: zero pages, which cost no bandwidth */
    double wobble; /* standard deviation of the link's throughput, which wanders within seconds */
    double disk;   /* MiB, copied before memory */
    bool sampled;  /* measurements sample pages; false: they are exact */
    bool unmeasured; /* there are none: QEMU is too old, or the guest is paused */
    double idle; /* share of the processor that the guest leaves alone: throttle takes that first */
    double overhead_spread; /* of the part of the pause that memory does not explain, relative */
    double
        unlimited; /* MiB a second: `link` is a limit, which is lifted in the pause; 0 = it is none */
    bool unlimited_known; /* from an earlier migration */
    double changes_at_s,
        changes_by; /* from then on dirty rate and hot set are that many times as large */
};

enum model_end { MODEL_COMPLETED, MODEL_ABORTED, MODEL_FORCED, MODEL_POST_COPY, MODEL_ENDLESS };

struct model_told {
    double error; /* relative; 9 = nothing was told */
    bool within;  /* the truth lay between the ends that were told */
    bool open;    /* there was no upper end */
};

struct model_result {
    enum model_end end;
    double time_s;
    double throttle_s; /* integral of the throttle's share over the time, and the pause */
    double pause_ms;   /* with MODEL_OVERHEAD_MS */
    int passes, throttle_percent, warnings;
    int64_t downtime_limit_ms; /* in force at the end */
    /* what was told of the time when a quarter of it was over, half, three quarters; as those passes began */
    struct model_told quarter, half, later, second_pass, third_pass;
    struct model_told pause; /* in the last pass, newest sample */
};

enum {
    MODEL_OVERHEAD_MS = 60,
    MODEL_FINISH_MS = 150 /* known, and in no figure but the time that is told */
};

/* `virsh migrate --auto-converge` as it is: 20 %, 10 % more each time, 300 ms. */
struct model_result model_virsh(const struct model_guest *guest);
/* Our policy, sampling every half second and when a pass begins. */
struct model_result model_policy(const struct model_guest *guest,
                                 const struct policy_limits *limits);
