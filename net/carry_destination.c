/* SPDX-License-Identifier: Apache-2.0 */
/* The destination's end; see carry.h. */
#include <net/if.h>
#include <stdio.h>
#include <sys/epoll.h>

#include "lib/clock.h"
#include "lib/log.h"
#include "lib/text.h"
#include "net/barrier.h"
#include "net/carry.h"
#include "net/forward_internal.h"

LOG_MODULE(forward);

enum {
    PORTS_MAX = 64,
    FRAMES_A_TURN = 512,
    ROUNDS = 16,
    SETTLE_US =
        50000,       /* a switch that was told of the port's way may not have done all of it yet */
    CUT_US = 300000, /* for the marks */
    LINGER_US = 1000000, /* the source sends what still reaches it */
};

enum stage { IDLE, READY, CARRYING, SETTLING, CUTTING, TURNED, ENDED };

struct carried_tap {
    struct carry_destination *carry;
    char name[IFNAMSIZ];
    uint8_t mac[FRAME_MAC_SIZE];
    bool there;
    struct barrier *barrier;
    struct loop_source *readable;
};

struct carry_destination {
    struct loop *loop;
    char *uuid;
    int64_t limit_us, since_us;
    struct carry_hooks hooks;
    void *aux;
    struct channel *channel;
    struct loop_timer *timer;
    struct carried_tap taps[PORTS_MAX];
    size_t n_taps;
    enum stage stage;
    bool source_can, has_way, refused, paused;
    unsigned rounds;
    struct forward_counts counts;
    uint8_t buffer[CAPTURE_FRAME_MAX];
};

/* ---- the guest's frames ---- */

static bool tell(struct carry_destination *c, enum forward_message type, uint8_t value)
{
    const struct iovec part = {&value, 1};

    return c->channel && channel_send(c->channel, (uint8_t)type, &part, type == FORWARD_WAY);
}

static void send_frame(struct carried_tap *tap, size_t length)
{
    struct carry_destination *c = tap->carry;

    if (!forward_is_from(c->buffer, length, tap->mac))
        c->counts.foreign++;
    else if (c->channel &&
             forward_send(c->channel, FORWARD_GUEST_FRAME, tap->mac, c->buffer, length))
        c->counts.carried++;
    else
        c->counts.dropped++;
}

static size_t pump(struct carried_tap *tap)
{
    size_t length, sent = 0;

    while (sent < FRAMES_A_TURN && tap->barrier &&
           barrier_read(tap->barrier, tap->carry->buffer, &length)) {
        send_frame(tap, length);
        sent++;
    }
    return sent;
}

static size_t pump_all(struct carry_destination *c)
{
    size_t sent = 0;

    for (size_t i = 0; i < c->n_taps; i++)
        sent += pump(&c->taps[i]);
    return sent;
}

static void readable(void *aux, uint32_t events _unused_)
{
    (void)pump(aux);
}

/* ---- the barriers ---- */

static void lower(struct carry_destination *c)
{
    for (size_t i = 0; i < c->n_taps; i++) {
        if (c->taps[i].barrier)
            barrier_lower(c->taps[i].barrier);
    }
}

static void take_down(struct carry_destination *c)
{
    for (size_t i = 0; i < c->n_taps; i++) {
        loop_source_free(c->taps[i].readable);
        c->taps[i].readable = NULL;
        barrier_free(c->taps[i].barrier);
        c->taps[i].barrier = NULL;
    }
}

static int raise_one(struct carried_tap *tap, struct err *e)
{
    if (barrier_raise(&tap->barrier, tap->name, e) < 0)
        return -1;
    tap->readable = loop_add_fd(tap->carry->loop, barrier_fd(tap->barrier), EPOLLIN,
                                "frames of the guest", readable, tap, e);
    return tap->readable ? 0 : -1;
}

static bool are_there(const struct carry_destination *c)
{
    for (size_t i = 0; i < c->n_taps; i++)
        if (!c->taps[i].there)
            return false;
    return c->n_taps > 0;
}

/* All or none. */
static void make_ready(struct carry_destination *c)
{
    struct err e = ERR_INIT;

    for (size_t i = 0; i < c->n_taps; i++) {
        if (raise_one(&c->taps[i], &e) == 0)
            continue;
        log_err(LOG_LEVEL_WARNING, &e, "migration %s: frames cannot be carried", c->uuid);
        take_down(c);
        c->refused = true;
        return;
    }
    c->stage = READY;
    log_debug("migration %s: no way out of this host yet, the source's is kept", c->uuid);
    (void)tell(c, FORWARD_WAY, FORWARD_WAY_NONE);
}

/* ---- the cut-over ---- */

static void end(struct carry_destination *c)
{
    take_down(c);
    c->stage = ENDED;
    c->hooks.ended(c->aux);
}

static void turn(struct carry_destination *c, const char *why)
{
    lower(c);
    (void)pump_all(c); /* what came in between still goes the way of the older ones */
    (void)tell(c, FORWARD_WAY, c->has_way ? FORWARD_WAY_WIRED : FORWARD_WAY_GIVEN_UP);
    c->counts.carried_us = clock_monotonic_us() - c->since_us;
    c->stage = TURNED;
    loop_timer_arm(c->timer, c->channel ? LINGER_US : 0);
    c->hooks.turned(c->aux, c->has_way, why);
}

static void stop_reading(struct carry_destination *c)
{
    for (size_t i = 0; i < c->n_taps; i++)
        if (c->taps[i].readable)
            (void)loop_source_set_events(c->taps[i].readable, 0, NULL);
}

static void cut(struct carry_destination *c, const char *why)
{
    c->stage = CUTTING;
    c->rounds = 0;
    stop_reading(c);
    (void)pump_all(c);
    c->hooks.hold(c->aux);
    loop_timer_arm(c->timer, CUT_US);
    if (!tell(c, FORWARD_MARK, 0))
        turn(c, why);
}

/* All that was sent before has left the source. */
static void marked(struct carry_destination *c)
{
    if (c->stage != CUTTING)
        return;
    if (pump_all(c) > 0 && ++c->rounds < ROUNDS && tell(c, FORWARD_MARK, 0))
        return;
    turn(c, c->has_way ? "the port is wired" : "the time is over");
}

static void due(void *aux)
{
    struct carry_destination *c = aux;

    if (c->stage == CARRYING)
        cut(c, "the time is over");
    else if (c->stage == SETTLING)
        cut(c, "the port is wired");
    else if (c->stage == CUTTING)
        turn(c, c->has_way ? "the port is wired; the source is slow" : "the time is over");
    else if (c->stage == TURNED)
        end(c);
}

static void go_on(struct carry_destination *c)
{
    int64_t left_us = c->since_us + c->limit_us - clock_monotonic_us();

    c->stage = CARRYING;
    loop_timer_arm(c->timer, left_us > 0 ? left_us : 0);
}

/* Does what the facts want now. */
static void review(struct carry_destination *c)
{
    bool possible = c->channel && c->source_can && are_there(c);

    if (c->stage == IDLE && possible && !c->has_way && !c->refused && !c->paused) {
        make_ready(c);
    } else if (c->stage == READY && (!possible || c->has_way)) {
        c->stage = IDLE;
        take_down(c);
        (void)tell(c, FORWARD_WAY, c->has_way ? FORWARD_WAY_WIRED : FORWARD_WAY_GIVEN_UP);
    } else if (carry_destination_is_active(c) && !possible) {
        turn(c, c->channel ? "the guest's tap is gone" : "the stream from the source ended");
    } else if (c->stage == CARRYING && c->has_way) {
        c->stage = SETTLING;
        loop_timer_arm(c->timer, SETTLE_US);
    } else if (c->stage == SETTLING && !c->has_way) {
        go_on(c);
    }
}

/* ---- what happens ---- */

void carry_destination_way(struct carry_destination *c, bool has_way)
{
    c->has_way = has_way;
    review(c);
}

void carry_destination_channel(struct carry_destination *c, struct channel *channel)
{
    c->channel = channel;
    c->source_can = false; /* a new stream says it anew */
    review(c);
}

void carry_destination_message(struct carry_destination *c, uint8_t type)
{
    if (type == FORWARD_CARRIES) {
        c->source_can = true;
        review(c);
    } else if (type == FORWARD_MARK) {
        marked(c);
    }
}

void carry_destination_tap(struct carry_destination *c, const char *tap, bool there)
{
    for (size_t i = 0; i < c->n_taps; i++)
        if (text_equal(c->taps[i].name, tap))
            c->taps[i].there = there;
    review(c);
}

bool carry_destination_paused(struct carry_destination *c)
{
    c->paused = true; /* a barrier that was raised now would cut the guest off */
    if (c->stage == READY) {
        c->since_us = clock_monotonic_us();
        go_on(c);
    }
    return carry_destination_is_active(c);
}

void carry_destination_reverted(struct carry_destination *c)
{
    c->paused = false;
    if (carry_destination_is_active(c)) {
        loop_timer_disarm(c->timer);
        take_down(c);
        c->stage = IDLE;
    }
    review(c);
}

void carry_destination_give_up(struct carry_destination *c)
{
    if (carry_destination_is_active(c))
        turn(c, "it was given up");
}

bool carry_destination_is_active(const struct carry_destination *c)
{
    return c->stage == CARRYING || c->stage == SETTLING || c->stage == CUTTING;
}

void carry_destination_counts(const struct carry_destination *c, struct forward_counts *out)
{
    out->carried += c->counts.carried;
    out->foreign += c->counts.foreign;
    out->dropped += c->counts.dropped;
    out->carried_us =
        carry_destination_is_active(c) ? clock_monotonic_us() - c->since_us : c->counts.carried_us;
}

/* ---- from and to ---- */

struct carry_destination *carry_destination_new(struct loop *loop, const char *migration_uuid,
                                                int64_t limit_us, const struct carry_hooks *hooks,
                                                void *aux)
{
    struct carry_destination *c = NEW(struct carry_destination);

    c->loop = loop;
    c->uuid = text_dup(migration_uuid);
    c->limit_us = limit_us;
    c->hooks = *hooks;
    c->aux = aux;
    c->has_way = true; /* until somebody who looked says otherwise */
    c->timer = loop_timer_new(loop, "carried frames", due, c);
    return c;
}

void carry_destination_add(struct carry_destination *c, const char *tap,
                           const uint8_t mac[FRAME_MAC_SIZE])
{
    if (c->n_taps == PORTS_MAX) {
        c->refused = true;
        return;
    }
    struct carried_tap *t = &c->taps[c->n_taps++];
    t->carry = c;
    (void)snprintf(t->name, sizeof(t->name), "%s", tap);
    memcpy(t->mac, mac, FRAME_MAC_SIZE);
}

void carry_destination_detach(struct carry_destination *c)
{
    loop_timer_free(c->timer);
    c->timer = NULL;
    for (size_t i = 0; i < c->n_taps; i++) {
        loop_source_free(c->taps[i].readable);
        c->taps[i].readable = NULL;
    }
    lower(c);
}

void carry_destination_free(struct carry_destination *c)
{
    if (!c)
        return;
    carry_destination_detach(c);
    take_down(c);
    free(c->uuid);
    free(c);
}
