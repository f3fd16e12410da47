/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The serving half: from a delivery to a checked `struct rpc_request`, and from its end to a reply.
 * rpc.h has the functions that handlers use; this header is rpc/rpc.c's. Loop thread only.
 *
 * The way of a message: envelope, duplicate check by `_unique_id`, method table, arguments, handler.
 * What fails on the way is acknowledged, counted, logged within a rate limit and, when it is a call whose
 * way back can be read, answered with the failure class of oslo.messaging's dispatcher.
 *
 * Acknowledgement and duplicates (nova-contract 1.9): a request is acknowledged when its handler accepts
 * or ends it. When the connection breaks before that, the broker delivers it again; then the new delivery
 * takes the old one's place under the same request, which goes on undisturbed. What has ended is
 * acknowledged and dropped. The last SERVER_RECENT_MAX ids are known for SERVER_RECENT_US.
 *
 * Replies (1.6): mandatory, tried again for kombu_missing_consumer_retry_timeout while the reply queue
 * is missing; then the queue counts as dead for SERVER_DEAD_QUEUE_US and replies to it are dropped at once.
 * While a call with `_timeout` T is worked on, a heartbeat goes out every T/2.
 */
#pragma once

#include <stdint.h>
#include <json-c/json_object.h>

#include "conf/conf.h"
#include "lib/loop.h"
#include "rpc/bus.h"
#include "rpc/rpc.h"
#include "rpc/sender.h"

enum {
    SERVER_RECENT_MAX = 4096,
    SERVER_DEAD_QUEUE_MAX = 200,
    SERVER_EXCERPT_MAX = 160,   /* bytes of an unreadable message in the log */
    SERVER_REQUESTS_MAX = 1024, /* worked on at a time; more are answered with a failure */
};
#define SERVER_RECENT_US     (3600 * USEC_PER_SEC)
#define SERVER_DEAD_QUEUE_US (60 * USEC_PER_SEC)
#define SERVER_REPLY_WAIT_US (1800 * USEC_PER_SEC) /* a reply waits for a broker at most so long */

struct server;

struct server *server_new(struct loop *loop, const struct conf *conf, struct sender *sender,
                          rpc_handler handler, void *aux);
void server_set_bus(struct server *server, struct bus *bus);
void server_reload(struct server *server, const struct conf *conf);
/* Requests that handlers still own live on; ending them does nothing any more. */
void server_free(struct server *server);
/* A delivery from a request queue; taken. */
void server_deliver(struct server *server, struct bus_delivery *delivery);
/* Adds "requests" and "dead_reply_queues" to a status. */
void server_status(const struct server *server, struct json_object *status);
