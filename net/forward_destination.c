/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The destination's end; see forward.h.
 *
 * Holding ends when the source has caught up, the fabric had SETTLE_US to learn and the stream has been silent for
 * QUIET_US: what is still on its way by the stream then would have to be older than frames that took the short way.
 * Whatever goes wrong, time ends it.
 *
 * A tap that takes no frame (it is full, or down for a moment) is asked again every TICK_US; a frame that it did not
 * take for WAIT_MAX_US is lost, and the log says what the kernel answered and in what state the tap was.
 *
 * What the tap got since the pause is seen by a packet socket that nobody reads unless the switch-over fails.
 */
#include <errno.h>
#include <net/if.h>
#include <stdio.h>
#include <string.h>

#include "lib/clock.h"
#include "lib/log.h"
#include "lib/text.h"
#include "net/carry.h"
#include "net/forward_internal.h"
#include "net/frame_queue.h"
#include "net/hold.h"
#include "net/netlink.h"

LOG_MODULE(forward);

enum {
    TICK_US = 1000,
    SETTLE_US = 4000, /* since the fabric was told */
    QUIET_US = 2000,
    HOLD_MAX_US = 500000,
    HOLD_RUNNING_US = 20000, /* the guest runs: rather out of order than late */
    EMPTY_MAX_US = 100000,
    WAIT_MAX_US = 500000,
    WAITING_BYTES = 16 * 1024 * 1024
};

enum stage { BEFORE, HOLDING, RELEASED, DONE };

struct destination_tap {
    char name[IFNAMSIZ];
    uint8_t mac[FRAME_MAC_SIZE];
    struct injector *injector;  /* NULL while there is no tap */
    struct frame_queue waiting; /* what the tap did not take yet */
    bool told;                  /* that it takes none */
    struct hold *hold;
    struct capture *capture; /* since the pause */
};

struct forward_destination {
    struct loop *loop;
    enum forward_mode mode;
    struct channel_listener *listener;
    struct channel *channel; /* NULL while the source is not connected */
    struct link_events *links;
    struct loop_timer *timer;
    char *uuid;
    struct destination_tap *taps;
    size_t n_taps;
    enum stage stage;
    bool caught_up, returning;
    bool is_taught;  /* a switch that is, before the fabric is told; that is said to us */
    int64_t told_us; /* the fabric; 0 = not yet */
    int64_t paused_us, last_frame_us, resumed_us, released_us;
    struct forward_counts counts;
    struct carry_destination *carry; /* NULL = not permitted */
    forward_carry_fn carry_fn;
    void *carry_aux;
    uint8_t buffer[CAPTURE_FRAME_MAX];
};

/* ---- taps ---- */

/* What was captured stays: a tap that went away may be the end of a failed switch-over. */
static void forget_tap(struct destination_tap *tap)
{
    hold_close(tap->hold);
    injector_close(tap->injector);
    tap->hold = NULL;
    tap->injector = NULL;
}

/* Fails as long as libvirt has not made the tap. What came meanwhile to a new one cannot be held any more. */
static void get_ready(struct forward_destination *d, struct destination_tap *tap)
{
    struct err e = ERR_INIT;

    if (!tap->injector && injector_open(&tap->injector, tap->name, &e) < 0) {
        log_err(LOG_LEVEL_DEBUG, &e, "%s", tap->name);
        return;
    }
    if (d->mode == FORWARD_HELD && d->stage == BEFORE && !tap->hold &&
        hold_open(&tap->hold, tap->name, &e) < 0)
        log_err(LOG_LEVEL_DEBUG, &e, "%s", tap->name);
}

static void tell_carry(const struct forward_destination *d, const struct destination_tap *tap)
{
    if (d->carry)
        carry_destination_tap(d->carry, tap->name, tap->injector != NULL);
}

static void link_changed(void *aux, const struct link *link)
{
    struct forward_destination *d = aux;

    for (size_t i = 0; i < d->n_taps; i++) {
        if (strcmp(d->taps[i].name, link->name) != 0)
            continue;
        if (link->gone)
            forget_tap(&d->taps[i]);
        else if (link->up)
            get_ready(d, &d->taps[i]);
        tell_carry(d, &d->taps[i]);
    }
}

static void link_lost(void *aux)
{
    struct forward_destination *d = aux;

    for (size_t i = 0; d->stage == BEFORE && i < d->n_taps; i++)
        get_ready(d, &d->taps[i]);
}

/* ---- forwarded frames into taps ---- */

static void tell_refusal(const struct forward_destination *d, struct destination_tap *tap,
                         int reason)
{
    _cleanup_(netlink_freep) struct netlink *nl = NULL;
    struct link link = {0};
    bool found = false;

    if (tap->told)
        return;
    tap->told = true;
    if (netlink_open(&nl, NULL) == 0)
        (void)netlink_link(nl, tap->name, &link, &found, NULL);
    log_warning(
        "migration %s: tap %s does not take forwarded frames now: %s (%s, index %d, %s, queue "
        "length %d)",
        d->uuid, tap->name, strerror(reason), found ? "there" : "not there", link.index,
        link.running ? "up"
        : link.up    ? "up without a carrier"
                     : "down",
        link.tx_queue_length);
}

/* 0, or why the tap did not take it. */
static int put(struct forward_destination *d, struct destination_tap *tap, const uint8_t *frame,
               size_t length)
{
    int reason = ENODEV;

    if (tap->injector && injector_put(tap->injector, frame, length)) {
        d->counts.forwarded++;
        return 0;
    }
    if (tap->injector)
        reason = errno;
    tell_refusal(d, tap, reason);
    return reason;
}

/* A frame that it does not like as such would only keep others waiting. */
static bool may_be_taken_later(int reason)
{
    return reason == ENOBUFS || reason == EAGAIN || reason == ENETDOWN || reason == ENODEV;
}

/* In order: behind what waits already. */
static void put_or_wait(struct forward_destination *d, struct destination_tap *tap,
                        const uint8_t *frame, size_t length)
{
    int reason = tap->waiting.first ? EAGAIN : put(d, tap, frame, length);

    if (reason == 0)
        return;
    d->counts.dropped += may_be_taken_later(reason)
                             ? frame_queue_add(&tap->waiting, frame, length, clock_monotonic_us())
                             : 1;
    loop_timer_arm(d->timer, TICK_US);
}

static void put_waiting(struct forward_destination *d, int64_t now)
{
    for (size_t i = 0; i < d->n_taps; i++) {
        struct frame_queue *waiting = &d->taps[i].waiting;
        while (waiting->first) {
            const struct queued_frame *f = waiting->first;
            int reason = put(d, &d->taps[i], f->data, f->length);
            if (may_be_taken_later(reason) && now - f->at_us < WAIT_MAX_US)
                break;
            d->counts.dropped += reason != 0;
            free(frame_queue_take(waiting));
        }
    }
}

static size_t count_waiting(const struct forward_destination *d)
{
    size_t count = 0;

    for (size_t i = 0; i < d->n_taps; i++)
        count += d->taps[i].waiting.count;
    return count;
}

/* ---- letting go ---- */

static void release(struct forward_destination *d, int64_t now, const char *why)
{
    struct err e = ERR_INIT;

    log_debug("migration %s: held frames follow %lld us after the pause: %s", d->uuid,
              (long long)(now - d->paused_us), why);
    for (size_t i = 0; i < d->n_taps; i++)
        if (d->taps[i].hold && hold_release(d->taps[i].hold, &e) < 0)
            log_err(LOG_LEVEL_DEBUG, &e, "%s", d->taps[i].name);
    d->stage = RELEASED;
    d->released_us = now;
}

static bool is_empty(const struct forward_destination *d)
{
    int64_t bytes, frames;

    for (size_t i = 0; i < d->n_taps; i++)
        if (d->taps[i].hold && hold_backlog(d->taps[i].hold, &bytes, &frames, NULL) == 0 &&
            frames > 0)
            return false;
    return true;
}

/* Everything that came to this host's tap since the pause goes to the guest at the source. */
static void give_back(struct forward_destination *d, struct destination_tap *tap)
{
    size_t length;
    int64_t at_us;

    while (tap->capture && capture_read(tap->capture, d->buffer, &length, &at_us) > 0) {
        if (capture_is_multicast(d->buffer))
            continue;
        if (d->channel && forward_send_frame(d->channel, tap->mac, d->buffer, length))
            d->counts.returned++;
        else
            d->counts.dropped++;
    }
}

static void finish(struct forward_destination *d)
{
    struct err e = ERR_INIT;

    for (size_t i = 0; i < d->n_taps; i++) {
        struct destination_tap *tap = &d->taps[i];
        if (tap->hold && hold_end(tap->hold, &e) < 0)
            log_err(LOG_LEVEL_DEBUG, &e, "%s", tap->name);
        if (d->returning)
            give_back(d, tap);
    }
    d->stage = d->returning ? BEFORE : DONE;
    if (d->returning)
        log_debug("migration %s: %llu frame(s) given back to the source", d->uuid,
                  (unsigned long long)d->counts.returned);
    d->returning = false;
}

/* Why what is held may follow now; NULL = not yet. */
static const char *may_release(const struct forward_destination *d, int64_t now)
{
    if (d->returning)
        return "the guest is back at the source";
    if (!d->channel)
        return "the stream ended";
    if (now - d->paused_us >= HOLD_MAX_US)
        return "the time is over";
    if (d->resumed_us && now - d->resumed_us >= HOLD_RUNNING_US)
        return "the guest runs";
    if (d->caught_up && count_waiting(d) == 0 && d->told_us && now - d->told_us >= SETTLE_US &&
        now - d->last_frame_us >= QUIET_US)
        return "older ones have come";
    return NULL;
}

static void tick(void *aux)
{
    struct forward_destination *d = aux;
    int64_t now = clock_monotonic_us();

    put_waiting(d, now);
    if (d->stage == HOLDING) {
        const char *why = may_release(d, now);
        if (why)
            release(d, now, why);
    } else if (d->stage == RELEASED && (is_empty(d) || now - d->released_us > EMPTY_MAX_US)) {
        finish(d);
    }
    if (d->stage == HOLDING || d->stage == RELEASED || count_waiting(d) > 0)
        loop_timer_arm(d->timer, TICK_US);
}

/* ---- the stream ---- */

static void opened(void *aux, struct channel *channel)
{
    struct forward_destination *d = aux;

    d->channel = channel;
    if (d->carry)
        carry_destination_channel(d->carry, channel);
    log_debug("migration %s: the source's stream is open", d->uuid);
}

static void put_frame(struct forward_destination *d, const uint8_t *data, size_t length)
{
    for (size_t i = 0; i < d->n_taps; i++) {
        struct destination_tap *tap = &d->taps[i];
        if (memcmp(tap->mac, data, FRAME_MAC_SIZE) != 0)
            continue;
        put_or_wait(d, tap, data + FRAME_MAC_SIZE, length - FRAME_MAC_SIZE);
        return;
    }
}

static void message(void *aux, uint8_t type, const uint8_t *data, size_t length)
{
    struct forward_destination *d = aux;

    if (type == FORWARD_FRAME && length >= FORWARD_FRAME_MIN) {
        d->last_frame_us = clock_monotonic_us();
        put_frame(d, data, length);
    } else if (type == FORWARD_CAUGHT_UP) {
        d->caught_up = true;
        d->counts.held = d->counts.forwarded + count_waiting(d);
    } else if (d->carry) {
        carry_destination_message(d->carry, type);
    }
}

static void closed(void *aux, const struct err *why)
{
    struct forward_destination *d = aux;

    d->channel = NULL;
    log_err(LOG_LEVEL_DEBUG, why, "migration %s: the source's stream", d->uuid);
    if (d->carry)
        carry_destination_channel(d->carry, NULL);
}

/* ---- from and to ---- */

static int add_tap(struct forward_destination *d, const struct net_port *port, struct err *e)
{
    struct destination_tap *tap = &d->taps[d->n_taps++];

    (void)snprintf(tap->name, sizeof(tap->name), "%s", port->tap);
    tap->waiting.limit = WAITING_BYTES;
    d->is_taught |= net_kind_is_taught(port->kind);
    return frame_parse_mac(port->mac, tap->mac, e);
}

int forward_destination_new(struct forward_destination **out, struct loop *loop,
                            struct channel_listener *listener, struct net_port *const *ports,
                            size_t count, enum forward_mode mode, const char *migration_uuid,
                            const char *key_hex, struct err *e)
{
    static const struct link_events_fns link_fns = {link_changed, link_lost};
    static const struct channel_fns channel_fns = {opened, message, closed};
    _cleanup_(forward_destination_freep) struct forward_destination *d =
        NEW(struct forward_destination);

    d->loop = loop;
    d->mode = mode;
    d->uuid = text_dup(migration_uuid);
    d->timer = loop_timer_new(loop, "held frames", tick, d);
    d->taps = NEW_ARRAY(struct destination_tap, count);
    for (size_t i = 0; i < count; i++)
        if (add_tap(d, ports[i], e) < 0)
            return -1;
    if (link_events_new(&d->links, loop, &link_fns, d, e) < 0 ||
        channel_expect(listener, migration_uuid, key_hex, &channel_fns, d, e) < 0)
        return -1;
    d->listener = listener;
    link_lost(d); /* after a restart they are there already */
    *out = STEAL(d);
    return 0;
}

void forward_destination_detach(struct forward_destination *destination)
{
    if (destination->listener)
        channel_forget(destination->listener, destination->uuid);
    link_events_free(destination->links);
    loop_timer_free(destination->timer);
    destination->listener = NULL;
    destination->links = NULL;
    destination->timer = NULL;
    if (destination->carry)
        carry_destination_detach(destination->carry);
}

void forward_destination_free(struct forward_destination *destination)
{
    if (!destination)
        return;
    forward_destination_detach(destination);
    carry_destination_free(destination->carry);
    for (size_t i = 0; i < destination->n_taps; i++) {
        forget_tap(&destination->taps[i]);
        capture_close(destination->taps[i].capture);
        frame_queue_clear(&destination->taps[i].waiting);
    }
    free(destination->taps);
    free(destination->uuid);
    free(destination);
}

/* ---- the switch-over ---- */

static void begin_holding(struct forward_destination *d)
{
    struct err e = ERR_INIT;

    for (size_t i = 0; i < d->n_taps; i++)
        if (d->taps[i].hold && hold_begin(d->taps[i].hold, &e) < 0)
            log_err(LOG_LEVEL_DEBUG, &e, "%s", d->taps[i].name);
}

bool forward_destination_paused(struct forward_destination *destination)
{
    struct forward_destination *d = destination;
    struct err e = ERR_INIT;

    if (d->carry && carry_destination_paused(d->carry))
        return false;
    if (d->stage != BEFORE || !d->channel)
        return false; /* the signal comes more than once; and without the stream nothing older can come */
    d->paused_us = d->last_frame_us = clock_monotonic_us();
    d->told_us = d->is_taught ? 0 : d->paused_us;
    d->resumed_us = 0;
    begin_holding(d);
    for (size_t i = 0; i < d->n_taps; i++) {
        struct destination_tap *tap = &d->taps[i];
        if (!tap->capture && tap->injector && capture_open(&tap->capture, tap->name, &e) < 0)
            log_err(LOG_LEVEL_DEBUG, &e, "%s", tap->name);
    }
    d->stage = HOLDING;
    loop_timer_arm(d->timer, TICK_US);
    return true;
}

void forward_destination_told(struct forward_destination *destination)
{
    if (destination->stage == HOLDING && !destination->told_us)
        destination->told_us = clock_monotonic_us();
}

void forward_destination_resumed(struct forward_destination *destination)
{
    destination->resumed_us = clock_monotonic_us();
    /* closing a packet socket takes some 10 ms; that has time */
    for (size_t i = 0; i < destination->n_taps; i++)
        if (destination->taps[i].capture)
            (void)capture_set_paused(destination->taps[i].capture, true, NULL);
}

void forward_destination_reverted(struct forward_destination *destination)
{
    struct forward_destination *d = destination;

    d->caught_up = false;
    if (d->carry)
        carry_destination_reverted(d->carry);
    for (size_t i = 0; i < d->n_taps; i++)
        frame_queue_clear(&d->taps[i].waiting); /* the guest finds them at the source */
    if (d->stage == BEFORE)
        return;
    d->returning = true;
    if (d->stage == DONE)
        finish(d);
}

void forward_destination_counts(const struct forward_destination *destination,
                                struct forward_counts *out)
{
    *out = destination->counts;
    out->dropped += count_waiting(destination);
    if (destination->carry)
        carry_destination_counts(destination->carry, out);
}

/* ---- a port that is wired late ---- */

static void carry_holds(void *aux)
{
    begin_holding(aux);
}

/* As after the guest's resume: older frames may still come by the stream, and what is held follows soon. */
static void carry_turned(void *aux, bool wired, const char *why)
{
    struct forward_destination *d = aux;

    d->paused_us = d->last_frame_us = d->resumed_us = d->told_us = clock_monotonic_us();
    d->stage = HOLDING;
    loop_timer_arm(d->timer, TICK_US);
    d->carry_fn(d->carry_aux, FORWARD_CARRY_TURNED, wired, why);
}

static void carry_ended(void *aux)
{
    struct forward_destination *d = aux;

    d->carry_fn(d->carry_aux, FORWARD_CARRY_ENDED, false, NULL);
}

void forward_destination_may_carry(struct forward_destination *destination, int64_t limit_us,
                                   forward_carry_fn fn, void *aux)
{
    static const struct carry_hooks hooks = {carry_holds, carry_turned, carry_ended};
    struct forward_destination *d = destination;

    d->carry_fn = fn;
    d->carry_aux = aux;
    d->carry = carry_destination_new(d->loop, d->uuid, limit_us, &hooks, d);
    for (size_t i = 0; i < d->n_taps; i++)
        carry_destination_add(d->carry, d->taps[i].name, d->taps[i].mac);
    for (size_t i = 0; i < d->n_taps; i++)
        tell_carry(d, &d->taps[i]);
    if (d->channel)
        carry_destination_channel(d->carry, d->channel);
}

void forward_destination_way(struct forward_destination *destination, bool has_way)
{
    if (destination->carry)
        carry_destination_way(destination->carry, has_way);
}

bool forward_destination_is_carrying(const struct forward_destination *destination)
{
    return destination->carry && carry_destination_is_active(destination->carry);
}

void forward_destination_give_up(struct forward_destination *destination)
{
    if (destination->carry)
        carry_destination_give_up(destination->carry);
}
