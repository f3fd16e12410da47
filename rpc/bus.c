/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The loop's side of the bus. Threads post letters to one mailbox, whose descriptor the loop watches, so
 * nothing outlives the bus in the loop's queues. Deadlines of messages are kept here: a thread that hangs in
 * a send, or a broker that is away for an hour, does not delay what the sender is told.
 */
#include "rpc/bus.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "lib/clock.h"
#include "lib/json.h"
#include "lib/text.h"
#include "rpc/bus_internal.h"
#include "rpc/connection.h"
#include "rpc/consumer.h"
#include "rpc/publisher.h"
#include "rpc/queue_manager.h"

enum {
    QUEUED_MESSAGES_MAX = 10000,
    QUEUED_BYTES_MAX = 64 * 1024 * 1024,
    TOPICS_MAX = 4,
    /* After the flush: saying good-bye to the broker. */
    GOOD_BYE_US = 1500 * 1000,
};

struct bus_part {
    struct connection *connection;
    struct mailbox *inbox;
    bool up;
    char why[ERR_TEXT_SIZE];
    char broker[300];
};

struct bus {
    struct loop *loop;
    struct bus_callbacks callbacks;
    void *aux;
    struct bus_setup *setup;
    struct bus_part parts[BUS_ROLE_COUNT];
    struct publisher *publisher; /* belongs to its connection */
    struct topology_queue reply;
    struct topology_queue queues[TOPICS_MAX * 3];
    size_t queue_count;
    struct loop_source *source;
    struct loop_timer *expiry;
    int64_t expiry_us; /* when the timer is armed for */
    struct outgoing *pending;
    size_t queued_messages, queued_bytes;
    bool up, is_closing;
    char why[ERR_TEXT_SIZE];
};

void bus_delivery_free(struct bus_delivery *delivery)
{
    if (!delivery)
        return;
    free(delivery->body);
    free(delivery);
}

/* --- messages on their way ---------------------------------------------------------------------- */

static void pending_add(struct bus *bus, struct outgoing *o)
{
    o->next = bus->pending;
    if (bus->pending)
        bus->pending->previous = o;
    bus->pending = o;
}

static void pending_remove(struct bus *bus, struct outgoing *o)
{
    if (o->previous)
        o->previous->next = o->next;
    else
        bus->pending = o->next;
    if (o->next)
        o->next->previous = o->previous;
    o->previous = o->next = NULL;
}

static void tell(struct bus *bus, struct outgoing *o, enum bus_outcome outcome)
{
    if (o->told)
        return;
    o->told = true;
    pending_remove(bus, o);
    if (o->message.done)
        o->message.done(o->message.aux, outcome);
}

static void arm_expiry(struct bus *bus, int64_t deadline_us)
{
    int64_t left_us = deadline_us - clock_monotonic_us();

    if (deadline_us == 0 || (loop_timer_armed(bus->expiry) && bus->expiry_us <= deadline_us))
        return;
    bus->expiry_us = deadline_us;
    loop_timer_arm(bus->expiry, left_us > 0 ? left_us : 0);
}

static bool is_past(const struct outgoing *o, int64_t now_us)
{
    return o->message.deadline_us != 0 && o->message.deadline_us <= now_us;
}

/* Callbacks may publish, which adds at the head only. */
static void on_expiry(void *aux)
{
    struct bus *bus = aux;
    int64_t now_us = clock_monotonic_us();
    bool any = false;

    for (struct outgoing *o = bus->pending, *next; o; o = next) {
        next = o->next;
        if (!is_past(o, now_us))
            continue;
        any = true;
        atomic_store(&o->expired, true);
        tell(bus, o, BUS_EXPIRED);
    }
    if (any)
        publisher_sweep(bus->publisher);
    for (const struct outgoing *o = bus->pending; o; o = o->next)
        arm_expiry(bus, o->message.deadline_us);
}

static struct outgoing *outgoing_new(struct bus_message *m)
{
    struct outgoing *o = NEW(struct outgoing);

    o->letter = (struct letter){.kind = LETTER_PUBLISH, .drop = outgoing_drop};
    o->message = *m;
    o->message.exchange = text_dup(m->exchange);
    o->message.routing_key = text_dup(m->routing_key);
    m->body = NULL;
    o->queued_us = clock_monotonic_us();
    return o;
}

static bool is_too_much(const struct bus *bus, const struct bus_message *m)
{
    return m->body_length > JSON_SIZE_MAX || strlen(m->exchange) > 255 ||
           strlen(m->routing_key) > 255 || bus->queued_messages >= QUEUED_MESSAGES_MAX ||
           bus->queued_bytes + m->body_length > QUEUED_BYTES_MAX;
}

void bus_publish(struct bus *bus, struct bus_message *message)
{
    bool refused = bus->is_closing || is_too_much(bus, message);
    struct outgoing *o = outgoing_new(message);

    pending_add(bus, o);
    bus->queued_messages++;
    bus->queued_bytes += o->message.body_length;
    if (refused) { /* told on the loop's next turn, never from within this call */
        o->outcome = BUS_REFUSED;
        o->letter.kind = LETTER_OUTCOME;
        mailbox_post(bus->setup->outbox, &o->letter);
        return;
    }
    arm_expiry(bus, o->message.deadline_us);
    mailbox_post(bus->parts[BUS_PUBLISHER].inbox, &o->letter);
}

static void take_outcome(struct bus *bus, struct outgoing *o)
{
    bus->queued_messages--;
    bus->queued_bytes -= o->message.body_length;
    tell(bus, o, o->outcome);
    o->letter.drop(&o->letter);
}

/* --- state -------------------------------------------------------------------------------------- */

static void tell_state(struct bus *bus)
{
    const char *why = "";
    bool up = true;

    for (size_t i = 0; i < BUS_ROLE_COUNT && !*why; i++)
        if (bus->parts[i].inbox && !bus->parts[i].up) {
            up = false;
            why = bus->parts[i].why;
        }
    /* Down without a reason: a part is still connecting for the first time. */
    if ((!up && !*why) || (up == bus->up && text_equal(bus->why, why)))
        return;
    bus->up = up;
    snprintf(bus->why, sizeof(bus->why), "%s", why);
    if (bus->callbacks.state && !bus->is_closing)
        bus->callbacks.state(bus->aux, up, up ? NULL : bus->why);
}

static void take_state(struct bus *bus, const struct state_letter *s)
{
    struct bus_part *part = &bus->parts[s->role];

    part->up = s->up;
    memcpy(part->why, s->why, sizeof(part->why));
    memcpy(part->broker, s->broker, sizeof(part->broker));
    tell_state(bus);
}

/* --- letters ------------------------------------------------------------------------------------ */

static void take_delivery(struct bus *bus, struct delivery_letter *letter)
{
    if (bus->is_closing) /* not acknowledged: the broker gives it to somebody else */
        bus_delivery_free(letter->delivery);
    else
        bus->callbacks.delivery(bus->aux, letter->delivery);
    letter->delivery = NULL;
}

static void take_letters(struct bus *bus)
{
    struct letter *letter = mailbox_take(bus->setup->outbox);

    while (letter) {
        struct letter *next = letter->next;

        switch (letter->kind) {
        case LETTER_OUTCOME:
            take_outcome(bus, (struct outgoing *)letter);
            break;
        case LETTER_DELIVERY:
            take_delivery(bus, (struct delivery_letter *)letter);
            letter->drop(letter);
            break;
        default:
            take_state(bus, (struct state_letter *)letter);
            letter->drop(letter);
            break;
        }
        letter = next;
    }
}

static void on_outbox(void *aux, uint32_t epoll_events)
{
    (void)epoll_events;
    take_letters(aux);
}

/* --- life --------------------------------------------------------------------------------------- */

static int make_setup(struct bus *bus, const struct conf *conf, const char *host, struct err *e)
{
    struct bus_setup *s = NEW(struct bus_setup);

    atomic_init(&s->references, 1);
    bus->setup = s;
    if (transport_url_parse(conf_string(conf, CONF_DEFAULT_transport_url), &s->url, e) < 0 ||
        rabbit_options_new(&s->options, conf, s->url, e) < 0 || mailbox_new(&s->outbox, e) < 0)
        return -1;
    s->name = text_format("%s:%d:%s", "computed", (int)getpid(), host);
    return 0;
}

static int make_queues(struct bus *bus, const char *host, const char *const *topics, struct err *e)
{
    const struct rabbit_options *o = bus->setup->options;
    char suffix[QUEUE_SUFFIX_SIZE];

    if (queue_suffix(o, "/dev/shm", suffix, e) < 0 || topology_reply(o, suffix, &bus->reply, e) < 0)
        return -1;
    for (size_t i = 0; topics && topics[i]; i++, bus->queue_count += 3) {
        if (i == TOPICS_MAX)
            return err_set(e, ERR_INTERNAL, "more than %d topics are served", TOPICS_MAX);
        if (queue_suffix(o, "/dev/shm", suffix, e) < 0 ||
            topology_server(o, topics[i], host, suffix, &bus->queues[bus->queue_count], e) < 0)
            return -1;
    }
    return 0;
}

static int start_consumer(struct bus *bus, enum bus_role role, const struct topology_queue *queues,
                          size_t count, struct err *e)
{
    struct bus_part *part = &bus->parts[role];

    if (mailbox_new(&part->inbox, e) < 0)
        return -1;
    return connection_new(
        &part->connection, role == BUS_REPLIES ? &consumer_replies_role : &consumer_requests_role,
        consumer_new(role, bus->setup, part->inbox, queues, count), bus->setup, part->inbox, e);
}

static int start_publisher(struct bus *bus, struct err *e)
{
    struct bus_part *part = &bus->parts[BUS_PUBLISHER];

    if (mailbox_new(&part->inbox, e) < 0)
        return -1;
    bus->publisher = publisher_new(bus->setup, part->inbox);
    return connection_new(&part->connection, &publisher_role, bus->publisher, bus->setup,
                          part->inbox, e);
}

static int start(struct bus *bus, struct err *e)
{
    bus->source =
        loop_add_fd(bus->loop, mailbox_fd(bus->setup->outbox), EPOLLIN, "bus", on_outbox, bus, e);
    bus->expiry = loop_timer_new(bus->loop, "bus.expiry", on_expiry, bus);
    if (!bus->source)
        return -1;
    if (bus->queue_count && start_consumer(bus, BUS_REQUESTS, bus->queues, bus->queue_count, e) < 0)
        return -1;
    if (start_consumer(bus, BUS_REPLIES, &bus->reply, 1, e) < 0)
        return -1;
    return start_publisher(bus, e);
}

int bus_new(struct bus **out, struct loop *loop, const struct conf *conf, const char *host,
            const char *const *topics, const struct bus_callbacks *callbacks, void *aux,
            struct err *e)
{
    struct bus *bus = NEW(struct bus);

    bus->loop = loop;
    bus->callbacks = *callbacks;
    bus->aux = aux;
    if (make_setup(bus, conf, host, e) < 0 || make_queues(bus, host, topics, e) < 0 ||
        start(bus, e) < 0) {
        bus_free(bus, 0);
        return -1;
    }
    *out = bus;
    return 0;
}

/* Whatever happened to the threads: everybody who waits is told. */
static void tell_all(struct bus *bus)
{
    if (bus->setup->outbox)
        take_letters(bus);
    while (bus->pending)
        tell(bus, bus->pending, BUS_REFUSED);
    if (bus->setup->outbox)
        mailbox_close(bus->setup->outbox);
}

void bus_free(struct bus *bus, int64_t wait_us)
{
    int64_t deadline_us = clock_monotonic_us() + wait_us;

    if (!bus)
        return;
    bus->is_closing = true;
    loop_timer_free(bus->expiry);
    loop_source_free(bus->source);
    for (size_t i = 0; i < BUS_ROLE_COUNT; i++)
        connection_stop(bus->parts[i].connection, deadline_us);
    for (size_t i = 0; i < BUS_ROLE_COUNT; i++)
        connection_join(bus->parts[i].connection, deadline_us + GOOD_BYE_US);
    if (bus->setup)
        tell_all(bus);
    for (size_t i = 0; i < BUS_ROLE_COUNT; i++)
        mailbox_unref(bus->parts[i].inbox);
    bus_setup_unref(bus->setup);
    free(bus);
}

/* --- small things ------------------------------------------------------------------------------- */

void bus_ack(struct bus *bus, const struct bus_delivery *delivery)
{
    struct ack_letter *ack;

    if (delivery->is_reply || !bus->parts[BUS_REQUESTS].inbox) /* replies were acknowledged */
        return;
    ack = NEW(struct ack_letter);
    ack->letter = (struct letter){.kind = LETTER_ACK, .drop = letter_free};
    ack->epoch = delivery->epoch;
    ack->tag = delivery->tag;
    mailbox_post(bus->parts[BUS_REQUESTS].inbox, &ack->letter);
}

void bus_stop_consuming(struct bus *bus, const char *topic)
{
    struct stop_letter *stop;

    if (!bus->parts[BUS_REQUESTS].inbox)
        return;
    stop = NEW(struct stop_letter);
    stop->letter = (struct letter){.kind = LETTER_STOP_TOPIC, .drop = letter_free};
    snprintf(stop->topic, sizeof(stop->topic), "%s", topic);
    mailbox_post(bus->parts[BUS_REQUESTS].inbox, &stop->letter);
}

const char *bus_reply_queue(const struct bus *bus)
{
    return bus->reply.name;
}

bool bus_is_up(const struct bus *bus)
{
    return bus->up;
}

void bus_describe(struct bus *bus, char *out, size_t size)
{
    snprintf(out, size, "%s", bus->parts[BUS_PUBLISHER].broker);
}
