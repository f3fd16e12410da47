/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "lib/loop.h"

/* Runs it on a thread, as the agent's workers run what blocks, while the loop turns here; to its end. */
void worker_run(struct loop *loop, void (*run)(void));
