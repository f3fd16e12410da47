/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Nova's own API (the service `compute` of the catalogue) for the control plane `nova`: its rows of
 * cloud/cloud_provider.h; contracts in cloud/moves.h. The account is that of [nova], else of [service_user],
 * else of [neutron]; it must be an administrator.
 */
#pragma once

#include "cloud/nova.h"

void nova_api_move(struct cloud *cloud, const char *instance_uuid, const char *destination,
                   cloud_result_fn done, void *aux);
void nova_api_whereabouts(struct cloud *cloud, const char *instance_uuid, const char *from,
                          const char *request, cloud_result_fn done, void *aux);
void nova_api_service_enable(struct cloud *cloud, bool enabled, const char *reason,
                             cloud_result_fn done, void *aux);
