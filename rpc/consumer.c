/* SPDX-License-Identifier: Apache-2.0 */
#include "rpc/consumer.h"

#include <stdio.h>
#include <string.h>

#include "lib/clock.h"
#include "lib/log.h"
#include "lib/metrics.h"
#include "lib/text.h"

LOG_MODULE(bus);

/* Tags count from 1 on each channel; the upper bits of bus_delivery.tag say which. */
enum { TAG_BITS = 48, OUTBOX_MANY = 1024 };
#define TAG_MASK ((UINT64_C(1) << TAG_BITS) - 1)

struct slot { /* one queue; its channel is its index + 1 */
    struct topology_queue queue;
    bool is_open; /* the channel */
    bool is_consuming;
    bool is_stopped;  /* on purpose: declared, but not consumed */
    uint64_t epoch;   /* of the channel: acknowledgements of an earlier one mean nothing */
    int64_t retry_us; /* when to try again; INT64_MAX = not */
    int64_t delay_s;
    bool has_offset;
    int64_t offset; /* of the last message of a stream */
    char why[ERR_TEXT_SIZE];
};

struct consumer {
    struct bus_setup *setup;
    struct mailbox *inbox;
    struct state_reporter reporter;
    struct session *session; /* NULL while there is none */
    uint64_t epoch;          /* last one given out */
    size_t count;
    struct slot slots[];
};

struct consumer *consumer_new(enum bus_role role, struct bus_setup *setup, struct mailbox *inbox,
                              const struct topology_queue *queues, size_t count)
{
    struct consumer *c = mem_new(sizeof(*c) + count * sizeof(c->slots[0]));

    c->setup = bus_setup_ref(setup);
    c->inbox = mailbox_ref(inbox);
    c->reporter = (struct state_reporter){.setup = setup, .role = role};
    c->count = count;
    for (size_t i = 0; i < count; i++) {
        struct slot *slot = &c->slots[i];

        *slot = (struct slot){.queue = queues[i], .retry_us = INT64_MAX};
        snprintf(slot->why, sizeof(slot->why), "the queue \"%s\" is not declared yet",
                 queues[i].name);
    }
    return c;
}

static void consumer_free(void *aux)
{
    struct consumer *c = aux;

    mailbox_unref(c->inbox);
    bus_setup_unref(c->setup);
    free(c);
}

/* --- state -------------------------------------------------------------------------------------- */

static void report(struct consumer *c)
{
    const char *why = NULL;

    for (size_t i = 0; i < c->count && !why; i++)
        if (!c->slots[i].is_consuming && !c->slots[i].is_stopped)
            why = c->slots[i].why;
    state_report(&c->reporter, !why, session_broker(c->session), why);
}

static void slot_lost(struct slot *slot)
{
    slot->is_open = slot->is_consuming = false;
    slot->epoch = 0;
    slot->retry_us = INT64_MAX;
    slot->delay_s = 0;
}

static void consumer_lost(void *aux, const char *why)
{
    struct consumer *c = aux;

    c->session = NULL;
    for (size_t i = 0; i < c->count; i++)
        slot_lost(&c->slots[i]);
    state_report(&c->reporter, false, "", why);
}

/* --- declaring ---------------------------------------------------------------------------------- */

static enum session_end open_channel(struct consumer *c, struct slot *slot, uint16_t channel,
                                     struct err *e)
{
    int64_t prefetch = c->setup->options->rabbit_qos_prefetch_count;
    enum session_end end;

    if (slot->is_open)
        return SESSION_OK;
    end = session_channel_open(c->session, channel, e);
    if (end != SESSION_OK)
        return end;
    slot->is_open = true;
    slot->epoch = ++c->epoch;
    return prefetch ? session_qos(c->session, channel, (uint16_t)prefetch, e) : SESSION_OK;
}

static enum session_end declare(struct consumer *c, struct slot *slot, uint16_t channel,
                                struct err *e)
{
    const struct topology_queue *q = &slot->queue;
    enum session_end end = open_channel(c, slot, channel, e);

    if (end == SESSION_OK && *q->exchange.name)
        end = session_declare_exchange(c->session, channel, &q->exchange, e);
    if (end == SESSION_OK)
        end = session_declare_queue(c->session, channel, q, e);
    if (end == SESSION_OK && *q->exchange.name)
        end = session_bind(c->session, channel, q, e);
    if (end == SESSION_OK && !slot->is_stopped) {
        end = session_consume(c->session, channel, q, slot->has_offset ? slot->offset + 1 : -1, e);
        slot->is_consuming = end == SESSION_OK;
    }
    if (end == SESSION_REFUSED)
        slot->is_open = false;
    return end;
}

static void plan_retry(struct consumer *c, struct slot *slot)
{
    const struct rabbit_options *o = c->setup->options;

    slot->delay_s =
        slot->delay_s ? slot->delay_s + o->rabbit_retry_backoff : o->rabbit_retry_interval;
    if (slot->delay_s > o->rabbit_interval_max)
        slot->delay_s = o->rabbit_interval_max;
    slot->retry_us = clock_monotonic_us() + slot->delay_s * USEC_PER_SEC;
}

static void explain(struct slot *slot, int code, const struct err *e)
{
    const char *advice = code == AMQP_PRECONDITION_FAILED
                             ? "; the options of [oslo_messaging_rabbit] (durable, auto_delete, "
                               "quorum, TTL) must equal those of the rest of the cloud"
                             : "";
    char text[ERR_TEXT_SIZE];

    snprintf(text, sizeof(text), "the queue \"%.100s\" cannot be used: %.260s%s", slot->queue.name,
             e->text, advice);
    memcpy(slot->why, text, sizeof(slot->why));
}

/* Declares and consumes one queue. Only the end of the session is an error. */
static enum session_end slot_start(struct consumer *c, size_t index, struct err *e)
{
    struct slot *slot = &c->slots[index];
    uint16_t channel = (uint16_t)(index + 1);
    struct err refusal = ERR_INIT;
    enum session_end end = declare(c, slot, channel, &refusal);

    /* A queue may vanish between two steps; once more helps most of the time (contract 1.1). */
    if (end == SESSION_REFUSED && session_code(c->session) == AMQP_NOT_FOUND)
        end = declare(c, slot, channel, &refusal);
    slot->retry_us = INT64_MAX;
    if (end == SESSION_DEAD) {
        *e = refusal;
        return err_prefix(e, "queue \"%s\"", slot->queue.name);
    }
    if (end == SESSION_REFUSED) {
        explain(slot, session_code(c->session), &refusal);
        plan_retry(c, slot);
    } else {
        slot->delay_s = 0;
    }
    return SESSION_OK;
}

static enum session_end consumer_ready(void *aux, struct session *session, struct err *e)
{
    struct consumer *c = aux;

    c->session = session;
    for (size_t i = 0; i < c->count; i++)
        if (slot_start(c, i, e) != SESSION_OK)
            return SESSION_DEAD;
    report(c);
    return SESSION_OK;
}

/* --- what the broker says ----------------------------------------------------------------------- */

static void drop_delivery(struct letter *letter)
{
    bus_delivery_free(((struct delivery_letter *)letter)->delivery);
    free(letter);
}

static void hand_over(struct consumer *c, const struct slot *slot, uint16_t channel,
                      struct session_message *m)
{
    struct delivery_letter *letter = NEW(struct delivery_letter);
    struct bus_delivery *d = NEW(struct bus_delivery);

    *d = (struct bus_delivery){.body = m->body,
                               .body_length = m->length,
                               .redelivered = m->redelivered,
                               .is_reply = slot->queue.kind == TOPOLOGY_REPLY,
                               .epoch = slot->epoch,
                               .tag = ((uint64_t)channel << TAG_BITS) | m->delivery_tag};
    m->body = NULL; /* taken */
    letter->letter = (struct letter){.kind = LETTER_DELIVERY, .drop = drop_delivery};
    letter->delivery = d;
    mailbox_post(c->setup->outbox, &letter->letter);
}

/* A failing acknowledgement shows again at the next use of the session, which then ends. */
static void on_deliver(void *aux, uint16_t channel, struct session_message *m)
{
    struct consumer *c = aux;
    struct slot *slot;

    if (channel > c->count || m->delivery_tag > TAG_MASK)
        return;
    slot = &c->slots[channel - 1];
    if (m->has_offset) {
        slot->has_offset = true;
        slot->offset = m->stream_offset;
    }
    if (slot->is_stopped) {
        (void)session_requeue(c->session, channel, m->delivery_tag, NULL);
        return;
    }
    if (m->body) {
        hand_over(c, slot, channel, m);
    } else {
        metric_inc(METRIC_RPC_REFUSED);
        log_debug("a message of the queue %s is dropped: %s", slot->queue.name, m->refused);
    }
    /* A reply means nothing to anyone after this process; nobody has to remember to acknowledge it. */
    if (!m->refused && slot->queue.kind != TOPOLOGY_REPLY)
        return;
    (void)session_ack(c->session, channel, m->delivery_tag, NULL);
}

static void on_returned(void *aux, uint16_t channel, struct session_message *m)
{
    (void)aux;
    (void)channel;
    (void)m; /* this connection publishes nothing */
}

static void on_confirm(void *aux, uint16_t channel, uint64_t tag, bool multiple, bool ack)
{
    (void)aux;
    (void)channel;
    (void)tag;
    (void)multiple;
    (void)ack;
}

static void on_channel_lost(void *aux, uint16_t channel, int code, const char *text)
{
    struct consumer *c = aux;
    const struct rabbit_options *o = c->setup->options;
    struct err e = ERR_INIT;
    struct slot *slot;

    if (channel > c->count)
        return;
    slot = &c->slots[channel - 1];
    slot->is_consuming = false;
    if (code != 0) {
        slot->is_open = false;
        slot->epoch = 0;
        err_set(&e, ERR_UNREACHABLE, "the broker %s closed its channel with %d: %s",
                session_broker(c->session), code, text);
    } else {
        err_set(&e, ERR_UNREACHABLE, "the broker %s cancelled its consumer (deleted or moved)",
                session_broker(c->session));
    }
    explain(slot, code, &e);
    if (slot->delay_s > 0) /* it was lost again soon after it was declared */
        plan_retry(c, slot);
    else
        slot->retry_us =
            clock_monotonic_us() + (int64_t)(o->kombu_reconnect_delay * (double)USEC_PER_SEC);
    report(c);
}

static void on_blocked(void *aux, bool blocked, const char *reason)
{
    (void)aux;
    (void)blocked;
    (void)reason; /* concerns publishing only */
}

/* --- what the loop says ------------------------------------------------------------------------- */

static enum session_end take_ack(struct consumer *c, const struct ack_letter *ack, struct err *e)
{
    uint64_t channel = ack->tag >> TAG_BITS;

    if (!c->session || channel < 1 || channel > c->count ||
        c->slots[channel - 1].epoch != ack->epoch || !c->slots[channel - 1].is_open)
        return SESSION_OK;
    return session_ack(c->session, (uint16_t)channel, ack->tag & TAG_MASK, e);
}

static enum session_end take_stop(struct consumer *c, const struct stop_letter *stop, struct err *e)
{
    enum session_end end = SESSION_OK;

    for (size_t i = 0; i < c->count && end != SESSION_DEAD; i++) {
        struct slot *slot = &c->slots[i];

        if (!text_equal(slot->queue.topic, stop->topic) || slot->is_stopped)
            continue;
        slot->is_stopped = true;
        if (c->session && slot->is_consuming)
            end = session_cancel(c->session, (uint16_t)(i + 1), e);
        slot->is_consuming = false;
    }
    if (c->session && end != SESSION_DEAD)
        report(c);
    return end == SESSION_DEAD ? SESSION_DEAD : SESSION_OK;
}

static enum session_end take_letters(struct consumer *c, struct err *e)
{
    struct letter *letter = mailbox_take(c->inbox);
    enum session_end end = SESSION_OK;

    while (letter) {
        struct letter *next = letter->next;

        if (end == SESSION_OK && letter->kind == LETTER_ACK)
            end = take_ack(c, (struct ack_letter *)letter, e);
        else if (end == SESSION_OK && letter->kind == LETTER_STOP_TOPIC)
            end = take_stop(c, (struct stop_letter *)letter, e);
        letter->drop(letter);
        letter = next;
    }
    return end;
}

static enum session_end consumer_work(void *aux, struct session *session, int64_t now_us,
                                      int64_t *next_us, struct err *e)
{
    struct consumer *c = aux;
    bool changed = false;

    if (take_letters(c, e) == SESSION_DEAD)
        return SESSION_DEAD;
    for (size_t i = 0; session && i < c->count; i++) {
        if (c->slots[i].retry_us <= now_us) {
            changed = true;
            if (slot_start(c, i, e) != SESSION_OK)
                return SESSION_DEAD;
        }
        if (c->slots[i].retry_us < *next_us)
            *next_us = c->slots[i].retry_us;
    }
    if (changed)
        report(c);
    return SESSION_OK;
}

static bool consumer_paused(void *aux)
{
    return mailbox_length(((struct consumer *)aux)->setup->outbox) > OUTBOX_MANY;
}

static bool consumer_idle(void *aux)
{
    return mailbox_length(((struct consumer *)aux)->inbox) == 0;
}

/* Queues that only this process uses and that the broker would keep. */
static void consumer_leaving(void *aux, struct session *session)
{
    struct consumer *c = aux;

    for (size_t i = 0; i < c->count; i++)
        if (c->slots[i].queue.delete_at_close && c->slots[i].is_open)
            if (session_delete_queue(session, (uint16_t)(i + 1), c->slots[i].queue.name, NULL) ==
                SESSION_DEAD)
                return;
}

static const struct session_handler handler = {.deliver = on_deliver,
                                               .returned = on_returned,
                                               .confirm = on_confirm,
                                               .channel_lost = on_channel_lost,
                                               .blocked = on_blocked};

#define CONSUMER_ROLE(role_name)                                                                   \
    {                                                                                              \
        .name = (role_name), .handler = &handler, .ready = consumer_ready, .work = consumer_work,  \
        .paused = consumer_paused, .idle = consumer_idle, .leaving = consumer_leaving,             \
        .lost = consumer_lost, .free = consumer_free                                               \
    }
const struct connection_role consumer_requests_role = CONSUMER_ROLE("requests");
const struct connection_role consumer_replies_role = CONSUMER_ROLE("replies");
