/* SPDX-License-Identifier: Apache-2.0 */
/*
 * network_info as Neutron has it now, in one round of requests where the cache knows ports and networks:
 * the ports of the instance, and networks, subnets, DHCP ports and floating IPs of what the cache names.
 * A second round looks up by its id each port that is missing (a list may lack one that is there: policies,
 * replicas; a cache with fewer ports would take the guest's network away at the next start), a third the
 * records of networks that the cache did not know.
 */
#include "cloud/network_info.h"
#include "cloud/neutron_internal.h"

#include "lib/json.h"

enum { DETAIL_NETWORKS, DETAIL_SUBNETS, DETAIL_DHCP, DETAIL_FLOATING, DETAIL_COUNT };

struct info {
    struct nova *nova;
    char *request_id, *leave_out;
    struct instance *instance;
    struct json_object *cache, *order, *preserve;
    struct json_object *ports; /* listed or looked up */
    bool all, listed;
    struct json_object *asked_ports, *asked_networks; /* what the details are about */
    struct json_object *details[DETAIL_COUNT];        /* the arrays */
    cloud_result_fn done;
    void *aux;
};

static void info_free(struct info *info)
{
    free(info->request_id);
    free(info->leave_out);
    instance_free(info->instance);
    json_object_put(info->cache);
    json_object_put(info->order);
    json_object_put(info->preserve);
    json_object_put(info->ports);
    json_object_put(info->asked_ports);
    json_object_put(info->asked_networks);
    for (int i = 0; i < DETAIL_COUNT; i++)
        json_object_put(info->details[i]);
    free(info);
}

static void info_end(struct info *info, struct json_object *result, const struct err *failure)
{
    info->done(info->aux, result, failure);
    info_free(info);
}

/* ---- details ---- */

static char *query(const char *path, char separator, const char *key, struct json_object *values)
{
    struct text_buffer url = TEXT_BUFFER_INIT;

    text_buffer_add(&url, path);
    neutron_query(&url, separator, key, values);
    return text_buffer_take(&url);
}

static void ask_details(struct info *info, struct batch *batch)
{
    struct json_object *networks = info->asked_networks;

    batch_get(batch, query("/v2.0/networks", '?', "id", networks), "the networks");
    batch_get(batch, query("/v2.0/subnets", '?', "network_id", networks), "the subnets");
    batch_get(batch, query("/v2.0/ports?device_owner=network:dhcp", '&', "network_id", networks),
              "the DHCP ports");
    batch_get(batch, query("/v2.0/floatingips", '?', "port_id", info->asked_ports),
              "the floating addresses");
}

/* A Neutron without routers has no floating addresses: 404. */
static int take_details(struct info *info, const struct batch *batch, size_t first, struct err *e)
{
    static const char *const keys[] = {"networks", "subnets", "ports", "floatingips"};

    for (size_t i = 0; i < DETAIL_COUNT; i++) {
        if (i == DETAIL_FLOATING && batch_status(batch, first + i) == 404)
            continue;
        if (batch_expect(batch, first + i, e) < 0)
            return -1;
        json_object_put(info->details[i]);
        info->details[i] = json_object_get(batch_json(batch, first + i, keys[i]));
    }
    return 0;
}

static bool details_suffice(const struct info *info)
{
    for (size_t i = 0; i < json_object_array_length(info->ports); i++) {
        struct json_object *port = json_object_array_get_idx(info->ports, i);
        if (!neutron_array_has(info->asked_ports, json_get_string(port, "id", NULL)) ||
            !neutron_array_has(info->asked_networks, json_get_string(port, "network_id", NULL)))
            return false;
    }
    return true;
}

/* ---- the result ---- */

static int add_vif(struct info *info, struct json_object *vifs, const char *port_id, struct err *e)
{
    struct json_object *port = network_info_record(info->ports, "id", port_id);
    const char *uuid = instance_uuid(info->instance);

    if (!port || !text_equal(json_get_string(port, "device_id", NULL), uuid) ||
        text_equal(port_id, info->leave_out))
        return 0;
    const struct network_info_facts facts = {
        .port = port,
        .cached = network_info_find(info->cache, port_id),
        .networks = info->details[DETAIL_NETWORKS],
        .subnets = info->details[DETAIL_SUBNETS],
        .dhcp_ports = info->details[DETAIL_DHCP],
        .floating_ips = info->details[DETAIL_FLOATING],
        .ovs_bridge = conf_string(info->nova->cloud->conf, CONF_neutron_ovs_bridge),
        .preserve = json_has(info->preserve, port_id)
                        ? json_get_bool(info->preserve, port_id, false)
                        : neutron_preserved(info->instance, info->cache, port),
    };
    struct json_object *vif = network_info_vif(&facts, e);
    if (!vif)
        return -1;
    json_object_array_add(vifs, vif);
    return 0;
}

static void finish(struct info *info)
{
    _cleanup_(json_putp) struct json_object *vifs = json_object_new_array();
    struct err e = ERR_INIT;

    for (size_t i = 0; info->all && i < json_object_array_length(info->ports); i++) {
        struct json_object *port = json_object_array_get_idx(info->ports, i);
        neutron_array_add(info->order, json_get_string(port, "id", NULL));
    }
    for (size_t i = 0; i < json_object_array_length(info->order); i++) {
        const char *id = json_object_get_string(json_object_array_get_idx(info->order, i));
        if (add_vif(info, vifs, id, &e) < 0) {
            info_end(info, NULL, &e);
            return;
        }
    }
    info_end(info, vifs, NULL);
}

/* ---- rounds ---- */

static void detailed(struct batch *batch, void *aux)
{
    struct info *info = aux;
    struct err e = ERR_INIT;

    if (take_details(info, batch, 0, &e) < 0)
        info_end(info, NULL, &e);
    else
        finish(info);
}

static void have_ports(struct info *info)
{
    if (details_suffice(info)) {
        finish(info);
        return;
    }
    for (size_t i = 0; i < json_object_array_length(info->ports); i++) {
        struct json_object *port = json_object_array_get_idx(info->ports, i);
        neutron_array_add(info->asked_ports, json_get_string(port, "id", NULL));
        neutron_array_add(info->asked_networks, json_get_string(port, "network_id", NULL));
    }
    struct batch *batch = neutron_batch(info->nova, info->request_id);
    ask_details(info, batch);
    batch_run(batch, detailed, info);
}

static void looked_up(struct batch *batch, void *aux)
{
    struct info *info = aux;
    struct err e = ERR_INIT;

    for (size_t i = 0; i < batch_length(batch); i++) {
        if (batch_status(batch, i) == 404)
            continue; /* the proof that it is gone */
        if (batch_expect(batch, i, &e) < 0) {
            info_end(info, NULL, &e);
            return;
        }
        struct json_object *port = batch_json(batch, i, "port");
        if (port)
            json_object_array_add(info->ports, json_object_get(port));
    }
    have_ports(info);
}

static void look_up_missing(struct info *info)
{
    struct batch *batch = neutron_batch(info->nova, info->request_id);

    for (size_t i = 0; i < json_object_array_length(info->order); i++) {
        const char *id = json_object_get_string(json_object_array_get_idx(info->order, i));
        if (network_info_record(info->ports, "id", id) || text_equal(id, info->leave_out))
            continue;
        if (text_check_uuid(id, "port", NULL) < 0)
            continue; /* no port of Neutron */
        _cleanup_(str_freep) char *what = text_format("port %s", id);
        batch_get(batch, text_format("/v2.0/ports/%s", id), what);
    }
    batch_run(batch, looked_up, info);
}

static void listed(struct batch *batch, void *aux)
{
    struct info *info = aux;
    struct err e = ERR_INIT;
    size_t details = info->listed ? 0 : 1;

    if ((!info->listed && batch_expect(batch, 0, &e) < 0) ||
        (batch_length(batch) > details && take_details(info, batch, details, &e) < 0)) {
        info_end(info, NULL, &e);
        return;
    }
    if (!info->listed) {
        struct json_object *ports = batch_json(batch, 0, "ports");
        if (!json_object_is_type(ports, json_type_array)) {
            err_set(&e, ERR_PARSE, "neutron's list of ports is not a list");
            info_end(info, NULL, &e);
            return;
        }
        info->ports = json_copy(ports);
    }
    look_up_missing(info);
}

static void ask_what_is_known(struct info *info)
{
    struct json_object *sources[] = {info->cache, info->ports};

    for (size_t s = 0; s < ARRAY_LEN(sources); s++)
        for (size_t i = 0; sources[s] && i < json_object_array_length(sources[s]); i++) {
            struct json_object *o = json_object_array_get_idx(sources[s], i);
            const char *network = json_get_string(json_get(o, "network"), "id", NULL);
            neutron_array_add(info->asked_ports, json_get_string(o, "id", NULL));
            neutron_array_add(info->asked_networks, json_get_string(o, "network_id", network));
        }
}

void neutron_info(struct nova *nova, const char *request_id,
                  const struct neutron_info_request *request, cloud_result_fn done, void *aux)
{
    struct info *info = NEW(struct info);

    info->nova = nova;
    info->request_id = text_dup(request_id);
    info->leave_out = text_dup(request->leave_out);
    info->instance = instance_copy(request->instance);
    info->cache = neutron_cache(request->instance);
    info->preserve = json_object_get(request->preserve);
    info->ports = json_copy(request->ports);
    info->listed = info->ports != NULL;
    info->all = request->all;
    info->asked_ports = json_object_new_array();
    info->asked_networks = json_object_new_array();
    info->done = done;
    info->aux = aux;
    info->order = json_object_new_array();
    struct json_object *order = request->order ? request->order : info->cache;
    for (size_t i = 0; i < json_object_array_length(order); i++) {
        struct json_object *o = json_object_array_get_idx(order, i);
        neutron_array_add(info->order, request->order ? json_object_get_string(o)
                                                      : json_get_string(o, "id", NULL));
    }
    struct batch *batch = neutron_batch(nova, request_id);
    if (!info->listed)
        batch_get(batch, text_format("/v2.0/ports?device_id=%s", instance_uuid(info->instance)),
                  "the instance's ports");
    ask_what_is_known(info);
    if (json_object_array_length(info->asked_networks))
        ask_details(info, batch);
    batch_run(batch, listed, info);
}

void neutron_ports_refresh(struct cloud *cloud, struct json_object *context,
                           const struct instance *instance, cloud_result_fn done, void *aux)
{
    const struct neutron_info_request request = {.instance = instance, .all = true};

    neutron_info(nova_of(cloud), nova_request_id(context), &request, done, aux);
}
