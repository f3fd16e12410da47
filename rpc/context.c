/* SPDX-License-Identifier: Apache-2.0 */
/* Request contexts: see the header. */
#include "rpc/context.h"

#include <string.h>
#include <json-c/linkhash.h>

#include "lib/clock.h"
#include "lib/json.h"
#include "lib/text.h"
#include "rpc/rpc.h"

#define PREFIX "_context_"

struct json_object *context_unpack(struct json_object *inner)
{
    struct json_object *context = json_object_new_object();
    json_object_object_foreach (inner, key, value) {
        if (text_starts_with(key, PREFIX))
            json_add(context, key + strlen(PREFIX), json_object_get(value));
    }
    return context;
}

void context_pack(struct json_object *inner, struct json_object *context)
{
    if (!context)
        return;
    json_object_object_foreach (context, key, value) {
        _cleanup_(str_freep) char *name = text_format(PREFIX "%s", key);
        json_add(inner, name, json_object_get(value));
    }
}

const char *context_request_id(struct json_object *context)
{
    return json_get_string(context, "request_id", "");
}

/* The keys that nova.context.RequestContext dumps when it serves no user. */
struct json_object *rpc_context_admin(void)
{
    static const char *const null_keys[] = {
        "auth_token",   "domain",       "global_request_id", "project",        "project_domain",
        "project_id",   "project_name", "quota_class",       "remote_address", "resource_uuid",
        "system_scope", "user",         "user_domain",       "user_id",        "user_name",
    };
    struct json_object *context = json_object_new_object();
    for (size_t i = 0; i < ARRAY_LEN(null_keys); i++)
        json_add_string(context, null_keys[i], NULL);

    char uuid[37], timestamp[CLOCK_TEXT_SIZE];
    text_new_uuid(uuid);
    clock_format_context(clock_realtime_us(), timestamp);
    _cleanup_(str_freep) char *request_id = text_format("req-%s", uuid);
    json_add_string(context, "request_id", request_id);
    json_add_string(context, "timestamp", timestamp);
    json_add_bool(context, "is_admin", true);
    json_add_bool(context, "is_admin_project", true);
    json_add_string(context, "read_deleted", "no");
    json_add_bool(context, "read_only", false);
    json_add_bool(context, "show_deleted", false);
    json_add(context, "roles", json_object_new_array());
    json_add(context, "service_catalog", json_object_new_array());
    json_add_string(context, "user_identity", "- - - - -");
    return context;
}
