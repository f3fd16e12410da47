/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Open vSwitch. With Nova's delegation the port is made here before the tap exists (the arriving domain
 * has a plain <interface type='ethernet'>), with the external ids that os-vif writes, so that
 * ovs-vswitchd takes the tap in the moment libvirt makes it; Neutron's agent or OVN then set tag and
 * flows by iface-id. Bridges of Open vSwitch belong to Neutron: they are never made or removed here.
 */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "lib/clock.h"
#include "lib/json.h"
#include "lib/log.h"
#include "lib/text.h"
#include "net/net_provider.h"
#include "net/ovs_announce.h"
#include "net/ovsdb.h"

LOG_MODULE(net);

enum { UUID_SIZE = 37, ID_SIZE = 256, SETTLE_US = 5000000, SETTLE_POLL_US = 10000 };
/* What Neutron's agent gives to ports that lead nowhere (neutron/plugins/ml2/drivers/openvswitch, DEAD_VLAN_TAG). */
enum { DEAD_VLAN_TAG = 4095 };

/* What the database says about a port. */
struct ovs_view {
    bool bridge_exists, port_exists, in_bridge;
    char bridge_uuid[UUID_SIZE], port_uuid[UUID_SIZE], interface_uuid[UUID_SIZE];
    char iface_id[ID_SIZE];
    char error[ID_SIZE];       /* why ovs-vswitchd could not take the interface */
    int64_t ofport;            /* > 0: it is part of the datapath */
    int64_t tag;               /* the VLAN within this host; 0 = none */
    bool ovn;                  /* the bridge is OVN's */
    int64_t next_cfg, cur_cfg; /* changes that were asked for, and that ovs-vswitchd has taken up */
};

/* --- JSON of OVSDB (RFC 7047, section 5) ----------------------------------------------------- */

static struct json_object *string_of(const char *s)
{
    return json_object_new_string(s);
}

static struct json_object *array_of(struct json_object *a, struct json_object *b,
                                    struct json_object *c)
{
    struct json_object *array = json_object_new_array();

    json_object_array_add(array, a);
    if (b)
        json_object_array_add(array, b);
    if (c)
        json_object_array_add(array, c);
    return array;
}

static struct json_object *uuid_of(const char *uuid)
{
    return array_of(string_of("uuid"), string_of(uuid), NULL);
}

static struct json_object *operation(const char *op, const char *table)
{
    struct json_object *o = json_object_new_object();

    json_add_string(o, "op", op);
    json_add_string(o, "table", table);
    return o;
}

static struct json_object *where(const char *column, const char *function,
                                 struct json_object *value)
{
    return array_of(array_of(string_of(column), string_of(function), value), NULL, NULL);
}

/* Rows where column == value (NULL: all rows), with the columns given, divided by blanks. */
static struct json_object *select_rows(const char *table, const char *name, const char *columns)
{
    struct json_object *o = operation("select", table), *list = json_object_new_array();
    char **words = text_split(columns, ' ');

    for (char **w = words; *w; w++)
        json_object_array_add(list, string_of(*w));
    text_vector_free(words);
    json_object_object_add(o, "where",
                           name ? where("name", "==", string_of(name)) : json_object_new_array());
    json_object_object_add(o, "columns", list);
    return o;
}

static struct json_object *rows_of(struct json_object *results, size_t index)
{
    struct json_object *rows = json_get(json_object_array_get_idx(results, index), "rows");

    return json_object_is_type(rows, json_type_array) ? rows : NULL;
}

/* An element of an array as text; NULL unless it is one. */
static const char *text_at(struct json_object *array, size_t index)
{
    if (!json_object_is_type(array, json_type_array) || index >= json_object_array_length(array))
        return NULL;
    struct json_object *o = json_object_array_get_idx(array, index);
    return json_object_is_type(o, json_type_string) ? json_object_get_string(o) : NULL;
}

static void copy_text(char *out, size_t size, const char *s)
{
    (void)snprintf(out, size, "%s", s ? s : "");
}

static void copy_uuid(char out[UUID_SIZE], struct json_object *row)
{
    copy_text(out, UUID_SIZE, text_at(json_get(row, "_uuid"), 1));
}

/* A value of a map column ["map",[["key","value"],...]]; NULL if it has no such key. */
static const char *map_value(struct json_object *row, const char *column, const char *key)
{
    struct json_object *map = json_get(row, column);

    if (!text_equal(text_at(map, 0), "map"))
        return NULL;
    struct json_object *pairs = json_object_array_get_idx(map, 1);
    for (size_t i = 0; json_object_is_type(pairs, json_type_array) && i < json_array_length(pairs);
         i++)
        if (text_equal(text_at(json_object_array_get_idx(pairs, i), 0), key))
            return text_at(json_object_array_get_idx(pairs, i), 1);
    return NULL;
}

/* Is the uuid in a set column: ["uuid",x] alone or ["set",[["uuid",x],...]]? */
static bool set_has_uuid(struct json_object *row, const char *column, const char *uuid)
{
    struct json_object *set = json_get(row, column);

    if (text_equal(text_at(set, 0), "uuid"))
        return text_equal(text_at(set, 1), uuid);
    if (!text_equal(text_at(set, 0), "set"))
        return false;
    struct json_object *items = json_object_array_get_idx(set, 1);
    for (size_t i = 0; json_object_is_type(items, json_type_array) && i < json_array_length(items);
         i++)
        if (text_equal(text_at(json_object_array_get_idx(items, i), 1), uuid))
            return true;
    return false;
}

/* --- looking --------------------------------------------------------------------------------- */

static int open_database(const struct net_look *look, struct ovsdb **out, struct err *e)
{
    return ovsdb_open(out, conf_string(look->conf, CONF_net_ovs_database), e);
}

static void read_interface(struct json_object *row, struct ovs_view *view)
{
    copy_uuid(view->interface_uuid, row);
    copy_text(view->iface_id, sizeof(view->iface_id), map_value(row, "external_ids", "iface-id"));
    copy_text(view->error, sizeof(view->error), json_get_string(row, "error", ""));
    view->ofport = json_get_int(row, "ofport", 0);
}

static int look_at(struct ovsdb *db, const struct net_port *port, struct ovs_view *view,
                   struct err *e)
{
    _cleanup_(json_putp) struct json_object *results = NULL;
    struct json_object *operations =
        array_of(select_rows("Bridge", port->bridge, "_uuid ports"),
                 select_rows("Port", port->tap, "_uuid tag"),
                 select_rows("Interface", port->tap, "_uuid external_ids error ofport"));

    json_object_array_add(operations,
                          select_rows("Open_vSwitch", NULL, "next_cfg cur_cfg external_ids"));
    if (ovsdb_transact(db, operations, &results, e) < 0)
        return -1;
    *view = (struct ovs_view){0};
    struct json_object *bridges = rows_of(results, 0), *ports = rows_of(results, 1);
    struct json_object *interfaces = rows_of(results, 2);
    view->bridge_exists = json_array_length(bridges) > 0;
    view->port_exists = json_array_length(ports) > 0;
    if (view->bridge_exists)
        copy_uuid(view->bridge_uuid, json_object_array_get_idx(bridges, 0));
    if (view->port_exists) {
        copy_uuid(view->port_uuid, json_object_array_get_idx(ports, 0));
        view->tag = json_get_int(json_object_array_get_idx(ports, 0), "tag", 0);
    }
    if (view->bridge_exists && view->port_exists)
        view->in_bridge =
            set_has_uuid(json_object_array_get_idx(bridges, 0), "ports", view->port_uuid);
    if (json_array_length(interfaces))
        read_interface(json_object_array_get_idx(interfaces, 0), view);
    if (json_array_length(rows_of(results, 3))) {
        struct json_object *root = json_object_array_get_idx(rows_of(results, 3), 0);
        view->next_cfg = json_get_int(root, "next_cfg", 0);
        view->cur_cfg = json_get_int(root, "cur_cfg", 0);
        view->ovn = map_value(root, "external_ids", "ovn-remote") != NULL;
    }
    return 0;
}

static int check_view(const struct net_look *look, const struct net_port *port,
                      const struct ovs_view *view, struct err *e)
{
    if (!view->bridge_exists)
        return err_set(e, ERR_NET_PLUG,
                       "Open vSwitch bridge %s is missing in the database at %s ([net] "
                       "ovs_database); such bridges are not made here",
                       port->bridge, conf_string(look->conf, CONF_net_ovs_database));
    if (view->port_exists && !view->in_bridge)
        return err_set(e, ERR_NET_PLUG, "tap %s is in another Open vSwitch bridge than %s",
                       port->tap, port->bridge);
    if (view->iface_id[0] && !text_equal(view->iface_id, port->port_id))
        return err_set(e, ERR_NET_PLUG, "tap %s in bridge %s belongs to port %s, not to %s",
                       port->tap, port->bridge, view->iface_id, port->port_id);
    return 0;
}

static int ovs_check(const struct net_look *look, const struct net_port *port, struct err *e)
{
    _cleanup_(ovsdb_freep) struct ovsdb *db = NULL;
    struct ovs_view view;

    if (open_database(look, &db, e) < 0 || look_at(db, port, &view, e) < 0)
        return -1;
    return check_view(look, port, &view, e);
}

static int find_tap(const char *name, struct link *tap, bool *found, struct err *e)
{
    _cleanup_(netlink_freep) struct netlink *nl = NULL;

    return netlink_open(&nl, e) < 0 ? -1 : netlink_link(nl, name, tap, found, e);
}

static int ovs_ready(const struct net_look *look, const struct net_port *port, struct err *e)
{
    _cleanup_(ovsdb_freep) struct ovsdb *db = NULL;
    struct ovs_view view;
    struct link tap;
    bool has_tap;

    if (open_database(look, &db, e) < 0 || look_at(db, port, &view, e) < 0 ||
        check_view(look, port, &view, e) < 0 || find_tap(port->tap, &tap, &has_tap, e) < 0)
        return -1;
    if (!view.port_exists && !port->plugged_by_libvirt)
        return err_set(e, ERR_NET_PLUG, "bridge %s has no port %s", port->bridge, port->tap);
    if (has_tap && view.port_exists && view.ofport <= 0)
        return err_set(e, ERR_NET_PLUG, "Open vSwitch has not taken tap %s into bridge %s%s%s",
                       port->tap, port->bridge, view.error[0] ? ": " : " yet", view.error);
    return 0;
}

static bool is_wired(const struct net_port *port, const struct ovs_view *view)
{
    return view->ovn || port->plugged_by_libvirt || (view->tag > 0 && view->tag < DEAD_VLAN_TAG);
}

/*
 * Neutron's agent sets the tag last, when the network's flows are there, and for a port that has migrating_to also
 * while its binding here is inactive (neutron/agent/rpc.py, get_device_details). OVN waits for the tap: not waited for.
 */
static int ovs_wired(const struct net_look *look, const struct net_port *port, bool *wired,
                     struct err *e)
{
    _cleanup_(ovsdb_freep) struct ovsdb *db = NULL;
    struct ovs_view view;

    if (open_database(look, &db, e) < 0 || look_at(db, port, &view, e) < 0)
        return -1;
    *wired = is_wired(port, &view);
    return 0;
}

/* The database knows before ovs-vswitchd has done it. */
static int ovs_way(const struct net_look *look, const struct net_port *port, bool *way,
                   struct err *e)
{
    _cleanup_(ovsdb_freep) struct ovsdb *db = NULL;
    struct ovs_view view;

    if (open_database(look, &db, e) < 0 || look_at(db, port, &view, e) < 0)
        return -1;
    *way = is_wired(port, &view) && view.cur_cfg >= view.next_cfg;
    return 0;
}

static int ovs_present(const struct net_look *look, const struct net_port *port, bool *present,
                       struct err *e)
{
    _cleanup_(ovsdb_freep) struct ovsdb *db = NULL;
    struct ovs_view view;
    struct link tap;
    bool has_tap;

    if (open_database(look, &db, e) < 0 || look_at(db, port, &view, e) < 0 ||
        find_tap(port->tap, &tap, &has_tap, e) < 0)
        return -1;
    *present = has_tap && view.in_bridge;
    return 0;
}

/* --- making ---------------------------------------------------------------------------------- */

/* As os-vif writes them (vif_plug_ovs, ovsdb_lib.create_ovs_vif_port). */
static struct json_object *interface_row(const struct net_port *port)
{
    struct json_object *row = json_object_new_object(), *ids = json_object_new_array();

    json_object_array_add(ids, array_of(string_of("iface-id"), string_of(port->port_id), NULL));
    json_object_array_add(ids, array_of(string_of("iface-status"), string_of("active"), NULL));
    json_object_array_add(ids, array_of(string_of("attached-mac"), string_of(port->mac), NULL));
    json_object_array_add(ids,
                          array_of(string_of("vm-uuid"), string_of(port->instance_uuid), NULL));
    json_object_object_add(row, "external_ids", array_of(string_of("map"), ids, NULL));
    if (port->mtu)
        json_add_int(row, "mtu_request", port->mtu);
    return row;
}

static struct json_object *add_port(const struct net_port *port)
{
    struct json_object *interface = operation("insert", "Interface"), *row = interface_row(port);
    struct json_object *p = operation("insert", "Port"), *p_row = json_object_new_object();
    struct json_object *bridge = operation("mutate", "Bridge");

    json_add_string(row, "name", port->tap);
    json_object_object_add(interface, "row", row);
    json_add_string(interface, "uuid-name", "new_interface");
    json_add_string(p_row, "name", port->tap);
    json_object_object_add(p_row, "interfaces",
                           array_of(string_of("named-uuid"), string_of("new_interface"), NULL));
    json_object_object_add(p, "row", p_row);
    json_add_string(p, "uuid-name", "new_port");
    json_object_object_add(bridge, "where", where("name", "==", string_of(port->bridge)));
    struct json_object *added = array_of(
        string_of("set"),
        array_of(array_of(string_of("named-uuid"), string_of("new_port"), NULL), NULL, NULL), NULL);
    json_object_object_add(
        bridge, "mutations",
        array_of(array_of(string_of("ports"), string_of("insert"), added), NULL, NULL));
    return array_of(interface, p, bridge);
}

static struct json_object *update_interface(const struct net_port *port)
{
    struct json_object *o = operation("update", "Interface");

    json_object_object_add(o, "where", where("name", "==", string_of(port->tap)));
    json_object_object_add(o, "row", interface_row(port));
    return array_of(o, NULL, NULL);
}

/* Makes ovs-vswitchd tell in cur_cfg when it has taken up the transaction that this is part of. */
static struct json_object *count_change(void)
{
    struct json_object *o = operation("mutate", "Open_vSwitch");

    json_object_object_add(o, "where", json_object_new_array());
    json_object_object_add(
        o, "mutations",
        array_of(array_of(string_of("next_cfg"), string_of("+="), json_object_new_int64(1)), NULL,
                 NULL));
    return o;
}

/* Port and Interface rows vanish by themselves when no bridge refers to them. */
static struct json_object *delete_port(const struct ovs_view *view)
{
    struct json_object *bridge = operation("mutate", "Bridge");
    struct json_object *gone =
        array_of(string_of("set"), array_of(uuid_of(view->port_uuid), NULL, NULL), NULL);

    json_object_object_add(bridge, "where", where("_uuid", "==", uuid_of(view->bridge_uuid)));
    json_object_object_add(
        bridge, "mutations",
        array_of(array_of(string_of("ports"), string_of("delete"), gone), NULL, NULL));
    return array_of(bridge, count_change(), NULL);
}

/*
 * ovs-vswitchd knows interfaces by name. When it sees a port taken away and made again in one look, it
 * goes on with the device that it had, and on the userspace datapath that is the tap of the guest that
 * ended: nothing passes any more. So a new port waits until all that was asked before is done.
 */
static int settle(struct ovsdb *db, const struct net_port *port, struct ovs_view *view,
                  struct err *e)
{
    int64_t wanted = view->next_cfg, deadline_us = clock_monotonic_us() + SETTLE_US;

    while (view->cur_cfg < wanted && clock_monotonic_us() < deadline_us) {
        (void)usleep(SETTLE_POLL_US);
        if (look_at(db, port, view, e) < 0)
            return -1;
    }
    if (view->cur_cfg < wanted)
        log_warning(
            "ovs-vswitchd has not taken up earlier changes within %d ms; port %s is made all "
            "the same",
            SETTLE_US / 1000, port->tap);
    return 0;
}

/* A port that outlived its tap, as a suspended guest's does, holds on to the device that is gone. */
static int drop_stale(struct ovsdb *db, const struct net_port *port, struct ovs_view *view,
                      struct err *e)
{
    _cleanup_(json_putp) struct json_object *results = NULL;
    struct link tap;
    bool has_tap;

    if (!view->in_bridge || view->ofport <= 0)
        return 0;
    if (find_tap(port->tap, &tap, &has_tap, e) < 0)
        return -1;
    if (has_tap)
        return 0;
    return ovsdb_transact(db, delete_port(view), &results, e) < 0 ? -1 : look_at(db, port, view, e);
}

static int ovs_plug(const struct net_look *look, const struct net_port *port, struct undo *undo,
                    struct err *e)
{
    _cleanup_(ovsdb_freep) struct ovsdb *db = NULL;
    _cleanup_(json_putp) struct json_object *results = NULL;
    struct ovs_view view;

    if (open_database(look, &db, e) < 0 || look_at(db, port, &view, e) < 0 ||
        check_view(look, port, &view, e) < 0 || net_push_unplug(undo, port, e) < 0)
        return -1;
    if (port->create_tap && tap_create(port->tap, port->multiqueue, port->mtu, e) < 0)
        return -1;
    if (port->plugged_by_libvirt)
        return 0;
    if (drop_stale(db, port, &view, e) < 0 || (!view.port_exists && settle(db, port, &view, e) < 0))
        return -1;
    return ovsdb_transact(db, view.port_exists ? update_interface(port) : add_port(port), &results,
                          e);
}

/* --- taking away ----------------------------------------------------------------------------- */

static int ovs_unplug(const struct net_look *look, const struct net_port *port, struct err *e)
{
    _cleanup_(ovsdb_freep) struct ovsdb *db = NULL;
    _cleanup_(netlink_freep) struct netlink *nl = NULL;
    _cleanup_(json_putp) struct json_object *results = NULL;
    struct ovs_view view;
    struct link tap;
    bool has_tap;

    if (open_database(look, &db, e) < 0 || look_at(db, port, &view, e) < 0 ||
        netlink_open(&nl, e) < 0 || netlink_link(nl, port->tap, &tap, &has_tap, e) < 0)
        return -1;
    if (view.port_exists && check_view(look, port, &view, e) < 0)
        return err_prefix(e, "left alone: ");
    if (has_tap && link_is_tap(&tap) && tap.running)
        return err_set(e, ERR_NET_PLUG, "a process still holds tap %s open, it was left alone",
                       port->tap);
    if (view.in_bridge && ovsdb_transact(db, delete_port(&view), &results, e) < 0)
        return -1;
    return has_tap ? tap_remove(nl, port->tap, e) : 0;
}

/* --- audit ----------------------------------------------------------------------------------- */

static const char *bridge_of(struct json_object *bridges, struct json_object *ports,
                             const char *name)
{
    char uuid[UUID_SIZE] = "";

    for (size_t i = 0; i < json_array_length(ports); i++)
        if (text_equal(json_get_string(json_object_array_get_idx(ports, i), "name", NULL), name))
            copy_uuid(uuid, json_object_array_get_idx(ports, i));
    for (size_t i = 0; i < json_array_length(bridges) && uuid[0]; i++)
        if (set_has_uuid(json_object_array_get_idx(bridges, i), "ports", uuid))
            return json_get_string(json_object_array_get_idx(bridges, i), "name", NULL);
    return NULL;
}

static int ovs_audit(const struct net_look *look, struct net_audit_rows *rows, struct err *e)
{
    _cleanup_(ovsdb_freep) struct ovsdb *db = NULL;
    _cleanup_(json_putp) struct json_object *results = NULL;
    struct err absent = ERR_INIT;

    if (open_database(look, &db, &absent) < 0) {
        log_debug("ports of Open vSwitch are not audited: %s", absent.text);
        return 0; /* a host without Open vSwitch has none */
    }
    struct json_object *operations = array_of(select_rows("Interface", NULL, "name external_ids"),
                                              select_rows("Port", NULL, "name _uuid"),
                                              select_rows("Bridge", NULL, "name ports"));
    if (ovsdb_transact(db, operations, &results, e) < 0)
        return -1;
    for (size_t i = 0; i < json_array_length(rows_of(results, 0)); i++) {
        struct json_object *interface = json_object_array_get_idx(rows_of(results, 0), i);
        const char *name = json_get_string(interface, "name", "");
        const char *instance = map_value(interface, "external_ids", "vm-uuid");
        if (!instance) /* what libvirt writes for a <virtualport> */
            instance = map_value(interface, "external_ids", "vm-id");
        if (!instance)
            continue;
        struct net_audit_row *row = net_audit_rows_add(rows);
        row->name = text_dup(name);
        row->bridge = text_dup(bridge_of(rows_of(results, 2), rows_of(results, 1), name));
        row->instance_uuid = text_dup(instance);
        row->why = text_format("its instance %.40s is not on this host", instance);
    }
    return 0;
}

const struct net_ops net_ovs_ops = {
    .name = "ovs",
    .check = ovs_check,
    .ready = ovs_ready,
    .wired = ovs_wired,
    .way = ovs_way,
    .present = ovs_present,
    .plug = ovs_plug,
    .unplug = ovs_unplug,
    .guards_tap = true,
    .audit = ovs_audit,
    .arm = ovs_arm,
    .disarm = ovs_disarm,
    .announce = ovs_announce,
    .teach = ovs_teach,
};
