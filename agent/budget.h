/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The host's bandwidth shared among its migrations: max-min fairness. Nobody gets more than its own limit;
 * what one leaves goes to the others in equal parts. Pure functions on numbers; source_bandwidth.c puts
 * them to work.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

struct budget_claim {
    int64_t limit_mib; /* its own limit, MiB/s; 0 = none */
    int64_t
        fixed_mib; /* what it takes whatever is decided here (a disk copy keeps its rate); 0 = it follows */
    int64_t share_mib; /* out: at least 1 */
};

/*
 * Shares total_mib (> 0) among the claims. What is fixed is taken off first, but the others keep at least
 * half of what they would have had with nothing fixed. The shares of those that follow add up to no more than
 * is there, unless that is less than 1 MiB/s each. Any thread.
 */
void budget_share(int64_t total_mib, struct budget_claim *claims, size_t count);
