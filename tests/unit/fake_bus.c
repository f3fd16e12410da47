/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/fake_bus.h"

#include "lib/json.h"
#include "lib/text.h"
#include "rpc/envelope.h"
#include "tests/unit/unit.h"

struct bus {
    struct bus_callbacks callbacks;
    void *aux;
};

struct fake_bus fake_bus;
static struct bus *the_bus;

void bus_delivery_free(struct bus_delivery *delivery)
{
    if (!delivery)
        return;
    free(delivery->body);
    free(delivery);
}

int bus_new(struct bus **out, struct loop *loop, const struct conf *conf, const char *host,
            const char *const *topics, const struct bus_callbacks *callbacks, void *aux,
            struct err *e)
{
    (void)loop, (void)conf, (void)topics;
    if (host && text_equal(host, "refused"))
        return err_set(e, ERR_CONFIG, "no bus");
    memset(&fake_bus, 0, sizeof(fake_bus));
    fake_bus.up = true;
    fake_bus.epoch = 1;
    the_bus = NEW(struct bus);
    the_bus->callbacks = *callbacks;
    the_bus->aux = aux;
    *out = the_bus;
    return 0;
}

void fake_bus_tell(size_t index, enum bus_outcome outcome)
{
    struct fake_message *message = &fake_bus.sent[index];
    void (*done)(void *, enum bus_outcome) = message->done;
    message->done = NULL;
    if (done)
        done(message->aux, outcome);
}

void bus_free(struct bus *bus, int64_t wait_us)
{
    (void)wait_us;
    for (size_t i = 0; i < fake_bus.sent_count; i++) {
        fake_bus_tell(i, BUS_REFUSED);
        json_object_put(fake_bus.sent[i].inner);
    }
    fake_bus.sent_count = 0;
    free(bus);
    the_bus = NULL;
}

void bus_stop_consuming(struct bus *bus, const char *topic)
{
    (void)bus;
    fake_bus.stopped_topic = topic;
}

const char *bus_reply_queue(const struct bus *bus)
{
    (void)bus;
    return "reply_0123456789abcdef0123456789abcdef";
}

bool bus_is_up(const struct bus *bus)
{
    (void)bus;
    return fake_bus.up;
}

void bus_describe(struct bus *bus, char *out, size_t size)
{
    (void)bus;
    snprintf(out, size, "broker:5672");
}

void bus_publish(struct bus *bus, struct bus_message *message)
{
    (void)bus;
    if (fake_bus.refuse || fake_bus.sent_count == FAKE_BUS_MESSAGES) {
        free(message->body);
        if (message->done)
            message->done(message->aux, BUS_REFUSED);
        return;
    }
    struct fake_message *sent = &fake_bus.sent[fake_bus.sent_count++];
    *sent = (struct fake_message){
        .body_length = message->body_length,
        .mandatory = message->mandatory,
        .expiration_ms = message->expiration_ms,
        .deadline_us = message->deadline_us,
        .done = message->done,
        .aux = message->aux,
    };
    snprintf(sent->exchange, sizeof(sent->exchange), "%s", message->exchange);
    snprintf(sent->routing_key, sizeof(sent->routing_key), "%s", message->routing_key);
    UNIT_OK(envelope_decode(message->body, message->body_length, &sent->inner, &unit_err));
    free(message->body);
}

void bus_ack(struct bus *bus, const struct bus_delivery *delivery)
{
    (void)bus;
    if (delivery->epoch == fake_bus.epoch)
        fake_bus.acked[fake_bus.acked_count++] = delivery->tag;
}

bool fake_bus_acked(uint64_t tag)
{
    unsigned times = 0;
    for (size_t i = 0; i < fake_bus.acked_count; i++)
        times += fake_bus.acked[i] == tag;
    UNIT_TRUE(times <= 1);
    return times == 1;
}

uint64_t fake_bus_deliver_text(const char *body, size_t length, bool is_reply, bool redelivered)
{
    struct bus_delivery *delivery = NEW(struct bus_delivery);
    uint64_t tag = ++fake_bus.next_tag;
    *delivery = (struct bus_delivery){
        .body = text_dup_n(body, length),
        .body_length = length,
        .redelivered = redelivered,
        .is_reply = is_reply,
        .epoch = fake_bus.epoch,
        .tag = tag,
    };
    the_bus->callbacks.delivery(the_bus->aux, delivery);
    return tag;
}

uint64_t fake_bus_deliver(struct json_object *inner, bool is_reply, bool redelivered)
{
    size_t length;
    _cleanup_(str_freep) char *body = envelope_encode(inner, &length);
    return fake_bus_deliver_text(body, length, is_reply, redelivered);
}

void fake_bus_state(bool up)
{
    fake_bus.up = up;
    if (!up)
        fake_bus.epoch++;
    the_bus->callbacks.state(the_bus->aux, up, up ? NULL : "gone");
}
