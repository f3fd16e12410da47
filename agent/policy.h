/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The migration policy: a pure function of what was measured, what is allowed and the time. No I/O, no
 * clock of its own, no allocation; it is run over recorded traces and over a model of QEMU in tests.
 *
 * policy.c          takes samples in; timeout, post-copy; what both kinds share
 * policy_stepped.c  Nova's kind (nova-contract 5.5): the downtime limit grows with the time
 * policy_adaptive.c ours: the downtime limit grows on evidence, pass by pass; the throttle's start comes from
 *                   the dirty rate that was measured before; post-copy is planned; stalls are told
 * policy_dirtying.c what the guest dirties in which time
 * policy_forecast.c when it ends, how long the pause will be, if all is as it looks
 * policy_told.c     what people are told of that, and between which ends
 *
 * The rule of QEMU that all of it rests on (7.2, ram.c): memory is sent in passes; at the end of one it
 * looks at what was dirtied meanwhile, and stops the guest if that can be sent within the downtime limit.
 * Auto-converge adds throttle at the end of a pass alone, not after the first, once in two passes that
 * dirtied more than half of what they sent.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

enum policy_timeout_action { POLICY_ABORT, POLICY_FORCE_COMPLETE };
enum policy_kind { POLICY_STEPPED, POLICY_ADAPTIVE };

enum {
    POLICY_OVERHEAD_MS =
        60, /* of a pause, before any was measured: device state and libvirt's part */
    POLICY_DOWNTIME_FLOOR_MS = 50, /* the adaptive kind begins with it */
};

/* What may be changed while a migration runs. */
struct policy_limits {
    enum policy_kind kind;
    int64_t downtime_limit_ms;    /* the largest that may be set */
    int downtime_steps;           /* >= 1 */
    int64_t downtime_delay_s;     /* per GiB */
    int64_t completion_timeout_s; /* per GiB, or total; 0 = never */
    bool timeout_is_total;
    int64_t timeout_cap_s; /* operator's limit for a whole migration; 0 = none */
    enum policy_timeout_action timeout_action;
    bool auto_converge;             /* the guest may be slowed down */
    bool post_copy;                 /* may be used */
    int post_copy_after_iterations; /* without convergence; 0 = the kind decides: stepped only at the
                                       timeout or by force, adaptive when nothing else ends it in time */
};

/* What is known before the start. */
struct policy_outlook {
    double data_gib;         /* policy_data_gib() */
    int64_t memory_bytes;    /* of the guest */
    int64_t touched_bytes;   /* of it, that the guest ever wrote to; 0 = unknown */
    int64_t disk_bytes;      /* to be copied */
    int64_t dirty_rate;      /* bytes a second, measured over a second; -1 = unknown */
    int busy_percent;        /* of its busiest processor meanwhile; 0 = unknown */
    int64_t bandwidth;       /* bytes a second; 0 = unknown */
    int64_t bandwidth_limit; /* of memory; 0 = none */
    int64_t link;        /* what memory gets when nothing limits it, bytes a second; 0 = unknown */
    int64_t overhead_ms; /* learned part of a pause that does not depend on memory; 0 = not yet */
    int64_t
        pause_stray_ms; /* by how much pauses were told wrongly on the average; 0 = not known yet */
    int64_t begin_ms;   /* from the call until something is copied; 0 = not known yet */
    int64_t finish_ms;  /* from the guest's resumption until the job has ended; 0 = not known yet */
    int throttle_initial, throttle_increment; /* the operator's; 0 = the policy's */
};

struct policy_start {
    int throttle_initial, throttle_increment; /* percent; 0 = the hypervisor's own */
    bool
        hopeless; /* nothing that is permitted can end it: dirty rate above bandwidth, what is dirtied in a
                      second does not fit into the longest pause, and the timeout aborts */
    bool
        in_time; /* pre-copy is expected to end by itself before the timeout; false also if nothing can be told */
    /* expected, and the ends as in struct policy_told; -1 = does not converge or cannot be told */
    int64_t time_s, time_low_s, time_high_s;
    int64_t pause_ms, pause_low_ms, pause_high_ms;
};

/* One sample, as virt's job statistics give it. */
struct policy_sample {
    int64_t elapsed_us; /* since the migration began to run */
    int64_t memory_remaining, memory_processed;
    int64_t disk_remaining, disk_processed;
    int64_t memory_bps, dirty_rate; /* bytes a second; 0 = unknown */
    int iteration;
    int throttle_percent;
    int64_t downtime_ms;     /* the hypervisor's own expectation; -1 = none */
    int64_t bandwidth_limit; /* of memory, in force, bytes a second; 0 = none */
};

enum policy_action {
    POLICY_NOTHING,
    POLICY_SET_DOWNTIME, /* to downtime_ms of the decision */
    POLICY_START_POST_COPY,
    POLICY_ABORT_NOW,
    POLICY_FORCE_NOW, /* pause the guest, lift the bandwidth limit */
    POLICY_WARN,      /* tell people: it is stalled */
};

struct policy_decision {
    enum policy_action action;
    int64_t downtime_ms;
    const char *why; /* static text for the log */
    /* what it was decided on */
    int64_t downtime_before_ms; /* 0 = none was set */
    int64_t remaining;          /* memory, bytes */
    int64_t throughput;         /* of memory, bytes a second; 0 = unknown */
    int iteration, throttle_percent;
};

/* What the guest dirties in which time (policy_dirtying.c): in the order of time, of a guest without throttle. */
enum { POLICY_POINTS = 12 };
struct policy_dirtying {
    int count; /* 0 = nothing is known */
    struct policy_point {
        double seconds, bytes;
    } points[POLICY_POINTS];
};

/* Memory of the policy between samples; starts zeroed, or with policy_begin(). */
struct policy {
    double data_gib;
    int64_t memory_bytes;    /* of the guest; 0 = unknown */
    int64_t overhead_ms;     /* 0 = POLICY_OVERHEAD_MS */
    int64_t pause_stray_ms;  /* 0 = not known */
    int64_t begin_ms;        /* 0 = not known */
    int64_t finish_ms;       /* 0 = not known */
    int64_t link;            /* without a limit, bytes a second; 0 = unknown */
    int throttle_initial;    /* that libvirt was told; 0 = QEMU's */
    int throttle_increment;  /* the same */
    int step;                /* downtime steps made */
    int64_t downtime_set_ms; /* in force; 0 = none yet */
    bool timeout_fired;
    bool post_copy_started;
    bool forced;
    bool stall_told;
    int last_iteration;
    int64_t best_remaining; /* smallest memory_remaining at the end of an iteration; 0 = none */
    int iterations_without_progress;
    double throughput; /* smoothed bytes a second, memory and disk */
    int64_t last_elapsed_us, last_processed;
    bool has_sample;
    /* policy_forecast.c */
    int64_t copied_us; /* when something was seen copied for the first time; 0 = nothing yet */
#define POLICY_COPIED_UNSEEN INT64_C(-1) /* it had begun before anybody looked */
    double memory_throughput;            /* smoothed, in the memory phase alone; 0 = unknown */
    double usual_throughput;             /* the same on the whole; 0 = unknown */
    double disk_throughput;              /* while disks are copied; 0 = unknown */
    double usual_over_s, disk_over_s;    /* that they were seen */
    int64_t last_disk_processed;
    int64_t bandwidth;     /* foreseen; 0 = unknown */
    int busy_percent;      /* of the guest's busiest processor; 0 = unknown */
    int64_t touched_bytes; /* of memory, that the guest ever wrote to; 0 = unknown */
    struct policy_dirtying dirtying;
    int passes_seen;        /* from begin to end */
    int64_t pass_processed; /* memory_processed as the pass began */
    int pass_iteration;
    int64_t pass_began_us;
    double pass_size, pass_size_before; /* bytes at the begin of this pass, of the one before */
    int pass_throttle;                  /* that this pass began with */
    double turn_share; /* of a throttled processor's sleep, that the turn of a pass waits for it */
    int64_t last_memory_processed, last_remaining, last_moved_us;
    /* policy_told.c: how far what is measured strays */
    double block_bytes, block_s;       /* of memory that left, since the last block was full */
    double rate_variance, rate_blocks; /* of a block's rate, relative; blocks that tell it */
    double dirtying_variance;          /* of what passes left, relative to what was foreseen */
    int dirtying_passes;               /* that tell it */
    bool disturbed;                    /* the pass that runs: policy_skip() */
};

/* Nova's scale: max(2, memory GiB) + for each copied disk max(2, size GiB). */
double policy_data_gib(int64_t memory_mb, const int64_t *disk_bytes, unsigned disk_count);

/* What to start with, and what will come of it. */
struct policy_start policy_start(const struct policy_limits *limits,
                                 const struct policy_outlook *outlook);
/*
 * Why the start need not wait for the dirty rate (static text); NULL = it may decide something. `processors`: the time
 * that the guest used of late, at most, as a number of processors that ran all the time; -1 = unknown.
 */
const char *policy_needs_no_rate(const struct policy_limits *limits,
                                 const struct policy_outlook *outlook, double processors);
/* A fresh policy for a migration that begins. */
struct policy policy_begin(const struct policy_outlook *outlook, const struct policy_start *start);

/*
 * Over how many seconds the dirty rate is to be measured in the first pass, beginning just before libvirt's call
 * (which then allows no other such measurement): as long as it can and still be known at a quarter of the way.
 * 0 = not at all.
 */
int policy_measure_s(const struct policy_outlook *outlook);
/* The end of that measurement; distinct bytes a second over `seconds`. */
void policy_measured(struct policy *policy, int seconds, int64_t bytes_per_s);

/* Takes a sample in and decides at most one action; call again with the same sample until NOTHING. */
struct policy_decision policy_step(struct policy *policy, const struct policy_limits *limits,
                                   const struct policy_sample *sample);

/* Takes in a sample of a time in which the migration was slowed down for another one: how fast memory left, and how far
 * the pass came, is nothing to judge by. */
void policy_skip(struct policy *policy, const struct policy_sample *sample);

/* The limits were changed by an operator: steps and timeouts are judged anew from now. */
void policy_limits_changed(struct policy *policy);

/* The downtime of step i as Nova computes it. */
int64_t policy_downtime_step_ms(const struct policy_limits *limits, int step);
/* Elapsed time after which the timeout action is due, in seconds; 0 = never. */
int64_t policy_timeout_s(const struct policy *policy, const struct policy_limits *limits);
/*
 * What people are told of a migration that runs. The truth is expected between the low and the high end in four of
 * five cases. -1 = cannot be told, or does not converge; of a high end alone: there is none that could be told.
 */
struct policy_told {
    int64_t time_left_ms, time_left_low_ms, time_left_high_ms;
    int64_t pause_ms, pause_low_ms, pause_high_ms;
    int64_t pause_rest; /* bytes that are expected to be sent in the pause; 0 = unknown */
};
#define POLICY_TOLD_NOTHING ((struct policy_told){-1, -1, -1, -1, -1, -1, 0})
struct policy_told policy_tell(const struct policy *policy, const struct policy_limits *limits,
                               const struct policy_sample *sample);
/* The same `age_ms` later, when nothing new was seen since. */
struct policy_told policy_told_later(struct policy_told told, int64_t age_ms);
/* In whole seconds: the figure to the nearest, the ends outwards. */
int64_t policy_told_s(int64_t ms);
int64_t policy_told_low_s(int64_t ms);
int64_t policy_told_high_s(int64_t ms);
/* True if the limit is what keeps memory from leaving faster. */
bool policy_is_limited(const struct policy *policy, int64_t bandwidth_limit);
/* True if the guest is to be stopped at the end of the pass that runs. */
bool policy_is_last_pass(const struct policy *policy, const struct policy_sample *sample);
/* The part of a pause that does not depend on memory, after a pause that was expected and measured. */
int64_t policy_learn_overhead_ms(int64_t known_ms, int64_t expected_ms, int64_t measured_ms);
/* How long something takes that takes about as long each time; 0 = not known. */
int64_t policy_learn_time_ms(int64_t known_ms, int64_t measured_ms);
/* By how much pauses are told wrongly. */
int64_t policy_learn_stray_ms(int64_t known_ms, int64_t expected_ms, int64_t measured_ms);
/* What a link carries without its limit, after a measured pause in which so many bytes were sent. */
int64_t policy_learn_link(int64_t known, int64_t rest, int64_t overhead_ms, int64_t measured_ms);
