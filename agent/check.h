/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The checks before anything is touched: check_can_live_migrate_destination and _source (nova-contract
 * 4.3, 4.4). Both own the request. Whatever goes wrong is answered with an exception that makes the
 * conductor try the next host (4.1): MigrationPreCheckError unless a more exact one is known to do so.
 */
#pragma once

#include "agent/agent.h"

void check_destination(struct agent *agent, struct rpc_request *request);
void check_source(struct agent *agent, struct rpc_request *request);
/* check_instance_shared_storage: is the probe file of that name to be seen here? */
void check_shared_storage(struct agent *agent, struct rpc_request *request);
