/* SPDX-License-Identifier: Apache-2.0 */
/* Typed views of Nova's objects, over recorded messages; instances made of a hypervisor's facts. */
#include <string.h>

#include "cloud/cloud.h"
#include "lib/json.h"
#include "tests/unit/capture.h"
#include "tests/unit/unit.h"

static struct json_object *message;

static void load(void)
{
    message = capture_load("live-migration/030-compute.os-hosta-live_migration.json");
}

static void unload(void)
{
    json_object_put(message);
    message = NULL;
}
UNIT_FIXTURE(load, unload)

static struct json_object *arg(const char *name)
{
    return json_get(json_get(message, "args"), name);
}

static struct instance *instance(void)
{
    struct instance *out = NULL;

    UNIT_OK(instance_from_json(arg("instance"), &out, &unit_err));
    return out;
}

static struct migrate_data *data(void)
{
    struct migrate_data *out = NULL;

    UNIT_OK(migrate_data_from_json(arg("migrate_data"), &out, &unit_err));
    return out;
}

static struct json_object *data_of(struct json_object *primitive)
{
    return json_get(primitive, "nova_object.data");
}

/* The only VIF's binding in the migrate data. */
static struct json_object *binding(void)
{
    return data_of(json_object_array_get_idx(json_get(data_of(arg("migrate_data")), "vifs"), 0));
}

UNIT_TEST(instance_fields, "an instance tells what a recorded one says")
{
    _cleanup_(instance_freep) struct instance *i = instance();
    UNIT_STR(instance_uuid(i), "fa70925f-2d0d-4024-871f-903f3c94d32b");
    UNIT_STR(instance_host(i), "os-hosta");
    UNIT_STR(instance_display_name(i), "cap2");
    UNIT_EQ(instance_flavor_memory_mb(i), 256);
    UNIT_EQ(instance_power_state(i), 1);
    UNIT_TRUE(!instance_has_pci_requests(i));
    UNIT_TRUE(instance_numa_topology(i) == NULL);
    UNIT_TRUE(instance_extra_specs(i) != NULL);
}

UNIT_TEST(wrong_class, "another class or major version is refused with both names")
{
    struct instance *out = NULL;
    UNIT_FAILS(instance_from_json(arg("migration"), &out, &unit_err), ERR_PARSE);
    UNIT_HAS(unit_err.text, "Migration");
    UNIT_HAS(unit_err.text, "Instance");
    json_add_string(arg("instance"), "nova_object.version", "3.0");
    UNIT_FAILS(instance_from_json(arg("instance"), &out, &unit_err), ERR_OBJECT_VERSION);
    UNIT_FAILS(instance_from_json(arg("nothing"), &out, &unit_err), ERR_PARSE);
    UNIT_TRUE(out == NULL);
}

UNIT_TEST(kept, "what is not understood goes back as it came")
{
    _cleanup_(instance_freep) struct instance *i = instance();
    _cleanup_(json_putp) struct json_object *back = instance_to_json(i);
    UNIT_TRUE(json_same(data_of(back), data_of(arg("instance"))));
}

UNIT_TEST(changes, "a setter enters the change set, a copy is apart")
{
    _cleanup_(instance_freep) struct instance *i = instance();
    _cleanup_(instance_freep) struct instance *copy = instance_copy(i);
    instance_set_host(copy, "os-hostb");
    UNIT_STR(instance_host(i), "os-hosta");
    UNIT_TRUE(object_changed(copy->object, "host") && !object_changed(i->object, "host"));
}

UNIT_TEST(network_info,
          "the VIFs are parsed out of the cache's text; none is no VIF; junk is an error")
{
    _cleanup_(instance_freep) struct instance *i = instance();
    _cleanup_(json_putp) struct json_object *info = NULL, *none = NULL;
    UNIT_OK(instance_network_info(i, &info, &unit_err));
    UNIT_EQ(json_object_array_length(info), 1);
    struct json_object *cache = data_of(json_get(data_of(arg("instance")), "info_cache"));
    json_add_string(cache, "network_info", "{]");
    struct json_object *out = NULL;
    UNIT_FAILS(instance_network_info(i, &out, &unit_err), ERR_PARSE);
    json_add_string(cache, "network_info", "{}");
    UNIT_FAILS(instance_network_info(i, &out, &unit_err), ERR_PARSE);
    UNIT_HAS(unit_err.text, "fa70925f-2d0d-4024-871f-903f3c94d32b");
    json_object_object_del(cache, "network_info");
    UNIT_OK(instance_network_info(i, &none, &unit_err));
    UNIT_EQ(json_object_array_length(none), 0);
}

UNIT_TEST(source_vif, "the source's VIF is read as recorded")
{
    _cleanup_(instance_freep) struct instance *i = instance();
    struct vif_list list = {0};
    UNIT_OK(vif_list_of_instance(i, &list, &unit_err));
    UNIT_EQ(list.count, 1);
    const struct vif *v = list.items[0];
    UNIT_STR(v->port_id, "9cf193f1-870b-4829-8081-1945ddc3e3fc");
    UNIT_STR(v->mac, "fa:16:3e:00:00:3d");
    UNIT_STR(v->bridge, "brq83fa7b67-c9");
    UNIT_STR(v->devname, "tap9cf193f1-87");
    UNIT_STR(v->physical_network, "physnet1");
    UNIT_STR(v->addresses[0], "203.0.113.61");
    UNIT_TRUE(v->addresses[1] == NULL);
    UNIT_EQ(v->mtu, 1500);
    UNIT_TRUE(v->delegate_create);
    vif_list_clear(&list);
}

UNIT_TEST(destination_vif, "the destination's VIF is the source's with the binding's facts")
{
    _cleanup_(instance_freep) struct instance *i = instance();
    _cleanup_(migrate_data_freep) struct migrate_data *d = data();
    struct vif_list list = {0};
    json_add_string(binding(), "vif_type", "ovs");
    json_add_string(binding(), "vif_details_json",
                    "{\"bridge_name\": \"br-int\", \"ovs_hybrid_plug\": true}");
    json_add_string(binding(), "profile_json", "{}");
    UNIT_OK(vif_list_of_destination(i, d, &list, &unit_err));
    const struct vif *v = list.items[0];
    UNIT_STR(v->type, "ovs");
    UNIT_STR(v->bridge, "br-int");
    UNIT_STR(v->mac, "fa:16:3e:00:00:3d");
    UNIT_TRUE(v->ovs_hybrid_plug && !v->delegate_create);
    vif_list_clear(&list);
}

UNIT_TEST(no_binding, "without migrate VIFs the destination has the source's")
{
    _cleanup_(instance_freep) struct instance *i = instance();
    _cleanup_(migrate_data_freep) struct migrate_data *d = migrate_data_new();
    struct vif_list list = {0};
    UNIT_OK(vif_list_of_destination(i, d, &list, &unit_err));
    UNIT_EQ(list.count, 1);
    UNIT_STR(list.items[0]->type, "bridge");
    vif_list_clear(&list);
}

static void vif_refused(const char *key, const char *value, const char *shown)
{
    _cleanup_(instance_freep) struct instance *i = instance();
    _cleanup_(json_putp) struct json_object *info = NULL;
    struct vif *v = NULL;

    UNIT_OK(instance_network_info(i, &info, &unit_err));
    struct json_object *vif = json_object_array_get_idx(info, 0);
    json_add_string(vif, key, value);
    UNIT_TRUE(vif_from_json(vif, &v, &unit_err) == -1 && v == NULL);
    UNIT_HAS(unit_err.text, shown);
}

UNIT_TEST(names_checked, "names that reach the host are checked by type and shown")
{
    vif_refused("id", "../../etc", "../../etc");
    vif_refused("address", "fa:16:3e", "fa:16:3e");
    vif_refused("devname", "tap/../x", "tap/../x");
    vif_refused("devname", "a-name-that-is-too-long-for-linux", "a-name-that-is-too-long");
    vif_refused("type", NULL, "type");
}

UNIT_TEST(bad_binding, "a binding's text that is no JSON is refused, all or nothing")
{
    _cleanup_(instance_freep) struct instance *i = instance();
    _cleanup_(migrate_data_freep) struct migrate_data *d = data();
    struct vif_list list = {0};
    json_add_string(binding(), "vif_details_json", "{");
    UNIT_FAILS(vif_list_of_destination(i, d, &list, &unit_err), ERR_PARSE);
    UNIT_TRUE(list.items == NULL && list.count == 0);
    json_add_string(binding(), "vif_details_json", "{}");
    json_object_object_del(binding(), "source_vif");
    UNIT_FAILS(vif_list_of_destination(i, d, &list, &unit_err), ERR_PARSE);
    UNIT_HAS(unit_err.text, "9cf193f1-870b-4829-8081-1945ddc3e3fc");
}

UNIT_TEST(skeletons, "skeletons have the recorded fields and the whole source VIF")
{
    _cleanup_(instance_freep) struct instance *i = instance();
    _cleanup_(json_putp) struct json_object *info = NULL, *again = NULL;
    UNIT_OK(instance_network_info(i, &info, &unit_err));
    _cleanup_(json_putp) struct json_object *list = vif_migrate_data_skeletons(info);
    struct json_object *skeleton = data_of(json_object_array_get_idx(list, 0));
    const char *text = json_get_string(skeleton, "source_vif", "");
    UNIT_OK(json_parse(text, strlen(text), &again, &unit_err));
    UNIT_TRUE(json_same(again, json_object_array_get_idx(info, 0)));
    UNIT_STR(json_get_string(skeleton, "profile_json", ""), "{\"os_vif_delegation\": true}");
}

UNIT_TEST(nested, "the nested migration's uuid is told when there is one")
{
    _cleanup_(migrate_data_freep) struct migrate_data *d = data();
    UNIT_TRUE(migrate_data_migration_uuid(d) == NULL);
    migrate_data_set_migration(d, json_copy(arg("migration")));
    UNIT_STR(migrate_data_migration_uuid(d), "34082c59-a44b-4000-9999-43a9a0767be2");
}

UNIT_TEST(every_recorded, "every recorded message's instances and bindings can be read")
{
    static const char *const names[] = {
        "live-migration/008-compute.os-hostb-check_can_live_migrate_destination.json",
        "live-migration/041-compute.os-hostb-pre_live_migration.json",
        "live-migration/099-compute.os-hostb-post_live_migration_at_destination.json"};
    for (size_t n = 0; n < ARRAY_LEN(names); n++) {
        unload();
        message = capture_load(names[n]);
        _cleanup_(instance_freep) struct instance *i = instance();
        struct vif_list list = {0};
        UNIT_OK(vif_list_of_instance(i, &list, &unit_err));
        vif_list_clear(&list);
    }
}

/* ---- instances of a hypervisor's facts ---- */

static struct instance *made(const char *name, int power_state)
{
    static const struct cloud_interface_facts interfaces[] = {
        {.mac = "52:54:00:aa:bb:cc",
         .bridge = "br0",
         .tap = "vnet3",
         .model = "virtio",
         .mtu = 1450},
        {.mac = "52:54:00:aa:bb:cd",
         .bridge = "br-int",
         .tap = "tapx",
         .openvswitch = true,
         .interface_id = "0dd0aaaa-1111-4222-8333-944444444444"}};
    _cleanup_(json_putp) struct json_object *settings = json_object_new_object();
    json_add_string(settings, "downtime_ms", "700");
    const struct cloud_instance_facts facts = {.uuid = "6d2c4a30-0000-4000-8000-000000000001",
                                               .name = name,
                                               .host = "hosta",
                                               .memory_mb = 512,
                                               .vcpus = 2,
                                               .power_state = power_state,
                                               .interfaces = interfaces,
                                               .interface_count = 2,
                                               .settings = settings};

    return cloud_instance_from_facts(&facts);
}

UNIT_TEST(from_facts, "an instance made of facts is read like one of Nova's")
{
    _cleanup_(instance_freep) struct instance *i = made("instance-0000002a", 1);
    struct vif_list list = {0};
    UNIT_EQ(instance_id(i), 42);
    UNIT_STR(instance_display_name(i), "instance-0000002a");
    UNIT_EQ(instance_flavor_memory_mb(i), 512);
    UNIT_STR(instance_vm_state(i), "active");
    UNIT_OK(vif_list_of_instance(i, &list, &unit_err));
    UNIT_EQ(list.count, 2);
    UNIT_STR(list.items[0]->type, "bridge");
    UNIT_STR(list.items[0]->devname, "vnet3");
    UNIT_STR(list.items[0]->port_id, "00000000-0000-4000-8000-525400aabbcc");
    UNIT_EQ(list.items[0]->mtu, 1450);
    UNIT_STR(list.items[1]->type, "ovs");
    UNIT_STR(list.items[1]->ovs_interface_id, "0dd0aaaa-1111-4222-8333-944444444444");
    vif_list_clear(&list);
    UNIT_TRUE(!object_changed(i->object, NULL));
}

UNIT_TEST(from_facts_other, "a name of another kind has no number; a paused guest is paused")
{
    _cleanup_(instance_freep) struct instance *i = made("database", 3);
    UNIT_EQ(instance_id(i), 0);
    UNIT_STR(instance_vm_state(i), "paused");
    UNIT_EQ(instance_power_state(i), 3);
}
