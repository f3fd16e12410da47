/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The calling half: calls that wait for their reply, and casts. rpc.h has the functions that users call;
 * this header is rpc/rpc.c's. Loop thread only.
 *
 * A call ends by its reply, its overall timeout, its monitor timeout (no heartbeat for a whole period while
 * the bus is up), an unroutable target, or rpc_call_cancel(). Replies are matched by `_msg_id`; late ones
 * are dropped. A target whose queue is missing is tried again for CLIENT_UNROUTABLE_US: after a restart of
 * the broker its owner needs a moment.
 */
#pragma once

#include <json-c/json_object.h>

#include "conf/conf.h"
#include "lib/loop.h"
#include "rpc/bus.h"
#include "rpc/rpc.h"
#include "rpc/sender.h"

enum { CLIENT_CALLS_MAX = 1024 };
#define CLIENT_UNROUTABLE_US (10 * USEC_PER_SEC)

struct client;

struct client *client_new(struct loop *loop, const struct conf *conf, struct sender *sender);
void client_set_bus(struct client *client, struct bus *bus);
void client_reload(struct client *client, const struct conf *conf);
/* Waiting calls and casts end with ERR_CANCELLED before this returns. */
void client_free(struct client *client);
/* A delivery from the reply queue; taken. */
void client_deliver(struct client *client, struct bus_delivery *delivery);
/* Monitor timers rest while the bus is down, since heartbeats cannot arrive. */
void client_state(struct client *client, bool up);
const char *client_failure_raw(const struct client *client);
void client_status(const struct client *client, struct json_object *status);

/* A request; `method` is a name. With `cast` no reply is asked for and `done` tells of the delivery. */
struct rpc_call *client_send(struct client *client, const struct rpc_target *target, bool cast,
                             const char *method, const char *namespace_name,
                             struct json_object *args, struct json_object *context,
                             const struct rpc_options *options, rpc_reply_fn done, void *aux);
