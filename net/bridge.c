/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Linux bridges. A bridge that is missing on the destination is made as Neutron's agent makes it (brq...,
 * no spanning tree, no forward delay) with the interface that [net] physical_interface_mappings gives for
 * the port's physical network, before the guest's first byte moves: Neutron's agent would do it only when
 * it sees the tap, hundreds of frames too late.
 *
 * What others use stays: an interface with an address is never put into a bridge, and a bridge with an
 * address or with ports of others is never removed.
 */
#include <string.h>

#include "lib/json.h"
#include "lib/log.h"
#include "lib/text.h"
#include "net/bridge_announce.h"
#include "net/net_provider.h"

LOG_MODULE(net);

/* What names the port's row: without Neutron no physical network is known, but the bridge has a name. */
static const char *mapping_key(const struct net_port *port)
{
    return port->physical_network ? port->physical_network : port->bridge;
}

/* Else they are those of Neutron's own file. */
static bool operator_gave_mappings(const struct conf *conf)
{
    return conf_is_set(conf, CONF_net_physical_interface_mappings);
}

/*
 * "physnet1:eth1" -> a copy of "eth1"; NULL if there is no row, or if the interface is not the uplink: a network with
 * VLAN tags has a device of its own on it, which Neutron's agent makes. Where the type is not known only the operator's
 * word counts.
 */
static char *mapped_interface(const struct conf *conf, const struct net_port *port)
{
    const char *key = mapping_key(port);
    size_t n, length = strlen(key);
    const char *const *rows = conf_list(conf, CONF_net_physical_interface_mappings, &n);

    if (port->is_tagged || (!port->is_flat && !operator_gave_mappings(conf)))
        return NULL;
    for (size_t i = 0; i < n && length; i++)
        if (strncmp(rows[i], key, length) == 0 && rows[i][length] == ':')
            return text_dup(rows[i] + length + 1);
    return NULL;
}

static bool may_lack_uplink(const struct conf *conf)
{
    const char *word = conf_string(conf, CONF_net_bridge_without_uplink);

    if (text_equal(word, "auto"))
        return text_equal(conf_string(conf, CONF_agent_control_plane), "nova");
    return text_equal(word, "yes");
}

static char *mappings_as_text(const struct conf *conf)
{
    size_t n;
    const char *const *rows = conf_list(conf, CONF_net_physical_interface_mappings, &n);
    struct text_buffer b = TEXT_BUFFER_INIT;

    for (size_t i = 0; i < n; i++)
        text_buffer_printf(&b, "%s%s", i ? ", " : "", rows[i]);
    if (n == 0)
        text_buffer_add(&b, "empty");
    return text_buffer_take(&b);
}

/* --- looking --------------------------------------------------------------------------------- */

static int check_uplink_free(struct netlink *nl, const char *bridge, const char *network,
                             const char *name, struct link *out, struct err *e)
{
    bool found, has_address;

    if (text_check_ifname(name, "interface in [net] physical_interface_mappings", e) < 0 ||
        netlink_link(nl, name, out, &found, e) < 0)
        return -1;
    if (!found)
        return err_set(e, ERR_NET_PLUG,
                       "bridge %s is missing and cannot be made: interface %s, which [net] "
                       "physical_interface_mappings gives for %s, does not exist",
                       bridge, name, network);
    if (out->master)
        return err_set(e, ERR_NET_PLUG,
                       "bridge %s is missing and cannot be made: interface %s, which [net] "
                       "physical_interface_mappings gives for %s, is in another "
                       "bridge",
                       bridge, name, network);
    if (netlink_has_address(nl, out, &has_address, e) < 0)
        return -1;
    if (has_address)
        return err_set(e, ERR_NET_PLUG,
                       "bridge %s is missing and cannot be made: interface %s (for "
                       "%s) has an IP address, which would not be reachable in a bridge",
                       bridge, name, network);
    return 0;
}

static int check_mtu(const struct link *link, const struct net_port *port, struct err *e)
{
    if (port->mtu <= link->mtu)
        return 0;
    return err_set(e, ERR_NET_PLUG, "interface %s of bridge %s has MTU %d, port %s needs %d",
                   link->name, port->bridge, link->mtu, port->port_id, port->mtu);
}

/*
 * Finds the interface for a bridge to be made. *found false (and 0) if an empty bridge will do. One that is known from
 * Neutron's own file and cannot be taken is left to its agent, which may know a way.
 */
static int find_uplink(const struct net_look *look, struct netlink *nl, const struct net_port *port,
                       struct link *out, bool *found, struct err *e)
{
    _cleanup_(str_freep) char *name = mapped_interface(look->conf, port);
    struct err own = ERR_INIT;

    *found = name && check_uplink_free(nl, port->bridge, mapping_key(port), name, out, &own) == 0 &&
             check_mtu(out, port, &own) == 0;
    if (*found)
        return 0;
    if (name && (operator_gave_mappings(look->conf) || !may_lack_uplink(look->conf)))
        return err_set(e, own.code, "%s", own.text);
    if (name)
        log_err(LOG_LEVEL_DEBUG, &own, "left to Neutron's agent");
    if (may_lack_uplink(look->conf))
        return 0;
    _cleanup_(str_freep) char *rows = mappings_as_text(look->conf);
    return err_set(
        e, ERR_NET_PLUG,
        "bridge %s is missing and cannot be made: no interface is known for %s %s ([net] "
        "physical_interface_mappings: %s)",
        port->bridge, port->physical_network ? "physical network" : "bridge", mapping_key(port),
        rows);
}

static int check_bridge_kind(const struct link *bridge, struct err *e)
{
    if (strcmp(bridge->kind, "bridge") == 0)
        return 0;
    return err_set(e, ERR_NET_PLUG, "interface %s is no Linux bridge but %s", bridge->name,
                   bridge->kind[0] ? bridge->kind : "hardware");
}

static int check_existing(struct netlink *nl, const struct link *bridge,
                          const struct net_port *port, struct err *e)
{
    _cleanup_(mem_freep) struct link *links = NULL;
    size_t n;

    if (check_bridge_kind(bridge, e) < 0 || netlink_links(nl, bridge->index, &links, &n, e) < 0)
        return -1;
    for (size_t i = 0; i < n; i++)
        if (link_is_uplink(&links[i]) && check_mtu(&links[i], port, e) < 0)
            return -1;
    return 0;
}

/* A tap that is there already must be a tap and in this bridge or in none. */
static int check_tap(struct netlink *nl, const struct link *bridge, const struct net_port *port,
                     struct link *tap, bool *found, struct err *e)
{
    if (netlink_link(nl, port->tap, tap, found, e) < 0)
        return -1;
    if (!*found)
        return 0;
    if (!link_is_tap(tap))
        return err_set(e, ERR_NET_PLUG, "interface %s exists and is no tap but %s", tap->name,
                       tap->kind[0] ? tap->kind : "hardware");
    if (tap->master && (!bridge || tap->master != bridge->index))
        return err_set(e, ERR_NET_PLUG, "tap %s is in another bridge than %s", tap->name,
                       port->bridge);
    return 0;
}

static int bridge_check(const struct net_look *look, const struct net_port *port, struct err *e)
{
    _cleanup_(netlink_freep) struct netlink *nl = NULL;
    struct link bridge, uplink, tap;
    bool found, has_uplink, has_tap;

    if (netlink_open(&nl, e) < 0 || netlink_link(nl, port->bridge, &bridge, &found, e) < 0)
        return -1;
    if (found ? check_existing(nl, &bridge, port, e) < 0
              : find_uplink(look, nl, port, &uplink, &has_uplink, e) < 0)
        return -1;
    return check_tap(nl, found ? &bridge : NULL, port, &tap, &has_tap, e);
}

static int check_port_forwards(const struct link *link, const char *bridge, struct err *e)
{
    if (!link->up || !link->running)
        return err_set(e, ERR_NET_PLUG, "uplink %s of bridge %s is down or has no carrier",
                       link->name, bridge);
    if (link->port_state != LINK_STATE_FORWARDING)
        return err_set(e, ERR_NET_PLUG, "uplink %s of bridge %s does not forward yet (state %d)",
                       link->name, bridge, link->port_state);
    return 0;
}

/* One uplink that forwards is enough; without any, the last one's reason is given. */
static int check_uplinks(const struct net_look *look, struct netlink *nl, const struct link *bridge,
                         const struct net_port *port, struct err *e)
{
    _cleanup_(str_freep) char *mapped = mapped_interface(look->conf, port);
    _cleanup_(mem_freep) struct link *links = NULL;
    struct err reason = ERR_INIT;
    size_t n;

    if (netlink_links(nl, bridge->index, &links, &n, e) < 0)
        return -1;
    for (size_t i = 0; i < n; i++) {
        if (!link_is_uplink(&links[i]))
            continue;
        err_clear(&reason);
        if (check_mtu(&links[i], port, &reason) == 0 &&
            check_port_forwards(&links[i], port->bridge, &reason) == 0)
            return 0;
    }
    if (err_is_set(&reason))
        return err_set(e, reason.code, "%s", reason.text);
    if ((!mapped || !operator_gave_mappings(look->conf)) && may_lack_uplink(look->conf))
        return 0; /* Neutron's agent brings it when it sees the tap */
    return err_set(e, ERR_NET_PLUG, "bridge %s has no uplink", port->bridge);
}

static int bridge_ready(const struct net_look *look, const struct net_port *port, struct err *e)
{
    _cleanup_(netlink_freep) struct netlink *nl = NULL;
    struct link bridge, tap;
    bool found, has_tap;

    if (netlink_open(&nl, e) < 0 || netlink_link(nl, port->bridge, &bridge, &found, e) < 0)
        return -1;
    if (!found)
        return err_set(e, ERR_NET_PLUG, "bridge %s is missing", port->bridge);
    if (check_bridge_kind(&bridge, e) < 0)
        return -1;
    if (!bridge.up)
        return err_set(e, ERR_NET_PLUG, "bridge %s is down", port->bridge);
    if (check_mtu(&bridge, port, e) < 0 || check_uplinks(look, nl, &bridge, port, e) < 0 ||
        check_tap(nl, &bridge, port, &tap, &has_tap, e) < 0)
        return -1;
    if (has_tap && !tap.master)
        return err_set(e, ERR_NET_PLUG, "tap %s is in no bridge yet", port->tap);
    return 0;
}

/* A bridge without an uplink is one that its network's owner has not finished. */
static int bridge_way(const struct net_look *look _unused_, const struct net_port *port, bool *way,
                      struct err *e)
{
    _cleanup_(netlink_freep) struct netlink *nl = NULL;
    _cleanup_(mem_freep) struct link *links = NULL;
    struct link bridge, tap;
    bool found, has_tap;
    size_t n = 0;

    if (netlink_open(&nl, e) < 0 || netlink_link(nl, port->bridge, &bridge, &found, e) < 0 ||
        netlink_link(nl, port->tap, &tap, &has_tap, e) < 0)
        return -1;
    *way = false;
    if (!found || !has_tap || tap.master != bridge.index ||
        tap.port_state != LINK_STATE_FORWARDING || !bridge.up)
        return 0;
    if (netlink_links(nl, bridge.index, &links, &n, e) < 0)
        return -1;
    for (size_t i = 0; i < n && !*way; i++)
        *way = link_is_uplink(&links[i]) && check_port_forwards(&links[i], port->bridge, NULL) == 0;
    return 0;
}

static int bridge_present(const struct net_look *look _unused_, const struct net_port *port,
                          bool *present, struct err *e)
{
    _cleanup_(netlink_freep) struct netlink *nl = NULL;
    struct link tap;
    bool found;

    if (netlink_open(&nl, e) < 0 || netlink_link(nl, port->tap, &tap, &found, e) < 0)
        return -1;
    *present = found && link_is_tap(&tap) && tap.master != 0;
    return 0;
}

/* --- making ---------------------------------------------------------------------------------- */

static int push_remove_bridge(struct undo *undo, const char *bridge, const struct link *uplink,
                              struct err *e)
{
    struct json_object *args = json_object_new_object();

    json_add_string(args, "bridge", bridge);
    json_add_string(args, "uplink", uplink ? uplink->name : NULL);
    return undo_push(undo, "net.remove_bridge", args, e);
}

/* Another worker, or Neutron's agent, may make the same bridge at the same time: then theirs will do. */
static int add_or_find(struct netlink *nl, const struct net_port *port, struct link *bridge,
                       struct err *e)
{
    struct err refusal = ERR_INIT;
    bool found;
    int rc = netlink_add_bridge(nl, port->bridge, &refusal);

    if (netlink_link(nl, port->bridge, bridge, &found, e) < 0)
        return -1;
    if (found)
        return check_bridge_kind(bridge, e);
    if (rc < 0)
        return err_set(e, refusal.code, "%s", refusal.text);
    return err_set(e, ERR_NET_PLUG, "bridge %s went away while it was made", port->bridge);
}

static int make_bridge(const struct net_look *look, struct netlink *nl, const struct net_port *port,
                       struct undo *undo, struct link *bridge, struct err *e)
{
    struct link uplink;
    bool has_uplink;

    if (find_uplink(look, nl, port, &uplink, &has_uplink, e) < 0 ||
        push_remove_bridge(undo, port->bridge, has_uplink ? &uplink : NULL, e) < 0 ||
        add_or_find(nl, port, bridge, e) < 0)
        return -1;
    if (has_uplink &&
        (netlink_set_master(nl, &uplink, bridge, e) < 0 || netlink_set_up(nl, &uplink, e) < 0))
        return -1;
    /* A bridge takes the MTU of its ports until somebody sets one. */
    if (port->mtu && netlink_set_mtu(nl, bridge, port->mtu, e) < 0)
        return -1;
    bridge->mtu = port->mtu ? port->mtu : bridge->mtu;
    log_debug("bridge %s made, uplink %s", port->bridge, has_uplink ? uplink.name : "none");
    return 0;
}

static int attach_tap(struct netlink *nl, const struct link *bridge, const struct net_port *port,
                      struct err *e)
{
    struct link tap;
    bool found;

    if (tap_create(port->tap, port->multiqueue, port->mtu, e) < 0 ||
        check_tap(nl, bridge, port, &tap, &found, e) < 0)
        return -1;
    if (!found)
        return err_set(e, ERR_NET_PLUG, "tap %s went away while it was made", port->tap);
    return tap.master ? 0 : netlink_set_master(nl, &tap, bridge, e);
}

static int bridge_plug(const struct net_look *look, const struct net_port *port, struct undo *undo,
                       struct err *e)
{
    _cleanup_(netlink_freep) struct netlink *nl = NULL;
    struct link bridge, tap;
    bool found, has_tap;

    if (netlink_open(&nl, e) < 0 || netlink_link(nl, port->bridge, &bridge, &found, e) < 0)
        return -1;
    if (found ? check_existing(nl, &bridge, port, e) < 0
              : make_bridge(look, nl, port, undo, &bridge, e) < 0)
        return -1;
    if (bridge.mtu < port->mtu && netlink_set_mtu(nl, &bridge, port->mtu, e) < 0)
        return -1;
    if (!bridge.up && netlink_set_up(nl, &bridge, e) < 0)
        return -1;
    if (check_tap(nl, &bridge, port, &tap, &has_tap, e) < 0 || net_push_unplug(undo, port, e) < 0)
        return -1;
    return port->create_tap ? attach_tap(nl, &bridge, port, e) : 0;
}

/* --- taking away ----------------------------------------------------------------------------- */

static int bridge_unplug(const struct net_look *look _unused_, const struct net_port *port,
                         struct err *e)
{
    _cleanup_(netlink_freep) struct netlink *nl = NULL;
    struct link bridge, tap;
    bool found, has_tap;

    if (netlink_open(&nl, e) < 0 || netlink_link(nl, port->bridge, &bridge, &found, e) < 0 ||
        check_tap(nl, found ? &bridge : NULL, port, &tap, &has_tap, e) < 0)
        return -1;
    return has_tap ? tap_remove(nl, port->tap, e) : 0;
}

/* True if nothing but the uplink that we brought is in it and no address is on it. */
static int nobody_uses(struct netlink *nl, const struct link *bridge, const char *uplink,
                       bool *unused, struct err *e)
{
    _cleanup_(mem_freep) struct link *links = NULL;
    bool has_address;
    size_t n;

    if (netlink_has_address(nl, bridge, &has_address, e) < 0 ||
        netlink_links(nl, bridge->index, &links, &n, e) < 0)
        return -1;
    *unused = !has_address;
    for (size_t i = 0; i < n; i++)
        if (!text_equal(links[i].name, uplink))
            *unused = false;
    return 0;
}

static int bridge_remove(const struct net_look *look _unused_, const char *name, const char *uplink,
                         struct err *e)
{
    _cleanup_(netlink_freep) struct netlink *nl = NULL;
    struct link bridge;
    bool found, unused;

    if (netlink_open(&nl, e) < 0 || netlink_link(nl, name, &bridge, &found, e) < 0)
        return -1;
    if (!found || strcmp(bridge.kind, "bridge") != 0)
        return 0;
    if (nobody_uses(nl, &bridge, uplink, &unused, e) < 0)
        return -1;
    if (!unused) {
        log_debug("bridge %s stays, others use it by now", name);
        return 0;
    }
    return netlink_delete(nl, &bridge, e); /* the kernel lets the uplink go */
}

/* --- audit ----------------------------------------------------------------------------------- */

/* "tap" and 11 characters of a port's id: Nova's rule. */
static bool named_as_ours(const char *name)
{
    return strncmp(name, "tap", 3) == 0 && strlen(name) == 14 &&
           strspn(name + 3, "0123456789abcdef-") == 11;
}

static const char *name_of(const struct link *links, size_t n, int index)
{
    for (size_t i = 0; i < n; i++)
        if (links[i].index == index)
            return links[i].name;
    return NULL;
}

static int bridge_audit(const struct net_look *look _unused_, struct net_audit_rows *rows,
                        struct err *e)
{
    _cleanup_(netlink_freep) struct netlink *nl = NULL;
    _cleanup_(mem_freep) struct link *links = NULL;
    size_t n;

    if (netlink_open(&nl, e) < 0 || netlink_links(nl, 0, &links, &n, e) < 0)
        return -1;
    for (size_t i = 0; i < n; i++) {
        if (!link_is_tap(&links[i]) || links[i].running || !named_as_ours(links[i].name))
            continue;
        struct net_audit_row *row = net_audit_rows_add(rows);
        row->name = text_dup(links[i].name);
        row->bridge = text_dup(name_of(links, n, links[i].master));
        row->why = text_dup("no process holds this tap open");
    }
    return 0;
}

const struct net_ops net_bridge_ops = {
    .name = "bridge",
    .check = bridge_check,
    .ready = bridge_ready,
    .way = bridge_way,
    .present = bridge_present,
    .plug = bridge_plug,
    .unplug = bridge_unplug,
    .remove_bridge = bridge_remove,
    .audit = bridge_audit,
    .arm = bridge_arm,
    .disarm = bridge_disarm,
    .announce = bridge_announce,
    .link_changed = bridge_link_changed,
    .link_lost = bridge_link_lost,
};
