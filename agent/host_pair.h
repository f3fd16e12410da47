/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What earlier migrations to a host taught, for as long as the agent runs: how much of a pause does not
 * depend on memory (device state, libvirt's part), how fast memory goes there when nothing limits it, and
 * whether its agent is one of ours.
 * One entry for each host that a guest was moved to. Loop thread.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct agent;
struct migration;

/* 0 = nothing is known yet. */
int64_t host_pair_overhead_ms(const struct agent *agent, const char *host);
int64_t host_pair_bandwidth(const struct agent *agent, const char *host); /* bytes a second */
/* What memory gets in a pause, in which no limit holds: bytes a second. */
int64_t host_pair_link(const struct agent *agent, const char *host);
/* By how much pauses were told wrongly on the average. */
int64_t host_pair_pause_stray_ms(const struct agent *agent, const char *host);
/* Is the agent of that host known to be ours? In standalone there are no others; under Nova it shows by an answer. */
bool host_pair_is_ours(const struct agent *agent, const char *host);
void host_pair_answered(struct agent *agent, const char *host, bool is_ours);
/* A migration completed whose pause was measured (-1 = was not). Once for each, before its newest sample goes. */
void host_pair_learn(struct migration *migration, int64_t measured_ms);
void host_pairs_close(struct agent *agent);
