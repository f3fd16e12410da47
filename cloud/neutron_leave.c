/* SPDX-License-Identifier: Apache-2.0 */
/* Ports that leave an instance (released, detached), and ports whose guest came here. */
#include "cloud/network_info.h"
#include "cloud/neutron_internal.h"

#include "lib/json.h"

/* ---- leave ---- */

struct leave {
    struct nova *nova;
    char *request_id;
    struct instance *instance;
    struct json_object *cache, *ports;
    char *only; /* detach: this port; NULL = all */
    bool extensions_asked;
    cloud_done_fn done;
    cloud_result_fn result_done;
    void *aux;
};

static void leave_free(struct leave *l)
{
    free(l->request_id);
    instance_free(l->instance);
    json_object_put(l->cache);
    json_object_put(l->ports);
    free(l->only);
    free(l);
}

static void have_rest(void *aux, struct json_object *result, const struct err *failure)
{
    struct leave *l = aux;

    l->result_done(l->aux, result, failure);
    leave_free(l);
}

static void leave_end(struct leave *l, const struct err *failure)
{
    if (l->result_done && !failure) {
        const struct neutron_info_request request = {
            .instance = l->instance,
            .leave_out = l->only,
            .all = true,
        };
        neutron_info(l->nova, l->request_id, &request, have_rest, l);
        return;
    }
    if (l->result_done)
        l->result_done(l->aux, NULL, failure);
    else
        l->done(l->aux, failure);
    leave_free(l);
}

static void left(struct batch *batch, void *aux)
{
    struct leave *l = aux;
    struct err e = ERR_INIT;

    for (size_t i = 0; i < batch_length(batch) && !err_is_set(&e); i++)
        if (batch_status(batch, i) != 404)
            (void)batch_expect(batch, i, &e);
    leave_end(l, err_is_set(&e) ? &e : NULL);
}

static bool leaves(const struct leave *l, struct json_object *port)
{
    const char *id = json_get_string(port, "id", NULL);

    return id && (!l->only || text_equal(l->only, id));
}

/* `networks` are known only where a port has a DNS name that may have to go. */
static void let_go(struct leave *l, struct json_object *networks)
{
    struct batch *batch = neutron_batch(l->nova, l->request_id);

    for (size_t i = 0; i < json_object_array_length(l->ports); i++) {
        struct json_object *port = json_object_array_get_idx(l->ports, i);
        const char *id = json_get_string(port, "id", NULL);
        if (!leaves(l, port))
            continue;
        _cleanup_(str_freep) char *what = text_format("port %s", id);
        char *path = text_format("/v2.0/ports/%s", id);
        if (!neutron_preserved(l->instance, l->cache, port)) {
            batch_add(batch, "DELETE", path, NULL, what);
            continue;
        }
        struct json_object *network =
            network_info_record(networks, "id", json_get_string(port, "network_id", NULL));
        bool own_name = network && !json_get_string(network, "dns_domain", "")[0];
        batch_add(batch, "PUT", path,
                  neutron_unbind_body(port, own_name && l->nova->neutron->dns_integration), what);
    }
    batch_run(batch, left, l);
}

static void have_names(struct batch *batch, void *aux)
{
    struct leave *l = aux;
    struct err e = ERR_INIT;

    if (batch_expect_all(batch, &e) < 0)
        leave_end(l, &e);
    else
        let_go(l, batch_length(batch) ? batch_json(batch, 0, "networks") : NULL);
}

static void listed_for_leave(struct batch *batch, void *aux)
{
    struct leave *l = aux;
    struct err e = ERR_INIT;
    _cleanup_(json_putp) struct json_object *named = json_object_new_array();

    if (batch_expect_all(batch, &e) < 0) {
        leave_end(l, &e);
        return;
    }
    if (l->extensions_asked)
        neutron_learn_extensions(l->nova->neutron, batch_json(batch, 0, NULL));
    struct json_object *ports = batch_json(batch, l->extensions_asked ? 1 : 0, "ports");
    l->ports = ports ? json_object_get(ports) : json_object_new_array();
    for (size_t i = 0; i < json_object_array_length(l->ports); i++) {
        struct json_object *port = json_object_array_get_idx(l->ports, i);
        if (leaves(l, port) && json_get_string(port, "dns_name", "")[0])
            neutron_array_add(named, json_get_string(port, "network_id", NULL));
    }
    struct batch *next = neutron_batch(l->nova, l->request_id);
    if (l->nova->neutron->dns_integration && json_object_array_length(named)) {
        struct text_buffer url = TEXT_BUFFER_INIT;
        text_buffer_add(&url, "/v2.0/networks");
        neutron_query(&url, '?', "id", named);
        batch_get(next, text_buffer_take(&url), "the networks");
    }
    batch_run(next, have_names, l);
}

static void leave(struct leave *l, struct cloud *cloud, struct json_object *context,
                  const struct instance *instance)
{
    l->nova = nova_of(cloud);
    l->request_id = text_dup(nova_request_id(context));
    l->instance = instance_copy(instance);
    l->cache = neutron_cache(instance);
    struct batch *batch = neutron_batch(l->nova, l->request_id);
    neutron_batch_extensions(l->nova->neutron, batch);
    l->extensions_asked = batch_length(batch) > 0;
    batch_get(batch, text_format("/v2.0/ports?device_id=%s", instance_uuid(instance)),
              "the instance's ports");
    batch_run(batch, listed_for_leave, l);
}

void neutron_ports_release(struct cloud *cloud, struct json_object *context,
                           const struct instance *instance, cloud_done_fn done, void *aux)
{
    struct leave *l = NEW(struct leave);

    l->done = done;
    l->aux = aux;
    leave(l, cloud, context, instance);
}

void neutron_port_detach(struct cloud *cloud, struct json_object *context,
                         const struct instance *instance, const char *port_id, cloud_result_fn done,
                         void *aux)
{
    struct leave *l = NEW(struct leave);

    l->only = text_dup(port_id);
    l->result_done = done;
    l->aux = aux;
    leave(l, cloud, context, instance);
}

/* ---- move here ---- */

struct move {
    struct nova *nova;
    char *request_id;
    struct instance *instance;
    struct json_object *ports;
    struct json_object *away; /* ids of ports that are bound elsewhere, or not rightly */
    size_t open;
    bool changed;
    struct err failure;
    cloud_result_fn done;
    void *aux;
};

static void moved(void *aux, struct json_object *result, const struct err *failure)
{
    struct move *m = aux;

    m->done(m->aux, result, failure);
    free(m->request_id);
    instance_free(m->instance);
    json_object_put(m->ports);
    json_object_put(m->away);
    free(m);
}

static void move_result(struct move *m)
{
    const struct neutron_info_request request = {
        .instance = m->instance,
        .ports = m->changed ? NULL : m->ports,
        .all = true,
    };

    if (err_is_set(&m->failure))
        moved(m, NULL, &m->failure);
    else
        neutron_info(m->nova, m->request_id, &request, moved, m);
}

static void updated(struct batch *batch, void *aux)
{
    struct move *m = aux;

    for (size_t i = 0; i < batch_length(batch); i++)
        if (batch_status(batch, i) != 404 && !err_is_set(&m->failure))
            (void)batch_expect(batch, i, &m->failure);
    m->changed |= batch_length(batch) > 0;
    move_result(m);
}

static bool is_away(const struct move *m, struct json_object *port)
{
    const char *type = json_get_string(port, "binding:vif_type", NULL);

    return !text_equal(json_get_string(port, "binding:host_id", NULL), m->nova->cloud->host) ||
           text_equal(type, "unbound") || text_equal(type, "binding_failed");
}

/* What a port still needs; NULL = nothing. One that was just activated has its place and the profile of
 * this host's binding; its zone may have changed. */
static struct json_object *what_is_missing(const struct move *m, struct json_object *port)
{
    _cleanup_(json_putp) struct json_object *to = json_object_new_object();
    _cleanup_(str_freep) char *owner = neutron_device_owner(m->instance);
    const char *host = m->nova->cloud->host;
    bool place = neutron_array_has(m->away, json_get_string(port, "id", NULL));

    if (place)
        json_add_string(to, "binding:host_id", host);
    if (!text_equal(json_get_string(port, "device_owner", NULL), owner))
        json_add_string(to, "device_owner", owner);
    bool here = text_equal(json_get_string(port, "binding:host_id", NULL), host);
    if (neutron_migrating_to(port) && (place || here))
        json_add(to, "binding:profile", neutron_profile(port));
    return json_object_object_length(to) ? STEAL(to) : NULL;
}

static void update(struct move *m)
{
    struct batch *batch = neutron_batch(m->nova, m->request_id);

    for (size_t i = 0; i < json_object_array_length(m->ports); i++) {
        struct json_object *port = json_object_array_get_idx(m->ports, i);
        struct json_object *to = what_is_missing(m, port);
        if (!to)
            continue;
        const char *id = json_get_string(port, "id", "");
        _cleanup_(str_freep) char *what = text_format("port %s", id);
        batch_add(batch, "PUT", text_format("/v2.0/ports/%s", id), neutron_port_body(to), what);
    }
    batch_run(batch, updated, m);
}

static void one_activated(void *aux, const struct err *failure)
{
    struct move *m = aux;

    if (failure && !err_is_set(&m->failure))
        m->failure = *failure;
    if (--m->open)
        return;
    if (err_is_set(&m->failure))
        move_result(m);
    else
        update(m);
}

/* A binding that waits for this host is activated, if its source does not; Neutron would otherwise be told
 * to make a second. */
static void have_bindings(struct batch *batch, void *aux)
{
    struct move *m = aux;
    _cleanup_(json_putp) struct json_object *asked = m->away;

    if (batch_cancelled(batch)) {
        (void)batch_expect_all(batch, &m->failure);
        m->away = json_object_new_array();
        move_result(m);
        return;
    }
    m->away = json_object_new_array();
    m->open = 1;
    for (size_t i = 0; i < batch_length(batch); i++) {
        const char *id = json_object_get_string(json_object_array_get_idx(asked, i));
        const char *state = json_get_string(batch_json(batch, i, "binding"), "status", NULL);
        if (!text_equal(state, "INACTIVE")) {
            neutron_array_add(m->away, id);
            continue;
        }
        m->changed = true;
        m->open++;
        neutron_await_activation(m->nova, m->request_id, id, m->nova->cloud->host, one_activated,
                                 m);
    }
    one_activated(m, NULL);
}

static void listed_for_move(struct batch *batch, void *aux)
{
    struct move *m = aux;
    struct batch *next;

    if (batch_expect(batch, 0, &m->failure) < 0) {
        move_result(m);
        return;
    }
    struct json_object *ports = batch_json(batch, 0, "ports");
    m->ports = ports ? json_object_get(ports) : json_object_new_array();
    next = neutron_batch(m->nova, m->request_id);
    for (size_t i = 0; i < json_object_array_length(m->ports); i++) {
        struct json_object *port = json_object_array_get_idx(m->ports, i);
        const char *id = json_get_string(port, "id", NULL);
        if (!id || !is_away(m, port))
            continue;
        neutron_array_add(m->away, id);
        _cleanup_(str_freep) char *what = text_format("the binding of port %s", id);
        batch_get(next, text_format("/v2.0/ports/%s/bindings/%s", id, m->nova->cloud->host), what);
    }
    batch_run(next, have_bindings, m);
}

void neutron_ports_move_here(struct cloud *cloud, struct json_object *context,
                             const struct instance *instance, cloud_result_fn done, void *aux)
{
    struct move *m = NEW(struct move);

    m->nova = nova_of(cloud);
    m->request_id = text_dup(nova_request_id(context));
    m->instance = instance_copy(instance);
    m->away = json_object_new_array();
    m->done = done;
    m->aux = aux;
    struct batch *batch = neutron_batch(m->nova, m->request_id);
    batch_get(batch, text_format("/v2.0/ports?device_id=%s", instance_uuid(instance)),
              "the instance's ports");
    batch_run(batch, listed_for_move, m);
}
