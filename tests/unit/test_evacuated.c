/* SPDX-License-Identifier: Apache-2.0 */
/* A host that comes back: guests that were evacuated from it, and domains that are not its own. */
#include "agent/evacuation.h"
#include "agent/node.h"
#include "agent/operation.h"
#include "agent/power_sync.h"
#include "cloud/cloud_provider.h"
#include "lib/clock.h"
#include "lib/fault.h"
#include "lib/json.h"
#include "tests/unit/agent_world.h"

#define SECOND "22222222-3333-4444-8555-666666666666"
#define BEGAN  "2026-11-21T21:00:00Z"

static struct world *w;
static struct cloud_ops ops;
static struct json_object *listed, *records, *rows; /* rows: {uuid: Instance primitive} */
static enum err_code records_fail, get_fails;
static char acts[512];

static void act(const char *what, const char *who)
{
    size_t length = strlen(acts);

    snprintf(acts + length, sizeof(acts) - length, "%s %.8s; ", what, who);
}

static void done_at_once(struct cloud *cloud, const struct cloud_node_facts *f, cloud_done_fn done,
                         void *aux)
{
    (void)cloud;
    (void)f;
    done(aux, NULL);
}

static void list(struct cloud *cloud, cloud_result_fn done, void *aux)
{
    (void)cloud;
    done(aux, listed, NULL);
}

static void evacuations(struct cloud *cloud, struct json_object *context, cloud_result_fn done,
                        void *aux)
{
    struct err e = ERR_INIT;

    (void)cloud;
    UNIT_STR(json_get_string(context, "read_deleted", ""), "yes");
    if (records_fail)
        err_set(&e, records_fail, "no conductor");
    done(aux, records_fail ? NULL : records, records_fail ? &e : NULL);
}

static void get(struct cloud *cloud, struct json_object *context, const char *uuid,
                cloud_result_fn done, void *aux)
{
    struct err e = ERR_INIT;

    (void)cloud;
    (void)context;
    if (get_fails)
        err_set(&e, get_fails, "no conductor");
    else if (!json_has(rows, uuid))
        err_set(&e, ERR_NO_INSTANCE, "no instance %s", uuid);
    else {
        done(aux, json_get(rows, uuid), NULL);
        return;
    }
    done(aux, NULL, &e);
}

static void save(struct cloud *cloud, struct json_object *context, struct migration_record *record,
                 const char *role, struct json_object *details, cloud_done_fn done, void *aux)
{
    struct err e = ERR_INIT;

    (void)cloud;
    (void)context;
    (void)details;
    if (text_equal(role, "source") && fault_point("world.migration_save", &e) == 0 &&
        UNIT_TRUE(object_changed(record->object, "status")))
        act(migration_record_status(record), migration_record_instance_uuid(record));
    done(aux, err_is_set(&e) ? &e : NULL);
}

static void leave(struct cloud *cloud, struct json_object *context, const char *uuid,
                  cloud_done_fn done, void *aux)
{
    (void)cloud;
    (void)context;
    act("leave", uuid);
    done(aux, NULL);
}

static void here(struct cloud *cloud, cloud_result_fn done, void *aux)
{
    _cleanup_(json_putp) struct json_object *none = json_object_new_object();

    (void)cloud;
    done(aux, none, NULL);
}

static void setup(void)
{
    static const struct world_options options = {
        .settings = {"DEFAULT.resume_guests_state_on_host_boot", "true", NULL}};

    w = world_open(&options);
    ops = *w->agent.cloud->ops;
    ops.node_start = ops.node_update = done_at_once;
    ops.instances = list;
    ops.instance_get = get;
    ops.node_evacuations = evacuations;
    ops.migration_save = save;
    ops.allocations_leave = leave;
    ops.allocations_here = here;
    w->agent.cloud->ops = &ops;
    listed = json_object_new_array();
    records = json_object_new_array();
    rows = json_object_new_object();
    records_fail = get_fails = ERR_NONE;
    acts[0] = '\0';
}

static void teardown(void)
{
    w->agent.closing = true;
    world_settle(w);
    power_sync_close(&w->agent);
    node_close(&w->agent);
    world_close(w);
    json_object_put(listed);
    json_object_put(records);
    json_object_put(rows);
    w = NULL;
}

UNIT_FIXTURE(setup, teardown)

/* ---- scenes ---- */

/* As the database has it; NULL = task_state none, no host. Borrowed. */
static struct json_object *row(const char *uuid, const char *host, const char *task_state)
{
    _cleanup_(json_putp) struct json_object *args = world_args("030");
    struct json_object *instance = json_copy(json_get(args, "instance"));
    struct json_object *data = json_get(instance, "nova_object.data");

    json_add_string(data, "uuid", uuid);
    json_add_string(data, "host", host);
    json_add_string(data, "task_state", task_state);
    json_add(rows, uuid, instance);
    return data;
}

static void record(const char *uuid, const char *status)
{
    _cleanup_(json_putp) struct json_object *args = world_args("030");
    struct json_object *m = json_copy(json_get(args, "migration"));
    struct json_object *data = json_get(m, "nova_object.data");

    json_add_string(data, "instance_uuid", uuid);
    json_add_string(data, "status", status);
    json_add_string(data, "migration_type", "evacuation");
    json_add_string(data, "created_at", BEGAN);
    json_object_array_add(records, m);
}

static void evacuated_to(const char *host)
{
    (void)row(WORLD_INSTANCE, host, NULL);
    record(WORLD_INSTANCE, "done");
}

/* Nova lists it here, and it ran when the host died. */
static void was_running_here(void)
{
    json_object_array_add(listed, json_object_get(json_get(rows, WORLD_INSTANCE)));
}

static void begin(void)
{
    node_open(&w->agent);
    for (int i = 0; i < 5; i++)
        world_settle(w);
}

static struct fake_call *question(void)
{
    WORLD_UNTIL(w, fake_rpc_waiting(w->agent.rpc, RPC_METHOD_check_instance_shared_storage));
    return fake_rpc_waiting(w->agent.rpc, RPC_METHOD_check_instance_shared_storage);
}

static void answer(bool shared)
{
    fake_rpc_answer(question(), json_object_new_boolean(shared));
    for (int i = 0; i < 5; i++)
        world_settle(w);
}

/* The repair of the start wants to boot it (this world has no disks to boot from). */
static bool is_started(void)
{
    return world_logged(w, "it is put in order");
}

static struct json_object *left(void)
{
    static struct json_object *status;

    json_object_put(status);
    status = node_status(&w->agent);
    return json_get(status, "evacuated");
}

/* ---- evacuated ---- */

UNIT_TEST(destroyed,
          "an evacuated guest that runs here is destroyed with its disks, and its record completed")
{
    world_add_guest(w, VIRT_STATE_RUNNING);
    world_add_file(w, "disk");
    evacuated_to("os-hostb");
    begin();
    struct fake_call *call = question();
    UNIT_STR(call->server, "os-hostb");
    UNIT_EQ(virt_fake_state(w->agent.virt, WORLD_INSTANCE), VIRT_STATE_NONE);
    answer(false);
    UNIT_TRUE(!world_has_file(w, WORLD_INSTANCE));
    UNIT_STR(acts, "leave fa70925f; completed fa70925f; ");
    UNIT_TRUE(node_is_ready(&w->agent));
    UNIT_TRUE(!is_started());
    UNIT_EQ(world_count(w, "ports released"), 0);
    UNIT_EQ(world_count(w, "instance saved"), 0);
    UNIT_EQ(json_object_array_length(left()), 0);
}

UNIT_TEST(unplugged, "its ports are taken away here and stay as they are in the network service")
{
    _cleanup_(str_freep) char *calls = NULL;

    world_add_guest(w, VIRT_STATE_SHUTOFF);
    evacuated_to("os-hostb");
    begin();
    calls = net_fake_calls(w->agent.net);
    UNIT_HAS(calls, "unplug " WORLD_TAP);
    UNIT_EQ(world_count(w, "ports "), 0);
    UNIT_EQ(world_count(w, "bindings "), 0);
    UNIT_STR(acts, "leave fa70925f; completed fa70925f; ");
}

UNIT_TEST(probe, "the other host is shown a file in the instance's directory, as Nova shows it")
{
    world_add_file(w, "disk");
    evacuated_to("os-hostb");
    begin();
    const char *path =
        json_get_string(json_get(question()->args, "data"), "filename", "no file named");
    _cleanup_(str_freep) char *beginning = text_format("%s/" WORLD_INSTANCE "/tmp", w->instances);
    UNIT_HAS(path, beginning);
    UNIT_TRUE(world_has_file(w, path + strlen(w->instances) + 1));
    answer(false);
}

UNIT_TEST(shared, "on shared storage the disks stay, and nothing else does")
{
    world_add_guest(w, VIRT_STATE_SHUTOFF);
    world_add_file(w, "disk");
    evacuated_to("os-hostb");
    begin();
    _cleanup_(str_freep) char *probe =
        text_dup(json_get_string(json_get(question()->args, "data"), "filename", ""));
    answer(true);
    UNIT_TRUE(world_has_file(w, WORLD_INSTANCE "/disk"));
    UNIT_TRUE(!world_has_file(w, probe + strlen(w->instances) + 1));
    UNIT_EQ(virt_fake_state(w->agent.virt, WORLD_INSTANCE), VIRT_STATE_NONE);
    UNIT_STR(acts, "leave fa70925f; completed fa70925f; ");
}

UNIT_TEST(no_domain, "of a guest without a domain and files only allocation and record go")
{
    evacuated_to("os-hostb");
    begin();
    UNIT_STR(acts, "leave fa70925f; completed fa70925f; ");
    UNIT_EQ(virt_fake_count(w->agent.virt, "destroy"), 0);
    UNIT_EQ(fake_rpc_count(w->agent.rpc, RPC_METHOD_check_instance_shared_storage), 0);
    _cleanup_(str_freep) char *calls = net_fake_calls(w->agent.net);
    UNIT_STR(calls, "");
}

UNIT_TEST(files_alone, "files that an earlier try left without a domain go")
{
    world_add_file(w, "disk");
    evacuated_to("os-hostb");
    begin();
    answer(false);
    UNIT_TRUE(!world_has_file(w, WORLD_INSTANCE));
}

UNIT_TEST(deleted_since, "of a guest that was evacuated and then deleted nobody is asked anything")
{
    world_add_guest(w, VIRT_STATE_SHUTOFF);
    world_add_file(w, "disk");
    evacuated_to("os-hostb");
    json_add_bool(world_data(rows, WORLD_INSTANCE), "deleted", true);
    begin();
    UNIT_EQ(virt_fake_state(w->agent.virt, WORLD_INSTANCE), VIRT_STATE_NONE);
    UNIT_TRUE(!world_has_file(w, WORLD_INSTANCE));
    UNIT_STR(acts, "completed fa70925f; ");
}

UNIT_TEST(row_gone, "the same holds when the instance's row is gone altogether")
{
    world_add_guest(w, VIRT_STATE_RUNNING);
    record(WORLD_INSTANCE, "done");
    begin();
    UNIT_EQ(virt_fake_state(w->agent.virt, WORLD_INSTANCE), VIRT_STATE_NONE);
    UNIT_STR(acts, "completed fa70925f; ");
}

/* ---- not started ---- */

UNIT_TEST(not_started, "a guest that Nova listed here is not started once it is seen elsewhere")
{
    (void)row(WORLD_INSTANCE, "os-hosta", NULL);
    was_running_here();
    world_add_guest(w, VIRT_STATE_SHUTOFF);
    evacuated_to("os-hostb");
    begin();
    UNIT_TRUE(!is_started());
    UNIT_EQ(virt_fake_state(w->agent.virt, WORLD_INSTANCE), VIRT_STATE_NONE);
}

UNIT_TEST(others_start, "a guest that was not evacuated is started again as ever")
{
    (void)row(WORLD_INSTANCE, "os-hosta", NULL);
    was_running_here();
    world_add_guest(w, VIRT_STATE_SHUTOFF);
    (void)row(SECOND, "os-hostb", NULL);
    record(SECOND, "done");
    begin();
    UNIT_TRUE(is_started());
    UNIT_STR(acts, "leave 22222222; completed 22222222; ");
}

/* ---- in the middle ---- */

static void check_left_alone(void)
{
    UNIT_TRUE(!is_started());
    UNIT_EQ(virt_fake_count(w->agent.virt, "destroy"), 0);
    UNIT_EQ(virt_fake_state(w->agent.virt, WORLD_INSTANCE), VIRT_STATE_SHUTOFF);
    UNIT_TRUE(world_has_file(w, WORLD_INSTANCE "/disk"));
    UNIT_STR(acts, "");
    UNIT_EQ(world_count(w, "instance saved"), 0);
    UNIT_TRUE(node_is_ready(&w->agent));
    UNIT_EQ(json_object_array_length(left()), 1);
}

UNIT_TEST(in_the_middle,
          "a guest whose evacuation is under way is left as it is, and neither started nor failed")
{
    (void)row(WORLD_INSTANCE, "os-hosta", "rebuild_spawning");
    was_running_here();
    record(WORLD_INSTANCE, "pre-migrating");
    world_add_guest(w, VIRT_STATE_SHUTOFF);
    world_add_file(w, "disk");
    begin();
    check_left_alone();
}

UNIT_TEST(accepted, "one that runs here while its evacuation is accepted is powered off and kept")
{
    (void)row(WORLD_INSTANCE, "os-hosta", "rebuilding");
    was_running_here();
    record(WORLD_INSTANCE, "accepted");
    world_add_guest(w, VIRT_STATE_RUNNING);
    world_add_file(w, "disk");
    begin();
    UNIT_EQ(virt_fake_count(w->agent.virt, "power_off"), 1);
    check_left_alone();
}

UNIT_TEST(middle_ends, "when such an evacuation is done, what is left here goes with the next look")
{
    (void)row(WORLD_INSTANCE, "os-hosta", "rebuild_spawning");
    record(WORLD_INSTANCE, "pre-migrating");
    world_add_guest(w, VIRT_STATE_SHUTOFF);
    begin();
    UNIT_STR(acts, "");
    (void)row(WORLD_INSTANCE, "os-hostb", NULL);
    world_pass(w, 61 * USEC_PER_SEC, 61 * USEC_PER_SEC);
    world_settle(w);
    UNIT_EQ(virt_fake_state(w->agent.virt, WORLD_INSTANCE), VIRT_STATE_NONE);
    UNIT_STR(acts, "leave fa70925f; completed fa70925f; ");
}

UNIT_TEST(cut_off,
          "an agent that only was cut off from Nova does away with what was evacuated, too")
{
    (void)row(WORLD_INSTANCE, "os-hosta", NULL);
    was_running_here();
    world_add_guest(w, VIRT_STATE_RUNNING);
    begin();
    evacuated_to("os-hostb");
    world_pass(w, 61 * USEC_PER_SEC, 61 * USEC_PER_SEC);
    world_settle(w);
    UNIT_EQ(virt_fake_state(w->agent.virt, WORLD_INSTANCE), VIRT_STATE_NONE);
    UNIT_STR(acts, "leave fa70925f; completed fa70925f; ");
}

static enum evacuation_verdict verdict(const char *vm_state, const char *task_state,
                                       const char *launched_at, const char *status)
{
    _cleanup_(instance_freep) struct instance *instance = NULL;
    struct json_object *data = row(WORLD_INSTANCE, "os-hosta", task_state);

    json_add_string(data, "vm_state", vm_state);
    json_add_string(data, "launched_at", launched_at);
    json_object_put(records);
    records = json_object_new_array();
    record(WORLD_INSTANCE, status);
    UNIT_OK(instance_from_json(json_get(rows, WORLD_INSTANCE), &instance, &unit_err));
    return evacuation_judge(instance, records, "os-hosta");
}

UNIT_TEST(verdicts, "on this host, an instance is under evacuation for as long as it may be")
{
    const char *before = "2026-11-21T20:00:00Z", *after = "2026-11-21T21:05:00Z";

    UNIT_EQ(verdict("active", "rebuilding", before, "accepted"), EVACUATION_UNDER_WAY);
    UNIT_EQ(verdict("error", NULL, before, "pre-migrating"), EVACUATION_UNDER_WAY);
    UNIT_EQ(verdict("active", NULL, after, "pre-migrating"), EVACUATION_UNDER_WAY);
    UNIT_EQ(verdict("active", NULL, NULL, "pre-migrating"), EVACUATION_UNDER_WAY);
    UNIT_EQ(verdict("active", NULL, before, "pre-migrating"), EVACUATION_OWN);
    UNIT_EQ(verdict("active", "rebooting_hard", before, "accepted"), EVACUATION_OWN);
    UNIT_EQ(verdict("active", NULL, after, "done"), EVACUATION_CLOSE_RECORDS);
}

UNIT_TEST(came_back, "a guest that came back since is not touched, only its old record is closed")
{
    (void)row(WORLD_INSTANCE, "os-hosta", NULL);
    was_running_here();
    record(WORLD_INSTANCE, "done");
    world_add_guest(w, VIRT_STATE_RUNNING);
    world_add_file(w, "disk");
    begin();
    UNIT_STR(acts, "completed fa70925f; ");
    UNIT_EQ(virt_fake_state(w->agent.virt, WORLD_INSTANCE), VIRT_STATE_RUNNING);
    UNIT_TRUE(world_has_file(w, WORLD_INSTANCE "/disk"));
}

/* ---- failures ---- */

UNIT_TEST(one_fails, "a guest that cannot be destroyed keeps its record, and hinders no other")
{
    world_add_guest(w, VIRT_STATE_RUNNING);
    virt_fake_fail(w->agent.virt, "destroy", ERR_VIRT, "libvirt says no", 1);
    evacuated_to("os-hostb");
    (void)row(SECOND, "os-hostb", NULL);
    record(SECOND, "done");
    begin();
    UNIT_STR(acts, "leave 22222222; completed 22222222; ");
    UNIT_EQ(virt_fake_state(w->agent.virt, WORLD_INSTANCE), VIRT_STATE_SHUTOFF);
    UNIT_TRUE(node_is_ready(&w->agent));
    UNIT_EQ(json_object_array_length(left()), 1);
    UNIT_TRUE(world_logged(w, "libvirt says no"));
}

UNIT_TEST(tried_again, "what could not be removed is tried again, and then completed")
{
    world_add_guest(w, VIRT_STATE_RUNNING);
    virt_fake_fail(w->agent.virt, "destroy", ERR_VIRT, "libvirt says no", 1);
    evacuated_to("os-hostb");
    begin();
    world_pass(w, 61 * USEC_PER_SEC, 61 * USEC_PER_SEC);
    world_settle(w);
    UNIT_EQ(virt_fake_state(w->agent.virt, WORLD_INSTANCE), VIRT_STATE_NONE);
    UNIT_STR(acts, "leave fa70925f; completed fa70925f; ");
    UNIT_EQ(json_object_array_length(left()), 0);
}

UNIT_TEST(silent, "files stay as long as the other host does not say whether it has them too")
{
    world_add_guest(w, VIRT_STATE_RUNNING);
    world_add_file(w, "disk");
    evacuated_to("os-hostb");
    begin();
    _cleanup_(str_freep) char *probe =
        text_dup(json_get_string(json_get(question()->args, "data"), "filename", ""));
    UNIT_TRUE(!node_is_ready(&w->agent));
    fake_rpc_fail(question(), ERR_TIMEOUT, "no reply");
    for (int i = 0; i < 5; i++)
        world_settle(w);
    UNIT_TRUE(node_is_ready(&w->agent));
    UNIT_TRUE(world_has_file(w, WORLD_INSTANCE "/disk"));
    UNIT_TRUE(!world_has_file(w, probe + strlen(w->instances) + 1));
    UNIT_EQ(virt_fake_state(w->agent.virt, WORLD_INSTANCE), VIRT_STATE_NONE);
    UNIT_STR(acts, "");
}

UNIT_TEST(record_not_saved, "a record that cannot be saved now is saved with a later look")
{
    UNIT_OK(fault_arm("world.migration_save=error", &unit_err));
    world_add_guest(w, VIRT_STATE_RUNNING);
    evacuated_to("os-hostb");
    begin();
    UNIT_STR(acts, "leave fa70925f; ");
    UNIT_EQ(json_object_array_length(left()), 1);
    UNIT_TRUE(node_is_ready(&w->agent));
    fault_disarm_all();
    world_pass(w, 61 * USEC_PER_SEC, 61 * USEC_PER_SEC);
    world_settle(w);
    UNIT_HAS(acts, "completed fa70925f; ");
}

UNIT_TEST(unplug_fails, "a port that cannot be unplugged keeps disks and record for the next try")
{
    world_add_guest(w, VIRT_STATE_SHUTOFF);
    world_add_file(w, "disk");
    net_fake_fail(w->agent.net, "unplug", 1, ERR_NET_PLUG, "a process holds it");
    evacuated_to("os-hostb");
    begin();
    UNIT_TRUE(world_has_file(w, WORLD_INSTANCE "/disk"));
    UNIT_EQ(virt_fake_state(w->agent.virt, WORLD_INSTANCE), VIRT_STATE_NONE);
    UNIT_STR(acts, "");
}

UNIT_TEST(conductor_away, "without a conductor the start waits, and nothing is started or removed")
{
    (void)row(WORLD_INSTANCE, "os-hosta", NULL);
    was_running_here();
    world_add_guest(w, VIRT_STATE_SHUTOFF);
    records_fail = ERR_UNREACHABLE;
    begin();
    world_pass(w, 4 * USEC_PER_SEC, 500000);
    UNIT_TRUE(!node_is_ready(&w->agent));
    UNIT_TRUE(!is_started());
    records_fail = ERR_NONE;
    world_pass(w, 20 * USEC_PER_SEC, USEC_PER_SEC);
    UNIT_TRUE(node_is_ready(&w->agent));
    UNIT_TRUE(is_started());
}

UNIT_TEST(instance_unknown, "the start waits as well when an evacuated instance cannot be read")
{
    world_add_guest(w, VIRT_STATE_RUNNING);
    evacuated_to("os-hostb");
    get_fails = ERR_UNREACHABLE;
    begin();
    UNIT_TRUE(!node_is_ready(&w->agent));
    UNIT_EQ(virt_fake_state(w->agent.virt, WORLD_INSTANCE), VIRT_STATE_RUNNING);
    get_fails = ERR_NONE;
    world_pass(w, 20 * USEC_PER_SEC, USEC_PER_SEC);
    UNIT_TRUE(node_is_ready(&w->agent));
    UNIT_EQ(virt_fake_state(w->agent.virt, WORLD_INSTANCE), VIRT_STATE_NONE);
}

UNIT_TEST(requests_wait, "requests are taken up only when evacuated guests are done away with")
{
    world_add_file(w, "disk");
    evacuated_to("os-hostb");
    begin();
    struct json_object *args = json_object_new_object();
    json_add_bool(args, "enabled", true);
    const struct fake_asked *asked = world_ask(w, RPC_METHOD_set_host_enabled, args);
    world_settle(w);
    UNIT_EQ(asked->end, FAKE_OPEN);
    answer(false);
    UNIT_EQ(asked->end, FAKE_REPLIED);
}

UNIT_TEST(journal_first, "what the journal has is read before evacuated guests are looked for")
{
    world_add_guest(w, VIRT_STATE_SHUTOFF);
    evacuated_to("os-hostb");
    w->agent.recovered = false;
    begin();
    UNIT_TRUE(!node_is_ready(&w->agent));
    UNIT_EQ(virt_fake_state(w->agent.virt, WORLD_INSTANCE), VIRT_STATE_SHUTOFF);
    w->agent.recovered = true;
    world_pass(w, USEC_PER_SEC, 100000);
    UNIT_EQ(virt_fake_state(w->agent.virt, WORLD_INSTANCE), VIRT_STATE_NONE);
}

UNIT_TEST(busy, "a guest that is just being migrated to this host is left to its migration")
{
    begin();
    world_prepare_destination(w);
    world_add_guest(w, VIRT_STATE_PAUSED);
    virt_fake_set_incoming(w->agent.virt, WORLD_INSTANCE);
    evacuated_to("os-hostb");
    node_close(&w->agent);
    power_sync_close(&w->agent);
    begin();
    UNIT_STR(acts, "");
    UNIT_EQ(json_object_array_length(left()), 1);
    UNIT_TRUE(world_migration(w, MIGRATION_DESTINATION) != NULL);
    UNIT_EQ(virt_fake_count(w->agent.virt, "destroy"), 0);
    UNIT_EQ(virt_fake_count(w->agent.virt, "power_off"), 0);
}

/* ---- strangers ---- */

UNIT_TEST(foreign, "a guest that Nova has elsewhere, without an evacuation, is told and left alone")
{
    world_add_guest(w, VIRT_STATE_SHUTOFF);
    world_add_file(w, "disk");
    (void)row(WORLD_INSTANCE, "os-hostb", NULL);
    begin();
    UNIT_EQ(virt_fake_state(w->agent.virt, WORLD_INSTANCE), VIRT_STATE_SHUTOFF);
    UNIT_TRUE(world_has_file(w, WORLD_INSTANCE "/disk"));
    UNIT_EQ(virt_fake_count(w->agent.virt, "destroy"), 0);
    UNIT_TRUE(!is_started());
    UNIT_STR(acts, "");
    UNIT_TRUE(world_logged(w, "the instance is on os-hostb and was not evacuated from this host"));
}

UNIT_TEST(no_instance, "a domain that is no instance is left alone")
{
    world_add_guest(w, VIRT_STATE_RUNNING);
    begin();
    UNIT_EQ(virt_fake_state(w->agent.virt, WORLD_INSTANCE), VIRT_STATE_RUNNING);
    UNIT_TRUE(world_logged(w, "is no instance of this cloud"));
}

UNIT_TEST(deleted, "a guest whose instance was deleted meanwhile is removed with its files")
{
    world_add_guest(w, VIRT_STATE_RUNNING);
    world_add_file(w, "disk");
    json_add_bool(row(WORLD_INSTANCE, "os-hosta", NULL), "deleted", true);
    begin();
    UNIT_EQ(virt_fake_state(w->agent.virt, WORLD_INSTANCE), VIRT_STATE_NONE);
    UNIT_TRUE(!world_has_file(w, WORLD_INSTANCE));
    UNIT_STR(acts, "");
}

static void deleted_with(const char *action)
{
    conf_unref(w->agent.conf);
    w->agent.conf = conf_for_test("DEFAULT.host", w->agent.host, "DEFAULT.instances_path",
                                  w->instances, "DEFAULT.running_deleted_instance_action", action,
                                  "agent.state_directory", w->directory, NULL);
    world_add_guest(w, VIRT_STATE_RUNNING);
    json_add_bool(row(WORLD_INSTANCE, "os-hosta", NULL), "deleted", true);
    begin();
}

UNIT_TEST(deleted_off, "running_deleted_instance_action shutdown powers it off and keeps it")
{
    deleted_with("shutdown");
    UNIT_EQ(virt_fake_state(w->agent.virt, WORLD_INSTANCE), VIRT_STATE_SHUTOFF);
}

UNIT_TEST(deleted_logged, "running_deleted_instance_action log leaves it running")
{
    deleted_with("log");
    UNIT_EQ(virt_fake_state(w->agent.virt, WORLD_INSTANCE), VIRT_STATE_RUNNING);
    UNIT_TRUE(world_logged(w, "was deleted, but its guest is still here"));
}
