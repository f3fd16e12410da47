/* SPDX-License-Identifier: Apache-2.0 */
/*
 * For implementers of a kind of wiring (bridge.c, ovs.c, fake.c) and for net.c and announce.c that call
 * them. Users include net/net.h and know none of this.
 *
 * Blocking operations run on workers, several at a time, and get all they need in `struct net_look`; they
 * keep nothing. Announcing runs on the loop's thread; what a backend keeps for it hangs at the armed port.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lib/vector.h"
#include "net/frames.h"
#include "net/net.h"
#include "net/netlink.h"

enum { NET_KIND_COUNT = (int)NET_KIND_FAKE + 1, NET_MTU_MAX = 65535 };

static inline bool net_kind_known(enum net_kind kind)
{
    return (int)kind >= 0 && (int)kind < (int)NET_KIND_COUNT;
}

/* What a blocking operation may use. */
struct net_look {
    struct net *net;         /* only for the fake, whose world hangs there */
    const struct conf *conf; /* one snapshot for the whole call */
    int64_t deadline_us;     /* monotonic; for what waits */
};

/* One port of an armed set. The wrapper owns all but `state`. */
struct net_armed_port {
    struct net *net;
    const struct net_ops *ops;
    struct net_port *port; /* a copy */
    struct frame *frames;
    size_t n_frames;
    uint8_t mac[FRAME_MAC_SIZE];
    bool wired;  /* the backend could announce now; kept by the backend */
    void *state; /* the backend's */
    struct net_armed *set;
    struct loop_timer *timer;
    int64_t start_us;        /* of the rounds that are under way */
    bool teaching;           /* the rounds begin when the lessons are over */
    unsigned lessons;        /* that were given */
    int64_t window_start_us; /* rate limit */
    unsigned rounds_in_window;
};

struct net_audit_row {
    char *name, *bridge, *why, *instance_uuid; /* instance_uuid NULL: nothing tells it */
};
DEFINE_VECTOR(net_audit_rows, struct net_audit_row)

struct net_ops {
    const char *name;
    /* Pure looks; see net.h. `ready` looks once: -1 tells what is not there yet. */
    int (*check)(const struct net_look *look, const struct net_port *port, struct err *e);
    int (*ready)(const struct net_look *look, const struct net_port *port, struct err *e);
    /* Has its owner given the port its way? Looks once; NULL = what is ready has it. */
    int (*wired)(const struct net_look *look, const struct net_port *port, bool *wired,
                 struct err *e);
    /* Does the port lead out of this host? Looks once; NULL = always. */
    int (*way)(const struct net_look *look, const struct net_port *port, bool *way, struct err *e);
    int (*present)(const struct net_look *look, const struct net_port *port, bool *present,
                   struct err *e);
    /* Pushes its own undo steps, each before its effect. Idempotent, as is unplug. */
    int (*plug)(const struct net_look *look, const struct net_port *port, struct undo *undo,
                struct err *e);
    int (*unplug)(const struct net_look *look, const struct net_port *port, struct err *e);
    /* Instead of the kernel's hold (net/hold.h), where there is no tap; NULL = the kernel's. */
    int (*hold)(const struct net_look *look, const struct net_port *port, struct err *e);
    /* Takes away a bridge that plug made, if nobody else uses it by now; NULL = there is none. */
    int (*remove_bridge)(const struct net_look *look, const char *bridge, const char *uplink,
                         struct err *e);
    bool guards_tap; /* others than the tap's maker set its flags (net/tap_guard.h) */
    /* Adds what exists and may be a leftover; the wrapper drops rows of instances that are known. */
    int (*audit)(const struct net_look *look, struct net_audit_rows *rows, struct err *e);

    /* Loop's thread. arm fails only for what will not mend itself; disarm takes a half-armed port. */
    int (*arm)(struct net_armed_port *p, struct err *e);
    void (*disarm)(struct net_armed_port *p);
    /* Sends all frames now; the number that left, 0 if the port is not wired yet. */
    unsigned (*announce)(struct net_armed_port *p, struct err *e);
    /* Shows the switch alone where the guest is: no frame of the guest leaves this host. False if the port is not
     * wired yet. NULL = the backend's tables and its forwarding are one. */
    bool (*teach)(struct net_armed_port *p, struct err *e);
    /* Link events, told to all armed ports; NULL = not wanted. `lost`: look again at everything. */
    void (*link_changed)(struct net_armed_port *p, const struct link *link);
    void (*link_lost)(struct net_armed_port *p);
};

extern const struct net_ops net_bridge_ops, net_ovs_ops, net_fake_ops;

/* announce.c: a backend tells that a port can be announced that could not, or that its way changed. */
void net_armed_port_wired(struct net_armed_port *p);

/* What net.c lends to the other files of the room. */
struct loop *net_loop(const struct net *net);
const struct net_ops *net_ops_of(enum net_kind kind);
struct conf *net_conf(struct net *net); /* a reference: conf_unref() */
struct net_port *net_port_copy(const struct net_port *port);
/* All names of a port are of their type; ERR_INVALID otherwise. */
int net_port_check(const struct net_port *port, struct err *e);
void *net_fake_world(const struct net *net);
void *net_fake_world_new(void);
void net_fake_world_free(void *world);

/* Pushes "net.unplug" of the port; each backend's plug does it just before it makes what unplug takes. */
int net_push_unplug(struct undo *undo, const struct net_port *port, struct err *e);
/* Is the bridge wanted by a port other than `tap` that was plugged and not unplugged since? */
bool net_bridge_wanted(struct net *net, const char *bridge, const char *tap);

/* tap.c: makes a persistent tap for `create_tap`, up and with the MTU; an existing tap is left. */
int tap_create(const char *name, bool multiqueue, int mtu, struct err *e);
/* Removes a tap that nobody holds open; ERR_NET_PLUG if a process does. No such tap is success. */
int tap_remove(struct netlink *nl, const char *name, struct err *e);

/* hold.c: adds all holds of this host, whose they ever are. */
int hold_audit(struct net_audit_rows *rows, struct err *e);
