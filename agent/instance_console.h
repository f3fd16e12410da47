/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Consoles and what is told of a guest: get_console_output, tokens for VNC, SPICE and serial consoles,
 * diagnostics, uptime, set_host_enabled. Calls: each owns its request and answers it. Loop thread.
 */
#pragma once

#include "agent/agent.h"

void instance_console_output(struct agent *agent, struct rpc_request *request);
void instance_vnc_console(struct agent *agent, struct rpc_request *request);
void instance_spice_console(struct agent *agent, struct rpc_request *request);
void instance_serial_console(struct agent *agent, struct rpc_request *request);
void instance_validate_console_port(struct agent *agent, struct rpc_request *request);

/* agent/instance_info.c */
void instance_diagnostics(struct agent *agent, struct rpc_request *request);     /* object */
void instance_diagnostics_old(struct agent *agent, struct rpc_request *request); /* flat */
void host_uptime(struct agent *agent, struct rpc_request *request);
void host_set_enabled(struct agent *agent, struct rpc_request *request);
