/* SPDX-License-Identifier: Apache-2.0 */
/* What Neutron's files share among themselves. Loop thread only. */
#pragma once

#include "cloud/neutron.h"
#include "cloud/neutron_batch.h"
#include "lib/text.h"

struct neutron_activation;

struct neutron {
    struct nova *nova;
    struct loop_timer *warm_timer;
    int64_t warm_until_us, contacted_at_us;
    bool warming;
    bool dns_integration;     /* the extension is there: ports have dns_name */
    int64_t extensions_at_us; /* when it was asked; 0 = never */
    struct neutron_activation *activations;
};

struct batch *neutron_batch(struct nova *nova, const char *request_id);
/* Adds the question for extensions when the answer is not known or old. */
void neutron_batch_extensions(struct neutron *neutron, struct batch *batch);
/* Takes it from a batch that was asked so; the first request. */
void neutron_learn_extensions(struct neutron *neutron, struct json_object *answer);

/* ERR_INVALID with a class of nova.exception. */
int neutron_refuse(struct err *e, const char *wire_class, const char *format, ...) _printf_(3, 4);

/* "?key=a&key=b", begun with `separator`, for the strings of an array; those that are no UUIDs are left
 * out. */
void neutron_query(struct text_buffer *url, char separator, const char *key,
                   struct json_object *values);
bool neutron_array_has(struct json_object *strings, const char *value);
void neutron_array_add(struct json_object *strings, const char *value); /* once; NULL is left out */
/* {"port": member}; consumes it. */
struct json_object *neutron_port_body(struct json_object *port);
/* Copy of binding:profile without `migrating_to`; an empty object when there is none. */
struct json_object *neutron_profile(struct json_object *port);
const char *neutron_migrating_to(struct json_object *port);
/* True for a port that the agent must not delete: the instance's cache says so, or, where the cache does
 * not know it, it is older than the instance. */
bool neutron_preserved(const struct instance *instance, struct json_object *cache,
                       struct json_object *port);
/* Body that takes a port from its instance and keeps the rest of its profile. */
struct json_object *neutron_unbind_body(struct json_object *port, bool clear_dns_name);
/* The instance's cache: array of VIFs, empty when it cannot be read. New reference. */
struct json_object *neutron_cache(const struct instance *instance);
char *neutron_device_owner(const struct instance *instance); /* "compute:<zone>" */

/*
 * network_info of the ports `order` (array of ids; NULL = those of the cache), for those that are still
 * the instance's. A port that Neutron did not list is looked up by its id before it is left out.
 */
struct neutron_info_request {
    const struct instance *instance;
    struct json_object *order;
    struct json_object
        *preserve; /* {port id: bool} for ports that the cache does not know; may be NULL */
    struct json_object *ports; /* as listed a moment ago; NULL = list them */
    const char *leave_out;     /* a port id; NULL = none */
    bool all;                  /* with ports that are not in `order`, last */
};
void neutron_info(struct nova *nova, const char *request_id,
                  const struct neutron_info_request *request, cloud_result_fn done, void *aux);

/*
 * Makes the port's binding on `host` the active one. The request leaves at once; calls for the same port
 * and host join it, so that Neutron never sees two. No binding there is success. An end in doubt is
 * cleared by reading the binding before it is tried again.
 */
void neutron_activate(struct nova *nova, const char *request_id, const char *port_id,
                      const char *host, cloud_done_fn done, void *aux);
/* The same for the destination: whoever sent the guest activates, and is given some seconds for it. */
void neutron_await_activation(struct nova *nova, const char *request_id, const char *port_id,
                              const char *host, cloud_done_fn done, void *aux);
bool neutron_activating(const struct neutron *neutron, const char *port_id, const char *host);
/* With the services gone: what still waits for its next attempt ends with ERR_CANCELLED. */
void neutron_activations_end(struct neutron *neutron);
