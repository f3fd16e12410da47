/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Announcing on a Linux bridge.
 *
 * While the guest lived elsewhere this bridge learned its MAC behind the uplink, and would drop what comes
 * in by the uplink for it. So the table is pointed at the tap first (one netlink message), and only then
 * are frames sent. They leave straight by each uplink's packet socket, not through the bridge: the guest
 * never sees its own address announced by somebody else (Linux guests would complain), it works for
 * physical, VLAN and VXLAN uplinks alike, and sending through the bridge would teach its table nothing.
 *
 * Link events keep the picture of tap and uplinks up to date, so that announcing itself looks nothing up.
 * The kernel takes a forwarding entry only for a port that forwards: `wired` means just that.
 */
#include "net/bridge_announce.h"

#include <errno.h>
#include <linux/if_packet.h>
#include <string.h>
#include <sys/socket.h>

#include "lib/close_aside.h"
#include "lib/log.h"
#include "lib/metrics.h"

LOG_MODULE(net);

enum { UPLINKS_MAX = 16, BATCH_MAX = 128 };

struct bridge_port {
    struct netlink *nl;
    int packet_fd;
    int bridge_index; /* 0 = missing */
    int tap_index;    /* 0 = missing */
    int tap_master;
    int tap_state;
    int uplinks[UPLINKS_MAX];
    size_t n_uplinks;
};

static void update_wired(struct net_armed_port *p)
{
    const struct bridge_port *b = p->state;

    p->wired = b->tap_index && b->bridge_index && b->tap_master == b->bridge_index &&
               b->tap_state == LINK_STATE_FORWARDING;
}

static void drop_uplink(struct bridge_port *b, int index)
{
    for (size_t i = 0; i < b->n_uplinks; i++)
        if (b->uplinks[i] == index)
            b->uplinks[i--] = b->uplinks[--b->n_uplinks];
}

/* True if it is an uplink that was not there before. */
static bool note_uplink(struct bridge_port *b, const struct link *link)
{
    size_t before = b->n_uplinks;
    bool usable = !link->gone && b->bridge_index && link->master == b->bridge_index &&
                  link_is_uplink(link) && link->running;

    if (!usable) {
        drop_uplink(b, link->index);
        return false;
    }
    for (size_t i = 0; i < before; i++)
        if (b->uplinks[i] == link->index)
            return false;
    if (before < UPLINKS_MAX)
        b->uplinks[b->n_uplinks++] = link->index;
    return b->n_uplinks > before;
}

static void note_tap(struct bridge_port *b, const struct link *link)
{
    b->tap_index = link->gone ? 0 : link->index;
    b->tap_master = link->master;
    b->tap_state = link->port_state;
}

/* Looks at everything: at the beginning, and whenever events were lost or the bridge is new. */
static int look_again(struct net_armed_port *p, struct err *e)
{
    struct bridge_port *b = p->state;
    _cleanup_(mem_freep) struct link *links = NULL;
    struct link link;
    size_t n = 0;
    bool found;

    b->n_uplinks = 0;
    b->bridge_index = b->tap_index = 0;
    if (netlink_link(b->nl, p->port->bridge, &link, &found, e) < 0)
        return -1;
    if (found)
        b->bridge_index = link.index;
    if (found && netlink_links(b->nl, link.index, &links, &n, e) < 0)
        return -1;
    for (size_t i = 0; i < n; i++)
        (void)note_uplink(b, &links[i]);
    if (netlink_link(b->nl, p->port->tap, &link, &found, e) < 0)
        return -1;
    if (found)
        note_tap(b, &link);
    update_wired(p);
    return 0;
}

int bridge_arm(struct net_armed_port *p, struct err *e)
{
    struct bridge_port *b = NEW(struct bridge_port);

    p->state = b;
    b->packet_fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (b->packet_fd < 0)
        return err_set_errno(e, ERR_SYSTEM, errno, "a packet socket for tap %s cannot be opened",
                             p->port->tap);
    if (netlink_open(&b->nl, e) < 0)
        return -1;
    return look_again(p, e);
}

void bridge_disarm(struct net_armed_port *p)
{
    struct bridge_port *b = p->state;

    if (!b)
        return;
    netlink_free(b->nl);
    close_aside(b->packet_fd); /* on the loop, and another port may be armed next */
    free(b);
    p->state = NULL;
}

static void look_again_and_tell(struct net_armed_port *p)
{
    struct err e = ERR_INIT;
    bool was_wired = p->wired;

    if (look_again(p, &e) < 0)
        log_err(LOG_LEVEL_DEBUG, &e, "tap %s", p->port->tap);
    else if (p->wired && !was_wired)
        net_armed_port_wired(p);
}

void bridge_link_lost(struct net_armed_port *p)
{
    look_again_and_tell(p);
}

void bridge_link_changed(struct net_armed_port *p, const struct link *link)
{
    struct bridge_port *b = p->state;
    bool was_wired = p->wired, fresh_way = false;

    if (link->port_only && strcmp(link->name, p->port->tap) != 0)
        return; /* an uplink's own event tells the rest too */
    if (strcmp(link->name, p->port->bridge) == 0) {
        if (link->gone || link->index != b->bridge_index)
            look_again_and_tell(p);
        return;
    }
    if (strcmp(link->name, p->port->tap) == 0)
        note_tap(b, link);
    else if (link->index == b->tap_index)
        b->tap_index = 0; /* renamed */
    else
        fresh_way = note_uplink(b, link);
    update_wired(p);
    if (p->wired && (!was_wired || fresh_way))
        net_armed_port_wired(p);
}

/* Every frame by every uplink, the most useful frame (RARP) first, in as few system calls as can be. */
static unsigned send_frames(const struct net_armed_port *p, const struct bridge_port *b)
{
    struct sockaddr_ll to[BATCH_MAX];
    struct mmsghdr messages[BATCH_MAX];
    struct iovec parts[BATCH_MAX];
    unsigned sent = 0, n = 0;

    for (size_t f = 0; f < p->n_frames; f++) {
        for (size_t u = 0; u < b->n_uplinks; u++) {
            to[n] = (struct sockaddr_ll){.sll_family = AF_PACKET, .sll_ifindex = b->uplinks[u]};
            parts[n] = (struct iovec){(void *)p->frames[f].data, p->frames[f].length};
            messages[n] = (struct mmsghdr){.msg_hdr = {.msg_name = &to[n],
                                                       .msg_namelen = sizeof(to[n]),
                                                       .msg_iov = &parts[n],
                                                       .msg_iovlen = 1}};
            n++;
        }
        if (n + UPLINKS_MAX <= BATCH_MAX && f + 1 < p->n_frames)
            continue;
        for (unsigned i = 0; i < n;) {
            int rc = sendmmsg(b->packet_fd, messages + i, n - i, MSG_DONTWAIT);
            sent += rc > 0 ? (unsigned)rc : 0;
            i += rc > 0 ? (unsigned)rc : 1; /* an uplink that just went away: the next one */
        }
        n = 0;
    }
    return sent;
}

unsigned bridge_announce(struct net_armed_port *p, struct err *e)
{
    const struct bridge_port *b = p->state;

    if (!p->wired)
        return 0;
    if (netlink_point_fdb(b->nl, b->tap_index, p->mac, e) < 0)
        return 0;
    return send_frames(p, b);
}
