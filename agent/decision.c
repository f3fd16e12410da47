/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/decision.h"

#include <stdio.h>

#include "lib/text.h"

/* "3.1 MiB left at 38.0 MiB/s after pass 4"; empty while memory has not begun. */
static void figures(const struct policy_decision *d, char *out, size_t size)
{
    char left[32], rate[32];

    out[0] = 0;
    if (d->iteration < 1)
        return;
    text_bytes((double)d->remaining, left, sizeof(left));
    text_bytes((double)d->throughput, rate, sizeof(rate));
    (void)snprintf(out, size, "%s left at %s/s %s pass %d", left, rate,
                   d->iteration > 1 ? "after" : "in", d->iteration > 1 ? d->iteration - 1 : 1);
}

static void downtime_text(const struct policy_decision *d, const char *shown, char *out,
                          size_t size)
{
    char from[40] = "";

    if (d->downtime_before_ms > 0)
        (void)snprintf(from, sizeof(from), "%lld -> ", (long long)d->downtime_before_ms);
    (void)snprintf(out, size, "downtime limit %s%lld ms: %s%s%s", from, (long long)d->downtime_ms,
                   shown, *shown ? ", " : "", d->why);
}

void decision_text(const struct policy_decision *d, char *out, size_t size)
{
    char shown[120];

    figures(d, shown, sizeof(shown));
    if (d->action == POLICY_SET_DOWNTIME) {
        downtime_text(d, shown, out, size);
        return;
    }
    (void)snprintf(out, size, "%s%s%s%s", d->why ? d->why : "", *shown ? " (" : "", shown,
                   *shown ? ")" : "");
}
