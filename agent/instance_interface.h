/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Network interfaces of a guest that is there: attach, detach, and the control plane's news of them
 * (network-changed, network-vif-deleted, inject_network_info). Handlers own their request. Loop thread.
 */
#pragma once

#include "agent/operation.h"

void instance_attach_interface(struct agent *agent, struct rpc_request *request);
void instance_detach_interface(struct agent *agent, struct rpc_request *request);
void instance_inject_network_info(struct agent *agent, struct rpc_request *request);

/* external_instance_event; `instance` is the event's and is copied. port_id may be NULL for network-changed. */
void instance_network_changed(struct agent *agent, const struct instance *instance,
                              const char *port_id, struct json_object *context);
void instance_port_deleted(struct agent *agent, const struct instance *instance,
                           const char *port_id, struct json_object *context);
