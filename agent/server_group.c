/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/server_group.h"

#include "cloud/instances.h"
#include "lib/json.h"

/* A hint is a text, or a list of one: so the request spec keeps them. */
static const char *group_of(struct json_object *hints)
{
    struct json_object *group = json_get(hints, "group");

    if (json_object_is_type(group, json_type_array))
        group = json_object_array_length(group) ? json_object_array_get_idx(group, 0) : NULL;
    const char *text =
        json_object_is_type(group, json_type_string) ? json_object_get_string(group) : NULL;
    return text && *text ? text : NULL;
}

/* nova/compute/manager.py, _get_scheduler_hints(): the spec's, unless it has none at all. */
const char *server_group_hint(const struct rpc_request *request)
{
    struct json_object *spec =
        json_get(rpc_request_arg(request, "request_spec"), "nova_object.data");
    struct json_object *hints = json_get(spec, "scheduler_hints");

    if (json_object_is_type(hints, json_type_object) && json_object_object_length(hints) > 0)
        return group_of(hints);
    return group_of(json_get(rpc_request_arg(request, "filter_properties"), "scheduler_hints"));
}

void server_group_step(struct operation *op)
{
    const char *hint = server_group_hint(op->request);

    if (hint)
        cloud_server_group_check(op->agent->cloud, op->context, op->uuid, hint,
                                 operation_cloud_done, op);
    else
        operation_next(op);
}
