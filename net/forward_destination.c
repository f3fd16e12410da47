/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The destination's end; see forward.h.
 *
 * Holding ends when the source has caught up, the fabric had SETTLE_US to learn and the stream has been silent for
 * QUIET_US: what is still on its way by the stream then would have to be older than frames that took the short way.
 * Whatever goes wrong, time ends it.
 *
 * What the tap got since the pause is seen by a packet socket that nobody reads unless the switch-over fails.
 */
#include <net/if.h>
#include <stdio.h>

#include "lib/clock.h"
#include "lib/log.h"
#include "lib/text.h"
#include "net/forward_internal.h"
#include "net/hold.h"
#include "net/netlink.h"

LOG_MODULE(forward);

enum {
    TICK_US = 1000,
    SETTLE_US = 4000,
    QUIET_US = 2000,
    HOLD_MAX_US = 500000,
    HOLD_RUNNING_US = 20000, /* the guest runs: rather out of order than late */
    EMPTY_MAX_US = 100000
};

enum stage { BEFORE, HOLDING, RELEASED, DONE };

struct destination_tap {
    char name[IFNAMSIZ];
    uint8_t mac[FRAME_MAC_SIZE];
    struct injector *injector; /* NULL while there is no tap */
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
    int64_t paused_us, last_frame_us, resumed_us, released_us;
    struct forward_counts counts;
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

/* Fails as long as libvirt has not made the tap. */
static void get_ready(struct forward_destination *d, struct destination_tap *tap)
{
    struct err e = ERR_INIT;

    if (!tap->injector && injector_open(&tap->injector, tap->name, &e) < 0) {
        log_err(LOG_LEVEL_DEBUG, &e, "%s", tap->name);
        return;
    }
    if (d->mode == FORWARD_HELD && !tap->hold && hold_open(&tap->hold, tap->name, &e) < 0)
        log_err(LOG_LEVEL_DEBUG, &e, "%s", tap->name);
}

static void link_changed(void *aux, const struct link *link)
{
    struct forward_destination *d = aux;

    for (size_t i = 0; i < d->n_taps; i++) {
        if (strcmp(d->taps[i].name, link->name) != 0)
            continue;
        if (link->gone)
            forget_tap(&d->taps[i]);
        else if (link->up && d->stage == BEFORE)
            get_ready(d, &d->taps[i]);
    }
}

static void link_lost(void *aux)
{
    struct forward_destination *d = aux;

    for (size_t i = 0; d->stage == BEFORE && i < d->n_taps; i++)
        get_ready(d, &d->taps[i]);
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
    if (d->caught_up && now - d->paused_us >= SETTLE_US && now - d->last_frame_us >= QUIET_US)
        return "older ones have come";
    return NULL;
}

static void tick(void *aux)
{
    struct forward_destination *d = aux;
    int64_t now = clock_monotonic_us();

    if (d->stage == HOLDING) {
        const char *why = may_release(d, now);
        if (why)
            release(d, now, why);
    } else if (d->stage == RELEASED && (is_empty(d) || now - d->released_us > EMPTY_MAX_US)) {
        finish(d);
    }
    if (d->stage == HOLDING || d->stage == RELEASED)
        loop_timer_arm(d->timer, TICK_US);
}

/* ---- the stream ---- */

static void opened(void *aux, struct channel *channel)
{
    struct forward_destination *d = aux;

    d->channel = channel;
    log_debug("migration %s: the source's stream is open", d->uuid);
}

static void put_frame(struct forward_destination *d, const uint8_t *data, size_t length)
{
    for (size_t i = 0; i < d->n_taps; i++) {
        struct destination_tap *tap = &d->taps[i];
        if (memcmp(tap->mac, data, FRAME_MAC_SIZE) != 0)
            continue;
        if (tap->injector &&
            injector_put(tap->injector, data + FRAME_MAC_SIZE, length - FRAME_MAC_SIZE))
            d->counts.forwarded++;
        else
            d->counts.dropped++;
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
        d->counts.held = d->counts.forwarded;
    }
}

static void closed(void *aux, const struct err *why)
{
    struct forward_destination *d = aux;

    d->channel = NULL;
    log_err(LOG_LEVEL_DEBUG, why, "migration %s: the source's stream", d->uuid);
}

/* ---- from and to ---- */

static int add_tap(struct forward_destination *d, const struct net_port *port, struct err *e)
{
    struct destination_tap *tap = &d->taps[d->n_taps++];

    (void)snprintf(tap->name, sizeof(tap->name), "%s", port->tap);
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
}

void forward_destination_free(struct forward_destination *destination)
{
    if (!destination)
        return;
    forward_destination_detach(destination);
    for (size_t i = 0; i < destination->n_taps; i++) {
        forget_tap(&destination->taps[i]);
        capture_close(destination->taps[i].capture);
    }
    free(destination->taps);
    free(destination->uuid);
    free(destination);
}

/* ---- the switch-over ---- */

void forward_destination_paused(struct forward_destination *destination)
{
    struct forward_destination *d = destination;
    struct err e = ERR_INIT;

    if (d->stage != BEFORE || !d->channel)
        return; /* the signal comes more than once; and without the stream nothing older can come */
    d->paused_us = d->last_frame_us = clock_monotonic_us();
    d->resumed_us = 0;
    for (size_t i = 0; i < d->n_taps; i++) {
        struct destination_tap *tap = &d->taps[i];
        if (tap->hold && hold_begin(tap->hold, &e) < 0)
            log_err(LOG_LEVEL_DEBUG, &e, "%s", tap->name);
        if (!tap->capture && tap->injector && capture_open(&tap->capture, tap->name, &e) < 0)
            log_err(LOG_LEVEL_DEBUG, &e, "%s", tap->name);
    }
    d->stage = HOLDING;
    loop_timer_arm(d->timer, TICK_US);
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
}
