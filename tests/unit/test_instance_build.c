/* SPDX-License-Identifier: Apache-2.0 */
/* Build and deletion, with the recorded requests of a real cloud. */
#include "tests/unit/agent_world.h"

#include <dirent.h>
#include <signal.h>
#include <sys/resource.h>

#include "agent/instance_build.h"
#include "agent/operation.h"
#include "lib/fault.h"
#include "lib/json.h"
#include "lib/log.h"

#define INSTANCE "f54599db-972c-4dc7-83a7-e708e83972ff"
#define PORT     "cb78d9e5-2794-4bab-baa4-a2498ecbb479"
#define PLUGGED  "network-vif-plugged-" PORT

static struct world *w;

/* The network service's answer, as nova-compute saved it. */
static struct json_object *recorded_network(void)
{
    _cleanup_(json_putp) struct json_object *args = world_boot_args("038");
    const char *text = json_get_string(world_data(args, "objinst"), "network_info", "");
    struct json_object *network = NULL;

    UNIT_OK(json_parse(text, strlen(text), &network, &unit_err));
    return network;
}

static void setup(void)
{
    const struct world_options options = {
        .settings = {"DEFAULT.use_cow_images", "false", "libvirt.virt_type", "qemu", NULL}};

    log_set_level(NULL, LOG_LEVEL_DEBUG);
    w = world_open(&options);
    w->network_info = recorded_network();
}

static void teardown(void)
{
    world_close(w);
    w = NULL;
}

UNIT_FIXTURE(setup, teardown)

/* The recorded request; its image is the small raw one of this world. */
static struct json_object *build_args(bool retry)
{
    struct json_object *args = world_boot_args("008");

    json_add_string(json_get(args, "image"), "disk_format", "raw");
    json_add_string(world_data(args, "instance"), "task_state", "scheduling");
    if (!retry)
        json_object_object_del(json_get(args, "filter_properties"), "retry");
    return args;
}

static void build(bool retry)
{
    world_ask(w, RPC_METHOD_build_and_run_instance, build_args(retry));
    for (int i = 0; i < 4; i++)
        world_settle(w);
}

static void plug(void)
{
    UNIT_TRUE(operation_event(&w->agent, INSTANCE, PLUGGED, "completed"));
    world_settle(w);
    world_settle(w);
}

/* Nothing of the guest is on this host: no domain, no directory, no record, no tap. */
static void check_nothing_left(void)
{
    UNIT_EQ(virt_fake_state(w->agent.virt, INSTANCE), VIRT_STATE_NONE);
    UNIT_TRUE(!world_has_file(w, INSTANCE));
    _cleanup_(json_putp) struct json_object *record = world_record(w, INSTANCE, "build");
    UNIT_TRUE(record == NULL);
    UNIT_TRUE(w->agent.operations == NULL);
    UNIT_EQ(net_fake_plugged(w->agent.net), 0);
}

UNIT_TEST(order, "a build saves what nova-compute saves, in its order")
{
    static const char *const lines[] = {
        "event compute__do_build_and_run_instance",
        "instance saved on null: vm_state=\"building\" task_state=null, expecting scheduling|-",
        "instance saved on os-hosta: host=\"os-hosta\" launched_on=\"os-hosta\"",
        "instance saved on os-hosta: task_state=\"networking\", expecting -",
        "ports allocated",
        "info cache of 1",
        "vif " PORT " fa:16:3e:00:00:3c",
        "block device saved /dev/vda",
        "instance saved on os-hosta: root_device_name=\"/dev/vda\" "
        "task_state=\"block_device_mapping\"",
        "instance saved on os-hosta: task_state=\"spawning\", expecting block_device_mapping",
        "image b7c668fe-90f7-4470-b48c-2337a02ca73b downloaded",
        "image d782a6bb-9b62-4297-bc4a-c28df29a27fa downloaded",
        "image 7b1bf26a-54bc-46f0-bc3e-ea99d54d31b9 downloaded",
        NULL};
    static const char *const rest[] = {
        "instance saved on os-hosta: ", "event compute__do_build_and_run_instance done", NULL};

    build(true);
    world_in_order(w, lines);
    UNIT_EQ(virt_fake_state(w->agent.virt, INSTANCE), VIRT_STATE_PAUSED);
    _cleanup_(json_putp) struct json_object *record = world_record(w, INSTANCE, "build");
    UNIT_TRUE(record != NULL);
    size_t before = w->line_count;
    plug();
    UNIT_EQ(virt_fake_state(w->agent.virt, INSTANCE), VIRT_STATE_RUNNING);
    UNIT_EQ(w->line_count, before + 2);
    world_in_order(w, rest);
    UNIT_HAS(w->lines[before], "vm_state=\"active\"");
    UNIT_HAS(w->lines[before], "task_state=null");
    UNIT_HAS(w->lines[before], "power_state=1");
    UNIT_HAS(w->lines[before], "launched_at=");
    UNIT_HAS(w->lines[before], "image_hw_disk_bus");
    UNIT_HAS(w->lines[before], ", expecting spawning");
    _cleanup_(json_putp) struct json_object *gone = world_record(w, INSTANCE, "build");
    UNIT_TRUE(gone == NULL);
    UNIT_TRUE(world_has_file(w, INSTANCE "/disk"));
    UNIT_TRUE(!world_has_file(w, INSTANCE "/.computed-migration"));
    UNIT_EQ(world_count(w, "fault"), 0);
}

UNIT_TEST(active_port, "a port that is active already is not waited for")
{
    json_add_bool(json_object_array_get_idx(w->network_info, 0), "active", true);
    build(true);
    UNIT_EQ(virt_fake_state(w->agent.virt, INSTANCE), VIRT_STATE_RUNNING);
    UNIT_EQ(world_count(w, "event compute__do_build_and_run_instance done"), 1);
}

UNIT_TEST(each_step,
          "whichever step fails, nothing is left and the instance is in error without a host")
{
    static const char *const names[] = {
        "claim", "server group", "networking", "allocate ports", "info cache", "block devices",
        "spec",  "device names", "mapping",    "spawning",       "images",     "parts",
        "start", "resume",       "keep",       "active"};

    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        _cleanup_(str_freep) char *spec = text_format("operation.build.%s=error", names[i]);
        UNIT_OK(fault_arm(spec, &unit_err));
        build(false);
        if (w->agent.operations)
            plug();
        check_nothing_left();
        UNIT_EQ(world_count(w, "fault "), i + 1);
        UNIT_EQ(world_count(w, "instance saved on null: host=null node=null vm_state=\"error\" "
                               "task_state=null"),
                i + 1);
        UNIT_EQ(world_count(w, "allocation deleted"), i + 1);
        UNIT_EQ(world_count(w, "ports allocated"), world_count(w, "ports released"));
        fault_disarm_all();
    }
}

UNIT_TEST(each_call, "whichever call or job fails, nothing is left")
{
    static const char *const points[] = {"world.ports_allocate", "world.info_cache_save@1",
                                         "world.vif_create",     "world.block_device",
                                         "world.image_download", "journal.write"};

    for (size_t i = 0; i < ARRAY_LEN(points); i++) {
        const char *at = strchr(points[i], '@');
        _cleanup_(str_freep) char *name =
            text_dup_n(points[i], at ? (size_t)(at - points[i]) : strlen(points[i]));
        _cleanup_(str_freep) char *spec = text_format("%s=error%s", name, at ? at : "@1");
        UNIT_OK(fault_arm(spec, &unit_err));
        build(false);
        UNIT_EQ(world_count(w, "fault "), i + 1);
        check_nothing_left();
        fault_disarm_all();
    }
}

UNIT_TEST(plug_fails, "a port that cannot be plugged, a guest that does not start: nothing is left")
{
    virt_fake_fail(w->agent.virt, "create", ERR_VIRT, "no such machine", 1);
    build(false);
    check_nothing_left();
    UNIT_EQ(world_count(w, "fault no such machine"), 1);
    net_fake_fail(w->agent.net, "plug", 1, ERR_NET_PLUG, "no such bridge");
    build(false);
    check_nothing_left();
    UNIT_EQ(world_count(w, "fault port " PORT ": no such bridge"), 1);
}

UNIT_TEST(retry, "with retries the build goes back to the conductor with all its arguments")
{
    UNIT_OK(fault_arm("operation.build.start=error", &unit_err));
    build(true);
    check_nothing_left();
    UNIT_EQ(world_count(w, "instance saved on null: host=null node=null task_state=\"scheduling\""),
            1);
    UNIT_TRUE(world_place(w, "allocation deleted") < world_place(w, "reschedule: "));
    UNIT_EQ(world_count(w, "fault"), 0);
    static const char *const names[] = {"instances",       "image",          "filter_properties",
                                        "admin_password",  "injected_files", "requested_networks",
                                        "security_groups", "request_spec",   "host_lists"};
    UNIT_EQ(json_object_object_length(w->rescheduled), ARRAY_LEN(names));
    for (size_t i = 0; i < ARRAY_LEN(names); i++)
        UNIT_TRUE(json_has(w->rescheduled, names[i]));
    UNIT_EQ(json_object_array_length(json_get(w->rescheduled, "instances")), 1);
    /* nor is the action in error, which goes on */
    UNIT_EQ(world_count(w, "event compute__do_build_and_run_instance done"), 1);
    UNIT_TRUE(world_logged(w, "build failed here and goes on elsewhere"));
}

UNIT_TEST(retry_lost, "a build that the conductor cannot be given back is in error in its event")
{
    UNIT_OK(fault_arm("operation.build.start=error", &unit_err));
    UNIT_OK(fault_arm("world.reschedule=error", &unit_err));
    build(true);
    check_nothing_left();
    UNIT_EQ(world_count(w, "event compute__do_build_and_run_instance failed: "), 1);
}

/* A request as full as a user can make it. */
static struct json_object *full_args(void)
{
    static const char text[] =
        "[{\"nova_object.name\": \"Selection\", \"nova_object.data\": {\"service_host\": "
        "\"os-hostb\", \"allocation_request\": \"{}\", \"limits\": {\"memory_mb\": 4}}}]";
    struct json_object *args = build_args(true), *files = json_object_new_array();
    struct json_object *file = json_object_new_array(), *hosts = NULL;

    UNIT_OK(json_parse(text, strlen(text), &hosts, &unit_err));
    json_add(args, "host_list", hosts);
    json_object_array_add(file, json_object_new_string("/etc/motd"));
    json_object_array_add(file, json_object_new_string("aGVsbG8="));
    json_object_array_add(files, file);
    json_add(args, "injected_files", files);
    json_add_int(world_data(args, "instance"), "compute_id", 7);
    return args;
}

UNIT_TEST(request, "what goes back to the conductor is what came, and why it failed")
{
    static const char *const same[] = {"image",           "admin_password",     "injected_files",
                                       "security_groups", "requested_networks", "request_spec"};
    struct json_object *args = full_args();
    _cleanup_(json_putp) struct json_object *before = json_copy(args);

    UNIT_OK(fault_arm("operation.build.start=error", &unit_err));
    world_ask(w, RPC_METHOD_build_and_run_instance, args);
    for (int i = 0; i < 4; i++)
        world_settle(w);
    for (size_t i = 0; i < ARRAY_LEN(same); i++)
        unit_check(json_same(json_get(w->rescheduled, same[i]), json_get(before, same[i])),
                   __LINE__, __FILE__, "%s is another one", same[i]);
    struct json_object *lists = json_get(w->rescheduled, "host_lists");
    UNIT_EQ(json_object_array_length(lists), 1);
    UNIT_TRUE(json_same(json_object_array_get_idx(lists, 0), json_get(before, "host_list")));
    /* filter_properties: limits and hosts tried as they came, the reason beside them */
    struct json_object *retry = json_get(json_get(w->rescheduled, "filter_properties"), "retry");
    UNIT_EQ(json_object_array_length(json_get(retry, "exc")), 1);
    UNIT_HAS(json_get_string(retry, "exc_reason", ""), "operation.build.start");
    json_object_object_del(retry, "exc");
    json_object_object_del(retry, "exc_reason");
    UNIT_TRUE(json_same(json_get(w->rescheduled, "filter_properties"),
                        json_get(before, "filter_properties")));
    /* the instance belongs to nobody, and has nothing to be saved */
    struct json_object *instance =
        json_object_array_get_idx(json_get(w->rescheduled, "instances"), 0);
    static const char *const nulls[] = {"host", "node", "compute_id"};
    for (size_t i = 0; i < ARRAY_LEN(nulls); i++)
        UNIT_TRUE(json_has(world_data(instance, NULL), nulls[i]) &&
                  !json_get(world_data(instance, NULL), nulls[i]));
    UNIT_STR(json_get_string(world_data(instance, NULL), "task_state", ""), "scheduling");
    UNIT_STR(json_get_string(world_data(instance, NULL), "vm_state", ""), "building");
    struct json_object *changes = json_get(instance, "nova_object.changes");
    UNIT_EQ(changes ? json_object_array_length(changes) : 0, 0);
}

/* No file can grow beyond so much, as on a disk that is nearly full. */
static void limit_files(rlim_t bytes)
{
    struct rlimit limit;

    UNIT_EQ(getrlimit(RLIMIT_FSIZE, &limit), 0);
    limit.rlim_cur = bytes < limit.rlim_max ? bytes : limit.rlim_max;
    UNIT_TRUE(signal(SIGXFSZ, SIG_IGN) != SIG_ERR);
    UNIT_EQ(setrlimit(RLIMIT_FSIZE, &limit), 0);
}

UNIT_TEST(full_disk, "a disk of this host that takes no more sends the build to another one")
{
    limit_files(1 << 20); /* the guest's disk has a GiB */
    build(true);
    limit_files(RLIM_INFINITY);
    check_nothing_left();
    UNIT_EQ(world_count(w, "reschedule: "), 1);
    UNIT_EQ(world_count(w, "fault"), 0);
}

UNIT_TEST(bad_image, "an image that is none is not tried on another host")
{
    w->image_format = "qcow2"; /* its data are not */
    build(true);
    check_nothing_left();
    UNIT_EQ(world_count(w, "reschedule"), 0);
    UNIT_EQ(world_count(w, "fault "), 1);
}

UNIT_TEST(tried_elsewhere, "the mark of a nova-compute that tried the build before is taken away")
{
    struct json_object *args = build_args(true);

    json_add_bool(json_object_array_get_idx(w->network_info, 0), "active", true);
    json_add_string(json_get(world_data(args, "instance"), "system_metadata"), "network_allocated",
                    "False");
    world_ask(w, RPC_METHOD_build_and_run_instance, args);
    for (int i = 0; i < 4; i++)
        world_settle(w);
    size_t last = w->line_count - 2;
    UNIT_HAS(w->lines[last], "vm_state=\"active\"");
    UNIT_HAS(w->lines[last], "system_metadata=");
    UNIT_TRUE(strstr(w->lines[last], "network_allocated") == NULL);
}

/* A build whose request has that hint; list: as the request spec keeps it. */
static void build_in_group(bool in_spec)
{
    struct json_object *args = build_args(true), *list = json_object_new_array();
    struct json_object *hints = json_object_new_object();

    json_object_array_add(list, json_object_new_string("the-group"));
    json_add(hints, "group", in_spec ? list : json_object_new_string("the-group"));
    if (in_spec)
        json_add(world_data(args, "request_spec"), "scheduler_hints", hints);
    else
        json_add(json_get(args, "filter_properties"), "scheduler_hints", hints);
    if (!in_spec)
        json_object_put(list);
    world_ask(w, RPC_METHOD_build_and_run_instance, args);
    for (int i = 0; i < 4; i++)
        world_settle(w);
}

UNIT_TEST(server_group, "the server group is looked at when the host is saved, before all else")
{
    build_in_group(true);
    UNIT_EQ(world_count(w, "server group the-group looked at"), 1);
    UNIT_TRUE(world_place(w, "instance saved on os-hosta: host=") <
              world_place(w, "server group the-group"));
    UNIT_TRUE(world_place(w, "server group the-group") < world_place(w, "ports allocated"));
    UNIT_EQ(virt_fake_state(w->agent.virt, INSTANCE), VIRT_STATE_PAUSED);
}

UNIT_TEST(no_group, "an instance without the hint of a group is not looked at")
{
    build(true);
    UNIT_EQ(world_count(w, "server group"), 0);
    UNIT_EQ(virt_fake_state(w->agent.virt, INSTANCE), VIRT_STATE_PAUSED);
}

UNIT_TEST(group_refuses,
          "an instance that its server group does not permit here goes to another host")
{
    UNIT_OK(fault_arm("world.server_group_check=error", &unit_err));
    build_in_group(false);
    check_nothing_left();
    UNIT_EQ(world_count(w, "instance saved on null: host=null node=null task_state=\"scheduling\""),
            1);
    UNIT_EQ(world_count(w, "reschedule: "), 1);
    UNIT_EQ(world_count(w, "ports allocated"), 0);
    UNIT_EQ(world_count(w, "fault"), 0);
}

UNIT_TEST(network_is_final, "networks that cannot be had are not tried on another host")
{
    UNIT_OK(fault_arm("world.ports_allocate=error", &unit_err));
    build(true);
    UNIT_EQ(world_count(w, "reschedule"), 0);
    UNIT_EQ(world_count(w, "fault "), 1);
}

UNIT_TEST(late_port, "a port that is not wired in time ends the build, on this host and others")
{
    build(true);
    world_pass(w, INT64_C(301000000), INT64_C(301000000));
    world_settle(w);
    check_nothing_left();
    UNIT_EQ(world_count(w, "reschedule"), 0);
    UNIT_EQ(world_count(w, "fault build of instance " INSTANCE ": the event did not come"), 1);
}

UNIT_TEST(volume, "an instance that boots from a volume is refused in one sentence")
{
    struct json_object *args = build_args(false);
    struct json_object *list = world_data(args, "block_device_mapping");
    struct json_object *device = json_object_array_get_idx(json_get(list, "objects"), 0);

    json_add_string(world_data(device, NULL), "destination_type", "volume");
    world_ask(w, RPC_METHOD_build_and_run_instance, args);
    world_settle(w);
    world_settle(w);
    check_nothing_left();
    UNIT_EQ(world_count(w, "fault a block device of instance " INSTANCE), 1);
}

/* ---- deletion ---- */

static void terminate(void)
{
    struct json_object *args = world_boot_args("089");

    world_ask(w, RPC_METHOD_terminate_instance, args);
    for (int i = 0; i < 4; i++)
        world_settle(w);
}

UNIT_TEST(deleted,
          "a deletion takes the guest, its ports, files, allocation and record away, in order")
{
    static const char *const lines[] = {
        "event compute_terminate_instance",
        "ports released",
        "vifs deleted",
        "info cache of 0",
        "instance saved on os-hosta: vm_state=\"deleted\" task_state=null power_state=0",
        "allocation deleted",
        "instance destroyed",
        "event compute_terminate_instance done",
        NULL};

    build(true);
    plug();
    terminate();
    world_in_order(w, lines);
    check_nothing_left();
}

UNIT_TEST(deleted_in_build, "a deletion in the middle of a build ends it, and nothing is left")
{
    build(true);
    UNIT_EQ(virt_fake_state(w->agent.virt, INSTANCE), VIRT_STATE_PAUSED);
    terminate();
    check_nothing_left();
    UNIT_EQ(world_count(w, "event compute__do_build_and_run_instance failed"), 1);
    UNIT_EQ(world_count(w, "instance destroyed"), 1);
    UNIT_EQ(world_count(w, "fault"), 0);
    UNIT_EQ(world_count(w, "reschedule"), 0);
}

UNIT_TEST(deletion_fails, "a deletion that fails leaves the instance in error, to be deleted again")
{
    build(true);
    plug();
    UNIT_OK(fault_arm("world.allocations_delete=error", &unit_err));
    terminate();
    UNIT_EQ(world_count(w, "instance saved on os-hosta: vm_state=\"error\""), 1);
    UNIT_EQ(world_count(w, "instance destroyed"), 0);
    fault_disarm_all();
    terminate();
    UNIT_EQ(world_count(w, "instance destroyed"), 1);
}

UNIT_TEST(deleted_in_migration,
          "a deletion aborts a live migration first, and deletes when that has ended")
{
    struct json_object *args = json_object_new_object();
    _cleanup_(json_putp) struct json_object *recorded = world_args("030");

    world_add_guest(w, VIRT_STATE_RUNNING);
    world_begin_source(w);
    world_run_source(w);
    json_add(args, "instance", json_object_get(json_get(recorded, "instance")));
    json_add(args, "bdms", NULL);
    world_ask(w, RPC_METHOD_terminate_instance, args);
    /* libvirt's call ends on a thread of its own */
    WORLD_UNTIL(w, world_count(w, "cast rollback_live_migration_at_destination") == 1);
    world_pass(w, 2000000, 200000);
    UNIT_EQ(world_count(w, "cast rollback_live_migration_at_destination"), 1);
    UNIT_EQ(world_count(w, "instance destroyed"), 0);
    fake_rpc_answer(
        fake_rpc_waiting(w->agent.rpc, RPC_METHOD_rollback_live_migration_at_destination), NULL);
    world_pass(w, 2000000, 200000);
    UNIT_TRUE(world_place(w, "status source cancelled") < world_place(w, "instance destroyed"));
    UNIT_EQ(virt_fake_state(w->agent.virt, WORLD_INSTANCE), VIRT_STATE_NONE);
    UNIT_TRUE(world_migration(w, MIGRATION_SOURCE) == NULL);
}

/* ---- the next start ---- */

UNIT_TEST(crash, "what a build had made when the agent died is taken back at the next start")
{
    build(true);
    UNIT_EQ(virt_fake_state(w->agent.virt, INSTANCE), VIRT_STATE_PAUSED);
    UNIT_TRUE(world_has_file(w, INSTANCE));
    world_restart(w);
    world_settle(w);
    check_nothing_left();
}

static struct instance *instance_left(const char *vm_state, const char *task_state)
{
    _cleanup_(json_putp) struct json_object *args = build_args(true);
    struct instance *instance = NULL;

    json_add_string(world_data(args, "instance"), "vm_state", vm_state);
    json_add_string(world_data(args, "instance"), "task_state", task_state);
    json_add_string(world_data(args, "instance"), "host", "os-hosta");
    UNIT_OK(instance_from_json(json_get(args, "instance"), &instance, &unit_err));
    object_clear_changes(instance->object);
    return instance;
}

UNIT_TEST(recovered,
          "an instance that was being built is in error after a restart, a deletion goes on")
{
    _cleanup_(instance_freep) struct instance *built = instance_left("building", "spawning");
    _cleanup_(instance_freep) struct instance *deleted = instance_left("active", "deleting");
    _cleanup_(instance_freep) struct instance *stopped = instance_left("stopped", NULL);

    UNIT_TRUE(!instance_recover(&w->agent, stopped));
    UNIT_TRUE(instance_recover(&w->agent, built));
    world_settle(w);
    UNIT_EQ(world_count(w, "instance saved on os-hosta: vm_state=\"error\" task_state=null"), 1);
    UNIT_TRUE(instance_recover(&w->agent, deleted));
    world_settle(w);
    world_settle(w);
    UNIT_EQ(world_count(w, "instance destroyed"), 1);
}
