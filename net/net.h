/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Ports of guests on this host: Linux bridges, Open vSwitch, fake (net/net_provider.h). By netlink; no
 * program is called for bridges. `BLOCKS` = call on a worker; the rest is for the loop and quick.
 *
 * A port of a guest that comes here goes through: check (pure look) -> plug (bridge, port, undo pushed
 * first) -> ready (everything forwards before the first byte) -> arm (frames prebuilt, sockets open) ->
 * announce (at the source's pause: the bridge's table is pointed at the tap, then RARP and GARP or
 * unsolicited NA leave; migration-floor 6 and 11) -> disarm. On the source: arm before the start, announce
 * when a failed switch-over resumed the guest here, unplug after success.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <json-c/json_object.h>

#include "conf/conf.h"
#include "lib/err.h"
#include "lib/loop.h"
#include "lib/undo.h"

enum net_kind { NET_KIND_BRIDGE, NET_KIND_OVS, NET_KIND_FAKE };

struct net_port {
    enum net_kind kind;
    char *port_id; /* Neutron's, or made from the MAC in standalone */
    char *instance_uuid;
    char *mac;
    char *
        *addresses; /* IP addresses of the guest, NULL-terminated; for GARP and NA; may be empty */
    char *bridge;   /* "brq..." or "br-int" */
    char *physical_network; /* for creating a missing bridge; NULL */
    bool is_flat;    /* its frames have no VLAN tags there: the interface itself is the uplink */
    bool is_tagged;  /* they have: it is not; neither = not known */
    char *tap;       /* "tap" + 11 characters of the port id */
    int mtu;         /* 0 = leave */
    bool create_tap; /* ovs_create_tap: we make the tap (RPC of 2026.2); else libvirt does */
    bool multiqueue;
    /* OVS: the domain's interface has a <virtualport>, so libvirt makes the port and we only look.
     * False = delegated to us: we make it, before the tap exists. */
    bool plugged_by_libvirt;
};
void net_port_free(struct net_port *port);
DEFINE_CLEANUP(struct net_port *, net_port_free)
/* As JSON, for undo steps and the journal; names are validated on the way back. */
struct json_object *net_port_to_json(const struct net_port *port);
int net_port_from_json(struct json_object *o, struct net_port **out, struct err *e);

struct net;
int net_new(struct net **out, struct loop *loop, const struct conf *conf, struct err *e);
void net_free(struct net *net);
DEFINE_CLEANUP(struct net *, net_free)
void net_set_conf(struct net *net, const struct conf *conf);

/* BLOCKS. Is the bridge present, or can it be made (its physical interface is mapped and present)? */
int net_check(struct net *net, const struct net_port *port, struct err *e);
/* BLOCKS. Makes what is missing; pushes undo steps "net.unplug", "net.remove_bridge" first. Idempotent. */
int net_plug(struct net *net, const struct net_port *port, struct undo *undo, struct err *e);
/*
 * BLOCKS. Makes ready what holds frames for the port's tap (net/hold.h: hold_make), [net] hold_limit of them;
 * pushes the undo step "net.unhold" first. Idempotent. net_unplug() takes it away as well.
 */
int net_hold_make(struct net *net, const struct net_port *port, struct undo *undo, struct err *e);
/* BLOCKS, at most timeout_us: bridge and uplink up and forwarding, MTU as wanted (and the tap wired, if
 * it exists by now). */
int net_wait_ready(struct net *net, const struct net_port *port, int64_t timeout_us, struct err *e);
/*
 * BLOCKS, at most timeout_us: until those whose network it is (Neutron's Open vSwitch agent) have given the port
 * its way out of this host, which they can before its tap exists. *wired is false when the time was over. What we
 * wire ourselves is wired once it is ready.
 */
int net_wait_wired(struct net *net, const struct net_port *port, int64_t timeout_us, bool *wired,
                   struct err *e);
/*
 * BLOCKS. Has the tap its way out of this host now, whoever gave it: its bridge has an uplink, its port in Open vSwitch
 * a VLAN (OVN follows the tap)?
 */
int net_has_way(struct net *net, const struct net_port *port, bool *way, struct err *e);
/*
 * BLOCKS. Shares the tap of a guest that runs here, so that its port outlives it (net/tap_end.h). ERR_NET_PLUG if the
 * port has no way out of this host, or ends with the guest whatever we do: libvirt takes its own ports out of Open
 * vSwitch.
 */
struct tap_end;
int net_share_tap(struct net *net, const struct net_port *port, struct tap_end **out,
                  struct err *e);
/* BLOCKS. Takes away the tap (if we or libvirt left it) and the OVS port; never a bridge that has other
 * ports. Idempotent. */
int net_unplug(struct net *net, const struct net_port *port, struct err *e);
/* BLOCKS. True if the tap exists here and belongs to a bridge. */
int net_port_present(struct net *net, const struct net_port *port, bool *present, struct err *e);

/* A set of ports ready to be announced: all that can be early is done. Loop thread. */
struct net_armed;
int net_arm(struct net *net, struct net_port *const *ports, size_t count, struct net_armed **out,
            struct err *e);
/*
 * Announces now (a few system calls, < 1 ms) and repeats: [net] announce_count rounds, announce_interval
 * apart, then at growing pauses for 2.4 s. When the tap is wired, retagged or gets another uplink later, all
 * that begins anew, so a set is best kept armed for about 2 s after the guest runs. Returns the number of
 * ports whose first announcement left; those whose tap does not exist yet follow by themselves. Loop thread.
 */
unsigned net_announce(struct net_armed *armed);
/*
 * As net_announce(), for where frames that still come by the old way are not lost. A switch whose forwarding follows
 * its tables a little later (Open vSwitch: until its revalidators have been through, frames go by old flows, and what
 * those flows counted teaches the old place once more) is taught first, and the fabric is told 5 ms later.
 * Returns the number of ports that were announced or taught. fn is called once, when the fabric was told of all ports
 * that it can be told of, perhaps before this returns.
 */
unsigned net_teach_and_announce(struct net_armed *armed, void (*fn)(void *aux), void *aux);
/* Lessons go on: the fabric is told soon, or at once by net_announce(). Loop thread. */
bool net_is_teaching(const struct net_armed *armed);
/* Are there lessons on this kind of wiring, before the fabric is told? Any thread. */
bool net_kind_is_taught(enum net_kind kind);
/* fn is called whenever the way of one of the ports may have changed; from the loop, until net_disarm(). */
void net_armed_watch(struct net_armed *armed, void (*fn)(void *aux), void *aux);
void net_disarm(struct net_armed *armed); /* NULL is accepted */
DEFINE_CLEANUP(struct net_armed *, net_disarm)

/* Rows for the undo table; ended by a row with name NULL. */
const struct undo_handler *net_undo_handlers(struct net *net);

/*
 * BLOCKS. Taps and ports of ours whose instance is not in `instance_uuids` (NULL-terminated; instances that
 * are on their way here belong into it): [{"name","bridge","why"}].
 */
int net_audit(struct net *net, const char *const *instance_uuids, struct json_object **out,
              struct err *e);
