/* SPDX-License-Identifier: Apache-2.0 */
/* What the control plane `nova` asks of the conductor for instances and migrations. */
#include "tests/unit/nova_world.h"

#include "lib/clock.h"
#include "lib/json.h"

#define UUID "f54599db-972c-4dc7-83a7-e708e83972ff"

static struct nova_world *w;

static struct answer {
    unsigned calls;
    struct json_object *result;
    struct err e;
} last;

static void open_world(void)
{
    w = nova_world_open();
    last = (struct answer){0};
}

static void close_world(void)
{
    nova_world_close(w);
    json_object_put(last.result);
    last.result = NULL;
}
UNIT_FIXTURE(open_world, close_world)

static void take(void *aux, struct json_object *result, const struct err *failure)
{
    (void)aux;
    last.calls++;
    json_object_put(last.result);
    last.result = json_copy(result);
    last.e = failure ? *failure : ERR_INIT;
}

static void take_done(void *aux, const struct err *failure)
{
    take(aux, NULL, failure);
}

/* Told, and how. */
static bool told(enum err_code code)
{
    nova_world_pass(w, 0);
    bool good = last.calls == 1 && last.e.code == code;
    return unit_check(good, __LINE__, __FILE__, "told %u times, last %s (%s)", last.calls,
                      err_is_set(&last.e) ? err_name(last.e.code) : "success", last.e.text);
}

static struct instance *instance(void)
{
    struct object *o = object_new("Instance", "2.8");
    object_set_int(o, "id", 1);
    object_set_string(o, "uuid", UUID);
    object_set_string(o, "host", "os-hosta");
    object_set_string(o, "display_name", "a guest");
    object_clear_changes(o);
    return instance_wrap(o);
}

/* The arguments as they were recorded, but for the order of the change set. */
static void compare(const struct fake_call *call, const char *name)
{
    _cleanup_(json_putp) struct json_object *recorded = capture_load(name);
    struct json_object *args = json_get(recorded, "args");

    if (!call || !UNIT_TRUE(args != NULL))
        return;
    struct json_object *changes = json_get(json_get(args, "objinst"), "nova_object.changes");
    for (size_t i = 0; changes && i < json_object_array_length(changes); i++) {
        const char *field = json_object_get_string(json_object_array_get_idx(changes, i));
        struct json_object *sent = json_get(json_get(call->args, "objinst"), "nova_object.changes");
        bool found = false;
        for (size_t k = 0; sent && k < json_object_array_length(sent); k++)
            found |= text_equal(json_object_get_string(json_object_array_get_idx(sent, k)), field);
        unit_check(found, __LINE__, __FILE__, "%s: %s is not in the change set", name, field);
    }
    UNIT_TRUE(
        json_same(nova_world_data(call), json_get(json_get(args, "objinst"), "nova_object.data")));
    UNIT_TRUE(json_same(json_get(call->args, "args"), json_get(args, "args")));
    UNIT_TRUE(json_same(json_get(call->args, "kwargs"), json_get(args, "kwargs")));
}

/* ---- migrations ---- */

static struct migration_record *record(void)
{
    _cleanup_(json_putp) struct json_object *inner =
        capture_load("live-migration/033-conductor-object_action_Migration.save.json");
    struct migration_record *out = NULL;
    UNIT_OK(
        migration_record_from_json(json_get(json_get(inner, "args"), "objinst"), &out, &unit_err));
    object_clear_changes(out->object);
    return out;
}

UNIT_TEST(migration_saved, "the source saves a migration's changed fields and nothing else")
{
    _cleanup_(migration_record_freep) struct migration_record *m = record();
    migration_record_set_status(m, "running");
    cloud_migration_save(w->cloud, NULL, m, "source", NULL, take_done, NULL);
    struct fake_call *call = nova_world_call(w, "Migration.save");
    UNIT_EQ(json_object_object_length(nova_world_data(call)), 3);
    UNIT_EQ(json_get_int(nova_world_data(call), "id", 0), 1);
    UNIT_STR(json_get_string(nova_world_data(call), "status", NULL), "running");
    UNIT_TRUE(nova_world_changed(call, "status"));
    UNIT_EQ(last.calls, 0);
    nova_world_acted(w, "Migration.save", NULL, NULL);
    told(ERR_NONE);
    UNIT_TRUE(!object_changed(m->object, NULL));
}

UNIT_TEST(migration_kept, "the destination does not write Nova's record of the migration")
{
    _cleanup_(migration_record_freep) struct migration_record *m = record();
    migration_record_set_status(m, "preparing");
    cloud_migration_save(w->cloud, NULL, m, "destination", NULL, take_done, NULL);
    told(ERR_NONE);
    UNIT_EQ(fake_rpc_count_named(w->rpc, NULL), 0);
    UNIT_TRUE(!object_changed(m->object, NULL));
}

UNIT_TEST(migrate, "a migration is not asked for here but by Nova's API")
{
    _cleanup_(instance_freep) struct instance *i = instance();
    struct cloud_migrate_request request = {.instance = i, .destination = "os-hostb"};
    cloud_migrate(w->cloud, &request, take, NULL);
    told(ERR_NOT_IMPLEMENTED);
    UNIT_HAS(last.e.text, "openstack server migrate");
}

/* ---- saving instances ---- */

static void save(const char *expected)
{
    _cleanup_(instance_freep) struct instance *i = instance();
    instance_set_task_state(i, NULL);
    instance_set_progress(i, 0);
    cloud_instance_save(w->cloud, NULL, i, expected, take_done, NULL);
    UNIT_TRUE(!object_changed(i->object, NULL));
}

UNIT_TEST(instance_saved, "an instance is saved by its changed fields, stamped as Zed knows it")
{
    save("migrating");
    struct fake_call *call = nova_world_call(w, "Instance.save");
    UNIT_EQ(json_object_object_length(nova_world_data(call)), 4);
    UNIT_TRUE(nova_world_changed(call, "task_state progress"));
    UNIT_STR(json_get_string(json_get(call->args, "objinst"), "nova_object.version", NULL), "2.7");
    struct json_object *states = json_get(json_get(call->args, "kwargs"), "expected_task_state");
    UNIT_STR(json_object_to_json_string(states), "[ \"migrating\" ]");
    nova_world_acted(w, "Instance.save", NULL, NULL);
    told(ERR_NONE);
}

UNIT_TEST(expected_states, "several task states may be expected, and none")
{
    save("powering-off|-");
    struct fake_call *call = nova_world_call(w, "Instance.save");
    UNIT_STR(
        json_object_to_json_string(json_get(json_get(call->args, "kwargs"), "expected_task_state")),
        "[ \"powering-off\", null ]");
    save(NULL);
    nova_world_acted(w, "Instance.save", NULL, NULL);
    UNIT_TRUE(!json_has(json_get(nova_world_call(w, "Instance.save")->args, "kwargs"),
                        "expected_task_state"));
}

static struct json_object *stored(const char *task_state)
{
    _cleanup_(instance_freep) struct instance *i = instance();
    instance_set_task_state(i, task_state);
    instance_set_progress(i, 0);
    return instance_to_json(i);
}

UNIT_TEST(lost_answer, "a save whose first answer was lost is no failure when it is found done")
{
    save("migrating");
    fake_rpc_fail(nova_world_call(w, "Instance.save"), ERR_TIMEOUT, "no reply");
    nova_world_pass(w, USEC_PER_SEC);
    fake_rpc_fail_as(nova_world_call(w, "Instance.save"), "UnexpectedTaskStateError", "Conflict");
    fake_rpc_answer(nova_world_call(w, "Instance.get_by_uuid"), stored(NULL));
    told(ERR_NONE);
}

UNIT_TEST(conflict, "a save that meets another task state is a conflict")
{
    save("migrating");
    fake_rpc_fail_as(nova_world_call(w, "Instance.save"), "UnexpectedTaskStateError", "Conflict");
    fake_rpc_answer(nova_world_call(w, "Instance.get_by_uuid"), stored("deleting"));
    told(ERR_TASK_STATE);
    UNIT_HAS(last.e.text, "Conflict");
}

UNIT_TEST(gone, "a save of an instance that was deleted says so")
{
    save("migrating");
    fake_rpc_fail_as(nova_world_call(w, "Instance.save"), "InstanceNotFound", "not found");
    told(ERR_NO_INSTANCE);
}

/* ---- events and faults ---- */

UNIT_TEST(events, "action events are those that nova-compute sends, the end after the start")
{
    cloud_event_start(w->cloud, NULL, UUID, "compute__do_build_and_run_instance");
    cloud_event_finish(w->cloud, NULL, UUID, "compute__do_build_and_run_instance", NULL);
    UNIT_EQ(fake_rpc_count_object(w->rpc, "InstanceActionEvent.event_finish_with_failure"), 0);
    struct fake_call *call = nova_world_call(w, "InstanceActionEvent.event_start");
    compare(call, "boot-delete/009-conductor-object_class_action_versions_"
                  "InstanceActionEvent.event_start.json");
    fake_rpc_answer(call, NULL);
    call = nova_world_call(w, "InstanceActionEvent.event_finish_with_failure");
    compare(call, "boot-delete/077-conductor-object_class_action_versions_"
                  "InstanceActionEvent.event_finish_with_failure.json");
    fake_rpc_answer(call, NULL);
    err_set(&unit_err, ERR_PRECHECK, "the hosts do not fit");
    cloud_event_finish(w->cloud, NULL, UUID, "compute_x", &unit_err);
    call = nova_world_call(w, "InstanceActionEvent.event_finish_with_failure");
    struct json_object *kwargs = json_get(call->args, "kwargs");
    UNIT_STR(json_get_string(kwargs, "exc_val", NULL), "the hosts do not fit");
    UNIT_HAS(json_get_string(kwargs, "exc_tb", NULL), "MigrationPreCheckError");
}

UNIT_TEST(faults, "a fault carries code, a message that fits its column, and this host")
{
    char text[400];
    memset(text, 'x', sizeof(text) - 1);
    text[sizeof(text) - 1] = '\0';
    err_set(&unit_err, ERR_NO_INSTANCE, "%s", text);
    cloud_fault(w->cloud, NULL, UUID, &unit_err);
    struct json_object *data = nova_world_data(nova_world_call(w, "InstanceFault.create"));
    UNIT_STR(json_get_string(data, "instance_uuid", NULL), UUID);
    UNIT_EQ(json_get_int(data, "code", 0), 404);
    UNIT_TRUE(strlen(json_get_string(data, "message", "")) <= 255);
    UNIT_HAS(json_get_string(data, "details", NULL), "InstanceNotFound");
    UNIT_STR(json_get_string(data, "host", NULL), "os-hosta");
}

/* ---- reading ---- */

UNIT_TEST(block_devices, "block devices are the items of the recorded list")
{
    _cleanup_(instance_freep) struct instance *i = instance();
    cloud_block_devices(w->cloud, NULL, i, take, NULL);
    struct fake_call *call = nova_world_call(w, "BlockDeviceMappingList.get_by_instance_uuid");
    compare(call, "boot-delete/015-conductor-object_class_action_versions_"
                  "BlockDeviceMappingList.get_by_instance_uuid.json");
    nova_world_answer(w, "BlockDeviceMappingList.get_by_instance_uuid",
                      "boot-delete/016-reply-object_class_action_versions_"
                      "BlockDeviceMappingList.get_by_instance_uuid.json");
    told(ERR_NONE);
    UNIT_EQ(json_object_array_length(last.result), 1);
    UNIT_STR(json_get_string(json_object_array_get_idx(last.result, 0), "nova_object.name", NULL),
             "BlockDeviceMapping");
}

UNIT_TEST(instances, "an answer that is no list of objects is refused")
{
    cloud_instances(w->cloud, take, NULL);
    struct fake_call *call = nova_world_call(w, "InstanceList.get_by_host");
    UNIT_STR(json_object_to_json_string(json_get(call->args, "args")), "[ \"os-hosta\" ]");
    fake_rpc_answer(call, json_object_new_string("?"));
    told(ERR_PARSE);
}

UNIT_TEST(own_records, "what Nova has of this host is asked as nova-compute asks for it")
{
    cloud_node_service_read(w->cloud, take, NULL);
    compare(nova_world_call(w, "Service.get_by_host_and_binary"),
            "startup-again/017-conductor-object_class_action_versions_"
            "Service.get_by_host_and_binary.json");
    nova_world_answer(w, "Service.get_by_host_and_binary",
                      "startup-again/018-reply-object_class_action_versions_"
                      "Service.get_by_host_and_binary.json");
    told(ERR_NONE);
    UNIT_STR(json_get_string(last.result, "nova_object.name", NULL), "Service");
    last.calls = 0;
    cloud_node_records_read(w->cloud, take, NULL);
    nova_world_answer(w, "ComputeNodeList.get_all_by_host",
                      "startup-again/020-reply-object_class_action_versions_"
                      "ComputeNodeList.get_all_by_host.json");
    told(ERR_NONE);
    UNIT_EQ(json_object_array_length(last.result), 1);
}

UNIT_TEST(no_records, "a host that Nova does not know has no compute nodes")
{
    cloud_node_records_read(w->cloud, take, NULL);
    struct fake_call *call = nova_world_call(w, "ComputeNodeList.get_all_by_host");
    UNIT_STR(json_object_to_json_string(json_get(call->args, "args")), "[ \"os-hosta\" ]");
    fake_rpc_fail_as(call, "ComputeHostNotFound", "Compute host os-hosta could not be found.");
    told(ERR_NONE);
    UNIT_EQ(json_object_array_length(last.result), 0);
}

UNIT_TEST(migration_read, "a migration is read by its uuid, and one that is not there says so")
{
    cloud_migration_get(w->cloud, NULL, UUID, take, NULL);
    struct fake_call *call = nova_world_call(w, "Migration.get_by_uuid");
    UNIT_STR(json_object_to_json_string(json_get(call->args, "args")), "[ \"" UUID "\" ]");
    fake_rpc_fail_as(call, "MigrationNotFound", "Migration could not be found.");
    told(ERR_NO_MIGRATION);
}

UNIT_TEST(evacuations, "evacuations from here are asked for as nova-compute does when it starts")
{
    struct json_object *list = json_object_new_object(), *data = json_object_new_object();
    struct json_object *items = json_object_new_array();
    _cleanup_(json_putp) struct json_object *context = rpc_context_admin();

    json_add_string(context, "read_deleted", "yes");
    cloud_node_evacuations(w->cloud, context, take, NULL);
    struct fake_call *call = nova_world_call(w, "MigrationList.get_by_filters");
    UNIT_STR(json_object_to_json_string_ext(json_get(call->args, "args"), JSON_C_TO_STRING_PLAIN),
             "[{\"source_compute\":\"os-hosta\",\"status\":[\"accepted\",\"pre-migrating\","
             "\"done\"],\"migration_type\":\"evacuation\"}]");
    UNIT_STR(json_get_string(call->context, "read_deleted", NULL), "yes");
    json_object_array_add(items, json_object_new_string("a migration"));
    json_add(data, "objects", items);
    json_add(list, "nova_object.data", data);
    fake_rpc_answer(call, list);
    told(ERR_NONE);
    UNIT_EQ(json_object_array_length(last.result), 1);
}

UNIT_TEST(reload, "a shorter patience holds for what is asked after the reload")
{
    struct conf *conf = conf_for_test("DEFAULT.host", "os-hosta", "agent.conductor_patience", "1",
                                      "agent.state_directory", w->directory, NULL);
    cloud_reload(w->cloud, conf);
    conf_unref(conf);
    cloud_instances(w->cloud, take, NULL);
    struct fake_call *call = nova_world_call(w, "InstanceList.get_by_host");
    UNIT_EQ(call->options.timeout_us, USEC_PER_SEC);
    clock_fake_set(clock_monotonic_us() + USEC_PER_SEC);
    fake_rpc_fail(call, ERR_TIMEOUT, "no reply");
    told(ERR_TIMEOUT);
}

/* ---- writing ---- */

UNIT_TEST(info_cache, "the info cache of a guest without ports is saved as nova-compute saves it")
{
    cloud_info_cache_save(w->cloud, NULL, UUID, NULL, take_done, NULL);
    compare(nova_world_call(w, "InstanceInfoCache.save"),
            "boot-delete/104-conductor-object_action_InstanceInfoCache.save.json");
    nova_world_acted(w, "InstanceInfoCache.save", NULL, NULL);
    told(ERR_NONE);
}

UNIT_TEST(virtual_interface, "a virtual interface is made as recorded; one that is there is fine")
{
    cloud_virtual_interface_create(w->cloud, NULL, UUID, "cb78d9e5-2794-4bab-baa4-a2498ecbb479",
                                   "fa:16:3e:00:00:3c", NULL, take_done, NULL);
    struct fake_call *call = nova_world_call(w, "VirtualInterface.create");
    compare(call, "boot-delete/034-conductor-object_action_VirtualInterface.create.json");
    fake_rpc_fail_as(call, "VirtualInterfaceCreateException", "Virtual Interface creation failed");
    told(ERR_NONE);
}

UNIT_TEST(virtual_interface_gone, "a port's row is looked for and destroyed; none is fine")
{
    struct object *row = object_new("VirtualInterface", "1.3");
    object_set_int(row, "id", 7);
    object_clear_changes(row);
    cloud_virtual_interface_delete(w->cloud, NULL, UUID, take_done, NULL);
    struct fake_call *call = nova_world_call(w, "VirtualInterface.get_by_uuid");
    UNIT_STR(json_object_to_json_string(json_get(call->args, "args")), "[ \"" UUID "\" ]");
    fake_rpc_answer(call, object_to_json(row));
    object_free(row);
    UNIT_EQ(json_get_int(nova_world_data(nova_world_call(w, "VirtualInterface.destroy")), "id", 0),
            7);
    nova_world_acted(w, "VirtualInterface.destroy", NULL, NULL);
    told(ERR_NONE);
    last.calls = 0;
    cloud_virtual_interface_delete(w->cloud, NULL, UUID, take_done, NULL);
    fake_rpc_answer(nova_world_call(w, "VirtualInterface.get_by_uuid"), NULL);
    told(ERR_NONE);
}

UNIT_TEST(action, "an action begins as the API begins it, and its record is not asked for")
{
    cloud_action_start(w->cloud, NULL, UUID, "stop", take_done, NULL);
    struct fake_call *call = nova_world_call(w, "InstanceAction.action_start");
    UNIT_STR(json_object_to_json_string(json_get(call->args, "args")),
             "[ \"" UUID "\", \"stop\" ]");
    UNIT_STR(json_object_to_json_string(json_get(call->args, "kwargs")),
             "{ \"want_result\": false }");
    fake_rpc_answer(call, NULL);
    told(ERR_NONE);
}

UNIT_TEST(context_dropped, "a migration context is dropped of the instance as it is, unchanged")
{
    _cleanup_(instance_freep) struct instance *i = instance();
    instance_set_task_state(i, "rebuilding");
    cloud_migration_context_drop(w->cloud, NULL, i, take_done, NULL);
    struct fake_call *call = nova_world_call(w, "Instance.drop_migration_context");
    UNIT_STR(json_get_string(nova_world_data(call), "uuid", NULL), UUID);
    UNIT_TRUE(!json_has(json_get(call->args, "objinst"), "nova_object.changes"));
    nova_world_acted(w, "Instance.drop_migration_context", NULL, NULL);
    told(ERR_NONE);
    UNIT_TRUE(object_changed(i->object, "task_state"));
}

UNIT_TEST(destroyed, "an instance that is gone already counts as destroyed")
{
    _cleanup_(instance_freep) struct instance *i = instance();
    cloud_instance_destroy(w->cloud, NULL, i, take_done, NULL);
    struct fake_call *call = nova_world_call(w, "Instance.destroy");
    UNIT_EQ(json_object_object_length(nova_world_data(call)), 3);
    fake_rpc_fail_as(call, "InstanceNotFound", "could not be found");
    told(ERR_NONE);
}

UNIT_TEST(block_device, "a mapping is saved without the instance inside it")
{
    struct object *o = object_new("BlockDeviceMapping", "1.21");
    object_set_int(o, "id", 1);
    object_set_json(o, "instance", json_object_new_object());
    object_clear_changes(o);
    object_set_string(o, "device_name", "/dev/vda");
    _cleanup_(json_putp) struct json_object *primitive = object_to_json(o);
    object_free(o);
    cloud_block_device_save(w->cloud, NULL, primitive, take_done, NULL);
    struct fake_call *call = nova_world_call(w, "BlockDeviceMapping.save");
    UNIT_TRUE(nova_world_changed(call, "device_name"));
    UNIT_TRUE(!json_has(nova_world_data(call), "instance"));
    UNIT_TRUE(json_has(json_get(primitive, "nova_object.data"), "instance"));
    nova_world_acted(w, "BlockDeviceMapping.save", NULL, NULL);
    told(ERR_NONE);
}

UNIT_TEST(reschedule, "a failed build goes back to the conductor's task queue")
{
    struct json_object *args = json_object_new_object();
    json_add(args, "instances", json_object_new_array());
    cloud_reschedule(w->cloud, NULL, args, take_done, NULL);
    struct fake_call *call = fake_rpc_waiting_named(w->rpc, "build_instances");
    if (!UNIT_TRUE(call != NULL))
        return;
    UNIT_STR(call->namespace_name, "compute_task");
    UNIT_TRUE(call->cast && json_has(call->args, "instances"));
    fake_rpc_answer(call, NULL);
    told(ERR_NONE);
}

UNIT_TEST(console, "a console's URL has its token where the proxy looks for it")
{
    struct cloud_console console = {.instance_uuid = UUID,
                                    .type = "novnc",
                                    .host = "198.51.100.11",
                                    .port = 5900,
                                    .access_url_base = "http://proxy:6080/vnc_auto.html"};
    cloud_console_token(w->cloud, NULL, &console, take, NULL);
    struct fake_call *call = nova_world_call(w, "ConsoleAuthToken.authorize");
    UNIT_STR(json_object_to_json_string(json_get(call->args, "args")), "[ 600 ]");
    UNIT_STR(json_get_string(nova_world_data(call), "console_type", NULL), "novnc");
    nova_world_acted(w, "ConsoleAuthToken.authorize", NULL, json_object_new_string("T"));
    told(ERR_NONE);
    UNIT_STR(json_get_string(last.result, "token", NULL), "T");
    UNIT_STR(json_get_string(last.result, "access_url", NULL),
             "http://proxy:6080/vnc_auto.html?path=%3Ftoken%3DT");
}
