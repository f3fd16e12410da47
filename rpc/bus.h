/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The message bus: AMQP connections, one thread each (librabbitmq is single-threaded), that reconnect,
 * fail over and redeclare by themselves. Three connections: consuming requests, consuming replies,
 * publishing. Everything crosses to and from the loop by queues; the loop never waits for a broker.
 *
 * While no broker can be reached, published messages wait (bounded by count and by their own deadline);
 * deliveries that were not acknowledged come again after a reconnect, and rpc/server recognises them.
 *
 * Topology, flags, arguments and client properties: nova-contract sections 1.1 to 1.4
 * (oslo.messaging's rabbit driver, 14.0.3 to 18.3.0).
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "conf/conf.h"
#include "lib/err.h"
#include "lib/loop.h"

struct bus;

/* One message from the broker; owned by the receiver of the callback until bus_delivery_free(). */
struct bus_delivery {
    char *body; /* terminated; body_length excludes the terminator */
    size_t body_length;
    bool redelivered;
    bool is_reply;  /* from the reply queue */
    uint64_t epoch; /* which connection it came on: acknowledging on a later one is a no-op */
    uint64_t tag;
};
void bus_delivery_free(struct bus_delivery *delivery);
DEFINE_CLEANUP(struct bus_delivery *, bus_delivery_free)

enum bus_outcome {
    BUS_CONFIRMED,  /* the broker has it (publisher confirm) */
    BUS_UNROUTABLE, /* mandatory and returned: no such queue */
    BUS_EXPIRED,    /* its deadline passed before a broker took it */
    BUS_REFUSED,    /* nacked, too large, or the bus is full or closing */
};

struct bus_callbacks {
    /* A request or reply arrived. On the loop; takes ownership. */
    void (*delivery)(void *aux, struct bus_delivery *delivery);
    /* The state of the connections changed. On the loop. `why` is one sentence, NULL when up. */
    void (*state)(void *aux, bool up, const char *why);
};

/*
 * Starts the threads; connecting goes on in the background for ever. `topics` are served as topic,
 * topic.host and fanout queues (NULL-terminated: "compute", "compute-alt"); NULL = client only.
 * The configuration's [DEFAULT] transport_url, control_exchange and [oslo_messaging_rabbit] rule.
 */
int bus_new(struct bus **out, struct loop *loop, const struct conf *conf, const char *host,
            const char *const *topics, const struct bus_callbacks *callbacks, void *aux,
            struct err *e);
/*
 * Stops consuming, flushes what is queued for at most wait_us, joins the threads; 1.5 s more for the
 * good-bye, and another 1.5 s before a thread that hangs in a name look-up is left behind. `done` of every
 * message still under way is called before this returns (BUS_REFUSED where nothing better is known).
 */
void bus_free(struct bus *bus, int64_t wait_us);
/* Stops taking new requests from the given topic (drain); its queue stays declared. */
void bus_stop_consuming(struct bus *bus, const char *topic);

/* Name of this process's reply queue ("reply_<32 hex>"), fixed for the process's life. */
const char *bus_reply_queue(const struct bus *bus);
bool bus_is_up(const struct bus *bus);
/* For status: broker in use "host:port", never with credentials; "" when down. Copy. */
void bus_describe(struct bus *bus, char *out, size_t size);

struct bus_message {
    const char *exchange; /* "" = default exchange */
    const char *routing_key;
    char *body; /* taken */
    size_t body_length;
    bool mandatory;
    int64_t expiration_ms; /* AMQP expiration property; 0 = none */
    int64_t deadline_us;   /* monotonic: given up after it; 0 = when the bus closes */
    /* Told once on the loop; may be NULL. */
    void (*done)(void *aux, enum bus_outcome outcome);
    void *aux;
};
/* Queues a message; never blocks. Loop thread. */
void bus_publish(struct bus *bus, struct bus_message *message);
/*
 * Acknowledges a delivery (its message is ours now). Loop thread. Replies need none: they are acknowledged
 * when they are handed over, since they mean nothing to any other process.
 */
void bus_ack(struct bus *bus, const struct bus_delivery *delivery);
