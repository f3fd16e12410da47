/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Moving instances as an operator of the cloud would: by the API of the control plane, so that its scheduler
 * chooses where to. Standalone has no such API: there the agent asks the hosts itself (agent/drain.h).
 *
 * Threads and ends: as cloud/cloud.h says. Without an API each of them ends with ERR_NOT_IMPLEMENTED.
 * ERR_DENIED: the account may not ask; the text says where another one is configured.
 */
#pragma once

#include "cloud/cloud.h"

bool cloud_has_api(const struct cloud *cloud);

/*
 * Asks for a live migration, to `destination` or, when that is NULL, to where the scheduler chooses (both are checked
 * by it). done: {"request": "req-..."}, the name of this attempt, when the API has taken it. ERR_NO_INSTANCE;
 * ERR_PRECHECK with the API's text; after ERR_TIMEOUT and ERR_UNREACHABLE it may have been taken.
 */
void cloud_move(struct cloud *cloud, const char *instance_uuid, const char *destination,
                cloud_result_fn done, void *aux);

/*
 * Where an instance is: {"host": ..., "busy": bool, "status": "ACTIVE", "reason": ...}. If it is idle on `from`, and
 * `request` (may be NULL) was an attempt to move it, reason is what became of that attempt; null when nothing is known.
 * ERR_NO_INSTANCE.
 */
void cloud_whereabouts(struct cloud *cloud, const char *instance_uuid, const char *from,
                       const char *request, cloud_result_fn done, void *aux);

/*
 * The compute service of this host takes no new instances (enabled false), or takes them again. done:
 * {"changed": bool}, true also when an earlier call for this `reason` did it. A service that was disabled for
 * another one is left alone.
 */
void cloud_service_enable(struct cloud *cloud, bool enabled, const char *reason,
                          cloud_result_fn done, void *aux);
