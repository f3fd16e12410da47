/* SPDX-License-Identifier: Apache-2.0 */
/* The source's end; see carry.h. */
#include <net/if.h>
#include <stdio.h>
#include <sys/epoll.h>

#include "lib/clock.h"
#include "lib/log.h"
#include "lib/text.h"
#include "net/carry.h"
#include "net/forward_internal.h"
#include "net/netlink.h"
#include "net/tap_end.h"

LOG_MODULE(forward);

enum {
    DISCARDS_A_TURN = 512,
    BACK_MAX = 8,        /* times that a tap is put back into its bridge */
    SPARE_US = 5000000,  /* the destination's clock decides first */
    LINGER_US = 2000000, /* what still reaches this host is sent on */
};

enum stage { IDLE, CARRYING, TURNED, ENDED };

struct kept_tap {
    uint8_t mac[FRAME_MAC_SIZE];
    struct tap_end *end;
    char name[IFNAMSIZ], bridge[IFNAMSIZ]; /* bridge "": a switch's, which is left alone */
    unsigned put_back;
    struct loop_source
        *unread; /* once the guest has gone: nobody else reads what the host gives to the tap */
};

struct carry_source {
    struct loop *loop;
    char *uuid;
    int64_t limit_us, since_us;
    forward_carry_fn fn;
    void *aux;
    struct channel *channel;
    struct loop_timer *timer;
    struct link_events *links; /* while frames are carried */
    struct kept_tap *taps;
    size_t n_taps;
    enum stage stage;
    bool no_way; /* at the destination, as it said last */
    bool paused;
    struct forward_counts counts;
};

/* ---- the tap's place ---- */

static int put_back(const struct kept_tap *tap, struct err *e)
{
    _cleanup_(netlink_freep) struct netlink *nl = NULL;
    struct link link, bridge;
    bool has_tap, has_bridge;

    if (netlink_open(&nl, e) < 0 || netlink_link(nl, tap->name, &link, &has_tap, e) < 0 ||
        netlink_link(nl, tap->bridge, &bridge, &has_bridge, e) < 0)
        return -1;
    if (!has_tap || !has_bridge)
        return err_set(e, ERR_NET_PLUG, "tap %s or bridge %s is gone", tap->name, tap->bridge);
    if (link.master)
        return 0;
    if (netlink_set_master(nl, &link, &bridge, e) < 0)
        return -1;
    return netlink_point_fdb(nl, link.index, tap->mac, e);
}

/*
 * Neutron's Linux bridge agent takes the tap out of its bridge when the bindings are activated elsewhere; its rules,
 * which name the tap, stay as long as the tap does.
 */
static void keep_place(struct carry_source *c, struct kept_tap *tap)
{
    struct err e = ERR_INIT;

    if (!tap->bridge[0] || tap->put_back == BACK_MAX)
        return;
    tap->put_back++;
    if (put_back(tap, &e) < 0)
        log_err(LOG_LEVEL_WARNING, &e, "migration %s: frames may not be carried any more", c->uuid);
    else
        log_debug("migration %s: tap %s is in bridge %s again", c->uuid, tap->name, tap->bridge);
}

static void link_changed(void *aux, const struct link *link)
{
    struct carry_source *c = aux;

    for (size_t i = 0; c->stage == CARRYING && i < c->n_taps; i++)
        if (!link->gone && !link->port_only && link->master == 0 &&
            text_equal(link->name, c->taps[i].name))
            keep_place(c, &c->taps[i]);
}

static void link_lost(void *aux)
{
    struct carry_source *c = aux;

    for (size_t i = 0; c->stage == CARRYING && i < c->n_taps; i++)
        keep_place(c, &c->taps[i]);
}

static void watch_places(struct carry_source *c)
{
    static const struct link_events_fns fns = {link_changed, link_lost};
    struct err e = ERR_INIT;

    if (!c->links && link_events_new(&c->links, c->loop, &fns, c, &e) < 0)
        log_err(LOG_LEVEL_WARNING, &e, "migration %s: its taps are not watched", c->uuid);
}

/* ---- stages ---- */

static void end(struct carry_source *c)
{
    loop_timer_disarm(c->timer);
    c->stage = ENDED;
    c->fn(c->aux, FORWARD_CARRY_ENDED, false, NULL);
}

static void turned(struct carry_source *c, bool wired, const char *why)
{
    c->counts.carried_us = clock_monotonic_us() - c->since_us;
    c->stage = TURNED;
    loop_timer_arm(c->timer, c->channel ? LINGER_US : 0);
    c->fn(c->aux, FORWARD_CARRY_TURNED, wired, why);
}

static void due(void *aux)
{
    struct carry_source *c = aux;

    if (c->stage == CARRYING)
        turned(c, false, "the time is over");
    else if (c->stage == TURNED)
        end(c);
}

/* ---- the guest's frames ---- */

static void discard(void *aux, uint32_t events)
{
    struct kept_tap *tap = aux;

    tap_end_discard(tap->end, DISCARDS_A_TURN);
    if (events & (EPOLLERR | EPOLLHUP)) /* somebody deleted the tap */
        (void)loop_source_set_events(tap->unread, 0, NULL);
}

/* A frame from there is the proof that the guest does not run here. */
static void read_for_the_guest(struct carry_source *c, struct kept_tap *tap)
{
    struct err e = ERR_INIT;

    if (tap->unread)
        return;
    tap->unread = loop_add_fd(c->loop, tap_end_fd(tap->end), EPOLLIN,
                              "frames of a tap that is kept", discard, tap, &e);
    if (!tap->unread)
        log_err(LOG_LEVEL_DEBUG, &e, "migration %s", c->uuid);
}

/* What the host gives to the taps is not read here any more: the guest runs here again, or all of this ends. */
static void leave_it_to_the_guest(struct carry_source *c)
{
    for (size_t i = 0; i < c->n_taps; i++) {
        loop_source_free(c->taps[i].unread);
        c->taps[i].unread = NULL;
    }
}

static void take_frame(struct carry_source *c, const uint8_t *data, size_t length)
{
    if (length < FORWARD_FRAME_MIN || (c->stage != CARRYING && c->stage != TURNED))
        return;
    const uint8_t *frame = data + FRAME_MAC_SIZE;
    length -= FRAME_MAC_SIZE;
    for (size_t i = 0; i < c->n_taps; i++) {
        struct kept_tap *tap = &c->taps[i];
        if (memcmp(tap->mac, data, FRAME_MAC_SIZE) != 0)
            continue;
        read_for_the_guest(c, tap);
        if (!forward_is_from(frame, length, tap->mac))
            c->counts.foreign++;
        else if (tap_end_put(tap->end, frame, length))
            c->counts.carried++;
        else
            c->counts.dropped++;
    }
}

static void begin(struct carry_source *c)
{
    if (c->stage != IDLE || !c->paused || !c->no_way || !c->channel)
        return;
    c->stage = CARRYING;
    watch_places(c);
    c->since_us = clock_monotonic_us();
    loop_timer_arm(c->timer, c->limit_us + SPARE_US);
}

static void take_way(struct carry_source *c, enum forward_way way)
{
    c->no_way = way == FORWARD_WAY_NONE;
    begin(c); /* it was said before the pause, and came after it */
    if (c->stage != CARRYING || c->no_way)
        return;
    turned(c, way == FORWARD_WAY_WIRED,
           way == FORWARD_WAY_WIRED ? "the port is wired" : "the destination gave it up");
}

/* ---- what happens ---- */

void carry_source_channel(struct carry_source *c, struct channel *channel)
{
    c->channel = channel;
    c->no_way = false;
    if (channel && c->stage != ENDED)
        (void)channel_send(channel, FORWARD_CARRIES, NULL, 0);
    else if (!channel && c->stage == CARRYING)
        turned(c, false, "the stream to the destination ended");
    else if (!channel && c->stage == TURNED)
        loop_timer_arm(c->timer, 0);
}

void carry_source_message(struct carry_source *c, uint8_t type, const uint8_t *data, size_t length)
{
    if (type == FORWARD_GUEST_FRAME)
        take_frame(c, data, length);
    else if (type == FORWARD_WAY && length == 1)
        take_way(c, (enum forward_way)data[0]);
    else if (type == FORWARD_MARK && c->channel)
        (void)channel_send(c->channel, FORWARD_MARK, NULL, 0);
}

void carry_source_paused(struct carry_source *c)
{
    c->paused = true;
    begin(c);
}

void carry_source_reverted(struct carry_source *c)
{
    c->paused = false;
    leave_it_to_the_guest(c);
    if (c->stage != CARRYING)
        return;
    loop_timer_disarm(c->timer);
    c->stage = IDLE;
}

void carry_source_give_up(struct carry_source *c)
{
    if (c->stage == CARRYING)
        turned(c, false, "it was given up");
}

bool carry_source_is_active(const struct carry_source *c)
{
    return c->stage == CARRYING;
}

void carry_source_counts(const struct carry_source *c, struct forward_counts *out)
{
    out->carried += c->counts.carried;
    out->foreign += c->counts.foreign;
    out->dropped += c->counts.dropped;
    out->carried_us =
        carry_source_is_active(c) ? clock_monotonic_us() - c->since_us : c->counts.carried_us;
}

/* ---- from and to ---- */

struct carry_source *carry_source_new(struct loop *loop, const char *migration_uuid,
                                      struct net_port *const *ports, struct tap_end **ends,
                                      size_t count, int64_t limit_us, forward_carry_fn fn,
                                      void *aux)
{
    struct carry_source *c = NEW(struct carry_source);

    c->loop = loop;
    c->uuid = text_dup(migration_uuid);
    c->limit_us = limit_us;
    c->fn = fn;
    c->aux = aux;
    c->timer = loop_timer_new(loop, "carried frames", due, c);
    c->taps = NEW_ARRAY(struct kept_tap, count);
    for (; c->n_taps < count; c->n_taps++) {
        struct kept_tap *tap = &c->taps[c->n_taps];
        tap->end = STEAL(ends[c->n_taps]);
        (void)snprintf(tap->name, sizeof(tap->name), "%s", ports[c->n_taps]->tap);
        if (ports[c->n_taps]->kind == NET_KIND_BRIDGE)
            (void)snprintf(tap->bridge, sizeof(tap->bridge), "%s", ports[c->n_taps]->bridge);
        (void)frame_parse_mac(ports[c->n_taps]->mac, tap->mac, NULL); /* it was seen to be one */
    }
    return c;
}

void carry_source_detach(struct carry_source *c)
{
    loop_timer_free(c->timer);
    c->timer = NULL;
    link_events_free(c->links);
    c->links = NULL;
    leave_it_to_the_guest(c);
}

void carry_source_free(struct carry_source *c)
{
    if (!c)
        return;
    carry_source_detach(c);
    for (size_t i = 0; i < c->n_taps; i++)
        tap_end_close(c->taps[i].end);
    free(c->taps);
    free(c->uuid);
    free(c);
}
