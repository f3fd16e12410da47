/* SPDX-License-Identifier: Apache-2.0 */
/*
 * This host under a control plane that knows nodes (Nova): its start, its figures, its claims.
 *
 * Start: what the hypervisor has is read, cloud_node_start() registers the host and its instances are asked
 * for; what was evacuated from here while the host was away is powered off and removed (agent/node_evacuated.c),
 * and only then are RPC requests taken up and the other instances repaired (agent/power_repair.c).
 * libvirt or the conductor may be away: the start goes on when they are back. From then on an audit runs
 * every update_resources_interval, and soon after node_changed(): it reads the hypervisor, asks for the
 * instances, counts what they, the claims and the incoming migrations take by their flavors, corrects
 * Instance.compute_id, and writes what changed. Allocations in Placement that belong to nobody are looked for
 * with it (agent/node_leaks.c), evacuated guests too: an agent that was cut off from Nova lives on while they are
 * evacuated.
 *
 * While libvirt is away the service is disabled with a reason that begins with "AUTO: ", and enabled again when
 * it is back, unless an operator disabled it (nova/virt/libvirt/driver.py, _set_host_enabled).
 *
 * A control plane without nodes (standalone) has none of this: node_open() does nothing then, and the others
 * behave as if all were well. Loop thread only.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <json-c/json_object.h>

#include "agent/agent.h"

struct node;

/* Begins the start of the host; at its end held requests are taken up. */
void node_open(struct agent *agent);
void node_close(struct agent *agent);
/* False while requests must wait. */
bool node_is_ready(const struct agent *agent);
/* Something was taken or given back: the figures are counted anew soon (many calls make one audit). */
void node_changed(struct agent *agent);
/* libvirt went or came. */
void node_connection(struct agent *agent, bool up, const char *why);

/*
 * Resources of an instance that is built or comes here, counted from now on, also while the control plane
 * does not list it for this host. As Nova's claim it does not look at memory, disk or CPUs: those are
 * Placement's. ERR_NO_SPACE with the class ComputeResourcesUnavailable: the host is not registered, or the
 * instance wants what this host does not give (NUMA topology, PCI devices). An instance has one claim at most.
 */
int node_claim(struct agent *agent, const struct instance *instance, struct err *e);
/* The build ended, well or not: from here on the control plane's word counts. No claim is no error. */
void node_unclaim(struct agent *agent, const char *instance_uuid);
/* The scheduler prefers hosts where builds do not fail: a build ended well, or this host could not do it. */
void node_build_ended(struct agent *agent, bool good);
/* Instance.node: the provider's name; NULL before the hypervisor was read, and without a node. */
const char *node_hostname(const struct agent *agent);
/* Instance.compute_id and node of an instance that is ours from now on (changes of the view). */
void node_own_instance(const struct agent *agent, struct instance *instance);

/* {"state", "usage", "claims", "evacuated", "leaks", ...} for status; NULL without a node. New reference. */
struct json_object *node_status(const struct agent *agent);
/* Text of `uptime` as last read; NULL = not known. */
const char *node_uptime(const struct agent *agent);
