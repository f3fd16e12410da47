/* SPDX-License-Identifier: Apache-2.0 */
/* The serving half: see the header. */
#include "rpc/server.h"

#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>

#include "lib/clock.h"
#include "lib/json.h"
#include "lib/log.h"
#include "lib/metrics.h"
#include "lib/text.h"
#include "rpc/context.h"
#include "rpc/envelope.h"
#include "rpc/failure.h"
#include "rpc/methods.h"
#include "rpc/recent.h"

LOG_MODULE(rpc);

struct server {
    struct loop *loop;
    struct conf *conf;
    struct bus *bus;
    struct sender *sender;
    rpc_handler handler;
    void *aux;
    struct recent *requests_seen;
    struct recent *dead_queues;
    LIST_HEAD(requests, rpc_request) requests;
    size_t count;
    struct log_rate refused_rate;
};

struct rpc_request {
    struct server *server; /* NULL once the server is gone */
    LIST_ENTRY(rpc_request) link;
    struct bus_delivery *delivery; /* not yet acknowledged; NULL once it is */
    struct json_object *inner;
    struct envelope_request envelope; /* borrows from `inner` */
    const struct method *method;
    int major, minor;
    int64_t received_us;
    struct loop_timer *heartbeat; /* NULL when the caller wants none */
};

struct server *server_new(struct loop *loop, const struct conf *conf, struct sender *sender,
                          rpc_handler handler, void *aux)
{
    struct server *server = NEW(struct server);
    server->loop = loop;
    server->conf = conf_ref(conf);
    server->sender = sender;
    server->handler = handler;
    server->aux = aux;
    server->requests_seen = recent_new(SERVER_RECENT_MAX, SERVER_RECENT_US);
    server->dead_queues = recent_new(SERVER_DEAD_QUEUE_MAX, SERVER_DEAD_QUEUE_US);
    server->refused_rate = (struct log_rate)LOG_RATE_INIT(60 * USEC_PER_SEC, 20);
    return server;
}

void server_set_bus(struct server *server, struct bus *bus)
{
    server->bus = bus;
}

void server_reload(struct server *server, const struct conf *conf)
{
    conf_unref(server->conf);
    server->conf = conf_ref(conf);
}

static void request_unlink(struct rpc_request *request)
{
    if (!request->server)
        return;
    LIST_REMOVE(request, link);
    request->server->count--;
    request->server = NULL;
}

void server_free(struct server *server)
{
    if (!server)
        return;
    for (struct rpc_request *request; (request = LIST_FIRST(&server->requests));) {
        loop_timer_free(STEAL(request->heartbeat));
        request_unlink(request);
    }
    recent_free(server->requests_seen);
    recent_free(server->dead_queues);
    conf_unref(server->conf);
    free(server);
}

void server_status(const struct server *server, struct json_object *status)
{
    json_add_int(status, "requests", (int64_t)server->count);
    json_add_int(status, "dead_reply_queues", (int64_t)recent_count(server->dead_queues));
}

/* ---- replies ---- */

/* What the outcome of a reply needs to know; outlives the request. */
struct answer {
    struct server *server;
    char *reply_queue, *msg_id;
};

static void answer_free(struct answer *answer)
{
    free(answer->reply_queue);
    free(answer->msg_id);
    free(answer);
}

static void on_reply_outcome(void *aux, enum bus_outcome outcome)
{
    struct answer *answer = aux;
    if (outcome == BUS_CONFIRMED) {
        metric_inc(METRIC_RPC_REPLIED);
        answer_free(answer);
        return;
    }
    metric_inc(METRIC_RPC_REPLY_LOST);
    if (outcome == BUS_UNROUTABLE)
        recent_set(answer->server->dead_queues, answer->reply_queue, NULL);
    log_warning("reply to call %s was not delivered: %s %s", answer->msg_id,
                outcome == BUS_UNROUTABLE ? "no such queue" : "the broker did not take it for",
                answer->reply_queue);
    answer_free(answer);
}

/* Sends a reply or heartbeat; `result` is borrowed, `failure` NULL = none. */
static void send_reply(struct server *server, const char *msg_id, const char *reply_queue,
                       struct json_object *result, const char *failure)
{
    if (recent_find(server->dead_queues, reply_queue, NULL)) {
        metric_inc(METRIC_RPC_REPLY_LOST);
        log_debug("reply to call %s dropped: queue %s is gone", msg_id, reply_queue);
        return;
    }
    struct answer *answer = NEW(struct answer);
    *answer = (struct answer){server, text_dup(reply_queue), text_dup(msg_id)};
    const struct envelope_reply reply = {
        .msg_id = msg_id, .failure = failure, .result = result, .ending = true};
    struct sender_message message = {
        .exchange = "",
        .routing_key = reply_queue,
        .inner = envelope_make_reply(&reply),
        .mandatory = true,
        .deadline_us = clock_monotonic_us() + SERVER_REPLY_WAIT_US,
        .unroutable_us =
            USEC_PER_SEC *
            conf_int(server->conf, CONF_oslo_messaging_rabbit_kombu_missing_consumer_retry_timeout),
        .done = on_reply_outcome,
        .aux = answer,
    };
    sender_send(server->sender, &message);
}

static void send_failure(struct server *server, const char *msg_id, const char *reply_queue,
                         const struct err *e)
{
    _cleanup_(str_freep) char *failure = failure_encode(e);
    send_reply(server, msg_id, reply_queue, NULL, failure);
}

/* ---- call monitor ---- */

static void arm_heartbeat(struct rpc_request *request)
{
    loop_timer_arm(request->heartbeat, request->envelope.monitor_s * USEC_PER_SEC / 2);
}

static void on_heartbeat(void *aux)
{
    struct rpc_request *request = aux;
    struct server *server = request->server;
    const struct envelope_request *call = &request->envelope;
    arm_heartbeat(request);
    if (recent_find(server->dead_queues, call->reply_queue, NULL))
        return;
    const struct envelope_reply reply = {.msg_id = call->msg_id, .ending = false};
    /* The next one makes this one worthless, so it waits for nothing. */
    struct sender_message message = {
        .exchange = "",
        .routing_key = call->reply_queue,
        .inner = envelope_make_reply(&reply),
        .mandatory = true,
        .deadline_us = clock_monotonic_us() + call->monitor_s * USEC_PER_SEC / 2,
    };
    sender_send(server->sender, &message);
}

/* ---- requests ---- */

static void request_free(struct rpc_request *request)
{
    request_unlink(request);
    loop_timer_free(request->heartbeat);
    bus_delivery_free(request->delivery);
    envelope_request_clear(&request->envelope);
    json_object_put(request->inner);
    free(request);
}

void rpc_request_accept(struct rpc_request *request)
{
    if (!request->delivery || !request->server)
        return;
    bus_ack(request->server->bus, request->delivery);
    bus_delivery_free(STEAL(request->delivery));
}

/* The end of every request: acknowledged, remembered as done, freed. */
static void request_end(struct rpc_request *request)
{
    rpc_request_accept(request);
    if (request->server && request->envelope.unique_id)
        recent_set(request->server->requests_seen, request->envelope.unique_id, NULL);
    request_free(request);
}

void rpc_reply(struct rpc_request *request, struct json_object *result)
{
    const struct envelope_request *call = &request->envelope;
    if (request->server && call->msg_id)
        send_reply(request->server, call->msg_id, call->reply_queue, result, NULL);
    json_object_put(result);
    request_end(request);
}

void rpc_fail(struct rpc_request *request, const struct err *e)
{
    const struct envelope_request *call = &request->envelope;
    if (request->server && call->msg_id)
        send_failure(request->server, call->msg_id, call->reply_queue, e);
    else
        log_err(LOG_LEVEL_WARNING, e, "cast %s failed", call->method);
    request_end(request);
}

void rpc_fail_raw(struct rpc_request *request, const char *failure)
{
    const struct envelope_request *call = &request->envelope;
    if (request->server && call->msg_id)
        send_reply(request->server, call->msg_id, call->reply_queue, NULL, failure);
    request_end(request);
}

void rpc_request_free(struct rpc_request *request)
{
    if (request)
        request_end(request);
}

enum rpc_method_id rpc_request_method(const struct rpc_request *request)
{
    return request->method->id;
}

enum rpc_kind rpc_request_kind(const struct rpc_request *request)
{
    return request->envelope.msg_id ? RPC_KIND_CALL : RPC_KIND_CAST;
}

void rpc_request_version(const struct rpc_request *request, int *major, int *minor)
{
    *major = request->major;
    *minor = request->minor;
}

struct json_object *rpc_request_arg(const struct rpc_request *request, const char *name)
{
    return json_get(request->envelope.args, name);
}

struct json_object *rpc_request_context(const struct rpc_request *request)
{
    return request->envelope.context;
}

const char *rpc_request_id(const struct rpc_request *request)
{
    return context_request_id(request->envelope.context);
}

const char *rpc_request_unique_id(const struct rpc_request *request)
{
    return request->envelope.unique_id ? request->envelope.unique_id : "";
}

/* ---- from a delivery to a request ---- */

/* A message that goes no further; what could not even be parsed is shown in part. */
static void refuse(struct server *server, struct json_object *inner,
                   const struct bus_delivery *delivery, const struct err *e)
{
    const char *msg_id, *reply_queue;
    metric_inc(METRIC_RPC_REFUSED);
    if (log_rate_ok(&server->refused_rate, log_module_name_)) {
        size_t length = inner ? 0 : strnlen(delivery->body, SERVER_EXCERPT_MAX);
        _cleanup_(str_freep) char *excerpt = text_dup_n(delivery->body, length);
        failure_scrub(excerpt);
        log_err(LOG_LEVEL_WARNING, e, "message of %zu bytes refused%s%s", delivery->body_length,
                *excerpt ? ", it begins with: " : "", excerpt);
    }
    if (inner && envelope_read_return(inner, &msg_id, &reply_queue))
        send_failure(server, msg_id, reply_queue, e);
}

/*
 * True if the message was seen before. A request that is still worked on gets the new delivery when the
 * old one died with its connection; on the same connection both are to be acknowledged.
 */
static bool take_duplicate(struct server *server, struct json_object *inner,
                           struct bus_delivery **delivery)
{
    void *work = NULL;
    const char *unique_id = json_get_string(inner, "_unique_id", NULL);
    if (!unique_id || !recent_find(server->requests_seen, unique_id, &work))
        return false;
    metric_inc(METRIC_RPC_DUPLICATE);
    struct rpc_request *request = work;
    if (request && request->delivery && request->delivery->epoch != (*delivery)->epoch) {
        bus_delivery_free(request->delivery);
        request->delivery = STEAL(*delivery);
        log_debug("request %s came again while it is worked on", unique_id);
        return true;
    }
    log_debug("request %s came again and is dropped", unique_id);
    return true;
}

static bool is_base_api(struct rpc_request *request)
{
    return !request->method || request->method->name_space == RPC_NAMESPACE_BASEAPI;
}

/* nova.baserpc.BaseRPCAPI and oslo_messaging's PingEndpoint. */
static void answer_base_api(struct rpc_request *request)
{
    struct json_object *result = NULL;
    if (!request->method) {
        result = json_object_new_string("pong");
    } else if (request->method->id == RPC_METHOD_ping) {
        result = json_object_new_object();
        json_add_string(result, "service", "compute");
        json_add(result, "arg", json_object_get(rpc_request_arg(request, "arg")));
    }
    rpc_reply(request, result);
}

static int fill_request(struct server *server, struct rpc_request *request, struct err *e)
{
    struct envelope_request *envelope = &request->envelope;
    if (envelope_read_request(request->inner, envelope, e))
        return -1;
    if (methods_find(envelope->namespace_name, envelope->version, envelope->method,
                     conf_bool(server->conf, CONF_DEFAULT_rpc_ping_enabled), &request->method, e))
        return -1;
    (void)envelope_parse_version(envelope->version, &request->major, &request->minor);
    if (request->method && methods_check_args(request->method, request->major, envelope->args, e))
        return -1;
    if (server->count >= SERVER_REQUESTS_MAX)
        return err_set(e, ERR_SYSTEM, "%s refused: %zu requests are worked on already",
                       envelope->method, server->count);
    return 0;
}

static void request_start(struct server *server, struct rpc_request *request)
{
    request->server = server;
    LIST_INSERT_HEAD(&server->requests, request, link);
    server->count++;
    request->received_us = clock_monotonic_us();
    if (request->envelope.unique_id)
        recent_set(server->requests_seen, request->envelope.unique_id, request);
    if (request->envelope.monitor_s >= 2) {
        request->heartbeat =
            loop_timer_new(server->loop, "rpc call heartbeat", on_heartbeat, request);
        arm_heartbeat(request);
    }
}

void server_deliver(struct server *server, struct bus_delivery *taken)
{
    _cleanup_(bus_delivery_freep) struct bus_delivery *delivery = taken;
    _cleanup_(json_putp) struct json_object *inner = NULL;
    struct err e = ERR_INIT;
    metric_inc(METRIC_RPC_RECEIVED);
    if (envelope_decode(delivery->body, delivery->body_length, &inner, &e)) {
        refuse(server, NULL, delivery, &e);
        bus_ack(server->bus, delivery);
        return;
    }
    if (take_duplicate(server, inner, &delivery)) {
        if (delivery)
            bus_ack(server->bus, delivery);
        return;
    }
    struct rpc_request *request = NEW(struct rpc_request);
    request->inner = json_object_get(inner);
    if (fill_request(server, request, &e)) {
        refuse(server, inner, delivery, &e);
        const char *unique_id = request->envelope.unique_id;
        if (unique_id)
            recent_set(server->requests_seen, unique_id, NULL);
        request_free(request);
        bus_ack(server->bus, delivery);
        return;
    }
    /* The text is not needed any more; a request may live as long as a migration. */
    free(STEAL(delivery->body));
    request->delivery = STEAL(delivery);
    request_start(server, request);
    _cleanup_(log_scope_end) _unused_ struct log_scope scope =
        log_scope_begin(rpc_request_id(request), NULL);
    if (is_base_api(request))
        answer_base_api(request);
    else
        server->handler(server->aux, request);
}
