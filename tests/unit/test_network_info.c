/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/unit.h"

#include "cloud/network_info.h"
#include "lib/json.h"
#include "lib/text.h"
#include "tests/unit/capture.h"

#define PORT    "cb78d9e5-2794-4bab-baa4-a2498ecbb479"
#define NETWORK "83fa7b67-c9e8-469f-a6ea-8fd5e677797e"
#define SUBNET  "5a3e6f0d-1f0b-4f56-8f3e-0a3b1c9d2e11"
#define SUBNET6 "5a3e6f0d-1f0b-4f56-8f3e-0a3b1c9d2e66"

static struct json_object *json(const char *text)
{
    struct json_object *o = NULL;

    UNIT_OK(json_parse(text, strlen(text), &o, &unit_err));
    return o;
}

/* As Neutron answered when the recording was made: the bridge agent, no DHCP, no gateway. */
static const char bridge_port[] =
    "{\"id\":\"" PORT "\",\"name\":\"p\",\"network_id\":\"" NETWORK "\",\"tenant_id\":\"other\","
    "\"mac_address\":\"fa:16:3e:00:00:3c\",\"admin_state_up\":true,\"status\":\"DOWN\","
    "\"fixed_ips\":[{\"subnet_id\":\"" SUBNET "\",\"ip_address\":\"203.0.113.60\"}],"
    "\"binding:vnic_type\":\"normal\",\"binding:profile\":{},\"binding:host_id\":\"os-hosta\","
    "\"binding:vif_type\":\"bridge\",\"binding:vif_details\":{\"connectivity\":\"l2\","
    "\"port_filter\":false,\"bound_drivers\":{\"0\":\"linuxbridge\"}}}";
static const char networks[] =
    "[{\"id\":\"" NETWORK "\",\"name\":\"data\",\"tenant_id\":\"42fc262f986f4f95819d230793bce254\","
    "\"mtu\":1500,\"provider:network_type\":\"flat\",\"provider:physical_network\":\"physnet1\"}]";
static const char subnets[] =
    "[{\"id\":\"" SUBNET "\",\"network_id\":\"" NETWORK "\",\"cidr\":\"203.0.113.0/24\","
    "\"gateway_ip\":null,\"enable_dhcp\":false,\"dns_nameservers\":[],\"host_routes\":[],"
    "\"ipv6_address_mode\":null}]";

struct records {
    struct json_object *port, *networks, *subnets, *dhcp, *floating;
};

static struct records records_of(const char *port, const char *network_list,
                                 const char *subnet_list)
{
    return (struct records){
        .port = json(port), .networks = json(network_list), .subnets = json(subnet_list)};
}

static void records_clear(struct records *r)
{
    json_object_put(r->port);
    json_object_put(r->networks);
    json_object_put(r->subnets);
    json_object_put(r->dhcp);
    json_object_put(r->floating);
}

static struct json_object *vif_of(const struct records *r, bool preserve)
{
    const struct network_info_facts facts = {
        .port = r->port,
        .networks = r->networks,
        .subnets = r->subnets,
        .dhcp_ports = r->dhcp,
        .floating_ips = r->floating,
        .ovs_bridge = "br-int",
        .preserve = preserve,
    };

    return network_info_vif(&facts, &unit_err);
}

static const char *at(struct json_object *o, const char *key)
{
    return json_get_string(o, key, NULL);
}

/* One function, so that tests stay short for clang-tidy too. */
static void has(struct json_object *o, const char *key, const char *value)
{
    UNIT_STR(at(o, key), value);
}

static void is(bool good)
{
    UNIT_TRUE(good);
}

static struct json_object *first(struct json_object *array)
{
    return json_object_array_get_idx(array, 0);
}

static struct json_object *first_subnet(struct json_object *vif)
{
    return first(json_get(json_get(vif, "network"), "subnets"));
}

UNIT_TEST(bridge_golden,
          "a Linux bridge port makes the text that nova-compute saved, key for key but our own")
{
    struct records r = records_of(bridge_port, networks, subnets);
    struct json_object *message =
        capture_load("boot-delete/038-conductor-object_action_InstanceInfoCache.save.json");
    struct json_object *data =
        json_get(json_get(json_get(message, "args"), "objinst"), "nova_object.data");
    const char *text = json_get_string(data, "network_info", "[]");
    struct json_object *recorded = json(text);
    struct json_object *vif = vif_of(&r, true);
    struct json_object *meta = json_get(json_get(vif, "network"), "meta");
    has(meta, "computed_network_type", "flat");
    json_object_object_del(meta, "computed_network_type");
    _cleanup_(str_freep) char *ours = json_text(vif);
    _cleanup_(str_freep) char *theirs = json_text(first(recorded));

    UNIT_STR(ours, theirs);
    json_object_put(vif);
    json_object_put(recorded);
    json_object_put(message);
    records_clear(&r);
}

UNIT_TEST(ovs, "an Open vSwitch port names its bridge, or the configured one, and its interface")
{
    static const char named[] =
        "{\"id\":\"" PORT "\",\"network_id\":\"" NETWORK
        "\",\"mac_address\":\"fa:16:3e:00:00:3c\",\"status\":\"ACTIVE\",\"fixed_ips\":[],"
        "\"binding:vif_type\":\"ovs\",\"binding:vif_details\":{\"bridge_name\":"
        "\"br-very-long-name\",\"ovs_hybrid_plug\":false,\"datapath_type\":\"netdev\"}}";
    static const char plain[] =
        "{\"id\":\"" PORT "\",\"network_id\":\"" NETWORK
        "\",\"mac_address\":\"fa:16:3e:00:00:3c\",\"fixed_ips\":[],\"binding:vif_type\":\"ovs\"}";
    struct records r = records_of(named, networks, subnets), s = records_of(plain, "[]", "[]");
    struct json_object *a = vif_of(&r, false), *b = vif_of(&s, false);

    has(json_get(a, "network"), "bridge", "br-very-long-n");
    has(a, "ovs_interfaceid", PORT);
    has(a, "devname", "tapcb78d9e5-27");
    is(json_get_bool(a, "active", false));
    is(!json_get_bool(a, "preserve_on_delete", true));
    is(!json_has(json_get(json_get(a, "network"), "meta"), "should_create_bridge"));
    has(json_get(a, "details"), "datapath_type", "netdev");
    has(json_get(b, "network"), "bridge", "br-int");
    json_object_put(a);
    json_object_put(b);
    records_clear(&r);
    records_clear(&s);
}

UNIT_TEST(addresses, "addresses go to their subnets with floating ones, DNS, routes and DHCP")
{
    static const char port[] =
        "{\"id\":\"" PORT "\",\"network_id\":\"" NETWORK
        "\",\"mac_address\":\"fa:16:3e:00:00:3c\",\"admin_state_up\":false,\"status\":\"DOWN\","
        "\"fixed_ips\":[{\"subnet_id\":\"" SUBNET "\",\"ip_address\":\"203.0.113.60\"},"
        "{\"subnet_id\":\"" SUBNET6 "\",\"ip_address\":\"2001:db8::60\"}],"
        "\"binding:vif_type\":\"bridge\"}";
    static const char subs[] =
        "[{\"id\":\"" SUBNET "\",\"cidr\":\"203.0.113.0/24\",\"gateway_ip\":\"203.0.113.1\","
        "\"enable_dhcp\":true,\"dns_nameservers\":[\"203.0.113.2\"],"
        "\"host_routes\":[{\"destination\":\"198.51.100.0/24\",\"nexthop\":\"203.0.113.9\"}]},"
        "{\"id\":\"" SUBNET6 "\",\"cidr\":\"2001:db8::/64\",\"gateway_ip\":\"2001:db8::1\","
        "\"enable_dhcp\":true,\"ipv6_address_mode\":\"slaac\"},"
        "{\"id\":\"5a3e6f0d-1f0b-4f56-8f3e-0a3b1c9d2e77\",\"cidr\":\"192.0.2.0/24\"}]";
    struct records r = records_of(port, networks, subs);
    r.dhcp = json("[{\"id\":\"x\",\"fixed_ips\":[{\"subnet_id\":\"" SUBNET
                  "\",\"ip_address\":\"203.0.113.3\"}]}]");
    r.floating = json("[{\"port_id\":\"" PORT "\",\"fixed_ip_address\":\"203.0.113.60\","
                      "\"floating_ip_address\":\"198.51.100.7\"},"
                      "{\"port_id\":\"another\",\"fixed_ip_address\":\"203.0.113.60\","
                      "\"floating_ip_address\":\"198.51.100.8\"}]");
    struct json_object *vif = vif_of(&r, false);
    struct json_object *list = json_get(json_get(vif, "network"), "subnets");
    struct json_object *v4 = first(list), *v6 = json_object_array_get_idx(list, 1);
    struct json_object *ip = first(json_get(v4, "ips"));

    is(json_object_array_length(list) == 2);
    is(json_get_bool(vif, "active", false)); /* administratively down counts as done */
    has(ip, "address", "203.0.113.60");
    is(json_object_array_length(json_get(ip, "floating_ips")) == 1);
    has(first(json_get(ip, "floating_ips")), "address", "198.51.100.7");
    has(json_get(v4, "meta"), "dhcp_server", "203.0.113.3");
    has(first(json_get(v4, "dns")), "type", "dns");
    has(json_get(first(json_get(v4, "routes")), "gateway"), "address", "203.0.113.9");
    has(first(json_get(v4, "routes")), "cidr", "198.51.100.0/24");
    has(json_get(v4, "gateway"), "address", "203.0.113.1");
    is(json_get_int(v6, "version", 0) == 6);
    is(json_get_int(first(json_get(v6, "ips")), "version", 0) == 6);
    UNIT_STR(at(json_get(v6, "meta"), "ipv6_address_mode"), "slaac");
    /* no DHCP port: the gateway, for readers of Zed */
    has(json_get(v6, "meta"), "dhcp_server", "2001:db8::1");
    json_object_put(vif);
    records_clear(&r);
}

UNIT_TEST(providers, "a tunnel has no physical network, a segment may name one")
{
    static const char tunnel[] =
        "[{\"id\":\"" NETWORK "\",\"name\":\"t\",\"tenant_id\":\"p\",\"mtu\":1450,"
        "\"provider:network_type\":\"vxlan\"}]";
    static const char segments[] =
        "[{\"id\":\"" NETWORK "\",\"name\":\"s\",\"tenant_id\":\"p\",\"segments\":["
        "{\"provider:network_type\":\"vxlan\",\"provider:physical_network\":null},"
        "{\"provider:network_type\":\"vlan\",\"provider:physical_network\":\"physnet2\"}]}]";
    struct records r = records_of(bridge_port, tunnel, subnets);
    struct records s = records_of(bridge_port, segments, subnets);
    struct records none = records_of(bridge_port, "[]", "[]");
    struct json_object *a = vif_of(&r, false), *b = vif_of(&s, false), *c = vif_of(&none, false);
    struct json_object *meta = json_get(json_get(a, "network"), "meta");

    is(json_get_bool(meta, "tunneled", false));
    is(json_has(meta, "physical_network") && !json_get(meta, "physical_network"));
    is(!json_has(meta, "computed_network_type"));
    meta = json_get(json_get(b, "network"), "meta");
    is(!json_get_bool(meta, "tunneled", true));
    has(meta, "physical_network", "physnet2");
    has(meta, "computed_network_type", "vlan");
    /* a network that Neutron did not show: the port's project stands in */
    has(json_get(json_get(c, "network"), "meta"), "tenant_id", "other");
    is(first_subnet(c) == NULL);
    json_object_put(a);
    json_object_put(b);
    json_object_put(c);
    records_clear(&r);
    records_clear(&s);
    records_clear(&none);
}

UNIT_TEST(no_port, "a record that is no port is refused, by name of what it lacks")
{
    struct records r = records_of("{\"id\":\"" PORT "\",\"network_id\":\"x\"}", "[]", "[]");
    struct records s = records_of(
        "{\"id\":\"../x\",\"network_id\":\"x\",\"mac_address\":\"fa:16:3e:00:00:3c\"}", "[]", "[]");

    is(vif_of(&r, false) == NULL);
    UNIT_EQ(unit_err.code, ERR_PARSE);
    is(strstr(unit_err.text, "mac_address") != NULL);
    is(vif_of(&s, false) == NULL);
    records_clear(&r);
    records_clear(&s);
}
