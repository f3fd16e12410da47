/* SPDX-License-Identifier: Apache-2.0 */
/* Rebuild, evacuation, snapshot and backup. */
#include "tests/unit/agent_world.h"

#include "agent/operation.h"
#include "lib/fault.h"
#include "lib/json.h"

#define IMAGE "b7c668fe-90f7-4470-b48c-2337a02ca73b"

static struct world *w;

static void setup(void)
{
    const struct world_options options = {
        .settings = {"DEFAULT.use_cow_images", "false", "libvirt.virt_type", "qemu", NULL}};
    _cleanup_(json_putp) struct json_object *args = world_args("030");
    const char *text = json_get_string(
        world_data(json_get(world_data(args, "instance"), "info_cache"), NULL), "network_info", "");

    w = world_open(&options);
    UNIT_OK(json_parse(text, strlen(text), &w->network_info, &unit_err));
}

static void teardown(void)
{
    world_close(w);
    w = NULL;
}

UNIT_FIXTURE(setup, teardown)

static void settle(void)
{
    for (int i = 0; i < 5; i++)
        world_settle(w);
}

static struct json_object *instance_args(const char *vm_state, const char *task_state)
{
    _cleanup_(json_putp) struct json_object *recorded = world_args("030");
    struct json_object *args = json_object_new_object();

    json_add_string(world_data(recorded, "instance"), "vm_state", vm_state);
    json_add_string(world_data(recorded, "instance"), "task_state", task_state);
    json_add(args, "instance", json_object_get(json_get(recorded, "instance")));
    return args;
}

static struct json_object *rebuild_args(const char *vm_state, bool evacuate)
{
    static const char *const nulls[] = {"injected_files",    "new_pass", "orig_sys_metadata",
                                        "on_shared_storage", "bdms",     "migration",
                                        "scheduled_node",    "limits",   "request_spec",
                                        "accel_uuids",       "image_ref"};
    _cleanup_(json_putp) struct json_object *recorded = world_args("030");
    struct json_object *args = instance_args(vm_state, "rebuilding");

    for (size_t i = 0; i < ARRAY_LEN(nulls); i++)
        json_add(args, nulls[i], NULL);
    json_add_string(args, "orig_image_ref", IMAGE);
    json_add_bool(args, "recreate", evacuate);
    if (!evacuate)
        json_add_string(args, "image_ref", IMAGE);
    if (evacuate) {
        json_add(args, "migration", json_object_get(json_get(recorded, "migration")));
        json_add_string(world_data(args, "instance"), "host", "os-dead");
    } else {
        world_add_guest(w, VIRT_STATE_RUNNING);
        world_add_file(w, "disk");
    }
    json_add_string(json_get(world_data(args, "instance"), "system_metadata"), "image_disk_format",
                    "raw");
    return args;
}

static void activate_ports(void)
{
    for (size_t i = 0; i < json_object_array_length(w->network_info); i++)
        json_add_bool(json_object_array_get_idx(w->network_info, i), "active", true);
}

UNIT_TEST(in_place, "a rebuild in place makes the guest anew, with nova-compute's task states")
{
    static const char *const lines[] = {
        "event compute_rebuild_instance",
        "image " IMAGE " read",
        "instance saved on os-hosta: ",
        "ports read",
        "instance saved on os-hosta: task_state=\"rebuild_block_device_mapping\", expecting "
        "rebuilding",
        "instance saved on os-hosta: task_state=\"rebuild_spawning\", expecting "
        "rebuild_block_device_mapping",
        "instance saved on os-hosta: ",
        "event compute_rebuild_instance done",
        NULL};

    activate_ports();
    world_ask(w, RPC_METHOD_rebuild_instance, rebuild_args("active", false));
    settle();
    world_in_order(w, lines);
    UNIT_EQ(virt_fake_count(w->agent.virt, "destroy"), 1);
    UNIT_EQ(virt_fake_state(w->agent.virt, WORLD_INSTANCE), VIRT_STATE_RUNNING);
    UNIT_EQ(world_count(w, "ports"), 1); /* read */
    UNIT_EQ(world_count(w, "fault"), 0);
}

UNIT_TEST(stopped, "a stopped instance is rebuilt and stays off")
{
    struct json_object *args = rebuild_args("stopped", false);

    virt_fake_set_state(w->agent.virt, WORLD_INSTANCE, VIRT_STATE_SHUTOFF);
    world_ask(w, RPC_METHOD_rebuild_instance, args);
    settle();
    UNIT_EQ(world_count(w, "event compute_rebuild_instance done"), 1);
    UNIT_EQ(virt_fake_state(w->agent.virt, WORLD_INSTANCE), VIRT_STATE_SHUTOFF);
    UNIT_HAS(w->lines[w->line_count - 2], "vm_state=\"stopped\"");
}

UNIT_TEST(evacuated, "an evacuation moves the ports, makes the guest and takes the instance over")
{
    static const char *const lines[] = {"ports moved here",
                                        "info cache of 1",
                                        "instance saved on os-hosta: ",
                                        "status source",
                                        "event compute_rebuild_instance done",
                                        NULL};

    activate_ports();
    world_ask(w, RPC_METHOD_rebuild_instance, rebuild_args("active", true));
    settle();
    world_in_order(w, lines);
    UNIT_EQ(world_count(w, "instance saved on os-hosta: "), 1);
    UNIT_HAS(w->lines[world_place(w, "instance saved on os-hosta: ")], "host=\"os-hosta\"");
    UNIT_EQ(virt_fake_state(w->agent.virt, WORLD_INSTANCE), VIRT_STATE_RUNNING);
}

static void name_group(struct json_object *args)
{
    _cleanup_(json_putp) struct json_object *recorded = world_boot_args("008");
    struct json_object *spec = json_copy(json_get(recorded, "request_spec"));
    struct json_object *hints = json_object_new_object();

    json_add_string(hints, "group", "the-group");
    json_add(world_data(spec, NULL), "scheduler_hints", hints);
    json_add(args, "request_spec", spec);
}

UNIT_TEST(group_refuses,
          "an evacuation that the server group does not permit here leaves the instance as it was")
{
    struct json_object *args = rebuild_args("active", true);

    name_group(args);
    UNIT_OK(fault_arm("world.server_group_check=error", &unit_err));
    world_ask(w, RPC_METHOD_rebuild_instance, args);
    settle();
    UNIT_EQ(world_count(w, "server group the-group looked at"), 1);
    UNIT_EQ(world_count(w, "instance saved on os-dead: task_state=null"), 1);
    UNIT_EQ(world_count(w, "status source"), 2); /* accepted here, failed */
    UNIT_EQ(world_count(w, "allocation of this host left"), 1);
    UNIT_EQ(world_count(w, "ports moved here"), 0);
}

UNIT_TEST(group_in_place, "a rebuild in place does not ask the server group")
{
    struct json_object *args = rebuild_args("active", false);

    activate_ports();
    name_group(args);
    world_ask(w, RPC_METHOD_rebuild_instance, args);
    settle();
    UNIT_EQ(world_count(w, "server group"), 0);
    UNIT_EQ(world_count(w, "event compute_rebuild_instance done"), 1);
}

UNIT_TEST(not_shared,
          "files that are here although storage is not shared stop an evacuation untouched")
{
    struct json_object *args = rebuild_args("active", true);

    json_add_bool(args, "on_shared_storage", false);
    world_add_file(w, "disk");
    world_ask(w, RPC_METHOD_rebuild_instance, args);
    settle();
    UNIT_EQ(world_count(w, "fault the files of instance " WORLD_INSTANCE " are on this host"), 1);
    UNIT_EQ(world_count(w, "instance saved on os-dead: task_state=null"), 1);
    UNIT_EQ(world_count(w, "status source"), 2); /* accepted here, failed */
    UNIT_EQ(world_count(w, "allocation of this host left"), 1);
    UNIT_TRUE(world_has_file(w, WORLD_INSTANCE "/disk"));
}

UNIT_TEST(rebuild_fails, "a rebuild that fails leaves the instance in error")
{
    UNIT_OK(fault_arm("operation.rebuild.start=error", &unit_err));
    activate_ports();
    world_ask(w, RPC_METHOD_rebuild_instance, rebuild_args("active", true));
    settle();
    UNIT_EQ(world_count(w, "instance saved on os-dead: vm_state=\"error\" task_state=null"), 1);
    UNIT_EQ(world_count(w, "status source"), 2);
    UNIT_EQ(world_count(w, "migration context dropped"), 1);
    UNIT_EQ(world_count(w, "allocation of this host left"), 1);
    UNIT_EQ(virt_fake_state(w->agent.virt, WORLD_INSTANCE), VIRT_STATE_NONE);
    UNIT_TRUE(!world_has_file(w, WORLD_INSTANCE));
}

/* ---- images ---- */

static struct json_object *snapshot_args(const char *vm_state, const char *task_state)
{
    struct json_object *args = instance_args(vm_state, task_state);

    json_add_string(args, "image_id", IMAGE);
    return args;
}

static void add_guest_with_disk(enum virt_state state)
{
    _cleanup_(str_freep) char *xml = text_format(
        "<domain type='qemu'><name>instance-00000001</name><uuid>" WORLD_INSTANCE "</uuid>"
        "<memory unit='KiB'>262144</memory><vcpu>1</vcpu><os><type arch='x86_64' "
        "machine='pc'>hvm</type></os><devices><disk type='file' device='disk'><driver "
        "name='qemu' type='raw'/><source file='%s/" WORLD_INSTANCE "/disk'/><target dev='vda' "
        "bus='virtio'/></disk></devices></domain>",
        w->instances);

    world_add_file(w, "disk");
    virt_fake_add(w->agent.virt, WORLD_INSTANCE, "instance-00000001", xml, state);
}

static const char *const snapshot_lines[] = {
    "event compute_snapshot_instance",
    "instance saved on os-hosta: task_state=\"image_snapshot\", expecting image_snapshot_pending",
    "instance saved on os-hosta: ",
    "instance saved on os-hosta: task_state=\"image_uploading\", expecting image_pending_upload",
    "image " IMAGE " uploaded as raw",
    "instance saved on os-hosta: task_state=null, expecting image_uploading",
    "event compute_snapshot_instance done",
    NULL};

UNIT_TEST(snapshot, "a running guest's disk becomes an image while it runs")
{
    add_guest_with_disk(VIRT_STATE_RUNNING);
    world_ask(w, RPC_METHOD_snapshot_instance, snapshot_args("active", "image_snapshot_pending"));
    settle();
    world_in_order(w, snapshot_lines);
    UNIT_EQ(virt_fake_count(w->agent.virt, "copy_disk"), 1);
    UNIT_EQ(world_count(w, "image " IMAGE " deleted"), 0);
}

UNIT_TEST(cold, "a stopped guest's disk becomes an image")
{
    add_guest_with_disk(VIRT_STATE_SHUTOFF);
    world_ask(w, RPC_METHOD_snapshot_instance, snapshot_args("stopped", "image_snapshot_pending"));
    settle();
    world_in_order(w, snapshot_lines);
    UNIT_EQ(virt_fake_count(w->agent.virt, "copy_disk"), 0);
}

UNIT_TEST(upload_fails, "an image that cannot be uploaded is deleted and the task ends")
{
    UNIT_OK(fault_arm("world.image_upload=error", &unit_err));
    add_guest_with_disk(VIRT_STATE_SHUTOFF);
    world_ask(w, RPC_METHOD_snapshot_instance, snapshot_args("stopped", "image_snapshot_pending"));
    settle();
    UNIT_EQ(world_count(w, "image " IMAGE " deleted"), 1);
    UNIT_EQ(world_count(w, "instance saved on os-hosta: task_state=null"), 1);
    UNIT_EQ(world_count(w, "fault "), 1);
}

UNIT_TEST(rotation, "after a backup the oldest ones beyond the rotation are deleted")
{
    struct json_object *args = snapshot_args("stopped", "image_backup");
    static const char *const text = "[{\"id\":\"new\"},{\"id\":\"old\"},{\"id\":\"older\"}]";

    UNIT_OK(json_parse(text, strlen(text), &w->backups, &unit_err));
    json_add_string(args, "backup_type", "daily");
    json_add_int(args, "rotation", 1);
    add_guest_with_disk(VIRT_STATE_SHUTOFF);
    world_ask(w, RPC_METHOD_backup_instance, args);
    settle();
    UNIT_EQ(world_count(w, "image " IMAGE " uploaded as raw"), 1);
    UNIT_EQ(world_count(w, "backups of type daily read"), 1);
    UNIT_EQ(world_count(w, "image new deleted"), 0);
    UNIT_EQ(world_count(w, "image old deleted"), 1);
    UNIT_EQ(world_count(w, "image older deleted"), 1);
    UNIT_EQ(world_count(w, "event compute_backup_instance done"), 1);
}
