/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Commands for another host's agent: carried by the RPC method `control` of the namespace `computed`,
 * answered as the other agent answers its own socket. Loop thread.
 */
#pragma once

#include "agent/commands.h"

/* As commands_run(), on `host`. The failure keeps the code, class and text of the other side's. */
void relay_run(struct agent *agent, const char *host, const char *command, struct json_object *args,
               commands_done_fn done, void *aux);
