/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the files of the control plane `nova` share: conductor, REST services, the node. The provider's
 * table is in cloud/nova.c; its rows are implemented in the file of their subject:
 *   conductor.c  objects by RPC      nova_node.c   service record, heartbeat, compute node
 *   nova_api.c  Nova's own API
 *   nova_groups.c  server groups      nova_console.c   tokens of consoles
 *   placement.c  provider, allocations     neutron*.c   ports and bindings     glance.c   images
 * A row may call `done` at once; cloud.c puts it off.
 */
#pragma once

#include "cloud/cloud_provider.h"
#include "cloud/conductor.h"
#include "cloud/service.h"
#include "cloud/store.h"
#include "lib/workers.h"

struct neutron;
struct nova_groups;
struct nova_node;
struct placement;

struct nova {
    struct cloud *cloud;
    struct conductor *conductor;
    struct http *http;
    struct service *services[SERVICE_KIND_COUNT];
    struct placement *placement;
    struct neutron *neutron; /* neutron_new(), neutron_free() after the services */
    struct workers *workers; /* file transfers */
    struct store *store;     /* the agent's own accounts of migrations, as in standalone */
    struct nova_node *node;
    struct nova_groups *groups;
};

static inline struct nova *nova_of(const struct cloud *cloud)
{
    return cloud->state;
}
/* The request id of a context, for X-Openstack-Request-Id; NULL when it has none. */
const char *nova_request_id(struct json_object *context);
