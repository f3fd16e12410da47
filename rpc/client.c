/* SPDX-License-Identifier: Apache-2.0 */
/* The calling half: see the header. */
#include "rpc/client.h"

#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>

#include "lib/clock.h"
#include "lib/json.h"
#include "lib/log.h"
#include "lib/metrics.h"
#include "lib/text.h"
#include "rpc/envelope.h"
#include "rpc/failure.h"

LOG_MODULE(rpc);

struct client {
    struct loop *loop;
    struct conf *conf;
    struct bus *bus;
    struct sender *sender;
    LIST_HEAD(calls, rpc_call) calls;
    size_t count;
    bool up;
    const char *failure_raw; /* set while a callback runs */
};

/* A request under way: a call until its end, a cast until the broker has it. */
struct rpc_call {
    struct client *client;
    LIST_ENTRY(rpc_call) link;
    bool cast;
    char msg_id[33];
    char *what; /* "method at topic.server", for texts */
    int64_t timeout_us, monitor_us;
    struct sending *sending; /* NULL once the outcome is known */
    bool confirmed;
    struct loop_timer *deadline, *monitor;
    struct err early;               /* why it could not even be sent */
    struct json_object *half_reply; /* an old peer's result that came before its `ending` */
    char *half_failure;
    rpc_reply_fn done;
    void *aux;
};

struct client *client_new(struct loop *loop, const struct conf *conf, struct sender *sender)
{
    struct client *client = NEW(struct client);
    client->loop = loop;
    client->conf = conf_ref(conf);
    client->sender = sender;
    return client;
}

void client_set_bus(struct client *client, struct bus *bus)
{
    client->bus = bus;
}

void client_reload(struct client *client, const struct conf *conf)
{
    conf_unref(client->conf);
    client->conf = conf_ref(conf);
}

const char *client_failure_raw(const struct client *client)
{
    return client->failure_raw;
}

void client_status(const struct client *client, struct json_object *status)
{
    size_t calls = 0;
    const struct rpc_call *call;
    LIST_FOREACH(call, &client->calls, link)
    {
        calls += !call->cast;
    }
    json_add_int(status, "waiting_calls", (int64_t)calls);
}

/* ---- the end of a call ---- */

static void call_free(struct rpc_call *call)
{
    LIST_REMOVE(call, link);
    call->client->count--;
    sending_forget(call->sending);
    loop_timer_free(call->deadline);
    loop_timer_free(call->monitor);
    json_object_put(call->half_reply);
    free(call->half_failure);
    free(call->what);
    free(call);
}

static void call_finish(struct rpc_call *call, struct json_object *result,
                        const struct err *failure, const char *raw)
{
    struct client *client = call->client;
    rpc_reply_fn done = call->done;
    void *aux = call->aux;
    if (!done && failure && failure->code != ERR_CANCELLED)
        log_err(LOG_LEVEL_WARNING, failure, "%s", call->cast ? "cast" : "call");
    /* Kept over the callback, which may free or make other calls. */
    _cleanup_(json_putp) struct json_object *kept = json_object_get(result);
    call_free(call);
    if (!done)
        return;
    const char *outer = client->failure_raw;
    client->failure_raw = raw;
    done(aux, kept, failure);
    client->failure_raw = outer;
}

static void call_fail(struct rpc_call *call, const struct err *e)
{
    struct err copy = *e;
    call_finish(call, NULL, &copy, NULL);
}

void rpc_call_cancel(struct rpc_call *call)
{
    struct err e = ERR_INIT;
    err_set(&e, ERR_CANCELLED, "%s was cancelled", call->what);
    call_finish(call, NULL, &e, NULL);
}

void client_free(struct client *client)
{
    if (!client)
        return;
    for (struct rpc_call *call; (call = LIST_FIRST(&client->calls));)
        rpc_call_cancel(call);
    conf_unref(client->conf);
    free(client);
}

static void on_deadline(void *aux)
{
    struct rpc_call *call = aux;
    struct err e = call->early;
    if (!err_is_set(&e)) {
        metric_inc(METRIC_RPC_TIMEOUT);
        err_set(&e, call->confirmed ? ERR_TIMEOUT : ERR_UNREACHABLE, "%s: %s within %.1f s",
                call->what, call->confirmed ? "no reply" : "no broker took the message",
                (double)call->timeout_us / USEC_PER_SEC);
    }
    call_finish(call, NULL, &e, NULL);
}

static void on_monitor(void *aux)
{
    struct rpc_call *call = aux;
    struct err e = ERR_INIT;
    metric_inc(METRIC_RPC_TIMEOUT);
    err_set(&e, ERR_TIMEOUT, "%s: no sign of life for %.1f s", call->what,
            (double)call->monitor_us / USEC_PER_SEC);
    call_finish(call, NULL, &e, NULL);
}

/* ---- sending ---- */

static void restart_monitor(struct rpc_call *call)
{
    if (call->monitor && call->client->up && call->confirmed)
        loop_timer_arm(call->monitor, call->monitor_us);
}

void client_state(struct client *client, bool up)
{
    client->up = up;
    struct rpc_call *call;
    LIST_FOREACH(call, &client->calls, link)
    {
        if (call->monitor && !up)
            loop_timer_disarm(call->monitor);
        restart_monitor(call);
    }
}

static void on_outcome(void *aux, enum bus_outcome outcome)
{
    struct rpc_call *call = aux;
    call->sending = NULL;
    if (outcome == BUS_CONFIRMED) {
        call->confirmed = true;
        metric_inc(METRIC_RPC_SENT);
        if (call->cast)
            call_finish(call, NULL, NULL, NULL);
        else
            restart_monitor(call);
        return;
    }
    struct err e = ERR_INIT;
    static const char *const words[] = {
        [BUS_UNROUTABLE] = "nobody serves it: the broker has no such queue",
        [BUS_EXPIRED] = "no broker took the message in time",
        [BUS_REFUSED] = "the message was not taken: too large, or too many are waiting",
    };
    err_set(&e, ERR_UNREACHABLE, "%s: %s", call->what, words[outcome]);
    call_fail(call, &e);
}

static struct rpc_call *call_new(struct client *client, bool cast, const char *what,
                                 const struct rpc_options *options, rpc_reply_fn done, void *aux)
{
    struct rpc_call *call = NEW(struct rpc_call);
    call->client = client;
    LIST_INSERT_HEAD(&client->calls, call, link);
    client->count++;

    call->cast = cast;
    call->what = text_dup(what);
    call->done = done;
    call->aux = aux;
    call->timeout_us =
        options && options->timeout_us > 0
            ? options->timeout_us
            : conf_int(client->conf, CONF_DEFAULT_rpc_response_timeout) * USEC_PER_SEC;
    call->monitor_us = options && !cast ? options->monitor_us / USEC_PER_SEC * USEC_PER_SEC : 0;
    call->deadline = loop_timer_new(client->loop, "rpc call timeout", on_deadline, call);
    if (call->monitor_us > 0)
        call->monitor = loop_timer_new(client->loop, "rpc call monitor", on_monitor, call);
    text_random_hex(16, call->msg_id);
    loop_timer_arm(call->deadline, call->timeout_us);
    return call;
}

static void call_send(struct rpc_call *call, const struct rpc_target *target,
                      struct envelope_request *request)
{
    struct client *client = call->client;
    if (!call->cast) {
        request->msg_id = call->msg_id;
        request->reply_queue = bus_reply_queue(client->bus);
        request->monitor_s = call->monitor_us / USEC_PER_SEC;
    }
    _cleanup_(str_freep) char *exchange =
        target->fanout ? text_format("%s_fanout", target->topic)
                       : text_dup(conf_string(client->conf, CONF_DEFAULT_control_exchange));
    _cleanup_(str_freep) char *key = target->server
                                         ? text_format("%s.%s", target->topic, target->server)
                                         : text_dup(target->topic);
    struct sender_message message = {
        .exchange = exchange,
        .routing_key = target->fanout ? "" : key,
        .inner = envelope_make_request(request),
        /* A call that no queue takes is never answered, a cast to a host would be lost. */
        .mandatory = !target->fanout && (!call->cast || target->server),
        .expiration_ms = call->cast ? 0 : call->timeout_us / USEC_PER_MSEC,
        .deadline_us = clock_monotonic_us() + call->timeout_us,
        .unroutable_us = CLIENT_UNROUTABLE_US,
        .done = on_outcome,
        .aux = call,
    };
    call->sending = sender_send(client->sender, &message);
}

struct rpc_call *client_send(struct client *client, const struct rpc_target *target, bool cast,
                             const char *method, const char *namespace_name,
                             struct json_object *args, struct json_object *context,
                             const struct rpc_options *options, rpc_reply_fn done, void *aux)
{
    _cleanup_(json_putp) struct json_object *owned_args = args;
    _cleanup_(str_freep) char *what =
        text_format("%s at %s%s%s", method, target->topic, target->server ? "." : "",
                    target->server   ? target->server
                    : target->fanout ? " (fanout)"
                                     : "");
    struct rpc_call *call = call_new(client, cast, what, options, done, aux);
    if (client->count > CLIENT_CALLS_MAX) {
        /* Told from the timer: never before this function returns. */
        err_set(&call->early, ERR_UNREACHABLE, "%s: %d calls wait for replies already", what,
                CLIENT_CALLS_MAX);
        loop_timer_arm(call->deadline, 0);
        return call;
    }
    struct envelope_request request = {
        .method = method,
        .namespace_name = namespace_name,
        .version = options && options->version ? options->version : "6.0",
        .args = owned_args,
        .context = context,
    };
    call_send(call, target, &request);
    return call;
}

/* ---- replies ---- */

static struct rpc_call *find_call(const struct client *client, const char *msg_id)
{
    struct rpc_call *call;
    LIST_FOREACH(call, &client->calls, link)
    {
        if (!call->cast && strcmp(call->msg_id, msg_id) == 0)
            break;
    }
    return call;
}

/* oslo.messaging of old sent the result first and `ending` in a message of its own. */
static void keep_half(struct rpc_call *call, const struct envelope_reply *reply)
{
    if (reply->failure && !call->half_failure)
        call->half_failure = text_dup(reply->failure);
    if (reply->result && !call->half_reply)
        call->half_reply = json_object_get(reply->result);
    restart_monitor(call);
}

static void end_call(struct rpc_call *call, const struct envelope_reply *reply)
{
    _cleanup_(str_freep) char *raw = text_dup(reply->failure ? reply->failure : call->half_failure);
    _cleanup_(json_putp) struct json_object *result =
        json_object_get(reply->result ? reply->result : call->half_reply);
    if (!raw) {
        call_finish(call, result, NULL, NULL);
        return;
    }
    struct err e = ERR_INIT;
    failure_decode(raw, &e);
    call_finish(call, NULL, &e, strlen(raw) <= FAILURE_TEXT_MAX ? raw : NULL);
}

void client_deliver(struct client *client, struct bus_delivery *taken)
{
    _cleanup_(bus_delivery_freep) struct bus_delivery *delivery = taken;
    _cleanup_(json_putp) struct json_object *inner = NULL;
    struct envelope_reply reply;
    struct err e = ERR_INIT;
    metric_inc(METRIC_RPC_RECEIVED);
    bus_ack(client->bus, delivery);
    if (envelope_decode(delivery->body, delivery->body_length, &inner, &e)) {
        metric_inc(METRIC_RPC_REFUSED);
        log_err(LOG_LEVEL_WARNING, &e, "reply of %zu bytes refused", delivery->body_length);
        return;
    }
    struct rpc_call *call = find_call(client, json_get_string(inner, "_msg_id", ""));
    if (!call) {
        log_debug("late reply to call %s dropped", json_get_string(inner, "_msg_id", "?"));
        return;
    }
    call->confirmed = true;
    if (envelope_read_reply(inner, &reply, &e)) {
        metric_inc(METRIC_RPC_REFUSED);
        err_prefix(&e, "%s: ", call->what);
        call_fail(call, &e);
        return;
    }
    if (reply.ending)
        end_call(call, &reply);
    else
        keep_half(call, &reply);
}
