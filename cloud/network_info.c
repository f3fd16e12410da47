/* SPDX-License-Identifier: Apache-2.0 */
/* Key order is Nova's too, so that a cache that did not change is the same text. */
#include "cloud/network_info.h"

#include <string.h>

#include "lib/json.h"
#include "lib/text.h"

enum { NIC_NAME_MAX = 14 }; /* Nova's NIC_NAME_LEN: of taps and bridges */

struct json_object *network_info_record(struct json_object *array, const char *key,
                                        const char *value)
{
    size_t n = json_object_is_type(array, json_type_array) ? json_object_array_length(array) : 0;

    for (size_t i = 0; value && i < n; i++) {
        struct json_object *o = json_object_array_get_idx(array, i);
        if (text_equal(json_get_string(o, key, NULL), value))
            return o;
    }
    return NULL;
}

struct json_object *network_info_find(struct json_object *vifs, const char *port_id)
{
    return network_info_record(vifs, "id", port_id);
}

static void add_version(struct json_object *o, const char *address)
{
    if (address)
        json_add_int(o, "version", strchr(address, ':') ? 6 : 4);
    else
        json_add(o, "version", NULL);
}

/* Addresses are null where Neutron has none (a subnet without gateway). */
static struct json_object *ip_new(const char *address, const char *type)
{
    struct json_object *ip = json_object_new_object();

    json_add_string(ip, "address", address);
    json_add_string(ip, "type", type);
    add_version(ip, address);
    json_add(ip, "meta", json_object_new_object());
    return ip;
}

static struct json_object *floating_of(const struct network_info_facts *facts, const char *port_id,
                                       const char *address)
{
    struct json_object *list = json_object_new_array();

    for (size_t i = 0; i < json_array_length(facts->floating_ips); i++) {
        struct json_object *f = json_object_array_get_idx(facts->floating_ips, i);
        if (text_equal(json_get_string(f, "port_id", NULL), port_id) &&
            text_equal(json_get_string(f, "fixed_ip_address", NULL), address))
            json_object_array_add(
                list, ip_new(json_get_string(f, "floating_ip_address", NULL), "floating"));
    }
    return list;
}

/* The port's addresses that are of that subnet. */
static struct json_object *ips_of(const struct network_info_facts *facts, const char *subnet_id)
{
    struct json_object *list = json_object_new_array();
    struct json_object *fixed = json_get(facts->port, "fixed_ips");

    for (size_t i = 0; i < json_array_length(fixed); i++) {
        struct json_object *f = json_object_array_get_idx(fixed, i);
        const char *address = json_get_string(f, "ip_address", NULL);
        if (!text_equal(json_get_string(f, "subnet_id", NULL), subnet_id))
            continue;
        struct json_object *ip = ip_new(address, "fixed");
        json_add(ip, "floating_ips",
                 floating_of(facts, json_get_string(facts->port, "id", NULL), address));
        json_object_array_add(list, ip);
    }
    return list;
}

static const char *dhcp_server_of(const struct network_info_facts *facts, const char *subnet_id)
{
    for (size_t i = 0; i < json_array_length(facts->dhcp_ports); i++) {
        struct json_object *port = json_object_array_get_idx(facts->dhcp_ports, i);
        struct json_object *ip =
            network_info_record(json_get(port, "fixed_ips"), "subnet_id", subnet_id);
        if (ip)
            return json_get_string(ip, "ip_address", NULL);
    }
    return NULL;
}

/* Readers of Zed know DHCP by `dhcp_server` alone, so the gateway stands in where Neutron serves none;
 * newer ones read it too, and need no `enable_dhcp` beside it. */
static struct json_object *subnet_meta(const struct network_info_facts *facts,
                                       struct json_object *subnet)
{
    struct json_object *meta = json_object_new_object();
    const char *mode = json_get_string(subnet, "ipv6_address_mode", NULL);
    const char *server = dhcp_server_of(facts, json_get_string(subnet, "id", NULL));

    if (mode)
        json_add_string(meta, "ipv6_address_mode", mode);
    if (server)
        json_add_string(meta, "dhcp_server", server);
    else if (json_get_bool(subnet, "enable_dhcp", false))
        json_add_string(meta, "dhcp_server", json_get_string(subnet, "gateway_ip", NULL));
    return meta;
}

static struct json_object *dns_of(struct json_object *subnet)
{
    struct json_object *list = json_object_new_array();
    struct json_object *servers = json_get(subnet, "dns_nameservers");

    for (size_t i = 0; i < json_array_length(servers); i++)
        json_object_array_add(
            list, ip_new(json_object_get_string(json_object_array_get_idx(servers, i)), "dns"));
    return list;
}

static struct json_object *routes_of(struct json_object *subnet)
{
    struct json_object *list = json_object_new_array();
    struct json_object *routes = json_get(subnet, "host_routes");

    for (size_t i = 0; i < json_array_length(routes); i++) {
        struct json_object *from = json_object_array_get_idx(routes, i);
        struct json_object *route = json_object_new_object();
        json_add_string(route, "cidr", json_get_string(from, "destination", NULL));
        json_add(route, "gateway", ip_new(json_get_string(from, "nexthop", NULL), "gateway"));
        json_add(route, "interface", NULL);
        json_add(route, "meta", json_object_new_object());
        json_object_array_add(list, route);
    }
    return list;
}

static struct json_object *subnet_new(const struct network_info_facts *facts,
                                      struct json_object *from)
{
    struct json_object *subnet = json_object_new_object();
    const char *cidr = json_get_string(from, "cidr", NULL);

    json_add_string(subnet, "cidr", cidr);
    json_add(subnet, "dns", dns_of(from));
    json_add(subnet, "gateway", ip_new(json_get_string(from, "gateway_ip", NULL), "gateway"));
    json_add(subnet, "ips", ips_of(facts, json_get_string(from, "id", NULL)));
    json_add(subnet, "routes", routes_of(from));
    add_version(subnet, cidr);
    json_add(subnet, "meta", subnet_meta(facts, from));
    return subnet;
}

static struct json_object *subnets_of(const struct network_info_facts *facts)
{
    struct json_object *list = json_object_new_array();
    struct json_object *fixed = json_get(facts->port, "fixed_ips");

    for (size_t i = 0; i < json_array_length(facts->subnets); i++) {
        struct json_object *subnet = json_object_array_get_idx(facts->subnets, i);
        if (network_info_record(fixed, "subnet_id", json_get_string(subnet, "id", NULL)))
            json_object_array_add(list, subnet_new(facts, subnet));
    }
    return list;
}

/* First segment with a physical network, else the network's own; a tunnel has none. Nova does not keep the type of
 * what lies on the physical network, and without it nobody knows whether its frames have VLAN tags there. */
static void add_provider(struct json_object *meta, struct json_object *network)
{
    struct json_object *segments = json_get(network, "segments");
    const char *physical = json_get_string(network, "provider:physical_network", NULL);
    const char *type = json_get_string(network, "provider:network_type", NULL), *on_it = type;

    for (size_t i = 0; !physical && i < json_array_length(segments); i++) {
        struct json_object *segment = json_object_array_get_idx(segments, i);
        physical = json_get_string(segment, "provider:physical_network", NULL);
        on_it = json_get_string(segment, "provider:network_type", NULL);
    }
    json_add_string(meta, "physical_network", physical);
    if (physical && on_it)
        json_add_string(meta, "computed_network_type", on_it);
    json_add_bool(meta, "tunneled",
                  !physical && (text_equal(type, "vxlan") || text_equal(type, "gre") ||
                                text_equal(type, "geneve") || text_equal(type, "l3")));
}

static struct json_object *network_meta(const struct network_info_facts *facts,
                                        struct json_object *network, bool linux_bridge)
{
    struct json_object *meta = json_object_new_object();
    struct json_object *mtu = json_get(network, "mtu");

    json_add_bool(meta, "injected", false);
    json_add_string(meta, "tenant_id",
                    json_get_string(network ? network : facts->port, "tenant_id", NULL));
    json_add(meta, "mtu", json_object_get(mtu));
    add_provider(meta, network);
    if (linux_bridge)
        json_add_bool(meta, "should_create_bridge", true);
    return meta;
}

static bool wired_by_ovs(const char *type, struct json_object *details)
{
    return text_equal(type, "ovs") || text_equal(type, "agilio_ovs") ||
           (text_equal(type, "vhostuser") && json_get_bool(details, "vhostuser_ovs_plug", false));
}

/* NULL when that kind of VIF has no bridge. */
static char *bridge_of(const struct network_info_facts *facts, const char *type,
                       struct json_object *details, const char *network_id)
{
    const char *named = json_get_string(details, "bridge_name", NULL);

    if (wired_by_ovs(type, details))
        return text_format("%.*s", NIC_NAME_MAX, named ? named : facts->ovs_bridge);
    if (!text_equal(type, "bridge"))
        return NULL;
    _cleanup_(str_freep) char *made = text_format("brq%s", network_id);
    return text_format("%.*s", NIC_NAME_MAX, named ? named : made);
}

static struct json_object *network_new(const struct network_info_facts *facts, const char *type,
                                       struct json_object *details, const char *network_id)
{
    struct json_object *from = network_info_record(facts->networks, "id", network_id);
    struct json_object *network = json_object_new_object();
    _cleanup_(str_freep) char *bridge = bridge_of(facts, type, details, network_id);

    json_add_string(network, "id", network_id);
    json_add_string(network, "bridge", bridge);
    json_add_string(network, "label", json_get_string(from, "name", NULL));
    json_add(network, "subnets", subnets_of(facts));
    json_add(network, "meta", network_meta(facts, from, text_equal(type, "bridge")));
    return network;
}

static struct json_object *object_or_empty(struct json_object *o)
{
    return json_object_is_type(o, json_type_object) ? json_copy(o) : json_object_new_object();
}

/* Neutron says "unbound" in the midst of an activation. Saved, it would cost the guest its network at the next start,
 * and with nova-compute an error: what was known before is kept until Neutron tells another type. */
static bool is_in_between(const struct network_info_facts *facts)
{
    const char *type = json_get_string(facts->port, "binding:vif_type", NULL);
    const char *known = json_get_string(facts->cached, "type", NULL);

    return text_equal(type, "unbound") && known && !text_equal(known, "binding_failed");
}

struct json_object *network_info_vif(const struct network_info_facts *facts, struct err *e)
{
    struct json_object *port = facts->port;
    const char *id, *mac, *network_id;

    if (json_need_string(port, "id", &id, e) < 0 ||
        json_need_string(port, "mac_address", &mac, e) < 0 ||
        json_need_string(port, "network_id", &network_id, e) < 0 ||
        text_check_uuid(id, "the id of a port", e) < 0) {
        err_prefix(e, "a port of neutron: ");
        return NULL;
    }
    bool in_between = is_in_between(facts);
    const char *type = in_between ? json_get_string(facts->cached, "type", NULL)
                                  : json_get_string(port, "binding:vif_type", NULL);
    struct json_object *details =
        in_between ? json_get(facts->cached, "details") : json_get(port, "binding:vif_details");
    struct json_object *vif = json_object_new_object();
    _cleanup_(str_freep) char *tap = text_format("tap%.*s", NIC_NAME_MAX - 3, id);

    json_add_string(vif, "id", id);
    json_add_string(vif, "address", mac);
    json_add(vif, "network", network_new(facts, type, details, network_id));
    json_add_string(vif, "type", type);
    json_add(vif, "details", object_or_empty(details));
    json_add_string(vif, "devname", tap);
    json_add_string(vif, "ovs_interfaceid", wired_by_ovs(type, details) ? id : NULL);
    json_add(vif, "qbh_params", NULL);
    json_add(vif, "qbg_params", NULL);
    json_add_bool(vif, "active",
                  !json_get_bool(port, "admin_state_up", true) ||
                      text_equal(json_get_string(port, "status", NULL), "ACTIVE"));
    json_add_string(vif, "vnic_type", json_get_string(port, "binding:vnic_type", "normal"));
    json_add(vif, "profile", object_or_empty(json_get(port, "binding:profile")));
    json_add_bool(vif, "preserve_on_delete", facts->preserve);
    json_add_bool(vif, "delegate_create", true);
    json_add(vif, "meta", json_object_new_object());
    return vif;
}
