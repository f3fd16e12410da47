/* SPDX-License-Identifier: Apache-2.0 */
/* Publishing with patience: see the header. */
#include "rpc/sender.h"

#include <stdlib.h>
#include <sys/queue.h>

#include "lib/clock.h"
#include "lib/json.h"
#include "lib/text.h"
#include "rpc/envelope.h"

struct sender {
    struct loop *loop;
    struct bus *bus;
    LIST_HEAD(sendings, sending) under_way;
    size_t count;
};

/*
 * While the bus has the message (`in_flight`), its callback is what frees a forgotten sending; between
 * two attempts the timer is armed and the sending can be freed at once.
 */
struct sending {
    struct sender *sender; /* NULL once forgotten */
    LIST_ENTRY(sending) link;
    char *exchange, *routing_key;
    struct json_object *inner;
    bool mandatory, in_flight, in_publish;
    int early; /* outcome that the bus told within bus_publish(), -1 = none */
    int64_t expiration_ms, deadline_us, unroutable_us;
    int64_t first_unroutable_us; /* 0 = not yet */
    struct loop_timer *retry;
    void (*done)(void *aux, enum bus_outcome outcome);
    void *aux;
};

struct sender *sender_new(struct loop *loop)
{
    struct sender *sender = NEW(struct sender);
    sender->loop = loop;
    return sender;
}

void sender_set_bus(struct sender *sender, struct bus *bus)
{
    sender->bus = bus;
}

size_t sender_count(const struct sender *sender)
{
    return sender->count;
}

static void sending_unlink(struct sending *sending)
{
    if (!sending->sender)
        return;
    LIST_REMOVE(sending, link);
    sending->sender->count--;
    sending->sender = NULL;
}

static void sending_free(struct sending *sending)
{
    sending_unlink(sending);
    loop_timer_free(sending->retry);
    json_object_put(sending->inner);
    free(sending->exchange);
    free(sending->routing_key);
    free(sending);
}

void sending_forget(struct sending *sending)
{
    if (!sending)
        return;
    if (!sending->in_flight) {
        sending_free(sending);
        return;
    }
    sending_unlink(sending);
    loop_timer_free(STEAL(sending->retry));
}

void sender_free(struct sender *sender)
{
    if (!sender)
        return;
    for (struct sending *sending; (sending = LIST_FIRST(&sender->under_way));) {
        void (*done)(void *, enum bus_outcome) = sending->done;
        void *aux = sending->aux;
        sending_forget(sending);
        if (done)
            done(aux, BUS_REFUSED);
    }
    free(sender);
}

static void finish(struct sending *sending, enum bus_outcome outcome)
{
    void (*done)(void *, enum bus_outcome) = sending->done;
    void *aux = sending->aux;
    sending_free(sending);
    if (done)
        done(aux, outcome);
}

static bool may_retry(struct sending *sending, int64_t now_us)
{
    if (!sending->first_unroutable_us)
        sending->first_unroutable_us = now_us;
    if (now_us - sending->first_unroutable_us + SENDER_RETRY_US > sending->unroutable_us)
        return false;
    return !sending->deadline_us || now_us + SENDER_RETRY_US < sending->deadline_us;
}

static void on_outcome(void *aux, enum bus_outcome outcome)
{
    struct sending *sending = aux;
    sending->in_flight = false;
    if (sending->in_publish) {
        sending->early = (int)outcome;
        loop_timer_arm(sending->retry, 0);
        return;
    }
    if (!sending->sender)
        sending_free(sending);
    else if (outcome == BUS_UNROUTABLE && may_retry(sending, clock_monotonic_us()))
        loop_timer_arm(sending->retry, SENDER_RETRY_US);
    else
        finish(sending, outcome);
}

static void publish(struct sending *sending)
{
    envelope_renew_unique_id(sending->inner);
    struct bus_message message = {
        .exchange = sending->exchange,
        .routing_key = sending->routing_key,
        .mandatory = sending->mandatory,
        .expiration_ms = sending->expiration_ms,
        .deadline_us = sending->deadline_us,
        .done = on_outcome,
        .aux = sending,
    };
    message.body = envelope_encode(sending->inner, &message.body_length);
    sending->in_flight = sending->in_publish = true;
    bus_publish(sending->sender->bus, &message);
    sending->in_publish = false;
}

static void on_retry(void *aux)
{
    struct sending *sending = aux;
    int early = sending->early;
    sending->early = -1;
    if (early >= 0)
        on_outcome(sending, (enum bus_outcome)early);
    else
        publish(sending);
}

struct sending *sender_send(struct sender *sender, const struct sender_message *message)
{
    struct sending *sending = NEW(struct sending);
    sending->sender = sender;
    LIST_INSERT_HEAD(&sender->under_way, sending, link);
    sender->count++;

    sending->exchange = text_dup(message->exchange);
    sending->routing_key = text_dup(message->routing_key);
    sending->inner = message->inner;
    sending->mandatory = message->mandatory;
    sending->expiration_ms = message->expiration_ms;
    sending->deadline_us = message->deadline_us;
    sending->unroutable_us = message->unroutable_us;
    sending->done = message->done;
    sending->aux = message->aux;
    sending->early = -1;
    sending->retry = loop_timer_new(sender->loop, "rpc retry", on_retry, sending);
    publish(sending);
    return sending;
}
