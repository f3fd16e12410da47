/* SPDX-License-Identifier: Apache-2.0 */
/* The handlers that the command table names: 0, or -1 with the error that ends the run. */
#pragma once

#include "ctl/ctl.h"

#define COMMAND(handler, ...) int ctl_run_##handler(struct ctl *ctl, struct err *e);
#include "ctl/commands.def.h"
#undef COMMAND
