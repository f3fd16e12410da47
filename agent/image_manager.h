/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The image cache is kept small: every [image_cache] manager_interval, bases that no instance of this host uses
 * and that are old enough go (virt/instance_disks.h, image_cache_prune()). Only under a control plane that knows
 * instances. Loop thread only.
 */
#pragma once

#include "agent/agent.h"

void image_manager_open(struct agent *agent);
void image_manager_close(struct agent *agent);
