/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Microversions: 2.34, since when os-migrateLive answers before the checks and takes a host as a wish that the
 * scheduler looks at (2.30), known to every release that this agent works with; 2.53 for services by uuid; 2.84
 * for what an action's events say of their failure.
 */
#include "cloud/nova_api.h"

#include <string.h>

#include "cloud/moves.h"
#include "lib/json.h"
#include "lib/text.h"

#define SERVERS_VERSION  "compute 2.34"
#define ACTIONS_VERSION  "compute 2.84"
#define SERVICES_VERSION "compute 2.53"

enum { REASON_MAX = 300 };

/* One question of a user of the interface, with the requests that it takes. */
struct question {
    struct service *service;
    char *uuid, *from, *request; /* of an instance */
    const char *what;            /* for sentences */
    bool enabled;
    char *reason;
    struct json_object *answer; /* so far */
    cloud_result_fn done;
    void *aux;
};

static struct question *question_new(struct cloud *cloud, const char *what, const char *uuid,
                                     cloud_result_fn done, void *aux)
{
    struct question *q = NEW(struct question);

    q->service = nova_of(cloud)->services[SERVICE_NOVA];
    q->what = what;
    q->uuid = text_dup(uuid);
    q->done = done;
    q->aux = aux;
    return q;
}

static void question_end(struct question *q, const struct err *failure)
{
    q->done(q->aux, failure ? NULL : q->answer, failure);
    json_object_put(q->answer);
    free(q->uuid);
    free(q->from);
    free(q->request);
    free(q->reason);
    free(q);
}

static void ask(struct question *q, const char *method, const char *path, struct json_object *body,
                const char *version, service_done_fn done)
{
    struct service_request request = {
        .method = method,
        .path = path,
        .body = body,
        .microversion = version,
        .once = text_equal(method, "POST"),
    };

    service_send(q->service, &request, done, q);
}

static enum err_code code_of(int status)
{
    switch (status) {
    case 401:
    case 403:
        return ERR_DENIED;
    case 404:
        return ERR_NO_INSTANCE;
    case 400:
    case 409:
        return ERR_PRECHECK;
    default:
        return ERR_REMOTE;
    }
}

static void refused(struct question *q, const struct http_reply *reply)
{
    struct err e = ERR_INIT;
    enum err_code code = code_of(reply->status);

    (void)service_refused(reply, q->service, q->what, code, &e);
    if (code == ERR_DENIED) {
        struct err told = ERR_INIT;
        err_set(&told, code,
                "%s; it is asked with the account of [nova], else of [service_user], else of "
                "[neutron]: give one of an administrator in [nova]",
                e.text);
        e = told;
    }
    question_end(q, &e);
}

/* True if there is an answer of this status; else the question has ended. */
static bool is_good(struct question *q, const struct http_reply *reply, const struct err *failure,
                    int status)
{
    if (failure)
        question_end(q, failure);
    else if (reply->status != status)
        refused(q, reply);
    else
        return true;
    return false;
}

/* ---- moving ---- */

static void moved(void *aux, const struct http_reply *reply, const struct err *failure)
{
    struct question *q = aux;

    if (!is_good(q, reply, failure, 202))
        return;
    q->answer = json_object_new_object();
    json_add_string(q->answer, "request", reply->header(reply, "x-openstack-request-id"));
    question_end(q, NULL);
}

void nova_api_move(struct cloud *cloud, const char *instance_uuid, const char *destination,
                   cloud_result_fn done, void *aux)
{
    struct question *q =
        question_new(cloud, "asking for a live migration", instance_uuid, done, aux);
    _cleanup_(str_freep) char *path = text_format("/v2.1/servers/%s/action", instance_uuid);
    _cleanup_(json_putp) struct json_object *body = json_object_new_object();
    struct json_object *inner = json_object_new_object();

    json_add_string(inner, "host", destination);
    json_add_string(inner, "block_migration", "auto");
    json_add_bool(inner, "force", false);
    json_add(body, "os-migrateLive", inner);
    ask(q, "POST", path, body, SERVERS_VERSION, moved);
}

/* ---- where it is ---- */

/* What the first event that failed says. */
static char *reason_of(struct json_object *action)
{
    struct json_object *events = json_get(action, "events");
    size_t count =
        json_object_is_type(events, json_type_array) ? json_object_array_length(events) : 0;

    for (size_t i = 0; i < count; i++) {
        struct json_object *event = json_object_array_get_idx(events, i);
        const char *details = json_get_string(event, "details", NULL);
        if (text_equal(json_get_string(event, "result", NULL), "Error") && details)
            return text_escape(details, REASON_MAX);
    }
    return text_dup(json_get_string(action, "message", NULL));
}

/* An action that cannot be read is no failure: the place is known. */
static void action_read(void *aux, const struct http_reply *reply, const struct err *failure)
{
    struct question *q = aux;
    _cleanup_(str_freep) char *reason = !failure && reply->status == 200
                                            ? reason_of(json_get(reply->json, "instanceAction"))
                                            : NULL;

    if (reason)
        json_add_string(q->answer, "reason", reason);
    question_end(q, NULL);
}

static void server_read(void *aux, const struct http_reply *reply, const struct err *failure)
{
    struct question *q = aux;

    if (!is_good(q, reply, failure, 200))
        return;
    struct json_object *server = json_get(reply->json, "server");
    const char *host = json_get_string(server, "OS-EXT-SRV-ATTR:host", NULL);
    bool busy = json_get_string(server, "OS-EXT-STS:task_state", NULL) != NULL;
    if (!host) {
        struct err e = ERR_INIT;
        err_set(&e, ERR_DENIED,
                "nova does not tell the host of server %s: the account that asks must be an "
                "administrator; give one in [nova]",
                q->uuid);
        question_end(q, &e);
        return;
    }
    q->answer = json_object_new_object();
    json_add_string(q->answer, "host", host);
    json_add_bool(q->answer, "busy", busy);
    json_add_string(q->answer, "status", json_get_string(server, "status", NULL));
    json_add_string(q->answer, "reason", NULL);
    if (busy || !q->request || !text_equal(host, q->from)) {
        question_end(q, NULL);
        return;
    }
    _cleanup_(str_freep) char *path =
        text_format("/v2.1/servers/%s/os-instance-actions/%s", q->uuid, q->request);
    ask(q, "GET", path, NULL, ACTIONS_VERSION, action_read);
}

void nova_api_whereabouts(struct cloud *cloud, const char *instance_uuid, const char *from,
                          const char *request, cloud_result_fn done, void *aux)
{
    struct question *q = question_new(cloud, "looking at a server", instance_uuid, done, aux);
    _cleanup_(str_freep) char *path = text_format("/v2.1/servers/%s", instance_uuid);

    q->from = text_dup(from);
    q->request = text_dup(request);
    ask(q, "GET", path, NULL, SERVERS_VERSION, server_read);
}

/* ---- the service ---- */

static void service_changed(void *aux, const struct http_reply *reply, const struct err *failure)
{
    struct question *q = aux;

    if (!is_good(q, reply, failure, 200))
        return;
    q->answer = json_object_new_object();
    json_add_bool(q->answer, "changed", true);
    question_end(q, NULL);
}

static bool is_enabled(struct json_object *service)
{
    return text_equal(json_get_string(service, "status", NULL), "enabled");
}

/* Disabled, and for our reason. */
static bool is_ours(const struct question *q, struct json_object *service)
{
    return !is_enabled(service) &&
           text_equal(json_get_string(service, "disabled_reason", NULL), q->reason);
}

static void change_service(struct question *q, const char *id)
{
    _cleanup_(str_freep) char *path = text_format("/v2.1/os-services/%s", id);
    _cleanup_(json_putp) struct json_object *body = json_object_new_object();

    json_add_string(body, "status", q->enabled ? "enabled" : "disabled");
    if (!q->enabled)
        json_add_string(body, "disabled_reason", q->reason);
    ask(q, "PUT", path, body, SERVICES_VERSION, service_changed);
}

static void services_read(void *aux, const struct http_reply *reply, const struct err *failure)
{
    struct question *q = aux;
    struct err e = ERR_INIT;

    if (!is_good(q, reply, failure, 200))
        return;
    struct json_object *list = json_get(reply->json, "services");
    bool found = json_object_is_type(list, json_type_array) && json_object_array_length(list) > 0;
    struct json_object *service = found ? json_object_array_get_idx(list, 0) : NULL;
    const char *id = json_get_string(service, "id", NULL);
    if (!id || text_check_uuid(id, "service id", NULL) < 0) {
        err_set(&e, ERR_REMOTE, "nova lists no nova-compute service of this host");
        question_end(q, &e);
    } else if (q->enabled ? is_ours(q, service) : is_enabled(service)) {
        change_service(q, id);
    } else {
        q->answer = json_object_new_object();
        json_add_bool(q->answer, "changed", !q->enabled && is_ours(q, service));
        question_end(q, NULL);
    }
}

void nova_api_service_enable(struct cloud *cloud, bool enabled, const char *reason,
                             cloud_result_fn done, void *aux)
{
    struct question *q = question_new(
        cloud, enabled ? "enabling the compute service" : "disabling the compute service", NULL,
        done, aux);
    _cleanup_(str_freep) char *path =
        text_format("/v2.1/os-services?binary=nova-compute&host=%s", cloud->host);

    q->enabled = enabled;
    q->reason = text_dup(reason);
    ask(q, "GET", path, NULL, SERVICES_VERSION, services_read);
}
