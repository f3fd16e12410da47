/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The bucket's arithmetic. A TBF begins, and begins again after each change, with full tokens, and the
 * lowest rate is 1 byte a second: a small frame would pass after a minute. So every frame costs SURCHARGE
 * more than it is long, and what the bucket holds is burst + SURCHARGE: exactly what DUMMIES frames of
 * DUMMY_SIZE cost. They are sent on the IFB itself, which drops what was not redirected to it. After that
 * the cheapest frame has to wait for SURCHARGE seconds. Whatever else passes while the bucket is closed
 * anew costs SURCHARGE too, so that less than that is left in any case.
 *
 * Opening changes the rate; the kernel does not look at the queue then, so one more dummy makes it. The IFB
 * marks what it puts back, and neither the filter nor others of the tap look at it again.
 */
#include "net/hold.h"

#include <assert.h>
#include <errno.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

#include "lib/clock.h"
#include "lib/log.h"
#include "lib/text.h"
#include "net/net_provider.h"
#include "net/traffic.h"

LOG_MODULE(net);

enum {
    SURCHARGE = UINT16_MAX,
    DUMMY_SIZE = 1000, /* every IFB's MTU has room for it */
    DUMMIES = 3,
    CLOSED_BURST =
        DUMMIES * DUMMY_SIZE + (DUMMIES - 1) * SURCHARGE, /* above the largest GSO frame */
    OPEN_BURST = 1 << 30,
    DRAIN_TIMEOUT_US = 400000,
    DRAIN_POLL_US = 500,
    DUMMY_PROTOCOL = 0x88b5, /* local experimental */
};
static const uint64_t open_rate = 1000000000000; /* bytes a second */

/* What both the loop's hold and the workers' functions act on. */
struct devices {
    struct netlink *nl;
    int packet_fd;
    struct link tap, ifb;
    uint32_t limit;
};

struct hold {
    struct devices d;
    bool open;  /* the bucket */
    bool begun; /* the filter is there */
    bool gone;  /* tap or IFB; was told */
};

/* --- devices --------------------------------------------------------------------------------- */

int hold_name(const char *tap, char name[IFNAMSIZ], struct err *e)
{
    static const char prefix[] = "hld";
    enum { PREFIX_LENGTH = sizeof(prefix) - 1 };

    if (text_check_ifname(tap, "tap of a hold", e) < 0)
        return -1;
    if (strlen(tap) <= PREFIX_LENGTH || strncmp(tap, prefix, PREFIX_LENGTH) == 0)
        return err_set(
            e, ERR_INVALID,
            "interface %s can have no hold: its name must be longer than %d characters and "
            "not begin with '%s'",
            tap, PREFIX_LENGTH, prefix);
    memset(name, 0, IFNAMSIZ);
    memcpy(name, prefix, PREFIX_LENGTH);
    memcpy(name + PREFIX_LENGTH, tap + PREFIX_LENGTH, strlen(tap + PREFIX_LENGTH));
    return 0;
}

static void devices_close(struct devices *d)
{
    netlink_free(d->nl);
    fd_closep(&d->packet_fd);
}

/* Only where a dummy is to be sent: closing it takes the kernel some milliseconds. */
static int need_packet_socket(struct devices *d, struct err *e)
{
    if (d->packet_fd >= 0)
        return 0;
    d->packet_fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (d->packet_fd < 0)
        return err_set_errno(e, ERR_SYSTEM, errno, "a packet socket for %s", d->ifb.name);
    return 0;
}

static const char *kind_of(const struct link *link)
{
    return link->kind[0] ? link->kind : "hardware";
}

/* Index 0 = there is none. What has the name of one and is another thing is refused. */
static int find_devices(struct devices *d, const char *tap, struct err *e)
{
    struct link tap_link = {0}, ifb = {0};
    char name[IFNAMSIZ];
    bool found;

    if (hold_name(tap, name, e) < 0 || netlink_link(d->nl, tap, &tap_link, &found, e) < 0 ||
        netlink_link(d->nl, name, &ifb, &found, e) < 0)
        return -1;
    if (tap_link.index && !link_is_tap(&tap_link))
        return err_set(e, ERR_NET_PLUG, "interface %s is no tap (%s), it was left alone", tap,
                       kind_of(&tap_link));
    if (found && !text_equal(ifb.kind, "ifb"))
        return err_set(e, ERR_NET_PLUG,
                       "interface %s, the hold of %s, is no IFB (%s), it was left alone", name, tap,
                       kind_of(&ifb));
    d->tap = tap_link;
    d->ifb = ifb;
    return 0;
}

/* --- the bucket ------------------------------------------------------------------------------ */

static int send_dummy(const struct devices *d)
{
    const unsigned char dummy[DUMMY_SIZE] = {
        [12] = DUMMY_PROTOCOL >> 8, [13] = DUMMY_PROTOCOL & 0xff};
    const struct sockaddr_ll to = {.sll_family = AF_PACKET, .sll_ifindex = d->ifb.index};

    return (int)sendto(d->packet_fd, dummy, sizeof(dummy), MSG_DONTWAIT,
                       (const struct sockaddr *)&to, sizeof(to));
}

/* It closes when it is empty. */
static int make_bucket(const struct devices *d, struct err *e)
{
    const struct traffic_bucket closed = {
        .rate = 1, .burst = CLOSED_BURST, .surcharge = SURCHARGE, .limit = d->limit};

    return traffic_set_bucket(d->nl, &d->ifb, &closed, e);
}

static int shut_bucket(struct devices *d, struct err *e)
{
    if (need_packet_socket(d, e) < 0 || make_bucket(d, e) < 0)
        return -1;
    for (int i = 0; i < DUMMIES; i++)
        if (send_dummy(d) < 0)
            return err_set_errno(e, ERR_NET_PLUG, errno, "cannot empty the token bucket of %s",
                                 d->ifb.name);
    return 0;
}

static int open_bucket(struct devices *d, struct err *e)
{
    const struct traffic_bucket open = {.rate = open_rate, .burst = OPEN_BURST, .limit = d->limit};

    if (need_packet_socket(d, e) < 0 || traffic_set_bucket(d->nl, &d->ifb, &open, e) < 0)
        return -1;
    /* A full queue takes no dummy (ENOBUFS), yet the attempt makes the kernel look at it. */
    if (send_dummy(d) < 0 && errno != ENOBUFS)
        return err_set_errno(e, ERR_NET_PLUG, errno, "cannot let out what waits in %s",
                             d->ifb.name);
    return 0;
}

static int count_waiting(const struct devices *d, int64_t *bytes, int64_t *frames, struct err *e)
{
    struct traffic_queue queue;
    int64_t in_flight;

    /* In this order: a frame that goes on between the two is counted twice rather than never. */
    if (traffic_queue(d->nl, &d->ifb, &queue, e) < 0 ||
        traffic_ifb_in_flight(d->nl, &d->ifb, &in_flight, e) < 0)
        return -1;
    *bytes = queue.bytes;
    *frames = queue.frames + in_flight;
    return 0;
}

/* --- on workers ------------------------------------------------------------------------------ */

static void wait_until_empty(const struct devices *d)
{
    const struct timespec pause = {.tv_nsec = DRAIN_POLL_US * 1000L};
    int64_t end_us = clock_monotonic_us() + DRAIN_TIMEOUT_US, bytes, frames;

    while (count_waiting(d, &bytes, &frames, NULL) == 0 && frames > 0 &&
           clock_monotonic_us() < end_us)
        (void)nanosleep(&pause, NULL);
}

/* Ends whatever was left on the tap: out with what waits, then the filter, then with what came between. Without a
 * tap there is nowhere to let it out to. */
static int let_out(struct devices *d, bool *was, struct err *e)
{
    struct traffic_queue queue;

    if (!d->tap.index)
        return 0;
    if (d->ifb.index && traffic_queue(d->nl, &d->ifb, &queue, NULL) == 0) {
        d->limit = queue.limit;
        if (open_bucket(d, e) < 0)
            return -1;
        wait_until_empty(d);
    }
    if (traffic_direct(d->nl, &d->tap, was, e) < 0)
        return -1;
    if (d->ifb.index)
        wait_until_empty(d);
    return 0;
}

/* Once with the IFB itself, of which nobody knows yet. */
static int try_filter(const struct devices *d, struct err *e)
{
    bool was;

    if (traffic_add_hook(d->nl, &d->ifb, e) < 0 ||
        traffic_redirect(d->nl, &d->ifb, &d->ifb, e) < 0 ||
        traffic_direct(d->nl, &d->ifb, &was, e) < 0)
        return -1;
    return traffic_remove_hook(d->nl, &d->ifb, e);
}

static int make_ifb(struct devices *d, const char *tap, int mtu, struct err *e)
{
    char name[IFNAMSIZ];

    if (hold_name(tap, name, e) < 0 || traffic_add_ifb(d->nl, name, e) < 0 ||
        find_devices(d, tap, e) < 0)
        return -1;
    if (!d->ifb.index)
        return err_set(e, ERR_NET_PLUG, "interface %s went away while it was made", name);
    if (mtu > d->ifb.mtu && netlink_set_mtu(d->nl, &d->ifb, mtu, e) < 0)
        return -1;
    return netlink_set_up(d->nl, &d->ifb, e);
}

static int make(struct devices *d, const char *tap, int mtu, struct err *e)
{
    if (make_ifb(d, tap, mtu, e) == 0 && try_filter(d, e) == 0)
        return 0;
    if (d->ifb.index)
        (void)netlink_delete(d->nl, &d->ifb, NULL);
    return -1;
}

/* What waits in one whose tap is gone has nowhere to go, and would take room of the new one. */
static int forget_orphan(struct devices *d, struct err *e)
{
    if (d->tap.index || !d->ifb.index)
        return 0;
    if (netlink_delete(d->nl, &d->ifb, e) < 0)
        return -1;
    d->ifb.index = 0;
    return 0;
}

int hold_make(const char *tap, int mtu, int64_t limit_bytes, struct err *e)
{
    _cleanup_(devices_close) struct devices d = {.packet_fd = -1};
    bool was = false;

    if (limit_bytes < HOLD_LIMIT_MIN || limit_bytes > UINT32_MAX)
        return err_set(e, ERR_INVALID,
                       "the limit of the hold of %s, %lld bytes, is not between %d and %u", tap,
                       (long long)limit_bytes, HOLD_LIMIT_MIN, UINT32_MAX);
    if (netlink_open(&d.nl, e) < 0 || find_devices(&d, tap, e) < 0 || forget_orphan(&d, e) < 0 ||
        let_out(&d, &was, e) < 0 || (!d.ifb.index && make(&d, tap, mtu, e) < 0))
        return err_prefix(e, "hold of %s: ", tap);
    d.limit = (uint32_t)limit_bytes;
    return make_bucket(&d, e);
}

int hold_remove(const char *tap, struct err *e)
{
    _cleanup_(devices_close) struct devices d = {.packet_fd = -1};
    bool was = false;
    char name[IFNAMSIZ];

    if (hold_name(tap, name, NULL) < 0)
        return 0;
    if (netlink_open(&d.nl, e) < 0 || find_devices(&d, tap, e) < 0 || let_out(&d, &was, e) < 0)
        return err_prefix(e, "hold of %s: ", tap);
    /* A hook without our IFB or filter is not known to be ours. */
    if (d.tap.index && !d.tap.running && (d.ifb.index || was) &&
        traffic_remove_hook(d.nl, &d.tap, e) < 0)
        return err_prefix(e, "hold of %s: ", tap);
    return d.ifb.index ? netlink_delete(d.nl, &d.ifb, e) : 0;
}

static bool is_hold_of(const struct link *tap, const char *name)
{
    char hold[IFNAMSIZ];

    return link_is_tap(tap) && hold_name(tap->name, hold, NULL) == 0 && text_equal(hold, name);
}

int hold_audit(struct net_audit_rows *rows, struct err *e)
{
    _cleanup_(netlink_freep) struct netlink *nl = NULL;
    _cleanup_(mem_freep) struct link *links = NULL;
    size_t n;

    if (netlink_open(&nl, e) < 0 || netlink_links(nl, 0, &links, &n, e) < 0)
        return -1;
    for (size_t i = 0; i < n; i++) {
        bool has_tap = false;
        if (!text_equal(links[i].kind, "ifb") || strncmp(links[i].name, "hld", 3) != 0)
            continue;
        for (size_t t = 0; t < n && !has_tap; t++)
            has_tap = is_hold_of(&links[t], links[i].name);
        struct net_audit_row *row = net_audit_rows_add(rows);
        row->name = text_dup(links[i].name);
        row->why = text_dup(has_tap ? "holds frames of a tap for a migration that is not known"
                                    : "holds frames of a tap that is not there");
    }
    return 0;
}

/* --- on the loop ----------------------------------------------------------------------------- */

static int need_devices(const struct devices *d, const char *tap, struct err *e)
{
    if (!d->tap.index)
        return err_set(e, ERR_NET_PLUG, "tap %s does not exist", tap);
    if (!d->ifb.index)
        return err_set(e, ERR_NET_PLUG, "no hold was made for tap %s", tap);
    return 0;
}

static int prepare(struct hold *h, const char *tap, struct err *e)
{
    struct devices *d = &h->d;
    struct traffic_queue queue;
    bool was;

    if (find_devices(d, tap, e) < 0 || need_devices(d, tap, e) < 0 ||
        traffic_queue(d->nl, &d->ifb, &queue, e) < 0)
        return -1;
    d->limit = queue.limit;
    if (d->tap.tx_queue_length < HOLD_TX_QUEUE_LENGTH &&
        netlink_set_tx_queue_length(d->nl, &d->tap, HOLD_TX_QUEUE_LENGTH, e) < 0)
        return -1;
    if (traffic_add_hook(d->nl, &d->tap, e) < 0 || traffic_direct(d->nl, &d->tap, &was, e) < 0)
        return -1;
    h->open = was;
    return was ? open_bucket(d, e) : shut_bucket(d, e);
}

int hold_open(struct hold **out, const char *tap, struct err *e)
{
    _cleanup_(hold_closep) struct hold *h = NEW(struct hold);

    h->d.packet_fd = -1;
    if (netlink_open(&h->d.nl, e) < 0 || prepare(h, tap, e) < 0)
        return -1;
    *out = STEAL(h);
    return 0;
}

void hold_close(struct hold *h)
{
    struct err e = ERR_INIT;

    if (!h)
        return;
    if (hold_end(h, &e) < 0)
        log_err(LOG_LEVEL_DEBUG, &e, "hold of %s", h->d.tap.name);
    devices_close(&h->d);
    free(h);
}

/* A device that went away is told once: what is to be done then is done by its going. */
static int failed(struct hold *h, const struct err *why, struct err *e)
{
    if (why->sys == ENODEV || why->sys == ENXIO)
        h->gone = true;
    if (e)
        *e = *why;
    return -1;
}

/* Once more with the hook if somebody took that away. */
static int redirect(const struct devices *d, struct err *e)
{
    if (traffic_redirect(d->nl, &d->tap, &d->ifb, e) == 0)
        return 0;
    if (e->sys != EINVAL && e->sys != ENOENT)
        return -1;
    err_clear(e);
    if (traffic_add_hook(d->nl, &d->tap, e) < 0)
        return -1;
    return traffic_redirect(d->nl, &d->tap, &d->ifb, e);
}

int hold_begin(struct hold *h, struct err *e)
{
    struct err why = ERR_INIT;

    assert(h);
    if (h->gone || h->begun)
        return 0;
    if (h->open && shut_bucket(&h->d, &why) < 0)
        return failed(h, &why, e);
    h->open = false;
    if (redirect(&h->d, &why) < 0)
        return failed(h, &why, e);
    h->begun = true;
    return 0;
}

int hold_release(struct hold *h, struct err *e)
{
    struct err why = ERR_INIT;

    assert(h);
    if (h->gone || !h->begun || h->open)
        return 0;
    if (open_bucket(&h->d, &why) < 0)
        return failed(h, &why, e);
    h->open = true;
    return 0;
}

int hold_end(struct hold *h, struct err *e)
{
    struct err why = ERR_INIT;
    bool was, told = h->gone;

    if (!h->begun)
        return 0;
    int rc = hold_release(h, &why);
    /* Whatever became of that, the tap shall be reached again: without its IFB the filter drops all. */
    if (traffic_direct(h->d.nl, &h->d.tap, &was, &why) < 0)
        rc = -1;
    else
        h->begun = false;
    return rc < 0 && !told ? failed(h, &why, e) : 0;
}

int hold_backlog(struct hold *h, int64_t *bytes, int64_t *frames, struct err *e)
{
    struct err why = ERR_INIT;
    int64_t waiting_bytes = 0, waiting_frames = 0;

    assert(h);
    if (!h->gone && count_waiting(&h->d, &waiting_bytes, &waiting_frames, &why) < 0)
        return failed(h, &why, e);
    if (bytes)
        *bytes = waiting_bytes;
    if (frames)
        *frames = waiting_frames;
    return 0;
}
