/* SPDX-License-Identifier: Apache-2.0 */
/* The session's state and the small things that all of Neutron's files need. */
#include "cloud/neutron_internal.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "lib/clock.h"
#include "lib/json.h"
#include "lib/log.h"

LOG_MODULE(neutron);

enum {
    WARM_FOR_S = 120,        /* after the last one who wanted it */
    WARM_EVERY_S = 25,       /* servers and middle boxes close idle connections, some after 30 s */
    EXTENSIONS_EVERY_S = 600 /* Nova's extension_sync_interval */
};
#define EXTENSIONS_PATH "/v2.0/extensions?fields=alias"

static void warm(void *aux);

struct neutron *neutron_new(struct nova *nova)
{
    struct neutron *neutron = NEW(struct neutron);

    neutron->nova = nova;
    neutron->warm_timer = loop_timer_new(nova->cloud->loop, "neutron warm", warm, neutron);
    return neutron;
}

void neutron_free(struct neutron *neutron)
{
    if (!neutron)
        return;
    neutron_activations_end(neutron);
    loop_timer_free(neutron->warm_timer);
    free(neutron);
}

struct batch *neutron_batch(struct nova *nova, const char *request_id)
{
    return batch_new(nova->services[SERVICE_NEUTRON], request_id);
}

/* ---- warm ---- */

static void warmed(struct batch *batch, void *aux)
{
    struct neutron *neutron = aux;
    struct err e = ERR_INIT;

    neutron->warming = false;
    if (batch_cancelled(batch))
        return;
    if (batch_expect(batch, 0, &e) < 0)
        log_info("the session is not warm: %s", e.text);
    else
        neutron_learn_extensions(neutron, batch_json(batch, 0, NULL));
    loop_timer_arm(neutron->warm_timer, WARM_EVERY_S * USEC_PER_SEC);
}

static void warm(void *aux)
{
    struct neutron *neutron = aux;

    if (neutron->warming || clock_monotonic_us() >= neutron->warm_until_us)
        return; /* the next one who wants it begins anew */
    neutron->warming = true;
    struct batch *batch = neutron_batch(neutron->nova, NULL);
    batch_get(batch, text_dup(EXTENSIONS_PATH), "the extensions");
    batch_run(batch, warmed, neutron);
}

void neutron_warm(struct nova *nova)
{
    struct neutron *neutron = nova->neutron;

    neutron->warm_until_us = clock_monotonic_us() + WARM_FOR_S * USEC_PER_SEC;
    if (!loop_timer_armed(neutron->warm_timer))
        warm(neutron);
}

void neutron_bindings_warm(struct cloud *cloud)
{
    neutron_warm(nova_of(cloud));
}

/* ---- extensions ---- */

void neutron_batch_extensions(struct neutron *neutron, struct batch *batch)
{
    int64_t age_us = clock_monotonic_us() - neutron->extensions_at_us;

    if (!neutron->extensions_at_us || age_us > EXTENSIONS_EVERY_S * USEC_PER_SEC)
        batch_get(batch, text_dup(EXTENSIONS_PATH), "the extensions");
}

void neutron_learn_extensions(struct neutron *neutron, struct json_object *answer)
{
    struct json_object *list = json_get(answer, "extensions");
    bool dns = false;

    if (!json_object_is_type(list, json_type_array))
        return;
    for (size_t i = 0; i < json_object_array_length(list); i++) {
        const char *alias = json_get_string(json_object_array_get_idx(list, i), "alias", "");
        dns = dns || text_equal(alias, "dns-integration");
    }
    neutron->dns_integration = dns;
    neutron->extensions_at_us = clock_monotonic_us();
}

/* ---- small things ---- */

int neutron_refuse(struct err *e, const char *wire_class, const char *format, ...)
{
    char text[ERR_TEXT_SIZE];
    va_list args;

    va_start(args, format);
    (void)vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    err_set(e, ERR_INVALID, "%s", text);
    return err_set_class(e, wire_class, NULL);
}

void neutron_query(struct text_buffer *url, char separator, const char *key,
                   struct json_object *values)
{
    for (size_t i = 0; i < json_object_array_length(values); i++) {
        const char *value = json_object_get_string(json_object_array_get_idx(values, i));
        if (text_check_uuid(value, key, NULL) < 0)
            continue;
        text_buffer_printf(url, "%c%s=%s", separator, key, value);
        separator = '&';
    }
}

bool neutron_array_has(struct json_object *strings, const char *value)
{
    for (size_t i = 0; strings && i < json_object_array_length(strings); i++)
        if (text_equal(json_object_get_string(json_object_array_get_idx(strings, i)), value))
            return true;
    return false;
}

void neutron_array_add(struct json_object *strings, const char *value)
{
    if (value && !neutron_array_has(strings, value))
        json_object_array_add(strings, json_object_new_string(value));
}

struct json_object *neutron_port_body(struct json_object *port)
{
    struct json_object *body = json_object_new_object();

    json_add(body, "port", port);
    return body;
}

struct json_object *neutron_profile(struct json_object *port)
{
    struct json_object *profile = json_get(port, "binding:profile");
    struct json_object *copy = json_object_is_type(profile, json_type_object)
                                   ? json_copy(profile)
                                   : json_object_new_object();

    json_object_object_del(copy, "migrating_to");
    return copy;
}

const char *neutron_migrating_to(struct json_object *port)
{
    return json_get_string(json_get(port, "binding:profile"), "migrating_to", NULL);
}

struct json_object *neutron_cache(const struct instance *instance)
{
    struct json_object *cache = NULL;

    if (instance_network_info(instance, &cache, NULL) < 0)
        cache = json_object_new_array();
    return cache;
}

char *neutron_device_owner(const struct instance *instance)
{
    const char *zone = instance_availability_zone(instance);

    return text_format("compute:%s", zone ? zone : "None"); /* so does Nova without a zone */
}

bool neutron_preserved(const struct instance *instance, struct json_object *cache,
                       struct json_object *port)
{
    enum { SECONDS = 19 }; /* "2026-11-21T20:45:32": Neutron and Nova write both so, in UTC */
    struct json_object *vif = NULL;
    const char *id = json_get_string(port, "id", "");

    for (size_t i = 0; cache && !vif && i < json_object_array_length(cache); i++) {
        struct json_object *o = json_object_array_get_idx(cache, i);
        if (text_equal(json_get_string(o, "id", NULL), id))
            vif = o;
    }
    if (vif)
        return json_get_bool(vif, "preserve_on_delete", false);
    const char *port_at = json_get_string(port, "created_at", NULL);
    const char *instance_at = object_string(instance->object, "created_at", NULL);
    if (!port_at || !instance_at)
        return true;
    return strncmp(port_at, instance_at, SECONDS) < 0;
}

/* What the host's devices and claims put into a profile (Nova's _unbind_ports). */
static const char *const device_keys[] = {
    "pci_vendor_info",    "pci_slot", "allocation",     "arq_uuid",           "physical_network",
    "card_serial_number", "vf_num",   "pf_mac_address", "device_mac_address",
};

struct json_object *neutron_unbind_body(struct json_object *port, bool clear_dns_name)
{
    struct json_object *to = json_object_new_object();
    struct json_object *profile = neutron_profile(port);

    for (size_t i = 0; i < ARRAY_LEN(device_keys); i++)
        json_object_object_del(profile, device_keys[i]);
    json_add_string(to, "device_id", "");
    json_add_string(to, "device_owner", "");
    json_add(to, "binding:host_id", NULL);
    json_add(to, "binding:profile", profile);
    if (clear_dns_name)
        json_add_string(to, "dns_name", "");
    return neutron_port_body(to);
}
