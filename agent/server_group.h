/* SPDX-License-Identifier: Apache-2.0 */
/* The late check of an instance's server group where it is part of an operation (agent/operation.h). */
#pragma once

#include "agent/operation.h"

/* The group that the request's scheduler hints name, by request_spec, else by filter_properties; NULL = none. */
const char *server_group_hint(const struct rpc_request *request);
/*
 * A step: may the instance that was claimed be here (cloud_server_group_check())? It follows the step that saves
 * this host in the control plane. nova/compute/manager.py asks by the hints alone in a build and an evacuation.
 */
void server_group_step(struct operation *operation);
