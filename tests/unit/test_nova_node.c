/* SPDX-License-Identifier: Apache-2.0 */
/* The host under Nova: its start against recorded answers, heartbeat, updates, identity. */
#include "tests/unit/nova_world.h"

#include <sys/stat.h>

#include "cloud/nova_node.h"
#include "lib/clock.h"
#include "lib/json.h"

#define FRESH "startup-fresh/"
#define AGAIN "startup-again/"

static struct nova_world *w;

static struct answer {
    unsigned calls;
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
}
UNIT_FIXTURE(open_world, close_world)

static void take(void *aux, const struct err *failure)
{
    (void)aux;
    last.calls++;
    last.e = failure ? *failure : ERR_INIT;
}

/* ---- facts ---- */

static struct cloud_node_facts facts_of_host(void)
{
    static const char *const traits[] = {"COMPUTE_NODE", NULL};

    return (struct cloud_node_facts){
        .hypervisor_hostname = "os-hosta",
        .hypervisor_type = "QEMU",
        .hypervisor_version = 7002022,
        .host_ip = "198.51.100.11",
        .vcpus = 2,
        .memory_mb = 8154,
        .local_gb = 251,
        .free_disk_gb = 251,
        .disk_available_least_gb = 76,
        .memory_mb_used = 512,
        .traits = traits,
    };
}

static struct json_object *conductors(int64_t version)
{
    struct object *item = conductor_object_new("Service");
    object_set_string(item, "binary", "nova-conductor");
    object_set_int(item, "version", version);
    struct object *list = object_list_new("ServiceList", "1.19", &item, 1);
    struct json_object *primitive = object_to_json(list);
    object_free(list);
    object_free(item);
    return primitive;
}

static void start(const struct cloud_node_facts *facts)
{
    cloud_node_start(w->cloud, facts, take, NULL);
    fake_rpc_answer(fake_rpc_waiting_named(w->rpc, "ping"), NULL);
}

static void answer_conductors(void)
{
    struct fake_call *call = nova_world_call(w, "ServiceList.get_by_binary");
    if (call)
        fake_rpc_answer(call, conductors(64));
}

static char *file_text(const char *name)
{
    _cleanup_(str_freep) char *path = text_format("%s/%s", w->directory, name);
    size_t length;
    return unit_read_file(path, &length);
}

static void give_file(const char *text)
{
    _cleanup_(str_freep) char *path = text_format("%s/compute_id", w->directory);
    unit_write_file(path, text);
}

/* The service record of os-hosta as the second start found it. */
static void answer_known_service(void)
{
    nova_world_answer(w, "Service.get_by_host_and_binary",
                      AGAIN "018-reply-object_class_action_versions_Service.get_by_host_and_binary."
                            "json");
    nova_world_answer(w, "Service.get_minimum_version",
                      AGAIN
                      "006-reply-object_class_action_versions_Service.get_minimum_version.json");
    answer_conductors();
}

static void answer_known_node(void)
{
    nova_world_answer(
        w, "ComputeNodeList.get_all_by_host",
        AGAIN "020-reply-object_class_action_versions_ComputeNodeList.get_all_by_host.json");
}

static void start_again(void)
{
    struct cloud_node_facts facts = facts_of_host();
    start(&facts);
    answer_known_service();
    answer_known_node();
    nova_world_acted(w, "ComputeNode.save", NULL, NULL);
    nova_world_acted(w, "Service.save", NULL, NULL);
    UNIT_EQ(last.calls, 1);
    last.calls = 0;
}

/* ---- start ---- */

static void fresh_service(void)
{
    nova_world_answer(w, "Service.get_by_host_and_binary",
                      FRESH "018-reply-object_class_action_versions_Service.get_by_host_and_binary."
                            "json");
    nova_world_answer(w, "Service.get_minimum_version",
                      FRESH
                      "006-reply-object_class_action_versions_Service.get_minimum_version.json");
    answer_conductors();
    nova_world_answer(
        w, "ComputeNodeList.get_all_by_host",
        FRESH "022-reply-object_class_action_versions_ComputeNodeList.get_all_by_host.json");
    fake_rpc_fail_as(nova_world_call(w, "ComputeNode.get_by_uuid"), "ComputeHostNotFound", "none");
}

UNIT_TEST(fresh, "a new host makes service record, node file and compute node, and is up at once")
{
    struct cloud_node_facts facts = facts_of_host();
    start(&facts);
    fresh_service();
    _cleanup_(json_putp) struct json_object *recorded =
        capture_load(FRESH "019-conductor-object_action_Service.create.json");
    struct fake_call *create = nova_world_call(w, "Service.create");
    UNIT_TRUE(
        json_same(nova_world_data(create),
                  json_get(json_get(json_get(recorded, "args"), "objinst"), "nova_object.data")));
    nova_world_answer(w, "Service.create", FRESH "020-reply-object_action_Service.create.json");
    create = nova_world_call(w, "ComputeNode.create");
    _cleanup_(str_freep) char *file = file_text("compute_id");
    UNIT_STR(json_get_string(nova_world_data(create), "uuid", NULL), file);
    UNIT_STR(json_get_string(nova_world_data(create), "host", NULL), "os-hosta");
    UNIT_EQ(json_get_int(nova_world_data(create), "free_ram_mb", 0), 8154 - 512);
    UNIT_EQ(json_get_int(nova_world_data(create), "service_id", 0), 7);
    struct json_object *updates = json_object_new_object();
    json_add_int(updates, "id", 3);
    nova_world_acted(w, "ComputeNode.create", updates, NULL);
    struct fake_call *beat = nova_world_call(w, "Service.save");
    UNIT_TRUE(nova_world_changed(beat, "report_count"));
    UNIT_EQ(json_get_int(nova_world_data(beat), "report_count", 0), 1);
    UNIT_EQ(last.calls, 1);
    UNIT_EQ(last.e.code, ERR_NONE);
    UNIT_EQ(cloud_node_id(w->cloud), 3);
    _cleanup_(json_putp) struct json_object *status = cloud_node_status(w->cloud);
    UNIT_STR(json_get_string(status, "compute_uuid", NULL), file);
}

UNIT_TEST(again, "a host that nova-compute ran on keeps its node: the uuid goes into the file")
{
    struct cloud_node_facts facts = facts_of_host();
    facts.vcpus_used = 1;
    start(&facts);
    answer_known_service();
    answer_known_node();
    _cleanup_(str_freep) char *file = file_text("compute_id");
    _cleanup_(str_freep) char *path = text_format("%s/compute_id", w->directory);
    struct stat st;
    UNIT_STR(file, "b198327c-5579-4de6-b193-a6a932528eeb");
    UNIT_EQ(stat(path, &st), 0);
    UNIT_EQ(st.st_mode & 0777, 0644);
    struct fake_call *save = nova_world_call(w, "ComputeNode.save");
    struct json_object *data = nova_world_data(save);
    UNIT_EQ(json_get_int(data, "id", 0), 3);
    UNIT_EQ(json_get_int(data, "vcpus_used", 0), 1);
    UNIT_TRUE(!json_has(data, "memory_mb"));
    UNIT_TRUE(!json_has(data, "cpu_allocation_ratio"));
    nova_world_acted(w, "ComputeNode.save", NULL, NULL);
    UNIT_EQ(fake_rpc_count_object(w->rpc, "Service.create"), 0);
    UNIT_EQ(last.calls, 1);
    UNIT_EQ(cloud_node_id(w->cloud), 3);
}

UNIT_TEST(waits, "a conductor that is away at the start is waited for as long as it takes")
{
    struct cloud_node_facts facts = facts_of_host();
    cloud_node_start(w->cloud, &facts, take, NULL);
    for (int i = 0; i < 5; i++) {
        fake_rpc_fail(fake_rpc_waiting_named(w->rpc, "ping"), ERR_TIMEOUT, "no reply");
        nova_world_pass(w, 31 * USEC_PER_SEC);
    }
    UNIT_EQ(last.calls, 0);
    UNIT_TRUE(fake_rpc_waiting_named(w->rpc, "ping") != NULL);
    _cleanup_(json_putp) struct json_object *status = cloud_node_status(w->cloud);
    UNIT_STR(json_get_string(status, "state", NULL), "starting");
    UNIT_HAS(json_get_string(status, "waits_for", NULL), "no reply");
}

UNIT_TEST(race, "a service record that another made meanwhile is read again")
{
    struct cloud_node_facts facts = facts_of_host();
    start(&facts);
    fresh_service();
    fake_rpc_fail_as(nova_world_call(w, "Service.create"), "ServiceTopicExists", "it exists");
    nova_world_pass(w, 2 * USEC_PER_SEC);
    UNIT_EQ(last.calls, 0);
    fake_rpc_answer(fake_rpc_waiting_named(w->rpc, "ping"), NULL);
    UNIT_TRUE(nova_world_call(w, "Service.get_by_host_and_binary") != NULL);
}

UNIT_TEST(other_host, "a file that names another host's node ends the start with both names")
{
    struct cloud_node_facts facts = facts_of_host();
    struct object *other = conductor_object_new("ComputeNode");
    give_file("00000000-0000-4000-8000-000000000001\n");
    start(&facts);
    nova_world_answer(w, "Service.get_by_host_and_binary",
                      FRESH "018-reply-object_class_action_versions_Service.get_by_host_and_binary."
                            "json");
    nova_world_answer(w, "Service.get_minimum_version",
                      FRESH
                      "006-reply-object_class_action_versions_Service.get_minimum_version.json");
    answer_conductors();
    fake_rpc_fail_as(nova_world_call(w, "ComputeNodeList.get_all_by_host"), "ComputeHostNotFound",
                     "none");
    object_set_string(other, "uuid", "00000000-0000-4000-8000-000000000001");
    object_set_string(other, "host", "os-hostb");
    fake_rpc_answer(nova_world_call(w, "ComputeNode.get_by_uuid"), object_to_json(other));
    object_free(other);
    nova_world_pass(w, 0);
    UNIT_EQ(last.e.code, ERR_CONFIG);
    UNIT_HAS(last.e.text, "os-hostb");
    UNIT_HAS(last.e.text, "os-hosta");
    UNIT_EQ(fake_rpc_count_object(w->rpc, "Service.create"), 0);
}

/* ---- heartbeat ---- */

UNIT_TEST(heartbeat,
          "the heartbeat goes on every report_interval, over losses and a deleted record")
{
    start_again();
    int64_t count = 0;
    for (int i = 0; i < 4; i++) {
        nova_world_pass(w, 10 * USEC_PER_SEC);
        struct fake_call *beat = nova_world_call(w, "Service.save");
        int64_t now = json_get_int(nova_world_data(beat), "report_count", 0);
        UNIT_TRUE(nova_world_changed(beat, "report_count"));
        UNIT_TRUE(i == 0 || now == count + 1);
        count = now;
        if (i == 0)
            fake_rpc_fail(beat, ERR_TIMEOUT, "no reply");
        else if (i == 1)
            fake_rpc_fail_as(beat, "ServiceNotFound", "Service 7 could not be found.");
        else
            nova_world_acted(w, "Service.save", NULL, NULL);
    }
    nova_world_pass(w, 9 * USEC_PER_SEC);
    UNIT_TRUE(fake_rpc_waiting_object(w->rpc, "Service.save") == NULL);
    _cleanup_(json_putp) struct json_object *status = cloud_node_status(w->cloud);
    UNIT_TRUE(json_get_bool(status, "up", false));
}

UNIT_TEST(versions, "the version is the oldest conductor's, at most ours, at least the fleet's")
{
    static const struct {
        int64_t ours, conductor, fleet, version;
    } rows[] = {
        {74, 64, 64, 64}, {74, 64, 0, 64},  {74, 68, 66, 68}, {74, 74, 72, 74}, {72, 74, 72, 72},
        {72, 74, 74, 74}, {74, 80, 72, 74}, {74, 66, 67, 67}, {74, 0, 66, 66},  {72, 0, 0, 72},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++)
        UNIT_EQ(nova_service_version(rows[i].ours, rows[i].conductor, rows[i].fleet),
                rows[i].version);
}

/* ---- updates ---- */

static void answer_refresh(void)
{
    nova_world_answer(w, "Service.get_by_host_and_binary",
                      AGAIN "018-reply-object_class_action_versions_Service.get_by_host_and_binary."
                            "json");
}

UNIT_TEST(updates, "figures that did not change are not written, one that did goes alone")
{
    struct cloud_node_facts facts = facts_of_host();
    start_again();
    unsigned saves = fake_rpc_count_object(w->rpc, "ComputeNode.save");
    cloud_node_update(w->cloud, &facts, take, NULL);
    answer_refresh();
    UNIT_EQ(last.calls, 1);
    UNIT_EQ(fake_rpc_count_object(w->rpc, "ComputeNode.save"), saves);
    facts.vcpus_used = 2;
    facts.uptime = "up 3 days";
    cloud_node_update(w->cloud, &facts, take, NULL);
    answer_refresh();
    struct fake_call *save = nova_world_call(w, "ComputeNode.save");
    UNIT_TRUE(nova_world_changed(save, "vcpus_used stats"));
    nova_world_acted(w, "ComputeNode.save", NULL, NULL);
    UNIT_EQ(last.calls, 2);
}

UNIT_TEST(stats, "statistics are written anew: what an earlier agent left there goes")
{
    struct cloud_node_facts facts = facts_of_host();
    _cleanup_(json_putp) struct json_object *counts = json_object_new_object();
    start_again();
    json_add_int(counts, "failed_builds", 3);
    json_add_int(counts, "io_workload", 1);
    facts.stats = counts;
    facts.running_vms = 2;
    facts.current_workload = 1;
    cloud_node_update(w->cloud, &facts, take, NULL);
    answer_refresh();
    struct fake_call *save = nova_world_call(w, "ComputeNode.save");
    UNIT_TRUE(nova_world_changed(save, "running_vms current_workload stats"));
    _cleanup_(str_freep) char *text = json_text(json_get(nova_world_data(save), "stats"));
    UNIT_STR(text, "{\"failed_builds\":\"3\",\"io_workload\":\"1\",\"num_instances\":\"2\"}");
    nova_world_acted(w, "ComputeNode.save", NULL, NULL);
    json_object_object_del(counts, "io_workload");
    cloud_node_update(w->cloud, &facts, take, NULL);
    answer_refresh();
    save = nova_world_call(w, "ComputeNode.save");
    UNIT_TRUE(nova_world_changed(save, "stats"));
    _cleanup_(str_freep) char *next = json_text(json_get(nova_world_data(save), "stats"));
    UNIT_STR(next, "{\"failed_builds\":\"3\",\"num_instances\":\"2\"}");
    nova_world_acted(w, "ComputeNode.save", NULL, NULL);
}

UNIT_TEST(coalesced, "updates that come while one runs make one more, with the newest figures")
{
    struct cloud_node_facts facts = facts_of_host();
    start_again();
    for (int i = 1; i <= 3; i++) {
        facts.running_vms = i;
        cloud_node_update(w->cloud, &facts, take, NULL);
    }
    answer_refresh();
    UNIT_EQ(json_get_int(nova_world_data(nova_world_call(w, "ComputeNode.save")), "running_vms", 0),
            3);
    nova_world_acted(w, "ComputeNode.save", NULL, NULL);
    UNIT_EQ(last.calls, 1);
    answer_refresh();
    UNIT_EQ(last.calls, 3);
}

UNIT_TEST(recreated, "a compute node that an operator deleted is made again with the same uuid")
{
    struct cloud_node_facts facts = facts_of_host();
    start_again();
    facts.vcpus_used = 1;
    cloud_node_update(w->cloud, &facts, take, NULL);
    answer_refresh();
    fake_rpc_fail_as(nova_world_call(w, "ComputeNode.save"), "ComputeHostNotFound", "gone");
    nova_world_pass(w, 0);
    UNIT_EQ(last.e.code, ERR_NO_HOST);
    cloud_node_update(w->cloud, &facts, take, NULL);
    answer_refresh();
    struct fake_call *create = nova_world_call(w, "ComputeNode.create");
    UNIT_STR(json_get_string(nova_world_data(create), "uuid", NULL),
             "b198327c-5579-4de6-b193-a6a932528eeb");
}

/* ---- disabled by us ---- */

static struct json_object *service_disabled(bool disabled, const char *reason)
{
    struct object *service = conductor_object_new("Service");
    object_set_int(service, "id", 7);
    object_set_bool(service, "disabled", disabled);
    object_set_string(service, "disabled_reason", reason);
    object_clear_changes(service);
    struct json_object *primitive = object_to_json(service);
    object_free(service);
    return primitive;
}

UNIT_TEST(fault, "a hypervisor that is away disables the service as nova-compute does, and back")
{
    start_again();
    cloud_node_set_fault(w->cloud, "libvirt is away", take, NULL);
    fake_rpc_answer(nova_world_call(w, "Service.get_by_host_and_binary"),
                    service_disabled(false, NULL));
    struct fake_call *save = nova_world_call(w, "Service.save");
    UNIT_TRUE(nova_world_changed(save, "disabled disabled_reason"));
    UNIT_TRUE(json_get_bool(nova_world_data(save), "disabled", false));
    UNIT_STR(json_get_string(nova_world_data(save), "disabled_reason", NULL),
             "AUTO: libvirt is away");
    nova_world_acted(w, "Service.save", NULL, NULL);
    answer_refresh();
    UNIT_EQ(last.calls, 1);
    cloud_node_set_fault(w->cloud, NULL, take, NULL);
    fake_rpc_answer(nova_world_call(w, "Service.get_by_host_and_binary"),
                    service_disabled(true, "AUTO: libvirt is away"));
    save = nova_world_call(w, "Service.save");
    UNIT_TRUE(!json_get_bool(nova_world_data(save), "disabled", true));
}

UNIT_TEST(operators, "a service that an operator disabled stays disabled")
{
    start_again();
    cloud_node_set_fault(w->cloud, NULL, take, NULL);
    fake_rpc_answer(nova_world_call(w, "Service.get_by_host_and_binary"),
                    service_disabled(true, "maintenance"));
    nova_world_pass(w, 0);
    UNIT_TRUE(fake_rpc_waiting_object(w->rpc, "Service.save") == NULL);
    answer_refresh();
    UNIT_EQ(last.calls, 1);
    UNIT_EQ(last.e.code, ERR_NONE);
}

/* ---- identity ---- */

#define U1 "00000000-0000-4000-8000-000000000001"
#define U2 "00000000-0000-4000-8000-000000000002"

UNIT_TEST(identity, "the node's uuid is the file's, else that of the only record, else a new one")
{
    static struct nova_identity_node ours = {U1, "h"}, renamed = {U1, "old"}, other = {U2, "h"};
    struct nova_identity_node two[] = {{U1, "x"}, {U2, "y"}};
    const struct {
        const char *why;
        struct nova_identity in;
        const char *uuid; /* NULL = refused; "" = any new one */
    } rows[] = {
        {"file and record agree", {U1, 64, "h", "h", &ours, 1, 0, false}, U1},
        {"file, records gone", {U1, 64, "h", "h", NULL, 0, 3, false}, U1},
        {"file of another node", {U1, 64, "h", "h", &other, 1, 0, false}, NULL},
        {"file of another node, adopted", {U1, 64, "h", "h", &other, 1, 0, true}, NULL},
        {"renamed", {U1, 66, "h", "h", &renamed, 1, 0, false}, NULL},
        {"renamed, adopted", {U1, 66, "h", "h", &renamed, 1, 0, true}, U1},
        {"Zed record", {NULL, 64, "h", "h", &ours, 1, 2, false}, U1},
        {"Zed record, renamed", {NULL, 64, "h", "h", &renamed, 1, 2, false}, NULL},
        {"Zed record, no node", {NULL, 64, "h", "h", NULL, 0, 2, false}, NULL},
        {"Zed record, no node, adopted", {NULL, 64, "h", "h", NULL, 0, 2, true}, ""},
        {"Zed record, two nodes", {NULL, 64, "h", "h", two, 2, 2, false}, NULL},
        {"file lost", {NULL, 66, "h", "h", &ours, 1, 2, false}, NULL},
        {"file lost, adopted", {NULL, 66, "h", "h", &ours, 1, 2, true}, U1},
        {"new", {NULL, 0, "h", "h", NULL, 0, 0, false}, ""},
        {"new, with guests", {NULL, 0, "h", "h", NULL, 0, 1, false}, NULL},
        {"new, with file and guests", {U1, 0, "h", "h", NULL, 0, 1, false}, NULL},
        {"new, with guests, adopted", {NULL, 0, "h", "h", NULL, 0, 1, true}, ""},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        char uuid[37] = "";
        err_clear(&unit_err);
        int result = nova_identity_decide(&rows[i].in, uuid, &unit_err);
        if (!rows[i].uuid)
            unit_check(result < 0 && unit_err.code == ERR_CONFIG, __LINE__, __FILE__,
                       "%s: not refused", rows[i].why);
        else
            unit_check(result == 0 && (*rows[i].uuid ? text_equal(uuid, rows[i].uuid)
                                                     : text_check_uuid(uuid, "u", NULL) == 0),
                       __LINE__, __FILE__, "%s: %s %s", rows[i].why, uuid, unit_err.text);
    }
}

UNIT_TEST(files,
          "files that disagree are refused by name, and one that is there is not overwritten")
{
    _cleanup_(str_freep) char *a = text_format("%s/a", w->directory);
    _cleanup_(str_freep) char *b = text_format("%s/b", w->directory);
    _cleanup_(str_freep) char *uuid = NULL;
    const char *const directories[] = {a, b, NULL};
    UNIT_EQ(mkdir(a, 0700) | mkdir(b, 0700), 0);
    UNIT_OK(nova_identity_read(directories, &uuid, &unit_err));
    UNIT_STR(uuid, NULL);
    UNIT_OK(nova_identity_write(a, U1, &unit_err));
    UNIT_OK(nova_identity_read(directories, &uuid, &unit_err));
    UNIT_STR(uuid, U1);
    UNIT_FAILS(nova_identity_write(a, U2, &unit_err), ERR_CONFIG);
    UNIT_OK(nova_identity_write(b, U2, &unit_err));
    UNIT_FAILS(nova_identity_read(directories, &uuid, &unit_err), ERR_CONFIG);
    UNIT_HAS(unit_err.text, a);
    UNIT_HAS(unit_err.text, b);
}
