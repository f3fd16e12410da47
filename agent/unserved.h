/* SPDX-License-Identifier: Apache-2.0 */
/* The handler of what this agent does not have. It owns its request. Loop thread. */
#pragma once

#include "agent/agent.h"

/*
 * A method that this agent does not have (UNSERVED in rpc/methods.def.h). A cast: InstanceFault, the task
 * state that the API set is cleared, a resize's allocations go back and its migration ends as "error", one line
 * in the log. A call: the exception that Nova's API turns into a clear answer.
 */
void endpoint_unserved(struct agent *agent, struct rpc_request *request);
