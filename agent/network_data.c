/* SPDX-License-Identifier: Apache-2.0 */
/*
 * network_data.json: links, networks, services (nova.virt.netutils.get_network_metadata). As there, each
 * VIF tells of the first IPv4 and the first IPv6 subnet of its network.
 */
#include "agent/config_drive.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <string.h>

#include "lib/json.h"
#include "lib/text.h"

struct network_data {
    struct json_object *links, *networks, *services;
    unsigned interface_count;
};

struct cidr {
    char network[INET6_ADDRSTRLEN], netmask[INET6_ADDRSTRLEN];
};

/* --- addresses -------------------------------------------------------------------------------- */

static bool parse_cidr(const char *text, struct cidr *out)
{
    const char *slash = text ? strchr(text, '/') : NULL;
    int family = text && strchr(text, ':') ? AF_INET6 : AF_INET;
    size_t bytes = family == AF_INET6 ? 16 : 4;
    _cleanup_(str_freep) char *address = slash ? text_dup_n(text, (size_t)(slash - text)) : NULL;
    unsigned char value[16] = {0}, mask[16] = {0};
    int64_t prefix = 0;

    if (!slash || inet_pton(family, address, value) != 1 ||
        text_to_int64(slash + 1, 0, (int64_t)bytes * 8, &prefix, NULL) < 0)
        return false;
    for (int64_t i = 0; i < prefix; i++)
        mask[i / 8] |= (unsigned char)(0x80 >> (i % 8));
    for (size_t i = 0; i < bytes; i++)
        value[i] &= mask[i];
    return inet_ntop(family, value, out->network, sizeof(out->network)) &&
           inet_ntop(family, mask, out->netmask, sizeof(out->netmask));
}

static struct json_object *first_subnet(struct json_object *subnets, int version)
{
    for (size_t i = 0; i < json_array_length(subnets); i++) {
        struct json_object *subnet = json_object_array_get_idx(subnets, i);

        if (json_get_int(subnet, "version", 0) == version)
            return subnet;
    }
    return NULL;
}

/* --- links ------------------------------------------------------------------------------------ */

static struct json_object *mtu_of(struct json_object *network)
{
    struct json_object *subnets = json_get(network, "subnets");

    for (size_t i = 0; i < json_array_length(subnets); i++) {
        struct json_object *meta = json_get(json_object_array_get_idx(subnets, i), "meta");

        if (*json_get_string(meta, "dhcp_server", ""))
            return NULL; /* DHCP tells it */
    }
    return json_object_get(json_get(json_get(network, "meta"), "mtu"));
}

static const char *link_type(const char *vif_type)
{
    static const char *const exposed[] = {"bridge", "dvs", "hw_veb",    "hyperv",
                                          "ovs",    "tap", "vhostuser", "vif"};

    for (size_t i = 0; i < ARRAY_LEN(exposed); i++)
        if (text_equal(exposed[i], vif_type))
            return exposed[i];
    return "phy";
}

static const char *add_link(struct network_data *d, struct json_object *vif)
{
    struct json_object *link = json_object_new_object();
    const char *name = json_get_string(vif, "devname", NULL);
    char id[32];

    (void)snprintf(id, sizeof(id), "interface%u", d->interface_count);
    json_add_string(link, "id", name && *name ? name : id);
    json_add_string(link, "vif_id", json_get_string(vif, "id", NULL));
    json_add_string(link, "type", link_type(json_get_string(vif, "type", NULL)));
    json_add(link, "mtu", mtu_of(json_get(vif, "network")));
    json_add_string(link, "ethernet_mac_address", json_get_string(vif, "address", NULL));
    json_object_array_add(d->links, link);
    return json_get_string(link, "id", "");
}

/* --- networks --------------------------------------------------------------------------------- */

static struct json_object *services_of(struct json_object *subnet)
{
    struct json_object *services = json_object_new_array();
    struct json_object *dns = json_get(subnet, "dns");

    for (size_t i = 0; i < json_array_length(dns); i++) {
        struct json_object *service = json_object_new_object();

        json_add_string(service, "type", "dns");
        json_add_string(service, "address",
                        json_get_string(json_object_array_get_idx(dns, i), "address", NULL));
        json_object_array_add(services, service);
    }
    return services;
}

static void add_route(struct json_object *routes, const char *network, const char *netmask,
                      const char *gateway)
{
    struct json_object *route = json_object_new_object();

    json_add_string(route, "network", network);
    json_add_string(route, "netmask", netmask);
    json_add_string(route, "gateway", gateway);
    json_object_array_add(routes, route);
}

static struct json_object *routes_of(struct json_object *subnet, int version)
{
    struct json_object *routes = json_object_new_array();
    struct json_object *more = json_get(subnet, "routes");
    const char *gateway = json_get_string(json_get(subnet, "gateway"), "address", NULL);
    const char *all = version == 4 ? "0.0.0.0" : "::";

    if (gateway)
        add_route(routes, all, all, gateway);
    for (size_t i = 0; i < json_array_length(more); i++) {
        struct json_object *route = json_object_array_get_idx(more, i);
        struct cidr cidr;

        if (parse_cidr(json_get_string(route, "cidr", NULL), &cidr))
            add_route(routes, cidr.network, cidr.netmask,
                      json_get_string(json_get(route, "gateway"), "address", NULL));
    }
    return routes;
}

static bool has_dhcp(struct json_object *meta)
{
    return json_get(meta, "dhcp_server") || json_get_bool(meta, "enable_dhcp", false);
}

static char *network_type(struct json_object *meta, int version)
{
    const char *mode = json_get_string(meta, "ipv6_address_mode", NULL);

    if (mode)
        return text_format("ipv%d_%s", version, mode);
    return text_format("ipv%d%s", version, has_dhcp(meta) ? "_dhcp" : "");
}

static void add_address(struct json_object *network, struct json_object *subnet, int version)
{
    struct json_object *ip = json_object_array_get_idx(json_get(subnet, "ips"), 0);
    struct cidr cidr = {"", ""};

    (void)parse_cidr(json_get_string(subnet, "cidr", NULL), &cidr);
    json_add_string(network, "ip_address", json_get_string(ip, "address", NULL));
    json_add_string(network, "netmask", cidr.netmask);
    json_add(network, "routes", routes_of(subnet, version));
    json_add(network, "services", services_of(subnet));
}

static void add_services(struct network_data *d, struct json_object *subnet)
{
    _cleanup_(json_putp) struct json_object *services = services_of(subnet);

    for (size_t i = 0; i < json_object_array_length(services); i++) {
        struct json_object *service = json_object_array_get_idx(services, i);
        bool known = false;

        for (size_t j = 0; j < json_object_array_length(d->services) && !known; j++)
            known = json_same(json_object_array_get_idx(d->services, j), service);
        if (!known)
            json_object_array_add(d->services, json_object_get(service));
    }
}

static void add_network(struct network_data *d, struct json_object *vif, struct json_object *subnet,
                        int version, const char *link)
{
    struct json_object *network = NULL, *meta = json_get(subnet, "meta");
    _cleanup_(str_freep) char *type = network_type(meta, version);
    char id[32];

    if (json_array_length(json_get(subnet, "ips")) == 0)
        return;
    network = json_object_new_object();
    (void)snprintf(id, sizeof(id), "network%zu", json_object_array_length(d->networks));
    json_add_string(network, "id", id);
    json_add_string(network, "type", type);
    json_add_string(network, "link", link);
    json_add_string(network, "network_id", json_get_string(json_get(vif, "network"), "id", NULL));
    if (!text_ends_with(type, "_dhcp"))
        add_address(network, subnet, version);
    json_object_array_add(d->networks, network);
    add_services(d, subnet);
}

static void add_vif(struct network_data *d, struct json_object *vif)
{
    struct json_object *subnets = json_get(json_get(vif, "network"), "subnets");
    struct json_object *v4 = first_subnet(subnets, 4), *v6 = first_subnet(subnets, 6);
    const char *link = NULL;

    if (json_array_length(subnets) == 0)
        return;
    if (v4 || v6)
        link = add_link(d, vif);
    if (v4)
        add_network(d, vif, v4, 4, link);
    if (v6)
        add_network(d, vif, v6, 6, link);
    d->interface_count++;
}

struct json_object *config_drive_network_data(struct json_object *network_info)
{
    struct network_data d = {NULL, NULL, NULL, 0};
    struct json_object *o = NULL;

    if (json_array_length(network_info) == 0)
        return NULL;
    o = json_object_new_object();
    d.links = json_object_new_array();
    d.networks = json_object_new_array();
    d.services = json_object_new_array();
    json_add(o, "links", d.links);
    json_add(o, "networks", d.networks);
    json_add(o, "services", d.services);
    for (size_t i = 0; i < json_object_array_length(network_info); i++)
        add_vif(&d, json_object_array_get_idx(network_info, i));
    return o;
}
