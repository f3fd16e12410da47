/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Port bindings of live migration. The activation is what the guest's packets wait for once it has moved,
 * and Neutron answers two of them at once with an error that makes nova-compute's migrations fail: hence
 * one at a time for a port and host, sent without a question before it, and after an end in doubt the
 * binding's state is read before the next attempt.
 *
 *   PUT --2xx, 404, "already active"--> done         READ --ACTIVE, 404--> done
 *    |  --other 4xx--> refused                        |  --INACTIVE--> wait, PUT
 *    +--5xx, no answer, other 409--> READ             +--5xx, no answer--> wait, READ
 *
 * The destination begins with READ, and leaves the PUT to the source for a while: two agents' requests at
 * once make the same error.
 */
#include "cloud/neutron_internal.h"

#include "lib/clock.h"
#include "lib/json.h"
#include "lib/log.h"

LOG_MODULE(neutron);

enum {
    ACTIVATION_LIMIT_S = 120, /* all attempts of one activation */
    OTHERS_TURN_S = 15,       /* another agent's activation is awaited so long */
    PUT_LIMIT_S = 30,
    READ_LIMIT_S = 10,
    WAIT_FIRST_MS = 250,
    WAIT_MAX_MS = 4000
};

/* ---- activation ---- */

struct waiter {
    cloud_done_fn done;
    void *aux;
    struct waiter *next;
};

struct neutron_activation {
    struct neutron *neutron;
    struct neutron_activation *next;
    char *request_id, *port_id, *host;
    struct waiter *waiters;
    struct loop_timer *timer;
    bool read_next; /* the timer's next request */
    int64_t deadline_us, wait_ms;
    int64_t others_turn_us; /* until then another agent is expected to do it; 0 = it is ours */
    struct err last;        /* why the last attempt did not do */
};

static void put(struct neutron_activation *a);
static void read_state(struct neutron_activation *a);

static struct neutron_activation *find(const struct neutron *neutron, const char *port_id,
                                       const char *host)
{
    struct neutron_activation *a = neutron->activations;

    while (a && !(text_equal(a->port_id, port_id) && text_equal(a->host, host)))
        a = a->next;
    return a;
}

bool neutron_activating(const struct neutron *neutron, const char *port_id, const char *host)
{
    return find(neutron, port_id, host) != NULL;
}

static void activation_end(struct neutron_activation *a, const struct err *failure)
{
    struct neutron_activation **link = &a->neutron->activations;

    while (*link != a)
        link = &(*link)->next;
    *link = a->next;
    while (a->waiters) {
        struct waiter *w = a->waiters;
        a->waiters = w->next;
        w->done(w->aux, failure);
        free(w);
    }
    loop_timer_free(a->timer);
    free(a->request_id);
    free(a->port_id);
    free(a->host);
    free(a);
}

void neutron_activations_end(struct neutron *neutron)
{
    struct err e = ERR_INIT;

    err_set(&e, ERR_CANCELLED, "the agent ends");
    while (neutron->activations)
        activation_end(neutron->activations, &e);
}

static void timer_due(void *aux)
{
    struct neutron_activation *a = aux;

    if (a->read_next)
        read_state(a);
    else
        put(a);
}

static void try_later(struct neutron_activation *a, bool read_next)
{
    if (clock_monotonic_us() + a->wait_ms * USEC_PER_MSEC > a->deadline_us) {
        struct err e = a->last;
        err_prefix(&e, "port %s could not be activated on %s in %d s", a->port_id, a->host,
                   ACTIVATION_LIMIT_S);
        activation_end(a, &e);
        return;
    }
    a->read_next = read_next;
    loop_timer_arm(a->timer, a->wait_ms * USEC_PER_MSEC);
    a->wait_ms = a->wait_ms * 2 < WAIT_MAX_MS ? a->wait_ms * 2 : WAIT_MAX_MS;
}

/* Notes what went wrong; ends the activation if it is for good. */
static bool in_doubt(struct neutron_activation *a, const struct http_reply *reply,
                     const struct err *failure, const char *what)
{
    a->last = ERR_INIT;
    if (reply)
        service_refused(reply, a->neutron->nova->services[SERVICE_NEUTRON], what, ERR_REMOTE,
                        &a->last);
    else
        a->last = *failure;
    bool for_good = reply ? reply->status < 500 && reply->status != 409 && reply->status != 429
                          : failure->code == ERR_CANCELLED || failure->code == ERR_CONFIG ||
                                failure->code == ERR_DENIED;
    if (for_good) {
        struct err e = a->last;
        activation_end(a, &e);
    }
    return !for_good;
}

static void put_ended(void *aux, const struct http_reply *reply, const struct err *failure)
{
    struct neutron_activation *a = aux;
    int status = reply ? reply->status : 0;
    const char *type =
        reply ? json_get_string(json_get(reply->json, "NeutronError"), "type", "") : "";

    if ((status >= 200 && status <= 299) || status == 404 ||
        (status == 409 && text_equal(type, "PortBindingAlreadyActive")))
        activation_end(a, NULL);
    else if (in_doubt(a, reply, failure, "the activation"))
        read_state(a);
}

static void send(struct neutron_activation *a, const char *method, const char *tail, int limit_s,
                 service_done_fn done)
{
    _cleanup_(str_freep) char *path =
        text_format("/v2.0/ports/%s/bindings/%s%s", a->port_id, a->host, tail);
    const struct service_request request = {
        .method = method,
        .path = path,
        .request_id = a->request_id,
        .once = true, /* retries are ours, with a look before */
        .warm = true,
        .timeout_us = limit_s * USEC_PER_SEC,
    };

    service_send(a->neutron->nova->services[SERVICE_NEUTRON], &request, done, a);
}

static void put(struct neutron_activation *a)
{
    send(a, "PUT", "/activate", PUT_LIMIT_S, put_ended);
}

static void state_ended(void *aux, const struct http_reply *reply, const struct err *failure)
{
    struct neutron_activation *a = aux;
    int status = reply ? reply->status : 0;
    const char *state =
        reply ? json_get_string(json_get(reply->json, "binding"), "status", "") : "";

    if (status == 404 || (status == 200 && text_equal(state, "ACTIVE")))
        activation_end(a, NULL);
    else if (status == 200)
        try_later(a, clock_monotonic_us() < a->others_turn_us);
    else if (in_doubt(a, reply, failure, "the binding's state"))
        try_later(a, true);
}

static void read_state(struct neutron_activation *a)
{
    send(a, "GET", "", READ_LIMIT_S, state_ended);
}

static void activate(struct nova *nova, const char *request_id, const char *port_id,
                     const char *host, bool others_turn, cloud_done_fn done, void *aux)
{
    struct neutron *neutron = nova->neutron;
    struct neutron_activation *a = find(neutron, port_id, host);
    struct waiter *w = NEW(struct waiter);
    bool begin = !a;

    if (begin) {
        a = NEW(struct neutron_activation);
        a->neutron = neutron;
        a->request_id = text_dup(request_id);
        a->port_id = text_dup(port_id);
        a->host = text_dup(host);
        a->timer = loop_timer_new(nova->cloud->loop, "port activation", timer_due, a);
        a->deadline_us = clock_monotonic_us() + ACTIVATION_LIMIT_S * USEC_PER_SEC;
        a->wait_ms = WAIT_FIRST_MS;
        if (others_turn)
            a->others_turn_us = clock_monotonic_us() + OTHERS_TURN_S * USEC_PER_SEC;
        a->next = neutron->activations;
        neutron->activations = a;
    }
    w->done = done;
    w->aux = aux;
    w->next = a->waiters;
    a->waiters = w;
    if (begin && others_turn)
        read_state(a);
    else if (begin)
        put(a);
}

void neutron_activate(struct nova *nova, const char *request_id, const char *port_id,
                      const char *host, cloud_done_fn done, void *aux)
{
    activate(nova, request_id, port_id, host, false, done, aux);
}

void neutron_await_activation(struct nova *nova, const char *request_id, const char *port_id,
                              const char *host, cloud_done_fn done, void *aux)
{
    activate(nova, request_id, port_id, host, true, done, aux);
}

/* ---- the row ---- */

/* One call on the bindings of all ports of an instance. */
struct change {
    struct nova *nova;
    char *request_id, *host;
    struct json_object *ports; /* ids */
    size_t open;
    struct err failure;
    cloud_done_fn done;
    void *aux;
};

static void change_end(struct change *change, const struct err *failure)
{
    change->done(change->aux, err_is_set(failure) ? failure : NULL);
    free(change->request_id);
    free(change->host);
    json_object_put(change->ports);
    free(change);
}

/* From migrate data, else from the instance's cache: no request is needed to know them. */
static int port_ids(const struct instance *instance, const struct migrate_data *data,
                    struct json_object **out, struct err *e)
{
    struct json_object *vifs = data ? migrate_data_vifs(data) : NULL;
    _cleanup_(json_putp) struct json_object *cache = neutron_cache(instance);
    bool from_data = json_object_is_type(vifs, json_type_array) && json_object_array_length(vifs);
    struct json_object *from = from_data ? vifs : cache;
    _cleanup_(json_putp) struct json_object *ids = json_object_new_array();

    for (size_t i = 0; i < json_object_array_length(from); i++) {
        struct json_object *o = json_object_array_get_idx(from, i);
        const char *id = from_data
                             ? json_get_string(json_get(o, "nova_object.data"), "port_id", NULL)
                             : json_get_string(o, "id", NULL);
        if (text_check_uuid(id, "the id of a port", e) < 0)
            return -1;
        neutron_array_add(ids, id);
    }
    *out = STEAL(ids);
    return 0;
}

static void one_activated(void *aux, const struct err *failure)
{
    struct change *change = aux;

    if (failure && !err_is_set(&change->failure))
        change->failure = *failure;
    if (--change->open == 0)
        change_end(change, &change->failure);
}

static void activate_all(struct change *change)
{
    size_t n = json_object_array_length(change->ports);

    change->open = n + 1; /* one for us: an end may come at once */
    for (size_t i = 0; i < n; i++)
        neutron_activate(change->nova, change->request_id,
                         json_object_get_string(json_object_array_get_idx(change->ports, i)),
                         change->host, one_activated, change);
    one_activated(change, NULL);
}

/* Requests whose object may be gone: 404 is fine. */
static void changed(struct batch *batch, void *aux)
{
    struct change *change = aux;
    struct err e = change->failure;

    for (size_t i = 0; i < batch_length(batch) && !err_is_set(&e); i++)
        if (batch_status(batch, i) != 404)
            (void)batch_expect(batch, i, &e);
    change_end(change, &e);
}

static void put_profile(struct batch *batch, const char *port_id, struct json_object *profile)
{
    struct json_object *to = json_object_new_object();
    _cleanup_(str_freep) char *what = text_format("the profile of port %s", port_id);

    json_add(to, "binding:profile", profile);
    batch_add(batch, "PUT", text_format("/v2.0/ports/%s", port_id), neutron_port_body(to), what);
}

/* `migrating_to` only where it is not said already: each change makes Neutron bind the port anew. */
static void listed_for_announce(struct batch *batch, void *aux)
{
    struct change *change = aux;
    struct err e = ERR_INIT;

    if (batch_expect(batch, 0, &e) < 0) {
        change_end(change, &e);
        return;
    }
    struct json_object *ports = batch_json(batch, 0, "ports");
    struct batch *next = neutron_batch(change->nova, change->request_id);
    for (size_t i = 0; ports && i < json_object_array_length(ports); i++) {
        struct json_object *port = json_object_array_get_idx(ports, i);
        const char *id = json_get_string(port, "id", NULL);
        if (!id || text_equal(json_get_string(port, "binding:host_id", NULL), change->host) ||
            text_equal(neutron_migrating_to(port), change->host))
            continue;
        struct json_object *profile = neutron_profile(port);
        json_add_string(profile, "migrating_to", change->host);
        put_profile(next, id, profile);
    }
    batch_run(next, changed, change);
}

static void announce(struct change *change, const char *uuid)
{
    struct batch *batch = neutron_batch(change->nova, change->request_id);

    neutron_warm(change->nova);
    batch_get(batch, text_format("/v2.0/ports?device_id=%s", uuid), "the instance's ports");
    batch_run(batch, listed_for_announce, change);
}

/* Neutron would delete an active binding too, and with it the guest's network: it is looked at first. */
static bool may_delete(const struct change *change, struct json_object *binding, const char *id)
{
    if (neutron_activating(change->nova->neutron, id, change->host))
        return false;
    if (text_equal(json_get_string(binding, "status", NULL), "INACTIVE"))
        return true;
    log_warning("the binding of port %s on %s is %s and stays", id, change->host,
                json_get_string(binding, "status", "unknown"));
    return false;
}

/* Two answers for each port: itself and its binding on the host. */
static void read_for_delete(struct batch *batch, void *aux)
{
    struct change *change = aux;
    struct batch *next;

    if (batch_cancelled(batch)) {
        changed(batch, change);
        return;
    }
    next = neutron_batch(change->nova, change->request_id);
    for (size_t i = 0; i + 1 < batch_length(batch); i += 2) {
        const char *id = json_object_get_string(json_object_array_get_idx(change->ports, i / 2));
        struct json_object *port = batch_json(batch, i, "port");
        struct json_object *binding = batch_json(batch, i + 1, "binding");
        for (size_t j = i; j <= i + 1; j++)
            if (batch_status(batch, j) != 404 && !err_is_set(&change->failure))
                (void)batch_expect(batch, j, &change->failure);
        if (text_equal(neutron_migrating_to(port), change->host))
            put_profile(next, id, neutron_profile(port));
        if (!binding || !may_delete(change, binding, id))
            continue;
        _cleanup_(str_freep) char *what =
            text_format("the binding of port %s on %s", id, change->host);
        batch_add(next, "DELETE", text_format("/v2.0/ports/%s/bindings/%s", id, change->host), NULL,
                  what);
    }
    batch_run(next, changed, change);
}

static void delete_all(struct change *change)
{
    struct batch *batch = neutron_batch(change->nova, change->request_id);

    for (size_t i = 0; i < json_object_array_length(change->ports); i++) {
        const char *id = json_object_get_string(json_object_array_get_idx(change->ports, i));
        _cleanup_(str_freep) char *what = text_format("port %s", id);
        batch_get(batch, text_format("/v2.0/ports/%s", id), what);
        batch_get(batch, text_format("/v2.0/ports/%s/bindings/%s", id, change->host), what);
    }
    batch_run(batch, read_for_delete, change);
}

void neutron_bindings(struct cloud *cloud, struct json_object *context,
                      const struct instance *instance, const struct migrate_data *data,
                      const char *host, enum cloud_binding_change what, cloud_done_fn done,
                      void *aux)
{
    struct err e = ERR_INIT;
    struct json_object *ports = NULL;

    if (text_check_hostname(host, "the host of a port binding", &e) < 0 ||
        port_ids(instance, data, &ports, &e) < 0) {
        done(aux, &e);
        return;
    }
    struct change *change = NEW(struct change);
    change->nova = nova_of(cloud);
    change->request_id = text_dup(nova_request_id(context));
    change->host = text_dup(host);
    change->ports = ports;
    change->done = done;
    change->aux = aux;
    switch (what) {
    case CLOUD_BINDING_ANNOUNCE:
        announce(change, instance_uuid(instance));
        break;
    case CLOUD_BINDING_ACTIVATE:
        activate_all(change);
        break;
    case CLOUD_BINDING_DELETE:
        delete_all(change);
        break;
    }
}
