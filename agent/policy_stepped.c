/* SPDX-License-Identifier: Apache-2.0 */
/* Nova's downtime steps: the limit grows with the time, whatever the guest does. */
#include "agent/policy_internal.h"

#include <stddef.h>

int64_t policy_downtime_step_ms(const struct policy_limits *limits, int step)
{
    double limit = (double)limits->downtime_limit_ms;
    double base = limit / limits->downtime_steps;

    if (step >= limits->downtime_steps)
        return limits->downtime_limit_ms;
    return (int64_t)(base + step * (limit - base) / limits->downtime_steps);
}

int64_t policy_stepped_limit_ms(const struct policy *policy, const struct policy_limits *limits,
                                double elapsed_s)
{
    double delay_s = (double)limits->downtime_delay_s * policy->data_gib;
    double steps = delay_s > 0.0 ? elapsed_s / delay_s : limits->downtime_steps;

    return policy_downtime_step_ms(limits, steps < limits->downtime_steps
                                               ? (int)(steps > 0.0 ? steps : 0.0)
                                               : limits->downtime_steps);
}

/* Step i is due when more than i delays have passed; only the newest that is due counts. */
struct policy_decision policy_stepped_downtime(struct policy *policy,
                                               const struct policy_limits *limits,
                                               const struct policy_sample *sample)
{
    int64_t delay_us = policy_product(
        policy_saturated((double)limits->downtime_delay_s * policy->data_gib), POLICY_USEC);
    int64_t wanted_ms = 0;

    while (policy->step <= limits->downtime_steps &&
           sample->elapsed_us > policy_product(policy->step, delay_us)) {
        wanted_ms = policy_downtime_step_ms(limits, policy->step);
        policy->step++;
    }
    if (wanted_ms == 0 || wanted_ms == policy->downtime_set_ms)
        return policy_decision(POLICY_NOTHING, NULL, policy, sample);
    struct policy_decision d =
        policy_decision(POLICY_SET_DOWNTIME, "the next step is due", policy, sample);
    d.downtime_ms = policy->downtime_set_ms = wanted_ms;
    return d;
}
