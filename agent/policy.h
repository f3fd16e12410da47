/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The migration policy: a pure function of what was measured, what is allowed and the time. No I/O, no
 * clock of its own, no allocation; it is run over recorded traces in tests.
 *
 * Rules of Nova that it keeps (nova-contract 5.5): data_gib, the downtime steps, the completion timeout.
 * What it does beyond them: the timeout action fires once, the switch to post-copy is made by itself when
 * pre-copy does not converge, the expected downtime is computed from what is left and what is measured.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

enum policy_timeout_action { POLICY_ABORT, POLICY_FORCE_COMPLETE };

/* What may be changed while a migration runs. */
struct policy_limits {
    int64_t downtime_limit_ms;    /* the largest that may be set */
    int downtime_steps;           /* >= 1 */
    int64_t downtime_delay_s;     /* per GiB */
    int64_t completion_timeout_s; /* per GiB, or total; 0 = never */
    bool timeout_is_total;
    int64_t timeout_cap_s; /* operator's limit for a whole migration; 0 = none */
    enum policy_timeout_action timeout_action;
    bool post_copy;                 /* may be used */
    int post_copy_after_iterations; /* without convergence; 0 = only at the timeout or by force */
};

/* One sample, as virt's job statistics give it. */
struct policy_sample {
    int64_t elapsed_us; /* since the migration began to run */
    int64_t memory_remaining, memory_processed;
    int64_t disk_remaining, disk_processed;
    int64_t memory_bps, dirty_rate; /* bytes a second; 0 = unknown */
    int iteration;
    int64_t downtime_ms; /* the hypervisor's own expectation; -1 = none */
};

enum policy_action {
    POLICY_NOTHING,
    POLICY_SET_DOWNTIME, /* to downtime_ms of the decision */
    POLICY_START_POST_COPY,
    POLICY_ABORT_NOW,
    POLICY_FORCE_NOW, /* pause the guest, lift the bandwidth limit */
};

struct policy_decision {
    enum policy_action action;
    int64_t downtime_ms;
    const char *why; /* static text for the log */
};

/* Memory of the policy between samples; starts zeroed. */
struct policy {
    double data_gib;         /* policy_data_gib() */
    int step;                /* downtime steps made */
    int64_t downtime_set_ms; /* in force; 0 = none yet */
    bool timeout_fired;
    bool post_copy_started;
    bool forced;
    int last_iteration;
    int64_t best_remaining; /* smallest memory_remaining at the end of an iteration; 0 = none */
    int iterations_without_progress;
    double throughput; /* smoothed bytes a second, memory and disk */
    int64_t last_elapsed_us, last_processed;
    bool has_sample;
};

/* Nova's scale: max(2, memory GiB) + for each copied disk max(2, size GiB). */
double policy_data_gib(int64_t memory_mb, const int64_t *disk_bytes, unsigned disk_count);

/* Takes a sample in and decides at most one action; call again with the same sample until NOTHING. */
struct policy_decision policy_step(struct policy *policy, const struct policy_limits *limits,
                                   const struct policy_sample *sample);

/* The limits were changed by an operator: steps and timeouts are judged anew from now. */
void policy_limits_changed(struct policy *policy);

/* The downtime of step i as Nova computes it. */
int64_t policy_downtime_step_ms(const struct policy_limits *limits, int step);
/* Elapsed time after which the timeout action is due, in seconds; 0 = never. */
int64_t policy_timeout_s(const struct policy *policy, const struct policy_limits *limits);
/* Expected pause with what is left and the measured rate, ms; -1 = cannot be told yet. */
int64_t policy_expected_downtime_ms(const struct policy *policy,
                                    const struct policy_sample *sample);
/* Seconds until the end, from throughput and dirty rate; -1 = does not converge or cannot be told. */
int64_t policy_time_left_s(const struct policy *policy, const struct policy_limits *limits,
                           const struct policy_sample *sample);
