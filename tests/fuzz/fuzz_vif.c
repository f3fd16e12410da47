/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the control plane says about ports: {"network_info": [...], "vifs": [...]}, as the info cache of an
 * instance and as the migrate data of a destination. Ports that come out have names that are safe to use.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "agent/migration.h"
#include "lib/json.h"
#include "lib/text.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void expect(int condition)
{
    if (!condition)
        abort();
}

/* Without slash, white space, control characters; not longer than Linux takes. */
static bool is_device(const char *name)
{
    return !name || (name[0] && strlen(name) < 16 && !strpbrk(name, "/ \t\n\r\x7f") &&
                     !text_equal(name, ".") && !text_equal(name, ".."));
}

static void check_ports(struct port_list *ports)
{
    struct port_list again = {0};

    for (size_t i = 0; i < ports->count; i++) {
        const struct net_port *port = ports->items[i];
        expect(port->mac && strlen(port->mac) == 17);
        expect(is_device(port->bridge) && is_device(port->tap));
        expect(text_check_uuid(port->instance_uuid, "instance", NULL) == 0);
        expect(port->port_id && port->port_id[0] && !strchr(port->port_id, '/'));
    }
    _cleanup_(json_putp) struct json_object *written = port_list_to_json(ports), *rewritten = NULL;
    expect(port_list_from_json(written, &again, NULL) == 0);
    rewritten = port_list_to_json(&again);
    expect(json_same(written, rewritten));
    port_list_clear(&again);
    port_list_clear(ports);
}

static struct json_object *versioned(const char *name, const char *version,
                                     struct json_object *fields)
{
    struct json_object *o = json_object_new_object();

    json_add_string(o, "nova_object.name", name);
    json_add_string(o, "nova_object.namespace", "nova");
    json_add_string(o, "nova_object.version", version);
    json_add(o, "nova_object.data", fields);
    return o;
}

static struct instance *make_instance(struct json_object *network_info)
{
    struct json_object *fields = json_object_new_object(), *cache = json_object_new_object();
    _cleanup_(str_freep) char *text = json_text(network_info);
    struct instance *instance = NULL;

    json_add_string(fields, "uuid", "2a2f5592-5078-4267-9c38-47125757df58");
    json_add_string(cache, "network_info", text);
    json_add(fields, "info_cache", versioned("InstanceInfoCache", "1.5", cache));
    _cleanup_(json_putp) struct json_object *o = versioned("Instance", "2.7", fields);
    expect(instance_from_json(o, &instance, NULL) == 0);
    return instance;
}

static void as_vif(struct json_object *o)
{
    _cleanup_(vif_freep) struct vif *vif = NULL;
    struct err e = ERR_INIT;

    if (vif_from_json(o, &vif, &e) < 0)
        expect(e.code != ERR_NONE && e.text[0]);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    _cleanup_(json_putp) struct json_object *tree = NULL, *skeletons = NULL, *info = NULL;
    struct port_list ports = {0};
    struct err e = ERR_INIT;

    if (json_parse((const char *)data, size, &tree, &e) < 0)
        return 0;
    as_vif(tree);
    _cleanup_(instance_freep) struct instance *instance =
        make_instance(json_get(tree, "network_info"));
    if (ports_of_instance(instance, &ports, &e) == 0)
        check_ports(&ports);
    if (instance_network_info(instance, &info, &e) == 0)
        skeletons = vif_migrate_data_skeletons(info);
    _cleanup_(migrate_data_freep) struct migrate_data *migrate_data = migrate_data_new();
    migrate_data_set_vifs(migrate_data, json_object_get(json_get(tree, "vifs")));
    if (ports_of_destination(instance, migrate_data, &ports, &e) == 0)
        check_ports(&ports);
    if (port_list_from_json(tree, &ports, &e) == 0)
        check_ports(&ports);
    return 0;
}
