/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/measure_early.h"

#include "lib/clock.h"
#include "lib/text.h"

/* What a guest did longer ago says too little of what it does now. */
enum { EARLY_MOST_US = 10000000 };

struct measure_early {
    char *uuid;
    struct measure_begun begun;
    struct measure_early *next;
};

static void drop(struct measure_early **link)
{
    struct measure_early *early = *link;

    *link = early->next;
    measure_begun_clear(&early->begun);
    free(early->uuid);
    free(early);
}

/* Those that are too old, and that of the guest. */
static void drop_some(struct agent *agent, const char *uuid)
{
    int64_t oldest_us = clock_monotonic_us() - EARLY_MOST_US;
    struct measure_early **link = &agent->measured_early;

    while (*link) {
        if ((*link)->begun.at_us < oldest_us || text_equal((*link)->uuid, uuid))
            drop(link);
        else
            link = &(*link)->next;
    }
}

void measure_early_keep(struct agent *agent, const char *uuid, struct measure_begun *begun)
{
    struct measure_early *early = NEW(struct measure_early);

    drop_some(agent, uuid);
    early->uuid = text_dup(uuid);
    early->begun = *begun;
    *begun = (struct measure_begun){.processor_ns = -1};
    early->next = agent->measured_early;
    agent->measured_early = early;
}

bool measure_early_take(struct agent *agent, const char *uuid, struct measure_begun *out)
{
    drop_some(agent, NULL);
    for (struct measure_early *early = agent->measured_early; early; early = early->next) {
        if (!text_equal(early->uuid, uuid))
            continue;
        *out = early->begun;
        early->begun = (struct measure_begun){.processor_ns = -1};
        drop_some(agent, uuid);
        return true;
    }
    return false;
}

void measure_early_close(struct agent *agent)
{
    while (agent->measured_early)
        drop(&agent->measured_early);
}
