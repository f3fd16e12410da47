/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Ports for a build and for attach_interface. Steps, each one round of requests, most of them empty in
 * the usual cases:
 *   look      ports that were asked for, networks, security groups, extensions
 *   automatic the project's topology, when "auto" found no network
 *   networks  those of the ports
 *   foreign   networks of other projects: shared with ours by a policy?
 *   make      ports made, bound at once; given ones taken
 *   result    network_info
 * From `make` on a failure undoes: made ports are deleted, taken ones given back as they were; where an
 * answer never came, what Neutron lists for the instance is deleted if nobody else had asked for it.
 */
#include "cloud/network_info.h"
#include "cloud/neutron_internal.h"

#include "lib/json.h"
#include "lib/log.h"
#include "lib/vector.h"

LOG_MODULE(neutron);

struct wanted {
    char *network_id, *port_id, *address;
    struct json_object *port; /* as Neutron had it before, of a given one */
    size_t look;              /* its request in `look` */
    char *made;               /* id of the port that was made */
    bool taken;               /* a given port was changed, or may have been */
};
DEFINE_VECTOR(wanted_list, struct wanted)

struct build {
    struct nova *nova;
    char *request_id;
    bool administrator; /* the user is: Nova lets them use any network */
    bool attach;
    bool unspecified, automatic;
    struct instance *instance;
    struct wanted_list wanted;
    struct json_object *cache;     /* VIFs from before */
    struct json_object *groups;    /* names or ids, as asked */
    struct json_object *group_ids; /* NULL = the project's default group */
    struct json_object *networks;
    size_t extensions_at, groups_at, networks_at,
        shared_at; /* requests of `look`; SIZE_MAX = none */
    bool made_in_doubt;
    struct err failure;
    cloud_result_fn done;
    void *aux;
};

static void build_end(struct build *b, struct json_object *result, const struct err *failure)
{
    b->done(b->aux, result, failure);
    for (size_t i = 0; i < b->wanted.length; i++) {
        struct wanted *w = &b->wanted.items[i];
        free(w->network_id);
        free(w->port_id);
        free(w->address);
        free(w->made);
        json_object_put(w->port);
    }
    free(b->wanted.items);
    free(b->request_id);
    instance_free(b->instance);
    json_object_put(b->cache);
    json_object_put(b->groups);
    json_object_put(b->group_ids);
    json_object_put(b->networks);
    free(b);
}

static struct batch *new_batch(const struct build *b)
{
    return neutron_batch(b->nova, b->request_id);
}

static const char *project_of(const struct build *b)
{
    const char *project = instance_project_id(b->instance);

    return project ? project : "";
}

/* ---- what was asked ---- */

static struct json_object *data_of(struct json_object *primitive)
{
    struct json_object *data = json_get(primitive, "nova_object.data");

    return data ? data : primitive;
}

static int check_optional(int (*check)(const char *, const char *, struct err *), const char *value,
                          const char *what, struct err *e)
{
    return value ? check(value, what, e) : 0;
}

static int want(struct build *b, const char *network_id, const char *port_id, const char *address,
                struct err *e)
{
    if (check_optional(text_check_uuid, network_id, "a network's id", e) < 0 ||
        check_optional(text_check_uuid, port_id, "a port's id", e) < 0 ||
        check_optional(text_check_ip, address, "a fixed address", e) < 0)
        return -1;
    struct wanted *w = wanted_list_add(&b->wanted);
    w->network_id = text_dup(network_id);
    w->port_id = text_dup(port_id);
    w->address = text_dup(address);
    w->look = SIZE_MAX;
    return 0;
}

/* NetworkRequestList, or NULL. "none" leaves `wanted` empty with neither flag set. */
static int read_requested(struct build *b, struct json_object *requested, struct err *e)
{
    struct json_object *list = data_of(requested);

    if (!json_object_is_type(list, json_type_array))
        list = json_get(list, "objects");
    size_t n = json_object_is_type(list, json_type_array) ? json_object_array_length(list) : 0;
    b->unspecified = n == 0;
    for (size_t i = 0; i < n; i++) {
        struct json_object *o = data_of(json_object_array_get_idx(list, i));
        const char *network = json_get_string(o, "network_id", NULL);
        const char *port = json_get_string(o, "port_id", NULL);
        if (text_equal(network, "none"))
            continue;
        if (text_equal(network, "auto"))
            b->automatic = true;
        else if (!network && !port)
            b->unspecified = true;
        else if (want(b, network, port, json_get_string(o, "address", NULL), e) < 0)
            return -1;
    }
    return 0;
}

/* Neutron gives a port without groups the project's group `default`. */
static void read_groups(struct build *b, struct json_object *groups)
{
    size_t n = json_object_is_type(groups, json_type_array) ? json_object_array_length(groups) : 0;
    bool only_default =
        n == 1 &&
        text_equal(json_object_get_string(json_object_array_get_idx(groups, 0)), "default");

    if (n && !only_default)
        b->groups = json_object_get(groups);
}

/* ---- look ---- */

static bool looks_for_networks(const struct build *b)
{
    return b->unspecified || b->automatic;
}

static void ask_networks(struct build *b, struct batch *batch)
{
    _cleanup_(json_putp) struct json_object *ids = json_object_new_array();

    if (looks_for_networks(b)) {
        b->networks_at =
            batch_get(batch,
                      text_format("/v2.0/networks?tenant_id=%s&shared=False%s", project_of(b),
                                  b->automatic ? "&admin_state_up=True" : ""),
                      "the project's networks");
        b->shared_at =
            batch_get(batch, text_dup("/v2.0/networks?shared=True"), "the shared networks");
        return;
    }
    for (size_t i = 0; i < b->wanted.length; i++)
        if (!b->wanted.items[i].port_id)
            neutron_array_add(ids, b->wanted.items[i].network_id);
    if (!json_object_array_length(ids))
        return;
    struct text_buffer url = TEXT_BUFFER_INIT;
    text_buffer_add(&url, "/v2.0/networks");
    neutron_query(&url, '?', "id", ids);
    b->networks_at = batch_get(batch, text_buffer_take(&url), "the networks");
}

static int take_given_port(struct build *b, struct wanted *w, const struct batch *batch,
                           struct err *e)
{
    struct json_object *port = batch_json(batch, w->look, "port");
    const char *uuid = instance_uuid(b->instance);
    const char *device = json_get_string(port, "device_id", "");
    const char *name = json_get_string(port, "dns_name", "");
    const char *hostname = object_string(b->instance->object, "hostname", "");

    if (batch_status(batch, w->look) == 404)
        return neutron_refuse(e, "PortNotFound", "port %s does not exist", w->port_id);
    if (batch_expect(batch, w->look, e) < 0)
        return -1;
    if (!text_equal(json_get_string(port, "tenant_id", NULL), project_of(b)))
        return neutron_refuse(e, "PortNotUsable", "port %s is not of the instance's project",
                              w->port_id);
    if (device[0] && (b->attach || !text_equal(device, uuid)))
        return neutron_refuse(e, "PortInUse", "port %s is in use by %s", w->port_id, device);
    if (name[0] && !text_equal(name, hostname))
        return neutron_refuse(e, "PortNotUsableDNS",
                              "port %s has the DNS name %s, the instance is %s", w->port_id, name,
                              hostname);
    text_replace(&w->network_id, json_get_string(port, "network_id", NULL));
    w->port = json_object_get(port);
    if (text_check_uuid(w->network_id, "the network's id of a port", e) < 0)
        return -1;
    return 0;
}

static void add_networks(struct build *b, struct json_object *networks)
{
    size_t n =
        json_object_is_type(networks, json_type_array) ? json_object_array_length(networks) : 0;

    for (size_t i = 0; i < n; i++) {
        struct json_object *network = json_object_array_get_idx(networks, i);
        if (!network_info_record(b->networks, "id", json_get_string(network, "id", NULL)))
            json_object_array_add(b->networks, json_object_get(network));
    }
}

/* The only network of the project, or none yet. */
static int choose_network(struct build *b, struct err *e)
{
    size_t n = json_object_array_length(b->networks);

    if (n > 1)
        return neutron_refuse(e, "NetworkAmbiguous",
                              "project %s has %zu networks: one must be named", project_of(b), n);
    if (n == 0)
        return 0;
    return want(b, json_get_string(json_object_array_get_idx(b->networks, 0), "id", NULL), NULL,
                NULL, e);
}

/* A name goes before an id that is the same text, as in Nova. */
static int take_group(struct build *b, struct json_object *all, const char *group, struct err *e)
{
    const char *by_name = NULL;
    struct json_object *by_id = network_info_record(all, "id", group);

    for (size_t i = 0; i < json_object_array_length(all); i++) {
        struct json_object *o = json_object_array_get_idx(all, i);
        if (!text_equal(json_get_string(o, "name", NULL), group))
            continue;
        if (by_name)
            return neutron_refuse(e, "NoUniqueMatch",
                                  "several security groups are named %s: use an id", group);
        by_name = json_get_string(o, "id", NULL);
    }
    if (!by_name)
        by_name = json_get_string(by_id, "id", NULL);
    if (!by_name)
        return neutron_refuse(e, "SecurityGroupNotFound", "security group %s does not exist",
                              group ? group : "null");
    neutron_array_add(b->group_ids, by_name);
    return 0;
}

static int take_groups(struct build *b, const struct batch *batch, struct err *e)
{
    if (!b->groups)
        return 0;
    if (batch_expect(batch, b->groups_at, e) < 0)
        return -1;
    struct json_object *all = batch_json(batch, b->groups_at, "security_groups");
    if (!json_object_is_type(all, json_type_array))
        return err_set(e, ERR_PARSE, "neutron's list of security groups is not a list");
    b->group_ids = json_object_new_array();
    for (size_t i = 0; i < json_object_array_length(b->groups); i++) {
        const char *group = json_object_get_string(json_object_array_get_idx(b->groups, i));
        if (take_group(b, all, group, e) < 0)
            return -1;
    }
    return 0;
}

static int take_look(struct build *b, const struct batch *batch, struct err *e)
{
    const size_t lists[] = {b->networks_at, b->shared_at};

    for (size_t i = 0; i < b->wanted.length; i++) {
        struct wanted *w = &b->wanted.items[i];
        if (w->port_id && take_given_port(b, w, batch, e) < 0)
            return -1;
    }
    for (size_t i = 0; i < ARRAY_LEN(lists); i++) {
        if (lists[i] == SIZE_MAX)
            continue;
        if (batch_expect(batch, lists[i], e) < 0)
            return -1;
        add_networks(b, batch_json(batch, lists[i], "networks"));
    }
    if (b->extensions_at != SIZE_MAX) {
        if (batch_expect(batch, b->extensions_at, e) < 0)
            return -1;
        neutron_learn_extensions(b->nova->neutron, batch_json(batch, b->extensions_at, NULL));
    }
    return take_groups(b, batch, e);
}

/* ---- the steps after ---- */

static void step_automatic(struct build *b);
static void step_networks(struct build *b);
static void step_foreign(struct build *b);
static void step_make(struct build *b);
static void step_result(struct build *b);
static void undo(struct build *b, const struct err *failure);

static void looked(struct batch *batch, void *aux)
{
    struct build *b = aux;
    struct err e = ERR_INIT;

    if (take_look(b, batch, &e) < 0 || (looks_for_networks(b) && choose_network(b, &e) < 0)) {
        build_end(b, NULL, &e);
        return;
    }
    if (b->automatic && !b->wanted.length)
        step_automatic(b);
    else
        step_networks(b);
}

static void step_look(struct build *b)
{
    struct batch *batch = new_batch(b);

    neutron_batch_extensions(b->nova->neutron, batch);
    b->extensions_at = batch_length(batch) ? 0 : SIZE_MAX;
    b->networks_at = b->shared_at = b->groups_at = SIZE_MAX;
    for (size_t i = 0; i < b->wanted.length; i++) {
        struct wanted *w = &b->wanted.items[i];
        if (!w->port_id)
            continue;
        _cleanup_(str_freep) char *what = text_format("port %s", w->port_id);
        w->look = batch_get(batch, text_format("/v2.0/ports/%s", w->port_id), what);
    }
    ask_networks(b, batch);
    if (b->groups)
        b->groups_at = batch_get(
            batch,
            text_format("/v2.0/security-groups?tenant_id=%s&fields=id&fields=name", project_of(b)),
            "the project's security groups");
    batch_run(batch, looked, b);
}

static void allocated_topology(struct batch *batch, void *aux)
{
    struct build *b = aux;
    struct err e = ERR_INIT;
    int status = batch_status(batch, 0);
    const char *id = json_get_string(batch_json(batch, 0, "auto_allocated_topology"), "id", NULL);

    if (status == 404 || status == 409)
        neutron_refuse(&e, "UnableToAutoAllocateNetwork",
                       "neutron cannot make a network for project %s", project_of(b));
    else if (batch_expect(batch, 0, &e) == 0)
        (void)want(b, id ? id : "", NULL, NULL, &e);
    if (err_is_set(&e))
        build_end(b, NULL, &e);
    else
        step_networks(b);
}

static void step_automatic(struct build *b)
{
    struct batch *batch = new_batch(b);

    batch_get(batch, text_format("/v2.0/auto-allocated-topology/%s", project_of(b)),
              "a network for the project");
    batch_run(batch, allocated_topology, b);
}

static void have_networks(struct batch *batch, void *aux)
{
    struct build *b = aux;
    struct err e = ERR_INIT;

    if (batch_expect_all(batch, &e) < 0) {
        build_end(b, NULL, &e);
        return;
    }
    if (batch_length(batch))
        add_networks(b, batch_json(batch, 0, "networks"));
    step_foreign(b);
}

static void step_networks(struct build *b)
{
    _cleanup_(json_putp) struct json_object *ids = json_object_new_array();
    struct batch *batch = new_batch(b);

    for (size_t i = 0; i < b->wanted.length; i++)
        if (!network_info_record(b->networks, "id", b->wanted.items[i].network_id))
            neutron_array_add(ids, b->wanted.items[i].network_id);
    if (json_object_array_length(ids)) {
        struct text_buffer url = TEXT_BUFFER_INIT;
        text_buffer_add(&url, "/v2.0/networks");
        neutron_query(&url, '?', "id", ids);
        batch_get(batch, text_buffer_take(&url), "the networks");
    }
    batch_run(batch, have_networks, b);
}

static bool is_foreign(const struct build *b, struct json_object *network)
{
    return !text_equal(json_get_string(network, "tenant_id", NULL), project_of(b)) &&
           !json_get_bool(network, "shared", false) &&
           !json_get_bool(network, "router:external", false);
}

static bool shared_with(const struct build *b, struct json_object *policies)
{
    for (size_t i = 0; policies && i < json_object_array_length(policies); i++) {
        struct json_object *o = json_object_array_get_idx(policies, i);
        const char *target = json_get_string(o, "target_tenant", NULL);
        if (text_equal(target, "*") || text_equal(target, project_of(b)))
            return true;
    }
    return false;
}

static int check_network(const struct build *b, const struct wanted *w, struct err *e)
{
    struct json_object *network = network_info_record(b->networks, "id", w->network_id);
    struct json_object *subnets = json_get(network, "subnets");
    bool has_subnets =
        json_object_is_type(subnets, json_type_array) && json_object_array_length(subnets);
    bool secured = json_get_bool(network, "port_security_enabled", true);

    if (!network)
        return neutron_refuse(e, "NetworkNotFound", "network %s does not exist", w->network_id);
    if (!b->administrator && json_get_bool(network, "router:external", false) &&
        !json_get_bool(network, "shared", false))
        return neutron_refuse(e, "ExternalNetworkAttachForbidden",
                              "network %s is external and not shared", w->network_id);
    if (!w->port_id && secured && !has_subnets)
        return neutron_refuse(e, "SecurityGroupCannotBeApplied",
                              "network %s has port security and no subnet", w->network_id);
    if (!w->port_id && !secured && b->group_ids)
        return neutron_refuse(e, "SecurityGroupCannotBeApplied",
                              "network %s has no port security, for which groups are asked",
                              w->network_id);
    return 0;
}

static void foreign_known(struct batch *batch, void *aux)
{
    struct build *b = aux;
    struct err e = ERR_INIT;

    for (size_t i = 0; i < batch_length(batch) && !err_is_set(&e); i++)
        if (batch_expect(batch, i, &e) == 0 &&
            !shared_with(b, batch_json(batch, i, "rbac_policies")))
            neutron_refuse(&e, "NetworkNotFound",
                           "a network that was asked for is not one of project %s", project_of(b));
    for (size_t i = 0; i < b->wanted.length && !err_is_set(&e); i++)
        (void)check_network(b, &b->wanted.items[i], &e);
    if (!err_is_set(&e) && b->attach && !b->wanted.length)
        neutron_refuse(&e, "InterfaceAttachFailedNoNetwork",
                       "project %s has no network to attach to", project_of(b));
    if (err_is_set(&e))
        build_end(b, NULL, &e);
    else
        step_make(b);
}

/* The project's own port may be on any network; one that we would make may not. */
static void step_foreign(struct build *b)
{
    struct batch *batch = new_batch(b);

    for (size_t i = 0; !b->administrator && i < b->wanted.length; i++) {
        const struct wanted *w = &b->wanted.items[i];
        struct json_object *network = network_info_record(b->networks, "id", w->network_id);
        if (w->port_id || !network || !is_foreign(b, network))
            continue;
        batch_get(batch,
                  text_format("/v2.0/rbac-policies?object_type=network&object_id=%s"
                              "&action=access_as_shared",
                              w->network_id),
                  "who may use the network");
    }
    batch_run(batch, foreign_known, b);
}

/* ---- make ---- */

static void add_place(const struct build *b, const struct wanted *w, struct json_object *to)
{
    struct json_object *network = network_info_record(b->networks, "id", w->network_id);
    _cleanup_(str_freep) char *owner = neutron_device_owner(b->instance);
    const char *domain = json_get_string(network, "dns_domain", "");
    const char *hostname = object_string(b->instance->object, "hostname", NULL);

    json_add_string(to, "device_id", instance_uuid(b->instance));
    json_add_string(to, "device_owner", owner);
    json_add_string(to, "binding:host_id", b->nova->cloud->host);
    /* a network with a domain has its names at Designate, in the user's zone, out of our reach */
    if (b->nova->neutron->dns_integration && !domain[0] && hostname)
        json_add_string(to, "dns_name", hostname);
}

static struct json_object *made_body(const struct build *b, const struct wanted *w)
{
    struct json_object *to = json_object_new_object();

    json_add_string(to, "network_id", w->network_id);
    json_add_bool(to, "admin_state_up", true);
    json_add_string(to, "tenant_id", project_of(b));
    if (w->address) {
        struct json_object *ips = json_object_new_array(), *ip = json_object_new_object();
        json_add_string(ip, "ip_address", w->address);
        json_object_array_add(ips, ip);
        json_add(to, "fixed_ips", ips);
    }
    if (b->group_ids && json_object_array_length(b->group_ids))
        json_add(to, "security_groups", json_copy(b->group_ids));
    add_place(b, w, to);
    return neutron_port_body(to);
}

static struct json_object *taken_body(const struct build *b, const struct wanted *w)
{
    struct json_object *to = json_object_new_object();
    struct json_object *profile = neutron_profile(w->port);

    if (json_object_object_length(profile))
        json_add(to, "binding:profile", profile);
    else
        json_object_put(profile);
    add_place(b, w, to);
    return neutron_port_body(to);
}

/* What Neutron's errors are called in Nova. */
static const struct {
    const char *neutron, *nova;
} error_names[] = {
    {"InvalidIpForNetwork", "InvalidInput"},
    {"InvalidIpForSubnet", "InvalidInput"},
    {"IpAddressInUse", "FixedIpAlreadyInUse"},
    {"IpAddressAlreadyAllocated", "FixedIpAlreadyInUse"},
    {"OverQuota", "PortLimitExceeded"},
    {"IpAddressGenerationFailure", "NoMoreFixedIps"},
    {"MacAddressInUse", "PortInUse"},
    {"HostNotCompatibleWithFixedIps", "FixedIpInvalidOnHost"},
    {"PortNotFound", "PortNotFound"},
    {"NetworkNotFound", "NetworkNotFound"},
};

static int expect_port(const struct batch *batch, size_t i, struct err *e)
{
    struct json_object *port = batch_json(batch, i, "port");
    const char *type = batch_error_type(batch, i);

    if (batch_expect(batch, i, e) < 0) {
        for (size_t k = 0; k < ARRAY_LEN(error_names); k++)
            if (text_equal(type, error_names[k].neutron)) {
                struct err said = *e;
                return neutron_refuse(e, error_names[k].nova, "%s", said.text);
            }
        return -1;
    }
    if (!json_get_string(port, "id", NULL))
        return err_set(e, ERR_PARSE, "neutron's answer for a port has no id");
    if (text_equal(json_get_string(port, "binding:vif_type", NULL), "binding_failed"))
        return neutron_refuse(e, "PortBindingFailed",
                              "neutron could not bind port %s to this host; its agent may be down",
                              json_get_string(port, "id", ""));
    return 0;
}

static void made(struct batch *batch, void *aux)
{
    struct build *b = aux;
    struct err e = ERR_INIT;

    for (size_t i = 0; i < b->wanted.length; i++) {
        struct wanted *w = &b->wanted.items[i];
        const char *id = json_get_string(batch_json(batch, i, "port"), "id", NULL);
        bool done = batch_expect(batch, i, NULL) == 0;
        bool maybe = done || batch_in_doubt(batch, i);
        if (w->port_id)
            w->taken = maybe;
        else if (done)
            w->made = text_dup(id);
        else
            b->made_in_doubt |= maybe;
        if (!err_is_set(&e))
            (void)expect_port(batch, i, &e);
    }
    if (batch_cancelled(batch))
        build_end(b, NULL, &e);
    else if (err_is_set(&e))
        undo(b, &e);
    else
        step_result(b);
}

static void step_make(struct build *b)
{
    struct batch *batch = new_batch(b);

    for (size_t i = 0; i < b->wanted.length; i++) {
        const struct wanted *w = &b->wanted.items[i];
        _cleanup_(str_freep) char *what = w->port_id
                                              ? text_format("port %s", w->port_id)
                                              : text_format("a port on network %s", w->network_id);
        if (w->port_id) {
            batch_add(batch, "PUT", text_format("/v2.0/ports/%s", w->port_id), taken_body(b, w),
                      what);
            continue;
        }
        batch_add(batch, "POST", text_dup("/v2.0/ports"), made_body(b, w), what);
        batch_once(batch);
    }
    batch_run(batch, made, b);
}

/* ---- result ---- */

static void have_result(void *aux, struct json_object *result, const struct err *failure)
{
    struct build *b = aux;

    if (!failure)
        build_end(b, result, NULL);
    else if (failure->code == ERR_CANCELLED)
        build_end(b, NULL, failure);
    else
        undo(b, failure);
}

static void step_result(struct build *b)
{
    _cleanup_(json_putp) struct json_object *order = json_object_new_array();
    _cleanup_(json_putp) struct json_object *preserve = json_object_new_object();

    for (size_t i = 0; b->attach && i < json_object_array_length(b->cache); i++)
        neutron_array_add(order,
                          json_get_string(json_object_array_get_idx(b->cache, i), "id", NULL));
    for (size_t i = 0; i < b->wanted.length; i++) {
        const struct wanted *w = &b->wanted.items[i];
        const char *id = w->port_id ? w->port_id : w->made;
        neutron_array_add(order, id);
        json_add_bool(preserve, id, w->port_id != NULL);
    }
    const struct neutron_info_request request = {
        .instance = b->instance,
        .order = order,
        .preserve = preserve,
    };
    neutron_info(b->nova, b->request_id, &request, have_result, b);
}

/* ---- undo ---- */

static void undone(struct batch *batch, void *aux)
{
    struct build *b = aux;
    struct err e = ERR_INIT;

    for (size_t i = 0; i < batch_length(batch); i++)
        if (batch_status(batch, i) != 404 && batch_expect(batch, i, &e) < 0)
            log_err(LOG_LEVEL_WARNING, &e, "instance %s: a port may be left behind",
                    instance_uuid(b->instance));
    build_end(b, NULL, &b->failure);
}

static void delete_port(struct batch *batch, const char *id)
{
    _cleanup_(str_freep) char *what = text_format("the deletion of port %s", id);

    batch_add(batch, "DELETE", text_format("/v2.0/ports/%s", id), NULL, what);
}

static bool is_wanted(const struct build *b, const char *port_id)
{
    for (size_t i = 0; i < b->wanted.length; i++)
        if (text_equal(b->wanted.items[i].port_id, port_id))
            return true;
    return false;
}

static void undo_known(struct build *b, struct json_object *listed)
{
    struct batch *batch = new_batch(b);
    _cleanup_(json_putp) struct json_object *gone = json_object_new_array();

    for (size_t i = 0; i < b->wanted.length; i++) {
        const struct wanted *w = &b->wanted.items[i];
        neutron_array_add(gone, w->made);
        if (!w->taken)
            continue;
        _cleanup_(str_freep) char *what = text_format("port %s given back", w->port_id);
        batch_add(batch, "PUT", text_format("/v2.0/ports/%s", w->port_id),
                  neutron_unbind_body(w->port, b->nova->neutron->dns_integration), what);
    }
    for (size_t i = 0; listed && i < json_object_array_length(listed); i++) {
        const char *id = json_get_string(json_object_array_get_idx(listed, i), "id", NULL);
        if (!is_wanted(b, id) && !network_info_find(b->cache, id))
            neutron_array_add(gone, id);
    }
    for (size_t i = 0; i < json_object_array_length(gone); i++)
        delete_port(batch, json_object_get_string(json_object_array_get_idx(gone, i)));
    batch_run(batch, undone, b);
}

static void listed_for_undo(struct batch *batch, void *aux)
{
    struct build *b = aux;
    struct err e = ERR_INIT;

    if (batch_expect(batch, 0, &e) < 0)
        log_err(LOG_LEVEL_WARNING, &e, "instance %s: a port may be left behind",
                instance_uuid(b->instance));
    if (batch_cancelled(batch))
        build_end(b, NULL, &b->failure);
    else
        undo_known(b, batch_json(batch, 0, "ports"));
}

static void undo(struct build *b, const struct err *failure)
{
    b->failure = *failure;
    if (!b->made_in_doubt) {
        undo_known(b, NULL);
        return;
    }
    struct batch *batch = new_batch(b);
    batch_get(batch, text_format("/v2.0/ports?device_id=%s", instance_uuid(b->instance)),
              "the instance's ports");
    batch_run(batch, listed_for_undo, b);
}

/* ---- the rows ---- */

static struct build *build_new(struct cloud *cloud, struct json_object *context,
                               const struct instance *instance, cloud_result_fn done, void *aux)
{
    struct build *b = NEW(struct build);

    b->nova = nova_of(cloud);
    b->request_id = text_dup(nova_request_id(context));
    b->administrator = json_get_bool(context, "is_admin", false);
    b->instance = instance_copy(instance);
    b->cache = neutron_cache(instance);
    b->networks = json_object_new_array();
    b->done = done;
    b->aux = aux;
    return b;
}

void neutron_ports_allocate(struct cloud *cloud, struct json_object *context,
                            const struct instance *instance, struct json_object *requested,
                            struct json_object *security_groups, cloud_result_fn done, void *aux)
{
    struct build *b = build_new(cloud, context, instance, done, aux);
    struct err e = ERR_INIT;

    read_groups(b, security_groups);
    if (read_requested(b, requested, &e) < 0)
        build_end(b, NULL, &e);
    else
        step_look(b);
}

void neutron_port_attach(struct cloud *cloud, struct json_object *context,
                         const struct instance *instance, const char *network_id,
                         const char *port_id, const char *fixed_ip, const char *tag,
                         cloud_result_fn done, void *aux)
{
    struct build *b = build_new(cloud, context, instance, done, aux);
    struct err e = ERR_INIT;

    (void)tag; /* of the agent's virtual_interfaces row; Neutron has none */
    b->attach = true;
    b->unspecified = !network_id && !port_id;
    if (!b->unspecified && want(b, network_id, port_id, fixed_ip, &e) < 0)
        build_end(b, NULL, &e);
    else
        step_look(b);
}
