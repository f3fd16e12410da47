/* SPDX-License-Identifier: Apache-2.0 */
/* The host under a control plane that knows nodes: start, audits, claims, leaks, the service's state. */
#include "agent/node.h"

#include "agent/power_sync.h"
#include "cloud/cloud_provider.h"
#include "lib/clock.h"
#include "lib/json.h"
#include "tests/unit/agent_world.h"

#define LEAKED "22222222-3333-4444-8555-666666666666"

static struct world *w;
static struct cloud_ops ops;
static struct json_object *instances, *allocations, *migration, *gone;
static struct cloud_node_facts facts; /* of the last start or update */
static unsigned starts, updates, lists;
static bool faulty;
static enum err_code start_fails, list_fails;
static char acts[512];

static void node_start(struct cloud *cloud, const struct cloud_node_facts *f, cloud_done_fn done,
                       void *aux)
{
    struct err e = ERR_INIT;

    (void)cloud;
    starts++;
    facts = *f;
    if (start_fails)
        err_set(&e, start_fails, "this node is another's");
    done(aux, start_fails ? &e : NULL);
}

static void node_update(struct cloud *cloud, const struct cloud_node_facts *f, cloud_done_fn done,
                        void *aux)
{
    (void)cloud;
    updates++;
    facts = *f;
    done(aux, NULL);
}

static int64_t node_id(const struct cloud *cloud)
{
    (void)cloud;
    return 7;
}

static void list(struct cloud *cloud, cloud_result_fn done, void *aux)
{
    struct err e = ERR_INIT;

    (void)cloud;
    lists++;
    if (list_fails)
        err_set(&e, list_fails, "no conductor");
    done(aux, list_fails ? NULL : instances, list_fails ? &e : NULL);
}

static void here(struct cloud *cloud, cloud_result_fn done, void *aux)
{
    (void)cloud;
    done(aux, allocations, NULL);
}

static void act(const char *what, const char *who)
{
    size_t length = strlen(acts);

    snprintf(acts + length, sizeof(acts) - length, "%s %.8s; ", what, who);
}

static void migration_get(struct cloud *cloud, struct json_object *context, const char *uuid,
                          cloud_result_fn done, void *aux)
{
    struct err e = ERR_INIT;

    (void)cloud;
    (void)context;
    (void)uuid;
    if (migration) {
        done(aux, migration, NULL);
    } else {
        err_set(&e, ERR_NO_MIGRATION, "no such migration");
        done(aux, NULL, &e);
    }
}

static void set_fault(struct cloud *cloud, const char *reason, cloud_done_fn done, void *aux)
{
    (void)cloud;
    if (reason || faulty) /* at the start it is told that all is well */
        act(reason ? "fault" : "works", reason ? reason : "-");
    faulty = reason != NULL;
    done(aux, NULL);
}

static void get(struct cloud *cloud, struct json_object *context, const char *uuid,
                cloud_result_fn done, void *aux)
{
    struct err e = ERR_INIT;

    (void)cloud;
    if (gone && text_equal(json_get_string(context, "read_deleted", ""), "yes")) {
        done(aux, gone, NULL);
        return;
    }
    err_set(&e, ERR_NO_INSTANCE, "no instance %s", uuid);
    done(aux, NULL, &e);
}

static void allocations_delete(struct cloud *cloud, struct json_object *context, const char *uuid,
                               cloud_done_fn done, void *aux)
{
    (void)cloud;
    (void)context;
    act("delete", uuid);
    done(aux, NULL);
}

static struct json_object *recorded_instance(void)
{
    _cleanup_(json_putp) struct json_object *args = world_args("030");
    struct json_object *instance = json_copy(json_get(args, "instance"));

    json_add(json_get(instance, "nova_object.data"), "task_state", NULL);
    return instance;
}

static void setup(void)
{
    w = world_open(NULL);
    ops = *w->agent.cloud->ops;
    ops.node_start = node_start;
    ops.node_update = node_update;
    ops.node_id = node_id;
    ops.instances = list;
    ops.instance_get = get;
    ops.allocations_here = here;
    ops.allocations_delete = allocations_delete;
    ops.migration_get = migration_get;
    ops.node_set_fault = set_fault;
    w->agent.cloud->ops = &ops;
    instances = json_object_new_array();
    allocations = json_object_new_object();
    migration = gone = NULL;
    starts = updates = lists = 0;
    faulty = false;
    start_fails = list_fails = ERR_NONE;
    acts[0] = '\0';
}

static void teardown(void)
{
    w->agent.closing = true;
    world_settle(w);
    power_sync_close(&w->agent);
    node_close(&w->agent);
    world_close(w);
    json_object_put(instances);
    json_object_put(allocations);
    json_object_put(migration);
    json_object_put(gone);
    w = NULL;
}

UNIT_FIXTURE(setup, teardown)

static void begin(void)
{
    node_open(&w->agent);
    world_settle(w);
}

static void one_instance(void)
{
    json_object_array_add(instances, recorded_instance());
}

static struct json_object *flavor(void)
{
    struct json_object *i = json_get(json_object_array_get_idx(instances, 0), "nova_object.data");

    return json_get(json_get(i, "flavor"), "nova_object.data");
}

/* ---- start ---- */

UNIT_TEST(registers,
          "the host is registered with what the hypervisor has, then its instances counted")
{
    one_instance();
    begin();
    UNIT_TRUE(node_is_ready(&w->agent));
    UNIT_EQ(starts, 1);
    UNIT_EQ(updates, 1);
    UNIT_EQ(facts.running_vms, 1);
    UNIT_EQ(facts.vcpus_used, json_get_int(flavor(), "vcpus", -1));
    UNIT_EQ(facts.memory_mb_used, 512 + json_get_int(flavor(), "memory_mb", -1));
    UNIT_EQ(facts.local_gb_used, json_get_int(flavor(), "root_gb", -1));
    UNIT_EQ(facts.free_disk_gb, facts.local_gb - facts.local_gb_used);
}

/* ---- what the scheduler weighs ---- */

static struct json_object *set_states(const char *vm_state, const char *task_state)
{
    struct json_object *data =
        json_get(json_object_array_get_idx(instances, 0), "nova_object.data");

    json_add_string(data, "vm_state", vm_state);
    json_add_string(data, "task_state", task_state);
    json_add_string(data, "project_id", "p");
    json_add_string(data, "os_type", NULL);
    return data;
}

static int64_t stat_of(const char *name)
{
    return json_get_int(facts.stats, name, -1);
}

UNIT_TEST(stats, "instances are counted by state, task, kind and project, as nova-compute does it")
{
    one_instance();
    (void)set_states("building", NULL);
    begin();
    UNIT_EQ(stat_of("num_vm_building"), 1);
    UNIT_EQ(stat_of("num_task_None"), 1);
    UNIT_EQ(stat_of("num_os_type_None"), 1);
    UNIT_EQ(stat_of("num_proj_p"), 1);
    UNIT_EQ(stat_of("io_workload"), 1);
    UNIT_EQ(facts.current_workload, 0);
    (void)set_states("active", "image_snapshot");
    node_changed(&w->agent);
    world_pass(w, USEC_PER_SEC, USEC_PER_SEC / 4);
    UNIT_EQ(stat_of("num_vm_building"), -1);
    UNIT_EQ(stat_of("num_vm_active"), 1);
    UNIT_EQ(stat_of("io_workload"), 1);
    UNIT_EQ(facts.current_workload, 1);
    (void)set_states("shelved_offloaded", NULL);
    node_changed(&w->agent);
    world_pass(w, USEC_PER_SEC, USEC_PER_SEC / 4);
    UNIT_EQ(json_object_object_length(facts.stats), 2);
    UNIT_EQ(stat_of("io_workload"), 0);
}

UNIT_TEST(failed_builds, "failed builds are counted until one succeeds")
{
    begin();
    UNIT_EQ(stat_of("failed_builds"), 0);
    node_build_ended(&w->agent, false);
    node_build_ended(&w->agent, false);
    world_pass(w, USEC_PER_SEC, USEC_PER_SEC / 4);
    UNIT_EQ(stat_of("failed_builds"), 2);
    node_build_ended(&w->agent, true);
    world_pass(w, USEC_PER_SEC, USEC_PER_SEC / 4);
    UNIT_EQ(stat_of("failed_builds"), 0);
}

UNIT_TEST(requests_wait, "requests are held until the host is registered")
{
    list_fails = ERR_UNREACHABLE;
    begin();
    struct json_object *args = json_object_new_object();
    json_add_bool(args, "enabled", true);
    const struct fake_asked *asked = world_ask(w, RPC_METHOD_set_host_enabled, args);
    world_settle(w);
    UNIT_EQ(asked->end, FAKE_OPEN);
    UNIT_TRUE(!node_is_ready(&w->agent));
    list_fails = ERR_NONE;
    world_pass(w, 2 * USEC_PER_SEC, 500000);
    UNIT_EQ(asked->end, FAKE_REPLIED);
    UNIT_STR(json_object_get_string(asked->result), "enabled");
    UNIT_EQ(starts, 1);
}

UNIT_TEST(hypervisor_away, "without libvirt the start goes on when it is back")
{
    virt_fake_set_up(w->agent.virt, false, "not there");
    begin();
    world_pass(w, 5 * USEC_PER_SEC, USEC_PER_SEC);
    UNIT_EQ(starts, 0);
    virt_fake_set_up(w->agent.virt, true, "");
    world_pass(w, 2 * USEC_PER_SEC, 100000);
    UNIT_TRUE(node_is_ready(&w->agent));
}

UNIT_TEST(fatal, "what no patience cures ends the agent with the control plane's words")
{
    start_fails = ERR_CONFIG;
    begin();
    UNIT_EQ(w->agent.fatal.code, ERR_CONFIG);
    UNIT_HAS(w->agent.fatal.text, "this node is another's");
    world_pass(w, 60 * USEC_PER_SEC, 20 * USEC_PER_SEC);
    UNIT_EQ(starts, 1);
}

UNIT_TEST(conductor_away, "without a conductor registering is tried again")
{
    start_fails = ERR_UNREACHABLE;
    begin();
    world_pass(w, 4 * USEC_PER_SEC, 500000);
    UNIT_TRUE(starts > 1);
    start_fails = ERR_NONE;
    world_pass(w, 20 * USEC_PER_SEC, USEC_PER_SEC);
    UNIT_TRUE(node_is_ready(&w->agent));
}

/* ---- its name ---- */

UNIT_TEST(arrived, "a guest that came here is saved on this node, whatever the service's host is")
{
    begin();
    world_prepare_destination(w);
    world_add_guest(w, VIRT_STATE_RUNNING);
    virt_fake_event(w->agent.virt, WORLD_INSTANCE, VIRT_EVENT_RESUMED_MIGRATION);
    world_settle(w);
    world_ask(w, RPC_METHOD_post_live_migration_at_destination, world_args("099"));
    world_settle(w);
    UNIT_EQ(world_count(w, "instance saved on os-hosta: host=\"os-hosta\" node=\"fake\" "
                           "compute_id=7 power_state=1, expecting migrating"),
            1);
}

/* ---- figures ---- */

UNIT_TEST(unchanged_figures,
          "figures that did not change are not written at each audit, but in time")
{
    begin();
    world_pass(w, 240 * USEC_PER_SEC, 60 * USEC_PER_SEC);
    UNIT_EQ(updates, 1);
    UNIT_TRUE(lists >= 4);
    world_pass(w, 120 * USEC_PER_SEC, 60 * USEC_PER_SEC);
    UNIT_EQ(updates, 2);
}

UNIT_TEST(claims, "a claim counts until the control plane lists the instance, and once at most")
{
    _cleanup_(instance_freep) struct instance *instance = NULL;
    _cleanup_(json_putp) struct json_object *primitive = recorded_instance();

    UNIT_OK(instance_from_json(primitive, &instance, &unit_err));
    begin();
    UNIT_EQ(facts.running_vms, 0);
    UNIT_OK(node_claim(&w->agent, instance, &unit_err));
    world_pass(w, USEC_PER_SEC, 100000);
    UNIT_EQ(facts.running_vms, 1);
    one_instance();
    node_changed(&w->agent);
    world_pass(w, USEC_PER_SEC, 100000);
    UNIT_EQ(facts.running_vms, 1);
    node_unclaim(&w->agent, instance_uuid(instance));
    world_pass(w, USEC_PER_SEC, 100000);
    UNIT_EQ(facts.running_vms, 1);
}

UNIT_TEST(claim_refused, "a claim for NUMA placement is refused with Nova's exception")
{
    _cleanup_(instance_freep) struct instance *instance = NULL;
    _cleanup_(json_putp) struct json_object *primitive = recorded_instance();

    UNIT_OK(instance_from_json(primitive, &instance, &unit_err));
    UNIT_OK(node_claim(&w->agent, instance, &unit_err)); /* without a node nothing is claimed */
    begin();
    instance_set_numa_topology(instance, json_object_new_object());
    UNIT_FAILS(node_claim(&w->agent, instance, &unit_err), ERR_NO_SPACE);
    UNIT_STR(err_wire_class(&unit_err), "ComputeResourcesUnavailable");
}

UNIT_TEST(volume_backed, "an instance on a volume takes no disk of the host for its root")
{
    one_instance();
    json_add_string(json_get(json_object_array_get_idx(instances, 0), "nova_object.data"),
                    "image_ref", "");
    begin();
    UNIT_EQ(facts.local_gb_used, json_get_int(flavor(), "ephemeral_gb", -1));
}

/* ---- leaks ---- */

static void leak(const char *consumer)
{
    struct json_object *amounts = json_object_new_object();

    json_add_int(amounts, "VCPU", 1);
    json_add(allocations, consumer, amounts);
}

static struct json_object *leaks(void)
{
    static struct json_object *status;

    json_object_put(status);
    status = node_status(&w->agent);
    return json_get(status, "leaks");
}

UNIT_TEST(deleted_instance, "an allocation of a deleted instance goes when it is seen twice")
{
    gone = recorded_instance();
    json_add_bool(json_get(gone, "nova_object.data"), "deleted", true);
    leak(LEAKED);
    begin();
    UNIT_STR(acts, "");
    world_pass(w, 61 * USEC_PER_SEC, 61 * USEC_PER_SEC);
    world_settle(w);
    UNIT_STR(acts, "delete 22222222; ");
    UNIT_EQ(json_object_array_length(leaks()), 1);
}

UNIT_TEST(own_instance, "allocations of instances of this host are no leaks")
{
    one_instance();
    leak(WORLD_INSTANCE);
    begin();
    world_pass(w, 130 * USEC_PER_SEC, 61 * USEC_PER_SEC);
    UNIT_STR(acts, "");
    UNIT_EQ(json_object_array_length(leaks()), 0);
}

static struct json_object *migration_record(const char *status)
{
    _cleanup_(json_putp) struct json_object *args = world_args("030");
    struct json_object *m = json_copy(json_get(args, "migration"));

    json_add_string(json_get(m, "nova_object.data"), "status", status);
    return m;
}

UNIT_TEST(ended_migration, "what a migration left that ended goes back to the instance that stayed")
{
    one_instance();
    migration = migration_record("failed");
    leak(LEAKED);
    begin();
    world_pass(w, 61 * USEC_PER_SEC, 61 * USEC_PER_SEC);
    world_settle(w);
    UNIT_EQ(world_count(w, "allocations revert"), 1);
}

UNIT_TEST(moved_away, "what a migration left that completed goes away")
{
    migration = migration_record("completed");
    leak(LEAKED);
    begin();
    world_pass(w, 61 * USEC_PER_SEC, 61 * USEC_PER_SEC);
    world_settle(w);
    UNIT_EQ(world_count(w, "allocations drop"), 1);
}

UNIT_TEST(running_migration, "the allocation of a migration that goes on stays")
{
    migration = migration_record("running");
    leak(LEAKED);
    begin();
    world_pass(w, 130 * USEC_PER_SEC, 61 * USEC_PER_SEC);
    UNIT_EQ(world_count(w, "allocations "), 0);
    UNIT_EQ(json_object_array_length(leaks()), 0);
}

UNIT_TEST(stranger, "a consumer that nobody knows is reported and left alone")
{
    leak(LEAKED);
    begin();
    world_pass(w, 61 * USEC_PER_SEC, 61 * USEC_PER_SEC);
    world_settle(w);
    UNIT_STR(acts, "");
    UNIT_EQ(json_object_array_length(leaks()), 1);
}

/* ---- the service's state ---- */

UNIT_TEST(libvirt_lost, "a lost libvirt is told to Nova, its return too")
{
    begin();
    virt_fake_set_up(w->agent.virt, false, "end of file");
    world_settle(w);
    UNIT_STR(acts, "fault Connecti; ");
    virt_fake_set_up(w->agent.virt, true, "");
    world_settle(w);
    UNIT_STR(acts, "fault Connecti; works -; ");
}
