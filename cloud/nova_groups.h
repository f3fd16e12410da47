/* SPDX-License-Identifier: Apache-2.0 */
/* Server groups: whether an instance may be on this host (cloud_server_group_check()). Loop thread only. */
#pragma once

#include "cloud/nova.h"

struct nova_groups;

struct nova_groups *nova_groups_new(struct nova *nova);
/* Before the conductor goes: checks that wait end with ERR_CANCELLED, those under way with their calls. */
void nova_groups_stop(struct nova_groups *groups);
void nova_groups_free(struct nova_groups *groups);

/* The row of the provider's table. */
void nova_server_group_check(struct cloud *cloud, struct json_object *context,
                             const char *instance_uuid, const char *hint, cloud_done_fn done,
                             void *aux);
