/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The fake wiring (NET_KIND_FAKE): a scriptable host for tests of the rooms above. It wires nothing; it
 * remembers bridges, ports and calls. A bridge is "missing" only when the test says so. Any thread.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "net/net.h"

/* The bridge is missing: `creatable` says whether plug may make it. */
void net_fake_bridge_missing(struct net *net, const char *bridge, bool creatable);
bool net_fake_bridge_exists(struct net *net, const char *bridge);
/* The next `times` calls of an operation (check, plug, hold, ready, unplug, present, audit, arm) fail. */
void net_fake_fail(struct net *net, const char *operation, unsigned times, enum err_code code,
                   const char *text);
/* A tap that is not wired is not announced, and waited for (default: wired). */
void net_fake_set_unwired(struct net *net, const char *tap, bool unwired);
/* Its switch can be taught before the fabric is told (default: it cannot). */
void net_fake_set_teachable(struct net *net, const char *tap, bool teachable);
/* Ports plugged now; rounds of announcements of a tap so far. */
size_t net_fake_plugged(struct net *net);
unsigned net_fake_announced(struct net *net, const char *tap);
/* What was called so far: "plug tap01234567-89 ..."; the caller frees. */
char *net_fake_calls(struct net *net);
void net_fake_forget_calls(struct net *net);
