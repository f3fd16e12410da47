/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An instance whose files are here is started: the domain's XML is made anew from what the control plane knows
 * (agent/instance_spec.h), its ports are wired again, whatever was left of the former domain goes. Start, hard
 * reboot, restore and the host's own start have it in common (_hard_reboot of the libvirt driver).
 *
 * Made on the loop with copies of all it needs, run on a worker, freed on the loop.
 */
#pragma once

#include "agent/operation.h"

struct instance_launch;

struct instance_launch *instance_launch_new(const struct operation *operation);
/* A step: network_info as the network service has it now; when that cannot be asked, the cache's, which is
 * better than a guest that does not start. Ends the step. */
void instance_launch_ports(struct instance_launch *launch, struct operation *operation);
/* BLOCKS. Power off, ports wired again, XML, define, start. */
int instance_launch_run(struct instance_launch *launch, struct agent *agent, struct err *e);
/* BLOCKS. Ports alone. */
int instance_launch_plug(struct instance_launch *launch, struct agent *agent, struct err *e);
void instance_launch_free(struct instance_launch *launch);
