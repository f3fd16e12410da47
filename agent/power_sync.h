/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Power states in line with the hypervisor, by the rules of nova/compute/manager.py
 * (_sync_instance_power_state): every sync_power_state_interval for all instances of the host, and at once for
 * the one of an event (a guest that shut itself down). Never while an operation or a migration of the
 * instance runs or a task state is set. Loop thread only; nothing of it in standalone.
 */
#pragma once

#include "agent/agent.h"

/* Begins; agent/node.c calls it when the host is registered. */
void power_sync_open(struct agent *agent);
void power_sync_close(struct agent *agent);
/* libvirt tells of a domain. */
void power_sync_event(struct agent *agent, const char *uuid, enum virt_event event);

/*
 * agent/power_repair.c: an instance that the control plane has on this host, at the agent's start
 * (_init_instance): operations that were cut off are begun anew or taken back, guests that ran before the
 * host's own start run again (resume_guests_state_on_host_boot).
 */
void power_repair(struct agent *agent, struct json_object *instances);
