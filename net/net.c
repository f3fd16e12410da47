/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The room's front: every call of users goes through here to the backend of the port's kind, with its
 * arguments checked, its fault points run and its errors put into the port's context. What is written
 * into undo steps is read back here, and trusted as little as anything else that comes from a file.
 */
#include "net/net.h"

#include <assert.h>
#include <pthread.h>
#include <string.h>
#include <time.h>

#include "lib/clock.h"
#include "lib/fault.h"
#include "lib/json.h"
#include "lib/log.h"
#include "net/hold.h"
#include "net/net_provider.h"
#include "net/tap_end.h"
#include "net/tap_guard.h"

LOG_MODULE(net);

enum { READY_POLL_US = 10000, WIRED_POLL_US = 50000, MTU_MIN = 68 };

static const struct net_ops *const all_ops[NET_KIND_COUNT] = {
    [NET_KIND_BRIDGE] = &net_bridge_ops,
    [NET_KIND_OVS] = &net_ovs_ops,
    [NET_KIND_FAKE] = &net_fake_ops,
};

/* A port that was plugged and not unplugged since: its bridge is wanted. */
struct wanted {
    char *tap, *bridge, *instance_uuid;
};
DEFINE_VECTOR(wanted_vector, struct wanted)

struct net {
    struct loop *loop;
    struct undo_handler handlers[4];
    pthread_mutex_t lock; /* workers and the loop: conf, wanted */
    struct conf *conf;
    struct wanted_vector wanted;
    struct tap_guard *guard;
    void *fake;
};

/* --- ports ----------------------------------------------------------------------------------- */

void net_port_free(struct net_port *port)
{
    if (!port)
        return;
    free(port->port_id);
    free(port->instance_uuid);
    free(port->mac);
    if (port->addresses)
        text_vector_free(port->addresses);
    free(port->bridge);
    free(port->physical_network);
    free(port->tap);
    free(port);
}

static char **copy_vector(char *const *v)
{
    size_t n = v ? text_vector_length(v) : 0;
    char **copy = NEW_ARRAY(char *, n + 1);

    for (size_t i = 0; i < n; i++)
        copy[i] = text_dup(v[i]);
    return copy;
}

struct net_port *net_port_copy(const struct net_port *port)
{
    struct net_port *copy = NEW(struct net_port);

    *copy = *port;
    copy->port_id = text_dup(port->port_id);
    copy->instance_uuid = text_dup(port->instance_uuid);
    copy->mac = text_dup(port->mac);
    copy->addresses = copy_vector(port->addresses);
    copy->bridge = text_dup(port->bridge);
    copy->physical_network = text_dup(port->physical_network);
    copy->tap = text_dup(port->tap);
    return copy;
}

int net_port_check(const struct net_port *port, struct err *e)
{
    if (!net_kind_known(port->kind))
        return err_set(e, ERR_INVALID, "a port's kind %d is not known", (int)port->kind);
    if (text_check_filename(port->port_id, "port id", e) < 0 ||
        text_check_uuid(port->instance_uuid, "instance of a port", e) < 0 ||
        text_check_mac(port->mac, "MAC address of a port", e) < 0 ||
        text_check_ifname(port->bridge, "bridge of a port", e) < 0 ||
        text_check_ifname(port->tap, "tap of a port", e) < 0)
        return -1;
    if (port->physical_network &&
        text_check_filename(port->physical_network, "physical network of a port", e) < 0)
        return -1;
    if (port->mtu && (port->mtu < MTU_MIN || port->mtu > NET_MTU_MAX))
        return err_set(e, ERR_INVALID, "MTU %d of port %s is not between %d and %d", port->mtu,
                       port->port_id, MTU_MIN, NET_MTU_MAX);
    for (char *const *a = port->addresses; a && *a; a++)
        if (text_check_ip(*a, "address of a port", e) < 0)
            return -1;
    return 0;
}

struct json_object *net_port_to_json(const struct net_port *port)
{
    struct json_object *o = json_object_new_object(), *addresses = json_object_new_array();

    assert(net_kind_known(port->kind));
    json_add_string(o, "kind", all_ops[port->kind]->name);
    json_add_string(o, "port_id", port->port_id);
    json_add_string(o, "instance_uuid", port->instance_uuid);
    json_add_string(o, "mac", port->mac);
    for (char *const *a = port->addresses; a && *a; a++)
        json_object_array_add(addresses, json_object_new_string(*a));
    json_object_object_add(o, "addresses", addresses);
    json_add_string(o, "bridge", port->bridge);
    json_add_string(o, "physical_network", port->physical_network);
    json_add_bool(o, "is_flat", port->is_flat);
    json_add_bool(o, "is_tagged", port->is_tagged);
    json_add_string(o, "tap", port->tap);
    json_add_int(o, "mtu", port->mtu);
    json_object_object_add(o, "create_tap", json_object_new_boolean(port->create_tap));
    json_object_object_add(o, "multiqueue", json_object_new_boolean(port->multiqueue));
    json_object_object_add(o, "plugged_by_libvirt",
                           json_object_new_boolean(port->plugged_by_libvirt));
    return o;
}

static int read_kind(struct json_object *o, enum net_kind *out, struct err *e)
{
    const char *name;

    if (json_need_string(o, "kind", &name, e) < 0)
        return -1;
    for (size_t i = 0; i < NET_KIND_COUNT; i++) {
        if (!text_equal(name, all_ops[i]->name))
            continue;
        *out = (enum net_kind)i;
        return 0;
    }
    return err_set(e, ERR_PARSE, "a port's kind '%s' is not one of bridge, ovs, fake", name);
}

static int read_text(struct json_object *o, const char *key, char **out, struct err *e)
{
    const char *text;

    if (json_need_string(o, key, &text, e) < 0)
        return -1;
    *out = text_dup(text);
    return 0;
}

static int read_addresses(struct json_object *o, char ***out, struct err *e)
{
    struct json_object *a;

    if (json_need_array(o, "addresses", &a, e) < 0)
        return -1;
    size_t n = json_object_array_length(a);
    if (n > FRAME_ADDRESSES_MAX)
        return err_set(e, ERR_PARSE, "a port has %zu addresses, at most %d are allowed", n,
                       FRAME_ADDRESSES_MAX);
    *out = NEW_ARRAY(char *, n + 1);
    for (size_t i = 0; i < n; i++) {
        const char *text = json_object_get_string(json_object_array_get_idx(a, i));
        (*out)[i] = text_dup(text ? text : "");
    }
    return 0;
}

int net_port_from_json(struct json_object *o, struct net_port **out, struct err *e)
{
    _cleanup_(net_port_freep) struct net_port *port = NEW(struct net_port);
    const char *physical_network;
    int64_t mtu;

    if (read_kind(o, &port->kind, e) < 0 || read_text(o, "port_id", &port->port_id, e) < 0 ||
        read_text(o, "instance_uuid", &port->instance_uuid, e) < 0 ||
        read_text(o, "mac", &port->mac, e) < 0 || read_addresses(o, &port->addresses, e) < 0 ||
        read_text(o, "bridge", &port->bridge, e) < 0 || read_text(o, "tap", &port->tap, e) < 0 ||
        json_opt_string(o, "physical_network", NULL, &physical_network, e) < 0 ||
        json_opt_bool(o, "is_flat", false, &port->is_flat, e) < 0 ||
        json_opt_bool(o, "is_tagged", false, &port->is_tagged, e) < 0 ||
        json_opt_int(o, "mtu", 0, &mtu, e) < 0 ||
        json_opt_bool(o, "create_tap", false, &port->create_tap, e) < 0 ||
        json_opt_bool(o, "multiqueue", false, &port->multiqueue, e) < 0 ||
        json_opt_bool(o, "plugged_by_libvirt", false, &port->plugged_by_libvirt, e) < 0)
        return -1;
    port->physical_network = text_dup(physical_network);
    port->mtu = mtu < 0 || mtu > NET_MTU_MAX ? -1 : (int)mtu;
    if (net_port_check(port, e) < 0)
        return -1;
    *out = STEAL(port);
    return 0;
}

/* --- the object ------------------------------------------------------------------------------ */

static int undo_unplug(void *aux, struct json_object *args, struct err *e)
{
    _cleanup_(net_port_freep) struct net_port *port = NULL;

    if (net_port_from_json(args, &port, e) < 0)
        return err_prefix(e, "undo step net.unplug: ");
    return net_unplug(aux, port, e);
}

static int undo_remove_bridge(void *aux, struct json_object *args, struct err *e)
{
    struct net *net = aux;
    const char *bridge, *uplink;

    if (json_need_string(args, "bridge", &bridge, e) < 0 ||
        json_opt_string(args, "uplink", NULL, &uplink, e) < 0 ||
        text_check_ifname(bridge, "bridge", e) < 0 ||
        (uplink && text_check_ifname(uplink, "uplink", e) < 0))
        return err_prefix(e, "undo step net.remove_bridge: ");
    if (net_bridge_wanted(net, bridge, NULL)) {
        log_debug("bridge %s stays, another port of this agent is to use it", bridge);
        return 0;
    }
    _cleanup_(conf_unrefp) struct conf *conf = net_conf(net);
    const struct net_look look = {.net = net, .conf = conf};
    return net_bridge_ops.remove_bridge(&look, bridge, uplink, e);
}

static int undo_unhold(void *aux _unused_, struct json_object *args, struct err *e)
{
    const char *tap;

    if (json_need_string(args, "tap", &tap, e) < 0 || text_check_ifname(tap, "tap", e) < 0)
        return err_prefix(e, "undo step net.unhold: ");
    return hold_remove(tap, e);
}

int net_new(struct net **out, struct loop *loop, const struct conf *conf, struct err *e)
{
    _cleanup_(net_freep) struct net *net = NEW(struct net);

    net->loop = loop;
    net->conf = conf_ref(conf);
    net->fake = net_fake_world_new();
    (void)pthread_mutex_init(&net->lock, NULL);
    net->handlers[0] = (struct undo_handler){"net.unplug", undo_unplug, net};
    net->handlers[1] = (struct undo_handler){"net.remove_bridge", undo_remove_bridge, net};
    net->handlers[2] = (struct undo_handler){"net.unhold", undo_unhold, net};
    if (tap_guard_new(&net->guard, loop, e) < 0)
        return -1;
    *out = STEAL(net);
    return 0;
}

void net_free(struct net *net)
{
    if (!net)
        return;
    for (size_t i = 0; i < net->wanted.length; i++) {
        free(net->wanted.items[i].tap);
        free(net->wanted.items[i].bridge);
        free(net->wanted.items[i].instance_uuid);
    }
    free(net->wanted.items);
    tap_guard_free(net->guard);
    net_fake_world_free(net->fake);
    conf_unref(net->conf);
    (void)pthread_mutex_destroy(&net->lock);
    free(net);
}

void net_set_conf(struct net *net, const struct conf *conf)
{
    struct conf *fresh = conf_ref(conf);

    (void)pthread_mutex_lock(&net->lock);
    struct conf *old = net->conf;
    net->conf = fresh;
    (void)pthread_mutex_unlock(&net->lock);
    conf_unref(old);
}

struct conf *net_conf(struct net *net)
{
    (void)pthread_mutex_lock(&net->lock);
    struct conf *conf = conf_ref(net->conf);
    (void)pthread_mutex_unlock(&net->lock);
    return conf;
}

struct loop *net_loop(const struct net *net)
{
    return net->loop;
}

void *net_fake_world(const struct net *net)
{
    return net->fake;
}

const struct net_ops *net_ops_of(enum net_kind kind)
{
    assert(net_kind_known(kind));
    return all_ops[kind];
}

const struct undo_handler *net_undo_handlers(struct net *net)
{
    return net->handlers;
}

/* --- which bridges are wanted ---------------------------------------------------------------- */

static void forget_locked(struct net *net, const char *tap)
{
    for (size_t i = 0; i < net->wanted.length; i++) {
        struct wanted *w = &net->wanted.items[i];
        if (!text_equal(w->tap, tap))
            continue;
        free(w->tap);
        free(w->bridge);
        free(w->instance_uuid);
        *w = net->wanted.items[--net->wanted.length];
        return;
    }
}

static void want(struct net *net, const struct net_port *port)
{
    (void)pthread_mutex_lock(&net->lock);
    forget_locked(net, port->tap);
    struct wanted *w = wanted_vector_add(&net->wanted);
    w->tap = text_dup(port->tap);
    w->bridge = text_dup(port->bridge);
    w->instance_uuid = text_dup(port->instance_uuid);
    (void)pthread_mutex_unlock(&net->lock);
    if (all_ops[port->kind]->guards_tap)
        tap_guard_watch(net->guard, port->tap);
}

static void forget(struct net *net, const char *tap)
{
    (void)pthread_mutex_lock(&net->lock);
    forget_locked(net, tap);
    (void)pthread_mutex_unlock(&net->lock);
    tap_guard_forget(net->guard, tap);
}

bool net_bridge_wanted(struct net *net, const char *bridge, const char *tap)
{
    bool wanted = false;

    (void)pthread_mutex_lock(&net->lock);
    for (size_t i = 0; i < net->wanted.length && !wanted; i++)
        wanted = text_equal(net->wanted.items[i].bridge, bridge) &&
                 !text_equal(net->wanted.items[i].tap, tap);
    (void)pthread_mutex_unlock(&net->lock);
    return wanted;
}

static bool is_tap_or_its_hold(const char *name, const char *tap)
{
    char hold[IFNAMSIZ];

    return text_equal(name, tap) || (hold_name(tap, hold, NULL) == 0 && text_equal(name, hold));
}

/* Whose tap or hold it is, where only we know: bridges keep no such note. */
static void name_instance(struct net *net, struct net_audit_row *row)
{
    (void)pthread_mutex_lock(&net->lock);
    for (size_t i = 0; i < net->wanted.length && !row->instance_uuid; i++)
        if (is_tap_or_its_hold(row->name, net->wanted.items[i].tap))
            row->instance_uuid = text_dup(net->wanted.items[i].instance_uuid);
    (void)pthread_mutex_unlock(&net->lock);
}

/* --- calls ----------------------------------------------------------------------------------- */

/* The port as it is to be: a network that gives no MTU gets that of [net] mtu. Borrows all of it. */
static struct net_port with_mtu(const struct net_port *port, const struct conf *conf)
{
    struct net_port wanted = *port;

    if (wanted.mtu == 0)
        wanted.mtu = (int)conf_int(conf, CONF_net_mtu);
    return wanted;
}

int net_push_unplug(struct undo *undo, const struct net_port *port, struct err *e)
{
    return undo_push(undo, "net.unplug", net_port_to_json(port), e);
}

int net_check(struct net *net, const struct net_port *port, struct err *e)
{
    assert(net && port);
    _cleanup_(conf_unrefp) struct conf *conf = net_conf(net);
    const struct net_look look = {.net = net, .conf = conf};
    const struct net_port wanted = with_mtu(port, conf);

    if (net_port_check(port, e) < 0 || fault_point("net.check", e) < 0)
        return -1;
    return all_ops[port->kind]->check(&look, &wanted, e);
}

int net_plug(struct net *net, const struct net_port *port, struct undo *undo, struct err *e)
{
    assert(net && port && undo);
    _cleanup_(conf_unrefp) struct conf *conf = net_conf(net);
    const struct net_look look = {.net = net, .conf = conf};
    const struct net_port wanted = with_mtu(port, conf);

    if (net_port_check(port, e) < 0 || fault_point("net.plug", e) < 0)
        return -1;
    want(net, port);
    if (all_ops[port->kind]->plug(&look, &wanted, undo, e) < 0)
        return -1; /* the bridge stays wanted until the undo steps ran: they end with unplug */
    log_debug("port %s plugged: tap %s, bridge %s", port->port_id, port->tap, port->bridge);
    return fault_point("net.plugged", e);
}

int net_hold_make(struct net *net, const struct net_port *port, struct undo *undo, struct err *e)
{
    assert(net && port && undo);
    _cleanup_(conf_unrefp) struct conf *conf = net_conf(net);
    const struct net_look look = {.net = net, .conf = conf};
    const struct net_port wanted = with_mtu(port, conf);
    const struct net_ops *ops = all_ops[port->kind];
    struct json_object *args;

    if (net_port_check(port, e) < 0)
        return -1;
    args = json_object_new_object();
    json_add_string(args, "tap", port->tap);
    if (undo_push(undo, "net.unhold", args, e) < 0 || fault_point("net.hold.make", e) < 0)
        return -1;
    if (ops->hold)
        return ops->hold(&look, &wanted, e);
    return hold_make(port->tap, wanted.mtu, conf_int(conf, CONF_net_hold_limit) * 1024 * 1024, e);
}

int net_wait_ready(struct net *net, const struct net_port *port, int64_t timeout_us, struct err *e)
{
    assert(net && port);
    _cleanup_(conf_unrefp) struct conf *conf = net_conf(net);
    const struct net_look look = {
        .net = net, .conf = conf, .deadline_us = clock_monotonic_us() + timeout_us};
    const struct timespec pause = {.tv_nsec = READY_POLL_US * 1000L};
    const struct net_port wanted = with_mtu(port, conf);

    if (net_port_check(port, e) < 0 || fault_point("net.ready", e) < 0)
        return -1;
    for (;;) {
        struct err reason = ERR_INIT;
        if (all_ops[port->kind]->ready(&look, &wanted, &reason) == 0)
            return 0;
        if (clock_monotonic_us() >= look.deadline_us)
            return err_set(e, reason.code, "port %s is not ready after %lld ms: %s", port->port_id,
                           (long long)(timeout_us / USEC_PER_MSEC), reason.text);
        (void)nanosleep(&pause, NULL);
    }
}

int net_wait_wired(struct net *net, const struct net_port *port, int64_t timeout_us, bool *wired,
                   struct err *e)
{
    assert(net && port && wired);
    _cleanup_(conf_unrefp) struct conf *conf = net_conf(net);
    const struct net_look look = {
        .net = net, .conf = conf, .deadline_us = clock_monotonic_us() + timeout_us};
    const struct timespec pause = {.tv_nsec = WIRED_POLL_US * 1000L};
    const struct net_ops *ops = all_ops[port->kind];
    bool is_wired = !ops->wired;

    if (net_port_check(port, e) < 0)
        return -1;
    while (!is_wired) {
        if (ops->wired(&look, port, &is_wired, e) < 0)
            return -1;
        if (clock_monotonic_us() >= look.deadline_us)
            break;
        if (!is_wired)
            (void)nanosleep(&pause, NULL);
    }
    *wired = is_wired;
    return 0;
}

int net_has_way(struct net *net, const struct net_port *port, bool *way, struct err *e)
{
    assert(net && port && way);
    _cleanup_(conf_unrefp) struct conf *conf = net_conf(net);
    const struct net_look look = {.net = net, .conf = conf};
    const struct net_ops *ops = all_ops[port->kind];

    if (net_port_check(port, e) < 0)
        return -1;
    if (ops->way)
        return ops->way(&look, port, way, e);
    *way = true;
    return 0;
}

int net_share_tap(struct net *net, const struct net_port *port, struct tap_end **out, struct err *e)
{
    bool way = false;

    if (net_has_way(net, port, &way, e) < 0)
        return -1;
    if (!way)
        return err_set(e, ERR_NET_PLUG, "port %s has no way out of this host itself",
                       port->port_id);
    if (port->kind == NET_KIND_OVS && port->plugged_by_libvirt)
        return err_set(
            e, ERR_NET_PLUG,
            "port %s is libvirt's own, which takes it out of Open vSwitch with the guest",
            port->port_id);
    if (port->kind == NET_KIND_FAKE)
        return err_set(e, ERR_NET_PLUG, "port %s has no tap", port->port_id);
    return tap_end_open(out, port->tap, e);
}

int net_unplug(struct net *net, const struct net_port *port, struct err *e)
{
    assert(net && port);
    _cleanup_(conf_unrefp) struct conf *conf = net_conf(net);
    const struct net_look look = {.net = net, .conf = conf};

    if (net_port_check(port, e) < 0 || fault_point("net.unplug", e) < 0)
        return -1;
    if ((!all_ops[port->kind]->hold && hold_remove(port->tap, e) < 0) ||
        all_ops[port->kind]->unplug(&look, port, e) < 0)
        return -1;
    forget(net, port->tap);
    log_debug("port %s unplugged: tap %s, bridge %s", port->port_id, port->tap, port->bridge);
    return fault_point("net.unplugged", e);
}

int net_port_present(struct net *net, const struct net_port *port, bool *present, struct err *e)
{
    assert(net && port && present);
    _cleanup_(conf_unrefp) struct conf *conf = net_conf(net);
    const struct net_look look = {.net = net, .conf = conf};

    if (net_port_check(port, e) < 0)
        return -1;
    return all_ops[port->kind]->present(&look, port, present, e);
}

/* --- audit ----------------------------------------------------------------------------------- */

static bool known(const char *const *uuids, const char *uuid)
{
    for (; uuid && uuids && *uuids; uuids++)
        if (text_equal(*uuids, uuid))
            return true;
    return false;
}

static void rows_free(struct net_audit_rows *rows)
{
    for (size_t i = 0; i < rows->length; i++) {
        free(rows->items[i].name);
        free(rows->items[i].bridge);
        free(rows->items[i].why);
        free(rows->items[i].instance_uuid);
    }
    free(rows->items);
}

int net_audit(struct net *net, const char *const *instance_uuids, struct json_object **out,
              struct err *e)
{
    assert(net && out);
    _cleanup_(conf_unrefp) struct conf *conf = net_conf(net);
    _cleanup_(rows_free) struct net_audit_rows rows = {0};
    const struct net_look look = {.net = net, .conf = conf};

    for (size_t i = 0; i < NET_KIND_COUNT; i++)
        if (all_ops[i]->audit(&look, &rows, e) < 0)
            return -1;
    if (hold_audit(&rows, e) < 0)
        return -1;
    struct json_object *array = json_object_new_array();
    for (size_t i = 0; i < rows.length; i++) {
        struct net_audit_row *row = &rows.items[i];
        name_instance(net, row);
        if (known(instance_uuids, row->instance_uuid))
            continue;
        struct json_object *o = json_object_new_object();
        json_add_string(o, "name", row->name);
        json_add_string(o, "bridge", row->bridge);
        json_add_string(o, "why", row->why);
        json_object_array_add(array, o);
    }
    *out = array;
    return 0;
}
