/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The source's end; see forward.h.
 *
 * Before the pause a tap's frames are only kept, and looked through every LOOK_US while there are any: what QEMU has
 * taken meanwhile is forgotten. Two counts tell how many that are: the frames that we saw and the packets that were
 * read from the tap. They do not begin at the same moment, so their difference has an unknown constant; it is the
 * smallest difference ever seen, since a guest that runs empties its tap. What the tap's full queue refused was seen
 * and never read: it is taken off, up to the last look before the pause.
 *
 * A QEMU that stops reads one more frame, or two, which it loses with its queue. So those that came just before the
 * unread ones go too: rather twice than not at all.
 */
#include <net/if.h>
#include <openssl/crypto.h>
#include <stdio.h>
#include <sys/epoll.h>

#include "lib/clock.h"
#include "lib/log.h"
#include "lib/text.h"
#include "net/carry.h"
#include "net/forward_internal.h"
#include "net/frame_queue.h"

LOG_MODULE(forward);

enum {
    LOOK_US = 5000,
    QUEUE_BYTES = 16 * 1024 * 1024,
    BUSY_BYTES_S = 64 * 1024 * 1024, /* above that, keeping frames costs more than it may */
    FRAMES_A_TURN = 512,
    SWALLOWED = 2,
    SWALLOWED_US = 20000, /* before the first unread one, or before the news of the pause */
    CONNECT_AGAIN_US = 2000000
};

struct counters {
    uint64_t seen, taken, dropped;
};

struct source_tap {
    struct forward_source *source;
    char name[IFNAMSIZ];
    uint8_t mac[FRAME_MAC_SIZE];
    struct capture *capture;
    bool gone; /* the tap, and with it all that this was about */
    struct injector *injector;
    struct loop_source *readable;
    struct loop_timer *timer;
    struct frame_queue queue;
    struct counters base, now; /* now.dropped: of the last look while the guest ran */
    int64_t offset;
    bool has_offset;
    bool busy; /* its frames are not kept */
    int64_t window_start_us;
    size_t window_bytes;
};

struct forward_source {
    struct loop *loop;
    enum forward_mode mode;
    char *address, *uuid, *key;
    int port;
    struct channel *channel;
    struct loop_timer *connect_timer;
    struct source_tap *taps;
    size_t n_taps;
    bool live, caught_up;
    struct carry_source *carry; /* NULL = not offered */
    struct forward_counts counts;
    uint8_t buffer[CAPTURE_FRAME_MAX];
};

/* ---- sending ---- */

/* What cannot be sent now stays; the stream's opening sends it. */
static void flush(struct source_tap *tap)
{
    struct forward_source *s = tap->source;

    while (tap->queue.first) {
        struct queued_frame *f = tap->queue.first;
        if (!capture_is_multicast(f->data) || forward_source_is_carrying(s)) {
            if (!forward_send_frame(s->channel, tap->mac, f->data, f->length))
                return;
            s->counts.forwarded++;
        }
        free(frame_queue_take(&tap->queue));
    }
}

static void flush_all(struct forward_source *s)
{
    if (!s->live || !s->channel || !channel_is_open(s->channel))
        return;
    for (size_t i = 0; i < s->n_taps; i++)
        flush(&s->taps[i]);
    if (!s->caught_up)
        s->caught_up = channel_send(s->channel, FORWARD_CAUGHT_UP, NULL, 0);
}

/* ---- watching a tap ---- */

static void forget_tap(struct source_tap *tap)
{
    loop_source_free(tap->readable);
    loop_timer_free(tap->timer);
    tap->readable = NULL;
    tap->timer = NULL;
    tap->gone = true;
}

/* Takes what waits into the queue; false if the tap is gone. */
static bool drain(struct source_tap *tap, unsigned frames_max)
{
    struct forward_source *s = tap->source;
    size_t length;
    int64_t at_us;
    int rc = 0;

    for (unsigned i = 0; i < frames_max; i++) {
        rc = capture_read(tap->capture, s->buffer, &length, &at_us);
        if (rc <= 0)
            break;
        tap->window_bytes += length;
        unsigned gone = frame_queue_add(&tap->queue, s->buffer, length, at_us);
        if (s->live)
            s->counts.dropped += gone;
    }
    return rc >= 0;
}

/* The frames at the queue's end that nobody has read from the tap; -1 if it cannot be told. */
static int64_t unread(struct source_tap *tap, bool runs)
{
    struct counters now = {0};
    struct err e = ERR_INIT;

    if (capture_taken(tap->capture, &now.taken, &now.dropped, &e) < 0) {
        log_err(LOG_LEVEL_DEBUG, &e, "%s", tap->name);
        return -1;
    }
    if (!drain(tap, UINT32_MAX))
        return -1;
    now.seen = capture_seen(tap->capture);
    if (!runs)
        now.dropped = tap->now.dropped;
    tap->now = now;
    int64_t difference = (int64_t)(now.seen - tap->base.seen) -
                         (int64_t)(now.taken - tap->base.taken) -
                         (int64_t)(now.dropped - tap->base.dropped);
    if (!tap->has_offset || difference < tap->offset)
        tap->offset = difference;
    tap->has_offset = true;
    return difference - tap->offset;
}

static void begin_counting(struct source_tap *tap)
{
    struct err e = ERR_INIT;

    tap->has_offset = false;
    tap->base = (struct counters){.seen = capture_seen(tap->capture)};
    if (capture_taken(tap->capture, &tap->base.taken, &tap->base.dropped, &e) < 0)
        log_err(LOG_LEVEL_DEBUG, &e, "%s", tap->name);
    tap->now = tap->base;
}

/* Copying all of a busy guest's traffic for the whole migration would cost more than the few frames are worth. */
static bool is_too_busy(struct source_tap *tap)
{
    int64_t now = clock_monotonic_us();

    if (now - tap->window_start_us < USEC_PER_SEC)
        return false;
    bool busy = tap->window_bytes > BUSY_BYTES_S && tap->window_start_us > 0;
    tap->window_start_us = now;
    tap->window_bytes = 0;
    return busy;
}

static void keep_no_more(struct source_tap *tap)
{
    struct err e = ERR_INIT;

    if (capture_set_paused(tap->capture, true, &e) < 0) {
        log_err(LOG_LEVEL_WARNING, &e, "%s", tap->name);
        return;
    }
    tap->busy = true;
    frame_queue_clear(&tap->queue);
    log_info("%s gets more than %d MiB/s: frames for it are forwarded from the pause on, those "
             "just before it are not kept",
             tap->name, BUSY_BYTES_S / 1024 / 1024);
}

/* While the guest runs. */
static void look(void *aux)
{
    struct source_tap *tap = aux;
    uint64_t seen = tap->now.seen;
    int64_t left = unread(tap, true);

    if (left >= 0)
        frame_queue_shrink(&tap->queue, (size_t)left + SWALLOWED);
    if (is_too_busy(tap))
        keep_no_more(tap);
    if (tap->now.seen != seen && !tap->busy)
        loop_timer_arm(tap->timer, LOOK_US);
    else
        (void)loop_source_set_events(tap->readable, EPOLLIN, NULL);
}

static void readable(void *aux, uint32_t events _unused_)
{
    struct source_tap *tap = aux;

    if (!tap->source->live) {
        (void)loop_source_set_events(tap->readable, 0, NULL);
        loop_timer_arm(tap->timer, LOOK_US);
        return;
    }
    bool there = drain(tap, FRAMES_A_TURN);
    flush_all(tap->source);
    if (!there)
        forget_tap(tap);
}

/* ---- the stream ---- */

static void opened(void *aux, struct channel *channel)
{
    struct forward_source *s = aux;

    log_debug("migration %s: the stream to %s is open", s->uuid, s->address);
    if (s->carry)
        carry_source_channel(s->carry, channel);
    flush_all(s);
}

/* Given back after a failed switch-over. */
static void take_back(struct forward_source *s, const uint8_t *data, size_t length)
{
    if (length < FORWARD_FRAME_MIN || s->live)
        return;
    for (size_t i = 0; i < s->n_taps; i++) {
        struct source_tap *tap = &s->taps[i];
        if (tap->gone || memcmp(tap->mac, data, FRAME_MAC_SIZE) != 0)
            continue;
        if (injector_put(tap->injector, data + FRAME_MAC_SIZE, length - FRAME_MAC_SIZE))
            s->counts.returned++;
        else
            s->counts.dropped++;
    }
}

static void message(void *aux, uint8_t type, const uint8_t *data, size_t length)
{
    struct forward_source *s = aux;

    if (type == FORWARD_FRAME)
        take_back(s, data, length);
    else if (s->carry)
        carry_source_message(s->carry, type, data, length);
}

static void closed(void *aux, const struct err *why)
{
    struct forward_source *s = aux;

    log_err(LOG_LEVEL_DEBUG, why, "migration %s: no stream to %s", s->uuid, s->address);
    loop_timer_arm(s->connect_timer, CONNECT_AGAIN_US);
    if (s->carry)
        carry_source_channel(s->carry, NULL);
}

static int open_stream(struct forward_source *s, struct err *e)
{
    static const struct channel_fns fns = {opened, message, closed};

    channel_free(s->channel);
    s->channel = NULL;
    return channel_connect(&s->channel, s->loop, s->address, s->port, s->uuid, s->key, &fns, s, e);
}

static void connect_again(void *aux)
{
    struct forward_source *s = aux;
    struct err e = ERR_INIT;

    if (open_stream(s, &e) < 0)
        closed(s, &e);
}

/* ---- from and to ---- */

static int watch(struct source_tap *tap, const struct net_port *port, struct err *e)
{
    struct forward_source *s = tap->source;

    (void)snprintf(tap->name, sizeof(tap->name), "%s", port->tap);
    tap->queue.limit = QUEUE_BYTES;
    tap->timer = loop_timer_new(s->loop, "frames before the pause", look, tap);
    if (frame_parse_mac(port->mac, tap->mac, e) < 0 ||
        capture_open(&tap->capture, port->tap, e) < 0 ||
        injector_open(&tap->injector, port->tap, e) < 0)
        return -1;
    tap->busy = s->mode == FORWARD_LIVE;
    if (tap->busy && capture_set_paused(tap->capture, true, e) < 0)
        return -1;
    begin_counting(tap);
    tap->readable =
        loop_add_fd(s->loop, capture_fd(tap->capture), EPOLLIN, "frames", readable, tap, e);
    return tap->readable ? 0 : -1;
}

int forward_source_new(struct forward_source **out, struct loop *loop,
                       struct net_port *const *ports, size_t count, enum forward_mode mode,
                       const char *address, int port, const char *migration_uuid,
                       const char *key_hex, struct err *e)
{
    _cleanup_(forward_source_freep) struct forward_source *s = NEW(struct forward_source);

    s->loop = loop;
    s->mode = mode;
    s->address = text_dup(address);
    s->port = port;
    s->uuid = text_dup(migration_uuid);
    s->key = text_dup(key_hex);
    s->connect_timer = loop_timer_new(loop, "stream to the destination", connect_again, s);
    s->taps = NEW_ARRAY(struct source_tap, count);
    for (size_t i = 0; i < count; i++) {
        s->taps[s->n_taps].source = s;
        if (watch(&s->taps[s->n_taps++], ports[i], e) < 0)
            return -1;
    }
    if (open_stream(s, e) < 0)
        return -1;
    *out = STEAL(s);
    return 0;
}

void forward_source_detach(struct forward_source *source)
{
    if (source->carry)
        carry_source_detach(source->carry);
    channel_free(source->channel);
    loop_timer_free(source->connect_timer);
    source->channel = NULL;
    source->connect_timer = NULL;
    for (size_t i = 0; i < source->n_taps; i++)
        forget_tap(&source->taps[i]);
}

void forward_source_free(struct forward_source *source)
{
    if (!source)
        return;
    forward_source_detach(source);
    carry_source_free(source->carry);
    for (size_t i = 0; i < source->n_taps; i++) {
        capture_close(source->taps[i].capture);
        injector_close(source->taps[i].injector);
        frame_queue_clear(&source->taps[i].queue);
    }
    free(source->taps);
    free(source->address);
    free(source->uuid);
    if (source->key)
        OPENSSL_cleanse(source->key, strlen(source->key));
    free(source->key);
    free(source);
}

/* ---- the switch-over ---- */

/* When the first of the last `left` frames came; now, if there is none. */
static int64_t first_unread_us(const struct frame_queue *queue, size_t left)
{
    const struct queued_frame *f = queue->first;

    for (size_t before = queue->count - left; f && before > 0; before--)
        f = f->next;
    return f ? f->at_us : clock_realtime_us();
}

/* Leaves in the queue what the guest has not seen. */
static void find_unseen(struct source_tap *tap)
{
    int64_t left = unread(tap, false);

    if (left < 0)
        return; /* rather too much than too little */
    frame_queue_shrink(&tap->queue, (size_t)left + SWALLOWED);
    if (tap->queue.count > (size_t)left) {
        int64_t recent_us = first_unread_us(&tap->queue, (size_t)left) - SWALLOWED_US;
        while (tap->queue.count > (size_t)left && tap->queue.first->at_us < recent_us)
            free(frame_queue_take(&tap->queue));
    }
    tap->source->counts.held += tap->queue.count;
}

static void go_live(struct source_tap *tap)
{
    struct err e = ERR_INIT;

    if (tap->gone)
        return;
    loop_timer_disarm(tap->timer);
    if (!tap->busy)
        find_unseen(tap);
    else if (capture_set_paused(tap->capture, false, &e) < 0)
        log_err(LOG_LEVEL_WARNING, &e, "%s", tap->name);
    (void)loop_source_set_events(tap->readable, EPOLLIN, NULL);
}

void forward_source_paused(struct forward_source *source)
{
    if (source->live)
        return;
    source->live = true;
    if (source->carry)
        carry_source_paused(source->carry);
    for (size_t i = 0; i < source->n_taps; i++)
        go_live(&source->taps[i]);
    flush_all(source);
}

void forward_source_reverted(struct forward_source *source)
{
    struct err e = ERR_INIT;

    if (!source->live)
        return;
    source->live = source->caught_up = false;
    if (source->carry)
        carry_source_reverted(source->carry);
    for (size_t i = 0; i < source->n_taps; i++) {
        struct source_tap *tap = &source->taps[i];
        if (tap->gone)
            continue;
        frame_queue_clear(&tap->queue); /* the guest finds them in its tap */
        if (tap->busy && capture_set_paused(tap->capture, true, &e) < 0)
            log_err(LOG_LEVEL_WARNING, &e, "%s", tap->name);
        begin_counting(tap);
        loop_timer_arm(tap->timer, LOOK_US);
    }
}

void forward_source_counts(const struct forward_source *source, struct forward_counts *out)
{
    *out = source->counts;
    if (source->carry)
        carry_source_counts(source->carry, out);
}

/* ---- a port that is wired late ---- */

void forward_source_keep(struct forward_source *source, struct net_port *const *ports,
                         struct tap_end **ends, size_t count, int64_t limit_us, forward_carry_fn fn,
                         void *aux)
{
    if (source->live)
        return; /* the destination was told of the pause: it does not begin any more */
    source->carry =
        carry_source_new(source->loop, source->uuid, ports, ends, count, limit_us, fn, aux);
    if (source->channel && channel_is_open(source->channel))
        carry_source_channel(source->carry, source->channel);
}

bool forward_source_is_carrying(const struct forward_source *source)
{
    return source->carry && carry_source_is_active(source->carry);
}

bool forward_source_keeps_taps(const struct forward_source *source)
{
    return source->carry != NULL;
}

void forward_source_give_up(struct forward_source *source)
{
    if (source->carry)
        carry_source_give_up(source->carry);
}
