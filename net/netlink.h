/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Netlink as the room needs it: links, bridges, addresses, forwarding entries. Messages are built by
 * libnl; a refusal becomes one sentence with the kernel's own extended acknowledgement in it.
 *
 * A socket belongs to one thread at a time; each blocking function of the room opens its own. Requests
 * wait at most NETLINK_TIMEOUT_MS for the kernel.
 */
#pragma once

#include <linux/if.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lib/err.h"
#include "lib/loop.h"
#include "net/frames.h"

enum { NETLINK_TIMEOUT_MS = 5000, NETLINK_KIND_SIZE = 16 };

/* The states of linux/if_bridge.h's BR_STATE_*; -1 for a link that is no bridge port. */
enum { LINK_STATE_NONE = -1, LINK_STATE_DISABLED = 0, LINK_STATE_FORWARDING = 3 };

struct link {
    int index;
    int master; /* index of the bridge it is in; 0 = none */
    int mtu;
    int tx_queue_length; /* frames; of a tap also the size of the ring that its guest reads */
    int port_state;      /* as a bridge port; LINK_STATE_* */
    bool up;             /* administratively */
    bool running;        /* and with a carrier: for a tap, some process holds it */
    bool gone;           /* in events: it was deleted */
    bool port_only;      /* in events: only index, name, master and port_state are told */
    char name[IFNAMSIZ];
    char kind[NETLINK_KIND_SIZE]; /* "bridge", "tun", "veth", "vxlan"; "" for hardware */
};

/* True if both name and kind say that a guest's end of a cable may be behind it. */
bool link_is_tap(const struct link *link);
/* True for a port of a bridge by which it reaches the fabric: no tap and no leg of a local service. */
bool link_is_uplink(const struct link *link);

struct netlink;
int netlink_open(struct netlink **out, struct err *e);
void netlink_free(struct netlink *nl);
DEFINE_CLEANUP(struct netlink *, netlink_free)

/* By name; *found tells whether it exists. A name that no interface can have is not found. */
int netlink_link(struct netlink *nl, const char *name, struct link *out, bool *found,
                 struct err *e);
/* All links, or the ports of the bridge with that index (0 = all). *out is the caller's. */
int netlink_links(struct netlink *nl, int master, struct link **out, size_t *count, struct err *e);
/* Has it an IP address other than a link-local IPv6 one, which the kernel gives by itself? */
int netlink_has_address(struct netlink *nl, const struct link *link, bool *has, struct err *e);

/* The packets that the link with that index has sent (for a tap: that its holder has read) and dropped. */
int netlink_sent(struct netlink *nl, int index, uint64_t *packets, uint64_t *dropped,
                 struct err *e);

/* Makes a bridge that forwards at once: no spanning tree, forward delay 0; down. */
int netlink_add_bridge(struct netlink *nl, const char *name, struct err *e);
int netlink_delete(struct netlink *nl, const struct link *link, struct err *e);
int netlink_set_up(struct netlink *nl, const struct link *link, struct err *e);
int netlink_set_mtu(struct netlink *nl, const struct link *link, int mtu, struct err *e);
/*
 * Of an interface that is up, the kernel drops what passes meanwhile (1 to 3 frames at 10 kHz, measured
 * with 6.18): it takes the queueing discipline out of use and puts it back.
 */
int netlink_set_tx_queue_length(struct netlink *nl, const struct link *link, int frames,
                                struct err *e);
/* master NULL takes it out of its bridge. */
int netlink_set_master(struct netlink *nl, const struct link *link, const struct link *master,
                       struct err *e);

/*
 * Points the forwarding table of the bridge that `port_index` is in at that port, as if a frame of the
 * guest had come from it: a dynamic entry that ages and moves. One system call; never waits for long.
 */
int netlink_point_fdb(struct netlink *nl, int port_index, const uint8_t mac[FRAME_MAC_SIZE],
                      struct err *e);

/*
 * Link events on the loop. `changed` is called for each new, changed or deleted link; `lost` when the
 * kernel dropped events (ENOBUFS) or their socket failed: the caller looks at everything again. Neither
 * may free the events.
 */
struct link_events;
struct link_events_fns {
    void (*changed)(void *aux, const struct link *link);
    void (*lost)(void *aux);
};
int link_events_new(struct link_events **out, struct loop *loop, const struct link_events_fns *fns,
                    void *aux, struct err *e);
void link_events_free(struct link_events *events);
DEFINE_CLEANUP(struct link_events *, link_events_free)
