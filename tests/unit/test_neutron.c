/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/rest_world.h"

#include "cloud/neutron_internal.h"
#include "lib/clock.h"
#include "lib/json.h"
#include "lib/text.h"

#define UUID    "f54599db-972c-4dc7-83a7-e708e83972ff"
#define PROJECT "42fc262f986f4f95819d230793bce254"
#define PORT    "cb78d9e5-2794-4bab-baa4-a2498ecbb479"
#define PORT2   "9cf193f1-870b-4829-8081-1945ddc3e3fc"
#define NETWORK "83fa7b67-c9e8-469f-a6ea-8fd5e677797e"
#define SUBNET  "5a3e6f0d-1f0b-4f56-8f3e-0a3b1c9d2e11"

#define LIST       "/v2.0/ports?device_id=" UUID
#define NETS       "/v2.0/networks?id=" NETWORK
#define ONE(port)  "/v2.0/ports/" port
#define BIND(port) "/v2.0/ports/" port "/bindings/here"

/* A port's record as Neutron answers it, of this test's network. */
#define RECORD(port, device, host, more)                                                           \
    "{\"id\":\"" port "\",\"network_id\":\"" NETWORK "\",\"tenant_id\":\"" PROJECT                 \
    "\",\"mac_address\":\"fa:16:3e:00:00:3c\",\"device_id\":\"" device                             \
    "\",\"device_owner\":\"compute:nova\",\"status\":\"ACTIVE\",\"fixed_ips\":[{\"subnet_id\":"    \
    "\"" SUBNET "\",\"ip_address\":\"203.0.113.60\"}],\"binding:host_id\":\"" host                 \
    "\",\"binding:vif_type\":\"bridge\",\"created_at\":\"2026-11-21T20:45:31Z\"" more "}"
#define PORT_JSON(port, device, host, more) "{\"port\":" RECORD(port, device, host, more) "}"
#define LIST_JSON(records)                  "{\"ports\":[" records "]}"
#define NETWORK_JSON(more)                                                                         \
    "{\"networks\":[{\"id\":\"" NETWORK "\",\"name\":\"data\",\"tenant_id\":\"" PROJECT            \
    "\",\"mtu\":1500,\"subnets\":[\"" SUBNET "\"]" more "}]}"
#define CACHED(port, preserve)                                                                     \
    "{\\\"id\\\":\\\"" port "\\\",\\\"network\\\":{\\\"id\\\":\\\"" NETWORK                        \
    "\\\"},\\\"preserve_on_delete\\\":" preserve "}"

static struct rest_world *w;

static void open_neutron(void)
{
    rest_world_open(w, SERVICE_NEUTRON, "neutron", NULL, NULL, NULL, NULL);
    w->nova.neutron = neutron_new(&w->nova);
}

static void close_neutron(void)
{
    service_free(STEAL(w->nova.services[SERVICE_NEUTRON]));
    neutron_free(STEAL(w->nova.neutron));
    rest_world_close(w);
}

static void setup(void)
{
    w = rest_world_new();
    open_neutron();
}

static void teardown(void)
{
    close_neutron();
    rest_world_free(w);
}

UNIT_FIXTURE(setup, teardown)

static void answer(const char *method, const char *where, int status, const char *body)
{
    rest_world_answer(w, method, where, status, body);
}

static void answer_always(const char *method, const char *path, int status, const char *body)
{
    const struct fake_answer a = {
        .method = method, .path = path, .status = status, .body = body, .times = -1};

    fake_http_add(w->server, &a);
}

/* Networks, subnets and the rest that a VIF is made of. */
static void answer_details(void)
{
    answer_always("GET", "/v2.0/networks?id=*", 200, NETWORK_JSON(""));
    answer_always("GET", "/v2.0/subnets?*", 200,
                  "{\"subnets\":[{\"id\":\"" SUBNET "\",\"cidr\":\"203.0.113.0/24\","
                  "\"gateway_ip\":null}]}");
    answer_always("GET", "/v2.0/ports?device_owner=network:dhcp*", 200, "{\"ports\":[]}");
    answer_always("GET", "/v2.0/floatingips*", 404, "{}");
}

static void answer_extensions(const char *alias)
{
    _cleanup_(str_freep) char *body = text_format("{\"extensions\":[{\"alias\":\"%s\"}]}", alias);

    answer_always("GET", "/v2.0/extensions?fields=alias", 200, body);
}

/* cache: members of the array, escaped as they stand in the string. */
static struct instance *instance_of(const char *cache)
{
    _cleanup_(str_freep) char *text = text_format(
        "{\"nova_object.name\":\"Instance\",\"nova_object.namespace\":\"nova\","
        "\"nova_object.version\":\"2.7\",\"nova_object.data\":{\"uuid\":\"" UUID "\","
        "\"project_id\":\"" PROJECT "\",\"hostname\":\"guest\",\"availability_zone\":\"nova\","
        "\"host\":\"here\",\"created_at\":\"2026-11-21T20:45:32Z\",\"info_cache\":{"
        "\"nova_object.name\":\"InstanceInfoCache\",\"nova_object.namespace\":\"nova\","
        "\"nova_object.version\":\"1.5\",\"nova_object.data\":{\"network_info\":\"[%s]\"}}}}",
        cache);
    struct json_object *o = NULL;
    struct instance *instance = NULL;

    UNIT_OK(json_parse(text, strlen(text), &o, &unit_err));
    UNIT_OK(instance_from_json(o, &instance, &unit_err));
    json_object_put(o);
    return instance;
}

static struct json_object *requested_of(const char *network, const char *port, const char *address)
{
    struct json_object *request = json_object_new_object(), *list = json_object_new_array();

    json_add_string(request, "network_id", network);
    json_add_string(request, "port_id", port);
    json_add_string(request, "address", address);
    json_object_array_add(list, request);
    return list;
}

static size_t asked(const char *method, const char *path)
{
    return fake_http_count(w->server, method, path);
}

static struct json_object *sent(const char *method, const char *path)
{
    const struct fake_request *r = fake_http_request(w->server, method, path, 0);

    return r ? json_get(r->json, "port") : NULL;
}

static struct json_object *vif(size_t i)
{
    return json_object_array_get_idx(w->end.result, i);
}

/* ---- refresh ---- */

UNIT_TEST(refresh, "a refresh asks once for each kind of record where the cache knows the network")
{
    _cleanup_(instance_freep) struct instance *instance = instance_of(CACHED(PORT, "true"));

    answer_details();
    answer("GET", LIST, 200, LIST_JSON(RECORD(PORT, UUID, "here", "")));
    neutron_ports_refresh(&w->cloud, w->context, instance, rest_result, &w->end);
    rest_world_run(w, 1);
    UNIT_EQ(w->end.e.code, ERR_NONE);
    UNIT_EQ(json_object_array_length(w->end.result), 1);
    UNIT_TRUE(json_get_bool(vif(0), "preserve_on_delete", false));
    UNIT_STR(json_get_string(json_get(vif(0), "network"), "bridge", ""), "brq83fa7b67-c9");
    UNIT_EQ(asked("GET", NULL), 5);
    _cleanup_(str_freep) char *id =
        fake_http_header(fake_http_request(w->server, "GET", LIST, 0), "X-Openstack-Request-Id");
    UNIT_STR(id, "req-1");
}

UNIT_TEST(unlisted, "a port that the list lacks stays when Neutron still has it by its id")
{
    _cleanup_(instance_freep) struct instance *instance =
        instance_of(CACHED(PORT, "false") "," CACHED(PORT2, "false"));

    answer_details();
    answer("GET", LIST, 200, LIST_JSON(""));
    answer("GET", ONE(PORT), 200, PORT_JSON(PORT, UUID, "here", ""));
    answer("GET", ONE(PORT2), 404, "{}");
    neutron_ports_refresh(&w->cloud, w->context, instance, rest_result, &w->end);
    rest_world_run(w, 1);
    UNIT_EQ(json_object_array_length(w->end.result), 1);
    UNIT_STR(json_get_string(vif(0), "id", ""), PORT);
}

/* The port in the midst of an activation. */
static const char unbound[] =
    "{\"ports\":[{\"id\":\"" PORT "\",\"network_id\":\"" NETWORK
    "\",\"mac_address\":\"fa:16:3e:00:00:3c\",\"device_id\":\"" UUID
    "\",\"fixed_ips\":[],\"binding:host_id\":\"here\",\"binding:vif_type\":\"unbound\","
    "\"binding:vif_details\":{}}]}";

UNIT_TEST(in_between, "a port that is being bound anew keeps the type that it had")
{
    static const char cached[] =
        "{\\\"id\\\":\\\"" PORT "\\\",\\\"network\\\":{\\\"id\\\":\\\"" NETWORK
        "\\\"},\\\"type\\\":\\\"bridge\\\",\\\"details\\\":{\\\"connectivity\\\":"
        "\\\"l2\\\"}}";
    _cleanup_(instance_freep) struct instance *known = instance_of(cached);

    answer_details();
    answer("GET", LIST, 200, unbound);
    neutron_ports_refresh(&w->cloud, w->context, known, rest_result, &w->end);
    rest_world_run(w, 1);
    UNIT_STR(json_get_string(vif(0), "type", ""), "bridge");
    UNIT_STR(json_get_string(json_get(vif(0), "details"), "connectivity", ""), "l2");
    UNIT_STR(json_get_string(json_get(vif(0), "network"), "bridge", ""), "brq83fa7b67-c9");
}

UNIT_TEST(unbound_port, "a port that is not bound and was not known is told as it is")
{
    _cleanup_(instance_freep) struct instance *instance = instance_of(CACHED(PORT, "true"));

    answer_details();
    answer("GET", LIST, 200, unbound);
    neutron_ports_refresh(&w->cloud, w->context, instance, rest_result, &w->end);
    rest_world_run(w, 1);
    UNIT_STR(json_get_string(vif(0), "type", ""), "unbound");
}

UNIT_TEST(no_proof, "without proof that a port is gone there is no new cache")
{
    _cleanup_(instance_freep) struct instance *instance = instance_of(CACHED(PORT, "false"));

    answer_details();
    answer("GET", LIST, 200, LIST_JSON(""));
    answer("GET", ONE(PORT), 403, "{}");
    neutron_ports_refresh(&w->cloud, w->context, instance, rest_result, &w->end);
    rest_world_run(w, 1);
    UNIT_TRUE(w->end.result == NULL);
    UNIT_EQ(w->end.e.code, ERR_REMOTE);
}

UNIT_TEST(unknown_port,
          "a port that the cache lost is kept, and preserved when older than the guest")
{
    _cleanup_(instance_freep) struct instance *instance = instance_of("");

    answer_details();
    answer("GET", LIST, 200, LIST_JSON(RECORD(PORT, UUID, "here", "")));
    neutron_ports_refresh(&w->cloud, w->context, instance, rest_result, &w->end);
    rest_world_run(w, 1);
    UNIT_EQ(json_object_array_length(w->end.result), 1);
    UNIT_TRUE(json_get_bool(vif(0), "preserve_on_delete", false));
}

/* ---- builds ---- */

static void has(struct json_object *o, const char *key, const char *value)
{
    UNIT_STR(json_get_string(o, key, ""), value);
}

static void made_with_all(struct json_object *body)
{
    has(body, "binding:host_id", "here");
    has(body, "device_id", UUID);
    has(body, "device_owner", "compute:nova");
    has(body, "tenant_id", PROJECT);
    has(body, "dns_name", "guest");
    UNIT_TRUE(!json_has(body, "security_groups"));
    UNIT_EQ(json_object_array_length(json_get(body, "fixed_ips")), 1);
}

UNIT_TEST(build_network, "a port on a network is made bound, in the project, in one request")
{
    _cleanup_(instance_freep) struct instance *instance = instance_of("");
    _cleanup_(json_putp) struct json_object *requested =
        requested_of(NETWORK, NULL, "203.0.113.60");

    answer_extensions("dns-integration");
    answer_details();
    answer("POST", "/v2.0/ports", 201, PORT_JSON(PORT, UUID, "here", ""));
    answer("GET", LIST, 200, LIST_JSON(RECORD(PORT, UUID, "here", "")));
    neutron_ports_allocate(&w->cloud, w->context, instance, requested, NULL, rest_result, &w->end);
    rest_world_run(w, 1);
    UNIT_EQ(w->end.e.code, ERR_NONE);
    made_with_all(sent("POST", "/v2.0/ports"));
    UNIT_TRUE(!json_get_bool(vif(0), "preserve_on_delete", true));
    UNIT_EQ(asked("PUT", NULL), 0);
}

UNIT_TEST(build_port, "a given port is taken with its profile and stays the user's")
{
    _cleanup_(instance_freep) struct instance *instance = instance_of("");
    _cleanup_(json_putp) struct json_object *requested = requested_of(NULL, PORT, NULL);

    answer_extensions("router");
    answer_details();
    answer("GET", ONE(PORT), 200,
           PORT_JSON(PORT, "", "", ",\"binding:profile\":{\"trusted\":true}"));
    answer("PUT", ONE(PORT), 200, PORT_JSON(PORT, UUID, "here", ""));
    answer("GET", LIST, 200, LIST_JSON(RECORD(PORT, UUID, "here", "")));
    neutron_ports_allocate(&w->cloud, w->context, instance, requested, NULL, rest_result, &w->end);
    rest_world_run(w, 1);
    UNIT_EQ(w->end.e.code, ERR_NONE);
    struct json_object *body = sent("PUT", ONE(PORT));
    UNIT_TRUE(json_get_bool(json_get(body, "binding:profile"), "trusted", false));
    UNIT_STR(json_get_string(body, "binding:host_id", ""), "here");
    UNIT_TRUE(!json_has(body, "dns_name"));
    UNIT_TRUE(json_get_bool(vif(0), "preserve_on_delete", false));
}

UNIT_TEST(port_in_use, "another instance's port is refused as PortInUse and nothing is changed")
{
    _cleanup_(instance_freep) struct instance *instance = instance_of("");
    _cleanup_(json_putp) struct json_object *requested = requested_of(NULL, PORT, NULL);

    answer_extensions("router");
    answer("GET", ONE(PORT), 200, PORT_JSON(PORT, "another", "there", ""));
    neutron_ports_allocate(&w->cloud, w->context, instance, requested, NULL, rest_result, &w->end);
    rest_world_run(w, 1);
    UNIT_EQ(w->end.e.code, ERR_INVALID);
    UNIT_STR(err_wire_class(&w->end.e), "PortInUse");
    UNIT_EQ(asked("PUT", NULL), 0);
}

UNIT_TEST(rollback, "when one port cannot be made, made ones are deleted and taken ones given back")
{
    _cleanup_(instance_freep) struct instance *instance = instance_of("");
    _cleanup_(json_putp) struct json_object *requested = requested_of(NULL, PORT, NULL);
    _cleanup_(json_putp) struct json_object *second = requested_of(NETWORK, NULL, NULL);
    _cleanup_(json_putp) struct json_object *third = requested_of(NETWORK, NULL, "203.0.113.60");
    json_object_array_add(requested, json_object_get(json_object_array_get_idx(second, 0)));
    json_object_array_add(requested, json_object_get(json_object_array_get_idx(third, 0)));

    answer_extensions("router");
    answer_details();
    answer("GET", ONE(PORT), 200, PORT_JSON(PORT, "", "", ""));
    answer("PUT", ONE(PORT), 200, PORT_JSON(PORT, UUID, "here", ""));
    answer("POST", "/v2.0/ports", 201, PORT_JSON(PORT2, UUID, "here", ""));
    answer("POST", "/v2.0/ports", 409,
           "{\"NeutronError\":{\"type\":\"IpAddressAlreadyAllocated\",\"message\":\"taken\"}}");
    answer("PUT", ONE(PORT), 200, PORT_JSON(PORT, "", "", ""));
    answer("DELETE", ONE(PORT2), 204, NULL);
    neutron_ports_allocate(&w->cloud, w->context, instance, requested, NULL, rest_result, &w->end);
    rest_world_run(w, 1);
    UNIT_STR(err_wire_class(&w->end.e), "FixedIpAlreadyInUse");
    UNIT_EQ(asked("DELETE", ONE(PORT2)), 1);
    const struct fake_request *back = fake_http_request(w->server, "PUT", ONE(PORT), 1);
    UNIT_STR(json_get_string(json_get(back ? back->json : NULL, "port"), "device_id", "x"), "");
}

UNIT_TEST(in_doubt, "a port whose making was never answered is found by its device and deleted")
{
    _cleanup_(instance_freep) struct instance *instance = instance_of(CACHED(PORT, "false"));

    answer_extensions("router");
    answer_details();
    answer("POST", "/v2.0/ports", 503, "{}");
    answer("GET", LIST, 200,
           LIST_JSON(RECORD(PORT, UUID, "here", "") "," RECORD(PORT2, UUID, "here", "")));
    answer("DELETE", ONE(PORT2), 204, NULL);
    neutron_port_attach(&w->cloud, w->context, instance, NETWORK, NULL, NULL, NULL, rest_result,
                        &w->end);
    rest_world_run(w, 1);
    UNIT_EQ(w->end.e.code, ERR_REMOTE);
    UNIT_EQ(asked("POST", NULL), 2); /* Keystone's and one port: not made twice */
    UNIT_EQ(asked("DELETE", NULL), 1);
}

UNIT_TEST(groups, "security groups go by name, and not to a network without port security")
{
    _cleanup_(instance_freep) struct instance *instance = instance_of("");
    _cleanup_(json_putp) struct json_object *requested = requested_of(NETWORK, NULL, NULL);
    _cleanup_(json_putp) struct json_object *names = json_object_new_array();
    json_object_array_add(names, json_object_new_string("web"));

    answer_extensions("router");
    answer("GET", NETS, 200, NETWORK_JSON(",\"port_security_enabled\":false"));
    answer("GET", "/v2.0/security-groups?*", 200,
           "{\"security_groups\":[{\"id\":\"g1\",\"name\":\"web\"}]}");
    neutron_ports_allocate(&w->cloud, w->context, instance, requested, names, rest_result, &w->end);
    rest_world_run(w, 1);
    UNIT_STR(err_wire_class(&w->end.e), "SecurityGroupCannotBeApplied");
    UNIT_EQ(asked("POST", "/v2.0/ports"), 0);
}

UNIT_TEST(ambiguous, "a build without networks takes the only one, and refuses to choose of two")
{
    _cleanup_(instance_freep) struct instance *instance = instance_of("");

    answer_extensions("router");
    answer("GET", "/v2.0/networks?tenant_id=" PROJECT "&shared=False", 200, NETWORK_JSON(""));
    answer("GET", "/v2.0/networks?shared=True", 200,
           "{\"networks\":[{\"id\":\"" SUBNET "\",\"shared\":true}]}");
    neutron_ports_allocate(&w->cloud, w->context, instance, NULL, NULL, rest_result, &w->end);
    rest_world_run(w, 1);
    UNIT_STR(err_wire_class(&w->end.e), "NetworkAmbiguous");
}

UNIT_TEST(none, "a request for no network asks nothing and gives an empty list")
{
    _cleanup_(instance_freep) struct instance *instance = instance_of("");
    _cleanup_(json_putp) struct json_object *requested = requested_of("none", NULL, NULL);

    answer_extensions("router");
    answer("GET", LIST, 200, LIST_JSON(""));
    neutron_ports_allocate(&w->cloud, w->context, instance, requested, NULL, rest_result, &w->end);
    rest_world_run(w, 1);
    UNIT_EQ(json_object_array_length(w->end.result), 0);
    UNIT_EQ(asked("POST", "/v2.0/ports"), 0);
}

UNIT_TEST(foreign, "another project's network is used only when a policy shares it")
{
    _cleanup_(instance_freep) struct instance *instance = instance_of("");
    _cleanup_(json_putp) struct json_object *requested = requested_of(NETWORK, NULL, NULL);
    static const char theirs[] =
        "{\"networks\":[{\"id\":\"" NETWORK "\",\"tenant_id\":\"another\",\"subnets\":[\"s\"]}]}";

    answer_extensions("router");
    answer("GET", NETS, 200, theirs);
    answer("GET", "/v2.0/rbac-policies?*", 200,
           "{\"rbac_policies\":[{\"target_tenant\":\"somebody\"}]}");
    neutron_ports_allocate(&w->cloud, w->context, instance, requested, NULL, rest_result, &w->end);
    rest_world_run(w, 1);
    UNIT_STR(err_wire_class(&w->end.e), "NetworkNotFound");
    UNIT_EQ(asked("POST", "/v2.0/ports"), 0);
}

/* ---- attach, detach, release ---- */

UNIT_TEST(attach, "an attached port comes last in the result")
{
    _cleanup_(instance_freep) struct instance *instance = instance_of(CACHED(PORT, "true"));

    answer_extensions("router");
    answer_details();
    answer("POST", "/v2.0/ports", 201, PORT_JSON(PORT2, UUID, "here", ""));
    answer("GET", LIST, 200,
           LIST_JSON(RECORD(PORT2, UUID, "here", "") "," RECORD(PORT, UUID, "here", "")));
    neutron_port_attach(&w->cloud, w->context, instance, NETWORK, NULL, NULL, NULL, rest_result,
                        &w->end);
    rest_world_run(w, 1);
    UNIT_EQ(json_object_array_length(w->end.result), 2);
    UNIT_STR(json_get_string(vif(1), "id", ""), PORT2);
    UNIT_TRUE(!json_get_bool(vif(1), "preserve_on_delete", true));
}

UNIT_TEST(release, "ports that were given are unbound, those that were made deleted")
{
    _cleanup_(instance_freep) struct instance *instance =
        instance_of(CACHED(PORT, "true") "," CACHED(PORT2, "false"));

    answer_extensions("router");
    answer(
        "GET", LIST, 200,
        LIST_JSON(RECORD(
            PORT, UUID, "here",
            ",\"binding:profile\":{\"pci_slot\":\"1\",\"trusted\":true}") "," RECORD(PORT2, UUID,
                                                                                     "here", "")));
    answer("PUT", ONE(PORT), 200, PORT_JSON(PORT, "", "", ""));
    answer("DELETE", ONE(PORT2), 404, "{}");
    neutron_ports_release(&w->cloud, w->context, instance, rest_done, &w->end);
    rest_world_run(w, 1);
    UNIT_EQ(w->end.e.code, ERR_NONE);
    struct json_object *body = sent("PUT", ONE(PORT));
    UNIT_STR(json_get_string(body, "device_owner", "x"), "");
    UNIT_TRUE(json_has(body, "binding:host_id") && !json_get(body, "binding:host_id"));
    UNIT_TRUE(json_get_bool(json_get(body, "binding:profile"), "trusted", false));
    UNIT_TRUE(!json_has(json_get(body, "binding:profile"), "pci_slot"));
}

UNIT_TEST(detach, "a detached port is gone from the result and the others stay")
{
    _cleanup_(instance_freep) struct instance *instance =
        instance_of(CACHED(PORT, "true") "," CACHED(PORT2, "false"));

    answer_extensions("router");
    answer_details();
    answer_always("GET", LIST, 200,
                  LIST_JSON(RECORD(PORT, UUID, "here", "") "," RECORD(PORT2, UUID, "here", "")));
    answer("DELETE", ONE(PORT2), 204, NULL);
    neutron_port_detach(&w->cloud, w->context, instance, PORT2, rest_result, &w->end);
    rest_world_run(w, 1);
    UNIT_EQ(json_object_array_length(w->end.result), 1);
    UNIT_STR(json_get_string(vif(0), "id", ""), PORT);
    UNIT_EQ(asked("PUT", NULL), 0);
}

/* ---- bindings ---- */

static struct migrate_data *data_of(const char *first, const char *second)
{
    struct migrate_data *data = migrate_data_new();
    const char *ids[] = {first, second};
    struct json_object *vifs = json_object_new_array();

    for (size_t i = 0; i < ARRAY_LEN(ids) && ids[i]; i++) {
        struct json_object *o = json_object_new_object(), *fields = json_object_new_object();
        json_add_string(fields, "port_id", ids[i]);
        json_add(o, "nova_object.data", fields);
        json_object_array_add(vifs, o);
    }
    migrate_data_set_vifs(data, vifs);
    return data;
}

static void bindings(enum cloud_binding_change what, const char *first, const char *second)
{
    _cleanup_(instance_freep) struct instance *instance = instance_of("");
    _cleanup_(migrate_data_freep) struct migrate_data *data = data_of(first, second);

    neutron_bindings(&w->cloud, w->context, instance, data, "here", what, rest_done, &w->end);
}

UNIT_TEST(activate, "each port's binding is activated by one request and no question")
{
    answer("PUT", BIND(PORT) "/activate", 200, "{}");
    answer("PUT", BIND(PORT2) "/activate", 409,
           "{\"NeutronError\":{\"type\":\"PortBindingAlreadyActive\",\"message\":\"is\"}}");
    bindings(CLOUD_BINDING_ACTIVATE, PORT, PORT2);
    rest_world_run(w, 1);
    UNIT_EQ(w->end.e.code, ERR_NONE);
    UNIT_EQ(asked("PUT", NULL), 2);
    UNIT_EQ(asked("GET", "/v2.0/*"), 0);
}

UNIT_TEST(activate_joins, "two activations at once are one for Neutron, and both are told")
{
    const struct fake_answer slow = {
        .method = "PUT", .path = BIND(PORT) "/activate", .status = 200, .delay_ms = 60};

    fake_http_add(w->server, &slow);
    bindings(CLOUD_BINDING_ACTIVATE, PORT, NULL);
    bindings(CLOUD_BINDING_ACTIVATE, PORT, NULL);
    rest_world_run(w, 2);
    UNIT_EQ(w->end.e.code, ERR_NONE);
    UNIT_EQ(asked("PUT", NULL), 1);
}

UNIT_TEST(activate_error, "after an error the binding is read, and an active one is not sent again")
{
    answer("PUT", BIND(PORT) "/activate", 500, "{}");
    answer("GET", BIND(PORT), 200, "{\"binding\":{\"status\":\"ACTIVE\"}}");
    bindings(CLOUD_BINDING_ACTIVATE, PORT, NULL);
    rest_world_run(w, 1);
    UNIT_EQ(w->end.e.code, ERR_NONE);
    UNIT_EQ(asked("PUT", NULL), 1);
}

UNIT_TEST(activate_again, "an inactive one is tried again, also when Neutron did not answer")
{
    const struct fake_answer dropped = {
        .method = "PUT", .path = BIND(PORT) "/activate", .drop = true};

    fake_http_add(w->server, &dropped);
    answer("GET", BIND(PORT), 503, "{}");
    answer("GET", BIND(PORT), 200, "{\"binding\":{\"status\":\"INACTIVE\"}}");
    answer("PUT", BIND(PORT) "/activate", 200, "{}");
    bindings(CLOUD_BINDING_ACTIVATE, PORT, NULL);
    rest_world_run(w, 1);
    UNIT_EQ(w->end.e.code, ERR_NONE);
    UNIT_EQ(asked("PUT", NULL), 2);
}

UNIT_TEST(activate_none, "a port without a binding there has nothing to activate")
{
    answer("PUT", BIND(PORT) "/activate", 404, "{}");
    bindings(CLOUD_BINDING_ACTIVATE, PORT, NULL);
    rest_world_run(w, 1);
    UNIT_EQ(w->end.e.code, ERR_NONE);
}

UNIT_TEST(activate_refused, "a refusal that no patience cures is told at once")
{
    answer("PUT", BIND(PORT) "/activate", 403, "{}");
    bindings(CLOUD_BINDING_ACTIVATE, PORT, NULL);
    rest_world_run(w, 1);
    UNIT_EQ(w->end.e.code, ERR_REMOTE);
    UNIT_EQ(asked("PUT", NULL), 1);
}

UNIT_TEST(activate_cancelled, "an activation that waits ends with the session")
{
    answer("PUT", BIND(PORT) "/activate", 500, "{}");
    answer("GET", BIND(PORT), 200, "{\"binding\":{\"status\":\"INACTIVE\"}}");
    bindings(CLOUD_BINDING_ACTIVATE, PORT, NULL);
    for (int i = 0; i < REST_TURNS_MAX && !asked("GET", BIND(PORT)); i++)
        UNIT_OK(loop_turn(w->loop, REST_TURN_MS, &unit_err));
    close_neutron();
    UNIT_EQ(w->end.calls, 1);
    UNIT_EQ(w->end.e.code, ERR_CANCELLED);
    open_neutron();
}

UNIT_TEST(announce, "migrating_to is said of ports bound elsewhere, with their profile kept")
{
    answer_extensions("router");
    answer(
        "GET", LIST, 200,
        LIST_JSON(RECORD(PORT, UUID, "there", ",\"binding:profile\":{\"trusted\":true}") "," RECORD(
            PORT2, UUID, "here", "")));
    answer("PUT", ONE(PORT), 200, "{}");
    bindings(CLOUD_BINDING_ANNOUNCE, PORT, PORT2);
    rest_world_run(w, 1);
    UNIT_EQ(w->end.e.code, ERR_NONE);
    struct json_object *profile = json_get(sent("PUT", ONE(PORT)), "binding:profile");
    UNIT_STR(json_get_string(profile, "migrating_to", ""), "here");
    UNIT_TRUE(json_get_bool(profile, "trusted", false));
    UNIT_EQ(asked("PUT", NULL), 1);
}

UNIT_TEST(delete_inactive, "an inactive binding is deleted, and migrating_to with it")
{
    answer("GET", ONE(PORT), 200,
           PORT_JSON(PORT, UUID, "there", ",\"binding:profile\":{\"migrating_to\":\"here\"}"));
    answer("GET", BIND(PORT), 200, "{\"binding\":{\"status\":\"INACTIVE\"}}");
    answer("DELETE", BIND(PORT), 204, NULL);
    answer("PUT", ONE(PORT), 200, "{}");
    bindings(CLOUD_BINDING_DELETE, PORT, NULL);
    rest_world_run(w, 1);
    UNIT_EQ(w->end.e.code, ERR_NONE);
    UNIT_EQ(asked("DELETE", NULL), 1);
    UNIT_TRUE(!json_has(json_get(sent("PUT", ONE(PORT)), "binding:profile"), "migrating_to"));
}

UNIT_TEST(delete_active, "an active binding is never deleted, a missing one is fine")
{
    answer("GET", ONE(PORT), 200, PORT_JSON(PORT, UUID, "here", ""));
    answer("GET", BIND(PORT), 200, "{\"binding\":{\"status\":\"ACTIVE\"}}");
    answer("GET", ONE(PORT2), 404, "{}");
    answer("GET", BIND(PORT2), 404, "{}");
    bindings(CLOUD_BINDING_DELETE, PORT, PORT2);
    rest_world_run(w, 1);
    UNIT_EQ(w->end.e.code, ERR_NONE);
    UNIT_EQ(asked("DELETE", NULL), 0);
}

UNIT_TEST(warm, "a warm session activates on the connection that is open")
{
    answer_extensions("router");
    answer("PUT", BIND(PORT) "/activate", 200, "{}");
    neutron_warm(&w->nova);
    for (int i = 0; i < REST_TURNS_MAX && !w->nova.neutron->extensions_at_us; i++)
        UNIT_OK(loop_turn(w->loop, REST_TURN_MS, &unit_err));
    unsigned connections = fake_http_connections(w->server);
    neutron_warm(&w->nova);
    bindings(CLOUD_BINDING_ACTIVATE, PORT, NULL);
    rest_world_run(w, 1);
    UNIT_EQ(fake_http_connections(w->server), connections);
    UNIT_EQ(asked("GET", "/v2.0/extensions*"), 1);
}

/* ---- move here ---- */

UNIT_TEST(moved, "a guest that came here has its ports as they are, if they were activated")
{
    _cleanup_(instance_freep) struct instance *instance = instance_of(CACHED(PORT, "true"));

    answer_details();
    answer("GET", LIST, 200, LIST_JSON(RECORD(PORT, UUID, "here", "")));
    neutron_ports_move_here(&w->cloud, w->context, instance, rest_result, &w->end);
    rest_world_run(w, 1);
    UNIT_EQ(json_object_array_length(w->end.result), 1);
    UNIT_EQ(asked("PUT", NULL), 0);
    UNIT_EQ(asked("GET", LIST), 1);
}

UNIT_TEST(moved_inactive, "a binding that the source activates is awaited, a missing one is made")
{
    _cleanup_(instance_freep) struct instance *instance =
        instance_of(CACHED(PORT, "true") "," CACHED(PORT2, "true"));

    answer_details();
    answer_always("GET", LIST, 200,
                  LIST_JSON(RECORD(PORT, UUID, "there", "") "," RECORD(
                      PORT2, UUID, "there", ",\"binding:profile\":{\"migrating_to\":\"here\"}")));
    answer("GET", BIND(PORT), 200, "{\"binding\":{\"status\":\"INACTIVE\"}}");
    answer("GET", BIND(PORT2), 404, "{}");
    answer("GET", BIND(PORT), 200, "{\"binding\":{\"status\":\"INACTIVE\"}}");
    answer("GET", BIND(PORT), 200, "{\"binding\":{\"status\":\"ACTIVE\"}}");
    answer("PUT", ONE(PORT2), 200, "{}");
    neutron_ports_move_here(&w->cloud, w->context, instance, rest_result, &w->end);
    rest_world_run(w, 1);
    UNIT_EQ(w->end.e.code, ERR_NONE);
    UNIT_STR(json_get_string(sent("PUT", ONE(PORT2)), "binding:host_id", ""), "here");
    UNIT_TRUE(json_has(sent("PUT", ONE(PORT2)), "binding:profile"));
    UNIT_EQ(asked("PUT", ONE(PORT)), 0);
    UNIT_EQ(asked("GET", LIST), 2);
}

UNIT_TEST(moved_alone, "a binding that no source activates in a while is activated here")
{
    _cleanup_(instance_freep) struct instance *instance = instance_of(CACHED(PORT, "true"));
    int64_t now_us = clock_monotonic_us();

    answer_details();
    answer_always("GET", LIST, 200, LIST_JSON(RECORD(PORT, UUID, "there", "")));
    answer_always("GET", BIND(PORT), 200, "{\"binding\":{\"status\":\"INACTIVE\"}}");
    answer("PUT", BIND(PORT) "/activate", 200, "{}");
    neutron_ports_move_here(&w->cloud, w->context, instance, rest_result, &w->end);
    for (int i = 0; i < REST_TURNS_MAX && asked("GET", BIND(PORT)) < 2; i++)
        UNIT_OK(loop_turn(w->loop, REST_TURN_MS, &unit_err));
    UNIT_EQ(asked("PUT", NULL), 0);
    for (int i = 0; i < 40 && w->end.calls == 0; i++) {
        clock_fake_set(now_us += USEC_PER_SEC);
        for (int k = 0; k < 20 && w->end.calls == 0; k++)
            UNIT_OK(loop_turn(w->loop, REST_TURN_MS, &unit_err));
    }
    clock_fake_stop();
    UNIT_EQ(w->end.calls, 1);
    UNIT_EQ(asked("PUT", BIND(PORT) "/activate"), 1);
}
