/* SPDX-License-Identifier: Apache-2.0 */
/* The counters themselves. */
#include "lib/metrics.h"

#include <stdatomic.h>

static _Atomic uint64_t metric_values[METRIC_COUNT];

static const struct {
    const char *name, *help;
} metric_rows[METRIC_COUNT] = {
#define X(id, text_name, text_help) [METRIC_##id] = {text_name, text_help},
    METRICS_LIST(X)
#undef X
};

void metric_add(enum metric metric, uint64_t n)
{
    atomic_fetch_add_explicit(&metric_values[metric], n, memory_order_relaxed);
}

uint64_t metric_get(enum metric metric)
{
    return atomic_load_explicit(&metric_values[metric], memory_order_relaxed);
}

const char *metric_name(enum metric metric)
{
    return metric_rows[metric].name;
}

const char *metric_help(enum metric metric)
{
    return metric_rows[metric].help;
}
