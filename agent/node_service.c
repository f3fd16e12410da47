/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/node_internal.h"
#include "cloud/instances.h"
#include "cloud/node.h"
#include "lib/json.h"
#include "lib/log.h"

LOG_MODULE(node);

/* Reasons that begin so are ours to take back; others are an operator's. */
#define AUTO_PREFIX "AUTO: "

struct node_service {
    struct node *node;
    bool wanted; /* enabled */
    char *why;
    bool settled; /* the record is as it should be, or an operator's */
    bool busy;
    bool changed; /* wanted changed while busy */
};

struct node_service *node_service_new(struct node *node)
{
    struct node_service *s = NEW(struct node_service);

    s->node = node;
    s->wanted = s->settled = true;
    return s;
}

void node_service_free(struct node_service *s)
{
    if (!s)
        return;
    free(s->why);
    free(s);
}

static void ended(struct node_service *s, bool settled)
{
    s->busy = false;
    s->settled = settled && !s->changed;
    if (s->changed)
        node_service_settle(s);
}

static void trait_set(void *aux, const struct err *failure)
{
    if (failure) /* the next audit writes all traits */
        log_err(LOG_LEVEL_WARNING, failure,
                "the trait COMPUTE_STATUS_DISABLED is not as it should be");
    ended(aux, true);
}

static void saved(void *aux, struct json_object *result, const struct err *failure)
{
    struct node_service *s = aux;

    (void)result;
    if (failure) {
        log_err(LOG_LEVEL_WARNING, failure, "the service record could not be saved");
        ended(s, false);
        return;
    }
    log_info("the service of this host is %s", s->wanted ? "enabled again" : "disabled");
    cloud_node_set_enabled(s->node->agent->cloud, s->wanted, trait_set, s);
}

static void save(struct node_service *s, struct object *record)
{
    _cleanup_(json_putp) struct json_object *context = rpc_context_admin();
    _cleanup_(str_freep) char *reason =
        s->wanted ? NULL : text_format("%sConnection to libvirt lost: %s", AUTO_PREFIX, s->why);

    object_set_bool(record, "disabled", !s->wanted);
    object_set_string(record, "disabled_reason", reason);
    _cleanup_(json_putp) struct json_object *primitive = object_to_json(record);
    cloud_object_call(s->node->agent->cloud, context, primitive, "save", NULL, NULL, saved, s);
}

static void read_record(void *aux, struct json_object *result, const struct err *failure)
{
    _cleanup_(object_freep) struct object *record = NULL;
    struct node_service *s = aux;
    struct err e = ERR_INIT;

    if (failure || s->node->agent->closing ||
        object_from_json(result, "Service", 1, &record, &e) < 0) {
        log_err(LOG_LEVEL_WARNING, failure ? failure : &e, "the service record could not be read");
        ended(s, false);
        return;
    }
    object_clear_changes(record);
    bool disabled = object_bool(record, "disabled", false);
    const char *reason = object_string(record, "disabled_reason", "");
    if (disabled == !s->wanted) {
        ended(s, true);
    } else if (disabled && !text_starts_with(reason, AUTO_PREFIX)) {
        log_debug("the service was disabled by an operator and stays so");
        ended(s, true);
    } else {
        save(s, record);
    }
}

void node_service_settle(struct node_service *s)
{
    struct agent *agent = s->node->agent;

    if (s->settled || s->busy || !s->node->registered || agent->closing)
        return;
    struct json_object *args = json_object_new_array();
    _cleanup_(json_putp) struct json_object *context = rpc_context_admin();
    json_object_array_add(args, json_object_new_string(agent->host));
    s->busy = true;
    s->changed = false;
    cloud_class_call(agent->cloud, context, "Service", "get_by_compute_host", args, NULL,
                     read_record, s);
    json_object_put(args);
}

void node_service_want(struct node_service *s, bool enabled, const char *why)
{
    s->wanted = enabled;
    free(s->why);
    s->why = text_dup(why ? why : "no reason given");
    s->settled = false;
    s->changed = s->busy;
    node_service_settle(s);
}
