/* SPDX-License-Identifier: Apache-2.0 */
/* RPC on one bus: joins bus, sender, server and client. See rpc.h. */
#include "rpc/rpc.h"

#include <stdlib.h>

#include "lib/json.h"
#include "lib/text.h"
#include "rpc/bus.h"
#include "rpc/client.h"
#include "rpc/methods.h"
#include "rpc/sender.h"
#include "rpc/server.h"

struct rpc {
    struct bus *bus;
    struct sender *sender;
    struct server *server;
    struct client *client;
    struct rpc_callbacks callbacks;
    void *aux;
    bool stopping;
};

static void on_delivery(void *aux, struct bus_delivery *delivery)
{
    struct rpc *rpc = aux;
    if (rpc->stopping)
        bus_delivery_free(delivery); /* not acknowledged: it goes back to its queue */
    else if (delivery->is_reply)
        client_deliver(rpc->client, delivery);
    else
        server_deliver(rpc->server, delivery);
}

static void on_state(void *aux, bool up, const char *why)
{
    struct rpc *rpc = aux;
    if (rpc->stopping)
        return;
    client_state(rpc->client, up);
    if (rpc->callbacks.state)
        rpc->callbacks.state(rpc->aux, up, why);
}

int rpc_new(struct rpc **out, struct loop *loop, const struct conf *conf, const char *host,
            const struct rpc_callbacks *callbacks, void *aux, struct err *e)
{
    static const char *const topics[] = {"compute", "compute-alt", NULL};
    static const struct bus_callbacks bus_callbacks = {.delivery = on_delivery, .state = on_state};
    struct rpc *rpc = NEW(struct rpc);
    rpc->callbacks = *callbacks;
    rpc->aux = aux;
    rpc->sender = sender_new(loop);
    rpc->server = server_new(loop, conf, rpc->sender, callbacks->request, aux);
    rpc->client = client_new(loop, conf, rpc->sender);
    if (bus_new(&rpc->bus, loop, conf, host, callbacks->request ? topics : NULL, &bus_callbacks,
                rpc, e)) {
        rpc_free(rpc, 0);
        return -1;
    }
    sender_set_bus(rpc->sender, rpc->bus);
    server_set_bus(rpc->server, rpc->bus);
    client_set_bus(rpc->client, rpc->bus);
    client_state(rpc->client, bus_is_up(rpc->bus));
    *out = rpc;
    return 0;
}

void rpc_free(struct rpc *rpc, int64_t wait_us)
{
    if (!rpc)
        return;
    rpc->stopping = true;
    client_free(rpc->client);
    if (rpc->bus)
        bus_free(rpc->bus, wait_us);
    sender_free(rpc->sender);
    server_free(rpc->server);
    free(rpc);
}

void rpc_reload(struct rpc *rpc, const struct conf *conf)
{
    server_reload(rpc->server, conf);
    client_reload(rpc->client, conf);
}

bool rpc_is_up(const struct rpc *rpc)
{
    return bus_is_up(rpc->bus);
}

struct json_object *rpc_status(struct rpc *rpc)
{
    char broker[300] = "";
    struct json_object *status = json_object_new_object();
    bus_describe(rpc->bus, broker, sizeof(broker));
    json_add_bool(status, "up", bus_is_up(rpc->bus));
    json_add_string(status, "broker", broker);
    json_add_int(status, "queued", (int64_t)sender_count(rpc->sender));
    client_status(rpc->client, status);
    server_status(rpc->server, status);
    return status;
}

void rpc_drain(struct rpc *rpc)
{
    bus_stop_consuming(rpc->bus, "compute");
}

const char *rpc_failure_raw(const struct rpc *rpc)
{
    return client_failure_raw(rpc->client);
}

/* A row of the table by its own namespace and oldest form. */
static struct rpc_call *send_row(struct rpc *rpc, const struct rpc_target *target, bool cast,
                                 enum rpc_method_id id, struct json_object *args,
                                 struct json_object *context, const struct rpc_options *options,
                                 rpc_reply_fn done, void *aux)
{
    const struct method *row = method_by_id(id);
    struct rpc_options own = options ? *options : (struct rpc_options){0};
    if (!own.version)
        own.version = row->name_space == RPC_NAMESPACE_COMPUTE ? "6.0" : "1.0";
    return client_send(rpc->client, target, cast, row->name, method_namespace_name(row->name_space),
                       args, context, &own, done, aux);
}

struct rpc_call *rpc_call(struct rpc *rpc, const struct rpc_target *target,
                          enum rpc_method_id method, struct json_object *args,
                          struct json_object *context, const struct rpc_options *options,
                          rpc_reply_fn done, void *aux)
{
    return send_row(rpc, target, false, method, args, context, options, done, aux);
}

void rpc_cast(struct rpc *rpc, const struct rpc_target *target, enum rpc_method_id method,
              struct json_object *args, struct json_object *context,
              const struct rpc_options *options, rpc_reply_fn done, void *aux)
{
    (void)send_row(rpc, target, true, method, args, context, options, done, aux);
}

struct rpc_call *rpc_call_named(struct rpc *rpc, const struct rpc_target *target,
                                const char *method, const char *namespace_name,
                                struct json_object *args, struct json_object *context,
                                const struct rpc_options *options, rpc_reply_fn done, void *aux)
{
    return client_send(rpc->client, target, false, method, namespace_name, args, context, options,
                       done, aux);
}

struct rpc_call *rpc_cast_named(struct rpc *rpc, const struct rpc_target *target,
                                const char *method, const char *namespace_name,
                                struct json_object *args, struct json_object *context,
                                const struct rpc_options *options, rpc_reply_fn done, void *aux)
{
    return client_send(rpc->client, target, true, method, namespace_name, args, context, options,
                       done, aux);
}
