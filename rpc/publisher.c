/* SPDX-License-Identifier: Apache-2.0 */
#include "rpc/publisher.h"

#include <string.h>

#include "lib/clock.h"
#include "lib/metrics.h"
#include "lib/text.h"
#include "lib/vector.h"

enum {
    CHANNEL_PUBLISH = 1,
    CHANNEL_DECLARE = 2, /* a refused exchange must not take the messages' channel with it */
    IN_FLIGHT_MAX = 256,
    SEND_BUDGET = 32, /* messages, before confirms are read */
    LATE_US = 1000000 /* a message that waited longer has its expiration shortened */
};

/* Messages in order, linked by their letter. */
struct queue {
    struct letter *first, **end;
    size_t length;
};

DEFINE_VECTOR(exchange_list, char *)

struct publisher {
    struct bus_setup *setup;
    struct mailbox *inbox;
    struct state_reporter reporter;
    struct session *session;
    atomic_bool sweep;
    struct queue waiting, in_flight; /* in_flight in order of `sequence` */
    uint64_t sequence;               /* of the last message on the channel */
    size_t suspects;                 /* of a closed channel; they go one at a time */
    bool is_open, can_declare;       /* the two channels */
    bool is_blocked;
    struct exchange_list declared; /* on this session */
};

/* --- queues ------------------------------------------------------------------------------------- */

static void queue_init(struct queue *q)
{
    *q = (struct queue){.end = &q->first};
}

static void queue_add(struct queue *q, struct outgoing *o)
{
    o->letter.next = NULL;
    *q->end = &o->letter;
    q->end = &o->letter.next;
    q->length++;
}

/* Cuts out what `at` points to. */
static struct outgoing *queue_cut(struct queue *q, struct letter **at)
{
    struct letter *letter = *at;

    *at = letter->next;
    if (q->end == &letter->next)
        q->end = at;
    q->length--;
    return (struct outgoing *)letter;
}

/* Puts all of `from` before what `to` has. */
static void queue_prepend(struct queue *to, struct queue *from)
{
    if (!from->first)
        return;
    *from->end = to->first;
    if (!to->first)
        to->end = from->end;
    to->first = from->first;
    to->length += from->length;
    queue_init(from);
}

static void finish(struct publisher *p, struct outgoing *o, enum bus_outcome outcome)
{
    o->outcome = outcome;
    o->letter.kind = LETTER_OUTCOME;
    mailbox_post(p->setup->outbox, &o->letter);
}

/* --- life --------------------------------------------------------------------------------------- */

struct publisher *publisher_new(struct bus_setup *setup, struct mailbox *inbox)
{
    struct publisher *p = NEW(struct publisher);

    p->setup = bus_setup_ref(setup);
    p->inbox = mailbox_ref(inbox);
    p->reporter = (struct state_reporter){.setup = setup, .role = BUS_PUBLISHER};
    queue_init(&p->waiting);
    queue_init(&p->in_flight);
    return p;
}

void publisher_sweep(struct publisher *publisher)
{
    atomic_store(&publisher->sweep, true);
    mailbox_wake(publisher->inbox);
}

static void forget_exchanges(struct publisher *p)
{
    for (size_t i = 0; i < p->declared.length; i++)
        free(p->declared.items[i]);
    p->declared.length = 0;
}

/* What was sent and not confirmed goes to the front again. */
static void take_back(struct publisher *p)
{
    for (struct letter *l = p->in_flight.first; l; l = l->next)
        ((struct outgoing *)l)->returned = false;
    queue_prepend(&p->waiting, &p->in_flight);
    p->is_open = false;
    atomic_store(&p->sweep, true);
}

static void publisher_lost(void *aux, const char *why)
{
    struct publisher *p = aux;

    p->session = NULL;
    p->suspects = 0;
    p->is_blocked = p->can_declare = false;
    take_back(p);
    forget_exchanges(p);
    state_report(&p->reporter, false, "", why);
}

static void publisher_free(void *aux)
{
    struct publisher *p = aux;

    take_back(p);
    while (p->waiting.first)
        finish(p, queue_cut(&p->waiting, &p->waiting.first), BUS_REFUSED);
    forget_exchanges(p);
    free(p->declared.items);
    mailbox_unref(p->inbox);
    bus_setup_unref(p->setup);
    free(p);
}

/* --- channels and exchanges --------------------------------------------------------------------- */

static enum session_end open_channel(struct publisher *p, struct err *e)
{
    if (p->is_open)
        return SESSION_OK;
    p->sequence = 0;
    if (session_channel_open(p->session, CHANNEL_PUBLISH, e) != SESSION_OK ||
        session_confirm_select(p->session, CHANNEL_PUBLISH, e) != SESSION_OK)
        return SESSION_DEAD;
    p->is_open = true;
    return SESSION_OK;
}

static enum session_end publisher_ready(void *aux, struct session *session, struct err *e)
{
    struct publisher *p = aux;

    p->session = session;
    if (open_channel(p, e) != SESSION_OK)
        return SESSION_DEAD;
    if (!p->is_blocked)
        state_report(&p->reporter, true, session_broker(session), NULL);
    return SESSION_OK;
}

/*
 * As oslo.messaging does, an exchange is declared before the first message to it. One that stands there
 * with other flags can be published to all the same, so a refusal is left to those who consume.
 */
static enum session_end declare_exchange(struct publisher *p, const char *name, struct err *e)
{
    struct topology_exchange exchange;
    enum session_end end = SESSION_OK;

    for (size_t i = 0; i < p->declared.length; i++)
        if (text_equal(p->declared.items[i], name))
            return SESSION_OK;
    if (!topology_publish_exchange(p->setup->options, name, &exchange))
        return SESSION_OK;
    if (!p->can_declare)
        end = session_channel_open(p->session, CHANNEL_DECLARE, e);
    if (end == SESSION_OK) {
        end = session_declare_exchange(p->session, CHANNEL_DECLARE, &exchange, e);
        p->can_declare = end == SESSION_OK;
    }
    if (end == SESSION_DEAD)
        return SESSION_DEAD;
    err_clear(e);
    *exchange_list_add(&p->declared) = text_dup(name);
    return SESSION_OK;
}

/* --- sending ------------------------------------------------------------------------------------ */

static int64_t expiration_ms(const struct outgoing *o, int64_t now_us)
{
    const struct bus_message *m = &o->message;
    int64_t left_ms = (m->deadline_us - now_us) / USEC_PER_MSEC;

    if (m->expiration_ms == 0 || m->deadline_us == 0 || now_us - o->queued_us < LATE_US)
        return m->expiration_ms;
    if (left_ms < 1)
        return 1;
    return left_ms < m->expiration_ms ? left_ms : m->expiration_ms;
}

static enum session_end send_first(struct publisher *p, int64_t now_us, struct err *e)
{
    struct outgoing *o = (struct outgoing *)p->waiting.first;
    const struct bus_message *m = &o->message;

    if (declare_exchange(p, m->exchange, e) == SESSION_DEAD)
        return SESSION_DEAD;
    /* Declaring reads frames: the channel may be gone, the broker may have blocked us. */
    if (!p->is_open || p->is_blocked)
        return SESSION_OK;
    queue_cut(&p->waiting, &p->waiting.first);
    o->sequence = ++p->sequence;
    o->returned = false;
    queue_add(&p->in_flight, o);
    return session_publish(p->session, CHANNEL_PUBLISH, m->exchange, m->routing_key, m->mandatory,
                           expiration_ms(o, now_us), m->body, m->body_length, e);
}

/* `sweep` is set after `expired`, so one pass over all finds those that it is about. */
static void drop_expired(struct publisher *p)
{
    struct letter **at = &p->waiting.first;

    if (!atomic_exchange(&p->sweep, false))
        return;
    while (*at) {
        if (atomic_load(&((struct outgoing *)*at)->expired))
            finish(p, queue_cut(&p->waiting, at), BUS_EXPIRED);
        else
            at = &(*at)->next;
    }
}

static void take_letters(struct publisher *p)
{
    struct letter *letter = mailbox_take(p->inbox);

    while (letter) {
        struct letter *next = letter->next;

        if (letter->kind == LETTER_PUBLISH)
            queue_add(&p->waiting, (struct outgoing *)letter);
        else
            letter->drop(letter);
        letter = next;
    }
}

static bool may_send(const struct publisher *p)
{
    return p->waiting.first && p->is_open && !p->is_blocked &&
           p->in_flight.length < (p->suspects ? 1 : IN_FLIGHT_MAX);
}

static enum session_end publisher_work(void *aux, struct session *session, int64_t now_us,
                                       int64_t *next_us, struct err *e)
{
    struct publisher *p = aux;

    take_letters(p);
    drop_expired(p);
    if (!session)
        return SESSION_OK;
    if (open_channel(p, e) == SESSION_DEAD)
        return SESSION_DEAD;
    for (int i = 0; i < SEND_BUDGET && may_send(p); i++)
        if (send_first(p, now_us, e) == SESSION_DEAD)
            return SESSION_DEAD;
    if (may_send(p) || (p->waiting.first && !p->is_open))
        *next_us = now_us;
    return SESSION_OK;
}

/* --- what the broker says ----------------------------------------------------------------------- */

static void end_one(struct publisher *p, struct letter **at, bool ack)
{
    struct outgoing *o = queue_cut(&p->in_flight, at);

    if (p->suspects)
        p->suspects--;
    finish(p, o, o->returned ? BUS_UNROUTABLE : ack ? BUS_CONFIRMED : BUS_REFUSED);
}

static void on_confirm(void *aux, uint16_t channel, uint64_t tag, bool multiple, bool ack)
{
    struct publisher *p = aux;
    struct letter **at = &p->in_flight.first;

    if (channel != CHANNEL_PUBLISH)
        return;
    while (*at) {
        uint64_t sequence = ((struct outgoing *)*at)->sequence;

        if (sequence > tag)
            return;
        if (multiple || sequence == tag)
            end_one(p, at, ack);
        else
            at = &(*at)->next;
    }
}

/* A return does not say which message it is: the body does, which holds a `_unique_id`. */
static void on_returned(void *aux, uint16_t channel, struct session_message *m)
{
    struct publisher *p = aux;

    (void)channel;
    for (struct letter *l = p->in_flight.first; l; l = l->next) {
        struct outgoing *o = (struct outgoing *)l;

        if (o->message.mandatory && !o->returned && m->body &&
            o->message.body_length == m->length &&
            text_equal(o->message.routing_key, m->routing_key) &&
            memcmp(o->message.body, m->body, m->length) == 0) {
            o->returned = true;
            return;
        }
    }
}

/*
 * It was alone on the channel. An exchange may have been deleted with its last queue since it was
 * declared: it is declared once more then.
 */
static void convict(struct publisher *p, struct outgoing *o, int code)
{
    if (code == AMQP_NOT_FOUND && !o->tried_twice) {
        o->tried_twice = true;
        return;
    }
    finish(p, queue_cut(&p->in_flight, &p->in_flight.first),
           code == AMQP_NOT_FOUND ? BUS_UNROUTABLE : BUS_REFUSED);
}

static void on_channel_lost(void *aux, uint16_t channel, int code, const char *text)
{
    struct publisher *p = aux;

    (void)text;
    if (channel == CHANNEL_DECLARE)
        p->can_declare = false;
    if (channel != CHANNEL_PUBLISH || code == 0)
        return;
    if (p->in_flight.length == 1)
        convict(p, (struct outgoing *)p->in_flight.first, code);
    p->suspects = p->in_flight.length;
    take_back(p);
    forget_exchanges(p);
}

static void on_blocked(void *aux, bool blocked, const char *reason)
{
    struct publisher *p = aux;

    if (blocked && !p->is_blocked)
        metric_inc(METRIC_RPC_BLOCKED);
    p->is_blocked = blocked;
    if (blocked) {
        _cleanup_(str_freep) char *why = text_format("the broker accepts no messages: %s", reason);

        state_report(&p->reporter, false, p->session ? session_broker(p->session) : "", why);
    } else if (p->session) {
        state_report(&p->reporter, true, session_broker(p->session), NULL);
    }
}

static void on_deliver(void *aux, uint16_t channel, struct session_message *m)
{
    (void)aux;
    (void)channel;
    (void)m; /* this connection consumes nothing */
}

/* Confirms must be read whatever the loop does: they free memory. */
static bool publisher_paused(void *aux)
{
    (void)aux;
    return false;
}

static bool publisher_idle(void *aux)
{
    const struct publisher *p = aux;

    return !p->waiting.first && !p->in_flight.first && mailbox_length(p->inbox) == 0;
}

static void publisher_leaving(void *aux, struct session *session)
{
    (void)aux;
    (void)session;
}

static const struct session_handler handler = {.deliver = on_deliver,
                                               .returned = on_returned,
                                               .confirm = on_confirm,
                                               .channel_lost = on_channel_lost,
                                               .blocked = on_blocked};

const struct connection_role publisher_role = {.name = "publish",
                                               .handler = &handler,
                                               .ready = publisher_ready,
                                               .work = publisher_work,
                                               .paused = publisher_paused,
                                               .idle = publisher_idle,
                                               .leaving = publisher_leaving,
                                               .lost = publisher_lost,
                                               .free = publisher_free};
