/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Publishing with patience: an inner message is put into its envelope with a fresh `_unique_id` and
 * published; when no queue takes it (the broker has just restarted and its owner has not yet come
 * back), it is published again every SENDER_RETRY_US, as oslo.messaging does. Used by rpc/server for
 * replies and by rpc/client for requests. Loop thread only.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <json-c/json_object.h>

#include "lib/loop.h"
#include "rpc/bus.h"

enum { SENDER_RETRY_US = 250000 };

struct sender;
struct sending;

/* The bus is borrowed and may be given later, before the first message. */
struct sender *sender_new(struct loop *loop);
void sender_set_bus(struct sender *sender, struct bus *bus);
/* All that is still under way ends with BUS_REFUSED; the bus may still tell its outcomes afterwards. */
void sender_free(struct sender *sender);
size_t sender_count(const struct sender *sender); /* messages that are under way */

struct sender_message {
    const char *exchange; /* "" = default exchange */
    const char *routing_key;
    struct json_object *inner; /* taken */
    bool mandatory;
    int64_t expiration_ms; /* AMQP expiration; 0 = none */
    int64_t deadline_us;   /* monotonic; 0 = none */
    int64_t unroutable_us; /* how long to try again while no queue takes it */
    /* The outcome, once, later, on the loop; may be NULL. */
    void (*done)(void *aux, enum bus_outcome outcome);
    void *aux;
};
struct sending *sender_send(struct sender *sender, const struct sender_message *message);
/* `done` is not called any more and nothing is tried again. Only before `done`; NULL is accepted. */
void sending_forget(struct sending *sending);
