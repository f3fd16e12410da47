/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One REST service. A call goes round until it ends or its time is up: wait for tokens, find the endpoint,
 * send, look at the answer; a failure that may pass puts it off with a growing, random pause. One timer is
 * the pause or, while tokens are waited for, the deadline.
 */
#include "cloud/service.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>
#include <sys/queue.h>
#include <sys/random.h>

#include "cloud/keystone.h"
#include "cloud/service_internal.h"
#include "lib/clock.h"
#include "lib/json.h"
#include "lib/text.h"

enum {
    PAUSE_FIRST_US = 100000,
    PAUSE_MAX_US = 5000000,
    PAUSE_WORTH_US = 50000, /* with less time than this behind a pause, the call ends before it */
    HEADERS_MAX = 8,
    DETAIL_MAX = 300
};

struct reach_ids {
    const char *name, *version; /* version: cut from the end of endpoints */
    enum session_group group;
    enum conf_id service_type, service_name, valid_interfaces, region_name, endpoint_override;
    enum conf_id connect_retries, status_code_retries;
};

#define REACH_IDS(name_, version_, group_)                                                         \
    {                                                                                              \
        .name = #name_, .version = (version_), .group = (group_),                                  \
        .service_type = CONF_##name_##_service_type, .service_name = CONF_##name_##_service_name,  \
        .valid_interfaces = CONF_##name_##_valid_interfaces,                                       \
        .region_name = CONF_##name_##_region_name,                                                 \
        .endpoint_override = CONF_##name_##_endpoint_override,                                     \
        .connect_retries = CONF_##name_##_connect_retries,                                         \
        .status_code_retries = CONF_##name_##_status_code_retries                                  \
    }

static const struct reach_ids kinds[SERVICE_KIND_COUNT] = {
    [SERVICE_PLACEMENT] = REACH_IDS(placement, NULL, SESSION_PLACEMENT),
    [SERVICE_NEUTRON] = REACH_IDS(neutron, "/v2.0", SESSION_NEUTRON),
    [SERVICE_GLANCE] = REACH_IDS(glance, "/v2", SESSION_GLANCE),
    [SERVICE_NOVA] = REACH_IDS(nova, "/v2.1", SESSION_NOVA),
};

struct service_call {
    LIST_ENTRY(service_call) link;
    struct service *service;
    struct service_request request; /* its texts are the call's own copies */
    char *body;
    int64_t deadline_us;
    service_done_fn done;
    service_ticket_fn ticket_done; /* instead of done */
    void *aux;

    struct session *session, *vouching; /* the latter may be NULL */
    struct session_wait *wait;
    struct http_call *http_call;
    struct loop_timer *timer;
    char *sent_token;
    bool as_user, refused; /* 401 came */
    unsigned attempts, pauses;
    int64_t connect_left, status_left; /* repetitions; negative: any number */
};

LIST_HEAD(call_list, service_call);

struct service {
    const struct reach_ids *ids;
    struct http *http;
    struct loop *loop;
    struct conf *conf;
    struct session *session, *vouching;
    struct call_list calls;
};

/* ---- the service ---- */

/* The account that asks. */
static enum session_group account_of(const struct reach_ids *ids, const struct conf *conf)
{
    bool has_own = ids->group != SESSION_GLANCE && ids->group != SESSION_NOVA;

    if (has_own || session_is_configured(conf, ids->group))
        return ids->group;
    return session_is_configured(conf, SESSION_SERVICE_USER) ? SESSION_SERVICE_USER
                                                             : SESSION_NEUTRON;
}

static int configure(struct service *service, const struct conf *conf, struct err *e)
{
    struct session *session, *vouching = NULL;

    if (session_new(&session, account_of(service->ids, conf), service->http, service->loop, conf,
                    e) < 0)
        return -1;
    if (conf_bool(conf, CONF_service_user_send_service_user_token) &&
        session_new(&vouching, SESSION_SERVICE_USER, service->http, service->loop, conf, e) < 0) {
        session_unref(session);
        return -1;
    }
    session_unref(service->session);
    session_unref(service->vouching);
    conf_unref(service->conf);
    service->session = session;
    service->vouching = vouching;
    service->conf = conf_ref(conf);
    return 0;
}

int service_new(struct service **out, enum service_kind kind, struct http *http, struct loop *loop,
                const struct conf *conf, struct err *e)
{
    struct service *service = NEW(struct service);

    service->ids = &kinds[kind];
    service->http = http;
    service->loop = loop;
    if (configure(service, conf, e) < 0) {
        free(service);
        return -1;
    }
    *out = service;
    return 0;
}

void service_free(struct service *service)
{
    if (!service)
        return;
    while (!LIST_EMPTY(&service->calls))
        service_cancel(LIST_FIRST(&service->calls));
    session_unref(service->session);
    session_unref(service->vouching);
    conf_unref(service->conf);
    free(service);
}

void service_reload(struct service *service, const struct conf *conf)
{
    (void)configure(service, conf, NULL);
}

const char *service_name(const struct service *service)
{
    return service->ids->name;
}

/* ---- the end of a call ---- */

static void call_free(struct service_call *call)
{
    loop_timer_free(call->timer);
    session_unref(call->session);
    session_unref(call->vouching);
    free((char *)call->request.method);
    free((char *)call->request.path);
    free((char *)call->request.content_type);
    free((char *)call->request.microversion);
    free((char *)call->request.request_id);
    free((char *)call->request.user_token);
    free(call->body);
    free(call->sent_token);
    free(call);
}

/* Takes the call off everything, tells and frees it. */
static void finish(struct service_call *call, const struct http_reply *reply,
                   const struct err *failure)
{
    LIST_REMOVE(call, link);
    if (call->ticket_done)
        call->ticket_done(call->aux, NULL, failure);
    else
        call->done(call->aux, reply, failure);
    call_free(call);
}

static void fail(struct service_call *call, const struct err *failure)
{
    struct err e = *failure;

    err_prefix(&e, "%s", call->service->ids->name);
    finish(call, NULL, &e);
}

void service_cancel(struct service_call *call)
{
    struct err e = ERR_INIT;

    if (call->wait)
        session_wait_cancel(STEAL(call->wait));
    if (call->http_call) {
        http_cancel(call->http_call); /* ends in answered() */
        return;
    }
    err_set(&e, ERR_CANCELLED, "%s %s was cancelled", call->request.method, call->request.path);
    fail(call, &e);
}

/* ---- trying again ---- */

static int64_t pause_us(const struct service_call *call, const struct http_reply *reply)
{
    int64_t pause = PAUSE_MAX_US, asked_for = 0;
    const char *after = reply ? reply->header(reply, "Retry-After") : NULL;
    uint32_t random = 0;

    if (call->pauses < 8 && (PAUSE_FIRST_US << call->pauses) < PAUSE_MAX_US)
        pause = PAUSE_FIRST_US << call->pauses;
    if (getrandom(&random, sizeof(random), 0) != sizeof(random))
        random = 0;
    pause = pause / 2 + (int64_t)(random % (uint32_t)pause);
    if (after && text_to_int64(after, 0, 3600, &asked_for, NULL) == 0 &&
        asked_for * USEC_PER_SEC > pause)
        pause = asked_for * USEC_PER_SEC;
    return pause;
}

/* True if it was put off. */
static bool again_later(struct service_call *call, const struct http_reply *reply,
                        int64_t *repetitions)
{
    int64_t pause = pause_us(call, reply);

    if (*repetitions == 0 || clock_monotonic_us() + pause + PAUSE_WORTH_US > call->deadline_us)
        return false;
    if (*repetitions > 0)
        --*repetitions;
    call->pauses++;
    loop_timer_arm(call->timer, pause);
    return true;
}

static bool may_pass(const struct err *failure)
{
    return failure->code == ERR_UNREACHABLE || failure->code == ERR_TIMEOUT;
}

/* ---- one attempt ---- */

static void attempt(struct service_call *call);

static void token_came(void *aux, const struct err *failure)
{
    struct service_call *call = aux;

    call->wait = NULL;
    loop_timer_disarm(call->timer);
    if (!failure)
        attempt(call);
    else if (!may_pass(failure) || !again_later(call, NULL, &call->connect_left))
        fail(call, failure);
}

static void timer_due(void *aux)
{
    struct service_call *call = aux;
    struct err e = ERR_INIT;

    if (!call->wait) {
        attempt(call);
        return;
    }
    session_wait_cancel(STEAL(call->wait));
    err_set(&e, ERR_TIMEOUT, "Keystone gave no token in time for %s %s", call->request.method,
            call->request.path);
    fail(call, &e);
}

static void wait_for(struct service_call *call, struct session *session)
{
    int64_t left = call->deadline_us - clock_monotonic_us();

    call->wait = session_acquire(session, token_came, call);
    loop_timer_arm(call->timer, left > 0 ? left : 0);
}

/* "" or the option's text; NULL when unset. */
static const char *option(const struct service *service, enum conf_id id)
{
    const char *text = conf_string(service->conf, id);

    return text && *text ? text : NULL;
}

static int find_root(const struct service_call *call, const char **root, struct err *e)
{
    const struct service *service = call->service;
    const struct reach_ids *ids = service->ids;
    struct session_endpoint want = {
        .type = conf_string(service->conf, ids->service_type),
        .name = option(service, ids->service_name),
        .region = option(service, ids->region_name),
    };
    if (!want.region && ids->group == SESSION_NOVA)
        want.region = option(service, CONF_neutron_region_name);
    size_t count = 0;
    const char *const *servers = NULL;

    *root = option(service, ids->endpoint_override);
    if (*root)
        return 0;
    if (ids->group == SESSION_GLANCE)
        servers = conf_list(service->conf, CONF_glance_api_servers, &count);
    if (count) {
        *root = servers[(call->attempts ? call->attempts - 1 : 0) % count];
        return 0;
    }
    want.interfaces = conf_list(service->conf, ids->valid_interfaces, &want.interface_count);
    return session_find_endpoint(call->session, &want, root, e);
}

/* Endpoints with and without the version at their end are the same to callers. */
static char *make_url(const struct service_call *call, struct err *e)
{
    const char *root, *version = call->service->ids->version;

    if (find_root(call, &root, e) < 0)
        return NULL;
    size_t length = strlen(root), cut = version ? strlen(version) : 0;
    while (length && root[length - 1] == '/')
        length--;
    if (cut && length > cut && strncmp(root + length - cut, version, cut) == 0)
        length -= cut;
    const char *inside = version ? strstr(root, version) : NULL;
    if (inside && inside[cut] == '/') /* Nova's old endpoints go on with the project's id */
        length = (size_t)(inside - root);
    return text_format("%.*s%s", (int)length, root, call->request.path);
}

static void answered(void *aux, const struct http_reply *reply, const struct err *failure);

/* Nova's API is the one that has no group in nova.conf: what its account trusts is trusted there. */
static enum session_group tls_group(const struct service *service)
{
    return service->ids->group == SESSION_NOVA ? account_of(service->ids, service->conf)
                                               : service->ids->group;
}

static void send_request(struct service_call *call, const char *url)
{
    const struct service_request *request = &call->request;
    char *headers[HEADERS_MAX + 1] = {NULL};
    unsigned n = 0;
    struct http_request http = {
        .method = request->method,
        .url = url,
        .headers = (const char *const *)headers,
        .body = call->body,
        .timeout_us = call->deadline_us - clock_monotonic_us(),
        .once = request->once && !request->warm,
        .tls = session_tls(call->service->conf, tls_group(call->service)),
    };

    headers[n++] = text_format("X-Auth-Token: %s", call->sent_token);
    headers[n++] = text_dup("Accept: application/json");
    if (call->body)
        headers[n++] = text_format("Content-Type: %s", request->content_type ? request->content_type
                                                                             : "application/json");
    if (request->microversion)
        headers[n++] = text_format("OpenStack-API-Version: %s", request->microversion);
    if (request->request_id)
        headers[n++] = text_format("X-Openstack-Request-Id: %s", request->request_id);
    if (call->as_user && call->vouching)
        headers[n++] = text_format("X-Service-Token: %s", session_token(call->vouching));
    if (http.timeout_us <= 0)
        http.timeout_us = 1;
    call->http_call = http_send(call->service->http, &http, answered, call);
    while (n)
        free(headers[--n]);
}

static void give_ticket(struct service_call *call, const char *url)
{
    struct service_ticket *ticket = NEW(struct service_ticket);
    struct http_tls tls = session_tls(call->service->conf, call->service->ids->group);
    unsigned n = 0;

    ticket->service = call->service->ids->name;
    ticket->url = text_dup(url);
    if (call->as_user)
        ticket->tokens[n++] = text_dup(call->request.user_token);
    ticket->tokens[n] = text_dup(session_token(call->session));
    if (call->as_user && call->vouching)
        ticket->service_token = text_dup(session_token(call->vouching));
    ticket->request_id = text_dup(call->request.request_id);
    ticket->ca_file = text_dup(tls.ca_file);
    ticket->cert_file = text_dup(tls.cert_file);
    ticket->key_file = text_dup(tls.key_file);
    ticket->insecure = tls.insecure;
    LIST_REMOVE(call, link);
    call->ticket_done(call->aux, ticket, NULL);
    call_free(call);
}

/* Our own token is wanted with a user's too: the catalogue comes with it, and it is the second try. */
static void attempt(struct service_call *call)
{
    _cleanup_(str_freep) char *url = NULL;
    struct err e = ERR_INIT;

    if (!session_token(call->session)) {
        wait_for(call, call->session);
        return;
    }
    if (call->as_user && call->vouching && !session_token(call->vouching)) {
        wait_for(call, call->vouching);
        return;
    }
    call->attempts++;
    url = make_url(call, &e);
    if (!url) {
        fail(call, &e);
        return;
    }
    if (call->ticket_done) {
        give_ticket(call, url);
        return;
    }
    free(call->sent_token);
    call->sent_token =
        text_dup(call->as_user ? call->request.user_token : session_token(call->session));
    send_request(call, url);
}

/* A 401 was not carried out, so it may be repeated whatever the request was. */
static bool with_another_token(struct service_call *call)
{
    if (call->as_user) {
        call->as_user = false;
    } else if (!call->refused) {
        call->refused = true;
        session_reject(call->session, call->sent_token);
    } else {
        return false;
    }
    attempt(call);
    return true;
}

static bool is_transient(const struct service_call *call, int status)
{
    if (status == 429)
        return true;
    return status >= 500 && status != 501 && !call->request.once;
}

static void answered(void *aux, const struct http_reply *reply, const struct err *failure)
{
    struct service_call *call = aux;
    struct http_call *http_call = STEAL(call->http_call);

    if (failure) {
        bool repeat = may_pass(failure) && !(call->request.once && http_was_sent(http_call));
        if (!repeat || !again_later(call, NULL, &call->connect_left))
            fail(call, failure);
        return;
    }
    if (reply->status == 401 && with_another_token(call))
        return;
    if (is_transient(call, reply->status) && again_later(call, reply, &call->status_left))
        return;
    finish(call, reply, NULL);
}

/* ---- a new call ---- */

static void first_attempt(void *aux)
{
    timer_due(aux);
}

static struct service_call *call_new(struct service *service, const struct service_request *request,
                                     void *aux)
{
    struct service_call *call = NEW(struct service_call);
    int64_t timeout_us = request->timeout_us > 0
                             ? request->timeout_us
                             : session_timeout_us(service->conf, service->ids->group);

    assert(loop_is_current(service->loop));
    call->service = service;
    call->request = (struct service_request){
        .method = text_dup(request->method),
        .path = text_dup(request->path),
        .content_type = text_dup(request->content_type),
        .microversion = text_dup(request->microversion),
        .request_id = text_dup(request->request_id),
        .user_token = text_dup(request->user_token),
        .once = request->once,
        .warm = request->warm,
    };
    call->body = request->body ? json_text(request->body) : NULL;
    call->deadline_us = clock_monotonic_us() + timeout_us;
    call->aux = aux;
    call->session = session_ref(service->session);
    call->vouching = service->vouching ? session_ref(service->vouching) : NULL;
    call->as_user = request->user_token != NULL;
    call->connect_left = conf_int(service->conf, service->ids->connect_retries);
    call->status_left = conf_int(service->conf, service->ids->status_code_retries);
    call->timer = loop_timer_new(service->loop, "rest call", first_attempt, call);
    LIST_INSERT_HEAD(&service->calls, call, link);
    return call;
}

struct service_call *service_send(struct service *service, const struct service_request *request,
                                  service_done_fn done, void *aux)
{
    struct service_call *call = call_new(service, request, aux);

    call->done = done;
    loop_timer_arm(call->timer, 0);
    return call;
}

void service_ticket(struct service *service, const char *path, const char *request_id,
                    const char *user_token, service_ticket_fn done, void *aux)
{
    const struct service_request request = {
        .method = "ticket for",
        .path = path,
        .request_id = request_id,
        .user_token = user_token,
    };
    struct service_call *call = call_new(service, &request, aux);

    call->ticket_done = done;
    loop_timer_arm(call->timer, 0);
}

/* ---- refusals in words ---- */

/* Where the services put their sentence: Neutron, Placement, Keystone and Nova, Glance (text). */
static const char *detail_of(const struct http_reply *reply)
{
    static const char *const members[] = {"NeutronError",       "error",     "badRequest",
                                          "conflictingRequest", "forbidden", "itemNotFound",
                                          "computeFault"};
    struct json_object *errors = json_get(reply->json, "errors");

    for (size_t i = 0; i < ARRAY_LEN(members); i++) {
        const char *text = json_get_string(json_get(reply->json, members[i]), "message", NULL);
        if (text)
            return text;
    }
    if (json_object_is_type(errors, json_type_array) && json_object_array_length(errors))
        return json_get_string(json_object_array_get_idx(errors, 0), "detail", "no detail");
    return json_get_string(reply->json, "message", reply->body);
}

int service_refused(const struct http_reply *reply, struct service *service, const char *what,
                    enum err_code code, struct err *e)
{
    _cleanup_(str_freep) char *detail = text_escape(detail_of(reply), DETAIL_MAX);

    return err_set(e, code, "%s: %s answered %d: %s", what, service->ids->name, reply->status,
                   detail);
}
