/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What earlier migrations to a host taught, for as long as the agent runs: how much of a pause does not
 * depend on memory (device state, libvirt's part), how long libvirt takes before and after, how fast memory
 * goes there when nothing limits it, and whether its agent is one of ours.
 * One entry for each host that a guest was moved to. Loop thread.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct agent;
struct migration;

/* 0 = nothing is known yet. */
struct host_pair_known {
    int64_t overhead_ms; /* of a pause */
    int64_t bandwidth;   /* bytes a second */
    int64_t link;        /* what memory gets in a pause, in which no limit holds: bytes a second */
    int64_t pause_stray_ms; /* by how much pauses were told wrongly on the average */
    int64_t begin_ms,
        finish_ms; /* libvirt's own time: from its call until it copies anything, and from the
                                    guest's resumption until its job has ended */
};
struct host_pair_known host_pair_known(const struct agent *agent, const char *host);
/* Did the agent of that host show by an answer that it is one of ours? */
bool host_pair_is_ours(const struct agent *agent, const char *host);
void host_pair_answered(struct agent *agent, const char *host, bool is_ours);
/* A migration completed whose pause was measured (-1 = was not). Once for each, before its newest sample goes. */
void host_pair_learn(struct migration *migration, int64_t measured_ms);
void host_pairs_close(struct agent *agent);
