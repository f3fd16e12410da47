/* SPDX-License-Identifier: Apache-2.0 */
/* Water filling: the smallest limits are served first, each time with an equal part of what is left. */
#include "agent/budget.h"

#include <stdbool.h>

static bool follows(const struct budget_claim *claim)
{
    return claim->fixed_mib <= 0;
}

/* Its limit is below this level: it needs no more. */
static bool is_sated(const struct budget_claim *claim, int64_t level_mib)
{
    return claim->limit_mib > 0 && claim->limit_mib <= level_mib;
}

/* Serves those whose limit is below an equal part of what is left, until nobody's is. */
static void serve_limited(int64_t *left_mib, size_t *open, struct budget_claim *claims,
                          size_t count)
{
    bool again = true;

    while (again && *open > 0) {
        int64_t level_mib = *left_mib / (int64_t)*open;
        again = false;
        for (size_t i = 0; i < count; i++) {
            if (!follows(&claims[i]) || claims[i].share_mib || !is_sated(&claims[i], level_mib))
                continue;
            claims[i].share_mib = claims[i].limit_mib;
            *left_mib -= claims[i].limit_mib;
            --*open;
            again = true;
        }
    }
}

/* The rest is divided evenly; what does not divide goes one by one to the first ones. */
static void serve_rest(int64_t left_mib, size_t open, struct budget_claim *claims, size_t count)
{
    for (size_t i = 0; i < count && open > 0; i++) {
        if (!follows(&claims[i]) || claims[i].share_mib)
            continue;
        int64_t share_mib = (left_mib + (int64_t)open - 1) / (int64_t)open;
        left_mib -= share_mib;
        open--;
        claims[i].share_mib = share_mib > 0 ? share_mib : 1;
    }
}

void budget_share(int64_t total_mib, struct budget_claim *claims, size_t count)
{
    int64_t fixed_mib = 0;
    size_t open = 0;

    for (size_t i = 0; i < count; i++) {
        claims[i].share_mib = follows(&claims[i]) ? 0 : claims[i].fixed_mib;
        fixed_mib += claims[i].share_mib;
        open += follows(&claims[i]);
    }
    if (open == 0)
        return;
    int64_t fair_mib = total_mib / (int64_t)count * (int64_t)open;
    int64_t left_mib = total_mib - fixed_mib;
    if (left_mib < fair_mib / 2)
        left_mib = fair_mib / 2;
    serve_limited(&left_mib, &open, claims, count);
    serve_rest(left_mib, open, claims, count);
}
