/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The commands of the control protocol (lib/control.h), whoever sends them: the local socket
 * (agent/control.c) or another agent by the RPC method `control`. Loop thread.
 */
#pragma once

#include <json-c/json_object.h>

#include "agent/agent.h"
#include "lib/err.h"

/* The end of a command, on the loop, exactly once; the result is borrowed. */
typedef void (*commands_done_fn)(void *aux, struct json_object *result, const struct err *failure);

/* Runs a command; args (an object, may be NULL) is borrowed for the call. done may be called at once. */
void commands_run(struct agent *agent, const char *command, struct json_object *args,
                  commands_done_fn done, void *aux);
/* True if the command changes something: needs more than reading rights on the socket. Unknown: true. */
bool commands_writes(const char *command);
