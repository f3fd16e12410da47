/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The control socket's server: unix stream socket, mode 0660, peer credentials checked, JSON lines
 * (lib/control.h). Requests for another host are relayed over AMQP by the RPC method `control`. Loop
 * thread; nothing blocks.
 */
#pragma once

#include "agent/agent.h"

int control_new(struct control **out, struct agent *agent, const char *path, const char *group,
                struct err *e);
void control_free(struct control *control);
