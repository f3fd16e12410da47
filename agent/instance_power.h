/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Power of instances: what the API asks for (start, stop, reboot, pause, suspend, soft delete ...), as
 * operations (agent/operation.h) with the events, expected task states and resulting states of nova-compute
 * (nova/compute/manager.py). The handlers own their request.
 *
 * The same kinds, begun by the agent itself, put instances and hypervisor in line: agent/power_sync.c,
 * agent/power_repair.c.
 */
#pragma once

#include "agent/operation.h"

void instance_start(struct agent *agent, struct rpc_request *request);
void instance_stop(struct agent *agent, struct rpc_request *request);
void instance_reboot(struct agent *agent, struct rpc_request *request);
void instance_pause(struct agent *agent, struct rpc_request *request);
void instance_unpause(struct agent *agent, struct rpc_request *request);
void instance_suspend(struct agent *agent, struct rpc_request *request);
void instance_resume(struct agent *agent, struct rpc_request *request);
void instance_soft_delete(struct agent *agent, struct rpc_request *request);
void instance_restore(struct agent *agent, struct rpc_request *request);

/* The same for the agent itself; the task state is there already (an operation that was cut off). */
extern const struct operation_kind instance_start_kind, instance_stop_kind,
    instance_soft_reboot_kind, instance_hard_reboot_kind, instance_unpause_kind;
/* After the host's own start: a guest that ran before runs again. */
extern const struct operation_kind instance_boot_kind;
/* Power sync: the guest is off, or must be: task state powering-off (expected: none), then as stop. */
extern const struct operation_kind instance_sync_stop_kind;
